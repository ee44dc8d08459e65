"""Ingest over HTTP, answered after the commit: against the plain way to the same database, and a peer.

The floor does for each request one `INSERT .. ON CONFLICT DO NOTHING`, its JSON taken apart by PostgreSQL, on
a bare aiohttp handler without any checks or rollups. The peer is VictoriaMetrics' JSON import (Debian package
`victoria-metrics`), where it is installed; it answers before the readings are on the disk. Our
server runs a worker for each core, as the peer uses all of them; the floor's work is done by PostgreSQL.
Rollups are made while readings come, and the peer merges its parts while and after they come: what is
left of either when a slice ends is waited for, so that no other one pays for it. Slices are long enough that
what is put off for a second or two falls into them, too.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import uvloop

from benchmarks.load import request, send
from benchmarks.measure import Figure, cpu_s
from reference_server.storage.migrations import migrate
from sungrow_lib.demo.postgres import EmbeddedPostgres
from sungrow_lib.quantities import QUANTITIES, Quantity, QuantityKind, Tier
from sungrow_lib.sample import format_ts

_CONNECTIONS = 64
_SLICE_S = 3.0
_SLICES = 6  # the first of them does not count
_LIVE = 1  # an edge sends each reading when it is there
_BATCHES = (30, 1000)
_PREPARED = {_LIVE: 400, 30: 240, 1000: 12}  # batches of each device, by size: more than are sent in a slice
_TOKEN = "benchmark-token-0123456789"
_HEADERS = {"Authorization": f"Bearer {_TOKEN}", "Content-Type": "application/json"}
_LOADS = ("a", "b", "c", "d", "e")
_START = datetime.now(UTC) - timedelta(days=300)
_STEP = timedelta(seconds=5)
_START_LIMIT_S = 20.0
_REST_LIMIT_S = 300.0
_IDLE_S = 0.5
_IDLE_SHARE = 0.1  # of a core: less is what a process that has nothing to do takes
MEMORY_GOAL_KB = 120 * 1024
_PEER = "victoria-metrics"
_NOT_POLLED = {"sample_count", "clock_source", "running_time_total_h"}


@dataclass(frozen=True, slots=True)
class Target:
    """What takes readings over HTTP.

    Attributes:
        url: where to send them.
        body: makes the body of a batch of a device: its name, first step and length.
        answer: what an answer must hold, so that nothing refused is counted.
        rest: waits until it has nothing left to do.
    """

    url: str
    body: Callable[[str, int, int], bytes]
    answer: bytes = b""
    rest: Callable[[], None] = lambda: None


class Load:
    """Readings for a target, each device on a connection of its own.

    Args:
        target: where to send them.
        size: readings in a batch.
        name: what its devices' names begin with.
    """

    def __init__(self, target: Target, size: int, name: str) -> None:
        self._target = target
        self._size = size
        self._name = f"{name}{size}"
        self._sent: list[list[range]] = [[range(0)] * _CONNECTIONS]
        self._again: Iterator[list[range]] = iter(())

    def cost_us(self) -> float:
        """Send for a while; return microseconds per sample answered."""
        batches = next(self._again, None)
        if batches is None:
            batches = [range(sent.stop, sent.stop + _PREPARED[self._size]) for sent in self._sent[-1]]
        requests = [[self._request(device, n) for n in numbers] for device, numbers in enumerate(batches)]
        answered, took_s = uvloop.run(send(self._target.url, requests, self._target.answer, _SLICE_S))
        self._sent.append([numbers[:count] for numbers, count in zip(batches, answered, strict=True)])
        self._target.rest()
        return took_s / (sum(answered) * self._size) * 1e6

    def _request(self, device: int, number: int) -> bytes:
        body = self._target.body(f"{self._name}-{device}", number * self._size, self._size)
        return request(self._target.url, _HEADERS, body)

    def rewind(self) -> None:
        """Send the same readings again from now on, slice by slice."""
        self._again = iter(self._sent[1:])


def run() -> Iterator[Figure]:
    """Yield the figures."""
    with tempfile.TemporaryDirectory() as folder, EmbeddedPostgres(Path(folder) / "pg") as cluster:
        migrate(cluster.dsn)
        with _ours(cluster.dsn) as ours, _floor(cluster.dsn) as floor, _peer(folder) as peer:
            yield _against_insert(_LIVE, Load(ours, _LIVE, "a"), floor)
            for size in _BATCHES:
                yield from _figures(size, ours, floor, peer)
                yield _most_memory(size, ours)  # the smaller batches come first


def _most_memory(size: int, ours: Target) -> Figure:
    most_kb = largest_kb(urlsplit(ours.url).port, "VmHWM")
    what = f"most memory of a worker, up to {size} a batch / 120 MB"
    return Figure(what, most_kb, MEMORY_GOAL_KB, most_kb / MEMORY_GOAL_KB, unit="kB", goal="<= 1")


def _figures(size: int, ours: Target, floor: Target, peer: Target | None) -> Iterator[Figure]:
    new = Load(ours, size, "a")
    yield _against_insert(size, new, floor, "<= 0.5" if size == _BATCHES[0] else "")
    new.rewind()
    yield _compare(f"sample sent again, {size} a batch / new", new, Load(ours, size, "b"), "<= 1")
    full = replace(ours, body=partial(_samples, poll="full"))
    yield _compare(f"full poll, {size} a batch / fast poll", Load(full, size, "d"), Load(ours, size, "e"))
    if peer is None:
        print(f"({_PEER} is not on this machine: no comparison with it)")
        return
    what = f"sample, {size} a batch / VictoriaMetrics"
    goal = "<= 1.25" if size == _BATCHES[0] else "<= 1"
    yield _compare(what, Load(ours, size, "c"), Load(peer, size, "c"), goal)


def _against_insert(size: int, ours: Load, floor: Target, goal: str = "") -> Figure:
    return _compare(f"sample, {size} a batch / INSERT .. ON CONFLICT", ours, Load(floor, size, "a"), goal)


def _compare(what: str, one: Load, other: Load, goal: str = "") -> Figure:
    """Load both in turn, so that a machine that slows down slows both."""
    pairs = [(one.cost_us(), other.cost_us()) for _ in range(_SLICES)][1:]
    ours, others = zip(*pairs, strict=True)
    ratio = statistics.median(mine / its for mine, its in pairs)
    return Figure(what, statistics.median(ours), statistics.median(others), ratio, goal=goal)


# ------------------------------------------------------------------------------------------ the readings


def _content(dice: random.Random, tiers: Collection[Tier] = (Tier.FAST,)) -> dict[str, Any]:
    """What a poll of these tiers of a hybrid inverter reads, the fast one unless told otherwise."""
    return {
        quantity.name: _value(quantity, dice)
        for quantity in QUANTITIES
        if quantity.tier in tiers and quantity.name not in _NOT_POLLED
    }


def _value(quantity: Quantity, dice: random.Random) -> Any:
    if quantity.kind is QuantityKind.STATE:
        return "Running"
    if quantity.kind is QuantityKind.CODES:
        return []
    if quantity.name in _COUNTERS:
        return _COUNT
    most = min(quantity.high, 900)
    values = [quantity.from_steps(dice.randint(0, round(most * quantity.factor))) for _ in range(3)]
    if quantity.length is None:
        return values[0]
    return values[:2] if quantity.name.startswith("mppt") else values


def _count(step: int) -> str:
    """Text of what the counters show: at 5 kW, 0.1 kWh more in 14 polls.

    A counter that showed anything at random would be damaged, and each of its jumps be written down.
    """
    return f"{1000 + step // 14 / 10:.1f}"


_COUNTERS = {q.name for q in QUANTITIES if q.kind in {QuantityKind.COUNTER, QuantityKind.DAILY_COUNTER}}
_COUNT = 1234.5  # stands for what they show: no other number is as large
_DICE = random.Random(1)
_CONTENTS = [_content(_DICE) for _ in range(50)]


def _tail(content: dict[str, Any]) -> str:
    return f'",{json.dumps(content, separators=(",", ":"))[1:]}'


_TAILS = {
    "fast": list(map(_tail, _CONTENTS)),
    "full": [_tail(_content(_DICE, (Tier.FAST, Tier.SLOW))) for _ in range(50)],
}


def _samples(
    device: str, first: int, length: int, *, envelope: str = '{"samples":[%s]}', poll: str = "fast"
) -> bytes:
    head = f'{{"device_id":"{device}","ts":"'
    items = (head + _reading(poll, n, step) for n, step in enumerate(range(first, first + length)))
    return (envelope % ",".join(items)).encode()


@lru_cache(maxsize=32_768)  # all devices send the same in a slice
def _reading(poll: str, number: int, step: int) -> str:
    tails = _TAILS[poll]
    ts = format_ts(_START.replace(microsecond=0) + _STEP * step)
    return ts + tails[number % len(tails)].replace(str(_COUNT), _count(step))


def _series(device: str, first: int, length: int) -> bytes:
    """The same numbers as VictoriaMetrics imports them: one line for each series."""
    return _lines(first, length).replace(_DEVICE, device).encode()


_DEVICE = "a device"


@lru_cache(maxsize=512)  # all devices send the same in a slice
def _lines(first: int, length: int) -> str:
    start = int(_START.timestamp()) * 1000
    stamps = str([start + 5000 * step for step in range(first, first + length)])
    counts = f"[{','.join(map(_count, range(first, first + length)))}]"
    lines = []
    for name, values in _numbers(length).items():
        labels = f'{{"__name__":"{name}","device":"{_DEVICE}"}}'
        shown = counts if name in _COUNTERS else values
        lines.append(f'{{"metric":{labels},"values":{shown},"timestamps":{stamps}}}')
    return "\n".join(lines)


@cache
def _numbers(length: int) -> dict[str, str]:
    flat = [_flat(content) for content in _CONTENTS]
    return {name: str([flat[n % len(flat)][name] for n in range(length)]) for name in flat[0]}


def _flat(content: dict[str, Any]) -> dict[str, float]:
    numbers: dict[str, float] = {}
    for name, value in content.items():
        if isinstance(value, list):
            numbers |= {f"{name}_{n}": item for n, item in enumerate(value, 1)}
        elif not isinstance(value, str):
            numbers[name] = value
    return numbers


# ------------------------------------------------------------------------------------------ the targets


@contextmanager
def _ours(dsn: str) -> Iterator[Target]:
    port = _free_port()
    devices = (f"{name}{size}-{n}" for name in _LOADS for size in _PREPARED for n in range(_CONNECTIONS))
    settings = {
        "DATABASE_URL": dsn,
        "LISTEN_PORT": str(port),
        "WORKERS": str(os.cpu_count() or 1),
        "DEVICE_TOKENS": ",".join(f"{_TOKEN}:{device}" for device in devices),
        "REFRESH_INTERVAL_S": "0.2",  # a slice is short: so rollups are made in each
    }
    with _running([sys.executable, "-m", "reference_server", "run"], settings, port, "/health"):
        yield Target(
            f"http://127.0.0.1:{port}/v1/ingest",
            _samples,
            b'"conflicts":[],"rejected":[],"deferred":[]',
            partial(_wait_for_rollups, dsn),
        )


def largest_kb(port: int | None, which: str) -> int:
    """Memory of the largest process of the server on a port: what it has (VmRSS), or had at most (VmHWM)."""
    found = [0]
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"LISTEN_PORT={port}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                status = (folder / "status").read_text()
                found.append(int(status.partition(f"{which}:")[2].split()[0]))
        except (OSError, IndexError):
            continue
    return max(found)


def _wait_for_rollups(dsn: str) -> None:
    end = time.monotonic() + _REST_LIMIT_S
    with psycopg.connect(dsn, autocommit=True) as connection:
        while connection.execute("SELECT FROM rollup_marks LIMIT 1").fetchone() is not None:
            if time.monotonic() > end:
                raise SystemExit("the rollups are not made")
            time.sleep(0.05)


@contextmanager
def _floor(dsn: str) -> Iterator[Target]:
    port = _free_port()
    names = json.dumps({name: _sql_type(value) for name, value in _CONTENTS[0].items()})
    command = [sys.executable, "-m", "benchmarks.ingest_floor", dsn, str(port), names]
    with _running(command, {}, port, "/"):
        yield Target(f"http://127.0.0.1:{port}/", partial(_samples, envelope="[%s]"))


def _sql_type(value: Any) -> str:
    if isinstance(value, str):
        return "text"
    return "float4[]" if isinstance(value, list) else "float4"


@contextmanager
def _peer(folder: str) -> Iterator[Target | None]:
    program = shutil.which(_PEER)
    if program is None:
        yield None
        return
    port = _free_port()
    command = [program, f"-storageDataPath={folder}/vm", f"-httpListenAddr=127.0.0.1:{port}"]
    command.append("-retentionPeriod=24")  # months
    with _running(command, {}, port, "/health") as process:
        rest = partial(_wait_for_idle, process.pid)
        yield Target(f"http://127.0.0.1:{port}/api/v1/import", _series, rest=rest)


def _wait_for_idle(pid: int) -> None:
    """Wait until a process takes no more of the processor than one that has nothing to do."""
    end = time.monotonic() + _REST_LIMIT_S
    before = cpu_s(pid)
    while True:
        time.sleep(_IDLE_S)
        now = cpu_s(pid)
        if now - before <= _IDLE_S * _IDLE_SHARE:
            return
        if time.monotonic() > end:
            raise SystemExit(f"process {pid} does not come to rest")
        before = now


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def _running(
    command: list[str], settings: dict[str, str], port: int, path: str
) -> Iterator[subprocess.Popen[bytes]]:
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, env=os.environ | settings, stdout=quiet, stderr=quiet) as process:
        try:
            _wait(f"http://127.0.0.1:{port}{path}", process)
            yield process
        finally:
            process.terminate()


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + _START_LIMIT_S
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError as error:
            if time.monotonic() > end or process.poll() is not None:
                raise SystemExit(f"{process.args!r} does not answer: {error}") from error
            time.sleep(0.1)
