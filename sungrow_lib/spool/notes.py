"""What a spool notes of itself as JSON text: a wrong bit makes some of it mean nothing, and ends no start.

No page tells of such a bit. What cannot be read counts as never noted; of a renaming there is a second copy.
"""

# ruff: noqa: S608 - statements are put together from literals only; values are always bound

from __future__ import annotations

import json
import logging
import re
import sqlite3
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, TypeVar

from sungrow_lib.spool import schema
from sungrow_lib.spool.entries import HeldWhy

_LOG: Final = logging.getLogger(__name__)
_Note = TypeVar("_Note")
_KEY: Final = re.compile(rf"{schema.RENAMED_PREFIX}([1-9][0-9]{{0,18}})")
_COPIES: Final = (
    f"SELECT key, value FROM meta WHERE key GLOB '{schema.RENAMED_PREFIX}[1-9]*'"
    f" UNION ALL SELECT key, value FROM again WHERE key GLOB '{schema.RENAMED_PREFIX}[1-9]*'"
)
_AT_ODDS: Final = (
    f"SELECT key, value FROM {{0}} WHERE (key GLOB '{schema.RENAMED_PREFIX}*'"
    f" OR key GLOB '{schema.HELD_PREFIX}*') EXCEPT SELECT key, value FROM {{1}}"
)
_CARRIED: Final = f"SELECT 1 FROM standing WHERE offered / {schema.EACH_RENAMING} = ? LIMIT 1"
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
        until: the last number it moved; None in notes of earlier versions, and later in some.
        since: the first number it moved; 0 in notes of earlier versions.
        is_undone: whether it was taken back. The note stays: on an older page its readings may still have
            the new name.
        also: names that one copy of the note or the other has as the old one; one of them has a wrong bit.
    """

    old: str
    new: str
    why: HeldWhy
    floors: tuple[int | None, int | None]
    moved: int
    until: int | None = None
    since: int = 0
    is_undone: bool = False
    also: tuple[str, ...] = ()


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


def renaming_text(note: Renaming) -> str:
    """Return a renaming's note as it is written."""
    return json.dumps(asdict(note))


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
    value = (f"{schema.RENAMED_PREFIX}{number}", renaming_text(note))
    connection.execute(schema.SET_META, value)


def drop_renaming(connection: sqlite3.Connection, number: int) -> None:
    """Forget a renaming."""
    connection.execute(schema.DROP_META, (f"{schema.RENAMED_PREFIX}{number}",))


def note_any_merged(connection: sqlite3.Connection) -> None:
    """Note that readings may be merged that a renaming has moved."""
    connection.execute(_NOTE_MERGED)


def settled(copies: Sequence[str], known: Container[str]) -> str:
    """Return what copies of a renaming's note, of which some may have a wrong bit, say together.

    What would be held is held by what any of them says. The one that can be right goes first.

    Args:
        copies: at least one; of two that seem as good the first counts.
        known: names of devices.
    """
    readable = [(text, note) for text in copies if (note := renaming_of(text)) is not None]
    if not readable:
        return copies[0]
    # In another text than we write, the name of a value is wrong, and what it says is missing.
    notes = [note for text, note in readable if renaming_text(note) == text]
    notes = notes or [note for _, note in readable]
    best = max(notes, key=lambda note: (note.old in known) + (note.new in known))
    first, second = zip(*(note.floors for note in notes), strict=True)
    ends = [note.until for note in notes if note.until is not None]
    return renaming_text(
        replace(
            best,
            # One that is too high is bounded where it is used; below one that is too low, keys may repeat.
            floors=(_highest(first), _highest(second)),
            until=max(ends) if len(ends) == len(notes) else None,
            since=min(note.since for note in notes),
            is_undone=any(note.is_undone for note in notes),
            also=tuple(sorted({name for note in notes for name in (note.old, *note.also)} - {best.old})),
        )
    )


def _highest(floors: Iterable[int | None]) -> int | None:
    return max((floor for floor in floors if floor is not None), default=None)


def keep_settled(
    connection: sqlite3.Connection, key: str, copies: Sequence[str], known: Container[str]
) -> None:
    """Note a renaming as what was found of it says, in a recovery."""
    value = copies[0] if renaming_number(key) is None else settled(copies, known)
    connection.execute(schema.SET_META, (key, value))


def mend_copies(connection: sqlite3.Connection) -> None:
    """Make the two copies of a note one again where a wrong bit makes them two, and of its key, too."""
    connection.execute(_MEND_TEXT)
    connection.execute(_DROP_NO_TEXT)
    again = dict(connection.execute(_AT_ODDS.format("again", "meta")).fetchall())
    if not again:  # what is in the one alone is copied later
        return
    known = {name for (name,) in connection.execute("SELECT name FROM device")}
    first = dict(connection.execute(_AT_ODDS.format("meta", "again")).fetchall())
    for key, value in again.items():
        if key in first:
            if renaming_number(key) is not None:
                connection.execute(schema.SET_META, (key, settled([first[key], value], known)))
            continue
        same = (k for k, v in first.items() if v == value and k not in again and not _is_hold(k))
        other = None if _is_hold(key) else next(same, None)
        if other is None:
            connection.execute("INSERT OR IGNORE INTO meta VALUES (?, ?)", (key, value))
        elif _is_likelier(connection, key, other, value):
            connection.execute(schema.DROP_META, (other,))
            connection.execute(schema.SET_META, (key, value))
        else:
            connection.execute("DELETE FROM again WHERE key = ?", (key,))


def _is_hold(key: str) -> bool:
    return key.startswith(schema.HELD_PREFIX)


def _is_likelier(connection: sqlite3.Connection, key: str, other: str, value: str) -> bool:
    """Whether a note has the first key rather than the other; its readings may carry the number."""
    number, second = renaming_number(key), renaming_number(other)
    if (second is None) != (renaming_of(value) is None):
        return True
    return _is_carried(connection, number) and not _is_carried(connection, second)


def _is_carried(connection: sqlite3.Connection, number: int | None) -> bool:
    return connection.execute(_CARRIED, (number,)).fetchone() is not None


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
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
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
        since=whole(value.get("since", 0)),
        is_undone=_truth(value.get("is_undone", False)),
        also=tuple(words(name) for name in value.get("also", ())),
    )


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("neither true nor false")  # noqa: TRY004 - as below
    return value


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
