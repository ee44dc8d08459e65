"""How many readings go into one request: as many as server and link take well."""

from __future__ import annotations

from typing import Final

_FIRST: Final = 32
"""Readings of the first request: few enough for the narrowest line, and soon as many as any other takes."""
_GOOD_BATCHES: Final = 20
"""So many in a row, and twice as many readings are tried: a limit that stands costs one request in twenty."""


class BatchSize:
    """Halves when a request was too large or too slow, doubles again when all went well for a while.

    It begins small and doubles with each request that was answered well in time, until one was not: a line
    on which the largest batch does not pass in time would be found out by waiting for that in vain.

    Args:
        most: never more than this.
        slow_s: a request that took longer was too slow, in seconds.
    """

    def __init__(self, most: int, slow_s: float) -> None:
        self._most = most
        self._slow_s = slow_s
        self._good = 0
        self._needed = 1
        self.current = min(most, _FIRST)
        """Readings the next request may hold."""

    def passed(self, count: int, seconds: float) -> None:
        """Note a batch of so many that was answered; one far smaller than it might be tells nothing."""
        if count <= self.current // 2:
            return
        if seconds > self._slow_s:
            self.too_large(count)
            return
        if 2 * seconds > self._slow_s:  # twice as many would be too slow
            self._needed = _GOOD_BATCHES
        self._good += 1
        if self._good >= self._needed:
            self._good = 0
            self.current = min(2 * self.current, self._most)

    def too_large(self, count: int) -> None:
        """Note that so many were refused for their size, or not taken in time; one cannot be parted."""
        if count > 1:
            self._good, self._needed = 0, _GOOD_BATCHES
            self.current = min(self.current, count // 2)
