"""A disk that is really full: a small one of its own, mounted for one process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from tests.patience import PATIENCE_S

IN_OWN_MOUNT: Final = ["unshare", "--map-root-user", "--mount", "--"]
CAN_MOUNT: Final = (
    sys.platform == "linux"
    and subprocess.run([*IN_OWN_MOUNT, "true"], capture_output=True, check=False).returncode == 0
)
pytestmark = pytest.mark.skipif(not CAN_MOUNT, reason="this system lets no user mount a disk of its own")

BEGIN: Final = """
import contextlib, json, logging, os, pathlib, random, subprocess, sys
sys.path[:0] = json.loads(sys.argv[3])
from sungrow_lib.errors import SpoolError, SpoolFullError
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

options = SpoolOptions(
    reserve_bytes=reserve, keep_delivered_s=0, merge_when_full=bool(merged), busy_timeout_s=0.5
)
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
"""

PROGRAM: Final = """
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


BESIDE_OTHERS: Final = """
import sqlite3
def take_the_rest():
    with (pathlib.Path(folder) / "other").open("ab", buffering=0) as other:
        try:
            while True:
                other.write(bytes(1024))
        except OSError:
            return
def deliver(limit):
    take_the_rest()
    seqs = [entry.seq for entry in store.offer("inv", limit, Lane.BACKLOG)]
    take_the_rest()
    return store.settle("inv", Settlement(delivered=seqs))
for _ in range(merged):
    append()
answer = {}
if is_read:
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM reading").fetchone()
    take_the_rest()
    fill()
    answer["merged"], answer["reserve"] = store.counts().merged, os.stat(f"{path}-reserve").st_size
    answer["meanwhile"] = deliver(20)
    reader.execute("COMMIT")
def try_appending():
    before = len(accepted)
    with contextlib.suppress(SpoolFullError):
        for _ in range(100):
            take_the_rest()
            append()
    return len(accepted) - before
answer["first"], answer["delivered"] = try_appending(), 0
while done := deliver(50):
    answer["delivered"] += done
answer["second"] = try_appending()
answer["left"] = store.counts().pending
answer["faults"] = store.faults()
print(json.dumps(answer))
"""


OFFERED_AGAIN: Final = """
import asyncio
from sungrow_lib.spool import DurableSpool
for _ in range(merged):
    append()
while seqs := [entry.seq for entry in store.offer("inv", 100, Lane.FRESH)]:
    store.settle("inv", Settlement(delivered=seqs))
store.close()
async def main():
    async with DurableSpool.open(path, options=options) as spool:
        with (pathlib.Path(folder) / "other").open("ab", buffering=0) as other, contextlib.suppress(OSError):
            while True:
                other.write(bytes(1024))
        await spool.ask_last("inv")
        count = await spool.reoffer("inv")
        answer = {"count": count, "offered": 0, "reserve": os.stat(f"{path}-reserve").st_size}
        while entries := await spool.offer("inv", 100, Lane.FRESH):
            answer["offered"] += len(entries)
            await spool.settle("inv", Settlement(delivered=[entry.seq for entry in entries]))
        answer["kept"] = (await spool.counts()).delivered
        return answer
print(json.dumps(asyncio.run(main())))
"""


STARTED: Final = """
from contextlib import closing
for _ in range(merged):
    append()
while seqs := [entry.seq for entry in store.offer("inv", 100, Lane.FRESH)]:
    store.settle("inv", Settlement(delivered=seqs))
if has_pages:
    with store._database.write() as connection:  # as when they are past their days
        for table in ("standing", "reading"):
            connection.execute(f"DELETE FROM {table} WHERE seq <= 300")
store.close()
store = SpoolStore(path, options, SystemClock())
kept = store.counts().delivered
with (pathlib.Path(folder) / "other").open("ab", buffering=0) as other, contextlib.suppress(OSError):
    while True:
        other.write(bytes(1024))
refused = 0
def accept(count):
    global refused
    until = len(accepted) + count
    while len(accepted) < until and refused < 50:
        try:
            append()
        except SpoolFullError:
            refused += 1
accept(1)
answer = {"gone": [kept - store.counts().delivered], "refused": [refused]}
accept(300)
answer["gone"].append(kept - store.counts().delivered)
answer["refused"].append(refused)
answer["pending"], answer["faults"] = store.counts().pending, store.faults()
print(json.dumps(answer))
"""


SMALL: Final = """
def append_small():
    global ts
    ts += 1000
    content = json.dumps({"pv_power_w": len(accepted), "running_state": "y" * width})
    accepted.append(store.append("inv", ts, content, boot=None, ts_is_final=True).seq)
for _ in range(merged):
    append_small()
while seqs := [entry.seq for entry in store.offer("inv", 500, Lane.FRESH)]:
    store.settle("inv", Settlement(delivered=seqs))
store.close()
store = SpoolStore(path, options, SystemClock())
kept = store.counts().delivered
with (pathlib.Path(folder) / "other").open("ab", buffering=0) as other, contextlib.suppress(OSError):
    while True:
        other.write(bytes(1024))
append_small()
answer = {"gone": kept - store.counts().delivered}
for _ in range(50):
    append_small()
answer["faults"] = store.faults()
print(json.dumps(answer))
"""


STARTED_WHEN_FULL: Final = """
import dataclasses
for _ in range(merged):
    append()
store.close()
def take_the_rest():
    with (pathlib.Path(folder) / "other").open("ab", buffering=0) as other, contextlib.suppress(OSError):
        while True:
            other.write(bytes(1024))
def reserve_left():
    return os.stat(f"{path}-reserve").st_size
take_the_rest()
answer = {"before": reserve_left()}
try:
    SpoolStore(path, SpoolOptions(), SystemClock())
except SpoolError as error:
    answer["told others"] = f"{type(error).__name__}: {error}"
answer["others left"] = reserve_left()
store = SpoolStore(path, dataclasses.replace(options, recover=True), SystemClock())  # as the daemon does
answer["opened with"] = reserve_left()
take_the_rest()
for _ in range(10):
    append()
answer["filled with"] = reserve_left()
take_the_rest()
while seqs := [entry.seq for entry in store.offer("inv", 50, Lane.FRESH)]:
    take_the_rest()
    store.settle("inv", Settlement(delivered=seqs))
counts = store.counts()
answer |= {"accepted": counts.accepted, "pending": counts.pending, "faults": store.faults()}
answer["merged"], answer["gone"] = counts.merged, len(accepted) - counts.delivered
print(json.dumps(answer))
"""


def run(folder: Path, reserve: int, merge: int = 0, program: str = PROGRAM) -> dict[str, Any]:
    """Return what the program says; with ``merge`` it appends so many readings, merging the oldest."""
    disk = folder / "disk"
    disk.mkdir()
    done = subprocess.run(
        [
            *IN_OWN_MOUNT,
            sys.executable,
            "-c",
            BEGIN + program,
            str(disk),
            str(reserve),
            json.dumps(sys.path),
            str(merge),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
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


@pytest.mark.parametrize("is_read", [False, True])
def test_a_young_spool_works_on_a_disk_of_which_others_take_what_they_get(
    tmp_path: Path,
    is_read: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """Its readings are in the log yet, and to write them into the file takes room, too."""
    answer = run(tmp_path, 600_000, merge=120, program=f"is_read = {is_read}\n{BESIDE_OTHERS}")
    assert answer["first"] > 0
    assert answer["delivered"] > 0
    assert answer["left"] <= 50 + answer["second"]  # the newest are not of the backlog
    assert answer["second"] == 100
    assert answer["faults"] == []
    if is_read:
        assert answer["merged"] == 0
        assert answer["reserve"] > 400_000  # but for what the file grew by
        assert answer["meanwhile"] == 20


def test_what_the_server_lost_is_offered_again_on_a_full_disk(tmp_path: Path) -> None:
    """Its log is empty, and has no room; nothing of what the server asks for is deleted for that."""
    answer = run(tmp_path, 600_000, merge=400, program=OFFERED_AGAIN)
    assert answer["count"] == 399  # the last one was asked for before
    assert answer["offered"] == 400
    assert answer["kept"] == 400
    assert answer["reserve"] > 300_000


@pytest.mark.parametrize("has_pages", [True, False])
def test_no_more_delivered_readings_go_than_must(
    tmp_path: Path,
    has_pages: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """The disk is full when the spool is opened; a server that is restored later lacks what went."""
    answer = run(tmp_path, 600_000, merge=900, program=f"has_pages = {has_pages}\n{STARTED}")
    at_once, later = answer["gone"]
    assert at_once == 0 if has_pages else 0 < at_once <= 100
    assert later <= 500
    assert answer["pending"] == 301
    assert answer["refused"] == [0, 0]
    assert answer["faults"] == []


@pytest.mark.parametrize("width", [10, 300])
def test_no_reading_is_refused_after_deleting_took_what_the_log_had(tmp_path: Path, width: int) -> None:
    """Small readings: hundreds of them go before there are enough pages, or the log is full."""
    answer = run(tmp_path, 600_000, merge=900, program=f"width = {width}\n{SMALL}")
    assert 100 < answer["gone"] < 899
    assert answer["faults"] == []


def test_a_spool_closed_cleanly_is_opened_on_a_full_disk_with_a_part_of_its_reserve(tmp_path: Path) -> None:
    """SQLite's log and its index are not there then, and take room; others leave the reserve alone."""
    answer = run(tmp_path, 600_000, merge=200, program=STARTED_WHEN_FULL)
    assert answer["before"] == answer["others left"] == 600_000
    assert answer["told others"] == (
        f"SpoolFullError: The disk of the spool {tmp_path}/disk/spool.db is full (disk I/O error); delete "
        "other files there, or move them away, but none of the spool's own."
    )
    assert answer["opened with"] == 525_000
    assert answer["filled with"] >= 300_000
    assert answer["accepted"] == 210
    assert answer["pending"] == 0
    assert answer["gone"] == answer["merged"]
    assert answer["faults"] == []
