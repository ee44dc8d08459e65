"""What `sungrow-edge run` takes: memory, processor, time to start, the disk, the line.

The real daemon, a process of its own, on two simulated inverters and an HTTPS server that keeps the contract.
A week of backlog goes over a line of 1 Mbit/s each way, a month as fast as the server takes it.
"""

from __future__ import annotations

import asyncio
import math
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

from benchmarks import offline
from benchmarks.edge_rig import MODELS, Process, Rig, edge, rig, until
from benchmarks.measure import Figure
from benchmarks.spool import Bare, written

_STARTS: Final = 5
_WARM_S: Final = 75.0
_WINDOW_S: Final = 60.0
_MINUTES_S: Final = 300.0
_FLOOR: Final = """
import argparse, asyncio, json, logging, sqlite3, ssl, time
import anyio, anyio._backends._asyncio, httpcore, pydantic
class Model(pydantic.BaseModel):
    number: int
print("ready", flush=True)
time.sleep(3600)
"""
"""The packages the daemon is built on, with nothing of ours."""


def run(long_s: float | None = None) -> Iterator[Figure]:
    """Yield the figures.

    Args:
        long_s: after how many seconds the memory of one more daemon is read; no such daemon when left out.
    """
    with tempfile.TemporaryDirectory() as folder:
        yield from asyncio.run(_collect(Path(folder), long_s))


async def _collect(folder: Path, long_s: float | None) -> list[Figure]:
    figures = []
    async with rig(folder, MODELS, math.inf) as world:
        figures += [figure async for figure in _starts(world)]
        figures += [figure async for figure in _steady(world)]
        if long_s is not None:
            figures.append(await _long(world, long_s))
    async with rig(folder, MODELS, offline.LINE_BYTES_S) as world:
        figures += [figure async for figure in offline.week(world)]
    async with rig(folder, MODELS, math.inf) as world:
        figures += [figure async for figure in offline.month(world)]
    return figures


# --- starting --------------------------------------------------------------------------------------------


async def _starts(world: Rig) -> AsyncIterator[Figure]:
    """Time from the command to the inverters, and to the first reading that is safe."""
    polls, readings, floors = [], [], []
    for number in range(_STARTS + 1):
        floor = _floor(world.folder / f"floor-{number}.log")
        floors.append(await _seconds_until_said(floor, world.folder / f"floor-{number}.log", "ready"))
        await asyncio.to_thread(floor.kill)
        for simulator in world.simulators:
            simulator.requests.clear()
        file = world.configuration(f"start-{number}", log_level="DEBUG")
        process = edge(file)
        await until(lambda: all(simulator.requests for simulator in world.simulators))
        asked = (simulator.requests[0].received_at for simulator in world.simulators)
        polls.append(max(asked) - process.started)
        readings.append(await _seconds_until_said(process, file.with_name("edge.log"), '"accepted"'))
        await asyncio.to_thread(process.stop)
    floor_us = statistics.median(floors[1:]) * 1e6
    for what, times, goal in (
        ("start to first poll of two inverters, 1 s of it the pause after connecting", polls, "<= 2 s"),
        ("start to first reading on disk, once it is known what the device is", readings, ""),
    ):
        ours = statistics.median(times[1:]) * 1e6
        yield Figure(
            f"{what} / start of a Python with its packages", ours, floor_us, ours / floor_us, goal=goal
        )


def _floor(output: Path) -> Process:
    return Process(["-c", _FLOOR], output)


async def _seconds_until_said(process: Process, file: Path, word: str) -> float:
    await until(lambda: file.exists() and word in file.read_text())
    return time.monotonic() - process.started


# --- running ---------------------------------------------------------------------------------------------


async def _steady(world: Rig) -> AsyncIterator[Figure]:
    """A minute of ordinary work, once the devices are known."""
    floor = _floor(world.folder / "floor.log")
    devices = [f"{s.port}:{model}" for s, model in zip(world.simulators, MODELS, strict=True)]
    bare = Process(["-m", "benchmarks.bare_poll", *devices], world.folder / "bare.log")
    world.server.readings = 0
    process = edge(world.configuration("steady"))
    await asyncio.sleep(_WARM_S)
    taken, cpu_s, bare_s, disk = world.server.readings, process.cpu_s(), bare.cpu_s(), process.written()
    await asyncio.sleep(_WINDOW_S)
    taken = world.server.readings - taken
    percent = (process.cpu_s() - cpu_s) / _WINDOW_S / len(MODELS) * 100
    bare_percent = (bare.cpu_s() - bare_s) / _WINDOW_S / len(MODELS) * 100
    resident, other = process.resident_mb(), floor.resident_mb()
    assert world.prometheus.answers, "its memory is that with metrics"
    in_log, share = process.written() - disk, taken / world.server.readings
    # At the end the log is folded into the file: of that, too, these readings have their share.
    folded = await asyncio.to_thread(process.stop) - in_log - disk
    kilobytes = (in_log + folded * share) / taken / 1000
    bare_kilobytes = await asyncio.to_thread(_bare_kilobytes, world.folder)
    for each in (floor, bare):
        await asyncio.to_thread(each.kill)
    yield _memory(resident, other, _WARM_S + _WINDOW_S)
    yield Figure(
        "processor per inverter at 5 s, % of a core / pymodbus that only reads the same",
        percent,
        bare_percent,
        percent / bare_percent,
        unit="%",
        goal="<= 1 %",
    )
    yield Figure(
        f"kB to disk per reading, all the daemon writes in {_WINDOW_S:.0f} s / bare sqlite3",
        kilobytes,
        bare_kilobytes,
        kilobytes / bare_kilobytes,
        unit="kB",
        goal="<= 14 kB",
    )


def _memory(resident: float, other: float, after_s: float) -> Figure:
    age = f"{after_s:.0f} s" if after_s < _MINUTES_S else f"{after_s / 60:.0f} min"
    what = f"memory with two inverters after {age} / a Python with its packages"
    return Figure(what, resident, other, resident / other, unit="MB", goal="<= 50 MB")


async def _long(world: Rig, after_s: float) -> Figure:
    """What the memory comes to: pages of the spool that SQLite keeps fill their room in the first hours."""
    floor = _floor(world.folder / "long-floor.log")
    process = edge(world.configuration("long"))
    await asyncio.sleep(after_s)
    figure = _memory(process.resident_mb(), floor.resident_mb(), after_s)
    await asyncio.to_thread(process.stop)
    await asyncio.to_thread(floor.kill)
    return figure


def _bare_kilobytes(folder: Path) -> float:
    contents = [offline.content_of(sample) for sample in offline.samples(500)]
    bare = Bare(folder / "bare.sqlite")
    return written(lambda: bare.insert(contents)) / len(contents) / 1000
