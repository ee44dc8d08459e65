"""`sungrow-edge check` says how much room the spool's disk has, before the daemon finds out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from reference_edge.app import run_edge
from reference_edge.check import check
from reference_edge.config import EdgeSettings
from reference_edge.lock import sole_user
from reference_edge.places import require_room
from reference_edge.status import read_status
from reference_edge.survey import Survey
from sungrow_lib.errors import SpoolUnavailableError
from tests.patience import PATIENCE_S
from tests.spool.test_disk_full import CAN_MOUNT, IN_OWN_MOUNT

pytestmark = pytest.mark.anyio


def settings_with(spool: Path) -> EdgeSettings:
    return EdgeSettings.model_validate(
        {
            "server_url": "https://localhost:1",
            "device_token": "edge-token-0123456789",
            "sungrow_host": "127.0.0.1",
            "device_id": "roof",
            "spool_path": spool,
            "sungrow_lock_dir": spool.parent,
        }
    )


async def told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[str]]:
    status = await check(settings_with(tmp_path / "spool.sqlite"), is_offline=True)
    return status, [line for line in capsys.readouterr().out.splitlines() if "disk: " in line]


ADVICE = "free some, at least 200.0 MB, or name another disk (SPOOL_PATH)"
NO_RESERVE = "20.0 MB are free beside the spool; the reserve for a full disk is made from 32.0 MB on"

FULL_DISK = "{} are free beside the spool: the disk is full, the daemon lives on its reserve, 8000 kB yet"


@pytest.mark.parametrize(
    ("free", "kept", "status", "said"),
    [
        (250_000_000, 0, 0, ["ok    disk: 250.0 MB are free beside the spool"]),
        (
            50_000_000,
            0,
            0,
            [
                f"NOTE  disk: 50.0 MB are free beside the spool; {ADVICE}",
                "ok    disk: 50.0 MB are free beside the spool",
            ],
        ),
        (20_000_000, 0, 0, [f"NOTE  disk: {NO_RESERVE}; {ADVICE}", f"ok    disk: {NO_RESERVE}"]),
        (
            200_000,
            0,
            1,
            [
                f"FAIL  disk: 200 kB are free beside the spool; a reading is taken from 4000 kB on; {ADVICE}",
            ],
        ),
        (
            200_000,
            8_000_000,
            0,
            [
                f"NOTE  disk: 200 kB are free beside the spool; {ADVICE}",
                "ok    disk: 200 kB are free beside the spool",
            ],
        ),
        (4096, 8_000_000, 1, [f"FAIL  disk: {FULL_DISK.format('4096 bytes')}; {ADVICE}"]),
    ],
    ids=["room", "little", "no room for a reserve", "no room for a reading", "a reserve", "a full disk"],
)
async def test_room_is_told_with_figures(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    free: int,
    kept: int,
    status: int,
    said: list[str],
) -> None:
    (tmp_path / "spool.sqlite-reserve").write_bytes(bytes(kept))
    monkeypatch.setattr("reference_edge.check.free_bytes", lambda _: free)
    assert await told(tmp_path, capsys) == (status, said)


async def test_a_folder_that_is_not_there_is_said_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await told(tmp_path / "none", capsys) == (1, [])


async def test_the_disk_is_that_of_the_spool_and_not_of_a_link_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "spool.sqlite-reserve").write_bytes(bytes(8_000_000))
    (tmp_path / "spool.sqlite").symlink_to(other / "spool.sqlite")
    monkeypatch.setattr(
        "reference_edge.check.free_bytes", lambda folder: 1_000_000 * (300 if folder == other else 400)
    )
    assert await told(tmp_path, capsys) == (0, ["ok    disk: 300.0 MB are free beside the spool"])
    status = await read_status(settings_with(tmp_path / "spool.sqlite"))
    assert status["disk"]["reserve_bytes"] == 8_000_000
    looked: list[Path] = []

    class Looked(Exception):  # noqa: N818 - no fault
        """Enough is known."""

    def survey(folder: Path, **_: object) -> Survey:
        looked.append(folder)
        raise Looked

    monkeypatch.setattr("reference_edge.app.Survey", survey)
    with sole_user(tmp_path / "spool.sqlite") as lock, pytest.raises(Looked):
        await run_edge(settings_with(tmp_path / "spool.sqlite"), lock)
    assert looked == [other]


FULL: Final = """
import contextlib, io, json, pathlib, subprocess, sys
sys.path[:0] = json.loads(sys.argv[2])
import anyio
from reference_edge.check import check
from sungrow_lib.spool import SpoolOptions, SystemClock
from sungrow_lib.spool.store import SpoolStore
from tests.edge.test_check_disk import full_words, settings_with

disk = pathlib.Path(sys.argv[1]) / "disk"
disk.mkdir()
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", disk], check=True)
SpoolStore(disk / "spool.sqlite", SpoolOptions(), SystemClock()).close()
(disk / "spool.sqlite-reserve").write_bytes(bytes(8_000_000))
with contextlib.suppress(OSError), (disk / "filler").open("wb", buffering=0) as file:
    while file.write(bytes(4096)):
        pass
output = io.StringIO()
with contextlib.redirect_stdout(output):
    status = anyio.run(check, settings_with(disk / "spool.sqlite"), True)
print(json.dumps([status, output.getvalue().splitlines(), full_words(disk / "health.json")]))
"""


def full_words(file: Path) -> str:
    """Return what is said of a folder that takes no file."""
    with pytest.raises(SpoolUnavailableError) as caught:
        require_room(file, "HEALTH_FILE")
    return str(caught.value)


@pytest.mark.skipif(not CAN_MOUNT, reason="this system lets no user mount a disk of its own")
async def test_a_full_disk_is_named_as_the_cause(tmp_path: Path) -> None:
    done = subprocess.run(  # noqa: ASYNC221 - nothing else goes on here
        [*IN_OWN_MOUNT, sys.executable, "-c", FULL, str(tmp_path), json.dumps([os.getcwd(), *sys.path])],  # noqa: PTH109
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, done.stderr
    status, lines, words = json.loads(done.stdout)
    assert status == 1
    assert f"FAIL  disk: {FULL_DISK.format('0 bytes')}; {ADVICE}" in lines
    assert lines[1] == (
        f"FAIL  spool: The disk of the spool {tmp_path}/disk/spool.sqlite is full (disk I/O error); delete "
        "other files there, or move them away, but none of the spool's own."
    )
    assert words == (
        f"no file can be made in {tmp_path / 'disk'}: No space left on device; free some, or choose another "
        "folder (HEALTH_FILE)"
    )
