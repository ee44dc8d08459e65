from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from sungrow_lib.errors import UsageError
from sungrow_lib.simulator.energies import DIARY, Energies
from sungrow_lib.simulator.equipment import HouseKind
from sungrow_lib.simulator.house import (
    HISTORY_STEP,
    House,
    HouseState,
    settled_house,
)

ZONE = ZoneInfo("Etc/GMT-3")
SPRING = datetime(2026, 4, 20, 21, 0, tzinfo=UTC)  # midnight in the zone


def house(kind: HouseKind = HouseKind.HYBRID, *, seed: int = 5, born: datetime = SPRING) -> House:
    return House(seed, ZONE, kind=kind, born=born)


def states(lived: House, hours: float, step: timedelta) -> list[HouseState]:
    seen = [lived.state]
    end = lived.now + timedelta(hours=hours)
    while lived.now < end:
        lived.advance(lived.now + step, step)
        seen.append(lived.state)
    return seen


@pytest.mark.parametrize("kind", HouseKind)
def test_both_sides_of_the_balance_are_equal_at_every_moment(kind: HouseKind) -> None:
    for state in states(house(kind), 72, HISTORY_STEP)[1:]:
        flows = state.flows
        assert flows.pv_w + flows.discharge_w + flows.import_w == (
            flows.load_w + flows.charge_w + flows.export_w + flows.losses_w
        )
        assert flows.ac_w == flows.load_w + flows.export_w - flows.import_w
        assert sum(state.tracker_power_w) == flows.pv_w
        assert sum(state.phase_import_w) == flows.import_w - flows.export_w
        assert all(
            power >= 0
            for power in (flows.pv_w, flows.charge_w, flows.discharge_w, flows.import_w, flows.export_w)
        )
        assert not (flows.charge_w and flows.discharge_w)
        assert not (flows.import_w and flows.export_w)


@pytest.mark.parametrize("step", [timedelta(seconds=1), HISTORY_STEP])
def test_counters_are_the_exact_integral_of_the_powers(step: timedelta) -> None:
    lived = house()
    lived.advance(SPRING + timedelta(hours=9), HISTORY_STEP)
    expected = Energies(**{name: getattr(lived.state.total, name) for name in Energies.__slots__})
    for before, after in pairwise(states(lived, 3, step)):
        expected.add(after.flows, int((after.ts - before.ts).total_seconds()))
        assert after.total == expected
    assert expected.pv > 0
    assert expected.charge + expected.discharge > 0


def test_daily_counters_start_anew_at_the_inverters_midnight_and_lifetime_ones_do_not() -> None:
    lived = house()
    lived.advance(SPRING + timedelta(hours=23, minutes=55), HISTORY_STEP)
    evening = lived.state
    lived.advance(SPRING + timedelta(hours=24), HISTORY_STEP)
    midnight = lived.state
    assert evening.local.hour == 23
    assert midnight.local.hour == 0
    assert evening.today.load == evening.total.load > 0
    assert midnight.today == Energies()
    assert midnight.total.load > evening.total.load


def test_days_add_up_to_the_lifetime() -> None:
    lived, days = house(), 0
    for day in range(1, 6):
        lived.advance(SPRING + timedelta(days=day, seconds=-1), HISTORY_STEP)
        before = lived.state
        lived.advance(SPRING + timedelta(days=day), timedelta(seconds=1))
        last_second = lived.state.total.pv - before.total.pv
        days += before.today.pv + last_second
    assert days == lived.state.total.pv > 0


def test_the_month_starts_anew_with_the_inverters_month() -> None:
    lived = house(HouseKind.STRING, born=datetime(2026, 4, 29, 21, 0, tzinfo=UTC))
    lived.advance(datetime(2026, 4, 30, 20, 0, tzinfo=UTC), HISTORY_STEP)
    assert lived.state.month_output == lived.state.total.output > 0
    lived.advance(datetime(2026, 4, 30, 21, 0, tzinfo=UTC), HISTORY_STEP)
    assert lived.state.month_output == 0


def test_state_of_charge_follows_the_battery_energy() -> None:
    lived = house()
    for before, after in pairwise(states(lived, 48, HISTORY_STEP)):
        assert before.battery is not None
        assert after.battery is not None
        stored = 0.95 * (after.total.charge - before.total.charge)
        stored -= after.total.discharge - before.total.discharge
        assert after.battery.soc_pct - before.battery.soc_pct == pytest.approx(stored / 3600 / 9600 * 100)
        assert 5.0 <= after.battery.soc_pct <= 100.0


def test_a_year_keeps_the_battery_within_its_limits_and_the_inverter_within_its_rating() -> None:
    lived = house(born=SPRING - timedelta(days=60))
    socs = []
    for state in states(lived, 24 * 120, timedelta(minutes=15)):
        assert state.battery is not None
        socs.append(state.battery.soc_pct)
        assert state.flows.ac_w <= 8000
        assert state.flows.charge_w <= 5700
        assert state.flows.discharge_w <= 5300
    assert min(socs) >= 5.0
    assert max(socs) == pytest.approx(100.0, abs=0.5)


def test_the_sun_shines_by_day_only_and_strongest_around_noon() -> None:
    noon_w = night_w = 0
    for state in states(house(), 24 * 10, timedelta(minutes=15)):
        if state.local.hour < 4 or state.local.hour > 21:
            night_w += state.flows.pv_w
        if 11 <= state.local.hour < 14:
            noon_w = max(noon_w, state.flows.pv_w)
    assert night_w == 0
    assert 3000 < noon_w <= 8100


def test_tracker_power_is_voltage_times_current() -> None:
    for state in states(house(), 24, HISTORY_STEP):
        for power, voltage, current in zip(
            state.tracker_power_w, state.tracker_voltage_v, state.tracker_current_a, strict=True
        ):
            assert voltage * current == pytest.approx(power)
            assert 0 <= voltage < 700


def test_a_house_without_a_battery_has_none() -> None:
    lived = house(HouseKind.STRING)
    lived.advance(SPRING + timedelta(days=2), HISTORY_STEP)
    assert lived.state.battery is None
    assert lived.state.total.charge == lived.state.total.discharge == 0


def test_the_same_seed_lives_the_same_life_however_often_it_is_looked_at() -> None:
    end = SPRING + timedelta(days=3)
    one, other, foreign = house(), house(), house(seed=6)
    one.advance(end, HISTORY_STEP)
    while other.now < end:
        other.advance(other.now + timedelta(minutes=35), HISTORY_STEP)
        assert other.state.ts <= end + timedelta(minutes=35)
    one.advance(other.now, HISTORY_STEP)
    foreign.advance(other.now, HISTORY_STEP)
    assert one.state == other.state
    assert one.state != foreign.state


def test_time_does_not_run_backwards() -> None:
    lived = house()
    lived.advance(SPRING + timedelta(hours=5), HISTORY_STEP)
    before = lived.state
    lived.advance(SPRING, HISTORY_STEP)
    assert lived.state == before


def test_fractions_of_a_second_wait_for_the_next_call() -> None:
    lived = house()
    lived.advance(SPRING + timedelta(seconds=1.999))
    assert lived.now == SPRING + timedelta(seconds=1)


def test_a_settled_house_has_a_believable_year_behind_it() -> None:
    state = settled_house(5, ZONE, kind=HouseKind.HYBRID, until=SPRING).state
    total = state.total
    assert 6_000 < total.pv / 3.6e6 < 13_000
    assert 3_500 < total.load / 3.6e6 < 9_000
    assert 1_000 < total.charge / 3.6e6 < 4_000
    assert total.discharge < total.charge
    assert state.battery is not None


def test_a_birth_without_a_zone_is_refused() -> None:
    with pytest.raises(UsageError, match="offset"):
        House(1, ZONE, born=datetime(2026, 1, 1))  # noqa: DTZ001 - the point of the test


def test_daylight_saving_moves_the_inverters_midnight() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    lived = House(1, berlin, born=datetime(2026, 10, 24, 22, 0, tzinfo=UTC))
    lived.advance(datetime(2026, 10, 25, 22, 55, tzinfo=UTC), HISTORY_STEP)
    assert lived.state.local.hour == 23
    assert lived.state.today.load == lived.state.total.load
    lived.advance(datetime(2026, 10, 25, 23, 0, tzinfo=UTC), HISTORY_STEP)
    assert lived.state.today == Energies()


def test_the_diary_adds_up_to_the_counters() -> None:
    lived = house(born=datetime(2025, 12, 29, 21, 0, tzinfo=UTC))
    lived.advance(datetime(2026, 2, 3, 14, 0, tzinfo=UTC), HISTORY_STEP)
    state = lived.state
    assert (state.local.day, state.local.hour) == (3, 17)
    for name in DIARY:
        page = lived.diary.pages[name]
        today = getattr(state.today, name)
        assert sum(page.years.values()) == getattr(state.total, name)
        assert set(page.years) == {2025, 2026}
        assert page.months[0] + page.months[1] == sum(page.months) == page.years[2026]
        assert sum(page.days) == page.months[1]
        assert page.days[2] == today
        assert page.days[3:] == [0] * 28
        assert sum(page.quarters) * 900 == pytest.approx(today, abs=96 * 900)
        assert page.quarters[68:] == [0] * 28
    assert lived.diary.pages["pv"].quarters[48] > 0
    assert lived.diary.pages["pv"].quarters[8] == 0
