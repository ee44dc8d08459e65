"""The register tables are complete, consistent, and what the collected facts say."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from itertools import combinations

import pytest

from sungrow_lib.quantities import QUANTITIES, Family
from sungrow_lib.registers.devices import DEVICE_BY_CODE, DEVICE_TYPES
from sungrow_lib.registers.faults import SG_FAULT_BY_CODE, SG_FAULT_CODES, SH_FAULT_BITS, Severity
from sungrow_lib.registers.map import RegisterMap
from sungrow_lib.registers.model import Access, DataType, Kind, Register
from sungrow_lib.registers.words import BLOCK_MAX, Space
from tests.registers.facts import TABLES, Rows


@pytest.mark.parametrize(("family", "count"), [("sh", 297), ("sg", 162), ("battery", 57), ("ihm", 50)])
def test_every_family_has_its_whole_map(family: str, count: int) -> None:
    assert len(RegisterMap.for_family(Family(family))) == count


@pytest.mark.parametrize("family", Family)
def test_names_are_unique_and_snake_case(family: Family) -> None:
    names = Counter(register.name for register in RegisterMap.for_family(family))
    assert [name for name, count in names.items() if count > 1] == []
    assert [name for name in names if not re.fullmatch(r"[a-z][a-z0-9_]*", name)] == []


@pytest.mark.parametrize("family", Family)
def test_every_register_names_its_source(family: Family) -> None:
    assert [register.name for register in RegisterMap.for_family(family) if not register.source] == []


def test_a_register_is_in_memory_once() -> None:
    count = (
        "import gc; from sungrow_lib.registers.map import _TABLES;"
        " from sungrow_lib.registers.model import Register; gc.collect();"
        " print(sum(type(found) is Register for found in gc.get_objects()), sum(map(len, _TABLES.values())))"
    )
    run = subprocess.run([sys.executable, "-c", count], capture_output=True, text=True, check=True)
    made, listed = run.stdout.split()
    assert made == listed


def test_registers_without_texts_share_their_map_of_none() -> None:
    one, other = (Register(name=name, number=1, type=DataType.U16) for name in ("one", "other"))
    assert one.choices is one.bits is other.bits == {}


@pytest.mark.parametrize("family", Family)
def test_registers_do_not_overlap(family: Family) -> None:
    taken: dict[tuple[Space, int], str] = {}
    for register in RegisterMap.for_family(family):
        for number in register.block.numbers:
            assert taken.setdefault((register.space, number), register.name) == register.name


@pytest.mark.parametrize("family", Family)
def test_every_register_fits_one_request(family: Family) -> None:
    assert max(register.word_count for register in RegisterMap.for_family(family)) <= BLOCK_MAX


@pytest.mark.parametrize("family", Family)
def test_holding_registers_are_settings_and_input_registers_are_read_only(family: Family) -> None:
    for register in RegisterMap.for_family(family):
        holding = register.space is Space.HOLDING
        assert (register.access is Access.READ_WRITE) is holding, register.name
        if register.kind is Kind.SETTING:
            assert holding, register.name


@pytest.mark.parametrize("family", Family)
def test_every_enumeration_has_texts(family: Family) -> None:
    for register in RegisterMap.for_family(family):
        if register.type is DataType.ENUM:
            assert register.choices, register.name
            assert all(0 <= raw < 0xFFFF and text for raw, text in register.choices.items())


@pytest.mark.parametrize(("file", "families"), TABLES)
def test_collected_facts_and_tables_agree_in_both_directions(
    file: str, families: tuple[Family], rows: Rows
) -> None:
    facts = {row["name"]: fact_of(row) for row in rows(file)}
    mine = {row.name: fact_of_register(row) for family in families for row in RegisterMap.for_family(family)}
    assert mine == facts


def fact_of(row: dict[str, str]) -> tuple[object, ...]:
    scale = row["scale"]
    return (
        int(row["document_register"]),
        int(row["function"]),
        row["type"],
        int(row["word_count"]),
        len(scale.partition(".")[2]),
        row["unit"],
        row["access"],
        range_of(row["valid_range"]),
        row["winet_s"].startswith(("no", "only with forwarded id")),
    )


def range_of(text: str) -> tuple[float, float] | None:
    match = re.match(r"(-?[\d.]+?)(?:\.\.|-)(-?[\d.]+)(?=$|[ ,])", text)
    return (float(match[1]), float(match[2])) if match else None


def fact_of_register(register: Register) -> tuple[object, ...]:
    # "-1.000..-0.800, 0.800..1.000" cannot be one range; the table keeps its hull.
    valid = (-1, -0.8) if register.name == "power_factor_setting" else register.valid_range
    return (
        register.number,
        int(register.space),
        register.type.value,
        register.word_count,
        register.decimals,
        register.unit,
        register.access.value,
        valid,
        not register.applies.winet,
    )


def test_enumeration_texts_are_those_of_the_facts(rows: Rows) -> None:
    checked = 0
    for file, families in TABLES:
        for row in rows(file):
            table = next(m for m in map(RegisterMap.for_family, families) if row["name"] in m)
            for raw, text in enumeration(row["enum_values"]):
                register = table.by_name(row["name"])
                of_bits = register.type is DataType.BITFIELD
                assert (register.bits[raw] if of_bits else register.text_of(raw)) == text, row["name"]
                checked += 1
    assert checked > 250


def enumeration(text: str) -> list[tuple[int, str]]:
    """Pairs of raw value and text, of the entries that are written without an aside."""
    plain = [
        (codes, meaning)
        for codes, _, meaning in (part.partition("=") for part in text.split(";"))
        if not re.search(r"[=,]|eco", meaning)
    ]
    matches = [
        (re.fullmatch(r"(0x[0-9A-Fa-f]+|\d+)(?:\(0x[0-9A-F]+\))?", code.strip()), meaning)
        for codes, meaning in plain
        for code in codes.split("/")
    ]
    return [(int(match[1], 0), meaning) for match, meaning in matches if match]


def test_device_types_and_facts_agree_in_both_directions(rows: Rows) -> None:
    facts = Counter(device_fact(row) for row in rows("device_types.csv"))
    mine = Counter(
        (
            device.code,
            device.model,
            device.line,
            device.power_kw,
            device.trackers,
            sum(device.strings) if device.strings else None,
            device.phases,
        )
        for device in DEVICE_TYPES
    )
    assert mine == facts


def device_fact(row: dict[str, str]) -> tuple[object, ...]:
    trackers = int(row["mppt_count"]) if row["mppt_count"] else None
    return (
        int(row["code_hex"], 16),
        row["model"],
        row["family"],
        float(row["nominal_power_kw_from_name"]) if row["nominal_power_kw_from_name"] else None,
        trackers,
        strings_in(row["strings_per_mppt"], trackers),
        int(row["phases"]) if row["phases"] else None,
    )


def strings_in(text: str, trackers: int | None) -> int | None:
    if not text:
        return None
    if "x" in text:
        each, count = text.split("x")
        return int(each) * int(count)
    parts = [int(part) for part in re.split("[;,]", text.strip(";"))]
    return sum(parts) * (trackers or 1) if len(parts) == 1 else sum(parts)


def test_fault_bits_and_facts_agree_in_both_directions(rows: Rows) -> None:
    facts = {
        (row["field"], int(row["bit"])): (
            int(row["document_register"]),
            int(row["numeric_code"]),
            row["meaning_normalised"],
        )
        for row in rows("sh_fault_bits.csv")
    }
    mine = {
        (fault.register, bit): (fault.number, fault.code(bit), text)
        for fault in SH_FAULT_BITS
        for bit, text in fault.texts.items()
    }
    assert mine == facts


def test_fault_codes_and_facts_agree_in_both_directions(rows: Rows) -> None:
    facts = Counter((row["codes_decimal"], row["class"]) for row in rows("sg_fault_codes.csv"))
    assert Counter((entry.codes, entry.severity.value) for entry in SG_FAULT_CODES) == facts


def test_fault_codes_expand_and_the_narrower_meaning_wins() -> None:
    assert SG_FAULT_BY_CODE[10].meaning == "grid outage (island)"
    assert SG_FAULT_BY_CODE[450].meaning == "string reverse connection fault"
    assert SG_FAULT_BY_CODE[70].meaning == "fan"
    assert SG_FAULT_BY_CODE[514].severity is Severity.ALARM
    assert 9999 not in SG_FAULT_BY_CODE


def test_shared_type_codes_show_their_first_model() -> None:
    assert DEVICE_BY_CODE[0x2430].model == "SG5.0RT"
    assert DEVICE_BY_CODE[0x0E12].model == "SH8.0RT-20"


def test_every_source_of_a_quantity_is_a_register_of_its_family() -> None:
    for quantity in QUANTITIES:
        for family, items in quantity.sources.items():
            for sources in items:
                for source in sources:
                    assert source.register in RegisterMap.for_family(family), quantity.name


def test_units_of_sources_fit_their_quantity() -> None:
    same = {("kW", "W"), ("kvar", "var")}
    for quantity in QUANTITIES:
        if quantity.is_numeric:
            for family, items in quantity.sources.items():
                for source in (source for sources in items for source in sources):
                    unit = RegisterMap.for_family(family).by_name(source.register).unit
                    assert unit == quantity.unit or (unit, quantity.unit) in same, source.register


def test_resolution_of_a_quantity_is_the_finest_of_its_sources() -> None:
    factor = {("kW", "W"): 3, ("kvar", "var"): 3}
    for quantity in QUANTITIES:
        if not quantity.is_numeric or not quantity.sources:
            continue
        finest = max(
            register.decimals - factor.get((register.unit, quantity.unit), 0)
            for family, items in quantity.sources.items()
            for sources in items
            for register in (RegisterMap.for_family(family).by_name(source.register) for source in sources)
        )
        assert quantity.decimals == max(finest, 0), quantity.name


def test_maps_are_the_same_object_each_time() -> None:
    for family in Family:
        assert RegisterMap.for_family(family) is RegisterMap.for_family(family)
    for left, right in combinations(Family, 2):
        assert RegisterMap.for_family(left) is not RegisterMap.for_family(right)
