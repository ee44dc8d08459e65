"""Local days, months and years of a site, as spans of time. Right on the days the clocks change."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Final, TypeVar
from zoneinfo import ZoneInfo

Thing = TypeVar("Thing")

QUARTER: Final = timedelta(minutes=15)
"""Length of the finest rollup; the offset of every civil zone is a multiple of it."""

FIVE_MINUTES: Final = timedelta(minutes=5)
"""Length of the finest bucket of a series, made from raw readings."""

_MICROSECOND: Final = timedelta(microseconds=1)
_QUARTER_MINUTES: Final = 15
_HOUR: Final = timedelta(hours=1)
_DAY: Final = timedelta(days=1)
_DECEMBER: Final = 12


@dataclass(frozen=True, slots=True)
class Span:
    """A half-open span of time, UTC."""

    begin: datetime
    end: datetime


@lru_cache(maxsize=1024)
def known_zone(name: str | None) -> ZoneInfo | None:
    """Return the zone of this IANA name; None when there is no such zone."""
    try:
        return ZoneInfo(name) if name else None
    except (KeyError, ValueError, OSError):  # unknown, not a name, or a folder of the zone database
        return None


@lru_cache(maxsize=4096)
def start_of_day(day: date, zone: ZoneInfo) -> datetime:
    """Return the instant, UTC, at which a local day begins."""
    return datetime.combine(day, time.min, zone).astimezone(UTC)


def day_span(day: date, zone: ZoneInfo) -> Span:
    """Span of a local day: 23, 24 or 25 hours."""
    return Span(start_of_day(day, zone), start_of_day(day + _DAY, zone))


def local_day(instant: datetime, zone: ZoneInfo) -> date:
    """Return the site's date at an instant."""
    return instant.astimezone(zone).date()


def month_of(day: date) -> date:
    """Return the first day of a day's month."""
    return day.replace(day=1)


def next_month(month: date) -> date:
    """Return the first day of the month after."""
    if month.month == _DECEMBER:
        return date(month.year + 1, 1, 1)
    return month.replace(month=month.month + 1, day=1)


@lru_cache(maxsize=256)
def hours_of(day: date, zone: ZoneInfo) -> tuple[Span, ...]:
    """Hours of a local day, counted from its beginning."""
    span = day_span(day, zone)
    return tuple(steps(span.begin, span.end, _HOUR))


def steps(begin: datetime, end: datetime, step: timedelta) -> Iterator[Span]:
    """Spans of equal length from ``begin``; the last one ends at ``end``."""
    while begin < end:
        yield Span(begin, min(begin + step, end))
        begin += step


def near_each_other(
    things: Iterable[Thing], *, key: Callable[[Thing], date], most: timedelta
) -> list[list[Thing]]:
    """Sort things by their time, and part them wherever nothing lies between two for longer than ``most``."""
    groups: list[list[Thing]] = []
    last: date | None = None
    for thing in sorted(things, key=key):
        at = key(thing)
        if last is None or at - last > most:
            groups.append([])
        groups[-1].append(thing)
        last = at
    return groups


def quarter_of(instant: datetime) -> datetime:
    """Return the start of the quarter of an hour that holds an instant."""
    return start_of_step(instant, QUARTER)


def is_quarter(instant: datetime) -> bool:
    """Whether a quarter of an hour begins at an instant, UTC."""
    return not (instant.microsecond or instant.second or instant.minute % _QUARTER_MINUTES)


def end_of_quarter(instant: datetime) -> datetime:
    """Return the first end of a quarter of an hour that is not before an instant."""
    return quarter_of(instant + QUARTER - _MICROSECOND)


def start_of_step(instant: datetime, step: timedelta) -> datetime:
    """Return the start of the step that holds an instant; steps are counted in UTC and divide a day."""
    return instant - (instant - datetime.min.replace(tzinfo=UTC)) % step
