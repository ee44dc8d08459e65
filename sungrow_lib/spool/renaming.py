"""Gives readings of a held device their name, and takes that back as far as nothing was sent under it.

Each renaming has a number, and its readings carry it, beside what `offered` says, until they are sent again:
`offered` is 4 times that number more. What was sent before, under another name, counts for nothing there.
"""

# ruff: noqa: S608 - statements are put together from literals only; values are always bound

from __future__ import annotations

import sqlite3
from dataclasses import replace
from typing import Final

from sungrow_lib.errors import UsageError
from sungrow_lib.spool import schema
from sungrow_lib.spool.entries import HeldWhy, SpoolRenaming
from sungrow_lib.spool.holding import hold, is_held, read_held, require_held, set_aside
from sungrow_lib.spool.meta import renew_generation
from sungrow_lib.spool.notes import (
    Renaming,
    drop_renaming,
    note_renaming,
    read_renamings,
)

_EACH: Final = schema.EACH_RENAMING
_ANY: Final = 2**63 - 1
_MOST: Final = 2**31
"""No edge has had so many renamings: what carries a higher number has a wrong bit."""
_LAST: Final = f"SELECT coalesce(max(offered), 0) / {_EACH} FROM standing WHERE offered < {_EACH * _MOST}"
# Two readings of one device and time cannot be: such stay where they are. So does one that is there with
# another date: it was imported before it had one, and each was given its own.
_CHOOSE: Final = (
    "CREATE TEMP TABLE there (ts INTEGER PRIMARY KEY)",
    "INSERT OR IGNORE INTO temp.there SELECT ts FROM reading WHERE device = :target",
    "CREATE TEMP TABLE moments (boot, boot_ms, seq, PRIMARY KEY (boot, boot_ms, seq)) WITHOUT ROWID",
    "INSERT OR IGNORE INTO temp.moments SELECT boot, boot_ms, seq FROM reading WHERE device = :target",
    "CREATE TEMP TABLE moving (seq INTEGER PRIMARY KEY)",
    (
        "INSERT INTO temp.moving SELECT r.seq FROM standing s CROSS JOIN reading r ON r.seq = s.seq"
        " WHERE s.device = :source AND r.ts NOT IN temp.there AND NOT EXISTS ("
        "SELECT 1 FROM temp.moments m CROSS JOIN reading t ON t.seq = m.seq WHERE m.boot = r.boot"
        " AND m.boot_ms = r.boot_ms AND unpacked(t.content) = unpacked(r.content))"
        f" AND (:number IS NULL OR s.offered / {_EACH} = :number)"
    ),
)
_MOVE: Final = (
    "UPDATE reading SET device = :target WHERE seq IN temp.moving",
    # 2: whether it was sent is not known at all.
    (
        f"UPDATE standing SET device = :target, offered = CASE offered % {_EACH} WHEN 2 THEN 2"
        f" ELSE offered % {_EACH} + {_EACH} * :mark END WHERE device = :source AND seq IN temp.moving"
    ),
    "INSERT OR IGNORE INTO reserved SELECT :target, ts FROM reserved WHERE device = :source",
    "DROP TABLE temp.there",
    "DROP TABLE temp.moments",
    "DROP TABLE temp.moving",
)
_MOVED: Final = "SELECT count(*), min(seq), max(seq) FROM temp.moving"
_LET_GO: Final = f"UPDATE standing SET offered = offered % {_EACH} WHERE device = ? AND offered / {_EACH} = ?"
_NEWEST: Final = "SELECT max(ts) FROM reading WHERE device = ? AND seq BETWEEN ? AND ?"
_SET_FLOOR: Final = (
    "UPDATE device SET floor_ts = (SELECT max(ts) FROM (SELECT ?2 AS ts UNION ALL SELECT r.ts FROM reading r"
    " JOIN standing s ON s.device = r.device AND s.state IN (0, 2, 3, 4, 5) AND s.seq = r.seq"
    f" WHERE r.device = ?1 AND s.code IS NOT 'future' AND s.code IS NOT '{schema.DOUBTFUL}')) WHERE id = ?1"
)


def rename(connection: sqlite3.Connection, old: str, new: str) -> SpoolRenaming:
    """Give a held device's readings their name, and send them; see `DurableSpool.rename_device`."""
    source = require_held(connection, old)
    if new == old:  # it is a device's own name: that can be so
        connection.execute(schema.LET_GO, (old,))
        _believe(connection, old)
        return SpoolRenaming(connection.execute(schema.COUNT_DEVICE, (source,)).fetchone()[0], left=0)
    if is_held(connection, new):
        raise UsageError(f"{new} is held, too; name a device whose readings are sent")
    target = _made(connection, new)
    floors = (_floor(connection, source), _floor(connection, target))
    noted = read_renamings(connection)
    number = 1 + max(connection.execute(_LAST).fetchone()[0], *(key for key in noted if key < _MOST), 0)
    why = read_held(connection)[old].why
    moved, since, until = _move(connection, source, target, mark=number)
    left = connection.execute(schema.COUNT_DEVICE, (source,)).fetchone()[0]
    known = [floor for floor in floors if floor is not None]
    connection.execute(_SET_FLOOR, (target, max(known, default=None)))
    if not left:
        # The row stays: a program that appends meanwhile knows its number, and it must never be another's.
        connection.execute("UPDATE device SET floor_ts = NULL WHERE id = ?", (source,))
        connection.execute(schema.LET_GO, (old,))
        for key, note in noted.items():  # so it was right after all
            if note is not None and note.is_undone and (note.old, note.new) == (old, new):
                drop_renaming(connection, key)
    if moved:
        note = Renaming(old=old, new=new, why=why, floors=floors, moved=moved, until=until, since=since)
        note_renaming(connection, number, note)
    _finish(connection)
    return SpoolRenaming(moved=moved, left=left)


def _believe(connection: sqlite3.Connection, name: str) -> None:
    """Let no renaming say any more that a device had a name that is another's own.

    What was taken back was another's all the same.
    """
    for number, note in read_renamings(connection).items():
        if note is None or note.is_undone or name not in (note.old, *note.also):
            continue
        others = [other for other in (note.old, *note.also) if other != name]
        if others:  # the other copy was right
            note_renaming(connection, number, replace(note, old=others[0], also=tuple(others[1:])))
        else:
            drop_renaming(connection, number)


def undo(connection: sqlite3.Connection, old: str) -> SpoolRenaming:
    """Take back the last renaming of a device; see `DurableSpool.undo_rename`."""
    renamings = read_renamings(connection).items()
    notes = {key: note for key, note in renamings if note and note.old == old and not note.is_undone}
    if not notes:
        raise UsageError(f"no rename of {old} is known here that could be taken back")
    number, note = notes.popitem()
    new, source = note.new, _device(connection, note.new)
    if source is None or is_held(connection, new):
        raise UsageError(f"{old} became {new}, and that has no readings here that are sent")
    target = _made(connection, old)
    if not is_held(connection, old) and connection.execute(schema.COUNT_DEVICE, (target,)).fetchone()[0]:
        raise UsageError(f"there is a device {old} again, with readings of its own")
    moved, _, _ = _move(connection, source, target, mark=0, number=number)
    if not moved:
        raise UsageError(f"all readings of {old} that became {new}'s were sent; nothing can be taken back")
    connection.execute(_LET_GO, (source, number))
    last = _floor(connection, source)
    before, own = (_bounded(floor, last) for floor in note.floors)
    connection.execute(_SET_FLOOR, (target, before))
    until = _ANY if note.until is None else note.until
    (newest,) = connection.execute(_NEWEST, (target, note.since, until)).fetchone()
    if last is not None and all(last > date for date in (before, newest) if date is not None):
        own = last  # it came since, and not with what goes back
    connection.execute(_SET_FLOOR, (source, own))
    if note.why is HeldWhy.ASIDE:  # what was requeued under the other name is set aside again
        hold(connection, old, HeldWhy.LOST)
        set_aside(connection, old)
    else:
        hold(connection, old, note.why)
    note_renaming(connection, number, replace(note, is_undone=True))
    _finish(connection)
    return SpoolRenaming(moved=moved, left=note.moved - moved)


def _move(
    connection: sqlite3.Connection, source: int, target: int, *, mark: int, number: int | None = None
) -> tuple[int, int, int]:
    """Give a device's readings, or those that carry a number, another device.

    Args:
        connection: the spool's.
        source: the device.
        target: the other one.
        mark: the number they carry from now on.
        number: the one they carry; None for all readings.

    Returns:
        How many they are, and the first and the last of their own numbers.
    """
    keys = {"source": source, "target": target, "mark": mark, "number": number}
    for statement in _CHOOSE:
        connection.execute(statement, keys)
    moved, since, until = connection.execute(_MOVED).fetchone()
    for statement in _MOVE:
        connection.execute(statement, keys)
    return int(moved), since or 0, until or 0


def _bounded(floor: int | None, last: int | None) -> int | None:
    """Return a date a note has, which may have a wrong bit: what was renamed had none above its last one."""
    return floor if floor is None or last is None else min(floor, last)


def _finish(connection: sqlite3.Connection) -> None:
    for statement in schema.NAME_DELIVERED:
        connection.execute(statement)
    renew_generation(connection)


def _made(connection: sqlite3.Connection, name: str) -> int:
    connection.execute("INSERT OR IGNORE INTO device (name) VALUES (?)", (name,))
    key = _device(connection, name)
    assert key is not None
    return key


def _device(connection: sqlite3.Connection, name: str) -> int | None:
    row = connection.execute("SELECT id FROM device WHERE name = ?", (name,)).fetchone()
    return None if row is None else int(row[0])


def _floor(connection: sqlite3.Connection, key: int) -> int | None:
    row = connection.execute("SELECT floor_ts FROM device WHERE id = ?", (key,)).fetchone()
    return None if row[0] is None else int(row[0])
