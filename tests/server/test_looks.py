"""Looks at readings find what a look at all of them finds, and open the chunks of a few days."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import partial

import psycopg
import pytest

from reference_server.administration import erase_device
from reference_server.history import export_samples
from reference_server.storage.arrivals import LateBatch, _note
from reference_server.storage.connection import Connection, Result
from reference_server.storage.database import Database, fetch, session
from reference_server.storage.looks import (
    first_reading,
    last_firmware,
    latest_rows,
    newest_stamp,
    next_stamps,
    reading_spans,
    rows_after,
    rows_between,
)
from reference_server.storage.rollups import recompute
from reference_server.storage.samples import missing_keys, stored_rows
from reference_server.zones import near_each_other, quarter_of
from sungrow_lib.sample import format_ts
from tests.server.conftest import NOW, Api, Clock, StartServer, sample

pytestmark = pytest.mark.anyio

DAY_S = 86_400
MS = timedelta(milliseconds=1)
BEGINNING = datetime(1, 1, 1, tzinfo=UTC)
FEW = 8


def test_what_is_near_each_other_stays_together() -> None:
    moments = [NOW + timedelta(days=n) for n in (9, 0, 2, 8, 5)]
    groups = near_each_other(moments, key=lambda at: at, most=timedelta(days=2))
    assert [[(at - NOW).days for at in group] for group in groups] == [[0, 2], [5], [8, 9]]


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Etc/GMT+12"])  # the ends of all days
@pytest.mark.parametrize("seed", range(3))
async def test_looks_find_what_there_is(api: Api, zone: str, seed: int) -> None:
    dice = random.Random(seed)
    moments = sorted(NOW - timedelta(seconds=round(dice.random() ** 2 * 70 * DAY_S)) for _ in range(60))
    rows = [{"device_id": "sh-1", "ts": format_ts(at)} for at in moments]
    parts = list(rows)
    dice.shuffle(parts)
    await api.ingest(*parts[:40], device={"timezone": zone})
    await api.server.refresher.refresh_all()
    await _require_all_found(api, sorted(datetime.fromisoformat(row["ts"]) for row in parts[:40]), dice)
    await api.ingest(*parts[40:])  # marked, and not rolled up yet
    await _require_all_found(api, sorted(set(moments)), dice)


async def _require_all_found(api: Api, moments: list[datetime], dice: random.Random) -> None:
    database = api.server.database
    [(device,)] = api.rows("SELECT device FROM devices WHERE device_id = 'sh-1'")
    assert await first_reading(database, device) == moments[0]
    assert await newest_stamp(database, device) == moments[-1]
    for after in (BEGINNING, *dice.sample(moments, 5), moments[-2] - MS, moments[-1]):
        later = [at for at in moments if at > after]
        assert await next_stamps(database, {device: after}) == ({device: later[0]} if later else {})
        for limit in (1, 7, 1000):
            assert [row.ts for row in await rows_after(database, {device: after}, limit)] == later[:limit]
        until = dice.choice(moments)
        between = [at for at in later if at < until]
        assert [r.ts for r in await rows_between(database, device, after, until, 9)] == between[:9]
    for limit in (1, 7, 1000):
        found = [row.ts for row in await latest_rows(database, device, moments[-1], limit)]
        # Late ones of days before are found once they are rolled up, or all are wanted.
        assert found == sorted(found, reverse=True)
        assert found[0] == moments[-1]
        assert len(found) == min(limit, len(moments))
    assert found == moments[::-1]


async def test_the_newest_reading_is_found_wherever_it_is_marked(api: Api) -> None:
    """Within the days around the last one that is rolled up, at their edges, and beyond."""
    midnight = (NOW - timedelta(days=20)).replace(hour=0)
    await api.ingest({"device_id": "sh-1", "ts": format_ts(midnight + timedelta(hours=12))})
    await api.server.refresher.refresh_all()
    [(device,)] = api.rows("SELECT device FROM devices WHERE device_id = 'sh-1'")

    async def comes(at: datetime) -> None:
        await api.ingest({"device_id": "sh-1", "ts": format_ts(at)})
        assert await newest_stamp(api.server.database, device) == at

    end = midnight + timedelta(days=2)
    for seconds in (-DAY_S, -900, -1, 0, 1, 899, 3 * DAY_S):
        await comes(end + timedelta(seconds=seconds))
    with psycopg.connect(api.dsn) as connection:  # as retention does, but for the marks
        connection.execute("DELETE FROM samples")
        connection.execute("DELETE FROM rollup_marks")
    for begin in (midnight - timedelta(days=1, seconds=1), midnight - timedelta(days=1)):
        await comes(begin)


async def test_a_device_without_readings_has_none(api: Api) -> None:
    await api.ingest(sample())
    database = api.server.database
    for device in (4711,):
        assert await first_reading(database, device) is None
        assert await newest_stamp(database, device) is None
        assert await next_stamps(database, {device: BEGINNING}) == {}
        assert await rows_after(database, {device: BEGINNING}, 9) == []
        assert await rows_between(database, device, BEGINNING, NOW, 9) == []
        assert await latest_rows(database, device, NOW, 9) == []
        assert await last_firmware(database, device, NOW, timedelta(days=400)) == (None, None)


async def test_all_readings_are_exported_and_erased_a_month_at_a_time(api: Api) -> None:
    days = (398, 397, 369, 366, 200, 31, 0)
    await api.ingest(*(sample(-DAY_S * day, pv_power_w=day) for day in days[2:]))
    await api.server.refresher.refresh_all()
    await api.ingest(*(sample(-DAY_S * day, pv_power_w=day) for day in days[:2]))  # known by its marks alone
    await api.ingest(sample(-DAY_S * 368, device_id="sh-2"))
    stamps = [NOW - timedelta(days=day, minutes=1) for day in days]
    begin, end = stamps[1], stamps[4] + timedelta(milliseconds=1)
    async with session(api.dsn) as connection:
        spans = [span async for span in reading_spans(connection, 1)]
        bounded = [span async for span in reading_spans(connection, 1, begin, end)]
    assert [[ts for ts in stamps if start <= ts < stop] for start, stop in spans] == [
        stamps[:3], stamps[3:4], stamps[4:5], stamps[5:6], stamps[6:],
    ]  # fmt: skip
    assert {stop - start for start, stop in spans} == {timedelta(days=31)}
    assert [ts for ts in stamps if any(start <= ts < stop for start, stop in bounded)] == stamps[1:5]
    out = io.StringIO()
    await export_samples(api.dsn, "sh-1", begin, end, out)
    assert [json.loads(line)["pv_power_w"] for line in out.getvalue().splitlines()] == [397, 369, 366, 200]
    assert await erase_device(api.dsn, "sh-1") == len(days)
    assert api.rows("SELECT device, count(*) FROM samples GROUP BY 1") == [(2, 1)]
    assert await erase_device(api.dsn, "sh-1") == 0


async def test_the_first_reading_is_told_when_single_readings_are_gone(start_server: StartServer) -> None:
    clock = Clock(NOW)
    async with start_server(clock=clock, raw_retention_days=10) as api:
        at = [NOW - timedelta(days=5, minutes=4), NOW - timedelta(days=5), NOW - timedelta(days=2)]
        await api.ingest(*({"device_id": "sh-1", "ts": format_ts(ts)} for ts in at))
        await api.server.refresher.refresh_all()
        clock.now = NOW + timedelta(days=8)
        await api.server.retention.drop()
        assert await _span(api) == (quarter_of(at[0]), at[2], "stale")
        clock.now = NOW + timedelta(days=40)
        await api.server.retention.drop()
        assert api.rows("SELECT count(*) FROM samples") == [(0,)]
        assert await _span(api) == (quarter_of(at[0]), quarter_of(at[2]), "stale")


async def _span(api: Api) -> tuple[datetime, datetime, str]:
    _, answer = await api.get("/v1/devices")
    [device] = answer["devices"]
    return *(datetime.fromisoformat(device[name]) for name in ("first_ts", "last_ts")), device["health"]


class OneTransaction(Database):
    """Asks within one transaction."""

    def __init__(self, connection: Connection) -> None:
        super().__init__("")
        self.connection = connection

    async def run(
        self, job: Callable[[Connection], Awaitable[Result]], *, is_one_statement: bool = False
    ) -> Result:
        del is_one_statement
        return await job(self.connection)


async def test_looks_open_few_of_many_days(api: Api) -> None:
    """TimescaleDB opens every chunk a plan may need: of ten years of them, that takes half a minute."""
    if not api.rows("SELECT FROM pg_extension WHERE extname = 'timescaledb'"):
        return
    await api.ingest(*(sample(-DAY_S * day, device_id="sh-2", firmware="1") for day in range(60)))
    await api.ingest(*(sample(-DAY_S * day - n) for day in (40, 41) for n in range(5)))
    await api.server.refresher.refresh_all()
    late, fresh = sample(-DAY_S * 58 - 7, device_id="sh-2"), sample(-7, device_id="sh-2")
    await api.ingest(late, fresh)
    [(still, newest), (busy, _)] = api.rows(
        "SELECT device, max(ts) FROM samples JOIN devices USING (device) GROUP BY 1 ORDER BY max(device_id)"
    )
    wanted = {(busy, quarter_of(datetime.fromisoformat(row["ts"]))) for row in (late, fresh)}

    async def listed(database: OneTransaction) -> None:
        assert len(await database.rows("list_devices", device_ids=None)) == 2
        assert len(await database.rows("device_lags", limit=9)) == 2

    async def of_a_silent_device(database: OneTransaction) -> None:
        assert await newest_stamp(database, still) == newest
        assert len(await latest_rows(database, still, newest, 1000)) == 10
        assert await rows_after(database, {still: newest}, 9) == []
        assert len(await rows_after(database, {still: BEGINNING}, 9)) == 9

    async def of_rare_readings(database: OneTransaction) -> None:
        assert len(await latest_rows(database, busy, NOW, 2)) == 2
        assert len(await rows_between(database, busy, BEGINNING, NOW, 2)) == 2
        assert (await last_firmware(database, busy, NOW, timedelta(days=4000)))[0]

    async def asked_all_day(database: OneTransaction) -> None:
        [(seen,)] = await fetch(database.connection, "newest_stamp", device=busy)
        key = (busy, seen)
        assert await stored_rows(database.connection, [key])
        assert not await missing_keys(database.connection, [key])
        assert await rows_after(database, {busy: seen - timedelta(seconds=30)}, 9)
        quarter = (busy, quarter_of(seen))
        await recompute(database.connection, {quarter}, horizon=NOW - timedelta(days=300))

    async def noted(database: OneTransaction) -> None:
        at = [datetime.fromisoformat(row["ts"]) for row in (late, fresh)]
        await _note(database.connection, [LateBatch(busy, ts, ts, 1) for ts in at])

    async def recomputed(database: OneTransaction) -> None:
        await recompute(database.connection, wanted, horizon=NOW - timedelta(days=300))

    for job, most in (
        (listed, 12),
        (of_a_silent_device, FEW),
        (of_rare_readings, FEW + 4),
        (asked_all_day, FEW),
        (noted, FEW),
        (recomputed, 14),
    ):
        count = await api.server.database.run(partial(_opened_chunks, job=job))
        assert 0 < count <= most, (job, count)


async def _opened_chunks(connection: Connection, job: Callable[[OneTransaction], Awaitable[None]]) -> int:
    """How many chunks of `samples` a transaction has opened."""
    await job(OneTransaction(connection))
    cursor = await connection.execute(
        "SELECT count(DISTINCT relation) FROM pg_locks JOIN show_chunks('samples') c ON relation = c"
        " WHERE pid = pg_backend_pid()"
    )
    [(count,)] = await cursor.fetchall()
    return int(count)
