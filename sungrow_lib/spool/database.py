"""One SQLite connection that either commits durably or says why not."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final

from sungrow_lib.errors import SpoolCorruptError, SpoolError, SpoolUnavailableError
from sungrow_lib.spool import schema
from sungrow_lib.spool.bad_places import BadPlaces
from sungrow_lib.spool.errors import CORRUPT_ADVICE, code_of, translate, translated
from sungrow_lib.spool.foreign import require_spool
from sungrow_lib.spool.layout import has_tables, prepare, recognise
from sungrow_lib.spool.opening import BUSY_MS, SpoolOpening
from sungrow_lib.spool.packing import unpack
from sungrow_lib.spool.pages import Log, Pages, read_log
from sungrow_lib.spool.place import Astray, Home, Place

_CHECKPOINT_PAGES: Final = 4000
"""The log is folded into the file every 4 MB: a hot page is then written there once for many commits."""
_CACHE_KB: Final = 256
"""Of SQLite's 2 MB: batches are read once, and a commit touches a few pages. It fills in the first hours."""
_LOG_LOOKS: Final = 3
_MOST_LOG_LOOKS: Final = 60
_LOG_LOOK_S: Final = 0.05
_FOLD_AGAIN_S: Final = 0.05
_UNREADABLE: Final = "btreeInitPage"
"""What `integrity_check` says of a page that is none."""


class MixedPagesError(SpoolCorruptError):
    """Pages are sound, each by itself, and do not go together: they are of different times."""


class Database:
    """The spool's file, open for reading and durable writing by one thread at a time.

    Args:
        path: the file; created with its tables when missing.
        busy_timeout_s: seconds to wait for another program's write.
        max_bytes: upper limit of the file's size.
        check: whether to check the whole file first; its log is looked at in any case.
        opening: told how that gets on, and may end it.
        stays: whether it goes back to its place when it is removed, replaced or overwritten there (`home`).

    Raises:
        NotASpoolError: some other file.
        SpoolUnavailableError: cannot be opened, or was made by a newer version.
        SpoolCorruptError: damaged.
        SpoolFullError: no room to create it.
    """

    def __init__(
        self,
        path: Path,
        *,
        busy_timeout_s: float,
        max_bytes: int | None,
        check: bool,
        opening: SpoolOpening | None = None,
        stays: bool = False,
    ) -> None:
        self.path = path
        self._patience_s = busy_timeout_s
        self._busy_timeout_s = min(busy_timeout_s, BUSY_MS / 1000)
        self._max_bytes = max_bytes
        self._opening = opening or SpoolOpening()
        self._connection: sqlite3.Connection | None = None
        self._damage: SpoolCorruptError | None = None
        self._place = Place(path)
        self._name, self._log_name = self._place.file, self._place.log
        self.home = Home(self._place) if stays else None
        self.bad_places = BadPlaces(path, Path(self._log_name))
        self._is_kept = self.home.is_kept if self.home else self._place.is_kept
        try:
            require_spool(path)
            with translated(self.path):
                self._look_first(self._opening, is_whole=check)
                self._connect()
                self._prepare()
                self._note_files()
        except BaseException:
            self.give_up()
            raise

    def close(self) -> None:
        """Fold the log into the file and close it."""
        if self._connection is not None and self.home is not None:
            with suppress(SpoolError):  # it said so
                self.keep_place(at_once=True)
        if self._connection is not None:
            with translated(self.path):
                self._connection.close()
            self._connection = None
        self._place.let_go()

    def give_up(self) -> None:
        """Let go of the file, whatever state it is in; the next call opens it anew."""
        self._place.let_go()
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None

    def write(self) -> Transaction:
        """Return a transaction: durable when its block is left normally, without any trace otherwise."""
        return Transaction(self)

    def begin(self) -> sqlite3.Connection:
        """Start what `Transaction` ends."""
        connection = self._connection
        if connection is None or not self._is_kept():
            connection = self._reopened(at_once=False)
        self._opening.begin(connection, self._patience_s)
        return connection

    def undo(self, error: BaseException) -> None:
        """Leave no trace of a transaction that met an error; raise what one of SQLite's means."""
        self._roll_back()
        if isinstance(error, sqlite3.ProgrammingError):  # our mistake, not the file's
            return
        if isinstance(error, sqlite3.Error | OSError | UnicodeDecodeError):
            raise translate(error, self.path) from error

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """Run statements on one consistent state of the file."""
        with translated(self.path):
            connection = self._ready()
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                self._roll_back()

    def shrink(self, pages: int) -> None:
        """Give so many unused pages at the file's end back to the disk, moving used ones forward."""
        with self.write() as connection:
            connection.execute(f"PRAGMA incremental_vacuum({pages})").fetchall()

    def fold_log(self) -> None:
        """Write the log into the file, and cut both to the size they need; no harm if others are reading."""
        self._fold("TRUNCATE", 0.0)

    def rewind_log(self, *, is_needed: bool) -> int | None:
        """Write the log into the file, so that it is written anew from its start; it keeps its room.

        On a full disk that is the only room that no other program takes. ``is_needed`` says whether to wait
        for who reads, as long as for another program's write. Return how many bytes of it can be written
        anew; None when somebody reads it.
        """
        return self._fold("RESTART", self._patience_s if is_needed else 0.0)

    def _fold(self, how: str, patience_s: float) -> int | None:
        until = time.monotonic() + patience_s
        with translated(self.path):
            while (found := self._ready().execute(f"PRAGMA wal_checkpoint({how})").fetchone())[0]:
                if not self._opening.may_wait(until):
                    break
                time.sleep(_FOLD_AGAIN_S)  # SQLite itself does not wait for another program that folds it
            self._place.find(is_own_doing=True)
        is_read, pages, _ = found
        return None if is_read else max(0, int(pages)) * schema.PAGE_BYTES

    def log_room(self) -> tuple[int, int]:
        """Bytes of the log, and by how many the file grows when the log is written into it."""
        with translated(self.path):
            pages = self._ready().execute("PRAGMA page_count").fetchone()[0]
            file, log = (os.stat(name).st_size for name in (self._name, self._log_name))  # noqa: PTH116
            return log, max(0, int(pages) * schema.PAGE_BYTES - file)

    def size(self) -> int:
        """Bytes of both on disk."""
        return sum(size for size, _ in self._stamps())

    def keep_place(self, *, at_once: bool = False) -> None:
        """Look whether the file and its log are where they belong, and put that right where they are not.

        Raises:
            SpoolError: they are not, and that cannot be put right (yet).
        """
        with translated(self.path):
            self._ready(at_once=at_once)

    def _ready(self, *, at_once: bool = False) -> sqlite3.Connection:
        # A deleted file can be written to without an error, and is gone at the next start.
        if self._connection is not None and self._is_kept():
            return self._connection
        return self._reopened(at_once=at_once)

    def _reopened(self, *, at_once: bool) -> sqlite3.Connection:
        """Open a file anew that was given up, and put right what is not where it belongs."""
        if self._damage is not None:
            raise self._damage
        if self._connection is None:
            if self.home is not None and not self.home.regain():
                self._place.note()
            if not self._place.is_file_ours():
                raise self._replaced()
            self._check_log(SpoolOpening())
            self._connect()
            self._note_files()
        else:
            astray = self._place.find()
            if astray is None and self.home is not None:
                astray = self.home.doubt()
            if astray is not None:
                self._put_right(astray, at_once=at_once)
        assert self._connection is not None
        return self._connection

    def committed(self) -> None:
        """Note what a commit wrote; what went astray while it did is put right as far as that can be done."""
        if self._place.follow():
            return
        with suppress(SpoolError), translated(self.path):  # it is committed; the next call says so
            astray = self._place.find(is_own_doing=True)
            if astray is not None:
                self._put_right(astray, at_once=False)

    def _put_right(self, astray: Astray, *, at_once: bool) -> None:
        assert self._connection is not None
        if self.home is None:
            if astray is not Astray.CHANGED:
                raise self._replaced()
            return
        try:
            must_open = self.home.put_right(astray, self._connection, at_once=at_once)
        except SpoolCorruptError as error:
            self._connection, self._damage = None, error
            raise
        while must_open:
            self.give_up()
            self.home.regain()
            self._place.note()
            try:
                self._connect()
                self._note_files()
            except BaseException:
                self.give_up()  # the next call tries it with this file
                raise
            must_open = not self.home.regain(is_open=True)

    def _note_files(self) -> None:
        assert self._connection is not None
        self._connection.execute("SELECT 1 FROM sqlite_schema").fetchone()  # opens the log
        self._place.note()

    def _replaced(self) -> SpoolUnavailableError:
        return SpoolUnavailableError(
            f"The spool {self.path} was removed or replaced while in use; restart to use the one there."
        )

    def _roll_back(self) -> None:
        connection = self._connection
        if connection is None or not connection.in_transaction:
            return
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        if connection.in_transaction:  # beyond help; the next call opens the file anew
            self.give_up()

    def _connect(self) -> sqlite3.Connection:
        return self._opening.patiently(self._connect_now, self._patience_s)

    def _connect_now(self) -> sqlite3.Connection:
        try:
            return self._connected()
        except BaseException:
            self.give_up()
            raise

    def _connected(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path,
            timeout=self._busy_timeout_s,
            isolation_level=None,
            check_same_thread=False,  # one thread at a time, but not always the same one
        )
        self._connection = connection
        connection.create_function("unpacked", 1, unpack, deterministic=True)
        recognise(connection, self.path)  # before anything is changed
        if not has_tables(connection):  # a file yet to be made; these are kept for its life
            connection.execute(f"PRAGMA page_size = {schema.PAGE_BYTES}")
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        if connection.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
            raise SpoolUnavailableError(
                f"The spool {self.path} needs a local disk that can share memory maps."
            )
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA cache_size = -{_CACHE_KB}")
        connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        connection.execute(f"PRAGMA journal_size_limit = {2 * _CHECKPOINT_PAGES * schema.PAGE_BYTES}")
        if self._max_bytes is not None:
            connection.execute(f"PRAGMA max_page_count = {max(self._max_bytes // schema.PAGE_BYTES, 1)}")
        return connection

    def _prepare(self) -> None:
        connection = self._connection
        assert connection is not None
        self._opening.begin(connection, self._patience_s)
        try:
            prepare(connection, self.path)
            connection.execute("COMMIT")
        except BaseException:
            self._roll_back()
            raise

    def _look_first(self, opening: SpoolOpening, *, is_whole: bool) -> None:
        """Look at the log and, if wanted, at every page before anything is written: closing the file does."""
        before = self._stamps()
        self._check_log(opening)
        if is_whole and self.path.exists():
            self._check(opening)
            if self._stamps() != before:  # another program, or what a power cut had left unfinished
                self._check_log(opening)

    def _check(self, opening: SpoolOpening) -> None:
        def look(mode: str) -> tuple[str | None, bool]:
            return opening.patiently(partial(self._look, mode, opening), self._patience_s)

        try:
            fault, is_mixed = look("ro")
        except sqlite3.OperationalError as error:
            if code_of(error) != sqlite3.SQLITE_READONLY:
                raise
            # The power went while the spool was made, before it had a log: what is unfinished is taken back.
            fault, is_mixed = look("rw")
        if fault is not None:
            kind = MixedPagesError if is_mixed else SpoolCorruptError
            raise kind(f"The spool {self.path} is damaged ({fault}). {CORRUPT_ADVICE}")

    def _look(self, mode: str, opening: SpoolOpening) -> tuple[str | None, bool]:
        """Say what is wrong with the whole file, None if nothing is; and whether each page seems sound.

        Where pages are of different times each may be sound by itself. `quick_check` would not see that rows
        are out of order or an index is at odds with its table; that two tables are at odds, only we can know.
        """
        with self._looking(mode, opening) as connection:
            recognise(connection, self.path)
            said = [str(row[0]) for row in connection.execute("PRAGMA integrity_check(3)")]
            opening.step()  # a check that was interrupted says that pages are missing
            if said != ["ok"]:
                return "; ".join(said[0].splitlines()), not any(_UNREADABLE in line for line in said)
            if not self._agrees(connection):
                return "readings and where they stand are of different times", True
        return None, False

    @staticmethod
    def _agrees(connection: sqlite3.Connection) -> bool:
        return not has_tables(connection) or bool(connection.execute(schema.AGREE).fetchone()[0])

    @contextmanager
    def _looking(self, mode: str, opening: SpoolOpening) -> Iterator[sqlite3.Connection]:
        address = f"{self.path.absolute().as_uri()}?mode={mode}"
        with (
            closing(sqlite3.connect(address, uri=True, timeout=self._busy_timeout_s)) as connection,
            opening.over(connection),
        ):
            yield connection

    def _check_log(self, opening: SpoolOpening) -> None:
        """Look at the log before SQLite does: at every opening, however short.

        SQLite ends reading at the first fault and says nothing; when it closes the file, it deletes the rest.
        It also deletes a log whose file is empty or missing, and writes one older than its file over it.
        While another program writes, nothing can be said, and it would meet the damage itself.
        """
        left = _LOG_LOOKS
        for _ in range(_MOST_LOG_LOOKS):
            before = self._stamps()
            log = read_log(Path(self._log_name), opening.step)
            if not log.is_damaged and not (log.frames and self._is_at_odds_with(log, opening)):
                return
            left -= self._stamps() == before
            if not left:
                break
            time.sleep(_LOG_LOOK_S)
        else:
            return
        if not self.path.exists():
            raise SpoolCorruptError(
                f"The spool {self.path} is missing, though its log is there. {CORRUPT_ADVICE}"
            )
        raise SpoolCorruptError(f"The spool {self.path} is damaged (in its log). {CORRUPT_ADVICE}")

    def _stamps(self) -> list[tuple[int, int]]:
        """Sizes of the file and its log, and when they were last written."""
        found = []
        for name in (self._name, self._log_name):
            with suppress(FileNotFoundError):
                stat = os.stat(name)  # noqa: PTH116 - as the names are at hand
                found.append((stat.st_size, stat.st_mtime_ns))
        return found

    def _is_at_odds_with(self, log: Log, opening: SpoolOpening) -> bool:
        """Whether there is a log to an empty or a missing file, or one that is older than the file."""
        if not self.path.exists():
            return True
        with closing(Pages(self.path, log, step=opening.step)) as pages:
            return pages.is_ahead or not self.path.stat().st_size


class Transaction:
    """One transaction on a database, as a context; a subclass tells what belongs to it beside that.

    A generator would be shorter. But each reading is a transaction, and would pay for it; it does even
    without the context, and uses what that is made of.
    """

    __slots__ = ("_connection", "_database")

    def __init__(self, database: Database) -> None:
        self._database = database

    def __enter__(self) -> sqlite3.Connection:
        try:
            return self.begin()
        except BaseException as error:
            self.undo(error)
            raise

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.undo(error)
            return
        try:
            self.commit()
        except BaseException as failure:
            self.undo(failure)
            raise

    def begin(self) -> sqlite3.Connection:
        """Start it; `undo` what fails from now on."""
        connection = self._connection = self._database.begin()
        return connection

    def commit(self) -> None:
        """Make it durable; `undo` if that fails."""
        self._connection.execute("COMMIT")
        if self._database.home is not None:
            self._database.committed()

    def undo(self, error: BaseException) -> None:
        """Leave no trace of it; raise what an error means."""
        self._database.undo(error)
