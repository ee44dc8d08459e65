"""Registers to a sample: what the values mean, with one sign on every model, firmware and path.

The normalizer is pure. Which register supplies which quantity stands in
:data:`~sungrow_lib.quantities.QUANTITIES`; here are only the judgements no table can hold: which way the
battery flows, whether there is a battery or a meter at all, and which alarms are active.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum
from functools import lru_cache
from itertools import chain
from typing import Any, Final

from sungrow_lib.quantities import QUANTITIES, QUANTITY_BY_NAME, Family, Quantity, QuantityKind, Source
from sungrow_lib.registers.faults import SG_FAULT_BY_CODE, Severity
from sungrow_lib.registers.identity import Identity, identify
from sungrow_lib.registers.map import RegisterMap
from sungrow_lib.registers.model import Value
from sungrow_lib.registers.words import RegisterWords
from sungrow_lib.sample import SungrowSample

Values = Mapping[str, Value | None]
"""Decoded registers by name."""

Number = int | float

_UNIT_FACTOR: Final = {("kW", "W"): 1000, ("kvar", "var"): 1000}

_DEAD_POWER_W: Final = 50
"""A signed battery power of 0 beside a magnitude above this is a register that is not filled."""
_DEAD_CURRENT_A: Final = 1.0
_HOLE_W: Final = -1
_HOLE_A: Final = -0.1
"""What a hole in a block looks like in the signed registers, which older firmware lacks."""

_BALANCE_FROM_W: Final = 300
"""Battery power from which sun less AC output must confirm its direction, ..."""
_BALANCE_TOLERANCE_W: Final = 200
_BALANCE_TOLERANCE: Final = 0.25
"""... where it confirms its size to this much."""

_SIGNED_BY_DOCUMENT: Final = frozenset({"SH-RS"})

_REACH: Final = 2
"""How many times its nominal power a hybrid's battery may move; beyond, the register is filled with junk."""
_LEAST_REACH_W: Final = 8_000
"""SH3.0RS charges with 6.6 kW."""
_USUAL_REACH_W: Final = 60_000
"""Where nobody tells the nominal power: twice that of the largest hybrid but SH-CX."""
_LEAST_BATTERY_V: Final = 40
"""Least voltage of a battery at work, to turn a power into a current; below, the battery is off."""

_CODES: Final = ("alarm_codes", "fault_codes")
_FLOW_BITS: Final = ("battery charging", "battery discharging")

_BATTERY_GAUGES: Final = (
    "battery_power_w",
    "battery_current_a",
    "battery_voltage_v",
    "battery_soc_pct",
    "battery_soh_pct",
    "battery_temp_c",
    "battery_capacity_kwh",
)
_BATTERY_COUNTERS: Final = (
    "battery_charge_daily_kwh",
    "battery_charge_total_kwh",
    "battery_charge_from_pv_daily_kwh",
    "battery_charge_from_pv_total_kwh",
    "battery_discharge_daily_kwh",
    "battery_discharge_total_kwh",
)
_METERED: Final = (
    "load_power_w",
    "export_power_w",
    "export_daily_kwh",
    "export_total_kwh",
    "export_from_pv_daily_kwh",
    "export_from_pv_total_kwh",
    "import_daily_kwh",
    "import_total_kwh",
    "direct_use_daily_kwh",
    "direct_use_total_kwh",
    "self_consumption_daily_pct",
)
"""What only a meter can tell; without one the inverter fills in its own output, or zeros."""

_METER_POWERS: Final = (
    "meter_power",
    "meter_phase_a_power",
    "meter_phase_b_power",
    "meter_phase_c_power",
    "load_power",
)
_METER_TOTALS: Final = ("total_export_energy", "total_import_energy")
_METER_COUNTERS: Final = (
    *_METER_TOTALS,
    "daily_export_energy",
    "daily_import_energy",
    "daily_direct_consumption",
    "total_direct_consumption",
)
_METER_BLOCK: Final = (*_METER_POWERS, *_METER_COUNTERS)
"""What a string inverter's meter fills; without one the registers may all read 0, or as holes."""
_METER_PAIR: Final = ("export_power_meter_16", "export_power_meter_high_word")
_CONSUMPTION: Final = "household_consumption_16"

_STATES: Final = {
    "running on grid": "running",
    "run": "running",
    "derating run": "derating",
    "dispatch run": "dispatch",
    "dispatch running": "dispatch",
    "alarm run": "running with alarm",
    "warn running": "running with alarm",
    "forced (compulsory) mode": "forced mode",
}
"""One word for what the families call differently; every other state keeps its text."""

_SG_FAULT_STATES: Final = {"fault": Severity.FAULT, "alarm run": Severity.ALARM}
"""Work states in which a string inverter's fault code is valid, and what an unlisted code is then."""


@dataclass(frozen=True, slots=True)
class Normalizer:
    """Turns what was read from one device into samples.

    >>> from datetime import UTC, datetime
    >>> from sungrow_lib.registers.words import Space
    >>> words = RegisterWords({(Space.INPUT, 13010): 65134, (Space.INPUT, 13011): 65535})
    >>> normalizer = Normalizer("house", Identity(family=Family.SH))
    >>> normalizer.normalize(words, ts=datetime(2026, 1, 31, 10, tzinfo=UTC)).export_power_w
    -402

    Attributes:
        device_id: goes into every sample.
        identity: what the device is; None to tell it from each reading.
        signed_battery: whether this device was ever seen to sign its battery power (13022 below 0), so
            that a positive value is known to mean discharging; see `learning`.
    """

    device_id: str
    identity: Identity | None = None
    signed_battery: bool = False

    def normalize(
        self, words: RegisterWords, *, ts: datetime, interval_s: float | None = None, firmware: bool = False
    ) -> SungrowSample:
        """Return the sample of one poll.

        Args:
            words: what the poll read; nothing older, for a sample holds only what was read together.
            ts: arrival of the fast block: aware, whole milliseconds.
            interval_s: seconds this reading stands for; None on the first poll.
            firmware: whether to report the firmware, which is wanted when it changed.

        Raises:
            UnknownFamilyError: no identity was given and the words do not tell the family.
            pydantic.ValidationError: ``ts`` or the device id is not valid.
        """
        values = self.values(words, firmware=firmware)
        values |= {"interval_s": interval_s, "sample_count": 1}
        return SungrowSample(device_id=self.device_id, ts=ts, **values)

    def values(self, words: RegisterWords, *, firmware: bool = False) -> dict[str, Any]:
        """Return every quantity a device can supply, by name; None for what ``words`` do not tell.

        Raises:
            UnknownFamilyError: no identity was given and the words do not tell the family.
        """
        identity = self.identity or identify(words)
        table = RegisterMap.for_family(identity.family)
        registers: Values = table.decode(words, identity.context, absent=False)
        if identity.family is Family.SG:
            registers = _metered(registers)
        values = {quantity.name: _supplied(quantity, identity.family, registers) for quantity in _measured()}
        if identity.family is Family.SH:
            values |= _hybrid(values, registers, identity, signed=self.signed_battery)
        if identity.family is Family.SG:
            values |= _sg_codes(registers)
        else:
            values |= {name: _codes_of_bits(name, identity.family, words) for name in _CODES}
        if not firmware:
            values["firmware"] = None
        return values

    def learning(self, words: RegisterWords) -> Normalizer:
        """Return the normalizer that has seen ``words``: this one, or one that knows the sign."""
        if self.signed_battery or not shows_signed_battery(words):
            return self
        return replace(self, signed_battery=True)


def shows_signed_battery(words: RegisterWords) -> bool:
    """Whether this reading has a negative battery power in 13022, which only signing firmware sends."""
    register = RegisterMap.for_family(Family.SH).by_name("battery_power")
    taken = words.take(register.space, register.number, 1)
    power = register.decode(taken) if taken else None
    return isinstance(power, int | float) and power < 0


# --- from the table -------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _measured() -> tuple[Quantity, ...]:
    """Quantities that a register can supply."""
    return tuple(
        quantity for quantity in QUANTITIES if quantity.kind is not QuantityKind.META and quantity.sources
    )


def _supplied(quantity: Quantity, family: Family, registers: Values) -> Any:
    """The quantity's value from its best source that has one."""
    if quantity.kind is QuantityKind.CODES:
        return None
    items = quantity.sources.get(family, ())
    if quantity.kind is QuantityKind.STATE:
        return _text(items, registers)
    found = [_number(quantity, family, sources, registers) for sources in items]
    if quantity.length is None:
        return found[0] if found else None
    while found and found[-1] is None:
        found.pop()
    return found or None


def _text(items: tuple[tuple[Source, ...], ...], registers: Values) -> str | None:
    for source in chain.from_iterable(items):
        value = registers.get(source.register)
        if isinstance(value, str):
            return _STATES.get(value, value)
    return None


def _number(
    quantity: Quantity, family: Family, sources: tuple[Source, ...], registers: Values
) -> Number | None:
    """The best source's value; a 0 gives way to a lesser source's value, for a path may fill gaps with 0."""
    best: Number | None = None
    for source in sources:
        value = registers.get(source.register)
        if not isinstance(value, int | float) or (best == 0 and value == _hole(family, source.register)):
            continue
        value = -value if source.negate else value
        best = _rounded(quantity, value * _factor(family, source.register, quantity.unit))
        if best:
            break
    return best


@lru_cache(maxsize=512)
def _hole(family: Family, register: str) -> float:
    """What 0xFFFF in every word of a signed register decodes to: no reason to doubt a 0 elsewhere."""
    return -1 / 10.0 ** RegisterMap.for_family(family).by_name(register).decimals


@lru_cache(maxsize=512)
def _factor(family: Family, register: str, unit: str) -> int:
    return _UNIT_FACTOR.get((RegisterMap.for_family(family).by_name(register).unit, unit), 1)


def _rounded(quantity: Quantity, value: Number | None) -> Number | None:
    return None if value is None else quantity.from_steps(quantity.to_steps(value))


# --- hybrids --------------------------------------------------------------------------------------------


def _hybrid(
    values: Mapping[str, Any], registers: Values, identity: Identity, *, signed: bool
) -> dict[str, Any]:
    """What a hybrid's values mean beyond the table."""
    registers = {**registers, **_plausible(registers, identity)}
    number = _Numbers(registers)
    flow = _Flow.DISCHARGING if signed else _flow(registers, number, identity.context.line)
    power = _battery_power(number, flow)
    changed: dict[str, Any] = {
        "battery_power_w": power,
        "battery_current_a": _battery_current(number, power, flow),
        "export_power_w": _export_power(number),
    }
    if _has_no_battery(number):
        changed |= dict.fromkeys(_BATTERY_GAUGES)
        if not any(values[name] for name in _BATTERY_COUNTERS):
            changed |= dict.fromkeys(_BATTERY_COUNTERS)
    if _has_no_meter(registers, values):
        changed |= dict.fromkeys(_METERED)
    return {name: _rounded(QUANTITY_BY_NAME[name], value) for name, value in changed.items()}


class _Numbers:
    """Decoded registers of which only the numbers count."""

    __slots__ = ("_values",)

    def __init__(self, values: Values) -> None:
        self._values = values

    def __call__(self, name: str) -> Number | None:
        value = self._values.get(name)
        return value if isinstance(value, int | float) else None


class _Flow(Enum):
    CHARGING = "charging"
    DISCHARGING = "discharging"
    UNKNOWN = "unknown"


def _plausible(registers: Values, identity: Identity) -> dict[str, Number | None]:
    """The two signed battery registers, None where they hold what this inverter cannot move.

    Firmware that lacks them, or half of 5214, answers holes and whatever stands there.
    """
    number = _Numbers(registers)
    power, current = number("battery_power_signed"), number("battery_current_signed")
    reach = _reach_w(number, identity)
    volts = max(number("battery_voltage") or 0, _LEAST_BATTERY_V)
    return {
        "battery_power_signed": _within(power, reach, hole=_HOLE_W),
        "battery_current_signed": _within(current, reach / volts, hole=_HOLE_A),
    }


def _within(value: Number | None, reach: float, *, hole: float) -> Number | None:
    return None if value is None or value == hole or abs(value) > reach else value


def _reach_w(number: _Numbers, identity: Identity) -> float:
    """W that this inverter's battery can move at most, generously."""
    model_kw = identity.device.power_kw if identity.device else None
    nominal_kw = model_kw or identity.nominal_kw or number("nominal_output_power")
    known = [kw for kw in (nominal_kw, number("bdc_rated_power")) if kw]
    return max(_REACH * 1000 * max(known), _LEAST_REACH_W) if known else _USUAL_REACH_W


def _flow(registers: Values, number: _Numbers, line: str) -> _Flow:
    """Which way a positive battery power flows, on a device not yet seen to sign it."""
    signed = number("battery_current_signed")
    if signed:
        return _Flow.CHARGING if signed < 0 else _Flow.DISCHARGING
    if (number("battery_current") or 0) < 0:
        return _Flow.CHARGING
    status = registers.get("power_flow_status")
    charging, discharging = (isinstance(status, list) and text in status for text in _FLOW_BITS)
    if charging and discharging:
        return _Flow.UNKNOWN
    if charging:
        return _Flow.CHARGING
    # neither: 13001 stays 0 on several dongles
    return _Flow.DISCHARGING if discharging or line in _SIGNED_BY_DOCUMENT else _Flow.UNKNOWN


def _battery_power(number: _Numbers, flow: _Flow) -> Number | None:
    """W, + charging; None when the direction cannot be known.

    Best is the register that is signed on every firmware, where the device fills it; then a negative
    13022; then a magnitude, if it is known which way it flows.
    """
    signed, power = number("battery_power_signed"), number("battery_power")
    if signed is not None and not (signed == 0 and abs(power or 0) > _DEAD_POWER_W):
        return -signed
    if power is None or power <= 0:
        return None if power is None else -power
    if flow is _Flow.UNKNOWN or _balance_contradicts(number, power, flow):
        return None
    return power if flow is _Flow.CHARGING else -power


def _balance_contradicts(number: _Numbers, power: Number, flow: _Flow) -> bool:
    """Whether sun less AC output is about the battery's power, but the other way."""
    sun, output = number("total_dc_power"), number("total_active_power")
    if sun is None or output is None or power < _BALANCE_FROM_W:
        return False
    balance = sun - output
    tolerance = max(_BALANCE_TOLERANCE_W, _BALANCE_TOLERANCE * power)
    return (balance > 0) is not (flow is _Flow.CHARGING) and abs(abs(balance) - power) <= tolerance


def _battery_current(number: _Numbers, power: Number | None, flow: _Flow) -> Number | None:
    """A, + charging; the direction of a magnitude is that of the power, where one was read."""
    signed, current = number("battery_current_signed"), number("battery_current")
    if signed is not None and not (signed == 0 and abs(current or 0) > _DEAD_CURRENT_A):
        return -signed
    if current is None or current <= 0:
        return None if current is None else -current
    if power is None and number("battery_power") is None and flow is not _Flow.UNKNOWN:
        return current if flow is _Flow.CHARGING else -current
    if not power:
        return None
    return current if power > 0 else -current


def _export_power(number: _Numbers) -> Number | None:
    """W, + exporting. Some firmware leaves 13010 at 0 while the meter's own registers live."""
    export, meter = number("export_power"), number("meter_active_power")
    phases = [number(f"meter_phase_{phase}_active_power") for phase in "abc"]
    if meter is None:
        known = [phase for phase in phases if phase is not None]
        meter = sum(known) if known else None
    if export is None or (export == 0 and meter is not None and abs(meter) > _DEAD_POWER_W):
        export = -meter if meter is not None else number("grid_export_power_alt")
    return export


def _has_no_battery(number: _Numbers) -> bool:
    """Whether every register that a connected battery fills reads 0, as on an inverter without one."""
    voltage, health = number("battery_voltage"), number("battery_soh")
    capacity = (number("battery_capacity"), number("battery_capacity_high_resolution"))
    return voltage == 0 and health == 0 and not any(capacity)


def _has_no_meter(registers: Values, values: Mapping[str, Any]) -> bool:
    """Whether the meter was asked and is "not available", and nothing was ever metered: a slave, say."""
    asked = "meter_active_power" in registers
    return (
        asked
        and registers["meter_active_power"] is None
        and values["export_power_w"] in {0, None}
        and not values["export_total_kwh"]
        and not values["import_total_kwh"]
    )


def _codes_of_bits(name: str, family: Family, words: RegisterWords) -> list[int] | None:
    """Codes of the bits set in the registers that were read; None when none of them was."""
    table = RegisterMap.for_family(family)
    quantity = QUANTITY_BY_NAME[name]
    codes: set[int] = set()
    answered = False
    for source in chain.from_iterable(quantity.sources.get(family, ())):
        register = table.by_name(source.register)
        taken = words.take(register.space, register.number, register.word_count)
        if taken is not None and register.decode(taken) is not None:
            answered = True
            codes.update(register.codes(taken))
    return sorted(codes)[: quantity.length] if answered else None


# --- string inverters -----------------------------------------------------------------------------------


def _metered(registers: Values) -> Values:
    """The registers without what stands in place of a meter's readings where there is no meter."""
    unknown: list[str] = []
    counters = [registers[name] for name in _METER_COUNTERS if name in registers]
    if counters and not any(isinstance(value, int | float) for value in counters):
        unknown += (name for name in _METER_POWERS if registers.get(name) == _HOLE_W)
    block = {name: registers[name] for name in _METER_BLOCK if name in registers and name not in unknown}
    if all(name in registers for name in _METER_TOTALS) and not any(block.values()):
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
    holes = pair[0] in {None, _HOLE_W} and pair[1] is None
    return holes or not (consumption or any(pair))


def _sg_codes(registers: Values) -> dict[str, list[int] | None]:
    """The one fault code, as an alarm or a fault; it is valid only in the states that have one."""
    state, code = registers.get("work_state_1"), registers.get("fault_code")
    if not isinstance(state, str):
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
