"""Up to when rollups are frozen: behind the retention horizon, and where raw readings were ever dropped."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from time import monotonic
from typing import Any, Final

from reference_server.storage.connection import Connection
from reference_server.storage.database import Database, fetch

SLACK: Final = timedelta(days=1)
"""Raw readings stay so much longer than the horizon: a late reading just inside it finds its bucket whole."""

_NEAREST: Final = timedelta(days=1)
"""No horizon is nearer, so neither is that of a mark made by a clock that was wrong."""
_LOOK_AGAIN_S: Final = 10.0


class Horizon:
    """The retention horizon, and no earlier than one by which raw readings were dropped before.

    Args:
        retention: how long raw readings are kept now. It may have been shorter until lately, or be so in
            another process: what was dropped by that does not come back.
        clock: tells the time, UTC.
    """

    def __init__(self, retention: timedelta, clock: Callable[[], datetime]) -> None:
        self._retention = retention
        self._clock = clock
        self._dropped: datetime | None = None
        self._again: float | None = None

    async def now(self, connection: Connection) -> datetime:
        """Return it for who is about to change rollups, and holds the locks of their shards.

        Whoever drops readings says so, and waits for these locks, before the first one is gone.
        """
        self._note(await fetch(connection, "dropped_until"))
        return self._begin()

    async def lately(self, database: Database) -> datetime:
        """Return it as it was some seconds ago, for who answers requests.

        A reading that is taken though it lies behind stands among the others; rollups stay as they are.

        Raises:
            StorageError: the database has to be asked and cannot be used.
        """
        if self._again is None:
            self._note(await database.rows("dropped_until"))
            self._again = monotonic() + _LOOK_AGAIN_S
        elif monotonic() > self._again:
            self._again = monotonic() + _LOOK_AGAIN_S  # one asks, the others go by what was
            self._note(await database.rows("dropped_until"))
        return self._begin()

    def _note(self, rows: list[tuple[Any, ...]]) -> None:
        self._dropped = rows[0][0] if rows else None

    def _begin(self) -> datetime:
        now = self._clock()
        configured = now - self._retention
        if self._dropped is None:
            return configured
        return max(configured, min(self._dropped + SLACK, now - _NEAREST))
