"""Gives readings their final date: the clock rules of `clock`, applied to the rows of the spool."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import count
from typing import Final, NamedTuple

from sungrow_lib.spool import schema
from sungrow_lib.spool.boots import Limit, Span, place_boots
from sungrow_lib.spool.clock import (
    ESTIMATED,
    FROM_SERVER,
    SERVER_SERVES_AFTER_MS,
    SERVER_TOLERANCE_MS,
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
    is_plausible,
    judge_clock,
)
from sungrow_lib.spool.entries import SpoolState
from sungrow_lib.spool.relief import CHUNK

_ANCHOR_ROWS: Final = 2_000
"""How far around waiting rows of an earlier boot a dated row of that boot is looked for."""
_BOOTS: Final = 64
"""Of so many boots it is kept when the server saw them: readings of them may still have to be dated."""
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


class _Boot(NamedTuple):
    """Waiting readings of one boot: numbers and boot-time stamps of the first and the last.

    Attributes:
        after: the last final date of their devices.
    """

    first_seq: int
    last_seq: int
    first_ms: int
    last_ms: int
    after: int | None

    def joined(self, other: _Boot) -> _Boot:
        """Return what both span."""
        return _Boot(
            min(self.first_seq, other.first_seq),
            max(self.last_seq, other.last_seq),
            min(self.first_ms, other.first_ms),
            max(self.last_ms, other.last_ms),
            max((date for date in (self.after, other.after) if date is not None), default=None),
        )


class Dating:
    """Decides dates inside the caller's transaction; remembers what the server said the time is."""

    def __init__(self) -> None:
        self._server: ServerDate | None = None
        self._server_serves: str | None = None
        """Boot in which a day went by without any trusted clock: its later readings need not wait again."""
        self._moment_ms = 0
        self._starts: dict[str, int] = {}
        """When this and earlier boots began by the server's date, the latest last."""
        self._known: dict[int, _Dates] = {}
        """What the file would say of devices, after readings that changed nothing but the last date."""
        self._as_of: tuple[sqlite3.Connection | None, int] = None, 0
        """... and of which file: the number is another one when another program has changed it."""

    def forget(self) -> None:
        """Ask the file of all dates anew: it was, or is going to be, changed otherwise than by appending."""
        self._known.clear()

    def load(self, connection: sqlite3.Connection) -> None:
        """Read the server's date as an earlier process noted it; in another boot it is void by itself."""
        row = connection.execute("SELECT value FROM meta WHERE key = 'server_date'").fetchone()
        if row is not None:
            wall_ms, boot_id, boot_ms = json.loads(row[0])
            self._server = ServerDate(wall_ms, BootStamp(boot_id, boot_ms))
        row = connection.execute("SELECT value FROM meta WHERE key = 'server_starts'").fetchone()
        self._starts = {} if row is None else json.loads(row[0])
        row = connection.execute("SELECT value FROM meta WHERE key = 'server_serves'").fetchone()
        self._server_serves = None if row is None else row[0]

    def observe(self, seen: ServerDate) -> bool:
        """Take note of the server's date; return whether it says something new that is worth saving."""
        if not is_plausible(seen.wall_ms):
            return False
        self._server = seen
        boot_id, boot_ms = seen.stamp
        start, known = seen.wall_ms - boot_ms, self._starts.pop(boot_id, None)
        is_new = known is None or abs(start - known) > SERVER_TOLERANCE_MS
        self._starts[boot_id] = start if known is None or is_new else known
        while len(self._starts) > _BOOTS:
            del self._starts[next(iter(self._starts))]
        return is_new

    def save(self, connection: sqlite3.Connection) -> None:
        """Keep the server's date for the next process of this boot, and for those of later ones."""
        if self._server is not None:
            value = json.dumps([self._server.wall_ms, *self._server.stamp])
            connection.execute("INSERT OR REPLACE INTO meta VALUES ('server_date', ?)", (value,))
            value = json.dumps(self._starts)
            connection.execute("INSERT OR REPLACE INTO meta VALUES ('server_starts', ?)", (value,))

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

        The device's dates stay in increasing order: it may be a later millisecond than ``ts``. It counts as
        stored; if it is not, `forget`.
        """
        as_of = connection, connection.execute("PRAGMA data_version").fetchone()[0]
        if as_of != self._as_of:
            self._as_of = as_of
            self._known.clear()
        dates = self._known.pop(device, None) or _look(connection, device)
        source = None
        if not is_final:
            clock, dates = self._release(connection, device, now, dates)
            if clock is None:
                return SpoolState.WAITING, ts, None
            ts, source = _final_date(ts, boot, clock, now)
        if dates.last is not None:
            ts = max(ts, dates.last + 1)
        while dates.are_reserved and connection.execute(schema.IS_RESERVED, (device, ts)).fetchone():
            ts += 1
        if not (dates.are_waiting or dates.are_deferred):
            self._known[device] = _Dates(ts, 0, 0, dates.are_reserved)
        return SpoolState.PENDING, ts, source

    def release(self, connection: sqlite3.Connection, device: int, now: ClockReading) -> TrustedClock | None:
        """Date the device's waiting rows if a clock may do that now; return that clock."""
        return self._release(connection, device, now, _look(connection, device))[0]

    def _release(
        self, connection: sqlite3.Connection, device: int, now: ClockReading, dates: _Dates
    ) -> tuple[TrustedClock | None, _Dates]:
        clock = self._judge(connection, device, now, dates)
        if clock is None:
            return None, dates
        if clock.source == FROM_SERVER and self._server_serves != clock.boot_id:
            self._server_serves = clock.boot_id
            connection.execute("INSERT OR REPLACE INTO meta VALUES ('server_serves', ?)", (clock.boot_id,))
        if dates.are_waiting:
            self._date_waiting(connection, clock, now)
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
        if not dates.are_waiting:
            return 0
        since = connection.execute(schema.WAITING_SINCE, (device, now.boot_id)).fetchone()[0]
        return 0 if since is None else now.boot_ms - since

    def _date_waiting(self, connection: sqlite3.Connection, clock: TrustedClock, now: ClockReading) -> None:
        """Date all that waits for this clock, of all devices at once: a boot was when it was for each."""
        lasts: dict[int, int | None] = {}
        for (device,) in connection.execute("SELECT id FROM device").fetchall():
            dates = _look(connection, device)
            if dates.are_waiting and self._judge(connection, device, now, dates) == clock:
                lasts[device] = dates.last
        spans, before = self._waiting_boots(connection, lasts, clock, now)
        common, is_squeezed = place_boots(spans, before)
        for device, last in lasts.items():
            lines = common
            if is_squeezed:  # where one device's last date leaves too little room, others need not suffer
                lines, _ = place_boots([span._replace(after=last) for span in spans], before)
            waiting = _undated(connection.execute(schema.WAITING, (device,)))
            now_ms = clock.date(now.stamp)
            self._store(connection, device, date_waiting(waiting, clock, now_ms, lines=lines, last_ts=last))
            connection.execute(schema.WAITING_TO_PENDING, (device,))

    def _waiting_boots(
        self,
        connection: sqlite3.Connection,
        lasts: Mapping[int, int | None],
        clock: TrustedClock,
        now: ClockReading,
    ) -> tuple[list[Span], Limit]:
        """Return the earlier boots that have waiting readings, in their order, and what comes after them."""
        boots: dict[str, _Boot] = {}
        for device, last in lasts.items():
            for name, *row in connection.execute(schema.WAITING_BOOTS, (device,)):
                first_seq, last_seq, first_ms, last_ms = row
                boot = _Boot(first_seq, last_seq, first_ms, last_ms, last)
                boots[name] = boots.get(name, boot).joined(boot)
        first_ts = clock.date(now.stamp)
        if (this := boots.pop(clock.boot_id, None)) is not None:
            first_ts = min(first_ts, clock.started_ms + this.first_ms)
        spans = [
            Span(name, boot.first_ms, boot.last_ms, *self._start(connection, name, boot), boot.after)
            for name, boot in sorted(boots.items(), key=lambda item: item[1].first_seq)
        ]
        return spans, Limit(clock.started_ms, first_ts)

    def _start(self, connection: sqlite3.Connection, name: str, boot: _Boot) -> tuple[int, str | None]:
        """Return when an earlier boot began as far as can be known, and who says so."""
        for start in self._vouched_starts(connection, name, boot.first_seq):
            return start
        around = (name, boot.first_seq - _ANCHOR_ROWS, boot.first_seq + _ANCHOR_ROWS, ESTIMATED)
        row = connection.execute(
            schema.START_OF_BOOT, around
        ).fetchone()  # its place of before, if it has one
        if row is None:  # what its clock said last
            row = connection.execute(
                "SELECT ts - boot_ms FROM reading WHERE seq = ?", (boot.last_seq,)
            ).fetchone()
        return row[0], ESTIMATED

    def _vouched_starts(
        self, connection: sqlite3.Connection, name: str, seq: int
    ) -> Iterator[tuple[int, str | None]]:
        """Yield when a boot began by a reading of it dated by a trusted clock, then by the server's date."""
        around = (name, seq - _ANCHOR_ROWS, seq + _ANCHOR_ROWS)
        if (row := connection.execute(schema.START_OF_BOOT, (*around, None)).fetchone()) is not None:
            yield row[0], None
        if (start := self._starts.get(name)) is not None:
            yield start, FROM_SERVER
        if (row := connection.execute(schema.START_OF_BOOT, (*around, FROM_SERVER)).fetchone()) is not None:
            yield row[0], FROM_SERVER

    def _redate_future(
        self, connection: sqlite3.Connection, device: int, clock: TrustedClock, now_ms: int
    ) -> None:
        """Correct rows that the server called future and that still are, by far; if it is known how."""
        far = [
            row
            for row in _undated(connection.execute(schema.FUTURE, (device,)))
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
        self._store(connection, device, dated)
        connection.executemany(schema.RESERVE, [(device, d.ts) for d in dated])

    def _right_dates(
        self, connection: sqlite3.Connection, row: Undated, clock: TrustedClock, now_ms: int
    ) -> Iterator[tuple[int, str | None]]:
        """Yield what may be the right date of a row that is far ahead."""
        name, boot_ms = row.stamp
        if name == clock.boot_id:
            yield clock.date(row.stamp), clock.source
            return
        for start, source in self._vouched_starts(connection, name, row.seq):
            if start + boot_ms <= now_ms:
                yield start + boot_ms, source

    def _store(self, connection: sqlite3.Connection, device: int, dated: Sequence[Dated]) -> None:
        connection.executemany(
            "UPDATE reading SET ts = ?, clock = ? WHERE seq = ?", [(d.ts, d.source, d.seq) for d in dated]
        )
        connection.execute(schema.RAISE_FLOOR, (max(d.ts for d in dated), device))


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
    is_right = abs(ts - dated) <= STEP_MS and ts <= now.wall_ms
    if clock.source is not None or (boot is not None and not is_right):
        return dated, clock.source
    return ts, None


def _undated(rows: Iterable[tuple[int, int, str, int]]) -> list[Undated]:
    return [Undated(seq, ts, BootStamp(boot_id, boot_ms)) for seq, ts, boot_id, boot_ms in rows]
