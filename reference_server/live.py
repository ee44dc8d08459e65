"""What happens now: tells other server processes of new readings, and open streams what they wait for."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from time import monotonic
from typing import Final

from reference_server.auth import Authenticator
from reference_server.ending import end
from reference_server.lateness import Lateness
from reference_server.storage.arrivals import (
    ANY_DEVICE,
    ArrivalChannel,
    LateBatch,
    present,
    recent_late,
)
from reference_server.storage.codec import Row
from reference_server.storage.database import Database
from reference_server.storage.errors import StorageError
from reference_server.storage.looks import rows_after

_LOG: Final = logging.getLogger(__name__)

HINT_PAUSE_S: Final = 0.1
"""s between two notifications of one process."""

_NOTE_PAUSE_S: Final = 1.0
"""s between two notes of what came late: of a draining backlog, streams are told once a second."""

_LOOK_S: Final = 0.8
"""s between two looks while nobody can be heard; the tenth part of it is the time a look takes."""
_LOOK_WHILE_HEARING_S: Final = 5.0
_BACKFILL_PAUSE_S: Final = 1.0
_CHECK_S: Final = 0.4
_LISTEN_AGAIN_S: Final = 1.0
_ROWS_AT_ONCE: Final = 200
_QUEUE_LIMIT: Final = 1_000
_SENT_LIMIT: Final = 60

Event = Row | LateBatch


@dataclass(eq=False, slots=True)
class Listener:
    """An open stream.

    Attributes:
        device: key of the device it is about.
        after: time stamp of the last reading put in its queue.
        token: hash of the token it was opened with.
        queue: what it is still to be sent; None ends it.
        sent: time stamps of the readings put in its queue last.
        on_end: is called once it gets no more.
        ended: whether it gets no more.
    """

    device: int
    after: datetime
    token: bytes
    queue: asyncio.Queue[Event | None] = field(default_factory=lambda: asyncio.Queue(_QUEUE_LIMIT + 1))
    sent: deque[datetime] = field(default_factory=lambda: deque(maxlen=_SENT_LIMIT))
    on_end: Callable[[], None] = lambda: None
    ended: bool = False

    def __post_init__(self) -> None:
        """Note that the reading it begins after needs not be told either."""
        self.sent.append(self.after)

    def put(self, event: Event) -> None:
        """Queue an event; a listener too slow to take it is ended."""
        if self.ended:
            return
        if isinstance(event, Row):
            self.after = event.ts
            self.sent.append(event.ts)
        if self.queue.qsize() >= _QUEUE_LIMIT:
            _LOG.warning("a stream is too slow and is closed")
            self.end()
        else:
            self.queue.put_nowait(event)

    def has_all(self, late: LateBatch) -> bool:
        """Whether readings were the newest when they came, and younger ones came before a second look.

        Then the first of them was sent, and with it all others.
        """
        return late.first in self.sent

    def end(self) -> None:
        """Send nothing more, not even what waits: the token may be revoked."""
        if self.ended:
            return
        self.ended = True
        self.on_end()
        while not self.queue.empty():
            self.queue.get_nowait()
        self.queue.put_nowait(None)


class LiveHub:
    """Brings new readings to this process's streams, whoever stored them.

    Args:
        database: where readings are.
        channel: tells and hears hints.
        authenticator: says which tokens are still good.
        clock: tells the time, UTC.
        opened: is told how many streams are open.
    """

    def __init__(
        self,
        database: Database,
        channel: ArrivalChannel,
        authenticator: Authenticator,
        *,
        clock: Callable[[], datetime],
        opened: Callable[[int], None] = lambda _count: None,
    ) -> None:
        self._opened = opened
        self._database = database
        self._channel = channel
        self._authenticator = authenticator
        self._listeners: defaultdict[int, set[Listener]] = defaultdict(set)
        self._touched: set[int] = set()
        self._told: set[int] = set()
        self._late: list[LateBatch] = []
        self._note_at = 0.0
        self._lateness = Lateness(clock)
        self._late_seen: dict[int, float] = {}
        self._wake = asyncio.Event()
        self._to_tell = asyncio.Event()
        self._hearing = False

    def arrived(self, batches: Iterable[LateBatch]) -> None:
        """Note that readings were committed; returns at once."""
        for batch in batches:
            self._told.add(batch.device)
            if batch.device in self._listeners:
                self._touch({batch.device})
            if self._lateness.suspects(batch):
                self._late.append(batch)
        self._to_tell.set()

    @asynccontextmanager
    async def listening(self, listener: Listener) -> AsyncIterator[None]:
        """Feed a listener for as long as the context is open."""
        self._listeners[listener.device].add(listener)
        listener.on_end = self._count  # it may take a while until its client has noticed, or is given up
        self._count()
        self._touch({listener.device})
        try:
            yield
        finally:
            self._listeners[listener.device].discard(listener)
            if not self._listeners[listener.device]:
                del self._listeners[listener.device]
            self._count()

    def end_all(self) -> None:
        """End every stream: the server stops."""
        for listener in self._all():
            listener.end()

    async def run(self) -> None:
        """Tell, hear, look and check until cancelled."""
        jobs = (self._tell(), self._hear(), self._look(), self._look_for_late(), self._check_rights())
        tasks = [asyncio.create_task(job) for job in jobs]
        try:
            await asyncio.gather(*tasks)
        finally:
            await end(tasks)
            await self._channel.close()

    @property
    def count(self) -> int:
        """How many streams are open and not ended."""
        return sum(not listener.ended for listener in self._all())

    def _count(self) -> None:
        self._opened(self.count)

    def _all(self) -> list[Listener]:
        return [listener for listeners in self._listeners.values() for listener in listeners]

    def _touch(self, devices: Iterable[int]) -> None:
        self._touched.update(devices)
        self._wake.set()

    async def _tell(self) -> None:
        while True:
            await self._to_tell.wait()
            await asyncio.sleep(HINT_PAUSE_S)
            self._to_tell.clear()
            devices, self._told = self._told, set()
            late = self._late_due()
            try:
                await self._channel.tell(devices, late)
            except StorageError as error:
                _LOG.info("other processes cannot be told now", extra={"error": str(error)})
                self._told |= devices  # until they are told, others look by themselves
                self._to_tell.set()
                await asyncio.sleep(_LISTEN_AGAIN_S)

    def _late_due(self) -> list[LateBatch]:
        """Take what came late, if it is time to note it; else see to it that it will be."""
        pause_s = self._note_at - monotonic()
        if self._late and pause_s > 0:
            asyncio.get_running_loop().call_later(pause_s, self._to_tell.set)
            return []
        late, self._late = self._late, []
        if late:
            self._note_at = monotonic() + _NOTE_PAUSE_S
        return late

    async def _hear(self) -> None:
        while True:
            try:
                async for devices in self._channel.listen():
                    self._hearing = True
                    self._suspect(devices)
                    mine = self._listeners.keys()
                    self._touch(mine if devices is None else devices & mine)
            except StorageError as error:
                _LOG.info("other processes cannot be heard now", extra={"error": str(error)})
            finally:
                self._hearing = False
                self._suspect(ANY_DEVICE)
            await asyncio.sleep(_LISTEN_AGAIN_S)

    def _suspect(self, devices: frozenset[int] | None) -> None:
        """Another process took readings of these devices: what came here last may have come after them."""
        late = self._lateness.heard(devices)
        if late:
            self._late += late
            self._to_tell.set()

    async def _look(self) -> None:
        """Read what listeners wait for: at a hint, and now and then without one."""
        while True:
            pause_s = _LOOK_WHILE_HEARING_S if self._hearing else _LOOK_S
            try:
                async with asyncio.timeout(pause_s):
                    await self._wake.wait()
            except TimeoutError:
                self._touched.update(self._listeners)
            self._wake.clear()
            devices, self._touched = self._touched & self._listeners.keys(), set()
            try:
                await self._deliver(devices)
            except StorageError:
                self._touched |= devices
                await asyncio.sleep(_LOOK_S)
                self._wake.set()

    async def _deliver(self, devices: Iterable[int]) -> None:
        after = {device: min(listener.after for listener in self._listeners[device]) for device in devices}
        if not after:
            return
        count: defaultdict[int, int] = defaultdict(int)
        for row in await rows_after(self._database, after, _ROWS_AT_ONCE):
            count[row.device] += 1
            for listener in self._listeners.get(row.device, ()):
                if row.ts > listener.after:
                    listener.put(row)
        unfinished = {device for device, rows in count.items() if rows == _ROWS_AT_ONCE}
        if unfinished:
            self._touch(unfinished)

    async def _look_for_late(self) -> None:
        while True:
            await asyncio.sleep(_BACKFILL_PAUSE_S)
            if self._listeners:
                with suppress(StorageError):
                    self._deliver_late(await recent_late(self._database, self._listeners.keys()))

    def _deliver_late(self, found: Mapping[int, LateBatch]) -> None:
        now = monotonic()
        new = {entry: batch for entry, batch in found.items() if entry not in self._late_seen}
        self._late_seen = {e: at for e, at in self._late_seen.items() if now - at < 60}  # noqa: PLR2004 - s
        self._late_seen |= dict.fromkeys(new, now)
        for device in {batch.device for batch in new.values()}:
            batches = [batch for batch in new.values() if batch.device == device]
            for listener in self._listeners.get(device, ()):
                for batch in merged(late for late in batches if not listener.has_all(late)):
                    listener.put(batch)

    async def _check_rights(self) -> None:
        """End the streams whose token is no longer good, or whose device is no more."""
        while True:
            await asyncio.sleep(_CHECK_S)
            listeners = self._all()
            if not listeners:
                continue
            with suppress(StorageError):
                valid = await self._authenticator.still_valid({listener.token for listener in listeners})
                there = await present(self._database, {listener.device for listener in listeners})
                for listener in listeners:
                    if listener.token not in valid or listener.device not in there:
                        listener.end()


def merged(batches: Iterable[LateBatch]) -> list[LateBatch]:
    """One batch for each device in place of several."""
    result: dict[int, LateBatch] = {}
    for batch in batches:
        other = result.get(batch.device, batch)
        count = batch.count + (other.count if other is not batch else 0)
        result[batch.device] = LateBatch(
            batch.device, min(batch.first, other.first), max(batch.last, other.last), count
        )
    return list(result.values())
