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
_LONGEST: Final = timedelta(minutes=65)
"""Readings that lie farther apart are moments, and stand for none of the time between. Those that are an hour
apart may be late by something."""
_FEWEST: Final = 3
"""So many distances at least tell which one is usual."""
_BESIDE: Final = 25
"""Distances before a reading's own, and after it, that tell which one is usual there."""


class Spaced(NamedTuple):
    """What is found of a part of a file.

    Attributes:
        intervals: the interval of its readings that do not say what time they stand for, if one was taken.
        spans: what time these stand for, by their time stamps.
        too_few: whether they lie so far apart that they would need one, and are too few to tell.
    """

    intervals: Collection[timedelta]
    spans: Mapping[datetime, timedelta]
    too_few: bool = False


class Spacing:
    """Finds what time the readings of a file stand for, part by part.

    Each stands for the time since the one before it, but for no more than three times the interval: that is
    what is given, or the median of the distances around it. So a gap stays one, and a file whose interval
    changes is followed from the reading on with which it does.

    Args:
        given: the interval that somebody named; it holds for exports and captures, too.
        covered: up to this interval the rule for readings that are polled covers all of the time, and holds.
    """

    def __init__(self, given: timedelta | None, covered: timedelta) -> None:
        self._given = given
        self._covered = covered
        self._before: deque[timedelta] = deque(maxlen=_BESIDE)
        self._last: datetime | None = None

    def fill(self, part: Sequence[Told]) -> Spaced:
        """Find what those readings of a part stand for that do not say so."""
        stamps = sorted({told.sample.ts for told in part})
        if self._last is not None and self._last < stamps[0]:
            stamps = [self._last, *stamps]
        since = {later: later - earlier for earlier, later in pairwise(stamps)}
        usual = self._usual(since)
        self._before.extend(since.values())
        self._last = stamps[-1]
        silent = [told for told in part if told.sample.interval_s is None]
        spans: dict[datetime, timedelta] = {}
        intervals: set[timedelta] = set()
        asking = [told.sample.ts for told in silent if self._given or not told.knows_intervals]
        for ts in asking:
            interval = self._given or usual.get(ts) or usual.get(stamps[1 % len(stamps)])
            if interval is not None and (self._given or self._needs_saying(interval)):
                intervals.add(interval)
                spans[ts] = min(since.get(ts, interval), MOST_INTERVALS * interval)
        too_few = not (self._given or usual) and any(map(self._needs_saying, since.values()))
        return Spaced(intervals, spans, too_few=bool(asking) and too_few)

    def _needs_saying(self, interval: timedelta) -> bool:
        return self._covered < interval <= _LONGEST

    def _usual(self, since: Mapping[datetime, timedelta]) -> dict[datetime, timedelta]:
        """The usual distance around each reading; nothing where there are too few to tell."""
        known = len(self._before)
        distances = [*self._before, *since.values()]
        if len(distances) < _FEWEST:
            return {}
        return {
            ts: median_low(distances[max(0, at - _BESIDE) : at + _BESIDE + 1])
            for at, ts in enumerate(since, known)
        }


__all__ = ["MOST_INTERVALS", "Spaced", "Spacing"]
