"""Whether an open spool's files are where they belong: asked before and after each commit, so it is cheap."""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Final

from sungrow_lib.errors import SpoolCorruptError, SpoolUnavailableError

_LOG: Final = logging.getLogger(__name__)
_GRACE_S: Final = 1.0
"""A file that is missing may be about to be replaced: two looks have to find it so."""
_RETRY_S: Final = 5.0
_CHECK_PART: Final = 30
"""A check of the file may take this part of the time at most."""
_os_stat: Final = os.stat  # of names at hand: some for every reading
_LEFT_OPEN: Final[list[sqlite3.Connection]] = []
"""Connections to files that were overwritten; hardly ever one."""
_ABSENT: Final = (-1, -1)


class Astray(Enum):
    """What is wrong with them."""

    REMOVED = "removed"
    """There is no file."""
    REPLACED = "replaced"
    """The file is another one."""
    LOG = "parted from its log"
    """The log or its index is missing, or another one."""
    CHANGED = "overwritten"
    """Somebody else wrote to the file, or cut the log: another program of ours, or what ruins it."""


class Place:
    """The names of a spool's files, and which ones are open.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file, self.log, self._index = str(path), f"{path}-wal", f"{path}-shm"
        self._ours = [_ABSENT, _ABSENT, _ABSENT]
        self._numbers = -1, -1
        self._untouched = -1, -1, 0, 0
        self._log_size = 0

    def note(self) -> None:
        """Take what is there now for what is open."""
        file, log, index = (_stat(name) for name in (self.file, self.log, self._index))
        self._ours = [_identity(found) for found in (file, log, index)]
        self._numbers = self._ours[0][1], self._ours[1][1]
        self._note_change(file, log)

    def _note_change(self, file: os.stat_result | None, log: os.stat_result | None) -> None:
        self._log_size = log.st_size if log else 0
        written, size = (file.st_mtime_ns, file.st_size) if file else (0, 0)
        self._untouched = self._ours[0][0], self._ours[2][1], written, size

    def is_file_ours(self) -> bool:
        """Whether the file is the open one."""
        return _identity(_stat(self.file)) == self._ours[0]

    def is_log_ours(self) -> bool:
        """Whether the log is the open one."""
        return _identity(_stat(self.log)) == self._ours[1]

    def is_kept(self) -> bool:
        """Whether file and log are the open ones: most of what `find` tells, and quick."""
        try:
            return (_os_stat(self.file).st_ino, _os_stat(self.log).st_ino) == self._numbers
        except (FileNotFoundError, NotADirectoryError):
            return False

    def is_untouched(self) -> bool:
        """Whether `find` would find anything: every reading asks."""
        try:
            file, log, index = _os_stat(self.file), _os_stat(self.log), _os_stat(self._index)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return (
            (file.st_ino, log.st_ino) == self._numbers
            and (file.st_dev, index.st_ino, file.st_mtime_ns, file.st_size) == self._untouched
            and log.st_size >= self._log_size
        )

    def find(self, *, is_own_doing: bool = False) -> Astray | None:
        """Look; None where all is well.

        Args:
            is_own_doing: whether what was written since is known to be ours.

        Raises:
            OSError: nobody can tell.
        """
        file, log = _stat(self.file), _stat(self.log)
        if file is None:
            return Astray.REMOVED
        if _identity(file) != self._ours[0]:
            return Astray.REPLACED
        if _identity(log) != self._ours[1]:
            return Astray.LOG
        if not is_own_doing and _identity(_stat(self._index)) != self._ours[2]:
            return Astray.LOG
        log_size = log.st_size if log else 0
        if is_own_doing or (
            (file.st_mtime_ns, file.st_size) == self._untouched[2:] and log_size >= self._log_size
        ):
            self._note_change(file, log)
            return None
        return Astray.CHANGED


class Home:
    """Puts right what went astray, for a spool that stays: the daemon's.

    Args:
        place: the spool's.

    Attributes:
        make_room: deletes what may go, where the disk has no room for a copy.
        is_ours: whether the place is still this program's; else nothing is put back, and what is here goes
            beside it at the end.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self.make_room: Callable[[sqlite3.Connection], None] = lambda _: None
        self.is_ours: Callable[[], bool] = lambda: True
        self._folder_mode = place.path.absolute().parent.stat().st_mode & 0o7777
        self._missing_since: float | None = None
        self._failed: tuple[float, str] | None = None
        self._is_suspect = False
        self._no_check_before = 0.0

    def is_kept(self) -> bool:
        """Whether all is well, as far as a quick look tells."""
        return self._place.is_untouched() and not self._is_suspect

    def doubt(self) -> Astray | None:
        """Whether a change has still to be looked into."""
        return Astray.CHANGED if self._is_suspect and time.monotonic() >= self._no_check_before else None

    def put_right(self, astray: Astray, connection: sqlite3.Connection, *, at_once: bool) -> bool:
        """Put it right; return whether the spool has to be opened anew.

        Args:
            astray: what is wrong.
            connection: the open spool.
            at_once: whether there is no later.

        Raises:
            SpoolUnavailableError: it cannot be done yet.
            SpoolCorruptError: the file was overwritten, and not all that is open can be read.
            sqlite3.Error, OSError: it cannot be done; all is as before.
        """
        if astray is not Astray.CHANGED and not self.is_ours():
            if at_once:
                self._leave(connection)
            return False
        if not at_once:
            self._wait(astray)
        if astray is Astray.CHANGED and not self._is_overwritten(connection):
            self._place.find(is_own_doing=True)
            return False
        try:
            self._do(astray, connection)
        except SpoolCorruptError:
            # Left open: closing it would write its log into the file, over what can still be taken from it.
            _LEFT_OPEN.append(connection)
            raise
        except (SpoolUnavailableError, sqlite3.Error, OSError) as error:
            self._failed = time.monotonic() + _RETRY_S, str(error)
            raise
        self._missing_since, self._failed, self._is_suspect = None, None, False
        return True

    def _leave(self, connection: sqlite3.Connection) -> None:
        from sungrow_lib.spool.returning import leave_beside  # noqa: PLC0415 - memory, hardly ever needed

        aside = leave_beside(connection, self._place)
        _LOG.error(
            "another program has the spool's place; what is here is left beside it",
            extra={"file": self._place.file, "set_aside": str(aside)},
        )

    def _wait(self, astray: Astray) -> None:
        now, path = time.monotonic(), self._place.path
        if self._failed is not None and now < self._failed[0]:
            raise SpoolUnavailableError(
                f"The spool {path} was {astray.value} while in use and cannot be put back: {self._failed[1]}."
            )
        if astray is not Astray.REMOVED:
            self._missing_since = None
        elif self._missing_since is None or now < self._missing_since + _GRACE_S:
            self._missing_since = self._missing_since or now
            raise SpoolUnavailableError(f"The spool {path} was removed while in use; it is put back at once.")

    def _is_overwritten(self, connection: sqlite3.Connection) -> bool:
        """Whether what somebody else wrote ruined the file.

        Looking takes a while, and an import writes much: so not again and again.
        """
        from sungrow_lib.spool.returning import is_as_left  # noqa: PLC0415 - memory, hardly ever needed

        began = time.monotonic()
        self._is_suspect = began < self._no_check_before and self._place.path.stat().st_size > 0
        if self._is_suspect:
            return False
        is_sound = is_as_left(self._place.path, connection)
        now = time.monotonic()
        self._no_check_before = now + _CHECK_PART * (now - began)
        return not is_sound

    def _do(self, astray: Astray, connection: sqlite3.Connection) -> None:
        from sungrow_lib.spool.returning import bring_back, fold  # noqa: PLC0415 - as above

        aside = None
        if astray is Astray.LOG:
            fold(connection, self._place)
        else:
            try:
                aside = bring_back(connection, self._place, self._folder_mode)
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_FULL:
                    raise
                self.make_room(connection)
                aside = bring_back(connection, self._place, self._folder_mode)
        _LOG.error(
            "the spool was %s while in use; it is back in its place, with all it holds",
            astray.value,
            extra={"file": self._place.file, "set_aside": aside and str(aside)},
        )


def _stat(name: str) -> os.stat_result | None:
    try:
        return _os_stat(name)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _identity(found: os.stat_result | None) -> tuple[int, int]:
    return _ABSENT if found is None else (found.st_dev, found.st_ino)
