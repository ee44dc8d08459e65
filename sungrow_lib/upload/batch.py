"""Readings on their way to the server, kept in a few large pieces of memory."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from itertools import accumulate
from sys import intern
from typing import overload

from sungrow_lib.spool import SpoolEntry, SpoolState
from sungrow_lib.spool.packing import pack


class Batch(Sequence[SpoolEntry]):
    """Readings of one device in one state; each is put together when it is asked for.

    Several batches of hundreds of readings wait for their answers, as long as a backlog drains. As objects of
    their own they would lie among others that stay, and Python gives such memory back only where nothing is
    left in a whole megabyte of it. A large piece goes back to the system as soon as nobody needs it.

    Args:
        entries: the readings.
    """

    def __init__(self, entries: Iterable[SpoolEntry]) -> None:
        entries = tuple(entries)
        kept = [entry.kept if isinstance(entry.kept, bytes) else pack(entry.kept) for entry in entries]
        self._kept = b"".join(kept)
        self._ends = array("q", accumulate(map(len, kept), initial=0))
        self._seqs = array("q", [entry.seq for entry in entries])
        self._times = array("q", [entry.ts_ms for entry in entries])
        self._sources = [entry.clock_source and intern(entry.clock_source) for entry in entries]
        self._device_id = entries[0].device_id if entries else ""
        self._state = entries[0].state if entries else SpoolState.PENDING

    def __len__(self) -> int:
        return len(self._seqs)

    @overload
    def __getitem__(self, index: int) -> SpoolEntry: ...
    @overload
    def __getitem__(self, index: slice) -> Batch: ...
    def __getitem__(self, index: int | slice) -> SpoolEntry | Batch:
        if isinstance(index, slice):
            return Batch(self[number] for number in range(len(self))[index])
        number = range(len(self))[index]
        return SpoolEntry(
            self._seqs[number],
            self._device_id,
            self._times[number],
            self._kept[self._ends[number] : self._ends[number + 1]],
            self._sources[number],
            self._state,
        )
