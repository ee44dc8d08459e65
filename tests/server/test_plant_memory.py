"""What is remembered of plants: the same as is found anew, whatever comes late, and little of it."""

from __future__ import annotations

import random
import tracemalloc
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
