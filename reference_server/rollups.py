"""Keeps the rollups fresh: in the background for every device, at once for one about to be read."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from time import monotonic
from typing import Final

from reference_server.storage.database import Database
from reference_server.storage.errors import StorageError
from reference_server.storage.rollups import SHARDS, refresh_shard

_LOG: Final = logging.getLogger(__name__)

_PAUSES: Final = 3
"""So many times longer than it works the refresher pauses; who needs a device fresh does not wait for it."""


class RollupRefresher:
    """Works off the marks that ingest leaves.

    Args:
        database: where they are.
        retention: rollups of days before it are frozen.
        interval_s: pause between two looks.
        clock: tells the time, UTC.
    """

    def __init__(
        self,
        database: Database,
        *,
        retention: timedelta,
        interval_s: float,
        clock: Callable[[], datetime],
    ) -> None:
        self._database = database
        self._retention = retention
        self._interval_s = interval_s
        self._clock = clock
        self.refreshed_at: datetime | None = None
        """When this process last left no mark it could work off."""

    async def run(self) -> None:
        """Refresh until cancelled; a database that is away is waited for."""
        pause_s = self._interval_s
        while True:
            await asyncio.sleep(pause_s)
            begin = monotonic()
            try:
                await self.refresh_all()
            except StorageError as error:
                _LOG.warning("rollups cannot be refreshed now", extra={"error": str(error)})
            # Ingest comes first, and marks that wait longer are merged further.
            pause_s = max(self._interval_s, _PAUSES * (monotonic() - begin))

    async def refresh_all(self) -> None:
        """Work off all marks that wait now and that no other process is at."""
        for (shard,) in await self._database.rows("marked_shards", shards=SHARDS):
            await refresh_shard(self._database, shard, horizon=self._horizon())
        self.refreshed_at = self._clock()

    async def refresh_device(self, device: int) -> None:
        """Make a device's rollups tell what is stored, so that a reader sees what was just written."""
        while (await self._database.rows("device_is_marked", device=device)) == [(True,)]:
            await refresh_shard(self._database, device % SHARDS, horizon=self._horizon(), wait=True)

    def _horizon(self) -> datetime:
        return self._clock() - self._retention
