"""Sessions that answer nothing but internal errors: a new one is asked, unless it says the same."""

from __future__ import annotations

import asyncio

import psycopg
import pytest

from reference_server.storage.connection import Connection
from reference_server.storage.database import Database
from reference_server.storage.migrations import migrate
from tests.patience import PATIENCE_S
from tests.server.conftest import Api, sample
from tests.server.load import stored

pytestmark = pytest.mark.anyio

_BREAK = """
CREATE TABLE broken AS SELECT pid FROM pg_stat_activity
WHERE datname = current_database() AND application_name = 'sungrow-server pool';
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF EXISTS (SELECT FROM broken WHERE pid IN (pg_backend_pid(), 0)) THEN
    RAISE EXCEPTION 'could not open relation with OID 4711' USING ERRCODE = 'XX000';
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER is_broken BEFORE INSERT ON rollup_marks FOR EACH STATEMENT EXECUTE FUNCTION refuse();
"""


async def _work_with(database: Database, size: int) -> set[int]:
    """Let as many connections of the pool work as there are; return their sessions."""
    release, held = asyncio.Event(), asyncio.Semaphore(0)

    async def hold(connection: Connection) -> int:
        await connection.execute("SELECT count(*) FROM device_settings")
        held.release()
        await release.wait()
        return connection.info.backend_pid

    holding = [asyncio.create_task(database.run(hold)) for _ in range(size)]
    for _ in holding:
        await held.acquire()
    release.set()
    return set(await asyncio.gather(*holding))


async def test_one_that_is_broken_is_left_and_the_work_done_over_a_new_one(api: Api) -> None:
    async with asyncio.timeout(PATIENCE_S):
        before = await _work_with(api.server.database, 8)
        with psycopg.connect(api.dsn) as connection:
            connection.execute(_BREAK.encode())
            assert len(connection.execute("SELECT FROM broken").fetchall()) >= len(before)
        answers = await asyncio.gather(*(api.send(sample(n)) for n in range(9)))
        assert {status for status, _ in answers} == {200}
        await api.ingest(sample(9))
        assert stored(api.dsn)[:2] == (10, 10)
        assert before - await _work_with(api.server.database, 8)


async def test_what_a_new_one_says_as_well_is_an_internal_error_and_hinders_nobody_else(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    with psycopg.connect(api.dsn) as connection:
        connection.execute(_BREAK.encode())
        connection.execute("INSERT INTO broken VALUES (0)")  # all of them
    async with asyncio.timeout(PATIENCE_S):
        assert (await api.send(sample(0)))[0] == 500
        assert "could not open relation with OID 4711" in caplog.text
        assert (await api.get("/v1/devices"))[0] == 200
        assert (await api.get("/health"))[0] == 200
        with psycopg.connect(api.dsn) as connection:
            connection.execute("DELETE FROM broken")
        await api.ingest(sample(0))


async def test_those_that_knew_an_extension_which_is_gone_are_left(api: Api) -> None:
    """TimescaleDB's sessions go on with names of tables that went with it."""
    async with asyncio.timeout(PATIENCE_S):
        await _work_with(api.server.database, 8)
        with psycopg.connect(api.dsn) as connection:
            connection.execute("DROP SCHEMA public CASCADE")
            connection.execute("CREATE SCHEMA public")
        migrate(api.dsn)
        for _ in range(3):
            assert (await api.get("/health"))[0] == 200
        answers = await asyncio.gather(*(api.send(sample(n)) for n in range(9)))
        assert {status for status, _ in answers} == {200}
        assert (await api.get("/v1/series", device_id="sh-1", frame="day"))[0] == 200
