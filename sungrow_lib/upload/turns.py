"""One connection at a time is opened.

On a narrow line several that are opened at once all take longer than any may take. And where there is no way
to the server, one finds that out for all.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

import anyio

from sungrow_lib.errors import ServerUnreachableError

_IS_OPEN: Final = "send_request_headers.started"
"""How the name of what httpcore does next ends, once a request has its connection."""


class Turn:
    """A request that may open a connection; nobody else may until it has one.

    Args:
        lock: which it holds.
    """

    def __init__(self, lock: anyio.Lock) -> None:
        self._lock = lock
        self.is_on = True
        """Whether it has no connection yet."""

    async def note(self, name: str, info: dict[str, object]) -> None:
        """Take note of what httpcore does for the request (its extension `trace`)."""
        del info
        if name.endswith(_IS_OPEN):
            self.end()

    def end(self) -> None:
        """Let the next one have its turn; once is enough."""
        if self.is_on:
            self.is_on = False
            self._lock.release()


class Turns:
    """Gives each request its turn."""

    def __init__(self) -> None:
        self._lock = anyio.Lock()
        self._failures = 0
        self._reason = ""

    @asynccontextmanager
    async def take(self) -> AsyncIterator[Turn]:
        """Wait for a turn, which ends once there is a connection: a new one, or one that came free meanwhile.

        Raises:
            ServerUnreachableError: one that was waited for could not be opened, and neither could another.
        """
        earlier = self._failures
        await self._lock.acquire()
        turn = Turn(self._lock)
        try:
            if earlier != self._failures:
                raise ServerUnreachableError(self._reason, was_connected=False)
            with self._noting(turn):
                yield turn
        finally:
            turn.end()

    @contextmanager
    def _noting(self, turn: Turn) -> Iterator[None]:
        try:
            yield
        except ServerUnreachableError as error:
            if turn.is_on:
                self._failures += 1
                self._reason = str(error)
            raise
