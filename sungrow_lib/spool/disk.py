"""What the disk says: whether an error is the disk's or the settings', and that a name is safe on it."""

from __future__ import annotations

import errno
import os
import re
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
_TO_MOUNT: Final = Path("/etc/fstab")
_MOUNTED: Final = Path("/proc/self/mountinfo")
_ESCAPED: Final = re.compile(r"\\([0-7]{3})")


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
    if missing_place(path) is not None:
        return True
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
    return missing_place(path) is None and _asked(path) in {0, *_SETTINGS, *_NO_ROOM}


def missing_place(path: Path) -> str | None:
    """Say why there is no place for a spool yet, as while its disk is not mounted; None where there is one.

    A folder on which the system is to mount a disk is no place until it did: a new spool would be on another
    disk, and out of sight afterwards. One that is there is believed.
    """
    whole = Path(os.path.realpath(path))
    try:
        whole.parent.stat()
        whole.stat()
    except FileNotFoundError:
        if not whole.parent.exists():
            return (
                f"the folder {whole.parent} does not exist; mount its disk, or make it, "
                "or name another (SPOOL_PATH)"
            )
        if (point := _unmounted(whole)) is not None:
            return f"no disk is mounted at {point} as /etc/fstab says; mount it (SPOOL_PATH)"
    except OSError:  # whoever opens it says how
        pass
    return None


def _unmounted(path: Path) -> Path | None:
    """Return the folder above a file on which a disk is to be mounted, and is not."""
    try:
        wanted = [line.split() for line in _TO_MOUNT.read_text().splitlines()]
        mounted = [line.split() for line in _MOUNTED.read_text().splitlines()]
        # A folder that is its own mount, as one that a service may write to, is none that a disk is on.
        there = {_unescaped(words[4]) for words in mounted if words[3] != words[4]}
    except (OSError, ValueError, IndexError):  # another system
        return None
    points = (_unescaped(words[1]) for words in wanted if len(words) > 1 and words[0][0] != "#")
    return next((p for p in points if p in path.parents and p != Path("/") and p not in there), None)


def _unescaped(name: str) -> Path:
    return Path(_ESCAPED.sub(lambda found: chr(int(found[1], 8)), name))


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
