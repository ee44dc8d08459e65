"""A disk that is really full: a small one of its own, mounted for one process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

IN_OWN_MOUNT: Final = ["unshare", "--map-root-user", "--mount", "--"]
CAN_MOUNT: Final = (
    sys.platform == "linux"
    and subprocess.run([*IN_OWN_MOUNT, "true"], capture_output=True, check=False).returncode == 0
)
pytestmark = pytest.mark.skipif(not CAN_MOUNT, reason="this system lets no user mount a disk of its own")

PROGRAM: Final = """
import json, logging, os, pathlib, random, subprocess, sys
sys.path[:0] = json.loads(sys.argv[3])
from sungrow_lib.errors import SpoolFullError
from sungrow_lib.spool import database, Lane, Settlement, SpoolOptions, SpoolState, SystemClock
from sungrow_lib.spool.store import SpoolStore

database._CHECKPOINT_PAGES = 200  # a disk a tenth of a small one's size, a log a tenth of the usual one's
folder, reserve, merged = sys.argv[1], int(sys.argv[2]), int(sys.argv[4])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", folder], check=True)
path = pathlib.Path(folder) / "spool.db"
logged = []
class Keeper(logging.Handler):
    def emit(self, record): logged.append(record.getMessage())
logging.getLogger("sungrow_lib.spool").addHandler(Keeper())

options = SpoolOptions(reserve_bytes=reserve, keep_delivered_s=0, merge_when_full=bool(merged))
store = SpoolStore(path, options, SystemClock())
ts, accepted = 1_780_000_000_000, []
def append():
    global ts
    ts += 5000
    draw = random.Random(ts)
    codes = [draw.choices(range(65_536), k=64) for _ in range(2)]  # hard to make smaller
    content = json.dumps({"running_state": "x" * 100, "alarm_codes": codes[0], "fault_codes": codes[1]})
    accepted.append(store.append("inv", ts, content, boot=None, ts_is_final=True).seq)
def fill():
    try:
        while True:
            append()
    except SpoolFullError:
        return
if merged:
    for _ in range(merged):
        append()
    contents = [json.loads(record.entry.content) for record in store.records(0, 100_000)]
    print(json.dumps({
        "readings": sum(content.get("sample_count", 1) for content in contents),
        "rows": len(contents),
        "merged": store.counts().merged,
        "told at once": store.relief.merged,
        "faults": store.faults(),
        "logged": sorted(set(logged)),
    }))
    sys.exit()
fill()
answer = {"first": len(accepted), "reserve_left": (pathlib.Path(folder) / "spool.db-reserve").exists()}
delivered = []
try:
    delivered = [e.seq for e in store.offer("inv", 400, Lane.BACKLOG)]
    store.settle("inv", Settlement(delivered=delivered))
except SpoolFullError:
    answer["stuck"] = True
fill()
answer["second"] = len(accepted) - answer["first"]
answer["free"] = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
records = store.records(0, 100_000)
answer["undelivered_lost"] = len(set(accepted) - set(delivered) - {r.entry.seq for r in records})
answer["faults"] = store.faults()
answer["logged"] = logged
print(json.dumps(answer))
"""


def run(folder: Path, reserve: int, merge: int = 0) -> dict[str, Any]:
    """Return what the program says; with ``merge`` it appends so many readings, merging the oldest."""
    disk = folder / "disk"
    disk.mkdir()
    done = subprocess.run(
        [
            *IN_OWN_MOUNT,
            sys.executable,
            "-c",
            PROGRAM,
            str(disk),
            str(reserve),
            json.dumps(sys.path),
            str(merge),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_delivered_readings_make_room_on_a_full_disk(tmp_path: Path) -> None:
    answer = run(tmp_path, 600_000)
    assert answer["first"] > 500, answer
    assert answer["second"] > 100, answer
    assert answer["undelivered_lost"] == 0
    assert answer["faults"] == []
    assert "stuck" not in answer
    assert "disk full: the spool's reserve is used" in answer["logged"]


def test_without_a_reserve_a_full_disk_may_not_even_settle(tmp_path: Path) -> None:
    """So the test above can fail; what was accepted is safe here, too."""
    answer = run(tmp_path, 0)
    assert answer.get("stuck") or not answer["second"]
    assert answer["undelivered_lost"] == 0
    assert answer["faults"] == []


def test_the_oldest_readings_are_merged_where_nothing_else_makes_room(tmp_path: Path) -> None:
    answer = run(tmp_path, 600_000, merge=6_000)
    assert answer["readings"] == 6_000
    assert answer["told at once"] == answer["merged"] == 6_000 - answer["rows"] > 0
    assert answer["faults"] == []
    assert "disk full: the oldest readings not yet offered were merged" in answer["logged"]
