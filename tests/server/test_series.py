"""Series: local days, months and years; gaps are gaps; right on the days the clocks change."""

from __future__ import annotations

import io
import json
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings, strategies as st
from pyarrow import parquet

from reference_server import series as series_module
from reference_server.buckets import (
    GAUGE_FIELDS,
    SERIES_FIELDS,
    Bucket,
    Maker,
    needed_columns,
    record_dict,
)
from reference_server.parquet import PARQUET
from reference_server.series import step_of
from reference_server.storage.queries import merging
from reference_server.zones import QUARTER, Span, day_span, hours_of, known_zone, quarter_of
from sungrow_lib.sample import format_ts
from sungrow_lib.wire.answers import SeriesBucket
from tests.server.conftest import NOW, Api, Clock, StartServer, sample

pytestmark = pytest.mark.anyio

AMSTERDAM = ZoneInfo("Europe/Amsterdam")


def reading(at: datetime, **fields: Any) -> dict[str, Any]:
    return {"device_id": "sh-1", "ts": format_ts(at), "interval_s": 60} | fields


async def series(api: Api, **query: str) -> list[dict[str, Any]]:
    status, answer = await api.get("/v1/series", device_id="sh-1", **query)
    assert status == 200, answer
    buckets: list[dict[str, Any]] = answer["series"]
    return buckets


async def test_an_hour_of_a_day_in_full(api: Api) -> None:
    start = datetime(2026, 6, 15, 9, 0, tzinfo=UTC)
    before = reading(start, pv_power_w=0, load_power_w=0, export_power_w=0, pv_total_kwh=100)
    rows = [
        reading(
            start + timedelta(minutes=i),
            pv_power_w=3000,
            load_power_w=1000,
            export_power_w=1500 if i <= 30 else -500,
            battery_power_w=500,
            battery_soc_pct=50 if i <= 30 else 60,
            pv_total_kwh=100 + round(i * 0.05, 1),
        )
        for i in range(1, 60)
    ]
    await api.ingest(before, *rows, device={"timezone": "Europe/Amsterdam"})
    hours = await series(api, frame="day")
    assert [hour["bucket"] for hour in hours][:2] == [
        "2026-06-15T00:00:00+02:00",
        "2026-06-15T01:00:00+02:00",
    ]
    assert len(hours) == 15  # up to now, 14:00, which has begun
    assert [hour["partial"] for hour in hours[-2:]] == [False, True]
    hour = hours[11]
    assert hour["bucket"] == "2026-06-15T11:00:00+02:00"
    assert hour["sample_count"] == 60
    assert hour["coverage"] == 1
    assert hour["avg_pv_power_w"] == 2950
    assert hour["max_pv_power_w"] == 3000
    assert hour["avg_battery_soc_pct"] == pytest.approx((30 * 50 + 29 * 60) / 59, abs=0.001)
    assert hour["pv_kwh"] == pytest.approx(3.0, abs=0.1)
    assert hour["load_kwh"] == pytest.approx(59 / 60, abs=0.001)
    assert hour["export_kwh"] == pytest.approx(0.75, abs=0.001)
    assert hour["import_kwh"] == pytest.approx(29 * 0.5 / 60, abs=0.001)
    assert hour["charge_kwh"] == pytest.approx(59 * 0.5 / 60, abs=0.001)
    assert hour["discharge_kwh"] == 0
    assert hour["energy_source"] == {
        "pv": "counter",
        "load": "integral",
        "import": "integral",
        "export": "integral",
        "charge": "integral",
        "discharge": "integral",
    }
    assert hour["residual_kwh"] == pytest.approx(hour["pv_kwh"] - 2.95, abs=0.001)
    assert hour["self_consumption_pct"] == pytest.approx(75, abs=3)
    assert hour["autarky_pct"] == pytest.approx(100 - 29 * 50 / 59, abs=0.1)
    empty = hours[3]
    assert empty["coverage"] == 0
    assert empty["sample_count"] == 0
    assert all(
        empty[name] is None for name in empty.keys() - {"bucket", "coverage", "sample_count", "partial"}
    )


async def test_power_stands_in_while_a_counter_is_silent(api: Api) -> None:
    start = datetime(2026, 6, 15, 9, 0, tzinfo=UTC)
    minutes = [(start + timedelta(minutes=i), {"pv_power_w": 6000}) for i in range(60)]
    rows = [
        reading(at, **power, **({"pv_total_kwh": 100 + i / 10} if i >= 30 else {}))
        for i, (at, power) in enumerate(minutes)
    ]
    await api.ingest(*rows)
    for frame in ("day", "month"):
        [bucket] = [b for b in await series(api, frame=frame) if b["sample_count"]]
        assert bucket["energy_source"]["pv"] == "mixed"
        assert bucket["pv_kwh"] == pytest.approx(3.0 + 2.9, abs=0.001)
        assert bucket["residual_kwh"] is None


async def test_frames_hold_what_they_say(api: Api) -> None:
    await api.ingest(
        *(reading(NOW - timedelta(days=31 * i), pv_power_w=1) for i in range(5)),
        device={"timezone": "Europe/Amsterdam"},
    )
    assert [b["bucket"] for b in await series(api, frame="month")] == [
        f"2026-06-{day:02}T00:00:00+02:00" for day in range(1, 16)
    ]
    may = await series(api, frame="month", at="2026-05-31")
    assert (len(may), sum(bucket["sample_count"] for bucket in may)) == (31, 1)
    year = await series(api, frame="year")
    assert [b["bucket"] for b in year][:4] == [
        "2026-01-01T00:00:00+01:00",
        "2026-02-01T00:00:00+01:00",
        "2026-03-01T00:00:00+01:00",
        "2026-04-01T00:00:00+02:00",
    ]
    assert len(year) == 6
    everything = await series(api, frame="all")
    assert [b["bucket"][:7] for b in everything] == ["2026-02", "2026-03", "2026-04", "2026-05", "2026-06"]
    assert await series(api, frame="day", at="2026-06-16") == []
    assert len(await series(api, frame="year", at="2025-07-01")) == 12


async def test_without_readings_all_is_empty_and_a_day_is_not(api: Api) -> None:
    await api.ingest(reading(NOW, pv_power_w="x"))
    assert await series(api, frame="all") == []
    assert {bucket["coverage"] for bucket in await series(api, frame="day")} == {0}


@pytest.mark.parametrize(
    ("at", "hours", "repeated"),
    [("2026-03-29", 23, []), ("2026-10-25", 25, ["T02:00:00+02:00", "T02:00:00+01:00"])],
)
async def test_days_on_which_the_clocks_change(
    start_server: StartServer, at: str, hours: int, repeated: list[str]
) -> None:
    day = date.fromisoformat(at)
    clock = Clock(datetime(2026, 12, 1, tzinfo=UTC))
    async with start_server(clock=clock) as api:
        span = day_span(day, AMSTERDAM)
        count = (span.end - span.begin) // timedelta(minutes=15)
        rows = [reading(span.begin + timedelta(minutes=15 * i), pv_power_w=i) for i in range(count)]
        await api.ingest(*rows, device={"timezone": "Europe/Amsterdam"})
        buckets = await series(api, frame="day", at=at)
        assert len(buckets) == hours
        assert {bucket["sample_count"] for bucket in buckets} == {4}
        starts = [bucket["bucket"][10:] for bucket in buckets]
        assert [start for start in starts if start in repeated] == repeated
        assert len({bucket["bucket"] for bucket in buckets}) == hours
        [month_day] = [b for b in await series(api, frame="month", at=at) if b["bucket"].startswith(at)]
        assert month_day["sample_count"] == 4 * hours


async def test_any_range_and_chosen_fields(api: Api) -> None:
    start = datetime(2026, 6, 14, 22, 0, tzinfo=UTC)
    rows = [reading(start + timedelta(minutes=15 * i), battery_temp_c=20 + i / 10) for i in range(40)]
    await api.ingest(*rows, device={"timezone": "Europe/Amsterdam"})
    query = {"from": "2026-06-14T22:00:00Z", "to": "2026-06-15T01:00:00+00:00"}
    for bucket, count in (("15m", 12), ("1h", 3), ("1d", 1), ("1M", 1)):
        found = await series(api, **query, bucket=bucket, fields="max_battery_temp_c,pv_kwh")
        assert len(found) == count
        assert found[0].keys() == {
            "bucket", "max_battery_temp_c", "pv_kwh", "sample_count", "coverage", "partial",
        }  # fmt: skip
        assert sum(b["sample_count"] for b in found) == 12
        assert found[-1]["max_battery_temp_c"] == 21.1
        assert found[0]["pv_kwh"] is None
    asked = await series(api, **query, bucket="1h", fields="bucket,sample_count,coverage,partial")
    assert asked[0].keys() == {"bucket", "sample_count", "coverage", "partial"}
    running = {"from": "2026-06-15T00:00:00Z", "to": "2026-07-01T00:00:00Z"}
    assert len(await series(api, bucket="1h", **running)) == 13


async def test_five_minutes_from_the_readings_themselves(api: Api) -> None:
    start = datetime(2026, 6, 15, 10, 0, tzinfo=UTC)
    rows = [
        reading(start + timedelta(minutes=i), pv_power_w=100 * i, pv_total_kwh=50 + i / 10)
        for i in range(60)
        if not 20 <= i < 30
    ]
    await api.ingest(*rows, device={"timezone": "Asia/Kathmandu"})
    span = {"from": "2026-06-15T10:00:00Z", "to": "2026-06-15T11:00:00Z"}
    fine = await series(api, **span, bucket="5m")
    assert len(fine) == 12
    assert fine[1]["bucket"] == "2026-06-15T15:50:00+05:45"
    assert (fine[1]["avg_pv_power_w"], fine[1]["max_pv_power_w"], fine[1]["pv_kwh"]) == (700, 900, 0.5)
    assert (fine[1]["sample_count"], fine[1]["coverage"], fine[1]["partial"]) == (5, 1, False)
    assert [bucket["coverage"] for bucket in fine[4:6]] == [0, 0]
    assert fine[4]["avg_pv_power_w"] is None
    coarse = await series(api, **span, bucket="15m")
    for number, bucket in enumerate(coarse):
        parts = fine[3 * number : 3 * number + 3]
        assert bucket["sample_count"] == sum(part["sample_count"] for part in parts)
        assert bucket["pv_kwh"] == pytest.approx(sum(part["pv_kwh"] or 0 for part in parts))
    off = {"from": "2026-06-15T10:03:00Z", "to": "2026-06-15T10:11:00Z"}
    cut = await series(api, **off, bucket="5m")
    assert [bucket["sample_count"] for bucket in cut] == [2, 5, 1]
    assert cut[1] == fine[1]


async def test_averages_of_five_minutes_are_the_same_whatever_else_is_asked_for(api: Api) -> None:
    begin = NOW - timedelta(hours=3)
    rows = [
        reading(begin + timedelta(seconds=13 * i), pv_power_w=i % 97, pv_total_kwh=50 + i // 30 / 10)
        | {"interval_s": None if i % 5 else 13}
        for i in range(800)
        if i % 100 > 30  # silent for minutes
    ]
    await api.ingest(*rows)
    for first in (begin, begin + timedelta(minutes=17, seconds=3)):
        span = {"from": format_ts(first), "to": format_ts(NOW), "bucket": "5m"}
        alone = await series(api, **span, fields="avg_pv_power_w")
        beside = await series(api, **span, fields="avg_pv_power_w,pv_kwh")
        assert [b | {"pv_kwh": None} for b in alone] == [b | {"pv_kwh": None} for b in beside]
        assert {b["coverage"] for b in alone} >= {0, 1}
        assert sum(b["pv_kwh"] or 0 for b in beside) > 2


def test_counters_are_compared_with_their_values_before_where_one_is_asked_for() -> None:
    statement, _ = merging("series_from_samples", needed_columns(["avg_pv_power_w", "max_battery_soc_pct"]))
    assert b"_total_" not in statement.replace(b"total_kwh,", b"").replace(b"total_h,", b"")
    statement, names = merging("series_from_samples", frozenset({"pv_total_kwh_increase"}))
    assert names == ("pv_total_kwh_increase",)
    assert b"running_time_total_h_rise IS NULL" in statement  # it may be what calls for values of earlier on


@pytest.mark.parametrize("bucket", ["5m", "15m", "1h", "1d", "1M"])
async def test_a_range_holds_exactly_what_lies_in_it(api: Api, bucket: str) -> None:
    start = datetime(2026, 6, 14, 20, 0, tzinfo=UTC)
    rows = [reading(start + timedelta(minutes=i), pv_power_w=i, pv_total_kwh=50 + i / 10) for i in range(400)]
    await api.ingest(*rows, device={"timezone": "Asia/Kathmandu"})
    raw = {row["ts"]: row for row in rows}
    for begin, end in (
        ("2026-06-14T20:07:00.000Z", "2026-06-15T01:53:00.000Z"),
        ("2026-06-14T21:00:00.000Z", "2026-06-14T23:52:30.000Z"),
        ("2026-06-14T21:31:00.000Z", "2026-06-14T21:39:00.001Z"),
    ):
        found = await series(
            api,
            bucket=bucket,
            **{"from": begin, "to": end},
            fields="avg_pv_power_w,min_pv_power_w,max_pv_power_w,pv_kwh",
        )
        inside = [row for ts, row in raw.items() if begin <= ts < end]
        assert sum(b["sample_count"] for b in found) == len(inside)
        assert min(b["min_pv_power_w"] for b in found) == inside[0]["pv_power_w"]
        assert max(b["max_pv_power_w"] for b in found) == inside[-1]["pv_power_w"]
        assert sum(b["pv_kwh"] for b in found) == pytest.approx(len(inside) / 10)
        assert {b["coverage"] for b in found} <= {1.0} or bucket in {"5m", "15m"}
        covered = sum(b["avg_pv_power_w"] * b["sample_count"] for b in found) / len(inside)
        assert covered == pytest.approx(sum(row["pv_power_w"] for row in inside) / len(inside))
        assert datetime.fromisoformat(found[0]["bucket"]) == datetime.fromisoformat(begin)


@pytest.mark.parametrize("zone", ["UTC", "Europe/Amsterdam", "Asia/Kathmandu"])
@pytest.mark.parametrize(
    ("bucket", "frame", "first"), [("1d", "month", "2026-03-01"), ("1M", "year", "2026-01-01")]
)
async def test_a_range_of_days_says_what_the_frame_says(
    api: Api, zone: str, bucket: str, frame: str, first: str
) -> None:
    begin, hour = datetime(2025, 12, 28, 3, tzinfo=UTC), timedelta(hours=1)
    rows = [reading(begin + 7 * i * hour, pv_power_w=i, pv_total_kwh=i) for i in range(250)]
    await api.ingest(*rows, device={"timezone": zone})
    buckets = await series(api, frame=frame, at=first)
    start, last = (datetime.fromisoformat(buckets[i]["bucket"]).astimezone(UTC) for i in (0, 3))
    whole = {"from": format_ts(start), "to": format_ts(last)}
    assert await series(api, bucket=bucket, **whole) == buckets[:3]
    for cut_h in (30, 48):  # within a day, and between two
        cut = {"from": format_ts(start + cut_h * hour), "to": format_ts(last + 5 * hour)}
        found = await series(api, bucket=bucket, **cut)
        assert [b for b in found if b in buckets[:3]] == buckets[{"1d": 2, "1M": 1}[bucket] : 3]
        hours = await series(api, bucket="1h", **cut)
        assert sum(b["sample_count"] for b in found) == sum(b["sample_count"] for b in hours)


@pytest.mark.parametrize("bucket", ["5m", "15m", "1h", "1d", "1M"])
@pytest.mark.parametrize("begin", ["2026-06-15T10:00:00Z", "2026-06-15T10:07:00Z"])
async def test_a_range_that_ends_where_it_begins_holds_nothing(api: Api, bucket: str, begin: str) -> None:
    await api.ingest(sample(0))
    query = {"device_id": "sh-1", "from": begin, "to": begin, "bucket": bucket}
    assert (await api.get("/v1/series", **query))[1]["series"] == []


async def test_behind_the_horizon_a_range_is_widened_to_quarters(start_server: StartServer) -> None:
    start = NOW - timedelta(days=20)
    rows = [reading(start + timedelta(minutes=i), pv_power_w=1) for i in range(60)]
    async with start_server() as api:
        await api.ingest(*rows)
        await series(api, frame="month", at=f"{start:%Y-%m-%d}")
    span = {"from": format_ts(start + timedelta(minutes=7)), "to": format_ts(start + timedelta(minutes=31))}
    async with start_server(raw_retention_days=10) as api:
        await api.server.retention.drop()
        assert api.rows("SELECT count(*) FROM samples") == [(0,)]
        [hour] = await series(api, **span, bucket="1h")
        assert (hour["sample_count"], hour["bucket"]) == (45, f"{start:%Y-%m-%dT%H:%M:%S}+00:00")


async def test_a_reader_sees_what_was_just_written(api: Api) -> None:
    for i in range(5):
        await api.ingest(reading(NOW - timedelta(minutes=10 - i), pv_power_w=i))
        assert (await series(api, frame="day"))[-2]["sample_count"] == i + 1


async def test_a_series_asked_for_again_shows_what_came_late(api: Api) -> None:
    at = NOW - timedelta(hours=3)
    await api.ingest(reading(at, pv_power_w=100), reading(NOW, pv_power_w=0))
    first = await series(api, frame="day")
    assert await series(api, frame="day") == first
    await api.ingest(reading(at + timedelta(minutes=1), pv_power_w=300))
    late = await series(api, frame="day")
    assert [after for before, after in zip(first, late, strict=True) if after != before] == [late[9]]
    assert (late[9]["avg_pv_power_w"], late[9]["sample_count"]) == (200, 2)


def test_the_quick_bucket_has_the_fields_of_the_model() -> None:
    assert Bucket.__struct_fields__ == tuple(SeriesBucket.model_fields)


COLUMNS = tuple(sorted(needed_columns(None) | needed_columns(sorted(GAUGE_FIELDS))))
NUMBERS = st.one_of(st.none(), st.integers(-(2**40), 2**40))
ROWS = st.fixed_dictionaries(
    dict.fromkeys(COLUMNS, NUMBERS)
    | {name: st.one_of(st.none(), st.integers(0, 3_600_000)) for name in COLUMNS if name.endswith("_ms")}
    | {"sample_count": st.integers(0, 720), "covered_ms": st.integers(0, 3_700_000)}
)


def plainly(facts: dict[str, Any]) -> dict[str, float | None]:
    """Say what a closed hour of a row holds, by the words of the contract."""

    def average(name: str, factor: int) -> float | None:
        time_ms = facts[f"{name}_ms"]
        return (
            facts[f"{name}_sum"] / time_ms / factor if time_ms and facts[f"{name}_sum"] is not None else None
        )

    def energy(counter: str, factor: int) -> float | None:
        known = [
            part
            for part in (
                None if facts[f"{counter}_increase"] is None else facts[f"{counter}_increase"] / factor,
                None if facts[f"{counter}_uncounted"] is None else abs(facts[f"{counter}_uncounted"]) / 3.6e9,
            )
            if part is not None
        ]
        return sum(known) if known else None

    load = facts["load_power_w_sum"]
    return {
        "avg_pv_power_w": average("pv_power_w", 1),
        "max_pv_power_w": facts["pv_power_w_max"],
        "avg_battery_power_w": average("battery_power_w", 1),
        "avg_battery_soc_pct": average("battery_soc_pct", 10),
        "avg_load_power_w": average("load_power_w", 1),
        "avg_export_power_w": average("export_power_w", 1),
        "pv_kwh": energy("pv_total_kwh", 10),
        "import_kwh": energy("import_total_kwh", 10),
        "export_kwh": energy("export_total_kwh", 10),
        "charge_kwh": energy("battery_charge_total_kwh", 10),
        "discharge_kwh": energy("battery_discharge_total_kwh", 10),
        "load_kwh": None if load is None else load / 3.6e9,
        "coverage": min(1.0, facts["covered_ms"] / 3_600_000),
        "sample_count": facts["sample_count"],
    }


@given(
    ROWS, st.permutations(COLUMNS), st.lists(st.sampled_from(sorted(SERIES_FIELDS)), unique=True, max_size=9)
)
@settings(max_examples=200, deadline=None)
def test_a_bucket_says_what_its_row_says(row: dict[str, Any], names: list[str], fields: list[str]) -> None:
    span = Span(NOW - timedelta(hours=2), NOW - timedelta(hours=1))
    values = tuple(row[name] for name in names)
    whole = record_dict(Maker(None, names, AMSTERDAM, NOW).bucket(span, values))
    for name, number in plainly(row).items():
        digits = 1e-4 if name == "coverage" else 1e-3
        assert whole[name] == (
            None if number is None else pytest.approx(number, rel=1e-12, abs=0.51 * digits)
        )
    chosen = record_dict(Maker(fields, names, AMSTERDAM, NOW).bucket(span, values))
    assert chosen.keys() == {*fields, "bucket", "sample_count", "coverage", "partial"}
    assert chosen.items() >= {name: whole[name] for name in chosen.keys() & whole.keys()}.items()
    SeriesBucket.model_validate(whole | chosen)


async def test_a_long_range_is_sent_as_it_is_made(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    start = NOW - timedelta(hours=9)
    await api.ingest(*(reading(start + timedelta(minutes=i), pv_power_w=i) for i in range(500)))
    query = {"device_id": "sh-1", "from": format_ts(start), "to": format_ts(NOW - timedelta(minutes=7))}
    headers = api.headers()

    async def ask(bucket: str, accept: str) -> tuple[bytes, bool]:
        given = headers | {"Accept": accept}
        async with api.session.get(
            api.url + "/v1/series", params=query | {"bucket": bucket}, headers=given
        ) as answer:
            assert answer.status == 200
            return await answer.read(), "ETag" in answer.headers

    for bucket in ("5m", "15m", "1h"):
        for accept in ("application/json", "text/csv", PARQUET):
            monkeypatch.setattr(series_module, "_BUCKETS_AT_ONCE", 2_000)
            whole, has_etag = await ask(bucket, accept)
            assert has_etag
            monkeypatch.setattr(series_module, "_BUCKETS_AT_ONCE", 4)
            parts, has_etag = await ask(bucket, accept)
            assert not has_etag
            assert rows_of(parts, accept) == rows_of(whole, accept)


def rows_of(body: bytes, media: str) -> Any:
    if media == PARQUET:
        return parquet.read_table(io.BytesIO(body)).to_pylist()
    return json.loads(body) if media == "application/json" else body


@pytest.mark.parametrize("zone", ["UTC", "Europe/Amsterdam", "Asia/Kathmandu", "Australia/Lord_Howe"])
def test_spans_of_one_length_are_known_as_such(zone: str) -> None:
    hour = timedelta(hours=1)
    for day in (date(2026, 1, 1), date(2026, 3, 29), date(2026, 4, 5), date(2026, 10, 4), date(2026, 10, 25)):
        hours = hours_of(day, ZoneInfo(zone))
        assert step_of(hours) == hour
        assert step_of([*hours[:5], *hours[6:]]) is None
        assert step_of([*hours[:5], Span(hours[5].begin, hours[5].end - QUARTER), *hours[6:]]) is None
    assert step_of(()) is None
    assert step_of([Span(NOW, NOW + hour), Span(NOW + hour, NOW + 3 * hour)]) is None
    assert step_of([Span(NOW, NOW + timedelta(minutes=5))]) is None
    assert step_of([Span(NOW + timedelta(minutes=5), NOW + QUARTER)]) is None


async def test_a_zone_nobody_set_is_utc(api: Api) -> None:
    await api.ingest(reading(NOW))
    _, answer = await api.get("/v1/series", device_id="sh-1", frame="day")
    assert (answer["timezone"], answer["frame"], answer["device_id"]) == ("UTC", "day", "sh-1")


def test_zones_with_odd_offsets() -> None:
    for name, hours in (("Asia/Kathmandu", 24), ("Australia/Lord_Howe", 24), ("America/Sao_Paulo", 24)):
        zone = known_zone(name)
        assert zone is not None
        for number in range(366):
            day = date(2018, 1, 1) + timedelta(days=number)
            span = day_span(day, zone)
            assert quarter_of(span.begin) == span.begin
            assert abs(len(list(hours_of(day, zone))) - hours) <= 1
            assert span.end == day_span(day + timedelta(days=1), zone).begin
    assert known_zone("Mars/Phobos") is None
    assert known_zone("../etc/passwd") is None
    assert known_zone("Europe") is None
    assert known_zone("a\0b") is None


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"frame": "day", "fields": "bogus"}, "fields"),
        ({"frame": "day", "at": "0001-01-01"}, "at"),
        ({"from": "2024-01-01T00:00:00Z", "to": "2024-01-02T00:00:00Z", "bucket": "5m"}, "bucket"),
        ({"from": "2026-01-02T00:00:00Z", "to": "2026-01-01T00:00:00Z", "bucket": "1h"}, "to"),
        ({"from": "2026-01-01T00:00:00Z", "to": "2026-01-02T00:00:00Z", "bucket": "2h"}, "bucket"),
        ({"from": "2026-01-01T00:00:00", "to": "2026-01-02T00:00:00Z", "bucket": "1h"}, "from"),
    ],
)
async def test_a_wrong_parameter_is_named(api: Api, query: dict[str, str], field: str) -> None:
    await api.ingest(sample(0, pv_power_w=1))
    status, problem = await api.get("/v1/series", device_id="sh-1", **query)
    assert status == 422
    assert problem["errors"][0]["field"] == field
    assert problem["detail"].startswith(f"{field}: ")
    assert "Value error" not in problem["detail"]
    assert "literal" not in problem["detail"]
    assert ": ts " not in problem["detail"]
    assert len(problem["errors"]) == 1
