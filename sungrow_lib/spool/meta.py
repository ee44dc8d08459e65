"""What a spool says of itself: which one it is, and what it was made from."""

from __future__ import annotations

import json
import sqlite3
import uuid
from dataclasses import asdict, replace
from typing import Any, Final

from sungrow_lib.spool import schema
from sungrow_lib.spool.entries import SpoolIdentity, SpoolMerging, SpoolRecovery, from_ms
from sungrow_lib.spool.notes import (
    note_any_merged,
    note_renaming,
    read_note,
    read_renamings,
    whole,
    words,
)

SPOOL_ID: Final = "spool_id"
"""Key of what names the file: its first generation. Numbers mean the same as long as it stays."""
FOLLOWS: Final = "follows"
"""Key of the `spool_id` of the one whose place it took."""
_COUNT_MERGED: Final = (
    "INSERT INTO meta VALUES ('merged', ?1)"
    " ON CONFLICT (key) DO UPDATE SET value = CAST(value AS INTEGER) + ?1"
)
_ONE_TIME_MS: Final = 86_400_000
"""Mergings no more than this apart are told of as one."""


def identify(connection: sqlite3.Connection, edge_id: str | None = None) -> SpoolIdentity:
    """Return which spool this is; one that is new gets its names now, ``edge_id`` if that is known."""
    for key, value in (("edge_id", edge_id or str(uuid.uuid4())), ("generation", str(uuid.uuid4()))):
        connection.execute("INSERT OR IGNORE INTO meta VALUES (?, ?)", (key, value))
    return read_identity(connection)


def identify_file(connection: sqlite3.Connection, follows: str | None) -> bool:
    """Name the file for its life, and note in whose place it is; return whether any of that is new.

    Args:
        connection: the spool's; `identify` was called before.
        follows: the `spool_id` that was remembered, None if none was.
    """
    is_new = connection.execute(schema.NAME_FILE, (SPOOL_ID,)).rowcount > 0
    spool_id, before = read_spool_id(connection), _read(connection, FOLLOWS)
    if follows is None or follows in {spool_id, before}:
        return is_new
    connection.execute(schema.SET_META, (FOLLOWS, follows))
    return True


def read_spool_id(connection: sqlite3.Connection) -> str | None:
    """Return what names the file."""
    return _read(connection, SPOOL_ID)


def _read(connection: sqlite3.Connection, key: str) -> str | None:
    row = connection.execute(schema.META, (key,)).fetchone()
    return None if row is None else str(row[0])


def read_identity(connection: sqlite3.Connection) -> SpoolIdentity:
    """Return which spool this is."""
    meta = dict(connection.execute("SELECT key, value FROM meta").fetchall())
    return SpoolIdentity(edge_id=meta["edge_id"], generation=meta["generation"])


def renew_generation(connection: sqlite3.Connection) -> SpoolIdentity:
    """Give the spool a new generation, and return which spool it is now."""
    connection.execute("UPDATE meta SET value = ? WHERE key = 'generation'", (str(uuid.uuid4()),))
    return read_identity(connection)


def note_recovery(connection: sqlite3.Connection, recovery: SpoolRecovery) -> None:
    """Keep what became of the damaged file this one is made from, for `status`."""
    value = json.dumps(asdict(recovery))
    connection.execute("INSERT OR REPLACE INTO meta VALUES ('recovery', ?)", (value,))


def read_recovery(connection: sqlite3.Connection) -> SpoolRecovery | None:
    """Return what a spool says of its origin."""
    return read_note(connection, "recovery", _recovery)


def note_merged(connection: sqlite3.Connection, readings: int, now_ms: int) -> None:
    """Count readings that became part of others, and when."""
    connection.execute(_COUNT_MERGED, (readings,))
    begin_ms, count = now_ms, 0
    if (earlier := _read_merging(connection)) is not None and abs(now_ms - earlier[1]) < _ONE_TIME_MS:
        begin_ms, _, count = earlier
    value = json.dumps([begin_ms, now_ms, count + readings])
    connection.execute("INSERT OR REPLACE INTO meta VALUES ('merging', ?)", (value,))


def note_merged_renamed(connection: sqlite3.Connection, number: int, readings: int) -> None:
    """Note that readings a renaming moved became part of others: it has so many less to take back."""
    note = read_renamings(connection).get(number)
    if note is not None:
        note_renaming(connection, number, replace(note, moved=note.moved - readings))
    note_any_merged(connection)


def read_merging(connection: sqlite3.Connection) -> SpoolMerging | None:
    """Return when readings were merged last."""
    noted = _read_merging(connection)
    return None if noted is None else SpoolMerging(from_ms(noted[0]), from_ms(noted[1]), noted[2])


def _read_merging(connection: sqlite3.Connection) -> list[int] | None:
    return read_note(connection, "merging", _merging)


def _recovery(value: dict[str, Any]) -> SpoolRecovery:
    return SpoolRecovery(
        at=words(value["at"]),
        reason=words(value["reason"]),
        set_aside=words(value["set_aside"]),
        saved=whole(value["saved"]),
        lost=whole(value["lost"]),
        doubtful=whole(value.get("doubtful", 0)),
    )


def _merging(value: list[int]) -> list[int]:
    begin_ms, end_ms, readings = value
    for moment in (begin_ms, end_ms):
        from_ms(whole(moment))
    return [begin_ms, end_ms, whole(readings)]
