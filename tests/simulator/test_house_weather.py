from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from sungrow_lib.simulator.household import Appliance, HouseholdDay
from sungrow_lib.simulator.sun import Cloud, Roof, Sky, SkyDay

ZONE = ZoneInfo("Etc/GMT-1")
MIDSUMMER = datetime(2026, 6, 21, tzinfo=ZONE)
SOUTH, EAST, WEST = Roof(35, 0), Roof(35, -90), Roof(35, 90)


def light(sky: Sky, hour: float, roof: Roof, day: datetime = MIDSUMMER) -> float:
    return sky.light(day + timedelta(hours=hour), (roof,))[0]


def test_the_sun_goes_from_east_to_west_and_stays_below_the_horizon_at_night() -> None:
    sky = Sky(1, ZONE, 47.0)
    assert light(sky, 7, EAST) > 1.5 * light(sky, 7, WEST)
    assert light(sky, 17, WEST) > 1.5 * light(sky, 17, EAST)
    assert light(sky, 0.5, SOUTH) == light(sky, 23, SOUTH) == 0.0
    assert 0 < light(sky, 12, SOUTH) < 1200


def test_summer_days_are_longer_than_winter_days() -> None:
    sky = Sky(1, ZONE, 47.0)

    def bright_hours(day: datetime) -> int:
        return sum(light(sky, hour / 4, SOUTH, day) > 0 for hour in range(96)) // 4

    assert bright_hours(MIDSUMMER) == pytest.approx(16, abs=1)
    assert bright_hours(datetime(2026, 12, 21, tzinfo=ZONE)) == pytest.approx(8, abs=1)


def test_in_the_south_the_year_is_turned_round() -> None:
    sky = Sky(1, ZONE, -34.0)
    north = Roof(30, 180)
    assert light(sky, 12, north, MIDSUMMER) > light(sky, 12, Roof(30, 0), MIDSUMMER)


def test_a_cloud_comes_and_goes_smoothly() -> None:
    cloud = Cloud(start_s=100, length_s=200, depth=0.8)
    assert cloud.shade(99) == cloud.shade(301) == 0.0
    assert cloud.shade(200) == pytest.approx(0.8)
    shades = [cloud.shade(second) for second in range(100, 301)]
    assert max(abs(after - before) for before, after in pairwise(shades)) < 0.02


def test_weather_is_the_same_for_the_same_seed_and_differs_between_days() -> None:
    days = [date(2026, 4, 1) + timedelta(days=number) for number in range(60)]
    skies = [SkyDay.of(4, day) for day in days]
    assert skies == [SkyDay.of(4, day) for day in days]
    assert len({sky.clearness for sky in skies}) > 30
    assert all(0 < sky.clearness <= 1 for sky in skies)
    assert any(sky.clouds for sky in skies)


def test_it_is_warmer_in_summer_and_in_the_afternoon() -> None:
    sky = Sky(1, ZONE, 47.0)
    winter = datetime(2026, 1, 15, 15, tzinfo=ZONE)
    assert sky.outdoor_temp_c(MIDSUMMER + timedelta(hours=15)) > sky.outdoor_temp_c(winter) + 10
    assert sky.outdoor_temp_c(MIDSUMMER + timedelta(hours=15)) > sky.outdoor_temp_c(
        MIDSUMMER + timedelta(hours=4)
    )


def test_a_thermostat_cycles() -> None:
    oven = Appliance(start_s=1000, end_s=2000, power_w=2000, cycle_s=100, duty=0.6)
    assert oven.draw(999) == oven.draw(2000) == 0.0
    assert oven.draw(1050) == 2000
    assert oven.draw(1070) == 200


def test_a_household_sleeps_cooks_and_heats_in_winter() -> None:
    def mean(hours: range, month: int) -> float:
        powers = [
            lived.power_w(hour * 3600 + minute * 60)
            for lived in (HouseholdDay(2, date(2026, month, day)) for day in range(1, 22))
            for hour in hours
            for minute in range(0, 60, 5)
        ]
        return sum(powers) / len(powers)

    assert mean(range(18, 20), 7) > 1.5 * mean(range(2, 5), 7)
    assert mean(range(24), 1) > mean(range(24), 7) + 300
    day = HouseholdDay(2, date(2026, 7, 1))
    assert min(day.power_w(second) for second in range(0, 86_400, 60)) >= 60


def test_a_moment_of_another_zone_is_the_same_moment() -> None:
    sky = Sky(1, ZONE, 47.0)
    noon = datetime(2026, 6, 21, 12, tzinfo=ZONE)
    assert sky.light(noon, (SOUTH,)) == Sky(1, ZONE, 47.0).light(
        noon.astimezone(UTC).astimezone(ZONE), (SOUTH,)
    )
