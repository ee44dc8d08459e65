"""Whether an open spool's files are where they belong: asked before and after each commit, so it is cheap."""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from pathlib import Path
from typing import Final

from sungrow_lib.errors import SpoolCorruptError, SpoolUnavailableError
from sungrow_lib.spool.disk import disk_of, is_gone
from sungrow_lib.spool.errors import code_of

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
_Look = tuple[int, int, int, int]
_NEVER: Final = (0, 0, 0, 0)
_TICK_NS: Final = 50_000_000
"""Two changes of a folder closer together may have the same time ..."""
_LONG_TICK_NS: Final = 3_000_000_000
"""... or such ones where a disk knows no parts of a second."""
_SECOND_NS: Final = 1_000_000_000


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


class _Log:
    """The log, held open to be asked for its length.

    A stat would tell, too. But since 6.13 Linux gives the first write after one a time of its own, and the
    next sync has to put that into the disk's journal, which takes a third of a commit.

    Args:
        name: the log's.

    Attributes:
        identity: which file it is.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._number = -1
        self.identity = _ABSENT

    def hold(self) -> None:
        """Take what has the name now."""
        self.let_go()
        with suppress(FileNotFoundError, NotADirectoryError):
            self._number = os.open(self._name, os.O_RDONLY | os.O_CLOEXEC)
        self.identity = _ABSENT if self._number < 0 else _identity(os.fstat(self._number))

    def let_go(self) -> None:
        """Keep nothing open."""
        if self._number >= 0:
            os.close(self._number)
        self._number = -1

    def size(self) -> int:
        """How long it is; 0 where there is none."""
        return os.lseek(self._number, 0, os.SEEK_END) if self._number >= 0 else 0


class _Folder:
    """The folder the files are in: its times tell whether any name in it was given, taken away or moved.

    So there is one look at it for a reading, and none at each file, as long as nothing changes there.

    Args:
        name: the folder's.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._seen = _NEVER

    def is_as_seen(self) -> bool:
        """Whether nothing changed in it since `see`; no when in doubt."""
        try:
            found = _os_stat(self._name)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return (found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_dev) == self._seen

    def look(self) -> _Look:
        """Return what it is like, for `see` once all in it is found to be right."""
        now_ns, found = time.time_ns(), _stat(self._name)
        if found is None:
            return _NEVER
        changed_ns = max(found.st_mtime_ns, found.st_ctime_ns)
        if now_ns - changed_ns < (_TICK_NS if changed_ns % _SECOND_NS else _LONG_TICK_NS):
            return _NEVER  # the next change might not show
        return found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_dev

    def see(self, look: _Look) -> None:
        """Note that all in it was right after that look."""
        self._seen = look


class Place:
    """The names of a spool's files, and which ones are open.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file, self.log, self._index = str(path), f"{path}-wal", f"{path}-shm"
        self._folder = _Folder(str(path.parent))
        self._held = _Log(self.log)
        self._file_is = self._index_is = _ABSENT
        self._left = 0, 0
        self._log_size = 0

    def note(self) -> None:
        """Take what is there now for what is open."""
        self._folder.see(_NEVER)
        self._held.hold()
        file = _stat(self.file)
        self._file_is, self._index_is = _identity(file), _identity(_stat(self._index))
        self._note_change(file)

    def let_go(self) -> None:
        """Keep nothing open."""
        self._held.let_go()

    def _note_change(self, file: os.stat_result | None) -> None:
        self._left = (file.st_mtime_ns, file.st_size) if file else (0, 0)
        self._log_size = self._held.size()

    def is_file_ours(self) -> bool:
        """Whether the file is the open one."""
        return _identity(_stat(self.file)) == self._file_is

    def is_open_as(self, name: Path) -> bool:
        """Whether the open file has that name, too."""
        return _identity(_stat(str(name))) == self._file_is

    def is_log_ours(self) -> bool:
        """Whether the log is the open one."""
        return _identity(_stat(self.log)) == self._held.identity

    def is_log_cut(self) -> bool:
        """Whether somebody cut the log: another program that folded it, or what ruins it.

        In the latter case reading what stood there fails, and no disk is to blame.
        """
        log = _stat(self.log)
        return log is not None and log.st_size < self._log_size

    def is_kept(self) -> bool:
        """Whether file and log are the open ones: every reading asks."""
        if self._folder.is_as_seen():
            return True
        look = self._folder.look()
        is_kept = self.is_file_ours() and self.is_log_ours()
        self._folder.see(look if is_kept else _NEVER)
        return is_kept

    def is_untouched(self) -> bool:
        """Whether `find` would find nothing, as far as is easily seen: every reading asks."""
        return self._folder.is_as_seen() and self._is_left(_stat(self.file))

    def _is_left(self, file: os.stat_result | None) -> bool:
        """Whether nobody else wrote to the file, nor cut the log."""
        left = (file.st_mtime_ns, file.st_size) if file else (0, 0)
        return left == self._left and self._held.size() >= self._log_size

    def follow(self) -> bool:
        """Note what we wrote ourselves, if it is easily seen that nothing is astray."""
        with suppress(OSError):
            if self._folder.is_as_seen():
                self._note_change(_os_stat(self.file))
                return True
        return False

    def find(self, *, is_own_doing: bool = False) -> Astray | None:
        """Look; None where all is well.

        Args:
            is_own_doing: whether what was written since is known to be ours.

        Raises:
            OSError: nobody can tell.
        """
        look, file = self._folder.look(), _stat(self.file)
        if file is None:
            return Astray.REMOVED
        if _identity(file) != self._file_is:
            return Astray.REPLACED
        if not self.is_log_ours() or (not is_own_doing and _identity(_stat(self._index)) != self._index_is):
            return Astray.LOG
        if not (is_own_doing or self._is_left(file)):
            return Astray.CHANGED
        self._note_change(file)
        self._folder.see(look)
        return None


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
        self._disk = disk_of(place.path)
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
        if astray is not Astray.CHANGED:
            self._require_disk()
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

    def regain(self, *, is_open: bool = False) -> bool:
        """Put the file back that was taken away while it was opened anew; return whether it was not.

        Args:
            is_open: whether it is open again, and its second name can go.
        """
        from sungrow_lib.spool.returning import regain  # noqa: PLC0415 - as above

        return regain(self._place, is_open=is_open)

    def _leave(self, connection: sqlite3.Connection) -> None:
        from sungrow_lib.spool.returning import leave_beside  # noqa: PLC0415 - memory, hardly ever needed

        aside = leave_beside(connection, self._place)
        _LOG.error(
            "another program has the spool's place; what is here is left beside it",
            extra={"file": self._place.file, "set_aside": str(aside)},
        )

    def _require_disk(self) -> None:
        """Wait where it was unmounted: all is safe on it, and nothing is begun below."""
        if self._disk is not None and is_gone(self._disk):
            raise SpoolUnavailableError(
                f"No disk is mounted at {self._disk} any more, where the spool {self._place.path.name} is; "
                "mount it again."
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
        from sungrow_lib.spool.returning import bring_back, fold, name_twice  # noqa: PLC0415 - as above

        aside, is_whole = None, False
        if astray is Astray.LOG:
            fold(connection, self._place)
            is_whole = name_twice(self._place)
        if not is_whole:  # or whoever took the log has taken the file, too
            try:
                aside = bring_back(connection, self._place, self._folder_mode)
            except sqlite3.OperationalError as error:
                if code_of(error) != sqlite3.SQLITE_FULL:
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
