"""What is installed in a modelled house."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from sungrow_lib.simulator.sun import Roof


class HouseKind(StrEnum):
    """What is installed."""

    HYBRID = "hybrid"
    STRING = "string"


@dataclass(frozen=True, slots=True)
class Array:
    """Modules on one tracker.

    Attributes:
        peak_w: W under standard light.
        mpp_voltage_v: V under standard light.
        roof: where they lie.
    """

    peak_w: int
    mpp_voltage_v: float
    roof: Roof


@dataclass(frozen=True, slots=True)
class Battery:
    """A high-voltage battery.

    Attributes:
        capacity_wh: usable and reserved together.
        max_charge_w: W the inverter may put in.
        max_discharge_w: W it may take out.
        reserve_pct: state of charge at which discharging ends.
        empty_voltage_v: V at 0 %.
        full_voltage_v: V at 100 %.
    """

    capacity_wh: int = 9600
    max_charge_w: int = 5700
    max_discharge_w: int = 5300
    reserve_pct: int = 5
    empty_voltage_v: float = 187.0
    full_voltage_v: float = 211.0


@dataclass(frozen=True, slots=True)
class Equipment:
    """What makes the house differ from others.

    Attributes:
        rated_w: greatest AC power of the inverter.
        idle_w: what the inverter needs for itself.
        arrays: one per tracker.
        battery: None for a string inverter.
    """

    rated_w: int
    idle_w: int
    arrays: tuple[Array, ...]
    battery: Battery | None = None


EQUIPMENT: Final[dict[HouseKind, Equipment]] = {
    HouseKind.HYBRID: Equipment(
        rated_w=8000,
        idle_w=14,
        arrays=(Array(4500, 470.0, Roof(33, -30)), Array(3600, 400.0, Roof(33, 40))),
        battery=Battery(),
    ),
    HouseKind.STRING: Equipment(
        rated_w=20_000,
        idle_w=2,
        arrays=(Array(6600, 610.0, Roof(18, 0)), Array(6200, 585.0, Roof(18, 0))),
    ),
}
"""The hybrid of a family house; a string inverter on a barn, not fully used."""
