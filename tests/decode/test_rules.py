"""Captures made by the rules for real devices: every family and path, old and new firmware, value by value.

None of them was read from a device. Each expectation is what the collected facts say of the words, worked
out by hand, so that a device nobody here has seen decodes as they say.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import pytest

from sungrow_lib.capture import Capture
from sungrow_lib.decoding import decoded
from sungrow_lib.errors import UnknownFamilyError
from sungrow_lib.quantities import Family
from sungrow_lib.registers.words import RegisterWords, Space

HOLE: Final = 0xFFFF
LAN: Final = "internal LAN port"
WINET: Final = "WiNet-S"
WINET2: Final = "WiNet-S2"
RS485: Final = "RS485 through a TCP gateway"

Words = dict[int, int | list[int]]

SH_RT: Final[Words] = {5000: 0x0E03}
SH_RT_20: Final[Words] = {5000: 0x0E13}
SH_RS: Final[Words] = {5000: 0x0D0F}
SH_T: Final[Words] = {5000: 0x0E25}
SH_K: Final[Words] = {5000: 0x0D09}
SG_RT: Final[Words] = {5000: 0x243A}
SG_RS: Final[Words] = {5000: 0x2604}
PACK: Final[Words] = {13020: 2000, 13023: 553, 13024: 980, 13025: 215}
"""A battery at 200 V, 55.3 %, 98 %, 21.5 °C."""
SIGNING: Final = "SAPPHIRE-H_03011.95.03"


def s32(value: int) -> list[int]:
    """Low word first."""
    raw = value & 0xFFFF_FFFF
    return [raw & 0xFFFF, raw >> 16]


def text(value: bytes, words: int) -> list[int]:
    data = value.ljust(2 * words, b"\0")
    return [data[at] << 8 | data[at + 1] for at in range(0, 2 * words, 2)]


@dataclass(frozen=True, kw_only=True)
class Case:
    """A capture and what it means.

    Attributes:
        story: what is special.
        words: by document number of the first.
        sample: fields of the sample.
        registers: values of registers by name.
    """

    story: str
    words: Words
    model: str = ""
    path: str = LAN
    firmware: str = ""
    space: Space = Space.INPUT
    family: Family | None = None
    sample: dict[str, Any] = field(default_factory=dict)
    registers: dict[str, Any] = field(default_factory=dict)

    @property
    def capture(self) -> Capture:
        words = RegisterWords(
            {
                (self.space, first + at): word
                for first, some in self.words.items()
                for at, word in enumerate(some if isinstance(some, list) else [some])
            }
        )
        return Capture(words=words, model=self.model, connection=self.path, firmware=self.firmware)


def flow(watts: float | None, amperes: float | None) -> dict[str, Any]:
    return {"battery_power_w": watts, "battery_current_a": amperes}


BATTERY_FLOW: Final = [
    Case(
        story="old SH-RT: a magnitude, and the bit says charging",
        words=SH_RT | PACK | {13001: 0x0B, 13021: 301, 13022: 1500},
        sample=flow(1500, 30.1),
        registers={"battery_power": 1500, "battery_current": 30.1},
    ),
    Case(
        story="old SH-RT: a magnitude, and the bit says discharging",
        words=SH_RT | PACK | {13001: 0x0D, 13021: 27, 13022: 1500},
        sample=flow(-1500, -2.7),
    ),
    Case(
        story="the dongle keeps 13001 at 0: nobody can know",
        words={5000: 0x0E0D} | PACK | {13001: 0, 13021: 9, 13022: 184},
        path=WINET,
        sample=flow(None, None),
        registers={"battery_power": 184, "power_flow_status": []},
    ),
    Case(
        story="signing SH-RT firmware charges",
        words=SH_RT_20 | PACK | {13001: 0, 13021: 65461, 13022: 64036},
        path=WINET,
        firmware=SIGNING,
        sample=flow(1500, 7.5),
        registers={"battery_power": -1500, "battery_current": -7.5},
    ),
    Case(
        story="signing SH-RT firmware discharges, whatever the stale bit says",
        words=SH_RT_20 | PACK | {13001: 0x02, 13021: 75, 13022: 1500},
        path=WINET,
        firmware=SIGNING,
        sample=flow(-1500, -7.5),
    ),
    Case(
        story="the running firmware at 13250 tells it, too",
        words=SH_RT_20
        | PACK
        | {13001: 0x02, 13021: 75, 13022: 1500, 13250: text(b"SAPPHIRE-H_03011.95.12", 15)},
        sample=flow(-1500, -7.5),
        registers={"inverter_firmware": "SAPPHIRE-H_03011.95.12"},
    ),
    Case(
        story="SH-RS signs by its document: discharging",
        words=SH_RS | PACK | {13001: 0, 13021: 40, 13022: 800},
        path=WINET,
        sample=flow(-800, -4.0),
    ),
    Case(
        story="SH-RS signs by its document: charging",
        words=SH_RS | PACK | {13001: 0, 13021: 65496, 13022: 64736},
        path=WINET,
        sample=flow(800, 4.0),
        registers={"battery_power": -800, "battery_current": -4.0},
    ),
    Case(
        story="5214 wins over all else",
        words=SH_RT | PACK | {13001: 0, 13021: 100, 13022: 2000, 5214: s32(-2000), 5631: 65436},
        sample=flow(2000, 10.0),
        registers={"battery_power_signed": -2000, "battery_current_signed": -10.0},
    ),
    Case(
        story="5214 is not available: 65535, 32767",
        words=SH_RT | PACK | {13001: 0x04, 13021: 75, 13022: 1500, 5214: [HOLE, 0x7FFF], 5631: 0x7FFF},
        sample=flow(-1500, -7.5),
        registers={"battery_power_signed": None, "battery_current_signed": None},
    ),
    Case(
        story="5214 is a hole",
        words=SH_RT | PACK | {13001: 0x04, 13021: 75, 13022: 1500, 5214: [HOLE, HOLE], 5631: HOLE},
        sample=flow(-1500, -7.5),
        registers={"battery_power_signed": -1, "battery_current_signed": -0.1},
    ),
    Case(
        story="5214 is there and never filled",
        words=SH_RT | PACK | {13001: 0x02, 13021: 75, 13022: 1500, 5214: [0, 0], 5631: 0},
        sample=flow(1500, 7.5),
    ),
    Case(
        story="only the current is signed",
        words=SH_RT | PACK | {13001: 0, 13021: 65461, 13022: 1500},
        sample=flow(1500, 7.5),
    ),
    Case(
        story="SH-T discharges by its bit",
        words=SH_T | PACK | {13001: 0x04, 13021: 75, 13022: 1500},
        path=WINET2,
        sample=flow(-1500, -7.5),
    ),
    Case(
        story="SH-T, a magnitude without a bit",
        words=SH_T | PACK | {13001: 0, 13021: 75, 13022: 1500},
        path=WINET2,
        sample=flow(None, None),
    ),
    Case(
        story="SH-K charges by its bit",
        words=SH_K | PACK | {13001: 0x02, 13021: 75, 13022: 1500},
        sample=flow(1500, 7.5),
    ),
    Case(
        story="a battery at rest",
        words=SH_RT | PACK | {13001: 0, 13021: 0, 13022: 0},
        sample=flow(0, 0),
    ),
    Case(
        story="no battery: zeros are no values",
        words=SH_RT | {13020: 0, 13021: 0, 13022: 0, 13023: 0, 13024: 0, 13025: 0, 13039: 0},
        sample=flow(None, None)
        | {"battery_soc_pct": None, "battery_temp_c": None, "battery_voltage_v": None},
        registers={"battery_soc": 0, "battery_power": 0},
    ),
]

GRID: Final = [
    Case(
        story="13010 counts + for export, 5601 + for import",
        words=SH_RT_20
        | {
            13008: s32(402),
            13010: [65134, HOLE],
            5601: [398, 0],
            5603: s32(100),
            5605: s32(150),
            5607: s32(148),
        },
        sample={"export_power_w": -402, "load_power_w": 402, "export_phase_power_w": [-100, -150, -148]},
        registers={"export_power": -402, "meter_active_power": 398},
    ),
    Case(
        story="SH15T left 13010 at 0 while its meter lived",
        words={5000: 0x0E25, 13010: [0, 0], 5603: s32(-300), 5605: [0xFFE3, HOLE], 5607: s32(29)},
        path=WINET2,
        sample={"export_power_w": 300, "export_phase_power_w": [300, 29, -29]},
        registers={"meter_phase_b_active_power": -29},
    ),
    Case(
        story="a meter of one phase",
        words=SH_RS | {13010: s32(500), 5601: s32(-500), 5603: s32(-500), 5605: [HOLE, 0x7FFF] * 2},
        path=WINET,
        sample={"export_power_w": 500, "export_phase_power_w": [500]},
        registers={"meter_phase_b_active_power": None},
    ),
    Case(
        story="a slave has no meter: its zeros are no values",
        words=SH_RT_20
        | {13008: [0, 0], 13010: [0, 0], 5601: [HOLE, 0x7FFF] * 4, 13037: [0, 0], 13045: 0, 13046: [0, 0]},
        sample={"export_power_w": None, "load_power_w": None, "import_total_kwh": None},
        registers={"export_power": 0, "meter_active_power": None, "total_import_energy": 0},
    ),
    Case(
        story="another source feeds the house",
        words=SH_RT_20 | {13001: 0x80, 13008: s32(-250), 13010: s32(4000)},
        sample={"load_power_w": -250, "export_power_w": 4000},
        registers={"power_flow_status": ["load generating"]},
    ),
    Case(
        story="a string inverter's meter counts + for import",
        words=SG_RT | {5083: s32(-3000), 5085: s32(-1000), 5087: s32(-900), 5089: s32(-1100), 5091: s32(500)},
        path=WINET,
        sample={"export_power_w": 3000, "load_power_w": 500, "export_phase_power_w": [1000, 900, 1100]},
        registers={"meter_power": -3000},
    ),
    Case(
        story="5216 of a string inverter has no sure sign: it is shown and not used",
        words=SG_RT | {5216: 65136, 5217: HOLE, 5218: 900, 5219: 0},
        path=WINET,
        sample={"export_power_w": None, "load_power_w": 900},
        registers={"export_power_meter_16": -400, "household_consumption_16": 900},
    ),
    Case(
        story="the iHomeManager counts kW, import and discharge as +",
        words={8000: 0x072A, 8155: s32(512), 8157: s32(-123), 8159: s32(300), 8161: s32(-89), 8163: 553},
        path="iHomeManager",
        sample={
            "active_power_w": 5120,
            "export_power_w": 1230,
            "load_power_w": 3000,
            "battery_power_w": 890,
            "battery_soc_pct": 55.3,
        },
        registers={"device_type_code": "iHomeManager", "grid_active_power": -1.23, "battery_power": -0.89},
    ),
]


def frequency(words: Words, hertz: float | None, path: str = WINET) -> Case:
    return Case(
        story=f"frequency {words}",
        words=words,
        path=path,
        sample={"grid_frequency_hz": hertz},
        registers={"grid_frequency": hertz},
    )


def health(model: str, path: str, word: int, percent: float) -> Case:
    return Case(
        story=f"health {word} of {model} by {path}",
        words={13020: 2000, 13023: 500, 13024: word},
        model=model,
        path=path,
        sample={"battery_soh_pct": percent},
        registers={"battery_soh": percent},
    )


SCALES: Final = [
    frequency(SG_RT | {5036: 500}, 50.0),
    frequency(SG_RT | {5036: 4998}, 49.98),
    frequency(SH_RS | {5036: 5009}, 50.09),
    frequency(SH_RT | {5036: 600}, 60.0, LAN),
    frequency(SH_RT | {5036: HOLE}, None, LAN),
    frequency({8000: 0x072A, 8558: 500}, 50.0, "iHomeManager"),
    frequency({8000: 0x072A, 8558: 4998}, 49.98, "iHomeManager"),
    health("SH10RS", RS485, 99, 99),
    health("SH10RS", RS485, 100, 100),
    health("SH10RS", WINET, 990, 99),
    health("SH10RT", LAN, 1000, 100),
    Case(
        story="5004 of a hybrid: its AC output in 0.1 kWh",
        words=SH_RT | {5004: [11254, 11], 13003: [11770, 0]},
        sample={"output_total_kwh": 73215.0, "pv_total_kwh": 1177.0},
        registers={"total_output_energy": 73215.0, "total_pv_generation": 1177.0},
    ),
    Case(
        story="5004 of a string inverter: the sun in whole kWh",
        words=SG_RT | {5004: [3721, 7]},
        sample={"pv_total_kwh": 462473, "output_total_kwh": None},
        registers={"total_power_yields": 462473},
    ),
    Case(
        story="5144 has its tenths",
        words=SG_RT | {5004: [3721, 7], 5144: [37215, 70]},
        sample={"pv_total_kwh": 462473.5},
    ),
    Case(
        story="5144 is not served: the whole kWh are taken",
        words=SG_RT | {5004: [3721, 7], 5144: [HOLE, HOLE]},
        sample={"pv_total_kwh": 462473},
        registers={"total_power_yields_high_resolution": None},
    ),
    Case(
        story="SH-CX counts whole kWh and tens of watts",
        words={5004: [3721, 7], 5723: [100, 65436, 0]},
        model="SH125CX",
        sample={"output_total_kwh": 462473, "backup_phase_power_w": [1000, -1000, 0]},
        registers={"total_output_energy": 462473, "backup_phase_b_power": -1000},
    ),
    Case(
        story="a large plant's words",
        words={5009: [6728, 2], 5017: [53142, 3], 5031: s32(249_750), 5077: [53142, 3]},
        model="SG250HX",
        path=RS485,
        sample={"pv_power_w": 249_750, "active_power_w": 249_750, "apparent_power_va": 137_800},
        registers={"active_power_setpoint": 249_750},
    ),
    Case(
        story="a large plant's low word happens to be 0xFFFF",
        words={5017: [HOLE, 1], 5031: [HOLE, 1]},
        model="SG250HX",
        sample={"pv_power_w": 131_071, "active_power_w": 131_071},
        registers={"total_active_power": 131_071},
    ),
    Case(
        story="an idle word beside a hole is no 65535 W, not even of a plant",
        words={5031: [HOLE, 0]},
        model="SG250HX",
        sample={"active_power_w": None},
        registers={"total_active_power": None},
    ),
]

PHASES: Final = [
    Case(
        story="one phase, two trackers, the rest are holes",
        words=SH_RS
        | {
            5002: 0,
            5011: [3500, 51, 2200, 30, HOLE, HOLE],
            5019: [2301, HOLE, HOLE],
            13031: [45, HOLE, HOLE],
        },
        path=WINET,
        sample={
            "phase_voltage_v": [230.1],
            "phase_current_a": [4.5],
            "mppt_voltage_v": [350.0, 220.0],
            "mppt_current_a": [5.1, 3.0],
        },
        registers={"phase_b_voltage": None, "phase_b_current": None, "mppt_3_voltage": None},
    ),
    Case(
        story="one phase, two trackers, the rest is filled with 0",
        words=SH_RS | {5002: 0, 5011: [3500, 51, 2200, 30, 0, 0], 5019: [2301, 0, 0], 13031: [45, 0, 0]},
        path=WINET,
        sample={
            "phase_voltage_v": [230.1],
            "phase_current_a": [4.5],
            "mppt_voltage_v": [350.0, 220.0],
            "mppt_current_a": [5.1, 3.0],
        },
        registers={"phase_b_voltage": 0, "phase_b_current": 0},
    ),
    Case(
        story="three phases, one of them at -0.1 A",
        words=SH_RT_20 | {5019: [2301, 2302, 2303], 13031: [65486, HOLE, 17]},
        sample={"phase_voltage_v": [230.1, 230.2, 230.3], "phase_current_a": [-5.0, -0.1, 1.7]},
        registers={"phase_a_current": -5.0, "phase_b_current": -0.1},
    ),
    Case(
        story="a string inverter of one phase and one tracker",
        words=SG_RS | {5002: 0, 5011: [3500, 51, HOLE, HOLE], 5019: [2301, HOLE, HOLE, 45, HOLE, HOLE]},
        path=WINET,
        sample={"phase_voltage_v": [230.1], "phase_current_a": [4.5], "mppt_voltage_v": [350.0]},
    ),
    Case(
        story="currents of a string inverter were seen below 0, though the document calls them unsigned",
        words=SG_RT | {5022: [65526, 12, 13]},
        sample={"phase_current_a": [-1.0, 1.2, 1.3]},
        registers={"phase_a_current": -1.0},
    ),
    Case(
        story="wired without a neutral: voltages are those between phases",
        words=SG_RT | {5002: 2, 5019: [3981, 3985, 3990]},
        sample={"phase_voltage_v": None, "line_voltage_v": [398.1, 398.5, 399.0]},
        registers={"output_type": "3P3L", "phase_a_voltage": 398.1},
    ),
    Case(
        story="wired with a neutral",
        words=SG_RT | {5002: 1, 5019: [2301, 2302, 2303]},
        sample={"phase_voltage_v": [230.1, 230.2, 230.3], "line_voltage_v": None},
        registers={"output_type": "3P4L"},
    ),
    Case(
        story="a plant that does not say how it is wired: no phase has 757 V",
        words={5019: [7576, 7784, 7672]},
        model="SG250HX",
        path=RS485,
        sample={"phase_voltage_v": None, "line_voltage_v": [757.6, 778.4, 767.2]},
        registers={"phase_a_voltage": 757.6},
    ),
    Case(
        story="a hybrid wired without a neutral",
        words=SH_T | {5002: 2, 5019: [4001, 4002, 4003]},
        sample={"phase_voltage_v": None, "line_voltage_v": [400.1, 400.2, 400.3]},
        registers={"output_type": "3P3L (three phase three wire)"},
    ),
    Case(
        story="string currents, one of them not available",
        words={7013: [512, 0, HOLE, 498]},
        model="SG110CX",
        sample={"string_current_a": [5.12, 0.0, None, 4.98]},
    ),
]

CONDITION: Final = [
    Case(
        story="below zero",
        words=SH_RT_20 | PACK | {5008: 65486, 13025: 65486},
        sample={"inverter_temp_c": -5.0, "battery_temp_c": -5.0},
        registers={"internal_temperature": -5.0, "battery_temperature": -5.0},
    ),
    Case(
        story="no temperature",
        words=SH_RT_20 | {5008: 0x7FFF, 13025: 0x7FFF},
        sample={"inverter_temp_c": None, "battery_temp_c": None},
        registers={"internal_temperature": None, "battery_temperature": None},
    ),
    Case(
        story="a string inverter draws some watts at night",
        words=SG_RT | {5008: 0xFFCE, 5017: [0, 0], 5031: s32(-6), 5035: 65436, 5038: 0x1400},
        path=WINET,
        sample={
            "inverter_temp_c": -5.0,
            "pv_power_w": 0,
            "active_power_w": -6,
            "power_factor": -0.1,
            "running_state": "standby",
            "fault_codes": [],
        },
    ),
    Case(
        story="a fault of a string inverter",
        words=SG_RT | {5038: 0x5500, 5045: 39},
        sample={"running_state": "fault", "alarm_codes": [], "fault_codes": [39]},
    ),
    Case(
        story="an alarm of a string inverter",
        words=SG_RT | {5038: 0x9100, 5045: 532},
        sample={"running_state": "running with alarm", "alarm_codes": [532], "fault_codes": []},
    ),
    Case(
        story="a state that is in no table says nothing of faults",
        words=SG_RT | {5038: 0x0042, 5045: 39},
        sample={"running_state": "unknown (0x0042)", "alarm_codes": None, "fault_codes": None},
        registers={"work_state_1": "unknown (0x0042)"},
    ),
    Case(
        story="0 is running, a hole is no state",
        words=SH_RT_20 | {13000: 0, 13001: HOLE},
        sample={"running_state": "running"},
        registers={"running_state": "running on grid", "power_flow_status": None},
    ),
    Case(
        story="holes of an SH-RT where an SH-K has its battery",
        words=SH_RT_20 | {13030: HOLE, 13043: 255, 13106: [HOLE] * 10, 13116: [HOLE] * 3},
        registers={"grid_state": None, "drm_state": "invalid", "bms_cell_temp_avg_k": None},
    ),
    Case(
        story="the inverter's clock",
        words={5000: [2024, 6, 3, 14, 5, 59]},
        model="SG3.0RS",
        path=WINET,
        space=Space.HOLDING,
        sample={"inverter_clock": "2024-06-03T14:05:59"},
    ),
    Case(
        story="a clock that shows no date",
        words={5000: [2024, 2, 30, 14, 5, 59]},
        model="SG3.0RS",
        space=Space.HOLDING,
        sample={"inverter_clock": None},
        registers={"clock_day": 30},
    ),
]

BATTERY_UNIT: Final = [
    Case(
        story="an SBR of its own unit",
        words={
            10710: 0x20E7,
            10740: [1, 2000, 65486, 215, 553, 98, 1234, 0, 1000, 0],
            10757: [33512, 0x0103],
        },
        path="internal LAN port, unit 200",
        sample={
            "battery_voltage_v": 200.0,
            "battery_temp_c": 21.5,
            "battery_soc_pct": 55.3,
            "battery_soh_pct": 98,
            "battery_charge_total_kwh": 123.4,
            "battery_discharge_total_kwh": 100.0,
            "battery_cell_voltage_max_v": 3.3512,
        },
        registers={"battery_device_type": "SBR096", "battery_unit_current": -5.0, "battery_unit_soh": 98},
    ),
    Case(
        story="a battery in a cold garage: what was found out as unsigned is below zero",
        words={
            10710: 0x20E7,
            10741: 2000,
            10743: 65486,
            10744: 553,
            10745: 98,
            10757: [33512] * 4,
            10763: 65480,
        },
        sample={"battery_temp_c": -5.0, "battery_module_temp_min_c": -5.6},
        registers={"battery_unit_temperature": -5.0, "module_temperature_min": -5.6},
    ),
    Case(
        story="an SBH behind a dongle: cells filled with 0 are not known",
        words={10741: 5000, 10743: 215, 10744: 553, 10745: 98, 10757: [0] * 8},
        model="SBH200",
        path="WiNet-S, unit 2",
        sample={
            "battery_soc_pct": 55.3,
            "battery_cell_voltage_max_v": None,
            "battery_module_temp_max_c": None,
        },
        registers={"cell_voltage_max": 0},
    ),
    Case(
        story="a battery's capture that names its hybrid, without a type code",
        words={10741: 2000, 10743: 215, 10744: 553, 10745: 98, 10746: [1234, 0]},
        model="SH10RT",
        path="internal LAN port, unit 200",
        sample={"battery_voltage_v": 200.0, "battery_soc_pct": 55.3, "battery_charge_total_kwh": 123.4},
        registers={"battery_unit_soc": 55.3},
    ),
    Case(
        story="a hybrid and its battery: the hybrid's own word wins, the battery adds its cells",
        words=SH_RT | PACK | {10743: 230, 10744: 560, 10745: 97, 10757: [33512] * 4},
        sample={"battery_soc_pct": 55.3, "battery_temp_c": 21.5, "battery_cell_voltage_max_v": 3.3512},
        registers={"battery_soc": 55.3, "battery_unit_soc": 56.0},
    ),
    Case(
        story="a battery unit that nobody filled",
        words=SH_RT | {13010: s32(500), 10741: 0, 10743: 0, 10744: 0, 10745: 0},
        sample={"export_power_w": 500, "battery_voltage_v": None, "battery_soc_pct": None},
    ),
    Case(
        story="a battery nobody knows",
        words={10710: 0x20FF, 10741: 2000},
        model="SBR999",
        sample={"battery_voltage_v": 200.0},
        registers={"battery_device_type": "unknown (0x20FF)"},
    ),
]

IDENTITY: Final = [
    Case(
        story="texts end at the first zero, and spaces around them are padding",
        words=SH_RT_20 | {4954: text(b"  SAPPH ", 15), 4969: [0] * 15, 4990: text(b"A21\0\0garbage", 10)},
        registers={"serial_number": "A21", "arm_software_version": "SAPPH", "dsp_software_version": None},
    ),
    Case(
        story="a text of holes",
        words=SH_RT_20 | {4954: [HOLE] * 15},
        registers={"arm_software_version": None},
    ),
    Case(
        story="an unknown type code beside a known model",
        words={5000: 0x9999, 13008: s32(10), 13010: [HOLE, HOLE]},
        model="SH10RT",
        sample={"export_power_w": -1},
        registers={"device_type_code": "unknown (0x9999)", "export_power": -1},
    ),
    Case(
        story="an unknown model of a known family: all ones are no value",
        words={5000: 0x9999, 13008: s32(10), 13010: [HOLE, HOLE]},
        model="SH99ZZ",
        sample={"export_power_w": None, "load_power_w": 10},
        registers={"export_power": None},
    ),
    Case(
        story="an unknown type code, and the family named",
        words={5000: 0x9999, 5036: 500, 13010: s32(-5)},
        family=Family.SH,
        sample={"grid_frequency_hz": 50.0, "export_power_w": -5},
    ),
]

CASES: Final = [*BATTERY_FLOW, *GRID, *SCALES, *PHASES, *CONDITION, *BATTERY_UNIT, *IDENTITY]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.story)
def test_a_capture_means_what_the_rules_say(case: Case) -> None:
    answer = decoded(case.capture, case.family)
    assert {name: answer["sample"][name] for name in case.sample} == case.sample
    assert {name: answer["registers"][name] for name in case.registers} == case.registers
    assert "implausible" not in answer


def test_a_type_code_in_no_list_asks_for_the_family() -> None:
    with pytest.raises(UnknownFamilyError):
        decoded(Case(story="", words={5000: 0x9999, 5036: 500}).capture)


def test_a_value_that_can_hardly_be_true_is_kept_and_named() -> None:
    answer = decoded(Case(story="", words=SH_RT_20 | {5008: 0x8000}).capture)
    assert answer["sample"]["inverter_temp_c"] == -3276.8
    assert answer["implausible"] == ["inverter_temp_c"]
