"""Room on the disk that is kept for the day the disk is full."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeVar

from sungrow_lib.errors import SpoolFullError
from sungrow_lib.spool.disk import free_bytes

_Result = TypeVar("_Result")
_LOG: Final = logging.getLogger(__name__)
_CHUNK: Final = 64 * 1024
_FACTOR: Final = 4
"""The reserve is made only where so many times its size is free."""
_PARTS: Final = 8


def room_to_make(size: int) -> int:
    """Return how much has to be free for a reserve of this size to be made."""
    return _FACTOR * size


def room_to_accept(size: int) -> int:
    """Return how much a reading needs: the reserve or what is free, unless the spool has pages to spare.

    That is what the log takes until it is written into the file: without it what is there could not be
    delivered, deleted or merged any more, and those make room.
    """
    return size // 2


def reserve_bytes(path: Path) -> int:
    """Size of the reserve beside a spool; 0 where there is none."""
    try:
        return _beside(path).stat().st_size
    except OSError:
        return 0


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}-reserve")


class Reserve:
    """A file beside the spool that is given up when the disk is full, so that delivered readings can go.

    Deleting takes room first: the change is written to the log before any page is free. And the log takes
    room before it is written anew: its new pages go to the file's end. So it is given up little by little.

    Args:
        path: the spool's file.
        size: bytes to keep; 0 for no reserve.

    Attributes:
        is_spent: whether any of it was given up, or it was never made for want of room.
    """

    def __init__(self, path: Path, size: int) -> None:
        self._file = _beside(path)
        self._size = size
        self._has_warned = False
        self.is_spent = False

    @property
    def part(self) -> int:
        """Bytes that are given up at a time, for what is written before pages are free."""
        return self._size // _PARTS

    @property
    def is_used_up(self) -> bool:
        """Whether half of it was given up, and that room is taken."""
        if not self.is_spent:
            return False
        try:
            return free_bytes(self._file.parent) + self._held() < room_to_accept(self._size)
        except OSError:
            return False

    def keep(self) -> None:
        """Make the reserve where there is room for it; warn once while there is not."""
        if not self._size:
            return
        with suppress(OSError):
            free = free_bytes(self._file.parent)
            if self._is_whole():
                self.is_spent = False
                self._warn(free)
            elif free > room_to_make(self._size):
                self.is_spent = not self._fill()
                self._has_warned = False
            else:
                self.is_spent = True
                self._warn(free)

    def holds(self, size: int) -> bool:
        """Whether so much of it is left; not where the disk does not tell."""
        try:
            return self._held() >= size
        except OSError:
            return False

    def with_part(self, job: Callable[[], _Result]) -> _Result:
        """Do what opens the spool; where the disk has no room for that, give up a part, and do it again.

        The log and its index are not there after a clean end, and take room before anything else is done.
        Who keeps no reserve leaves that of another program alone.

        Raises:
            SpoolFullError: there is no room still.
        """
        try:
            return job()
        except SpoolFullError:
            if not (self._size and self.give_up(self.part)):
                raise
        return job()

    def give_up(self, size: int | None = None) -> bool:
        """Free so much of the reserve, or all of it, if the disk is what is full; return whether that did.

        What is left no other program takes.
        """
        try:
            if free_bytes(self._file.parent) > self._size:
                return False
            held = self._held()
            if size is None or size >= held:
                self._file.unlink()
            else:
                os.truncate(self._file, held - size)
        except OSError:
            return False
        if not self.is_spent:
            _LOG.warning("disk full: the spool's reserve is used", extra={"bytes": self._size})
        self.is_spent = True
        return True

    def _held(self) -> int:
        try:
            return self._file.stat().st_size
        except FileNotFoundError:
            return 0

    def _is_whole(self) -> bool:
        return self._held() == self._size

    def _fill(self) -> bool:
        # Written, not just announced: some file systems promise room that they do not have. Random bytes,
        # because some compress.
        try:
            with self._file.open("wb") as file:
                for _ in range(0, self._size, _CHUNK):
                    file.write(os.urandom(_CHUNK))
                file.truncate(self._size)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            self._file.unlink(missing_ok=True)
            return False
        return True

    def _warn(self, free: int) -> None:
        needed = room_to_make(self._size)
        if free <= needed and not self._has_warned:
            what = "disk nearly full" if self._is_whole() else "disk too full for the spool's reserve"
            _LOG.warning(
                "%s; readings go on being kept until there is no room for them",
                what,
                extra={"free_bytes": free, "reserve_bytes": self._size, "needed_bytes": needed},
            )
        self._has_warned = free <= needed
