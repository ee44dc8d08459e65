"""What is frozen stays so, however long raw readings are to be kept later."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest

from reference_server import history
from reference_server.history import ImportResult, import_csv
from reference_server.storage import horizon
from reference_server.storage.errors import StorageError
from reference_server.storage.migrations import migrate
from reference_server.storage.retention import IMPORTS
from reference_server.storage.rollups import LOCK_NAMESPACE, SHARDS
from reference_server.zones import quarter_of
from sungrow_lib.sample import format_ts
from tests.patience import PATIENCE_S
from tests.server.conftest import NOW, Api, StartServer
from tests.server.test_energy_truth import as_sent, house, sent, told

pytestmark = pytest.mark.anyio

KEPT: Final = 2
DAY: Final = timedelta(days=1)
BEGIN: Final = NOW - 5 * DAY
FROZEN: Final = quarter_of(NOW) - KEPT * DAY
"""Up to here all was frozen when readings were dropped for the last time."""

LATE: Final = [BEGIN + timedelta(minutes=7), NOW - 4 * DAY, FROZEN - DAY - timedelta(minutes=3)]
LATE.append(FROZEN - timedelta(seconds=1))
_DUE: Final = f"SELECT count(*) FROM samples WHERE ts < date_trunc('day', timestamptz '{FROZEN}')"
_WAITING: Final = (
    "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
)


async def _filled(api: Api, end: datetime = NOW) -> None:
    """Readings as they came, and those dropped that were old by the end."""
    rows = house(BEGIN, end)
    for day in range(1, 6):
        api.clock.now = min(BEGIN + day * DAY, end)
        await sent(api, [row for row in rows if api.clock.now - DAY <= row["at"] < api.clock.now])
    await api.server.retention.drop()


def _rollups(api: Api, until: datetime = FROZEN) -> list[tuple[Any, ...]]:
    return api.rows(f"SELECT * FROM rollup_15m WHERE bucket < timestamptz '{until}' ORDER BY bucket")


async def _ask_for_all_anew(api: Api) -> None:
    """Mark every quarter of an hour, as a server of another retention might have."""
    with psycopg.connect(api.dsn) as connection:
        connection.execute("INSERT INTO rollup_marks (device, bucket) SELECT device, bucket FROM rollup_15m")
    await api.server.refresher.refresh_all()


async def test_late_readings_leave_what_was_frozen_alone_when_it_is_kept_longer(
    start_server: StartServer,
) -> None:
    async with start_server(raw_retention_days=KEPT) as api:
        await _filled(api)
        before, days = _rollups(api), await told(api, BEGIN, NOW)
    async with start_server(raw_retention_days=400) as api:
        for at in LATE:
            answer = await api.ingest(as_sent({"at": at, "pv_power_w": 3000, "pv_total_kwh": 501.0}))
            assert answer["inserted"] == 1
        aside = api.rows("SELECT ts FROM kept_aside WHERE reason = 'behind_horizon' ORDER BY ts")
        assert aside == [(at,) for at in sorted(LATE)]
        await _ask_for_all_anew(api)
        assert _rollups(api) == before
        assert await told(api, BEGIN, NOW) == days
        await sent(api, [{"at": FROZEN + timedelta(seconds=1), "pv_power_w": 3000, "interval_s": 1.0}])
        assert _rollups(api) == before
        assert [one["pv_kwh"] for one in await told(api, BEGIN, NOW)] == [one["pv_kwh"] for one in days]


async def test_what_needs_single_readings_goes_by_those_that_are_there(start_server: StartServer) -> None:
    async with start_server(raw_retention_days=KEPT) as api:
        await _filled(api)
    async with start_server(raw_retention_days=400) as api:
        begin = BEGIN + timedelta(minutes=7)
        span = {"from": format_ts(begin), "to": format_ts(begin + timedelta(minutes=30))}
        status, answer = await api.get("/v1/series", device_id="sh-1", bucket="1h", **span)
        assert status == 200
        assert [one["sample_count"] for one in answer["series"]] == [9]  # widened to whole quarters
        status, problem = await api.get("/v1/series", device_id="sh-1", bucket="5m", **span)
        assert (status, format_ts(FROZEN) in problem["detail"]) == (422, True)
        _, listed = await api.get("/v1/devices")
        assert listed["raw_since"] == format_ts(FROZEN)
        delivered = [format_ts(BEGIN + timedelta(minutes=10))]
        assert not (await api.ingest(as_sent({"at": NOW}), last_delivered=delivered))["resend"]


async def test_a_process_with_another_retention_leaves_it_alone_at_once(start_server: StartServer) -> None:
    async with (
        start_server(raw_retention_days=400) as other,
        start_server(raw_retention_days=KEPT, clock=other.clock) as api,
    ):
        await other.get("/v1/devices")  # it knows of nothing that was dropped
        await _filled(api)
        before = _rollups(api)
        await other.ingest(*(as_sent({"at": at, "pv_power_w": 3000}) for at in LATE))
        await _ask_for_all_anew(other)
        assert _rollups(api) == before


async def test_it_is_heard_of_while_requests_are_answered(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(horizon, "_LOOK_AGAIN_S", 0.0)
    async with (
        start_server(raw_retention_days=400) as other,
        start_server(raw_retention_days=KEPT, clock=other.clock) as api,
    ):
        _, listed = await other.get("/v1/devices")
        assert listed["raw_since"] == format_ts(NOW - 400 * DAY)
        await _filled(api)
        _, listed = await other.get("/v1/devices")
        assert listed["raw_since"] == format_ts(FROZEN)


async def _waits(api: Api, dropping: asyncio.Task[None]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not api.rows(_WAITING):
            assert not dropping.done(), "it waits for nobody"
            await asyncio.sleep(0.01)


async def test_who_drops_waits_for_who_makes_rollups_anew(start_server: StartServer) -> None:
    """Else a refresh that began before it would find a part of the readings."""
    async with start_server(raw_retention_days=KEPT) as api:
        await _filled(api)
        api.clock.now = NOW + DAY
        with psycopg.connect(api.dsn) as refreshing:
            [(shard,)] = api.rows(f"SELECT device % {SHARDS} FROM devices")
            refreshing.execute("SELECT pg_advisory_xact_lock(%s, %s)", [LOCK_NAMESPACE, shard])
            dropping = asyncio.create_task(api.server.retention.drop())
            await _waits(api, dropping)
            assert api.rows("SELECT until FROM raw_dropped") == [(FROZEN,)]
            assert api.rows(_DUE) != [(0,)]
        await dropping
        assert api.rows(_DUE) == [(0,)]


async def test_who_drops_waits_again_after_having_waited_for_too_long(start_server: StartServer) -> None:
    async with start_server(raw_retention_days=KEPT) as api:
        await _filled(api)
        api.clock.now = NOW + DAY
        with psycopg.connect(api.dsn) as refreshing:
            [(shard,)] = api.rows(f"SELECT device % {SHARDS} FROM devices")
            refreshing.execute("SELECT pg_advisory_xact_lock(%s, %s)", [LOCK_NAMESPACE, shard])
            dropping = asyncio.create_task(api.server.retention.drop())
            await _waits(api, dropping)
            api.rows(_WAITING.replace("SELECT", "SELECT pg_cancel_backend(pid)"))  # as after 20 seconds
            with pytest.raises(StorageError):
                await dropping
            dropping = asyncio.create_task(api.server.retention.drop())
            await _waits(api, dropping)
            assert api.rows(_DUE) != [(0,)]
        await dropping
        assert api.rows(_DUE) == [(0,)]


async def test_while_an_import_goes_on_nothing_is_said_to_be_dropped(start_server: StartServer) -> None:
    async with start_server(raw_retention_days=KEPT) as api:
        await _filled(api)
        before = api.rows("SELECT until FROM raw_dropped")
        api.clock.now = NOW + DAY
        with psycopg.connect(api.dsn, autocommit=True) as importing:
            importing.execute("SELECT pg_advisory_lock_shared(%s, 0)", [IMPORTS])
            await api.server.retention.drop()
            assert api.rows(_DUE) != [(0,)]
            assert api.rows("SELECT until FROM raw_dropped") == before
            importing.execute("SELECT pg_advisory_unlock_shared(%s, 0)", [IMPORTS])
        await api.server.retention.drop()
        assert api.rows(_DUE) == [(0,)]
        assert api.rows("SELECT until FROM raw_dropped") == [(FROZEN,)]


async def test_kept_for_a_shorter_time_again_it_goes_by_that(start_server: StartServer) -> None:
    async with start_server(raw_retention_days=KEPT) as api:
        await _filled(api)
    async with start_server(raw_retention_days=400) as api:
        await api.server.retention.drop()
        assert api.rows("SELECT until FROM raw_dropped") == [(FROZEN - DAY,)]
    async with start_server(raw_retention_days=1) as api:
        await api.ingest(as_sent({"at": FROZEN + timedelta(seconds=7), "pv_power_w": 1}))
        assert api.rows("SELECT reason FROM kept_aside") == [("behind_horizon",)]
        await api.server.retention.drop()
        assert api.rows("SELECT until FROM raw_dropped") == [(NOW - 2 * DAY,)]


async def test_an_import_leaves_it_alone_and_fills_what_has_no_rollup(
    start_server: StartServer, tmp_path: Path
) -> None:
    file = tmp_path / "late.csv"
    file.write_text("ts,pv_power_w\n" + "".join(f"{format_ts(at)},3000\n" for at in LATE))
    async with start_server(raw_retention_days=KEPT) as api:
        await _filled(api)
        before = _rollups(api)
        years = timedelta(days=4000)
        result = await import_csv(api.dsn, file, "sh-1", source="test", retention=years)
        assert (result.inserted, result.aside) == (0, len(LATE))
        assert _rollups(api) == before
        result = await import_csv(api.dsn, file, "sh-2", source="test", retention=years)
        assert (result.inserted, result.aside) == (len(LATE), 0)


async def test_an_import_goes_by_one_horizon_up_to_its_end(
    api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However far into it a process of a shorter retention says what it was about to drop."""
    monkeypatch.setattr(history, "_ROWS_AT_ONCE", 2)
    first = quarter_of(NOW - 5 * DAY)
    minutes = [first + timedelta(minutes=number) for number in range(14)]
    await sent(api, [{"at": minutes[0], "pv_power_w": 1000, "interval_s": 60.0}])
    file = tmp_path / "late.csv"
    file.write_text(
        "ts,pv_power_w,interval_s\n" + "".join(f"{format_ts(at)},1000,60\n" for at in minutes[1:])
    )

    def report(_result: ImportResult) -> None:
        with psycopg.connect(api.dsn) as connection:
            moved = "INSERT INTO raw_dropped (until) VALUES (%s) ON CONFLICT (is_all) DO NOTHING"
            connection.execute(moved, [first + DAY])

    years = timedelta(days=4000)
    result = await import_csv(api.dsn, file, "sh-1", source="test", retention=years, report=report)
    assert (result.inserted, result.aside) == (13, 0)
    assert api.rows("SELECT sample_count FROM rollup_15m") == [(14,)]


async def test_a_clock_that_was_wrong_for_a_while_keeps_nothing_aside_for_ever(
    start_server: StartServer,
) -> None:
    async with start_server(raw_retention_days=400) as api:
        await _filled(api)
        api.clock.now = NOW + timedelta(days=30_000)
        await api.server.retention.drop()
        assert api.rows("SELECT count(*) FROM samples") == [(0,)]
        api.clock.now = NOW + timedelta(minutes=5)
        await sent(api, house(NOW, api.clock.now))
        assert api.rows("SELECT count(*) FROM samples") == [(1,)]
        assert api.rows("SELECT count(*) FROM kept_aside") == [(0,)]
        assert api.rows("SELECT until < timestamptz '2026-06-18' FROM raw_dropped") == [(True,)]


def test_an_older_database_says_what_it_dropped(database: str) -> None:
    migrate(database, retention_days=30)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("DROP TABLE raw_dropped")
        connection.execute("DELETE FROM schema_history WHERE name = '0015_raw_dropped'")
        migrate(database, retention_days=500)
        assert connection.execute("SELECT count(*) FROM raw_dropped").fetchone() == (0,)  # nothing there
        connection.execute("DROP TABLE raw_dropped")
        connection.execute("DELETE FROM schema_history WHERE name = '0015_raw_dropped'")
        connection.execute("UPDATE schema_history SET checksum = 'x 30' WHERE name ~ '/'")
        connection.execute(
            "INSERT INTO rollup_day (device, day, sample_count, covered_ms) VALUES (1, '2020-01-01', 1, 1)"
        )
        migrate(database, retention_days=500)
        found = connection.execute(
            "SELECT now() - until BETWEEN '31 days' AND '31 days 16 minutes' FROM raw_dropped"
        ).fetchone()
        assert found == (True,)
