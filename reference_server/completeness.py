"""`GET /v1/completeness`: what was expected of each local day, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import NamedTuple

from reference_server.storage.database import Database
from reference_server.storage.devices import KnownDevice
from reference_server.storage.looks import first_reading
from reference_server.storage.reports import (
    AsideCount,
    counter_breaks_by_span,
    kept_aside_by_span,
    stored_by_day,
)
from reference_server.storage.samples import AsideReason
from reference_server.zones import Span, day_span, local_day
from sungrow_lib.wire.reports import Completeness, DayCompleteness, MissingByCause


async def completeness(
    database: Database, device: KnownDevice, begin: datetime, end: datetime, now: datetime
) -> Completeness:
    """Count the readings of every local day that the range touches, up to today."""
    first, last = local_day(begin, device.zone), local_day(min(end, now), device.zone)
    if min(end, now) == day_span(last, device.zone).begin:
        last -= timedelta(days=1)  # the range is half-open
    dates = [first + timedelta(days=number) for number in range((last - first).days + 1)]
    spans = {day: day_span(day, device.zone) for day in dates}
    stored = await stored_by_day(database, device.key, first, last)
    aside = await kept_aside_by_span(database, device.key, list(spans.values()))
    since = await first_reading(database, device.key)
    breaks = await counter_breaks_by_span(database, device.key, list(spans.values()))
    days = [
        _day(
            day,
            span,
            _Polls.of(
                _expected(span, since, now, device.poll_interval_s),
                *stored.get(day, (0, timedelta())),
                device.poll_interval_s,
            ),
            aside,
            breaks.get(span.begin, 0),
            now,
        )
        for day, span in spans.items()
    ]
    return Completeness(device_id=device.device_id, timezone=device.zone.key, days=days)


def _expected(span: Span, since: datetime | None, now: datetime, interval_s: float) -> int:
    if since is None:
        return 0
    covered = min(span.end, now) - max(span.begin, since)
    shortest_s = 0.001  # there is no room for more readings, whatever an edge says
    return max(0, int(covered.total_seconds() / max(interval_s, shortest_s)))


class _Polls(NamedTuple):
    """Readings of a day: expected, stored, and as many as the poll interval brings in the time covered."""

    expected: int
    stored: int
    covered: int

    @classmethod
    def of(cls, expected: int, stored: int, covered: timedelta, interval_s: float) -> _Polls:
        return cls(expected, stored, int(covered.total_seconds() / interval_s))


def _day(
    day: date,
    span: Span,
    polls: _Polls,
    aside: Mapping[tuple[datetime, str], AsideCount],
    breaks: int,
    now: datetime,
) -> DayCompleteness:
    counts = {reason: aside.get((span.begin, reason.value), AsideCount()) for reason in AsideReason}
    lacking = max(0, polls.expected - polls.stored)
    rejected = min(lacking, counts[AsideReason.REJECTED].moments)
    behind = min(lacking - rejected, counts[AsideReason.BEHIND_HORIZON].moments)
    lacking -= rejected + behind
    slower = min(lacking, max(0, polls.covered - polls.stored))
    return DayCompleteness(
        day=day,
        expected=polls.expected,
        stored=polls.stored,
        missing=MissingByCause(
            rejected=rejected, behind_horizon=behind, slower=slower, unknown=lacking - slower
        ),
        conflicts=counts[AsideReason.CONFLICT].readings,
        rejected=counts[AsideReason.REJECTED].readings,
        counter_breaks=breaks,
        partial=span.end > now,
    )
