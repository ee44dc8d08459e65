"""The hourly, daily and monthly aggregates equal a plain recomputation, also around the retention horizon."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from reference_server.storage.migrations import migrate, refresh_aggregates
from tests.server.conftest import Api, Clock, StartServer
from tests.server.test_rollups import as_sample, expected, merged, plain_rollup, stored_rollup

pytestmark = pytest.mark.anyio

STARTS: dict[str, Callable[[datetime], datetime]] = {
    "samples_hourly": lambda at: at.replace(minute=0),
    "samples_daily": lambda at: at.replace(minute=0, hour=0),
    "samples_monthly": lambda at: at.replace(minute=0, hour=0, day=1),
}
WAITED = timedelta(days=20)
"""Time between the readings and the late ones."""


def within_a_month(now: datetime) -> int:
    """Days of retention of which the horizon lies in the middle of a month, a long time ago."""
    month = now.replace(day=15) - timedelta(days=110)
    return (now - month.replace(day=11)).days


@pytest.mark.parametrize("days_of", [within_a_month, lambda _: 80], ids=["usual", "too short for months"])
async def test_late_readings_around_the_horizon_reach_every_aggregate(
    start_server: StartServer, migrated: str, days_of: Callable[[datetime], int]
) -> None:
    now = datetime.now(UTC).replace(microsecond=0)  # the refresh policies know no other time
    days = days_of(now)
    horizon = now - timedelta(days=days)
    migrate(migrated, retention_days=days)
    dice = random.Random(days)
    clock = Clock(now - WAITED)
    known = [reading(dice, horizon - timedelta(days=3) + timedelta(hours=13 * n + 1)) for n in range(80)]
    # Quarters of an hour after the horizon, and then some of every day of the next month.
    late = [reading(dice, horizon + timedelta(minutes=1 + 15 * n)) for n in range(60)]
    late += [reading(dice, horizon + timedelta(days=1, hours=17 * n, minutes=7)) for n in range(50)]
    async with start_server(clock=clock, raw_retention_days=days) as api:
        await api.ingest(*map(as_sample, known))
        await api.server.refresher.refresh_all()
        _run_policies(api)
        refresh_aggregates(api.dsn)  # as after an import
        _require_equal(api, known)
        clock.now = now
        await api.ingest(*map(as_sample, late))
        await api.server.refresher.refresh_all()
        for _ in range(2):
            _run_policies(api)
            await api.server.retention.refresh()
            _require_equal(api, known + late)
            await api.server.retention.drop()


def reading(dice: random.Random, at: datetime) -> dict[str, Any]:
    return {"at": at, "interval_s": 5.0, "pv_power_w": dice.randint(0, 9000), "battery_soc_pct": 50.0}


def _run_policies(api: Api) -> None:
    """Let the refresh policies run, as time would; other engines have none."""
    if not api.rows("SELECT FROM pg_extension WHERE extname = 'timescaledb'"):
        return
    jobs = api.rows(
        "SELECT job_id FROM timescaledb_information.jobs"
        " WHERE proc_name = 'policy_refresh_continuous_aggregate'"
    )
    with psycopg.connect(api.dsn, autocommit=True) as connection:
        for (job,) in jobs:
            connection.execute("CALL run_job(%s)", [job])


def _require_equal(api: Api, rows: list[dict[str, Any]]) -> None:
    plain = plain_rollup(rows)
    assert stored_rollup(api, "rollup_15m", "bucket") == expected(plain)
    for name, start in STARTS.items():
        assert stored_rollup(api, name, "bucket") == expected(merged(plain, start)), name
