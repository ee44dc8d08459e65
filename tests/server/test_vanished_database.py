"""A database whose host vanishes without a word: answered 503 within a limit, and found again."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator

import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from reference_server.storage import arrivals, database
from reference_server.storage.arrivals import ArrivalChannel
from reference_server.storage.connection import Connection, SilenceError, address
from reference_server.storage.database import fetch
from reference_server.storage.errors import StorageError
from tests.crash.gate import Line
from tests.patience import PATIENCE_S
from tests.server.conftest import Api, StartServer, sample
from tests.server.load import stored

pytestmark = pytest.mark.anyio


@pytest.fixture
async def line(migrated: str) -> AsyncIterator[Line]:
    """A line to the database that can fall silent."""
    given = conninfo_to_dict(migrated)
    port = int(given.get("port") or 5432)
    host = str(given["host"])
    target = f"{host}/.s.PGSQL.{port}" if host.startswith("/") else port
    between = Line(target, Counter(), "PostgreSQL", random.Random(1))
    await between.start()
    yield between
    await between.stop()


@pytest.fixture
def through(migrated: str, line: Line) -> str:
    """The database's address by way of the line."""
    return make_conninfo(migrated, host="127.0.0.1", port=line.port, sslmode="disable")


async def _until_taken(api: Api, offset: int) -> None:
    while (status := (await api.send(sample(offset)))[0]) != 200:
        assert status == 503
        await asyncio.sleep(0.05)


async def test_requests_are_answered_and_the_pool_recovers(
    start_server: StartServer, migrated: str, through: str, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "SILENCE_S", 1.0)
    async with asyncio.timeout(PATIENCE_S), start_server(dsn=through) as api:
        await _until_taken(api, 0)
        await asyncio.gather(*(api.get("/v1/events", device_id="sh-1") for _ in range(8)))  # more connections
        line.fall_silent()
        answers = await asyncio.gather(
            *(api.send(sample(n)) for n in range(1, 13)),
            *(api.get("/v1/series", device_id="sh-1", frame="day") for _ in range(4)),
            api.get("/health"),
        )
        assert {status for status, _ in answers} == {503}
        async with api.session.post(
            api.url + "/v1/ingest", json={"samples": [sample(1)]}, headers=api.headers()
        ) as answer:
            assert answer.status == 503
            assert answer.headers["Retry-After"]
        line.come_back()
        for n in range(1, 13):
            await _until_taken(api, n)
    assert stored(migrated)[:2] == (13, 13)


async def test_one_silent_connection_makes_the_idle_ones_suspicious(
    start_server: StartServer, through: str, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "SILENCE_S", 1.0)
    async with asyncio.timeout(PATIENCE_S), start_server(dsn=through) as api:
        await _until_taken(api, 0)
        while api.server.database.pool()["idle"] < 3:
            await asyncio.gather(*(api.get("/v1/events", device_id="sh-1") for _ in range(8)))
        line.fall_silent()
        assert (await api.send(sample(1)))[0] == 503
        while api.server.database.pool()["idle"]:  # noqa: ASYNC110 - a pool has no event
            await asyncio.sleep(0.05)
        line.come_back()
        await _until_taken(api, 1)


async def test_a_silent_statement_ends_and_one_that_may_take_long_does_not(
    through: str, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def take_all_time(connection: Connection, name: str) -> None:
        await fetch(connection, name)
        connection.patience_s = 0.2  # from here on: a busy machine may take long to answer

    monkeypatch.setattr(database, "fetch", take_all_time)
    async with await Connection.connect(through, autocommit=True) as connection:
        async with connection.transaction():
            async with database.all_the_time(connection):
                await connection.execute("SELECT pg_sleep(0.5)")
            assert connection.patience_s == 0.2
            connection.patience_s = None  # a busy machine may take long to commit
        connection.patience_s = 0.2
        with pytest.raises(SilenceError):
            await connection.execute("SELECT pg_sleep(60)")
        assert connection.closed
    async with await Connection.connect(through, autocommit=True) as connection:
        line.fall_silent()
        connection.patience_s = 0.2
        with pytest.raises(SilenceError):
            async with connection.transaction():
                await connection.execute("SELECT 1")


class Watched(ArrivalChannel):
    """Remembers its connections."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.made: list[Connection] = []

    async def _connected(self) -> Connection:
        self.made.append(await super()._connected())
        return self.made[-1]


async def test_who_listens_notices_the_silence_and_not_mere_quiet(
    through: str, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrivals, "_PATIENCE_S", 2.5)
    monkeypatch.setattr(arrivals, "_QUIET_S", 0.1)
    channel, other = Watched(through), Watched(through)
    heard = channel.listen()
    assert await anext(heard) is None
    following = asyncio.ensure_future(anext(heard))
    await asyncio.sleep(3.0)
    assert not following.done()
    await other.tell([7], [])
    assert await following == frozenset({7})
    line.fall_silent()
    for connection in (*channel.made, *other.made):
        connection.patience_s = 0.2  # not before: a busy machine may take long to answer
    with pytest.raises(StorageError):
        await anext(heard)
    with pytest.raises(StorageError):
        await other.tell([7], [])
    line.come_back()
    await other.tell([7], [])
    await other.close()


def test_the_kernel_is_told_how_long_to_wait_unless_the_address_says_so() -> None:
    said = conninfo_to_dict(address("postgresql://me@db/x?keepalives_idle=99"))
    assert said["keepalives_idle"] == "99"
    assert (said["keepalives_interval"], said["keepalives_count"], said["tcp_user_timeout"]) == (
        "5",
        "3",
        "20000",
    )
    assert (said["host"], said["user"], said["dbname"]) == ("db", "me", "x")
