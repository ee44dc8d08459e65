"""What time imported readings stand for that do not say so themselves: how far apart they lie tells it."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from statistics import median_low
from typing import Final, NamedTuple

from reference_server.history_files import Told

MOST_INTERVALS: Final = 3
"""A reading stands for no more than this many intervals, as one that is polled does."""
_LONGEST: Final = timedelta(hours=1)
"""Readings that lie farther apart are moments, and stand for none of the time between."""
_FEWEST: Final = 3
"""So many distances at least tell which one is usual."""
_REMEMBERED: Final = 2_000


class Spaced(NamedTuple):
    """What is found of a part of a file.

    Attributes:
        intervals: the interval of its readings that do not say what time they stand for, if one was taken.
        spans: what time these stand for, by their time stamps.
    """

    intervals: Collection[timedelta]
    spans: Mapping[datetime, timedelta]


class Spacing:
    """Finds what time the readings of a file stand for, part by part.

    Each stands for the time since the one before it, but for no more than three times the interval: that is
    what is given, or the median of the latest 2,000 distances. So a gap stays one, and a file whose interval
    changes is followed.

    Args:
        given: the interval that somebody named; it holds for exports and captures, too.
        covered: up to this interval the rule for readings that are polled covers all of the time, and holds.
    """

    def __init__(self, given: timedelta | None, covered: timedelta) -> None:
        self._given = given
        self._covered = covered
        self._distances: deque[timedelta] = deque(maxlen=_REMEMBERED)
        self._last: datetime | None = None

    def fill(self, part: Sequence[Told]) -> Spaced:
        """Find what those readings of a part stand for that do not say so."""
        stamps = sorted({told.sample.ts for told in part})
        if self._last is not None and self._last < stamps[0]:
            stamps = [self._last, *stamps]
        since = {later: later - earlier for earlier, later in pairwise(stamps)}
        self._distances.extend(since.values())
        self._last = stamps[-1]
        interval = self._given or self._usual()
        silent = [told for told in part if told.sample.interval_s is None]
        silent = [told for told in silent if self._given or not told.knows_intervals]
        if interval is None or not silent:
            return Spaced((), {})
        longest = MOST_INTERVALS * interval
        stamps = [told.sample.ts for told in silent]
        return Spaced((interval,), {ts: min(since.get(ts, interval), longest) for ts in stamps})

    def _usual(self) -> timedelta | None:
        if len(self._distances) < _FEWEST:
            return None
        usual = median_low(self._distances)
        return usual if self._covered < usual <= _LONGEST else None


__all__ = ["MOST_INTERVALS", "Spaced", "Spacing"]
