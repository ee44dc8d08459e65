"""From registers to a sample: signs, units, and what must stay unknown."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from itertools import chain
from typing import Any, Final

import pytest
from hypothesis import given, strategies as st

from sungrow_lib.errors import UnknownFamilyError
from sungrow_lib.normalizer import Normalizer, rests_on_firmware, shows_signed_battery
from sungrow_lib.quantities import QUANTITIES, Family, QuantityKind, Tier
from sungrow_lib.registers.applies import ConnectionPath
from sungrow_lib.registers.devices import DEVICE_BY_MODEL, DEVICE_TYPES
from sungrow_lib.registers.identity import Identity
from sungrow_lib.registers.map import RegisterMap
from sungrow_lib.registers.plan import ReadPlan
from sungrow_lib.registers.words import RegisterWords, Space
from sungrow_lib.sample import SungrowSample

TS: Final = datetime(2026, 1, 31, 10, tzinfo=UTC)

CHARGING: Final = 0x2B
DISCHARGING: Final = 0x2D
NEITHER: Final = 0x28


def identity(model: str = "SH10RT", path: ConnectionPath = ConnectionPath.LAN) -> Identity:
    device = DEVICE_BY_MODEL[model.casefold()]
    assert device.family is not None
    return Identity(family=device.family, device=device, path=path)


def words(registers: dict[int, int]) -> RegisterWords:
    return RegisterWords({(Space.INPUT, number): word for number, word in registers.items()})


def long(number: int, value: int) -> dict[int, int]:
    """A 32-bit value, low word first."""
    raw = value & 0xFFFF_FFFF
    return {number: raw & 0xFFFF, number + 1: raw >> 16}


def sample(registers: dict[int, int], model: str = "SH10RT", *, signed: bool = False) -> SungrowSample:
    normalizer = Normalizer("house", identity(model), signed_battery=signed)
    return normalizer.normalize(words(registers), ts=TS)


# --- which way the battery flows ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("story", "model", "signed", "registers", "power"),
    [
        ("the signed register charges", "SH10RT", False, long(5214, -1500), 1500),
        ("the signed register discharges", "SH10RT", False, long(5214, 1500), -1500),
        ("it wins over 13022", "SH10RT", False, {**long(5214, -1500), 13022: 1490, 13001: NEITHER}, 1500),
        ("it is not available", "SH10RT", False, {5214: 0xFFFF, 5215: 0x7FFF, 13022: 9, 13001: 0x2D}, -9),
        ("it is a hole", "SH10RT", False, {5214: 0xFFFF, 5215: 0xFFFF, 13022: 900, 13001: CHARGING}, 900),
        ("-1 W or a hole, read alone", "SH10RT", False, long(5214, -1), None),
        ("-1 W, and nothing says otherwise", "SH10RT", False, {**long(5214, -1), **long(5216, 7)}, 1),
        ("13022 agrees", "SH10RT", False, {**long(5214, -1), **long(5216, 7), 13022: 1, 13001: 0}, 1),
        ("a hole beside another", "SH10RT", False, {5214: 0xFFFF, 5215: 0xFFFF, 5631: 0xFFFF}, None),
        ("a hole beside a current", "SH10RT", False, {5214: 0xFFFF, 5215: 0xFFFF, 13021: 30}, None),
        ("a hole, and nothing flows", "SH10RT", False, {5214: 0xFFFF, 5215: 0xFFFF, 13022: 0}, 0),
        ("it is not filled", "SH10RT", False, {**long(5214, 0), 13022: 900, 13001: CHARGING}, 900),
        ("nothing flows", "SH10RT", False, {**long(5214, 0), 13022: 3, 13001: NEITHER}, 0),
        ("old firmware charges (evcc 18473)", "SH10RT", False, {13001: 0x2B, 13022: 7977, 13021: 294}, 7977),
        ("old firmware discharges (evcc 18473)", "SH10RT", False, {13001: 0x2D, 13022: 740}, -740),
        ("new firmware charges", "SH10RT", False, {13001: NEITHER, 13022: 0xFF38}, 200),
        ("new firmware discharges, sign seen", "SH10RT", True, {13001: NEITHER, 13022: 200}, -200),
        ("sign seen, 13001 stale", "SH10RT", True, {13001: CHARGING, 13022: 200}, -200),
        ("current tells it charges", "SH10RT", False, {13001: NEITHER, 13021: 0xFFF0, 13022: 200}, 200),
        ("dead 13001 (evcc 18838)", "SH6.0RT-V112", False, {13001: 0, 13022: 184}, None),
        ("13001 not read", "SH10RT", False, {13022: 184}, None),
        ("13001 says both", "SH10RT", False, {13001: 0b110, 13022: 184}, None),
        ("idle", "SH10RT", False, {13001: 0, 13022: 0}, 0),
        ("SH-RS charges", "SH10RS", False, {13001: 0, 13022: 0xFE0C}, 500),
        ("SH-RS discharges", "SH10RS", False, {13001: 0, 13022: 500}, -500),
        ("SH-RS, bits win over no sign", "SH10RS", False, {13001: CHARGING, 13022: 1200}, 1200),
        ("SH-RS, bits say both", "SH10RS", False, {13001: 0b110, 13022: 1200}, None),
        ("it is beyond the inverter", "SH10RT", False, {5214: 0, 5215: 20_000, 13022: 900, 13001: 4}, -900),
        ("half a hole, low", "SH10RT", False, {5214: 0xFFFF, 5215: 0, 13022: 900, 13001: 4}, -900),
        ("half a hole, high", "SH10RT", False, {5214: 900, 5215: 0xFFFF, 13022: 900, 13001: 4}, -900),
        ("beyond the inverter alone", "SH10RT", False, {5214: 0, 5215: 20_000}, None),
        ("twice the nominal power", "SH10RT", False, long(5214, -20_000), 20_000),
        ("a small inverter, a strong battery", "SH3.0RS", False, long(5214, -6600), 6600),
        ("a stronger battery stage", "SH5T", False, {**long(5214, -14_000), 5628: 80}, 14_000),
        ("a large inverter", "SH125CX", False, long(5214, -120_000), 120_000),
        ("signed current charges", "SH10RT", False, {5631: 65436, 13022: 900, 13001: 0}, 900),
        ("signed current discharges", "SH10RT", False, {5631: 100, 13022: 900, 13001: CHARGING}, -900),
        ("signed current is a hole", "SH10RT", False, {5631: 0xFFFF, 13022: 900, 13001: 0}, None),
        ("signed current is 0", "SH10RT", False, {5631: 0, 13022: 900, 13001: CHARGING}, 900),
        ("signed current is absurd", "SH10RT", False, {5631: 45_000, 13022: 900, 13001: 4}, -900),
        ("not available", "SH10RT", False, {13001: CHARGING, 13022: 0xFFFF}, None),
        (
            "stale bits contradicted by sun and output",
            "SH10RT",
            False,
            {13001: CHARGING, 13022: 3000, **long(5017, 0), **long(13034, 2900)},
            None,
        ),
        (
            "bits confirmed by sun and output",
            "SH10RT",
            False,
            {13001: CHARGING, 13022: 3000, **long(5017, 4000), **long(13034, 900)},
            3000,
        ),
        (
            "charging from the grid",
            "SH10RT",
            False,
            {13001: CHARGING, 13022: 7977, **long(5017, 0), **long(13034, -8100)},
            7977,
        ),
    ],
)
def test_battery_power(
    story: str, model: str, *, signed: bool, registers: dict[int, int], power: int | None
) -> None:
    assert sample(registers, model, signed=signed).battery_power_w == power, story


@pytest.mark.parametrize(
    ("registers", "current"),
    [
        ({5631: 0xFF00}, 25.6),
        ({5631: 120}, -12.0),
        ({5631: 0xFFFF}, None),
        ({5630: 2310, 5631: 0xFFFF}, 0.1),
        ({5631: 0xFFFF, 13021: 0}, 0.0),
        ({5631: 0xFFFF, 13022: 900, 13001: CHARGING}, None),
        ({5631: 0xFFFF, 5214: 0xFFFF, 5215: 0xFFFF}, None),
        ({5631: 0xFFFF, 13021: 0xFFFF}, None),
        ({5631: 0, 13021: 294, 13022: 7977, 13001: CHARGING}, 29.4),
        ({13021: 294, 13022: 7977, 13001: CHARGING}, 29.4),
        ({13021: 294, 13022: 7977, 13001: DISCHARGING}, -29.4),
        ({13021: 0xFFF0, 13022: 0xFF38}, 1.6),
        ({13021: 294, 13022: 7977, 13001: 0}, None),
        ({13021: 294, **long(5214, -7977)}, 29.4),
        ({13021: 0, 13022: 0}, 0.0),
        ({13021: 294}, None),
        ({13021: 294, 13001: 2}, 29.4),
        ({13021: 294, 13001: 4}, -29.4),
        ({13021: 294, 13001: 6}, None),
        ({5631: 20_000, 13021: 294, 13001: 4}, -29.4),
        ({5631: 45_000, 13021: 294, 13001: 2}, 29.4),
        ({5631: 20_000}, None),
        ({5631: 900, 13020: 4000, 13021: 294, 13001: 4}, -29.4),
        ({5631: 900, 13020: 0}, -90.0),
    ],
)
def test_battery_current_flows_with_the_power(registers: dict[int, int], current: float | None) -> None:
    assert sample(registers).battery_current_a == current


def test_a_normalizer_learns_that_its_battery_is_signed_and_stays_pure() -> None:
    fresh = Normalizer("house", identity())
    discharging = words({13001: NEITHER, 13022: 200})
    charging = words({13001: NEITHER, 13022: 0xFF38})
    assert fresh.normalize(discharging, ts=TS).battery_power_w is None
    taught = fresh.learning(charging)
    assert taught.normalize(discharging, ts=TS).battery_power_w == -200
    assert fresh.normalize(discharging, ts=TS).battery_power_w is None
    assert fresh.learning(discharging) is fresh
    assert taught.learning(charging) is taught
    assert not shows_signed_battery(words({13022: 0xFFFF}))


@pytest.mark.parametrize(
    ("firmware", "power"),
    [
        ("SAPPHIRE-H_03011.95.01", -200),
        ("SAPPHIRE-H_03011.95.14", -200),
        ("SAPPHIRE-H_03011.100.00", -200),
        ("SAPPHIRE-H_03011.94.99", 200),
        ("SAPPHIRE-H_B001.V000.P019", 200),
        ("ARM_SAPPHIRE-H_V11_V01_B", 200),
        (None, 200),
    ],
)
def test_firmware_tells_that_the_battery_is_signed_whatever_a_stale_13001_says(
    firmware: str | None, power: int
) -> None:
    device = replace(identity("SH10RT"), firmware=firmware)
    read = words({13001: CHARGING, 13022: 200})
    assert Normalizer("house", device).normalize(read, ts=TS).battery_power_w == power


@pytest.mark.parametrize(
    ("story", "sun", "output", "magnitude", "power"),
    [
        ("more sun than output", 6000, 2000, 3000, None),
        ("little of it", 700, 400, 250, None),
        ("output from the battery", 0, 2900, 3000, -3000),
        ("what is lost of much sun", 10_000, 9750, 40, -40),
        ("what is lost on the way", 3050, 2900, 200, -200),
        ("the bit is of another day", 6000, 6900, 1000, -1000),
    ],
)
def test_of_signing_firmware_nobody_knows_where_both_the_bit_and_the_sun_say_charging(
    story: str, sun: int, output: int, magnitude: int, power: int | None
) -> None:
    device = replace(identity("SH10RT"), firmware="SAPPHIRE-H_03011.95.02")
    read = words({13001: CHARGING, 13022: magnitude, **long(5017, sun), **long(13034, output)})
    assert Normalizer("house", device).normalize(read, ts=TS).battery_power_w == power, story


@pytest.mark.parametrize(
    ("registers", "power", "current"),
    [
        ({13020: 7000, 13021: -38, 13022: -3000}, 3000, 3.8),
        ({13020: 7000, 13021: 890, 13022: 62_536, 13001: DISCHARGING}, -62_536, -89.0),
        ({13020: 7000, 13021: 890, 13022: 62_536, 13001: CHARGING}, 62_536, 89.0),
        ({13020: 7000, 13021: 467, 13022: 33_000, 13001: DISCHARGING}, -33_000, -46.7),
        ({13021: 571, 13022: 40_000, 13001: DISCHARGING}, -40_000, -57.1),
        ({13020: 7000, 13021: 890, 13022: 62_536, 13001: DISCHARGING, 5631: -1, 5632: 250}, -62_536, -89.0),
        ({13020: 7000, 13021: 0, 13022: 62_536, 13001: DISCHARGING, **long(5214, 0)}, -62_536, 0.0),
        ({13020: 7000, 13021: 70, 13022: 60_000, 13001: DISCHARGING}, -60_000, -7.0),
        ({13020: 12, 13021: 571, 13022: 40_000, 13001: CHARGING}, 40_000, 57.1),
        ({13020: 7000, 13021: 1, 13022: 40_000, 13001: CHARGING}, 40_000, 0.1),
        ({13020: 7000, 13021: 0, 13022: -3000}, None, 0.0),
        ({13020: 7000, 13021: 400, 13022: 28_000, 13001: DISCHARGING}, -28_000, -40.0),
    ],
)
def test_the_upper_half_of_a_large_hybrids_battery_power_is_what_voltage_and_current_make(
    registers: dict[int, int], power: int | None, current: float
) -> None:
    read = words({number: value & 0xFFFF for number, value in registers.items()})
    found = Normalizer("house", identity("SH125CX")).normalize(read, ts=TS)
    assert (found.battery_power_w, found.battery_current_a) == (power, current)


@pytest.mark.parametrize(
    ("registers", "export"),
    [
        ({**long(13010, 0), **long(5601, 0), **long(5603, 300), **long(5605, 300), **long(5607, 300)}, -900),
        ({**long(13010, 0), **long(5601, 0), **long(5603, 500), **long(5605, -500), **long(5607, 0)}, 0),
        ({**long(13010, 0), **long(5601, 0), **long(5603, 0), **long(5605, 0), **long(5607, 0)}, 0),
        ({**long(13010, 700), **long(5601, 0), **long(5603, 300), **long(5605, 300), **long(5607, 300)}, 700),
        ({**long(5601, 0)}, 0),
        ({**long(5601, 0), **long(5603, 10), **long(5605, 10), **long(5607, 10)}, 0),
        ({**long(13010, 0), **long(5601, 0), **long(5603, 2000), **long(5605, 2000), **long(5607, -3940)}, 0),
        ({**long(13010, 0), **long(5601, 400)}, -400),
    ],
)
def test_a_total_that_stays_at_0_gives_way_to_the_phases_that_live(
    registers: dict[int, int], export: int
) -> None:
    found = Normalizer("house", identity("SH15T")).normalize(words(registers), ts=TS)
    assert found.export_power_w == export


@pytest.mark.parametrize("halves", [(0, 0xFFFF), (0xFFFF, 0)])
def test_half_a_hole_is_no_fault(halves: tuple[int, int]) -> None:
    first, second = halves
    assert sample({13052: first, 13053: second}).fault_codes is None
    others = {13054: 0, 13055: 4}
    assert sample({13052: first, 13053: second, **others}).fault_codes == sample(others).fault_codes
    assert sample({13052: first, 13053: second, 13054: 0, 13055: 0}).fault_codes is None


@pytest.mark.parametrize(
    ("registers", "is_there"),
    [
        ({13020: 0xFFFF, 13023: 0, 13024: 0, 13025: 0, 13039: 0}, False),
        ({13020: 0, 13023: 0, 13024: 0xFFFF, 13025: 0, 13039: 0}, False),
        ({13020: 12, 13023: 0, 13024: 0, 13025: 0, 13039: 0}, False),
        ({13020: 4000, 13023: 0, 13024: 990, 13025: 0, 13039: 960}, True),
        ({13020: 0xFFFF, 13023: 0, 13024: 990, 13025: 0, 13039: 960}, True),
        ({13001: CHARGING, 13022: 500, 13023: 0, 13025: 0, 13039: 0}, True),
        ({13020: 0xFFFF, 13021: 20, 13022: 500, 13023: 0, 13024: 0, 13025: 0, 13039: 0}, True),
        ({13023: 0, 13025: 0, 13039: 0}, True),
    ],
)
def test_a_battery_of_which_nothing_is_available_is_not_there(
    registers: dict[int, int], *, is_there: bool
) -> None:
    found = sample(registers)
    assert (found.battery_soc_pct, found.battery_temp_c) == ((0.0, 0.0) if is_there else (None, None))


_ALONE = {5017: 3000, 5036: 500, 13004: 9000, 13034: 2900, 13035: 0}
"""What lives on a hybrid that has neither a battery nor a meter; all else reads 0."""


@pytest.mark.parametrize("tiers", [(Tier.FAST, Tier.SLOW)])
def test_what_is_not_there_is_unknown_also_where_it_is_all_that_is_read(tiers: tuple[Tier, ...]) -> None:
    device = identity("SH10RT")
    normalizer = Normalizer("house", device)

    def read(names: set[str] | None) -> dict[str, Any]:
        plan = ReadPlan.for_quantities(Family.SH, device.context, tiers=tiers, names=names)
        numbers = [n for block in plan.blocks for n in block.numbers if block.space is Space.INPUT]
        return normalizer.values(words({number: _ALONE.get(number, 0) for number in numbers}))

    whole = read(None)
    assert whole["pv_power_w"] == 3000
    begins = ("battery_", "load_power", "import_", "direct_use_", "self_consumption_")
    absent = {name for name, value in whole.items() if value is None and name.startswith(begins)}
    assert {"battery_soc_pct", "battery_temp_c", "import_daily_kwh", "direct_use_total_kwh"} <= absent
    assert {name: value for name in absent if (value := read({name})[name]) is not None} == {}


def test_an_empty_copy_of_which_a_request_was_lost_is_empty_all_the_same() -> None:
    table = dict.fromkeys(range(13000, 13048), 0)
    found = sample(table)
    assert (found.pv_total_kwh, found.running_state, found.active_power_w) == (None, None, None)
    assert sample({**table, 13008: 1}).pv_total_kwh == 0.0


def test_a_large_hybrid_that_seemed_to_sign_its_battery_is_not_believed() -> None:
    read = words({13001: CHARGING, 13020: 7000, 13021: 143, 13022: 10_000})
    found = Normalizer("house", identity("SH125CX"), signed_battery=True).normalize(read, ts=TS)
    assert (found.battery_power_w, found.battery_current_a) == (10_000, 14.3)


def test_only_a_positive_13022_without_a_5214_rests_on_the_firmware() -> None:
    assert rests_on_firmware(words({13022: 200}))
    assert rests_on_firmware(words({13022: 200, **long(5214, 0)}))
    for told in ({13022: 0}, {13022: 0xFF38}, {13022: 0xFFFF}, {}, {13022: 200, **long(5214, 200)}):
        assert not rests_on_firmware(words(told))


def test_what_is_plausible_follows_from_the_power_the_inverter_states() -> None:
    unnamed = Normalizer("house", Identity(family=Family.SH))
    stated = Normalizer("house", Identity(family=Family.SH, nominal_kw=50.0))
    beyond = words({**long(5214, -70_000), 13022: 900, 13001: 4})
    assert unnamed.normalize(beyond, ts=TS).battery_power_w == -900
    assert stated.normalize(beyond, ts=TS).battery_power_w == 70_000
    assert unnamed.normalize(words({5001: 500}) | beyond, ts=TS).battery_power_w == 70_000
    assert unnamed.normalize(words(long(5214, -25_000)), ts=TS).battery_power_w == 25_000


# --- battery or meter that is not there -----------------------------------------------------------------


NO_BATTERY: Final = {13020: 0, 13021: 0, 13022: 0, 13023: 0, 13024: 0, 13025: 0, 13039: 0, 5639: 0}


def test_an_inverter_without_a_battery_has_no_state_of_charge() -> None:
    empty = sample({**NO_BATTERY, **long(13041, 0), **long(13027, 0), 13040: 0, 13026: 0})
    assert {name for name in empty.content() if name.startswith("battery_")} == set()


def test_counters_of_a_battery_that_went_away_stay() -> None:
    gone = sample({**NO_BATTERY, **long(13041, 995), **long(13027, 913)})
    assert gone.battery_soc_pct is None
    assert gone.battery_charge_total_kwh == 99.5


def test_an_empty_battery_is_at_zero() -> None:
    reading = sample({**NO_BATTERY, 13020: 1916, 13024: 1000, 13039: 96})
    assert (reading.battery_soc_pct, reading.battery_power_w, reading.battery_temp_c) == (0.0, 0, 0.0)


NO_METER: Final = {
    number: word for n in (5601, 5603, 5605, 5607) for number, word in ((n, 0xFFFF), (n + 1, 0x7FFF))
}


def test_a_slave_without_a_meter_does_not_know_house_and_grid() -> None:
    slave = sample({**NO_METER, **long(13010, 0), **long(13008, 130), **long(13037, 0), **long(13046, 0)})
    assert slave.content() == {"sample_count": 1}


def test_a_meter_of_zeros_that_never_counted_is_no_meter() -> None:
    zeros = dict.fromkeys((*range(5601, 5609), *range(13008, 13012), 13037, 13038, 13046, 13047), 0)
    reading = sample({**zeros, **long(5017, 3000)})
    assert (reading.load_power_w, reading.export_power_w, reading.import_total_kwh) == (None, None, None)
    assert sample({**zeros, **long(13037, 1)}).export_power_w == 0
    assert sample({**zeros, **long(5605, 3)}).export_power_w == 0


def test_zeros_for_house_and_grid_without_a_meters_own_registers_that_never_counted_are_no_meter() -> None:
    zeros = dict.fromkeys((*range(13008, 13012), 13037, 13038, 13046, 13047), 0)
    reading = sample({**zeros, **long(5017, 3000)})
    assert (reading.load_power_w, reading.export_power_w, reading.import_total_kwh) == (None, None, None)
    assert sample({**zeros, **long(13008, 3000)}).load_power_w is None  # its own output
    counted = sample({**zeros, **long(13037, 1)})
    assert (counted.load_power_w, counted.export_power_w) == (0, 0)
    assert sample({**zeros, **long(13010, -5)}).load_power_w == 0


def test_a_meter_that_is_silent_for_a_moment_does_not_take_the_counters_away() -> None:
    reading = sample({**NO_METER, **long(13010, 0), **long(13037, 1566), **long(13046, 182)})
    assert (reading.import_total_kwh, reading.export_total_kwh) == (156.6, 18.2)


@pytest.mark.parametrize(
    ("registers", "export"),
    [
        (long(13010, -402), -402),
        ({**long(13010, -402), **long(5601, 398)}, -402),
        ({**long(13010, 0), **long(5601, 0)}, 0),
        ({**long(13010, 0), **long(5601, -1200)}, 1200),
        ({**long(13010, 0), **long(5603, 700), **long(5605, -100), **long(5607, 200)}, -800),
        (long(5601, 398), -398),
        (long(5216, -402), -402),
        (long(13010, -1), -1),
        ({}, None),
    ],
)
def test_export_power(registers: dict[int, int], export: int | None) -> None:
    assert sample(registers).export_power_w == export


def test_minus_one_watt_of_an_unknown_model_is_unknown() -> None:
    normalizer = Normalizer("house", Identity(family=Family.SH))
    assert normalizer.normalize(words(long(13010, -1)), ts=TS).export_power_w is None


def test_phases_of_the_meter_turn_their_sign() -> None:
    reading = sample({**long(5603, 648), **long(5605, -652), **long(5607, 402)})
    assert reading.export_phase_power_w == [-648, 652, -402]


# --- what a model lacks ---------------------------------------------------------------------------------


def test_zeros_in_registers_a_model_lacks_are_not_values() -> None:
    single = sample({5019: 2301, 5020: 0, 5021: 0, 5011: 3000, 5013: 0, 5015: 0}, "SH6.0RS")
    assert single.phase_voltage_v == [230.1]
    assert single.mppt_voltage_v == [300.0, 0.0]


def test_counters_that_a_dongle_leaves_at_zero_are_unknown() -> None:
    registers = {13036: 0, 13045: 0, **long(13037, 1566)}
    for path, daily in ((ConnectionPath.WINET_S, None), (ConnectionPath.LAN, 0.0)):
        reading = Normalizer("house", identity("SH10RS", path)).normalize(words(registers), ts=TS)
        assert (reading.import_daily_kwh, reading.export_daily_kwh) == (daily, daily)
        assert reading.import_total_kwh == 156.6
    counts = Normalizer("house", identity("SH10RS", ConnectionPath.WINET_S)).values(
        words({13036: 7, 13045: 9})
    )
    assert (counts["import_daily_kwh"], counts["export_daily_kwh"]) == (0.7, 0.9)  # newer firmware fills them


def test_cells_that_a_dongle_forwards_after_all_are_values() -> None:
    battery = identity("SBR128", ConnectionPath.WINET_S)
    for volts, cells in ((0, None), (33456, 3.3456)):
        read = words({10741: 2560, 10745: 99, 10757: volts, 10759: volts})
        assert Normalizer("house", battery).values(read)["battery_cell_voltage_min_v"] == cells


def test_mirrors_serve_only_the_model_they_were_seen_on() -> None:
    registers = {5633: 550, **long(5236, 1200)}
    assert sample(registers, "SH8.0RT-20").battery_soc_pct == 55.0
    assert sample(registers, "SH8.0RT-20").pv_power_w == 1200
    assert sample(registers, "SH15T").content() == {"sample_count": 1}


def test_the_best_source_that_answers_is_taken() -> None:
    assert sample({5036: 499, 5148: 4998, 5242: 4997}).grid_frequency_hz == 49.97
    assert sample({5036: 499, 5148: 4998, 5242: 0xFFFF}).grid_frequency_hz == 49.98
    assert sample({5036: 499, 5148: 4998, 5242: 0}).grid_frequency_hz == 49.98
    assert sample({5036: 0, 5148: 0}).grid_frequency_hz == 0.0
    assert sample({5036: 499}).grid_frequency_hz == 49.9
    assert sample({5036: 4998}).grid_frequency_hz == 49.98


def test_a_hole_in_a_mirror_is_no_reason_to_doubt_a_zero() -> None:
    hole = {5232: 0xFFFF, 5233: 0xFFFF}  # -1 W, were it a value
    assert sample({13034: 0, 13035: 0, **hole}, "SH8.0RT-20").active_power_w == 0
    assert sample({13034: 0, 13035: 0, **long(5232, 700)}, "SH8.0RT-20").active_power_w == 700


# --- a copy that nobody filled --------------------------------------------------------------------------


def test_a_string_inverter_that_reads_0_throughout_says_nothing() -> None:
    plate = {5000: 0x2606, 5001: 50, 5002: 0}
    zeros = dict.fromkeys((*range(5003, 5050), *range(5144, 5149)), 0)
    blank = sample({**plate, **zeros}, "SG5.0RS")
    assert blank.content() == {"sample_count": 1}  # neither "running" nor 0 kWh
    for alive in (long(5004, 1), {5008: 201}, {5019: 2301}, {5036: 500}, long(5006, 1)):
        reading = sample({**plate, **zeros, **alive}, "SG5.0RS")
        assert (reading.pv_power_w, reading.running_state) == (0, "running")


def test_a_hybrid_that_reads_0_throughout_says_nothing() -> None:
    zeros = dict.fromkeys((*range(5003, 5037), *range(13000, 13055)), 0)
    assert sample(zeros).content() == {"sample_count": 1}
    for alive in (long(5004, 1), {5019: 2301}, {5036: 500}, {13023: 1}, long(13037, 1)):
        assert sample({**zeros, **alive}).pv_power_w == 0


def test_a_few_zeros_are_values() -> None:
    assert sample(long(5017, 0)).pv_power_w == 0
    assert sample({**long(13003, 0), **long(13027, 0), **long(13041, 0), 13020: 0}).pv_total_kwh == 0
    assert sample({5036: 0, 5148: 0, 5019: 0}).grid_frequency_hz == 0
    assert sample({**long(5004, 0), **long(5017, 0)}, "SG5.0RS").pv_total_kwh == 0


# --- state, alarms, faults ------------------------------------------------------------------------------


def test_alarms_and_faults_of_a_hybrid_are_codes() -> None:
    reading = sample({13050: 0b11, 13051: 1, 13052: 0x8000, 13053: 1, 13068: 0, 13069: 2})
    assert reading.alarm_codes == [70, 71, 500, 917]
    assert reading.fault_codes == [17, 100]


@pytest.mark.parametrize(("family", "model"), [(Family.SH, "SH10RT"), (Family.BATTERY, "SBR128")])
def test_no_code_vanishes_however_many_are_active(family: Family, model: str) -> None:
    table = RegisterMap.for_family(family)
    flagged = [row for row in table if row.code_bases is not None]
    everything = dict.fromkeys(chain.from_iterable(row.block.numbers for row in flagged), 0x7FFF)
    reading = sample(everything, model)
    expected = {code for row in flagged for code in row.codes((0x7FFF,) * row.word_count)}
    assert len(expected) > 64
    assert {*(reading.alarm_codes or ()), *(reading.fault_codes or ())} == expected


def test_no_alarm_is_an_empty_list_and_not_read_is_null() -> None:
    assert sample({13050: 0, 13051: 0}).alarm_codes == []
    assert sample({13050: 0, 13051: 0}).fault_codes is None
    assert sample({13050: 0xFFFF, 13051: 0xFFFF}).alarm_codes is None


@pytest.mark.parametrize(
    ("registers", "alarms", "faults"),
    [
        ({5038: 0x5500, 5045: 10}, [], [10]),
        ({5038: 0x9100, 5045: 514}, [514], []),
        ({5038: 0x5500, 5045: 514}, [514], []),
        ({5038: 0x9100, 5045: 9999}, [9999], []),
        ({5038: 0x5500, 5045: 0}, [], []),
        ({5038: 0x0000, 5045: 10}, [], []),
        ({5038: 0x0000}, [], []),
        ({5038: 0x5500}, None, None),
        ({5045: 10}, None, None),
        ({5038: 0xFFFF, 5045: 10}, None, None),
    ],
)
def test_the_fault_code_of_a_string_inverter_counts_only_in_a_faulty_state(
    registers: dict[int, int], alarms: list[int] | None, faults: list[int] | None
) -> None:
    reading = sample(registers, "SG20RT")
    assert (reading.alarm_codes, reading.fault_codes) == (alarms, faults)


@pytest.mark.parametrize(
    ("model", "registers", "state"),
    [
        ("SH10RT", {13000: 0x40}, "running"),
        ("SH10RT", {13000: 8}, "standby"),
        ("SH10RT", {13000: 0x1234}, "unknown (0x1234)"),
        ("SH10RT", {13000: 0xFFFF}, None),
        ("SH10RT", {13000: 0x8200}, "dispatch"),
        ("SG20RT", {5038: 0}, "running"),
        ("SG20RT", {5038: 0x8200}, "dispatch"),
        ("SG20RT", {5038: 0x8000}, "stopped"),
        ("SH10RT", {13000: 1}, "stopped"),
        ("SG20RT", {}, None),
    ],
)
def test_running_state(model: str, registers: dict[int, int], state: str | None) -> None:
    assert sample(registers, model).running_state == state


def test_firmware_is_reported_only_when_asked() -> None:
    table = RegisterMap.for_family(Family.SH)
    register = table.by_name("inverter_firmware")
    text = register.encode("SAPPHIRE-H_B001.V000.P019")
    read = words({register.number + n: word for n, word in enumerate(text)})
    normalizer = Normalizer("house", identity())
    assert normalizer.normalize(read, ts=TS).firmware is None
    assert normalizer.normalize(read, ts=TS, firmware=True).firmware == "SAPPHIRE-H_B001.V000.P019"


# --- phases ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", [0, 7, 0xFFFF])
@pytest.mark.parametrize("model", ["SH5.0RS", "SH5K-20", "SG5.0RS", "SG5.5RS-JP"])
def test_a_single_phase_inverter_has_one_phase(model: str, word: int) -> None:
    """Whatever stands where others have their second and third phase; its meter may have three."""
    rows = [row for row in RegisterMap.for_family(identity(model).family) if "_phase" in f"_{row.name}"]
    read = words({number: word for row in rows for number in row.block.numbers if row.space is Space.INPUT})
    values = Normalizer("house", identity(model)).values(read)
    lists = [values[quantity.name] for quantity in QUANTITIES if "_phase_" in f"_{quantity.name}"]
    if word == 7:
        assert values["export_phase_power_w"] == [-(7 << 16 | 7)] * 3
        lists.remove(values["export_phase_power_w"])
    assert all(len(value) == 1 for value in lists if value is not None)
    if word == 7:  # one that is no hole in any type, and no sign of a missing meter
        assert any(lists)
    registers = RegisterMap.for_family(identity(model).family).decode(read, identity(model).context)
    beyond = [name for name in registers if "_phase_b" in f"_{name}" or "_phase_c" in f"_{name}"]
    assert beyond
    assert word != 0xFFFF or not any(registers[name] for name in beyond)


@pytest.mark.parametrize(
    ("output_type", "phases"), [(0, [-7]), (1, [-7, 1, 1]), (None, [-7])], ids=["single", "3P4L", "not told"]
)
def test_where_the_model_does_not_tell_the_wiring_does(output_type: int | None, phases: list[int]) -> None:
    """Holes in the place of two phases: -1 W only where there are three."""
    told = {} if output_type is None else {8554: output_type}
    read = words({8000: 0x072A, **told, **long(8559, 7), **dict.fromkeys(range(8561, 8565), 0xFFFF)})
    assert Normalizer("house").values(read)["export_phase_power_w"] == phases


def test_the_model_is_surer_of_its_phases_than_a_dongle_that_fills_in_0() -> None:
    read = words({5000: 3587, 5002: 0, 5019: 2301, 5020: 2302, 5021: 2303})
    assert Normalizer("house").values(read)["phase_voltage_v"] == [230.1, 230.2, 230.3]


@pytest.mark.parametrize(
    ("total", "phases", "width", "field", "value"),
    [(5601, 5603, 6, "export_power_w", -7), (5726, 5723, 3, "backup_power_w", 7)],
    ids=["meter", "backup"],
)
def test_three_phases_of_minus_one_watt_are_holes(
    total: int, phases: int, width: int, field: str, value: int
) -> None:
    meter = dict.fromkeys((total, total + 1, *range(phases, phases + width)), 0xFFFF)
    assert set(sample(meter).content()) == {"sample_count"}
    assert getattr(sample({**meter, **long(total, 7)}), field) == value


def holes(first: int, last: int) -> dict[int, int]:
    return dict.fromkeys(range(first, last + 1), 0xFFFF)


@pytest.mark.parametrize(
    ("model", "registers"),
    [
        ("SH10RT", holes(5720, 5727)),
        ("SH10RT", holes(13000, 13047)),
        ("SH10RT", holes(13020, 13026)),
        ("SH10RT", {5031: 7, **holes(5033, 5036)}),
        ("SH10RT", holes(13008, 13014)),
        ("SG10RT", holes(5031, 5036)),
        ("iHomeManager", holes(8155, 8163)),
    ],
)
def test_a_run_of_holes_is_no_value_whatever_its_types(model: str, registers: dict[int, int]) -> None:
    assert set(sample(registers, model).content()) <= {"sample_count"}


def test_a_single_minus_one_is_a_value_and_so_are_two() -> None:
    assert sample({13007: 0, **long(13008, 402), **long(13010, -1), 13013: 0}).export_power_w == -1
    assert sample({13007: 0, **long(13008, -1), **long(13010, -1), 13013: 0}).load_power_w == -1
    assert sample({13024: 500, 13025: 0xFFFF, 13026: 0}).battery_temp_c == -0.1
    far_apart = {5003: 0xFFFF, 5008: 0xFFFF, **long(13010, -1)}
    assert sample(far_apart).export_power_w == -1


@pytest.mark.parametrize(
    ("model", "number", "beside", "field", "value"),
    [
        ("SG5.0RS", 5083, 5085, "export_power_w", 1),
        ("SH10RT", 5726, 5725, "backup_power_w", -1),
        ("SH10RT", 5726, 5731, "backup_power_w", -1),
    ],
)
def test_minus_one_is_a_value_only_beside_another(
    model: str, number: int, beside: int, field: str, value: int
) -> None:
    alone = long(number, -1)
    assert getattr(sample(alone, model), field) is None
    assert getattr(sample({**alone, beside: 7, beside + 1: 0, number: 0xFFFF}, model), field) == value


# --- string inverters, batteries, iHomeManager ----------------------------------------------------------


def test_a_string_inverters_meter_counts_imports() -> None:
    reading = sample({**long(5083, 350), **long(5091, 900), **long(5099, 1234)}, "SG5.0RS")
    assert (reading.export_power_w, reading.load_power_w, reading.import_total_kwh) == (-350, 900, 123.4)


def test_a_string_inverter_without_a_meter_knows_no_grid() -> None:
    zeros = dict.fromkeys(range(5083, 5101), 0)
    assert sample(zeros, "SG5.0RS").content() == {"sample_count": 1}


def test_a_string_inverters_meter_may_read_zero() -> None:
    assert sample(long(5083, 0), "SG5.0RS").export_power_w == 0
    assert sample({**long(5083, 0), **long(5091, 700)}, "SG5.0RS").export_power_w == 0
    counted = {**long(5083, 0), **long(5095, 0), **long(5099, 1234)}
    assert sample(counted, "SG5.0RS").export_power_w == 0
    without = {**long(5083, 0), **long(5095, 0), **long(5099, 0)}
    assert sample(without, "SG5.0RS").export_power_w is None
    without = dict.fromkeys(range(5083, 5099), 0)  # 5099 is not served
    assert sample(without, "SG5.0RS").content() == {"sample_count": 1}
    assert sample({**without, 5097: 3}, "SG5.0RS").export_power_w == 0
    without = {**long(5083, 0), **long(5095, -1), **long(5099, -1)}
    assert sample(without, "SG5.0RS").export_power_w is None


def test_a_meter_block_full_of_holes_is_no_meter() -> None:
    block = holes(5083, 5104)
    assert sample(block, "SG10RT").content() == {"sample_count": 1}
    assert RegisterMap.for_family(Family.SG).decode(words(block), identity("SG10RT").context)[
        "meter_power"
    ] == (-1)
    counted = sample({**block, **long(5099, 1234)}, "SG10RT")
    assert (counted.export_power_w, counted.load_power_w) == (None, None)
    assert counted.import_total_kwh == 123.4
    single_phase = sample({**block, **long(5083, 350)}, "SG10RT")
    assert (single_phase.export_power_w, single_phase.export_phase_power_w) == (-350, None)


@pytest.mark.parametrize(
    ("registers", "load"),
    [
        ({5216: 100, 5217: 0, 5218: 200}, 200),
        ({5216: 0xFF9C, 5217: 0xFFFF, 5218: 200}, 200),
        ({5216: 0, 5217: 0xFFFF, 5218: 200}, 200),
        ({5218: 200}, 200),
        ({5218: 0}, 0),
        ({5218: 0xFF38}, None),
        ({5218: 0xFFFF}, None),
        ({5218: 0x7FFF}, None),
        ({5216: 0xFFFF, 5217: 0xFFFF, 5218: 200}, None),
        ({5216: 0xFFFF, 5217: 0xFFFF, 5218: 0xFFFF}, None),
        ({5216: 0, 5217: 0, 5218: 0}, None),
        ({5218: 200, **long(5091, 900)}, 900),
        ({5218: 200, **dict.fromkeys(range(5083, 5105), 0xFFFF)}, 200),
        ({5218: 200, **dict.fromkeys(range(5083, 5101), 0)}, 200),
    ],
)
def test_an_undocumented_register_tells_the_consumption_where_no_other_does(
    registers: dict[int, int], load: int | None
) -> None:
    reading = sample(registers, "SG10RT")
    assert reading.load_power_w == load
    assert reading.export_power_w is None  # projects contradict each other about the sign of 5216
    assert sample(registers, "SG110CX").load_power_w is None  # neither meter nor 5218


def test_a_batterys_own_unit() -> None:
    reading = sample({10741: 4012, 10742: 55, 10744: 873, 10745: 99, **long(13070, 1)}, "SBR128")
    assert reading.battery_voltage_v == 401.2
    assert reading.battery_soc_pct == 87.3
    assert reading.battery_soh_pct == 99.0
    assert reading.battery_current_a is None  # no source says which way 10742 counts
    assert reading.alarm_codes == [932]


@pytest.mark.parametrize(
    ("cells", "known"),
    [
        ({10757: 33456, 10759: 33012, 10761: 260, 10763: 0}, (3.3456, 3.3012, 26.0, 0.0)),
        ({10757: 0, 10759: 0, 10761: 0, 10763: 0}, (None, None, None, None)),
        ({10761: 260, 10763: 240}, (None, None, 26.0, 24.0)),
        ({10761: 0, 10763: 0}, (None, None, None, None)),
    ],
    ids=["cells", "a dongle's zeros", "temperatures alone", "zeros alone"],
)
def test_a_batterys_cells_are_never_at_zero_volts(
    cells: dict[int, int], known: tuple[float | None, ...]
) -> None:
    reading = sample({10741: 3125, **cells}, "SBR128")
    assert known == (
        reading.battery_cell_voltage_max_v,
        reading.battery_cell_voltage_min_v,
        reading.battery_module_temp_max_c,
        reading.battery_module_temp_min_c,
    )


def test_a_unit_that_reads_0_throughout_is_no_battery() -> None:
    zeros = dict.fromkeys(range(10740, 10769), 0)
    assert sample(zeros, "SBR128").content() == {"sample_count": 1}
    empty = sample({**zeros, 10741: 2400, 10745: 98}, "SBR128")
    assert (empty.battery_soc_pct, empty.battery_temp_c) == (0.0, 0.0)


def test_an_ihomemanager_counts_kilowatts() -> None:
    registers = {**long(8157, -123), **long(8159, 45), **long(8161, 250), 8163: 500, **long(8559, -400)}
    reading = sample(registers, "iHomeManager")
    assert (reading.export_power_w, reading.load_power_w) == (1230, 450)
    assert reading.battery_power_w == -2500
    assert reading.export_phase_power_w == [400]


# --- in general -----------------------------------------------------------------------------------------


def test_a_sample_holds_the_time_it_stands_for() -> None:
    reading = Normalizer("house", identity()).normalize(words({}), ts=TS, interval_s=5.004)
    assert (reading.device_id, reading.ts, reading.interval_s, reading.sample_count) == (
        "house",
        TS,
        5.004,
        1,
    )


def test_without_an_identity_each_reading_must_tell_its_own() -> None:
    normalizer = Normalizer("house")
    assert normalizer.normalize(words({5000: 3587, **long(13010, -1)}), ts=TS).export_power_w == -1
    with pytest.raises(UnknownFamilyError):
        normalizer.normalize(words({}), ts=TS)


telling = st.sampled_from([0, 1, 99, 0x7FFF, 0x8000, 0xFFFF])
devices = st.sampled_from([device for device in DEVICE_TYPES if device.family])
numbers = st.sampled_from([*range(4950, 5250), *range(5600, 5640), *range(8000, 8200), *range(13000, 13080)])


@given(
    read=st.dictionaries(numbers, telling | st.integers(0, 0xFFFF)),
    device=devices,
    path=st.sampled_from(ConnectionPath),
    signed=st.booleans(),
)
def test_any_words_make_a_valid_sample(
    read: dict[int, int], device: Any, path: ConnectionPath, *, signed: bool
) -> None:
    who = Identity(family=device.family, device=device, path=path)
    normalizer = Normalizer("house", who, signed_battery=signed)
    reading = normalizer.normalize(words(read), ts=TS, firmware=True)
    assert SungrowSample.model_validate_json(reading.to_json()) == reading
    assert str(normalizer.values(words(read))).count("-0.0,") == 0


@given(st.dictionaries(numbers, st.just(0xFFFF), min_size=1), st.sampled_from(Family))
def test_holes_never_become_values_of_an_unknown_device(read: dict[int, int], family: Family) -> None:
    values = Normalizer("house", Identity(family=family)).values(words(read))
    assert set(values.values()) == {None}


def test_every_quantity_with_a_register_can_be_supplied() -> None:
    values = Normalizer("house", identity()).values(words({}))
    measured = {q.name for q in QUANTITIES if q.kind is not QuantityKind.META and q.sources}
    assert values.keys() == measured


# --- the inverter's own clock -----------------------------------------------------------------------------

CLOCK: Final = (2026, 1, 31, 11, 0, 3)


@pytest.mark.parametrize("model", ["SH10RT", "SG10RT"])
@pytest.mark.parametrize(
    ("story", "parts", "clock"),
    [
        ("all of it is read", CLOCK, "2026-01-31T11:00:03"),
        ("the seconds are not read", CLOCK[:5], None),
        ("no such day", (2026, 2, 30, 11, 0, 3), None),
        ("never set", (0, 0, 0, 0, 0, 0), None),
        ("before its time", (1970, 1, 1, 0, 0, 0), None),
        ("a hole", (0xFFFF,) * 6, None),
    ],
)
def test_the_clock_is_told_whole_or_not_at_all(
    story: str, model: str, parts: tuple[int, ...], clock: str | None
) -> None:
    holding = RegisterWords({(Space.HOLDING, 5000 + n): part for n, part in enumerate(parts)})
    told = Normalizer("house", identity(model)).normalize(holding, ts=TS).inverter_clock
    assert told == clock, story
