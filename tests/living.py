"""Modelled inverters whose year of history is replayed once in a process, not by each test again.

The replay takes seconds of the processor. A copy of the house it ended in lives on to the present like the
one a test would have made for itself.
"""

from __future__ import annotations

from copy import deepcopy
from datetime import UTC, datetime
from functools import cache
from zoneinfo import ZoneInfo

from sungrow_lib.simulator.house import House, settled_house
from sungrow_lib.simulator.images import LivingInverter, image_named


def living_inverter(model: str, *, zone: ZoneInfo, seed: int) -> LivingInverter:
    """What `sungrow_lib.living_inverter` makes for this moment."""
    return LivingInverter(deepcopy(_settled(model, zone, seed)), image_named(model))


@cache
def _settled(model: str, zone: ZoneInfo, seed: int) -> House:
    return settled_house(seed, zone, kind=image_named(model).kind, until=datetime.now(UTC))
