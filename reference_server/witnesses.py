"""Reads what the devices of a plant know of the meter they share, and finds out whose word counts.

Ten years of days of each are behind that. So the way through all but the last days is remembered, with a
digest of the days it comes from, which the database makes of the rows it holds at that moment: it cannot be
stale. Of some devices in a zone one way is remembered, the last.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from hashlib import blake2b
from struct import iter_unpack
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from reference_server.lives import Life
from reference_server.meters import Meter, MeterDay, Testimony, Way, Witness
from reference_server.storage.database import Database
from reference_server.zones import local_day, month_of, start_of_day

_RECENT: Final = timedelta(days=3)
"""So old days change seldom: the month they are in is not remembered."""
_MOST_BYTES: Final = 4 * 2**20
"""So much the ways that are remembered may take."""
_MOST_ASKED: Final = 4_000
"""So many names of plants that were asked for are kept: they take about 1 MB."""
_Name = tuple[tuple[int, ...], str]
_ROW: Final = ">iqqq"
_NEVER: Final = -(2**63)
_EPOCH: Final = date(2000, 1, 1).toordinal()
_EPOCH_MS: Final = 946_684_800_000
"""PostgreSQL counts days, and microseconds, from here."""


class _Told(NamedTuple):
    """What the database tells of a device.

    Attributes:
        testimony: of all time.
        digest: of the days long past.
        head: these days, when they were asked for.
        tail: the days since.
    """

    testimony: Testimony
    digest: bytes
    head: bytes | None
    tail: bytes


class MeterReader:
    """Finds out whose word on a shared meter counts.

    Args:
        database: where the rollups are.
        clock: tells the time, UTC.
    """

    def __init__(self, database: Database, *, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock
        self._memory: OrderedDict[_Name, tuple[bytes, Way]] = OrderedDict()
        self._bytes = 0
        self._asked: set[_Name] = set()

    async def meter(self, lives: Sequence[Life], zone: ZoneInfo) -> Meter:
        """Tell it of some devices whose rollups are up to date, in a plant's zone."""
        split = month_of(local_day(self._clock(), zone) - _RECENT)
        told = await self._told(lives, split, with_head=self._is_new(_name(lives, zone)))
        witnesses = [life for life in lives if life.device.device_id in told] or list(lives[:1])
        lines = lines_of(witnesses)
        runs = [(0, 0)]
        if any(life.device.zone != zone for life in witnesses):
            runs = [(0, _best_of(lines, await self._with_head(told, lives, split)))]
        elif len(lines) > 1:
            runs = (await self._way(lines, lives, told, split, zone)).runs()
        days = [[(life.device.device_id, *life.days(zone)) for life in line] for line in lines]
        return Meter(days, runs)

    async def _way(
        self,
        lines: Sequence[Sequence[Life]],
        lives: Sequence[Life],
        told: Mapping[str, _Told],
        split: date,
        zone: ZoneInfo,
    ) -> Way:
        name = _name(lives, zone)
        key = _key(_witnesses(lines, told, split, zone), told, split, zone)
        known, way = self._memory.get(name, (None, None))
        if way is None or known != key:
            told = await self._with_head(told, lives, split)
            past = _witnesses(lines, told, split, zone)
            way = Way(past, zone)
            way.go({name: days_of(known.head or b"") for name, known in told.items()})
            key = _key(past, told, split, zone)  # days may have changed between the two statements
            self._remember(name, key, way)
        else:
            self._memory.move_to_end(name)
        way = way.copy(_witnesses(lines, told))
        way.go({name: days_of(known.tail) for name, known in told.items()})
        return way

    def _remember(self, name: _Name, key: bytes, way: Way) -> None:
        """Keep a way in the place of the one before, and forget those that were not asked for longest."""
        if name in self._memory:
            self._bytes -= self._memory.pop(name)[1].size
        self._memory[name] = key, way
        self._bytes += way.size
        while self._bytes > _MOST_BYTES:
            _, (_, oldest) = self._memory.popitem(last=False)
            self._bytes -= oldest.size

    def _is_new(self, name: _Name) -> bool:
        """Whether somebody asks for the first time, and old days are most likely wanted."""
        is_new = name not in self._asked
        if len(self._asked) >= _MOST_ASKED:
            self._asked.clear()
        self._asked.add(name)
        return is_new

    async def _with_head(
        self, told: Mapping[str, _Told], lives: Sequence[Life], split: date
    ) -> Mapping[str, _Told]:
        if all(known.head is not None for known in told.values()):
            return told
        return await self._told(lives, split, with_head=True)

    async def _told(self, lives: Sequence[Life], split: date, *, with_head: bool) -> dict[str, _Told]:
        names = {life.device.key: life.device.device_id for life in lives}
        rows = await self._database.rows("meter_days", devices=list(names), split=split, with_head=with_head)
        told = {}
        for key, digest, head, tail, *counted, last_day in rows:
            spans = tuple(
                (first, last) for first, last in zip(counted[:2], counted[2:], strict=True) if first
            )
            ends = last_day.toordinal() if last_day else 0
            told[names[key]] = _Told(Testimony(names[key], spans, ends), digest, head, tail)
        return {name: told[name] for name in names.values() if name in told}


def _best_of(lines: Sequence[Sequence[Life]], told: Mapping[str, _Told]) -> int:
    """Number of the one that knows most: days of different zones are not compared."""
    known = [
        sum(day.known_ms for life in line for day in _all_days(told.get(life.device.device_id)))
        for line in lines
    ]
    return known.index(max(known))


def lines_of(lives: Sequence[Life]) -> list[list[Life]]:
    """Devices that followed each other, as one: each after the one that ended last before it began."""
    lines: list[list[Life]] = []
    for life in sorted(lives, key=lambda life: life.first or datetime.max.replace(tzinfo=UTC)):
        before = [line for line in lines if line[-1].is_over_before(life)]
        if before:
            max(before, key=lambda line: line[-1].last or datetime.min.replace(tzinfo=UTC)).append(life)
        else:
            lines.append([life])
    order = {life.device.key: number for number, life in enumerate(lives)}
    return sorted(lines, key=lambda line: min(order[life.device.key] for life in line))


def _name(lives: Iterable[Life], zone: ZoneInfo) -> _Name:
    return tuple(life.device.key for life in lives), zone.key


def _witnesses(
    lines: Sequence[Sequence[Life]],
    told: Mapping[str, _Told],
    split: date | None = None,
    zone: ZoneInfo | None = None,
) -> list[Witness]:
    """Who tells; of the past before a day only what matters there."""
    witnesses = []
    for line in lines:
        some = [told[life.device.device_id].testimony for life in line if life.device.device_id in told]
        if split is not None and zone is not None:
            some = [_until(testimony, split, zone) for testimony in some]
        witnesses.append(tuple(some))
    return witnesses


def _until(testimony: Testimony, split: date, zone: ZoneInfo) -> Testimony:
    end = int(start_of_day(split, zone).timestamp()) * 1000
    counted = tuple((min(first, end), min(last, end)) for first, last in testimony.counted)
    return replace(testimony, counted=counted, ends=min(testimony.ends, split.toordinal()))


def _key(witnesses: Sequence[Witness], told: Mapping[str, _Told], split: date, zone: ZoneInfo) -> bytes:
    """All that the way through the past comes from, in a few bytes."""
    digests = [known.digest for known in told.values()]
    return blake2b(repr((zone.key, split, witnesses, digests)).encode(), digest_size=16).digest()


def _all_days(known: _Told | None) -> Iterator[MeterDay]:
    if known is not None:
        yield from days_of(known.head or b"")
        yield from days_of(known.tail)


def days_of(packed: bytes) -> list[MeterDay]:
    """Days as the database packed them."""
    return [
        MeterDay(
            day + _EPOCH,
            known_ms,
            tuple(None if at == _NEVER else at // 1000 + _EPOCH_MS for at in last),
        )
        for day, known_ms, *last in iter_unpack(_ROW, packed)
    ]
