from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from sungrow_lib.errors import UsageError
from sungrow_lib.quantities import Family
from sungrow_lib.registers.map import RegisterMap
from sungrow_lib.registers.words import WORD_MAX, RegisterWords, Space
from sungrow_lib.simulator import MODELS, living_inverter
from sungrow_lib.simulator.equipment import HouseKind
from sungrow_lib.simulator.house import HISTORY_STEP, House, HouseState
from sungrow_lib.simulator.images import IMAGES, SG20RT, SH80RT20, LivingInverter, RegisterImage, kwh
from tests.conftest import Beside

ZONE = ZoneInfo("Etc/GMT-2")
MIDNIGHT = datetime(2026, 6, 9, 22, 0, tzinfo=UTC)  # in the zone


def living(image: RegisterImage, *, clock: datetime = MIDNIGHT) -> tuple[House, LivingInverter]:
    house = House(3, ZONE, kind=image.kind, born=MIDNIGHT)
    return house, LivingInverter(house, image, clock=lambda: clock)


def decode(image: RegisterImage, words: Mapping[tuple[Space, int], int]) -> dict[str, Any]:
    return RegisterMap.for_family(image.family).decode(RegisterWords(words))


def moments(image: RegisterImage) -> list[tuple[HouseState, dict[str, Any]]]:
    """A day and a half, every 20 minutes: what the house did and what the registers say."""
    house, inverter = living(image)
    seen = []
    for minutes in range(20, 36 * 60, 20):
        house.advance(MIDNIGHT + timedelta(minutes=minutes), HISTORY_STEP)
        seen.append((house.state, decode(image, inverter.words_at(house.now))))
    return seen


# ------------------------------------------------------------------------ the images as they were captured


def test_the_hybrid_image_says_what_its_source_says() -> None:
    values = decode(SH80RT20, SH80RT20.words)
    expected = {
        "device_type_code": "SH8.0RT-20",
        "nominal_output_power": 8.0,
        "total_output_energy": 99.4,
        "internal_temperature": 34.5,
        "phase_a_voltage": 227.5,
        "phase_b_voltage": 230.0,
        "phase_c_voltage": 229.8,
        "grid_frequency": 49.9,
        "grid_frequency_alt": 49.97,
        "nominal_reactive_power": 4.8,
        "array_insulation_resistance_lan": 691,
        "bus_voltage": 618.0,
        "meter_active_power": 398,
        "meter_phase_a_active_power": 648,
        "meter_phase_b_active_power": -652,
        "meter_phase_c_active_power": 402,
        "battery_capacity_high_resolution": 9.6,
        "bms_max_charging_current": 30,
        "bms_max_discharging_current": 28,
        "backup_phase_a_power": -26,
        "total_pv_generation": 25.5,
        "load_power": 402,
        "export_power": -402,
        "battery_voltage": 191.6,
        "battery_soh": 100.0,
        "battery_temperature": 21.0,
        "total_battery_discharge": 91.3,
        "daily_import_energy": 0.1,
        "total_import_energy": 156.6,
        "total_battery_charge": 99.5,
        "total_export_energy": 18.2,
        "clock_year": 2024,
        "clock_minute": 3,
        "ems_mode": "self consumption",
        "max_soc": 100.0,
        "min_soc": 5.0,
        "export_limit_value": 12000,
        "battery_max_charge_power": 10.6,
        "master_slave_role": "master",
        "slave_count": 2,
    }
    assert {name: values[name] for name in expected} == expected
    assert values["mppt_3_voltage"] is None
    assert values["power_flow_status"] == ["load consuming", "importing"]


def test_the_string_image_says_what_its_source_says() -> None:
    values = decode(SG20RT, SG20RT.words)
    expected = {
        "device_type_code": "SG20RT",
        "nominal_active_power": 20.0,
        "daily_power_yields": 7.6,
        "total_power_yields": 204,
        "total_running_time": 82,
        "internal_temperature": 42.5,
        "total_apparent_power": 1675,
        "mppt_1_voltage": 592.1,
        "mppt_1_current": 1.5,
        "mppt_2_voltage": 577.3,
        "mppt_2_current": 1.4,
        "total_dc_power": 1696,
        "phase_a_voltage": 232.8,
        "total_active_power": 1675,
        "grid_frequency": 49.98,
        "daily_running_time": 237,
        "monthly_power_yields": 200.5,
        "meter_power": None,
        "load_power": None,
        "meter_phase_c_power": None,
        "mppt_3_voltage": None,
    }
    assert {name: values[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("image", "file"),
    [
        (SH80RT20, "sh8.0rt-20_master_input.json"),
        (SH80RT20, "sh8.0rt-20_master_holding.json"),
        (SG20RT, "sg20rt_solariot70_rebuilt_input.json"),
    ],
)
def test_an_image_is_its_capture_word_for_word(image: RegisterImage, file: str, beside: Beside) -> None:
    capture = json.loads((beside("captures") / file).read_text(encoding="utf-8"))
    space = Space(capture["function"])
    history = range(6100, 6900)  # the image starts with an empty history
    for number, word in capture["registers"].items():
        if int(number) not in history:
            assert image.words[space, int(number)] == word, number


def test_serial_numbers_hold_no_digits_of_real_devices() -> None:
    for image in IMAGES.values():
        serial = decode(image, image.words)["serial_number"]
        assert serial.strip("0") in {"A2", "A22"}


# ------------------------------------------------------------------------------------- brought to life


def test_powers_of_the_hybrid_balance_in_its_registers() -> None:
    seen = moments(SH80RT20)
    for state, values in seen:
        flows = state.flows
        assert values["total_dc_power"] == values["total_dc_power_mirror"] == flows.pv_w
        assert values["load_power"] == values["load_power_alt"] == flows.load_w
        assert values["total_active_power"] == values["load_power"] + _signed(values["export_power"])
        assert (
            values["total_dc_power"] + _signed(values["battery_power_signed"]) == flows.ac_w + flows.losses_w
        )
    assert max(values["total_dc_power"] for _, values in seen) > 3000
    assert min(_signed(values["export_power"]) for _, values in seen) < 0
    assert max(_signed(values["export_power"]) for _, values in seen) > 1000


def test_the_meter_has_the_opposite_sign_of_the_export() -> None:
    for _, values in moments(SH80RT20):
        export = _signed(values["export_power"])
        assert _signed(values["grid_export_power_alt"]) == export
        assert _signed(values["meter_active_power"]) == -export
        phases = sum(_signed(values[f"meter_phase_{phase}_active_power"]) for phase in "abc")
        assert phases == -export


def test_the_battery_is_a_magnitude_with_its_direction_in_the_state_bits() -> None:
    directions = set()
    for state, values in moments(SH80RT20):
        flags = values["power_flow_status"]
        signed = _signed(values["battery_power_signed"])
        assert values["battery_power"] == abs(signed)
        assert ("battery charging" in flags) == (signed < 0) == (state.flows.charge_w > 0)
        assert ("battery discharging" in flags) == (signed > 0)
        assert ("PV producing" in flags) == (values["total_dc_power"] > 0)
        assert ("feeding grid" in flags) == (_signed(values["export_power"]) > 0)
        assert ("importing" in flags) == (_signed(values["export_power"]) < 0)
        assert "load consuming" in flags
        volts, amps = values["battery_voltage"], values["battery_current"]
        assert volts * amps == pytest.approx(values["battery_power"], abs=0.06 * volts)
        directions.add((signed > 0) - (signed < 0))
    assert directions >= {-1, 1}


@pytest.mark.parametrize("image", IMAGES.values(), ids=IMAGES)
def test_counters_never_fall_and_daily_ones_fall_at_midnight_only(image: RegisterImage) -> None:
    seen = [values for _, values in moments(image)]
    names = [name for name in seen[0] if name.startswith(("total_", "daily_")) and "power_flow" not in name]
    counters = [name for name in names if isinstance(seen[0][name], float)]
    assert len(counters) >= 2
    for before, after in pairwise(seen):
        new_day = after["clock_day"] != before["clock_day"]
        for name in counters:
            if name.startswith("total_") or not new_day:
                assert after[name] >= before[name], name
            elif new_day:
                assert after[name] <= before[name], name


def test_counters_show_whole_tenths_of_the_exact_energy() -> None:
    state, values = moments(SH80RT20)[40]
    assert values["total_pv_generation"] == kwh(state.total.pv) <= state.total.pv / 3.6e6
    assert values["total_import_energy"] == values["total_import_energy_mirror"] == kwh(state.total.imported)
    assert values["daily_battery_discharge"] == kwh(state.today.discharge)
    assert state.battery is not None
    assert values["battery_soc"] == pytest.approx(state.battery.soc_pct, abs=0.05)


def test_the_inverters_own_history_is_that_of_the_house() -> None:
    house, inverter = living(SH80RT20)
    house.advance(MIDNIGHT + timedelta(days=1, hours=13), HISTORY_STEP)
    values = decode(SH80RT20, inverter.words_at(house.now))
    page = house.diary.pages["pv"]
    assert values["pv_power_today_15min"] == page.quarters
    assert values["pv_energy_by_day_of_month"][9:11] == [kwh(page.days[9]), kwh(page.days[10])]
    assert values["pv_energy_by_day_of_month"][10] == values["daily_pv_generation"] > 0
    assert values["pv_energy_by_month"][5] == values["total_pv_generation"]
    assert values["pv_energy_by_year"][11] == values["total_pv_generation"]
    assert values["pv_energy_by_year"][15:] == [None] * 5
    assert values["battery_charge_from_pv_by_month"][5] == values["total_battery_charge_from_pv"]


def test_the_inverters_clock_runs_on_the_sites_time() -> None:
    _, inverter = living(SH80RT20)
    words = inverter.words_at(MIDNIGHT + timedelta(hours=13, minutes=5, seconds=9))
    assert [words[Space.HOLDING, number] for number in range(5000, 5006)] == [2026, 6, 10, 13, 5, 9]


@pytest.mark.parametrize("image", IMAGES.values(), ids=IMAGES)
def test_life_adds_no_register_and_closes_no_hole_of_another_model(image: RegisterImage) -> None:
    house, inverter = living(image)
    words = inverter.words_at(MIDNIGHT + timedelta(minutes=1))
    assert words.keys() == image.words.keys()
    register_map = RegisterMap.for_family(image.family)
    written = {
        (register.space, number)
        for register in map(register_map.by_name, image.living(house.state))
        for number in register.block.numbers
    }
    for key, word in image.words.items():
        if word == WORD_MAX and key not in written:
            assert words[key] == WORD_MAX, key
    assert decode(image, words)["mppt_3_voltage"] is None


def test_a_string_inverter_without_a_meter_knows_no_load_and_no_grid() -> None:
    for state, values in moments(SG20RT):
        assert values["meter_power"] is values["load_power"] is None
        assert values["total_import_energy"] is values["total_export_energy"] is None
        assert values["grid_frequency"] == pytest.approx(state.frequency_hz, abs=0.006)
        assert (values["work_state_1"] == "run") == state.is_running
    assert values["work_state_1"] in {"run", "standby"}


def test_the_image_stands_still_within_a_second_and_lives_from_one_to_the_next() -> None:
    now = MIDNIGHT + timedelta(hours=10)
    house, _ = living(SH80RT20)
    inverter = LivingInverter(house, SH80RT20, clock=lambda: now)
    first = inverter.words()
    now += timedelta(milliseconds=900)
    assert inverter.words() is first
    now += timedelta(seconds=4)
    later = inverter.words()
    assert later != first
    assert inverter.words_at(MIDNIGHT) is later


def test_models_by_name() -> None:
    assert MODELS == ("SH8.0RT-20", "SG20RT")
    start = datetime(2026, 6, 10, 8, tzinfo=UTC)
    inverter = living_inverter("sh8.0rt-20", zone=ZONE, seed=3, start=start, clock=lambda: start)
    assert (inverter.model, inverter.family) == ("SH8.0RT-20", Family.SH)
    assert decode(SH80RT20, inverter.words())["total_pv_generation"] > 5000
    with pytest.raises(UsageError, match=r"no modelled SH99; choose one of SH8.0RT-20, SG20RT"):
        living_inverter("SH99", zone=ZONE, seed=3, start=start)


def test_equal_seeds_serve_equal_words() -> None:
    start = datetime(2026, 6, 10, 8, tzinfo=UTC)
    one, other = (living_inverter("SG20RT", zone=ZONE, seed=3, start=start) for _ in range(2))
    later = start + timedelta(minutes=20)
    assert one.words_at(later) == other.words_at(later)
    assert HouseKind.STRING is SG20RT.kind


def _signed(value: int | None) -> int:
    """-1 W in a signed register is all ones, which reads as a hole while the device is not known."""
    return -1 if value is None else value
