"""Dates readings that waited for a trusted clock, a part at a time, all by one plan.

A backlog of weeks may wait. It is dated in small transactions, for a full disk has room for few changed
rows, and others want their turn; the plan that `boots` makes is kept in the file until the last of them has
its date.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from sungrow_lib.spool import schema
from sungrow_lib.spool.boots import Limit, Span, place_boots
from sungrow_lib.spool.clock import (
    ESTIMATED,
    FROM_SERVER,
    SERVER_TOLERANCE_MS,
    BootStamp,
    Dated,
    Line,
    ServerDate,
    TrustedClock,
    Undated,
    date_waiting,
)
from sungrow_lib.spool.errors import WrongValueError
from sungrow_lib.spool.nameless import read_parts
from sungrow_lib.spool.notes import read_note, whole, words
from sungrow_lib.spool.rows import to_numbers, to_undated

PART_ROWS: Final = 500
"""So many readings of a device get their date at a time ..."""
FEW_ROWS: Final = 50
"""... and so many with a reading that arrives, or on a full disk: a row takes more room when dated."""
_ANCHOR_ROWS: Final = 2_000
"""How far around a row of an earlier boot a dated row of that boot is looked for."""
_BOOTS: Final = 64
"""Of so many boots it is kept when the server saw them: readings of them may still have to be dated."""
SERVER_STARTS: Final = "server_starts"
"""Key of when the server saw boots."""

Lines = dict[str, Line]


class BootStarts:
    """When boots began, by whoever vouches for it."""

    def __init__(self) -> None:
        self._by_server: dict[str, int] = {}

    def load(self, connection: sqlite3.Connection) -> None:
        """Read what earlier processes heard of the server."""
        self._by_server = read_starts(connection)

    def save(self, connection: sqlite3.Connection) -> None:
        """Keep it for later ones."""
        connection.execute(schema.SET_META, (SERVER_STARTS, json.dumps(self._by_server)))

    def observe(self, seen: ServerDate) -> bool:
        """Note when this boot began by the server's date; return whether that is news worth saving."""
        boot_id, boot_ms = seen.stamp
        start, known = seen.wall_ms - boot_ms, self._by_server.pop(boot_id, None)
        is_news = known is None or abs(start - known) > SERVER_TOLERANCE_MS
        self._by_server[boot_id] = start if known is None or is_news else known
        while len(self._by_server) > _BOOTS:
            del self._by_server[next(iter(self._by_server))]
        return is_news

    def vouched(
        self, connection: sqlite3.Connection, name: str, seq: int
    ) -> Iterator[tuple[int, str | None]]:
        """Yield when a boot began by a reading of it dated by a trusted clock, then by the server's date.

        With each comes the `clock_source` of readings dated by it.
        """
        if (start := _start_by_reading(connection, name, seq, None)) is not None:
            yield start, None
        if (start := self._by_server.get(name)) is not None:
            yield start, FROM_SERVER
        if (start := _start_by_reading(connection, name, seq, FROM_SERVER)) is not None:
            yield start, FROM_SERVER


class _Boot(NamedTuple):
    """Waiting readings of one boot: numbers and boot-time stamps of the first and the last.

    Attributes:
        after: the last final date of their devices.
    """

    first_seq: int
    last_seq: int
    first_ms: int
    last_ms: int
    after: int | None = None

    def joined(self, other: _Boot) -> _Boot:
        """Return what both span."""
        return _Boot(
            min(self.first_seq, other.first_seq),
            max(self.last_seq, other.last_seq),
            min(self.first_ms, other.first_ms),
            max(self.last_ms, other.last_ms),
            _latest(self.after, other.after),
        )


def read_starts(connection: sqlite3.Connection) -> dict[str, int]:
    """Return when boots began by the server's date."""
    return read_note(connection, SERVER_STARTS, _starts) or {}


def date_part(
    connection: sqlite3.Connection,
    lasts: Mapping[int, int | None],
    clock: TrustedClock,
    now: BootStamp,
    starts: BootStarts,
    most: int,
) -> None:
    """Date the first waiting readings of devices whose clock is trusted; there may be more of them.

    Args:
        connection: in a transaction.
        lasts: the last final date of each such device.
        clock: what is trusted.
        now: this moment.
        starts: of the boots.
        most: so many readings of each.

    Raises:
        WrongValueError: a wrong bit in a key; without any progress, the next part would be this one again.
    """
    plan = _Plan(connection, clock, now, starts)
    parts = {device: _undated(connection, device, most) for device in lasts}
    plan.cover(lasts, parts)
    for device, rows in parts.items():
        if not rows:
            raise WrongValueError("what waits is no reading")
        dated = date_waiting(rows, clock, clock.date(now), lines=plan.lines(device), last_ts=lasts[device])
        give_dates(connection, device, dated)
        if connection.execute(schema.WAITING_TO_PENDING, (device, rows[-1].seq)).rowcount != len(rows):
            raise WrongValueError("readings that wait are not where they are looked for")
    plan.keep(lasts)


def give_dates(connection: sqlite3.Connection, device: int, dated: Sequence[Dated]) -> None:
    """Write dates into readings of a device; its later ones come after them."""
    connection.executemany(
        "UPDATE reading SET ts = ?, clock = ? WHERE seq = ?", [(d.ts, d.source, d.seq) for d in dated]
    )
    connection.execute(schema.RAISE_FLOOR, (max(d.ts for d in dated), device))


class _Plan:
    """The lines of boots, for each device; what was begun by one is ended by it."""

    def __init__(
        self, connection: sqlite3.Connection, clock: TrustedClock, now: BootStamp, starts: BootStarts
    ) -> None:
        self._connection = connection
        self._clock = clock
        self._now = now
        self._starts = starts
        self._lines: dict[int, Lines] = read_note(connection, "boot_lines", _lines) or {}
        self._was_kept = bool(self._lines)

    @property
    def _this(self) -> Line:
        """The line of the present boot."""
        return Line(0, self._clock.started_ms, length_ms=0, room_ms=0, source=self._clock.source)

    def lines(self, device: int) -> Lines:
        """Return the lines of a device's earlier boots: this one's clock is here to be asked."""
        lines = self._lines.get(device, {})
        return {name: line for name, line in lines.items() if name != self._clock.boot_id}

    def cover(self, lasts: Mapping[int, int | None], parts: Mapping[int, Iterable[Undated]]) -> None:
        """Plan for the boots of these readings if that is not done."""
        for device, rows in parts.items():
            known = {self._clock.boot_id, *self._lines.get(device, {})}
            if any(row.stamp.boot_id not in known for row in rows):
                self._make(lasts)
                return

    def _make(self, lasts: Mapping[int, int | None]) -> None:
        waiting = {device: dict(self._waiting_boots(device)) for device in lasts}
        afters = {device: self._after(device, waiting[device], last) for device, last in lasts.items()}
        boots: dict[str, _Boot] = {}
        for device, own in waiting.items():
            for name, boot in own.items():
                if name not in self._lines.get(device, {}):
                    bounded = boot._replace(after=afters[device])
                    boots[name] = boots.get(name, bounded).joined(bounded)
        joined = self._join_nameless(boots)
        first_ts = self._clock.date(self._now)
        if (this := boots.pop(self._clock.boot_id, None)) is not None:
            first_ts = min(first_ts, self._clock.started_ms + this.first_ms)
        spans = [
            Span(name, boot.first_ms, boot.last_ms, *self._start(name, boot), boot.after)
            for name, boot in sorted(boots.items(), key=lambda item: item[1].first_seq)
        ]
        before = Limit(self._clock.started_ms, first_ts)
        common, is_squeezed = place_boots(spans, before)
        for device in lasts:
            lines = common
            if is_squeezed:  # where one device's last date leaves too little room, others need not suffer
                lines, _ = place_boots([span._replace(after=afters[device]) for span in spans], before)
            parts = {
                name: lines.get(later, self._this)._replace(source=ESTIMATED)
                for name, later in joined.items()
            }
            self._lines[device] = lines | parts | self._lines.get(device, {})

    def _join_nameless(self, boots: dict[str, _Boot]) -> dict[str, str]:
        """Take boots whose names are lost for parts of those they are known to go on in.

        Returns:
            The names of such boots, each with that of the boot it is part of.
        """
        joined = {
            name: later
            for name, later in read_parts(self._connection).items()
            if name in boots and not self._is_vouched(name, boots[name])
        }
        for name, later in joined.items():
            boot = boots.pop(name)
            boots[later] = boot.joined(boots.get(later, boot))
        return joined

    def _is_vouched(self, name: str, boot: _Boot) -> bool:
        return any(self._starts.vouched(self._connection, name, boot.first_seq))

    def _waiting_boots(self, device: int) -> Iterator[tuple[str, _Boot]]:
        for name, *row in self._connection.execute(schema.WAITING_BOOTS, (device,)):
            first_seq, last_seq, first_ms, last_ms = to_numbers(tuple(row))
            yield name, _Boot(first_seq, last_seq, first_ms, last_ms)

    def _after(self, device: int, waiting: Mapping[str, _Boot], last: int | None) -> int | None:
        """Return what boots that have no line yet come after: the last date there is, or will be."""
        for name, line in self._lines.get(device, {}).items():
            if name in waiting:
                last = _latest(last, line.date(waiting[name].last_ms))
        return last

    def _start(self, name: str, boot: _Boot) -> tuple[int, str | None]:
        """Return when an earlier boot began as far as can be known, and who says so."""
        for vouched in self._starts.vouched(self._connection, name, boot.first_seq):
            return vouched
        start = _start_by_reading(self._connection, name, boot.first_seq, ESTIMATED)  # its place of before
        if start is None:  # what its clock said last
            start = self._connection.execute(schema.START_SAID, (boot.last_seq,)).fetchone()[0]
        return start, ESTIMATED

    def keep(self, dated: Iterable[int]) -> None:
        """Keep the plan for devices whose readings still wait.

        If the machine starts anew before all have their dates, nobody knows any more when this boot was.
        """
        for device in dated:
            self._lines.setdefault(device, {})[self._clock.boot_id] = self._this
        kept = {device: lines for device, lines in self._lines.items() if self._is_waiting(device)}
        if kept:
            self._connection.execute(schema.SET_META, ("boot_lines", json.dumps(kept)))
        elif self._was_kept:
            self._connection.execute(schema.DROP_META, ("boot_lines",))

    def _is_waiting(self, device: int) -> bool:
        return self._connection.execute(schema.IS_WAITING, (device,)).fetchone() is not None


def _undated(connection: sqlite3.Connection, device: int, most: int) -> list[Undated]:
    return to_undated(connection.execute(schema.WAITING, (device, most)))


def _start_by_reading(connection: sqlite3.Connection, name: str, seq: int, source: str | None) -> int | None:
    around = (name, seq - _ANCHOR_ROWS, seq + _ANCHOR_ROWS, source)
    row = connection.execute(schema.START_OF_BOOT, around).fetchone()
    return None if row is None else int(row[0])


def _latest(*dates: int | None) -> int | None:
    return max((date for date in dates if date is not None), default=None)


def _starts(value: dict[str, Any]) -> dict[str, int]:
    return {name: whole(start) for name, start in value.items()}


def _lines(value: dict[str, dict[str, list[Any]]]) -> dict[int, Lines]:
    return {
        int(device): {name: _line(*line) for name, line in lines.items()} for device, lines in value.items()
    }


def _line(first_ms: int, first_ts: int, length_ms: int, room_ms: int, source: str | None) -> Line:
    if room_ms and not length_ms:
        raise ValueError("no line: it has no length")
    source = None if source is None else words(source)
    return Line(whole(first_ms), whole(first_ts), whole(length_ms), whole(room_ms), source)
