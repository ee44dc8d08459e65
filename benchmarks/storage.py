"""Disk for a reading: in PostgreSQL, in TimescaleDB once compressed, in the edge's spool; against its JSON.

And for what stays when readings have gone (`kept.py`), against those.

A day and night of the simulated hybrid as an edge reads it: fast fields every five seconds, the others when
they are due. The database gets it for several devices, as one alone would bear all that a chunk costs by
itself. TimescaleDB is measured where `SUNGROW_TEST_TIMESCALEDB_DSN` names one.
"""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import aiohttp
import psycopg
from psycopg.conninfo import make_conninfo

from benchmarks import kept
from benchmarks.measure import Figure
from reference_server.storage.migrations import migrate
from sungrow_lib.demo.postgres import EmbeddedPostgres
from sungrow_lib.demo.processes import Child, python, wait_until
from sungrow_lib.demo.setup import clean_environment, free_ports, is_listening
from sungrow_lib.modbus.learning import IDENTITY_INTERVAL_S, SLOW_INTERVAL_S
from sungrow_lib.normalizer import Normalizer
from sungrow_lib.quantities import QUANTITIES, Tier
from sungrow_lib.sample import SungrowSample
from sungrow_lib.simulator.images import living_inverter
from sungrow_lib.spool import DurableSpool

_STEP = timedelta(seconds=5)
_LENGTH = timedelta(days=1)
_JITTER_MS = 40  # between arrivals
_EVERY = {Tier.SLOW: SLOW_INTERVAL_S, Tier.IDENTITY: IDENTITY_INTERVAL_S}
_DEVICES = ("roof", "barn", "shed", "yard")
_BATCH = 1000
_TOKEN = "benchmark-token-0123456789"
_EXTENSION = "CREATE EXTENSION timescaledb"
_COMPRESS = "SELECT compress_chunk(chunk) FROM show_chunks('samples') AS chunk"
_HYPERTABLE = "SELECT hypertable_size('samples')"
_TABLE = "SELECT pg_total_relation_size('samples')"
_GOAL = "<= 200 B"
_COMPRESSED_GOAL = "<= 25 B"


def run() -> Iterator[Figure]:
    """Yield bytes a reading takes, against the bytes of its JSON; and those of rollups, against readings'."""
    samples = _day()
    as_json = sum(len(sample.model_dump_json(exclude_none=True)) for sample in samples) // len(samples)
    with tempfile.TemporaryDirectory() as folder:
        with EmbeddedPostgres(Path(folder) / "pg") as cluster:
            [size], rollups = _stored(cluster.dsn, samples, [_TABLE])
            yield _figure("PostgreSQL with its index", size, as_json, _GOAL)
            yield from _rollups("PostgreSQL", rollups, size, "of its readings")
        dsn = os.environ.get("SUNGROW_TEST_TIMESCALEDB_DSN")
        if dsn:
            (size, compressed), rollups = _stored(
                dsn, samples, [_HYPERTABLE, _COMPRESS, _HYPERTABLE], first=_EXTENSION
            )
            yield _figure("TimescaleDB with its index", size, as_json, _GOAL)
            yield _figure("TimescaleDB, compressed", compressed, as_json, _COMPRESSED_GOAL)
            yield from _rollups("TimescaleDB", rollups, compressed, "of its readings, compressed")
        size = asyncio.run(_spooled(Path(folder) / "spool.sqlite", samples))
        yield _figure("the spool", size, as_json)


def _rollups(where: str, per_day: Mapping[str, float], reading: int, against: str) -> Iterator[Figure]:
    """Compare a row of each rollup, and a day of each aggregate, with the readings it is made of."""
    for name, size in per_day.items():
        table, comma, how = name.partition(",")
        count = kept.ROLLUPS.get(table, 1)
        what = f"bytes of a {'row' if table in kept.ROLLUPS else 'day'} of {table} in {where}{comma}{how}"
        readings = round(_LENGTH / _STEP / count) * reading
        yield Figure.count(f"{what} / {against}", round(size / count), readings)


def _figure(where: str, size: int, as_json: int, goal: str = "") -> Figure:
    return Figure(
        f"bytes of a reading in {where} / as JSON", size, as_json, size / as_json, unit="", goal=goal
    )


def _day() -> list[SungrowSample]:
    dice = random.Random(1)
    start = (datetime.now(UTC) - timedelta(days=3)).replace(hour=0, minute=0, second=0, microsecond=0)
    inverter = living_inverter("SH8.0RT-20", zone=ZoneInfo("UTC"), seed=1, start=start)
    normalizer = Normalizer("roof")
    samples = []
    for number in range(int(_LENGTH / _STEP)):
        ts = start + number * _STEP + timedelta(milliseconds=dice.randrange(_JITTER_MS))
        sample = normalizer.normalize(inverter.words_at(ts), ts=ts, interval_s=5.0)
        samples.append(sample.model_copy(update=dict.fromkeys(_not_read(number))))
    return samples


def _not_read(number: int) -> Iterator[str]:
    """Fields that this poll of the day does not ask for."""
    later = {tier for tier, every_s in _EVERY.items() if number % int(every_s / _STEP.total_seconds())}
    return (quantity.name for quantity in QUANTITIES if quantity.tier in later)


def _stored(
    engine: str, samples: Sequence[SungrowSample], statements: Sequence[str], *, first: str = ""
) -> tuple[list[int], dict[str, float]]:
    """Store a day of each device.

    Returns:
        Bytes for each reading, as each statement that measures has it; and of each rollup, for a day.
    """
    name = f"bench_{secrets.token_hex(4)}"
    with psycopg.connect(engine, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
        try:
            dsn = make_conninfo(engine, dbname=name)
            if first:
                with psycopg.connect(dsn, autocommit=True) as database:
                    database.execute(first.encode())
            migrate(dsn)
            with _server(dsn) as url:
                asyncio.run(_send(url, samples))
            sizes = _measured(dsn, statements, len(samples) * len(_DEVICES))
            return sizes, kept.bytes_per_day(dsn)
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def _measured(dsn: str, statements: Sequence[str], count: int) -> list[int]:
    sizes = []
    with psycopg.connect(dsn, autocommit=True) as database:
        for statement in statements:
            row = database.execute(statement.encode()).fetchone()
            if statement is not _COMPRESS:
                assert row is not None
                sizes.append(round(row[0] / count))
    return sizes


@contextmanager
def _server(dsn: str) -> Iterator[str]:
    [port] = free_ports(1)
    environment = clean_environment() | {
        "DATABASE_URL": dsn,
        "DEVICE_TOKENS": ",".join(f"{_TOKEN}:{device}" for device in _DEVICES),
        "LISTEN_PORT": str(port),
    }
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "server.log"
        child = Child("the server", python("reference_server", "run"), log, environment=environment)
        try:
            wait_until("the server", lambda: is_listening(port), timeout_s=30, watched=[child])
            yield f"http://127.0.0.1:{port}/v1/ingest"
        finally:
            child.stop(10)


async def _send(url: str, samples: Sequence[SungrowSample]) -> None:
    headers = {"Authorization": f"Bearer {_TOKEN}", "Content-Type": "application/json"}
    async with aiohttp.ClientSession(headers=headers) as session:
        for first in range(0, len(samples), _BATCH):
            batch = samples[first : first + _BATCH]
            for device in _DEVICES:  # in turn, as they do arrive
                await _post(
                    session, url, [sample.model_copy(update={"device_id": device}) for sample in batch]
                )


async def _post(session: aiohttp.ClientSession, url: str, batch: Sequence[SungrowSample]) -> None:
    rows = ",".join(sample.model_dump_json(exclude_none=True) for sample in batch)
    async with session.post(url, data=f'{{"samples":[{rows}]}}'.encode()) as answer:
        stored = (await answer.json())["inserted"]
    assert stored == len(batch)


async def _spooled(path: Path, samples: Sequence[SungrowSample]) -> int:
    async with DurableSpool.open(path) as spool:
        for sample in samples:
            await spool.append(sample, ts_is_final=True)
        return (await spool.counts()).bytes // len(samples)
