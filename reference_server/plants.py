"""What the devices of a plant do together; the meter they share counts once."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from reference_server.zones import known_zone, local_day
from sungrow_lib.wire.answers import Device, Realtime
from sungrow_lib.wire.reports import Plant, PlantTotals

_AS_OLD_AS_NOW: Final = timedelta(minutes=15)
"""A value read longer before the latest reading than this says nothing about now."""


def plant_of(name: str, members: Sequence[tuple[Device, Realtime | None]]) -> Plant:
    """Put a plant together from its devices and what they show."""
    fresh = [(device, shown) for device, shown in members if shown is not None and not shown.stale]
    names = {device.device_id for device, _ in fresh}
    return Plant(
        plant=name,
        devices=[device.device_id for device, _ in members],
        left_out=[device.device_id for device, _ in members if device.device_id not in names],
        totals=_totals(fresh),
    )


def _totals(fresh: Sequence[tuple[Device, Realtime]]) -> PlantTotals:
    shown = [reading for _, reading in fresh]
    active = _sum([_now(reading, "active_power_w") for reading in shown])
    export = _of_meter(shown, "export_power_w")
    return PlantTotals(
        pv_power_w=_sum([_now(reading, "pv_power_w") for reading in shown]),
        battery_power_w=_sum([_now(reading, "battery_power_w") for reading in shown]),
        active_power_w=active,
        load_power_w=_load(shown, export),
        export_power_w=export,
        pv_daily_kwh=_sum([_today(device, reading, "pv_daily_kwh") for device, reading in fresh]),
    )


def _load(shown: Sequence[Realtime], export: float | None) -> float | None:
    """Consumption: what one inverter says, or of several their output less what the meter sees leave."""
    if len(shown) == 1:
        return _now(shown[0], "load_power_w")
    outputs = [_now(reading, "active_power_w") for reading in shown]
    if export is None or None in outputs:
        return None
    return _sum([*outputs, -export])


def _of_meter(shown: Sequence[Realtime], field: str) -> float | None:
    """Value of the meter: every inverter that reads it reads the same one; the latest word counts."""
    known = [(reading.ts, value) for reading in shown if (value := _now(reading, field)) is not None]
    return max(known)[1] if known else None


def _sum(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(sum(known), 3) if known else None


def _now(reading: Realtime, field: str) -> float | None:
    value: Any = getattr(reading, field, None)
    read_at = reading.read_at.get(field, reading.ts)
    return value if isinstance(value, int | float) and reading.ts - read_at <= _AS_OLD_AS_NOW else None


def _today(device: Device, reading: Realtime, field: str) -> float | None:
    """A counter of the day, unless it was read yesterday."""
    read_at: datetime = reading.read_at.get(field, reading.ts)
    zone = known_zone(device.timezone or "UTC")
    is_today = zone is not None and local_day(read_at, zone) == local_day(reading.ts, zone)
    return _now(reading, field) if is_today else None
