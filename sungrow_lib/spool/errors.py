"""What errors of SQLite and of the disk mean for a spool."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from sungrow_lib.errors import SpoolCorruptError, SpoolError, SpoolFullError, SpoolUnavailableError

PRIMARY_CODE: Final = 0xFF
CORRUPT_ADVICE: Final = (
    "Nothing was changed. `sungrow-edge run` sets it aside and takes over what is readable."
)
HARDLY_ANY: Final = 131_072
"""With so few bytes free a disk is full: SQLite's log and its index take as many at once."""
_TAKES_ROOM: Final = frozenset(
    {
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR_SHMOPEN,
        sqlite3.SQLITE_IOERR_SHMSIZE,
    }
)
"""What fails on a full disk where files are opened, and SQLite does not always say that this is why. A write
that finds no room is always `SQLITE_FULL`: any other that fails is the disk's fault, however full it is. Room
that is made for it would be made for nothing, by merging readings for good."""
_UNWRITABLE: Final = frozenset({sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY})
_NO_TEXT: Final = "Could not decode"
_DAMAGE: Final = frozenset(
    {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CONSTRAINT}
)


class WrongValueError(sqlite3.DatabaseError):
    """A row has a value that none of ours can have. SQLite does not mind, and no page is damaged."""


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Say what errors of SQLite and of the disk mean for a spool."""
    try:
        yield
    except sqlite3.ProgrammingError:  # our mistake, not the file's
        raise
    except (sqlite3.Error, OSError, UnicodeDecodeError) as error:
        raise translate(error, path) from error


def is_no_text(error: BaseException | None) -> bool:
    """Whether SQLite gave text of the file, and a wrong bit makes it none.

    SQLite itself does not mind. Python's module has no code for it where it is a value, and fails to tell of
    an error whose message would quote it.
    """
    if isinstance(error, UnicodeDecodeError):
        return True
    is_coded = code_of(error) is not None
    return isinstance(error, sqlite3.OperationalError) and not is_coded and str(error).startswith(_NO_TEXT)


def is_in_rows(error: BaseException | None) -> bool:
    """Whether damage is in what rows say: no look at the pages finds it."""
    return isinstance(error, sqlite3.IntegrityError | WrongValueError) or is_no_text(error)


def code_of(error: BaseException | None) -> int | None:
    """Return SQLite's code of an error, None where there is none."""
    code = extended_code_of(error)
    return None if code is None else code & PRIMARY_CODE


def extended_code_of(error: BaseException | None) -> int | None:
    """Return SQLite's code of an error as it is, which says more; None where there is none."""
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else int(code)


def translate(error: sqlite3.Error | OSError | UnicodeDecodeError, path: Path) -> SpoolError:
    """Return what an error means."""
    code = code_of(error)
    if extended_code_of(error) in _TAKES_ROOM and _is_full(path):
        return SpoolFullError(_full_words(path, str(error)))
    if code == sqlite3.SQLITE_FULL:
        return SpoolFullError(f"No room left for the spool {path}; free disk space or raise its limit.")
    # SQLITE_ERROR: a table or the file's format is not what we made; our statements are tested. The same with
    # SQLITE_CONSTRAINT: a row is where none can be.
    if code in _DAMAGE or is_in_rows(error):
        return SpoolCorruptError(f"The spool {path} is damaged ({error}). {CORRUPT_ADVICE}")
    if isinstance(error, OSError):
        return SpoolUnavailableError(_system_words(error, path))
    return SpoolUnavailableError(_words(error, path))


def _system_words(error: OSError, path: Path) -> str:
    if error.errno == errno.ENOSPC:
        return _full_words(path, error.strerror)
    return f"The spool {path} cannot be used: {error.strerror}."


def _words(error: Exception, path: Path) -> str:
    """Say why a spool that is neither full nor damaged cannot be used, and what to do."""
    code = code_of(error)
    if code == sqlite3.SQLITE_BUSY:
        return f"The spool {path} is locked by another program; try again."
    if code in _UNWRITABLE and _may_only_be_read(path):
        return (
            f"The spool {path} lies on a disk that may only be read, where it cannot be opened. To look into "
            "it, or to export it, copy it with its -wal and -shm to another disk, and name the copy "
            "(--spool). To run the daemon, mount the disk for writing."
        )
    if code == sqlite3.SQLITE_IOERR:
        return f"The disk of the spool {path} fails ({error}); see the system's log."
    return f"The spool {path} cannot be used ({error}); check that its folder exists and is writable."


def _full_words(path: Path, why: str | None) -> str:
    return (
        f"The disk of the spool {path} is full ({why}); delete other files there, or move them away, but "
        "none of the spool's own."
    )


def _is_full(path: Path) -> bool:
    """Whether a disk is full, and a right that is missing is not what keeps a file from being made."""
    folder = path.absolute().parent
    try:
        disk = os.statvfs(folder)
    except OSError:
        return False
    is_ours = os.access(folder, os.W_OK) and (not path.exists() or os.access(path, os.R_OK | os.W_OK))
    return disk.f_bavail * disk.f_frsize < HARDLY_ANY and is_ours


def _may_only_be_read(path: Path) -> bool:
    try:
        return bool(os.statvfs(path.absolute().parent).f_flag & os.ST_RDONLY)
    except OSError:
        return False
