"""Counters that are silent for an hour, a day or weeks: no energy is lost, and none is counted twice."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

import psycopg
import pytest

from reference_server.administration import set_device
from reference_server.rollups import RollupRefresher
from reference_server.storage.connection import Connection
from reference_server.storage.horizon import Horizon
from reference_server.storage.migrations import migrate
from reference_server.storage.rollups import REPAIR, rebuild_days
from reference_server.storage.schema_sql import COUNTERS, POWER_OF
from reference_server.zones import quarter_of, start_of_day
from tests.server.conftest import NOW, Api, Clock, StartServer, nothing_to_repair
from tests.server.test_rollups import (
    NAMES,
    as_sample,
    days_of,
    expected,
    plain_breaks,
    plain_rollup,
    stored_breaks,
    stored_rollup,
)

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(1200)]

ENERGY_OF: Final = {
    "pv_total_kwh": "pv_kwh",
    "import_total_kwh": "import_kwh",
    "export_total_kwh": "export_kwh",
    "battery_charge_total_kwh": "charge_kwh",
    "battery_discharge_total_kwh": "discharge_kwh",
}


async def series(api: Api, **query: str) -> list[dict[str, Any]]:
    status, answer = await api.get("/v1/series", device_id="sh-1", **query)
    assert status == 200, answer
    buckets: list[dict[str, Any]] = answer["series"]
    return buckets


async def buckets_of(api: Api, bucket: str, begin: datetime, end: datetime) -> list[dict[str, Any]]:
    return await series(api, bucket=bucket, **{"from": begin.isoformat(), "to": end.isoformat()})


def told(buckets: list[dict[str, Any]], energy: str = "pv_kwh") -> list[tuple[float | None, str | None]]:
    name = energy.removesuffix("_kwh")
    return [(b[energy], (b["energy_source"] or {}).get(name)) for b in buckets]


def at(hour: int, minute: int = 0, second: int = 0, day: int = 14) -> datetime:
    return datetime(2026, 6, day, hour, minute, second, tzinfo=UTC)


async def refreshed(api: Api, *rows: dict[str, Any]) -> None:
    await api.ingest(*map(as_sample, rows))
    await api.server.refresher.refresh_all()


# --- as seen from outside --------------------------------------------------------------------------------


async def test_a_counter_that_was_silent_for_a_quarter_is_counted_once(api: Api) -> None:
    """45 minutes of 4 kW; the counter is not read in the second of three quarters of an hour."""
    rows = [
        {"at": at(10) + timedelta(seconds=10 * n), "interval_s": 10.0, "pv_power_w": 4000}
        | ({} if 90 <= n < 180 else {"pv_total_kwh": (1000 + n // 9) / 10})
        for n in range(270)
    ]
    await refreshed(api, *rows[:90])
    await refreshed(api, *rows[90:180])
    while_silent = await buckets_of(api, "15m", at(10), at(10, 30))
    assert told(while_silent) == [(0.9, "counter"), (1.0, "integral")]
    await refreshed(api, *rows[180:])
    assert told(await buckets_of(api, "15m", at(10), at(10, 45))) == [
        (0.9, "counter"),
        (None, None),
        (2.0, "counter"),
    ]
    for buckets in (
        [b for b in await series(api, frame="day", at="2026-06-14") if b["sample_count"]],
        [b for b in await series(api, frame="month", at="2026-06-14") if b["sample_count"]],
        [b for b in await series(api, frame="year", at="2026-06-14") if b["sample_count"]],
    ):
        assert told(buckets) == [(2.9, "counter")]
        assert buckets[0]["residual_kwh"] == pytest.approx(-0.1, abs=0.02)
    fives = [b["pv_kwh"] for b in await buckets_of(api, "5m", at(10), at(10, 45))]
    assert fives[3:6] == [None, None, None]
    assert sum(kwh or 0 for kwh in fives) == pytest.approx(2.9)
    assert fives[6] == pytest.approx(1.3, abs=0.11)  # the silence, and its own five minutes


@pytest.mark.parametrize("alone", [True, False], ids=["alone in its quarter", "with others"])
async def test_what_was_counted_during_an_outage_is_not_lost(api: Api, *, alone: bool) -> None:
    """The first reading after the outage has no value of the counter."""
    after = at(12, 14, 50) if alone else at(12, 16)
    rows: list[dict[str, Any]] = [
        {"at": at(10), "import_total_kwh": 100.0},
        {"at": at(10, 1), "import_total_kwh": 100.1},
        {"at": after},
        {"at": after + timedelta(seconds=20), "import_total_kwh": 103.0},
        {"at": after + timedelta(seconds=80), "import_total_kwh": 103.1},
    ]
    for row in rows:
        row.update(interval_s=60.0, pv_power_w=0)
        await refreshed(api, row)
    [day] = [b for b in await series(api, frame="month", at="2026-06-14") if b["sample_count"]]
    assert told([day], "import_kwh") == [(3.1, "counter")]
    fives = await buckets_of(api, "5m", at(10), at(13))
    assert sum(b["import_kwh"] or 0 for b in fives) == pytest.approx(3.1)
    assert stored_rollup(api, "rollup_15m", "bucket") == expected(plain_rollup(rows))


async def test_a_counter_read_once_an_hour_counts(api: Api) -> None:
    """Slow values come with every twelfth reading: of one that is read each five minutes, once an hour."""
    for n in range(40):
        row = {"at": at(0) + timedelta(minutes=5 * n), "interval_s": 300.0, "battery_power_w": 1200}
        await refreshed(api, row | ({"battery_charge_total_kwh": 50 + n / 10} if n % 12 == 0 else {}))
    day = await series(api, frame="day", at="2026-06-14")
    assert told(day[:5], "charge_kwh") == [
        (None, None),  # the first value of all
        (1.2, "counter"),
        (1.2, "counter"),
        (1.3, "mixed"),  # and what is since then
        (None, None),
    ]


# --- in whatever order readings come ---------------------------------------------------------------------


def silent_house(dice: random.Random, begin: datetime, hours: int, *, is_sound: bool) -> list[dict[str, Any]]:
    """Readings of counters that are silent at times, with outages; without resets if they are sound."""
    totals = {"pv_total_kwh": 100.0, "import_total_kwh": 900.0, "battery_charge_total_kwh": 20.0}
    appears = {
        "pv_total_kwh": 0.0,
        "import_total_kwh": 0.0,
        "battery_charge_total_kwh": hours * dice.random(),
    }
    silent_until = dict.fromkeys(totals, begin)
    moment, rows = begin, list[dict[str, Any]]()
    while moment < begin + timedelta(hours=hours):
        moment += timedelta(seconds=dice.choice([60, 200, 400, 400]))
        if dice.random() < 0.01:
            moment += timedelta(minutes=dice.choice([10, 40, 300]))
        row: dict[str, Any] = {"at": moment, "interval_s": dice.choice([60.0, 400.0])}
        if dice.random() < 0.95:
            row |= {"pv_power_w": dice.randint(0, 9000), "export_power_w": dice.randint(-5000, 5000)}
            row["battery_power_w"] = dice.randint(-3000, 3000)
        for name, total in totals.items():
            totals[name] = total + dice.choice([0.0, 0.1, 0.2])
            if dice.random() < 0.03:
                silent_until[name] = moment + timedelta(minutes=dice.choice([5, 20, 40, 200, 900]))
            if not is_sound and dice.random() < 0.03:
                totals[name] = dice.choice([0.0, 3.0, total + 6553.6])
            is_read = moment >= begin + timedelta(hours=appears[name]) and moment >= silent_until[name]
            if is_read and (name != "import_total_kwh" or len(rows) % 12 == 0):
                row[name] = round(totals[name], 1)
        rows.append(row)
    return rows


SITES: Final = [
    (0, "Europe/Amsterdam", datetime(2026, 3, 28, 8, tzinfo=UTC), True),  # 23 hours
    (1, "Europe/Amsterdam", datetime(2025, 10, 25, 8, tzinfo=UTC), False),  # 25 hours
    (2, "Asia/Kathmandu", datetime(2026, 6, 13, 8, tzinfo=UTC), True),  # 45 minutes off the hour
    (3, "Australia/Lord_Howe", datetime(2026, 4, 4, 2, tzinfo=UTC), False),  # 24 1/2 hours
]


@pytest.mark.parametrize(("seed", "zone", "begin", "is_sound"), SITES)
async def test_rollups_do_not_depend_on_the_order_of_arrival(
    start_server: StartServer,
    monkeypatch: pytest.MonkeyPatch,
    seed: int,
    zone: str,
    begin: datetime,
    *,
    is_sound: bool,
) -> None:
    dice = random.Random(seed)
    at_once = dice.randint(20, 60)  # so that not all that waits is worked off in one transaction
    monkeypatch.setattr("reference_server.rollups.MARKS_AT_ONCE", at_once)
    monkeypatch.setattr("reference_server.storage.rollups.MARKS_AT_ONCE", at_once)
    rows = silent_house(dice, begin, 44, is_sound=is_sound)
    parts = arrivals(dice, rows)
    async with start_server(clock=Clock(begin + timedelta(days=3))) as api:
        await set_device(api.dsn, "sh-1", name=None, plant=None, timezone=zone, poll_interval_s=None)
        for number, part in enumerate(parts):
            await api.ingest(*map(as_sample, part))
            if dice.random() < 0.8:
                await api.server.refresher.refresh_all()
                so_far = {row["at"]: row for some in parts[: number + 1] for row in some}
                require_equal(api, list(so_far.values()), zone)
        await api.server.refresher.refresh_all()
        require_equal(api, rows, zone)
        await require_sums(api, rows, zone, is_sound=is_sound)


def arrivals(dice: random.Random, rows: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Batches in which readings arrive: days apart, mixed, single ones late, and some twice."""
    half = len(rows) // 2
    late = [row for row in rows if dice.random() < 0.2]
    spans = [rows[half : half + half // 2], rows[:half], rows[half + half // 2 :]]
    dice.shuffle(spans)
    parts = [[row for row in span if row not in late] for span in spans]
    counted = [row for row in late if "pv_total_kwh" in row][:3]
    others = [row for row in late if row not in counted]
    dice.shuffle(others)
    return [*parts, others[::2], *([row] for row in counted), others[1::2] + parts[0][:20]]


def require_equal(api: Api, rows: list[dict[str, Any]], zone: str) -> None:
    plain = plain_rollup(rows)
    assert stored_rollup(api, "rollup_15m", "bucket") == expected(plain)
    assert stored_rollup(api, "rollup_day", "day") == expected(days_of(plain, ZoneInfo(zone)))
    assert stored_breaks(api) == plain_breaks(rows, ZoneInfo(zone))


async def require_sums(api: Api, rows: list[dict[str, Any]], zone: str, *, is_sound: bool) -> None:
    """Energies add up, whatever the buckets; to last minus first, and what stands in outside of the two."""
    first, last = rows[0]["at"].astimezone(ZoneInfo(zone)), rows[-1]["at"].astimezone(ZoneInfo(zone))
    begin, end = start_of_day(first.date(), ZoneInfo(zone)), start_of_day(last.date(), ZoneInfo(zone))
    sums = {}
    for bucket in ("5m", "15m", "1h", "1d", "1M"):
        buckets = await buckets_of(api, bucket, begin, end + timedelta(days=1))
        sums[bucket] = {e: sum(b[e] or 0 for b in buckets) for e in ENERGY_OF.values()}
    months = {f"{moment:%Y-%m}-01" for moment in (first, last)}
    found = [b for month in months for b in await series(api, frame="month", at=month)]
    sums["month"] = {e: sum(b[e] or 0 for b in found) for e in ENERGY_OF.values()}
    for energies in sums.values():
        assert energies == pytest.approx(sums["1d"], abs=0.3)  # each bucket's integral is rounded to 1 Wh
    if is_sound:
        [steps] = api.rows(
            "SELECT " + ", ".join(f"sum({c.name}_increase)" for c in COUNTERS) + " FROM rollup_15m"
        )
        for counter, increase in zip(COUNTERS, steps, strict=True):
            values = [row[counter.name] for row in rows if row.get(counter.name) is not None]
            assert increase == (round(10 * (values[-1] - values[0])) if values else None)


async def test_silences_end_right_while_readings_arrive(api: Api) -> None:
    rows = silent_house(random.Random(7), NOW - timedelta(hours=24), 23, is_sound=False)

    async def refresh() -> None:
        for _ in range(10):
            await api.server.refresher.refresh_all()

    batches = [rows[number::12] for number in range(12)]
    await asyncio.gather(refresh(), refresh(), *(api.ingest(*map(as_sample, batch)) for batch in batches))
    await api.server.refresher.refresh_all()
    require_equal(api, rows, "UTC")


async def test_a_late_value_takes_its_part_of_a_step_weeks_later(api: Api) -> None:
    """Between two values lies a month of readings without one; then one in between arrives."""
    begin = NOW - timedelta(days=30)
    rows = [{"at": begin, "interval_s": 60.0, "pv_total_kwh": 100.0, "pv_power_w": 1000}]
    rows += [
        {"at": begin + timedelta(hours=7 * n), "interval_s": 60.0, "pv_power_w": 1000} for n in range(1, 100)
    ]
    await refreshed(api, *rows)
    assert uncounted(api) == 100  # also where the first of all was read
    rows.append({"at": NOW - timedelta(minutes=1), "interval_s": 60.0, "pv_total_kwh": 130.0})
    await refreshed(api, rows[-1])
    assert uncounted(api) == 0
    assert increases(api) == [(rows[-1]["at"], 300)]
    rows.append({"at": begin + timedelta(days=10, minutes=7), "interval_s": 60.0, "pv_total_kwh": 110.0})
    await refreshed(api, rows[-1])
    assert increases(api) == [(rows[-1]["at"], 100), (rows[-2]["at"], 200)]
    rows.append({"at": begin - timedelta(days=3), "interval_s": 60.0, "pv_total_kwh": 99.0})
    await refreshed(api, rows[-1])
    assert increases(api) == [(begin, 10), (rows[-2]["at"], 100), (rows[-3]["at"], 200)]
    assert stored_rollup(api, "rollup_15m", "bucket") == expected(plain_rollup(rows))
    assert stored_rollup(api, "rollup_day", "day") == expected(days_of(plain_rollup(rows), ZoneInfo("UTC")))


def uncounted(api: Api) -> int:
    [(count,)] = api.rows("SELECT count(*) FROM rollup_15m WHERE pv_total_kwh_uncounted IS NOT NULL")
    return int(count)


def increases(api: Api) -> list[tuple[datetime, int]]:
    rows = api.rows(
        "SELECT pv_total_kwh_first_ts, pv_total_kwh_increase FROM rollup_15m "
        "WHERE pv_total_kwh_increase IS NOT NULL ORDER BY bucket"
    )
    return [(ts, increase) for ts, increase in rows]


@pytest.mark.parametrize(
    ("days", "after", "step", "is_flagged"),
    [
        (21, 3.0, 0, True),
        (21, 1060.0, 600, False),
        (21, 16_500.0, 0, True),  # 30 kW for 21 days are 15,120 kWh
        (60, 18_000.0, 170_000, False),
        (60, 19_000.0, 0, True),  # and for the 24 days that count at most 17,280 kWh
        (380, 18_000.0, 170_000, False),
    ],
    ids=str,
)
async def test_a_step_over_weeks_is_judged_by_their_length(
    api: Api, days: int, after: float, step: int, *, is_flagged: bool
) -> None:
    """A replaced inverter, plausible rises, and such that no inverter of 10 kW makes in that time."""
    moment = NOW - timedelta(minutes=1)
    begin = NOW - timedelta(days=days)
    await api.ingest(
        as_sample({"at": begin, "pv_total_kwh": 1000.0}), device={"model": "SH10RT", "timezone": "UTC"}
    )
    await refreshed(api, {"at": NOW - timedelta(hours=1), "pv_power_w": 1})
    await refreshed(api, {"at": moment, "pv_total_kwh": after})
    assert increases(api) == [(moment, step)]
    flagged = (moment, "pv_total_kwh", round(after * 10), 10_000)
    assert stored_breaks(api) == ({flagged} if is_flagged else set())


async def test_behind_the_horizon_rollups_tell_the_last_known_value(start_server: StartServer) -> None:
    clock = Clock(NOW)
    async with start_server(clock=clock, raw_retention_days=10) as api:
        old = {"at": NOW - timedelta(days=1), "pv_total_kwh": 100.0, "pv_power_w": 5}
        silent = {"at": NOW - timedelta(hours=4), "interval_s": 60.0, "pv_power_w": 5}
        await refreshed(api, old, silent)
        clock.now = NOW + timedelta(days=12)
        await api.server.retention.drop()
        assert api.rows("SELECT count(*) FROM samples") == [(0,)]
        before = stored_rollup(api, "rollup_15m", "bucket")
        new = {"at": clock.now - timedelta(minutes=5), "pv_total_kwh": 160.0}
        await refreshed(api, new)
        assert increases(api) == [(new["at"], 600)]
        after = stored_rollup(api, "rollup_15m", "bucket")
        assert {start: after[start] for start in before} == before  # frozen


async def test_a_quarter_that_is_empty_now_is_no_base_any_more(api: Api) -> None:
    rows = [{"at": at(1), "pv_total_kwh": 100.0}, {"at": at(2), "pv_total_kwh": 101.0}]
    rows += [{"at": at(3)}, {"at": at(4)}, {"at": at(5), "pv_total_kwh": 104.0}]
    await refreshed(api, *rows)
    assert increases(api) == [(at(2), 10), (at(5), 30)]

    async def forget(connection: Any) -> None:
        await connection.execute("DELETE FROM samples WHERE ts = %s", [at(2)])
        await connection.execute("INSERT INTO rollup_marks (device, bucket) SELECT 1, %s", [at(2)])

    await api.server.database.run(forget)
    await api.server.refresher.refresh_all()
    assert increases(api) == [(at(5), 40)]


async def _an_older_server(api: Api) -> list[dict[str, Any]]:
    """Readings, and what an older server made of them: no steps after silences, but integrals."""
    await nothing_to_repair(api)
    await api.server.database.run(_never_repaired)
    rows = silent_house(random.Random(5), quarter_of(NOW) - timedelta(days=3), 60, is_sound=True)
    await refreshed(api, *rows)
    require_equal(api, rows, "UTC")
    await api.server.database.run(_as_it_was)
    assert stored_rollup(api, "rollup_day", "day") != expected(days_of(plain_rollup(rows), ZoneInfo("UTC")))
    return rows


async def test_rollups_of_an_older_server_are_repaired_once(api: Api) -> None:
    rows = await _an_older_server(api)
    [(number,)] = api.rows("SELECT count(*) FROM rollup_15m")
    with psycopg.connect(api.dsn) as connection:
        connection.execute("DELETE FROM schema_history WHERE name LIKE '0012%'")
    migrate(api.dsn)  # while the older server runs on: what was marked for it would be lost
    assert api.rows("SELECT count(*) FROM rollup_marks") == [(0,)]
    await api.server.refresher.repair()
    [(marks,)] = api.rows("SELECT count(DISTINCT bucket) FROM rollup_marks")
    assert 0 < marks < number / 3
    await api.server.refresher.refresh_all()
    require_equal(api, rows, "UTC")
    assert api.rows(f"SELECT count(*) FROM schema_history WHERE name = '{REPAIR}'") == [(1,)]
    await api.server.database.run(_as_it_was)
    await api.server.refresher.repair()
    assert api.rows("SELECT count(*) FROM rollup_marks") == [(0,)]


async def test_a_server_repairs_by_itself_also_beside_others(api: Api) -> None:
    rows = await _an_older_server(api)
    year = timedelta(days=400)
    several = [
        RollupRefresher(
            api.server.database, horizon=Horizon(year, api.clock), interval_s=0.01, clock=api.clock
        )
        for _ in range(3)
    ]
    tasks = [asyncio.create_task(one.run()) for one in several]
    try:
        while any(one.refreshed_at is None for one in several) or api.rows("SELECT FROM rollup_marks"):  # noqa: ASYNC110 - the database tells of no event
            await asyncio.sleep(0.05)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    require_equal(api, rows, "UTC")


async def test_a_repair_waits_until_no_older_server_is_at_work(api: Api) -> None:
    """It would work off the marks in its own way, and go on to count wrongly, until it ends."""
    rows = await _an_older_server(api)
    with psycopg.connect(api.dsn, application_name="sungrow-server"):  # as theirs are named
        assert not await api.server.refresher.repair()
        assert api.rows("SELECT count(*) FROM rollup_marks") == [(0,)]
        assert api.rows(f"SELECT FROM schema_history WHERE name = '{REPAIR}'") == []
    while not await api.server.refresher.repair():  # noqa: ASYNC110 - the database takes a moment to forget it
        await asyncio.sleep(0.05)
    await api.server.refresher.refresh_all()
    require_equal(api, rows, "UTC")
    with psycopg.connect(api.dsn, application_name="sungrow-server"):
        assert await api.server.refresher.repair()  # there is nothing to do any more


async def test_a_repair_leaves_alone_what_has_lost_readings(api: Api) -> None:
    """Retention was shorter once, or somebody dropped readings: the rollups are all that is left."""
    rows = await _an_older_server(api)
    cut = rows[len(rows) // 2]["at"]
    before = stored_rollup(api, "rollup_15m", "bucket")

    async def forget(connection: Connection) -> None:
        await connection.execute("DELETE FROM samples WHERE ts <= %s", [cut])

    await api.server.database.run(forget)
    await api.server.refresher.repair()
    [(marks, first)] = api.rows("SELECT count(*), min(bucket) FROM rollup_marks")
    assert marks > 0
    assert first > cut
    await api.server.refresher.refresh_all()
    after = stored_rollup(api, "rollup_15m", "bucket")
    assert after != before
    kept = [name for name in NAMES if not name.endswith("_uncounted")]  # a later step may cover those
    assert {start: [after[start][name] for name in kept] for start in before if start <= cut} == {
        start: [before[start][name] for name in kept] for start in before if start <= cut
    }


async def _never_repaired(connection: Connection) -> None:
    await connection.execute("DELETE FROM schema_history WHERE name = %s", [REPAIR])


async def _as_it_was(connection: Connection) -> None:
    for counter, power in POWER_OF.items():
        await connection.execute(
            f"""
            WITH q AS (
              SELECT bucket, lag({counter}_last_ts) OVER (ORDER BY bucket) AS before FROM rollup_15m
            )
            UPDATE rollup_15m r
            SET {counter}_increase = NULL, {counter}_uncounted = r.{power}
            FROM q WHERE q.bucket = r.bucket AND q.before IS NULL
            """.encode()
        )
    await rebuild_days(connection, 1)


def test_every_counter_with_an_integral_has_an_energy() -> None:
    assert set(POWER_OF) == set(ENERGY_OF)
