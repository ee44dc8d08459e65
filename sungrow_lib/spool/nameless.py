"""Boots whose names are lost with the pages they were on: which of them is the one the machine is in still.

That can be told only when the spool is recovered. Later the machine will have been up for longer than any
short boot was that had ended.
"""

from __future__ import annotations

import json
import sqlite3
from typing import Any, Final, NamedTuple

from sungrow_lib.spool import schema
from sungrow_lib.spool.clock import SERVER_TOLERANCE_MS, ClockReading
from sungrow_lib.spool.notes import read_note, whole, words

LOST_BOOT: Final = "lost-boot-"
"""How the names begin that a recovery gives to boots whose own are lost."""
PARTS: Final = "lost_boots"
"""Key of which boots they are parts of; null for those that had ended."""
_FOUND: Final = "lost_boots_found"
"""Key of what a recovery found, until the spool is open."""
_MOST: Final = 64


class _Found(NamedTuple):
    """What is left of a boot: stamps of its first and last reading, and its start as the clock said last."""

    name: str
    first_ms: int
    last_ms: int
    start_ms: int


def note_boots(connection: sqlite3.Connection) -> None:
    """Note in a recovered spool what is left of its boots, the newest first, where names are lost."""
    found: list[_Found] = []
    for name, first_ms, last_ms, last_seq in connection.execute(schema.BOOTS, (_MOST,)).fetchall():
        start_ms = connection.execute(schema.START_SAID, (last_seq,)).fetchone()[0]
        found.append(_Found(name, first_ms, last_ms, start_ms))
    if any(boot.name.startswith(LOST_BOOT) for boot in found):
        connection.execute(schema.SET_META, (_FOUND, json.dumps(found)))


def find_present(connection: sqlite3.Connection, now: ClockReading) -> None:
    """Find which of the boots that a recovery noted are parts of the present one; before it gets a reading.

    The time since the start must go on there, and the clock must say the same of when that was: one of the
    two alone may come about by chance. Where in doubt, a boot had ended.
    """
    found = read_note(connection, _FOUND, _founds)
    if connection.execute(schema.DROP_META, (_FOUND,)).rowcount and found:
        judged = read_note(connection, PARTS, _parts) or {}
        here = _parts_of(found, now)
        parts = {b.name: judged.get(b.name, here.get(b.name)) for b in found if b.name.startswith(LOST_BOOT)}
        connection.execute(schema.SET_META, (PARTS, json.dumps(parts)))


def read_parts(connection: sqlite3.Connection) -> dict[str, str]:
    """Return which boots without a name are parts of which others."""
    parts = read_note(connection, PARTS, _parts) or {}
    return {name: whole_name for name, whole_name in parts.items() if whole_name is not None}


def _parts_of(found: list[_Found], now: ClockReading) -> dict[str, str]:
    """Return which boots are parts of the present one: from the newest back to the first that is not."""
    parts: dict[str, str] = {}
    boot_id, until_ms = now.stamp
    start_ms = now.wall_ms - until_ms
    for boot in found:
        if boot.name.startswith(LOST_BOOT):
            if boot.last_ms > until_ms or abs(boot.start_ms - start_ms) > SERVER_TOLERANCE_MS:
                break
            parts[boot.name] = boot_id
        elif boot.name != boot_id:
            break
        until_ms = boot.first_ms
    return parts


def _founds(value: list[list[Any]]) -> list[_Found]:
    return [_Found(words(name), *map(whole, times)) for name, *times in value]


def _parts(value: dict[str, Any]) -> dict[str, str | None]:
    return {name: None if part is None else words(part) for name, part in value.items()}
