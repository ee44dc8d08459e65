"""When a counter's value goes on from the one before, and when it cannot: the rule of edge and server.

A value that cannot is kept as it is, flagged, and no energy is made of the step towards it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from sungrow_lib.quantities.model import Quantity, QuantityKind

LARGEST_KW: Final = 352.0
"""Nominal power of the largest inverter there is: that of a device whose own nobody knows."""

STANDSTILL_S: Final = 900
"""A counter may stand still for so long, behind a dongle that serves an old copy, and then catch up."""

MIDNIGHT_S: Final = 900
"""Around the inverter's midnight, by its own clock, a daily counter may begin anew."""

_HOUR_MS: Final = 3_600_000


class BreakKind(StrEnum):
    """How a counter's value failed to go on from the one before."""

    RAN_BACK = "ran back"
    """It is less: the counter was reset, the inverter replaced, or it shows nonsense for a moment."""
    JUMPED = "jumped"
    """It is more than the device could have counted in the time between."""


def most_steps(quantity: Quantity, elapsed_ms: int, nominal_kw: float | None) -> float:
    """How many resolution steps a counter can rise at most.

    Args:
        quantity: the counter.
        elapsed_ms: time since the value it is compared with.
        nominal_kw: nominal power of the device, None while unknown.
    """
    assert quantity.pace is not None
    pace = quantity.pace
    per_hour = max(pace.times * (nominal_kw or LARGEST_KW), pace.at_least) * quantity.factor
    return per_hour * (elapsed_ms + 1000 * STANDSTILL_S) / _HOUR_MS


def break_of(
    quantity: Quantity, rise: int, elapsed_ms: int, nominal_kw: float | None, *, may_reset: bool
) -> BreakKind | None:
    """Judge a step of a counter: None when it counts.

    Args:
        quantity: the counter.
        rise: resolution steps from the highest recent value if this one is not below it, else from the last.
        elapsed_ms: time since the value it is compared with.
        nominal_kw: nominal power of the device, None while unknown.
        may_reset: whether the inverter's midnight may lie between; it matters to a daily counter only.
    """
    if rise < 0:
        resets = may_reset and quantity.kind is QuantityKind.DAILY_COUNTER
        return None if resets else BreakKind.RAN_BACK
    return BreakKind.JUMPED if rise > most_steps(quantity, elapsed_ms, nominal_kw) else None
