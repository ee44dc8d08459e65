"""Looks at the readings of a device that open few days, whatever the number of days kept.

To plan for all of some years takes TimescaleDB seconds. So every look has two ends; where readings are is
told by the local days that are rolled up, and by the quarters of an hour that are marked.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final

from psycopg import AsyncCursor

from reference_server.storage.codec import VALUE_COLUMNS, Row
from reference_server.storage.connection import Connection
from reference_server.storage.database import Database, fetch
from reference_server.storage.queries import with_columns
from reference_server.zones import near_each_other

_MICROSECOND: Final = timedelta(microseconds=1)
_DAY: Final = timedelta(days=1)
_FIRST_LOOK: Final = timedelta(days=2)
_LONGEST_LOOK: Final = timedelta(days=64)
_MONTH: Final = timedelta(days=31)
_FOR_EVER: Final = datetime.max.replace(tzinfo=UTC)

ROWS_IN_ONE_GO: Final = 50
"""So many rows are read, made or written before others of this process have their turn."""


async def first_reading(database: Database, device: int) -> datetime | None:
    """When the first reading was taken, None while there is none; its quarter of an hour, if it is gone."""
    [(first,)] = await database.rows("first_stored", device=device)
    return first if isinstance(first, datetime) else None


async def newest_stamp(database: Database, device: int) -> datetime | None:
    """When the newest reading of a device was taken, None while there is none."""
    [(newest,)] = await database.rows("newest_stamp", device=device)
    return newest if isinstance(newest, datetime) else None


async def next_stamps(database: Database, after: Mapping[int, datetime]) -> dict[int, datetime]:
    """When the first reading of each device after its moment was taken, for those that have one."""
    found = await database.rows("next_stamps", devices=list(after), after=list(after.values()))
    return {device: ts for device, ts in found if ts is not None}


async def reading_spans(
    connection: Connection, device: int, begin: datetime | None = None, end: datetime | None = None
) -> AsyncIterator[tuple[datetime, datetime]]:
    """Spans of a month at most that hold all readings of a device, in order, within the bounds if any.

    TimescaleDB plans for each day of a span, and locks it: for those of ten years there is no room.
    """
    [(first,)] = await fetch(connection, "first_stored", device=device)
    start = first if begin is None or first is None else max(first, begin)
    while start is not None and (end is None or start < end):
        stop = start + _MONTH if end is None else min(start + _MONTH, end)
        yield start, stop
        [(_, start)] = await fetch(
            connection, "next_stamps", devices=[device], after=[stop - timedelta(microseconds=1)]
        )


async def rows_between(
    database: Database,
    device: int,
    after: datetime,
    until: datetime,
    limit: int,
    columns: tuple[str, ...] = VALUE_COLUMNS,
) -> list[Row]:
    """Next readings of a device after a moment and before another, in order; of these columns."""
    rows: list[Row] = []
    look = _FIRST_LOOK
    while True:
        end = until if until - after <= look else after + look
        span = {"device": device, "after": after, "until": end}
        async for some in _raw_page(database, columns, span | {"limit": limit - len(rows)}):
            rows += some
        if len(rows) == limit or end == until:
            return rows
        following = await next_stamps(database, {device: end - _MICROSECOND})
        if device not in following or following[device] >= until:
            return rows
        after = following[device] - _MICROSECOND
        look = min(2 * look, _LONGEST_LOOK)  # readings are rare


async def _raw_page(
    database: Database, columns: tuple[str, ...], parameters: Mapping[str, Any]
) -> AsyncIterator[list[Row]]:
    """Rows of a page, few by few: to make them takes time, in which others have their turns.

    The cursor has the whole answer, and its connection is for others from then on.
    """
    statement = with_columns("raw_page", ("ts", "device", *columns, "flags", "extra"))

    async def job(connection: Connection) -> AsyncCursor[Any]:
        return await connection.execute(statement, parameters)

    cursor = await database.run(job, is_one_statement=True)
    while records := await cursor.fetchmany(ROWS_IN_ONE_GO):
        yield [Row.from_record(record, columns) for record in records]
        await asyncio.sleep(0)


async def rows_after(database: Database, after: Mapping[int, datetime], limit: int) -> list[Row]:
    """Next readings of each device after its moment, oldest first, at most ``limit`` of each device."""
    rows: list[Row] = []
    for some in near_each_other(after, key=lambda device: after[device], most=_DAY):
        rows += await _rows_after(database, {device: after[device] for device in some}, limit)
    return sorted(rows, key=lambda row: row.ts)


async def _rows_after(database: Database, after: Mapping[int, datetime], limit: int) -> list[Row]:
    """The same for devices whose moments are near each other."""
    moments = list(after.values())
    until = max(moments) + _FIRST_LOOK
    records = await database.rows(
        "samples_after", devices=list(after), after=moments, lowest=min(moments), until=until, limit=limit
    )
    rows = list(map(Row.from_record, records))
    if until > datetime.now(UTC) + _DAY:
        return rows  # nothing lies beyond
    left = {device: limit - count for device, count in _counted(after, rows) if count < limit}
    following = await next_stamps(database, dict.fromkeys(left, until - _MICROSECOND)) if left else {}
    for device, ts in following.items():
        rows += await rows_between(database, device, ts - _MICROSECOND, _FOR_EVER, left[device])
    return rows


def _counted(devices: Iterable[int], rows: Iterable[Row]) -> Iterable[tuple[int, int]]:
    count = dict.fromkeys(devices, 0)
    for row in rows:
        count[row.device] += 1
    return count.items()


async def newest_rows(
    database: Database, device: int, after: datetime, until: datetime, limit: int
) -> list[Row]:
    """Newest readings of a device after a moment and before another, newest first."""
    records = await database.rows("newest_samples", device=device, after=after, until=until, limit=limit)
    return list(map(Row.from_record, records))


async def look_again(
    database: Database, device: int, since: datetime, after: datetime, until: datetime, limit: int
) -> tuple[int, int, list[Row]]:
    """How many readings there are from ``since`` on, how many before, and the newest ones after ``after``.

    Those before are counted as far as they are rolled up, those from then on before ``until``.
    """
    records = await database.rows(
        "look_again", device=device, since=since, after=after, until=until, limit=limit
    )
    rows = [Row.from_record(record[2:]) for record in records if record[2] is not None]
    return records[0][0], records[0][1], rows


async def latest_rows(database: Database, device: int, newest: datetime, limit: int) -> list[Row]:
    """The readings of a device up to the newest one, newest first."""
    rows: list[Row] = []
    until, day = newest + _MICROSECOND, None
    while len(rows) < limit:
        [(day,)] = await database.rows("days_of_newest", device=device, before=day, limit=limit - len(rows))
        begin = await _begin(database, device, day)
        if begin is not None and begin < until:
            rows += await newest_rows(database, device, begin, until, limit - len(rows))
            until = begin + _MICROSECOND
        if day is None:
            break
    return rows


async def _begin(database: Database, device: int, day: date | None) -> datetime | None:
    """A moment before all readings of a local day; before all there are when they are rolled up no more."""
    if day is not None:
        return datetime.combine(day, time.min, UTC) - _DAY
    first = await first_reading(database, device)
    return first and first - _MICROSECOND


async def last_firmware(
    database: Database, device: int, until: datetime, reach: timedelta
) -> tuple[tuple[datetime, str] | None, datetime | None]:
    """Look for when firmware was last read, and which; it may be long before the newest reading.

    Args:
        database: where readings are.
        device: whose.
        until: readings before this moment are looked at.
        reach: so far back, and no farther now.

    Returns:
        What was found, and before which moment it can be looked for next; None when there is no need to.
    """
    first = await first_reading(database, device)
    look, end = _FIRST_LOOK, until - reach
    while first is not None and until > max(first, end):
        begin = max(first, end, until - look)
        found = await database.rows("last_firmware", device=device, since=begin, until=until)
        if found:
            return found[0], None
        until, look = begin, min(2 * look, _LONGEST_LOOK)
    return None, None if first is None or until <= first else until
