"""Modelled inverters whose past is replayed once in a process, not by each test again.

A year would take seconds of the processor: these houses have stood for a month. A copy of the house that the
replay ended in lives on to the present like the one a test would have made for itself.
"""

from __future__ import annotations

from copy import deepcopy
from datetime import UTC, datetime
from functools import cache
from typing import Final
from zoneinfo import ZoneInfo

from sungrow_lib.simulator.house import House, settled_house
from sungrow_lib.simulator.images import LivingInverter, image_named

_DAYS: Final = 30


def living_inverter(model: str, *, zone: ZoneInfo, seed: int) -> LivingInverter:
    """What `sungrow_lib.living_inverter` makes for this moment, of a house that has stood for a month."""
    return LivingInverter(deepcopy(_settled(model, zone, seed)), image_named(model))


@cache
def _settled(model: str, zone: ZoneInfo, seed: int) -> House:
    kind = image_named(model).kind
    return settled_house(seed, zone, kind=kind, until=datetime.now(UTC), days=_DAYS)
