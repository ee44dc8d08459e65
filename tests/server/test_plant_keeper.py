"""What plants did on days that are over is kept before anybody asks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest

from reference_server import together
from reference_server.administration import create_token, erase_device
from reference_server.storage.database import Database
from reference_server.storage.errors import BusyError
from tests.server.conftest import Api, StartServer
from tests.server.test_plant_series import HOUR, HYBRID, STRING, closed_days, home, minutes, plant

pytestmark = pytest.mark.anyio


_WAITING = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


def kept(api: Api) -> list[tuple[bool, datetime]]:
    return api.rows("SELECT is_month, begins FROM plant_kept ORDER BY is_month, begins")


async def work(api: Api) -> int:
    """Let the keeper do all it finds; how many parts it did after it had looked."""
    await api.server.refresher.refresh_all()
    return len([worked_s async for worked_s in api.server.plant_keeper.work()]) - 1


async def test_days_that_are_over_are_kept_before_anybody_asks(api: Api, start_server: StartServer) -> None:
    month = await closed_days(api)
    await api.ingest(*minutes("sh-1", 60, **HYBRID))
    await api.ingest(*minutes("sh-2", 60, **STRING))
    assert await work(api) > 0
    first = datetime(2026, 5, 5, 22, tzinfo=UTC)
    days = [(False, first + timedelta(days=number)) for number in range(3)]
    assert kept(api) == [*days, (True, first - timedelta(days=5))]
    assert await work(api) == 0
    api.clock.now += timedelta(days=1)
    assert await work(api) > 0
    june = (False, datetime(2026, 6, 14, 22, tzinfo=UTC))
    assert kept(api) == [*days, june, (True, first - timedelta(days=5))]
    assert await work(api) == 0
    told = await plant(api, **month)
    with psycopg.connect(api.dsn) as connection:
        connection.execute("DELETE FROM plant_kept")
    async with start_server() as fresh:  # which has kept nothing, and puts all together itself
        assert await plant(fresh, **month) == told


@pytest.mark.parametrize(
    "zone",
    ["Pacific/Honolulu", "Pacific/Kiritimati", "Asia/Kathmandu", "America/New_York", "Australia/Sydney"],
)
async def test_no_day_of_any_zone_is_looked_for_again(api: Api, zone: str) -> None:
    """Neither those on which clocks change, nor those before they did."""
    await home(api, timezone=zone)
    starts = [datetime(2026, 3, 7, 6, tzinfo=UTC) + timedelta(hours=12 * number) for number in range(8)]
    for start in starts:
        await api.ingest(*minutes("sh-1", 2, start, **HYBRID))
        await api.ingest(*minutes("sh-2", 2, start, **STRING))
    assert await work(api) > 0
    days = {start.astimezone(ZoneInfo(zone)).date() for start in starts}
    assert len([begin for is_month, begin in kept(api) if not is_month]) == len(days)
    api.server.plant_keeper._seen.clear()  # as after a restart
    assert await work(api) == 0


async def test_what_fails_once_is_kept_at_the_next_try(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    await closed_days(api, days_ago=100)
    rows = Database.rows

    async def busy(database: Database, name: str, /, **parameters: Any) -> list[tuple[Any, ...]]:
        if name == "plant_powers":
            raise BusyError
        return await rows(database, name, **parameters)

    with monkeypatch.context() as failing:
        failing.setattr(Database, "rows", busy)
        with pytest.raises(BusyError):
            await work(api)
    assert kept(api) == []
    assert await work(api) > 0
    assert len(kept(api)) == 4


async def test_what_the_database_did_not_take_is_kept_at_the_next_pass(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    await closed_days(api, days_ago=100)
    with psycopg.connect(api.dsn) as connection:
        connection.execute("ALTER TABLE plant_kept ADD CONSTRAINT nothing CHECK (false)")
    assert await work(api) > 0
    with psycopg.connect(api.dsn) as connection:
        connection.execute("ALTER TABLE plant_kept DROP CONSTRAINT nothing")
    monkeypatch.setattr(together, "monotonic", lambda: monotonic() + 3600)
    assert await work(api) > 0
    assert len(kept(api)) == 4
    assert await work(api) == 0


async def test_what_was_forgotten_before_it_could_be_kept_is_kept_and_never_told_stale(
    api: Api, start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(together, "_MOST_REMEMBERED", 1)
    month = await closed_days(api, days_ago=100)
    with psycopg.connect(api.dsn) as connection:
        connection.execute("ALTER TABLE plant_kept ADD CONSTRAINT nothing CHECK (false)")
    before = await plant(api, **month)
    assert await plant(api, **month) == before
    late = {"sh-1": 4000, "sh-2": 1000}  # where nobody said anything yet
    for name, power in late.items():
        begin = HOUR + timedelta(hours=3) - timedelta(days=100)
        await api.ingest(*minutes(name, 60, begin, pv_power_w=power, active_power_w=power))
    told = await plant(api, **month)
    assert told != before
    async with start_server() as fresh:
        assert await plant(fresh, **month) == told
    with psycopg.connect(api.dsn) as connection:
        connection.execute("ALTER TABLE plant_kept DROP CONSTRAINT nothing")
    monkeypatch.setattr(together, "monotonic", lambda: monotonic() + 3600)
    assert await work(api) > 0
    assert len(kept(api)) == 4
    assert await plant(api, **month) == told


async def _new_firmware(api: Api) -> None:
    with psycopg.connect(api.dsn) as connection:
        connection.execute("UPDATE devices SET firmware = 'new' WHERE device_id = 'sh-1'")


async def _one_more(api: Api) -> None:
    await home(api, "sh-3")


@pytest.mark.parametrize("change", [_new_firmware, _one_more])
async def test_days_of_a_plant_whose_devices_change_are_kept_at_the_next_pass(
    api: Api, change: Callable[[Api], Awaitable[None]]
) -> None:
    await closed_days(api, days_ago=100)
    elsewhere = await create_token(api.dsn, "all", ["ingest"], None, None)
    await api.ingest(*minutes("sh-3", 60, HOUR - timedelta(days=100), **STRING), token=elsewhere)
    await api.server.refresher.refresh_all()
    changes = iter([change])
    async for _ in api.server.plant_keeper.work():
        for make in changes:  # while it pauses, after it has looked
            await make(api)
    await work(api)
    in_all = len(kept(api))
    api.server.plant_keeper._seen.clear()  # as after a restart
    await work(api)
    assert len(kept(api)) == in_all >= 4


async def test_who_asks_waits_for_nobody_who_changes_a_device(api: Api) -> None:
    month = await closed_days(api)
    await api.server.refresher.refresh_all()
    with psycopg.connect(api.dsn) as connection:
        connection.execute("UPDATE devices SET name = 'Roof' WHERE device_id = 'sh-2'")
        asking = asyncio.create_task(plant(api, **month))
        while not asking.done():
            assert api.rows(_WAITING) == []
            await asyncio.sleep(0.02)
        told = await asking
        assert kept(api) == []
        connection.rollback()
    assert await plant(api, **month) == told


async def test_devices_in_other_zones_are_no_work_for_ever(api: Api) -> None:
    await home(api, "sh-1", timezone="Europe/Amsterdam")
    await home(api, "sh-2", timezone="Pacific/Auckland")
    await api.ingest(*minutes("sh-1", 2, HOUR - timedelta(days=3, hours=4), **HYBRID))
    await api.ingest(*minutes("sh-2", 2, HOUR - timedelta(days=3, hours=14), **STRING))
    assert await work(api) > 0
    assert await work(api) == 0
    with psycopg.connect(api.dsn) as connection:  # as an older server keeps them
        connection.execute("INSERT INTO plant_sums VALUES ('{1,2}', true, now(), 'digest', 1, 2)")
    await erase_device(api.dsn, "sh-2")
    assert api.rows("SELECT FROM plant_sets WHERE 2 = ANY(devices)") == []
    assert api.rows("SELECT FROM plant_sums") == []
    assert await work(api) == -1, "one device is no plant of several"


async def test_nothing_is_kept_of_a_device_that_an_older_server_erased(api: Api) -> None:
    await closed_days(api)
    await work(api)
    assert kept(api)
    with psycopg.connect(api.dsn) as connection:
        connection.execute(
            "DELETE FROM rollup_day USING devices d WHERE rollup_day.device = d.device AND device_id = 'sh-2'"
        )
    await work(api)
    assert kept(api) == []
    assert api.rows("SELECT FROM plant_sets") == []
