"""What the landing page shows: counts, and a day of the simulated house."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from sungrow_lib.normalizer import Normalizer
from sungrow_lib.quantities import QUANTITIES, Family
from sungrow_lib.registers.devices import DEVICE_TYPES
from sungrow_lib.registers.map import RegisterMap
from sungrow_lib.simulator.images import living_inverter

_DAY: Final = datetime(2026, 6, 15, tzinfo=UTC)
_STEP: Final = timedelta(minutes=10)
_SHOWN: Final = ("pv_power_w", "load_power_w", "battery_power_w", "export_power_w", "battery_soc_pct")


def data() -> str:
    """Return them as JSON."""
    return json.dumps(
        {
            "registers": sum(len(RegisterMap.for_family(family)) for family in Family),
            "models": len({device.model for device in DEVICE_TYPES}),
            "fields": len(QUANTITIES),
            "day": day(),
        }
    )


def day() -> list[list[float | None]]:
    """Return a summer's day of the simulated hybrid: what the library reads every ten minutes."""
    inverter = living_inverter("SH8.0RT-20", zone=ZoneInfo("UTC"), seed=1, start=_DAY)
    normalizer = Normalizer("house")
    rows: list[list[float | None]] = []
    for step in range(int(timedelta(days=1) / _STEP)):
        moment = _DAY + step * _STEP
        sample = normalizer.normalize(inverter.words_at(moment), ts=moment)
        rows.append([getattr(sample, name) for name in _SHOWN])
    return rows
