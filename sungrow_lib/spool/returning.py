"""Brings a spool back to its place when its file was removed, replaced or overwritten while it was open.

What SQLite has open stays readable after that, but has no name: it is gone when the process ends. So a
complete copy of it goes to where it belongs. What is found there is set aside, never deleted.

1. The copy is written as `<spool>.returning-part`, checked and synced. 2. It becomes `<spool>.returning`:
from now on it is the spool, whatever happens. 3. What is at the spool's path becomes
`<spool>.replaced-<time>`. 4. The copy takes its place. `finish` does at the next start what was cut off.

A file that is only parted from its log takes no copy. It has to be opened anew, and nothing may hold it then:
so it is called `<spool>.returning`, too, until that is done.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from sungrow_lib.errors import SpoolCorruptError, SpoolUnavailableError
from sungrow_lib.spool import schema
from sungrow_lib.spool.disk import sync
from sungrow_lib.spool.errors import code_of, extended_code_of, is_no_text
from sungrow_lib.spool.foreign import REPLACED, unfinished
from sungrow_lib.spool.opening import BUSY_MS, SpoolOpening
from sungrow_lib.spool.place import Place

_LOG: Final = logging.getLogger(__name__)
_COMPANIONS: Final = ("-wal", "-shm", "-journal")
_REPLACED: Final = f"{REPLACED}-"
_DONE: Final = ".done"


def bring_back(connection: sqlite3.Connection, place: Place, folder_mode: int) -> Path | None:
    """Write all that an open spool holds to where it belongs; return where what was found there is now.

    Raises:
        SpoolCorruptError: what is open cannot be read as a whole any more.
        sqlite3.Error, OSError: it cannot be written there; all is as before.
    """
    path = place.path.absolute()
    part = _part(path)
    if not path.parent.exists():
        path.parent.mkdir(parents=True)
        path.parent.chmod(folder_mode)
    _remove(part)
    try:
        connection.execute("VACUUM INTO ?", (str(part),))
        _require_same(connection, part)
        sync(part)
    except BaseException as error:
        _remove(part)
        if _is_damage(error, place):
            raise SpoolCorruptError(f"The spool {path} was overwritten while in use ({error}).") from error
        raise
    part.rename(_whole(path))
    if place.is_log_ours():  # beside another file it would be taken for that one's
        Path(place.log).unlink(missing_ok=True)
    return _publish(path)


def leave_beside(connection: sqlite3.Connection, place: Place) -> Path:
    """Write all that an open spool holds beside its place, which another one has; return where it is.

    Raises:
        sqlite3.Error, OSError: it cannot be written there.
    """
    path = place.path.absolute()
    part = path.with_name(f"{path.name}.leaving-part")
    _remove(part)
    connection.execute("VACUUM INTO ?", (str(part),))
    sync(part)
    aside = _unused(path)
    part.rename(aside)
    sync(path.parent)
    return aside


def is_as_left(path: Path, connection: sqlite3.Connection) -> bool:
    """Whether a file somebody else wrote to is sound, and still what an open connection has."""
    if not path.stat().st_size:  # opening an empty one would delete its log
        return False
    try:
        address = f"{path.absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(address, uri=True, timeout=BUSY_MS / 1000)) as fresh:
            return _fault(fresh) is None and _mark(fresh) == _mark(connection)
    except (sqlite3.Error, UnicodeDecodeError) as error:
        if _tells_nothing(error):
            raise
        return False


def _tells_nothing(error: Exception) -> bool:
    """Whether another program, or a disk that fails, kept a file from being looked at."""
    return code_of(error) in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_IOERR} and (
        extended_code_of(error) != sqlite3.SQLITE_IOERR_SHORT_READ
    )


def fold(connection: sqlite3.Connection, place: Place) -> None:
    """Write an open spool's log into its file, of which it was parted, and set aside what is in its place.

    Raises:
        SpoolUnavailableError: another program is reading; nothing is lost yet.
        sqlite3.Error, OSError: it cannot be done.
    """
    log = Path(place.log)
    if os.path.lexists(log) and not place.is_log_ours():
        log.rename(f"{_unused(place.path)}-wal")
    if connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
        raise SpoolUnavailableError(f"the spool {place.path} is being read by another program; try again.")


def name_twice(place: Place) -> bool:
    """Give a spool that is to be closed, and opened anew, its second name until that is done.

    Whoever deletes its files one by one may come to the file just then: nobody has it open. `regain` puts it
    back.

    Returns:
        Whether the open file still had its first name.

    Raises:
        OSError: nobody can tell.
    """
    whole = _whole(place.path.absolute())
    whole.unlink(missing_ok=True)
    try:
        os.link(place.path, whole)
    except FileNotFoundError:
        return False
    except OSError:  # a folder is there; or a file system without second names
        return place.is_file_ours()
    if place.is_open_as(whole):
        return True
    whole.unlink()
    return False


def regain(place: Place, *, is_open: bool) -> bool:
    """Put a spool back that lost its first name since `name_twice`; return whether it has kept it."""
    path = place.path.absolute()
    whole = _whole(path)
    if not whole.exists():
        return True
    if not _is_same(path, whole):
        aside = _publish(path)
        extra = {"file": str(path), "set_aside": aside and str(aside)}
        _LOG.error("the spool was taken away while it was opened anew; it is back in its place", extra=extra)
        return False
    if is_open:
        whole.unlink()
    return True


def _is_same(path: Path, whole: Path) -> bool:
    return path.exists() and whole.exists() and path.samefile(whole)


def finish(path: Path, opening: SpoolOpening) -> None:
    """Complete what an earlier process was about to do when it ended.

    Raises:
        SpoolError: it cannot be done; all is as before.
    """
    part = _part(path)
    is_recovered = unfinished(part).exists() and not part.exists()
    if not (part.exists() or _whole(path).exists() or is_recovered):
        return
    try:
        if part.exists():
            _finish_part(path, part, opening)
        elif is_recovered:
            from sungrow_lib.spool.salvage import finish_interrupted  # noqa: PLC0415 - memory, hardly ever needed

            finish_interrupted(part)
            _place_saved(path, part)
        if _is_same(path, _whole(path)):  # it has its place, and its log beside it
            _whole(path).unlink()
        elif _whole(path).exists():
            aside = _publish(path)
            extra = {"file": str(path), "set_aside": aside and str(aside)}
            _LOG.error("a spool is back in its place, as an earlier process began to see to", extra=extra)
    except OSError as error:
        raise SpoolUnavailableError(
            f"The spool {_whole(path)} cannot be moved to its place: {error.strerror}."
        ) from error


def _finish_part(path: Path, part: Path, opening: SpoolOpening) -> None:
    """Use a copy: as the spool if it is whole, else for what can be read: nothing else may have that."""
    if not part.stat().st_size:
        _remove(part)
    elif _is_sound(part, opening):
        sync(part)
        part.rename(_whole(path))
    else:
        from sungrow_lib.spool.salvage import recover  # noqa: PLC0415 - memory, hardly ever needed

        recover(part, "it was cut off on its way back to its place", opening)
        _place_saved(path, part)


def _place_saved(path: Path, part: Path) -> None:
    part.rename(_unused(path) if os.path.lexists(path) else path)


def _is_sound(part: Path, opening: SpoolOpening) -> bool:
    try:
        with closing(sqlite3.connect(part)) as copied, opening.over(copied):
            return _fault(copied) is None and bool(_mark(copied))
    except (sqlite3.Error, UnicodeDecodeError):
        return False


def found_aside(path: Path) -> list[Path]:
    """Return files that were found in a spool's place and not looked into yet."""
    start, skipped = f"{path.name}{_REPLACED}", (_DONE, *_COMPANIONS)
    try:
        names = os.listdir(path.parent)  # noqa: PTH208 - every few seconds: no path is made while there is none
    except OSError:  # the next look sees
        return []
    return sorted(
        path.with_name(name) for name in names if name.startswith(start) and not name.endswith(skipped)
    )


def mark_done(file: Path) -> Path:
    """Note that a file was looked into; return its new name."""
    done = file.with_name(f"{file.name}{_DONE}")
    for suffix in ("", *_COMPANIONS):
        with suppress(FileNotFoundError):
            Path(f"{file}{suffix}").rename(f"{done}{suffix}")
    return done


def _publish(path: Path) -> Path | None:
    aside = None
    if any(os.path.lexists(f"{path}{suffix}") for suffix in ("", *_COMPANIONS)):
        aside = _unused(path)
        _set_aside(path, aside)
    _whole(path).replace(path)
    sync(path.parent)
    return aside if aside is not None and os.path.lexists(aside) else None


def _set_aside(path: Path, aside: Path) -> None:
    """Give what is there another name, without a moment in which there is nothing, where that can be done."""
    if os.path.lexists(path):
        try:
            os.link(path, aside, follow_symlinks=False)
        except OSError:  # a folder; or a file system without second names
            path.rename(aside)
    Path(f"{path}-shm").unlink(missing_ok=True)  # an index, made anew from the log
    for suffix in ("-wal", "-journal"):
        with suppress(FileNotFoundError):
            Path(f"{path}{suffix}").rename(f"{aside}{suffix}")


def _is_damage(error: BaseException, place: Place) -> bool:
    if is_no_text(error):
        return True
    if isinstance(error, sqlite3.OperationalError):
        is_failing = code_of(error) == sqlite3.SQLITE_IOERR  # VACUUM does not say that it read too little
        is_short = extended_code_of(error) == sqlite3.SQLITE_IOERR_SHORT_READ
        return is_short or (is_failing and place.is_log_cut())
    return isinstance(error, sqlite3.DatabaseError)


def _require_same(connection: sqlite3.Connection, copy: Path) -> None:
    with closing(sqlite3.connect(copy)) as copied:
        found = _fault(copied)
        if found is None and _mark(copied) != _mark(connection):
            found = "it has other readings than it should have"
    if found is not None:
        raise SpoolCorruptError(f"The spool {copy} was overwritten while in use ({found}).")


def _fault(connection: sqlite3.Connection) -> str | None:
    """Say what is wrong with a whole file, None if nothing is."""
    said = str(connection.execute("PRAGMA integrity_check(1)").fetchone()[0])
    if said != "ok":
        return said
    return None if connection.execute(schema.AGREE).fetchone()[0] else "rows are of different times"


def _mark(connection: sqlite3.Connection) -> list[tuple[object, ...]]:
    """What tells one spool, and one state of it, from others; a wrong bit in it is nothing to decode."""
    return connection.execute(
        "SELECT CAST(value AS BLOB) FROM meta WHERE key IN ('edge_id', 'generation')"
        " UNION ALL SELECT coalesce(max(seq), 0) FROM reading"
    ).fetchall()


def _part(path: Path) -> Path:
    return path.with_name(f"{path.name}.returning-part")


def _whole(path: Path) -> Path:
    return path.with_name(f"{path.name}.returning")


def _unused(path: Path) -> Path:
    stamp = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    return next(name for name in _names(path, stamp) if not os.path.lexists(name))


def _names(path: Path, stamp: str) -> Iterator[Path]:
    number = 1
    while True:
        tail = f"-{number}" if number > 1 else ""
        yield path.with_name(f"{path.name}{_REPLACED}{stamp}{tail}")
        number += 1


def _remove(file: Path) -> None:
    for suffix in ("", *_COMPANIONS):
        Path(f"{file}{suffix}").unlink(missing_ok=True)
