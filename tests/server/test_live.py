"""What a process tells the others: every late batch once, however many come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from datetime import timedelta
from time import monotonic

import pytest

from reference_server.auth import Authenticator
from reference_server.live import LiveHub
from reference_server.storage.arrivals import ArrivalChannel, LateBatch
from reference_server.storage.database import Database
from tests.server.conftest import NOW

pytestmark = pytest.mark.anyio


class Channel(ArrivalChannel):
    """Stands in for the one through PostgreSQL."""

    def __init__(self) -> None:
        super().__init__("")
        self.noted: asyncio.Queue[LateBatch] = asyncio.Queue()
        self.notes = 0

    async def tell(self, devices: Collection[int], late: Sequence[LateBatch]) -> None:
        del devices
        self.notes += bool(late)
        for batch in late:
            self.noted.put_nowait(batch)

    async def listen(self) -> AsyncIterator[frozenset[int] | None]:
        await asyncio.Event().wait()
        yield frozenset()


async def test_late_batches_are_noted_once_a_second_at_most_and_none_is_lost() -> None:
    channel, database = Channel(), Database("")
    hub = LiveHub(database, channel, Authenticator(database, {}), clock=lambda: NOW)
    sent = [LateBatch(1, NOW - timedelta(hours=2), NOW - timedelta(hours=1, seconds=n), 5) for n in range(10)]
    running, begin = asyncio.create_task(hub.run()), monotonic()
    for batch in sent:
        hub.arrived([batch])
        await asyncio.sleep(0.15)
    noted = [await channel.noted.get() for _ in sent]
    took_s = monotonic() - begin
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert noted == sent
    assert channel.notes <= 1 + took_s
