"""Bodies on their way: what has come of those that come slowly is counted, and bounded for each sender.

A body that is there at once needs no more than a look. Of the others each is given a while; then what has
come of it counts for as long as it comes. Who has too much on its way, or sends nothing more, is told to come
again: an edge keeps what it sends until it is answered.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

from reference_server.problems import not_now

SLOW_S: Final = 0.25
"""s after which a body that is still on its way is a slow one."""
SILENT_S: Final = 60.0
"""s without a byte after which nobody waits for the rest of a slow one."""
SIZE: Final = 32 * 2**20
"""Bytes of slow bodies that are in memory at once."""
SHARE: Final = 4
"""The part of them that those of one sender may be."""


class SlowBodies:
    """Counts what has come of slow bodies.

    Args:
        largest: bytes of the largest body there may be: one is never too much.
        size: bytes that may be there at once, unless that is less than some largest ones.
    """

    def __init__(self, largest: int, size: int = SIZE) -> None:
        self._size = max(size, SHARE * largest)
        self._of: Counter[bytes] = Counter()

    def arrival(self, sender: bytes) -> Arrival:
        """Return what watches a body of this sender."""
        return Arrival(self, sender)

    def count(self, sender: bytes, size: int) -> bool:
        """Count so many bytes more, or less; return whether there may be as many as there are then."""
        self._of[sender] += size
        if not self._of[sender]:
            del self._of[sender]
        return self._of[sender] <= self._size // SHARE and self._of.total() <= self._size


class Arrival:
    """Watches one body.

    Args:
        bodies: where it counts.
        sender: of whose it is one.
    """

    __slots__ = ("_bodies", "_came", "_counted", "_end", "_is_slow", "_sender", "_timer", "_why")

    def __init__(self, bodies: SlowBodies, sender: bytes) -> None:
        self._bodies = bodies
        self._sender = sender
        self._came = 0
        self._counted = 0
        self._is_slow = False
        self._why = "the rest of the body did not come"
        self._end: asyncio.Timeout
        self._timer: asyncio.TimerHandle

    @asynccontextmanager
    async def under_way(self) -> AsyncIterator[None]:
        """Watch it for as long as the context is open.

        Raises:
            Problem: 503, its sender has too much on the way, or sends nothing more.
        """
        self._end = asyncio.timeout(None)
        try:
            async with self._end:
                self._go_on()
                yield
        except TimeoutError:
            raise not_now(self._why) from None
        finally:
            self._timer.cancel()
            self._bodies.count(self._sender, -self._counted)

    def came(self, size: int) -> None:
        """Note that so many bytes have come in all."""
        self._came = size
        if self._is_slow:
            self._look()

    @contextmanager
    def kept_waiting(self) -> Iterator[None]:
        """Note that it is not its sender who is waited for."""
        self._timer.cancel()
        self._end.reschedule(None)
        yield
        self._go_on()

    def _go_on(self) -> None:
        """Wait for its sender."""
        if self._is_slow:
            self._look()
        else:
            self._timer = asyncio.get_running_loop().call_later(SLOW_S, self._note_slow)

    def _note_slow(self) -> None:
        self._is_slow = True
        self._look()

    def _look(self) -> None:
        """Count what has come, and see to it that what may not go on ends."""
        more, self._counted = self._came - self._counted, self._came
        now = asyncio.get_running_loop().time()
        if self._bodies.count(self._sender, more):
            self._end.reschedule(now + SILENT_S)
        else:
            self._why = "too many bodies are on their way that come slowly"
            self._end.reschedule(now)
