"""Alarms and faults in words: bits of a hybrid's alarm registers, fault codes of a string inverter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Severity(StrEnum):
    """An alarm is a warning while running on; a fault stops something."""

    ALARM = "alarm"
    FAULT = "fault"


@dataclass(frozen=True, slots=True)
class FaultBits:
    """A register whose bits are alarms or faults; each bit also has a number, Sungrow's fault code.

    Attributes:
        register: its name.
        number: document number of its first word.
        severity: of all its bits.
        bases: fault codes of bit 0 and of bit 16; within a word the code counts up with the bit.
        texts: meaning by bit number.
    """

    register: str
    number: int
    severity: Severity
    bases: tuple[int, int]
    texts: Mapping[int, str]

    def code(self, bit: int) -> int:
        """Fault code of a bit."""
        low, high = self.bases
        return low + bit if bit < 16 else high + bit - 16  # noqa: PLR2004 - bits of a word


SH_FAULT_BITS: Final[tuple[FaultBits, ...]] = (
    FaultBits(
        "inverter_alarm",
        13050,
        Severity.ALARM,
        (70, 500),
        {
            0: "fan alarm",
            1: "lightning protection alarm on ac side",
            2: "lightning protection alarm on dc side",
            3: "bypass switch abnormal",
            4: "communication alarm",
            5: "parallel communication alarm",
            6: "device abnormality",
            7: "junction box leakage protector alarm",
            8: "pv1 abnormal warn",
            9: "pv2 abnormal warn",
            10: "pv3 abnormal warn",
            11: "pv4 abnormal warn",
            12: "fan 2 rotate low speed alarm",
            13: "fan 2 stall alarm",
            14: "meter wired wrong way round or to wrong terminals",
            15: "software version mismatch",
            16: "spd or fuse alarm",
            17: "fram read alarm",
            18: "spi communication alarm",
            19: "ambient temperature sensor open circuit alarm",
            20: "ambient temperature sensor short circuit alarm",
            21: "inversion t sensor open circuit alarm",
            22: "inversion t sensor short circuit alarm",
            23: "boost t sensor open circuit alarm",
            24: "boost t sensor short circuit alarm",
            25: "input configuration alarm or clock reset alarm",
            26: "pv high voltage fault",
            27: "ambient low temperature sensor open circuit alarm",
            28: "fan 1 low rotation speed alarm",
            29: "fan 1 stall alarm",
            30: "meter communication alarm",
            31: "boost short circuit alarm",
        },
    ),
    FaultBits(
        "grid_side_fault",
        13052,
        Severity.FAULT,
        (2, 100),
        {
            0: "grid overvoltage",
            1: "grid transient overvoltage",
            2: "grid under-voltage",
            3: "grid undervoltage",
            5: "ac overcurrent",
            6: "grid over-frequency",
            7: "grid under-frequency",
            8: "grid power outage",
            9: "device abnormality",
            10: "excessive leakage current",
            11: "grid abnormal",
            12: "10 minutes grid overvoltage",
            13: "high grid voltage",
            14: "output overload",
            15: "grid voltage imbalance",
            16: "inversion overcurrent hardware fault",
            17: "high grid frequency",
            18: "grid low frequency",
            19: "v-grid uniform fault",
            20: "grid frequency uniform fault",
            21: "network side protection self-test failed",
            22: "grounding cable fault",
            23: "inversion v dc injection overvoltage fault",
            24: "ac side under-voltage",
            25: "ac side overvoltage",
            26: "ac side under-frequency",
            27: "ac side over-frequency",
            28: "ac voltage unbalance",
            29: "bypass instantaneous overcurrent",
            30: "bypass switch over current",
        },
    ),
    FaultBits(
        "system_fault_1",
        13054,
        Severity.FAULT,
        (300, 316),
        {
            0: "inversion switch tube over-temperature",
            1: "boost switch tube overtemperature",
            2: "pv ir fault",
            3: "bypass switch fault",
            4: "eps relay failure",
            5: "junction box relay fault",
            6: "input and output mismatch fault",
            7: "pv high voltage overpower alarm or prot",
            8: "redundancy fault",
            9: "r-phase inverter voltage sampling channel abnormal",
            10: "s-phase inverter voltage sampling channel abnormal",
            11: "t-phase inverter voltage sampling channel abnormal",
            12: "r-phase dc component sampling channel abnormal",
            13: "s-phase dc component sampling channel abnormal",
            14: "t-phase dc component sampling channel abnormal",
            15: "pv 1 current sampling channel abnormal",
            16: "pv 2 current sampling channel abnormal",
            17: "pv 1 mppt current sampling channel abnormal",
            18: "pv 2 mppt current sampling channel abnormal",
            19: "control board power supply under-voltage fault",
            20: "leak current ct self-detection fault",
            21: "spi communication fault",
            22: "lcd and main dsp communication fault",
            24: "pv3 current sampling channel failure",
            25: "n-wire current sampling channel abnormal",
            26: "balance bridge current sampling channel abnormal",
        },
    ),
    FaultBits(
        "system_fault_2",
        13056,
        Severity.FAULT,
        (36, 52),
        {
            0: "module over-temperature",
            1: "excessively high ambient temperature",
            2: "device abnormality",
            3: "low system insulation resistance",
            4: "device abnormality",
            5: "device abnormality",
            6: "device abnormality",
            7: "low ambient temperature",
            8: "device abnormality",
            9: "device abnormality",
            10: "device abnormality",
            11: "input configuration abnormality",
            12: "device abnormality",
            13: "device abnormality",
            14: "device abnormality",
            15: "backup load overpower fault",
        },
    ),
    FaultBits(
        "dc_side_fault",
        13058,
        Severity.FAULT,
        (19, 200),
        {
            0: "device abnormality",
            1: "device abnormality",
            2: "device abnormality",
            3: "device abnormality",
            4: "pv access failure",
            5: "device abnormality",
            6: "device abnormality",
            9: "pv1 reverse connection fault",
            10: "pv2 reverse connection fault",
            11: "device abnormality",
            12: "device abnormality",
            13: "device abnormality",
            14: "device abnormality",
            15: "device abnormality",
            16: "bus overvoltage hardware fault",
            17: "busbar average under-voltage",
            18: "pv hardware overcurrent fault",
            19: "pv voltage exceeds bus voltage",
            20: "boost1 short circuit fault",
            21: "boost2 short circuit fault",
            22: "dc overcurrent",
            23: "pv3 overcurrent",
            24: "pv3 reverse connection fault",
            25: "boost3 short circuit fault",
            26: "half-bus overvoltage hardware fault",
            27: "balance bridge overcurrent hardware fault",
            28: "pv4 reverse connection fault",
        },
    ),
    FaultBits(
        "permanent_fault",
        13060,
        Severity.FAULT,
        (401, 417),
        {
            0: "pv overcurrent permanent fault",
            1: "inversion overcurrent permanent fault",
            2: "high dc injection permanent fault",
            3: "bus overvoltage permanent fault",
            4: "relay permanent fault",
            5: "pv1 self-check permanent fault",
            6: "pv2 self-check permanent fault",
            7: "inversion open-loop self-detection permanent fault",
            8: "entire temperature sensor failure",
            9: "boost3 open-loop self-check permanent fault",
            10: "balance bridge overcurrent permanent fault",
            11: "half-bus overvoltage permanent fault",
        },
    ),
    FaultBits(
        "bdc_side_fault",
        13062,
        Severity.FAULT,
        (600, 616),
        {
            0: "bdc charge transient overcurrent",
            1: "bdc discharge transient overcurrent",
            2: "clamping capacitance undervoltage fault",
            3: "clamping capacitance transient overvoltage",
            5: "battery pre-charge relay failure",
            8: "bdc self-detect fault",
            12: "bdc overtemperature fault",
            16: "bdc hardware overcurrent",
            20: "bdc current sampling channel abnormality",
            22: "leakage current sampling channel abnormality",
            23: "secondary dsp communication fault",
            24: "bdc soft start fault",
        },
    ),
    FaultBits(
        "bdc_side_permanent_fault",
        13064,
        Severity.FAULT,
        (800, 816),
        {
            0: "bdc overcurrent permanent fault",
            2: "battery overvoltage permanent fault",
            4: "bdc self-detect permanent fault",
            7: "bdc soft start permanent fault",
        },
    ),
    FaultBits(
        "battery_fault",
        13066,
        Severity.FAULT,
        (700, 716),
        {
            3: "battery average under-voltage fault",
            7: "battery over-temperature fault",
            8: "battery low temperature fault",
            11: "battery transient overvoltage",
            12: "battery average overvoltage fault",
            14: "bms communication fault",
            15: "battery hardware overvoltage",
            16: "abnormal battery connection(reversed polarity）",  # noqa: RUF001 - spelled as documented
            17: "bms and battery fault",
        },
    ),
    FaultBits(
        "battery_alarm",
        13068,
        Severity.ALARM,
        (900, 916),
        {
            0: "bdc t sensor open circuit alarm",
            1: "bdc t sensor short circuit alarm",
        },
    ),
    FaultBits(
        "bms_alarm",
        13070,
        Severity.ALARM,
        (932, 948),
        {
            0: "overvoltage alarm",
            1: "over-temperature alarm",
            2: "low temperature alarm",
            3: "charge/discharge overcurrent alarm",
            5: "battery voltage unbalance",
            7: "under-voltage alarm",
            8: "abnormal sd card",
            9: "cell voltage imbalance alarm",
            10: "cell temperature difference alarm",
            11: "battery module inconsistency alarm",
            12: "mixed cell alarm",
        },
    ),
    FaultBits(
        "bms_protection",
        13072,
        Severity.FAULT,
        (732, 748),
        {
            0: "overvoltage protection",
            1: "over-temperature protection",
            2: "low temperature protection",
            3: "charge/discharge overcurrent protection",
            4: "over charge power limit fault",
            5: "over discharge power limit fault",
            7: "low voltage protection",
            8: "slave battery fault",
            9: "pre-charge failed",
            10: "abnormal external power line status",
            11: "current sampling fault",
            12: "temperature sampling fault",
            13: "voltage sampling fault",
            14: "battery internal communication failure",
            15: "dc contactor failure",
        },
    ),
    FaultBits(
        "bms_fault_1",
        13074,
        Severity.FAULT,
        (832, 848),
        {
            0: "fet failure/battery switch failure",
            1: "failure in battery internal hardware",
            2: "overcurrent fault",
            3: "battery short circuit fault",
            4: "internal communication fault",
            5: "input overvoltage",
            7: "software version mismatch fault",
            8: "heating alarm",
            9: "heating circuit abnormal",
            12: "battery self-test fault",
        },
    ),
    FaultBits(
        "bms_fault_2",
        13076,
        Severity.FAULT,
        (864, 880),
        {},
    ),
    FaultBits(
        "bms_alarm_2",
        13078,
        Severity.ALARM,
        (964, 980),
        {
            0: "bms internal alarm",
        },
    ),
)
"""Input registers 13050..13079 of the hybrids; the BMS ones are also answered on the battery's unit."""


@dataclass(frozen=True, slots=True)
class FaultCodes:
    """Fault codes of a string inverter that mean the same.

    Attributes:
        codes: single codes and ranges, as the document prints them.
        meaning: in words.
        severity: alarm or fault.
        source: the newest document that lists them.
    """

    codes: str
    meaning: str
    severity: Severity
    source: str = "string protocol V1.1.80"

    def expand(self) -> Iterator[int]:
        """Every single code."""
        for part in self.codes.split(","):
            first, _, last = part.partition("-")
            yield from range(int(first), int(last or first) + 1)


SG_FAULT_CODES: Final[tuple[FaultCodes, ...]] = (
    FaultCodes("2,3,14,15", "grid overvoltage", Severity.FAULT),
    FaultCodes("4,5", "grid undervoltage", Severity.FAULT),
    FaultCodes("8", "grid over frequency", Severity.FAULT),
    FaultCodes("9", "grid under frequency", Severity.FAULT),
    FaultCodes("10", "grid outage (island)", Severity.FAULT),
    FaultCodes("12", "leakage current too high", Severity.FAULT),
    FaultCodes("13", "grid abnormal", Severity.FAULT),
    FaultCodes("17", "grid voltage unbalance", Severity.FAULT),
    FaultCodes("28,29,208,448-479", "string reverse connection fault", Severity.FAULT),
    FaultCodes("532-547,564-579", "string reverse connection alarm", Severity.ALARM),
    FaultCodes("548-563,580-595", "string abnormal alarm", Severity.ALARM),
    FaultCodes("37", "ambient temperature too high", Severity.FAULT),
    FaultCodes("43", "ambient temperature too low", Severity.FAULT),
    FaultCodes("39", "insulation resistance low", Severity.FAULT),
    FaultCodes("106", "grounding cable fault", Severity.FAULT),
    FaultCodes("88", "arc fault", Severity.FAULT),
    FaultCodes("84", "meter/CT reversed", Severity.ALARM),
    FaultCodes("514", "meter communication lost", Severity.ALARM),
    FaultCodes("323", "grid confrontation", Severity.FAULT),
    FaultCodes("75", "parallel communication alarm", Severity.ALARM),
    FaultCodes(
        "7,11,16,19-25,30-34,36,38,40-42,44-50,52-58,60-68,85,87,92,93,100-105,107-114,"
        "116-124,200-211,248-255,300-322,324-326,401-412,600-603,605,608,612,616,620,"
        "622-624,681,800,802,804,807,1096-1122",
        "system fault",
        Severity.FAULT,
    ),
    FaultCodes(
        "59,70-72,74,76,82,83,89,77-81,216-218,220-231,432-434,500-513,515-518,900,901,"
        "910,911,635-638,86,396-397,1124-1127",
        "system alarm",
        Severity.ALARM,
    ),
    FaultCodes("70", "fan", Severity.ALARM, "string protocol V1.1.37"),
    FaultCodes("71", "AC surge protector", Severity.ALARM, "string protocol V1.1.37"),
    FaultCodes("72", "DC surge protector", Severity.ALARM, "string protocol V1.1.37"),
    FaultCodes("78-81,220-227", "PV1-4, PV5-12 abnormal", Severity.ALARM, "string protocol V1.1.37"),
    FaultCodes("264-283", "MPPT reverse connection", Severity.FAULT),
    FaultCodes("332-363", "boost capacitor overvoltage", Severity.ALARM),
    FaultCodes("364-395", "boost capacitor overvoltage", Severity.FAULT),
    FaultCodes("1500-1531", "PV1..32 overvoltage", Severity.FAULT, "string protocol V1.1.37"),
    FaultCodes("1548-1579", "string current backflow", Severity.FAULT),
    FaultCodes("1600-1611", "PV grounding fault", Severity.FAULT),
    FaultCodes("1616", "hardware fault", Severity.FAULT),
    FaultCodes("1328", "PV cable shorted to ground", Severity.FAULT),
)
"""What input register 5045 can hold; valid only while `work_state_1` says fault or alarm run."""

SG_FAULT_BY_CODE: Final[Mapping[int, FaultCodes]] = {
    code: entry
    for entry in sorted(SG_FAULT_CODES, key=lambda entry: len(list(entry.expand())), reverse=True)
    for code in entry.expand()
}
"""By single code; of two entries for one code the narrower stands."""
