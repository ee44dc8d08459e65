"""Series of plants: what adds adds, the meter that inverters share counts once, what is unknown is said."""

from __future__ import annotations

import io
import random
import tracemalloc
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from time import monotonic
from typing import Any, cast
from zoneinfo import ZoneInfo

import psycopg
import pyarrow.parquet as pq
import pytest

from reference_server import together
from reference_server.administration import create_token, delete_device, erase_device, set_device
from reference_server.series import Cut, SeriesReader
from reference_server.storage.database import Database
from reference_server.storage.devices import KnownDevice
from reference_server.storage.plant_sums import KeptSums
from reference_server.together import Together, TogetherReader
from reference_server.zones import Span
from sungrow_lib.client import SungrowClient
from sungrow_lib.errors import RequestRefusedError
from sungrow_lib.sample import format_ts
from sungrow_lib.wire.answers import Frame
from tests.server.conftest import NOW, OTHER_TOKEN, TOKEN, Api, StartServer

pytestmark = pytest.mark.anyio

HOUR = datetime(2026, 6, 15, 9, 0, tzinfo=UTC)


async def home(api: Api, *names: str, timezone: str | None = "Europe/Amsterdam") -> None:
    for name in names or ("sh-1", "sh-2"):
        await set_device(api.dsn, name, name=None, plant="home", timezone=timezone, poll_interval_s=60)


def minutes(device_id: str, count: int = 61, start: datetime = HOUR, **fields: Any) -> list[dict[str, Any]]:
    """Make a reading each minute from the hour's begin on."""
    return [
        {"device_id": device_id, "ts": format_ts(start + timedelta(minutes=i)), "interval_s": 60} | fields
        for i in range(count)
    ]


def counting(rows: list[dict[str, Any]], **per_hour: float) -> list[dict[str, Any]]:
    """Add counters that rise so much in an hour."""
    return [
        row | {name: 100 + round(i / 60 * rise, 3) for name, rise in per_hour.items()}
        for i, row in enumerate(rows)
    ]


async def plant(api: Api, **query: str) -> dict[str, Any]:
    status, answer = await api.get("/v1/plants/series", plant="home", **query)
    assert status == 200, answer
    assert isinstance(answer, dict)
    return answer


def span(begin: datetime = HOUR, hours: int = 1) -> dict[str, str]:
    return {"from": format_ts(begin), "to": format_ts(begin + timedelta(hours=hours))}


HYBRID: dict[str, Any] = {
    "pv_power_w": 3000, "battery_power_w": 500, "battery_soc_pct": 60, "active_power_w": 2400,
    "export_power_w": 3900, "load_power_w": 0,
}  # fmt: skip
STRING: dict[str, Any] = {"pv_power_w": 2000, "active_power_w": 2000, "export_power_w": 3700}


async def test_what_adds_adds_and_the_meter_counts_once(api: Api) -> None:
    await home(api)
    await api.ingest(*counting(minutes("sh-1", **HYBRID), pv_total_kwh=3, export_total_kwh=3.9))
    await api.ingest(*counting(minutes("sh-2", **STRING)[10:], pv_total_kwh=2))  # it sees the meter later
    answer = await plant(api, **span(), bucket="1h")
    [hour] = answer.pop("series")
    assert answer == {
        "plant": "home",
        "devices": ["sh-1", "sh-2"],
        "frame": None,
        "timezone": "Europe/Amsterdam",
    }
    assert hour["bucket"] == "2026-06-15T11:00:00+02:00"
    assert hour["avg_export_power_w"] == 3900
    assert hour["avg_battery_power_w"] == 500
    assert hour["avg_battery_soc_pct"] == 60
    # The second was heard for 50 of 60 minutes (a first reading stands for its interval).
    assert hour["avg_pv_power_w"] == pytest.approx(3000 + 2000 * 50 / 60, abs=0.01)
    # What the second gave in the first ten minutes nobody knows; so nobody knows the load.
    assert hour["avg_load_power_w"] == 2400 + 2000 - 3900
    assert hour["load_kwh"] == pytest.approx(0.5 * 50 / 60, abs=0.001)
    assert hour["pv_kwh"] == pytest.approx(3 * 59 / 60 + 2 * 49 / 60, abs=0.11)
    assert (hour["export_kwh"], hour["import_kwh"]) == (pytest.approx(3.9 * 59 / 60, abs=0.11), 0)
    assert hour["charge_kwh"] == 0.5
    assert hour["energy_source"] == {
        "pv": "counter", "charge": "integral", "discharge": "integral", "import": "integral",
        "export": "counter", "load": "integral",
    }  # fmt: skip
    assert hour["residual_kwh"] == pytest.approx(hour["pv_kwh"] - 3 - 2 * 50 / 60, abs=0.001)
    assert hour["self_consumption_pct"] == pytest.approx(
        100 * (hour["pv_kwh"] - hour["export_kwh"]) / hour["pv_kwh"], abs=0.01
    )
    assert hour["autarky_pct"] == 100
    assert (hour["sample_count"], hour["left_out"], hour["partial"]) == (110, [], False)
    assert hour["coverage"] == pytest.approx((60 + 50) / 120, abs=0.0001)
    assert "max_pv_power_w" not in hour  # each reaches its own at another moment


def missing(rows: list[dict[str, Any]], *quarters: int) -> list[dict[str, Any]]:
    """Leave out one reading in each of these quarters of an hour."""
    return [row for i, row in enumerate(rows) if i % 15 != 7 or i // 15 not in quarters]


def now_and_then(rows: list[dict[str, Any]], counter: str, *, every: int = 60) -> list[dict[str, Any]]:
    """Leave a counter in every so manieth reading only, and in the last."""
    last = len(rows) - 1
    return [
        row if i % every == 0 or i == last else {name: row[name] for name in row if name != counter}
        for i, row in enumerate(rows)
    ]


@pytest.mark.parametrize(
    ("first_misses", "second_misses"),
    [
        ((0, 1, 2, 3), (4, 5, 6, 7)),
        ((4, 5, 6, 7), (0, 1, 2, 3)),
        ((1, 3, 5, 7), (0, 2, 4, 6)),
        ((3,), (0, 7)),
    ],
)
@pytest.mark.parametrize("timezone", ["Europe/Amsterdam", "Asia/Kathmandu"])
async def test_a_shared_meter_counts_once_whoever_saw_it_longer_in_between(
    api: Api, timezone: str, first_misses: tuple[int, ...], second_misses: tuple[int, ...]
) -> None:
    await home(api, timezone=timezone)
    start = HOUR - timedelta(hours=4)
    rows = counting(minutes("sh-1", 120, start, export_power_w=-4000), import_total_kwh=4)
    others = [row | {"device_id": "sh-2"} for row in rows]
    await api.ingest(*missing(now_and_then(rows, "import_total_kwh"), *first_misses))
    await api.ingest(*missing(others, *second_misses))
    around = {"from": format_ts(start - timedelta(hours=12)), "to": format_ts(start + timedelta(hours=20))}
    sums, frames = {}, {}
    for bucket in ("5m", "15m", "1h", "1d", "1M"):
        series = (await plant(api, **around, bucket=bucket))["series"]
        sums[bucket] = sum(b["import_kwh"] or 0 for b in series)
    for frame in ("day", "month", "year", "all"):
        series = (await plant(api, frame=frame))["series"]
        frames[frame] = sum(b["import_kwh"] or 0 for b in series)
    assert sums == dict.fromkeys(sums, pytest.approx(7.9, abs=0.001))
    assert frames == dict.fromkeys(frames, pytest.approx(7.9, abs=0.001))


async def test_each_local_day_has_a_word_of_its_own_on_the_meter(api: Api) -> None:
    await home(api)
    for days, (much, little) in enumerate((("sh-1", "sh-2"), ("sh-2", "sh-1"))):
        start = HOUR - timedelta(days=days)
        await api.ingest(*minutes(much, 120, start, export_power_w=1000))
        await api.ingest(*minutes(little, 45, start, export_power_w=9000))
    begin = HOUR - timedelta(days=1)
    for bucket in ("15m", "1h", "1d"):
        series = (await plant(api, **span(begin, 30), bucket=bucket))["series"]
        assert {b["avg_export_power_w"] for b in series} - {None} == {1000}
        assert sum(b["export_kwh"] or 0 for b in series) == pytest.approx(4, abs=0.1)


async def test_who_knows_the_meters_counters_is_asked_before_who_knows_its_power_only(api: Api) -> None:
    await home(api)
    await api.ingest(*minutes("sh-1", 61, export_power_w=-4100))
    counted = counting(minutes("sh-2", 61, export_power_w=-4000), import_total_kwh=4)
    await api.ingest(*missing(counted, 0, 1, 2))
    [hour] = (await plant(api, **span(), bucket="1h"))["series"]
    assert (hour["avg_export_power_w"], hour["energy_source"]["import"]) == (-4000, "counter")


async def test_where_one_is_silent_the_meters_power_is_that_of_another(api: Api) -> None:
    """It is the same meter: what it showed is known. Its energy comes with the day's device's next value."""
    await home(api)
    start, told = HOUR - timedelta(hours=2), {"export_power_w": -4000, "active_power_w": 900}
    rows = counting(minutes("sh-1", 240, start, **told), import_total_kwh=4)
    await api.ingest(*rows[:61], *rows[180:])  # silent for two hours, yet the one that knows most of the day
    await api.ingest(*minutes("sh-2", 90, start + timedelta(hours=1), **told))
    hours = (await plant(api, **span(start, 5), bucket="1h"))["series"]
    assert [hour["avg_export_power_w"] for hour in hours] == [-4000, -4000, -4000, -4000, None]
    assert hours[2]["left_out"] == ["sh-1"]
    assert [hour["import_kwh"] for hour in hours[1:3]] == [pytest.approx(0.1, abs=0.1), None]
    assert sum(hour["import_kwh"] or 0 for hour in hours) == pytest.approx(4 * 239 / 60, abs=0.11)
    [day] = [b for b in (await plant(api, frame="month"))["series"] if b["sample_count"]]
    assert day["import_kwh"] == pytest.approx(sum(hour["import_kwh"] or 0 for hour in hours), abs=0.001)


async def test_who_is_silent_is_named_and_no_zero(api: Api) -> None:
    await home(api)
    await api.ingest(*minutes("sh-1", **HYBRID | {"load_power_w": 450}, count=60))
    await api.ingest(*minutes("sh-2", **STRING, start=HOUR + timedelta(hours=1), count=60))
    one, other, none = (await plant(api, **span(hours=3), bucket="1h"))["series"]
    # The second is not there before its first reading: nothing is left out, all the time is covered.
    assert (one["left_out"], other["left_out"], none["left_out"]) == ([], ["sh-1"], ["sh-1", "sh-2"])
    assert (one["avg_load_power_w"], one["load_kwh"], one["avg_pv_power_w"]) == (450, 0.45, 3000)
    assert (one["coverage"], other["coverage"]) == (1.0, 0.5)
    assert (other["avg_pv_power_w"], other["avg_load_power_w"]) == (2000, None)
    assert (none["avg_pv_power_w"], none["pv_kwh"], none["load_kwh"], none["coverage"]) == (
        None,
        None,
        None,
        0,
    )
    await api.ingest(*minutes("sh-2", pv_power_w=1, start=HOUR - timedelta(hours=1), count=30))
    [before] = (await plant(api, **span(HOUR - timedelta(hours=1)), bucket="1h"))["series"]
    unknown = before.keys() - {
        "bucket", "sample_count", "coverage", "partial", "left_out", "avg_pv_power_w", "pv_kwh",
        "energy_source",
    }  # fmt: skip
    assert {before[name] for name in unknown} == {None}
    assert (before["left_out"], before["coverage"]) == ([], 0.5)
    [one] = (await plant(api, **span(), bucket="1h"))["series"]
    assert (one["left_out"], one["coverage"]) == (["sh-2"], 0.5)  # it is there by now


async def test_late_readings_change_what_was_told_before(api: Api, start_server: StartServer) -> None:
    """Days and months are remembered by the process that put them together."""
    await home(api)
    first = HOUR - timedelta(days=40)
    for number in range(3):
        start = first + timedelta(days=number)
        await api.ingest(*minutes("sh-1", 60, start, **HYBRID))
        await api.ingest(*minutes("sh-2", 60, start, **STRING)[number::2])
    frames = {"month": first.date().isoformat(), "year": "2026-01-01", "all": "2026-01-01"}

    async def told(api: Api) -> dict[str, Any]:
        return {frame: (await plant(api, frame=frame, at=at))["series"] for frame, at in frames.items()}

    before = await told(api)
    assert await told(api) == before
    await api.ingest(*minutes("sh-2", 60, first, **STRING))  # the half that was missing
    after = await told(api)
    assert after["month"] != before["month"]
    days = [bucket for bucket in after["month"] if bucket["sample_count"]]
    hours = [(await plant(api, frame="day", at=day["bucket"][:10]))["series"] for day in days]
    for day, its in zip(days, hours, strict=True):
        assert day["load_kwh"] == pytest.approx(sum(hour["load_kwh"] or 0 for hour in its), abs=0.001)
    async with start_server() as fresh:
        assert await told(fresh) == after


async def test_what_was_erased_and_came_anew_is_not_what_was_remembered(
    api: Api, start_server: StartServer
) -> None:
    """The same sums of the day, at other times."""
    day = HOUR - timedelta(days=40)
    exports = 2000, 0  # as both saw the meter: a load of 0 and 3500 W, then of 1500 W twice

    async def send(*powers: int) -> None:
        await home(api)
        for number, power in enumerate(powers):
            start = day + timedelta(hours=number)
            its = {"pv_power_w": power, "active_power_w": power, "export_power_w": exports[number]}
            await api.ingest(*minutes("sh-1", 60, start, **its))

    async def told(api: Api) -> dict[str, Any]:
        frames = {"month": day.date().isoformat(), "year": "2026-01-01", "all": "2026-01-01"}
        return {frame: (await plant(api, frame=frame, at=at))["series"] for frame, at in frames.items()}

    await send(1000, 3000)
    for number, export in enumerate(exports):
        start = day + timedelta(hours=number)
        await api.ingest(*minutes("sh-2", 60, start, active_power_w=500, export_power_w=export))
    before = await told(api)
    assert await told(api) == before
    await erase_device(api.dsn, "sh-1")
    await delete_device(api.dsn, "sh-1", deleted=False)
    api.server.devices.forget("sh-1")
    await send(3000, 1000)
    after = await told(api)
    async with start_server() as fresh:
        assert await told(fresh) == after
    hours = (await plant(api, frame="day", at=day.date().isoformat()))["series"]
    [its] = [bucket for bucket in after["month"] if bucket["sample_count"]]
    assert its["load_kwh"] == sum(hour["load_kwh"] or 0 for hour in hours) == 3.0


async def closed_days(api: Api, days_ago: int = 40) -> dict[str, str]:
    """Store readings of two devices on days of a month that is over; return which month that is."""
    await home(api)
    first = HOUR - timedelta(days=days_ago)
    for number in range(3):
        start = first + timedelta(days=number)
        await api.ingest(*minutes("sh-1", 60, start, **HYBRID))
        await api.ingest(*minutes("sh-2", 60, start, **STRING)[number:])
    return {"frame": "month", "at": first.date().isoformat()}


async def test_what_is_over_is_put_together_once_and_kept(
    api: Api, start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    month, year = await closed_days(api), {"frame": "year", "at": "2026-01-01"}
    await api.ingest(*minutes("sh-1", **HYBRID))
    await api.ingest(*minutes("sh-2", **STRING))
    asked: list[str] = []
    rows = Database.rows

    async def watched(database: Database, name: str, /, **parameters: Any) -> list[tuple[Any, ...]]:
        asked.append(name)
        return await rows(database, name, **parameters)

    monkeypatch.setattr(Database, "rows", watched)
    before = [await plant(api, **month), await plant(api, **year)]
    assert asked.count("plant_powers") == 2
    assert (await plant(api, frame="month"))["series"][-1]["partial"], "of today nothing is kept"
    kept = api.rows(
        "SELECT devices, is_month, begins FROM plant_kept JOIN plant_sets USING (heard)"
        " ORDER BY is_month, begins"
    )
    assert [is_month for _, is_month, _ in kept] == [False] * 3 + [True]
    assert kept[0][2] == kept[3][2] + timedelta(days=5) == datetime(2026, 5, 5, 22, tzinfo=UTC)
    async with start_server() as fresh:
        asked.clear()
        assert await plant(fresh, **month) == before[0]
        assert (await plant(fresh, **year))["series"][:-1] == before[1]["series"][:-1]
        assert asked.count("plant_sums") == 2
        assert asked.count("plant_powers") == 1, "of the running month"


async def test_what_is_kept_holds_as_long_as_the_readings_are_the_same(
    api: Api, start_server: StartServer
) -> None:
    month = await closed_days(api)
    before = (await plant(api, **month))["series"]
    with psycopg.connect(api.dsn) as connection:
        connection.execute("UPDATE plant_kept SET pv = pv + 1000 * pv_ms")
    async with start_server() as fresh:
        told = (await plant(fresh, **month))["series"]
        powers = [[bucket["avg_pv_power_w"] for bucket in series] for series in (told, before)]
        more = [now - was for now, was in zip(*powers, strict=True) if was is not None]
        assert more == [1000] * 3, "it is read"
        await api.ingest(*minutes("sh-2", 1, HOUR - timedelta(days=39, minutes=30), **STRING))
        after = (await plant(fresh, **month))["series"]
    assert [now != was for now, was in zip(after, told, strict=True)].count(True) == 1
    changed = next(now for now, was in zip(after, told, strict=True) if now != was)
    assert changed["avg_pv_power_w"] < before[6]["avg_pv_power_w"]
    hours = (await plant(api, frame="day", at="2026-05-07"))["series"]
    assert changed["load_kwh"] == pytest.approx(sum(hour["load_kwh"] or 0 for hour in hours), abs=0.001)


async def test_nothing_is_kept_of_a_device_that_was_changed_or_erased(api: Api) -> None:
    await closed_days(api)
    kept = KeptSums(api.server.database)
    now = dict(await api.server.database.rows("device_versions", devices=[1, 2]))
    found = {HOUR: (b"digest", Together(pv=1, pv_ms=2))}
    await kept.keep({**now, 2: now[2] - 1}, [1, 2], found, is_month=False)
    assert await kept.find([1, 2], HOUR, HOUR, is_month=False) == {}
    await kept.keep(now, [1, 2], found, is_month=False)
    assert await kept.find([1, 2], HOUR, HOUR, is_month=False) == {HOUR: (b"digest", [*found[HOUR][1]])}
    assert await kept.find([1], HOUR, HOUR, is_month=False) == {}
    assert await kept.find([1, 2], HOUR, HOUR, is_month=True) == {}
    await erase_device(api.dsn, "sh-2")
    assert await kept.find([1, 2], HOUR, HOUR, is_month=False) == {}


async def test_a_plant_is_answered_by_a_database_that_takes_nothing_and_kept_later(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    month = await closed_days(api)
    await api.server.refresher.refresh_all()
    with psycopg.connect(api.dsn) as connection:
        connection.execute("ALTER TABLE plant_kept ADD CONSTRAINT nothing CHECK (false)")
    told = (await plant(api, **month))["series"]
    assert sum(bucket["sample_count"] for bucket in told) == 60 * 6 - 3
    assert api.rows("SELECT FROM plant_kept") == []
    with psycopg.connect(api.dsn) as connection:
        connection.execute("ALTER TABLE plant_kept DROP CONSTRAINT nothing")
    assert (await plant(api, **month))["series"] == told
    assert api.rows("SELECT FROM plant_kept") == [], "not at once"
    monkeypatch.setattr(together, "monotonic", lambda: monotonic() + 61)
    assert (await plant(api, **month))["series"] == told
    assert len(api.rows("SELECT FROM plant_kept")) == 3


async def test_what_was_asked_for_before_it_was_over_is_kept_when_it_is(api: Api) -> None:
    await home(api)
    await api.ingest(*minutes("sh-1", **HYBRID))
    await api.ingest(*minutes("sh-2", **STRING))
    month = {"frame": "month", "at": HOUR.date().isoformat()}
    before = (await plant(api, **month))["series"]
    assert api.rows("SELECT FROM plant_kept") == []
    api.clock.now += timedelta(days=1)
    assert (await plant(api, **month))["series"][:14] == before[:14]
    assert len(api.rows("SELECT FROM plant_kept")) == 1


async def test_plants_of_any_number_of_devices_are_kept(api: Api) -> None:
    with psycopg.connect(api.dsn) as connection:
        connection.execute(
            "INSERT INTO devices (device_id) SELECT 'd' || n FROM generate_series(1, 3000) AS n"
        )
    devices = [device for (device,) in api.rows("SELECT device FROM devices ORDER BY device")]
    kept = KeptSums(api.server.database)
    versions = dict(await api.server.database.rows("device_versions", devices=devices))
    found = {HOUR: (b"digest", Together(pv=1, pv_ms=2))}
    for some in (devices, devices[1:], devices):
        assert await kept.keep(versions, some, found, is_month=False)
        assert list(await kept.find(some, HOUR, HOUR, is_month=False)) == [HOUR]
    await erase_device(api.dsn, "d1")
    assert await kept.find(devices, HOUR, HOUR, is_month=False) == {}
    assert list(await kept.find(devices[1:], HOUR, HOUR, is_month=False)) == [HOUR]


class Versions(Database):
    """Knows one device, in its fifth version."""

    async def rows(self, name: str, /, **parameters: Any) -> list[tuple[Any, ...]]:
        assert (name, parameters) == ("device_versions", {"devices": [1]})
        return [(1, 5)]


async def test_nothing_is_remembered_of_a_device_that_was_just_changed() -> None:
    reader = TogetherReader(Versions(""), cast("SeriesReader", None), clock=lambda: NOW)
    long, short = (Cut(ZoneInfo("UTC"), [Span(HOUR, HOUR + timedelta(hours=n))]) for n in (24, 1))
    device = KnownDevice(1, "sh-1", "UTC", 60, deleted=False, version=5)
    assert await reader.plant([device], long) is not None
    assert await reader.plant([replace(device, version=4)], long) is None
    assert await reader.plant([device], short) is None


def test_what_is_remembered_takes_little_memory() -> None:
    chance = random.Random(1)
    reader = TogetherReader(cast("Database", None), cast("SeriesReader", None), clock=lambda: NOW)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(10_000):
            begin = HOUR + timedelta(days=number)
            known = Together(*(chance.getrandbits(50) for _ in Together._fields))
            plant = chance.randbytes(16)
            span = Span(begin, begin + timedelta(days=1))
            reader._remember((plant, span), chance.randbytes(16), known)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(reader._memory) >= 3800, "ten years of days and months"
    assert after - before < 6 * 2**20


async def test_without_every_output_the_load_is_unknown(api: Api) -> None:
    await home(api)
    await api.ingest(*minutes("sh-1", **HYBRID))
    await api.ingest(*minutes("sh-2", pv_power_w=2000, battery_soc_pct=40))
    [hour] = (await plant(api, **span(), bucket="1h"))["series"]
    assert (hour["avg_load_power_w"], hour["load_kwh"], hour["autarky_pct"]) == (None, None, None)
    assert (hour["avg_pv_power_w"], hour["avg_battery_soc_pct"]) == (5000, None)


async def test_frames_hold_what_those_of_the_devices_hold(api: Api) -> None:
    await home(api)
    await set_device(api.dsn, "sh-2", name=None, plant=None, timezone="UTC", poll_interval_s=None)
    for number in range(3):
        start = HOUR - timedelta(days=31 * number)
        await api.ingest(*minutes("sh-1", **HYBRID, start=start, count=2))
        # An hour before midnight UTC: in the plant's zone it is the next day already.
        await api.ingest(*minutes("sh-2", **STRING, start=start - timedelta(hours=10), count=4 - number))
    for frame, starts in (
        ("day", [f"2026-06-15T{hour:02}:00:00+02:00" for hour in range(15)]),
        ("month", [f"2026-06-{day:02}T00:00:00+02:00" for day in range(1, 16)]),
        ("year", [f"2026-{m:02}-01T00:00:00+0{1 if m < 4 else 2}:00" for m in range(1, 7)]),
        ("all", [f"2026-0{m}-01T00:00:00+02:00" for m in (4, 5, 6)]),
    ):
        answer = await plant(api, frame=frame)
        assert (answer["frame"], answer["timezone"]) == (frame, "Europe/Amsterdam")
        assert [bucket["bucket"] for bucket in answer["series"]] == starts
        counts = {b["bucket"]: b["sample_count"] for b in answer["series"] if b["sample_count"]}
        if frame == "day":
            assert counts == {"2026-06-15T01:00:00+02:00": 4, "2026-06-15T11:00:00+02:00": 2}
        elif frame == "month":
            assert counts == {"2026-06-15T00:00:00+02:00": 6}
        else:
            assert list(counts.values()) == [4, 5, 6]
    [month] = [b for b in (await plant(api, frame="month", at="2026-05-31"))["series"] if b["sample_count"]]
    assert (month["bucket"][:10], month["sample_count"]) == ("2026-05-15", 5)


@pytest.mark.parametrize("bucket", ["5m", "15m"])
async def test_ranges_are_exact(api: Api, bucket: str) -> None:
    await home(api)
    await api.ingest(*minutes("sh-1", **HYBRID))
    await api.ingest(*minutes("sh-2", **STRING))
    cut = {"from": "2026-06-15T09:07:00Z", "to": "2026-06-15T09:33:00Z"}
    answer = await plant(api, **cut, bucket=bucket)
    assert sum(b["sample_count"] for b in answer["series"]) == 2 * 26
    assert {b["avg_pv_power_w"] for b in answer["series"]} == {5000}


async def test_a_token_sees_its_own_part_of_a_plant(api: Api) -> None:
    await home(api, "sh-1", "sh-2", "other")
    await api.ingest(*minutes("sh-1", **HYBRID))
    await api.send(*minutes("other", **STRING), token=OTHER_TOKEN)
    assert (await plant(api, frame="day"))["devices"] == ["sh-1", "sh-2"]
    stranger = await create_token(api.dsn, "stranger", ["read"], ["sh-9"], None)
    for token, name in ((stranger, "home"), (TOKEN, "elsewhere")):
        status, _ = await api.get("/v1/plants/series", plant=name, frame="day", token=token)
        assert status == 404
    assert (await api.get("/v1/plants/series", frame="day"))[0] == 422
    assert (await api.get("/v1/plants/series", plant="home"))[0] == 422
    assert (await api.get("/v1/plants/series", plant="home", **span(), bucket="raw"))[0] == 422
    ages = {"from": "2020-01-01T00:00:00Z", "to": "2020-01-02T00:00:00Z"}
    assert (await api.get("/v1/plants/series", plant="home", **ages, bucket="5m"))[0] == 422


async def test_a_deleted_device_stays_in_the_history_of_its_plant(api: Api) -> None:
    """It ends with its last reading; one that is only silent goes on to be missing."""
    await home(api)
    told: dict[str, Any] = {
        "pv_power_w": 1000,
        "active_power_w": 1000,
        "export_power_w": 500,
        "load_power_w": 500,
    }
    await api.ingest(*counting(minutes("sh-1", 60, HOUR - timedelta(days=1), **told), pv_total_kwh=1))
    await api.ingest(*counting(minutes("sh-2", 60, **told), pv_total_kwh=1))

    async def days() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await plant(api, frame="month"))["series"]
        return found[-2:]

    before, after = await days()
    assert (before["pv_kwh"], after["pv_kwh"]) == (1.0, 1.0)
    assert (before["left_out"], after["left_out"]) == ([], ["sh-1"])
    assert after["coverage"] == pytest.approx(60 / (14 + 3) / 60, abs=0.01)  # of 14 hours, and of three
    await delete_device(api.dsn, "sh-1", deleted=True)
    assert (await days())[0] == before | {"coverage": 1.0}
    assert (await days())[1] == after | {"left_out": [], "coverage": pytest.approx(1 / 3, abs=0.01)}
    assert (await plant(api, frame="day"))["devices"] == ["sh-1", "sh-2"]
    [june] = [b for b in (await plant(api, frame="year"))["series"] if b["sample_count"]]
    assert (june["avg_pv_power_w"], june["avg_load_power_w"], june["load_kwh"]) == (1000, 500, 1.0)
    await delete_device(api.dsn, "sh-2", deleted=True)
    assert (await api.get("/v1/plants/series", plant="home", frame="day"))[0] == 404
    await delete_device(api.dsn, "sh-2", deleted=False)
    await erase_device(api.dsn, "sh-1")
    answer = await plant(api, frame="month")
    assert answer["devices"] == ["sh-2"]
    assert answer["series"][-2]["pv_kwh"] is None


async def test_a_zone_nobody_set_is_utc(api: Api) -> None:
    await home(api, timezone=None)
    assert (await plant(api, frame="day"))["timezone"] == "UTC"
    assert {b["coverage"] for b in (await plant(api, frame="day"))["series"]} == {0}
    assert (await plant(api, frame="all"))["series"] == []


async def test_as_a_table_and_not_twice(api: Api) -> None:
    await home(api)
    await api.ingest(*minutes("sh-1", **HYBRID))
    await api.ingest(*minutes("sh-2", 1, HOUR - timedelta(days=1)))
    query = {"plant": "home"} | span() | {"bucket": "1h"}
    url = api.url + "/v1/plants/series"
    headers = api.headers() | {"Accept": "application/vnd.apache.parquet"}
    async with api.session.get(url, params=query, headers=headers) as answer:
        [row] = pq.read_table(io.BytesIO(await answer.read())).to_pylist()
        etag = answer.headers["ETag"]
    assert (row["left_out"], row["pv_kwh"]) == (["sh-2"], 3.0)
    async with api.session.get(url, params=query, headers=headers | {"If-None-Match": etag}) as again:
        assert again.status == 304
    async with api.session.get(url, params=query, headers=api.headers() | {"Accept": "text/csv"}) as answer:
        assert '"[""sh-2""]"' in await answer.text()


async def test_the_client_reads_them(api: Api) -> None:
    await home(api)
    await api.ingest(*minutes("sh-1", **HYBRID))
    await api.ingest(*minutes("sh-2", 1, HOUR - timedelta(days=1)))
    async with SungrowClient(api.url, TOKEN) as client:
        day = await client.plant_series("home")
        assert (day.name, day.timezone, len(day)) == ("home", "Europe/Amsterdam", 15)
        assert day[11].pv_kwh == 3.0
        june = await client.plant_series("home", frame=Frame.MONTH, at=date(2026, 6, 1))
        assert june.to_pandas()["left_out"].iloc[14].tolist() == ["sh-2"]
        [hour] = await client.plant_range("home", begin=HOUR, end=HOUR + timedelta(hours=1), bucket="1h")
        assert hour.left_out == ["sh-2"]
        with pytest.raises(RequestRefusedError, match="404"):
            await client.plant_range("elsewhere", begin=HOUR, end=NOW, bucket="1d")


async def test_a_house_that_another_source_feeds_takes_less_than_nothing(api: Api) -> None:
    """A load below zero is no consumption: it takes off from it, for a device as for its plant."""
    await home(api, "sh-1", timezone="UTC")
    feeding = minutes("sh-1", count=60, export_power_w=0, load_power_w=-600)
    taking = minutes("sh-1", count=61, start=HOUR + timedelta(hours=1), export_power_w=0, load_power_w=900)
    await api.ingest(*feeding, *taking)
    for bucket, known in ("15m", [-0.15] * 4 + [0.225] * 4), ("1h", [-0.6, 0.9]), ("1d", [0.3]):
        for path, names in ("/v1/series", {"device_id": "sh-1"}), ("/v1/plants/series", {"plant": "home"}):
            _, answer = await api.get(path, bucket=bucket, **names, **span(hours=2))
            found = [one["load_kwh"] for one in answer["series"]]
            assert found == pytest.approx(known, abs=0.016), (path, bucket)  # a minute changes at each seam
