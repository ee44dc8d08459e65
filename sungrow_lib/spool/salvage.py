"""Takes what is readable of a damaged spool into a new one, and sets the damaged file aside."""

from __future__ import annotations

import json
import logging
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from sungrow_lib.errors import SpoolError, SpoolUnavailableError
from sungrow_lib.sample import DEVICE_ID_PATTERN
from sungrow_lib.spool import salvage_schema, schema
from sungrow_lib.spool.backdating import SERVER_STARTS, read_starts
from sungrow_lib.spool.belonging import pages_of
from sungrow_lib.spool.database import Database
from sungrow_lib.spool.disk import sync
from sungrow_lib.spool.draft import drafting, remove
from sungrow_lib.spool.entries import HeldWhy, SpoolOwner, SpoolRecovery, SpoolState
from sungrow_lib.spool.following import (
    TABLES,
    follow_standing,
    hold_renamed,
    keep_note,
    note_undone,
    see,
    settle_notes,
    take_back,
)
from sungrow_lib.spool.foreign import REPLACED, as_reading, is_unused, unfinished
from sungrow_lib.spool.holding import LOST, hold
from sungrow_lib.spool.meta import note_recovery, read_recovery
from sungrow_lib.spool.nameless import LOST_BOOT, PARTS, note_boots
from sungrow_lib.spool.opening import SpoolOpening
from sungrow_lib.spool.packing import unpack
from sungrow_lib.spool.pages import Pages, Row
from sungrow_lib.spool.rows import is_content, is_date

_LOG: Final = logging.getLogger(__name__)
_COMPANIONS: Final = ("", "-wal", "-shm")
_DAMAGED: Final = ".damaged"
_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_RANK: Final = {state: rank for rank, state in enumerate((0, 2, 3, 4, 5, 1))}
"""Where a reading seems to stand at two places, the one that is offered again wins: that is always safe."""

_NAMELESS: Final = (
    "SELECT device FROM main.reading UNION SELECT device FROM temp.seen EXCEPT SELECT id FROM device"
)
_IS_RENAMED: Final = (  # then an older page may give a reading another device than the row it is part of
    f"SELECT EXISTS (SELECT 1 FROM meta WHERE key GLOB '{schema.RENAMED_PREFIX}*'"  # noqa: S608 - ours
    " AND key NOT IN (SELECT value FROM json_each(?)))"
    f" OR EXISTS (SELECT 1 FROM temp.found WHERE offered >= {schema.EACH_RENAMING})"
)


def finish_interrupted(path: Path) -> None:
    """Complete a recovery that was cut off after the damaged file had been renamed: it is missing.

    The new file is complete when it has its name, whatever wrong bits make of what it says of itself. Where
    the spool is there it was made of it, mostly, and is of no use. Who knows, so it is kept. One without any
    reading, as whoever finds none makes it, is in its place, and is set aside; unless it is the damaged one.
    """
    new = unfinished(path)
    if not new.exists():
        return
    try:
        if path.exists() and is_unused(path):
            noted = _noted_aside(path)
            if noted is None or noted.exists():  # else what is there is the damaged one
                noted = _unused(path, REPLACED)
            _exchange(path, noted)
        elif path.exists():
            aside = _unused(new, "")
            new.rename(aside)
            _LOG.error("what a recovery made is set aside: a spool is there", extra={"file": str(aside)})
        else:
            _exchange(path, _aside_of(path))
    except OSError as error:
        raise SpoolUnavailableError(
            f"The recovered spool {new} cannot be moved to its place: {error.strerror}."
        ) from error


def recover(
    path: Path,
    reason: str,
    opening: SpoolOpening,
    *,
    is_mixed: bool = False,
    owner: SpoolOwner | None = None,
    is_taken: bool = True,
) -> None:
    """Replace a damaged spool by a new one with all that is readable; the damaged one is renamed.

    Where the file and the log beside it are not of one spool, only one of them is taken: the number that
    stands for a device here stands for another one there. Where what is readable is no use (``is_taken``),
    the new one is empty.

    Safe against a crash at any moment: until the new file is complete and synced the old one stays where
    it is, and `finish_interrupted` does the rest.

    Raises:
        SpoolError: no room, the folder cannot be written, or asked to end; everything is as before.
    """
    opening.is_recovering = True
    now = datetime.now(UTC)
    aside = _unused(path, _DAMAGED)
    draft_path = path.with_name(f"{path.name}.draft")
    try:
        if not path.exists():  # only its log is there: that is as good as an empty file
            path.touch()
        with (
            drafting(draft_path, opening) as draft,
            closing(pages_of(path, draft.step, is_mixed=is_mixed, owner=owner)) as pages,
        ):
            counts = _fill(draft.connection, pages) if is_taken else [0, _undelivered(pages), 0]
            pages.require_settled()
            recovery = SpoolRecovery(f"{now:%Y-%m-%dT%H:%M:%SZ}", reason, str(aside), *counts)
            note_recovery(draft.connection, recovery)
        draft_path.rename(unfinished(path))
        try:
            _exchange(path, aside)
        except OSError:
            if path.exists():  # nothing has changed: the next attempt makes it anew
                remove(unfinished(path))
            raise
        opening.is_recovering = False
    except OSError as error:
        raise SpoolUnavailableError(
            f"The damaged spool {path} cannot be set aside: {error.strerror}."
        ) from error
    _LOG.error("damaged spool set aside, its readable readings taken over", extra=asdict(recovery))


def _unused(path: Path, tail: str) -> Path:
    stem = f"{path.name}{tail}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    name, count = stem, 1
    while path.with_name(name).exists():
        count += 1
        name = f"{stem}-{count}"
    return path.with_name(name)


def _noted_aside(path: Path) -> Path | None:
    """Return what the damaged file is called once it is set aside, as the new one says; None if unknown."""
    with (
        suppress(SpoolError),
        closing(Database(unfinished(path), busy_timeout_s=10.0, max_bytes=None, check=False)) as database,
        database.read() as connection,
    ):
        recovery = read_recovery(connection)
        # It may have been moved since, with its folder.
        name = "" if recovery is None else Path(recovery.set_aside).name
        return path.with_name(name) if name.startswith(f"{path.name}{_DAMAGED}-") else None
    return None


def _aside_of(path: Path) -> Path:
    """Return what the damaged file is called whose log may still be in its old place; none that has a log."""
    noted = _noted_aside(path)
    files = [
        file
        for file in path.absolute().parent.iterdir()
        if file.name.startswith(f"{path.name}{_DAMAGED}-") and not file.name.endswith(_COMPANIONS[1:])
    ]
    free = [path.with_name(file.name) for file in files if not Path(f"{file}-wal").exists()]
    if noted in free or (not files and noted is not None):
        return noted
    return max(free, default=_unused(path, _DAMAGED))


def _exchange(path: Path, aside: Path) -> None:
    for suffix in _COMPANIONS:  # the file itself first: `finish_interrupted` goes by its absence
        with suppress(FileNotFoundError):
            Path(f"{path}{suffix}").rename(f"{aside}{suffix}")
    unfinished(path).rename(path)
    sync(path.absolute().parent)


def _undelivered(pages: Pages) -> int:
    """Count the readings the server does not have, as far as is known."""
    found = [row for row in map(_standing, pages.rows()) if row is not None and row[1] in _RANK]
    return len({seq for _, state, seq, *_ in found if state != SpoolState.DELIVERED})


# --- sorting the rows -------------------------------------------------------------------------------------


def _fill(connection: sqlite3.Connection, pages: Pages) -> list[int]:
    """Take all readable rows over; return how many are saved, known to be lost, and doubtful."""
    for statement in (*salvage_schema.TABLES, *TABLES):
        connection.execute(statement)
    names: dict[str, int] = {}
    was_merged = False
    for row in pages.rows(stale=False):
        was_merged |= _tells_of_merging(row)
        _take(connection, row, names)
    for row in pages.rows(stale=True):  # what a sound page says of the same reading is newer
        _take_stale(connection, row, names)
    newest = connection.execute("SELECT coalesce(max(seq), 0) FROM reading").fetchone()[0]
    for row in pages.rows_behind():  # of the others it is known where they stand
        _take(connection, row, names, after=newest)
    was_merged = _take_superseded(connection, pages, was_merged=was_merged)
    if pages.free() is not None:  # else what is found may be on a page no longer used
        follow_standing(connection)
    _name_as_indexed(connection, names)  # what was taken back is noted by names
    take_back(connection)
    _name_the_nameless(connection)
    hold_renamed(connection)
    for statement in salvage_schema.STAND:
        connection.execute(statement)
    starts = [(start, name) for name, start in read_starts(connection).items()]
    connection.executemany(salvage_schema.SERVER_START, starts)
    is_known = not pages.is_doubtful  # else one that waits may have been dated since, and DOUBT decides
    maybe_dated = (is_known, schema.DOUBTFUL, salvage_schema.MAYBE_DATED)
    connection.execute(salvage_schema.STAND_NOWHERE, maybe_dated)
    _set_apart(connection, pages, was_merged=was_merged)
    for statement in salvage_schema.FINISH:
        connection.execute(statement)
    note_boots(connection)
    return [connection.execute(query).fetchone()[0] for query in salvage_schema.COUNTS]


def _take(connection: sqlite3.Connection, row: Row, names: dict[str, int], after: int = 0) -> None:
    """Recognise a row by its columns; what is none of the spool's, or of no later reading, is left."""
    if (reading := as_reading(row)) is not None:
        is_later = reading[0] > after and _is_sound(reading)
        if is_later and not connection.execute(salvage_schema.READING, reading).rowcount:
            _keep_merged(connection, reading)
    elif (standing := _standing(row)) is not None:
        if standing[2] > after and standing[1] in _RANK:
            connection.execute(salvage_schema.STANDING, (*standing, _RANK[SpoolState(standing[1])]))
    else:
        _take_small(connection, row, names)


def _keep_merged(connection: sqlite3.Connection, reading: tuple[Any, ...]) -> None:
    """Of a reading found twice, once on a page no longer used, keep what was merged later."""
    (there,) = connection.execute("SELECT content FROM reading WHERE seq = ?", reading[:1]).fetchone()
    counts = [json.loads(unpack(content)).get("sample_count") for content in (there, reading[-1])]
    before, now = (count if isinstance(count, int) else 1 for count in counts)
    if now > before:
        connection.execute("UPDATE reading SET content = ? WHERE seq = ?", (reading[-1], reading[0]))


def _take_stale(connection: sqlite3.Connection, row: Row, names: dict[str, int]) -> None:
    """Take a row of a page whose newest version is damaged, and remember that it may have changed since."""
    if (reading := as_reading(row)) is not None:
        if _is_sound(reading) and connection.execute(salvage_schema.READING, reading).rowcount:
            connection.execute("INSERT INTO temp.stale_reading VALUES (?)", reading[:1])
    elif (standing := _standing(row)) is not None:
        if standing[1] in _RANK:
            device, state, *rest = standing
            # Since then the server may have lost it, so that it was offered again: only asking tells.
            state = SpoolState.PENDING if state == SpoolState.DELIVERED else SpoolState(state)
            values = (device, state, *rest, _RANK[state])
            connection.execute(salvage_schema.STALE_STANDING, values)
    else:
        _take_small(connection, row, names)
        match row:
            case Row(int() as key, (None, str(), int() | None)):  # its floor is not known any more
                connection.execute("INSERT OR IGNORE INTO temp.floor VALUES (?, -2)", (key,))


def _standing(row: Row) -> tuple[Any, ...] | None:
    match row:
        case Row(None, (int(), int(), int(), int(), at, str() | None, str() | None)) if at is None or is_date(
            at
        ):
            return row.values
    return None


def _tells_of_merging(row: Row) -> bool:
    return row.values[:1] == ("merged",)


def _take_superseded(connection: sqlite3.Connection, pages: Pages, *, was_merged: bool) -> bool:
    """Take readings that only an older version of some page has; return whether any was ever merged.

    Rows move from page to page, and the one a reading moved to may be the damaged one. What had been deleted
    comes back so, too: the server has it, and is asked once more. Merged readings do not, unless they are
    known to be there.
    """
    is_doubtful, renamed = pages.is_doubtful, settle_notes(connection)
    for row in pages.versions(again=is_doubtful or bool(renamed)):
        was_merged |= _tells_of_merging(row)
        if is_doubtful:
            _note_version(connection, row)
        reading = as_reading(row)
        if renamed:
            _see_version(connection, reading or _standing(row), renamed)
        if reading is not None and _is_missing(connection, reading) and _is_sound(reading):
            connection.execute(salvage_schema.SUPERSEDED, reading)
    if not was_merged:  # the row that says so may be lost
        was_merged = connection.execute(salvage_schema.IS_MERGED).fetchone() is not None
    for statement in salvage_schema.SUPERSEDED_TAKE:
        connection.execute(statement, (not was_merged,))
    return was_merged


def _see_version(connection: sqlite3.Connection, row: tuple[Any, ...] | None, renamed: range) -> None:
    match row:
        case (int() as seq, int() as device, _, _, _, _, str() | bytes()) if seq in renamed:
            see(connection, seq, device, None)
        case (int() as device, int(), int() as seq, int() as offered, *_) if seq in renamed:
            see(connection, seq, device, offered)


def _is_missing(connection: sqlite3.Connection, reading: tuple[Any, ...]) -> bool:
    return connection.execute("SELECT 1 FROM reading WHERE seq = ?", reading[:1]).fetchone() is None


def _set_apart(connection: sqlite3.Connection, pages: Pages, *, was_merged: bool) -> None:
    """Find readings that newer knowledge, now lost, may have changed: they are kept, and not sent."""
    connection.execute(salvage_schema.NOBODYS)
    connection.execute(salvage_schema.UNDATABLE)
    if pages.is_doubtful:
        for statement in salvage_schema.DOUBT:
            connection.execute(statement)
    if was_merged:
        find, set_apart = salvage_schema.MERGED
        undone = json.dumps(note_undone(connection))
        (is_renamed,) = connection.execute(_IS_RENAMED, (undone,)).fetchone()
        connection.execute(find, (is_renamed,))
        connection.execute(set_apart, (pages.free() is None, is_renamed))


def _note_version(connection: sqlite3.Connection, row: Row) -> None:
    """Note how a row once was, as far as its date is concerned."""
    if (reading := as_reading(row)) is not None:
        seq, _, ts, _, _, clock, _ = reading
        connection.execute("INSERT OR IGNORE INTO temp.once_dated VALUES (?, ?, ?)", (seq, ts, clock or ""))
    elif (standing := _standing(row)) is not None:
        device, state, seq, _, _, code, _ = standing
        if state == SpoolState.WAITING or (state == SpoolState.DEFERRED and code == "future"):
            connection.execute("INSERT OR IGNORE INTO temp.once_undated VALUES (?, ?)", (seq, device))
    else:
        match row:
            case Row(int() as key, (None, str(), int() | None as floor)):
                values = (key, -1 if floor is None else floor)
                connection.execute("INSERT OR IGNORE INTO temp.floor VALUES (?, ?)", values)


def _take_small(connection: sqlite3.Connection, row: Row, names: dict[str, int]) -> None:
    match row:
        case Row(int() as key, (None, str() as name)):
            connection.execute("INSERT OR IGNORE INTO boot VALUES (?, ?)", (key, name))
        case Row(int() as key, (None, str() as name, int() | None as floor)):
            connection.execute("INSERT OR IGNORE INTO device VALUES (?, ?, ?)", (key, name, floor))
        case Row(int(), (None, int(), int())):
            connection.execute("INSERT OR IGNORE INTO temp.told VALUES (?, ?)", row.values[1:])
        case Row(None, (str() as name, int() as key)):
            names.setdefault(name, key)  # an index: all that is left when the table is lost
        case Row(None, (str() as key, str() as value)):
            _take_meta(connection, key, value)
        case Row(None, (int(), int())):
            connection.execute(schema.RESERVE, row.values)
        case Row(None, (str(),)):
            connection.execute("INSERT OR IGNORE INTO server_version VALUES (?)", row.values)


def _take_meta(connection: sqlite3.Connection, key: str, value: str) -> None:
    if key in {"edge_id", PARTS, SERVER_STARTS, schema.NAMES_SEEN}:
        connection.execute("INSERT OR IGNORE INTO meta VALUES (?, ?)", (key, value))
    elif key.startswith(schema.RENAMED_PREFIX):
        keep_note(connection, key, value)
    elif key.startswith(schema.HELD_PREFIX):
        if value in set(HeldWhy):
            connection.execute(schema.SET_META, (key, value))
        else:  # a damaged reason is as good as any other: none of its readings is sent
            hold(connection, key.removeprefix(schema.HELD_PREFIX), HeldWhy.LOST)


def _is_sound(reading: tuple[Any, ...]) -> bool:
    return is_date(reading[2]) and is_content(reading[-1])


def _name_as_indexed(connection: sqlite3.Connection, names: dict[str, int]) -> None:
    """Give devices and boots whose names are lost that of their index, if it has one.

    Devices also if they had readings once. A boot without its name would pass for one that ended before the
    present one, whose readings then get a date before it.
    """
    known = {name for (name,) in connection.execute("SELECT name FROM boot")}
    devices, boots = {}, {}
    for name, key in reversed(names.items()):  # of two the one found first: the other is on an older page
        if _UUID.fullmatch(name):
            boots[key] = name
        elif name not in known and re.fullmatch(DEVICE_ID_PATTERN, name):
            devices[key] = name
    for (key,) in connection.execute(_NAMELESS).fetchall():
        if key in devices:
            connection.execute("INSERT OR IGNORE INTO device (id, name) VALUES (?, ?)", (key, devices[key]))
            if devices[key].startswith(LOST):
                hold(connection, devices[key], HeldWhy.LOST)
    for key in _missing(connection, "boot"):
        if key in boots:
            connection.execute("INSERT OR IGNORE INTO boot VALUES (?, ?)", (key, boots[key]))


def _name_the_nameless(connection: sqlite3.Connection) -> None:
    """Give devices and boots whose names are lost one that says so."""
    for key in _missing(connection, "device"):
        hold(connection, _name(connection, "device", f"{LOST}{key}", key), HeldWhy.LOST)
    for key in _missing(connection, "boot"):
        _name(connection, "boot", f"{LOST_BOOT}{key}", key)


def _name(connection: sqlite3.Connection, table: str, name: str, key: int) -> str:
    """Name a device or boot; the name may be taken, by an earlier recovery or in pages of another time."""
    statement = f"INSERT OR IGNORE INTO {table} (id, name) VALUES (?, ?)"  # noqa: S608 - ours
    while not connection.execute(statement, (key, name)).rowcount:
        name += "-again"
    return name


def _missing(connection: sqlite3.Connection, table: str) -> Iterator[Any]:
    query = f"SELECT DISTINCT {table} FROM reading WHERE {table} NOT IN (SELECT id FROM {table})"  # noqa: S608
    return (key for (key,) in connection.execute(query).fetchall())
