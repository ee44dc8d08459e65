"""A spool on a disk that may only be read, as after a card failed: what to do to get its readings out."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.patience import PATIENCE_S
from tests.spool.test_disk_full import CAN_MOUNT, IN_OWN_MOUNT

pytestmark = pytest.mark.skipif(not CAN_MOUNT, reason="this system lets no user mount a disk of its own")

PROGRAM: Final = """
import contextlib, io, json, os, pathlib, shutil, subprocess, sys
sys.path[:0] = json.loads(sys.argv[2])
from reference_edge.cli import main
from sungrow_lib.spool import SpoolOptions, SystemClock
from sungrow_lib.spool.store import SpoolStore

disk, other = pathlib.Path(sys.argv[1]) / "disk", pathlib.Path(sys.argv[1]) / "other"
disk.mkdir()
other.mkdir()
subprocess.run(["mount", "-t", "tmpfs", "tmpfs", disk], check=True)
if os.fork() == 0:  # killed: its last reading is in the log alone
    store = SpoolStore(disk / "spool.db", SpoolOptions(), SystemClock())
    store.append("roof", 1_780_000_000_000, "{}", boot=None, ts_is_final=True)
    os._exit(0)
os.wait()
subprocess.run(["mount", "-o", "remount,ro", disk], check=True)

def export(path):
    output, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        status = main(["spool", "export", "--spool", str(path)])
    return status, len(output.getvalue().splitlines()), errors.getvalue()

there = export(disk / "spool.db")
for file in disk.iterdir():
    shutil.copy(file, other)
print(json.dumps({"there": there, "copied": export(other / "spool.db")}))
"""


def test_an_export_says_that_a_copy_can_be_exported_and_it_can(tmp_path: Path) -> None:
    done = subprocess.run(
        [*IN_OWN_MOUNT, sys.executable, "-c", PROGRAM, str(tmp_path), json.dumps(sys.path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    status, lines, said = told["there"]
    assert (status, lines) == (1, 0)
    assert said == (
        f"sungrow-edge: The spool {tmp_path}/disk/spool.db lies on a disk that may only be read, where it "
        "cannot be opened. To look into it, or to export it, copy it with its -wal and -shm to another "
        "disk, and name the copy (--spool). To run the daemon, mount the disk for writing.\n"
    )
    assert told["copied"] == [0, 3, ""]  # the reading between the export's first line and its last
