"""Gives readings their final date: the clock rules of `clock`, applied to the rows of the spool."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from typing import Any, Final

from sungrow_lib.spool import schema
from sungrow_lib.spool.backdating import FEW_ROWS, BootStarts, date_part, give_dates
from sungrow_lib.spool.clock import (
    FROM_SERVER,
    SERVER_SERVES_AFTER_MS,
    STEP_MS,
    BootStamp,
    ClockReading,
    ClockState,
    Dated,
    Moment,
    ServerDate,
    TrustedClock,
    Undated,
    after_last,
    is_far_ahead,
    is_plausible,
    judge_clock,
)
from sungrow_lib.spool.entries import SpoolState
from sungrow_lib.spool.notes import read_note, whole, words
from sungrow_lib.spool.relief import CHUNK
from sungrow_lib.spool.rows import to_numbers, to_undated

_WITHIN_MS: Final = 2_000
"""The server's `Date` has seconds only: moments that follow each other may seem to be one, or swapped."""


@dataclass(slots=True)
class _Dates:
    """What the spool says of a device's dates; the fields are the columns of DATES.

    Attributes:
        last: the last final date in ms; rows the server called future do not count.
        are_waiting: whether readings wait for a trusted clock.
        are_deferred: whether the server put some off, perhaps as future.
        are_reserved: whether dates outside the increasing order must not be given again.
    """

    last: int | None
    are_waiting: int
    are_deferred: int
    are_reserved: int


class Dating:
    """Decides dates inside the caller's transaction; remembers what the server said the time is."""

    def __init__(self) -> None:
        self._server: ServerDate | None = None
        self._server_serves: str | None = None
        """Boot in which a day went by without any trusted clock: its later readings need not wait again."""
        self._moment_ms = 0
        self._starts = BootStarts()
        self._waits: dict[tuple[int, str], int] = {}
        """Since when a device's readings wait in a boot."""
        self._known: dict[int, _Dates] = {}
        """What the file would say of devices, after readings that changed nothing but the last date."""
        self._connection: sqlite3.Connection | None = None
        self._version: object = None
        """... and of which state of it: the version is another one when another program has changed it."""

    def forget(self) -> None:
        """Ask the file of all dates anew: it was, or is going to be, changed otherwise than by appending."""
        self._known.clear()

    def is_changed(self, connection: sqlite3.Connection) -> bool:
        """Whether another program changed the file, or it was opened anew, since this was asked last."""
        version = connection.execute("PRAGMA data_version").fetchone()
        if version == self._version and connection is self._connection:
            return False
        self._connection, self._version = connection, version
        self._known.clear()
        self._waits.clear()  # readings may have come to a device from another one
        return True

    def load(self, connection: sqlite3.Connection) -> None:
        """Read the server's date as an earlier process noted it; in another boot it is void by itself."""
        self._starts.load(connection)
        self._server = read_note(connection, "server_date", _server_date)
        row = connection.execute(schema.META, ("server_serves",)).fetchone()
        self._server_serves = None if row is None else row[0]

    def observe(self, seen: ServerDate) -> bool:
        """Take note of the server's date; return whether it says something new that is worth saving."""
        if not is_plausible(seen.wall_ms):
            return False
        self._server = seen
        return self._starts.observe(seen)

    def save(self, connection: sqlite3.Connection) -> None:
        """Keep the server's date for the next process of this boot, and for those of later ones."""
        if self._server is not None:
            value = json.dumps([self._server.wall_ms, *self._server.stamp])
            connection.execute(schema.SET_META, ("server_date", value))
            self._starts.save(connection)

    def state(self, connection: sqlite3.Connection, now: ClockReading) -> ClockState:
        """Return what is known of the machine's clock."""
        server_now = self._server.at(now.stamp) if self._server else None
        serves = server_now is not None and self._server_serves == now.stamp.boot_id
        behind_s = {}
        for key, device_id in connection.execute("SELECT id, name FROM device").fetchall():
            dates = _look(connection, key)
            if dates.last is not None and now.wall_ms < dates.last and (dates.are_waiting or serves):
                behind_s[device_id] = (dates.last - now.wall_ms) / 1000
        is_vouched = self.is_trusted(now)
        return ClockState(
            is_trusted=is_vouched and not behind_s,
            offset_s=None if server_now is None else (now.wall_ms - server_now) / 1000,
            is_vouched=is_vouched,
            server_serves=serves,
            behind_s=behind_s,
        )

    def is_trusted(self, now: ClockReading) -> bool:
        """Whether somebody vouches for the machine's clock."""
        return judge_clock(now, server=self._server, last_ts=None, waiting_ms=0) is not None

    def moment(self, now: ClockReading) -> Moment:
        """Return what time it is by whoever can be trusted: this machine's clock, else the server's `Date`.

        What is kept for a time is dated by it: dated by a clock that is days behind, it would go days early.
        Of moments close together each has a date of its own, in their order.
        """
        if self.is_trusted(now):
            return Moment(now.wall_ms, now.stamp.boot_ms, now.wall_ms)
        date_ms = self._server and self._server.at(now.stamp)
        if date_ms is not None:
            if 0 <= self._moment_ms - date_ms < _WITHIN_MS:
                date_ms = self._moment_ms + 1
            self._moment_ms = date_ms
        return Moment(now.wall_ms, now.stamp.boot_ms, date_ms)

    def expire(self, connection: sqlite3.Connection, now: ClockReading, keep_s: float) -> int | None:
        """Return the time before which a delivery is past its days; None while that cannot be known."""
        if not self.is_trusted(now):  # a clock that is years ahead must not delete anything
            return None
        connection.execute(schema.DATE_DELIVERED, (now.wall_ms, CHUNK))
        return now.wall_ms - int(keep_s * 1000)

    def date(
        self,
        connection: sqlite3.Connection,
        device: int,
        ts: int,
        boot: BootStamp | None,
        now: ClockReading,
        *,
        is_final: bool,
    ) -> tuple[SpoolState, int, str | None]:
        """Return where a reading that arrives now stands, its date and `clock_source`.

        The device's dates stay in increasing order: it may be a later millisecond than ``ts``. It counts as
        stored; if it is not, `forget`. Ask `is_changed` first, in the same transaction.
        """
        dates = self._known.get(device) or _look(connection, device)
        source = None
        if not is_final:
            clock, dates = self._release(connection, device, now, dates, FEW_ROWS)
            if clock is None or dates.are_waiting:  # some of those before it have no date yet
                self._known.pop(device, None)
                return SpoolState.WAITING, ts, None
            ts, source = _final_date(ts, boot, clock, now)
        ts, source = after_last(ts, source, dates.last)
        while dates.are_reserved and connection.execute(schema.IS_RESERVED, (device, ts)).fetchone():
            ts += 1
        dates.last = ts
        if not (dates.are_waiting or dates.are_deferred):
            self._known[device] = dates
        return SpoolState.PENDING, ts, source

    def release(
        self, connection: sqlite3.Connection, device: int, now: ClockReading, most: int
    ) -> tuple[TrustedClock | None, bool]:
        """Date some of the device's waiting rows, ``most`` at most, if a clock may do that now.

        Returns:
            That clock, and whether more rows wait for it.
        """
        clock, dates = self._release(connection, device, now, _look(connection, device), most)
        return clock, clock is not None and bool(dates.are_waiting)

    def _release(
        self, connection: sqlite3.Connection, device: int, now: ClockReading, dates: _Dates, most: int
    ) -> tuple[TrustedClock | None, _Dates]:
        clock = self._judge(connection, device, now, dates)
        if clock is None:
            return None, dates
        if clock.source == FROM_SERVER and self._server_serves != clock.boot_id:
            self._server_serves = clock.boot_id
            connection.execute(schema.SET_META, ("server_serves", clock.boot_id))
        if dates.are_waiting:
            self._date_waiting(connection, clock, now, most)
        if dates.are_deferred:
            self._redate_future(connection, device, clock, clock.date(now.stamp))
        return clock, _look(connection, device) if dates.are_waiting or dates.are_deferred else dates

    def _judge(
        self, connection: sqlite3.Connection, device: int, now: ClockReading, dates: _Dates
    ) -> TrustedClock | None:
        waiting_ms = self._waited_ms(connection, device, now.stamp, dates)
        return judge_clock(now, server=self._server, last_ts=dates.last, waiting_ms=waiting_ms)

    def _waited_ms(self, connection: sqlite3.Connection, device: int, now: BootStamp, dates: _Dates) -> int:
        """Return how long the device's oldest waiting row has waited in this boot."""
        if self._server_serves == now.boot_id:
            return SERVER_SERVES_AFTER_MS
        key = (device, now.boot_id)
        if not dates.are_waiting:
            self._waits.pop(key, None)
            return 0
        if key not in self._waits:  # later ones are looked for no more: they may be many
            (since,) = to_numbers(connection.execute(schema.WAITING_SINCE, key).fetchone())
            if since is None:
                return 0
            self._waits[key] = since
        return now.boot_ms - self._waits[key]

    def _date_waiting(
        self, connection: sqlite3.Connection, clock: TrustedClock, now: ClockReading, most: int
    ) -> None:
        """Date what waits for this clock, of all devices at once: a boot was when it was for each."""
        lasts: dict[int, int | None] = {}
        for (device,) in connection.execute("SELECT id FROM device").fetchall():
            dates = _look(connection, device)
            if dates.are_waiting and self._judge(connection, device, now, dates) == clock:
                lasts[device] = dates.last
        date_part(connection, lasts, clock, now.stamp, self._starts, most)

    def _redate_future(
        self, connection: sqlite3.Connection, device: int, clock: TrustedClock, now_ms: int
    ) -> None:
        """Correct rows that the server called future and that still are, by far; if it is known how."""
        far = [
            row
            for row in to_undated(connection.execute(schema.FUTURE, (device,)))
            if is_far_ahead(row.ts, now_ms)
        ]
        moved: list[tuple[Undated, int, str | None]] = []
        for row in far:
            with suppress(StopIteration):
                moved.append((row, *next(self._right_dates(connection, row, clock, now_ms))))
        if not moved:
            return
        dates = [ts for _, ts, _ in moved]
        span = (device, min(dates), max(dates) + 2 * len(dates) + 1)
        taken = {ts for (ts,) in connection.execute(schema.DATES_BETWEEN, span)}
        dated = []
        for row, ts, source in moved:
            free = next(candidate for candidate in count(ts) if candidate not in taken)
            taken.add(free)
            dated.append(Dated(row.seq, free, source))
        give_dates(connection, device, dated)
        connection.executemany(schema.RESERVE, [(device, d.ts) for d in dated])

    def _right_dates(
        self, connection: sqlite3.Connection, row: Undated, clock: TrustedClock, now_ms: int
    ) -> Iterator[tuple[int, str | None]]:
        """Yield what may be the right date of a row that is far ahead."""
        name, boot_ms = row.stamp
        if name == clock.boot_id:
            yield clock.date(row.stamp), clock.source
            return
        for start, source in self._starts.vouched(connection, name, row.seq):
            if start + boot_ms <= now_ms:
                yield start + boot_ms, source


def _look(connection: sqlite3.Connection, device: int) -> _Dates:
    return _Dates(*to_numbers(connection.execute(schema.DATES, (device,)).fetchone()))


def _final_date(
    ts: int, boot: BootStamp | None, clock: TrustedClock, now: ClockReading
) -> tuple[int, str | None]:
    """Return date and `clock_source` of a reading that arrives while ``clock`` is trusted."""
    stamp = boot or now.stamp
    if stamp.boot_id != clock.boot_id:
        return ts, None
    dated = clock.date(stamp)
    is_right = abs(ts - dated) <= STEP_MS and ts <= now.wall_ms
    if clock.source is not None or (boot is not None and not is_right):
        return dated, clock.source
    return ts, None


def _server_date(value: list[Any]) -> ServerDate:
    wall_ms, boot_id, boot_ms = value
    return ServerDate(whole(wall_ms), BootStamp(words(boot_id), whole(boot_ms)))
