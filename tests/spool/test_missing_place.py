"""A spool's disk is not mounted yet: nothing is made where it is to be, and a missing folder may come."""

from __future__ import annotations

from pathlib import Path

import pytest

from sungrow_lib.spool import disk
from sungrow_lib.spool.disk import may_work, missing_place


@pytest.fixture
def point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on which the system is to mount a disk; its name has a space in it."""
    folder = tmp_path / "usb disk"
    folder.mkdir()
    escaped = str(folder).replace(" ", r"\040")
    table = tmp_path / "fstab"
    lines = "# a comment", "", "UUID=1 / ext4 defaults 0 1", f"UUID=2 {escaped} ext4 nofail 0 2", "swap none"
    table.write_text("\n".join(lines))
    monkeypatch.setattr(disk, "_TO_MOUNT", table)
    monkeypatch.setattr(disk, "_MOUNTED", tmp_path / "mountinfo")
    mount(tmp_path, "23 1 179:2", "/")
    return folder


def mount(tmp_path: Path, numbers: str, at: str) -> None:
    """Let a disk be mounted."""
    with (tmp_path / "mountinfo").open("a") as file:
        file.write(f"{numbers} / {at.replace(' ', chr(92) + '040')} rw,noatime - ext4 /dev/sda1 rw\n")


def test_a_folder_on_which_a_disk_is_to_be_mounted_is_no_place_until_it_is(
    tmp_path: Path, point: Path
) -> None:
    for path in (point / "spool.sqlite", point / "edge" / "spool.sqlite"):
        path.parent.mkdir(exist_ok=True)
        assert f"no disk is mounted at {point}" in str(missing_place(path))
        assert not may_work(path)
    mount(tmp_path, "36 23 8:1", str(point))
    assert missing_place(point / "spool.sqlite") is None
    assert may_work(point / "spool.sqlite")


def test_a_spool_that_is_there_is_believed(point: Path) -> None:
    (point / "spool.sqlite").touch()
    assert missing_place(point / "spool.sqlite") is None


def test_a_name_that_leads_there_is_no_place_either(tmp_path: Path, point: Path) -> None:
    link = tmp_path / "spool.sqlite"
    link.symlink_to(point / "spool.sqlite")
    assert missing_place(link)
    assert missing_place(tmp_path / "another.sqlite") is None


def test_a_folder_that_is_missing_may_come(tmp_path: Path) -> None:
    path = tmp_path / "usb" / "spool.sqlite"
    assert f"the folder {path.parent} does not exist" in str(missing_place(path))
    assert not may_work(path)
    path.parent.mkdir()
    assert missing_place(path) is None
    assert may_work(path)


@pytest.mark.parametrize("missing", ["_TO_MOUNT", "_MOUNTED"])
def test_where_nothing_tells_what_is_mounted_there_is_a_place(
    point: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.setattr(disk, missing, point / "nowhere")
    assert missing_place(point / "spool.sqlite") is None
