"""Group commit: requests that wait share one transaction, and each is answered after its commit."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Generic, TypeVar

from reference_server.storage.errors import StorageUnavailableError

Work = TypeVar("Work")
Result = TypeVar("Result")

_WRITERS: Final = 2
"""While one waits for the disk, the other fills its transaction."""


class GroupCommit(Generic[Work, Result]):
    """Merges what waits into few transactions.

    Nothing waits for company: a request that comes alone is committed alone, and whatever arrives while the
    writers are busy shares the next transaction. When a merged one fails, each request is tried alone: none
    fails for another's sake.

    Args:
        commit: does some works in one transaction, and returns their results in the same order.
        weight: how much work one is.
        limit: most weight of one transaction, unless a single work is heavier.
    """

    def __init__(
        self,
        commit: Callable[[Sequence[Work]], Awaitable[Sequence[Result]]],
        *,
        weight: Callable[[Work], int],
        limit: int,
    ) -> None:
        self._commit = commit
        self._weight = weight
        self._limit = limit
        self._waiting: deque[tuple[Work, asyncio.Future[Result]]] = deque()
        self._writers: set[asyncio.Task[None]] = set()

    async def submit(self, work: Work) -> Result:
        """Do ``work`` in a transaction, perhaps with others', and return its result after the commit.

        Raises:
            StorageError: nothing is known to be stored.
        """
        done: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((work, done))
        if len(self._writers) < _WRITERS:
            writer = asyncio.create_task(self._write())
            self._writers.add(writer)
            writer.add_done_callback(self._writers.discard)
        return await done

    async def _write(self) -> None:
        while self._waiting:
            group = self._taken()
            try:
                await self._settle(group)
            except BaseException as error:
                _fail(group, error if isinstance(error, Exception) else StorageUnavailableError("stopping"))
                raise

    def _taken(self) -> list[tuple[Work, asyncio.Future[Result]]]:
        group = [self._waiting.popleft()]
        weight = self._weight(group[0][0])
        while self._waiting and (weight := weight + self._weight(self._waiting[0][0])) <= self._limit:
            group.append(self._waiting.popleft())
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
