"""The disk of an open spool is unmounted while it is in use: it is waited for, and nothing begun below."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from tests.patience import PATIENCE_S
from tests.spool.test_disk_full import CAN_MOUNT, IN_OWN_MOUNT

pytestmark = pytest.mark.skipif(not CAN_MOUNT, reason="this system lets no user mount a disk of its own")

PROGRAM: Final = """
import json, pathlib, subprocess, sys
sys.path[:0] = json.loads(sys.argv[2])
from reference_edge.lock import SpoolLock
from sungrow_lib.errors import SpoolUnavailableError
from sungrow_lib.spool import SpoolOptions, SystemClock, place
from sungrow_lib.spool.store import SpoolStore

place._GRACE_S = 0.0
folder, below, is_bound = pathlib.Path(sys.argv[1]), sys.argv[3], sys.argv[4] == "bound"
disk, point = folder / "disk", folder / "point"
path = point / below / "spool.db"
options = SpoolOptions(recover=True, reserve_bytes=100_000)
def run(*words): subprocess.run(words, check=True)
def append(count):
    for _ in range(count):
        number = len(accepted)
        content = json.dumps({"pv_power_w": number})
        store.append("inv", 1_780_000_000_000 + 5_000 * number, content, boot=None, ts_is_final=True)
        accepted.append(number)
def refused():
    said = []
    for job in (lambda: append(1), store.keep_place, store.prune, store.devices, lock.require):
        try:
            job()
        except SpoolUnavailableError as error:
            said.append(str(error))
    return said
accepted = []
disk.mkdir()
point.mkdir()
if not is_bound:
    run("mount", "-t", "tmpfs", "tmpfs", disk)
run("mount", "--bind", disk, point)
path.parent.mkdir(exist_ok=True)
lock = SpoolLock(path)
store = SpoolStore(path, options, SystemClock())
append(40)
run("umount", "-l", point)
answer = {"said": refused(), "below": [str(name) for name in point.rglob("*")]}
run("mount", "--bind", disk, point)
lock.require()
append(10)
run("umount", "-l", point)
answer["said again"] = refused()
store.close()
answer["below at the end"] = [str(name) for name in point.rglob("*")]
run("mount", "--bind", disk, point)
store = SpoolStore(path, options, SystemClock())
append(5)
answer["kept"] = [json.loads(record.entry.content)["pv_power_w"] for record in store.records(0, 1_000)]
answer["faults"], answer["accepted"] = store.faults(), accepted
answer["beside"] = sorted(name.name for name in path.parent.iterdir())
store.close()
print(json.dumps(answer))
"""


def run(folder: Path, below: str, kind: str) -> dict[str, Any]:
    done = subprocess.run(
        [*IN_OWN_MOUNT, sys.executable, "-c", PROGRAM, str(folder), json.dumps(sys.path), below, kind],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@pytest.mark.parametrize("kind", ["a disk", "bound"])
@pytest.mark.parametrize("below", ["", "edge"])
def test_nothing_is_made_below_and_it_goes_on_when_the_disk_is_back(
    tmp_path: Path, below: str, kind: str
) -> None:
    answer = run(tmp_path, below, kind)
    for said in (answer["said"], answer["said again"]):
        assert len(said) == 5
        assert all(f"o disk is mounted at {tmp_path / 'point'} any more" in words for words in said)
    assert answer["below"] == answer["below at the end"] == []
    assert answer["kept"] == answer["accepted"] == list(range(55))
    assert answer["faults"] == []
    assert answer["beside"] == [
        "spool.db",
        "spool.db-reserve",
        "spool.db-shm",
        "spool.db-wal",
        "spool.db.lock",
    ]
