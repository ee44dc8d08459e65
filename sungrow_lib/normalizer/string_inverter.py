"""What a string inverter's registers mean beyond the table: is there a meter, and is a fault active."""

from __future__ import annotations

from typing import Final

from sungrow_lib.normalizer.values import HOLE_W, Values
from sungrow_lib.registers.faults import SG_FAULT_BY_CODE, Severity

_METER_TOTALS: Final = ("total_export_energy", "total_import_energy")
_METER_BLOCK: Final = (
    "meter_power",
    "meter_phase_a_power",
    "meter_phase_b_power",
    "meter_phase_c_power",
    "load_power",
    *_METER_TOTALS,
    "daily_export_energy",
    "daily_import_energy",
    "daily_direct_consumption",
    "total_direct_consumption",
)
"""What a string inverter's meter fills; without one the registers may all read 0, or as holes."""
_METER_PAIR: Final = ("export_power_meter_16", "export_power_meter_high_word")
_CONSUMPTION: Final = "household_consumption_16"

_UNKNOWN_STATE: Final = "unknown"
_SG_FAULT_STATES: Final = {"fault": Severity.FAULT, "alarm run": Severity.ALARM}
"""Work states in which a string inverter's fault code is valid, and what an unlisted code is then."""


def metered(registers: Values) -> Values:
    """The registers without what stands in place of a meter's readings where there is no meter."""
    unknown: list[str] = []
    block = [name for name in _METER_BLOCK if name in registers]
    if any(name in registers for name in _METER_TOTALS) and not any(registers[name] for name in block):
        unknown += block
    if _CONSUMPTION in registers and _consumption_is_doubtful(registers):
        unknown.append(_CONSUMPTION)
    return {**registers, **dict.fromkeys(unknown)} if unknown else registers


def _consumption_is_doubtful(registers: Values) -> bool:
    """Whether the undocumented 5218 tells nothing: negative, or beside a 5216 and 5217 that are no meter."""
    consumption = registers[_CONSUMPTION]
    if not isinstance(consumption, int | float) or consumption < 0:
        return True
    pair = [registers[name] for name in _METER_PAIR if name in registers]
    if len(pair) < len(_METER_PAIR):
        return False
    holes = pair[0] in {None, HOLE_W} and pair[1] is None
    return holes or not (consumption or any(pair))


def fault_codes_of(registers: Values) -> dict[str, list[int] | None]:
    """The one fault code, as an alarm or a fault; it is valid only in the states that have one."""
    state, code = registers.get("work_state_1"), registers.get("fault_code")
    if not isinstance(state, str) or state.startswith(_UNKNOWN_STATE):
        return {"alarm_codes": None, "fault_codes": None}
    if state not in _SG_FAULT_STATES:
        return {"alarm_codes": [], "fault_codes": []}
    if not isinstance(code, int):
        return {"alarm_codes": None, "fault_codes": None}
    known = SG_FAULT_BY_CODE.get(code)
    severity = known.severity if known else _SG_FAULT_STATES[state]
    active = [code] if code else []
    return {
        "alarm_codes": active if severity is Severity.ALARM else [],
        "fault_codes": active if severity is Severity.FAULT else [],
    }
