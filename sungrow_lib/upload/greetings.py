"""With one connection at a time TLS is begun.

On a narrow line several that begin it at once all take longer than any may take. And where the server does
not answer to it, one finds that out for all that wait. Who has a connection already does not wait.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import anyio


class Greetings:
    """Lets connections begin TLS one after another."""

    def __init__(self) -> None:
        self._lock = anyio.Lock()
        self._failure: Exception | None = None

    def turn(self) -> AbstractAsyncContextManager[None]:
        """Return a turn of a connection that is made from now on, to be waited for by ``async with``.

        Raises:
            Exception: what another one's turn has ended with since now.
        """
        return self._turn(self._failure)

    @asynccontextmanager
    async def _turn(self, earlier: Exception | None) -> AsyncIterator[None]:
        async with self._lock:
            if self._failure is not None and self._failure is not earlier:
                raise _copy(self._failure)
            self._failure = None
            try:
                yield
            except Exception as error:
                self._failure = _copy(error)
                raise


def _copy(error: Exception) -> Exception:
    """Make the same error without what was going on where it was raised: a batch, for instance."""
    same = type(error)(*error.args)
    same.__cause__ = error.__cause__
    return same
