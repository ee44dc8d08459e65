"""Years of a device in SQL: rollups of one device among many, and its readings of the last month.

The rollups of the month are made of its readings, by the server's own refresher; the older ones hold numbers
that nothing is asked of but that there are as many.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import psycopg

from benchmarks.ingest import _NOT_POLLED
from reference_server.config import ServerSettings
from reference_server.server import Server
from reference_server.storage.schema_sql import rollup_columns
from reference_server.together import COLUMNS
from sungrow_lib.quantities import QUANTITIES, Quantity, QuantityKind, Tier

DEVICE: Final = "roof"
PLANT: Final = (DEVICE, "other-1", "other-2")
RAW_DAYS: Final = 30
_YEARS: Final = 10
_DEVICES: Final = 20
_LISTED: Final = 3
"""So many items of a list are told."""

_FIRST: Final = f"date_trunc('day', now(), 'UTC') - interval '{_YEARS} years'"
_FIRST_RAW: Final = f"date_trunc('day', now(), 'UTC') - interval '{RAW_DAYS} days'"

_COURSE: Final = """
  SELECT t, pv, load, battery, pv - load - battery AS export, 50 - 40 * cos(pi() * (hour - 6) / 12) AS soc
  FROM (
    SELECT *, CASE WHEN pv > load THEN least(pv - load, 2500) ELSE greatest(pv - load, -600) END AS battery
    FROM (
      SELECT
        t, hour, greatest(0, 6000 * sin(pi() * (hour - 6) / 12)) * (0.7 + 0.3 * random()) AS pv,
        300 + 500 * random() + CASE WHEN hour BETWEEN 17 AND 22 THEN 900 ELSE 0 END AS load
      FROM (
        SELECT t, extract(epoch FROM t)::int8 % 86400 / 3600.0 AS hour
        FROM generate_series({first}, now(), '5 s') AS t
      ) AS of_time
    ) AS of_sun
  ) AS of_battery
"""
"""A day: the sun from 6 to 18, clouds, a household with an evening; W, and % in the battery."""

_GAUGES: Final = {
    "pv_power_w": "pv",
    "load_power_w": "load",
    "battery_power_w": "battery",
    "export_power_w": "export",
    "battery_soc_pct": "10 * soc",
}
_POWER_OF: Final = {
    "pv": "pv",
    "battery_charge": "greatest(battery, 0)",
    "battery_charge_from_pv": "greatest(battery, 0)",
    "battery_discharge": "greatest(-battery, 0)",
    "export": "greatest(export, 0)",
    "export_from_pv": "greatest(export, 0)",
    "import": "greatest(-export, 0)",
    "direct_use": "least(pv, load)",
    "output": "greatest(load + export, 0)",
}
"""What each counter counts."""


async def fill(dsn: str) -> int:
    """Put everything into a migrated database in which the device has been heard of; return its key."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        device = _fill_rollups(connection)
        _fill_readings(connection, device)
    server = Server.from_settings(ServerSettings(database_url=dsn))
    await server.database.open()
    await server.refresher.refresh_all()
    await server.database.close()
    with psycopg.connect(dsn, autocommit=True) as connection:
        assert connection.execute("SELECT FROM rollup_marks").fetchone() is None
        connection.execute("VACUUM ANALYZE samples, rollup_15m, rollup_day, rollup_marks")
    return device


def _fill_rollups(connection: psycopg.Connection) -> int:
    numbers = {name: kind for name, kind in rollup_columns() if kind in {"int4", "int8"}}
    columns = ", ".join(numbers)
    values = ", ".join(f"(1000 + random() * 1000)::{kind}" for kind in numbers.values())
    powers = ", ".join(sorted(COLUMNS))  # of the rest of the plant
    some = ", ".join(["1000 + (random() * 1000)::int8"] * len(COLUMNS))
    statements = (
        f"INSERT INTO devices (device_id) SELECT 'other-' || n FROM generate_series(1, {_DEVICES}) AS n",
        "TRUNCATE samples, counter_breaks, rollup_marks, rollup_15m, rollup_day",
        # one device for years, the others for the last days
        (
            f"INSERT INTO rollup_15m (bucket, device, {columns}) "
            f"SELECT t, device, {values} FROM devices, generate_series({_FIRST}, now(), '15 min') AS t "
            f"WHERE (device_id = '{DEVICE}') = (t < {_FIRST_RAW})"
        ),
        (
            f"INSERT INTO rollup_15m (bucket, device, {powers}) "
            f"SELECT t, device, {some} FROM devices, generate_series({_FIRST}, now(), '15 min') AS t "
            f"WHERE t < {_FIRST_RAW} AND device_id = ANY('{{{','.join(PLANT[1:])}}}')"
        ),
        (
            f"INSERT INTO rollup_day (day, device, {columns}) "
            f"SELECT t::date, device, {values} FROM devices, generate_series({_FIRST}, now(), '1 day') AS t "
            f"WHERE device_id <> '{DEVICE}' OR t < {_FIRST_RAW}"
        ),
    )
    for statement in statements:
        connection.execute(statement.encode())
    row = connection.execute("SELECT device FROM devices WHERE device_id = %s", [DEVICE]).fetchone()
    assert row is not None
    return int(row[0])


def _fill_readings(connection: psycopg.Connection, device: int) -> None:
    values = dict(_values())
    statements = (
        (
            f"INSERT INTO samples (device, ts, interval_s, {', '.join(values)}) "
            f"SELECT {device}, t, 5000, {', '.join(values.values())} "
            f"FROM ({_COURSE.format(first=_FIRST_RAW)}) AS course"
        ),
        (
            "INSERT INTO rollup_marks (device, bucket) "
            "SELECT DISTINCT device, date_bin('15 min', ts, 'epoch') FROM samples"
        ),
    )
    for statement in statements:
        connection.execute(statement.encode())


def _values() -> Iterator[tuple[str, str]]:
    """Columns of what the fast tier of a hybrid tells, each with its value in the middle of a course."""
    for quantity in QUANTITIES:
        if quantity.tier is Tier.FAST and quantity.name not in {*_NOT_POLLED, "interval_s"}:
            for column in list(quantity.columns())[:_LISTED]:
                yield column, _value(quantity)


def _value(quantity: Quantity) -> str:
    match quantity.kind:
        case QuantityKind.STATE:
            return "'Running'"
        case QuantityKind.CODES:
            return "'{}'"
        case QuantityKind.COUNTER:
            return f"100000 + {_counted(quantity, '_total_kwh', 'ORDER BY t')}"
        case QuantityKind.DAILY_COUNTER:
            return _counted(quantity, "_daily_kwh", "PARTITION BY date_trunc('day', t, 'UTC') ORDER BY t")
        case _:
            return f"({_GAUGES.get(quantity.name, '100 + 100 * random()')})::int"


def _counted(quantity: Quantity, ends: str, window: str) -> str:
    """What was counted in steps of 0.1 kWh, 72,000 times that of a watt for five seconds."""
    power = _POWER_OF[quantity.name.removesuffix(ends)]
    return f"(sum({power}) OVER ({window} ROWS UNBOUNDED PRECEDING) / 72000)::int"
