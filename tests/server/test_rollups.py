"""Rollups equal a plain recomputation from the raw rows, whatever came late, twice or never."""

from __future__ import annotations

import asyncio
import random
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import pytest

from reference_server.administration import set_device
from reference_server.storage.queries import query
from reference_server.storage.schema_sql import (
    AROUND_MIDNIGHT_MS,
    COUNTERS,
    DAILY_COUNTERS,
    GAUGES,
    POWER_OF,
    rollup_columns,
)
from reference_server.zones import quarter_of
from sungrow_lib.quantities import QUANTITY_BY_NAME, Quantity
from sungrow_lib.quantities.counters import FROM_ZERO_KW, LARGEST_KW, break_of, most_steps
from sungrow_lib.sample import format_ts
from tests.server.conftest import NOW, Api, Clock, StartServer

pytestmark = pytest.mark.anyio

NAMES = [name for name, _ in rollup_columns()]
POLL_MS = 5_000
QUARTER = timedelta(minutes=15)
RECENT = timedelta(minutes=15)
"""Values so long before the last reading in front of a quarter tell nonsense from a reset."""

Span = TypeVar("Span", date, datetime)


def _columns(row: dict[str, Any]) -> dict[str, Any]:
    known = (q for q in (*GAUGES, *COUNTERS, *DAILY_COUNTERS) if row.get(q.name) is not None)
    return {q.name: q.to_steps(row[q.name]) for q in known}


class Past:
    """Readings so far: what a counter is compared with."""

    def __init__(self) -> None:
        self.times: list[datetime] = []
        self._known: dict[str, list[tuple[datetime, int]]] = defaultdict(list)

    def add(self, at: datetime, values: dict[str, Any]) -> None:
        self.times.append(at)
        for name, value in values.items():
            self._known[name].append((at, value))

    def earlier(self, at: datetime, counter: Quantity) -> list[tuple[datetime, int]]:
        """Known values that one at a moment is compared with: recent ones, and the last before these."""
        start = quarter_of(at)
        last_before = bisect_left(self.times, start)
        recent_from = self.times[last_before - 1] - RECENT if last_before else start
        known = self._known[counter.name]
        number = bisect_left(known, recent_from, key=lambda one: one[0])
        before = [] if counter in DAILY_COUNTERS else known[max(number - 1, 0) : number]
        return before + known[number:]


def compared_with(value: int, earlier: list[tuple[datetime, int]]) -> tuple[datetime, int]:
    """Earlier value, and its time, that one is compared with: the peak, read last, or the last one."""
    peak = max(known for _, known in earlier)
    return next(one for one in reversed(earlier) if one[1] == peak) if value >= peak else earlier[-1]


def plain_rollup(
    rows: list[dict[str, Any]], poll_ms: int = POLL_MS, kw: float | None = None
) -> dict[datetime, dict[str, Any]]:
    """Rollups by definition, one row after the other, without any SQL."""
    buckets: dict[datetime, dict[str, Any]] = defaultdict(lambda: dict.fromkeys(NAMES))
    past, steps = Past(), defaultdict[str, list[tuple[datetime, datetime]]](list)
    for row in sorted(rows, key=lambda row: row["at"]):
        bucket = buckets[quarter_of(row["at"])]
        dt = round(row["interval_s"] * 1000) if row.get("interval_s") is not None else 3 * poll_ms
        if past.times:
            dt = min(dt, (row["at"] - past.times[-1]) // timedelta(milliseconds=1))
        _add(bucket, "sample_count", row.get("sample_count") or 1)
        _add(bucket, "covered_ms", dt)
        values = _columns(row)
        for gauge in GAUGES:
            if (value := values.get(gauge.name)) is not None:
                _add_gauge(bucket, gauge.name, value, dt, signed=gauge.is_signed)
        for counter in COUNTERS:
            if (value := values.get(counter.name)) is not None:
                base = _add_counter(bucket, counter, value, row["at"], past.earlier(row["at"], counter), kw)
                if base is not None:
                    steps[counter.name].append((base, row["at"]))
        past.add(row["at"], values)
    _add_integrals(buckets, steps)
    return dict(buckets)


def _add_integrals(
    buckets: dict[datetime, dict[str, Any]], steps: dict[str, list[tuple[datetime, datetime]]]
) -> None:
    """The integral stands in where a counter has no step, unless one of energy spans that."""
    for name, integral in POWER_OF.items():
        for start, bucket in buckets.items():
            is_covered = any(base < start + QUARTER <= at for base, at in steps[name])
            if bucket[f"{name}_increase"] is None and not is_covered:
                bucket[f"{name}_uncounted"] = bucket[integral]


def plain_breaks(
    rows: list[dict[str, Any]], zone: ZoneInfo | None, kw: float | None = None
) -> set[tuple[datetime, str, int, int]]:
    """Breaks by definition: time, counter, value and what it was compared with."""
    found, past = set(), Past()
    for row in sorted(rows, key=lambda row: row["at"]):
        at, values = row["at"], _columns(row)
        for name, value in values.items():
            counter = QUANTITY_BY_NAME[name]
            if counter.pace is None or not (earlier := past.earlier(at, counter)):
                continue
            since, compared = compared_with(value, earlier)
            elapsed_ms = (at - since) // timedelta(milliseconds=1)
            resets = _may_reset(counter, value, elapsed_ms, kw, (since, at), zone)
            if break_of(counter, value, compared, elapsed_ms, kw, may_reset=resets) is not None:
                found.add((at, name, value, compared))
        past.add(at, values)
    return found


def _may_reset(
    counter: Quantity,
    value: int,
    elapsed_ms: int,
    kw: float | None,
    span: tuple[datetime, datetime],
    zone: ZoneInfo | None,
) -> bool:
    if zone is None:
        return value <= most_steps(counter, elapsed_ms, kw)
    offset = quarter_of(span[1]).astimezone(zone).utcoffset()
    assert offset is not None
    around = timedelta(milliseconds=AROUND_MIDNIGHT_MS)
    return (span[1] + offset + around).date() > (span[0] + offset - around).date()


def stored_breaks(api: Api) -> set[tuple[datetime, str, int, int]]:
    return set(api.rows("SELECT ts, counter, value, before FROM counter_breaks"))


def _add(bucket: dict[str, Any], name: str, value: int) -> None:
    bucket[name] = (bucket[name] or 0) + value


def _add_gauge(bucket: dict[str, Any], name: str, value: int, dt: int, *, signed: bool) -> None:
    _add(bucket, f"{name}_sum", value * dt)
    _add(bucket, f"{name}_ms", dt)
    _add(bucket, f"{name}_n", 1)
    if signed:
        _add(bucket, f"{name}_pos", max(value, 0) * dt)
        _add(bucket, f"{name}_neg", min(value, 0) * dt)
    bucket[f"{name}_min"] = min(value, bucket[f"{name}_min"] if bucket[f"{name}_min"] is not None else value)
    bucket[f"{name}_max"] = max(value, bucket[f"{name}_max"] if bucket[f"{name}_max"] is not None else value)


def _add_counter(
    bucket: dict[str, Any],
    counter: Quantity,
    value: int,
    at: datetime,
    earlier: list[tuple[datetime, int]],
    kw: float | None,
) -> datetime | None:
    """Count a value; return when the value was read that its step is taken from, if it is one of energy."""
    name = counter.name
    if bucket[f"{name}_first"] is None:
        bucket[f"{name}_first"], bucket[f"{name}_first_ts"] = value, at
    bucket[f"{name}_last"], bucket[f"{name}_last_ts"] = value, at
    if not earlier:  # without a value before, the increase is unknown, not zero
        return None
    since, compared = compared_with(value, earlier)
    increase, elapsed_ms = value - compared, (at - since) // timedelta(milliseconds=1)
    is_possible = break_of(counter, value, compared, elapsed_ms, kw, may_reset=False) is None
    _add(bucket, f"{name}_increase", increase if is_possible else 0)
    return since if is_possible else None


def stored_rollup(api: Api, table: str, key: str) -> dict[Any, dict[str, Any]]:
    rows = api.rows(f"SELECT {key}, {', '.join(NAMES)} FROM {table}")
    return {
        start: {
            name: (0 if name.endswith("_n") and value is None else value)
            for name, value in zip(NAMES, values, strict=True)
        }
        for start, *values in rows
    }


def expected(rollup: dict[Any, dict[str, Any]]) -> dict[Any, dict[str, Any]]:
    """A count of nothing is 0, everything else unknown."""
    return {
        start: {n: (0 if n.endswith("_n") and v is None else v) for n, v in bucket.items()}
        for start, bucket in rollup.items()
    }


def house(seed: int, count: int, step: timedelta, end: datetime = NOW) -> list[dict[str, Any]]:
    """Readings with gaps, nulls, merged rows, resets, nonsense of counters and values of both signs."""
    dice = random.Random(seed)
    at, energy, daily = end - timedelta(hours=30), 1000.0, 20.0
    rows = []
    for _ in range(count):
        at += step * (dice.randint(200, 5000) if dice.random() < 0.02 else 1)
        if at > end:
            break
        energy = 3.0 if dice.random() < 0.02 else energy + dice.choice([0, 0.1])
        row: dict[str, Any] = {"at": at, "interval_s": dice.choice([5.0, 5.0, 5.001, 14.9, None])}
        if dice.random() < 0.9:
            row |= {"export_power_w": dice.randint(-5000, 5000), "pv_power_w": dice.randint(0, 9000)}
        if dice.random() < 0.7:
            row |= {"pv_total_kwh": round(energy, 1), "battery_soc_pct": dice.randint(0, 1000) / 10}
        daily = dice.choice([0.0, 0.1, daily / 2]) if dice.random() < 0.1 else daily + dice.choice([0, 0.1])
        if dice.random() < 0.8:
            row["import_daily_kwh"] = round(daily, 1)
        if dice.random() < 0.05:  # a momentary 0, a damaged word, a jump of any size
            nonsense = [0.0, energy + 6553.6, energy + dice.uniform(0, 1500), dice.uniform(0, energy)]
            row["pv_total_kwh"] = round(dice.choice(nonsense), 1)
        if dice.random() < 0.05:
            row |= {"sample_count": 12, "interval_s": 60.0}
        rows.append(row)
    return rows


def as_sample(row: dict[str, Any]) -> dict[str, Any]:
    fields = {name: value for name, value in row.items() if name != "at"}
    return {"device_id": "sh-1", "ts": format_ts(row["at"])} | fields


@pytest.mark.parametrize(
    ("seed", "zone", "end"),
    [
        (0, "Asia/Kathmandu", NOW),  # 45 minutes off the hour
        (1, "Asia/Kolkata", NOW),  # 30 minutes off
        (2, "Europe/Amsterdam", datetime(2026, 3, 29, 23, 30, tzinfo=UTC)),  # 23 hours
        (3, "Europe/Amsterdam", datetime(2025, 10, 27, 0, 30, tzinfo=UTC)),  # 25 hours
        (4, "Australia/Lord_Howe", datetime(2026, 4, 5, 14, 0, tzinfo=UTC)),  # 24 1/2 hours
        (5, "UTC", NOW),
    ],
)
async def test_rollups_equal_a_plain_recomputation(api: Api, seed: int, zone: str, end: datetime) -> None:
    dice = random.Random(seed)
    rows = house(seed, 400, timedelta(seconds=dice.choice([5, 40, 400])), end)
    await set_device(
        api.dsn, "sh-1", name=None, plant=None, timezone=zone if seed else None, poll_interval_s=None
    )
    order = [row for row in rows if dice.random() < 0.7]  # some come late, some twice
    late = [row for row in rows if row not in order]
    dice.shuffle(late)
    other = [row | {"pv_power_w": 10_000} for row in order[:30]]  # conflicts; what is stored stands
    for part in (order, late[: len(late) // 2], order[:50], other, late[len(late) // 2 :]):
        await api.ingest(*map(as_sample, part))
        if dice.random() < 0.7:
            await api.server.refresher.refresh_all()
    await api.server.refresher.refresh_all()
    assert api.rows("SELECT count(*) FROM rollup_marks") == [(0,)]
    plain = plain_rollup(rows)
    assert stored_rollup(api, "rollup_15m", "bucket") == expected(plain)
    assert stored_rollup(api, "rollup_day", "day") == expected(
        days_of(plain, ZoneInfo(zone if seed else "UTC"))
    )
    breaks = plain_breaks(rows, ZoneInfo(zone) if seed else None)
    assert breaks
    assert stored_breaks(api) == breaks


@pytest.mark.parametrize(
    ("totals", "energy"),
    [
        ([1000, 1000.1, 0, 1000.2], 0.2),
        ([1000, 0, 0, 0.0, 1000.1, 1000.3], 0.3),
        ([1000, 7553.6, 1000.1, 1000.2], 0.1),
        ([1000, 7553.6, 0, 1000.1, 1000.2], 0.1),
        ([1000, 999.9, 1000, 1000.1], 0.1),
        ([1000, 3.0, 3.1, 3.3], 0.3),
        ([1000, 0, None, 0.1], 0.1),
        ([2.0, 0, 2.1], 0.1),
        ([10, 10, 10, 97], 87),
        ([10, None, None, 10.2], 0.2),
        ([10], None),
    ],
    ids=str,
)
async def test_nonsense_of_a_counter_is_no_energy(
    api: Api, totals: list[float | None], energy: float | None
) -> None:
    start = NOW - timedelta(minutes=10)
    times = [format_ts(start + timedelta(seconds=5 * number)) for number in range(len(totals))]
    await api.ingest(
        *(
            {"device_id": "sh-1", "ts": at, "pv_total_kwh": total}
            for at, total in zip(times, totals, strict=True)
        )
    )
    await api.server.refresher.refresh_all()
    steps = None if energy is None else round(energy * 10)
    assert api.rows("SELECT pv_total_kwh_increase FROM rollup_15m") == [(steps,)]


async def test_nonsense_across_two_quarters_is_no_energy(api: Api) -> None:
    for offset, total in ((-10, 1000), (-5, 0), (5, 0), (10, 1000.1), (15, 1000.2)):
        at = NOW - timedelta(minutes=15) + timedelta(seconds=offset)
        await api.ingest({"device_id": "sh-1", "ts": format_ts(at), "pv_total_kwh": total})
    await api.server.refresher.refresh_all()
    assert api.rows("SELECT pv_total_kwh_increase FROM rollup_15m ORDER BY bucket") == [(0,), (2,)]


@pytest.mark.parametrize(("after", "energy"), [(1020.0, 21.0), (5000.0, 1.0)])
async def test_a_zero_first_after_an_outage_loses_no_energy_of_it(
    api: Api, after: float, energy: float
) -> None:
    back = NOW - timedelta(hours=2)
    for at, total in (
        (back - timedelta(hours=10), 1000.0),
        (back, 0.0),
        (back + timedelta(seconds=10), after),
        (back + timedelta(hours=1), after + 1),
    ):
        reading = {"device_id": "sh-1", "ts": format_ts(at), "pv_total_kwh": total, "import_total_kwh": total}
        await api.ingest(reading, device={"model": "SH10RT"})
    await api.server.refresher.refresh_all()
    [sums] = api.rows("SELECT sum(pv_total_kwh_increase), sum(import_total_kwh_increase) FROM rollup_15m")
    assert sums == (10 * energy, 10 * energy)
    breaks = {(value, before) for _, _, value, before in stored_breaks(api)}
    assert breaks == {(0, 10_000)} | ({(50_000, 10_000)} if after == 5000 else set())


def merged(
    quarters: dict[datetime, dict[str, Any]], key: Callable[[datetime], Span]
) -> dict[Span, dict[str, Any]]:
    """Longer buckets from quarters of an hour, by definition."""
    buckets: dict[Span, dict[str, Any]] = defaultdict(lambda: dict.fromkeys(NAMES))
    for start in sorted(quarters):
        bucket = buckets[key(start)]
        for name, value in quarters[start].items():
            if value is None:
                continue
            old = bucket[name]
            if name.endswith(("_min", "_first_ts", "_max", "_last_ts")):
                least = name.endswith(("_min", "_first_ts"))
                bucket[name] = value if old is None else (min if least else max)(old, value)
            elif name.endswith("_first"):
                bucket[name] = value if old is None else old
            elif name.endswith("_last"):
                bucket[name] = value
            else:
                bucket[name] = (old or 0) + value
    return dict(buckets)


def days_of(quarters: dict[datetime, dict[str, Any]], zone: ZoneInfo) -> dict[date, dict[str, Any]]:
    """Local days from quarters of an hour."""
    return merged(quarters, lambda start: start.astimezone(zone).date())


async def test_refreshing_while_readings_arrive_loses_nothing(api: Api) -> None:
    rows = house(99, 600, timedelta(seconds=20))

    async def refresh() -> None:
        for _ in range(20):
            await api.server.refresher.refresh_all()

    batches = [rows[i::20] for i in range(20)]
    await asyncio.gather(refresh(), refresh(), *(api.ingest(*map(as_sample, batch)) for batch in batches))
    await api.server.refresher.refresh_all()
    assert stored_rollup(api, "rollup_15m", "bucket") == expected(plain_rollup(rows))


async def test_buckets_behind_the_horizon_are_frozen(start_server: StartServer) -> None:
    clock = Clock(NOW)
    async with start_server(clock=clock, raw_retention_days=10) as api:
        await api.ingest({"device_id": "sh-1", "ts": format_ts(NOW), "pv_power_w": 100})
        await api.server.refresher.refresh_all()
        await api.server.database.run(_forget_and_mark)
        clock.now = NOW + timedelta(days=10, hours=1)
        await api.server.refresher.refresh_all()
        assert api.rows("SELECT pv_power_w_max FROM rollup_15m") == [(100,)]
        assert api.rows("SELECT count(*) FROM rollup_marks") == [(0,)]


async def test_retention_drops_raw_readings_only(start_server: StartServer) -> None:
    clock = Clock(NOW)
    async with start_server(clock=clock, raw_retention_days=10) as api:
        at = [NOW - timedelta(days=1), NOW]  # TimescaleDB drops whole days
        await api.ingest(*({"device_id": "sh-1", "ts": format_ts(ts), "pv_power_w": 100} for ts in at))
        await api.server.refresher.refresh_all()
        before = stored_rollup(api, "rollup_15m", "bucket")
        clock.now = NOW + timedelta(days=9, hours=23)
        await api.server.retention.drop()
        assert api.rows("SELECT count(*) FROM samples") == [(2,)]
        clock.now = NOW + timedelta(days=11)
        await api.server.retention.drop()
        assert api.rows("SELECT count(*) FROM samples") == [(1,)]
        assert stored_rollup(api, "rollup_15m", "bucket") == before


async def test_retention_drops_whole_quarters_of_an_hour(start_server: StartServer) -> None:
    """What is left of one would be taken for all of it when an import beside it makes it anew."""
    clock = Clock(NOW + timedelta(hours=1))
    async with start_server(clock=clock, raw_retention_days=10) as api:
        rows = [{"at": NOW + timedelta(minutes=n), "pv_power_w": 100} for n in range(60)]
        await api.ingest(*map(as_sample, rows))
        clock.now = NOW + timedelta(days=11, minutes=37)
        await api.server.retention.drop()
        [(first,)] = api.rows("SELECT min(ts) FROM samples")
        assert first in {NOW, NOW + timedelta(minutes=30)}  # TimescaleDB drops whole days


async def _forget_and_mark(connection: Any) -> None:
    await connection.execute("DELETE FROM samples")
    await connection.execute(
        "INSERT INTO rollup_marks (device, bucket) SELECT device, bucket FROM rollup_15m"
    )


async def test_a_new_time_zone_rebuilds_the_days(api: Api) -> None:
    late = datetime(2026, 6, 14, 23, 0, tzinfo=UTC)
    await api.ingest({"device_id": "sh-1", "ts": format_ts(late), "pv_power_w": 100})
    await api.server.refresher.refresh_all()
    assert api.rows("SELECT day FROM rollup_day") == [(date(2026, 6, 14),)]
    await api.ingest(as_sample({"at": NOW}), device={"timezone": "Europe/Amsterdam"})
    assert api.rows("SELECT day FROM rollup_day") == [(date(2026, 6, 15),)]
    await set_device(api.dsn, "sh-1", name=None, plant=None, timezone="America/Lima", poll_interval_s=None)
    assert api.rows("SELECT day FROM rollup_day ORDER BY day") == [(date(2026, 6, 14),)]


# --- breaks of counters ----------------------------------------------------------------------------------


def counted(offset_s: float, **counters: float) -> dict[str, Any]:
    at = NOW - timedelta(minutes=10) + timedelta(seconds=offset_s)
    return {"device_id": "sh-1", "ts": format_ts(at)} | counters


async def test_what_is_a_jump_goes_by_the_nominal_power_of_the_model(api: Api) -> None:
    readings = [counted(0, pv_total_kwh=5000), counted(5, pv_total_kwh=5050)]
    await api.ingest(*readings, device={"model": "SH10RT"})
    await api.server.refresher.refresh_all()
    assert api.rows("SELECT nominal_kw FROM devices") == [(10,)]
    assert api.rows("SELECT pv_total_kwh_increase, pv_total_kwh_last FROM rollup_15m") == [(0, 50_500)]
    assert api.rows("SELECT counter, value, before FROM counter_breaks") == [("pv_total_kwh", 50_500, 50_000)]
    assert api.rows("SELECT pv_total_kwh FROM samples ORDER BY ts") == [(50_000,), (50_500,)]


async def test_a_break_goes_when_a_late_reading_explains_it(api: Api) -> None:
    await api.ingest(counted(0, pv_daily_kwh=30.0), counted(10, pv_daily_kwh=29.0))
    await set_device(api.dsn, "sh-1", name=None, plant=None, timezone="UTC", poll_interval_s=None)
    await api.server.refresher.refresh_all()
    await api.ingest(counted(5, pv_daily_kwh=28.0))
    await api.server.refresher.refresh_all()
    assert api.rows("SELECT value, before FROM counter_breaks") == [(280, 300)]


@pytest.mark.parametrize(("zone", "flagged"), [("UTC", True), ("Pacific/Auckland", False), (None, False)])
async def test_a_daily_counter_may_begin_anew_around_the_sites_midnight(
    api: Api, zone: str | None, *, flagged: bool
) -> None:
    """It is noon in UTC, midnight in Auckland, and where no zone is set nobody knows."""
    await set_device(api.dsn, "sh-1", name=None, plant=None, timezone=zone, poll_interval_s=None)
    await api.ingest(counted(0, pv_daily_kwh=30.0), counted(5, pv_daily_kwh=0.0))
    await api.server.refresher.refresh_all()
    assert bool(stored_breaks(api)) is flagged


def test_the_sql_takes_the_same_largest_inverter() -> None:
    assert f"coalesce(n.nominal_kw, {LARGEST_KW:g}) AS kw" in query("stepped_readings").decode()
    assert f"coalesce(n.nominal_kw, {FROM_ZERO_KW:g}) AS from_zero_kw" in query("stepped_readings").decode()
