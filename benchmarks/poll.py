"""Polling: what a poll costs the wire and the processor, against the least that could bring the same values.

The least is what no reader can beat: as few requests of 125 registers as cover the registers read, and no
byte in the answers that is not theirs. The time of a poll is measured with the same 20 ms of silence between
two requests on both sides; the processor's, against bare pymodbus that reads the same blocks from the same
simulator, which is a process of its own.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from pymodbus.client import AsyncModbusTcpClient

from benchmarks.measure import Figure, compare
from sungrow_lib import ConnectionSettings, Normalizer, ReadPlan, RegisterWords, identify
from sungrow_lib.capture import Capture, write_capture
from sungrow_lib.modbus.clock import SystemClock
from sungrow_lib.modbus.learning import UnitPlan
from sungrow_lib.modbus.poller import ModbusPoller
from sungrow_lib.registers.applies import ConnectionPath
from sungrow_lib.registers.model import Register
from sungrow_lib.registers.words import BLOCK_MAX, Block, Space
from sungrow_lib.simulator.images import IMAGES

_NOW = datetime(2026, 6, 15, 12, tzinfo=UTC)
_POLLS = 20
_GAP_S = 0.02
_SHORT_S = 0.15
"""Longer waits are the pauses between passes, which nobody needs to sit through."""
_REQUEST_BYTES, _ANSWER_BYTES = 12, 9


def run() -> Iterator[Figure]:
    """Yield the figures."""
    for model, path in (
        ("SH8.0RT-20", ConnectionPath.LAN),
        ("SH8.0RT-20", ConnectionPath.WINET_S),
        ("SG20RT", ConnectionPath.WINET_S),
    ):
        yield from _traffic(f"{model}, {path}", plan_of(model, path))
    plan = plan_of("SH8.0RT-20", ConnectionPath.LAN)
    with _served("SH8.0RT-20") as port, tempfile.TemporaryDirectory() as locks, asyncio.Runner() as runner:
        yield from _measured(plan, port, Path(locks), runner)


def plan_of(model: str, path: ConnectionPath) -> ReadPlan:
    """What the edge reads of a model at every poll."""
    identity = identify(RegisterWords(IMAGES[model].words), path=path)
    return ReadPlan.for_quantities(identity.family, identity.context)


def _traffic(what: str, plan: ReadPlan) -> Iterator[Figure]:
    least = _fewest(plan.registers)
    needed = sum(register.word_count for register in plan.registers)
    ours_bytes = _bytes(len(plan.blocks), sum(block.count for block in plan.blocks))
    floor_bytes = _bytes(len(least), needed)
    title = f"{what}: requests for {len(plan.registers)} registers / fewest"
    yield Figure.count(title, len(plan.blocks), len(least))
    yield Figure.count(f"{what}: bytes, both ways / those of the values", ours_bytes, floor_bytes)


def _bytes(requests: int, words: int) -> int:
    return requests * (_REQUEST_BYTES + _ANSWER_BYTES) + 2 * words


def _fewest(registers: Sequence[Register]) -> list[Block]:
    """As few requests as cover ``registers``, which are in wire order, whatever lies between them."""
    blocks: list[Block] = []
    for register in registers:
        last = blocks[-1] if blocks else None
        if last and last.space is register.space and register.last - last.first < BLOCK_MAX:
            blocks[-1] = Block(last.space, last.first, register.last - last.first + 1)
        else:
            blocks.append(register.block)
    return blocks


def _measured(plan: ReadPlan, port: int, locks: Path, runner: asyncio.Runner) -> Iterator[Figure]:
    client = runner.run(_client(port))
    least = _fewest(plan.registers)
    normalizer = Normalizer("roof", identify(RegisterWords(IMAGES["SH8.0RT-20"].words)))
    with _closing(runner, _poller(plan, port, locks, _NoPauses(all_waits=False))) as poller:
        yield compare(
            "time of a poll / the fewest requests, 20 ms apart",
            partial(_await, runner, _polls, poller, 1),
            partial(_await, runner, _bare, client, least, 1, _GAP_S),
        )
    with _closing(runner, _poller(plan, port, locks, _NoPauses(all_waits=True))) as poller:
        for what, more, goal in (("words", None, "<= 1.5"), ("a sample", normalizer, "")):
            yield compare(
                f"CPU of a poll to {what} / pymodbus, the same blocks",
                partial(_await, runner, _polls, poller, _POLLS, more),
                partial(_await, runner, _bare, client, plan.blocks, _POLLS),
                jobs=_POLLS,
                clock=time.process_time,
                goal=goal,
            )
    client.close()


def _await(runner: asyncio.Runner, job: Callable[..., Coroutine[Any, Any, None]], *args: Any) -> None:
    runner.run(job(*args))


def _poller(plan: ReadPlan, port: int, locks: Path, clock: SystemClock) -> ModbusPoller:
    settings = ConnectionSettings(host="127.0.0.1", port=port, request_gap_s=_GAP_S, lock_dir=locks)
    return ModbusPoller(settings, [UnitPlan(unit=1, fast=plan)], clock=clock)


async def _polls(poller: ModbusPoller, count: int, normalizer: Normalizer | None = None) -> None:
    for _ in range(count):
        [unit] = (await poller.poll()).units
        assert unit.is_reading, unit.error
        if normalizer is not None:
            normalizer.normalize(unit.words, ts=_NOW)


async def _bare(
    client: AsyncModbusTcpClient, blocks: Sequence[Block], count: int, gap_s: float = 0.0
) -> None:
    for _ in range(count):
        for block in blocks:
            if gap_s and block is not blocks[0]:
                await asyncio.sleep(gap_s)
            answer = await client.read_input_registers(block.address, count=block.count, device_id=1)
            assert len(answer.registers) == block.count


async def _client(port: int) -> AsyncModbusTcpClient:
    client = AsyncModbusTcpClient("127.0.0.1", port=port)
    assert await client.connect()
    return client


@contextmanager
def _closing(runner: asyncio.Runner, poller: ModbusPoller) -> Iterator[ModbusPoller]:
    runner.run(poller.__aenter__())
    try:
        yield poller
    finally:
        runner.run(poller.__aexit__(None, None, None))


class _NoPauses(SystemClock):
    """Counts waits as waited: those between passes, or all."""

    def __init__(self, *, all_waits: bool) -> None:
        self._longest_s = 0.0 if all_waits else _SHORT_S
        self._skipped_s = 0.0

    def boottime(self) -> float:
        return super().boottime() + self._skipped_s

    async def sleep(self, seconds: float) -> None:
        if seconds > self._longest_s:
            self._skipped_s += seconds
        else:
            await super().sleep(seconds)


@contextmanager
def _served(model: str) -> Iterator[int]:
    """A simulator of the device's register image, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        capture = Path(folder) / "capture.json"
        write_capture(capture, Capture(words=RegisterWords(IMAGES[model].words)), Space.INPUT)
        command = [sys.executable, "-m", "sungrow_lib.cli", "simulate", "--port", "0", str(capture)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            yield int(process.stdout.readline().split(":")[1])
            process.terminate()
