"""What the disk says: whether an error is the disk's or the settings', and that a name is safe on it."""

from __future__ import annotations

import errno
import os
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Final

from sungrow_lib.errors import NotASpoolError, SpoolError, SpoolUnavailableError

_SETTINGS: Final = frozenset(
    {
        errno.EACCES,
        errno.EISDIR,
        errno.ELOOP,
        errno.ENAMETOOLONG,
        errno.ENOENT,
        errno.ENOLCK,
        errno.ENOSYS,
        errno.ENOTDIR,
        errno.EOPNOTSUPP,
        errno.EPERM,
    }
)
"""What no waiting mends: a wrong path, a right that is missing, a file system without locks."""
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_UNTOLD: Final = frozenset({sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM})
"""SQLite says that it could not; the system knows why."""
_COMPANIONS: Final = ("", "-wal", "-shm")


def sync(path: Path) -> None:
    """Have the disk write a file, or the names in a folder.

    Raises:
        OSError: it does not.
    """
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def is_setting(error: OSError) -> bool:
    """Whether an error comes of a path or a right, and not of the disk."""
    return error.errno in _SETTINGS


def is_passing(error: SpoolError, path: Path) -> bool:
    """Whether a spool that could not be opened may open later, with these settings and this program.

    Args:
        error: why it could not.
        path: the spool, which must not be open.
    """
    if isinstance(error, NotASpoolError):
        return False
    cause = error.__cause__
    if isinstance(cause, OSError):
        return not is_setting(cause)
    if isinstance(cause, sqlite3.Error) and getattr(cause, "sqlite_errorcode", 0) & 0xFF in _UNTOLD:
        return _asked(path) not in _SETTINGS
    return cause is not None or not isinstance(error, SpoolUnavailableError)  # else it said what to do


def may_work(path: Path) -> bool:
    """Whether the disk takes and gives something where a spool is; no word on whether the spool opens.

    Args:
        path: the spool, which must not be open: to close a file ends SQLite's locks on it.
    """
    return _asked(path) in {0, *_SETTINGS, *_NO_ROOM}


def _asked(path: Path) -> int:
    """Read and write what is needed to open a spool; return the number of the error, 0 for none."""
    import tempfile  # noqa: PLC0415 - memory, hardly ever needed

    path = Path(os.path.realpath(path))
    try:
        for suffix in _COMPANIONS:
            with suppress(FileNotFoundError), Path(f"{path}{suffix}").open("r+b", buffering=0) as file:
                file.read(1)
        with tempfile.TemporaryFile(dir=path.parent, buffering=0) as file:
            file.write(b"\0")
            os.fsync(file.fileno())
    except OSError as error:
        return error.errno or errno.EIO
    return 0
