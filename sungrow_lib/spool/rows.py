"""Rows of the file as what they stand for: here it is made sure that they are that.

SQLite keeps the type of a value beside it, in no checksum. With one wrong bit there a text comes back as
bytes, or a date as a fraction, and no look at the pages tells: that is damage of the spool as any other is.
A recovery leaves such values behind, so that it is met once.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final, TypeGuard

from sungrow_lib.spool import schema
from sungrow_lib.spool.clock import BootStamp, Undated
from sungrow_lib.spool.entries import SpoolEntry, SpoolRecord, SpoolState, from_ms
from sungrow_lib.spool.errors import WrongValueError
from sungrow_lib.spool.notes import why_of
from sungrow_lib.spool.packing import unpack

_CONTENTS: Final = frozenset({bytes, str})
_CLOCKS: Final = frozenset({type(None), str})


def is_date(value: object) -> TypeGuard[int]:
    """Whether a value is a date that can be written."""
    return isinstance(value, int) and schema.FIRST_MS <= value <= schema.LAST_MS


def is_content(kept: str | bytes) -> bool:
    """Whether a content is that of a reading."""
    if isinstance(kept, bytes):  # with a checksum: what is right at all is as it was accepted
        return unpack(kept).startswith("{")
    try:
        return isinstance(json.loads(kept), dict)
    except ValueError:
        return False


def to_date(value: object) -> datetime:
    """Return a date."""
    if is_date(value):
        return from_ms(value)
    raise WrongValueError("a date is none")


def to_entry(device_id: str, state: SpoolState, row: tuple[Any, ...]) -> SpoolEntry:
    """Return the reading of a row that begins with the columns of `schema.FRESH`."""
    seq, ts, content, clock = row[:4]
    # In a third less time than a pattern takes: each reading that is sent comes this way.
    if type(seq) is int and is_date(ts) and type(content) in _CONTENTS and type(clock) in _CLOCKS:
        return SpoolEntry(seq, device_id, ts, content, clock, state)
    raise WrongValueError(f"reading {row[0]} has a value that none can have")


def to_record(row: tuple[Any, ...]) -> SpoolRecord:
    """Return what `schema.RECORDS` finds."""
    seq, device_id, ts, content, clock, state, offered, at, code, reason, boot_id, boot_ms, held = row
    if state is None:
        raise WrongValueError(f"reading {seq} stands nowhere")
    entry = to_entry(to_text(device_id), SpoolState(state), (seq, ts, content, clock))
    if not is_content(content):
        raise WrongValueError(f"the values of reading {seq} are none")
    match (offered, at, code, reason, boot_id, boot_ms):
        case (int(), _, str() | None, str() | None, str(), int()) if at is None or is_date(at):
            return SpoolRecord(
                entry=entry,
                offered=bool(offered % schema.EACH_RENAMING),
                at=None if at is None else from_ms(at),
                code=code,
                reason=reason,
                stamp=BootStamp(boot_id, boot_ms),
                held=None if held is None else why_of(held),
            )
    raise WrongValueError(f"what is noted of reading {seq} has a value that none can have")


def to_undated(rows: Iterable[tuple[Any, ...]]) -> list[Undated]:
    """Return what `schema.WAITING` or `schema.FUTURE` finds."""
    found = []
    for row in rows:
        match row:
            case (int() as seq, ts, str() as boot_id, int() as boot_ms) if is_date(ts):
                found.append(Undated(seq, ts, BootStamp(boot_id, boot_ms)))
            case _:
                raise WrongValueError(f"reading {row[0]} has a value that none can have")
    return found


def to_numbers(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return a row of whole numbers, some of which may be missing."""
    if all(value is None or isinstance(value, int) for value in row):
        return row
    raise WrongValueError("a number is none")


def to_text(value: object) -> str:
    """Return a name."""
    if isinstance(value, str):
        return value
    raise WrongValueError("a name is none")
