"""Gives readings their final date: the clock rules of `clock`, applied to the rows of the spool."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from itertools import count
from typing import Final, NamedTuple

from sungrow_lib.spool import schema
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
    date_waiting,
    is_far_ahead,
    judge_clock,
)
from sungrow_lib.spool.entries import SpoolState
from sungrow_lib.spool.relief import CHUNK

_ANCHOR_ROWS: Final = 2_000
"""How far around waiting rows of an earlier boot a dated row of that boot is looked for."""
_WITHIN_MS: Final = 2_000
"""The server's `Date` has seconds only: moments that follow each other may seem to be one, or swapped."""


class _Dates(NamedTuple):
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

    def load(self, connection: sqlite3.Connection) -> None:
        """Read the server's date as an earlier process noted it; in another boot it is void by itself."""
        row = connection.execute("SELECT value FROM meta WHERE key = 'server_date'").fetchone()
        if row is not None:
            wall_ms, boot_id, boot_ms = json.loads(row[0])
            self._server = ServerDate(wall_ms, BootStamp(boot_id, boot_ms))
        row = connection.execute("SELECT value FROM meta WHERE key = 'server_serves'").fetchone()
        self._server_serves = None if row is None else row[0]

    def observe(self, seen: ServerDate) -> bool:
        """Take note of the server's date; return whether it is the first of this boot and worth saving."""
        is_first = self._server is None or self._server.stamp.boot_id != seen.stamp.boot_id
        self._server = seen
        return is_first

    def save(self, connection: sqlite3.Connection) -> None:
        """Keep the server's date for the next process of this boot."""
        if self._server is not None:
            value = json.dumps([self._server.wall_ms, *self._server.stamp])
            connection.execute("INSERT OR REPLACE INTO meta VALUES ('server_date', ?)", (value,))

    def state(self, now: ClockReading) -> ClockState:
        """Return what is known of the machine's clock."""
        server_now = self._server.at(now.stamp) if self._server else None
        offset_s = None if server_now is None else (now.wall_ms - server_now) / 1000
        return ClockState(self.is_trusted(now), offset_s)

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

        The device's dates stay in increasing order: it may be a later millisecond than ``ts``.
        """
        if is_final:
            dates, source = _look(connection, device), None
        else:
            clock, dates = self._release(connection, device, now)
            if clock is None:
                return SpoolState.WAITING, ts, None
            ts, source = _final_date(ts, boot, clock, now)
        if dates.last is not None:
            ts = max(ts, dates.last + 1)
        while dates.are_reserved and connection.execute(schema.IS_RESERVED, (device, ts)).fetchone():
            ts += 1
        return SpoolState.PENDING, ts, source

    def release(self, connection: sqlite3.Connection, device: int, now: ClockReading) -> TrustedClock | None:
        """Date the device's waiting rows if a clock may do that now; return that clock."""
        return self._release(connection, device, now)[0]

    def _release(
        self, connection: sqlite3.Connection, device: int, now: ClockReading
    ) -> tuple[TrustedClock | None, _Dates]:
        dates = _look(connection, device)
        clock = judge_clock(
            now,
            server=self._server,
            last_ts=dates.last,
            waiting_ms=self._waited_ms(connection, device, now.stamp, dates),
        )
        if clock is None:
            return None, dates
        if clock.source == FROM_SERVER and self._server_serves != clock.boot_id:
            self._server_serves = clock.boot_id
            connection.execute("INSERT OR REPLACE INTO meta VALUES ('server_serves', ?)", (clock.boot_id,))
        if dates.are_waiting:
            self._date_waiting(connection, device, clock, dates.last)
        if dates.are_deferred:
            self._redate_future(connection, device, clock, clock.date(now.stamp))
        return clock, _look(connection, device) if dates.are_waiting or dates.are_deferred else dates

    def _waited_ms(self, connection: sqlite3.Connection, device: int, now: BootStamp, dates: _Dates) -> int:
        """Return how long the device's oldest waiting row has waited in this boot."""
        if self._server_serves == now.boot_id:
            return SERVER_SERVES_AFTER_MS
        if not dates.are_waiting:
            return 0
        since = connection.execute(schema.WAITING_SINCE, (device, now.boot_id)).fetchone()[0]
        return 0 if since is None else now.boot_ms - since

    def _date_waiting(
        self, connection: sqlite3.Connection, device: int, clock: TrustedClock, last: int | None
    ) -> None:
        waiting = _undated(connection.execute(schema.WAITING, (device,)))
        starts = self._starts_of_earlier_boots(connection, waiting, clock.boot_id)
        self._store(connection, device, date_waiting(waiting, clock, starts=starts, last_ts=last))
        connection.execute(schema.WAITING_TO_PENDING, (device,))

    def _redate_future(
        self, connection: sqlite3.Connection, device: int, clock: TrustedClock, now_ms: int
    ) -> None:
        """Correct rows of this boot that the server called future and that still are, by far."""
        rows = [
            row
            for row in _undated(connection.execute(schema.FUTURE, (device,)))
            if is_far_ahead(row.ts, now_ms) and row.stamp.boot_id == clock.boot_id
        ]
        if not rows:
            return
        dates = [clock.date(row.stamp) for row in rows]
        span = (device, min(dates), max(dates) + 2 * len(dates) + 1)
        taken = {ts for (ts,) in connection.execute(schema.DATES_BETWEEN, span)}
        dated = []
        for row, ts in zip(rows, dates, strict=True):
            free = next(candidate for candidate in count(ts) if candidate not in taken)
            taken.add(free)
            dated.append(Dated(row.seq, free, clock.source))
        self._store(connection, device, dated)
        connection.executemany(schema.RESERVE, [(device, d.ts) for d in dated])

    def _store(self, connection: sqlite3.Connection, device: int, dated: Sequence[Dated]) -> None:
        connection.executemany(
            "UPDATE reading SET ts = ?, clock = ? WHERE seq = ?", [(d.ts, d.source, d.seq) for d in dated]
        )
        connection.execute(schema.RAISE_FLOOR, (max(d.ts for d in dated), device))

    def _starts_of_earlier_boots(
        self, connection: sqlite3.Connection, waiting: Iterable[Undated], boot_id: str
    ) -> dict[str, int]:
        starts: dict[str, int] = {}
        for row in waiting:
            name = row.stamp.boot_id
            if name != boot_id and name not in starts:
                around = (name, row.seq - _ANCHOR_ROWS, row.seq + _ANCHOR_ROWS)
                anchor = connection.execute(schema.START_OF_BOOT, around).fetchone()
                if anchor is not None:
                    starts[name] = anchor[0]
        return starts


def _look(connection: sqlite3.Connection, device: int) -> _Dates:
    return _Dates(*connection.execute(schema.DATES, (device,)).fetchone())


def _final_date(
    ts: int, boot: BootStamp | None, clock: TrustedClock, now: ClockReading
) -> tuple[int, str | None]:
    """Return date and `clock_source` of a reading that arrives while ``clock`` is trusted."""
    stamp = boot or now.stamp
    if stamp.boot_id != clock.boot_id:
        return ts, None
    dated = clock.date(stamp)
    if clock.source is not None or (boot is not None and abs(ts - dated) > STEP_MS):
        return dated, clock.source
    return ts, None


def _undated(rows: Iterable[tuple[int, int, str, int]]) -> list[Undated]:
    return [Undated(seq, ts, BootStamp(boot_id, boot_ms)) for seq, ts, boot_id, boot_ms in rows]
