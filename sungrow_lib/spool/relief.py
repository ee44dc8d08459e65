"""What is done about a full disk, mildest first; nothing of it is silent.

1. Delivered readings go. 2. The reserve is given up, part by part, for what the first takes itself. 3. The
oldest readings never offered are merged, to one a minute, then to one a quarter of an hour, and only when
told so (`SpoolOptions.merge_when_full`). After that readings are refused.
"""

from __future__ import annotations

import json
import logging
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, suppress
from functools import partial
from typing import Final, NamedTuple, TypeVar

from sungrow_lib.errors import SpoolFullError
from sungrow_lib.sample import format_ts
from sungrow_lib.spool import schema
from sungrow_lib.spool.database import Database
from sungrow_lib.spool.entries import SpoolOptions, SpoolState, from_ms
from sungrow_lib.spool.merging import merge_contents
from sungrow_lib.spool.meta import note_merged, note_merged_renamed
from sungrow_lib.spool.packing import pack
from sungrow_lib.spool.reserve import Reserve

_Result = TypeVar("_Result")

_LOG: Final = logging.getLogger(__name__)

CHUNK: Final = 2_000
"""Most rows one transaction of a bulk job touches, so that an append never waits long behind it."""
_MERGE_CHUNK: Final = 250
"""Few, because on a full disk the log has room for few: it takes each of them until they are gone."""
_DELETED_ROWS: Final = 100
"""For the same reason."""
_ENOUGH_ROWS: Final = 200
_FEW_PAGES: Final = 64
LEFT_ALONE: Final = 100
"""So many of a device's newest readings are never merged: they are what people look at."""
_SLACK_PAGES: Final = 1_000
"""So many unused pages the file keeps in any case."""
_SLACK_PART: Final = 4
"""... and this part of it: a day's coming and going stays within."""
_INCREMENTAL: Final = 2
_SPARE: Final = 65_536
"""Disks give room away by the block, and note where it is."""
_WIDTHS_MS: Final = (60_000, 900_000)
"""Rollups are kept by the quarter of an hour: a merged row stays within one, so their energies stay right."""

Transaction = Callable[[], AbstractContextManager[sqlite3.Connection]]


class _Raw(NamedTuple):
    """A reading that may be merged; the fields are the columns of THINNABLE."""

    seq: int
    state: int
    boot: int
    clock: str | None
    ts: int
    boot_ms: int
    renaming: int
    content: str

    def is_sound(self) -> bool:
        """Whether it is a reading; one that is damaged is left alone."""
        numbers = (self.boot, self.ts, self.boot_ms, self.renaming)
        return self.content.startswith("{") and all(isinstance(number, int) for number in numbers)

    @property
    def ms(self) -> int:
        """When it was read; undated readings go by the machine's running time."""
        return self.boot_ms if self.state == SpoolState.WAITING else self.ts

    def bucket(self, width_ms: int) -> tuple[object, ...]:
        """What it may be merged within: readings of one renaming alone are merged with each other."""
        return self.renaming, self.state, self.boot, self.clock, self.ms // width_ms


class Relief:
    """Makes room.

    Args:
        database: the spool's file.
        transaction: starts one of the spool's transactions.
        options: the spool's.
        now_ms: tells the time, in ms since 1970.

    Attributes:
        reserve: what is kept for the day the disk is full.
        merged: readings that became part of others since the spool was opened.
    """

    def __init__(
        self, database: Database, transaction: Transaction, options: SpoolOptions, now_ms: Callable[[], int]
    ) -> None:
        self._database = database
        self._transaction = transaction
        self._now_ms = now_ms
        self._may_merge = options.merge_when_full
        self._max_bytes = options.max_bytes
        self.reserve = Reserve(database.path, options.reserve_bytes)
        self.merged = 0

    def keep_reserve(self) -> None:
        """Make the reserve where there is room for it; warn once while there is not."""
        self.reserve.keep()

    def is_over_limit(self, connection: sqlite3.Connection) -> bool:
        """Whether one more reading would take the room within its limit that settling and deleting need."""
        most = self._max_bytes
        return most is not None and used_bytes(connection) > most - max(most // 16, 16 * schema.PAGE_BYTES)

    def is_due(self, connection: sqlite3.Connection) -> bool:
        """Whether one more reading would take the room that settling, deleting and merging need."""
        return self.reserve.is_used_up and not _has_pages(connection)

    def with_room(self, job: Callable[[], _Result], *, settling: bool) -> _Result:
        """Do something; where there is no room for it, make some, and do it once more.

        Args:
            job: what to do.
            settling: whether it is for readings that are here, and not for one more.

        Raises:
            SpoolFullError: there is no room still.
        """
        return _once_more(job, partial(self.make_room, settling=settling))

    def with_log(self, job: Callable[[], _Result]) -> _Result:
        """Do what needs no room but in the log: where that is full once more, when it is written anew.

        Raises:
            SpoolFullError: it is full still.
        """
        return _once_more(job, partial(self._make_log_room, settling=True))

    def make_room(self, *, settling: bool) -> None:
        """Make room for one more reading, or for what an answer of the server changes.

        Readings never use the reserve up for themselves: it is for settling those that are here, and for
        what has to be written before pages are free.
        """
        gained = self._make_log_room(settling=settling)
        if gained is None:
            return
        if gained > self.reserve.part // 2 and self._has_room():
            return  # the log was all that was full: what is deleted a restored server cannot get any more
        if not self.delete_delivered() and not settling:
            self._merge()

    def _has_room(self) -> bool:
        """Whether nothing need be deleted before a reading can be accepted."""
        with self._database.read() as connection:
            return _has_pages(connection) and not self.is_over_limit(connection)

    def _make_log_room(self, *, settling: bool) -> int | None:
        """Let the log be written anew, and longer where it is short.

        Returns:
            Bytes that can be written to it now, as far as is known; None where somebody reads it.
        """
        gained = self._rewind_log(is_needed=settling)
        if gained is None:
            # Whoever reads holds the log: all that is written makes it longer, and no page free. So merging
            # gives no room, and a reading has to wait. Delivery may have what is not needed for folding.
            if settling and self.reserve.holds(self._database.log_room()[1] + 2 * self.reserve.part):
                self.reserve.give_up(self.reserve.part)
            return None
        is_short = self._database.log_room()[0] < self.reserve.part
        if is_short and (settling or self._may_merge or self._has_delivered()):
            is_given = self.reserve.give_up(self.reserve.part)
            gained += self.reserve.part if is_given else 0
        return gained

    def make_room_for_copy(self, connection: sqlite3.Connection) -> None:
        """Make room for a second spool as large as this one: delivered readings go, all but the newest."""
        self.reserve.give_up()
        try:
            deleted = -1
            while deleted:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
                connection.execute("BEGIN IMMEDIATE")
                deleted = delete_delivered(connection, before_ms=None)
                connection.execute("COMMIT")
            connection.execute("PRAGMA incremental_vacuum").fetchall()
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except sqlite3.Error:  # there is as much room as there is
            if connection.in_transaction:
                connection.execute("ROLLBACK")

    def _rewind_log(self, *, is_needed: bool) -> int | None:
        """Let the log be written anew from its start; return how many bytes that gives, None when it is not.

        Args:
            is_needed: whether to wait for who reads and holds it: else that costs a part of the reserve.
        """
        try:
            return self._database.rewind_log(is_needed=is_needed)
        except SpoolFullError:
            if not self.reserve.give_up(self._database.log_room()[1] + _SPARE):
                return None
        with suppress(SpoolFullError):
            return self._database.rewind_log(is_needed=is_needed)
        return None

    # --- delivered readings ------------------------------------------------------------------------------

    def _has_delivered(self) -> bool:
        with self._database.read() as connection:
            devices = connection.execute("SELECT id FROM device").fetchall()
            return any(connection.execute(schema.EXPIRED, (*key, None, 1)).fetchone() for key in devices)

    def delete_delivered(self) -> int:
        """Delete the oldest delivered readings of each device until there is room; return how many.

        In small parts: the log has room for few, and what goes a restored server cannot get any more.
        """
        deleted = 0
        try:
            for _ in range(CHUNK // _DELETED_ROWS):
                with self._transaction() as connection:
                    rows = delete_delivered(connection, before_ms=None, most=_DELETED_ROWS)
                deleted += rows
                if not rows or self._has_room():
                    break
        except SpoolFullError:
            if deleted:  # they took what the log had: what they made room for needs it, too
                self._make_log_room(settling=True)
        return deleted

    # --- readings never offered --------------------------------------------------------------------------

    def _merge(self) -> int:
        """Merge the oldest readings that were never offered, until that freed some rows; return how many."""
        freed = 0
        if not self._may_merge:
            return freed
        with self._database.read() as connection:
            devices = connection.execute("SELECT id, name FROM device").fetchall()
        with suppress(SpoolFullError):
            for rows in self._merges(devices):
                freed += rows
                if freed >= _ENOUGH_ROWS:
                    break
        return freed

    def _merges(self, devices: Iterable[tuple[int, str]]) -> Iterator[int]:
        """Try devices, mildest merging first."""
        for width_ms in _WIDTHS_MS:
            for device, name in devices:
                for state in (SpoolState.PENDING, SpoolState.WAITING):
                    after: int | None = 0
                    while after is not None:
                        with self._transaction() as connection:
                            after, groups = _merge_chunk(connection, device, state, after, width_ms)
                            if freed := sum(len(group) - 1 for group in groups):
                                note_merged(connection, freed, self._now_ms())
                        self.merged += freed
                        _say(name, groups)
                        yield freed


def _once_more(job: Callable[[], _Result], make_room: Callable[[], object]) -> _Result:
    try:
        return job()
    except SpoolFullError:
        make_room()
    return job()


def _merge_chunk(
    connection: sqlite3.Connection, device: int, state: SpoolState, after: int, width_ms: int
) -> tuple[int | None, list[list[_Raw]]]:
    """Merge within a chunk; return where the next one starts (None at the end) and what became one."""
    end = connection.execute(schema.BEFORE_NEWEST, (device, state, LEFT_ALONE)).fetchone()
    limits = (device, state, after, end[0] if end else 0, _MERGE_CHUNK)
    rows = [_Raw(*row) for row in connection.execute(schema.THINNABLE, limits)]
    groups = _grouped(filter(_Raw.is_sound, rows), width_ms)
    for group in groups:
        *others, last = group
        content = merge_contents([json.loads(row.content) for row in group])
        text = json.dumps(content, separators=(",", ":"), ensure_ascii=False)
        connection.execute("UPDATE reading SET content = ? WHERE seq = ?", (pack(text), last.seq))
        connection.executemany(schema.DROP, [(device, state, row.seq) for row in others])
        connection.executemany("DELETE FROM reading WHERE seq = ?", [(row.seq,) for row in others])
    _note_renamed(connection, groups)
    return (rows[-1].seq if len(rows) == _MERGE_CHUNK else None), groups


def _note_renamed(connection: sqlite3.Connection, groups: Iterable[list[_Raw]]) -> None:
    gone: Counter[int] = Counter()
    for *others, last in groups:
        gone[last.renaming] += len(others)
    for renaming, readings in gone.items():
        if renaming:
            note_merged_renamed(connection, renaming, readings)


def _grouped(rows: Iterable[_Raw], width_ms: int) -> list[list[_Raw]]:
    """Return which rows become one: each group by number and by time, so that its last is the latest."""
    groups: list[list[_Raw]] = []
    growing: dict[tuple[object, ...], list[_Raw]] = {}
    for row in rows:
        group = growing.get(row.bucket(width_ms))
        if group is None or row.ms < group[-1].ms:
            groups.append(group := [])
            growing[row.bucket(width_ms)] = group
        group.append(row)
    return [group for group in groups if len(group) > 1]


def _say(name: str, groups: list[list[_Raw]]) -> None:
    """Say in the log which readings became one."""
    if not groups:
        return
    _LOG.error(
        "disk full: the oldest readings not yet offered were merged",
        extra={
            "device_id": name,
            "readings": sum(len(group) for group in groups),
            "into": len(groups),
            "from": format_ts(from_ms(groups[0][0].ts)),
            "to": format_ts(from_ms(groups[-1][-1].ts)),
            "merged": [[group[0].seq, group[-1].seq] for group in groups],
        },
    )


def _has_pages(connection: sqlite3.Connection) -> bool:
    """Whether the file has as many unused pages as settling, deleting and merging need."""
    free: int = connection.execute("PRAGMA freelist_count").fetchone()[0]
    return free >= _FEW_PAGES


def delete_delivered(connection: sqlite3.Connection, *, before_ms: int | None, most: int = CHUNK) -> int:
    """Delete a chunk of each device's delivered readings, those delivered before a time; return how many."""
    deleted = 0
    for (device,) in connection.execute("SELECT id FROM device").fetchall():
        rows = connection.execute(schema.EXPIRED, (device, before_ms, most)).fetchall()
        connection.executemany(schema.DROP, [(device, SpoolState.DELIVERED, seq) for (seq,) in rows])
        connection.executemany("DELETE FROM reading WHERE seq = ?", rows)
        deleted += len(rows)
    return deleted


def used_bytes(connection: sqlite3.Connection) -> int:
    """Return how much of the file is in use."""
    pages, free = (
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count")
    )
    return int(pages - free) * schema.PAGE_BYTES


def excess_pages(connection: sqlite3.Connection) -> int:
    """Return how many of the file's unused pages it does not need for the readings to come."""
    pages, free, kind = (
        int(connection.execute(f"PRAGMA {name}").fetchone()[0])
        for name in ("page_count", "freelist_count", "auto_vacuum")
    )
    return max(0, free - max(_SLACK_PAGES, pages // _SLACK_PART)) if kind == _INCREMENTAL else 0
