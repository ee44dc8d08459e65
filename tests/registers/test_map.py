"""Decoding with knowledge of the device: what it has, what it lacks, and how it departs from the table."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from sungrow_lib.errors import UsageError
from sungrow_lib.quantities import Family
from sungrow_lib.registers.applies import ConnectionPath, DeviceContext, Presence
from sungrow_lib.registers.devices import DEVICE_BY_MODEL, DEVICE_TYPES
from sungrow_lib.registers.map import RegisterMap
from sungrow_lib.registers.model import Value
from sungrow_lib.registers.words import RegisterWords, Space

SH = RegisterMap.for_family(Family.SH)
SG = RegisterMap.for_family(Family.SG)


def context(model: str, path: ConnectionPath = ConnectionPath.LAN) -> DeviceContext:
    return DeviceContext(DEVICE_BY_MODEL[model.casefold()], path)


def value(table: RegisterMap, where: DeviceContext, name: str, *words: int) -> Value | None:
    register = table.by_name(name)
    read = {(register.space, register.number + n): word for n, word in enumerate(words)}
    return table.decode(RegisterWords(read), where)[name]


def presence(family: Family, model: str, name: str, path: ConnectionPath = ConnectionPath.LAN) -> Presence:
    return RegisterMap.for_family(family).by_name(name).applies.presence(context(model, path))


@pytest.mark.parametrize("family", Family)
def test_every_number_leads_to_the_register_that_holds_it(family: Family) -> None:
    table = RegisterMap.for_family(family)
    holders = {(row.space, number): row for row in table for number in row.block.numbers}
    for space in Space:
        assert all(table.at(space, number) is holders.get((space, number)) for number in range(65_537))


def test_only_registers_read_in_full_appear() -> None:
    half = RegisterWords({(Space.INPUT, 13010): 5})
    assert SH.decode(half) == {}
    assert SH.decode(half | {(Space.INPUT, 13011): 0}) == {"export_power": 5}
    assert SH.decode(RegisterWords()) == {}


def test_the_two_spaces_do_not_mix() -> None:
    assert SG.decode(RegisterWords({(Space.HOLDING, 5000): 2024})) == {"clock_year": 2024}
    assert SG.decode(RegisterWords({(Space.INPUT, 5000): 0x2437})) == {"device_type_code": "SG20RT"}


@pytest.mark.parametrize(
    ("model", "name", "expected"),
    [
        ("SH10RT", "export_power", -1),
        ("SH10RS", "export_power", -1),
        ("SH8.0RT-20", "bms_cell_temp_avg_k", None),
        ("SH5K-30", "bms_cell_temp_avg_k", -1),
        ("SH15T", "meter_channel_2_active_power", -1),
        ("SH10RS", "meter_channel_2_active_power", None),
        ("SH10RS", "phase_a_current", -0.1),
        ("SH10RS", "phase_b_current", None),
        ("SH10RT", "phase_b_current", -0.1),
        ("MG8RL", "phase_b_current", None),
        ("SH8.0RT-20", "total_active_power_mirror", -1),
        ("SH10RT", "total_active_power_mirror", None),
        ("SH10RT", "meter_phase_a_voltage", None),
    ],
)
def test_all_ones_by_model(model: str, name: str, expected: float | None) -> None:
    ones = (0xFFFF,) * SH.by_name(name).word_count
    assert value(SH, context(model), name, *ones) == expected


def test_all_ones_are_null_when_the_model_is_unknown() -> None:
    assert value(SH, DeviceContext(), "export_power", 0xFFFF, 0xFFFF) is None
    assert value(SG, DeviceContext(), "total_active_power", 0xFFFF, 0xFFFF) is None


@pytest.mark.parametrize(
    ("model", "name", "has"),
    [
        ("SG3.0RT", "meter_power", Presence.PRESENT),
        ("SG10KTL-M", "meter_power", Presence.PRESENT),
        ("SG60KU-M", "meter_power", Presence.ABSENT),
        ("SG250HX", "meter_power", Presence.ABSENT),
        ("SG5.0RS", "mppt_3_voltage", Presence.ABSENT),
        ("SG8.0RS", "mppt_3_voltage", Presence.PRESENT),
        ("SG5.5RS-JP", "power_factor_setpoint", Presence.ABSENT),
        ("SG20RT", "string_4_current", Presence.PRESENT),
        ("SG20RT", "string_5_current", Presence.ABSENT),
        ("SG5.0RT", "string_1_current", Presence.ABSENT),
        ("SG8K-D", "mppt_1_voltage", Presence.UNKNOWN),
        ("SG350HX", "quick_grid_dispatch", Presence.PRESENT),
        ("SG250HX", "quick_grid_dispatch", Presence.ABSENT),
    ],
)
def test_string_inverters_have_what_their_model_has(model: str, name: str, has: Presence) -> None:
    assert presence(Family.SG, model, name) is has


@pytest.mark.parametrize(
    ("model", "name", "has"),
    [
        ("SH6.0RS", "mppt_3_voltage", Presence.ABSENT),
        ("SH10RS", "mppt_4_voltage", Presence.PRESENT),
        ("SH125CX", "mppt_10_voltage", Presence.PRESENT),
        ("SH10RT", "pv_energy_by_month", Presence.UNKNOWN),
        ("SH10T", "pv_energy_by_month", Presence.ABSENT),
        ("SH10RS", "pv_energy_by_month", Presence.UNKNOWN),
        ("SH10T", "pv_power_limitation", Presence.PRESENT),
        ("SH10RS", "export_limit_ratio", Presence.ABSENT),
        ("SH10T", "battery_capacity", Presence.ABSENT),
    ],
)
def test_hybrids_have_what_their_model_has(model: str, name: str, has: Presence) -> None:
    assert presence(Family.SH, model, name) is has


def test_the_dongle_does_not_forward_everything() -> None:
    assert presence(Family.SH, "SH10RT", "pv_energy_by_month", ConnectionPath.WINET_S) is Presence.ABSENT
    assert presence(Family.SH, "SH10RT", "bms_alarm", ConnectionPath.WINET_S) is Presence.ABSENT
    assert presence(Family.SH, "SH10RT", "bms_alarm", ConnectionPath.LAN) is Presence.PRESENT
    cells = RegisterMap.for_family(Family.BATTERY).by_name("cell_voltage_max").applies
    assert cells.presence(DeviceContext(None, ConnectionPath.WINET_S)) is Presence.ABSENT


@pytest.mark.parametrize(
    ("model", "name", "words", "expected"),
    [
        ("SH10RT", "grid_frequency", (499,), 49.9),
        ("SH5.0RS", "grid_frequency", (5009,), 50.09),
        ("SH10RT", "battery_soh", (990,), 99.0),
        ("SH10RS", "battery_soh", (99,), 99),
        ("SH10RS", "battery_soh", (100,), 100),
        ("SH10RS", "battery_soh", (0,), 0),
        ("SH10RT", "total_output_energy", (994, 0), 99.4),
        ("SH125CX", "total_output_energy", (994, 0), 994),
        ("SH10RT", "backup_phase_a_power", (0xFFE6,), -26),
        ("SH125CX", "backup_phase_a_power", (123,), 1230),
        ("SH10RT", "battery_power", (40_000,), -25_536),
        ("SH125CX", "battery_power", (40_000,), 40_000),
        ("SH125CX", "battery_power", (65_000,), 65_000),
        ("SH125CX", "battery_current", (65_486,), -5.0),
        ("SH50CX", "battery_power", (60_000,), 60_000),
        ("SH50CX", "battery_power", (65_486,), -50),
        ("SH50CX", "battery_power", (0xFFFF,), None),
        ("SH10RT", "export_power", (2_036, 0xFFFF), None),
        ("SH125CX", "export_power", (2_036, 0xFFFF), -63_500),
        ("SH125CX", "export_power", (0, 0xFFFF), None),
        ("SH125CX", "export_power", (0xFFFF, 0), None),
        ("SH8.0RT-20", "mppt_1_voltage_mirror", (6123,), 612.3),
        ("SH20T", "mppt_1_voltage_mirror", (6123,), None),
        ("SH20T", "mppt_2_current_mirror", (71,), None),
    ],
)
def test_devices_that_depart_from_the_table(
    model: str, name: str, words: tuple[int, ...], expected: float
) -> None:
    assert value(SH, context(model), name, *words) == expected


def test_string_inverters_count_whole_kilowatt_hours_where_hybrids_count_tenths() -> None:
    assert value(SG, context("SG20RT"), "total_power_yields", 204, 0) == 204
    assert value(SG, context("SG20RT"), "grid_frequency", 4998) == 49.98


def test_what_a_device_is_known_to_lack_can_be_left_out() -> None:
    words = RegisterWords({(Space.INPUT, 5015): 0, (Space.INPUT, 5011): 0})
    assert SH.decode(words, context("SH10RT")) == {"mppt_1_voltage": 0.0, "mppt_3_voltage": 0.0}
    assert SH.decode(words, context("SH10RT"), absent=False) == {"mppt_1_voltage": 0.0}


def test_an_unknown_name_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="the sh map has no register 'nope'"):
        SH.by_name("nope")


def test_registers_are_found_by_number() -> None:
    assert SH.at(Space.INPUT, 13011) is SH.by_name("export_power")
    assert SH.at(Space.HOLDING, 13011) is SH.by_name("load_on_off")
    assert SH.at(Space.INPUT, 1) is None


@given(
    st.dictionaries(
        st.tuples(st.sampled_from(Space), st.sampled_from([*range(4950, 5250), *range(13000, 13080)])),
        st.integers(0, 0xFFFF),
        max_size=200,
    ),
    st.sampled_from(Family),
    st.none() | st.sampled_from(DEVICE_TYPES),
    st.sampled_from(ConnectionPath),
)
def test_any_words_of_any_device_decode(
    read: dict[tuple[Space, int], int],
    family: Family,
    device: object,
    path: ConnectionPath,
) -> None:
    where = DeviceContext(device, path)  # type: ignore[arg-type]  # hypothesis joins the strategies' types
    values = RegisterMap.for_family(family).decode(RegisterWords(read), where)
    for name in values:
        register = RegisterMap.for_family(family).by_name(name)
        assert all((register.space, number) in read for number in register.block.numbers)
