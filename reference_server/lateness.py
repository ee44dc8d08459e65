"""Which readings may have come after younger ones: open streams pass over them, and must be told.

Whether they did, the database knows (`note_backfills`). It is asked only where this process cannot know
better: about old readings, and about devices that send to other processes, too.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import datetime, timedelta
from time import monotonic
from typing import Final

from reference_server.storage.arrivals import LateBatch

_OLD: Final = timedelta(seconds=30)
"""A batch that ends longer ago than this may be a backlog, whoever took what came before it."""
_USUAL: Final = timedelta(seconds=5)
"""A batch that ends longer ago than this is suspected where nobody is named."""
_ELSEWHERE_S: Final = 60.0
_RECENT_S: Final = 2.0
"""s; a hint is told after a pause, so it may be about younger readings than what came here meanwhile."""
_MOST_DEVICES: Final = 100_000


class Lateness:
    """Suspects batches.

    Args:
        clock: tells the time, UTC.
    """

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._newest: dict[int, datetime] = {}
        self._elsewhere: dict[int, float] = {}
        self._anybody_until = 0.0
        self._recent: dict[int, tuple[float, LateBatch]] = {}

    def suspects(self, batch: LateBatch) -> bool:
        """Whether a batch that was just taken, or a part of it, may be late."""
        newest = self._newest.get(batch.device, batch.first)
        if len(self._newest) >= _MOST_DEVICES:
            self._newest.clear()
        self._newest[batch.device] = max(newest, batch.last)
        now = monotonic()
        age = self._clock() - batch.last
        if (
            batch.first < newest
            or age > _OLD
            or now < self._elsewhere.get(batch.device, 0.0)
            or (age > _USUAL and now < self._anybody_until)
        ):
            return True
        if len(self._recent) >= _MOST_DEVICES:
            self._recent.clear()
        self._recent[batch.device] = now, batch
        return False

    def heard(self, devices: Collection[int] | None) -> list[LateBatch]:
        """Note that another process took readings of these devices, or of any.

        Returns:
            What came here last of those that are named, and is suspect by that.
        """
        now = monotonic()
        if len(self._elsewhere) >= _MOST_DEVICES:
            self._elsewhere.clear()
            devices = None
        if devices is None:
            self._anybody_until = now + _ELSEWHERE_S
            return []
        self._elsewhere |= dict.fromkeys(devices, now + _ELSEWHERE_S)
        entries = [self._recent[device] for device in self._recent.keys() & devices]
        found = [batch for at, batch in entries if now - at < _RECENT_S]
        for batch in found:
            del self._recent[batch.device]
        return found
