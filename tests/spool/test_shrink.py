# ruff: noqa: ASYNC240 - nothing else runs on these loops
"""The file gives room back when delivered readings go, without wearing the card for it."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from sungrow_lib.spool import DurableSpool, SpoolOptions, schema
from sungrow_lib.spool.database import Database
from tests.spool.helpers import FakeClock, reading

pytestmark = pytest.mark.anyio
DAY_S = 86_400


async def fill(spool: DurableSpool, clock: FakeClock, count: int) -> list[int]:
    """Append readings that take half a kilobyte; their durability is tested elsewhere."""
    seqs, draw = [], random.Random(count)
    sample = reading(ts=clock.now())
    connection = spool._store._database._connection
    assert connection is not None
    connection.execute("PRAGMA synchronous = OFF")
    for _ in range(count):
        clock.pass_s(5)
        codes = [draw.choices(range(65_536), k=64) for _ in range(2)]  # hard to make smaller
        new = {"ts": clock.now(), "alarm_codes": codes[0], "fault_codes": codes[1]}
        seqs.append((await spool.append(sample.model_copy(update=new))).seq)
    return seqs


async def test_the_file_shrinks_when_delivered_readings_go(path: Path) -> None:
    clock = FakeClock()
    async with DurableSpool.open(path, clock=clock) as spool:
        seqs = await fill(spool, clock, 4000)
        await spool.ack("inv", seqs[:3500])
        await spool.prune()
        full = path.stat().st_size
        assert full > 1_600_000
        before = [record async for record in spool.records() if record.entry.seq > 3500]
        clock.pass_s(15 * DAY_S)
        assert await spool.prune() == 3499
        assert path.stat().st_size < full - 300_000
        assert [record async for record in spool.records()][1:] == before
        assert await spool.faults() == []
        assert (await fill(spool, clock, 1)) == [4001]


async def test_what_comes_and_goes_every_day_moves_no_pages(path: Path) -> None:
    clock = FakeClock()
    async with DurableSpool.open(path, clock=clock, options=SpoolOptions(keep_delivered_s=1)) as spool:
        await spool.ack("inv", await fill(spool, clock, 500))
        clock.pass_s(10)
        assert await spool.prune() == 499
        assert await spool._run(spool._store.shrink) == 0
        size = path.stat().st_size
        for _ in range(3):
            await spool.ack("inv", await fill(spool, clock, 400))
            clock.pass_s(10)
            await spool.prune()
        spool._store._database.fold_log()
        assert path.stat().st_size <= max(size, 700_000)


async def test_a_file_made_before_that_keeps_working(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA page_size = {schema.PAGE_BYTES}")
        connection.executescript(schema.CREATE)
        connection.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {schema.SCHEMA_VERSION}")
    clock = FakeClock()
    async with DurableSpool.open(path, clock=clock, options=SpoolOptions(keep_delivered_s=1)) as spool:
        await spool.ack("inv", await fill(spool, clock, 1500))
        clock.pass_s(10)
        assert await spool.prune() == 1499
        assert await fill(spool, clock, 10) == list(range(1501, 1511))
        assert await spool.faults() == []


async def test_delivered_readings_beyond_their_budget_leave_the_disk(path: Path) -> None:
    clock = FakeClock()
    async with DurableSpool.open(path, clock=clock, options=SpoolOptions(keep_bytes=300_000)) as spool:
        seqs = await fill(spool, clock, 4000)
        await spool.ack("inv", seqs[:-20])
        await spool.prune()
        spool._store._database.fold_log()
        assert path.stat().st_size < 2_000_000
        kept = [record.entry.seq async for record in spool.records()]
        assert kept[-20:] == seqs[-20:]


_HOLD: Final = """
import fcntl, sys
with open(sys.argv[1], "r+b") as index:
    fcntl.lockf(index, fcntl.LOCK_EX, 1, 121)
    print("held", flush=True)
    sys.stdin.read()
"""
"""Holds what SQLite locks in the log's index for a checkpoint."""


def test_while_another_program_folds_the_log_it_is_not_tried_without_a_pause(path: Path) -> None:
    tried: list[str] = []
    with (
        closing(Database(path, busy_timeout_s=0.3, max_bytes=None, check=False)) as database,
        subprocess.Popen(
            [sys.executable, "-c", _HOLD, f"{path}-shm"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as other,
    ):
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        assert database._connection is not None
        database._connection.set_trace_callback(tried.append)
        database.rewind_log(is_needed=True)
        assert other.stdin is not None
        other.stdin.close()
    assert 2 <= sum("wal_checkpoint" in statement for statement in tried) <= 10
