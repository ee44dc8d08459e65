# ruff: noqa: ASYNC251 - these tests wait on purpose while other processes work
"""Processes killed at any moment: every accepted reading is there afterwards, once, unaltered."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from sungrow_lib.errors import SpoolUnavailableError
from sungrow_lib.spool import DurableSpool, SpoolOptions, SpoolRecord, SpoolState
from sungrow_lib.spool.store import SpoolStore
from tests.spool.helpers import FakeClock

pytestmark = pytest.mark.anyio

ROUNDS: Final = 12
_PRELUDE: Final = """
import os, sys, anyio
from datetime import UTC, datetime
from sungrow_lib.sample import SungrowSample
from sungrow_lib.spool import DurableSpool, Lane

def say(line):
    os.write(1, (line + "\\n").encode())  # one write: a kill leaves whole lines or a torn last one
"""
WRITER: Final = f"""{_PRELUDE}
async def main():
    async with DurableSpool.open(sys.argv[1]) as spool:
        say("ready")
        for number in range(10**6):
            now = datetime.now(UTC)
            sample = SungrowSample(
                device_id=sys.argv[2], ts=now.replace(microsecond=now.microsecond // 1000 * 1000),
                pv_power_w=number, running_state="x" * (number % 100 + 1), battery_soc_pct=55.5)
            entry = await spool.append(sample, ts_is_final=True)
            say(f"{{entry.seq}} {{entry.ts_ms}} {{entry.content}}")
anyio.run(main)
"""
SETTLER: Final = f"""{_PRELUDE}
async def main():
    async with DurableSpool.open(sys.argv[1]) as spool:
        say("ready")
        while True:
            for lane in (Lane.FRESH, Lane.BACKLOG):
                seqs = [entry.seq for entry in await spool.offer(sys.argv[2], 7, lane)]
                await spool.ack(sys.argv[2], seqs)
                for seq in seqs:
                    say(str(seq))
anyio.run(main)
"""


class Victim:
    """A process that works on the spool until it is killed."""

    def __init__(self, program: str, path: Path, device_id: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", program, str(path), device_id], stdout=subprocess.PIPE
        )
        assert self._process.stdout is not None
        self._said = self._process.stdout
        self._heard = b""
        assert self._said.readline() == b"ready\n"

    def let_say(self, lines: int) -> None:
        """Wait until it has said so many more lines."""
        for _ in range(lines):
            self._heard += self._said.readline()

    def kill(self) -> list[str]:
        """Kill it without warning; return the lines it finished."""
        self._process.send_signal(signal.SIGKILL)
        output = (self._heard + self._said.read()).decode()
        self._said.close()
        assert self._process.wait() == -signal.SIGKILL
        return output.split("\n")[:-1]


async def all_records(path: Path) -> list[SpoolRecord]:
    async with DurableSpool.open(path) as spool:  # also checks the whole file
        return [record async for record in spool.records()]


@pytest.mark.slow
async def test_nothing_accepted_is_lost_when_writers_and_settlers_are_killed(path: Path) -> None:
    accepted: dict[int, tuple[int, str]] = {}
    settled: set[int] = set()
    draw = random.Random(20_260_601)
    for _ in range(ROUNDS):
        writer, settler = Victim(WRITER, path, "inv"), Victim(SETTLER, path, "inv")
        time.sleep(draw.uniform(0.0, 0.15))
        victims = [(writer, True), (settler, False)]
        draw.shuffle(victims)
        for victim, is_writer in victims:
            for line in victim.kill():
                if is_writer:
                    seq, ts_ms, content = line.split(" ", 2)
                    assert int(seq) not in accepted, "a number was used twice"
                    accepted[int(seq)] = (int(ts_ms), content)
                else:
                    settled.add(int(line))
    records = await all_records(path)
    found = {record.entry.seq: (record.entry.ts_ms, record.entry.content) for record in records}
    assert len(found) == len(records)
    assert {seq: found.get(seq) for seq in accepted} == accepted
    assert len(found) - len(accepted) <= ROUNDS  # committed, and killed before it could be said
    assert {r.entry.seq for r in records if r.entry.state is SpoolState.DELIVERED} >= settled
    dates = [record.entry.ts_ms for record in records]
    assert dates == sorted(set(dates))
    assert accepted
    assert settled


async def test_the_test_above_would_see_a_spool_that_does_not_commit(path: Path) -> None:
    """A spool that says "accepted" before its commit loses rows here."""
    lazy = WRITER.replace(
        "anyio.run(main)",
        "from sungrow_lib.spool.database import Database, Transaction\n"
        "def begin(self):\n"
        "    connection = self._ready()\n"
        "    if not connection.in_transaction: connection.execute('BEGIN IMMEDIATE')\n"
        "    return connection\n"
        "Database.begin = begin\n"
        "Transaction.commit = lambda _: None\n"
        "anyio.run(main)",
    )
    async with DurableSpool.open(path):
        pass
    writer = Victim(lazy, path, "inv")
    writer.let_say(5)
    said = writer.kill()
    assert len(said) > len(await all_records(path))


async def test_two_writers_and_a_reader_get_along(path: Path) -> None:
    async with DurableSpool.open(path):
        pass
    writers = [Victim(WRITER, path, name) for name in ("a", "b")]
    counted = 0
    async with DurableSpool.open(path) as spool:
        for _ in range(30):
            now = (await spool.counts()).accepted
            assert now >= counted
            counted = now
            time.sleep(0.01)
    for writer in writers:
        writer.let_say(20)
    said = [line for writer in writers for line in writer.kill()]
    records = await all_records(path)
    assert {int(line.split(" ")[0]) for line in said} <= {record.entry.seq for record in records}
    assert len(said) > 30
    for record in records:
        json.loads(record.entry.content)


async def test_a_program_that_holds_the_file_is_waited_for_then_named(path: Path) -> None:
    options = SpoolOptions(busy_timeout_s=0.1)
    with (
        closing(SpoolStore(path, options, FakeClock())) as holder,
        closing(SpoolStore(path, options, FakeClock())) as other,
    ):
        with (
            holder._database.write(),
            pytest.raises(SpoolUnavailableError, match="locked by another program"),
        ):
            other.append("inv", 1, "{}", boot=None, ts_is_final=True)
        assert other.append("inv", 1, "{}", boot=None, ts_is_final=True).seq == 1
