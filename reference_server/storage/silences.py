"""What a counter's silence of hours or weeks asks for once it is over: rare, and so apart from what is usual.

A counter's step is taken from its last known value however long ago, and covers the time between: there the
integral of power must not stand in as well. Both ends of a silence are found by the local days, which know
when a counter was first and last read, and must be up to date.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from operator import itemgetter
from typing import Any, Final, NamedTuple

from reference_server.storage.connection import Connection
from reference_server.storage.database import fetch
from reference_server.storage.queries import of_counter
from reference_server.storage.schema_sql import COUNTER_BITS
from reference_server.zones import near_each_other

Bucket = tuple[int, datetime]

_QUARTER: Final = timedelta(minutes=15)
_MS: Final = timedelta(milliseconds=1)
_DAYS_APART: Final = timedelta(days=40)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_AROUND: Final = timedelta(days=4)
"""A local day and what is next to it."""
ALL_COUNTERS: Final = sum(bit for _, bit in COUNTER_BITS)
"""The bits of all counters."""


class Made(NamedTuple):
    """What a recomputed quarter of an hour tells of its counters, by their bits.

    Attributes:
        has_break: whether one ran back or jumped.
        held: those that have a value.
        shown: those for which the integral of power stands in.
        before: the quarter before it that was not recomputed with it, if there is one.
        held_before: those that have a value in that, if its readings are still there.
        firsts: those whose value in that is the first of all, while the integral there may have to change.
        sees_fall: whether a counter fell shortly before it, in a quarter that was not recomputed with it.
    """

    has_break: bool
    held: int
    shown: int
    before: datetime | None
    held_before: int | None
    firsts: int | None
    sees_fall: bool


class Known(NamedTuple):
    """The last known value of a counter before a quarter of an hour.

    Attributes:
        bucket: the quarter it lies in.
        ts: when it was read.
        value: its resolution steps.
        peak: those it fell from shortly before, if it did and the readings that tell are gone.
    """

    bucket: datetime
    ts: datetime
    value: int
    peak: int | None = None


Values = dict[Bucket, dict[str, Known]]
"""For quarters of an hour, the values that their counters are to be compared with."""


class Stretch(NamedTuple):
    """Quarters of an hour in which a counter is silent, and the one whose value ends the silence."""

    device: int
    begin: datetime
    end: datetime
    closing: datetime


def loose_ends(
    marked: Collection[Bucket], affected: Iterable[Bucket], made: Mapping[Bucket, Made]
) -> dict[str, list[Bucket]]:
    """Where to look on for the step that a marked quarter's value is the base of.

    Args:
        marked: quarters whose readings changed.
        affected: those recomputed: they, and the next two with readings.
        made: what these tell; nothing where there are no readings any more.

    Returns:
        Per counter the last quarter that it was not found in, where more may follow.
    """
    found: dict[str, set[Bucket]] = defaultdict(set)
    next_two: list[Bucket] = []
    for bucket in sorted(affected, reverse=True):
        if next_two and next_two[0][0] != bucket[0]:
            next_two = []
        if bucket in marked and len(next_two) > 1:
            held = made[bucket].held if bucket in made else ALL_COUNTERS
            for counter in _names(held & ~made[next_two[0]].held & ~made[next_two[1]].held):
                found[counter].add(next_two[1])
        if bucket in made:
            next_two = [bucket, *next_two[:1]]
    return {counter: sorted(buckets) for counter, buckets in found.items()}


def returned(made: Mapping[Bucket, Made]) -> dict[Bucket, int]:
    """Counters that have a value, but none in the quarter before, whose step may be taken from long ago."""
    found = {}
    last, held = (0, _EPOCH), 0
    for bucket, told in sorted(made.items()):
        device = bucket[0]
        if told.before is not None and (device, told.before) > last:
            last, held = (device, told.before), told.held_before or 0
        if last[0] == device and told.held & ~held:  # before its first of all, nothing is known of a device
            found[bucket] = told.held & ~held
        last, held = bucket, told.held
    return found


def after_first_values(made: Mapping[Bucket, Made]) -> dict[str, list[Stretch]]:
    """The quarters right before these that hold the first value of all, and are not made anew themselves."""
    found: dict[str, list[Stretch]] = defaultdict(list)
    last = (0, _EPOCH)
    for bucket, told in sorted(made.items()):
        device, start = bucket
        if told.before is not None and (device, told.before) > last:
            for counter in _names(told.held & (told.firsts or 0)):
                found[counter].append(Stretch(device, told.before, start, start))
        last = bucket
    return found


async def ends_of_silences(
    connection: Connection, device: int, horizon: datetime
) -> dict[datetime, tuple[datetime, datetime, datetime]]:
    """Where counters of a device came back and an older server may have counted wrongly.

    Returns:
        Of each such quarter of an hour itself, the one before, and the second one after it.
    """
    found: dict[datetime, tuple[datetime, datetime, datetime]] = {}
    for counter, _ in COUNTER_BITS:
        rows = await on_counter(connection, "ends_of_silences", counter.name, device=device, horizon=horizon)
        found |= {bucket: (bucket, begin, end) for bucket, begin, end in rows}
    return found


async def steps_after(
    connection: Connection, ends: Mapping[str, list[Bucket]]
) -> tuple[set[Bucket], set[tuple[str, Bucket]]]:
    """Quarters of an hour that hold the next value of a counter.

    Returns:
        Those whose readings are there; and, each with the counter, those whose readings are gone.
    """
    found, frozen = set[Bucket](), set[tuple[str, Bucket]]()
    for counter, buckets in ends.items():
        for device, _, following, is_there in await _following(connection, counter, buckets):
            if is_there:
                found.add((device, following))
            else:
                frozen.add((counter, (device, following)))
    return found, frozen


async def _following(
    connection: Connection, counter: str, buckets: Sequence[Bucket]
) -> list[tuple[int, datetime, datetime, bool]]:
    """For each quarter of an hour the next with a value of the counter, and whether readings are there."""
    found: list[tuple[int, datetime, datetime, bool]] = []
    days = await on_counter(connection, "days_known_after", counter, **columns_of(buckets))
    for some in near_each_other(days, key=itemgetter(2), most=_DAYS_APART):
        rows = await on_counter(connection, "quarters_known_after", counter, **_in_days(some))
        found += [(device, bucket, following, is_there) for device, bucket, following, is_there in rows]
    return found


async def values_before(connection: Connection, wanted: Mapping[Bucket, int]) -> Values:
    """Last known values of these counters before these quarters of an hour, where there are any."""
    found: Values = defaultdict(dict)
    for counter, buckets in by_counter(wanted).items():
        days = await on_counter(connection, "days_known_before", counter, **columns_of(buckets))
        for some in near_each_other(days, key=itemgetter(2), most=_DAYS_APART):
            until = max(bucket for _, bucket, _ in some)
            rows = await on_counter(
                connection, "quarters_known_before", counter, **_in_days(some), until=until
            )
            for device, bucket, *known in rows:
                found[device, bucket][counter] = Known(*known)
    return dict(found)


def as_told(device: int, known: Mapping[str, Known] | None) -> str | None:
    """Known values as readings, the way a statement over readings takes them."""
    if not known:
        return None
    readings: dict[datetime, dict[str, Any]] = {}
    for counter, value in known.items():
        for ts, steps in ((value.ts, value.value), (value.ts - _MS, value.peak)):
            if steps is not None:
                reading = readings.setdefault(ts, {"device": device, "ts": ts.isoformat()})
                reading[counter] = steps
    return json.dumps(list(readings.values()))


def silences_before(known: Values) -> dict[str, list[Stretch]]:
    """Per counter the time between known values and the quarters whose steps are taken from them."""
    found: dict[str, list[Stretch]] = defaultdict(list)
    for (device, bucket), values in known.items():
        for counter, value in values.items():
            found[counter].append(Stretch(device, value.bucket, bucket, bucket))
    return found


async def silent_ones(connection: Connection, shown: Mapping[Bucket, int]) -> dict[str, list[Stretch]]:
    """Those of the quarters that lie between a counter's first and last value."""
    found: dict[str, list[Stretch]] = defaultdict(list)
    for counter, buckets in by_counter(shown).items():
        starts: dict[int, list[datetime]] = defaultdict(list)
        for device, bucket in buckets:
            starts[device].append(bucket)
        lowest, highest = [min(some) for some in starts.values()], [max(some) for some in starts.values()]
        rows = await on_counter(
            connection, "known_span", counter, devices=list(starts), lowest=lowest, highest=highest
        )
        between = [
            (device, start)
            for device, first, last in rows
            for start in starts[device]
            if first < start + _QUARTER <= last
        ]
        if between:
            found[counter] = [
                Stretch(device, start, start + _QUARTER, closing)
                for device, start, closing, _ in await _following(connection, counter, between)
            ]
    return found


def _names(bits: int) -> Iterator[str]:
    return (counter.name for counter, bit in COUNTER_BITS if bits & bit)


def by_counter(wanted: Mapping[Bucket, int]) -> dict[str, list[Bucket]]:
    """Quarters of an hour per counter that one of their bits names."""
    found: dict[str, list[Bucket]] = defaultdict(list)
    for bucket, bits in wanted.items():
        for counter in _names(bits):
            found[counter].append(bucket)
    return found


def columns_of(buckets: Sequence[Bucket]) -> dict[str, Any]:
    """Quarters of an hour as parameters of a statement."""
    devices, starts = map(list, zip(*buckets, strict=True))
    return {"devices": devices, "buckets": starts}


async def reach_of(
    connection: Connection, buckets: Collection[Bucket], *, has_counters: bool = True
) -> dict[str, Any]:
    """Bounds of the readings that count for quarters of an hour.

    With them TimescaleDB plans for some days: to plan for all of a year takes a second. In front of the last
    reading before a quarter only counters look: for their peak.
    """
    named = columns_of(sorted(buckets))
    highest = max(named["buckets"]) + _QUARTER
    [(lowest,)] = await fetch(
        connection, "readings_begin", **named, lowest=min(named["buckets"]), highest=highest
    )
    return {"lowest": lowest, "highest": highest, "sight": _QUARTER if has_counters else timedelta(0)}


def _in_days(rows: Sequence[tuple[int, datetime, date]]) -> dict[str, Any]:
    """Quarters and the days that know of others, with bounds, so that not every chunk is planned for."""
    days = [day for _, _, day in rows]
    starts = [datetime(day.year, day.month, day.day, tzinfo=UTC) for day in days]
    bounds = {"lowest": min(starts) - _AROUND, "highest": max(starts) + _AROUND}
    return columns_of([row[:2] for row in rows]) | {"days": days} | bounds


async def on_counter(
    connection: Connection, name: str, counter: str, **parameters: Any
) -> list[tuple[Any, ...]]:
    """Run a statement that is about one counter."""
    cursor = await connection.execute(of_counter(name, counter), parameters)
    return await cursor.fetchall() if cursor.description else []
