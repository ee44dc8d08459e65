"""A pool of connections, and transactions that are run again where that is the right answer."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from copy import copy
from typing import Any, Final, TypeVar
from weakref import WeakSet

import psycopg
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from reference_server.ending import end
from reference_server.storage.absence import Absence
from reference_server.storage.connection import Connection, SilenceError, address
from reference_server.storage.errors import (
    RETRYABLE,
    BusyError,
    SchemaMissingError,
    StorageUnavailableError,
    is_full,
    is_outdated,
    translated,
)
from reference_server.storage.migrations import SCHEMA_VERSION, Engine
from reference_server.storage.queries import query

Result = TypeVar("Result")

_ATTEMPTS: Final = 5
_BACKOFF_S: Final = 0.02

STATEMENT_MS: Final = 20_000
"""A statement for a request is given up after so long, behind a lock, say: in time to tell the sender."""

SILENCE_S: Final = STATEMENT_MS / 1000 + 5
"""When nothing was heard for so long, the database is gone: it gives a statement up before."""

LONG_SILENCE_S: Final = 900.0
"""The same for what has all the time it needs."""

_OLD_ONES: Final = (psycopg.OperationalError, psycopg.InterfaceError, psycopg.errors.InternalError_)
"""What connections of the pool say that were lost, or whose session is broken; a new one need not."""

_READ_ONLY: Final = "the database may only be read now: nothing is stored"

_BUSY: Final = "all connections to the database are in use"
_BUSY_S: Final = 0.5
"""So long who asks after the service's health waits for one of them."""

_RECONNECT_S: Final = 2.0
"""So long the pool goes on trying by itself, ever more rarely. Then who needs a connection makes it try."""

_CONNECT: Final[dict[str, Any]] = {"connect_timeout": 5, "application_name": "sungrow-server pool"}

# Rollups have hundreds of short expressions: to compile them takes far longer than to compute them.
_CONFIGURE: Final = """
SELECT set_config('timezone', 'UTC', false),
  set_config('client_min_messages', 'warning', false),
  set_config('jit', 'off', false),
  CASE WHEN current_setting('synchronous_commit') = 'off'
    THEN set_config('synchronous_commit', 'on', false) END
"""


async def _configure(connection: Connection) -> None:
    await connection.set_autocommit(True)
    await connection.execute(_CONFIGURE)


class Database:
    """The server's way to PostgreSQL.

    Args:
        url: where the database is, as libpq takes it.
        size: most connections.
        patience_s: how long a request may wait for a connection.
    """

    def __init__(self, url: str, *, size: int = 8, patience_s: float = 2.5) -> None:
        self._connections: WeakSet[Connection] = WeakSet()
        self._checking: set[asyncio.Task[None]] = set()
        self._taken: set[Connection] = set()
        self._size = size
        self._turns: asyncio.Semaphore | None = None
        self._pool = AsyncConnectionPool(
            address(url),
            connection_class=Connection,
            min_size=1,
            max_size=size,
            open=False,
            configure=self._configure,
            timeout=patience_s,
            reconnect_timeout=_RECONNECT_S,
            kwargs=_CONNECT,
        )
        self._url = address(url)
        self._absence = Absence(self._look)

    async def open(self) -> None:
        """Start connecting, without waiting: a server may start before its database."""
        await self._pool.open(wait=False)

    def for_readers(self) -> Database:
        """Make a way over the same connections that never takes more than half of them.

        The others are left to readings that arrive, logins and the service's health, however many people
        look at long spans of time.
        """
        readers = copy(self)
        readers._turns = asyncio.Semaphore(max(1, self._size // 2))  # noqa: SLF001 - of our own class
        return readers

    async def _wait_for_turn(self, turns: asyncio.Semaphore) -> None:
        """Wait as long as for a connection until there are few enough readers."""
        if not turns.locked():
            await turns.acquire()  # returns at once
            return
        try:
            async with asyncio.timeout(self._pool.timeout):
                await turns.acquire()
        except TimeoutError:
            raise StorageUnavailableError("too many readers at once") from None

    async def close(self) -> None:
        """Close all connections."""
        await self._absence.close()
        await end(self._checking)
        await self._pool.close()

    async def _configure(self, connection: Connection) -> None:
        connection.patience_s = SILENCE_S
        self._connections.add(connection)
        await _configure(connection)
        [engine] = await fetch(connection, "engine")
        Engine.from_row(engine).require_supported()  # else there is no connection, and nothing is stored
        await fetch(connection, "limit_statements", ms=STATEMENT_MS)

    def _suspect(self) -> None:
        """End the idle connections, too, when one was ended because nothing was heard: they are as dead."""
        for connection in self._connections:
            if connection.is_idle:
                connection.hang_up()
        if not self._checking:
            task = asyncio.create_task(self._pool.check())
            self._checking.add(task)
            task.add_done_callback(self._checking.discard)

    async def run(
        self, job: Callable[[Connection], Awaitable[Result]], *, is_one_statement: bool = False
    ) -> Result:
        """Run ``job`` in one transaction and commit it; one statement alone is a transaction by itself.

        A deadlock or a lost connection makes it run again, so ``job`` must be repeatable: also when the
        commit took place and only its confirmation was lost. While the database is away nothing is begun.
        After an internal error it runs over a new connection: sessions that began before TimescaleDB was
        dropped say nothing else of any table. What a new one says as well is true.

        Raises:
            StorageUnavailableError: there is no connection.
            StorageError: the database refused.
        """
        with translated():
            for attempt in range(_ATTEMPTS):
                self._absence.refuse()
                try:
                    result = await self._in_turn(job, is_one_statement=is_one_statement)
                except RETRYABLE:
                    if attempt == _ATTEMPTS - 1:
                        raise
                    await asyncio.sleep(_BACKOFF_S * 2**attempt * (1 + random.random()))  # noqa: S311 - jitter
                except (psycopg.OperationalError, psycopg.InterfaceError) as error:
                    if not await self._may_be_an_old_one(error, attempt):
                        raise
                except psycopg.Error as error:
                    if attempt == _ATTEMPTS - 1 or not is_outdated(error):
                        raise
                else:
                    self._absence.answered()
                    return result
        raise AssertionError  # pragma: no cover - the loop returns or raises

    async def _may_be_an_old_one(self, error: psycopg.Error, attempt: int) -> bool:
        """Whether a connection was lost that may have been an old one of the pool; two are an outage.

        Raises:
            StorageUnavailableError: it was not: the database is away.
        """
        if isinstance(error, psycopg.errors.QueryCanceled):
            return False
        if isinstance(error, SilenceError):
            self._suspect()
        elif not attempt:
            await self._absence.found_out()
            return True
        self._absence.suspect()
        return False

    async def _in_turn(
        self, job: Callable[[Connection], Awaitable[Result]], *, is_one_statement: bool
    ) -> Result:
        if self._turns is None:
            return await self._once(job, is_one_statement=is_one_statement)
        await self._wait_for_turn(self._turns)
        try:
            return await self._once(job, is_one_statement=is_one_statement)
        finally:
            self._turns.release()

    async def _once(
        self, job: Callable[[Connection], Awaitable[Result]], *, is_one_statement: bool
    ) -> Result:
        connection = await self._take()
        try:
            return await _done(connection, job, is_one_statement=is_one_statement)
        except psycopg.errors.InternalError_:
            await connection.close()  # the pool makes another one
        finally:
            self._taken.discard(connection)
            await self._pool.putconn(connection)
        return await self._anew(job, is_one_statement=is_one_statement)

    async def _anew(
        self, job: Callable[[Connection], Awaitable[Result]], *, is_one_statement: bool
    ) -> Result:
        """Run a job over a connection that is none of the pool: those may all be broken."""
        async with await Connection.connect(self._url, **_CONNECT) as connection:
            await self._configure(connection)
            return await _done(connection, job, is_one_statement=is_one_statement)

    async def _take(self) -> Connection:
        """Wait for a connection.

        Before Python 3.12 the pool's `asyncio.wait_for` loses a cancellation that comes in the moment in
        which a connection does, and who was cancelled would go on.
        """
        task = asyncio.current_task()
        assert task is not None
        before = task.cancelling()
        connection = await self._pool.getconn()
        if task.cancelling() > before:
            await self._pool.putconn(connection)
            raise asyncio.CancelledError
        self._taken.add(connection)
        return connection

    async def rows(self, name: str, /, **parameters: Any) -> list[tuple[Any, ...]]:
        """Rows the statement called ``name`` answers, in a transaction of its own.

        Raises:
            StorageUnavailableError: there is no connection.
            StorageError: the database refused.
        """

        async def job(connection: Connection) -> list[tuple[Any, ...]]:
            return await fetch(connection, name, **parameters)

        return await self.run(job, is_one_statement=True)

    async def call(self, name: str, /, **parameters: Any) -> None:
        """Run a statement that commits by itself and needs its time.

        Raises:
            StorageUnavailableError: there is no connection, or something else holds what it needs.
            StorageError: the database refused.
        """

        async def job(connection: Connection) -> None:
            await fetch(connection, "limit_statements", ms=0)
            connection.patience_s = LONG_SILENCE_S
            try:
                await fetch(connection, name, **parameters)
            finally:
                connection.patience_s = SILENCE_S
                await fetch(connection, "limit_statements", ms=STATEMENT_MS)

        await self.run(job, is_one_statement=True)

    async def engine(self) -> Engine:
        """Find out what stores the data.

        Raises:
            StorageUnavailableError: there is no connection.
        """
        [row] = await self.rows("engine")
        return Engine.from_row(row)

    def pool(self) -> dict[str, int]:
        """How the connections are used: `size`, `idle`, and how many requests are `waiting` for one."""
        stats = self._pool.get_stats()
        named = {"size": "pool_size", "idle": "pool_available", "waiting": "requests_waiting"}
        return {name: stats.get(theirs, 0) for name, theirs in named.items()}

    async def check(self) -> None:
        """Prove that the database answers within a second, has the schema, and takes what is written.

        Raises:
            StorageUnavailableError: it does not, or its schema is missing or old.
        """
        await self._absence.examined()

    async def _look(self) -> StorageUnavailableError | None:
        """Examine the database over an idle connection, else a new one: it may be there while all work."""
        with translated():
            for _ in range(self._size):
                if not self.pool()["idle"]:
                    break
                with suppress(*_OLD_ONES):
                    return await self._examined_over_pool()
            try:
                connection = await Connection.connect(self._url, **_CONNECT)
            except psycopg.errors.ConnectionTimeout:
                raise
            except psycopg.OperationalError as error:
                return await self._examined_later(error)
            async with connection:
                await self._configure(connection)
                return await _examined(connection)

    async def _examined_later(self, error: psycopg.OperationalError) -> StorageUnavailableError | None:
        """Examine a database that gives us no new connection over one that is in use and comes back.

        Raises:
            BusyError: there is none in time, but nothing says that the database is away.
            OperationalError: it is.
        """
        taken = set(self._taken)
        if taken or is_full(error):
            with suppress(PoolTimeout):
                return await self._examined_over_pool(_BUSY_S)
        if is_full(error) or (taken and not any(connection.closed for connection in taken)):
            raise BusyError(_BUSY) from error
        raise error

    async def _examined_over_pool(self, patience_s: float | None = None) -> StorageUnavailableError | None:
        connection = await self._pool.getconn(patience_s)
        try:
            return await _examined(connection)
        except SilenceError:
            self._suspect()
            raise
        except psycopg.errors.InternalError_:
            await connection.close()
            raise
        finally:
            await self._pool.putconn(connection)


async def _done(
    connection: Connection, job: Callable[[Connection], Awaitable[Result]], *, is_one_statement: bool
) -> Result:
    if is_one_statement:  # it is committed by itself, and needs no care for open transactions
        return await job(connection)
    async with connection:
        async with connection.transaction():
            result = await job(connection)
        connection.settled()
        return result


async def _examined(connection: Connection) -> StorageUnavailableError | None:
    """What stands against storing readings in a database that answers."""
    try:
        history = await fetch(connection, "read_history")
    except psycopg.errors.UndefinedTable:
        return SchemaMissingError()
    if SCHEMA_VERSION not in {name for name, _ in history}:
        return SchemaMissingError()
    is_read_only = await fetch(connection, "is_read_only") == [(True,)]
    return StorageUnavailableError(_READ_ONLY) if is_read_only else None


async def fetch(connection: AsyncConnection[Any], name: str, /, **parameters: Any) -> list[tuple[Any, ...]]:
    """Run the statement called ``name`` and return its rows, none for a statement without any."""
    cursor = await connection.execute(query(name), parameters)
    return await cursor.fetchall() if cursor.description else []


async def fetch_records(
    connection: AsyncConnection[Any], name: str, **parameters: Any
) -> list[dict[str, Any]]:
    """Run the statement called ``name`` and return its rows by column name."""
    cursor = await connection.execute(query(name), parameters)
    names = [column.name for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in await cursor.fetchall()]


@asynccontextmanager
async def all_the_time(connection: Connection) -> AsyncIterator[None]:
    """Let the statements of a transaction take as long as they need."""
    await fetch(connection, "take_all_time")
    patience_s, connection.patience_s = connection.patience_s, LONG_SILENCE_S
    try:
        yield
    finally:
        connection.patience_s = patience_s


PATIENCE_S: Final = 60.0
"""So long a command waits for what is just being stored, or held by others."""


@asynccontextmanager
async def session(url: str, *, patience_s: float = 0.0) -> AsyncIterator[Connection]:
    """One connection for a command, of which each statement is committed by itself.

    Args:
        url: where the database is.
        patience_s: how long a statement may wait for what another session holds; 0 for ever.

    Raises:
        StorageUnavailableError: there is no connection.
        StorageError: the database refused, or patience was at its end.
    """
    with translated():
        async with await Connection.connect(address(url), connect_timeout=10) as connection:
            await _configure(connection)
            await fetch(connection, "limit_waits", ms=round(patience_s * 1000))
            yield connection


@asynccontextmanager
async def connected(url: str, *, patience_s: float = 0.0) -> AsyncIterator[Connection]:
    """The same in one transaction that is committed at the end."""
    async with session(url, patience_s=patience_s) as connection, connection.transaction():
        yield connection
