"""A small table of numbers that the worker processes of one host share: a mapped file under a lock."""

from __future__ import annotations

import mmap
import os
import struct
import sys
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Final, Protocol

if sys.platform != "win32":
    import fcntl

_SLOT: Final = struct.Struct("=Qd")
_SLOTS: Final = 2**16
_PROBES: Final = 8
_MOST_KEYS: Final = 50_000


class Table(Protocol):
    """Times by key; one that lies in the past counts as none and may be forgotten."""

    def get(self, key: bytes) -> float:
        """Return the time of a key, 0 when there is none."""

    def push(self, key: bytes, now: float, step: float) -> None:
        """Move the time of a key on by ``step``, from ``now`` at least."""


class OwnTable:
    """The table of a process that is alone."""

    def __init__(self) -> None:
        self._times: dict[bytes, float] = {}

    def get(self, key: bytes) -> float:
        """Return the time of a key, 0 when there is none."""
        return self._times.get(key, 0.0)

    def push(self, key: bytes, now: float, step: float) -> None:
        """Move the time of a key on by ``step``, from ``now`` at least."""
        if len(self._times) >= _MOST_KEYS:
            self._times = {known: at for known, at in self._times.items() if at > now}
        self._times[key] = max(now, self.get(key)) + step


class SharedTable:
    """The table of all processes that open the same file; its times are those of the host's monotonic clock.

    It has 65,536 places. A key has eight of them to choose from; when others that still count hold all eight,
    the one that ends first is forgotten.

    Args:
        path: the file; made when it is not there.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        weakref.finalize(self, os.close, self._file)
        with self._locked():
            os.ftruncate(self._file, _SLOTS * _SLOT.size)
        self._map = mmap.mmap(self._file, _SLOTS * _SLOT.size)

    def get(self, key: bytes) -> float:
        """Return the time of a key, 0 when there is none."""
        name = _name(key)
        with self._locked():
            return next((at for _, known, at in self._slots(name) if known == name), 0.0)

    def push(self, key: bytes, now: float, step: float) -> None:
        """Move the time of a key on by ``step``, from ``now`` at least."""
        name = _name(key)
        with self._locked():
            slots = list(self._slots(name))
            place, known, at = min(slots, key=lambda slot: (slot[1] != name, slot[2]))
            time = max(now, at) if known == name else now
            _SLOT.pack_into(self._map, place, name, time + step)

    def _slots(self, name: int) -> Iterator[tuple[int, int, float]]:
        for number in range(name, name + _PROBES):
            place = number % _SLOTS * _SLOT.size
            yield (place, *_SLOT.unpack_from(self._map, place))

    @contextmanager
    def _locked(self) -> Iterator[None]:
        if sys.platform == "win32":  # there one process serves
            yield
            return
        fcntl.flock(self._file, fcntl.LOCK_EX)  # ends with the process, however it ends
        try:
            yield
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)


def _name(key: bytes) -> int:
    return int.from_bytes(blake2b(key, digest_size=8).digest(), "big") or 1
