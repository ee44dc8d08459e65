"""The schema: one truth in two forms, safe to apply again, exactly the quantities' columns."""

from __future__ import annotations

import re
import shutil
import threading
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

import reference_server
from reference_server.resources import db_folder
from reference_server.storage import migrations
from reference_server.storage.errors import StorageError, StorageUnavailableError
from reference_server.storage.migrations import Engine, migrate
from reference_server.storage.queries import statements
from reference_server.storage.schema_sql import COUNTERS, column_type, outdated
from sungrow_lib.quantities import QUANTITIES
from tests.server.conftest import StartServer, sample

CATALOG = """
SELECT 'column', table_name, column_name, concat_ws(' ', data_type, udt_name, is_nullable, column_default,
  identity_generation, generation_expression)
FROM information_schema.columns WHERE table_schema = 'public' AND table_name <> 'schema_history'
UNION ALL SELECT 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid)
FROM pg_constraint WHERE connamespace = 'public'::regnamespace
UNION ALL SELECT 'index', tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'
UNION ALL SELECT 'view', viewname, '', definition FROM pg_views WHERE schemaname = 'public'
UNION ALL SELECT 'function', proname, pg_get_function_arguments(oid),
  concat_ws(' ', prosrc, provolatile, proisstrict)
FROM pg_proc WHERE pronamespace = 'public'::regnamespace
UNION ALL SELECT 'statistics', attrelid::regclass::text, attname, attstattarget::text
FROM pg_attribute JOIN pg_class t ON t.oid = attrelid
WHERE t.relnamespace = 'public'::regnamespace AND attnum > 0 AND attstattarget >= 0
ORDER BY 1, 2, 3, 4
"""


def _catalog(dsn: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(CATALOG).fetchall()


def _empty(dsn: str) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")


def test_schema_and_migrations_lead_to_the_same_catalog(database: str) -> None:
    assert "schema" in migrate(database)
    whole = _catalog(database)
    assert len(whole) > 500
    _empty(database)
    assert "0001_devices_and_access" in migrate(database, from_schema=False)
    assert _catalog(database) == whole


def test_migrating_again_changes_nothing(any_database: str) -> None:
    assert migrate(any_database)
    before = _catalog(any_database)
    assert migrate(any_database) == []
    assert _catalog(any_database) == before


def test_readings_have_no_index_by_time(migrated: str) -> None:
    with psycopg.connect(migrated, autocommit=True) as connection:
        found = connection.execute("SELECT indexname FROM pg_indexes WHERE tablename = 'samples'").fetchall()
        assert sorted(name for (name,) in found) == ["samples_firmware", "samples_pkey"]
        if not connection.execute("SELECT FROM pg_extension WHERE extname = 'timescaledb'").fetchall():
            return
        # As TimescaleDB makes it unless told otherwise, and earlier versions of ours let it.
        connection.execute("INSERT INTO samples (device, ts) VALUES (1, '2026-01-31T10:00:00Z')")
        connection.execute("CREATE INDEX samples_ts_idx ON samples (ts DESC)")
        connection.execute("DELETE FROM schema_history WHERE name LIKE 'timescale/%'")
        migrate(migrated)
        assert not connection.execute(
            "SELECT FROM pg_indexes WHERE indexname LIKE '%samples_ts_idx'"
        ).fetchall()


def test_each_file_is_safe_to_run_again(database: str) -> None:
    migrate(database)
    before = _catalog(database)
    with psycopg.connect(database) as connection:
        connection.execute("SET client_min_messages TO error")
        for path in sorted((db_folder() / "migrations").glob("*.sql")):
            connection.execute(path.read_bytes())
        connection.execute((db_folder() / "schema.sql").read_bytes())
        connection.execute((db_folder() / "plain" / "views.sql").read_bytes())
    assert _catalog(database) == before


def test_older_servers_find_what_they_keep_of_plants(database: str) -> None:
    migrate(database)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS plant_kept, plant_sums, plant_sets")
        connection.execute((db_folder() / "migrations" / "0014_plant_sums.sql").read_bytes())
        connection.execute("INSERT INTO plant_sums VALUES ('{1,2}', true, '2026-01-31', 'digest', 1, 2)")
        connection.execute("DELETE FROM schema_history WHERE name = '0016_plant_sets'")
        assert migrate(database) == ["0016_plant_sets"]
        found = connection.execute("SELECT pv FROM plant_sums WHERE devices = '{1,2}'::int4[]").fetchall()
        assert found == [(1,)]


def test_two_servers_may_migrate_at_once(database: str) -> None:
    applied: list[list[str]] = []
    threads = [threading.Thread(target=lambda: applied.append(migrate(database))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(len, applied)) == [0, 0, 2]


def test_an_applied_migration_with_another_text_is_refused(database: str, tmp_path: Path) -> None:
    migrate(database)
    changed = tmp_path / "db"
    shutil.copytree(db_folder(), changed)
    with (changed / "migrations" / "0001_devices_and_access.sql").open("a") as file:
        file.write("-- changed\n")
    with pytest.raises(StorageError, match="0001_devices_and_access"):
        migrate(database, folder=changed)


def test_the_columns_of_samples_are_those_of_the_quantities(migrated: str) -> None:
    udt = {"int2": "int2", "int4": "int4", "text": "text", "int4[]": "_int4"}
    expected = {column: udt[column_type(q)] for q in QUANTITIES for column in q.columns()}
    expected |= {"ts": "timestamptz", "device": "int4", "flags": "int2", "extra": "jsonb"}
    with psycopg.connect(migrated) as connection:
        rows = connection.execute(
            "SELECT column_name, udt_name FROM information_schema.columns WHERE table_name = 'samples'"
        ).fetchall()
    assert dict(rows) == expected


def test_statistics_are_made_of_what_decides_plans_alone(migrated: str) -> None:
    with psycopg.connect(migrated, autocommit=True) as connection:
        connection.execute("INSERT INTO devices (device_id) VALUES ('a'), ('b')")
        stamps = "now() - '10 days'::interval * n"  # TimescaleDB makes tables for them only now
        connection.execute(
            "INSERT INTO samples (device, ts, pv_power_w, flags, extra, firmware)"
            f" SELECT device, {stamps}, n, 0, '{{}}', 'new' FROM devices, generate_series(1, 3) n"
        )
        connection.execute("ANALYZE")
        tables = "tablename = 'samples' OR tablename LIKE '_hyper%chunk'"
        found = connection.execute(f"SELECT DISTINCT attname FROM pg_stats WHERE {tables}").fetchall()
        columns = connection.execute(
            "SELECT DISTINCT attname FROM pg_attribute WHERE attrelid = 'samples'::regclass AND attnum > 0"
            " AND NOT attisdropped AND attstattarget IS DISTINCT FROM 0"
        ).fetchall()
    assert {name for (name,) in found} == {name for (name,) in columns} == {"device", "ts", "firmware"}


def test_the_generated_sql_is_up_to_date() -> None:
    assert outdated() == []


def test_a_counter_fits_behind_its_turn() -> None:
    """`stepped_readings` puts a counter's value behind the number of its reading: it is never negative."""
    assert [counter.name for counter in COUNTERS if counter.low < 0] == []
    assert {column_type(counter) for counter in COUNTERS} == {"int4"}


def test_every_statement_is_used_and_described() -> None:
    package = Path(reference_server.__file__).parent
    code = "".join(path.read_text() for path in package.rglob("*.py"))
    queries = "".join(path.read_text() for path in (db_folder() / "queries").glob("*.sql"))
    assert [n for n in statements() if f'"{n}"' not in code and f"\n{{{n}}}\n" not in queries] == []
    for path in (db_folder() / "queries").glob("*.sql"):
        text = path.read_text()
        assert len(re.findall(r"^-- name: \w+\n-- \S.*\n", text, re.MULTILINE)) == text.count("-- name:")


def test_the_server_holds_no_other_sql() -> None:
    package = Path(reference_server.__file__).parent
    for path in package.rglob("*.py"):
        if path.parent.name != "storage":
            assert "psycopg" not in path.read_text().replace("as psycopg", ""), path


@pytest.mark.parametrize(
    ("engine", "message"),
    [
        (Engine(140_010, None, community=False), "15 or later"),
        (Engine(150_000, "2.17.2", community=True), "2.18.1"),
        (Engine(150_000, "2.18.0", community=False), "2.18.1"),
    ],
)
def test_engines_that_lose_data_are_refused(engine: Engine, message: str) -> None:
    with pytest.raises(StorageError, match=re.escape(message)):
        engine.require_supported()


def test_engines_that_are_supported() -> None:
    for engine in (
        Engine(150_000, None, community=False),
        Engine(180_006, "2.18.1", community=True),
        Engine(160_000, "2.29.2-dev", community=False),
    ):
        engine.require_supported()
    assert Engine(160_000, "2.20.0", community=False).folder == "plain"
    assert Engine(160_000, "2.20.0", community=True).folder == "timescale"


def test_no_database_is_one_clear_error(postgres_dsn: str) -> None:
    with pytest.raises(StorageUnavailableError):
        migrate(make_conninfo(postgres_dsn, dbname="not_there"))


@pytest.mark.anyio
async def test_a_server_stores_nothing_in_an_engine_that_loses_data(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(migrations, "OLDEST_POSTGRESQL", 990_000)  # as if this one were
    async with start_server() as api:
        status, answer = await api.send(sample())
        assert status == 503, answer
        assert (await api.get("/health"))[0] == 503
    assert "is too old; 15 or later is needed" in caplog.text
