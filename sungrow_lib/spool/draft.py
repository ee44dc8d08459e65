"""A new spool that counts for nothing until it is complete: then it gets its name.

So it needs neither log nor journal, and is written once. It is synced all along, because nothing can end a
sync: none of them has much to write then.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

from sungrow_lib.spool.database import Database
from sungrow_lib.spool.errors import translated
from sungrow_lib.spool.opening import SpoolOpening
from sungrow_lib.spool.packing import unpack

_SYNC_S: Final = 1.0
"""Seconds of work between two syncs."""
_COMPANIONS: Final = ("", "-wal", "-shm", "-journal")


class Draft:
    """A spool in the making, open for writing.

    Attributes:
        connection: what to write with.
    """

    def __init__(self, connection: sqlite3.Connection, file: BinaryIO, opening: SpoolOpening) -> None:
        self.connection = connection
        self._file = file
        self._opening = opening
        self._next_sync = 0.0

    def step(self) -> None:
        """Note that the work gets on, see whether it may, and have the disk write what there is."""
        self._opening.step()
        if time.monotonic() >= self._next_sync:
            self.sync()

    def sync(self) -> None:
        """Have the disk write what the file has; an error of the disk is told here alone."""
        os.fdatasync(self._file.fileno())
        self._opening.step()
        self._next_sync = time.monotonic() + _SYNC_S


@contextmanager
def drafting(path: Path, opening: SpoolOpening) -> Iterator[Draft]:
    """Make a spool at ``path``; complete and on the disk once the block is left, gone after an error.

    Raises:
        SpoolError: no room, or asked to end.
        OSError: the disk does not take it.
    """
    remove(path)
    try:
        Database(path, busy_timeout_s=0.0, max_bytes=None, check=False).close()  # with its tables
        with path.open("rb") as file:  # closed last: SQLite's locks end with it
            with translated(path), closing(sqlite3.connect(path, isolation_level=None)) as connection:
                connection.create_function("unpacked", 1, unpack, deterministic=True)
                connection.execute("PRAGMA journal_mode = OFF")
                connection.execute("PRAGMA synchronous = OFF")
                draft = Draft(connection, file, opening)
                with opening.over(connection, draft.step):
                    connection.execute("BEGIN")
                    yield draft
                    connection.execute("COMMIT")
                    connection.execute("PRAGMA journal_mode = WAL")
            draft.sync()
    except BaseException:
        with suppress(OSError):
            remove(path)
        raise


def remove(path: Path) -> None:
    """Remove a file, and what SQLite keeps beside it."""
    for suffix in _COMPANIONS:
        Path(f"{path}{suffix}").unlink(missing_ok=True)
