"""Whose word on the meter counts: inverters that share one read the same meter, and it counts once.

A counter's step holds all since its last known value, an outage of a week as well. If another inverter's
word counted for a part of that time, the energy of that part would count twice; if it counted from then on,
what the first one was silent about would never count. So the word passes from one inverter to another only
where neither is silent: at a local midnight with a value of each in the quarter of an hour before it. Among
all the ways to pass it, the one counts by which the least energy is missing, and then the one in which the
most is known of when it flowed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from itertools import pairwise
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from reference_server.zones import start_of_day

_DAY: Final = timedelta(days=1)
_NEAR_MS: Final = 15 * 60 * 1000
"""A counter read so shortly before midnight misses nothing there."""
_PASSING_MS: Final = 30 * 60 * 1000
"""So much more must be known for the word to pass."""
_COUNTS: Final = 1000
"""Time in which a counter went on, read or not, is worth so much more than time in which it was read."""


class MeterDay(NamedTuple):
    """What a device knows of the meter on a local day; times in ms of Unix time.

    Attributes:
        day: the day.
        known_ms: time in which its power, and each of its counters, were known, added up.
        first: when each counter was read first; None where it was not.
        last: when each counter was read last.
    """

    day: date
    known_ms: int
    first: tuple[int | None, ...]
    last: tuple[int | None, ...]


class Meter:
    """Tells whose word counts on a local day.

    Args:
        devices: what each device that saw the meter knows of it, days in order; at least one device.
        zone: the plant's, whose days they are.
    """

    def __init__(self, devices: Mapping[str, Sequence[MeterDay]], zone: ZoneInfo) -> None:
        self._first = next(iter(devices))
        self._of_day: dict[date, str] = {}
        if len(devices) > 1:
            self._of_day = dict(_best_way([_Witness(*told) for told in devices.items()], zone))

    @classmethod
    def of_one(cls, devices: Mapping[str, Sequence[MeterDay]]) -> Meter:
        """One device's word for all time, that of the one that knows most: if their days differ."""
        known = {name: sum(day.known_ms for day in days) for name, days in devices.items()}
        best = max(known, key=lambda name: known[name])
        return cls({best: devices[best]}, ZoneInfo("UTC"))

    def of(self, day: date) -> str:
        """Name of the device; on a day of which none knows anything it does not matter."""
        return self._of_day.get(day, self._first)


@dataclass
class _Witness:
    """A device that saw the meter, followed from day to day.

    Attributes:
        name: its name.
        days: what it knows.
    """

    name: str
    days: Sequence[MeterDay]
    _last: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._by_day = {known.day: known for known in self.days}
        self._ends = max((known.day for known in self.days if any(known.last)), default=date.min)
        self._counted: dict[int, tuple[int, int]] = {}
        for known in self.days:
            for counter, (first, last) in enumerate(zip(known.first, known.last, strict=True)):
                if first is not None and last is not None:
                    self._counted[counter] = (self._counted.get(counter, (first,))[0], last)

    def know(self, day: date, begin: int, end: int) -> int:
        """Go on to a day, which begins and ends then; return what the word on it is worth."""
        worth = 0
        for first, last in self._counted.values():
            if first < end and last > begin:
                worth += min(end, last) - max(begin, first)
        worth *= _COUNTS
        known = self._by_day.get(day)
        if known is not None:
            worth += known.known_ms
            self._last.update((number, last) for number, last in enumerate(known.last) if last is not None)
        return worth

    def may_take(self, midnight: int) -> bool:
        """Whether its next step holds nothing from before a midnight that the day gone through ends with."""
        return all(last >= midnight - _NEAR_MS for last in self._last.values())

    def may_leave(self, day: date, midnight: int) -> bool:
        """Whether what it will say after that day holds nothing from before the midnight, too."""
        return self._ends <= day or self.may_take(midnight)


def _best_way(devices: Sequence[_Witness], zone: ZoneInfo) -> Iterator[tuple[date, str]]:
    """Return for each day the device on the way in which the most is known, the last day first.

    For each day and device the best way that ends with it is that of the day before with the same one, or,
    where the word may pass, with another (Viterbi's algorithm).
    """
    days = sorted({known.day for device in devices for known in device.days})
    numbers = range(len(devices))
    begin, end = _midnight(days[0], zone), _midnight(days[0] + _DAY, zone)
    best = [device.know(days[0], begin, end) for device in devices]
    came_from: list[Sequence[int]] = []
    for before, day in pairwise(days):
        midnight = end
        begin = midnight if day - before == _DAY else _midnight(day, zone)
        end = _midnight(day + _DAY, zone)
        leaving = [number for number in numbers if devices[number].may_leave(before, midnight)]
        source = max(leaving, key=best.__getitem__, default=0)
        passed = best[source] - _PASSING_MS if leaving else -1
        origins = [
            source if best[number] < passed and devices[number].may_take(midnight) else number
            for number in numbers
        ]
        best = [
            (best[number] if origins[number] == number else passed) + devices[number].know(day, begin, end)
            for number in numbers
        ]
        came_from.append(origins)
    number = max(numbers, key=best.__getitem__)
    yield days[-1], devices[number].name
    for day, origin_of in zip(days[-2::-1], reversed(came_from), strict=True):
        number = origin_of[number]
        yield day, devices[number].name


def _midnight(day: date, zone: ZoneInfo) -> int:
    return int(start_of_day(day, zone).timestamp()) * 1000
