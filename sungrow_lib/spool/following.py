"""Whose readings are that a recovery has from an older page, on which they may have another device.

A renaming gives them one, and taking it back the one they had. The notes of both say which readings those may
be. Of such a reading every version of its row that is left tells, and of the row that says where it stands:
the latest counts, unless it is from before a renaming was taken back.
"""

# ruff: noqa: S608 - statements are put together from literals only; values are always bound

from __future__ import annotations

import sqlite3
from typing import Final

from sungrow_lib.spool import schema
from sungrow_lib.spool.entries import HeldWhy
from sungrow_lib.spool.holding import LOST, hold
from sungrow_lib.spool.notes import (
    Renaming,
    keep_settled,
    read_renamings,
    take_unreadable,
)

_ANY: Final = 2**63 - 1
_EACH: Final = schema.EACH_RENAMING
_A_READING: Final = -1
"""In place of the number of a renaming: a reading itself does not carry it."""
TABLES: Final = (
    "CREATE TEMP TABLE noted (key TEXT, value TEXT, PRIMARY KEY (key, value))",
    # In the order in which they were written, as far as is known; the last of the same ones counts.
    "CREATE TEMP TABLE seen (seq INTEGER, device INTEGER, number INTEGER, UNIQUE (seq, device, number))",
    "CREATE TEMP TABLE nobodys (seq INTEGER PRIMARY KEY)",
    "CREATE TEMP TABLE undone (device INTEGER, since INTEGER, until INTEGER)",
)
_FOLLOW: Final = (
    "UPDATE main.reading SET device = (SELECT f.device FROM temp.found f WHERE f.seq = reading.seq)"
    " WHERE seq IN temp.stale_reading AND seq IN (SELECT seq FROM temp.found WHERE NOT is_stale)"
)
_SEE: Final = "INSERT OR REPLACE INTO temp.seen VALUES (?, ?, ?)"
# What was sent under the new name, or was never moved, is the new device's.
_FIND: Final = (
    "CREATE TEMP TABLE returned AS SELECT r.seq, coalesce((SELECT s.device FROM temp.seen s"
    " WHERE s.seq = r.seq ORDER BY s.rowid DESC LIMIT 1), :new) AS device, EXISTS (SELECT 1"
    " FROM temp.seen s WHERE s.seq = r.seq AND (s.device <> :new OR s.number = :number)) AS was_moved"
    " FROM main.reading r WHERE r.device = :new AND r.seq BETWEEN :since AND :until"
    " AND NOT EXISTS (SELECT 1 FROM temp.seen s WHERE s.seq = r.seq AND s.device = :new AND s.number = 0)"
    " AND NOT EXISTS (SELECT 1 FROM temp.found f WHERE f.seq = r.seq AND f.device = :new AND NOT f.is_stale"
    f" AND f.offered / {_EACH} <> :number)"
)
# The note that says so may be lost. But where one reading went back, all did.
_IS_UNDONE: Final = (
    "SELECT EXISTS (SELECT 1 FROM temp.seen a JOIN temp.seen b USING (seq) WHERE a.device = :new"
    " AND a.number = :number AND b.device <> :new AND b.rowid > a.rowid)"
)
_MAKE: Final = (  # with a number that no nameless device has
    "INSERT OR IGNORE INTO device (id, name) SELECT 1 + max(id), ? FROM (SELECT id FROM device"
    " UNION ALL SELECT device FROM main.reading UNION ALL SELECT device FROM temp.seen)"
)
_TAKE_BACK: Final = (
    # On a page that is as it was last, a reading has its device; but the last commits may be missing.
    (
        "DELETE FROM temp.returned WHERE device = :new AND NOT (:is_undone AND (seq IN temp.stale_reading"
        f" OR seq IN (SELECT seq FROM temp.found WHERE device = :new AND offered / {_EACH} = :number)))"
    ),
    "UPDATE temp.returned SET device = :old WHERE was_moved AND device = :new",
    "INSERT OR IGNORE INTO temp.nobodys SELECT seq FROM temp.returned WHERE NOT was_moved",
    "DELETE FROM temp.returned WHERE NOT was_moved",
    # What became of it since is not known: it may have been offered, but for one that waits.
    (
        f"UPDATE temp.found SET offered = max(offered % {_EACH}, state <> 1),"
        " device = (SELECT b.device FROM temp.returned b WHERE b.seq = found.seq)"
        " WHERE device = :new AND seq IN (SELECT seq FROM temp.returned)"
    ),
    (
        "UPDATE main.reading SET device = (SELECT b.device FROM temp.returned b WHERE b.seq = reading.seq)"
        " WHERE seq IN (SELECT seq FROM temp.returned)"
    ),
    "DROP TABLE temp.returned",
)


def keep_note(connection: sqlite3.Connection, key: str, value: str) -> None:
    """Keep what a page says of a renaming, until all that is said of it is found."""
    connection.execute("INSERT OR IGNORE INTO temp.noted VALUES (?, ?)", (key, value))


def settle_notes(connection: sqlite3.Connection) -> range:
    """Note what all copies together say of the renamings; return the numbers readings may have they moved."""
    copies: dict[str, list[str]] = {}
    for key, value in connection.execute("SELECT key, value FROM temp.noted ORDER BY rowid").fetchall():
        copies.setdefault(key, []).append(value)
    known = {name for (name,) in connection.execute("SELECT name FROM device").fetchall()}
    for key, found in copies.items():
        keep_settled(connection, key, found, known)
    notes = [note for note in read_renamings(connection).values() if note is not None]
    if not notes:
        return range(0)
    return range(min(note.since for note in notes), max(_until(note) for note in notes) + 1)


def see(connection: sqlite3.Connection, seq: int, device: int, offered: int | None) -> None:
    """Take note of whose a reading once was; ``offered`` as where it stood, None of the reading itself."""
    connection.execute(_SEE, (seq, device, _A_READING if offered is None else offered // _EACH))


def follow_standing(connection: sqlite3.Connection) -> None:
    """Give readings that a recovery has from an older page the device they have where they stand now."""
    connection.execute(_FOLLOW)


def take_back(connection: sqlite3.Connection) -> None:
    """Give readings from an older page back to the device they are of, if a renaming was taken back since.

    Those of which nothing tells whose they are get into the table ``nobodys``.
    """
    for number, note in read_renamings(connection).items():
        new = None if note is None else _device(connection, note.new)
        if note is not None and new is not None:
            _take_back(connection, number, note, new)


def _take_back(connection: sqlite3.Connection, number: int, note: Renaming, new: int) -> None:
    keys = {"number": number, "new": new, "since": note.since, "until": _until(note)}
    (was_seen,) = connection.execute(_IS_UNDONE, keys).fetchone()
    connection.execute(_FIND, keys)
    if connection.execute("SELECT 1 FROM temp.returned LIMIT 1").fetchone():
        connection.execute(_MAKE, (note.old,))
    keys |= {"is_undone": note.is_undone or bool(was_seen), "old": _device(connection, note.old) or new}
    for statement in _TAKE_BACK:
        connection.execute(statement, keys)


def note_undone(connection: sqlite3.Connection) -> list[str]:
    """Note which devices' readings had another name before that was taken back, in the table ``undone``.

    Returns:
        The keys of the notes that say so, as far as both devices are known.
    """
    keys = []
    for number, note in read_renamings(connection).items():
        if note is None or not note.is_undone or note.also:
            continue
        devices = _device(connection, note.old), _device(connection, note.new)
        if None not in devices:
            rows = [(device, note.since, _until(note)) for device in devices]
            connection.executemany("INSERT INTO temp.undone VALUES (?, ?, ?)", rows)
            keys.append(f"{schema.RENAMED_PREFIX}{number}")
    return keys


def hold_renamed(connection: sqlite3.Connection) -> None:
    """Hold the devices that a recovery gave back what may have been renamed: an older page says so.

    It may have been sent under its new name since. Where the note of a renaming cannot be read, that is any
    device with a name that a recovery gives, and one with the name that is still to be made out.
    """
    notes = read_renamings(connection).values()
    for note in notes:
        if note is not None and not note.is_undone:
            why = HeldWhy.LOST if note.why is HeldWhy.ASIDE else note.why
            for name in (note.old, *note.also):
                _hold_returned(connection, name, _until(note), why)
    if None in notes:
        for name in take_unreadable(connection):
            _hold_returned(connection, name, _ANY, HeldWhy.LOST)
        connection.execute(schema.HOLD_LOST, (HeldWhy.LOST, LOST))


def _hold_returned(connection: sqlite3.Connection, name: str, until: int, why: HeldWhy) -> None:
    found = (_device(connection, name), until)
    if connection.execute("SELECT 1 FROM reading WHERE device = ? AND seq <= ? LIMIT 1", found).fetchone():
        hold(connection, name, why)


def _until(note: Renaming) -> int:
    return _ANY if note.until is None else note.until


def _device(connection: sqlite3.Connection, name: str) -> int | None:
    row = connection.execute("SELECT id FROM device WHERE name = ?", (name,)).fetchone()
    return None if row is None else int(row[0])
