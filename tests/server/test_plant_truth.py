"""Series of plants against houses whose power flows are known, and against the readings themselves.

Nothing here asks the server how it counts. A house has flows of power that are constant for five minutes; its
inverters tell of them unless they sleep, are silent, have ended or are not there yet. What the server says
of any span, in any step, is compared with what those readings say of it, found out the slow way by the
sentences of docs/server.md; with the house itself, where all that ran was heard; with the sum of its parts.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise, permutations
from operator import itemgetter
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

import pytest

from reference_server.administration import set_device
from sungrow_lib.sample import format_ts
from tests.server.conftest import TOKEN, Api, Clock, StartServer

pytestmark = pytest.mark.anyio

STEP: Final = timedelta(minutes=5)
STEP_S: Final = 300
QUARTER: Final = timedelta(minutes=15)
DAY: Final = timedelta(days=1)
Span = tuple[datetime, datetime]
ENERGIES: Final = ("pv_kwh", "load_kwh", "import_kwh", "export_kwh", "charge_kwh", "discharge_kwh")


@dataclass
class Inverter:
    """One of a house.

    Attributes:
        name: its device id.
        share: of the sun.
        has_meter: whether it reads the meter; then it also knows the house's load.
        has_battery: whether a battery hangs on it; if not, it sleeps at night.
        there: from when until when it exists, in hours since the story's begin.
        silences: when nobody heard it, likewise.
        rows: its readings.
    """

    name: str
    share: float
    has_meter: bool = True
    has_battery: bool = False
    there: tuple[float, float] = (0, 999)
    silences: tuple[tuple[float, float], ...] = ()
    rows: list[dict[str, Any]] = field(default_factory=list)

    def is_there(self, hours: float) -> bool:
        return self.there[0] <= hours < self.there[1]

    def is_heard(self, hours: float) -> bool:
        return self.is_there(hours) and not any(begin <= hours < end for begin, end in self.silences)


@dataclass
class Story:
    """What happens in a house for some days.

    Attributes:
        zone: where it stands.
        first: its first day.
        days: how many.
        inverters: what makes and measures.
    """

    zone: ZoneInfo
    first: date
    days: int
    inverters: list[Inverter]

    def midnight(self, number: int) -> datetime:
        return datetime.combine(self.first + number * DAY, time.min, self.zone).astimezone(UTC)


class Slot(NamedTuple):
    """Five minutes of a house: its load, what it sends to the grid, and whether all that ran was heard."""

    ts: datetime
    load: int
    export: int
    is_known: bool


def live(story: Story, chance: random.Random) -> list[Slot]:
    """Let a house live, and its inverters tell of it."""
    begin, end = story.midnight(0), story.midnight(story.days)
    totals = {inverter.name: {"pv": 100.0, "charge": 50.0, "discharge": 40.0} for inverter in story.inverters}
    grid = {"import": 500.0, "export": 700.0}
    slots = []
    for number in range((end - begin) // STEP):
        ts, hours = begin + number * STEP, number / 12
        local = ts.astimezone(story.zone)
        height = math.sin((local.hour + local.minute / 60 - 6) / 12 * math.pi) * chance.uniform(0.7, 1)
        load = chance.randrange(300, 900)
        output, is_known, telling = 0, True, []
        for inverter in story.inverters:
            if not inverter.is_there(hours):
                continue
            sun = max(0, round(4000 * inverter.share * height))
            battery = (sun // 4 if sun else -350) if inverter.has_battery else 0
            output += sun - battery
            add(totals[inverter.name], pv=sun, charge=max(battery, 0), discharge=max(-battery, 0))
            if not inverter.is_heard(hours):
                is_known = is_known and not sun and not battery
            elif sun or inverter.has_battery:
                telling.append((inverter, sun, battery))
        export = output - load
        add(grid, **{"import": max(-export, 0), "export": max(export, 0)})
        for inverter, sun, battery in telling:
            inverter.rows.append(reading(inverter, ts, sun, battery, totals[inverter.name]))
            if inverter.has_meter:
                inverter.rows[-1] |= metered(load, export, grid)
        is_known = is_known and any(inverter.has_meter for inverter, *_ in telling)
        slots.append(Slot(ts, load, export, is_known))
    return slots


def add(totals: dict[str, float], **powers: float) -> None:
    for name, power in powers.items():
        totals[name] += power * STEP_S / 3_600_000


def shown(total: float) -> float:
    """A counter, cut to its digit."""
    return math.floor(total * 10 + 1e-9) / 10


def reading(
    inverter: Inverter, ts: datetime, sun: int, battery: int, totals: dict[str, float]
) -> dict[str, Any]:
    row: dict[str, Any] = {
        "device_id": inverter.name, "ts": ts, "interval_s": STEP_S, "pv_power_w": sun,
        "active_power_w": sun - battery, "pv_total_kwh": shown(totals["pv"]),
    }  # fmt: skip
    if inverter.has_battery:
        row |= {
            "battery_power_w": battery, "battery_soc_pct": float(50 + ts.hour),
            "battery_charge_total_kwh": shown(totals["charge"]),
            "battery_discharge_total_kwh": shown(totals["discharge"]),
        }  # fmt: skip
    return row


def metered(load: int, export: int, grid: dict[str, float]) -> dict[str, Any]:
    return {
        "load_power_w": load, "export_power_w": export,
        "import_total_kwh": shown(grid["import"]), "export_total_kwh": shown(grid["export"]),
    }  # fmt: skip


AMSTERDAM, HOWE, NEPAL = map(ZoneInfo, ("Europe/Amsterdam", "Australia/Lord_Howe", "Asia/Kathmandu"))
STORIES: Final[dict[str, Callable[[], Story]]] = {
    "one of two sleeps at night": lambda: Story(
        AMSTERDAM, date(2026, 3, 28), 3,
        [Inverter("sh-1", 1, has_battery=True), Inverter("sh-2", 0.7, has_meter=False)],
    ),
    "the one with the meter is away": lambda: Story(
        HOWE, date(2026, 4, 4), 3,
        [
            Inverter("sh-1", 1, has_battery=True, silences=((36.4, 42.2), (50, 50.7))),
            Inverter("sh-2", 0.7, has_meter=False, silences=((11.1, 11.9),)),
        ],
    ),
    "one dies, one comes, a third stays": lambda: Story(
        NEPAL, date(2026, 5, 30), 3,
        [
            Inverter("sh-1", 1, has_battery=True, there=(0, 36 + 1 / 3)),
            Inverter("sh-2", 1, has_battery=True, there=(36.5, 999)),
            Inverter("sh-3", 0.5, has_meter=False),
        ],
    ),
    "one replaces the other": lambda: Story(
        AMSTERDAM, date(2026, 10, 24), 3,
        [
            Inverter("sh-1", 1, there=(0, 38), has_battery=True),
            Inverter("sh-2", 0.8, there=(40, 999), has_battery=True),
        ],
    ),
    "silent in turn": lambda: Story(
        AMSTERDAM, date(2026, 6, 29), 3,
        [
            Inverter("sh-1", 1, has_battery=True, silences=((14, 20), (47, 49), (60, 61))),
            Inverter("sh-2", 0.6, has_battery=True, silences=((16, 22.5), (55, 60))),
            Inverter("sh-3", 0.4, has_meter=False, silences=((34, 36),)),
        ],
    ),
}  # fmt: skip


# --------------------------------------------------------------------------------- what the readings say


@dataclass
class Sums:
    """Power times time, and that time in s, of a quarter of an hour or of several."""

    pv: list[float] = field(default_factory=lambda: [0.0, 0.0])
    battery_power: list[float] = field(default_factory=lambda: [0.0, 0.0])
    load: list[float] = field(default_factory=lambda: [0.0, 0.0])
    export: list[float] = field(default_factory=lambda: [0.0, 0.0])
    soc: list[float] = field(default_factory=lambda: [0.0, 0.0])

    def add(self, other: Sums) -> None:
        for name, (total, seconds) in vars(other).items():
            mine = getattr(self, name)
            mine[0] += total
            mine[1] += seconds


Told = dict[str, list[float]]
"""Power times time and that time of one inverter in a quarter of an hour, by the field."""


def told_by(rows: Iterable[dict[str, Any]]) -> Told:
    """What one inverter tells: every reading stands for the five minutes before it."""
    told: Told = {}
    for row in rows:
        for name in ("pv_power_w", "battery_power_w", "load_power_w", "export_power_w", "active_power_w"):
            if name in row:
                sums = told.setdefault(name, [0.0, 0.0])
                sums[0] += row[name] * STEP_S
                sums[1] += STEP_S
        if "battery_soc_pct" in row:
            sums = told.setdefault("soc", [0.0, 0.0])
            sums[0] += row["battery_soc_pct"] * STEP_S
            sums[1] += STEP_S
    return told


def together(heard: list[Told], batteries: int) -> Sums:
    """What a plant did in a quarter of an hour, by the sentences of the documentation."""
    sums = Sums()
    for mine, name in ((sums.pv, "pv_power_w"), (sums.battery_power, "battery_power_w")):
        known = [told[name] for told in heard if name in told]
        mine[:] = [sum(total for total, _ in known), max((seconds for _, seconds in known), default=0)]
    meters = [told["export_power_w"] for told in heard if "export_power_w" in told]
    if meters:
        sums.export = max(meters, key=itemgetter(1))
    if batteries == 1:
        sums.soc = next((told["soc"] for told in heard if "soc" in told), sums.soc)
    if len(heard) == 1:
        sums.load = list(heard[0].get("load_power_w", [0.0, 0.0]))
    elif meters:
        outputs = [told["active_power_w"] for told in heard]
        large = [(total, seconds) for total, seconds in outputs if abs(total) >= 100 * seconds]
        small = sum(total for total, seconds in outputs if abs(total) < 100 * seconds)
        longest = max(seconds for _, seconds in outputs)
        seconds = min(sums.export[1], *(seconds for _, seconds in large), longest)
        power = sum(total / its for total, its in large) + small / longest - sums.export[0] / sums.export[1]
        sums.load = [max(0.0, power) * seconds, seconds]
    return sums


def merged(told: list[Told]) -> Told:
    names = {name for one in told for name in one}
    return {name: [sum(one[name][part] for one in told if name in one) for part in (0, 1)] for name in names}


class Oracle:
    """Recomputes what a plant did from its readings."""

    def __init__(self, story: Story) -> None:
        self.story = story
        self._told: dict[datetime, list[dict[str, Any]]] = {}
        for row in (row for inverter in story.inverters for row in inverter.rows):
            self._told.setdefault(quarter_of(row["ts"]), []).append(row)
        self._lives = {i.name: (i.rows[0]["ts"], i.rows[-1]["ts"]) for i in story.inverters}

    def batteries(self, quarter: datetime) -> int:
        """How many batteries there were; one that ends and the next one in its place are one."""
        there = [
            self._lives[i.name]
            for i in self.story.inverters
            if i.has_battery
            and quarter_of(self._lives[i.name][0]) <= quarter <= quarter_of(self._lives[i.name][1])
        ]
        followed = [one for one in there if any(one[1] < other[0] for other in there)]
        return len(there) - len(followed)

    def rows(self, span: Span) -> Iterator[tuple[datetime, list[dict[str, Any]]]]:
        """Readings of a span of time, by quarters of an hour."""
        quarter = quarter_of(span[0])
        while quarter < span[1]:
            rows = [row for row in self._told.get(quarter, ()) if span[0] <= row["ts"] < span[1]]
            if rows:
                yield quarter, rows
            quarter += QUARTER

    def sums(self, span: Span) -> Sums:
        """What the plant did in a span of time."""
        sums = Sums()
        for quarter, rows in self.rows(span):
            names = {row["device_id"] for row in rows}
            heard = {name: told_by(row for row in rows if row["device_id"] == name) for name in names}
            for before, after in permutations(names, 2):
                if self._lives[before][1] < self._lives[after][0]:
                    heard[after] = merged([heard.pop(before), heard[after]])
            sums.add(together(list(heard.values()), self.batteries(quarter)))
        return sums

    def coverage(self, span: Span, now: datetime) -> float:
        end = min(span[1], now)
        covered = STEP_S * sum(len(rows) for _, rows in self.rows(span))
        elapsed = sum(
            max(0.0, (end - max(span[0], quarter_of(first))).total_seconds())
            for first, _ in self._lives.values()
        )
        return min(1.0, covered / elapsed) if elapsed else 0.0


def quarter_of(ts: datetime) -> datetime:
    return ts - timedelta(minutes=ts.minute % 15, seconds=ts.second)


# ------------------------------------------------------------------------------------- what the server says


@pytest.mark.parametrize("name", STORIES)
async def test_all_that_is_said_of_a_house_is_true(start_server: StartServer, name: str) -> None:
    story = STORIES[name]()
    slots = live(story, random.Random(7))
    clock = Clock(story.midnight(story.days) + timedelta(hours=2, minutes=20))
    tokens = ",".join(f"{TOKEN}:{inverter.name}" for inverter in story.inverters)
    async with start_server(clock=clock, device_tokens=tokens) as api:
        for inverter in story.inverters:
            await set_device(
                api.dsn,
                inverter.name,
                name=None,
                plant="home",
                timezone=story.zone.key,
                poll_interval_s=STEP_S,
            )
            for first in range(0, len(inverter.rows), 900):
                rows = inverter.rows[first : first + 900]
                await api.ingest(*(row | {"ts": format_ts(row["ts"])} for row in rows))
        check = Check(api, Oracle(story), clock.now)
        quarters = await check.all_ways(story)
    by_load(slots, quarters)
    by_meter(story, slots, quarters)


def by_load(slots: list[Slot], quarters: dict[datetime, dict[str, Any]]) -> None:
    """Where all that ran was heard for a whole quarter, the load is that of the house."""
    complete = 0
    for three in zip(slots[::3], slots[1::3], slots[2::3], strict=True):
        if all(slot.is_known for slot in three):
            told = quarters[three[0].ts]["load_kwh"]
            assert told == pytest.approx(sum(slot.load for slot in three) / 12_000, abs=0.002), three[0].ts
            complete += 1
    assert complete > len(slots) / 6, "most of it is known"


def by_meter(story: Story, slots: list[Slot], quarters: dict[datetime, dict[str, Any]]) -> None:
    """What flowed through the meter counts once, but for what flowed while no inverter with it was there."""
    lives = [(i.rows[0]["ts"], i.rows[-1]["ts"]) for i in story.inverters if i.has_meter]
    seen = [slot.export for slot in slots if any(first < slot.ts <= last for first, last in lives)]
    for name, sign in (("import_kwh", -1), ("export_kwh", 1)):
        true = sum(max(0, sign * export) for export in seen) / 12_000
        told = sum(bucket[name] or 0 for bucket in quarters.values())
        assert told == pytest.approx(true, abs=0.15 * len(lives)), name  # digits at the ends of each


@dataclass
class Check:
    """Asks for series and compares them."""

    api: Api
    oracle: Oracle
    now: datetime

    async def all_ways(self, story: Story) -> dict[datetime, dict[str, Any]]:
        """Ask for the same time in all ways; return what is said of quarters of an hour."""
        whole = story.midnight(0), story.midnight(story.days)
        totals: dict[str, dict[str, float]] = {}
        quarters: dict[datetime, dict[str, Any]] = {}
        for bucket in ("15m", "1h", "1d", "1M"):
            series = await self.range(whole, bucket)
            totals[bucket] = total(series)
            if bucket == "15m":
                quarters = {datetime.fromisoformat(b["bucket"]).astimezone(UTC): b for b in series}
        cut = whole[0] + timedelta(hours=8, minutes=7), whole[1] - timedelta(hours=9, minutes=4)
        cuts = {bucket: total(await self.range(cut, bucket)) for bucket in ("15m", "1h", "1d", "1M")}
        await self.range((whole[0] + timedelta(hours=36), whole[0] + timedelta(hours=37)), "5m")
        for number in range(story.days):
            day = await self.frame("day", story.first + number * DAY)
            totals["day"] = total([*day, totals.get("day", {})])
        months = {(story.first + number * DAY).replace(day=1) for number in range(story.days)}
        for frame in ("month", "year"):
            asked = months if frame == "month" else {min(months)}
            totals[frame] = total([b for at in asked for b in await self.frame(frame, at)])
        totals["all"] = total(await self.frame("all", story.first))
        for way, found in (totals | {"cut " + bucket: found for bucket, found in cuts.items()}).items():
            expected = cuts["15m"] if way.startswith("cut") else totals["15m"]
            assert found == pytest.approx(expected, abs=0.15), way  # each Wh of 300 quarters is rounded
        return quarters

    async def range(self, span: Span, bucket: str) -> list[dict[str, Any]]:
        query = {"from": format_ts(span[0]), "to": format_ts(span[1]), "bucket": bucket}
        return self.compared(await self.ask(**query), span[0], span[1], bucket)

    async def frame(self, frame: str, at: date) -> list[dict[str, Any]]:
        series = await self.ask(frame=frame, at=at.isoformat())
        begin, end = (
            datetime.fromisoformat(series[0]["bucket"]),
            next_of(frame, series[-1]["bucket"], self.zone),
        )
        return self.compared(series, begin.astimezone(UTC), end, frame)

    async def ask(self, **query: str) -> list[dict[str, Any]]:
        status, answer = await self.api.get("/v1/plants/series", plant="home", **query)
        assert status == 200, answer
        series: list[dict[str, Any]] = answer["series"]
        return series

    @property
    def zone(self) -> ZoneInfo:
        return self.oracle.story.zone

    def compared(
        self, series: list[dict[str, Any]], begin: datetime, end: datetime, way: str
    ) -> list[dict[str, Any]]:
        """Hold every bucket against the readings; return them."""
        starts = [datetime.fromisoformat(b["bucket"]).astimezone(UTC) for b in series]
        assert starts[0] == begin
        for bucket, span in zip(series, pairwise([*starts, end]), strict=True):
            self.compare(bucket, span, way)
        return series

    def compare(self, bucket: dict[str, Any], span: Span, way: str) -> None:
        sums = self.oracle.sums(span)
        expected = {
            "avg_pv_power_w": mean(sums.pv), "avg_battery_power_w": mean(sums.battery_power),
            "avg_load_power_w": mean(sums.load), "avg_export_power_w": mean(sums.export),
            "avg_battery_soc_pct": mean(sums.soc),
            "load_kwh": sums.load[0] / 3_600_000 if sums.load[1] else None,
        }  # fmt: skip
        for name, value in expected.items():
            told = bucket[name]
            assert (told is None) == (value is None), (way, bucket["bucket"], name, told, value)
            if value is not None:
                assert told == pytest.approx(value, abs=0.002), (way, bucket["bucket"], name)
        assert bucket["coverage"] == pytest.approx(self.oracle.coverage(span, self.now), abs=0.0002), (
            way,
            span,
        )


def mean(sums: list[float]) -> float | None:
    return sums[0] / sums[1] if sums[1] else None


def total(series: Iterable[dict[str, Any]]) -> dict[str, float]:
    found = list(series)
    return {name: sum(b.get(name) or 0 for b in found) for name in ENERGIES}


def next_of(frame: str, start: str, zone: ZoneInfo) -> datetime:
    """End of the last bucket of a frame."""
    begin = datetime.fromisoformat(start)
    if frame == "day":
        midnight = datetime.combine(begin.date() + DAY, time.min, zone).astimezone(UTC)
        return min(begin.astimezone(UTC) + timedelta(hours=1), midnight)
    day = begin.date() + DAY if frame == "month" else (begin.date().replace(day=1) + 32 * DAY).replace(day=1)
    return datetime.combine(day, time.min, zone).astimezone(UTC)
