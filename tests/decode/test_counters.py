"""Counters that run back or jump: the rule, and the watch that names them from reading to reading."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest
from hypothesis import given, strategies as st

from sungrow_lib import QUANTITIES, BreakKind, CounterBreak, CounterWatch, QuantityKind, SungrowSample
from sungrow_lib.quantities import QUANTITY_BY_NAME
from sungrow_lib.quantities.counters import LARGEST_KW, most_steps
from sungrow_lib.registers.devices import DEVICE_TYPES

NOON: Final = datetime(2026, 6, 1, 12, tzinfo=UTC)
POLL: Final = timedelta(seconds=5)
COUNTERS: Final = [q for q in QUANTITIES if q.kind in {QuantityKind.COUNTER, QuantityKind.DAILY_COUNTER}]


def seen(watch: CounterWatch, name: str, *values: float | None, ts: datetime = NOON) -> list[CounterBreak]:
    """What the watch says of a counter's values, five seconds apart."""
    found: list[CounterBreak] = []
    for number, value in enumerate(values):
        fields: dict[str, Any] = {} if value is None else {name: value}
        found += watch.see(SungrowSample(device_id="roof", ts=ts + number * POLL, **fields))
    return found


def kinds(breaks: list[CounterBreak]) -> list[BreakKind]:
    return [broken.kind for broken in breaks]


# --- the rule as data ------------------------------------------------------------------------------------


def test_every_counter_and_nothing_else_has_a_pace() -> None:
    assert {q.name for q in QUANTITIES if q.pace is not None} == {q.name for q in COUNTERS}


@pytest.mark.parametrize("counter", COUNTERS, ids=lambda q: q.name)
def test_a_counter_may_always_rise_by_one_step_of_the_coarsest_register(counter: Any) -> None:
    coarsest = {"kWh": 1, "h": 1, "min": 60}[counter.unit]
    assert most_steps(counter, 0, 3) >= coarsest * counter.factor


def test_no_device_is_larger_than_the_largest() -> None:
    assert max(device.power_kw or 0 for device in DEVICE_TYPES) <= LARGEST_KW


# --- lifetime counters -----------------------------------------------------------------------------------


def test_a_counter_that_rises_at_nominal_power_is_never_flagged() -> None:
    watch = CounterWatch(nominal_kw=10)
    hour = [round(1000 + 10 * number * 5 / 3600, 1) for number in range(720)]
    assert seen(watch, "pv_total_kwh", *hour) == []


def test_an_old_copy_that_catches_up_is_not_flagged() -> None:
    watch = CounterWatch(nominal_kw=10)
    assert seen(watch, "pv_total_kwh", *[1000.0] * 180, 1002.5) == []  # a quarter of an hour at 10 kW


def test_a_step_back_of_the_smallest_size_is_named_with_both_values() -> None:
    [broken] = seen(CounterWatch(10), "pv_total_kwh", 1177.0, 1176.9)
    assert broken == CounterBreak("pv_total_kwh", BreakKind.RAN_BACK, NOON + POLL, 1176.9, 1177.0)
    assert str(broken) == "pv_total_kwh ran back from 1177.0 to 1176.9 kWh"


def test_zero_for_a_moment_is_one_break_and_its_recovery_none() -> None:
    assert kinds(seen(CounterWatch(10), "pv_total_kwh", 1177.0, 0, 0, 1177.1)) == [BreakKind.RAN_BACK]


@pytest.mark.parametrize(("after", "more"), [(1197.0, []), (6000.0, [BreakKind.JUMPED])])
def test_a_zero_first_after_an_outage_leaves_its_whole_time_to_what_follows(
    after: float, more: list[BreakKind]
) -> None:
    watch = CounterWatch(10)
    found = seen(watch, "pv_total_kwh", 1177.0)
    found += seen(watch, "pv_total_kwh", 0, after, after, ts=NOON + timedelta(hours=10))
    assert kinds(found) == [BreakKind.RAN_BACK, *more]


def test_unknown_for_a_moment_is_no_break() -> None:
    assert seen(CounterWatch(10), "pv_total_kwh", 1177.0, None, 1177.1) == []


def test_a_damaged_high_word_is_a_jump_and_the_way_back_a_step_back() -> None:
    found = seen(CounterWatch(10), "import_total_kwh", 1177.0, 1177.0 + 6553.6, 1177.1, 1177.2)
    assert kinds(found) == [BreakKind.JUMPED, BreakKind.RAN_BACK]


@pytest.mark.parametrize(("nominal_kw", "is_jump"), [(10, True), (250, False), (None, False)])
def test_what_is_a_jump_goes_by_the_nominal_power(nominal_kw: float | None, *, is_jump: bool) -> None:
    found = seen(CounterWatch(nominal_kw), "pv_total_kwh", 5000.0, 5050.0)
    assert kinds(found) == [BreakKind.JUMPED] * is_jump


@pytest.mark.parametrize("first", [7.7, 99_000.0])
def test_another_inverter_is_one_break_and_counts_on_from_there(first: float) -> None:
    values = (5000.0, 5000.1, first, first + 0.1, first + 0.2)
    assert len(seen(CounterWatch(10), "pv_total_kwh", *values)) == 1


def test_a_counter_that_wraps_ran_back() -> None:
    highest = 429_496_729.4  # 32 bits of 0.1 kWh; plausible or not, it is compared
    assert kinds(seen(CounterWatch(10), "pv_total_kwh", highest, 0.3)) == [BreakKind.RAN_BACK]


def test_a_long_night_without_readings_is_no_jump() -> None:
    watch = CounterWatch(10)
    seen(watch, "import_total_kwh", 100.0)
    assert seen(watch, "import_total_kwh", 160.0, ts=NOON + timedelta(hours=10)) == []


# --- daily counters --------------------------------------------------------------------------------------


def midnight(watch: CounterWatch, clock: str, *, ts: datetime = NOON) -> None:
    """Let the watch read the inverter's clock."""
    watch.see(SungrowSample(device_id="roof", ts=ts, inverter_clock=clock))


@pytest.mark.parametrize(
    ("clock", "is_flagged"),
    [
        ("2026-06-01T23:59:57", False),
        ("2026-06-01T23:50:00", False),
        ("2026-06-02T00:10:00", False),
        ("2026-06-01T12:00:00", True),
        ("2026-06-02T02:27:00", True),
    ],
)
def test_a_daily_counter_begins_anew_at_the_inverters_own_midnight(clock: str, *, is_flagged: bool) -> None:
    watch = CounterWatch(10)
    midnight(watch, clock)
    assert kinds(seen(watch, "pv_daily_kwh", 30.5, 0.0)) == [BreakKind.RAN_BACK] * is_flagged


def test_a_night_without_readings_may_reset_a_daily_counter() -> None:
    watch = CounterWatch(10)
    midnight(watch, "2026-06-01T20:00:00")
    seen(watch, "pv_daily_kwh", 30.5)
    assert seen(watch, "pv_daily_kwh", 0.4, ts=NOON + timedelta(hours=9)) == []


def test_before_the_clock_was_read_only_a_start_from_about_zero_is_a_reset() -> None:
    assert seen(CounterWatch(10), "pv_daily_kwh", 30.5, 0.2) == []
    assert kinds(seen(CounterWatch(10), "pv_daily_kwh", 30.5, 28.1)) == [BreakKind.RAN_BACK]


def test_a_daily_counter_jumps_like_any_other() -> None:
    assert kinds(seen(CounterWatch(10), "pv_daily_kwh", 3.5, 6557.1)) == [BreakKind.JUMPED]


def test_a_clock_that_is_no_clock_is_not_used() -> None:
    watch = CounterWatch(10)
    midnight(watch, "yesterday")
    assert seen(watch, "pv_daily_kwh", 30.5, 0.2) == []


@pytest.mark.parametrize(
    ("nominal_kw", "value", "is_flagged"),
    [(None, 11.0, False), (None, 12.0, True), (None, 105.0, True), (110.0, 80.0, False), (10.0, 8.0, True)],
)
def test_what_rises_from_0_was_hardly_all_made_by_the_largest_inverter(
    nominal_kw: float | None, value: float, *, is_flagged: bool
) -> None:
    assert bool(seen(CounterWatch(nominal_kw), "pv_total_kwh", 0.0, 0.0, value)) is is_flagged


def test_what_rises_from_anything_else_may_be() -> None:
    assert seen(CounterWatch(), "pv_total_kwh", 0.1, 200.0) == []


# --- anything at all -------------------------------------------------------------------------------------

STEPS: Final = st.lists(st.one_of(st.none(), st.integers(0, 2**31 - 1), st.integers(0, 40)), max_size=40)


@given(STEPS, st.sampled_from([3.0, 10.0, None]))
def test_what_is_left_of_any_values_is_a_counter(steps: list[int | None], nominal_kw: float | None) -> None:
    """Between two breaks, values never fall, and never rise faster than the device can count."""
    counter = QUANTITY_BY_NAME["pv_total_kwh"]
    values = [None if step is None else step / counter.factor for step in steps]
    broken = {found.ts for found in seen(CounterWatch(nominal_kw), counter.name, *values)}
    before: tuple[int, int] | None = None
    for number, step in enumerate(steps):
        if step is None:
            continue
        if before is not None and NOON + number * POLL not in broken:
            earlier = [other for other in steps[:number] if other is not None]
            elapsed_ms = (number - before[0]) * 5000
            assert step >= before[1]
            assert step - before[1] <= most_steps(counter, elapsed_ms, nominal_kw) or step >= max(earlier)
        before = number, step


@given(STEPS)
def test_the_watch_alters_no_reading(steps: list[int | None]) -> None:
    watch = CounterWatch(10)
    for number, step in enumerate(steps):
        fields: dict[str, Any] = {} if step is None else {"pv_total_kwh": step / 10}
        sample = SungrowSample(device_id="roof", ts=NOON + number * POLL, **fields)
        copy = sample.model_copy(deep=True)
        watch.see(sample)
        assert sample == copy
