"""Disk of what stays for ever: rollups, and on TimescaleDB the aggregates over them.

The server's refresher makes the rollups of a day that is stored. The same day is then given to more devices
and to the days before, as a row's width depends on what is known, not on its values: by a day alone the pages
that each table and index begin with would count as much as its rows.
"""

from __future__ import annotations

import asyncio
from typing import Final

import psycopg

from reference_server.config import ServerSettings
from reference_server.server import Server
from reference_server.storage.schema_sql import rollup_columns

QUARTERS_PER_DAY: Final = 96
ROLLUPS: Final = {"rollup_15m": QUARTERS_PER_DAY, "rollup_day": 1}
"""How many rows a day of a device has in each."""

AGGREGATES: Final = ("samples_hourly", "samples_daily", "samples_monthly")

_DEVICES: Final = 20
_DAYS: Final = 30
_HYPERTABLE: Final = "SELECT hypertable_size('{name}')"
_TABLE: Final = "SELECT pg_total_relation_size('{name}')"
_COMPRESSED: Final = """
ALTER TABLE rollup_15m SET (
  timescaledb.compress, timescaledb.compress_segmentby = 'device', timescaledb.compress_orderby = 'bucket'
)
"""
_COMPRESS: Final = "SELECT compress_chunk(chunk) FROM show_chunks('rollup_15m') AS chunk"


def bytes_per_day(dsn: str) -> dict[str, float]:
    """Return the bytes a day and device takes of each rollup, and of each aggregate that is no view.

    Where they can be compressed, quarters of an hour are once more among them, as `rollup_15m, compressed`.

    Args:
        dsn: a database in which a day of some devices is stored.
    """
    asyncio.run(_refresh(dsn))
    with psycopg.connect(dsn, autocommit=True) as database:
        rows = _multiply(database)
        days = rows / QUARTERS_PER_DAY
        has_aggregates = _one(database, "SELECT count(*) FROM pg_extension WHERE extname = 'timescaledb'")
        hypertables = ("rollup_15m", *AGGREGATES) if has_aggregates else ()
        for name in hypertables[1:]:
            database.execute(f"CALL refresh_continuous_aggregate('{name}', NULL, NULL)".encode())
        database.execute("VACUUM ANALYZE")
        sizes = {
            name: _one(database, (_HYPERTABLE if name in hypertables else _TABLE).format(name=name))
            for name in dict.fromkeys((*ROLLUPS, *hypertables))
        }
        if hypertables:
            database.execute(_COMPRESSED.encode())
            database.execute(_COMPRESS.encode())
            sizes["rollup_15m, compressed"] = _one(database, _HYPERTABLE.format(name="rollup_15m"))
    return {name: size / days for name, size in sizes.items()}


async def _refresh(dsn: str) -> None:
    server = Server.from_settings(ServerSettings(database_url=dsn))
    await server.database.open()
    await server.refresher.refresh_all()
    await server.database.close()


def _multiply(database: psycopg.Connection) -> int:
    """Give the day to more devices and the days before; return how many quarters of an hour that makes."""
    assert not _one(database, "SELECT count(*) FROM rollup_marks")
    more = f"INSERT INTO devices (device_id) SELECT 'more-' || n FROM generate_series(1, {_DEVICES}) AS n"
    database.execute(more.encode())
    columns = ", ".join(name for name, _ in rollup_columns())
    for table, key, earlier in (
        ("rollup_15m", "bucket", "r.bucket - n * interval '1 day'"),
        ("rollup_day", "day", "r.day - n"),
    ):
        copied = (
            f"INSERT INTO {table} ({key}, device, {columns}) SELECT {earlier}, d.device, {columns} "
            f"FROM generate_series(1, {_DAYS}) AS n, devices d, {table} r "
            f"WHERE r.device = (SELECT min(device) FROM {table}) ORDER BY 1, 2"
        )
        database.execute(copied.encode())
    return _one(database, "SELECT count(*) FROM rollup_15m")


def _one(database: psycopg.Connection, question: str) -> int:
    row = database.execute(question.encode()).fetchone()
    assert row is not None
    return int(row[0])
