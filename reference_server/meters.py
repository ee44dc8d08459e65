"""Whose word on the meter counts: inverters that share one read the same meter, and it counts once.

A counter's step holds all since its last known value, an outage of a week as well. If another inverter's
word counted for a part of that time, the energy of that part would count twice; if it counted from then on,
what the first one was silent about would never count. So the word passes from one inverter to another only
where neither is silent: at a local midnight with a value of each in the quarter of an hour before it. Among
all the ways to pass it, the one counts by which the least energy is missing, and then the one in which the
most is known of when it flowed.

One that was heard first after another one had said its last follows it: both are one witness, whose steps
never overlap, so that the word passes between them at any hour.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import lru_cache
from operator import itemgetter
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from reference_server.zones import start_of_day

_DAY: Final = timedelta(days=1)
_WAY_BYTES: Final = 2_000
_WITNESS_BYTES: Final = 500
_TESTIMONY_BYTES: Final = 900
_PASS_BYTES: Final = 320
_NEAR_MS: Final = 15 * 60 * 1000
"""A counter read so shortly before midnight misses nothing there."""
_PASSING_MS: Final = 30 * 60 * 1000
"""So much more must be known for the word to pass."""
_COUNTS: Final = 1000
"""Time in which a counter went on, read or not, is worth so much more than time in which it was read."""


class MeterDay(NamedTuple):
    """What a device knows of the meter on a local day; times in ms of Unix time.

    Attributes:
        day: the day, as an ordinal.
        known_ms: time in which its power, and each of its counters, were known, added up.
        last: when each counter was read last; None where it was not.
    """

    day: int
    known_ms: int
    last: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class Testimony:
    """What a device knows of the meter; times in ms of Unix time.

    Attributes:
        name: the device's.
        counted: when each of its counters that it knows was read first and last of all.
        ends: the last day with a counter, 0 when there is none.
    """

    name: str
    counted: tuple[tuple[int, int], ...]
    ends: int


Witness = tuple[Testimony, ...]
"""A device that saw the meter, or several that followed each other."""


@dataclass
class Way:
    """The best way to pass the word among witnesses, day by day.

    For each day and witness the best way that ends with it is that of the day before with the same one, or,
    where the word may pass, with another (Viterbi's algorithm). Of days on which it passes to nobody, nothing
    is kept.

    Attributes:
        witnesses: who tells.
        zone: the plant's, whose days they are.
    """

    witnesses: Sequence[Witness]
    zone: ZoneInfo
    _best: list[int] = field(init=False)
    _at: list[int] = field(init=False)
    _lasts: list[tuple[int | None, ...]] = field(init=False)
    _passed: list[tuple[int, list[int]]] = field(default_factory=list)
    _before: int = 0

    def __post_init__(self) -> None:
        count = len(self.witnesses)
        self._best, self._at, self._lasts = [0] * count, [0] * count, [()] * count

    @property
    def size(self) -> int:
        """How many bytes it takes at most."""
        count = len(self.witnesses)
        told = sum(_TESTIMONY_BYTES for witness in self.witnesses for _ in witness)
        return _WAY_BYTES + told + count * _WITNESS_BYTES + len(self._passed) * (_PASS_BYTES + 8 * count)

    def copy(self, witnesses: Sequence[Witness]) -> Way:
        """Return a way that goes on from here, whatever else is known of the same witnesses by now."""
        way = Way(witnesses, self.zone)
        way._best, way._at, way._lasts = [*self._best], [*self._at], [*self._lasts]
        way._passed, way._before = [*self._passed], self._before
        return way

    def go(self, told: Mapping[str, Sequence[MeterDay]]) -> None:
        """Go on through the next days that any device knows something of, each device's in order."""
        by_day: dict[int, list[tuple[int, int, MeterDay]]] = {}
        for number, witness in enumerate(self.witnesses):
            for member, testimony in enumerate(witness):
                for known in told.get(testimony.name, ()):
                    by_day.setdefault(known.day, []).append((number, member, known))
        counted = [[span for one in witness for span in one.counted] for witness in self.witnesses]
        for day in sorted(by_day):
            begin, end = _midnight(day, self.zone), _midnight(day + 1, self.zone)
            if self._before:
                midnight = begin if day == self._before + 1 else _midnight(self._before + 1, self.zone)
                self._pass(day, midnight)
            for number, spans in enumerate(counted):
                worth = 0
                for first, last in spans:
                    if first < end and last > begin:
                        worth += (end if end < last else last) - (begin if begin > first else first)  # noqa: FURB136 - thousands of days
                self._best[number] += worth * _COUNTS
            for number, member, known in by_day[day]:
                self._hear(number, member, known)
            self._before = day

    def _hear(self, number: int, member: int, known: MeterDay) -> None:
        self._best[number] += known.known_ms
        if member > self._at[number]:
            self._at[number], self._lasts[number] = member, ()
        if member == self._at[number]:
            before = self._lasts[number] or (None,) * len(known.last)
            self._lasts[number] = tuple(
                was if now is None else now for was, now in zip(before, known.last, strict=True)
            )

    def _pass(self, day: int, midnight: int) -> None:
        """Let the word pass at a midnight wherever that is better."""
        best = self._best
        if min(best) >= max(best) - _PASSING_MS:
            return
        numbers = range(len(best))
        leaving = [number for number in numbers if self._may_leave(number, midnight)]
        if not leaving:
            return
        source = max(leaving, key=best.__getitem__)
        passed = best[source] - _PASSING_MS
        origins = [
            source if best[number] < passed and self._may_take(number, midnight) else number
            for number in numbers
        ]
        if origins != [*numbers]:
            self._passed.append((day, origins))
            self._best = [best[n] if origin == n else passed for n, origin in enumerate(origins)]

    def _may_take(self, number: int, midnight: int) -> bool:
        """Whether its next step holds nothing from before a midnight that the days gone through end with."""
        witness, member = self.witnesses[number], self._at[number]
        if member + 1 < len(witness) and witness[member].ends <= self._before:
            return True
        return all(last is None or last >= midnight - _NEAR_MS for last in self._lasts[number])

    def _may_leave(self, number: int, midnight: int) -> bool:
        """Whether what it will say after those days holds nothing from before the midnight, too."""
        ends = max(one.ends for one in self.witnesses[number])
        return ends <= self._before or self._may_take(number, midnight)

    def runs(self) -> list[tuple[int, int]]:
        """From which day on whose word counts, by the number of the witness, in order."""
        number = max(range(len(self._best)), key=self._best.__getitem__)
        found: list[tuple[int, int]] = []
        for day, origins in reversed(self._passed):
            if origins[number] != number:
                found.append((day, number))
                number = origins[number]
        return [(0, number), *reversed(found)]


class Meter:
    """Tells whose word counts on a local day.

    Args:
        witnesses: who tells, each by the names of its devices and the days on which each was heard first and
            last.
        runs: from which day on whose word counts, by the number of the witness, in order.
    """

    def __init__(
        self, witnesses: Sequence[Sequence[tuple[str, date, date]]], runs: Sequence[tuple[int, int]]
    ) -> None:
        self._witnesses = witnesses
        self._runs = runs
        heard = [(first, last) for witness in witnesses for _, first, last in witness if first <= last]
        days = {date.fromordinal(day) for day, _ in runs if day}
        self._changes = sorted(days.union(*({first, last + _DAY} for first, last in heard)))

    def changes(self, first: date, last: date) -> list[tuple[date, tuple[str, ...]]]:
        """From which day on whose word counts, of the days from one to another."""
        found = [(first, self.of(first))]
        begin, end = (bisect_right(self._changes, day) for day in (first, last))
        for day in self._changes[begin:end]:
            names = self.of(day)
            if names != found[-1][1]:
                found.append((day, names))
        return found

    def of(self, day: date) -> tuple[str, ...]:
        """Names of the devices: several where one followed another; what they say of the meter adds."""
        run = bisect_right(self._runs, day.toordinal(), key=itemgetter(0)) - 1
        witness = self._witnesses[self._runs[max(run, 0)][1]]
        there = tuple(name for name, first, last in witness if first <= day <= last)
        return there or (witness[0][0],)


@lru_cache(maxsize=16_384)
def _midnight(day: int, zone: ZoneInfo) -> int:
    return int(start_of_day(date.fromordinal(day), zone).timestamp()) * 1000
