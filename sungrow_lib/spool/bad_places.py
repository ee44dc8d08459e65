"""Reads from a disk that cannot be read in places, as a card near its end: what is there counts as zeros."""

from __future__ import annotations

import errno
import os
import sqlite3
import time
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Final

from sungrow_lib.spool.errors import extended_code_of

_SECTOR: Final = 1024
"""So much is given up at least: a page of the spool."""
_CHUNK: Final = 64 * 1024
_READ_ERRORS: Final = frozenset({sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_IOERR_CORRUPTFS})
_LOOK_AGAIN_S: Final = 60.0
"""Seconds between two looks at all of the files: a bad place takes its time."""


class CarefulFile:
    """A file open for reading.

    Args:
        path: the file; None for an empty one.

    Attributes:
        good: reads that brought something.
        bad: where those were that did not.
    """

    def __init__(self, path: Path | None) -> None:
        self._file: BinaryIO = BytesIO() if path is None else path.open("rb")
        self.good = 0
        self.bad: set[int] = set()

    def close(self) -> None:
        """Close it."""
        self._file.close()

    def at(self, place: int, size: int) -> bytes:
        """Return what is there; shorter where the file ends.

        Raises:
            OSError: it cannot be read for another reason.
        """
        try:
            self._file.seek(place)
            found = self._file.read(size)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            # More was asked for than this, to be quick: what lies before or behind it may be what is bad.
            found = b"".join(self._sector(at, place + size) for at in range(place, place + size, _SECTOR))
        else:
            self.good += bool(found)
        return found

    def _sector(self, place: int, end: int) -> bytes:
        size = min(_SECTOR, end - place)
        try:
            found = os.pread(self._file.fileno(), size, place)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            self.bad.add(place)
            left = os.fstat(self._file.fileno()).st_size - place
            return bytes(max(0, min(size, left)))
        self.good += bool(found)  # behind the end of the file nothing is asked of the disk
        return found

    def require_settled(self) -> None:
        """Make sure that something could be read, and that what could not be cannot be now.

        Raises:
            OSError: else the disk may just be away for a moment, and its content is not given up for that.
        """
        was_bad, self.bad = self.bad, set()
        for place in was_bad:
            self._sector(place, place + _SECTOR)
        if was_bad and (not self.good or self.bad != was_bad):
            raise OSError(errno.EIO, os.strerror(errno.EIO))


def read_all(path: Path) -> tuple[bytes, bool]:
    """Return a file's content, and whether all of it could be read."""
    try:
        return path.read_bytes(), True
    except OSError as error:
        if error.errno != errno.EIO:
            raise
    file = CarefulFile(path)
    try:
        return file.at(0, path.stat().st_size), not file.bad
    finally:
        file.close()


class BadPlaces:
    """Tells whether a disk fails in places of a spool, or altogether: then it may come back.

    Args:
        files: the spool's.
    """

    def __init__(self, *files: Path) -> None:
        self._files = files
        self._not_before = 0.0

    def are_behind(self, error: BaseException | None) -> bool:
        """Whether an error of SQLite's comes of places that cannot be read, while others can."""
        if extended_code_of(error) not in _READ_ERRORS or time.monotonic() < self._not_before:
            return False
        found = any(_is_bad_in_places(file) for file in self._files)
        self._not_before = time.monotonic() + _LOOK_AGAIN_S
        return found


def _is_bad_in_places(path: Path) -> bool:
    try:
        file = CarefulFile(path)
    except OSError:
        return False
    try:
        for place in range(0, path.stat().st_size, _CHUNK):
            file.at(place, _CHUNK)
            if file.good and file.bad:
                return True
    except OSError:
        return False
    finally:
        file.close()
    return False
