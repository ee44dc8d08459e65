"""Readings on their way into the spool; while it takes none they wait in memory, in order."""

from __future__ import annotations

import logging
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Final

import anyio

from reference_edge.account import SPOOL_REFUSED, STOPPED, DeviceAccount
from sungrow_lib.errors import SpoolError
from sungrow_lib.sample import SungrowSample, format_ts
from sungrow_lib.spool import BootStamp, DurableSpool

_LOG: Final = logging.getLogger("sungrow_edge")
MEMORY_READINGS: Final = 720
"""So many readings wait in memory at most, of all inverters: an hour of one. Then the oldest is given up."""
_GATHERED_READINGS: Final = MEMORY_READINGS // 2
"""So many are committed however lately the last were: the rest of the room is for a spool that takes none."""
_RETRY_S: Final = 5.0
_LOOK_S: Final = 1.0
"""A file that was removed is gone for good when the process is killed, so it is looked at this often."""
_TAKE_IN_EVERY: Final = 10
_MOST_AT_ONCE: Final = 50
"""So many readings share a commit at most."""
_NOT_OPEN: Final = "the spool is not open"


@dataclass(frozen=True, slots=True)
class Taken:
    """A reading and what goes with it."""

    device_id: str
    sample: SungrowSample
    boot: BootStamp
    missing: tuple[object, ...] = ()


@dataclass
class Intake:
    """Puts readings into the spool, each accepted only once the spool's commit has returned.

    Attributes:
        accounts: where each reading's fate is counted, by device.
        commit_interval_s: seconds for which readings are gathered before one commit takes them all; 0 to
            commit each at once.
        spool: the spool; None while it is opened anew.
        refusal: why the spool takes nothing; None while it does.
    """

    accounts: Mapping[str, DeviceAccount]
    commit_interval_s: float = 0.0
    spool: DurableSpool | None = None
    refusal: str | None = None
    _not_before: float = 0.0
    _waiting: deque[Taken] = field(default_factory=deque)
    _lock: anyio.Lock = field(default_factory=anyio.Lock)

    def __len__(self) -> int:
        return len(self._waiting)

    def use(self, spool: DurableSpool) -> None:
        """Go on with this spool."""
        self.spool = spool

    def refuse(self, error: SpoolError) -> None:
        """Keep readings in memory until there is a spool again."""
        self.spool = None
        self._note(error)

    async def put(self, *readings: Taken) -> None:
        """Hand readings to the spool, or keep them in memory for when it takes readings again.

        Cancelled, it leaves them in memory, too: `close` accounts for each.
        """
        self._waiting.extend(readings)
        async with self._lock:
            if self._is_due():
                await self._empty()
            while len(self._waiting) > MEMORY_READINGS:
                self._give_up(SPOOL_REFUSED, self.refusal or _NOT_OPEN)

    async def flush(self) -> None:
        """Hand over what waits; what the spool does not take now waits on."""
        async with self._lock:
            await self._empty()

    async def run(self) -> None:
        """Try again and again while readings wait, also when no inverter brings a new one."""
        while True:
            await anyio.sleep(min(_RETRY_S, self.commit_interval_s or _RETRY_S))
            if self._waiting and self._is_due():
                async with self._lock:
                    await self._empty()

    async def watch(self) -> None:
        """See to it that the spool's file stays where it belongs, also while nothing happens."""
        look = 0
        while True:
            await anyio.sleep(_LOOK_S)
            look += 1
            if self.spool is not None:
                with suppress(SpoolError):  # whoever needs the spool says so
                    await self.spool.keep_place()
                    if look % _TAKE_IN_EVERY == 0:
                        await self.spool.take_in_replaced()

    def close(self) -> None:
        """Give up what no spool took until the end, and say so of each reading, and of all together."""
        why, lost = self.refusal or _NOT_OPEN, tuple(self._waiting)
        while self._waiting:
            self._give_up(STOPPED, f"the daemon was stopped while the spool took nothing: {why}")
        for account in self.accounts.values():
            account.say_rest()
        _say_by_device(lost, "readings could not be saved", why)

    def say_at_risk(self, why: str) -> None:
        """Say what is in memory, should the process be killed; from any thread, and all of it stays."""
        _say_by_device(tuple(self._waiting), "readings may be lost", why)

    def _is_due(self) -> bool:
        """Whether to commit now: the interval is over, or the spool is well and many have been gathered."""
        is_much = self.refusal is None and len(self._waiting) >= _GATHERED_READINGS
        return is_much or anyio.current_time() >= self._not_before

    async def _empty(self) -> None:
        while self._waiting and self.spool is not None:
            some = list(islice(self._waiting, _MOST_AT_ONCE))
            self._not_before = anyio.current_time() + self.commit_interval_s
            try:
                entries = await self.spool.append_many([(taken.sample, taken.boot) for taken in some])
            except SpoolError as error:
                self._not_before = anyio.current_time() + min(_RETRY_S, self.commit_interval_s)
                self._note(error)
                return
            for taken, entry in zip(some, entries, strict=True):
                self._waiting.popleft()
                self.accounts[taken.device_id].took(entry, taken.missing)
        if self.refusal is not None and not self._waiting:
            _LOG.warning("the spool takes readings again")
            self.refusal = None

    def _note(self, error: SpoolError) -> None:
        if self.refusal is None:
            _LOG.error(
                "the spool takes no reading; they wait in memory",
                extra={"reason": str(error), "at_most": MEMORY_READINGS},
            )
        self.refusal = str(error)

    def _give_up(self, outcome: str, reason: str) -> None:
        self.accounts[self._waiting.popleft().device_id].lost(outcome, reason)


def _say_by_device(readings: Iterable[Taken], event: str, why: str) -> None:
    """Say of each device how many there are, and from when to when."""
    found = defaultdict[str, list[datetime]](list)
    for taken in readings:
        found[taken.device_id].append(taken.sample.ts)
    for device_id, times in found.items():
        span = {"from": format_ts(min(times)), "to": format_ts(max(times))}
        _LOG.error(event, extra={"device_id": device_id, "readings": len(times), **span, "reason": why})
