"""The spool against bare `sqlite3` with the same settings, and against peers that do the same job.

All append with one durable commit per reading and then give everything up again, batch by batch: ours marks a
batch as delivered, the others delete it. The clock is one that is trusted, whatever this machine's is.
"""

from __future__ import annotations

import gc
import random
import shutil
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import anyio
import diskcache  # type: ignore[import-untyped]  # it has no types
import persistqueue

from benchmarks.measure import Figure, compare
from sungrow_lib import DurableSpool, Normalizer, RegisterWords, SpoolOptions, living_inverter
from sungrow_lib.sample import SungrowSample
from sungrow_lib.spool import BootStamp, Lane, Settlement, SpoolEntry
from sungrow_lib.spool.store import SpoolStore
from sungrow_lib.spool.system_clock import SystemClock
from sungrow_lib.upload.compression import compress

_NOW: Final = datetime(2026, 6, 15, 8, tzinfo=UTC)
_START_MS: Final = 1_780_000_000_000
_READINGS: Final = 140
"""In eight rounds these do not fill a log. Once one is as long as it gets, commits within a tick of the clock
leave its size and times as they are and take half as long; those of a device, seconds apart, never do."""
_MONTH: Final = 518_400
"""Readings of 30 days at 5 s."""
_WEAR_ROUNDS: Final = 4
_PEER_READINGS: Final = 2_000
"""Drained by peers whose rate does not depend on how many wait."""
_BATCH: Final = 500
_FIELDS: Final = 45


def run() -> Iterator[Figure]:
    """Yield the figures."""
    samples = _samples(_BATCH)
    contents = [_content(sample) for sample in samples]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        yield from _appends(folder, samples, contents)
        yield from _wear(folder, contents)
        yield from _drains(folder, contents)
    yield _wire(samples)


class Trusted(SystemClock):
    """The machine's clock, as if somebody vouched for it."""

    def _ask_kernel(self) -> bool:
        return True


def _samples(count: int) -> list[SungrowSample]:
    """Readings of a living house, 5 s apart."""
    house = living_inverter("SH8.0RT-20", zone=ZoneInfo("UTC"), seed=1, start=_NOW)
    normalizer, jitter = Normalizer("roof"), random.Random(1)
    times = [_NOW + timedelta(seconds=5 * n, milliseconds=jitter.randrange(50)) for n in range(count)]
    return [
        normalizer.normalize(RegisterWords(house.words_at(ts)), ts=ts, interval_s=5 + jitter.random() / 20)
        for ts in times
    ]


def _content(sample: SungrowSample) -> str:
    return sample.model_dump_json(exclude_none=True, exclude={"device_id", "ts"})


# --- appending -------------------------------------------------------------------------------------------


def _appends(folder: Path, samples: Sequence[SungrowSample], contents: list[str]) -> Iterator[Figure]:
    what = f"append {len(contents[0])} B"
    store = SpoolStore(folder / "ours.sqlite", SpoolOptions(), Trusted())
    bare = Bare(folder / "bare.sqlite")
    figure = compare(
        f"{what} / bare sqlite3, WAL, FULL",
        lambda: _append(store, contents[:_READINGS]),
        lambda: bare.insert(contents[:_READINGS]),
        jobs=_READINGS,
        rounds=7,
    )
    yield _with_goal(figure, "<= 1.25")
    bare = Bare(folder / "bare-async.sqlite")
    ours, other = anyio.run(_async_p50, folder / "async.sqlite", samples[:_READINGS], bare, contents)
    yield Figure("the same, await DurableSpool.append(sample), p50 / bare p50", ours, other, ours / other)
    queue = persistqueue.SQLiteQueue(str(folder / "peer"), auto_commit=True)
    yield compare(
        f"{what} / persist-queue",
        lambda: _append(store, contents[:_READINGS]),
        lambda: [queue.put(content) for content in contents[:_READINGS]],
        jobs=_READINGS,
        rounds=3,
    )
    queue.close()
    store.close()


def _append(store: SpoolStore, contents: list[str]) -> None:
    last = store.counts().accepted
    for number, content in enumerate(contents, start=last):
        store.append("roof", _START_MS + 5000 * number, content, boot=None, ts_is_final=True)


async def _async_p50(
    path: Path, samples: Sequence[SungrowSample], bare: Bare, contents: list[str]
) -> tuple[float, float]:
    ours, other = [], []
    async with DurableSpool.open(path, clock=Trusted()) as spool:
        for sample, content in zip(samples, contents, strict=False):
            start = time.perf_counter()
            await spool.append(sample, ts_is_final=True)
            middle = time.perf_counter()
            bare.insert([content])
            ours.append(middle - start)
            other.append(time.perf_counter() - middle)
    return statistics.median(ours) * 1e6, statistics.median(other) * 1e6


class Bare:
    """SQLite with the spool's settings, and nothing else."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.executescript(
            "PRAGMA page_size = 1024; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
            "PRAGMA wal_autocheckpoint = 4000;"
            "CREATE TABLE reading (seq INTEGER PRIMARY KEY, device INTEGER, ts INTEGER, content TEXT)"
        )

    def insert(self, contents: list[str], *, at_once: bool = False) -> None:
        """Store readings, with a commit for each or one for all."""
        if at_once:
            self._connection.execute("BEGIN")
        for content in contents:
            self._connection.execute(
                "INSERT INTO reading (device, ts, content) VALUES (1, ?, ?)", (_START_MS, content)
            )
        if at_once:
            self._connection.execute("COMMIT")

    def drain(self) -> int:
        """Take everything out, batch by batch."""
        total = 0
        while rows := self._connection.execute(
            "SELECT seq, ts, content FROM reading ORDER BY seq LIMIT ?", (_BATCH,)
        ).fetchall():
            self._connection.execute("DELETE FROM reading WHERE seq <= ?", (rows[-1][0],))
            total += len(rows)
        return total


# --- wear ------------------------------------------------------------------------------------------------


def _wear(folder: Path, contents: list[str]) -> Iterator[Figure]:
    """Bytes that reach the disk per reading, commits and folding of the log included."""
    bare = Bare(folder / "wear-bare.sqlite")
    floor = written(lambda: bare.insert(contents * _WEAR_ROUNDS)) / (_WEAR_ROUNDS * len(contents))

    def figure(what: str, job: Callable[[SpoolStore], object], goal: str = "") -> Figure:
        path = folder / "wear.sqlite"
        store = SpoolStore(path, SpoolOptions(), Trusted())
        disk = written(lambda: job(store)) / (_WEAR_ROUNDS * len(contents)) / 1000
        store.close()
        path.unlink()
        return Figure(what, disk, floor / 1000, disk * 1000 / floor, unit="kB", goal=goal)

    yield figure(
        "kB to disk per reading, one commit each / bare",
        lambda s: _append(s, contents * _WEAR_ROUNDS),
        "<= 1.6 (14 kB)",
    )
    yield figure(
        "the same, offered and delivered one by one",
        lambda s: _live(s, contents * _WEAR_ROUNDS),
        "<= 1.6 (14 kB)",
    )
    yield figure(
        "the same, 12 a commit (COMMIT_INTERVAL_S=60)", lambda s: _grouped(s, contents * _WEAR_ROUNDS)
    )


def _live(store: SpoolStore, contents: list[str]) -> None:
    """What an edge does whose server is there: each reading is appended, offered and delivered."""
    store.expect_offers("roof", are_expected=True)
    for number, content in enumerate(contents):
        entry = store.append("roof", _START_MS + 5000 * number, content, boot=None, ts_is_final=True)
        store.offer("roof", 1, Lane.FRESH)
        store.settle_later("roof", Settlement(delivered=[entry.seq]))


def _grouped(store: SpoolStore, contents: list[str]) -> None:
    for first in range(0, len(contents), 12):
        _append_group(store, first, contents[first : first + 12])


def _append_group(store: SpoolStore, first: int, contents: list[str]) -> list[SpoolEntry]:
    stamp = BootStamp("bench", 0)
    return store.append_many(
        [("roof", _START_MS + 5000 * (first + n), content, stamp) for n, content in enumerate(contents)]
    )


def written(job: Callable[[], object]) -> int:
    """Bytes this process sends to the disk meanwhile."""
    before = _io("write_bytes")
    job()
    return _io("write_bytes") - before


def _io(what: str) -> int:
    lines = Path("/proc/self/io").read_text(encoding="ascii").splitlines()
    return next(int(line.partition(":")[2]) for line in lines if line.startswith(f"{what}:"))


# --- draining --------------------------------------------------------------------------------------------


def _drains(folder: Path, contents: list[str]) -> Iterator[Figure]:
    """A month's backlog: read, offered and settled by batches of 500."""
    bare = Bare(folder / "drain-bare.sqlite")
    store = SpoolStore(folder / "drain.sqlite", SpoolOptions(), Trusted())
    for first in range(0, _MONTH, 2_000):
        some = [contents[number % len(contents)] for number in range(2_000)]
        bare.insert(some, at_once=True)
        _fill(store, first, some)
    gc.collect()
    resident = _resident_mb()
    ours = _per_reading(lambda: _drain(store))
    growth = _resident_mb() - resident
    other = _per_reading(bare.drain)
    store.close()
    yield Figure(f"drain {_MONTH} readings / bare select and delete", ours, other, ours / other, goal="<= 2")
    yield Figure("the same, memory it took more", growth, resident, growth / resident, unit="MB")
    peer = _persist_queue(folder / "drain-peer", contents)
    yield Figure("drain / persist-queue", ours, peer, ours / peer, goal="<= 0.02")
    peer = _diskcache(folder / "drain-cache", contents)
    yield Figure("drain / diskcache (which does not sync)", ours, peer, ours / peer)


def _fill(store: SpoolStore, first: int, contents: list[str]) -> None:
    stamp = BootStamp("bench", 0)
    rows = [("roof", _START_MS + 5000 * (first + n), content, stamp) for n, content in enumerate(contents)]
    store.append_many(rows)


def _drain(store: SpoolStore) -> int:
    total = 0
    while batch := store.offer("roof", _BATCH, Lane.BACKLOG, bound=2**60):
        store.settle_later("roof", Settlement(delivered=[entry.seq for entry in batch]))
        total += len(batch)
    assert store.counts().delivered >= total  # and so they are written
    return total


def _per_reading(job: Callable[[], int]) -> float:
    """Microseconds a reading."""
    start = time.perf_counter()
    count = job()
    assert count
    return (time.perf_counter() - start) / count * 1e6


def _persist_queue(folder: Path, contents: list[str]) -> float:
    queue = persistqueue.SQLiteAckQueue(str(folder), auto_commit=True)
    for number in range(_PEER_READINGS):
        queue.put(contents[number % len(contents)])

    def drain() -> int:
        for _ in range(_PEER_READINGS):
            queue.ack(queue.get(block=False))
        return _PEER_READINGS

    try:
        return _per_reading(drain)
    finally:
        queue.close()


def _diskcache(folder: Path, contents: list[str]) -> float:
    deque = diskcache.Deque([contents[n % len(contents)] for n in range(_PEER_READINGS)], str(folder))

    def drain() -> int:
        for _ in range(_PEER_READINGS):
            deque.popleft()
        return _PEER_READINGS

    try:
        return _per_reading(drain)
    finally:
        shutil.rmtree(folder)


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096 / 1e6


# --- on the wire -----------------------------------------------------------------------------------------


def _wire(samples: Sequence[SungrowSample]) -> Figure:
    """Bytes a reading takes in a batch of a backlog, compressed as the uploader does."""
    chosen = [_only(sample, _FIELDS) for sample in samples]
    body = f'{{"samples":[{",".join(sample.to_json() for sample in chosen)}]}}'
    sent = len(compress([body], "zstd")[0]) / len(chosen)
    plain = len(body) / len(chosen)
    return Figure(
        f"wire: {_FIELDS} fields, {_BATCH} a batch, zstd / plain",
        sent,
        plain,
        sent / plain,
        unit="B",
        goal="<= 90 B",
    )


def _only(sample: SungrowSample, fields: int) -> SungrowSample:
    """The reading with so many of its fields."""
    content: dict[str, Any] = dict(list(sample.content().items())[:fields])
    return SungrowSample.model_validate({"device_id": sample.device_id, "ts": sample.ts, **content})


def _with_goal(figure: Figure, goal: str) -> Figure:
    return Figure(figure.what, figure.ours, figure.other, figure.ratio, figure.unit, goal)
