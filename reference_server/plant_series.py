"""`GET /v1/plants/series`: what the devices of a plant did together; the meter they share counts once."""

from __future__ import annotations

import asyncio
from bisect import bisect_left, bisect_right
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from reference_server.buckets import (
    COUNTER_OF,
    Balance,
    Energy,
    Facts,
    PlantBucket,
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
from reference_server.plant_memory import Origins, PlantMemory
from reference_server.series import Cut, SeriesReader, merged_facts, named
from reference_server.sheets import Page, Sheet
from reference_server.storage.devices import KnownDevice
from reference_server.storage.rollups import Told
from reference_server.storage.schema_sql import POWER_OF
from reference_server.together import COLUMNS, Roles, Together, TogetherReader, is_remembered
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
_Found = Mapping[str, Mapping[datetime, Facts]]
_Number = float | None
_Powers = tuple[_Number, _Number, _Number, _Number, _Number]
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
        self._memory = PlantMemory()

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

    async def _pages(self, devices: Sequence[KnownDevice], cuts: Iterable[Cut]) -> AsyncIterator[Page]:
        meter: Meter | None = None
        lives: Sequence[Life] = ()
        for cut in cuts:
            if not cut.spans:
                continue
            told = await self._told(devices, cut)
            if meter is None:  # what was just read is up to date
                lives = await self._together.lives(devices)
                meter = await self._meter_reader.meter(lives, cut.zone)
            runs = _Runs(meter, cut)
            roles = Roles.of(lives, _words(runs, lives))
            plant = await self._together.plant(devices, cut)
            yield await self._page(_Read(devices, cut, told, lives, runs, roles, plant))

    async def _page(self, read: _Read) -> Page:
        """Make those buckets of a cut that are not remembered."""
        now = self._clock()
        spans, plant = read.cut.spans, read.plant
        if plant is None:
            made, _ = await self._made(read, spans, now)
            return list(made.values())
        origins = Origins(read.told, read.lives, read.roles, read.cut.zone)
        digests = {
            span.begin: origins.digest(span, told[0])
            for span in spans
            if span.end <= now and is_remembered(span) and len(told := read.runs.of(span)) == 1
        }
        known = {
            span.begin: bucket
            for span in spans
            if (digest := digests.get(span.begin)) and (bucket := self._memory.find(plant, span, digest))
        }
        others = [span for span in spans if span.begin not in known]
        made, waiting = await self._made(read, others, now)
        known |= made
        for span in others:
            if span.begin in digests and span.begin not in waiting:
                self._memory.remember(plant, span, digests[span.begin], known[span.begin])
        return [known[span.begin] for span in spans]

    async def _made(
        self, read: _Read, spans: Sequence[Span], now: datetime
    ) -> tuple[dict[datetime, PlantBucket], set[datetime]]:
        """Make the buckets of some spans of a cut, in order; and say of which something is yet to be kept."""
        found = _facts(read.devices, read.told, spans)
        powers, waiting = await self._together.of(
            read.plant, read.devices, read.cut, spans, found, read.roles
        )
        made = {}
        for span in spans:
            here = {name: facts.get(span.begin, {}) for name, facts in found.items()}
            heard = [facts for facts in here.values() if facts.get("sample_count")]
            together = powers[span.begin]
            meter = await self._meter_in(span, read, found)
            told = (
                *_powers(together),
                *_energies(heard, meter, together),
                *_cover(span, here, read.lives, now),
            )
            made[span.begin] = PlantBucket(label(span.begin, read.cut.zone), *told)
        return made, waiting

    async def _told(self, devices: Sequence[KnownDevice], cut: Cut) -> list[Told]:
        """Read a few devices at a time: the database has more than one core, and others want it, too."""
        told: list[Told] = []
        for start in range(0, len(devices), _AT_ONCE):
            some = devices[start : start + _AT_ONCE]
            told += await asyncio.gather(*(self._series.told(device, cut, _COLUMNS) for device in some))
        return told

    async def _meter_in(self, span: Span, read: _Read, found: _Found) -> Facts:
        """What is known of the meter in a span: of whole local days what one device says for each."""
        [names, *others] = read.runs.of(span)
        if not others:
            return _told(names, found, span)
        days: list[Facts] = []
        for cut in await self._series.range_cuts(read.cut.zone, span.begin, span.end, "1d"):
            runs = _Runs(read.runs.meter, cut)
            found = _facts(read.devices, await self._told(read.devices, cut), cut.spans)
            days += [_told(runs.of(day)[0], found, day) for day in cut.spans]
        return merged_facts(days)


class _Runs:
    """Whose word on the meter counts from when on, in a cut.

    Args:
        meter: tells it of local days.
        cut: the time.
    """

    def __init__(self, meter: Meter, cut: Cut) -> None:
        self.meter = meter
        first, last = local_day(cut.spans[0].begin, cut.zone), local_day(cut.spans[-1].end - _MS, cut.zone)
        changes = meter.changes(first, last)
        self.begins = [start_of_day(day, cut.zone) for day, _ in changes]
        self.names = [names for _, names in changes]

    def of(self, span: Span) -> list[tuple[str, ...]]:
        """Names of the devices whose word counts in a span, one after the other."""
        first, end = bisect_right(self.begins, span.begin), bisect_left(self.begins, span.end)
        return self.names[first - 1 : end]


class _Read(NamedTuple):
    """What was read to make the buckets of a cut.

    Attributes:
        devices: of a plant.
        cut: the time.
        told: what each device's rollups say.
        lives: when each of them was there.
        runs: whose word on the meter counts.
        roles: who tells what.
        plant: name of the devices in a memory; None when nothing can be remembered.
    """

    devices: Sequence[KnownDevice]
    cut: Cut
    told: Sequence[Told]
    lives: Sequence[Life]
    runs: _Runs
    roles: Roles
    plant: bytes | None


def _facts(devices: Sequence[KnownDevice], told: Sequence[Told], spans: Sequence[Span]) -> _Found:
    """What each device's rollups say of some spans, by its name and their begin."""
    begins = [span.begin for span in spans]
    return {
        device.device_id: named((names, {begin: found[begin] for begin in begins if begin in found}))
        for device, (names, found) in zip(devices, told, strict=True)
    }


def _told(names: Iterable[str], found: _Found, span: Span) -> Facts:
    """What is known of the meter by the words of devices that followed each other."""
    return merged_facts(found[name].get(span.begin) for name in names)


def zone_of(devices: Iterable[KnownDevice]) -> ZoneInfo:
    """Zone of a plant: that of its first device that has one, deleted ones last; UTC while none has."""
    zones = (known_zone(device.timezone) for device in sorted(devices, key=lambda device: device.deleted))
    return next((zone for zone in zones if zone is not None), ZoneInfo("UTC"))


def _words(runs: _Runs, lives: Sequence[Life]) -> list[tuple[datetime, int]]:
    """From when on whose word counts."""
    by_name = {life.device.device_id: life for life in lives}
    changes: list[tuple[datetime, int]] = []
    for midnight, names in zip(runs.begins, runs.names, strict=True):
        for name in names:  # in the order in which they followed each other
            life = by_name[name]
            if not changes or changes[-1][1] != life.device.key:
                begin = midnight if life.begin is None or not changes else max(midnight, life.begin)
                changes.append((begin, life.device.key))
    return changes


def _powers(known: Together) -> _Powers:
    return (
        average(known.pv, known.pv_ms, _PV),
        average(known.battery, known.battery_ms, _BATTERY),
        average(known.soc, known.soc_ms, _SOC),
        average(known.load, known.load_ms, _LOAD),
        average(known.export, known.export_ms, _EXPORT),
    )


def _energies(heard: Sequence[Facts], meter: Facts, known: Together) -> Balance:
    pv, charged, discharged = (
        _added([energy_of(facts, COUNTER_OF[name]) for facts in heard]) for name in _ADDED
    )
    imported, exported = (energy_of(meter, COUNTER_OF[name]) for name in _METERED)
    integrals = [wh_of(facts.get(POWER_OF["pv_total_kwh"])) for facts in heard]
    parts = [integral for integral in integrals if integral is not None]
    load = wh_of(known.load)
    return balance_of(
        pv,
        (load, None if load is None else "integral"),
        imported,
        exported,
        charged,
        discharged,
        sum(parts) if parts else None,
    )


def _added(energies: Iterable[Energy]) -> Energy:
    known = [(value, source) for value, source in energies if value is not None]
    sources = {source for _, source in known}
    if not known:
        return None, None
    return sum(value for value, _ in known), sources.pop() if len(sources) == 1 else "mixed"


def _cover(
    span: Span, devices: Mapping[str, Facts], lives: Sequence[Life], now: datetime
) -> tuple[int, float, bool, list[str]]:
    """How much of their time the devices were heard, and which of them not at all."""
    end = min(span.end, now)
    elapsed = {life.device.device_id: life.time_in(span.begin, end) // _MS for life in lives}
    counts = {name: facts.get("sample_count") or 0 for name, facts in devices.items()}
    covered_ms = sum(facts.get("covered_ms") or 0 for facts in devices.values())
    return (
        sum(counts.values()),
        coverage(covered_ms, sum(elapsed.values())),
        span.end > now,
        [name for name, count in counts.items() if not count and elapsed[name]],
    )
