"""Whose word on a shared meter counts: nothing counts twice, nothing is lost, whoever is silent when."""

from __future__ import annotations

import random
import struct
import tracemalloc
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from hashlib import sha256
from itertools import pairwise
from typing import Any, cast
from zoneinfo import ZoneInfo

import pytest

from reference_server import meters, witnesses
from reference_server.lives import Life
from reference_server.meters import Meter, Way
from reference_server.storage.database import Database
from reference_server.storage.devices import KnownDevice
from reference_server.witnesses import MeterReader
from sungrow_lib.sample import format_ts
from tests.server.conftest import Api
from tests.server.test_plant_series import counting, home, minutes, plant, span

DAYS = 4
BEGIN = datetime(2026, 3, 26, 23, 0, tzinfo=UTC)
"""Midnight in Amsterdam, where the third day has 23 hours."""
END = BEGIN + timedelta(days=DAYS)
STEP = timedelta(minutes=10)
AMSTERDAM = ZoneInfo("Europe/Amsterdam")

Silences = list[tuple[float, float]]
"""From and to, in hours since the begin."""


def rows(device_id: str, silences: Silences, offset: float) -> list[dict[str, Any]]:
    """A house that takes 1 kW from the grid, as one of its inverters sees it."""
    found = []
    for number in range(DAYS * 144 + 1):
        hours = number / 6
        if not any(begin <= hours < end for begin, end in silences):
            found.append(
                {
                    "device_id": device_id,
                    "ts": format_ts(BEGIN + number * STEP),
                    "interval_s": 600,
                    "export_power_w": -1000,
                    "active_power_w": 0,
                    "import_total_kwh": round(offset + hours, 1),
                    "export_total_kwh": 7.0,
                }
            )
    return found


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param([], [], id="neither"),
        pytest.param([(24, 48)], [], id="one for a day"),
        pytest.param([(12, 36)], [(0, 12.5)], id="over a midnight, the other one new"),
        pytest.param([(23, 25)], [(30, 90)], id="in turn"),
        pytest.param([(20, 30), (60, 80)], [(40, 55), (92, 94)], id="now and then"),
        pytest.param([(50, 999)], [], id="one for good"),
        pytest.param([(0, 60)], [(71.5, 999)], id="one replaces the other"),
        pytest.param([(22, 26)], [(23, 27)], id="both over a midnight"),
    ],
)
async def test_it_counts_once(api: Api, first: Silences, second: Silences) -> None:
    await home(api)
    for row in (rows("sh-1", first, 100), rows("sh-2", second, 5000)):
        await api.ingest(*row)
    around = {"from": format_ts(BEGIN - timedelta(hours=5)), "to": format_ts(END + timedelta(hours=1))}
    found = {}
    for bucket in ("15m", "1h", "1d", "1M"):
        found[bucket] = (await plant(api, **around, bucket=bucket))["series"]
    sums = {bucket: sum(b["import_kwh"] or 0 for b in series) for bucket, series in found.items()}
    for frame in ("year", "all"):
        series = (await plant(api, frame=frame))["series"]
        sums[frame] = sum(b["import_kwh"] or 0 for b in series)
    total = DAYS * 24
    assert sums["15m"] == pytest.approx(total, abs=0.3), "nothing twice, nothing lost"
    assert sums == dict.fromkeys(sums, pytest.approx(sums["15m"], abs=0.01))


Hours = float | None
Told = tuple[date, float, tuple[Hours, ...]]
"""A day: how many hours are known, and at which hour of it each counter was read last."""


def day(number: int, known: float, *last: Hours) -> Told:
    return date(2026, 6, number), known, (*last, *(None,) * (2 - len(last)))


class Rollups:
    """Stands in for the database: what it tells of days, packed as PostgreSQL packs it."""

    def __init__(self, **devices: list[Told]) -> None:
        self.devices = devices
        self.heads_read = 0

    def lives(self, *, deleted: bool = False) -> list[Life]:
        return [
            Life(
                KnownDevice(number, name, AMSTERDAM.key, 60, deleted, 1), *self._ends(name), has_battery=False
            )
            for number, name in enumerate(self.devices)
        ]

    def _ends(self, name: str) -> tuple[datetime | None, datetime | None]:
        """When a device was heard: all day long, unless a counter tells when."""
        days = self.devices[name]
        if not days:
            return None, None
        (first, *_), (last, _, hours) = days[0], days[-1]
        end = max((hour for hour in hours if hour is not None), default=24.0)
        begin = FIRSTS.get(name, 0.0)
        return moment(first, begin), moment(last, end) - timedelta(milliseconds=1)

    async def rows(self, name: str, devices: list[int], split: date, *, with_head: bool) -> list[Any]:
        assert name == "meter_days"
        self.heads_read += with_head
        return [
            self._row(number, days, split, with_head=with_head)
            for number, days in enumerate(self.devices.values())
            if number in devices and any(known or any(last) for _, known, last in days)
        ]

    def _row(self, number: int, days: list[Told], split: date, *, with_head: bool) -> tuple[Any, ...]:
        name = list(self.devices)[number]
        head = b"".join(pack(told) for told in days if told[0] < split)
        tail = b"".join(pack(told) for told in days if told[0] >= split)
        firsts: list[int | None] = []
        lasts: list[int | None] = []
        for counter in (0, 1):
            known = [(at, hours[counter]) for at, _, hours in days if hours[counter] is not None]
            begin = FIRSTS.get(name, 0.0)
            firsts.append(ms(moment(known[0][0], begin)) if known else None)
            lasts.append(ms(moment(known[-1][0], known[-1][1] or 0)) if known else None)
        last_day = max((at for at, _, hours in days if any(hour is not None for hour in hours)), default=None)
        return number, sha256(head).digest(), head if with_head else None, tail, *firsts, *lasts, last_day


FIRSTS: dict[str, float] = {"late": 14.0}
"""At which hour of their first day devices were heard first."""


def moment(at: date, hour: float) -> datetime:
    return datetime.combine(at, time.min, AMSTERDAM).astimezone(UTC) + timedelta(hours=hour)


def ms(at: datetime) -> int:
    return int(at.timestamp()) * 1000


def pack(told: Told) -> bytes:
    at, known, last = told
    epoch = datetime(2000, 1, 1, tzinfo=UTC)
    times = [
        -(2**63) if hour is None else (moment(at, hour) - epoch) // timedelta(microseconds=1) for hour in last
    ]
    return struct.pack(">iqqq", (at - date(2000, 1, 1)).days, int(known * 3_600_000), *times)


async def meter_of(rollups: Rollups, now: datetime = END) -> tuple[Meter, MeterReader]:
    reader = MeterReader(cast("Database", rollups), clock=lambda: now)
    return await reader.meter(rollups.lives(), AMSTERDAM), reader


async def words(**devices: list[Told]) -> list[str]:
    """Whose word counts on each day, as if the days were long past, and just now."""
    rollups = Rollups(**devices)
    days = sorted({told[0] for some in devices.values() for told in some})
    found = []
    for now in (END + timedelta(days=900), BEGIN):
        meter, _ = await meter_of(rollups, now)
        found.append(["+".join(meter.of(at)) for at in days])
        changes = meter.changes(days[0], days[-1])
        for at in days:
            assert meter.of(at) == [names for day, names in changes if day <= at][-1]
    assert found[0] == found[1]
    return found[0]


@pytest.mark.anyio
async def test_who_knows_most_where_nobody_is_silent_at_midnight() -> None:
    many, few = [day(n, 48, 24, 24) for n in (1, 2, 3)], [day(n, 20, 24, 24) for n in (1, 2, 3)]
    assert await words(a=[many[0], few[1], many[2]], b=[few[0], many[1], few[2]]) == ["a", "b", "a"]


@pytest.mark.anyio
async def test_it_does_not_pass_for_a_trifle() -> None:
    assert await words(a=[day(1, 24, 24), day(2, 23.9, 24)], b=[day(1, 23.9, 24), day(2, 24, 24)]) == [
        "a",
        "a",
    ]


@pytest.mark.anyio
async def test_it_does_not_pass_while_one_is_silent() -> None:
    a = [day(1, 20, 20), day(2, 4, 24), day(3, 24, 24)]
    assert await words(a=a, b=[day(1, 10, 24), day(2, 24, 24), day(3, 1, 24)]) == ["b", "b", "a"]
    assert await words(a=a, b=[day(1, 1, 23), day(2, 1, 23), day(3, 1, 23)]) == ["a", "a", "a"]


@pytest.mark.anyio
async def test_what_is_counted_is_worth_more_than_what_is_known_in_detail() -> None:
    assert await words(a=[day(1, 12, 24), day(2, 1, 24)], b=[day(1, 24, None), day(2, 24, 24)]) == ["a", "b"]
    assert await words(a=[day(1, 12, 20), day(2, 1, 24)], b=[day(2, 24, 24)]) == ["a", "a"]


@pytest.mark.anyio
async def test_it_passes_from_one_that_says_nothing_more() -> None:
    assert await words(a=[day(1, 20, 20)], b=[day(1, 1, None), day(2, 24, 24)]) == ["a", "b"]


@pytest.mark.anyio
async def test_one_that_follows_another_adds_its_word_on_the_day_of_the_change() -> None:
    before = [day(1, 24, 24), day(2, 12, 12)]
    assert await words(a=before, late=[day(2, 9, 24), day(3, 24, 24)]) == ["a", "a+late", "late"]
    # Another witness that saw all of it misses nothing on that day.
    steady = [day(n, 20, 24) for n in (1, 2, 3)]
    assert await words(a=before, b=steady, late=[day(2, 9, 24), day(3, 24, 24)]) == ["a", "b", "late"]
    # Heard a moment before the other one ended: what both counted would count twice.
    FIRSTS["early"] = 11.0
    assert await words(a=before, early=[day(2, 9, 24), day(3, 24, 24)]) == ["a", "early", "early"]


@pytest.mark.anyio
async def test_without_counters_it_passes_freely() -> None:
    assert await words(a=[day(1, 20), day(2, 1)], b=[day(1, 1), day(2, 20)]) == ["a", "b"]


@pytest.mark.anyio
async def test_who_never_saw_the_meter_has_no_word() -> None:
    assert await words(a=[day(1, 0, None)], b=[day(1, 1, 3)]) == ["b"]
    meter, _ = await meter_of(Rollups(a=[]))
    assert meter.of(date(2026, 6, 1)) == ("a",)


# ---------------------------------------------------------------------------------- against the plain way


class Plain:
    """Looks for the way without any short cut; of devices none of which follows another one."""

    def __init__(self, devices: dict[str, list[Told]]) -> None:
        self.devices = devices
        self.days = sorted({told[0] for some in devices.values() for told in some})

    def read(self, name: str, counter: int, until: date = date.max) -> list[tuple[date, float]]:
        """Days up to one on which a counter was read, and at which hour last."""
        told = [(at, last[counter]) for at, _, last in self.devices[name] if at <= until]
        return [(at, hour) for at, hour in told if hour is not None]

    def worth(self, name: str, at: date) -> int:
        begin, end = ms(moment(at, 0)), midnight_after(at)
        total = sum(int(known * 3_600_000) for day, known, _ in self.devices[name] if day == at)
        for counter in (0, 1):
            if read := self.read(name, counter):
                first, last = ms(moment(read[0][0], 0)), ms(moment(*read[-1]))
                total += 1000 * max(0, min(end, last) - max(begin, first))
        return total

    def is_tidy(self, name: str, before: date) -> bool:
        ends = [ms(moment(*read[-1])) for counter in (0, 1) if (read := self.read(name, counter, before))]
        return all(end >= midnight_after(before) - 900_000 for end in ends)

    def is_over(self, name: str, before: date) -> bool:
        return not any(at > before for counter in (0, 1) for at, _ in self.read(name, counter))

    def way(self) -> list[str]:
        """Whose word counts on each day."""
        names = list(self.devices)
        best = {name: self.worth(name, self.days[0]) for name in names}
        ways = {name: [name] for name in names}
        for before, at in pairwise(self.days):
            leaving = [name for name in names if self.is_over(name, before) or self.is_tidy(name, before)]
            came = {name: name for name in names}
            if leaving:
                source = max(leaving, key=best.__getitem__)
                for name in names:
                    if best[name] < best[source] - 1_800_000 and self.is_tidy(name, before):
                        came[name] = source
            lost = {name: 0 if came[name] == name else 1_800_000 for name in names}
            best = {name: best[came[name]] - lost[name] + self.worth(name, at) for name in names}
            ways = {name: [*ways[came[name]], name] for name in names}
        return ways[max(names, key=best.__getitem__)]


def midnight_after(at: date) -> int:
    return ms(datetime.combine(at + timedelta(days=1), time.min, AMSTERDAM))


def some_days(chance: random.Random, first: date, count: int) -> list[Told]:
    """Days of a device that is silent now and then, for an hour or for days, and may end or begin."""
    begin, end = chance.choice([0, 0, 0, 5]), chance.choice([count, count, count, count - 7])
    found = []
    for number in range(begin, end):
        if chance.random() < 0.9:
            last = tuple(chance.choice([24, 24, 24, 23.9, 20, None]) for _ in range(2))
            found.append((first + timedelta(days=number), chance.choice([48, 48, 47.9, 40, 10]), last))
    return found


@pytest.mark.anyio
@pytest.mark.parametrize("seed", range(12))
async def test_what_is_remembered_changes_nothing(seed: int) -> None:
    """The same reader is asked as days come, as late readings change old ones, and as months go by."""
    chance = random.Random(seed)
    first = date(2026, 2, 20)
    devices = {name: some_days(chance, first, 70) for name in ("a", "b", "c")[: 2 + seed % 2]}
    rollups = Rollups()
    now = moment(first, 0)
    reader = MeterReader(cast("Database", rollups), clock=lambda: now)
    for number in range(30, 70, 3):
        now = moment(first + timedelta(days=number), 12)
        if chance.random() < 0.3:  # something late
            some = devices[chance.choice(list(devices))]
            place = chance.randrange(len(some))
            some[place] = (some[place][0], 48, (24, 24))
        rollups.devices = {
            name: [told for told in some if told[0] <= first + timedelta(days=number)]
            for name, some in devices.items()
        }
        days = sorted({told[0] for some in rollups.devices.values() for told in some})
        meter = await reader.meter(rollups.lives(), AMSTERDAM)
        expected = Plain(rollups.devices).way()
        there = {(name, told[0]) for name, some in rollups.devices.items() for told in some}
        for at, name in zip(days, expected, strict=True):
            [told] = [names for day, names in meter.changes(days[0], days[-1]) if day <= at][-1]
            assert meter.of(at) == (told,)
            assert told == name or (told, at) not in there, (number, at)
    assert rollups.heads_read < 14, "not once for each question"


@pytest.mark.anyio
async def test_one_way_of_a_plant_is_remembered_however_often_it_changes() -> None:
    first = date(2026, 2, 20)
    devices = {name: some_days(random.Random(name), first, 40) for name in "ab"}
    rollups = Rollups(**devices)
    reader = MeterReader(cast("Database", rollups), clock=lambda: END + timedelta(days=900))
    for number in range(20):
        devices["a"][number] = (devices["a"][number][0], 48.0 - number / 10, (24, 24))
        rollups.devices = {name: [*some] for name, some in devices.items()}
        for _ in range(2):
            await reader.meter(rollups.lives(), AMSTERDAM)
    assert rollups.heads_read == 20
    [(_, way)] = reader._memory.values()
    assert reader._bytes == way.size
    await reader.meter(rollups.lives()[::-1], AMSTERDAM)
    assert len(reader._memory) == 2


def test_ways_take_no_more_memory_than_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = MeterReader(cast("Database", Rollups()), clock=lambda: END)
    for count in (2, 3, 30):
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            names = [f"inverter-{count}-{number}" for number in range(count)]
            spans = [tuple((10**12 + n, 10**12 + n + 10**9) for n in (number, 7)) for number in range(count)]
            told = [
                (meters.Testimony(name, span, END.toordinal()),)
                for name, span in zip(names, spans, strict=True)
            ]
            way = Way(told, AMSTERDAM)
            for day in range(3000):  # as if the word passed each night
                best = [10**13 + n * 3_600_000 * (1 if day % 2 else -1) for n in range(count)]
                way._best, way._lasts = best, [(None, None)] * count
                way._pass(700_000 + day, 10**12)
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert len(way._passed) == 3000
        assert after - before < way.size < 3 * (after - before)
        monkeypatch.setattr(witnesses, "_MOST_BYTES", 3 * way.size)
        for number in range(9):
            reader._remember(((number, count), "UTC"), b"", way)
        assert list(reader._memory) == [((number, count), "UTC") for number in (6, 7, 8)]
        assert reader._bytes == 3 * way.size


@pytest.mark.anyio
async def test_one_that_never_saw_the_meter_is_not_asked(api: Api) -> None:
    await home(api)
    await api.ingest(*minutes("sh-1", 61, active_power_w=100))
    counted = counting(minutes("sh-2", 61), import_total_kwh=4)
    await api.ingest(*counted)
    [hour] = (await plant(api, **span(), bucket="1h"))["series"]
    assert hour["import_kwh"] == pytest.approx(3.9, abs=0.11)


@pytest.mark.anyio
async def test_in_different_zones_one_has_the_word_for_good() -> None:
    known = {"a": [day(1, 20, 24), day(2, 1, 24)], "b": [day(1, 1, 24), day(2, 30, 24)]}
    rollups = Rollups(**known)
    one, other = rollups.lives()
    lives = [one, replace(other, device=replace(other.device, timezone="Asia/Kathmandu"))]
    meter = await MeterReader(cast("Database", rollups), clock=lambda: END).meter(lives, AMSTERDAM)
    assert [meter.of(date(2026, 6, number)) for number in (1, 2)] == [("b",), ("b",)]
