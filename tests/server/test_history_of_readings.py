"""What goes wrong with years of readings: replays, late rows, bulk loads, a row from 2099, retention.

On TimescaleDB the readings are compressed first and the continuous aggregates refreshed by their own
policies; the answers must be the same on every engine.
"""

from __future__ import annotations

import asyncio
import gc
import io
import os
import re
import sys
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest

from reference_server import history
from reference_server.history import ImportBrokenOffError, ImportResult, export_samples, import_csv
from reference_server.storage import migrations
from reference_server.storage.database import fetch, session
from reference_server.storage.errors import StorageError
from reference_server.storage.migrations import migrate
from reference_server.storage.retention import IMPORTS
from reference_server.storage.rollups import LOCK_NAMESPACE
from reference_server.storage.schema_sql import rollup_columns
from sungrow_lib.errors import UsageError
from sungrow_lib.sample import format_ts
from tests.server.conftest import NOW, Api, Clock, StartServer, sample, serving

pytestmark = pytest.mark.anyio

DAY_S = 86_400
SUMS = "sum(sample_count)::int8, sum(pv_power_w_sum)::int8, max(pv_power_w_max), sum(covered_ms)::int8"
_IMPORTS_GO_ON = f"""
SELECT FROM pg_locks l JOIN pg_database d ON d.oid = l.database
WHERE l.locktype = 'advisory' AND l.classid = {IMPORTS} AND d.datname = current_database()
"""
AGGREGATES = ("samples_hourly", "samples_daily", "samples_monthly")


def _is_timescale(api: Api) -> bool:
    return bool(api.rows("SELECT FROM pg_extension WHERE extname = 'timescaledb'"))


def _settle(api: Api, *, every: int = 1) -> None:
    """Compress (one chunk of ``every``) and let the refresh policies run, as time would.

    Other engines have neither.
    """
    if not _is_timescale(api):
        return
    with psycopg.connect(api.dsn, autocommit=True) as connection:
        connection.execute(
            "SELECT compress_chunk(c, true) FROM show_chunks('samples') WITH ORDINALITY AS s(c, n)"
            " WHERE n %% %s = 0",
            [every],
        )
        jobs = connection.execute(
            "SELECT job_id FROM timescaledb_information.jobs"
            " WHERE proc_name = 'policy_refresh_continuous_aggregate'"
        ).fetchall()
        assert len(jobs) == len(AGGREGATES)
        for (job,) in jobs:
            connection.execute("CALL run_job(%s)", [job])


def _agree(api: Api, until: datetime = NOW + timedelta(days=1)) -> list[tuple[Any, ...]]:
    """What the aggregates say must be what the quarters of an hour say."""
    where = f"WHERE bucket < '{until.isoformat()}'"
    quarters = api.rows(f"SELECT {SUMS} FROM rollup_15m {where}")
    for name in AGGREGATES:
        assert api.rows(f"SELECT {SUMS} FROM {name} {where}") == quarters, name
    return quarters


async def test_a_replay_onto_compressed_readings_skips_no_new_one(api: Api) -> None:
    known = [sample(-DAY_S * day - 10 * n, pv_power_w=n) for day in range(3) for n in range(20)]
    await api.ingest(*known)
    _settle(api)
    new = [sample(-DAY_S * day - 10 * n - 5, pv_power_w=n) for day in range(3) for n in range(20)]
    mixed = [row for pair in zip(known, new, strict=True) for row in pair]
    other = known[0] | {"pv_power_w": 4_321}
    answer = await api.ingest(*mixed, other)
    assert (answer["inserted"], answer["duplicates"]) == (60, 60)
    assert [verdict["code"] for verdict in answer["conflicts"]] == ["different_value"]
    assert api.rows("SELECT count(*) FROM samples") == [(120,)]
    again = await api.ingest(*mixed)
    assert (again["inserted"], again["duplicates"]) == (0, 120)


async def test_late_readings_reach_every_rollup(api: Api) -> None:
    await api.ingest(*(sample(-DAY_S * day, pv_power_w=100) for day in range(0, 80, 2)))
    await api.server.refresher.refresh_all()
    _settle(api)
    before = _agree(api)
    late = [sample(-DAY_S * day + 5, pv_power_w=900, interval_s=5) for day in range(1, 80, 20)]
    assert (await api.ingest(*late))["inserted"] == len(late)
    await api.server.refresher.refresh_all()
    _settle(api)
    after = _agree(api)
    assert after != before
    assert after[0][0] == 40 + len(late)
    assert after[0][2] == 900


async def test_an_import_onto_compressed_readings_skips_no_new_one(
    api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Goes by `ON CONFLICT DO NOTHING`, which once stopped at the first conflict in a compressed chunk."""
    monkeypatch.setattr(history, "_ROWS_AT_ONCE", 40)  # so that one part meets readings of the part before
    file = tmp_path / "day.csv"
    moments = [NOW - timedelta(days=1, seconds=5 * n) for n in range(60)]
    for part in (moments[::2], moments):
        lines = [f"{format_ts(ts)},{ts.second}" for ts in part]
        file.write_text("ts,pv_power_w\n" + "\n".join(lines) + "\n")
        result = await import_csv(api.dsn, file, "sh-1", source="test", retention=timedelta(days=400))
        assert result.inserted == 30
        _settle(api)
    assert result.duplicates == 30
    assert api.rows("SELECT count(*) FROM samples") == [(60,)]
    assert _agree(api)[0][0] == 60


async def test_a_row_from_2099_hides_nothing_that_comes_after_it(start_server: StartServer) -> None:
    clock = Clock(datetime.now(UTC).replace(microsecond=0))  # the refresh policies know no other time
    moments = [format_ts(clock.now - timedelta(seconds=60 - n)) for n in range(3)]
    async with start_server(clock=clock) as api:
        await api.ingest({"device_id": "sh-1", "ts": moments[0], "pv_power_w": 1})
        with psycopg.connect(api.dsn) as connection:  # no way of ours lets it in; a hand in the database may
            connection.execute("INSERT INTO samples (device, ts) SELECT device, '2099-01-01Z' FROM devices")
            connection.execute(
                "INSERT INTO rollup_marks (device, bucket) SELECT device, '2099-01-01Z' FROM devices"
            )
        await api.server.refresher.refresh_all()
        _settle(api)
        await api.ingest(*({"device_id": "sh-1", "ts": ts, "pv_power_w": 2} for ts in moments[1:]))
        await api.server.refresher.refresh_all()
        until = clock.now + timedelta(days=40)
        assert _agree(api, until)[0][0] == 3  # at once, not when the policies come round
        _settle(api)
        assert _agree(api, until)[0][0] == 3
        answer = await api.ingest({"device_id": "sh-1", "ts": "2099-01-01T00:00:05.000Z"})
        assert [verdict["code"] for verdict in answer["deferred"]] == ["future"]


async def test_policies_refresh_neither_behind_the_horizon_nor_without_an_end(api: Api) -> None:
    if not _is_timescale(api):
        return
    policies = api.rows(
        "SELECT config ->> 'start_offset', (config ->> 'end_offset')::interval >= '15 minutes'"
        " FROM timescaledb_information.jobs WHERE proc_name = 'policy_refresh_continuous_aggregate'"
    )
    assert policies == [("400 days", True)] * len(AGGREGATES)


async def test_a_refresh_waits_for_one_that_goes_on(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    if not _is_timescale(api):
        return
    waits: list[float] = []
    with psycopg.connect(api.dsn, autocommit=True) as other:
        # As TimescaleDB writes it down while another session refreshes.
        other.execute(
            "INSERT INTO _timescaledb_catalog.continuous_aggs_jobs_refresh_ranges"
            " (materialization_id, start_range, end_range, pid, job_id, created_at)"
            " SELECT mat_hypertable_id, -9223372036854775807, 9223372036854775807, pg_backend_pid(), 0, now()"
            " FROM _timescaledb_catalog.continuous_agg WHERE user_view_name = 'samples_daily'"
        )

        def done(wait_s: float) -> None:
            waits.append(wait_s)
            if len(waits) == 2:
                other.execute("DELETE FROM _timescaledb_catalog.continuous_aggs_jobs_refresh_ranges")

        monkeypatch.setattr(migrations, "sleep", done)
        migrations.refresh_aggregates(api.dsn)
    assert len(waits) == 2


async def test_retention_leaves_the_aggregates_alone(start_server: StartServer) -> None:
    clock = Clock(NOW)
    async with start_server(clock=clock, raw_retention_days=30) as api:
        await api.ingest(*(sample(-DAY_S * day, pv_power_w=100 + day) for day in range(20)))
        await api.server.refresher.refresh_all()
        _settle(api)
        before = _agree(api)
        clock.now = NOW + timedelta(days=45)
        await api.server.retention.drop()
        assert api.rows("SELECT count(*) < 20 FROM samples") == [(True,)]
        with psycopg.connect(api.dsn) as connection:  # as if it had waited since: the raw readings are gone
            connection.execute(
                "INSERT INTO rollup_marks (device, bucket) SELECT device, bucket FROM rollup_15m"
            )
        await api.server.refresher.refresh_all()
        assert api.rows("SELECT count(*) FROM rollup_marks") == [(0,)]
        _settle(api)
        assert _agree(api) == before
        late = await api.ingest(sample(-DAY_S * 5 + 1, pv_power_w=9_999))
        assert late["inserted"] == 1
        await api.server.refresher.refresh_all()
        _settle(api)
        assert _agree(api) == before


async def test_readings_outlive_an_update_of_the_extension(any_database: str) -> None:
    older = _older_version(any_database)
    if older is None:
        pytest.skip("there is one version of TimescaleDB, or none, to choose from")
    with psycopg.connect(any_database, autocommit=True) as connection:
        connection.execute("DROP EXTENSION timescaledb")
    with psycopg.connect(any_database, autocommit=True) as connection:
        connection.execute(f"CREATE EXTENSION timescaledb VERSION '{older}'".encode())
    migrate(any_database)
    known = [sample(-DAY_S * day - 10 * n, pv_power_w=n) for day in range(3) for n in range(20)]
    async with serving(any_database) as api:
        await api.ingest(*known)
        await api.server.refresher.refresh_all()
        _settle(api)
        before = _agree(api)
        with psycopg.connect(any_database, autocommit=True) as connection:
            connection.execute("ALTER EXTENSION timescaledb UPDATE")
        assert api.rows("SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'") != [(older,)]
        # The server's own connections still hold the library of the version before.
        await api.ingest(sample(-1, pv_power_w=7))
        await api.server.refresher.refresh_all()
    assert migrate(any_database) == []
    async with serving(any_database) as api:
        assert (await api.ingest(*known))["duplicates"] == len(known)
        await api.ingest(sample(-DAY_S - 3, pv_power_w=7))
        await api.server.refresher.refresh_all()
        _settle(api)
        after = _agree(api)
        assert after[0][0] == len(known) + 2
        assert after[0][2] == before[0][2]


def _older_version(dsn: str) -> str | None:
    """The newest version before the one this database has that could be installed and is supported."""
    with psycopg.connect(dsn) as connection:
        installed = connection.execute(
            "SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'"
        ).fetchall()
        versions = connection.execute(
            "SELECT version FROM pg_available_extension_versions WHERE name = 'timescaledb'"
        ).fetchall()
    older = [
        version
        for (version,) in versions
        if installed and (2, 18, 1) <= _numbers(version) < _numbers(installed[0][0])
    ]
    return max(older, key=_numbers, default=None)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("-", maxsplit=1)[0].split("."))


@pytest.mark.timeout(1200)  # TimescaleDB makes a chunk for each of its days
async def test_a_year_loaded_at_once_is_in_every_rollup(api: Api, tmp_path: Path) -> None:
    hours = range(1, 365 * 24, 4)
    lines = [f"{format_ts(NOW - timedelta(hours=n))},{n % 5000},3600,{100_000 - n}" for n in hours]
    file = tmp_path / "year.csv"
    file.write_text("ts,pv_power_w,interval_s,pv_total_kwh\n" + "\n".join(lines) + "\n")
    result = await import_csv(api.dsn, file, "sh-1", source="test", retention=timedelta(days=400))
    assert (result.inserted, result.aside) == (len(hours), 0)
    _settle(api, every=20)  # all of a year's chunks would take minutes
    assert _agree(api)[0][0] == len(hours)
    assert api.rows("SELECT count(*) FROM rollup_marks") == [(0,)]
    status, answer = await api.get("/v1/series", device_id="sh-1", frame="all")
    assert status == 200
    assert sum(bucket["sample_count"] for bucket in answer["series"]) == len(hours)
    assert len(answer["series"]) == 13


async def test_history_behind_the_horizon_is_stored_whole(
    api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "_ROWS_AT_ONCE", 7)  # parts of a file that end within a quarter of an hour
    first = datetime(2020, 6, 1, tzinfo=UTC)
    file = tmp_path / "old.csv"
    lines = [f"{format_ts(first + timedelta(minutes=n))},{n},60" for n in range(40)]
    file.write_text("ts,pv_power_w,interval_s\n" + "\n".join(lines) + "\n")
    result = await import_csv(api.dsn, file, "sh-1", source="test", retention=timedelta(days=400))
    assert (result.inserted, result.duplicates, result.aside) == (40, 0, 0)
    assert api.rows("SELECT sum(sample_count)::int8, sum(covered_ms)::int8 FROM rollup_15m") == [
        (40, 40 * 60_000)
    ]


def _minutes(count: int, first: datetime, *, wrong: int | None = None) -> str:
    """A file of a reading a minute, in one line of which there may be no number."""
    lines = [f"{format_ts(first + timedelta(minutes=n))},{n},60,{100 + n / 10}" for n in range(count)]
    if wrong is not None:
        lines[wrong] = lines[wrong].replace(",60,", ",x,")
    return "ts,pv_power_w,interval_s,pv_total_kwh\n" + "\n".join(lines) + "\n"


@pytest.mark.parametrize("first", [datetime(2020, 6, 1, tzinfo=UTC), NOW - timedelta(days=2)])
async def test_an_import_that_broke_off_goes_on_where_it_ended(
    api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: datetime
) -> None:
    monkeypatch.setattr(history, "_ROWS_AT_ONCE", 7)
    whole, broken = tmp_path / "whole.csv", tmp_path / "broken.csv"
    whole.write_text(_minutes(40, first))
    broken.write_text(_minutes(40, first, wrong=25))
    load = partial(import_csv, api.dsn, source="test", retention=timedelta(days=4000))
    if first.year == 2020:  # behind the horizon
        load = partial(load, retention=timedelta(days=400))
    told: list[str] = []
    with pytest.raises(UsageError, match=r"line 27: .*; the first 21 rows are stored \(imported 21, known 0"):
        await load(broken, "sh-1", report=lambda result: told.append(str(result)))
    assert [line.partition(";")[0] for line in told] == [
        f"imported {n}, known 0, kept aside 0" for n in (7, 14, 21)
    ]
    assert api.rows("SELECT count(*) FROM samples") == [(21,)]
    assert api.rows("SELECT sum(sample_count)::int8 FROM rollup_15m") == [(21,)]
    assert api.rows("SELECT finished FROM import_ranges") == [(False,)]
    passing = "; of {} only rollups will stay, so old they are (RAW_RETENTION_DAYS)"
    told = [passing.format(count) if first.year == 2020 else "" for count in (19, 40)]
    assert str(await load(whole, "sh-1")) == f"imported 19, known 21, kept aside 0{told[0]}"
    assert str(await load(whole, "sh-2")) == f"imported 40, known 0, kept aside 0{told[1]}"
    rollups = (
        "SELECT {} FROM rollup_15m r JOIN devices d USING (device) WHERE device_id = '{}' ORDER BY bucket"
    )
    columns = ", ".join(["bucket", *(name for name, _ in rollup_columns())])
    one, other = (api.rows(rollups.format(columns, name)) for name in ("sh-1", "sh-2"))
    assert one == other
    assert len(one) == 3
    assert api.rows("SELECT row_count, finished FROM import_ranges ORDER BY entry") == [
        (21, True), (19, True), (40, True),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ('"7', r"is no CSV \(field larger than field limit \(131072\)\); is a quote left open\?"),
        ("[" * 100_000, r"pv_power_w: '\[{40}'\.\.\. is not a number"),
        ("9" * 9_000, r"pv_power_w: '9{40}'\.\.\. is not a number"),
        ("\udcff", "is not UTF-8 text"),
        ("\0", "pv_power_w: '.x00' is not a number"),
    ],
)
async def test_whatever_breaks_an_import_off_it_says_what_is_stored(
    api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cell: str, reason: str
) -> None:
    monkeypatch.setattr(history, "_ROWS_AT_ONCE", 7)
    good = _minutes(4_000, NOW - timedelta(days=20)).splitlines(keepends=True)
    bad = good[26].split(",")
    bad[1] = cell
    file = tmp_path / "bad.csv"
    file.write_text("".join([*good[:26], ",".join(bad), *good[27:]]), errors="surrogateescape")
    with pytest.raises(UsageError) as caught:
        await import_csv(api.dsn, file, "sh-1", source="test", retention=timedelta(days=4000))
    said = str(caught.value)
    stored = r"; the first 21 rows are stored \(imported 21, known 0, kept aside 0\): import the same again"
    assert re.match(rf"bad\.csv, line 27: {reason}{stored}", said), said[:400]
    assert api.rows("SELECT count(*) FROM samples") == [(21,)]
    if _is_timescale(api):  # without waiting for the server
        assert api.rows("SELECT sum(sample_count)::int8 FROM samples_hourly") == [(21,)]


async def test_an_export_that_is_damaged_midway_says_what_is_stored(
    api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "_ROWS_AT_ONCE", 7)
    lines = [f'{{"ts":"{format_ts(NOW - timedelta(minutes=n))}","pv_power_w":{n}}}\n' for n in range(30)]
    lines[20] = lines[20].replace("}", ',"newer":"\udcff"}')
    file = tmp_path / "roof.ndjson"
    file.write_text("".join(lines), errors="surrogateescape")
    with pytest.raises(UsageError, match=r"line 21: is not UTF-8 text; the first 14 rows are stored"):
        await import_csv(api.dsn, file, "sh-1", source="test", retention=timedelta(days=4000))


async def test_what_an_import_that_was_killed_has_stored_reaches_the_aggregates(
    api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "whole.csv"
    file.write_text(_minutes(40, datetime(2020, 6, 1, tzinfo=UTC)))
    load = partial(import_csv, api.dsn, file, "sh-1", source="test", retention=timedelta(days=400))
    with monkeypatch.context() as killed:
        killed.setattr(history, "refresh_aggregates", lambda _url: None)
        await load()
    assert str(await load()) == "imported 0, known 40, kept aside 0"
    assert _agree(api)[0][0] == 40


async def test_rollups_go_on_between_the_parts_of_an_import(
    api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "_ROWS_AT_ONCE", 7)
    file = tmp_path / "days.csv"
    file.write_text(_minutes(40, NOW - timedelta(days=2)))
    free: list[tuple[Any, ...]] = []

    def look(_result: ImportResult) -> None:
        free.extend(api.rows(f"SELECT pg_try_advisory_xact_lock({LOCK_NAMESPACE}, device % 16) FROM devices"))

    await import_csv(api.dsn, file, "sh-1", source="test", retention=timedelta(days=400), report=look)
    assert free == [(True,)] * 6


async def test_an_import_does_not_wait_without_end_for_what_another_holds(
    api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "PATIENCE_S", 0.1)
    monkeypatch.setattr(history, "_ROWS_AT_ONCE", 7)
    file = tmp_path / "days.csv"
    file.write_text(_minutes(14, NOW - timedelta(days=2)))
    load = partial(import_csv, api.dsn, file, "sh-1", source="test", retention=timedelta(days=400))
    await api.ingest(sample(device_id="sh-1"))
    with psycopg.connect(api.dsn, autocommit=True) as holding:

        def hold(_result: ImportResult | None = None) -> None:
            holding.execute(f"SELECT pg_advisory_lock({LOCK_NAMESPACE}, device % 16) FROM devices".encode())

        hold()
        with pytest.raises(StorageError, match="has held for too long what this needs"):
            await load()
        holding.execute("SELECT pg_advisory_unlock_all()")
        with pytest.raises(ImportBrokenOffError, match="has held for too long") as broken:
            await load(report=hold)
        assert broken.value.result.inserted == 7
        holding.execute("SELECT pg_advisory_unlock_all()")
    assert str(await load()) == "imported 7, known 7, kept aside 0"


_COMMIT_WAITS = """
CREATE FUNCTION wait_for_the_test() RETURNS trigger LANGUAGE plpgsql
AS $$ BEGIN PERFORM pg_advisory_xact_lock(1, 1); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER commit_waits AFTER INSERT ON import_ranges
DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION wait_for_the_test()
"""
_COMMITS = """
SELECT FROM pg_stat_activity
WHERE datname = current_database() AND wait_event_type = 'Lock' AND query ILIKE 'commit%'
"""


async def test_a_part_whose_commit_is_interrupted_is_told(
    api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "_ROWS_AT_ONCE", 7)
    file = tmp_path / "days.csv"
    file.write_text(_minutes(40, NOW - timedelta(days=2)))
    told: list[str] = []
    load = partial(import_csv, api.dsn, file, "sh-1", source="test", retention=timedelta(days=400))
    with psycopg.connect(api.dsn, autocommit=True) as holding:
        holding.execute(_COMMIT_WAITS)
        holding.execute("SELECT pg_advisory_lock(1, 1)")
        importing = asyncio.create_task(load(report=lambda result: told.append(str(result))))
        while not api.rows(_COMMITS):  # noqa: ASYNC110 - the database says nothing by itself
            await asyncio.sleep(0.02)
        importing.cancel()
        await asyncio.sleep(0.1)  # for what wrongly ends at once
    with pytest.raises(asyncio.CancelledError):
        await importing
    assert told == ["imported 7, known 0, kept aside 0"]
    assert api.rows("SELECT count(*) FROM samples") == [(7,)]


async def test_nothing_is_dropped_while_an_import_goes_on(
    start_server: StartServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "_ROWS_AT_ONCE", 7)
    file = tmp_path / "old.csv"
    file.write_text(_minutes(40, datetime(2020, 6, 1, tzinfo=UTC)))
    async with start_server(raw_retention_days=400) as api:
        async with session(api.dsn) as connection:
            await fetch(connection, "announce_import", namespace=IMPORTS)
            await import_csv(api.dsn, file, "sh-1", source="test", retention=timedelta(days=400))
            await api.server.retention.drop()
            assert api.rows("SELECT count(*) FROM samples") == [(40,)]
        while api.rows(_IMPORTS_GO_ON):  # noqa: ASYNC110 - the database notices in its own time that one ended
            await asyncio.sleep(0.02)
        await api.server.retention.drop()
        assert api.rows("SELECT count(*) FROM samples") == [(0,)]
        assert api.rows("SELECT sum(sample_count)::int8 FROM rollup_15m") == [(40,)]


async def test_a_device_that_is_deleted_meanwhile_gets_no_more(
    api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "_ROWS_AT_ONCE", 7)
    file = tmp_path / "days.csv"
    file.write_text(_minutes(40, NOW - timedelta(days=2)))

    def delete(result: ImportResult) -> None:
        if result.rows == 14:
            api.rows("UPDATE devices SET deleted_at = now() RETURNING 1")

    with pytest.raises(ImportBrokenOffError, match=r"sh-1 is deleted: .*; the first 14 rows are stored"):
        await import_csv(api.dsn, file, "sh-1", source="test", retention=timedelta(days=400), report=delete)
    assert api.rows("SELECT count(*) FROM samples") == [(14,)]


async def test_a_year_of_backlog_is_caught_up_with(api: Api) -> None:
    rows = [sample(-3600 * 12 * n, pv_power_w=n % 4000) for n in range(2 * 365)]
    for begin in range(0, len(rows), 73):  # a busy machine may take too long to make a year's chunks at once
        await api.ingest(*rows[begin : begin + 73])
    assert api.rows("SELECT count(*) FROM rollup_marks") == [(len(rows),)]
    await api.server.refresher.refresh_all()
    assert api.rows("SELECT count(*) FROM rollup_marks") == [(0,)]
    assert api.rows("SELECT sum(sample_count)::int8 FROM rollup_day") == [(len(rows),)]


class _GoneReader(io.StringIO):
    def write(self, _text: str) -> int:
        raise BrokenPipeError


async def test_a_reader_that_leaves_an_export_is_not_worth_a_word(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    await api.ingest(*(sample(i, pv_power_w=i) for i in range(3)))
    with pytest.raises(BrokenPipeError):
        await export_samples(api.dsn, "sh-1", None, None, _GoneReader())
    gc.collect()
    assert [record.getMessage() for record in caplog.records if record.name.startswith("psycopg")] == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no disk that is always full")
async def test_an_export_to_a_full_disk_says_so_in_one_line(api: Api) -> None:
    await api.ingest(*(sample(i, pv_power_w=i) for i in range(3)))
    command = [sys.executable, "-m", "reference_server", "export", "--device", "sh-1"]
    full = os.open("/dev/full", os.O_WRONLY)
    exporting = await asyncio.create_subprocess_exec(
        *command, stdout=full, stderr=asyncio.subprocess.PIPE, env=os.environ | {"DATABASE_URL": api.dsn}
    )
    os.close(full)
    _, said = await exporting.communicate()
    assert exporting.returncode == 1
    assert said == b"sungrow-server: the output cannot be written: No space left on device\n"


async def test_a_file_without_a_reading_makes_no_device_known(api: Api, tmp_path: Path) -> None:
    file = tmp_path / "wrong.csv"
    file.write_text("ts,pv_power_w\n2026-06-01T10:00:00Z,much\n", "utf-8")
    with pytest.raises(UsageError, match="line 2"):
        await import_csv(api.dsn, file, "nobody", source="test", retention=timedelta(days=400))
    file.write_text("ts,pv_power_w\n", "utf-8")
    assert not (await import_csv(api.dsn, file, "nobody", source="test", retention=timedelta(days=400))).rows
    assert api.rows("SELECT FROM devices WHERE device_id = 'nobody'") == []


async def test_what_is_exported_can_be_imported(api: Api, tmp_path: Path) -> None:
    fields: dict[str, Any] = {"mppt_voltage_v": [None, 5.5], "battery_soc_pct": 55.5, "running_state": "Run"}
    unusual: dict[str, Any] = {"pv_power_w": 99_999_999_999, "wallbox": {"text": "a\0b\ud800"}}
    await api.ingest(*(sample(-60 * n, pv_power_w=n, **fields) for n in range(5)), sample(5, **unusual))
    first, second = tmp_path / "roof.ndjson", tmp_path / "again.ndjson"
    with first.open("w") as out:
        await export_samples(api.dsn, "sh-1", None, None, out)
    for inserted in (6, 0):
        result = await import_csv(api.dsn, first, "sh-2", source="test", retention=timedelta(days=36_500))
        assert (result.inserted, result.duplicates, result.aside) == (inserted, 6 - inserted, 0)
    with second.open("w") as out:
        await export_samples(api.dsn, "sh-2", None, None, out)
    assert second.read_text() == first.read_text().replace('"sh-1"', '"sh-2"')
    assert api.rows("SELECT device, flags FROM samples WHERE extra IS NOT NULL ORDER BY 1") == [
        (1, 1),
        (2, 3),
    ]


async def test_an_import_takes_nothing_from_the_future(migrated: str, tmp_path: Path) -> None:
    file = tmp_path / "future.csv"
    at = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
    file.write_text(f"ts,pv_power_w\n{format_ts(at)},5\n")
    with pytest.raises(UsageError, match=r"line 2: .* lies in the future"):
        await import_csv(migrated, file, "sh-1", source="test", retention=timedelta(days=400))
