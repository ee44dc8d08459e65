"""Figures that real devices showed, and what their words decode to."""

from __future__ import annotations

import json
import re
from typing import Any, Final

import pytest

from sungrow_lib.capture import load_capture
from sungrow_lib.decoding import decoded
from sungrow_lib.errors import UsageError
from sungrow_lib.quantities import Family
from sungrow_lib.registers.map import RegisterMap
from tests.conftest import Beside
from tests.decode.captures import FILES
from tests.decode.readings import READINGS, Reading

OTHER_NAMES: Final = {
    "array_insulation_resistance": "array_insulation_resistance_lan",
    "backup_power_phase_a": "backup_phase_a_power",
    "backup_power_phase_b": "backup_phase_b_power",
    "backup_power_phase_c": "backup_phase_c_power",
    "battery_capacity_high_precision": "battery_capacity_high_resolution",
    "battery_level": "battery_soc",
    "battery_state_of_health": "battery_soh",
    "daily_battery_charge_energy": "daily_battery_charge",
    "daily_battery_discharge_energy": "daily_battery_discharge",
    "daily_direct_energy_consumption_": "daily_direct_consumption",
    "daily_exported_energy": "daily_export_energy",
    "daily_imported_energy": "daily_import_energy",
    "daily_output_energy_pv_and_battery": "daily_output_energy",
    "daily_pv_export": "daily_export_from_pv",
    "Max_SoC": "max_soc",
    "Min_SoC": "min_soc",
    "battery_forced_charge_discharge_cmd": "charge_discharge_command",
    "battery_forced_charge_discharge_power": "charge_discharge_power",
    "battery_power_magnitude": "battery_power",
    "country_code": "present_country",
    "day": "clock_day",
    "ems_mode_selection": "ems_mode",
    "energy_meter_comm": "meter_comm_detection",
    "export_power_hybrid": "export_power",
    "export_power_limit": "export_limit_value",
    "export_power_limitation_": "export_limit_enable",
    "hour": "clock_hour",
    "line_voltage_ab": "phase_a_voltage",
    "minute": "clock_minute",
    "month": "clock_month",
    "monthly_yield": "monthly_power_yields",
    "second": "clock_second",
    "serial": "serial_number",
    "soc_reserve": "reserved_soc_for_backup",
    "start_stop_2": "start_stop",
    "work_state": "work_state_1",
    "year": "clock_year",
    "grid_frequency_": "grid_frequency_alt",
    "load_power_hybrid": "load_power",
    "meter_active_power_phase_a": "meter_phase_a_active_power",
    "meter_active_power_phase_b": "meter_phase_b_active_power",
    "meter_active_power_phase_c": "meter_phase_c_active_power",
    "self_consumption_of_day": "self_consumption_today",
    "total_active_power_2": "total_active_power",
    "total_battery_charge_energy": "total_battery_charge",
    "total_battery_discharge_energy": "total_battery_discharge",
    "total_direct_energy_consumption_": "total_direct_consumption",
    "total_exported_energy": "total_export_energy",
    "total_imported_energy": "total_import_energy",
    "total_output_energy_pv_and_battery": "total_output_energy",
    "total_pv_export": "total_export_from_pv",
}
"""What the sources call registers of our tables, without a unit at the end."""

WATTS: Final = {
    "battery_max_charge_power",
    "battery_max_discharge_power",
    "bdc_rated_power",
    "export_limit_max",
    "export_limit_min",
    "nominal_reactive_power",
}
"""What one source, which names no units, prints in W and var where the table counts kW and kvar."""

UNIT: Final = re.compile(r"_(kWh|kW|kvar|W|VA|var|V|A|Hz|C|kohm|h|min|percent)$")
UNITS: Final = {"C": "°C", "percent": "%"}

TEXTS: Final = {
    ("output_type", "3P4L"): "3P4L (three phase four wire)",
    ("output_type", "two phase"): "single/two phase",
    ("start_stop", "start (0xCF)"): "start",
    ("start_stop_2", "Start"): "start",
    ("power_limit_switch", "enabled (0xAA)"): "enable",
    ("battery_forced_charge_discharge_cmd", "Stop"): "stop",
    ("energy_meter_comm", "Enabled"): "enable",
    ("export_power_limitation_", "Enabled"): "enable",
    ("master_slave_mode", "Enabled"): "enable",
    ("master_slave_role", "Master"): "master",
    ("master_slave_role", "Slave 1"): "slave 1",
}
"""Texts of the sources that the tables write otherwise."""

FLOWS: Final = {
    "state_power_generated_from_pv": "PV producing",
    "state_battery_charging": "battery charging",
    "state_battery_discharging": "battery discharging",
    "state_load_active": "load consuming",
    "state_feed_into_grid": "feeding grid",
    "state_import_from_grid": "importing",
}
"""Bits of 13001 that one source prints one by one."""

FLOW_BITS: Final = {
    "pv": "PV producing",
    "battery_charging": "battery charging",
    "load_positive": "load consuming",
    "import": "importing",
}
"""What another one calls them."""

NO_FIGURES: Final = {"units_note"}


@pytest.mark.parametrize("reading", READINGS, ids=lambda reading: reading.name)
def test_real_words_decode_to_the_figures_the_source_printed(reading: Reading) -> None:
    registers = decoded(reading.capture)["registers"]
    assert {name: registers[name] for name in reading.expected} == reading.expected


@pytest.mark.parametrize("reading", READINGS, ids=lambda reading: reading.name)
def test_only_registers_in_the_capture_appear(reading: Reading) -> None:
    answer = decoded(reading.capture)
    table = RegisterMap.for_family(Family(answer["device"]["family"]))
    for name in answer["registers"]:
        assert set(table.by_name(name).block.numbers) <= reading.words.keys()


@pytest.mark.parametrize("reading", READINGS, ids=lambda reading: reading.name)
def test_answers_are_json(reading: Reading) -> None:
    json.dumps(decoded(reading.capture), allow_nan=False)


def both(name: str, figure: Any, answer: dict[str, Any]) -> tuple[Any, Any]:
    """What a capture decodes to, and the figure of its source, so that they can be compared."""
    registers = answer["registers"]
    if name in FLOWS:
        return FLOWS[name] in registers["power_flow_status"], figure
    if name in {"clock", "fault_time"}:
        parts = [registers[f"{name}_{part}"] for part in ("year", "month", "day", "hour", "minute", "second")]
        return "{:04}-{:02}-{:02} {:02}:{:02}:{:02}".format(*parts), figure
    if name == "power_flow_bits":
        return registers["power_flow_status"], [FLOW_BITS[bit] for bit in figure]
    if name == "battery_power_W_evcc_sign":  # + discharging
        return answer["sample"]["battery_power_w"], -figure
    table = RegisterMap.for_family(Family(answer["device"]["family"]))
    stated = None if name in table else UNIT.search(name)  # `export_limit_min` counts no minutes
    bare = name[: stated.start()] if stated else name
    register = table.by_name(other if (other := OTHER_NAMES.get(bare, bare)) in table else bare)
    assert stated is None or register.unit == UNITS.get(stated[1], stated[1])
    if register.is_choice:
        figure = register.text_of(figure) if isinstance(figure, int) else TEXTS.get((name, figure), figure)
    value = registers[register.name]
    return round(value * 1000) if name in WATTS and value is not None else value, figure


@pytest.mark.parametrize("file", FILES)
def test_whole_captures_beside_the_repository_show_their_own_figures(file: str, beside: Beside) -> None:
    path = beside("captures") / file
    expected = json.loads(path.read_text(encoding="utf-8"))["expected"]
    answer = decoded(load_capture(path))
    compared = {
        name: both(name, figure, answer) for name, figure in expected.items() if name not in NO_FIGURES
    }
    assert {name: (ours, theirs) for name, (ours, theirs) in compared.items() if ours != theirs} == {}


@pytest.mark.parametrize(
    ("name", "figure"), [("moonshine_W", 1), ("moonshine", None), ("mppt_1_voltage_A", 592.1)]
)
def test_a_figure_that_no_register_is_known_for_is_not_passed_over(name: str, figure: float | None) -> None:
    answer = decoded(READINGS[0].capture)
    assert both("mppt_1_voltage_V", 592.1, answer) == (592.1, 592.1)
    with pytest.raises((AssertionError, UsageError)):
        both(name, figure, answer)


def test_no_capture_beside_the_repository_is_forgotten(beside: Beside) -> None:
    assert {path.name for path in beside("captures").glob("*.json")} == set(FILES)


@pytest.mark.parametrize("file", FILES)
def test_no_capture_beside_the_repository_turns_a_hole_into_a_value(file: str, beside: Beside) -> None:
    capture = load_capture(beside("captures") / file)
    answer = decoded(capture)
    table = RegisterMap.for_family(Family(answer["device"]["family"]))
    for name, value in answer["registers"].items():
        register = table.by_name(name)
        taken = capture.words.take(register.space, register.number, register.word_count)
        if taken is not None and set(taken) == {0xFFFF} and not register.is_array:
            assert value is None, name
