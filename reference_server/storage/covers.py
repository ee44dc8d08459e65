"""Which steps cover a counter's silence, and what becomes of the integral of power there.

Mostly it is the step of the first value after it. Where that is a fall, one of the next values may go on from
what was known before the silence: then the fall was nonsense, and the step of that value covers the silence.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from reference_server.storage.connection import Connection
from reference_server.storage.database import fetch
from reference_server.storage.falls import Falls, both, known_beyond_falls
from reference_server.storage.schema_sql import BIT_OF, POWER_OF
from reference_server.storage.silences import (
    Bucket,
    Stretch,
    as_told,
    columns_of,
    on_counter,
    reach_of,
    values_before,
)
from sungrow_lib.quantities import QUANTITY_BY_NAME

_QUARTER: Final = timedelta(minutes=15)

Covers = dict[Stretch, datetime | None]
"""Silences of a counter, each with the quarter of an hour whose step covers it, None where there is none."""


async def judged(connection: Connection, silences: Mapping[str, Collection[Stretch]]) -> dict[str, Covers]:
    """Find the steps that cover silences of the counters that have an integral."""
    return {
        counter: await _judged(connection, counter, set(some))
        for counter, some in silences.items()
        if counter in POWER_OF and some
    }


async def _judged(connection: Connection, counter: str, silences: Collection[Stretch]) -> Covers:
    closings = sorted({(one.device, one.closing) for one in silences})
    named = columns_of(closings)
    span = {"lowest": min(named["buckets"]), "highest": max(named["buckets"]) + _QUARTER}
    rows = await on_counter(connection, "closing_breaks", counter, **named, **span)
    covering: dict[Bucket, datetime | None] = {closing: closing[1] for closing in closings}
    covering |= {(device, closing): None for device, closing, _, _ in rows}
    falls = {(device, closing): ts for device, closing, ts, fell in rows if fell}
    if falls:
        covering |= await _beyond_falls(connection, counter, falls)
    return {one: covering[one.device, one.closing] for one in silences}


async def _beyond_falls(
    connection: Connection, counter: str, falls: Mapping[Bucket, datetime]
) -> dict[Bucket, datetime]:
    """For quarters whose first value is a fall, the first with a step from a value before that, if any."""
    lowest = min(bucket for _, bucket in falls)
    rows = await fetch(connection, "after_falls", **columns_of(sorted(falls)), lowest=lowest)
    bases = await _bases(connection, counter, sorted({(device, after) for device, _, after in rows}))
    found: dict[Bucket, datetime] = {}
    for device, closing, after in sorted(rows):
        base = bases.get((device, after))
        if base is not None and base < falls[device, closing].timestamp() * 1000:
            found.setdefault((device, closing), after)
    return found


async def _bases(connection: Connection, counter: str, buckets: Sequence[Bucket]) -> dict[Bucket, int]:
    reach = await reach_of(connection, buckets)
    known = await values_before(connection, dict.fromkeys(buckets, BIT_OF[counter]))
    beyond, _ = await known_beyond_falls(connection, buckets, reach)
    known = both(known, beyond)
    told = {"zone_ms": [None] * len(buckets), "known": [as_told(one[0], known.get(one)) for one in buckets]}
    statement = "earliest_bases_from_known" if known else "earliest_bases"
    rows = await on_counter(connection, statement, counter, **columns_of(buckets), **told, **reach)
    return {(device, bucket): base for device, bucket, base in rows}


async def before_falls(connection: Connection, falls: Falls) -> dict[str, list[Stretch]]:
    """The silences in front of quarters in which counters fell."""
    found: dict[str, list[Stretch]] = {}
    for counter, some in falls.items():
        known = await values_before(connection, dict.fromkeys(some, BIT_OF[counter]))
        found[counter] = [
            Stretch(device, values[counter].bucket, start, start) for (device, start), values in known.items()
        ]
    return found


async def settle(
    connection: Connection, silences: Mapping[str, Collection[Stretch]], *, horizon: datetime
) -> set[Bucket]:
    """Withdraw the integral where steps cover silences, and let it stand in where none does."""
    return await settle_judged(connection, await judged(connection, silences), horizon=horizon)


async def settle_judged(
    connection: Connection, found: Mapping[str, Covers], *, horizon: datetime
) -> set[Bucket]:
    """The same where the steps are known."""
    changed: set[Bucket] = set()
    for counter, covers in found.items():
        some = sorted(covers)
        devices, begins, ends, closings = map(list, zip(*some, strict=True))
        named = {"devices": devices, "begins": begins, "ends": ends}
        where = {"lowest": min(begins), "highest": max(closings) + _QUARTER, "horizon": horizon}
        covered = [covers[one] is not None for one in some]
        changed.update(
            await on_counter(connection, "settle_integral", counter, **named, **where, covered=covered)
        )
    return changed


async def deduct_frozen(
    connection: Connection, found: Mapping[str, Covers], made: Collection[Bucket], *, horizon: datetime
) -> None:
    """Take from new steps what the integral has made of frozen quarters of an hour that they cover."""
    for counter, covers in found.items():
        some = [
            (one.device, one.begin, one.end, closing)
            for one, closing in sorted(covers.items(), key=lambda item: item[0])
            if closing is not None and one.begin < horizon <= closing and (one.device, closing) in made
        ]
        if some:
            devices, begins, ends, closings = map(list, zip(*some, strict=True))
            where = {"lowest": min(begins), "highest": max(closings) + _QUARTER, "horizon": horizon}
            named = {"devices": devices, "begins": begins, "ends": ends, "closings": closings}
            step_wh = 1000 // QUANTITY_BY_NAME[counter].factor
            await on_counter(connection, "deduct_frozen", counter, **named, **where, step_wh=step_wh)
