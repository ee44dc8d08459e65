"""Drops raw readings older than the owner wants to keep, and sees to the aggregates at that horizon."""

from __future__ import annotations

import logging
import random
from asyncio import sleep
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from reference_server.storage.database import Database
from reference_server.storage.errors import StorageError
from reference_server.storage.horizon import SLACK
from reference_server.storage.retention import drop_raw, refresh_unreached
from reference_server.zones import quarter_of

_LOG: Final = logging.getLogger(__name__)

_INTERVAL_S: Final = 3600.0
_SOON_S: Final = 60.0, 300.0
"""After a start, or a failure, it is done within so long: also by a server that never runs for an hour, but
not while all else begins."""


class Retention:
    """Keeps raw readings for a while, and no longer.

    Args:
        database: where they are.
        retention: how long they are kept.
        clock: tells the time, UTC.
    """

    def __init__(self, database: Database, *, retention: timedelta, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._retention = retention
        self._clock = clock

    async def run(self) -> None:
        """Drop what is too old and refresh what nothing else does: soon, then every hour until cancelled."""
        pause_s = _soon()
        while True:
            await sleep(pause_s)
            pause_s = _INTERVAL_S
            try:
                await self.drop()
                await self.refresh()
            except StorageError as error:
                pause_s = _soon()
                _LOG.warning("old readings cannot be dropped now", extra={"error": str(error)})

    async def drop(self) -> None:
        """Drop what is too old now, by whole quarters of an hour: what is left of one would pass for all.

        Raises:
            StorageError: the database cannot be used.
        """
        await drop_raw(self._database, quarter_of(self._clock() - self._retention - SLACK))

    async def refresh(self) -> None:
        """Let late readings reach the hour, day and month that the horizon cuts; policies refresh whole ones.

        Raises:
            StorageError: the database cannot be used.
        """
        now = self._clock()
        await refresh_unreached(self._database, now - self._retention, now)


def _soon() -> float:
    return random.uniform(*_SOON_S)  # noqa: S311 - jitter
