"""Where quarters of an hour meet others of which only the rollup is left: steps are taken by arithmetic."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Final

from reference_server.storage.connection import Connection
from reference_server.storage.covers import settle
from reference_server.storage.schema_sql import BIT_OF, COUNTERS, POWER_OF
from reference_server.storage.silences import (
    Bucket,
    Known,
    Made,
    Stretch,
    on_counter,
    values_before,
)
from sungrow_lib.quantities import QUANTITY_BY_NAME
from sungrow_lib.quantities.counters import break_of

_QUARTER: Final = timedelta(minutes=15)
_MS: Final = timedelta(milliseconds=1)
_LONGEST: Final = timedelta(days=24)
"""A longer silence counts for so long, as in `stepped_readings`."""


def ends_of_runs(buckets: Collection[Bucket]) -> dict[str, list[Bucket]]:
    """Quarters of an hour after which others may follow that are frozen; the same for every counter."""
    ends = [(device, start) for device, start in sorted(buckets) if (device, start + _QUARTER) not in buckets]
    return {counter.name: ends for counter in COUNTERS}


def begins_of_runs(buckets: Collection[Bucket], made: Mapping[Bucket, Made]) -> dict[Bucket, int]:
    """Quarters before which others may lie that are frozen, with the counters that have a value."""
    return {
        (device, start): made[device, start].held
        for device, start in buckets
        if (device, start - _QUARTER) not in buckets and (device, start) in made
    }


async def mend_seams(
    connection: Connection, seams: Collection[tuple[str, Bucket]], *, horizon: datetime
) -> set[Bucket]:
    """Take the steps towards quarters of an hour whose readings are gone from the values now before them.

    What they counted within themselves stays. An import has put readings in front of them: without this the
    energy between would be lost, or, where the old step covered the time of the import, be counted twice.

    Returns:
        What changed.
    """
    changed: set[Bucket] = set()
    for counter, bucket in sorted(seams):
        known = (await values_before(connection, {bucket: BIT_OF[counter]})).get(bucket, {}).get(counter)
        if known is not None and await _mend(connection, counter, bucket, known):
            stretch = Stretch(bucket[0], known.bucket, bucket[1], bucket[1])
            changed |= {bucket} | await settle(connection, {counter: [stretch]}, horizon=horizon)
    return changed


async def _mend(connection: Connection, counter: str, bucket: Bucket, known: Known) -> bool:
    named = {"device": bucket[0], "bucket": bucket[1]}
    for first, first_ts, last, nominal_kw in await on_counter(connection, "seam", counter, **named):
        quantity, elapsed_ms = QUANTITY_BY_NAME[counter], min(first_ts - known.ts, _LONGEST) // _MS
        is_break = break_of(quantity, first, known.value, elapsed_ms, nominal_kw, may_reset=False)
        step = 0 if is_break else first - known.value
        moment = {"device": bucket[0], "ts": first_ts}
        await on_counter(connection, "unflag_seam", counter, **moment)
        if is_break:
            await on_counter(connection, "flag_seam", counter, **moment, value=first, before=known.value)
        await on_counter(connection, "mend_seam", counter, **named, increase=last - first + step)
        if counter in POWER_OF:
            await on_counter(connection, "forget_integral", counter, **named)
        return True
    return False
