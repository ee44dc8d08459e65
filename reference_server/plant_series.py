"""`GET /v1/plants/series`: what the devices of a plant did together; the meter they share counts once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
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
from reference_server.lives import Life
from reference_server.meters import Meter
from reference_server.series import Cut, SeriesReader, merged_facts
from reference_server.sheets import Sheet
from reference_server.storage.devices import KnownDevice
from reference_server.storage.schema_sql import POWER_OF
from reference_server.together import COLUMNS, Roles, Together, TogetherReader
from reference_server.witnesses import MeterReader
from reference_server.zones import Span, known_zone, local_day, start_of_day
from sungrow_lib.quantities import QUANTITY_BY_NAME
from sungrow_lib.wire.answers import Frame
from sungrow_lib.wire.buckets import PLANT_COLUMNS

_MS: Final = timedelta(milliseconds=1)
_AT_ONCE: Final = 3
"""So many devices of a plant are read at the same time: fewer than readers have connections."""
_ADDED: Final = ("pv", "charge", "discharge")
_METERED: Final = ("import", "export")
_COLUMNS: Final = needed_columns(None) | COLUMNS
_PV, _BATTERY, _SOC, _LOAD, _EXPORT = (
    QUANTITY_BY_NAME[name].factor
    for name in ("pv_power_w", "battery_power_w", "battery_soc_pct", "load_power_w", "export_power_w")
)


class PlantSeriesReader:
    """Answers series of plants.

    Args:
        series: reads what each device did.
        together: finds out what they did at the same time.
        meters: finds out whose word on the meter counts.
        clock: tells the time, UTC.
    """

    def __init__(
        self,
        series: SeriesReader,
        together: TogetherReader,
        meters: MeterReader,
        *,
        clock: Callable[[], datetime],
    ) -> None:
        self._series = series
        self._together = together
        self._meter_reader = meters
        self._clock = clock

    @property
    def keeps(self) -> bool:
        """Whether what was last to be kept is."""
        return self._together.keeps

    async def frame(self, plant: str, devices: Sequence[KnownDevice], frame: Frame, at: date | None) -> Sheet:
        """Return the buckets of a local day, month or year, or of all time."""
        cut = await self._series.frame_cut(devices, zone_of(devices), frame, at)
        return self._sheet(plant, devices, frame, [cut])

    async def range(
        self, plant: str, devices: Sequence[KnownDevice], begin: datetime, end: datetime, bucket: str
    ) -> Sheet:
        """Return the buckets of any span of time, the first and the last cut to it."""
        cuts = await self._series.range_cuts(zone_of(devices), begin, end, bucket)
        return self._sheet(plant, devices, None, cuts)

    def _sheet(
        self, plant: str, devices: Sequence[KnownDevice], frame: Frame | None, cuts: Iterable[Cut]
    ) -> Sheet:
        zone = zone_of(devices).key
        names = [device.device_id for device in devices]
        head = {"plant": plant, "devices": names, "frame": frame, "timezone": zone}
        return Sheet(head, zone, PLANT_COLUMNS, self._pages(devices, cuts))

    async def _pages(
        self, devices: Sequence[KnownDevice], cuts: Iterable[Cut]
    ) -> AsyncIterator[list[dict[str, Any]]]:
        meter: Meter | None = None
        lives: Sequence[Life] = ()
        for cut in cuts:
            if not cut.spans:
                continue
            found = await self._facts(devices, cut, _COLUMNS)
            if meter is None:  # what was just read is up to date
                lives = await self._together.lives(devices)
                meter = await self._meter_reader.meter(lives, cut.zone)
            roles = Roles.of(lives, _words(cut, meter, lives))
            powers = await self._together.of(devices, cut, found, roles)
            meters = await self._meters(devices, cut, found, meter)
            now = self._clock()
            buckets = []
            for span in cut.spans:
                here = {name: facts.get(span.begin, {}) for name, facts in found.items()}
                heard = [facts for facts in here.values() if facts.get("sample_count")]
                buckets.append(
                    {"bucket": label(span.begin, cut.zone)}
                    | _powers(powers[span.begin])
                    | _energies(heard, meters[span.begin], powers[span.begin])
                    | _cover(span, here, lives, now)
                )
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
            [(_, names), *others] = meter.changes(*_days_of(span, cut.zone))
            if not others:
                meters[span.begin] = _told(names, found, span)
            else:
                meters[span.begin] = await self._day_by_day(devices, span, cut.zone, meter)
        return meters

    async def _day_by_day(
        self, devices: Sequence[KnownDevice], span: Span, zone: ZoneInfo, meter: Meter
    ) -> Facts:
        """What is known of the meter in a span of days that go by different devices."""
        days: list[Facts] = []
        for cut in await self._series.range_cuts(zone, span.begin, span.end, "1d"):
            found = await self._facts(devices, cut, _COLUMNS)
            days += [_told(meter.of(local_day(day.begin, zone)), found, day) for day in cut.spans]
        return merged_facts(days)


def _told(names: Iterable[str], found: Mapping[str, Mapping[datetime, Facts]], span: Span) -> Facts:
    """What is known of the meter by the words of devices that followed each other."""
    return merged_facts(found[name].get(span.begin) for name in names)


def _days_of(span: Span, zone: ZoneInfo) -> tuple[date, date]:
    """The first and the last local day that a span touches."""
    return local_day(span.begin, zone), local_day(span.end - _MS, zone)


def zone_of(devices: Iterable[KnownDevice]) -> ZoneInfo:
    """Zone of a plant: that of its first device that has one, deleted ones last; UTC while none has."""
    zones = (known_zone(device.timezone) for device in sorted(devices, key=lambda device: device.deleted))
    return next((zone for zone in zones if zone is not None), ZoneInfo("UTC"))


def _words(cut: Cut, meter: Meter, lives: Sequence[Life]) -> list[tuple[datetime, int]]:
    """From when on whose word counts, in the days of a cut."""
    by_name = {life.device.device_id: life for life in lives}
    changes: list[tuple[datetime, int]] = []
    for day, names in meter.changes(*_days_of(Span(cut.spans[0].begin, cut.spans[-1].end), cut.zone)):
        midnight = start_of_day(day, cut.zone)
        for name in names:  # in the order in which they followed each other
            life = by_name[name]
            if not changes or changes[-1][1] != life.device.key:
                begin = midnight if life.begin is None or not changes else max(midnight, life.begin)
                changes.append((begin, life.device.key))
    return changes


def _powers(known: Together) -> dict[str, float | None]:
    return {
        "avg_pv_power_w": average(known.pv, known.pv_ms, _PV),
        "avg_battery_power_w": average(known.battery, known.battery_ms, _BATTERY),
        "avg_battery_soc_pct": average(known.soc, known.soc_ms, _SOC),
        "avg_load_power_w": average(known.load, known.load_ms, _LOAD),
        "avg_export_power_w": average(known.export, known.export_ms, _EXPORT),
    }


def _energies(heard: Sequence[Facts], meter: Facts, known: Together) -> dict[str, Any]:
    pv, charged, discharged = (
        _added([energy_of(facts, COUNTER_OF[name]) for facts in heard]) for name in _ADDED
    )
    imported, exported = (energy_of(meter, COUNTER_OF[name]) for name in _METERED)
    integrals = [wh_of(facts.get(POWER_OF["pv_total_kwh"])) for facts in heard]
    parts = [integral for integral in integrals if integral is not None]
    load = wh_of(known.load)
    balance = balance_of(
        pv,
        (load, None if load is None else "integral"),
        imported,
        exported,
        charged,
        discharged,
        sum(parts) if parts else None,
    )
    return dict(zip(ENERGIES, balance, strict=True))


def _added(energies: Iterable[Energy]) -> Energy:
    known = [(value, source) for value, source in energies if value is not None]
    sources = {source for _, source in known}
    if not known:
        return None, None
    return sum(value for value, _ in known), sources.pop() if len(sources) == 1 else "mixed"


def _cover(span: Span, devices: Mapping[str, Facts], lives: Sequence[Life], now: datetime) -> dict[str, Any]:
    """How much of their time the devices were heard, and which of them not at all."""
    end = min(span.end, now)
    elapsed = {life.device.device_id: life.time_in(span.begin, end) // _MS for life in lives}
    counts = {name: facts.get("sample_count") or 0 for name, facts in devices.items()}
    covered_ms = sum(facts.get("covered_ms") or 0 for facts in devices.values())
    return {
        "sample_count": sum(counts.values()),
        "coverage": coverage(covered_ms, sum(elapsed.values())),
        "partial": span.end > now,
        "left_out": [name for name, count in counts.items() if not count and elapsed[name]],
    }
