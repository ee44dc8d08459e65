"""`GET /v1/series`: spans of time from the rollups, in the site's zone, gaps shown as gaps."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import lru_cache
from itertools import islice
from typing import Any, Final
from zoneinfo import ZoneInfo

from reference_server.buckets import Facts, Maker, needed_columns
from reference_server.rollups import RollupRefresher
from reference_server.sheets import Page, Sheet
from reference_server.storage.database import Database
from reference_server.storage.devices import KnownDevice
from reference_server.storage.horizon import Horizon
from reference_server.storage.rollups import ROW_KEYS, Told, merged_readings, merged_rollups
from reference_server.zones import (
    FIVE_MINUTES,
    QUARTER,
    Span,
    end_of_quarter,
    hours_of,
    is_quarter,
    local_day,
    month_of,
    next_month,
    quarter_of,
    start_of_day,
    start_of_step,
    steps,
)
from sungrow_lib.wire.answers import Frame
from sungrow_lib.wire.buckets import bucket_columns

_HOUR: Final = timedelta(hours=1)
_DAY: Final = timedelta(days=1)
_OF_DAYS: Final = frozenset({"1d", "1M"})
_STEPS: Final = {"5m": FIVE_MINUTES, "15m": QUARTER}
"""Buckets that are the same in every zone."""
_PARTS_AT_ONCE: Final = 288
_USUAL: Final = needed_columns(None)
_BUCKETS_AT_ONCE: Final = 2_000
"""So many buckets of a range are read, made and sent before the next ones are."""
_MERGED_BY: Final[Mapping[str, Callable[[list[Any]], Any]]] = {"_min": min, "_max": max}
"""By the end of a column's name; all others add."""


@dataclass(frozen=True, slots=True)
class Cut:
    """Time in pieces: the buckets of an answer, or the next ones of a long one.

    Attributes:
        zone: whose days and hours.
        spans: the pieces, in order.
        days: when they are whole local days or months, for each its first day and the day after its last.
        step: their length, when they are known to be such as :func:`step_of` looks for.
        bucket: of what bucket of a range they are.
    """

    zone: ZoneInfo
    spans: list[Span]
    days: list[tuple[date, date]] | None = None
    step: timedelta | None = None
    bucket: str | None = None


class SeriesReader:
    """Answers series.

    Args:
        database: where the rollups are.
        refresher: brings a device's rollups up to date before they are read.
        horizon: behind it there may be no raw readings.
        clock: tells the time, UTC.
    """

    def __init__(
        self,
        database: Database,
        refresher: RollupRefresher,
        *,
        horizon: Horizon,
        clock: Callable[[], datetime],
    ) -> None:
        self._database = database
        self._refresher = refresher
        self._horizon = horizon
        self._clock = clock

    async def frame(
        self, device: KnownDevice, frame: Frame, at: date | None, fields: Sequence[str] | None
    ) -> Sheet:
        """Return the buckets of a local day, month or year, or of all time."""
        if frame is Frame.ALL:
            return self._sheet_of(device, frame, fields, self._all_of(device, fields))
        cut = await self.frame_cut([device], device.zone, frame, at)
        return self._sheet_of(device, frame, fields, self._pages(device, [cut], fields))

    async def range(
        self, device: KnownDevice, begin: datetime, end: datetime, bucket: str, fields: Sequence[str] | None
    ) -> Sheet:
        """Return the buckets of any span of time, the first and the last cut to it."""
        cuts = await self.range_cuts(device.zone, begin, end, bucket)
        return self._sheet_of(device, None, fields, self._pages(device, cuts, fields))

    def _sheet_of(
        self,
        device: KnownDevice,
        frame: Frame | None,
        fields: Sequence[str] | None,
        pages: AsyncIterator[Page],
    ) -> Sheet:
        zone = device.zone.key
        head = {"device_id": device.device_id, "frame": frame, "timezone": zone}
        return Sheet(head, zone, bucket_columns(fields), pages)

    async def _pages(
        self, device: KnownDevice, cuts: Iterable[Cut], fields: Sequence[str] | None
    ) -> AsyncIterator[Page]:
        for cut in cuts:
            if cut.spans:
                yield self._page(cut, await self.told(device, cut, needed_columns(fields)), fields)

    def _page(self, cut: Cut, told: Told, fields: Sequence[str] | None) -> Page:
        names, found = told
        bucket = Maker(fields, names, cut.zone, self._clock()).bucket
        return [bucket(span, found.get(span.begin)) for span in cut.spans]

    async def _all_of(self, device: KnownDevice, fields: Sequence[str] | None) -> AsyncIterator[Page]:
        """Every local month from the first that has readings: they are read in one go."""
        today = local_day(self._clock(), device.zone)
        columns, end = needed_columns(fields), next_month(today)
        names, found = await self._from_days(device, date.min, end, columns, is_months=True)
        if found:
            first = month_of(local_day(min(found), device.zone))
            yield self._page(_cut_into(device.zone, _months(first, today)), (names, found), fields)

    async def frame_cut(
        self, devices: Sequence[KnownDevice], zone: ZoneInfo, frame: Frame, at: date | None
    ) -> Cut:
        """Cut a local day into hours, a month into days, a year or all time of some devices into months."""
        now = self._clock()
        day = at or local_day(now, zone)
        if frame is Frame.DAY:
            spans = [span for span in hours_of(day, zone) if span.begin <= now]
            return Cut(zone, spans, step=_HOUR if spans and is_whole(spans[0]) else None)
        if frame is Frame.ALL:
            return _cut_into(zone, await self._all_months(devices, local_day(now, zone)))
        return _calendar_cut(zone, frame, day, local_day(now, zone))

    async def range_cuts(self, zone: ZoneInfo, begin: datetime, end: datetime, bucket: str) -> Iterator[Cut]:
        """Cut any span of time, up to now, into buckets, so many at once.

        What is cut from a quarter of an hour comes from raw readings, and so do buckets of five minutes.
        Behind the retention horizon, where there are none any more, the span is widened to whole quarters.
        """
        now = self._clock()
        end = end_of_quarter(now) + QUARTER if end > now + QUARTER else end
        begin, end = _widened(begin, end, await self._horizon.lately(self._database))
        spans = (span for span in spans_of(bucket, begin, end, zone) if span.begin <= now)
        parts = iter(lambda: list(islice(spans, _BUCKETS_AT_ONCE)), [])
        return (Cut(zone, some, bucket=bucket) for some in parts)

    async def facts(self, device: KnownDevice, cut: Cut, columns: frozenset[str]) -> Mapping[datetime, Facts]:
        """What a device's rollups, brought up to date, know of the spans of a cut, by their begin."""
        return named(await self.told(device, cut, columns))

    async def told(self, device: KnownDevice, cut: Cut, columns: frozenset[str]) -> Told:
        """The same as they are read: thousands of rows take less time than what is named."""
        if cut.days is not None and cut.zone == device.zone:
            (first, after), (_, end) = cut.days[0], cut.days[-1]
            return await self._from_days(device, first, end, columns, is_months=after - first > _DAY)
        if cut.bucket in _OF_DAYS and cut.zone == device.zone:
            return await self._from_whole_days(device, cut, columns)
        return await self._from_quarters(device, cut.spans, columns, cut.step)

    async def _from_whole_days(self, device: KnownDevice, cut: Cut, columns: frozenset[str]) -> Told:
        """Read whole local days or months from the days, and what is cut from others from quarters."""
        is_months = cut.bucket == "1M"
        ends = cut.spans[0], cut.spans[-1]  # only these may be cut from others
        kinds = [
            (span, span not in ends or is_whole_days(span, cut.zone, months=is_months)) for span in cut.spans
        ]
        whole, rest = ([span for span, is_one in kinds if is_one is wanted] for wanted in (True, False))
        if not whole:
            return await self._from_quarters(device, cut.spans, columns)
        first, end = local_day(whole[0].begin, cut.zone), local_day(whole[-1].end, cut.zone)
        names, found = await self._from_days(device, first, end, columns, is_months=is_months)
        if rest:
            others = named(await self._from_quarters(device, rest, columns))
            found = {**found, **{begin: tuple(map(facts.get, names)) for begin, facts in others.items()}}
        return names, found

    async def _from_quarters(
        self,
        device: KnownDevice,
        spans: Sequence[Span],
        columns: frozenset[str],
        step: timedelta | None = None,
    ) -> Told:
        """Read spans that follow each other and are equally long in one go; others as :meth:`_from_parts`."""
        step = step or step_of(spans)
        if step is None:
            return await self._from_parts(device, spans, columns)
        device_key, first, end = device.key, spans[0].begin, spans[-1].end
        if step == QUARTER:
            return await self._merged("series_of_15m", columns, device=device_key, first=first, end=end)
        return await self._merged(
            "series_from_steps", columns, device=device_key, first=first, end=end, step=step
        )

    async def _all_months(self, devices: Sequence[KnownDevice], today: date) -> list[tuple[date, date]]:
        """Local months from the first reading of some devices to today, each with the next one's begin."""
        keys = [device.key for device in devices]
        for key in keys:
            await self._refresher.refresh_device(key)
        [(first, _)] = await self._database.rows("day_span", devices=keys)
        return _months(month_of(first or today), today if first else date.min)

    async def _from_parts(self, device: KnownDevice, spans: Sequence[Span], columns: frozenset[str]) -> Told:
        """Read whole quarters of an hour from the rollup, and what is cut from others from the readings."""
        parts = {span.begin: parts_of(span) for span in spans}
        whole = [part for some in parts.values() for part in some if is_whole(part)]
        found = named(
            await self._merged(
                "series_from_15m",
                columns,
                device=device.key,
                begins=[span.begin for span in whole],
                ends=[span.end for span in whole],
                lowest=min((span.begin for span in whole), default=None),
                until=max((span.end for span in whole), default=None),
            )
        )
        cut = [part for some in parts.values() for part in some if not is_whole(part)]
        found |= await self._from_samples(device, cut, columns)
        names = tuple(columns)
        merged = {
            begin: merged_facts(found.get(part.begin) for part in some) for begin, some in parts.items()
        }
        return names, {begin: tuple(map(facts.get, names)) for begin, facts in merged.items() if facts}

    async def _from_samples(
        self, device: KnownDevice, parts: Sequence[Span], columns: frozenset[str]
    ) -> dict[datetime, Facts]:
        """Read a day at a time, so that a month of raw readings never sits in the database's memory."""
        found: dict[datetime, Facts] = {}
        for start in range(0, len(parts), _PARTS_AT_ONCE):
            some = parts[start : start + _PARTS_AT_ONCE]
            quarters = [quarter_of(part.begin) for part in some]
            buckets = sorted(set(quarters))
            merged = await merged_readings(
                self._database,
                columns,
                device.key,
                buckets,
                quarters=quarters,
                begins=[part.begin for part in some],
                ends=[part.end for part in some],
            )
            found |= named(merged)
        return found

    async def _from_days(
        self, device: KnownDevice, first: date, end: date, columns: frozenset[str], *, is_months: bool
    ) -> Told:
        """Read the local days, or whole months, from one on up to another."""
        statement = "series_from_months" if is_months else "series_of_days"
        names, found = await self._merged(statement, columns, device=device.key, first=first, end=end)
        return names, {start_of_day(begin, device.zone): values for begin, values in found.items()}

    async def _merged(self, name: str, columns: frozenset[str], *, device: int, **parameters: Any) -> Told:
        """Read rollups; when marks wait, bring them up to date and read again."""
        parameters |= {"is_usual": columns is _USUAL, "device": device}
        is_marked, found = await merged_rollups(self._database, name, columns, **parameters)
        if is_marked:
            await self._refresher.refresh_device(device)
            _, found = await merged_rollups(self._database, name, columns, **parameters)
        return found


def _widened(begin: datetime, end: datetime, horizon: datetime) -> tuple[datetime, datetime]:
    """Widen what would cut a quarter of an hour that raw readings may be gone from."""
    return (
        quarter_of(begin) if quarter_of(begin) < horizon else begin,
        end_of_quarter(end) if quarter_of(end) < horizon else end,
    )


def spans_of(bucket: str, begin: datetime, end: datetime, zone: ZoneInfo) -> Iterator[Span]:
    """Spans of `5m`, `15m`, `1h`, `1d` or `1M` in the site's zone, cut to ``begin`` and ``end``."""
    if begin >= end:  # else the one in which both lie would be cut to nothing, and be one all the same
        return
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


def step_of(spans: Sequence[Span]) -> timedelta | None:
    """Length of spans that follow each other and are as long as the first; the last may be shorter.

    None when they are not, or not made of whole quarters of an hour.
    """
    if not spans or not is_whole(spans[0]) or not is_whole(spans[-1]):
        return None
    begin, step = spans[0].begin, spans[0].end - spans[0].begin
    *others, last = spans
    for span in others:
        if span.begin != begin or span.end != begin + step:
            return None
        begin += step
    return step if last.begin == begin and last.end <= begin + step else None


def parts_of(span: Span) -> list[Span]:
    """Whole quarters of an hour of a span, and what is cut from others at its ends."""
    first, last = end_of_quarter(span.begin), quarter_of(span.end)
    if first > last:
        return [span]
    parts = Span(span.begin, first), Span(first, last), Span(last, span.end)
    return [part for part in parts if part.begin < part.end]


def is_whole(part: Span) -> bool:
    """Whether a part is made of whole quarters of an hour."""
    return is_quarter(part.begin) and is_quarter(part.end)


def named(told: Told) -> dict[Any, Facts]:
    """What is told of spans of time, each column by its name."""
    names, found = told
    return {begin: dict(zip(names, row, strict=True)) for begin, row in found.items()}


def is_whole_days(span: Span, zone: ZoneInfo, *, months: bool) -> bool:
    """Whether a span begins and ends with a local day, or a local month."""
    ends = [(at, local_day(at, zone)) for at in (span.begin, span.end)]
    return all(at == start_of_day(day, zone) and (day.day == 1 or not months) for at, day in ends)


def merged_facts(parts: Iterable[Facts | None]) -> Facts:
    """What parts of a span say together; None for one without readings."""
    known = [part for part in parts if part]
    if len(known) <= 1:
        return known[0] if known else {}
    names: set[str] = set().union(*known).difference(ROW_KEYS)
    told = {name: [part.get(name) for part in known] for name in names}
    values = {name: [value for value in some if value is not None] for name, some in told.items()}
    return {name: _MERGED_BY.get(name[-4:], sum)(some) for name, some in values.items() if some}


@lru_cache(maxsize=256)
def _calendar_cut(zone: ZoneInfo, frame: Frame, day: date, today: date) -> Cut:
    """Cut the local month of a day into days, or its year into months, up to today."""
    if frame is Frame.YEAR:
        return _cut_into(zone, _months(date(day.year, 1, 1), min(date(day.year, 12, 31), today)))
    month = month_of(day)
    return _cut_into(zone, [(d, d + _DAY) for d in _each_day(month, min(next_month(month), today + _DAY))])


def _cut_into(zone: ZoneInfo, days: list[tuple[date, date]]) -> Cut:
    return Cut(zone, [Span(start_of_day(a, zone), start_of_day(b, zone)) for a, b in days], days)


def _months(first: date, last: date) -> list[tuple[date, date]]:
    return [(month, next_month(month)) for month in _each_month(first, last)]


def _each_day(first: date, end: date) -> Iterator[date]:
    while first < end:
        yield first
        first += _DAY


def _each_month(first: date, last: date) -> Iterator[date]:
    while first <= last:
        yield first
        first = next_month(first)
