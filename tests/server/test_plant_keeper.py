"""What plants did on days that are over is kept before anybody asks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import psycopg
import pytest

from reference_server.administration import erase_device
from tests.server.conftest import Api, StartServer
from tests.server.test_plant_series import HOUR, HYBRID, STRING, closed_days, home, minutes, plant

pytestmark = pytest.mark.anyio


def kept(api: Api) -> list[tuple[bool, datetime]]:
    return api.rows("SELECT is_month, begins FROM plant_sums ORDER BY is_month, begins")


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
        connection.execute("DELETE FROM plant_sums")
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


async def test_devices_in_other_zones_are_no_work_for_ever(api: Api) -> None:
    await home(api, "sh-1", timezone="Europe/Amsterdam")
    await home(api, "sh-2", timezone="Pacific/Auckland")
    await api.ingest(*minutes("sh-1", 2, HOUR - timedelta(days=3, hours=4), **HYBRID))
    await api.ingest(*minutes("sh-2", 2, HOUR - timedelta(days=3, hours=14), **STRING))
    assert await work(api) > 0
    assert await work(api) == 0
    await erase_device(api.dsn, "sh-2")
    assert api.rows("SELECT FROM plant_sums WHERE 2 = ANY(devices)") == []
    assert await work(api) == -1, "one device is no plant of several"
