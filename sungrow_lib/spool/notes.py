"""What a spool notes of itself as JSON text: a wrong bit makes some of it mean nothing, and ends no start.

No page tells of such a bit. What cannot be read counts as never noted; of a renaming there is a second copy.
"""

# ruff: noqa: S608 - statements are put together from literals only; values are always bound

from __future__ import annotations

import json
import logging
import re
import sqlite3
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Final, TypeVar

from sungrow_lib.spool import schema
from sungrow_lib.spool.entries import HeldWhy

_LOG: Final = logging.getLogger(__name__)
_Note = TypeVar("_Note")
_KEY: Final = re.compile(rf"{schema.RENAMED_PREFIX}([1-9]\d{{0,8}})")
_COPIES: Final = (
    f"SELECT key, value FROM meta WHERE key GLOB '{schema.RENAMED_PREFIX}[1-9]*'"
    f" UNION ALL SELECT key, value FROM again WHERE key GLOB '{schema.RENAMED_PREFIX}[1-9]*'"
)
_AT_ODDS: Final = (
    f"SELECT key, value FROM again WHERE key GLOB '{schema.RENAMED_PREFIX}*'"
    f" OR key GLOB '{schema.HELD_PREFIX}*' EXCEPT SELECT key, value FROM meta"
)
_MEND_TEXT: Final = """
UPDATE meta SET value = (SELECT a.value FROM again a WHERE a.key = meta.key)
WHERE typeof(value) <> 'text' AND key IN (SELECT key FROM again WHERE typeof(value) = 'text')
"""
_DROP_NO_TEXT: Final = """
DELETE FROM meta WHERE key IN ('edge_id', 'generation', 'spool_id', 'follows') AND typeof(value) <> 'text'
"""
"""Names of the spool: it gets new ones, or what its owner remembers."""
_OLD: Final = re.compile(r'"old": "([^"\\]+)"')
_NOTE_MERGED: Final = f"INSERT OR IGNORE INTO meta VALUES ('{schema.RENAMED_PREFIX}0', '{{\"old\":null}}')"
"""A key that is there once readings of a renamed device were merged; no renaming has that number."""


@dataclass(frozen=True, kw_only=True)
class Renaming:
    """What is noted of a renaming.

    Attributes:
        old: the name that was given up.
        new: the one that took its place.
        why: why the device was held.
        floors: last dates of both devices before it.
        moved: how many readings it moved.
        until: the last number there was; None in notes of earlier versions.
    """

    old: str
    new: str
    why: HeldWhy
    floors: tuple[int | None, int | None]
    moved: int
    until: int | None = None


def read_note(connection: sqlite3.Connection, key: str, make: Callable[[Any], _Note]) -> _Note | None:
    """Return what is noted under a key, as ``make`` makes it of JSON; None where that is nothing.

    Args:
        connection: the spool's.
        key: the key.
        make: makes it; raises one of what is caught here where it is not what it should be.
    """
    row = connection.execute(schema.META, (key,)).fetchone()
    if row is None:
        return None
    note = _made(row[0], make)
    if note is None:
        _LOG.error("a note of the spool is damaged, and counts as never made", extra={"note": key})
    return note


def why_of(text: str) -> HeldWhy:
    """Return why a device is held; what cannot be read is no reason to send its readings."""
    return HeldWhy(text) if text in set(HeldWhy) else HeldWhy.LOST


def renaming_of(text: str) -> Renaming | None:
    """Return what a note says of a renaming; None for what is no such note."""
    return _made(text, _renaming)


def renaming_number(key: str) -> int | None:
    """Return the number of a renaming by the key of its note; None for what is no such key."""
    match = _KEY.fullmatch(key)
    return None if match is None else int(match[1])


def read_renamings(connection: sqlite3.Connection) -> dict[int, Renaming | None]:
    """Return renamings by number, from whichever copy can be read; None where neither can."""
    found: dict[int, Renaming | None] = {}
    for key, value in connection.execute(_COPIES).fetchall():
        number = renaming_number(key)
        if number is not None and found.get(number) is None:
            found[number] = renaming_of(value)
    return dict(sorted(found.items()))


def note_renaming(connection: sqlite3.Connection, number: int, note: Renaming) -> None:
    """Note a renaming, both copies of it."""
    value = (f"{schema.RENAMED_PREFIX}{number}", json.dumps(asdict(note)))
    connection.execute(schema.SET_META, value)


def drop_renaming(connection: sqlite3.Connection, number: int) -> None:
    """Forget a renaming."""
    connection.execute(schema.DROP_META, (f"{schema.RENAMED_PREFIX}{number}",))


def note_any_merged(connection: sqlite3.Connection) -> None:
    """Note that readings may be merged that a renaming has moved."""
    connection.execute(_NOTE_MERGED)


def keep_copy(connection: sqlite3.Connection, key: str, value: str) -> None:
    """Keep a copy of a renaming's note that was found in a damaged file; one that can be read goes first."""
    there = connection.execute(schema.META, (key,)).fetchone()
    if there is None or (renaming_of(there[0]) is None and renaming_of(value) is not None):
        connection.execute(schema.SET_META, (key, value))


def mend_copies(connection: sqlite3.Connection) -> None:
    """Take from the second copy what a wrong bit has made unreadable, or given another key, in the first."""
    connection.execute(_MEND_TEXT)
    connection.execute(_DROP_NO_TEXT)
    for key, value in connection.execute(_AT_ODDS).fetchall():
        if renaming_number(key) is None:
            connection.execute("INSERT OR IGNORE INTO meta VALUES (?, ?)", (key, value))
        else:
            keep_copy(connection, key, value)


def take_unreadable(connection: sqlite3.Connection) -> list[str]:
    """Drop the notes of renamings that cannot be read; return what names they may have given up."""
    lost = [number for number, note in read_renamings(connection).items() if note is None]
    names: list[str] = []
    for number in lost:
        (text,) = connection.execute(schema.META, (f"{schema.RENAMED_PREFIX}{number}",)).fetchone()
        names += _OLD.findall(text)
        drop_renaming(connection, number)
    if lost:
        note_any_merged(connection)  # there was a renaming: a recovery has to know
        _LOG.error("the notes of renamings are lost: they cannot be taken back", extra={"renamings": lost})
    return names


def _made(text: str, make: Callable[[Any], _Note]) -> _Note | None:
    try:
        return make(json.loads(text))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _renaming(value: Any) -> Renaming:
    old, new = value["old"], value["new"]
    first, second = (None if floor is None else whole(floor) for floor in value["floors"])
    until = value.get("until")
    return Renaming(
        old=words(old),
        new=words(new),
        why=HeldWhy(value["why"]),
        floors=(first, second),
        moved=whole(value["moved"]),
        until=None if until is None else whole(until),
    )


def whole(value: Any) -> int:
    """Return a whole number that the file can hold.

    Raises:
        ValueError: it is none.
    """
    if type(value) is not int or not -(2**63) <= value < 2**63:
        raise ValueError("no whole number")
    return value


def words(value: Any) -> str:
    """Return a text.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(value, str):
        raise ValueError("no text")  # noqa: TRY004 - caught as what it is: damage
    return value
