"""When this machine's clock may date a reading, and what date a waiting reading gets afterwards.

Pure rules, no input or output. Times are integer milliseconds: `wall` since 1970 in UTC, `boot` since the
machine started (sleep included), which no correction of the clock ever moves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

SERVER_TOLERANCE_MS: Final = 120_000
"""The clock agrees with the server's when they differ by no more than this."""
SERVER_SERVES_AFTER_MS: Final = 86_400_000
"""Readings wait this long for a trusted clock; then the server's date is taken instead."""
FUTURE_MARGIN_MS: Final = 600_000
"""A row the server called future is re-dated only while it is further ahead than this."""
EARLIEST_MS: Final = 1_704_067_200_000
"""2024: before there was this program ..."""
LATEST_MS: Final = 4_102_444_800_000
"""... and 2100: whoever names a time outside does not know it."""

STEP_MS: Final = 1_000
"""A reading's date further than this from its own boot-time stamp was taken before the clock was set."""

FROM_SERVER: Final = "server"
"""`clock_source` of a reading dated by the server's `Date`, because this clock never earned trust."""
ESTIMATED: Final = "estimated"
"""`clock_source` of a reading of an earlier boot that nothing relates to real time (see `boots`), and of one
that got another date than its clock says, because later ones had theirs already."""


class BootStamp(NamedTuple):
    """A moment on the clock that counts from the machine's start.

    Attributes:
        boot_id: which run of the machine.
        boot_ms: milliseconds since that start.
    """

    boot_id: str
    boot_ms: int


class ClockReading(NamedTuple):
    """Both clocks at one moment, and whether the kernel calls the wall clock synchronised."""

    wall_ms: int
    stamp: BootStamp
    synchronised: bool


class Moment(NamedTuple):
    """When something happened.

    Attributes:
        wall_ms: what this machine's clock said, right or wrong.
        boot_ms: milliseconds since the machine started.
        date_ms: the date somebody vouches for; None when nobody does yet.
    """

    wall_ms: int
    boot_ms: int
    date_ms: int | None


class ServerDate(NamedTuple):
    """The `Date` of a verified answer, and when it arrived."""

    wall_ms: int
    stamp: BootStamp

    def at(self, stamp: BootStamp) -> int | None:
        """Return the server's time at ``stamp``; None in another boot."""
        if stamp.boot_id != self.stamp.boot_id:
            return None
        return self.wall_ms + stamp.boot_ms - self.stamp.boot_ms


class ClockState(NamedTuple):
    """What is known of the machine's clock.

    Attributes:
        is_trusted: whether it dates the readings of every device.
        offset_s: it minus the server's, in seconds; None when the server's date is not known in this boot.
        is_vouched: whether the kernel calls it synchronised or the server's date agrees.
        server_serves: whether the server's date dates readings that it may not, after a day of waiting.
        behind_s: seconds by which it is behind the last date of a device, where readings wait for that.
    """

    is_trusted: bool
    offset_s: float | None
    is_vouched: bool
    server_serves: bool
    behind_s: Mapping[str, float]

    def dates(self, device_id: str) -> bool:
        """Whether it dates the readings of a device."""
        return self.is_vouched and device_id not in self.behind_s


class TrustedClock(NamedTuple):
    """What dates readings of this boot.

    Attributes:
        boot_id: the boot it holds for.
        started_ms: wall time at which the machine started; a reading's date is this plus its `boot_ms`.
        source: None for the machine's own clock, else the `clock_source` its readings carry.
    """

    boot_id: str
    started_ms: int
    source: str | None = None

    def date(self, stamp: BootStamp) -> int:
        """Return the wall time in ms of a stamp of this boot."""
        return self.started_ms + stamp.boot_ms


def judge_clock(
    now: ClockReading, *, server: ServerDate | None, last_ts: int | None, waiting_ms: int
) -> TrustedClock | None:
    """Decide what may date readings now.

    Args:
        now: the machine's clocks.
        server: the latest known `Date` of the server.
        last_ts: the device's last final time stamp; a clock behind it is wrong, or was.
        waiting_ms: how long the device's oldest waiting reading has waited in this boot.

    Returns:
        The clock to use, or None: readings have to wait.
    """
    boot_id, boot_ms = now.stamp
    server_now = server.at(now.stamp) if server else None
    is_behind = last_ts is not None and now.wall_ms < last_ts
    agrees = server_now is not None and abs(now.wall_ms - server_now) <= SERVER_TOLERANCE_MS
    if not is_behind and (now.synchronised or agrees):
        return TrustedClock(boot_id, now.wall_ms - boot_ms)
    if server_now is not None and waiting_ms >= SERVER_SERVES_AFTER_MS:
        return TrustedClock(boot_id, server_now - boot_ms, FROM_SERVER)
    return None


class Undated(NamedTuple):
    """A reading whose date is not final: the provisional `ts`, and the stamp beside it."""

    seq: int
    ts: int
    stamp: BootStamp


class Dated(NamedTuple):
    """A final date, and the `clock_source` to note with it."""

    seq: int
    ts: int
    source: str | None


class Line(NamedTuple):
    """The dates of one earlier boot: a line over its boot-time clock.

    Attributes:
        first_ms: boot-time stamp of the boot's first waiting reading.
        first_ts: its date.
        length_ms: from the first to the last of them by the boot-time clock ...
        room_ms: ... and by date: less only where there is no room for all of it.
        source: `clock_source` of its readings.
    """

    first_ms: int
    first_ts: int
    length_ms: int
    room_ms: int
    source: str | None

    def date(self, boot_ms: int) -> int:
        """Return the date of a stamp of this boot."""
        since_ms = boot_ms - self.first_ms
        if self.room_ms != self.length_ms:
            since_ms = since_ms * self.room_ms // self.length_ms
        return self.first_ts + since_ms


def date_waiting(
    rows: Iterable[Undated],
    clock: TrustedClock,
    now_ms: int,
    *,
    lines: Mapping[str, Line],
    last_ts: int | None,
) -> list[Dated]:
    """Date readings that waited, in their order, strictly increasing after ``last_ts``.

    Args:
        rows: waiting readings of one device in order of `seq`.
        clock: the clock trusted now.
        now_ms: what it says.
        lines: the dates of the earlier boots.
        last_ts: the device's last final time stamp.
    """
    dated = []
    for row in rows:
        line = lines.get(row.stamp.boot_id)
        if line is None:
            ts, source = _date_of_this_boot(row, clock, now_ms), clock.source
        else:
            ts, source = line.date(row.stamp.boot_ms), line.source
        last_ts, source = after_last(ts, source, last_ts)
        dated.append(Dated(row.seq, last_ts, source))
    return dated


def after_last(ts: int, source: str | None, last_ts: int | None) -> tuple[int, str | None]:
    """Return date and `clock_source` of a reading that comes after the device's last date.

    Where that is far from what its clock said, nobody vouches for it, and it must date no others of its boot.
    """
    if last_ts is None or ts > last_ts:
        return ts, source
    is_moved = last_ts + 1 - ts > STEP_MS
    return last_ts + 1, ESTIMATED if is_moved else source


def _date_of_this_boot(row: Undated, clock: TrustedClock, now_ms: int) -> int:
    dated = clock.date(row.stamp)
    is_right = clock.source is None and abs(row.ts - dated) <= STEP_MS and row.ts <= now_ms
    return row.ts if is_right else dated


def is_plausible(wall_ms: int) -> bool:
    """Whether it can be that time: a server that has lost its own clock may say anything."""
    return EARLIEST_MS <= wall_ms < LATEST_MS


def is_far_ahead(ts: int, now_ms: int) -> bool:
    """Whether a row the server called future is still so far ahead of a trusted clock that it is misdated."""
    return ts > now_ms + FUTURE_MARGIN_MS
