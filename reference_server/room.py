"""Room for large batches: so many bytes of them are in hand at once, and whoever comes later waits its turn.

Nothing is refused for want of room. Small batches, fresh readings above all, neither wait nor count. What is
small on its way, because it is compressed, counts once it has arrived. A large one counts while it arrives,
but only for a short while when its line is slow: others need not wait for that.
"""

from __future__ import annotations

import asyncio
from collections import deque
from types import TracebackType
from typing import Final, Self

from aiohttp import web

SIZE: Final = 4 * 2**20
"""Bytes that are in hand at once."""
SMALL: Final = 2**17
"""Bytes up to which a batch needs no room."""
_SLOW_S: Final = 0.25
"""s after which a batch that is still arriving counts no more."""
_EXPANSION: Final = 8
"""How many times larger a compressed batch is once it is decompressed, mostly."""
_DECODED: Final = 3
"""How many times smaller readings are than their JSON."""
_UNTOLD: Final = 2**20
"""Bytes of a batch that does not say how many it has."""


class Room:
    """Room for batches, first come first served.

    Args:
        size: bytes there are.
    """

    def __init__(self, size: int = SIZE) -> None:
        self._size = size
        self._taken = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    def place(self) -> Place:
        """Return a place for a batch; it is still to be taken."""
        return Place(self)

    async def take(self, size: int) -> int:
        """Wait for so many bytes, at most all; return how many they are."""
        size = min(size, self._size)
        if not self._waiting and self._taken + size <= self._size:
            self._taken += size
            return size
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((size, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._let_in()  # those behind it may fit
            else:
                self.give(size)
            raise
        return size

    def give(self, size: int) -> None:
        """Give so many bytes back."""
        self._taken -= size
        self._let_in()

    def _let_in(self) -> None:
        while self._waiting:
            size, turn = self._waiting[0]
            if not turn.done():
                if self._taken + size > self._size:
                    return
                self._taken += size
                turn.set_result(None)
            self._waiting.popleft()


class Place:
    """Room of one batch until it is answered: within it, it is to be taken before the batch needs memory.

    Args:
        room: where it is.
    """

    __slots__ = ("_room", "_size", "_slow")

    def __init__(self, room: Room) -> None:
        self._room = room
        self._size = 0
        self._slow: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        return self

    async def take(self, size: int) -> None:
        """Wait for so many bytes; a small batch needs none."""
        if size > SMALL:
            self._size = await self._room.take(size)
            self._slow = asyncio.get_running_loop().call_later(_SLOW_S, self._keep, 0)

    def arrived(self) -> None:
        """Note that the batch is there as a whole, and decoded."""
        self._keep(self._size // _DECODED)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        """Leave it to others."""
        self._keep(0)

    def _keep(self, size: int) -> None:
        """Give all but so many bytes back, for good."""
        if self._slow is not None:
            self._slow.cancel()
        more, self._size = self._size - size, size
        if more:
            self._room.give(more)


def size_of(request: web.BaseRequest, arrived: int | None) -> int:
    """Bytes that the body of a request will most likely take.

    Args:
        request: whose body.
        arrived: its size as sent, None as long as there is more to come.
    """
    length = arrived if arrived is not None else request.content_length or _UNTOLD
    return length * _EXPANSION if "Content-Encoding" in request.headers else length
