"""Where /etc/fstab names a disk, it is told from the bare folder that it is to be mounted on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from sungrow_lib.spool import disk
from sungrow_lib.spool.disk import missing_place
from tests.patience import PATIENCE_S
from tests.spool.test_disk_full import CAN_MOUNT, IN_OWN_MOUNT

EXT4: Final = "23 1 179:2 / / rw,noatime shared:1 - ext4 /dev/root rw", "24 23 0:22 / /proc rw - proc proc rw"
VAR: Final = *EXT4, "30 23 179:3 / {above} rw shared:9 - ext4 /dev/mmcblk0p3 rw"
FEDORA: Final = ("60 1 0:33 /root / rw,relatime shared:1 - btrfs /dev/vda3 rw,subvolid=257,subvol=/root",)
TOP_LEVEL: Final = ("60 1 0:33 / / rw,relatime shared:1 - btrfs /dev/vda3 rw,subvolid=5,subvol=/",)

USB: Final = "PARTUUID=5e3da3da-02 / ext4 defaults,noatime 0 1\nUUID=0a {at} ext4 defaults,nofail 0 2\n"
MIRRORED: Final = "UUID=0a /mnt/ssd ext4 defaults 0 2\n/mnt/ssd{at} {at} none bind 0 0\n"
SUBVOLUMES: Final = "UUID=a / btrfs subvol=root 0 0\nUUID=a {at} btrfs subvol={at} 0 0\n"

ITSELF: Final = "84 23 179:2 {at} {at} rw,noatime master:1 - ext4 /dev/root rw"
DISK: Final = "90 23 8:1 / {at} rw,relatime shared:40 - ext4 /dev/sda1 rw"
AUTOFS: Final = "88 23 0:44 / {at} rw,relatime - autofs systemd-1 rw,fd=60,pgrp=1,timeout=0,direct"


MISSING: Final = True
THERE: Final = False


class Case(NamedTuple):
    """What the system's tables hold, ``{at}`` being the place, and whether its disk is missing."""

    to_mount: str
    mounted: tuple[str, ...]
    is_missing: bool


CASES: Final = {
    "a partition that is mounted": Case(USB, (*EXT4, DISK), THERE),
    "a partition that is not": Case(USB, EXT4, MISSING),
    "a partition that may fail, and did, beside one that is mounted": Case(
        USB, (*EXT4, DISK.replace("{at}", "{at}2")), MISSING
    ),
    "a partition that is mounted by hand alone": Case("UUID=0a {at} ext4 noatime,noauto 0 2", EXT4, THERE),
    "a partition whose table says no more": Case("UUID=0a {at}", EXT4, MISSING),
    "a unit's folder bound onto itself": Case(USB, (*EXT4, ITSELF), MISSING),
    "one on a partition of its own": Case(
        USB, (*VAR, "84 30 179:3 /{name} {at} rw - ext4 /dev/mmcblk0p3 rw"), MISSING
    ),
    "one in a subvolume": Case(
        SUBVOLUMES,
        (*FEDORA, "84 60 0:33 /root{at} {at} rw - btrfs /dev/vda3 rw,subvolid=257,subvol=/root"),
        MISSING,
    ),
    "one in a folder that is bound onto itself": Case(
        USB,
        (
            *EXT4,
            "83 23 179:2 {above} {above} rw - ext4 /dev/root rw",
            "84 83 179:2 {at} {at} rw - ext4 /dev/root rw",
        ),
        MISSING,
    ),
    "one that is bound twice": Case(USB, (*EXT4, ITSELF, ITSELF.replace("84 23", "85 84")), MISSING),
    "a unit's folder, with its disk beneath": Case(
        USB, (*EXT4, DISK, "91 90 8:1 / {at} rw - ext4 /dev/sda1 rw"), THERE
    ),
    "a unit's folder, whose disk came later, as seen in the unit": Case(
        USB,
        (
            *EXT4,
            ITSELF.replace("84 23", "84 86"),
            DISK.replace("90 23", "86 23"),
            DISK.replace("90 23", "87 84"),
        ),
        THERE,
    ),
    "a unit's folder that hides its disk": Case(
        USB, (*EXT4, ITSELF.replace("84 23", "84 86"), DISK.replace("90 23", "86 23")), MISSING
    ),
    "bound from a mirrored tree": Case(
        MIRRORED,
        (
            *EXT4,
            "90 23 8:1 / /mnt/ssd rw - ext4 /dev/sda1 rw",
            "91 23 8:1 {at} {at} rw - ext4 /dev/sda1 rw",
        ),
        THERE,
    ),
    "to be bound from a mirrored tree": Case(
        MIRRORED, (*EXT4, "90 23 8:1 / /mnt/ssd rw - ext4 /dev/sda1 rw"), MISSING
    ),
    "bound from the same file system": Case(
        "/srv/edge {at} none bind 0 0", (*EXT4, ITSELF.replace("2 {at}", "2 /srv/edge", 1)), THERE
    ),
    "to be bound onto itself": Case("{at}/ {at} none bind 0 0", (*EXT4, ITSELF), THERE),
    "a subvolume called as its place": Case(
        SUBVOLUMES, (*FEDORA, "61 60 0:33 {at} {at} rw - btrfs /dev/vda3 rw,subvolid=256,subvol={at}"), THERE
    ),
    "a subvolume of another name": Case(
        SUBVOLUMES,
        (*FEDORA, "61 60 0:33 /@edge {at} rw - btrfs /dev/vda3 rw,subvolid=256,subvol=/@edge"),
        THERE,
    ),
    "a subvolume that is not mounted": Case(SUBVOLUMES, FEDORA, MISSING),
    "a file system in memory": Case(
        "tmpfs {at} tmpfs size=8m 0 0", (*EXT4, "92 23 0:50 / {at} rw - tmpfs tmpfs rw,size=8192k"), THERE
    ),
    "to be mounted at its first use": Case(USB, (*EXT4, AUTOFS), THERE),
    "mounted at its first use": Case(USB, (*EXT4, AUTOFS, DISK.replace("90 23", "90 88")), THERE),
    # From here on: in doubt it is mounted.
    "a part of the system": Case(USB, EXT4[1:], THERE),
    "a mount on one that is not listed": Case(USB, (*EXT4, ITSELF.replace("84 23", "84 7")), THERE),
    "mounts that lie on each other": Case(
        USB, (*EXT4, ITSELF.replace("84 23", "84 85"), ITSELF.replace("84 23", "85 84")), THERE
    ),
    "a mount on one elsewhere": Case(
        USB, (*EXT4, "30 23 179:3 / /else rw - ext4 /dev/b rw", ITSELF.replace("84 23", "84 30")), THERE
    ),
    "a table of another form": Case(USB, ("/dev/root / ext4",), THERE),
    "an empty table": Case(USB, (), THERE),
    "nothing to mount": Case("# UNCONFIGURED FSTAB FOR BASE SYSTEM\n", EXT4, THERE),
    "names that are no places": Case(
        "UUID=1 none swap sw 0 0\nrubbish\n\n{at}\nUUID=2 \\777 ext4\n", EXT4, THERE
    ),
}


@pytest.fixture(params=["edge", "usb disk"])
def point(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A folder that is a place to mount something, to the tables."""
    folder = tmp_path / "lib" / str(request.param)
    folder.mkdir(parents=True)
    return folder


def tell(point: Path, case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the system's tables be those of a case."""
    names = {"{at}": str(point), "{above}": str(point.parent), "{name}": point.name}
    tables = {"_TO_MOUNT": case.to_mount, "_MOUNTED": "".join(f"{line}\n" for line in case.mounted)}
    for name, value in names.items():
        escaped = value.replace(" ", r"\040")
        tables = {setting: text.replace(name, escaped) for setting, text in tables.items()}
    for setting, text in tables.items():
        table = point.parents[1] / setting
        table.write_text(text)
        monkeypatch.setattr(disk, setting, table)


@pytest.mark.parametrize("name", CASES)
def test_a_disk_is_missing_where_the_bare_folder_is_seen(
    name: str, point: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell(point, CASES[name], monkeypatch)
    why = missing_place(point / "spool.sqlite")
    if CASES[name].is_missing:
        assert why is not None
        assert f"no disk is mounted at {point} as" in why
    else:
        assert why is None


@pytest.mark.parametrize("name", [name for name in CASES if CASES[name].to_mount == USB])
def test_the_table_may_name_it_through_a_symbolic_link(
    name: str, point: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "link").symlink_to(point.parent)
    (tmp_path / "itself").symlink_to(point)
    for link in (tmp_path / "link" / point.name, tmp_path / "itself"):
        case = CASES[name]
        to_mount = case.to_mount.replace("{at}", str(link).replace(" ", r"\040"))
        tell(point, case._replace(to_mount=to_mount), monkeypatch)
        assert bool(missing_place(point / "spool.sqlite")) == case.is_missing
        assert bool(missing_place(link / "spool.sqlite")) == case.is_missing


@pytest.mark.parametrize("mounted", [TOP_LEVEL, (*TOP_LEVEL, "61 60 0:33 {at} {at} rw - btrfs /dev/vda3 rw")])
def test_a_subvolume_in_its_place_is_there_mounted_or_not(
    mounted: tuple[str, ...], point: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tables show it as a folder bound onto itself; its own device tells."""
    tell(point, Case(SUBVOLUMES, mounted, THERE), monkeypatch)
    assert missing_place(point / "spool.sqlite")
    monkeypatch.setattr(disk, "_device", lambda folder: 40 if folder == point else 33)
    assert missing_place(point / "spool.sqlite") is None


PROGRAM: Final = """
import json, pathlib, subprocess, sys
sys.path[:0] = json.loads(sys.argv[2])
from sungrow_lib.spool import disk

folder = pathlib.Path(sys.argv[1])
point, ssd = folder / "point", folder / "ssd"
other = folder / "other"
disk._TO_MOUNT = folder / "fstab"
disk._TO_MOUNT.write_text(f"UUID=1 {point} ext4 nofail 0 2")
for each in point, ssd, other:
    each.mkdir()
def run(*words): subprocess.run(words, check=True)
def say(name): answers[name] = disk.missing_place(point / "spool.sqlite") is not None
answers = {}
say("bare")
run("mount", "--bind", point, point)
say("itself")
run("mount", "-t", "tmpfs", "tmpfs", point)
say("disk on itself")
run("mount", "--bind", point, point)
say("itself on disk")
run("umount", point); run("umount", point); run("umount", point)
run("mount", "-t", "tmpfs", "tmpfs", ssd)
mirrored = pathlib.Path(f"{ssd}{point}")
mirrored.mkdir(parents=True)
say("bare again")
run("mount", "--bind", mirrored, point)
say("mirrored")
run("umount", point)
run("mount", "--bind", other, point)
say("other")
print(json.dumps(answers))
"""


@pytest.mark.skipif(not CAN_MOUNT, reason="this system lets no user mount a disk of its own")
def test_the_system_shows_it_so(tmp_path: Path) -> None:
    done = subprocess.run(
        [*IN_OWN_MOUNT, sys.executable, "-c", PROGRAM, str(tmp_path), json.dumps(sys.path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "bare": True,
        "itself": True,
        "disk on itself": False,
        "itself on disk": False,
        "bare again": True,
        "mirrored": False,
        "other": False,
    }
