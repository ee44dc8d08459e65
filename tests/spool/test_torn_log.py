# ruff: noqa: ASYNC240 - nothing else runs on these loops
"""A commit cut off by the power, in every way a disk may have written it: all before it stays as it was."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from sungrow_lib.spool import DurableSpool, Lane, SpoolOptions, SpoolRecord, SpoolState
from sungrow_lib.spool.pages import read_log
from sungrow_lib.spool.schema import PAGE_BYTES
from tests.spool.helpers import FakeClock, reading

pytestmark = pytest.mark.anyio

LOG_HEAD: Final = 32
FRAME: Final = 24 + PAGE_BYTES
TURNS: Final = 40
COMMITS: Final = 30
"""So many of the last commits are cut off, one after the other."""


async def work(path: Path) -> tuple[bytes, bytes]:
    """Use a spool; return its file and its log as a kill would leave them."""
    clock = FakeClock()
    async with DurableSpool.open(path, clock=clock) as spool:
        for turn in range(TURNS):
            for _ in range(3):
                clock.pass_s(5)
                words = "x" * (turn % 90 + 1)
                sample = reading("inv", clock.now(), pv_power_w=turn)
                await spool.append(sample.model_copy(update={"running_state": words}))
            batch = await spool.offer("inv", 4, Lane.FRESH if turn % 2 else Lane.BACKLOG)
            await spool.ack("inv", [entry.seq for entry in batch])
        return path.read_bytes(), Path(f"{path}-wal").read_bytes()


def commits(log: bytes) -> Iterator[range]:
    """Yield where the frames of each commit begin."""
    first = LOG_HEAD
    for place in range(LOG_HEAD, len(log), FRAME):
        if struct.unpack_from(">I", log, place + 4)[0]:
            yield range(first, place + 1, FRAME)
            first = place + FRAME


async def states(path: Path, file: bytes, log: bytes) -> tuple[dict[int, SpoolRecord], bool]:
    """Open what is left; return its readings, and whether the file had to be set aside."""
    for old in path.parent.glob(f"{path.name}*"):
        old.unlink()
    path.write_bytes(file)
    Path(f"{path}-wal").write_bytes(log)
    async with DurableSpool.open(path, clock=FakeClock(), options=SpoolOptions(recover=True)) as spool:
        assert await spool.faults() == []
        return {r.entry.seq: r async for r in spool.records()}, spool.recovery is not None


async def test_a_torn_commit_takes_nothing_from_those_before(path: Path) -> None:
    file, log = await work(path)
    draw, set_aside = random.Random(11), 0
    for frames in list(commits(log))[-COMMITS:]:
        if len(frames) == 1:
            continue
        before, was_set_aside = await states(path, file, log[: frames[0]])
        assert not was_set_aside
        assert any(record.entry.state is SpoolState.DELIVERED for record in before.values())
        torn = bytearray(log[: frames[-1] + FRAME])
        for place in draw.sample(frames[:-1], draw.randint(1, len(frames) - 1)):
            missing = draw.choice([slice(place, place + FRAME), slice(place + 24, place + 536)])
            torn[missing] = bytes(missing.stop - missing.start)
        after, was_set_aside = await states(path, file, bytes(torn))
        set_aside += was_set_aside
        assert {seq: after.get(seq) for seq in before} == before
        assert len(after) <= len(before) + 1
    assert set_aside > COMMITS // 5


async def test_damage_further_back_is_told_from_a_torn_commit(path: Path) -> None:
    file, log = await work(path)
    damaged = bytearray(log)
    one_of_many = list(commits(log))[-COMMITS][0]
    damaged[one_of_many + 100 : one_of_many + 110] = b"\xee" * 10
    Path(f"{path}-wal").write_bytes(damaged)
    found = read_log(Path(f"{path}-wal"))
    assert found.is_damaged
    assert not found.is_torn
    complete, _ = await states(path, file, log)
    after, was_set_aside = await states(path, file, bytes(damaged))
    assert was_set_aside
    assert len(after) > len(complete) - 12
