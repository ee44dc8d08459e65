"""What is to do at the retention horizon: raw readings are forgotten, rollups and aggregates are kept."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from reference_server.storage.database import Database
from reference_server.storage.rollups import LOCK_NAMESPACE, SHARDS

IMPORTS: Final = 0x53470003
"""First key of the advisory locks that imports hold, so that no raw reading is dropped meanwhile."""

_ROWS_AT_ONCE: Final = 10_000


async def drop_raw(database: Database, before: datetime) -> None:
    """Delete raw readings from before a moment, in transactions too short to hold up ingest.

    While an import goes on they stay: its next part builds on them. Rollups of what is gone must not be made
    anew ever again, by whatever retention: that is said first, and whoever has not heard it is waited for,
    also where it was said before: who said it may have waited in vain.

    Raises:
        StorageError: the database cannot be used.
    """
    if not await database.rows("note_dropped", before=before, imports=IMPORTS):
        return
    for shard in range(SHARDS):
        await database.rows("lock_shard", namespace=LOCK_NAMESPACE, shard=shard)
    if (await database.engine()).community:
        await database.rows("drop_old_chunks", before=before, imports=IMPORTS)
        return
    for (device,) in await database.rows("devices_with_old_samples", before=before):
        deleted = _ROWS_AT_ONCE
        while deleted == _ROWS_AT_ONCE:
            [(deleted,)] = await database.rows(
                "delete_old_samples", device=device, before=before, limit=_ROWS_AT_ONCE, imports=IMPORTS
            )


async def refresh_unreached(database: Database, horizon: datetime, now: datetime) -> None:
    """Bring the continuous aggregates in step where their refresh policies do not: around the horizon.

    Raises:
        StorageError: the database cannot be used.
    """
    if (await database.engine()).community:
        for name, until in await database.rows("unreached_by_policies", horizon=horizon, now=now):
            await database.call("refresh_aggregate", name=name, until=until)
