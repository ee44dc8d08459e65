"""Readings that tell whether the server still has what was brought to it last.

`last_delivered` names the last row of each of the latest answered batches, and a server that was restored
asks for everything when it lacks one of them. A batch of readings that were all known to it proves nothing
there; many of them, as come after a restore, would push every name that does prove something out of the list,
and a server restored once more to the same backup could not tell. So behind each batch that brought nothing
new a witness is sent, a reading that was new to the server lately, in a batch of its own.

Of a batch that was new in part nobody knows which part. What a server lacks are spans of time, so it is the
first reading or the last, unless the span lies inside of the one batch. Both are witnesses.

A witness whose answer is lost may have been stored by that very request: whether the server had it before can
no longer be known. So no other is sent until this one is answered, by whichever lane: the others still tell,
and are named.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

from sungrow_lib.spool import DurableSpool, SpoolEntry
from sungrow_lib.wire import LAST_DELIVERED_LIMIT

_ENDS: Final = 2
MOST_WITNESSES: Final = LAST_DELIVERED_LIMIT // 2
"""Where nothing is new, every other name in the list is a witness's: so many, all are in it."""


class Witnesses:
    """The readings of one device that were new to the server last.

    Args:
        spool: knows those from before this start.
        device_id: the device.
    """

    def __init__(self, spool: DurableSpool, device_id: str) -> None:
        self._spool = spool
        self._device_id = device_id
        self._entries = deque[SpoolEntry](maxlen=MOST_WITNESSES)
        self._is_loaded = False

    async def load(self) -> None:
        """Begin with those of earlier runs; to be called before `next`."""
        if not self._is_loaded:
            last = await self._spool.last_new(self._device_id, MOST_WITNESSES // _ENDS)
            if not self._is_loaded:  # another lane may have been faster
                self._is_loaded = True
                earlier = [entry for entry in last if entry not in self._entries]
                self._entries = deque([*earlier, *self._entries], MOST_WITNESSES)

    def next(self) -> SpoolEntry | None:
        """Return the one whose turn it is; None when nothing was new to the server since it last lost all."""
        return self._entries[0] if self._entries else None

    def answered(self, entry: SpoolEntry) -> None:
        """Let the next have its turn: the server has answered this one."""
        if self._entries and self._entries[0] == entry:
            self._entries.rotate(-1)

    def add(self, delivered: Sequence[SpoolEntry]) -> None:
        """Note a batch of which something, or all, was new to the server."""
        self._entries.extend(delivered[:: max(1, len(delivered) - 1)])

    def drop(self, entry: SpoolEntry) -> None:
        """Forget one that the server does not take a second time."""
        if entry in self._entries:
            self._entries.remove(entry)

    def forget(self) -> None:
        """Forget all: the server has lost what it had."""
        self._is_loaded = True
        self._entries.clear()
