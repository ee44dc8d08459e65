"""`GET /v1/plants/series`: what the devices of a plant did together; the meter they share counts once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from reference_server.buckets import (
    COUNTER_OF,
    ENERGIES,
    Energy,
    Facts,
    average,
    balance_of,
    coverage,
    energy_of,
    label,
    needed_columns,
    wh_of,
)
from reference_server.meters import Meter
from reference_server.series import Cut, SeriesReader, merged_facts
from reference_server.sheets import Sheet
from reference_server.storage.devices import KnownDevice
from reference_server.storage.schema_sql import POWER_OF
from reference_server.zones import Span, known_zone, local_day
from sungrow_lib.quantities import QUANTITY_BY_NAME
from sungrow_lib.wire import Frame

_MS: Final = timedelta(milliseconds=1)
_DAY: Final = timedelta(days=1)
_AT_ONCE: Final = 3
"""So many devices of a plant are read at the same time: fewer than readers have connections."""
_ADDED: Final = ("pv", "charge", "discharge")
_METERED: Final = ("import", "export")
_AVERAGED: Final = (
    *("pv_power_w", "battery_power_w", "battery_soc_pct", "load_power_w"),
    *("export_power_w", "active_power_w"),
)
_PARTS: Final = {name: (f"{name}_sum", f"{name}_ms", QUANTITY_BY_NAME[name].factor) for name in _AVERAGED}
"""What an average is made of: looked up for each of thousands of buckets."""
_COLUMNS: Final = needed_columns(None) | {"active_power_w_sum", "active_power_w_ms"}


class PlantSeriesReader:
    """Answers series of plants.

    Args:
        series: reads what each device did.
        clock: tells the time, UTC.
    """

    def __init__(self, series: SeriesReader, *, clock: Callable[[], datetime]) -> None:
        self._series = series
        self._clock = clock

    async def frame(self, plant: str, devices: Sequence[KnownDevice], frame: Frame, at: date | None) -> Sheet:
        """Return the buckets of a local day, month or year, or of all time."""
        cut = await self._series.frame_cut(devices, zone_of(devices), frame, at)
        return self._sheet(plant, devices, frame, [cut])

    def range(
        self, plant: str, devices: Sequence[KnownDevice], begin: datetime, end: datetime, bucket: str
    ) -> Sheet:
        """Return the buckets of any span of time, the first and the last cut to it."""
        return self._sheet(
            plant, devices, None, self._series.range_cuts(zone_of(devices), begin, end, bucket)
        )

    def _sheet(
        self, plant: str, devices: Sequence[KnownDevice], frame: Frame | None, cuts: Iterable[Cut]
    ) -> Sheet:
        zone = zone_of(devices).key
        names = [device.device_id for device in devices]
        head = {"plant": plant, "devices": names, "frame": frame, "timezone": zone}
        return Sheet(head, zone, self._pages(devices, cuts))

    async def _pages(
        self, devices: Sequence[KnownDevice], cuts: Iterable[Cut]
    ) -> AsyncIterator[list[dict[str, Any]]]:
        meter: Meter | None = None
        for cut in cuts:
            if not cut.spans:
                continue
            found = await self._facts(devices, cut, _COLUMNS)
            meter = meter or await self._series.meter(devices, cut.zone)  # what was just read is up to date
            meters = await self._meters(devices, cut, found, meter)
            now = self._clock()
            buckets = []
            for span in cut.spans:
                here = {name: facts.get(span.begin, {}) for name, facts in found.items()}
                buckets.append(plant_bucket(span, here, meters[span.begin], cut.zone, now))
            yield buckets

    async def _facts(
        self, devices: Sequence[KnownDevice], cut: Cut, columns: frozenset[str]
    ) -> dict[str, Mapping[datetime, Facts]]:
        """Read a few devices at a time: the database has more than one core, and others want it, too."""
        found: dict[str, Mapping[datetime, Facts]] = {}
        for start in range(0, len(devices), _AT_ONCE):
            some = devices[start : start + _AT_ONCE]
            read = await asyncio.gather(*(self._series.facts(device, cut, columns) for device in some))
            found |= zip((device.device_id for device in some), read, strict=True)
        return found

    async def _meters(
        self,
        devices: Sequence[KnownDevice],
        cut: Cut,
        found: Mapping[str, Mapping[datetime, Facts]],
        meter: Meter,
    ) -> dict[datetime, Facts]:
        """What is known of the meter in each bucket of a cut: what one device says for a whole local day."""
        meters = {}
        for span in cut.spans:
            names = {meter.of(day) for day in _days_in(span, cut.zone)}
            if len(names) == 1:
                meters[span.begin] = found[names.pop()].get(span.begin, {})
            else:
                meters[span.begin] = await self._day_by_day(devices, span, cut.zone, meter)
        return meters

    async def _day_by_day(
        self, devices: Sequence[KnownDevice], span: Span, zone: ZoneInfo, meter: Meter
    ) -> Facts:
        """What is known of the meter in a span of days that go by different devices."""
        days: list[Facts] = []
        for cut in self._series.range_cuts(zone, span.begin, span.end, "1d"):
            found = await self._facts(devices, cut, _COLUMNS)
            days += [found[meter.of(local_day(day.begin, zone))].get(day.begin, {}) for day in cut.spans]
        return merged_facts(days)


def _days_in(span: Span, zone: ZoneInfo) -> Iterator[date]:
    """Local days that a span touches."""
    day, last = local_day(span.begin, zone), local_day(span.end - _MS, zone)
    while day <= last:
        yield day
        day += _DAY


def zone_of(devices: Iterable[KnownDevice]) -> ZoneInfo:
    """Zone of a plant: that of its first device that has one; UTC while none has."""
    zones = (known_zone(device.timezone) for device in devices)
    return next((zone for zone in zones if zone is not None), ZoneInfo("UTC"))


def plant_bucket(
    span: Span, devices: Mapping[str, Facts], meter: Facts, zone: ZoneInfo, now: datetime
) -> dict[str, Any]:
    """One bucket of a plant from what its devices know of it, and what is known of the meter."""
    known = {name: facts for name, facts in devices.items() if facts.get("sample_count")}
    heard = list(known.values())
    seen = _seen(meter, heard)
    elapsed_ms = (min(span.end, now) - span.begin) // _MS * len(devices)
    return {
        "bucket": label(span.begin, zone),
        **_powers(heard, seen),
        **_energies(heard, meter, seen),
        "sample_count": sum(facts["sample_count"] for facts in heard),
        "coverage": coverage(sum(facts.get("covered_ms", 0) for facts in heard), elapsed_ms),
        "partial": span.end > now,
        "left_out": [name for name in devices if name not in known],
    }


def _seen(meter: Facts, heard: Sequence[Facts]) -> Facts:
    """Who tells the meter's power: who tells its energy, or where that one is silent, who knows most of it.

    A power belongs to its own time: to take it from another one counts nothing twice.
    """
    if meter.get("export_power_w_ms") or not heard:
        return meter
    return max(heard, key=lambda facts: facts.get("export_power_w_ms") or 0)


def _powers(heard: Sequence[Facts], meter: Facts) -> dict[str, float | None]:
    socs = [soc for facts in heard if (soc := _average([facts], "battery_soc_pct")) is not None]
    return {
        "avg_pv_power_w": _average(heard, "pv_power_w"),
        "avg_battery_power_w": _average(heard, "battery_power_w"),
        "avg_battery_soc_pct": socs[0] if len(socs) == 1 else None,  # how large several are nobody knows
        "avg_load_power_w": _load(heard, meter),
        "avg_export_power_w": _average([meter], "export_power_w"),
    }


def _average(heard: Sequence[Facts], name: str) -> float | None:
    """What devices did together, over the time of the one that was heard longest.

    An inverter that sleeps at night adds nothing to it; so the average times its time is the energy.
    """
    name_of_sum, name_of_ms, factor = _PARTS[name]
    total = longest_ms = 0
    for facts in heard:
        known_ms = facts.get(name_of_ms)
        if known_ms:
            total += facts[name_of_sum]
            longest_ms = max(longest_ms, known_ms)
    return average(total, longest_ms, factor) if longest_ms else None


def _load(heard: Sequence[Facts], meter: Facts) -> float | None:
    """Consumption: what one inverter says, or of several their output less what the meter sees leave."""
    if len(heard) == 1:
        return _average(heard, "load_power_w")
    export = _average([meter], "export_power_w")
    output = _average(heard, "active_power_w")
    if export is None or output is None or not all(facts.get("active_power_w_ms") for facts in heard):
        return None
    return round(max(0.0, output - export), 3)


def _energies(heard: Sequence[Facts], meter: Facts, seen: Facts) -> dict[str, Any]:
    pv, charged, discharged = (
        _added([energy_of(facts, COUNTER_OF[name]) for facts in heard]) for name in _ADDED
    )
    imported, exported = (energy_of(meter, COUNTER_OF[name]) for name in _METERED)
    integrals = [wh_of(facts.get(POWER_OF["pv_total_kwh"])) for facts in heard]
    known = [integral for integral in integrals if integral is not None]
    balance = balance_of(
        pv,
        _load_energy(heard, seen),
        imported,
        exported,
        charged,
        discharged,
        sum(known) if known else None,
    )
    return dict(zip(ENERGIES, balance, strict=True))


def _added(energies: Iterable[Energy]) -> Energy:
    known = [(value, source) for value, source in energies if value is not None]
    sources = {source for _, source in known}
    if not known:
        return None, None
    return sum(value for value, _ in known), sources.pop() if len(sources) == 1 else "mixed"


def _load_energy(heard: Sequence[Facts], meter: Facts) -> Energy:
    power = _load(heard, meter)
    name = "load_power_w_ms" if len(heard) == 1 else "active_power_w_ms"
    if power is None:
        return None, None
    return wh_of(round(power * max(facts[name] for facts in heard))), "integral"
