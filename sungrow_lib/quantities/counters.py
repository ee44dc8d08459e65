"""When a counter's value goes on from the one before, and when it cannot: the rule of edge and server.

A value that cannot is kept as it is, flagged, and no energy is made of the step towards it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from sungrow_lib.quantities.model import Quantity, QuantityKind

LARGEST_KW: Final = 352.0
"""Nominal power of the largest inverter there is: that of a device whose own nobody knows."""

FROM_ZERO_KW: Final = 15.0
"""The same for a lifetime counter that rises from 0. Mostly it showed nonsense and is itself again:
a young one holds no more than the largest inverter might have made since. The price: what a large new device
of unknown power makes, unread, between its 0 and its next value is no energy, once."""

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


def most_steps(
    quantity: Quantity, elapsed_ms: int, nominal_kw: float | None, *, is_from_zero: bool = False
) -> float:
    """How many resolution steps a counter can rise at most.

    Args:
        quantity: the counter.
        elapsed_ms: time since the value it is compared with.
        nominal_kw: nominal power of the device, None while unknown.
        is_from_zero: whether the value it is compared with is 0; it matters to a lifetime counter only.
    """
    assert quantity.pace is not None
    pace = quantity.pace
    is_young = is_from_zero and quantity.kind is QuantityKind.COUNTER
    kw = nominal_kw or (FROM_ZERO_KW if is_young else LARGEST_KW)
    per_hour = max(pace.times * kw, pace.at_least) * quantity.factor
    return per_hour * (elapsed_ms + 1000 * STANDSTILL_S) / _HOUR_MS


def break_of(
    quantity: Quantity, now: int, compared: int, elapsed_ms: int, nominal_kw: float | None, *, may_reset: bool
) -> BreakKind | None:
    """Judge a step of a counter: None when it counts.

    Args:
        quantity: the counter.
        now: its value, in resolution steps.
        compared: the highest recent value if this one is not below it, else the last.
        elapsed_ms: time since the value it is compared with.
        nominal_kw: nominal power of the device, None while unknown.
        may_reset: whether the inverter's midnight may lie between; it matters to a daily counter only.
    """
    rise = now - compared
    if rise < 0:
        resets = may_reset and quantity.kind is QuantityKind.DAILY_COUNTER
        return None if resets else BreakKind.RAN_BACK
    most = most_steps(quantity, elapsed_ms, nominal_kw, is_from_zero=not compared)
    return BreakKind.JUMPED if rise > most else None
