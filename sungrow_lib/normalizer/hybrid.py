"""What a hybrid's registers mean beyond the table: where the battery's power flows, what is connected."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, Final

from sungrow_lib.normalizer.meter import live_phases, total_of_phases
from sungrow_lib.normalizer.values import HOLE_A, HOLE_W, Number, Values, rounded
from sungrow_lib.quantities import QUANTITY_BY_NAME, Family
from sungrow_lib.registers.identity import Identity
from sungrow_lib.registers.map import RegisterMap
from sungrow_lib.registers.variants import signs_battery
from sungrow_lib.registers.words import RegisterWords

_DEAD_POWER_W: Final = 50
"""A signed battery power of 0, or -1, beside a magnitude above this is a register that is not filled."""
_DEAD_CURRENT_A: Final = 1.0
_BALANCE_FROM_W: Final = 300
"""Battery power from which sun less AC output must confirm its direction, ..."""
_BALANCE_TOLERANCE_W: Final = 200
_BALANCE_TOLERANCE: Final = 0.25
"""... where it confirms its size to this much."""

_LOST: Final = 0.05
"""Share of the sun's power that an inverter may lose, generously."""

_SIGNED_BY_DOCUMENT: Final = frozenset({"SH-RS"})

_REACH: Final = 2
"""How many times its nominal power a hybrid's battery may move; beyond, the register is filled with junk."""
_LEAST_REACH_W: Final = 8_000
"""SH3.0RS charges with 6.6 kW."""
_USUAL_REACH_W: Final = 60_000
"""Where nobody tells the nominal power: twice that of the largest hybrid but SH-CX."""
_LEAST_BATTERY_V: Final = 40
"""Least voltage of a battery at work, to turn a power into a current; below, the battery is off."""

_WITHOUT_SIGN: Final = frozenset({"SH-CX"})
"""Lines whose battery power may be so large that it looks negative: they were never seen to sign it."""
_UPPER_HALF: Final = 0x8000
"""W from which on 13022 may be one of those, or a negative number."""
_NEARLY: Final = 1.25
"""What differs by no more than this factor may be the same power."""
_FLOATING_V: Final = 10
"""V that an inverter may read where no battery is connected."""

_BATTERY_FLOWS: Final = ("battery_power", "battery_power_signed", "battery_current", "battery_current_signed")
"""What is 0, or a hole, where no battery is."""
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

_METER_POWERS: Final = ("meter_active_power", *(f"meter_phase_{phase}_active_power" for phase in "abc"))


def hybrid_values(
    values: Mapping[str, Any], registers: Values, identity: Identity, *, signed: bool
) -> dict[str, Any]:
    """What a hybrid's values mean beyond the table.

    Args:
        values: what the table says.
        registers: decoded registers by name.
        identity: what the device is.
        signed: whether it was seen to sign its battery power.
    """
    registers = {**registers, **_plausible(registers, identity)}
    number = _Numbers(registers)
    signs = signed and identity.context.line not in _WITHOUT_SIGN
    flow = _Flow.DISCHARGING if signs else _flow(registers, number, identity)
    power = _battery_power(number, flow)
    changed: dict[str, Any] = {
        "battery_power_w": power,
        "battery_current_a": _battery_current(number, power, flow),
        "export_power_w": _export_power(number, registers, identity.context.phases),
    }
    if _has_no_battery(number, registers):
        changed |= dict.fromkeys(_BATTERY_GAUGES)
        if not any(values[name] for name in _BATTERY_COUNTERS):
            changed |= dict.fromkeys(_BATTERY_COUNTERS)
    if _has_no_meter(registers, values):
        changed |= dict.fromkeys(_METERED)
    return {name: rounded(QUANTITY_BY_NAME[name], value) for name, value in changed.items()}


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

    Firmware that lacks them, or half of 5214, answers holes and whatever stands there. A hole looks like -1,
    which is believed only where nothing else in the reading says otherwise.
    """
    number = _Numbers(registers)
    reach = _reach_w(number, identity)
    volts = max(number("battery_voltage") or 0, _LEAST_BATTERY_V)
    power = _within(number("battery_power_signed"), reach)
    current = _within(number("battery_current_signed"), reach / volts)
    watts, amperes = number("battery_power"), number("battery_current")
    holes = power == HOLE_W and current == HOLE_A
    flows = any(abs(value or 0) > _DEAD_POWER_W for value in (power, watts)) or any(
        abs(value or 0) > _DEAD_CURRENT_A for value in (current, amperes)
    )
    doubtful = holes or flows
    power_differs = "battery_power" in registers and abs(watts or 0) != abs(HOLE_W)
    current_differs = "battery_current" in registers and abs(amperes or 0) != abs(HOLE_A)
    current = None if current == HOLE_A and (doubtful or current_differs) else current
    return {
        "battery_power_signed": None if power == HOLE_W and (doubtful or power_differs) else power,
        "battery_current_signed": current,
        "battery_power": _of_its_current(watts, volts * abs(current or amperes or 0), registers),
    }


def _of_its_current(power: Number | None, moved: Number, registers: Values) -> Number | None:
    """13022 as it is, or the negative number, which is charging, that its upper half may be on SH-CX alone.

    Args:
        power: 13022.
        moved: W by voltage and current: they are to be those of the negative number, and not of the other.
        registers: decoded registers by name.
    """
    if power is None or power < _UPPER_HALF or _says(registers) is _Flow.DISCHARGING:
        return power
    negative = power - 2 * _UPPER_HALF
    is_that = max(moved, -negative) <= _NEARLY * min(moved, -negative)
    return negative if is_that and max(moved, power) > _NEARLY * min(moved, power) else power


def _within(value: Number | None, reach: float) -> Number | None:
    return None if value is None or abs(value) > reach else value


def _reach_w(number: _Numbers, identity: Identity) -> float:
    """W that this inverter's battery can move at most, generously."""
    model_kw = identity.device.power_kw if identity.device else None
    nominal_kw = model_kw or identity.nominal_kw or number("nominal_output_power")
    known = [kw for kw in (nominal_kw, number("bdc_rated_power")) if kw]
    return max(_REACH * 1000 * max(known), _LEAST_REACH_W) if known else _USUAL_REACH_W


def _flow(registers: Values, number: _Numbers, identity: Identity) -> _Flow:
    """Which way a positive battery power flows, on a device not yet seen to sign it.

    Of firmware that signs it, 13001 may stay as it was, and some sends magnitudes all the same. So where its
    bit says charging, and more sun comes in than goes out as AC, nobody knows.
    """
    told = _told_flow(registers, number, identity.context.line)
    if not signs_battery(identity.firmware):
        return told
    return _Flow.UNKNOWN if told is _Flow.CHARGING and _has_surplus(number) else _Flow.DISCHARGING


def _has_surplus(number: _Numbers) -> bool:
    """Whether more sun comes in than goes out as AC, by more than is lost on the way."""
    sun, output, power = number("total_dc_power"), number("total_active_power"), number("battery_power")
    if sun is None or output is None or power is None:
        return False
    return sun - output > max(_BALANCE_TOLERANCE_W, _LOST * sun, power / 2)


def _told_flow(registers: Values, number: _Numbers, line: str) -> _Flow:
    """Which way it flows by what stands beside it."""
    signed = number("battery_current_signed")
    if signed:
        return _Flow.CHARGING if signed < 0 else _Flow.DISCHARGING
    if (number("battery_current") or 0) < 0:
        return _Flow.CHARGING
    told = _says(registers)
    # nothing: 13001 stays 0 on several dongles
    return _Flow.DISCHARGING if told is None and line in _SIGNED_BY_DOCUMENT else told or _Flow.UNKNOWN


def _says(registers: Values) -> _Flow | None:
    """Which way it flows by 13001; None where it says nothing."""
    status = registers.get("power_flow_status")
    charging, discharging = (isinstance(status, list) and text in status for text in _FLOW_BITS)
    if charging and discharging:
        return _Flow.UNKNOWN
    if charging:
        return _Flow.CHARGING
    return _Flow.DISCHARGING if discharging else None


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


def _export_power(number: _Numbers, registers: Values, phases: int | None) -> Number | None:
    """W, + exporting. Some firmware leaves 13010 at 0 while the meter's own registers live."""
    export, meter = number("export_power"), number("meter_active_power")
    if meter is None or (meter == 0 and _only_its_phases_live(registers, phases)):
        meter = total_of_phases(registers, phases)
    live = live_phases(registers) if meter is None else [meter]
    lives = any(abs(power) > _DEAD_POWER_W for power in live)
    if export is not None and (export or not lives):
        return export
    if meter is not None:
        return -meter
    other = number("grid_export_power_alt")
    return (other or None) if lives else other  # a 0 that is doubtful is no surer for being there twice


def _only_its_phases_live(registers: Values, phases: int | None) -> bool:
    """Whether a meter's phases come to more than what is no more than their noise."""
    total = total_of_phases(registers, phases) or 0
    return abs(total) > max(_DEAD_POWER_W, _LOST * sum(map(abs, live_phases(registers))))


def _has_no_battery(number: _Numbers, registers: Values) -> bool:
    """Whether every register that a connected battery fills reads 0, or "not available", as without one."""
    voltage, health = number("battery_voltage"), number("battery_soh")
    capacity = (number("battery_capacity"), number("battery_capacity_high_resolution"))
    if any(capacity):
        return False
    if voltage == 0 and health == 0:
        return True
    was_read = "battery_voltage" in registers and "battery_soh" in registers
    is_empty = number("battery_soc") == 0 and not health and (voltage or 0) < _FLOATING_V
    return was_read and is_empty and not any(abs(number(name) or 0) > 1 for name in _BATTERY_FLOWS)


def _has_no_meter(registers: Values, values: Mapping[str, Any]) -> bool:
    """Whether there is no meter: it says nothing, and nothing was ever metered, as on a slave.

    It says nothing where it is "not available", or where it and the grid's power are 0 throughout, or not
    served, beside lifetime counters that were read as 0: a dongle fills in 0 for a meter that is not there.
    """
    if values["export_power_w"] not in {0, None}:
        return False
    totals = (values["export_total_kwh"], values["import_total_kwh"])
    if "meter_active_power" in registers and registers["meter_active_power"] is None:
        return not any(totals)
    return totals == (0, 0) and not any(registers.get(name) for name in _METER_POWERS)


def shows_signed_battery(words: RegisterWords) -> bool:
    """Whether this reading has a negative battery power in 13022, which only signing firmware sends."""
    return (_power(words, "battery_power") or 0) < 0


def rests_on_firmware(words: RegisterWords) -> bool:
    """Whether which way the battery flows may be known by the firmware alone: 13022 > 0, and no 5214."""
    return (_power(words, "battery_power") or 0) > 0 and not _power(words, "battery_power_signed")


def _power(words: RegisterWords, name: str) -> Number | None:
    register = RegisterMap.for_family(Family.SH).by_name(name)
    taken = words.take(register.space, register.number, register.word_count)
    power = register.decode(taken) if taken else None
    return power if isinstance(power, int | float) else None
