"""Disk for a reading: in PostgreSQL, in TimescaleDB once compressed, in the edge's spool; against its JSON.

Half a day of the simulated hybrid, every five seconds, read from its registers like any other. TimescaleDB is
measured where `SUNGROW_TEST_TIMESCALEDB_DSN` names one.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import aiohttp
import psycopg
from psycopg.conninfo import make_conninfo

from benchmarks.measure import Figure
from reference_server.storage.migrations import migrate
from sungrow_lib.demo.postgres import EmbeddedPostgres
from sungrow_lib.demo.processes import Child, python, wait_until
from sungrow_lib.demo.setup import clean_environment, free_ports, is_listening
from sungrow_lib.normalizer import Normalizer
from sungrow_lib.sample import SungrowSample
from sungrow_lib.simulator.images import living_inverter
from sungrow_lib.spool import DurableSpool

_STEP = timedelta(seconds=5)
_LENGTH = timedelta(hours=12)
_BATCH = 1000
_TOKEN = "benchmark-token-0123456789"
_COMPRESS = "SELECT compress_chunk(chunk) FROM show_chunks('samples') AS chunk"
_HYPERTABLE = "SELECT hypertable_size('samples')"
_TABLE = "SELECT pg_total_relation_size('samples')"


def run() -> Iterator[Figure]:
    """Yield bytes a reading takes, against the bytes of its JSON."""
    samples = _half_a_day()
    json_bytes = sum(len(sample.model_dump_json(exclude_none=True)) for sample in samples) // len(samples)
    with tempfile.TemporaryDirectory() as folder:
        with EmbeddedPostgres(Path(folder) / "pg") as cluster:
            size = _stored(cluster.dsn, samples)
            yield Figure.count("bytes of a reading in PostgreSQL / as JSON", size, json_bytes)
        dsn = os.environ.get("SUNGROW_TEST_TIMESCALEDB_DSN")
        if dsn:
            size = _stored(dsn, samples, compress=True)
            yield Figure.count("bytes of a reading in TimescaleDB, compressed / as JSON", size, json_bytes)
        size = asyncio.run(_spooled(Path(folder) / "spool.sqlite", samples))
        yield Figure.count("bytes of a reading in the spool / as JSON", size, json_bytes)


def _half_a_day() -> list[SungrowSample]:
    start = (datetime.now(UTC) - timedelta(days=3)).replace(hour=6, minute=0, second=0, microsecond=0)
    inverter = living_inverter("SH8.0RT-20", zone=ZoneInfo("UTC"), seed=1, start=start)
    normalizer = Normalizer("roof")
    moments = (start + number * _STEP for number in range(int(_LENGTH / _STEP)))
    return [normalizer.normalize(inverter.words_at(moment), ts=moment, interval_s=5.0) for moment in moments]


def _stored(engine: str, samples: Sequence[SungrowSample], *, compress: bool = False) -> int:
    name = f"bench_{secrets.token_hex(4)}"
    with psycopg.connect(engine, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
        try:
            dsn = make_conninfo(engine, dbname=name)
            if compress:
                with psycopg.connect(dsn, autocommit=True) as database:
                    database.execute("CREATE EXTENSION timescaledb")
            migrate(dsn)
            with _server(dsn) as url:
                asyncio.run(_send(url, samples))
            with psycopg.connect(dsn, autocommit=True) as database:
                if compress:
                    database.execute(_COMPRESS)
                row = database.execute(_HYPERTABLE if compress else _TABLE).fetchone()
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())
    assert row is not None
    return int(row[0]) // len(samples)


@contextmanager
def _server(dsn: str) -> Iterator[str]:
    [port] = free_ports(1)
    environment = clean_environment() | {
        "DATABASE_URL": dsn,
        "DEVICE_TOKENS": f"{_TOKEN}:roof",
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
            rows = ",".join(sample.model_dump_json(exclude_none=True) for sample in batch)
            async with session.post(url, data=f'{{"samples":[{rows}]}}'.encode()) as answer:
                stored = (await answer.json())["inserted"]
            assert stored == len(batch)


async def _spooled(path: Path, samples: Sequence[SungrowSample]) -> int:
    async with DurableSpool.open(path) as spool:
        for sample in samples:
            await spool.append(sample, ts_is_final=True)
        return (await spool.counts()).bytes // len(samples)
