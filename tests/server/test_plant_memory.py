"""What is remembered of plants: the same as is found anew, whatever comes late, and little of it."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import pytest

from reference_server.administration import delete_device, set_device
from reference_server.buckets import PlantBucket
from reference_server.plant_memory import PlantMemory
from reference_server.zones import Span
from sungrow_lib.sample import format_ts
from tests.server.conftest import TOKEN, Api, Clock, StartServer
from tests.server.test_plant_truth import AMSTERDAM, HOWE, STEP_S, Inverter, Story, live

pytestmark = pytest.mark.anyio

DAYS: Final = 4
AT: Final = datetime(2026, 6, 2, 7, 20, tzinfo=UTC)
HOUSES: Final = ((AMSTERDAM, date(2026, 3, 28)), (HOWE, date(2026, 5, 30)))
STAGES: Final = 5


def some_lives(number: int, chance: random.Random) -> tuple[Story, list[dict[str, Any]]]:
    """Some days of a plant, and its readings in the order in which they arrive."""
    change = chance.uniform(20, 24 * DAYS - 20)
    there = [(0.0, 999.0), (0.0, change), (change + chance.choice((-5, 0.1, 5)), 999.0), (0.0, 999.0)]
    inverters = [
        Inverter(
            f"sh-{number}-{name}",
            0.5,
            has_meter=chance.random() < 0.8,
            has_battery=chance.random() < 0.5,
            there=its,
            silences=((start := chance.uniform(0, 24 * DAYS), start + chance.choice((0.3, 9, 40))),),
        )
        for name, its in zip("abcd", there, strict=True)
    ]
    story = Story(*HOUSES[number % len(HOUSES)], DAYS, inverters)
    live(story, chance)
    story.inverters = [inverter for inverter in inverters if inverter.rows]
    rows = [row | {"ts": format_ts(row["ts"])} for inverter in story.inverters for row in inverter.rows]
    late = [row for row in rows if chance.random() < 0.02]
    return story, [*(row for row in rows if row not in late), *chance.sample(late, len(late))]


async def said(api: Api, story: Story) -> dict[str, bytes]:
    """Answers about a plant, as they are sent."""
    begin, end = format_ts(story.midnight(0)), format_ts(story.midnight(DAYS))
    cut = format_ts(story.midnight(0) + timedelta(hours=1, minutes=7))
    asked = [
        {"from": start, "to": end, "bucket": bucket} for start in (begin, cut) for bucket in ("1d", "1M")
    ]
    asked += [{"frame": frame, "at": story.first.isoformat()} for frame in ("month", "year", "all")]
    found = {}
    for query in asked:
        url = api.url + "/v1/plants/series"
        async with api.session.get(url, params={"plant": "home", **query}, headers=api.headers()) as answer:
            found[str(query)] = await answer.read()
            assert answer.status == 200, found
    return found


@pytest.mark.parametrize("number", range(2))
async def test_a_server_that_remembers_says_what_a_new_one_says(
    start_server: StartServer, number: int
) -> None:
    chance = random.Random(number)
    story, rows = some_lives(number, chance)
    clock = Clock(AT)
    tokens = ",".join(f"{TOKEN}:{inverter.name}" for inverter in story.inverters)
    async with start_server(clock=clock, device_tokens=tokens) as api:
        zone = story.zone.key
        for inverter in story.inverters:
            name = inverter.name
            await set_device(api.dsn, name, name=None, plant="home", timezone=zone, poll_interval_s=STEP_S)
        ends = [len(rows) * 95 // 100, *sorted(chance.sample(range(len(rows)), STAGES - 2)), len(rows)]
        sent = 0
        for stage, end in enumerate(sorted(ends)):
            while sent < end:
                await api.ingest(*rows[sent : min(end, sent + 900)])
                sent = min(end, sent + 900)
            if stage == STAGES - 2:
                await delete_device(api.dsn, story.inverters[-1].name, deleted=True)
            for _ in range(2):
                remembered = await said(api, story)
            async with start_server(clock=clock, device_tokens=tokens) as new:
                new.rows("DELETE FROM plant_kept RETURNING heard")
                assert await said(new, story) == remembered, stage
            clock.now += timedelta(hours=chance.randrange(30))
        assert api.server.plant_series._memory._buckets


_PV: Final[dict[str, Any]] = {"pv_power_w": 2000, "active_power_w": 2000}


def hours_of(name: str, day: date, hours: int, export_w: int | None, **fields: Any) -> list[dict[str, Any]]:
    """Readings of each minute from 9 o'clock on, UTC; the meter's counters rise with what it says."""
    noon = datetime(day.year, day.month, day.day, 9, tzinfo=UTC)
    rows = []
    for minute in range(60 * hours):
        row = {"device_id": name, "ts": format_ts(noon + timedelta(minutes=minute)), "interval_s": 60}
        if export_w is not None:
            row |= {"export_power_w": export_w, "import_total_kwh": 100}
            row["export_total_kwh"] = round(100 + minute / 60 * export_w / 1000, 1)
        rows.append(row | _PV | fields)
    return rows


async def of_day(api: Api, day: date) -> dict[str, Any]:
    """Bucket of a day, asked for twice: what was put together, and what is remembered."""
    query = {"plant": "home", "frame": "month", "at": day.isoformat()}
    for _ in range(2):
        status, answer = await api.get("/v1/plants/series", **query)
        assert status == 200
    [found] = [one for one in answer["series"] if one["bucket"].startswith(day.isoformat())]
    assert isinstance(found, dict)
    return found


@pytest.fixture
async def old_home(start_server: StartServer) -> AsyncIterator[Api]:
    """Two inverters that were both there from before the fifth of May on, to after it."""
    async with start_server(clock=Clock(AT)) as api:
        for name in ("sh-1", "sh-2"):
            await set_device(api.dsn, name, name=None, plant="home", timezone="Etc/UTC", poll_interval_s=60)
            for day in (1, 9):
                await api.ingest(*hours_of(name, date(2026, 5, day), 1, None))
        yield api


async def test_another_day_on_which_more_is_known_may_change_whose_word_counts_on_this_one(
    old_home: Api, start_server: StartServer
) -> None:
    """Not one reading of this day is new: what is remembered of it is not what is true."""
    day, other = date(2026, 5, 5), date(2026, 5, 7)
    await old_home.ingest(*hours_of("sh-1", day, 3, 1000))
    await old_home.ingest(*hours_of("sh-2", day, 2, 2500))
    before = await of_day(old_home, day)
    assert (before["avg_export_power_w"], before["export_kwh"]) == (1000, 3)
    assert old_home.rows("SELECT count(*) FROM plant_kept")[0][0] > 0
    await old_home.ingest(*hours_of("sh-2", other, 9, 2500))
    changed = await of_day(old_home, day)
    assert (changed["avg_export_power_w"], changed["export_kwh"]) == (
        2000,
        5,
    )  # the third hour is the other's
    async with start_server(clock=Clock(AT)) as fresh:
        fresh.rows("DELETE FROM plant_kept RETURNING heard")
        assert await of_day(fresh, day) == changed


async def test_another_day_may_tell_that_there_are_two_batteries(
    old_home: Api, start_server: StartServer
) -> None:
    day, other = date(2026, 5, 5), date(2026, 5, 7)
    await old_home.ingest(*hours_of("sh-1", day, 3, 1000, battery_soc_pct=60))
    await old_home.ingest(*hours_of("sh-2", day, 2, None))
    assert (await of_day(old_home, day))["avg_battery_soc_pct"] == 60
    assert old_home.rows("SELECT count(*) FROM plant_kept")[0][0] > 0
    await old_home.ingest(*hours_of("sh-2", other, 1, None, battery_soc_pct=20))
    changed = await of_day(old_home, day)
    assert changed["avg_battery_soc_pct"] is None
    async with start_server(clock=Clock(AT)) as fresh:
        fresh.rows("DELETE FROM plant_kept RETURNING heard")
        assert await of_day(fresh, day) == changed


def test_buckets_that_are_remembered_take_little_memory() -> None:
    chance = random.Random(1)
    memory = PlantMemory()
    names = PlantBucket.__struct_fields__
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(10_000):
            begin = AT + timedelta(days=number)
            numbers = {name: chance.random() for name in names}
            told: Any = numbers | {"bucket": begin.isoformat(), "sample_count": 5000 + number, "left_out": []}
            span = Span(begin, begin + timedelta(days=1))
            memory.remember(chance.randbytes(16), span, chance.randbytes(16), PlantBucket(**told))
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(memory._buckets) >= 3800, "ten years of days and months"
    assert after - before < 8 * 2**20
