"""What is in the rollups is a function of the readings that are stored, not of how they came.

Small devices to which everything happens that happens to counters, each sent in several ways at once.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

import pytest

from reference_server.storage.connection import Connection
from reference_server.storage.rollups import REPAIR, rebuild_days
from reference_server.zones import quarter_of
from tests.server.conftest import TOKEN, Api, Clock, StartServer, nothing_to_repair
from tests.server.test_rollups import NAMES, as_sample, days_of, expected, plain_breaks, plain_rollup

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(1200)]

Rows = list[dict[str, Any]]
Parts = list[Rows]
BEGIN: Final = datetime(2026, 6, 10, 22, tzinfo=UTC)
POLL_S: Final = 300
DEVICE: Final = {"timezone": "UTC", "poll_interval_s": POLL_S}
HOUSES: Final = 2
SEEDS: Final = range(*map(int, os.environ.get("SUNGROW_TEST_ORDER_SEEDS", "0:2").split(":")))
"""More of them take longer, and find more."""
COUNTERS: Final = ("pv_total_kwh", "import_total_kwh")


class Counter:
    """A counter that goes on by what is made, and what becomes of it on its way to a reading."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self._total = dice.choice([0.1, 5.0, 1000.0, 1000.0])
        self._silent = dice.choice([0, 0, 0, 3, 12])
        self._wrong, self._instead = 0, 0.0
        self._trouble = dice.choice([0.0, 0.05, 0.15])

    def read(self, made_kwh: float) -> float | None:
        dice = self._dice
        self._total += made_kwh
        if dice.random() < self._trouble:
            match dice.choice(["silent", "silent", "silent", "zero", "zero", "high", "replaced"]):
                case "silent":
                    self._silent = dice.choice([1, 2, 4, 12, 30])
                case "zero":
                    self._wrong, self._instead = dice.choice([1, 1, 2, 3, 6]), 0.0
                case "high":
                    self._wrong, self._instead = dice.choice([1, 2]), self._total + 6553.6
                case _:
                    self._total = dice.choice([0.0, 0.1, 3.0, self._total / 2])
        if self._silent > 0:
            self._silent -= 1
            if self._silent == 0 and dice.random() < 0.5:  # it comes back with nonsense
                self._wrong, self._instead = dice.choice([1, 2, 3]), 0.0
            return None
        if self._wrong > 0:
            self._wrong -= 1
            return round(self._instead, 1)
        return round(self._total, 1)


def small_house(dice: random.Random) -> Rows:
    """Readings of a house that makes and imports energy."""
    moment, rows = BEGIN + timedelta(seconds=dice.randint(0, 3000)), Rows()
    counters = {name: Counter(dice) for name in COUNTERS}
    reads_seldom = dice.random() < 0.3
    for _ in range(dice.randint(12, 45)):
        seconds = dice.choice([60, 270, 300, 300, 300, 330, 610, 900])
        if dice.random() < 0.06:
            seconds = 60 * dice.choice([12, 31, 70, 400, 1500])
        moment += timedelta(seconds=seconds)
        row: dict[str, Any] = {"at": moment, "interval_s": dice.choice([float(POLL_S), None])}
        if dice.random() < 0.95:
            row |= {"pv_power_w": dice.choice([0, 1000, 6000]), "export_power_w": dice.choice([-2000, 500])}
        for name, counter in counters.items():
            value = counter.read(dice.choice([0.0, 1.0, 2.0]) * seconds / 3600)
            if value is not None and not (reads_seldom and dice.random() < 0.6):
                row[name] = value
        rows.append(row)
    return rows


def at_once(_dice: random.Random, rows: Rows) -> Parts:
    return [rows]


def in_two(_dice: random.Random, rows: Rows) -> Parts:
    return [rows[:-2], rows[-2:]]


def one_by_one(_dice: random.Random, rows: Rows) -> Parts:
    return [[row] for row in rows]


def shuffled(dice: random.Random, rows: Rows) -> Parts:
    return list(_cut(dice, dice.sample(rows, len(rows))))


def some_late(dice: random.Random, rows: Rows) -> Parts:
    late = [row for row in rows if dice.random() < 0.2]
    return [*_cut(dice, [row for row in rows if row not in late]), *([row] for row in late)]


def _cut(dice: random.Random, rows: Rows) -> Iterator[Rows]:
    while rows:
        count = dice.choice([1, 2, 5, 15])
        yield rows[:count]
        rows = rows[count:]


Way = Callable[[random.Random, Rows], Parts]
WAYS: Final[tuple[Way, ...]] = (
    at_once,
    in_two,
    one_by_one,
    shuffled,
    some_late,
)


def stored(api: Api, name: str, table: str, key: str) -> dict[Any, dict[str, Any]]:
    rows = api.rows(
        f"SELECT {key}, {', '.join(NAMES)} FROM {table} r JOIN devices d USING (device) "
        f"WHERE device_id = '{name}'"
    )
    return expected({start: dict(zip(NAMES, values, strict=True)) for start, *values in rows})


def breaks_of(api: Api, name: str) -> set[tuple[Any, ...]]:
    return set(
        api.rows(
            "SELECT ts, counter, value, before FROM counter_breaks JOIN devices d USING (device) "
            f"WHERE device_id = '{name}'"
        )
    )


def differences(api: Api, name: str, rows: Rows) -> list[str]:
    """Where what is stored of a device is not what its readings say."""
    plain = plain_rollup(rows, poll_ms=1000 * POLL_S)
    found = [
        f"{table} {start} {column}: {told.get(start, {}).get(column)}, not {values[column]}"
        for table, told, wanted in (
            ("rollup_15m", stored(api, name, "rollup_15m", "bucket"), expected(plain)),
            ("rollup_day", stored(api, name, "rollup_day", "day"), expected(days_of(plain, ZoneInfo("UTC")))),
        )
        for start, values in sorted(wanted.items())
        for column in NAMES
        if told.get(start, {}).get(column) != values[column]
    ]
    return found + [
        f"break {one}" for one in sorted(breaks_of(api, name) ^ plain_breaks(rows, ZoneInfo("UTC")))
    ]


async def sent(api: Api, name: str, parts: Parts) -> None:
    """Send them, each refreshed by itself: one device must not do for another what that one should do."""
    for part in parts:
        await api.ingest(*(as_sample(row) | {"device_id": name} for row in part), device=DEVICE)
        await api.server.refresher.refresh_all()


async def require_the_same(start_server: StartServer, dice: random.Random, houses: list[Rows]) -> None:
    """Send each house in each way, as a device of its own."""
    names = [f"{way.__name__}-{number}" for number in range(len(houses)) for way in WAYS]
    tokens = ",".join(f"{TOKEN}:{name}" for name in names)
    async with start_server(clock=Clock(BEGIN + timedelta(days=8)), device_tokens=tokens) as api:
        for number, rows in enumerate(houses):
            for way in WAYS:
                await sent(api, f"{way.__name__}-{number}", way(dice, rows))
        for number, rows in enumerate(houses):
            for way in WAYS:
                assert differences(api, f"{way.__name__}-{number}", rows) == [], (number, way)


@pytest.mark.parametrize("seed", SEEDS)
async def test_rollups_are_a_function_of_what_is_stored(start_server: StartServer, seed: int) -> None:
    dice = random.Random(seed)
    await require_the_same(start_server, dice, [small_house(dice) for _ in range(HOUSES)])


async def require_the_same_across_the_horizon(
    api: Api, dice: random.Random, number: int, rows: Rows, ways: tuple[Way, ...]
) -> None:
    """Send some readings, let what they made become frozen in part, and send the others in each way."""
    server, shares = api.server, dice.choice([0.3, 0.5, 0.7])
    known = rows[: int(len(rows) * shares)]
    others = rows[len(known) :] + [row | {"at": row["at"] + timedelta(seconds=40)} for row in known[-6:]]
    horizon = dice.choice(known[len(known) // 2 :])["at"] + timedelta(minutes=dice.choice([0, 7, 20]))
    names = [f"{way.__name__}-{number}" for way in ways]
    server.horizon._retention = timedelta(days=400)
    for name in names:
        await sent(api, name, [known])
    frozen = [stored(api, name, "rollup_15m", "bucket") for name in names]
    server.horizon._retention = api.clock.now - horizon
    for name, way in zip(names, ways, strict=True):
        await sent(api, name, way(dice, others))
    first = names[0]
    for name, before in zip(names, frozen, strict=True):
        after = stored(api, name, "rollup_15m", "bucket")
        behind = {start: values for start, values in before.items() if start < quarter_of(horizon)}
        assert {start: after[start] for start in behind} == behind, name
        for table, key in (("rollup_15m", "bucket"), ("rollup_day", "day")):
            assert stored(api, name, table, key) == stored(api, first, table, key), (name, table)
        assert breaks_of(api, name) == breaks_of(api, first), name


@pytest.mark.parametrize("seed", SEEDS)
async def test_what_comes_after_some_is_frozen_may_come_in_any_order(
    start_server: StartServer, seed: int
) -> None:
    dice = random.Random(1003 + seed)
    ways = at_once, one_by_one, shuffled, some_late
    tokens = ",".join(f"{TOKEN}:{way.__name__}-{n}" for n in range(HOUSES) for way in ways)
    async with start_server(clock=Clock(BEGIN + timedelta(days=8)), device_tokens=tokens) as api:
        for number in range(HOUSES):
            await require_the_same_across_the_horizon(api, dice, number, small_house(dice), ways)


def reading(minutes: float, **values: float | None) -> dict[str, Any]:
    known = {name: value for name, value in values.items() if value is not None}
    row = {"at": BEGIN + timedelta(minutes=minutes), "interval_s": None, "pv_power_w": 1000}
    return row | {"export_power_w": -2000} | known


A_FALL_LONG_SEEN: Final = [
    reading(minutes, pv_total_kwh=value)
    for minutes, value in (
        *((7.2, 5.0), (17.2, 5.6), (32.2, 6.7), (42.2, 7.3), (44.7, 7.5)),
        *((59.7, 0.0), (69.7, None), (79.7, 9.5), (94.7, 9.5), (109.7, 10.7)),
    )
]
"""A 0 is all that the quarter after the next one sees; with a value before it, it is made in another job."""

A_FIRST_VALUE_ALONE: Final = [
    reading(minutes, import_total_kwh=value)
    for minutes, value in (
        *((0, None), (5, 1000.0), (10, None), (15, None), (30, 0.1), (35, 0.2), (50, 0.4)),
        *((20, 1000.1), (25, 1000.2)),
    )
]
"""The values that come last turn the break after the first one of all into a step that covers it."""


async def test_what_was_seen_to_depend_on_the_order(start_server: StartServer) -> None:
    await require_the_same(start_server, random.Random(1), [A_FALL_LONG_SEEN, A_FIRST_VALUE_ALONE])
    assert sum(b["pv_total_kwh_increase"] or 0 for b in plain_rollup(A_FALL_LONG_SEEN).values()) == 57


A_FALL_NEXT_DOOR: Final = [
    reading(minutes, pv_total_kwh=value)
    for minutes, value in (*((15 * n, 1000.0) for n in range(5)), (610, 0.0), (617, 1005.0), (631, 1006.0))
]
"""After an outage; no silence ends in the quarter that sees it."""


async def test_what_earlier_servers_made_of_falls_is_made_anew(start_server: StartServer) -> None:
    async with start_server(clock=Clock(BEGIN + timedelta(days=8))) as api:
        await nothing_to_repair(api)
        await sent(api, "sh-1", [A_FALL_NEXT_DOOR])
        assert differences(api, "sh-1", A_FALL_NEXT_DOOR) == []
        await api.server.database.run(_made_by_an_earlier_server)
        assert differences(api, "sh-1", A_FALL_NEXT_DOOR) != []
        while not await api.server.refresher.repair():  # noqa: ASYNC110 - the database takes a moment to forget it
            await asyncio.sleep(0.05)
        await api.server.refresher.refresh_all()
        assert differences(api, "sh-1", A_FALL_NEXT_DOOR) == []


async def _made_by_an_earlier_server(connection: Connection) -> None:
    await connection.execute("DELETE FROM schema_history WHERE name = %s", [REPAIR])
    seen = BEGIN + timedelta(minutes=615)
    await connection.execute("UPDATE rollup_15m SET pv_total_kwh_increase = 10050 WHERE bucket = %s", [seen])
    await rebuild_days(connection, 1)
