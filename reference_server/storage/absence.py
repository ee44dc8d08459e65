"""Whether the database is away, so that nobody waits for what somebody else has just waited for in vain."""

from __future__ import annotations

import asyncio
import logging
import random
from asyncio import sleep
from collections.abc import Awaitable, Callable
from typing import Final

from reference_server.ending import end
from reference_server.storage.errors import BusyError, StorageError, StorageUnavailableError

_LOG: Final = logging.getLogger(__name__)
_AGAIN_S: Final = 1.0
_JITTER: Final = 0.25
_PATIENCE_S: Final = 0.8
"""So long somebody waits for a look: who asks after the service's health is answered within a second."""


class Absence:
    """Remembers that the database is away until it answers again.

    Only a look says so, made when somebody failed or asks after the service's health: a pool all of whose
    connections are in use, or a connection that was lost, says nothing of the others, nor does a database
    that takes no more connections. While it is away, one
    look a second goes on and all else is refused at once. Whoever is answered proves that it is there.

    Args:
        look: asks the database something; returns what stands against storing there, if anything does, and
            raises what says that it does not answer.
    """

    def __init__(self, look: Callable[[], Awaitable[StorageUnavailableError | None]]) -> None:
        self._look = look
        self._looking: asyncio.Task[StorageUnavailableError | None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._answers = 0
        self._why: str | None = None

    def refuse(self) -> None:
        """Let work begin unless it would be in vain.

        Raises:
            StorageUnavailableError: the database is away.
        """
        if self._why is not None:
            raise StorageUnavailableError(self._why)

    def answered(self) -> None:
        """Note that work was done."""
        self._answers += 1
        if self._why is not None:
            self._is_there()

    def suspect(self) -> None:
        """Somebody failed: see to it that the database is looked at."""
        self._look_now()

    async def found_out(self) -> None:
        """The same, and wait a moment for what is found.

        Raises:
            StorageUnavailableError: the database is away.
        """
        await asyncio.wait({self._look_now()}, timeout=_PATIENCE_S)
        self.refuse()

    async def examined(self) -> None:
        """Look whether readings can be stored now; those who ask at one time share a look.

        Raises:
            StorageUnavailableError: they cannot, or there is no answer yet.
        """
        self.refuse()
        looking = self._look_now()
        await asyncio.wait({looking}, timeout=_PATIENCE_S)
        if not looking.done():
            raise StorageUnavailableError("the database does not answer")
        fault = looking.result()
        if fault is not None:
            raise type(fault)(*fault.args)

    async def close(self) -> None:
        """Look no more."""
        await end([task for task in (self._watching, self._looking) if task is not None])

    def _look_now(self) -> asyncio.Task[StorageUnavailableError | None]:
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._looked())
        return self._looking

    async def _looked(self) -> StorageUnavailableError | None:
        answers = self._answers
        try:
            fault = await self._look()
        except StorageError as error:
            if self._answers != answers:  # somebody was answered meanwhile, over another connection
                return None
            if isinstance(error, BusyError):
                return error
            self._is_away(error)
            return StorageUnavailableError(self._why)
        self._is_there()
        return fault

    def _is_away(self, error: StorageError) -> None:
        if self._why is None:
            _LOG.warning("the database is away", extra={"error": str(error)})
        # what a driver says may name hosts and users, which are not for everybody to read
        self._why = str(StorageUnavailableError() if isinstance(error, StorageUnavailableError) else error)
        if self._watching is None or self._watching.done():
            self._watching = asyncio.create_task(self._watch())

    def _is_there(self) -> None:
        if self._why is not None:
            _LOG.info("the database answers again")
        self._why = None

    async def _watch(self) -> None:
        while self._why is not None:
            await sleep(_AGAIN_S * random.uniform(1 - _JITTER, 1 + _JITTER))  # noqa: S311 - jitter
            await asyncio.wait({self._look_now()})
