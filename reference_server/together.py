"""What the devices of a plant did at the same time: found out by quarters of an hour, and added up.

Averages of a day of two devices do not tell what both did together: one may have been silent at noon, one may
have replaced the other. So the powers of a plant, and its load, are put together within a quarter of an hour
(`plant_powers` says how), and whatever is longer adds up quarters. Hours, days and years cannot disagree.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from hashlib import blake2b
from operator import itemgetter
from time import monotonic
from typing import Any, Final, NamedTuple

from reference_server.buckets import Facts
from reference_server.lives import Life
from reference_server.series import Cut, SeriesReader, is_whole, is_whole_days, merged_facts, parts_of
from reference_server.storage.database import Database
from reference_server.storage.devices import KnownDevice
from reference_server.storage.plant_sums import KeptSums, Sums
from reference_server.storage.queries import query
from reference_server.zones import QUARTER, Span, end_of_quarter, quarter_of

_AT_ONCE: Final = timedelta(days=366)
"""So long spans are put together by one statement: more would keep others waiting."""
_REMEMBERED: Final = timedelta(hours=20)
"""What is shorter is put together anew whenever somebody asks."""
_LONGEST_DAY: Final = timedelta(hours=26)
_MOST_REMEMBERED: Final = 6_000
"""Days, months: ten years of a plant are 3,800. They take at most 6 MB (measured by a test), while the
database takes nothing; else they are the few that are not over."""
_TRY_AGAIN_S: Final = 60.0
"""What could not be kept is to be kept not before: the database may only be read, say."""
_POWERS: Final = (
    *("pv_power_w", "battery_power_w", "battery_soc_pct"),
    *("load_power_w", "export_power_w", "active_power_w"),
)
_COLUMNS: Final = tuple(f"{name}_{part}" for name in _POWERS for part in ("sum", "ms"))
_ALL: Final = ("sample_count", "covered_ms", *_COLUMNS)
COLUMNS: Final = frozenset(_ALL)
"""What has to be known of each device."""
_NOBODY: Final = 0
"""No device has this key."""
_EVER: Final = datetime.min.replace(tzinfo=UTC)


class Together(NamedTuple):
    """Powers of a plant in a span of time, times their times, in ms; None where nobody knows."""

    pv: int | None = None
    pv_ms: int | None = None
    battery: int | None = None
    battery_ms: int | None = None
    soc: int | None = None
    soc_ms: int | None = None
    load: int | None = None
    load_ms: int | None = None
    export: int | None = None
    export_ms: int | None = None


@dataclass
class Roles:
    """Who tells what of a plant, and when that changes.

    Attributes:
        words: from when on whose power of the meter counts, in order.
        batteries: from when on whose battery is the only one, in order.
        successors: by the quarter of an hour, devices that were heard last in it, each with the one that was
            heard first after it: in that quarter they count as one.
    """

    words: list[tuple[datetime, int]]
    batteries: list[tuple[datetime, int]]
    successors: dict[datetime, dict[int, int]]
    _borders: list[datetime] = field(init=False)
    _between: list[tuple[int, int]] = field(init=False)

    def __post_init__(self) -> None:
        changes = {at for at, _ in (*self.words, *self.batteries)}
        self._borders = sorted(changes | {end for at in self.successors for end in (at, at + QUARTER)})
        self._between = [self._found_at(at) for at in (_EVER, *self._borders)]

    @classmethod
    def of(cls, lives: Sequence[Life], words: list[tuple[datetime, int]]) -> Roles:
        """Find out who had the only battery and who came after whom; whose word counts is told."""
        successors: dict[datetime, dict[int, int]] = {}
        for life in lives:
            for other in lives:
                if life.goes_before(other) and life.last is not None:
                    following = successors.setdefault(quarter_of(life.last), {})
                    if other.device.key not in following.values():
                        following.setdefault(life.device.key, other.device.key)
        return cls(words, _only_batteries(lives, successors), successors)

    def pieces(self, span: Span) -> Iterator[Span]:
        """Cut a span wherever a role changes."""
        begin = span.begin
        for end in (*self.changes(span)[0], span.end):
            yield Span(begin, end)
            begin = end

    def changes(self, span: Span) -> tuple[Sequence[datetime], Sequence[tuple[int, int]]]:
        """When roles change within a span; whose word, and battery, counts before each change and at last."""
        first = bisect_right(self._borders, span.begin)
        last = bisect_left(self._borders, span.end, lo=first)
        return self._borders[first:last], self._between[first : last + 1]

    def at(self, moment: datetime) -> tuple[int, int]:
        """Whose word, and whose battery, counts at a moment."""
        return self._between[bisect_right(self._borders, moment)]

    def _found_at(self, moment: datetime) -> tuple[int, int]:
        word, battery = _at(self.words, moment), _at(self.batteries, moment)
        following = self.successors.get(quarter_of(moment), {})
        return following.get(word, word), following.get(battery, battery)


def _at(changes: Sequence[tuple[datetime, int]], moment: datetime) -> int:
    number = bisect_right(changes, moment, key=lambda change: change[0]) - 1
    return changes[number][1] if number >= 0 else _NOBODY


def _only_batteries(
    lives: Sequence[Life], successors: Mapping[datetime, Mapping[int, int]]
) -> list[tuple[datetime, int]]:
    """From when on whose battery is the only one: how full two of unknown size are together, nobody knows."""
    spans: dict[int, tuple[datetime, datetime]] = {}
    for life in lives:
        if life.has_battery and life.begin is not None and life.last is not None:
            last = quarter_of(life.last)
            is_followed = life.device.key in successors.get(last, {})
            spans[life.device.key] = life.begin, last if is_followed else last + QUARTER
    changes = []
    for moment in sorted({end for span in spans.values() for end in span}):
        there = [key for key, (begin, end) in spans.items() if begin <= moment < end]
        changes.append((moment, there[0] if len(there) == 1 else _NOBODY))
    return changes


class _Open(NamedTuple):
    """A span that has to be put together.

    Attributes:
        span: which.
        facts: what each device that was heard in it knows.
        digest: what all that is to be found out comes from; None when it is not to be remembered.
    """

    span: Span
    facts: Mapping[int, Facts]
    digest: bytes | None


class _Part(NamedTuple):
    """A quarter of an hour, or a part of one, of which it is told what each device knows."""

    number: int
    begin: datetime
    facts: Mapping[int, Facts]


class TogetherReader:
    """Puts together what the devices of a plant did.

    What it found of days and months that are over is kept in the database, for other processes and after a
    restart, each with what all devices' rollups said of it: readings are only ever added, so nothing within
    can have changed while that is the same, and no device was erased. What is not kept, because it is not
    over or the database takes nothing, is remembered.

    Args:
        database: where the rollups are.
        series: reads what each device did.
        clock: tells the time, UTC.
    """

    def __init__(self, database: Database, series: SeriesReader, *, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._series = series
        self._kept = KeptSums(database)
        self._clock = clock
        self._memory: OrderedDict[tuple[bytes, Span], tuple[bytes, Together]] = OrderedDict()
        self._try_at = 0.0
        self.keeps = True
        """Whether what was last to be kept is."""

    async def lives(self, devices: Sequence[KnownDevice]) -> list[Life]:
        """When each device was heard first and last."""
        rows = await self._database.rows("plant_lives", devices=[device.key for device in devices])
        told = {key: known for key, *known in rows}
        return [Life(device, *told[device.key]) for device in devices]

    async def of(
        self,
        plant: bytes | None,
        devices: Sequence[KnownDevice],
        cut: Cut,
        spans: Iterable[Span],
        found: Mapping[str, Mapping[datetime, Facts]],
        roles: Roles,
    ) -> tuple[dict[datetime, Together], set[datetime]]:
        """Put together the powers in some spans of a cut, by their begin, of what each device's rollups say.

        Which of them are yet to be kept in the database is said, too: whoever asks for them again sees to it.

        Args:
            plant: name of these devices, see :meth:`plant`.
            devices: which.
            cut: where the spans are from.
            spans: which.
            found: what each device's rollups say of them.
            roles: who tells what.
        """
        keys = {device.device_id: device.key for device in devices}
        known: dict[datetime, Together] = {}
        unknown: list[_Open] = []
        for span in spans:
            facts = {keys[name]: told for name in found if (told := found[name].get(span.begin))}
            together = self._at_once(span, facts, roles)
            if together is None:
                is_long = plant is not None and is_remembered(span)
                unknown.append(_Open(span, facts, _digest(facts, roles, span) if is_long else None))
            else:
                known[span.begin] = together
        waiting: set[datetime] = set()
        if unknown and plant is not None:
            remembered, waiting = await self._known(plant, devices, unknown, cut)
            known |= remembered
            unknown = [one for one in unknown if one.span.begin not in known]
        for some in _portions(unknown):
            put = list(zip(some, await self._put(devices, some, roles, cut), strict=True))
            known |= {one.span.begin: together for one, together in put}
            if plant is not None:
                for one, together in put:
                    if one.digest is not None:
                        self._remember((plant, one.span), one.digest, together)
                        waiting.add(one.span.begin)
                waiting -= await self._keep(plant, devices, put, cut)
        return known, waiting

    async def _known(
        self, plant: bytes, devices: Sequence[KnownDevice], asked: Sequence[_Open], cut: Cut
    ) -> tuple[dict[datetime, Together], set[datetime]]:
        """What is remembered of some spans, or kept in the database; and which are yet to be kept."""
        found = [(one, self._remembered(plant, one)) for one in asked]
        remembered = [(one, its) for one, its in found if its is not None]
        waiting = {one.span.begin for one, _ in remembered}
        if remembered and monotonic() > self._try_at:
            waiting -= await self._keep(plant, devices, remembered, cut)
        others = [one for one, its in found if its is None]
        known = {one.span.begin: its for one, its in remembered}
        return known | (await self._recalled(others, cut) if others else {}), waiting

    async def _recalled(self, unknown: Sequence[_Open], cut: Cut) -> dict[datetime, Together]:
        """What is kept in the database of some spans that are over."""
        known: dict[datetime, Together] = {}
        for (heard, is_month), some in self._keepable(unknown, cut).items():
            begins = [one.span.begin for one in some]
            kept = await self._kept.find(heard, begins[0], begins[-1], is_month=is_month)
            for one in some:
                digest, sums = kept.get(one.span.begin, (None, ()))
                if digest is not None and digest == one.digest:
                    known[one.span.begin] = Together(*sums)
        return known

    async def _keep(
        self,
        plant: bytes,
        devices: Sequence[KnownDevice],
        put: Sequence[tuple[_Open, Together]],
        cut: Cut,
    ) -> set[datetime]:
        """Keep in the database what was put together of spans that are over, later where it takes nothing.

        What is kept need not be remembered; return when it begins.
        """
        done: set[datetime] = set()
        sums = {one.span.begin: together for one, together in put}
        versions = {device.key: device.version for device in devices}
        for (heard, is_month), some in self._keepable([one for one, _ in put], cut).items():
            found: dict[datetime, Sums] = {
                one.span.begin: (one.digest, sums[one.span.begin]) for one in some if one.digest is not None
            }
            self.keeps = await self._kept.keep(versions, heard, found, is_month=is_month)
            if not self.keeps:
                self._try_at = monotonic() + _TRY_AGAIN_S
                break
            for one in some:
                self._memory.pop((plant, one.span), None)
            done |= found.keys()
        return done

    def _keepable(self, spans: Iterable[_Open], cut: Cut) -> dict[tuple[tuple[int, ...], bool], list[_Open]]:
        """Whole local days and months that are over, by who was heard in them."""
        now = self._clock()
        ends = cut.spans[0], cut.spans[-1]  # only these may be cut from others
        found: dict[tuple[tuple[int, ...], bool], list[_Open]] = {}
        for one in spans:
            if one.digest is None or one.span.end > now:
                continue
            is_month = one.span.end - one.span.begin > _LONGEST_DAY
            if one.span not in ends or is_whole_days(one.span, cut.zone, months=is_month):
                found.setdefault((tuple(sorted(one.facts)), is_month), []).append(one)
        return found

    def _at_once(self, span: Span, facts: Mapping[int, Facts], roles: Roles) -> Together | None:
        """What one device alone tells, or nobody: of a span in which no role changes that matters."""
        if not facts:
            return Together()
        if len(facts) > 1:
            return None
        [(key, told)] = facts.items()
        batteries = {roles.at(piece.begin)[1] for piece in roles.pieces(span)}
        if told.get("battery_soc_pct_ms") and len(batteries) > 1 and key in batteries:
            return None
        has_soc = batteries == {key}
        return Together(
            *(told.get(name) for name in _COLUMNS[:4]),
            *(told.get(name) if has_soc else None for name in _COLUMNS[4:6]),
            *(told.get(name) for name in _COLUMNS[6:10]),
        )

    async def plant(self, devices: Sequence[KnownDevice], cut: Cut) -> bytes | None:
        """Name of these devices in a memory; None when nothing can be remembered of the spans of a cut.

        Nor can it while a device is changed, or erased: its rollups, which have been read before, may be of
        before, or of after.
        """
        if not any(map(is_remembered, cut.spans)):
            return None
        versions = [(device.key, device.version) for device in devices]
        now = dict(await self._database.rows("device_versions", devices=[key for key, _ in versions]))
        if any(now.get(key) != version for key, version in versions):
            return None
        return blake2b(repr(versions).encode(), digest_size=16).digest()

    def _remembered(self, plant: bytes, one: _Open) -> Together | None:
        digest, together = self._memory.get((plant, one.span), (None, None))
        if digest is None or digest != one.digest:
            return None
        self._memory.move_to_end((plant, one.span))
        return together

    def _remember(self, name: tuple[bytes, Span], digest: bytes, together: Together) -> None:
        self._memory[name] = digest, together
        self._memory.move_to_end(name)
        if len(self._memory) > _MOST_REMEMBERED:
            self._memory.popitem(last=False)

    async def _put(
        self,
        devices: Sequence[KnownDevice],
        spans: Sequence[_Open],
        roles: Roles,
        cut: Cut,
    ) -> list[Together]:
        """Put spans together, each of which several devices know something of."""
        pieces: list[tuple[int, Span, int, int]] = []
        parts: list[tuple[int, Span]] = []
        told: list[_Part] = []
        for number, (span, facts, _) in enumerate(spans):
            if end_of_quarter(span.end) == quarter_of(span.begin) + QUARTER:
                told.append(_Part(number, span.begin, facts))
                continue
            for piece in (piece for part in parts_of(span) for piece in roles.pieces(part)):
                if is_whole(piece) and piece.begin not in roles.successors:
                    pieces.append((number, piece, *roles.at(piece.begin)))
                else:
                    parts.append((number, piece))
        if parts:
            told += await self._facts_of(devices, parts, cut)
        rows = await self._database.rows(
            "plant_powers",
            devices=[device.key for device in devices],
            **_named_pieces(pieces),
            **_named_parts(told, roles),
        )
        by_number = {number: Together(*values) for number, *values in rows}
        return [by_number.get(number, Together()) for number in range(len(spans))]

    async def _facts_of(
        self, devices: Sequence[KnownDevice], parts: Sequence[tuple[int, Span]], cut: Cut
    ) -> list[_Part]:
        """Read what each device knows of a few parts of spans."""
        found = [_Part(number, span.begin, {}) for number, span in parts]
        facts: list[dict[int, Facts]] = [{} for _ in parts]
        wanted = Cut(cut.zone, sorted({span for _, span in parts}, key=lambda span: span.begin))
        for device in devices:
            known = await self._series.facts(device, wanted, COLUMNS)
            for number, (_, span) in enumerate(parts):
                if told := known.get(span.begin):
                    facts[number][device.key] = told
        return [part._replace(facts=told) for part, told in zip(found, facts, strict=True)]


def is_remembered(span: Span) -> bool:
    """Whether a span is so long that what was found out of it is remembered."""
    return span.end - span.begin >= _REMEMBERED


def _digest(facts: Mapping[int, Facts], roles: Roles, span: Span) -> bytes:
    """What all that is remembered of a span comes from, in a few bytes."""
    numbers = [(key, *map(told.get, _ALL)) for key, told in facts.items()]
    pieces = [(piece.begin, *roles.at(piece.begin)) for piece in roles.pieces(span)]
    successors = [(at, *some.items()) for at, some in roles.successors.items() if span.begin <= at < span.end]
    told = span.begin, span.end, sorted(numbers, key=itemgetter(0)), pieces, sorted(successors)
    return blake2b(repr(told).encode(), digest_size=16, key=_way()).digest()


@cache
def _way() -> bytes:
    """By which statement plants are put together: what another one made may be wrong."""
    return blake2b(query("plant_powers"), digest_size=16).digest()


def _portions(spans: Iterable[_Open]) -> Iterator[list[_Open]]:
    """Spans that are put together by one statement."""
    some: list[_Open] = []
    length = timedelta(0)
    for one in spans:
        its = one.span.end - one.span.begin
        if some and length + its > _AT_ONCE:
            yield some
            some, length = [], timedelta(0)
        some.append(one)
        length += its
    if some:
        yield some


def _named_pieces(pieces: Sequence[tuple[int, Span, int, int]]) -> dict[str, Any]:
    """Pieces as parameters of a statement."""
    return {
        "numbers": [number for number, *_ in pieces],
        "begins": [piece.begin for _, piece, *_ in pieces],
        "ends": [piece.end for _, piece, *_ in pieces],
        "words": [word for *_, word, _ in pieces],
        "batteries": [battery for *_, battery in pieces],
        "lowest": min((piece.begin for _, piece, *_ in pieces), default=_EVER),
        "until": max((piece.end for _, piece, *_ in pieces), default=_EVER),
    }


def _named_parts(parts: Sequence[_Part], roles: Roles) -> dict[str, Any]:
    """What is told of parts as parameters of a statement; of devices that follow each other as of one."""
    rows: list[tuple[Any, ...]] = []
    for number, begin, facts in parts:
        following = roles.successors.get(quarter_of(begin), {})
        as_one: dict[int, list[Facts]] = {}
        for key, told in facts.items():
            as_one.setdefault(following.get(key, key), []).append(told)
        for key, some in as_one.items():
            told = merged_facts(some)
            rows.append((number, *roles.at(begin), begin, key, *(told.get(name) for name in _COLUMNS)))
    names = ("part_numbers", "part_words", "part_batteries", "part_begins", "part_devices", *_COLUMNS)
    columns: Iterable[Sequence[Any]] = zip(*rows, strict=True) if rows else [()] * len(names)
    return {name: list(column) for name, column in zip(names, columns, strict=True)}
