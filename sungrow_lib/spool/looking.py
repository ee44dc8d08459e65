"""What a spool's file says of its readings, when it is asked."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager

from sungrow_lib.spool import schema
from sungrow_lib.spool.entries import SetApart, SpoolCounts, SpoolRecord, SpoolState
from sungrow_lib.spool.errors import WrongValueError
from sungrow_lib.spool.meta import read_merging
from sungrow_lib.spool.rows import to_date, to_record


def count(connection: sqlite3.Connection, device_id: str | None, size: int) -> SpoolCounts:
    """Count readings by where they stand, of one device or of all."""
    by_state = dict(connection.execute(schema.COUNTS, (device_id,)).fetchall())
    oldest = connection.execute(schema.OLDEST_PENDING, (device_id,)).fetchone()[0]
    accepted = connection.execute("SELECT max(seq) FROM reading").fetchone()[0]
    merged = connection.execute(schema.MERGED).fetchone()
    return SpoolCounts(
        accepted=accepted or 0,
        pending=by_state.get(SpoolState.PENDING, 0),
        waiting=by_state.get(SpoolState.WAITING, 0),
        deferred=by_state.get(SpoolState.DEFERRED, 0),
        rejected=by_state.get(SpoolState.REJECTED, 0),
        conflicts=by_state.get(SpoolState.CONFLICT, 0),
        delivered=by_state.get(SpoolState.DELIVERED, 0),
        merged=merged[0] if merged else 0,
        bytes=size,
        oldest_pending=None if oldest is None else to_date(oldest),
        merging=read_merging(connection),
    )


def faults(connection: sqlite3.Connection) -> list[str]:
    """Check every page and every rule of the spool; return what is wrong, in words."""
    connection.create_function("is_text", 1, _is_text, deterministic=True)
    said = [str(row[0]) for row in connection.execute("PRAGMA integrity_check(20)")]
    if said != ["ok"]:
        return said
    broken = {what: connection.execute(rule).fetchall() for what, rule in schema.RULES.items()}
    return [f"{len(rows)} {what}, the first is {rows[0][0]}" for what, rows in broken.items() if rows]


def records(
    connection: sqlite3.Connection, after: int, limit: int, left_out: set[int] | None = None
) -> list[SpoolRecord]:
    """Return readings with all that is known of them, see `SpoolStore.records`."""
    found: list[SpoolRecord] = []
    with _any_text(connection), closing(connection.execute(schema.RECORDS, (after,))) as rows:
        for row in rows:
            try:
                found.append(to_record(row))
            except WrongValueError:
                if left_out is None:
                    raise
                left_out.add(row[0])
            if len(found) == limit:
                break
    return found


def set_apart(connection: sqlite3.Connection) -> list[SetApart]:
    """Count deferred and quarantined readings by device, state and code, with a reason of each."""
    with _any_text(connection):
        rows = connection.execute(schema.QUARANTINE).fetchall()
    return [
        SetApart(device, SpoolState(state), _readable(code), number, _readable(reason))
        for device, state, code, number, _latest, reason in rows
    ]


@contextmanager
def _any_text(connection: sqlite3.Connection) -> Iterator[None]:
    """Get text that is none as bytes; else it would end the whole query."""
    connection.text_factory = _text
    try:
        yield
    finally:
        connection.text_factory = str


def _text(data: bytes) -> str | bytes:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def _readable(text: object) -> str | None:
    return text if isinstance(text, str) else None


def _is_text(data: bytes | None) -> bool:
    return data is None or isinstance(_text(data), str)
