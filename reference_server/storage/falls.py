"""Counters that show a value far below, just before a quarter of an hour begins.

A quarter compares its values with those of the last minutes in front of it. When one of these is a fall, and
nothing else is there because an outage lies before, the value from before the outage is what tells whether
the fall was nonsense.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from reference_server.storage.connection import Connection
from reference_server.storage.database import fetch
from reference_server.storage.schema_sql import BIT_OF
from reference_server.storage.silences import (
    Bucket,
    Known,
    Made,
    Values,
    columns_of,
    on_counter,
    values_before,
)
from reference_server.zones import quarter_of


async def fallen(connection: Connection, made: Mapping[Bucket, Made]) -> set[Bucket]:
    """Those of some quarters in which a lifetime counter fell."""
    broken = [bucket for bucket, told in made.items() if told.has_break]
    if not broken:
        return set()
    rows = await fetch(connection, "falls_in", counters=list(BIT_OF), **columns_of(broken))
    return {(device, bucket) for device, bucket, _ in rows}


Falls = dict[str, set[Bucket]]
"""Quarters of an hour in which a counter fell."""


async def known_beyond_falls(
    connection: Connection, buckets: Sequence[Bucket], reach: Mapping[str, Any]
) -> tuple[Values, Falls]:
    """For quarters that see a fall in front of them, the counters' last values before what they see.

    Returns:
        These; and where the falls are that are seen.
    """
    rows = await fetch(connection, "falls_in_sight", counters=list(BIT_OF), **columns_of(buckets), **reach)
    seen: dict[str, list[tuple[Bucket, datetime]]] = defaultdict(list)
    falls: Falls = defaultdict(set)
    for device, bucket, counter, moment, fallen_in in rows:
        seen[counter].append(((device, bucket), moment))
        falls[counter].add((device, fallen_in))
    found: Values = defaultdict(dict)
    for counter, some in seen.items():
        for bucket, known in (await _before(connection, counter, some, reach)).items():
            found[bucket][counter] = known
    return dict(found), falls


def both(known: Values, beyond: Values) -> Values:
    """What is known from long before, and of some counters from before what a quarter sees."""
    return known | {bucket: known.get(bucket, {}) | values for bucket, values in beyond.items()}


async def _before(
    connection: Connection,
    counter: str,
    seen: Sequence[tuple[Bucket, datetime]],
    reach: Mapping[str, Any],
) -> dict[Bucket, Known]:
    """Last values before moments: in the same quarter of an hour from readings, before it from rollups."""
    named = columns_of([bucket for bucket, _ in seen]) | {"moments": [moment for _, moment in seen]}
    rows = await on_counter(connection, "known_within", counter, **named, **reach)
    found = {(device, bucket): Known(quarter_of(ts), ts, value) for device, bucket, ts, value in rows}
    rest = {bucket: (bucket[0], quarter_of(moment)) for bucket, moment in seen if bucket not in found}
    if rest:
        before = await values_before(connection, dict.fromkeys(rest.values(), BIT_OF[counter]))
        known = {bucket: before.get(quarter, {}).get(counter) for bucket, quarter in rest.items()}
        found |= {bucket: value for bucket, value in known.items() if value is not None}
    return found
