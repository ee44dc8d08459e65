"""What is said of a plant stays the same when its single readings are gone."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import pytest

from reference_server.administration import set_device
from sungrow_lib.sample import format_ts
from tests.server.conftest import TOKEN, Api, Clock, StartServer
from tests.server.test_plant_truth import AMSTERDAM, HOWE, NEPAL, STEP_S, Inverter, Story, live

pytestmark = pytest.mark.anyio

KEPT: Final = 100
SLOTS: Final = 12
"""Slots of an hour."""
HOUSES: Final = ((AMSTERDAM, date(2026, 3, 29)), (HOWE, date(2026, 4, 5)), (NEPAL, date(2026, 5, 30)))
LATER: Final = datetime(2026, 6, 2, tzinfo=UTC)


def some_lives(number: int, chance: random.Random) -> Story:
    """A day on which an inverter ends within the quarter of an hour in which another one begins."""
    quarter = chance.randrange(20, 80)

    def change() -> float:
        return (3 * quarter + chance.randrange(4)) / SLOTS

    there = [(0.0, change()), (change(), 999.0)]
    there += [(0.0, chance.choice((999.0, change()))) for _ in range(chance.choice((0, 0, 1, 2)))]
    inverters = [
        Inverter(
            f"sh-{number}-{name}",
            chance.choice((0.5, 1)),
            has_meter=chance.random() < 0.8,
            has_battery=chance.random() < 0.7,
            there=its,
        )
        for name, its in zip(chance.sample("abcd", len(there)), there, strict=True)
    ]
    story = Story(*HOUSES[number % len(HOUSES)], 1, inverters)
    live(story, chance)
    story.inverters = [inverter for inverter in inverters if inverter.rows]
    return story


async def lived(api: Api, story: Story, plant: str) -> None:
    zone = story.zone.key
    for inverter in story.inverters:
        await set_device(
            api.dsn, inverter.name, name=None, plant=plant, timezone=zone, poll_interval_s=STEP_S
        )
        await api.ingest(*(row | {"ts": format_ts(row["ts"])} for row in inverter.rows))


async def told(api: Api, story: Story, plant: str) -> dict[str, list[dict[str, Any]]]:
    """All that is said of a story."""
    span = {"from": format_ts(story.midnight(0)), "to": format_ts(story.midnight(1))}
    asked = {bucket: {"bucket": bucket, **span} for bucket in ("15m", "1h", "1d", "1M")}
    at = story.first.isoformat()
    asked |= {frame: {"frame": frame, "at": at} for frame in ("day", "month", "year")}
    found = {}
    for name, query in asked.items():
        status, answer = await api.get("/v1/plants/series", plant=plant, **query)
        assert status == 200, answer
        found[name] = [bucket for bucket in answer["series"] if bucket["sample_count"]]
    return found


async def test_a_plant_whose_single_readings_are_gone(start_server: StartServer) -> None:
    stories = {f"home-{number}": some_lives(number, random.Random(number)) for number in range(12)}
    tokens = ",".join(
        f"{TOKEN}:{inverter.name}" for story in stories.values() for inverter in story.inverters
    )
    clock = Clock(LATER)
    settings = {"clock": clock, "device_tokens": tokens, "raw_retention_days": KEPT}
    async with start_server(**settings) as api:
        for plant, story in stories.items():
            await lived(api, story, plant)
        before = {plant: await told(api, story, plant) for plant, story in stories.items()}
    clock.now += timedelta(days=KEPT)
    async with start_server(**settings) as api:
        await api.server.retention.drop()
        assert api.rows("SELECT count(*) FROM samples") == [(0,)]
        for plant, story in stories.items():
            assert await told(api, story, plant) == before[plant], plant
