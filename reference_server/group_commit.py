"""Group commit: requests that wait share one transaction, and each is answered after its commit."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, Generic, TypeVar, cast

from reference_server.storage.errors import StorageUnavailableError

Work = TypeVar("Work")
Result = TypeVar("Result")

_WRITERS: Final = 2
"""While one waits for the disk, the other fills its transaction."""

_LONG_S: Final = 0.05
"""A transaction that takes longer may wait for a lock: whatever comes then does not wait for it."""

_QUIET_ROUNDS: Final = 3
"""After so many rounds of the event loop in which nothing came, nothing is on its way: a request that was
received whole takes fewer to get here."""


class GroupCommit(Generic[Work, Result]):
    """Merges what waits into few transactions.

    Nothing waits for company that is not there yet: a request that comes alone is committed alone. But what
    the event loop is at already is let in, and whatever arrives while the writers are busy shares the next
    transaction: the busier the server, the less each reading costs. When a merged one fails, each request is
    tried alone: none fails for another's sake.

    Args:
        commit: does some works in one transaction, and returns their results in the same order.
        weight: how much work one is.
        limit: most weight of one transaction, unless a single work is heavier.
        beside: how much has to wait for a second transaction to begin beside one that is quick: each costs as
            much as many readings.
    """

    def __init__(
        self,
        commit: Callable[[Sequence[Work]], Awaitable[Sequence[Result]]],
        *,
        weight: Callable[[Work], int],
        limit: int,
        beside: int,
    ) -> None:
        self._commit = commit
        self._weight = weight
        self._limit = limit
        self._beside = beside
        self._waiting: deque[tuple[Work, asyncio.Future[Result]]] = deque()
        self._waiting_weight = 0
        self._gathers = False
        self._writers: set[asyncio.Task[None]] = set()
        self._long = 0  # transactions that take long

    async def submit(self, work: Work) -> Result:
        """Do ``work`` in a transaction, perhaps with others', and return its result after the commit.

        Raises:
            StorageError: nothing is known to be stored.
        """
        done: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((work, done))
        self._waiting_weight += self._weight(work)
        if not self._writers or self._long or self._waiting_weight >= self._beside:
            self._begin()
        return await done

    def _begin(self) -> None:
        if self._waiting and len(self._writers) < _WRITERS and not self._gathers:
            writer = asyncio.create_task(self._write())
            self._writers.add(writer)
            writer.add_done_callback(self._writers.discard)

    async def _write(self) -> None:
        try:
            while self._waiting and not self._gathers:
                await self._gather()
                group = self._taken()
                if self._waiting_weight >= self._beside:
                    self._begin()
                await self._store(group)
        finally:  # at once: what comes before the task's callback would wait for a writer that has ended
            self._writers.discard(cast("asyncio.Task[None]", asyncio.current_task()))

    async def _store(self, group: list[tuple[Work, asyncio.Future[Result]]]) -> None:
        try:
            with self._watched():
                await self._settle(group)
        except BaseException as error:
            _fail(group, error if isinstance(error, Exception) else StorageUnavailableError("stopping"))
            raise

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """See to it that a transaction that takes long keeps nobody waiting."""
        is_long = False

        def note() -> None:
            nonlocal is_long
            is_long = True
            self._long += 1
            self._begin()

        timer = asyncio.get_running_loop().call_later(_LONG_S, note)
        try:
            yield
        finally:
            timer.cancel()
            self._long -= is_long

    async def _gather(self) -> None:
        """Let in what the event loop is at; one writer does at a time."""
        self._gathers = True
        try:
            known, quiet = self._waiting_weight, 0
            while quiet < _QUIET_ROUNDS and self._waiting_weight < self._limit:
                await asyncio.sleep(0)
                quiet = quiet + 1 if self._waiting_weight == known else 0
                known = self._waiting_weight
        finally:
            self._gathers = False

    def _taken(self) -> list[tuple[Work, asyncio.Future[Result]]]:
        group = [self._waiting.popleft()]
        weight = self._weight(group[0][0])
        while self._waiting and (weight + (more := self._weight(self._waiting[0][0]))) <= self._limit:
            group.append(self._waiting.popleft())
            weight += more
        self._waiting_weight -= weight
        return group

    async def _settle(self, group: list[tuple[Work, asyncio.Future[Result]]]) -> None:
        try:
            results = await self._commit([work for work, _ in group])
        except StorageUnavailableError as error:
            _fail(group, error)
        except Exception as error:  # noqa: BLE001 - it goes to the request that asked
            if len(group) == 1:
                _fail(group, error)
                return
            for one in group:
                await self._settle([one])
        else:
            for (_, done), result in zip(group, results, strict=True):
                if not done.done():
                    done.set_result(result)


def _fail(group: list[tuple[Work, asyncio.Future[Result]]], error: Exception) -> None:
    for _, done in group:
        if not done.done():
            done.set_exception(error)
