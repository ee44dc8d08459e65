"""Where earlier boots lie in time: those that ended while their readings still waited for a trusted clock.

Pure rules; times as in `clock`. Boots follow each other: each began after the last reading of the one
before, and ended before the next one began. What is known of one (a reading of it that was dated, the
server's `Date`) says when it was. One of which nothing is known keeps the pace of its own boot-time clock,
and lies as near to its own dates as its neighbours let it. Its readings are never put closer together while
there is room, for the time between two readings is what their energy is reckoned with.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sungrow_lib.spool.clock import ESTIMATED, Line, is_plausible


class Span(NamedTuple):
    """The waiting readings of one earlier boot, of all devices.

    Attributes:
        boot_id: which boot.
        first_ms: boot-time stamp of the first reading ...
        last_ms: ... and of the last.
        start_ms: wall time at which the boot began, as far as is known.
        source: who says so: None for a clock that was trusted, `FROM_SERVER`, or `ESTIMATED` where nobody
            vouches for it.
        after: the last date of the devices that have these readings; None when they have none.
    """

    boot_id: str
    first_ms: int
    last_ms: int
    start_ms: int
    source: str | None
    after: int | None = None

    @property
    def first_ts(self) -> int:
        """Date of the first reading as far as is known."""
        return self.start_ms + self.first_ms

    @property
    def length_ms(self) -> int:
        """Time from the first to the last reading."""
        return self.last_ms - self.first_ms

    @property
    def last_ts(self) -> int:
        """Date of the last reading as far as is known."""
        return self.start_ms + self.last_ms


class Limit(NamedTuple):
    """What earlier readings must lie before.

    Attributes:
        start_ms: when the next boot began.
        first_ts: date of its first reading: the machine's start may not be where it seems.
    """

    start_ms: int
    first_ts: int


def place_boots(spans: Sequence[Span], before: Limit) -> tuple[dict[str, Line], bool]:
    """Find the dates of earlier boots.

    Args:
        spans: earlier boots in their order.
        before: the boot that came after them all.

    Returns:
        The line of each boot, and whether readings had to be put closer together than they were.
    """
    lines: dict[str, Line] = {}
    is_squeezed = False
    free: list[Span] = []
    # From the latest back: of boots that contradict each other the later one is nearer to a trusted clock.
    for span in reversed(spans):
        if not _is_fixed(span, before):
            free.append(span)
            continue
        placed, squeezed = _place_free(free[::-1], span.last_ts, before)
        lines |= placed
        is_squeezed |= squeezed
        lines[span.boot_id] = Line(span.first_ms, span.first_ts, span.length_ms, span.length_ms, span.source)
        before, free = Limit(span.start_ms, span.first_ts), []
    placed, squeezed = _place_free(free[::-1], None, before)
    return lines | placed, is_squeezed or squeezed


def _is_fixed(span: Span, before: Limit) -> bool:
    """Whether what is known of a boot is what somebody vouches for, and can be true."""
    if span.source == ESTIMATED or span.last_ts >= before.first_ts:
        return False
    # A clock of its own that was trusted may have been set back later: a part can lie before the last date.
    return span.after is None or (span.last_ts if span.source is None else span.first_ts) > span.after


def _place_free(spans: Sequence[Span], after: int | None, before: Limit) -> tuple[dict[str, Line], bool]:
    """Place boots between two fixed points."""
    if not spans:
        return {}, False
    after = max((date for date in (after, *(s.after for s in spans)) if date is not None), default=None)
    gaps, lengths, end = _fit(spans, after, before)
    firsts: list[int] = []
    for span, gap, length in zip(spans, gaps, lengths, strict=True):
        first = span.first_ts if is_plausible(span.first_ts) or after is not None else end
        firsts.append(first if after is None else max(first, after + gap))
        after = firsts[-1] + length
    for place in reversed(range(len(spans))):
        firsts[place] = min(firsts[place], end - lengths[place])
        end = firsts[place] - gaps[place]
    lines = {
        span.boot_id: Line(
            span.first_ms,
            first,
            span.length_ms,
            length,
            ESTIMATED if first != span.first_ts or length != span.length_ms else span.source,
        )
        for span, first, length in zip(spans, firsts, lengths, strict=True)
    }
    return lines, any(length < span.length_ms for span, length in zip(spans, lengths, strict=True))


def _fit(spans: Sequence[Span], after: int | None, before: Limit) -> tuple[list[int], list[int], int]:
    """Return the least time before each boot's first reading, its length, and the latest last date.

    Where there is too little room, first the time between boots shrinks, then that between readings.
    """
    gaps = [max(span.first_ms, 1) for span in spans]
    lengths = [span.length_ms for span in spans]
    if after is None or sum(gaps) + sum(lengths) < before.start_ms - after:
        return gaps, lengths, before.start_ms - 1
    room = max(before.first_ts - 1 - after, 0)
    if sum(gaps) + sum(lengths) > room:
        between = max(room - sum(lengths) - len(spans), 0)
        gaps = _share(between, gaps)
        lengths = _share(max(room - len(spans), 0), lengths)
        gaps = [gap + 1 for gap in gaps]
    return gaps, lengths, max(before.first_ts - 1, after)


def _share(room: int, parts: Sequence[int]) -> list[int]:
    """Shrink ``parts`` in proportion to take no more than ``room``."""
    total = sum(parts)
    return list(parts) if total <= room else [part * room // total for part in parts]
