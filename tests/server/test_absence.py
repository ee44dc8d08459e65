"""While the database is away one looks for it and all others are told at once; nobody else is refused."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from reference_server.storage import absence, database
from reference_server.storage.absence import Absence
from reference_server.storage.connection import Connection
from reference_server.storage.database import Database
from reference_server.storage.errors import (
    BusyError,
    SchemaMissingError,
    StorageError,
    StorageUnavailableError,
    is_full,
)
from tests.crash.gate import Line
from tests.patience import PATIENCE_S
from tests.server.conftest import Api, StartServer, sample
from tests.server.load import stored
from tests.server.test_stream import streaming

pytestmark = pytest.mark.anyio

Release = Callable[[], None]

_EVERYTHING = (
    "/v1/realtime?device_id=sh-1",
    "/v1/series?device_id=sh-1&frame=day",
    "/v1/series?device_id=sh-1&frame=all",
    "/v1/stream?device_id=sh-1",
    "/v1/devices",
    "/v1/plants",
    "/v1/events?device_id=sh-1",
    "/v1/completeness?device_id=sh-1&from=2026-06-14T00:00:00Z&to=2026-06-15T00:00:00Z",
    "/v1/conflicts?device_id=sh-1",
    "/v1/edge-status?device_id=sh-1",
    "/health",
)


class Doors:
    """A line to the database that can be shut: connections are cut, and new ones refused."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self._target = line._target

    async def shut(self) -> None:
        self.line._target = "/nonexistent/socket"
        await self.line.cut()

    def open(self) -> None:
        self.line._target = self._target


@pytest.fixture
async def doors(migrated: str) -> AsyncIterator[Doors]:
    given = conninfo_to_dict(migrated)
    port, host = int(given.get("port") or 5432), str(given["host"])
    target = f"{host}/.s.PGSQL.{port}" if host.startswith("/") else port
    line = Line(target, Counter(), "PostgreSQL", random.Random(1))
    await line.start()
    yield Doors(line)
    await line.stop()


@pytest.fixture
def through(migrated: str, doors: Doors) -> str:
    return make_conninfo(migrated, host="127.0.0.1", port=doors.line.port, sslmode="disable")


async def _until_taken(api: Api, offset: int) -> None:
    while (status := (await api.send(sample(offset)))[0]) != 200:
        assert status == 503
        await asyncio.sleep(0.05)


async def _told(api: Api, path: str) -> int:
    async with api.session.get(api.url + path, headers=api.headers()) as answer:
        problem = await answer.json(content_type=None)
        assert (path, problem["status"], answer.status) == (path, 503, 503)
        assert "psycopg" not in problem["detail"]
        assert "127.0.0.1" not in problem["detail"]  # how it is reached is not for everybody to read
        return int(answer.headers["Retry-After"])


async def test_after_the_first_failure_nobody_waits_and_nothing_is_begun(
    start_server: StartServer, migrated: str, through: str, doors: Doors, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with asyncio.timeout(PATIENCE_S), start_server(dsn=through) as api:
        await _until_taken(api, 0)
        await doors.shut()
        assert (await api.send(sample(1)))[0] == 503
        pool, asked = api.server.database._pool, list[bool]()

        async def getconn(**_: Any) -> Connection:
            asked.append(True)
            raise AssertionError("who is told at once asks for no connection")

        with monkeypatch.context() as patched:
            patched.setattr(pool, "getconn", getconn)
            pauses = await asyncio.gather(*(_told(api, path) for path in _EVERYTHING * 3))
            sent = await asyncio.gather(*(api.send(sample(n)) for n in range(1, 13)))
            async with api.session.get(api.url + "/metrics", headers=api.headers()) as answer:
                assert answer.status == 200
                assert "sungrow_database_up 0.0" in await answer.text()
        assert min(pauses) >= 5
        assert len(set(pauses)) > 1
        assert {status for status, _ in sent} == {503}
        assert not asked
        assert stored(migrated)[:2] == (1, 1)
        doors.open()
        for n in range(1, 13):
            await _until_taken(api, n)
        async with api.session.get(api.url + "/health") as answer:
            assert answer.status == 200
    assert stored(migrated)[:2] == (13, 13)


async def test_a_stream_stays_open_and_goes_on(start_server: StartServer, through: str, doors: Doors) -> None:
    async with asyncio.timeout(PATIENCE_S), start_server(dsn=through) as api:
        await _until_taken(api, 0)
        async with streaming(api) as events:
            await doors.shut()
            assert (await api.send(sample(1)))[0] == 503
            doors.open()
            await _until_taken(api, 1)
            kind, reading, _ = await events.next()
            assert (kind, reading["ts"]) == ("sample", sample(1)["ts"])


async def test_a_database_that_restarts_is_not_away(
    start_server: StartServer, through: str, doors: Doors
) -> None:
    async with asyncio.timeout(PATIENCE_S), start_server(dsn=through) as api:
        await _until_taken(api, 0)
        await asyncio.gather(*(api.get("/v1/events", device_id="sh-1") for _ in range(8)))  # more connections
        for n in range(1, 4):
            await doors.line.cut()
            assert (await api.send(sample(n)))[0] == 200  # though all connections of the pool are dead


async def test_a_pool_that_is_all_in_use_is_not_a_database_that_is_away(start_server: StartServer) -> None:
    async with asyncio.timeout(PATIENCE_S), start_server(database_pool_size=2) as api:
        await api.ingest(sample(0))
        ours = api.server.database
        ours._pool.timeout = 0.2
        release, held = asyncio.Event(), asyncio.Semaphore(0)

        async def hold(_: Connection) -> None:
            held.release()
            await release.wait()

        holding = [asyncio.create_task(ours.run(hold)) for _ in range(2)]
        for _ in holding:
            await held.acquire()
        assert {(await api.send(sample(n)))[0] for n in range(1, 3)} == {503}
        async with api.session.get(api.url + "/health") as answer:
            assert (answer.status, await answer.json()) == (200, {"status": "ok"})
        sending = asyncio.create_task(api.send(sample(3)))
        release.set()
        await asyncio.gather(*holding)
        assert (await sending)[0] == 200
        assert (await api.send(sample(4)))[0] == 200


@asynccontextmanager
async def all_in_use(dsn: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Database, Release]]:
    """A pool of two connections, both of which work until they are released."""
    monkeypatch.setattr(absence, "_PATIENCE_S", 60.0)
    ours = Database(dsn, size=2, patience_s=60)
    await ours.open()
    release, held = asyncio.Event(), asyncio.Semaphore(0)

    async def hold(connection: Connection) -> None:
        await connection.execute("SELECT 1")
        held.release()
        await release.wait()

    async with asyncio.timeout(PATIENCE_S):
        try:
            async with asyncio.TaskGroup() as holding:
                for _ in range(2):
                    holding.create_task(ours.run(hold))
                for _ in range(2):
                    await held.acquire()
                yield ours, release.set
                release.set()
        finally:
            await ours.close()


async def _works_though_busy(ours: Database, release: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "_BUSY_S", 0.05)
    with pytest.raises(BusyError, match="all connections to the database are in use"):
        await ours.check()
    monkeypatch.setattr(database, "_BUSY_S", 60.0)
    asking = [asyncio.create_task(ours.rows("is_read_only")) for _ in range(3)]
    checking = asyncio.create_task(ours.check())
    await asyncio.sleep(0.1)
    assert not any(task.done() for task in asking), "they wait, and are not refused"
    release()
    assert await asyncio.gather(*asking) == [[(False,)]] * 3
    await checking


async def test_a_database_that_takes_no_more_connections_is_there(
    migrated: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    role = f"limited_{uuid4().hex}"
    with psycopg.connect(migrated, autocommit=True) as owner:
        owner.execute(f"CREATE ROLE {role} LOGIN CONNECTION LIMIT 2")
        owner.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")
        try:
            async with all_in_use(make_conninfo(migrated, user=role), monkeypatch) as (ours, release):
                await _works_though_busy(ours, release, monkeypatch)
        finally:
            owner.execute(f"DROP OWNED BY {role}")
            owner.execute(f"DROP ROLE {role}")


async def test_while_connections_work_no_look_says_that_the_database_is_away(
    through: str, doors: Doors, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with all_in_use(through, monkeypatch) as (ours, release):
        doors.line._target = "/nonexistent/socket"  # new ones are refused
        await _works_though_busy(ours, release, monkeypatch)


async def test_a_look_that_fails_says_so_once_connections_that_worked_are_lost(
    through: str, doors: Doors, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_BUSY_S", 0.05)
    ours = Database(through, size=2)
    await ours.open()
    async with asyncio.timeout(PATIENCE_S):
        await ours.check()
        await doors.shut()
        with pytest.raises(StorageUnavailableError) as told:
            await ours.check()
        assert type(told.value) is StorageUnavailableError
        with pytest.raises(StorageUnavailableError):
            ours._absence.refuse()
        await ours.close()


def test_what_says_that_there_are_too_many_connections() -> None:
    for words in (
        'connection failed: FATAL:  too many connections for role "x"',
        'FATAL:  too many connections for database "x"',
        "FATAL:  sorry, too many clients already",
        "FATAL:  remaining connection slots are reserved for roles with the SUPERUSER attribute",
    ):
        assert is_full(psycopg.OperationalError(words))
    assert is_full(psycopg.errors.TooManyConnections("zu viele Verbindungen"))
    assert not is_full(psycopg.OperationalError("FATAL:  the database system is starting up"))
    assert not is_full(psycopg.errors.DiskFull("too many connections"))  # the code counts where there is one


async def test_health_is_answered_while_others_wait_for_a_silent_database(
    start_server: StartServer, through: str, doors: Doors, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "SILENCE_S", 600.0)
    monkeypatch.setattr(absence, "_PATIENCE_S", 0.2)
    async with asyncio.timeout(PATIENCE_S), start_server(dsn=through) as api:
        await _until_taken(api, 0)
        doors.line.fall_silent()
        sending = asyncio.create_task(api.send(sample(1)))
        for _ in range(3):
            async with api.session.get(api.url + "/health") as answer:
                assert (answer.status, bool(answer.headers["Retry-After"])) == (503, True)
        assert not sending.done()
        doors.line.come_back()
        assert (await sending)[0] == 200
        while (await api.get("/health"))[0] != 200:  # noqa: ASYNC110 - a database has no event
            await asyncio.sleep(0.05)


class Play:
    """A database of which each look finds what the play says."""

    def __init__(self, *outcomes: StorageError | None) -> None:
        self.outcomes = list(outcomes)
        self.looks = 0
        self.at_once = 0
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def look(self) -> StorageUnavailableError | None:
        self.looks += 1
        self.at_once += 1
        assert self.at_once == 1  # one looks for all
        try:
            await self.may_answer.wait()
            await asyncio.sleep(0)
            outcome = self.outcomes.pop(0) if self.outcomes else None
            if isinstance(outcome, SchemaMissingError):
                return outcome
            if outcome is not None:
                raise outcome
            return None
        finally:
            self.at_once -= 1


def _is_away(known: Absence) -> bool:
    try:
        known.refuse()
    except StorageUnavailableError:
        return True
    return False


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses between looks, none of which is kept."""
    found: list[float] = []

    async def sleep(seconds: float) -> None:
        found.append(seconds)
        await asyncio.sleep(0)

    monkeypatch.setattr(absence, "sleep", sleep)
    return found


async def test_it_is_looked_for_each_second_until_it_answers(pauses: list[float]) -> None:
    play = Play(*[StorageUnavailableError()] * 50)
    known = Absence(play.look)
    assert not _is_away(known)
    with pytest.raises(StorageUnavailableError):
        await known.found_out()
    while _is_away(known):  # noqa: ASYNC110 - no pause is kept here
        await asyncio.sleep(0)
    assert play.looks == 51
    assert len(pauses) == 50
    assert len(set(pauses)) > 10
    assert 0.5 < min(pauses) < max(pauses) < 1.5
    await known.close()


async def test_who_is_answered_proves_that_it_is_there(pauses: list[float]) -> None:
    play = Play(StorageUnavailableError("too many clients"), StorageUnavailableError())
    known = Absence(play.look)
    play.may_answer.clear()
    known.suspect()
    await asyncio.sleep(0)
    known.answered()  # over a connection there was, while no new one can be had
    play.may_answer.set()
    await known.examined()  # what it found is no fault
    assert not _is_away(known)
    assert not pauses
    with pytest.raises(StorageUnavailableError):
        await known.found_out()
    known.answered()
    assert not _is_away(known)
    await known.close()


async def test_a_database_that_is_busy_is_not_away(pauses: list[float]) -> None:
    play = Play(BusyError("in use"), BusyError("in use"), StorageUnavailableError("gone"))
    known = Absence(play.look)
    with pytest.raises(BusyError, match="in use"):
        await known.examined()
    await known.found_out()
    assert not _is_away(known)
    assert not pauses
    with pytest.raises(StorageUnavailableError):
        await known.found_out()
    assert _is_away(known)
    await known.close()


async def test_all_who_ask_share_a_look_and_what_it_finds(pauses: list[float]) -> None:
    play = Play(SchemaMissingError())
    known = Absence(play.look)
    found = await asyncio.gather(*(known.examined() for _ in range(9)), return_exceptions=True)
    assert {type(error) for error in found} == {SchemaMissingError}
    assert play.looks == 1
    assert not _is_away(known)  # it answers: whoever needs no schema is served
    await known.examined()
    play.outcomes = [StorageError("TimescaleDB 2.10 is too old")]
    with pytest.raises(StorageUnavailableError, match="too old"):
        await known.examined()
    assert not pauses or play.looks
    await known.close()


async def test_what_a_driver_says_is_not_told(pauses: list[float]) -> None:
    del pauses
    known = Absence(Play(StorageUnavailableError("connection to 10.0.0.5 failed for user x")).look)
    with pytest.raises(StorageUnavailableError) as told:
        await known.examined()
    assert "10.0.0.5" not in str(told.value)
    await known.close()


async def test_a_statement_that_takes_too_long_says_nothing_of_the_database(
    start_server: StartServer,
) -> None:
    async with start_server() as api:
        ours = api.server.database

        async def slow(connection: Connection) -> Any:
            await connection.execute("SET LOCAL statement_timeout = 50")
            await connection.execute("SELECT pg_sleep(60)")

        with pytest.raises(StorageUnavailableError) as failed:
            await ours.run(slow)
        assert isinstance(failed.value.__cause__, psycopg.errors.QueryCanceled)
        assert (await api.send(sample(0)))[0] == 200
