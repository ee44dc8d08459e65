"""`GET /v1/series`: spans of time from the rollups, in the site's zone, gaps shown as gaps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cache, lru_cache
from typing import Any, Final
from zoneinfo import ZoneInfo

from reference_server.rollups import RollupRefresher
from reference_server.storage.database import Database
from reference_server.storage.devices import KnownDevice
from reference_server.storage.rollups import merged_rollups
from reference_server.storage.schema_sql import GAUGES, POWER_OF
from reference_server.zones import (
    FIVE_MINUTES,
    QUARTER,
    Span,
    end_of_quarter,
    hours_of,
    local_day,
    month_of,
    next_month,
    quarter_of,
    start_of_day,
    start_of_step,
    steps,
)
from sungrow_lib.quantities import QUANTITY_BY_NAME
from sungrow_lib.wire import Frame, Series, SeriesBucket

_DAY: Final = timedelta(days=1)
_MS: Final = timedelta(milliseconds=1)
_STEPS: Final = {"5m": FIVE_MINUTES, "15m": QUARTER}
"""Buckets that are the same in every zone."""
_PARTS_AT_ONCE: Final = 288
_MS_PER_KWH: Final = 3_600_000_000  # W x ms
_STANDARD_FIELDS: Final = (
    "avg_pv_power_w",
    "max_pv_power_w",
    "avg_battery_power_w",
    "avg_battery_soc_pct",
    "avg_load_power_w",
    "avg_export_power_w",
)
_ENERGY_FIELDS: Final = (
    "pv_kwh",
    "load_kwh",
    "import_kwh",
    "export_kwh",
    "charge_kwh",
    "discharge_kwh",
    "energy_source",
    "residual_kwh",
    "self_consumption_pct",
    "autarky_pct",
)
GAUGE_FIELDS: Final = frozenset(f"{kind}_{gauge.name}" for kind in ("avg", "min", "max") for gauge in GAUGES)
"""Aggregates of gauges that `fields=` may ask for."""

SERIES_FIELDS: Final = GAUGE_FIELDS | frozenset(_ENERGY_FIELDS)
"""Everything that `fields=` may ask for."""

Facts = Mapping[str, Any]

_MERGED_BY: Final[Mapping[str, Callable[[list[Any]], Any]]] = {"_min": min, "_max": max}
"""By the end of a column's name; all others add."""

COUNTER_OF: Final = {
    "pv": "pv_total_kwh",
    "import": "import_total_kwh",
    "export": "export_total_kwh",
    "charge": "battery_charge_total_kwh",
    "discharge": "battery_discharge_total_kwh",
}
"""Energies that have a counter; it comes first, the integral of power stands in where it is silent."""

_ENERGY_COLUMNS: Final = frozenset(
    {"load_power_w_sum", POWER_OF["pv_total_kwh"]}
    | {f"{counter}_{part}" for counter in COUNTER_OF.values() for part in ("increase", "uncounted")}
)
"""Columns of the rollups that energies are made of."""


@dataclass(frozen=True, slots=True)
class Cut:
    """Time in pieces: the buckets of an answer.

    Attributes:
        zone: whose days and hours.
        spans: the pieces, in order.
        days: when they are whole local days or months, for each its first day and the day after its last.
    """

    zone: ZoneInfo
    spans: list[Span]
    days: list[tuple[date, date]] | None = None


class SeriesReader:
    """Answers series.

    Args:
        database: where the rollups are.
        refresher: brings a device's rollups up to date before they are read.
        retention: how long raw readings are kept.
        clock: tells the time, UTC.
    """

    def __init__(
        self,
        database: Database,
        refresher: RollupRefresher,
        *,
        retention: timedelta,
        clock: Callable[[], datetime],
    ) -> None:
        self._database = database
        self._refresher = refresher
        self._retention = retention
        self._clock = clock

    async def frame(
        self, device: KnownDevice, frame: Frame, at: date | None, fields: Sequence[str] | None
    ) -> Series:
        """Return the buckets of a local day, month or year, or of all time."""
        cut = await self.frame_cut([device], device.zone, frame, at)
        return await self._series(device, frame, cut, fields)

    async def range(
        self, device: KnownDevice, begin: datetime, end: datetime, bucket: str, fields: Sequence[str] | None
    ) -> Series:
        """Return the buckets of any span of time, the first and the last cut to it."""
        return await self._series(device, None, self.range_cut(device.zone, begin, end, bucket), fields)

    async def _series(
        self, device: KnownDevice, frame: Frame | None, cut: Cut, fields: Sequence[str] | None
    ) -> Series:
        found = await self.facts(device, cut, needed_columns(fields))
        now = self._clock()
        buckets = [make_bucket(span, found.get(span.begin, {}), cut.zone, now, fields) for span in cut.spans]
        return Series(device_id=device.device_id, frame=frame, timezone=cut.zone.key, series=buckets)

    async def frame_cut(
        self, devices: Sequence[KnownDevice], zone: ZoneInfo, frame: Frame, at: date | None
    ) -> Cut:
        """Cut a local day into hours, a month into days, a year or all time of some devices into months."""
        now = self._clock()
        day = at or local_day(now, zone)
        if frame is Frame.DAY:
            return Cut(zone, [span for span in hours_of(day, zone) if span.begin <= now])
        days = await self._days(devices, frame, day, local_day(now, zone))
        return Cut(zone, [Span(start_of_day(a, zone), start_of_day(b, zone)) for a, b in days], days)

    def range_cut(self, zone: ZoneInfo, begin: datetime, end: datetime, bucket: str) -> Cut:
        """Cut any span of time, up to now, into buckets.

        What is cut from a quarter of an hour comes from raw readings, and so do buckets of five minutes.
        Behind the retention horizon, where there are none any more, the span is widened to whole quarters.
        """
        now = self._clock()
        begin, end = self._widened(begin, end_of_quarter(now) + QUARTER if end > now + QUARTER else end)
        return Cut(zone, [span for span in spans_of(bucket, begin, end, zone) if span.begin <= now])

    async def facts(self, device: KnownDevice, cut: Cut, columns: frozenset[str]) -> Mapping[datetime, Facts]:
        """What a device's rollups, brought up to date, know of the spans of a cut, by their begin."""
        if cut.days is not None and cut.zone == device.zone:
            return await self._from_days(device, cut.days, columns)
        return await self._from_quarters(device, cut.spans, columns)

    async def _days(
        self, devices: Sequence[KnownDevice], frame: Frame, day: date, today: date
    ) -> list[tuple[date, date]]:
        """Local days or months of a frame up to today, each with the day after its last."""
        if frame is Frame.MONTH:
            month = month_of(day)
            return [(d, d + _DAY) for d in _each_day(month, min(next_month(month), today + _DAY))]
        if frame is Frame.YEAR:
            months = _each_month(date(day.year, 1, 1), min(date(day.year, 12, 31), today))
        else:
            keys = [device.key for device in devices]
            for key in keys:
                await self._refresher.refresh_device(key)
            [(first, _)] = await self._database.rows("day_span", devices=keys)
            months = _each_month(month_of(first or today), today if first else date.min)
        return [(month, next_month(month)) for month in months]

    def _widened(self, begin: datetime, end: datetime) -> tuple[datetime, datetime]:
        """Widen what would cut a quarter of an hour that raw readings may be gone from."""
        horizon = self._clock() - self._retention
        return (
            quarter_of(begin) if quarter_of(begin) < horizon else begin,
            end_of_quarter(end) if quarter_of(end) < horizon else end,
        )

    async def _from_quarters(
        self, device: KnownDevice, spans: Sequence[Span], columns: frozenset[str]
    ) -> Mapping[datetime, Facts]:
        """Read whole quarters of an hour from the rollup, and what is cut from others from the readings."""
        parts = {span.begin: parts_of(span) for span in spans}
        whole = [part for some in parts.values() for part in some if is_whole(part)]
        found = await self._merged(
            "series_from_15m",
            columns,
            device=device.key,
            begins=[span.begin for span in whole],
            ends=[span.end for span in whole],
        )
        cut = [part for some in parts.values() for part in some if not is_whole(part)]
        found |= await self._from_samples(device, cut, columns)
        return {begin: merged_facts(found.get(part.begin) for part in some) for begin, some in parts.items()}

    async def _from_samples(
        self, device: KnownDevice, parts: Sequence[Span], columns: frozenset[str]
    ) -> dict[datetime, dict[str, Any]]:
        """Read a day at a time, so that a month of raw readings never sits in the database's memory."""
        found: dict[datetime, dict[str, Any]] = {}
        for start in range(0, len(parts), _PARTS_AT_ONCE):
            some = parts[start : start + _PARTS_AT_ONCE]
            quarters = [quarter_of(part.begin) for part in some]
            buckets = sorted(set(quarters))
            _, merged = await merged_rollups(
                self._database,
                "series_from_samples",
                columns,
                devices=[device.key] * len(buckets),
                buckets=buckets,
                quarters=quarters,
                begins=[part.begin for part in some],
                ends=[part.end for part in some],
            )
            found |= merged
        return found

    async def _from_days(
        self, device: KnownDevice, days: Sequence[tuple[date, date]], columns: frozenset[str]
    ) -> dict[datetime, Facts]:
        """Read local days, or whole months, that follow each other."""
        if not days:
            return {}
        found = await self._merged(
            "series_from_days",
            columns,
            device=device.key,
            first=days[0][0],
            end=days[-1][1],
            unit="month" if days[0][1] - days[0][0] > _DAY else "day",
        )
        return {start_of_day(begin, device.zone): facts for begin, facts in found.items()}

    async def _merged(
        self, name: str, columns: frozenset[str], *, device: int, **parameters: Any
    ) -> dict[Any, dict[str, Any]]:
        """Read rollups; when marks wait, bring them up to date and read again."""
        is_marked, found = await merged_rollups(self._database, name, columns, device=device, **parameters)
        if is_marked:
            await self._refresher.refresh_device(device)
            _, found = await merged_rollups(self._database, name, columns, device=device, **parameters)
        return found


def spans_of(bucket: str, begin: datetime, end: datetime, zone: ZoneInfo) -> Iterator[Span]:
    """Spans of `5m`, `15m`, `1h`, `1d` or `1M` in the site's zone, cut to ``begin`` and ``end``."""
    if step := _STEPS.get(bucket):
        for span in steps(start_of_step(begin, step), end, step):
            yield Span(max(span.begin, begin), span.end)
        return
    day = local_day(begin, zone)
    if bucket == "1M":
        day = month_of(day)
    while start_of_day(day, zone) < end:
        after = next_month(day) if bucket == "1M" else day + _DAY
        whole = Span(start_of_day(day, zone), start_of_day(after, zone))
        for span in hours_of(day, zone) if bucket == "1h" else (whole,):
            if span.begin < end and span.end > begin:
                yield Span(max(span.begin, begin), min(span.end, end))
        day = after


def parts_of(span: Span) -> list[Span]:
    """Whole quarters of an hour of a span, and what is cut from others at its ends."""
    first, last = end_of_quarter(span.begin), quarter_of(span.end)
    if first > last:
        return [span]
    parts = Span(span.begin, first), Span(first, last), Span(last, span.end)
    return [part for part in parts if part.begin < part.end]


def is_whole(part: Span) -> bool:
    """Whether a part is made of whole quarters of an hour."""
    return part.begin == quarter_of(part.begin) and part.end == quarter_of(part.end)


def merged_facts(parts: Iterable[Facts | None]) -> Facts:
    """What parts of a span say together; None for one without readings."""
    known = [part for part in parts if part]
    if len(known) <= 1:
        return known[0] if known else {}
    values = {name: [part[name] for part in known if part[name] is not None] for name in known[0]}
    return {name: _MERGED_BY.get(name[-4:], sum)(some) for name, some in values.items() if some}


def _each_day(first: date, end: date) -> Iterator[date]:
    while first < end:
        yield first
        first += _DAY


def _each_month(first: date, last: date) -> Iterator[date]:
    while first <= last:
        yield first
        first = next_month(first)


def make_bucket(
    span: Span, facts: Facts, zone: ZoneInfo, now: datetime, fields: Sequence[str] | None = None
) -> SeriesBucket:
    """One bucket of an answer from the facts of a rollup; without facts all is unknown and uncovered."""
    gauges = _STANDARD_FIELDS if fields is None else [field for field in fields if field in GAUGE_FIELDS]
    values: dict[str, Any] = {name: _gauge(facts, name) for name in gauges}
    energies = _energies(facts)
    values |= energies if fields is None else {name: energies[name] for name in fields if name in energies}
    elapsed = max(min(span.end, now) - span.begin, _MS)
    return SeriesBucket.model_construct(
        _fields_set={"bucket", *values, "sample_count", "coverage", "partial"},
        bucket=span.begin.astimezone(zone).isoformat(),
        **values,
        sample_count=facts.get("sample_count", 0),
        coverage=round(min(1.0, facts.get("covered_ms", 0) * _MS / elapsed), 4),
        partial=span.end > now,
    )


def needed_columns(fields: Sequence[str] | None) -> frozenset[str]:
    """Columns of the rollups that these fields are made of: reading all takes much longer."""
    return _needed_columns(None if fields is None else tuple(fields))


@lru_cache(maxsize=256)
def _needed_columns(fields: tuple[str, ...] | None) -> frozenset[str]:
    chosen = (*_STANDARD_FIELDS, *_ENERGY_FIELDS) if fields is None else fields
    needed = {"sample_count", "covered_ms"}
    for field in chosen:
        kind, _, name = field.partition("_")
        if field not in GAUGE_FIELDS:
            needed |= _ENERGY_COLUMNS
        elif kind == "avg":
            needed |= {f"{name}_sum", f"{name}_ms"}
        else:
            needed.add(f"{name}_{kind}")
    return frozenset(needed)


@cache
def _gauge_columns(field: str) -> tuple[str, str | None, int]:
    """Column of a gauge's aggregate, the one it is divided by if any, and the gauge's steps."""
    kind, _, name = field.partition("_")
    factor = QUANTITY_BY_NAME[name].factor
    return (f"{name}_sum", f"{name}_ms", factor) if kind == "avg" else (f"{name}_{kind}", None, factor)


def _gauge(facts: Facts, field: str) -> float | None:
    column, divisor, factor = _gauge_columns(field)
    value: int | None = facts.get(column)
    if value is None:
        return None
    if divisor is None:
        return value / factor
    time_ms: int | None = facts.get(divisor)
    return round(value / time_ms / factor, 3) if time_ms else None


def _energies(facts: Facts) -> dict[str, Any]:
    found = {name: energy_of(facts, counter) for name, counter in COUNTER_OF.items()}
    load = kwh_of(facts.get("load_power_w_sum"))
    found["load"] = (load, None if load is None else "integral")
    return balance_of(found, kwh_of(facts.get(POWER_OF["pv_total_kwh"])))


def balance_of(
    found: Mapping[str, tuple[float | None, str | None]], integral: float | None
) -> dict[str, Any]:
    """Energies of a bucket, and what follows from them.

    Args:
        found: energy in kWh and where it comes from, by name.
        integral: energy of the sun by its power, in kWh.
    """
    values = {f"{name}_kwh": value for name, (value, _) in found.items()}
    sources = {name: source for name, (_, source) in found.items()}
    pv = values["pv_kwh"]
    return {
        **values,
        "energy_source": sources if any(sources.values()) else None,
        "residual_kwh": _residual(pv, integral) if sources["pv"] == "counter" else None,
        "self_consumption_pct": _share(pv, values["export_kwh"]),
        "autarky_pct": _share(values["load_kwh"], values["import_kwh"]),
    }


def _residual(counted: float | None, integral: float | None) -> float | None:
    return None if counted is None or integral is None else round(counted - integral, 3)


@cache
def _counter_columns(counter: str) -> tuple[str, str, int]:
    return f"{counter}_increase", f"{counter}_uncounted", QUANTITY_BY_NAME[counter].factor


def energy_of(facts: Facts, counter: str) -> tuple[float | None, str | None]:
    """Energy in kWh and where it comes from: the counter, the integral of power, or both in turn."""
    increased, left_out, factor = _counter_columns(counter)
    increase: int | None = facts.get(increased)
    uncounted = kwh_of(facts.get(left_out))
    if increase is None:
        return uncounted, None if uncounted is None else "integral"
    counted = increase / factor
    if uncounted is None:
        return counted, "counter"
    return round(counted + uncounted, 3), "mixed"


def kwh_of(integral: int | None) -> float | None:
    """Energy in kWh of power times time, in W x ms; of power that flows back, too."""
    return None if integral is None else round(abs(integral) / _MS_PER_KWH, 3)


def _share(whole: float | None, less: float | None) -> float | None:
    """Return the share of ``whole`` that is left without ``less``, in percent."""
    if whole is None or less is None or whole <= 0:
        return None
    return round(min(100.0, max(0.0, 100 * (whole - less) / whole)), 2)
