"""Whose word on a shared meter counts: nothing counts twice, nothing is lost, whoever is silent when."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from reference_server.meters import Meter, MeterDay
from sungrow_lib.sample import format_ts
from tests.server.conftest import Api
from tests.server.test_plant_series import counting, home, minutes, plant, span

DAYS = 4
BEGIN = datetime(2026, 3, 26, 23, 0, tzinfo=UTC)
"""Midnight in Amsterdam, where the third day has 23 hours."""
END = BEGIN + timedelta(days=DAYS)
STEP = timedelta(minutes=10)
AMSTERDAM = ZoneInfo("Europe/Amsterdam")

Silences = list[tuple[float, float]]
"""From and to, in hours since the begin."""


def rows(device_id: str, silences: Silences, offset: float) -> list[dict[str, Any]]:
    """A house that takes 1 kW from the grid, as one of its inverters sees it."""
    found = []
    for number in range(DAYS * 144 + 1):
        hours = number / 6
        if not any(begin <= hours < end for begin, end in silences):
            found.append(
                {
                    "device_id": device_id,
                    "ts": format_ts(BEGIN + number * STEP),
                    "interval_s": 600,
                    "export_power_w": -1000,
                    "active_power_w": 0,
                    "import_total_kwh": round(offset + hours, 1),
                    "export_total_kwh": 7.0,
                }
            )
    return found


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param([], [], id="neither"),
        pytest.param([(24, 48)], [], id="one for a day"),
        pytest.param([(12, 36)], [(0, 12.5)], id="over a midnight, the other one new"),
        pytest.param([(23, 25)], [(30, 90)], id="in turn"),
        pytest.param([(20, 30), (60, 80)], [(40, 55), (92, 94)], id="now and then"),
        pytest.param([(50, 999)], [], id="one for good"),
        pytest.param([(0, 60)], [(71.5, 999)], id="one replaces the other"),
        pytest.param([(22, 26)], [(23, 27)], id="both over a midnight"),
    ],
)
async def test_it_counts_once(api: Api, first: Silences, second: Silences) -> None:
    await home(api)
    for row in (rows("sh-1", first, 100), rows("sh-2", second, 5000)):
        await api.ingest(*row)
    around = {"from": format_ts(BEGIN - timedelta(hours=5)), "to": format_ts(END + timedelta(hours=1))}
    found = {}
    for bucket in ("15m", "1h", "1d", "1M"):
        found[bucket] = (await plant(api, **around, bucket=bucket))["series"]
    sums = {bucket: sum(b["import_kwh"] or 0 for b in series) for bucket, series in found.items()}
    for frame in ("year", "all"):
        series = (await plant(api, frame=frame))["series"]
        sums[frame] = sum(b["import_kwh"] or 0 for b in series)
    total = DAYS * 24
    assert sums["15m"] == pytest.approx(total, abs=0.3), "nothing twice, nothing lost"
    assert sums == dict.fromkeys(sums, pytest.approx(sums["15m"], abs=0.01))


def day(number: int, known: float, *last: float | None) -> MeterDay:
    """Make the facts of a day: how much is known, and at which hour of it each counter was read last."""
    midnight = datetime(2026, 6, number, tzinfo=AMSTERDAM)
    start_ms = int(midnight.timestamp()) * 1000
    times = tuple(None if hour is None else start_ms + int(hour * 3_600_000) for hour in last)
    first = tuple(None if hour is None else start_ms for hour in last)
    return MeterDay(date(2026, 6, number), int(known * 3_600_000), first, times)


def words(**devices: list[MeterDay]) -> list[str]:
    meter = Meter(devices, AMSTERDAM)
    days = sorted({day.day for days in devices.values() for day in days})
    return [meter.of(day) for day in days]


def test_who_knows_most_where_nobody_is_silent_at_midnight() -> None:
    many, few = [day(n, 48, 24, 24) for n in (1, 2, 3)], [day(n, 20, 24, 24) for n in (1, 2, 3)]
    assert words(a=[many[0], few[1], many[2]], b=[few[0], many[1], few[2]]) == ["a", "b", "a"]


def test_it_does_not_pass_for_a_trifle() -> None:
    assert words(a=[day(1, 24, 24), day(2, 23.9, 24)], b=[day(1, 23.9, 24), day(2, 24, 24)]) == ["a", "a"]


def test_it_does_not_pass_while_one_is_silent() -> None:
    a = [day(1, 20, 20), day(2, 4, 24), day(3, 24, 24)]
    assert words(a=a, b=[day(1, 10, 24), day(2, 24, 24), day(3, 1, 24)]) == ["b", "b", "a"]
    assert words(a=a, b=[day(1, 1, 23), day(2, 1, 23), day(3, 1, 23)]) == ["a", "a", "a"]


def test_what_is_counted_is_worth_more_than_what_is_known_in_detail() -> None:
    assert words(a=[day(1, 12, 24), day(2, 1, 24)], b=[day(1, 24, None), day(2, 24, 24)]) == ["a", "b"]
    assert words(a=[day(1, 12, 20), day(2, 1, 24)], b=[day(2, 24, 24)]) == ["a", "a"]


def test_it_passes_from_one_that_says_nothing_more() -> None:
    assert words(a=[day(1, 20, 20)], b=[day(1, 1, None), day(2, 24, 24)]) == ["a", "b"]


def test_without_counters_it_passes_freely() -> None:
    assert words(a=[day(1, 20), day(2, 1)], b=[day(1, 1), day(2, 20)]) == ["a", "b"]


def test_who_never_saw_the_meter_has_no_word() -> None:
    assert words(a=[day(1, 0, None)], b=[day(1, 1, 3)]) == ["b"]
    assert Meter({"a": []}, AMSTERDAM).of(date(2026, 6, 1)) == "a"


@pytest.mark.anyio
async def test_one_that_never_saw_the_meter_is_not_asked(api: Api) -> None:
    await home(api)
    await api.ingest(*minutes("sh-1", 61, active_power_w=100))
    counted = counting(minutes("sh-2", 61), import_total_kwh=4)
    await api.ingest(*counted)
    [hour] = (await plant(api, **span(), bucket="1h"))["series"]
    assert hour["import_kwh"] == pytest.approx(3.9, abs=0.11)


def test_in_different_zones_one_has_the_word_for_good() -> None:
    known = {"a": [day(1, 20, 24), day(2, 1, 24)], "b": [day(1, 1, 24), day(2, 30, 24)]}
    meter = Meter.of_one(known)
    assert [meter.of(date(2026, 6, number)) for number in (1, 2)] == ["b", "b"]
