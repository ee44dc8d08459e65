"""Forgets raw readings behind the retention horizon; rollups are never dropped."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from reference_server.storage.database import Database
from reference_server.storage.migrations import Engine

_ROWS_AT_ONCE: Final = 10_000


async def drop_raw(database: Database, before: datetime) -> None:
    """Delete raw readings from before a moment, in transactions too short to hold up ingest.

    Raises:
        StorageError: the database cannot be used.
    """
    if Engine.from_row(*(await database.rows("engine"))[0]).community:
        await database.rows("drop_old_chunks", before=before)
        return
    for (device,) in await database.rows("devices_with_old_samples", before=before):
        deleted = _ROWS_AT_ONCE
        while deleted == _ROWS_AT_ONCE:
            [(deleted,)] = await database.rows(
                "delete_old_samples", device=device, before=before, limit=_ROWS_AT_ONCE
            )
