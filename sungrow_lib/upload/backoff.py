"""How long to wait before the next attempt."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from math import inf
from typing import Final

FIRST_S: Final = 1.0
LIMIT_S: Final = 300.0
BACK_WITHIN_S: Final = 60.0
"""A server out of reach is tried at least this often for fresh readings: people watch the live view."""
RETRY_AFTER_LIMIT_S: Final = 86_400.0
"""A server that asks for more than a day is asked again after a day: years can only be a slip."""
CALM_S: Final = 600.0
"""A server that asks for all again later than this after the last time has lost something anew."""
_ASK_FIRST_S: Final = 60.0

_DATE: Final = re.compile(
    r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), (\d\d) ([A-Z][a-z][a-z]) (\d{4}) (\d\d):(\d\d):(\d\d) GMT", re.ASCII
)
"""The form all servers send today (RFC 9110)."""
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_SECONDS: Final = re.compile(r"\d{1,9}", re.ASCII)
_DOUBLINGS: Final = 16
"""More than it takes to reach the limit; keeps the power small however long the outage lasts."""


class Backoff:
    """Full jitter: a random share of a span that doubles from 1 s to 300 s.

    Args:
        draw: a random number from 0 to 1.
    """

    def __init__(self, draw: Callable[[], float] = random.random) -> None:
        self._draw = draw
        self._failures = 0

    def next_s(self, retry_after_s: float | None = None) -> float:
        """Return the seconds to wait after one more failure, on top of what the server asked for."""
        span = min(FIRST_S * 2.0 ** min(self._failures, _DOUBLINGS), LIMIT_S)
        self._failures += 1
        return (retry_after_s or 0.0) + self._draw() * span

    def reset(self) -> None:
        """Start over after a success."""
        self._failures = 0


class Asking:
    """When the server's loss of one device's readings is a reason to ask for those of the others.

    At once; then ever more seldom, for a server that keeps nothing of one device asks for it for ever, and
    the others are well. Once after each start: an earlier process may have put it off.
    """

    def __init__(self) -> None:
        self._asked: set[str] = set()
        self._is_owed = True
        self._pause_s = 0.0
        self._not_before = self._lost_at = -inf

    def lost(self, device_id: str, now: float) -> None:
        """Note that the server lacks readings of a device."""
        if now - self._lost_at > CALM_S:
            self._pause_s, self._not_before = 0.0, -inf
            self._asked.clear()
        self._lost_at = now
        if device_id in self._asked:  # with all the others
            self._asked.discard(device_id)
        else:
            self._is_owed = True

    def is_well(self, device_id: str) -> None:
        """Note that it lacks none."""
        self._asked.discard(device_id)

    def is_due(self, now: float) -> bool:
        """Whether to ask for the others now."""
        return self._is_owed and now >= self._not_before

    def begin(self, now: float) -> None:
        """Let nobody else ask for a while."""
        self._pause_s = min(max(2 * self._pause_s, _ASK_FIRST_S), RETRY_AFTER_LIMIT_S)
        self._not_before = now + self._pause_s

    def end(self, asked: Iterable[str]) -> None:
        """Note who was asked for."""
        self._asked.update(asked)
        self._is_owed = False


def parse_date(value: str | None) -> datetime | None:
    """Read an HTTP date as aware UTC time; None when missing or not one."""
    if value is None:
        return None
    try:
        if (usual := _DATE.fullmatch(value)) is not None:
            day, month, year, hour, minute, second = usual.groups()
            date_of = int(year), _MONTHS.index(month) + 1, int(day)
            return datetime(*date_of, int(hour), int(minute), int(second), tzinfo=UTC)
        from email.utils import parsedate_to_datetime  # noqa: PLC0415 - memory, for what hardly anybody sends

        date = parsedate_to_datetime(value)
        return date.replace(tzinfo=UTC) if date.tzinfo is None else date.astimezone(UTC)
    except (ValueError, TypeError, OverflowError):  # the last: a year no calendar has
        return None


def parse_retry_after(value: str | None, now: datetime) -> float | None:
    """Read `Retry-After`, seconds or an HTTP date, as seconds from ``now``: up to a day, or None."""
    if value is None:
        return None
    if _SECONDS.fullmatch(value.strip()):
        wait_s = float(value)
    elif date := parse_date(value):
        wait_s = (date - now).total_seconds()
    else:
        return None
    return min(max(wait_s, 0.0), RETRY_AFTER_LIMIT_S)
