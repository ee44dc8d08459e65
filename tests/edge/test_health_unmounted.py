"""The disk with the health file is unmounted under the running daemon."""

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
import asyncio, json, pathlib, subprocess, sys
sys.path[:0] = json.loads(sys.argv[2])
from reference_edge.health import HealthReport
from reference_edge.survey import Survey
from sungrow_lib.upload.status import StatusBoard

folder = pathlib.Path(sys.argv[1])
disk, point = folder / "disk", folder / "point"
health = HealthReport(point / "health.json", {}, Survey(folder), StatusBoard().snapshot, lambda: 0)
def run(*words): subprocess.run(words, check=True)
def written():
    asyncio.run(health.write_last())
    names = sorted(file.name for file in point.iterdir())
    for file in point.iterdir():
        file.unlink()
    return names
disk.mkdir()
point.mkdir()
run("mount", "-t", "tmpfs", "tmpfs", disk)
run("mount", "--bind", disk, point)
answer = [written()]
run("umount", "-l", point)
answer.append(written())
run("mount", "--bind", disk, point)
answer.append(written())
print(json.dumps(answer))
"""


def test_it_is_not_written_below_and_is_when_the_disk_is_back(tmp_path: Path) -> None:
    done = subprocess.run(
        [*IN_OWN_MOUNT, sys.executable, "-c", PROGRAM, str(tmp_path), json.dumps(sys.path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [["health.json"], [], ["health.json"]]
