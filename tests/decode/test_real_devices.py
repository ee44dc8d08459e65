"""Figures that real devices showed, and what their words decode to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import pytest

from sungrow_lib.capture import load_capture
from sungrow_lib.decoding import decoded
from sungrow_lib.quantities import Family
from sungrow_lib.registers.map import RegisterMap
from tests.decode.readings import READINGS, Reading

CAPTURES: Final = Path(__file__).resolve().parents[3] / "shared" / "captures"
"""Whole captures, where somebody put them beside the repository; each repeats its source's figures."""

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
    "export_power_hybrid": "export_power",
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
"""What one source calls registers of the hybrids' table."""


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


def test_whole_captures_beside_the_repository_show_their_own_figures() -> None:
    for path in sorted(CAPTURES.glob("*.json")):
        expected = json.loads(path.read_text(encoding="utf-8"))["expected"]
        registers = decoded(load_capture(path))["registers"]
        for name, figure in expected.items():
            value = registers.get(OTHER_NAMES.get(name, name))
            if isinstance(value, int | float) and isinstance(figure, int | float) and name != "export_limit":
                # The table counts kW and kvar where this source printed W and var.
                assert figure in {value, round(value * 1000)}, f"{path.name}: {name}"


def test_no_capture_beside_the_repository_turns_a_hole_into_a_value() -> None:
    for path in sorted(CAPTURES.glob("*.json")):
        capture = load_capture(path)
        answer = decoded(capture)
        table = RegisterMap.for_family(Family(answer["device"]["family"]))
        for name, value in answer["registers"].items():
            register = table.by_name(name)
            taken = capture.words.take(register.space, register.number, register.word_count)
            if taken is not None and set(taken) == {0xFFFF} and not register.is_array:
                assert value is None, f"{path.name}: {name}"
