"""What is asked of the server: realtime, series over ten years, a thousand listeners, memory.

Realtime is compared with a handler that does nothing, on the same loop; series with the best statement for
the same buckets that could be written by hand, where ours is timed up to the last byte of its JSON; delay and
memory with what they have to stay below. All of it on the event loop that the server runs on.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import repeat
from pathlib import Path

import aiohttp
import psycopg
import uvloop
from aiohttp import web

from benchmarks.history import PLANT, fill
from benchmarks.ingest import _CONTENTS, MEMORY_GOAL_KB, _free_port, _running, largest_kb
from benchmarks.load import request, send
from benchmarks.measure import Figure
from reference_server.app import make_runner
from reference_server.config import ServerSettings
from reference_server.server import Server
from reference_server.storage.devices import KnownDevice
from reference_server.storage.migrations import migrate
from sungrow_lib.demo.postgres import EmbeddedPostgres
from sungrow_lib.sample import format_ts
from sungrow_lib.wire.answers import Frame

_TOKEN = "benchmark-token-0123456789"
_HEADERS = {"Authorization": f"Bearer {_TOKEN}"}
_CLIENTS = 16
_ROUNDS = 7
_SLICE_S = 0.5
_LISTENERS = 1000
_SENDS = 20


def run() -> Iterator[Figure]:
    """Yield the figures."""
    with tempfile.TemporaryDirectory() as folder, EmbeddedPostgres(Path(folder) / "pg") as cluster:
        migrate(cluster.dsn)
        yield uvloop.run(_realtime(cluster.dsn))
        yield from uvloop.run(_listeners(cluster.dsn))
        yield from _series(cluster.dsn)


# ---------------------------------------------------------------------------------------------- realtime


@asynccontextmanager
async def _serving(dsn: str) -> AsyncIterator[str]:
    """A server in this process, with a handler beside it that does nothing."""
    settings = ServerSettings(database_url=dsn, device_tokens=f"{_TOKEN}:roof")
    runner = make_runner(Server.from_settings(settings))
    empty = web.Application()

    async def nothing(_request: web.Request) -> web.Response:
        return web.Response()

    empty.router.add_get("/", nothing)
    other = web.AppRunner(empty, access_log=None)
    for each in (runner, other):
        await each.setup()
        await web.TCPSite(each, "127.0.0.1", 0).start()
    try:
        yield " ".join(f"http://127.0.0.1:{each.addresses[0][1]}" for each in (runner, other))
    finally:
        await runner.cleanup()
        await other.cleanup()


async def _cost_us(url: str, answer: bytes) -> float:
    """Ask for a while; microseconds per request, client included."""
    asked = repeat(request(url, _HEADERS))
    answered, took_s = await send(url, [asked] * _CLIENTS, answer, _SLICE_S)
    return took_s / sum(answered) * 1e6


async def _realtime(dsn: str) -> Figure:
    async with _serving(dsn) as urls, aiohttp.ClientSession(headers=_HEADERS) as session:
        ours, empty = urls.split()
        await _send(session, ours, datetime.now(UTC))
        pairs = [
            (await _cost_us(f"{ours}/v1/realtime", b'"age_s"'), await _cost_us(f"{empty}/", b""))
            for _ in range(_ROUNDS)
        ][1:]
    mine, others = zip(*pairs, strict=True)
    ratio = statistics.median(one / two for one, two in pairs)
    what = "realtime, signed in, client included / empty handler"
    return Figure(what, statistics.median(mine), statistics.median(others), ratio, goal="<= 1.67")


async def _send(session: aiohttp.ClientSession, url: str, ts: datetime) -> float:
    """Store a reading; return when its commit was answered."""
    reading = _CONTENTS[0] | {"device_id": "roof", "ts": format_ts(ts)}
    async with session.post(f"{url}/v1/ingest", json={"samples": [reading]}) as answer:
        body = await answer.json()
        assert body["inserted"] == 1, body
    return time.perf_counter()


# --------------------------------------------------------------------------------------------- listeners


async def _listeners(dsn: str) -> Iterator[Figure]:
    """A thousand streams of one device on a server of its own: how late are they, how large is it."""
    port = _free_port()
    settings = {"DATABASE_URL": dsn, "LISTEN_PORT": str(port), "DEVICE_TOKENS": f"{_TOKEN}:roof"}
    command = [sys.executable, "-m", "reference_server", "run"]
    url = f"http://127.0.0.1:{port}"
    with _running(command, settings, port, "/health"):
        connector = aiohttp.TCPConnector(limit=0)
        timeout = aiohttp.ClientTimeout(total=None)
        async with aiohttp.ClientSession(headers=_HEADERS, connector=connector, timeout=timeout) as session:
            delays_s = await _delays(session, url)
            rss_kb = largest_kb(port, "VmRSS")
    p99_s = statistics.quantiles(delays_s, n=100)[98]
    what = f"{_LISTENERS} listeners, commit to delivery, p99 / 1 s"
    return iter(
        [
            Figure(what, p99_s * 1e6, 1e6, p99_s, goal="<= 1"),
            Figure(
                "memory of the worker that feeds them / 120 MB",
                rss_kb,
                MEMORY_GOAL_KB,
                rss_kb / MEMORY_GOAL_KB,
                unit="kB",
                goal="<= 1",
            ),
        ]
    )


async def _delays(session: aiohttp.ClientSession, url: str) -> list[float]:
    start = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=1)
    committed: dict[str, float] = {}
    heard: list[tuple[str, float]] = []
    opened = asyncio.Semaphore(0)

    async def listen() -> None:
        async with session.get(f"{url}/v1/stream") as answer:
            opened.release()
            count = 0
            async for line in answer.content:
                if line.startswith(b"data:"):
                    heard.append((json.loads(line[5:])["ts"], time.perf_counter()))
                    count += 1
                    if count == _SENDS:
                        return

    listening = [asyncio.create_task(listen()) for _ in range(_LISTENERS)]
    for _ in listening:
        await opened.acquire()
    for number in range(_SENDS):
        ts = start + timedelta(milliseconds=number)
        committed[format_ts(ts)] = await _send(session, url, ts)
        await asyncio.sleep(_SLICE_S)
    await asyncio.gather(*listening)
    return [max(0.0, at - committed[ts]) for ts, at in heard if ts in committed]


# ------------------------------------------------------------------------------------------------ series

_BY_HAND = {
    "day": (
        "SELECT date_trunc('hour', bucket), {sums} FROM rollup_15m "
        "WHERE device = %(device)s AND bucket >= %(today)s AND bucket < %(today)s + interval '1 day' "
        "GROUP BY 1"
    ),
    "month": (
        "SELECT day, {sums} FROM rollup_day WHERE device = %(device)s "
        "AND day >= date_trunc('month', %(today)s)::date AND day <= %(today)s::date GROUP BY 1"
    ),
    "year": (
        "SELECT date_trunc('month', day), {sums} FROM rollup_day WHERE device = %(device)s "
        "AND day >= date_trunc('year', %(today)s)::date AND day <= %(today)s::date GROUP BY 1"
    ),
    "all": "SELECT date_trunc('month', day), {sums} FROM rollup_day WHERE device = %(device)s GROUP BY 1",
}
_FIVES = 288
_FIVES_BY_HAND = (
    "SELECT date_bin('5 min', ts, 'epoch'), {sums} FROM ("
    "SELECT *, extract(epoch FROM ts - lag(ts) OVER (ORDER BY ts)) AS dt FROM samples "
    "WHERE device = %(device)s AND ts >= %(begin)s AND ts < %(end)s) AS readings GROUP BY 1"
)
_DRAWN = ["pv_power_w", "load_power_w", "battery_power_w", "export_power_w", "battery_soc_pct"]
_WANTED = [
    "pv_power_w_sum",
    "pv_power_w_ms",
    "pv_power_w_max",
    "battery_power_w_sum",
    "battery_power_w_ms",
    "battery_soc_pct_sum",
    "battery_soc_pct_ms",
    "load_power_w_sum",
    "load_power_w_ms",
    "export_power_w_sum",
    "export_power_w_ms",
    "pv_total_kwh_increase",
    "import_total_kwh_increase",
    "export_total_kwh_increase",
    "battery_charge_total_kwh_increase",
    "battery_discharge_total_kwh_increase",
    "sample_count",
    "covered_ms",
]


def _series(dsn: str) -> Iterator[Figure]:
    """Ten years of one device among others; its answer against the bare statement, and how late it is."""
    device = uvloop.run(fill(dsn))
    return iter(uvloop.run(_series_figures(dsn, device)))


async def _series_figures(dsn: str, device: int) -> list[Figure]:
    figures = []
    settings = ServerSettings(database_url=dsn, device_tokens=f"{_TOKEN}:roof")
    server = Server.from_settings(settings)
    await server.database.open()
    known = (await server.devices.find(["roof"]))["roof"]
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    sums = ", ".join(f"{'max' if name.endswith('_max') else 'sum'}({name})" for name in _WANTED)
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        for frame, by_hand in _BY_HAND.items():
            statement = by_hand.format(sums=sums).encode()

            async def hand(statement: bytes = statement) -> None:
                cursor = await connection.execute(statement, {"device": device, "today": today})
                await cursor.fetchall()

            async def ours(frame: str = frame) -> None:
                sheet = await server.series.frame(known, Frame(frame), None, None)
                b"".join([chunk async for chunk in sheet.json()])

            figures += await _pairs(f"series, {frame}", ours, hand)
        figures += await _fives_figures(server, known, connection)
    figures += await _plant_figures(server)
    await server.database.close()
    return figures + [await _restarted_figure(settings, frame) for frame in _BY_HAND]


async def _fives_figures(
    server: Server, known: KnownDevice, connection: psycopg.AsyncConnection
) -> list[Figure]:
    """Yesterday in buckets of five minutes, made of readings: what the page draws of a recent day."""
    end = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    begin = end - timedelta(days=1)
    fields = [f"avg_{name}" for name in _DRAWN]
    sums = ", ".join(f"sum({name} * dt), sum(dt) FILTER (WHERE {name} IS NOT NULL)" for name in _DRAWN)
    statement = _FIVES_BY_HAND.format(sums=sums).encode()

    async def hand() -> None:
        cursor = await connection.execute(statement, {"device": known.key, "begin": begin, "end": end})
        assert len(await cursor.fetchall()) == _FIVES

    async def ours() -> None:
        sheet = await server.series.range(known, begin, end, "5m", fields)
        body = b"".join([chunk async for chunk in sheet.json()])
        assert body.count(b'"coverage":1.0') >= _FIVES - 1

    return await _pairs("a day in 5 min, of 17,280 readings", ours, hand, has_goal=False)


async def _restarted_figure(settings: ServerSettings, frame: str) -> Figure:
    """The first answer of servers that have just been started, on a database that kept what was over."""
    times_us = []
    for _ in range(_ROUNDS):
        server = Server.from_settings(settings)
        await server.database.open()
        found = await server.devices.find(PLANT)
        devices = [found[name] for name in PLANT]
        times_us.append(await _time_us(partial(_plant_answer, server, devices, frame)))
        await server.database.close()
    median_us = statistics.median(times_us)
    what = f"plant of three, {frame}, first answer of a server / 300 ms"
    return Figure(what, median_us, 300_000, median_us / 300_000, goal="<= 1")


async def _plant_answer(server: Server, devices: Sequence[KnownDevice], frame: str) -> None:
    sheet = await server.plant_series.frame("home", devices, Frame(frame), None)
    b"".join([chunk async for chunk in sheet.json()])


async def _plant_figures(server: Server) -> list[Figure]:
    """Three devices together, over the same ten years."""
    found = await server.devices.find(PLANT)
    devices = [found[name] for name in PLANT]
    figures = []
    for frame in _BY_HAND:
        ours = partial(_plant_answer, server, devices, frame)
        first_us = await _time_us(ours)
        figures.append(
            Figure(f"plant of three, {frame}, first answer / 50 ms", first_us, 50_000, first_us / 50_000)
        )
        for _ in range(6):
            await ours()
        p95_us = statistics.quantiles([await _time_us(ours) for _ in range(60)], n=20)[18]
        figures.append(
            Figure(f"plant of three, {frame}, p95 / 50 ms", p95_us, 50_000, p95_us / 50_000, goal="<= 1")
        )
    return figures


async def _pairs(
    what: str,
    ours: Callable[[], Awaitable[None]],
    hand: Callable[[], Awaitable[None]],
    *,
    has_goal: bool = True,
) -> list[Figure]:
    for _ in range(6):  # PostgreSQL keeps the plan of what it was asked five times
        await ours()
        await hand()
    pairs = [(await _time_us(ours), await _time_us(hand)) for _ in range(60)]
    mine, others = zip(*pairs, strict=True)
    p95_us = statistics.quantiles(mine, n=20)[18]
    ratio = statistics.median(mine) / statistics.median(others)
    against = "statement by hand"
    times_us = statistics.median(mine), statistics.median(others)
    goals = ("<= 1.5", "<= 1") if has_goal else ("", "")
    return [
        Figure(f"{what} / {against}", *times_us, ratio, goal=goals[0]),
        Figure(f"{what}, p95 / 50 ms", p95_us, 50_000, p95_us / 50_000, goal=goals[1]),
    ]


async def _time_us(job: Callable[[], Awaitable[None]]) -> float:
    begin = time.perf_counter()
    await job()
    return (time.perf_counter() - begin) * 1e6
