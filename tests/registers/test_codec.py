"""Words to values and back: the documents' examples, captured words, and everything else by property."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, strategies as st

from sungrow_lib.errors import UsageError
from sungrow_lib.quantities import Family
from sungrow_lib.registers.applies import Presence
from sungrow_lib.registers.map import RegisterMap
from sungrow_lib.registers.model import DataType, Register, Value

ALL = [register for family in Family for register in RegisterMap.for_family(family)]
SH = RegisterMap.for_family(Family.SH)
SG = RegisterMap.for_family(Family.SG)
BATTERY = RegisterMap.for_family(Family.BATTERY)

words16 = st.integers(0, 0xFFFF)
presences = st.sampled_from(Presence)


def decode(name: str, *words: int, presence: Presence = Presence.PRESENT) -> Value | None:
    return SH.by_name(name).decode(words, presence=presence)


# --- figures from documents and captures -----------------------------------------------------------------


def test_32_bits_are_sent_low_word_first() -> None:
    assert decode("total_battery_discharge", 0x2DFA, 0x0000) == 1177.0  # evcc #16696
    assert decode("total_output_energy", 0x2BF6, 0x000B) == 73215.0  # the document's example
    assert SG.by_name("total_power_yields").decode((3721, 7)) == 462473  # a plant behind a Logger
    assert decode("export_power", 65134, 65535) == -402  # SH8.0RT-20, importing
    assert decode("export_power", 0xFFE3, 0xFFFF) == -29  # SH15T


def test_the_documents_byte_order_example() -> None:
    register = SH.by_name("protocol_version")
    assert register.encode(0x01020304) == (0x0304, 0x0102)
    assert register.decode((0x0304, 0x0102)) == 0x01020304


def test_texts_are_not_swapped_and_end_at_the_first_zero() -> None:
    serial = (16690, 12854, 12854, 12854, 12854, 12854, 0, 0, 0, 0)
    assert decode("serial_number", *serial) == "A22626262626"
    assert decode("serial_number", 0x4142, 0x0043, *[0x4444] * 8) == "AB"
    assert decode("serial_number", 0x4142, *[0xFFFF] * 9) == "AB"


@pytest.mark.parametrize("filler", [0, 0xFFFF, 0x2020])
def test_an_empty_text_is_not_available(filler: int) -> None:
    assert decode("serial_number", *[filler] * 10) is None


def test_odd_bytes_in_a_text_never_reach_a_terminal() -> None:
    assert decode("serial_number", 0x411B, 0x5B80, *[0] * 8) == "A\ufffd[\ufffd"


def test_scaled_values_are_clean_decimals() -> None:
    assert repr(decode("grid_frequency_high_resolution", 4997)) == "49.97"
    assert repr(BATTERY.by_name("cell_voltage_max").decode((33217,))) == "3.3217"
    assert repr(decode("power_factor", 997)) == "0.997"
    assert repr(decode("power_factor", 0xFFFF - 949)) == "-0.95"
    assert repr(decode("bms_max_charging_current", 30)) == "30"


def test_enumerations_are_text() -> None:
    assert decode("running_state", 0x0000) == decode("running_state", 0x0040) == "running on grid"
    assert decode("running_state", 0x1234) == "unknown (0x1234)"
    assert decode("running_state", 0xAB) == "unknown (0x00AB)"
    assert decode("running_state", 0xFFFF) is None
    assert decode("device_type_code", 3602) == "SH8.0RT-20"
    assert decode("device_type_code", 1) == "unknown (0x0001)"
    assert [decode("drm_state", raw) for raw in (0, 1, 9, 10, 255)] == [
        "invalid",
        "DRM0",
        "DRM8",
        "invalid",
        "invalid",
    ]


def test_bit_fields_are_lists_of_text() -> None:
    assert decode("power_flow_status", 0x2B) == [
        "PV producing",
        "battery charging",
        "load consuming",
        "importing",
    ]
    assert decode("power_flow_status", 0) == []
    assert decode("power_flow_status", 0x0300) == ["unknown (bit 8)", "unknown (bit 9)"]
    assert decode("inverter_alarm", 0b1, 0b10) == ["fan alarm", "fram read alarm"]
    assert decode("inverter_alarm", 0xFFFF, 0xFFFF) is None
    assert SH.by_name("inverter_alarm").codes((0b1, 0b10)) == [70, 501]
    assert SH.by_name("grid_side_fault").codes((0x8000, 0x4001)) == [17, 100, 114]
    assert SH.by_name("grid_side_fault").codes((0xFFFF, 0xFFFF)) == []


def test_arrays_are_lists_with_their_own_gaps() -> None:
    months = SH.by_name("pv_energy_by_month").decode((0xFFFF, 15, *[0] * 10))
    assert months == [None, 1.5, *[0.0] * 10]
    years = SH.by_name("pv_energy_by_year").decode((0xFFFF, 0xFFFF, 0, 1, *[0] * 36))
    assert isinstance(years, list)
    assert years[:3] == [None, 6553.6, 0.0]
    assert len(years) == 20


# --- not available -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("battery_voltage", (0xFFFF,)),
        ("battery_temperature", (0x7FFF,)),
        ("total_pv_generation", (0xFFFF, 0xFFFF)),
        ("meter_active_power", (0xFFFF, 0x7FFF)),
        ("battery_power", (0xFFFF,)),
        ("battery_current", (0xFFFF,)),
    ],
)
@pytest.mark.parametrize("presence", Presence)
def test_a_sentinel_is_null_whoever_sends_it(name: str, words: tuple[int, ...], presence: Presence) -> None:
    assert decode(name, *words, presence=presence) is None


@pytest.mark.parametrize(("name", "minus_one"), [("export_power", -1), ("battery_temperature", -0.1)])
def test_all_ones_are_minus_one_only_in_a_register_known_to_exist(name: str, minus_one: float) -> None:
    ones = (0xFFFF,) * SH.by_name(name).word_count
    assert decode(name, *ones, presence=Presence.PRESENT) == minus_one
    assert decode(name, *ones, presence=Presence.ABSENT) is None
    assert decode(name, *ones, presence=Presence.UNKNOWN) is None


@pytest.mark.parametrize("presence", [Presence.PRESENT, Presence.UNKNOWN])
def test_half_a_hole_is_a_value_only_where_a_house_can_move_that_much(presence: Presence) -> None:
    assert decode("export_power", 65134, 0xFFFF, presence=presence) == -402
    assert decode("export_power", 65536 - 43_000, 0xFFFF, presence=presence) == -43_000
    assert decode("total_backup_power", 0, 0xFFFF, presence=presence) is None
    assert decode("total_backup_power", 700, 0xFFFF, presence=presence) is None
    assert decode("total_backup_power", 0xFFFF, 0, presence=presence) is None
    assert decode("total_backup_power", 0xFFFF, 700, presence=presence) is None


def test_half_a_hole_of_a_register_known_to_be_absent_is_none() -> None:
    assert decode("meter_channel_2_active_power", 65134, 0xFFFF, presence=Presence.ABSENT) is None
    assert decode("meter_channel_2_active_power", 12, 0, presence=Presence.ABSENT) == 12


@pytest.mark.parametrize("presence", Presence)
def test_an_unsigned_number_never_has_a_hole_as_its_high_word(presence: Presence) -> None:
    assert decode("total_dc_power", 0, 0xFFFF, presence=presence) is None
    assert decode("total_dc_power", 4711, 0xFFFF, presence=presence) is None
    with pytest.raises(UsageError, match="can hold"):
        SH.by_name("total_dc_power").encode(0xFFFF_0000)


def test_battery_power_is_a_signed_reading_where_firmware_signs() -> None:
    assert decode("battery_power", 0xFF38) == -200
    assert decode("battery_power", 7977) == 7977
    assert decode("battery_current", 0xFFFE) == -0.2
    assert decode("battery_power", 0x7FFF) is None


# --- every register ---------------------------------------------------------------------------------


def values_of(register: Register) -> st.SearchStrategy[Value]:
    """Values the register can hold."""
    if register.type is DataType.STRING:
        letters = st.characters(min_codepoint=0x21, max_codepoint=0x7E)
        return st.text(letters, min_size=1, max_size=2 * register.word_count)
    if register.is_choice:
        texts = sorted(set(register.choices.values()))
        return st.sampled_from([*texts, *([] if register.otherwise else ["unknown (0xFEDC)"])])
    if register.type is DataType.BITFIELD:
        bits = range(register.word_count * 16 - 1)
        texts = [register.bits.get(bit, f"unknown (bit {bit})") for bit in bits]
        return st.lists(st.sampled_from(texts), unique=True)
    numbers = numbers_of(register)
    if register.is_array:
        items = register.word_count // register.type.item_words
        return st.lists(st.none() | numbers, min_size=items, max_size=items)
    return numbers


def numbers_of(register: Register) -> st.SearchStrategy[int | float]:
    top = 0xFFFF if register.type.item_words == 1 else 0xFFFF_FFFF
    signed = register.type.is_signed or register.signed_by_firmware
    most = top - 1 if register.type.item_words == 1 else 0xFFFE_FFFF
    raws = st.integers(-(top >> 1) - 1, (top >> 1) - 1) if signed else st.integers(0, most)
    if register.type is DataType.S32:  # with one word 0xFFFF it would be half a hole
        raws = raws.filter(lambda raw: abs(raw) <= 60_000 or 0xFFFF not in (raw & 0xFFFF, raw >> 16 & 0xFFFF))
    if register.signed_by_firmware:
        raws = raws.filter(lambda raw: raw != -1)
    return raws.map(lambda raw: raw / 10**register.decimals if register.decimals else raw)


@given(st.data())
def test_encode_and_decode_are_symmetric(data: st.DataObject) -> None:
    register = data.draw(st.sampled_from(ALL))
    value = data.draw(values_of(register))
    back = register.decode(register.encode(value), presence=Presence.PRESENT)
    if register.type is DataType.BITFIELD:
        assert isinstance(back, list)
        assert isinstance(value, list)
        assert sorted(map(str, back)) == sorted(map(str, value))
    else:
        assert back == value


@pytest.mark.parametrize("register", ALL, ids=lambda register: register.name)
def test_every_register_survives_a_round_trip_of_plain_words(register: Register) -> None:
    words = tuple(0x3132 + n % 7 for n in range(register.word_count))
    value = register.decode(words, presence=Presence.PRESENT)
    assert value is not None
    if register.type is DataType.BITFIELD:  # several bits of a register may share a text
        again = register.decode(register.encode(value))
        assert isinstance(again, list)
        assert isinstance(value, list)
        assert sorted(map(str, again)) == sorted(map(str, value))
    elif not register.is_choice:
        assert register.encode(value) == words


@given(st.data(), presences)
def test_any_words_give_a_value_or_none(data: st.DataObject, presence: Presence) -> None:
    register = data.draw(st.sampled_from(ALL))
    size = register.word_count
    words = data.draw(st.lists(words16, min_size=size, max_size=size))
    value = register.decode(words, presence=presence)
    for item in value if isinstance(value, list) else [value]:
        assert item is None or isinstance(item, str) or math.isfinite(item)


@given(st.data())
def test_words_of_another_length_are_a_usage_error(data: st.DataObject) -> None:
    register = data.draw(st.sampled_from(ALL))
    words = data.draw(st.lists(words16, max_size=130).filter(lambda words: len(words) != register.word_count))
    with pytest.raises(UsageError, match=f"{register.name} takes {register.word_count} words"):
        register.decode(words)


@given(st.data())
def test_a_value_that_does_not_fit_is_a_usage_error(data: st.DataObject) -> None:
    register = data.draw(st.sampled_from(ALL))
    wrong: Value
    if register.type is DataType.STRING:
        wrong = "x" * (2 * register.word_count + 1)
    elif register.is_choice:
        wrong = "no such text"
    elif register.type is DataType.BITFIELD:
        wrong = ["no such bit"]
    elif register.is_array:
        wrong = "no list"
    else:
        wrong = 1e12
    with pytest.raises(UsageError):
        register.encode(wrong)


@pytest.mark.parametrize("value", [True, "12", [1], "x\u00e9", math.nan, math.inf])
def test_values_of_the_wrong_kind_are_usage_errors(value: Value) -> None:
    with pytest.raises(UsageError, match="takes"):
        SH.by_name("load_power").encode(value)
