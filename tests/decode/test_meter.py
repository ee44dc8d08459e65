"""A meter of three phases on an inverter of one, and a meter of one phase: which registers hold values."""

from __future__ import annotations

from typing import Any, Final

import pytest

from sungrow_lib.capture import Capture
from sungrow_lib.decoding import decoded
from sungrow_lib.quantities import Family
from sungrow_lib.registers.applies import ConnectionPath, DeviceContext
from sungrow_lib.registers.devices import DEVICE_BY_MODEL
from sungrow_lib.registers.plan import ReadPlan
from sungrow_lib.registers.words import RegisterWords, Space

HOLE: Final = (0xFFFF, 0xFFFF)
NOT_AVAILABLE: Final = (0xFFFF, 0x7FFF)
IDLE: Final = (0xFFFF, 0)
JUNK: Final = (5, 0xFFFF)

HYBRIDS: Final = ("SH5.0RS", "SH5K-20", "SH6RL")
STRING_INVERTERS: Final = ("SG5.0RS", "SG3.0RS", "SG5.0RS-L2")
ONE_PHASE: Final = (*HYBRIDS, *STRING_INVERTERS)


def answer(model: str, values: dict[int, int | tuple[int, int]]) -> dict[str, Any]:
    """Decode a capture of 32-bit values, low word first, or of pairs of words."""
    words = {
        (Space.INPUT, number + at): word
        for number, value in values.items()
        for at, word in enumerate(pair(value) if isinstance(value, int) else value)
    }
    return decoded(Capture(words=RegisterWords(words), model=model))


def pair(value: int) -> tuple[int, int]:
    return value & 0xFFFF, value >> 16 & 0xFFFF


def phases(model: str, a: Any, b: Any, c: Any) -> dict[int, Any]:
    first = 5085 if model.startswith("SG") else 5603
    return {first: a, first + 2: b, first + 4: c}


@pytest.mark.parametrize("model", ONE_PHASE)
def test_a_meter_of_three_phases_on_an_inverter_of_one(model: str) -> None:
    told = answer(model, phases(model, 300, -500, 900))
    name = "meter_phase_{}_power" if model.startswith("SG") else "meter_phase_{}_active_power"
    assert [told["registers"][name.format(phase)] for phase in "abc"] == [300, -500, 900]
    assert told["sample"]["export_phase_power_w"] == [-300, 500, -900]


@pytest.mark.parametrize("model", ONE_PHASE)
@pytest.mark.parametrize("rest", [HOLE, NOT_AVAILABLE, 0, IDLE, JUNK], ids=str)
@pytest.mark.parametrize("last", [HOLE, NOT_AVAILABLE, 0], ids=str)
def test_a_meter_of_one_phase_has_no_others(model: str, rest: Any, last: Any) -> None:
    told = answer(model, phases(model, 300, rest, last))
    assert told["sample"]["export_phase_power_w"] == [-300]
    assert -1 not in told["registers"].values()
    if model in HYBRIDS:
        assert told["sample"]["export_power_w"] == -300


@pytest.mark.parametrize("model", ONE_PHASE)
def test_an_idle_phase_is_0_beside_one_that_is_not_and_a_hole_is_unknown(model: str) -> None:
    for rest, shown in ((0, 0), (HOLE, None), (NOT_AVAILABLE, None), (IDLE, None), (JUNK, None)):
        told = answer(model, phases(model, 300, rest, 900))
        assert told["sample"]["export_phase_power_w"] == [-300, shown, -900]
        told = answer(model, phases(model, 300, 900, rest))
        expected = [-300, -900, shown]
        assert told["sample"]["export_phase_power_w"] == (expected if shown == 0 else expected[:2])


def export(model: str, values: dict[int, Any]) -> Any:
    return answer(model, values)["sample"]["export_power_w"]


@pytest.mark.parametrize("model", HYBRIDS)
@pytest.mark.parametrize(
    "said", [{}, {13010: 0}, {13010: NOT_AVAILABLE}, {13010: 0, 5601: NOT_AVAILABLE}], ids=str
)
def test_phases_add_up_to_what_flows_out(model: str, said: dict[int, Any]) -> None:
    told = {13037: 1234} | said  # energy that was metered: there is a meter
    assert export(model, told | phases(model, 300, 500, 900)) == -1700
    assert export(model, told | phases(model, 300, -500, 900)) == -700


@pytest.mark.parametrize("model", ["SH5.0RS", "SH10RT", "SH8RL", "MG8RL"])
@pytest.mark.parametrize("unknown", [NOT_AVAILABLE, IDLE, JUNK], ids=str)
def test_no_total_is_made_of_some_of_the_phases(model: str, unknown: Any) -> None:
    metered = {13037: 1234}
    some = [phases(model, *told) for told in ((300, unknown, 900), (300, 900, unknown), (unknown, 300, 900))]
    for told in some:
        assert export(model, metered | told) is None
        assert export(model, metered | told | {13010: 0}) is None
        assert export(model, metered | told | {13010: 0, 5216: 0}) is None
        assert export(model, metered | told | {13010: 0, 5216: -820}) == -820
        assert export(model, metered | told | {5216: -820}) == -820
        assert export(model, metered | told | {13010: -820}) == -820
        assert export(model, metered | told | {13010: 0, 5601: 820}) == -820
    alone = {5603: 300}
    assert export(model, metered | alone) is None
    assert export(model, metered | phases(model, unknown, unknown, unknown)) is None


def test_an_inverter_of_three_phases_does_not_lose_two() -> None:
    for rest in (NOT_AVAILABLE, IDLE):
        assert export("SH10RT", {13037: 1234} | phases("SH10RT", 300, rest, rest)) is None
    assert export("SH10RT", {13037: 1234} | phases("SH10RT", 300, -1, 200)) == -499


def test_a_capture_of_an_inverter_of_one_phase_with_its_whole_meter() -> None:
    told = answer("SH5.0RS", {5601: 700, **phases("SH5.0RS", 300, -500, 900), 13010: -700})
    assert told["registers"]["meter_phase_b_active_power"] == -500
    assert told["sample"]["export_phase_power_w"] == [-300, 500, -900]
    assert told["sample"]["export_power_w"] == -700


@pytest.mark.parametrize("model", ONE_PHASE)
def test_the_phases_of_the_meter_are_asked(model: str) -> None:
    family = Family.SG if model.startswith("SG") else Family.SH
    context = DeviceContext(DEVICE_BY_MODEL[model.casefold()], ConnectionPath.LAN)
    asked = {row.number for row in ReadPlan.for_quantities(family, context).registers}
    assert asked >= phases(model, 0, 0, 0).keys()
    assert not asked & {5020, 5021}


def test_an_ihomemanager_that_calls_itself_single_phase_tells_what_its_meter_tells() -> None:
    def told(b: Any, c: Any) -> Any:
        single = {8554: (0, 2301)}  # and the first phase's voltage
        return answer("iHomeManager", {**single, 8559: 300, 8561: b, 8563: c})["sample"][
            "export_phase_power_w"
        ]

    assert told(-500, 900) == [-300, 500, -900]
    assert told(0, 0) == told(HOLE, HOLE) == told(NOT_AVAILABLE, 0) == [-300]
