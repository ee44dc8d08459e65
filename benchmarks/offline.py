"""What `sungrow-edge run` takes after long without a server: a week over a slow line, a month over a fast."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

from benchmarks.edge_rig import MODELS, Process, Rig, edge, until
from benchmarks.measure import Figure
from benchmarks.spool import Trusted
from sungrow_lib import Normalizer, RegisterWords, SpoolOptions, living_inverter
from sungrow_lib.sample import SungrowSample
from sungrow_lib.spool import BootStamp, SpoolEntry
from sungrow_lib.spool.store import SpoolStore

LINE_BYTES_S: Final = 1e6 / 8
_WEEK: Final = 120_960
"""Readings of 7 days at 5 s."""
_MONTH: Final = 518_400
"""Readings of 30 days at 5 s, or of two inverters at 10 s."""
_NEWEST: Final = 500
"""The last batch of a backlog is left to go with the fresh readings, which wait for company."""
_FIELDS: Final = 45
_HOURS: Final = 24
_PER_HOUR: Final = 100
_CHUNK: Final = 2_000
_EVERY_S: Final = 0.25
_ALONE_S: Final = 135.0
"""By then a daemon knows its inverters and has loaded what polling takes."""
_AFTER_S: Final = 135.0
"""By then the connections of a backlog are closed, and what they took is given back."""
_SHOWN: Final = (0.25, 0.5, 0.75, 1.0)


# --- a week over a slow line -----------------------------------------------------------------------------


async def week(world: Rig) -> AsyncIterator[Figure]:
    """The backlog of one inverter goes over the rig's line."""
    file = world.configuration("week")
    plain = await asyncio.to_thread(_fill, file.with_name("spool.sqlite"), _WEEK, 1)
    process = edge(file)
    await until(lambda: world.line.sent > 0)
    start, before = time.monotonic(), process.resident_mb()
    process.forget_most()  # starting takes more for a moment, and gives it back
    await until(lambda: world.server.backlog >= _WEEK - _NEWEST)
    took, most = time.monotonic() - start, process.most_resident_mb()
    needed = world.line.sent / LINE_BYTES_S
    per_reading = world.server.body_bytes / world.server.readings
    await asyncio.to_thread(process.stop)
    yield Figure(
        f"a week of backlog ({_WEEK} but its newest batch) over 1 Mbit/s / the time its bytes need",
        took * 1e6,
        needed * 1e6,
        took / needed,
        goal="<= 1.1",
    )
    yield Figure(
        f"the same, bytes per reading of {_FIELDS} fields / plain JSON",
        per_reading,
        plain,
        per_reading / plain,
        unit="B",
        goal="<= 90 B",
    )
    yield Figure(
        "the same, most memory / at its start", most, before, most / before, unit="MB", goal="<= 52 MB"
    )


# --- a month over a fast one -----------------------------------------------------------------------------


async def month(world: Rig) -> AsyncIterator[Figure]:
    """The backlog of two inverters goes as fast as the server takes it; the memory is read all along.

    The daemon polls for a while before the server is back, as one does that made such a backlog. Flat means:
    the straight line through what was read from a quarter of the way on rises by no more than half a megabyte
    in a month's readings. Before that, what the way to the server takes is still loaded.
    """
    file = world.configuration("month")
    await asyncio.to_thread(_fill, file.with_name("spool.sqlite"), _MONTH, len(MODELS))
    world.line.is_down = True
    process = edge(file)
    await asyncio.sleep(_ALONE_S)
    before = process.resident_mb()
    process.forget_most()
    world.line.is_down = False
    await until(lambda: world.line.sent > 0)
    start = time.monotonic()
    sent, held = await _watched(world, process, _MONTH - len(MODELS) * _NEWEST)
    took, most = time.monotonic() - start, process.most_resident_mb()
    needed = world.line.sent / LINE_BYTES_S
    await asyncio.sleep(_AFTER_S)
    after = process.resident_mb()
    await asyncio.to_thread(process.stop)
    yield Figure(
        f"a month of backlog ({_MONTH} of two inverters but their newest batches), line without limit"
        " / the time its bytes need over 1 Mbit/s",
        took * 1e6,
        needed * 1e6,
        took / needed,
    )

    def memory(when: str, megabytes: float, goal: str) -> Figure:
        what = f"a month of backlog, memory {when} / at its start"
        return Figure(what, megabytes, before, megabytes / before, unit="MB", goal=goal)

    for part in _SHOWN:
        at = next(mb for share, mb in zip(sent, held, strict=True) if share >= part)
        yield memory(f"at {part:.0%} of it", at, "<= 52 MB")
    yield memory("at most", most, "<= 52 MB")
    yield memory(f"{_AFTER_S:.0f} s after it", after, "<= 50 MB")
    steady = [each for each in zip(sent, held, strict=True) if each[0] >= _SHOWN[0]]
    slope = statistics.linear_regression(*zip(*steady, strict=True)).slope
    yield memory("growth over a month's readings, from a quarter of it on", slope, "<= 0.5 MB")


async def _watched(world: Rig, process: Process, count: int) -> tuple[list[float], list[float]]:
    """Read the memory until so many readings have arrived: which share of them had, and what it was then."""
    sent: list[float] = []
    held: list[float] = []
    while not sent or sent[-1] < 1:
        await asyncio.sleep(_EVERY_S)
        sent.append(world.server.backlog / count)
        held.append(process.resident_mb())
    return sent, held


# --- what is sent ----------------------------------------------------------------------------------------


def _fill(path: Path, count: int, devices: int) -> float:
    """Make the spool of an edge that was without a server; return the bytes of a reading in JSON."""
    kinds = [content_of(sample, _FIELDS) for sample in samples(_HOURS * _PER_HOUR)]
    first_ms = int((datetime.now(UTC) - timedelta(seconds=5 * count, hours=1)).timestamp()) * 1000
    store = SpoolStore(path, SpoolOptions(), Trusted())
    stamp = BootStamp("a boot before", 0)
    for first in range(0, count, _CHUNK):
        numbers = range(first, min(first + _CHUNK, count))
        store.append_many(
            [
                (f"inverter-{n % devices}", first_ms + 5000 * n, kinds[n // devices % len(kinds)], stamp)
                for n in numbers
            ]
        )
    store.close()
    return statistics.mean(len(SpoolEntry(1, "inverter-0", 0, kind).to_json()) for kind in kinds)


def samples(count: int) -> list[SungrowSample]:
    """Readings 5 s apart, some of every hour of a day."""
    start = datetime(2026, 6, 15, tzinfo=UTC)
    house = living_inverter(MODELS[0], zone=ZoneInfo("UTC"), seed=1, start=start)
    normalizer = Normalizer("inverter-0")
    each = -(-count // _HOURS)
    times = [start + timedelta(hours=n // each, seconds=5 * (n % each)) for n in range(count)]
    return [normalizer.normalize(RegisterWords(house.words_at(ts)), ts=ts, interval_s=5.0) for ts in times]


def content_of(sample: SungrowSample, fields: int | None = None) -> str:
    """What the spool keeps of a reading, or of so many of its fields."""
    content: dict[str, Any] = dict(list(sample.content().items())[:fields])
    return json.dumps(content, separators=(",", ":"))
