"""Recomputes the marked buckets, in the transaction that deletes exactly the marks it saw."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from operator import itemgetter
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

from reference_server.storage.connection import Connection
from reference_server.storage.conversation import prepared_rows
from reference_server.storage.covers import before_falls, deduct_frozen, judged, settle, settle_judged
from reference_server.storage.database import Database, all_the_time, fetch
from reference_server.storage.falls import Falls, both, fallen, known_beyond_falls
from reference_server.storage.horizon import Horizon
from reference_server.storage.queries import array_text, has_counters, merging
from reference_server.storage.seams import begins_of_runs, ends_of_runs, mend_seams
from reference_server.storage.silences import (
    ALL_COUNTERS,
    Bucket,
    Made,
    Stretch,
    Values,
    after_first_values,
    as_told,
    columns_of,
    ends_of_silences,
    loose_ends,
    reach_of,
    returned,
    silences_before,
    silent_ones,
    steps_after,
    values_before,
)
from reference_server.zones import day_span, known_zone, local_day, near_each_other, quarter_of

LOCK_NAMESPACE: Final = 0x53470002
"""First key of the advisory locks under which rollups change; the second is the shard."""

SHARDS: Final = 16
"""Devices are spread over so many locks."""

MARKS_AT_ONCE: Final = 5_000
"""So many marks at most are worked off in one transaction."""

REPAIR: Final = "repair/silences 3"
"""In the history of the schema: that what older servers made of silences was marked."""

NEWEST: Final = 2**63 - 1
"""No mark is newer."""

_UTC: Final = ZoneInfo("UTC")
_MS: Final = timedelta(milliseconds=1)

Zones = Mapping[int, ZoneInfo | None]
"""The zone of each device's site, None where it is not set."""

_DAY: Final = timedelta(days=1)
_QUARTER: Final = timedelta(minutes=15)
_GAP: Final = timedelta(days=3)
"""Readings farther apart are looked at on their own: a plan for all between would open each day's chunk."""
_DAYS_APART: Final = timedelta(days=40)
"""The same for quarters of an hour, a chunk of which holds a month."""
_START: Final[Callable[[Bucket], datetime]] = itemgetter(1)
_DATE: Final[Callable[[tuple[int, date]], date]] = itemgetter(1)

ROW_KEYS: Final = ("is_marked", "begins")
"""What stands in a row before what rollups tell."""

Told = tuple[tuple[str, ...], Mapping[Any, tuple[Any, ...]]]
"""What rollups tell of spans of time: names of columns, and for the begin of each span a row of values."""


class Recomputed(NamedTuple):
    """What was made anew.

    Attributes:
        quarters: what each quarter of an hour tells of its counters.
        fell: those in which a counter had fallen before they were made anew.
    """

    quarters: dict[Bucket, Made]
    fell: set[Bucket]


async def refresh_shards(
    database: Database, shards: Collection[int], *, horizon: Horizon, newest: int = NEWEST
) -> int:
    """Recompute the marked buckets of some shards of devices, in one transaction.

    Args:
        database: where they are.
        shards: which devices, by their keys modulo :data:`SHARDS`; those another process is at are left out.
        horizon: buckets that begin behind it are frozen.
        newest: marks after this one are left for later.

    Returns:
        How many marks were worked off: none while other processes are at all these shards; as many as are
        taken at once means that there may be more.
    """

    async def job(connection: Connection) -> int:
        rows = await fetch(connection, "try_lock_shards", namespace=LOCK_NAMESPACE, wanted=list(shards))
        if not rows:
            return 0
        locked = [shard for (shard,) in rows]
        marks = await fetch(
            connection, "see_marks", locked=locked, shards=SHARDS, newest=newest, limit=MARKS_AT_ONCE
        )
        if marks:
            async with all_the_time(connection):  # what is late is worked off in large parts
                buckets = {(device, bucket) for _, device, bucket in marks}
                await recompute(connection, buckets, horizon=await horizon.now(connection))
                await fetch(connection, "delete_marks", marks=[mark for mark, _, _ in marks])
        return len(marks)

    return await database.run(job)


async def mark_silences(database: Database, *, horizon: Horizon) -> bool:
    """Once in a database's life mark what older servers made of silences, where all readings are still there.

    A migration could not: the older server may run on, and would work off the marks in its own way. Whatever
    breaks off is begun anew, and what several processes mark is merged. While an older server is connected
    nothing is marked, for the same reason.

    Args:
        database: where the rollups are.
        horizon: quarters of an hour that begin behind it are frozen.

    Returns:
        Whether it is done, now or before; else it has to be tried again.
    """
    if await database.rows("an_older_server_is_there", name=REPAIR) == [(True,)]:
        return False
    for (device,) in await database.rows("devices_to_repair", name=REPAIR):
        await _mark_silences_of(database, device, horizon)
    await database.rows("note_repair", name=REPAIR)
    return True


async def _mark_silences_of(database: Database, device: int, horizon: Horizon) -> None:
    async def job(connection: Connection) -> None:
        async with all_the_time(connection):
            begin = quarter_of(await horizon.now(connection))
            found = await ends_of_silences(connection, device, begin)
            for some in near_each_other(found.values(), key=itemgetter(0), most=_GAP):
                buckets, begins, ends = map(list, zip(*some, strict=True))
                named = {"device": device, "buckets": buckets, "begins": begins, "ends": ends}
                reach = {"lowest": min(begins), "until": max(ends) + _QUARTER}
                await fetch(connection, "mark_whole", **named, **reach)

    await database.run(job)


async def recompute(
    connection: Connection, buckets: Collection[Bucket], *, horizon: datetime, beside_frozen: bool = False
) -> None:
    """Recompute these quarters of an hour, the ones that build on them, and their local days.

    The caller holds the lock of the devices' shards.

    Args:
        connection: where.
        buckets: quarters whose readings changed.
        horizon: those that begin before it are frozen.
        beside_frozen: whether rollups may lie next to them whose readings are gone.
    """
    affected: set[Bucket] = set()
    for some in near_each_other(buckets, key=_START, most=_GAP):
        affected.update(await _affected(connection, some, horizon))
    if not affected:
        return
    zones = await _zones(connection, (device for device, _ in affected))
    made = Recomputed({}, set())
    await _fill(connection, affected, zones, made)
    await _recompute_days(connection, _days_of(affected, zones))
    ends = loose_ends(set(buckets), affected, made.quarters)
    begins: dict[Bucket, int] = {}
    if beside_frozen:
        ends, begins = ends_of_runs(buckets), begins_of_runs(set(buckets), made.quarters)
    changed = await _end_silences(connection, ends, begins, made, zones, quarter_of(horizon))
    await _recompute_days(connection, _days_of(changed, zones))


async def _fill(
    connection: Connection,
    buckets: Collection[Bucket],
    zones: Zones,
    made: Recomputed,
    known: Values | None = None,
) -> None:
    """Make quarters of an hour from their readings, and from known values of long before them."""
    for some in near_each_other(buckets, key=_START, most=_GAP):
        named = _named(sorted(some), zones, known or {})
        reach = await reach_of(connection, some)
        span = {"lowest": min(named["buckets"]), "until": max(named["buckets"]) + _QUARTER}
        made.fell.update(await fetch(connection, "clear_rollup_15m", **named, **span))
        statement = "fill_rollup_15m_from_known" if known else "fill_rollup_15m"
        rows = await fetch(connection, statement, **named, **reach)
        made.quarters.update({(device, bucket): Made(*told) for device, bucket, *told in rows})
        broken = [(device, bucket) for device, bucket, has_break, *_ in rows if has_break]
        if broken:
            statement = "flag_counter_breaks_from_known" if known else "flag_counter_breaks"
            await fetch(connection, statement, **_named(broken, zones, known or {}), **reach)


async def _end_silences(
    connection: Connection,
    ends: Mapping[str, list[Bucket]],
    begins: Mapping[Bucket, int],
    made: Recomputed,
    zones: Zones,
    horizon: datetime,
) -> set[Bucket]:
    """Make good what a quarter of an hour of its own and the two before do not tell; return what changed.

    A value changes the step of the next one, however far; a step may have to be taken from long before; and
    what a step covers is not to be counted by the integral as well.
    """
    following, seams = await steps_after(connection, ends)
    changed = following - made.quarters.keys()
    await _fill(connection, changed, zones, made)
    known = await values_before(connection, {**returned(made.quarters), **begins})
    await _fill(connection, known, zones, made, known)
    fell = made.fell | await fallen(connection, made.quarters)
    sees = {bucket for bucket, told in made.quarters.items() if told.sees_fall}
    falls: Falls = {}
    if fell or sees:
        more, falls = await _see_beyond_falls(connection, fell, sees, made, zones, known, horizon)
        changed |= more
    changed |= known.keys()
    silences = _together(
        silences_before(known), after_first_values(made.quarters), await before_falls(connection, falls)
    )
    covers = await judged(connection, silences)
    await deduct_frozen(connection, covers, made.quarters.keys(), horizon=horizon)
    changed |= await settle_judged(connection, covers, horizon=horizon)
    shown = {bucket: told.shown for bucket, told in made.quarters.items() if told.shown}
    changed |= await settle(connection, await silent_ones(connection, shown), horizon=horizon)
    return changed | await mend_seams(connection, seams, horizon=horizon)


async def _see_beyond_falls(
    connection: Connection,
    fell: Collection[Bucket],
    sees: Collection[Bucket],
    made: Recomputed,
    zones: Zones,
    known: Values,
    horizon: datetime,
) -> tuple[set[Bucket], Falls]:
    """Make quarters that see a fall in front of them anew with what lies before it.

    What is known from long before of those that were not made yet, is added.

    Returns:
        What changed, and where the falls are that are seen.
    """
    seeing = set(sees)
    for some in near_each_other(fell, key=_START, most=_GAP):
        seeing.update(await _affected(connection, some, horizon))
    more = seeing - made.quarters.keys()
    if more:
        await _fill(connection, more, zones, made)
        late = returned({bucket: made.quarters[bucket] for bucket in more if bucket in made.quarters})
        known |= await values_before(connection, late)
        await _fill(connection, known.keys() & more, zones, made, known)
    beyond: Values = {}
    falls: Falls = defaultdict(set)
    for some in near_each_other(seeing, key=_START, most=_GAP):
        found, seen = await known_beyond_falls(connection, sorted(some), await reach_of(connection, some))
        beyond |= found
        for counter, buckets in seen.items():
            falls[counter] |= buckets
    await _fill(connection, beyond, zones, made, both(known, beyond))
    return more | beyond.keys(), falls


def _together(*several: Mapping[str, Sequence[Stretch]]) -> dict[str, set[Stretch]]:
    """What is found of each counter in one way or another."""
    counters = {counter for found in several for counter in found}
    return {counter: {one for found in several for one in found.get(counter, ())} for counter in counters}


def _named(buckets: Sequence[Bucket], zones: Zones, known: Values) -> dict[str, Any]:
    """Buckets as parameters of a statement, their distance from UTC, what is known from long before."""
    offsets = [_offset_ms(start, zones[device]) for device, start in buckets]
    values = [as_told(bucket[0], known.get(bucket)) for bucket in buckets]
    return columns_of(buckets) | {"zone_ms": offsets, "known": values}


async def _affected(
    connection: Connection, buckets: Collection[Bucket], horizon: datetime
) -> Collection[Bucket]:
    named = columns_of(sorted(buckets))
    [(until,)] = await fetch(connection, "following_end", **named)
    span = {"lowest": min(named["buckets"]), "until": until}
    return await fetch(connection, "affected_buckets", **named, **span, horizon=quarter_of(horizon))


async def _zones(connection: Connection, devices: Iterable[int]) -> Zones:
    """Return the sites' zones, None where not set."""
    rows = await fetch(connection, "device_zones", devices=sorted(set(devices)))
    return {device: known_zone(name) for device, name in rows}


def _offset_ms(moment: datetime, zone: ZoneInfo | None) -> int | None:
    offset = None if zone is None else moment.astimezone(zone).utcoffset()
    return None if offset is None else offset // _MS


def _days_of(buckets: Collection[Bucket], zones: Zones) -> dict[tuple[int, date], ZoneInfo]:
    found = {}
    for device, start in buckets:
        zone = zones[device] or _UTC
        found[device, local_day(start, zone)] = zone
    return found


async def _recompute_days(connection: Connection, days: Mapping[tuple[int, date], ZoneInfo]) -> None:
    for some in near_each_other(days, key=_DATE, most=_DAYS_APART):
        spans = [day_span(key[1], days[key]) for key in some]
        keys = {"devices": [device for device, _ in some], "days": [day for _, day in some]}
        await fetch(connection, "clear_rollup_day", **keys)
        begins, ends = [span.begin for span in spans], [span.end for span in spans]
        reach = {"lowest": min(begins), "until": max(ends)}
        await fetch(connection, "fill_rollup_day", **keys, begins=begins, ends=ends, **reach)


async def lock_device(connection: Connection, device: int) -> None:
    """Wait for the right to change a device's rollups, until the transaction ends."""
    await fetch(connection, "lock_shard", namespace=LOCK_NAMESPACE, shard=device % SHARDS)


async def rebuild_days(connection: Connection, device: int) -> None:
    """Make a device's local days anew from its quarters of an hour, after its time zone changed."""
    await lock_device(connection, device)
    await fetch(connection, "drop_days", device=device)
    [(first, last)] = await fetch(connection, "rollup_span", device=device)
    if first is None:
        return
    zone = (await _zones(connection, [device]))[device] or _UTC
    count = (local_day(last, zone) - local_day(first, zone)).days + 1
    days = [local_day(first, zone) + _DAY * number for number in range(count)]
    await _recompute_days(connection, {(device, day): zone for day in days})


async def mark_without_interval(connection: Connection, device: int) -> None:
    """Have made anew what counts readings by the poll interval, after its owner set another one.

    The refresher stands still meanwhile: what it makes of readings that come now, it makes by the new one.
    """
    await lock_device(connection, device)
    await fetch(connection, "mark_without_interval", device=device)


async def merged_rollups(
    database: Database, name: str, columns: frozenset[str], *, is_usual: bool = False, **parameters: Any
) -> tuple[bool, Told]:
    """What the rollups of spans of time say together.

    Args:
        database: where they are.
        name: the statement.
        columns: those wanted.
        is_usual: whether they are those that are asked for all day.
        parameters: of the statement.

    Returns:
        Whether marks wait, or may, so that it is not all there is; and what they say of spans that have any.
    """
    statement, names = merging(name, columns)  # to ask the driver for the names takes as long as the rows
    names = (*ROW_KEYS, *names)

    async def job(connection: Connection) -> tuple[bool, Told]:
        if is_usual:
            rows = await prepared_rows(connection, statement, parameters)
        else:
            rows = await (await connection.execute(statement, parameters)).fetchall()
        return not rows or rows[0][0], (names, {row[1]: row for row in rows})

    return await database.run(job, is_one_statement=True)


async def merged_readings(
    database: Database,
    columns: frozenset[str],
    device: int,
    buckets: Sequence[datetime],
    **parts: Sequence[datetime],
) -> Told:
    """What readings of a device say of parts of quarters of an hour.

    Args:
        database: where they are.
        columns: those wanted.
        device: whose.
        buckets: the quarters.
        parts: `quarters`, `begins` and `ends` of the parts.
    """
    quarters = [(device, bucket) for bucket in buckets]
    zones = {device: None}  # matters only to what is flagged
    counts = has_counters(columns)
    told = {name: array_text(map(datetime.isoformat, some)) for name, some in parts.items()}

    async def job(connection: Connection) -> Told:
        reach = await reach_of(connection, quarters, has_counters=counts)

        async def asked(name: str, known: Values) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
            statement, names = merging(name, columns)
            named = _named(quarters, zones, known)
            return names, await (await connection.execute(statement, told | named | reach)).fetchall()

        beyond: Values = {}
        if counts:
            beyond, _ = await known_beyond_falls(connection, quarters, reach)
        names, rows = await asked(
            "series_from_samples_from_known" if beyond else "series_from_samples", beyond
        )
        if any(row[0] for row in rows):  # there is a value that cannot be compared with any
            known = await values_before(connection, dict.fromkeys(quarters, ALL_COUNTERS))
            names, rows = await asked("series_from_samples_from_known", both(known, beyond))
        return (*ROW_KEYS, *names), {row[1]: row for row in rows}

    return await database.run(job, is_one_statement=True)
