"""Keeps the rollups fresh: in the background for every device, at once for one about to be read."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from datetime import datetime
from time import monotonic
from typing import Any, Final

from reference_server.storage.database import Database
from reference_server.storage.errors import StorageError
from reference_server.storage.horizon import Horizon
from reference_server.storage.rollups import (
    MARKS_AT_ONCE,
    SHARDS,
    mark_silences,
    refresh_shards,
)

_LOG: Final = logging.getLogger(__name__)

_PAUSES: Final = 9
"""While readings come, the refresher pauses so many times longer than it works: who needs a device fresh does
not wait for it, and marks that wait longer are merged further."""

_TOGETHER_S: Final = 0.3
"""Shards whose marks are expected to take so long in all, or shorter, share a transaction: to plan its long
statements takes as long as to recompute ten buckets. Readers of all these shards wait as long, though."""

_MARK_S: Final = 0.005
"""What a mark is expected to take as long as none was worked off."""

_READER_WAITS_S: Final = 2.0
"""So long a reader waits while another process is at its device's shard: longer than most refreshes take, but
not as long as an import."""

_READER_ASKS_S: Final = 0.05
"""And so long from one look to the next, with no connection in hand."""

_PATIENCE_S: Final = 60.0
"""The longer the oldest mark waits, the shorter are the pauses; there are none when it waits so long."""


class RollupRefresher:
    """Works off the marks that ingest leaves.

    Args:
        database: where they are.
        readers: the same, for what is refreshed because somebody reads it; None for ``database``.
        horizon: rollups behind it are frozen.
        interval_s: pause between two looks.
        clock: tells the time, UTC.
    """

    def __init__(
        self,
        database: Database,
        *,
        readers: Database | None = None,
        horizon: Horizon,
        interval_s: float,
        clock: Callable[[], datetime],
    ) -> None:
        self._database = database
        self._readers = readers or database
        self._horizon = horizon
        self._interval_s = interval_s
        self._clock = clock
        self._newest = 0
        self._mark_s = _MARK_S
        self._busy_since: dict[int, float] = {}
        self._fresh_until = monotonic()
        self.refreshed_at: datetime | None = None
        """Up to when this process has worked off every mark it could."""

    async def run(self) -> None:
        """Refresh until cancelled; a database that is away is waited for."""
        is_repaired = await self._is_repaired()  # now: a new database has nothing to repair yet
        while True:
            await asyncio.sleep(self._interval_s)
            is_repaired = is_repaired or await self._is_repaired()
            try:
                await self._refresh_all(self._pause)
            except StorageError as error:
                _say_why(error)

    async def _is_repaired(self) -> bool:
        try:
            return await self.repair()
        except StorageError as error:
            _say_why(error)
        return False

    async def repair(self) -> bool:
        """Mark what an older server counted wrongly, unless that was done before.

        Returns:
            Whether it is done; not while an older one is at work.
        """
        return await mark_silences(self._database, horizon=self._horizon)

    async def refresh_all(self) -> None:
        """Work off all marks that wait now and that no other process is at."""
        await self._refresh_all(None)

    async def _refresh_all(self, pause: Callable[[float], Awaitable[None]] | None) -> None:
        """Work off the marks there are now, and none that come meanwhile: those might never end."""
        now, begin = self._clock(), monotonic()
        waiting = deque(await self._database.rows("marked_shards", shards=SHARDS))
        while waiting:  # each in turn, those with many again
            some = self._together(waiting)
            newest = max(newest for _, newest, _ in some)
            shards = [shard for shard, _, _ in some]
            began = monotonic()
            done = await refresh_shards(self._database, shards, horizon=self._horizon, newest=newest)
            worked_s = monotonic() - began
            if done:
                self._mark_s = (self._mark_s + worked_s / done) / 2
            if done >= MARKS_AT_ONCE:
                waiting += some
            if pause is not None:
                await pause(worked_s)
        self.refreshed_at, self._fresh_until = now, begin

    def _together(self, waiting: deque[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        """Take shards that share a transaction; each with the newest of its marks, and how many there are."""
        some = [waiting.popleft()]
        count = some[0][2]
        while waiting and (count + waiting[0][2]) * self._mark_s <= _TOGETHER_S:
            count += waiting[0][2]
            some.append(waiting.popleft())
        return some

    async def _pause(self, worked_s: float) -> None:
        """Leave the database to ingest while there is any and the rollups are not too far behind it."""
        [(newest,)] = await self._database.rows("newest_mark")
        has_come = (newest or 0) > self._newest
        self._newest = max(self._newest, newest or 0)
        patience = 1 - (monotonic() - self._fresh_until) / _PATIENCE_S
        if has_come and patience > 0:
            await asyncio.sleep(_PAUSES * patience * worked_s)

    async def refresh_device(self, device: int) -> None:
        """Make a device's rollups tell what is stored, so that a reader sees what was just written.

        While an import, say, holds the device's shard for long, they stay as they are.
        """
        shard = device % SHARDS
        while (await self._readers.rows("device_is_marked", device=device)) == [(True,)]:
            if not await refresh_shards(self._readers, [shard], horizon=self._horizon):
                since = self._busy_since.setdefault(shard, monotonic())  # one waits for all that come later
                if monotonic() - since >= _READER_WAITS_S:
                    return
                await asyncio.sleep(_READER_ASKS_S)
        self._busy_since.pop(shard, None)


def _say_why(error: StorageError) -> None:
    _LOG.warning("rollups cannot be refreshed now", extra={"error": str(error)})
