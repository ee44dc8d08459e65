"""What the collected facts say of a register beyond its number and scale: who has it, its words, its sign."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

import pytest

from sungrow_lib.quantities import Family
from sungrow_lib.registers.applies import EVERYWHERE, Applies, Presence
from sungrow_lib.registers.map import RegisterMap
from sungrow_lib.registers.model import DataType, Register, Status
from tests.registers.facts import TABLES, Rows

K: Final = Applies(lines=frozenset({"SH-K"}))
RT_T: Final = Applies(lines=frozenset({"SH-RT", "SH-T"}))
RS_T: Final = Applies(lines=frozenset({"SH-RS", "SH-T"}))
NOT_RS_RL_CX: Final = Applies(not_lines=frozenset({"SH-RS", "SH-RL", "SH-CX"}))
DTSU666: Final = Applies(lines=frozenset({"SH-RT"}), not_models=("SH10RT-20", "SH10RT-V112"), certain=False)
KTL_M: Final = ("SG*KTL-M*",)
RS_RT: Final = frozenset({"SG-RS", "SG-RT"})
FEED_IN: Final = Applies(lines=RS_RT, models=KTL_M)
ONE_DUMP: Final = Applies(models=("SH8.0RT-20",))
NOT_JP: Final = Applies(not_models=("SG5.5RS-JP",))

DEVICES: Final[dict[str, Applies]] = {
    "all SH hybrids": EVERYWHERE,
    "all SG": EVERYWHERE,
    "iHomeManager": EVERYWHERE,
    # of the battery
    "SBR (full), SBH (base block; 10757+ may return exception 2)": EVERYWHERE,
    # of hybrids
    "SH-RT on internal LAN; others vary": Applies(certain=False),
    "models with >=3 MPPT: SH8.0/10RS, SH15-25T, 3-MPPT RL/MG, CX; others return 65535": EVERYWHERE,
    "SH8.0RS, SH10RS, CX": EVERYWHERE,
    "SH50-125CX": EVERYWHERE,
    "SH8.0RT-20 (one dump); SH-T uses 5253.. as PV string array per theunknown86": ONE_DUMP,
    "SH8.0RT-20 (dump)": ONE_DUMP,
    "SH-RT with DTSU666 on some firmware; exception on SH-T via WiNet-S2, SH10RT-20 FW 95.14, "
    "SH10RT-V112": DTSU666,
    "as meter_phase_*_voltage": DTSU666,
    "SH5.0-10RT only per doc; also read on SH10RS through RS485 gateway (TCzerny #82/#87)": Applies(
        lines=frozenset({"SH-RT"}), models=("SH10RS",), certain=False
    ),
    "SH3K6/SH4K6/SH5K-20/-V13/-30 (SH-K)": K,
    "SH3K6/SH4K6/SH5K-20/-V13/-30 (SH-K) only; 65535 on SH-RT": K,
    "SH3K6/SH4K6/SH5K-20/-V13/-30 (SH-K); others use 33149": K,
    "SH3K6/SH4K6/SH5K-20/-V13/-30 (SH-K); others use 33150": K,
    "SH-RT, SH-RS, CX, SH-K": Applies(lines=frozenset({"SH-RT", "SH-RS", "SH-CX", "SH-K"})),
    "RT and T with dual-channel meter (DTSU666-20); not RS, MG/SH-RL, CX": RT_T,
    "RT and T; not RS, MG/SH-RL, CX": RT_T,
    "RT/T new firmware; 65535 on RS; 0 or odd read-back on several RT; not CX": replace(RT_T, certain=False),
    "SH-RT/T; not functional on RS": RT_T,
    "SH-T only": Applies(lines=frozenset({"SH-T"})),
    "SH-T tested": Applies(lines=frozenset({"SH-T"})),
    "SH-RS (SH10RS, SH6.0RS tested); SH-T too": RS_T,
    "SH-RS; SH-T too": RS_T,
    "not SH3.0-10RS; CX without 3": Applies(not_lines=frozenset({"SH-RS"})),  # CX: without one of its texts
    "not MG5-12RL, SH3-10RL, CX": Applies(not_lines=frozenset({"SH-RL", "SH-CX"})),
    "not MG5-12RL, SH3-10RL, CX; not functional on SH-RS": NOT_RS_RL_CX,
    "not MG5-12RL, SH3-10RL, CX; not functional on SH-RS (RS: 31204)": NOT_RS_RL_CX,
    "not MG5-12RL, SH3-10RL, CX; not functional on SH-RS (RS: 31205)": NOT_RS_RL_CX,
    "SH-RT with Sungrow wallbox on its RS485; frozen when iHomeManager manages the charger": Applies(
        lines=frozenset({"SH-RT"}), certain=False
    ),
    # of string inverters
    "models with that many MPPT; not SG5.5RS-JP": NOT_JP,
    "not SG5.5RS-JP": NOT_JP,
    "all SG; b,c not SG5.5RS-JP": EVERYWHERE,  # which is single-phase
    "HX (utility)": Applies(lines=frozenset({"SG-HX"})),
    "HX": Applies(lines=frozenset({"SG-HX"})),
    "KTL-M/MT with country Europe (old docs); SG2.0-10RS, SGRS-L2, SG3.0-25RT, RT-P2 (V1.1.80), "
    "with meter for feed-in limitation": FEED_IN,
    "SG2.0-10RS, SGRS-L2, SG3.0-25RT, RT-P2 with meter; KTL-M/MT Europe in old docs": FEED_IN,
    "KTL-M/MT": Applies(models=KTL_M),
    "KTL-M/MT Europe": Applies(models=KTL_M),
    "listed CX/HX/KTL/RT": Applies(lines=frozenset({"SG-CX", "SG-HX", "SG-KTL", "SG-RT"}), certain=False),
    "RT (G2) and RS with meter": Applies(lines=RS_RT),
    "as 5216": Applies(lines=RS_RT),
    "models with more than one string per MPPT; 25-32 HX only": EVERYWHERE,
    "SG136TX (V1.1.80); HX/HV in V1.1.53": Applies(lines=frozenset({"SG-HX"}), models=("SG136TX", "SG*HV*")),
    "curve 1: maintenance models; curve 2: on sale": Applies(certain=False),
    "SG285-350HX": Applies(models=("SG285HX*", "SG320HX*", "SG333HX*", "SG350HX*")),
}
"""What the lists say in words, as the tables say it; layout and path are added by name below."""

UNSURE: Final = re.compile(r"fault_time_\w+|power_factor_setting")
"""Said of all SG, but elsewhere in the lists not of SG-RS, or seen as a hole."""
ONLY_SBR: Final = 10_757
"""From this number on a battery's registers may be refused."""
WINET: Final = {
    "no": False,
    "no (illegal address or timeout)": False,
    "no: zero, unavailable or exception 2": False,
    "only with forwarded id; not via Logger": False,
}
STUCK: Final = {"stays 0 on SH10RS (TCzerny)": ("SH10RS",)}


def said_of(row: dict[str, str]) -> Applies:
    """The devices and paths that a list gives a register to."""
    name, number = row["name"], int(row["document_register"])
    applies = DEVICES[row["families_models"]]
    if UNSURE.fullmatch(name) or (row["families_models"].startswith("SBR") and number >= ONLY_SBR):
        applies = replace(applies, certain=False)
    return replace(
        applies,
        **layout(name, row["families_models"], applies),
        winet=WINET.get(row["winet_s"], True),
        winet_zero_models=STUCK.get(row["winet_s"], ()),
    )


def layout(name: str, families: str, applies: Applies) -> dict[str, Any]:
    """What a name says of trackers, strings and phases."""
    is_sg = "SG" in families or "MPPT; 25" in families or "that many" in families
    tracker = re.fullmatch(r"mppt_(\d+)_(voltage|current)", name)
    if tracker and not applies.lines and (is_sg or int(tracker[1]) > 2):  # every hybrid has two
        return {"trackers": int(tracker[1])}
    if string := re.fullmatch(r"string_(\d+)_current", name):
        lines = frozenset({"SG-HX"}) if int(string[1]) > 24 else frozenset[str]()
        return {"strings": int(string[1]), "lines": lines}
    if re.fullmatch(r"(backup_)?phase_[bc]_(voltage|current|power)", name):
        return {"three_phase": True}  # of the device itself: 0 or a hole where it has one
    if re.fullmatch(r"(meter_)?phase_[bc](_active)?_power|channel_2_phase_[bc]_active_power", name):
        return {"three_phase_meter": True}  # of the meter, whatever the device
    return {}


def pairs(rows: Rows) -> Iterator[tuple[dict[str, str], Family, Register]]:
    for file, families in TABLES:
        for row in rows(file):
            family = next(f for f in families if row["name"] in RegisterMap.for_family(f))
            yield row, family, RegisterMap.for_family(family).by_name(row["name"])


def test_the_devices_that_have_a_register_are_those_of_the_facts(rows: Rows) -> None:
    both = {(family, row["name"]): (register.applies, said_of(row)) for row, family, register in pairs(rows)}
    assert {key: (ours, said) for key, (ours, said) in both.items() if ours != said} == {}
    assert len(both) > 550


def test_batteries_have_their_registers_on_units_of_their_own(rows: Rows) -> None:
    for row, family, register in pairs(rows):
        unit = row["modbus_unit"]
        on_both = "also answered on inverter unit" in unit  # kept in the hybrids' map
        assert (family is Family.BATTERY) is (unit.startswith("battery unit") and not on_both), register.name


SENTINELS: Final = {
    "65535": (0xFFFF,),
    "32767": (0x7FFF,),
    "[65535;65535] = 0xFFFFFFFF": (0xFFFF, 0xFFFF),
    "[65535;32767] = 0x7FFFFFFF (low word first on the wire)": (0xFFFF, 0x7FFF),
    "0x0000 padding": (0,),
}


@pytest.mark.parametrize("presence", Presence)
def test_not_available_is_what_the_facts_say(presence: Presence, rows: Rows) -> None:
    for row, _, register in pairs(rows):
        sentinel = SENTINELS[row["sentinel_raw"]]
        words = sentinel * (register.word_count // len(sentinel))
        value = register.decode(words, presence=presence)
        assert set(value) == {None} if isinstance(value, list) else value is None, register.name


def test_words_stand_in_the_order_of_the_facts(rows: Rows) -> None:
    for row, _, register in pairs(rows):
        order = row["word_order"]
        if order.startswith("high byte first per register"):
            assert register.decode((0x4142, 0x4300, *[0] * (register.word_count - 2))) == "ABC"
        elif register.type is DataType.BITFIELD:
            first = register.decode((1, *[0] * (register.word_count - 1)))
            assert first == [register.bits.get(0, "unknown (bit 0)")], register.name
        elif order == "low_first":
            value = register.decode((0x1234, 1, *[0] * (register.word_count - 2)))
            first = value[0] if isinstance(value, list) else value
            assert first == pytest.approx(0x11234 / 10.0**register.decimals), register.name
        else:
            assert order.startswith("n/a"), register.name
            assert register.type.item_words == 1, register.name


SIGNS: Final = {
    ">0 leading; <0 lagging": "> 0 leading, < 0 lagging",
    ">0 discharging; <0 charging (mkaiser, TCzerny). Official doc gives no sign": "> 0 discharging, < 0",
    ">0 export; <0 import on SH8.0RT-20 master (equal to 13010)": "> 0 export, < 0 import",
    ">0 buying from grid; <0 selling (opposite of 13010)": "> 0 buying, < 0 selling",
    ">0 buying; <0 selling": "> 0 buying, < 0 selling",
    "follows 5214: >0 discharging, <0 charging expected; doc silent": "> 0 discharging, < 0 charging",
    ">0 consuming; negative possible when another source feeds the load side": "> 0 consuming; < 0",
    ">0 export to grid; <0 import (opposite of 5601)": "> 0 export, < 0 import",
    "same history as 13021; prefer 5214": "as 13021",
    ">0 inverter delivering AC; <0 drawing AC (grid charging)": "> 0 out of the inverter, < 0",
    "document silent; evcc uses it as grid power with positive = import": "> 0 importing",
    "solariot: >0 importing; TCzerny: used inverted for grid power; see notes": "projects contradict",
    "evcc/TCzerny treat as grid power; sign see sources": "> 0 importing",
}
"""How the lists word a sign, and how ours begins."""
OLD_FIRMWARE: Final = "magnitude on old"
ONLY_OURS: Final = {
    "household_consumption_16": "the lists say it in a note",
    "battery_unit_current": "says that nobody says",
    "inverter_active_power": "from the projects that read it",
    "load_active_power": "from the projects that read it",
    "battery_power": "from the projects that read it",
}
"""Signs that the lists leave empty, and why ours do not."""


def test_signs_are_those_of_the_facts(rows: Rows) -> None:
    for row, _, register in pairs(rows):
        said = row["sign_convention"]
        if said.startswith(OLD_FIRMWARE):
            assert register.sign.startswith(OLD_FIRMWARE)
        elif said:
            assert register.sign.startswith(SIGNS[said]), register.name
        else:
            assert not register.sign or register.name in ONLY_OURS, register.name


STATUSES: Final = {
    "official": Status.OFFICIAL,
    "undocumented": Status.UNDOCUMENTED,
    "reserved in hybrid doc; value seen": Status.UNDOCUMENTED,
    "string-inverter map": Status.UNDOCUMENTED,
    "string map": Status.UNDOCUMENTED,
    "inferred": Status.INFERRED,
    "documented in V1.0.20 only": Status.LEGACY,
    "V1.0.20": Status.LEGACY,
}
"""How a status begins in the lists."""


def test_how_well_a_register_is_known_and_from_where_is_as_in_the_facts(rows: Rows) -> None:
    for row, _, register in pairs(rows):
        [status] = {status for start, status in STATUSES.items() if row["status"].startswith(start)}
        assert register.status is status, register.name
        version = re.search(r"V[\d.]+$", register.source)
        assert bool(version) is (status in {Status.OFFICIAL, Status.LEGACY}), register.name
        if version:
            assert version[0].casefold() in row["sources"].casefold(), f"{register.name}: {register.source}"
