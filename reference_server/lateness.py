"""Which readings may have come after younger ones: open streams pass over them, and must be told.

Whether they did, the database knows (`note_backfills`). It is asked only where this process cannot know
better: about old readings, and about devices that send to other processes, too. Its answer is believed until
another process tells of the device: of a backlog that drains here, and nowhere else, it is asked once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import datetime, timedelta
from time import monotonic
from typing import Final, NamedTuple

from reference_server.storage.arrivals import LateBatch

_OLD: Final = timedelta(seconds=30)
"""A batch that ends longer ago than this may be a backlog, whoever took what came before it."""
_USUAL: Final = timedelta(seconds=5)
"""A batch that ends longer ago than this is suspected where nobody is named."""
_ELSEWHERE_S: Final = 60.0
_RECENT_S: Final = 2.0
"""s; a hint is told after a pause, so it may be about younger readings than what came here meanwhile."""
_MOST_DEVICES: Final = 100_000


class _Taken(NamedTuple):
    """A batch that was not suspected.

    Attributes:
        at: monotonic time when it was taken.
        batch: what was taken.
        is_vouched: whether the database's word alone kept it from being suspected.
    """

    at: float
    batch: LateBatch
    is_vouched: bool


class Lateness:
    """Suspects batches.

    Args:
        clock: tells the time, UTC.
    """

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._newest: dict[int, datetime] = {}
        self._vouched: set[int] = set()  # the database has nothing of them that is younger than that
        self._asked: set[int] = set()  # nobody told of them since the database was asked
        self._elsewhere: dict[int, float] = {}
        self._anybody_until = 0.0
        self._recent: dict[int, list[_Taken]] = {}

    def suspects(self, batch: LateBatch) -> bool:
        """Whether a batch that was just taken, or a part of it, may be late."""
        device = batch.device
        newest = self._newest.get(device, batch.first)
        if len(self._newest) >= _MOST_DEVICES:
            self._newest.clear()
            self._vouched.clear()
        self._newest[device] = max(newest, batch.last)
        if batch.first < newest:
            return True
        now = monotonic()
        age = self._clock() - batch.last
        is_suspect = (
            age > _OLD
            or now < self._elsewhere.get(device, 0.0)
            or (age > _USUAL and now < self._anybody_until)
        )
        if is_suspect and device not in self._vouched:
            return True
        self._keep(_Taken(now, batch, is_suspect))
        return False

    def _keep(self, taken: _Taken) -> None:
        if len(self._recent) >= _MOST_DEVICES:
            self._recent.clear()
        known = self._recent.setdefault(taken.batch.device, [])
        if known and taken.at - known[0].at >= _RECENT_S:
            known[:] = [other for other in known if taken.at - other.at < _RECENT_S]
        known.append(taken)

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
            suspects, self._vouched = self._vouched, set()
            self._asked.clear()
            return [taken.batch for taken in self._taken_lately(suspects) if taken.is_vouched]
        self._elsewhere |= dict.fromkeys(devices, now + _ELSEWHERE_S)
        self._vouched.difference_update(devices)
        self._asked.difference_update(devices)
        return [taken.batch for taken in self._taken_lately(devices)]

    def asks(self, devices: Iterable[int]) -> None:
        """Note that the database is about to be asked for the newest readings of these devices."""
        self._asked = set(devices)

    def told(self, newest: Mapping[int, datetime]) -> None:
        """Take the answer: of which device the newest reading there is how old."""
        for device in self._asked & newest.keys():
            if device in self._newest and newest[device] <= self._newest[device]:
                self._vouched.add(device)
        self._asked.clear()

    def _taken_lately(self, devices: Collection[int]) -> list[_Taken]:
        """What came of these devices last, and is known no more."""
        now = monotonic()
        known = [self._recent.pop(device) for device in self._recent.keys() & devices]
        return [taken for some in known for taken in some if now - taken.at < _RECENT_S]
