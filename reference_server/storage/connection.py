"""A connection to PostgreSQL that does not wait for ever for a database that has vanished."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from typing import Any, Final, TypeVar

import psycopg
from psycopg import AsyncConnection
from psycopg.abc import PQGen
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from reference_server.storage.queries import query

Result = TypeVar("Result")

_WATCHED_BY_THE_KERNEL: Final = {
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
"""When the kernel gives a connection up whose other end is gone: after half a minute, not after two hours."""


def address(url: str) -> str:
    """Add what a database's address does not say of how long to wait for a host that is gone."""
    given = conninfo_to_dict(url)
    return make_conninfo(url, **{name: n for name, n in _WATCHED_BY_THE_KERNEL.items() if name not in given})


class SilenceError(psycopg.OperationalError):
    """The database said nothing for too long, and the connection was ended."""


class Connection(AsyncConnection[Any]):
    """A connection that remembers whether it has its own `incoming` table, and ends when it hears nothing.

    The kernel notices when the other end is gone, but not when something between, or the database itself,
    keeps the connection and says nothing.

    Attributes:
        has_incoming: whether a committed transaction of this connection made the table.
        patience_s: how long the database may say nothing while it is waited for; None for ever.
        prepared: names of the statements that stay prepared, by their text and the types of their parameters.
    """

    has_incoming: bool = False
    patience_s: float | None = None
    prepared: dict[tuple[bytes, tuple[int, ...]], bytes]
    _made_incoming: bool = False
    _gave_up: bool = False
    _waits: bool = False

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.prepared = {}

    async def require_incoming(self) -> None:
        """Make this connection's `incoming` table if it has none."""
        self._made_incoming = True
        if not self.has_incoming:
            await self.execute(query("make_incoming"))

    def settled(self) -> None:
        """Note that the transaction was committed, and the table with it."""
        self.has_incoming |= self._made_incoming

    async def wait(self, gen: PQGen[Result], *args: Any, **options: Any) -> Result:
        """Wait for the database, as psycopg does at all it asks.

        Raises:
            SilenceError: it says nothing.
        """
        if self.patience_s is None:
            return await super().wait(gen, *args, **options)
        timer = asyncio.get_running_loop().call_later(self.patience_s, self._give_up)
        self._waits = True
        try:
            return await super().wait(gen, *args, **options)
        except psycopg.OperationalError as error:
            if self._gave_up:
                raise SilenceError(f"it said nothing for {self.patience_s:g} s") from error
            raise
        finally:
            self._waits = False
            timer.cancel()

    def _give_up(self) -> None:
        self._gave_up = True
        self.hang_up()

    def hang_up(self) -> None:
        """End the connection below libpq, which sees an end of file and fails as it does at any lost one."""
        with suppress(OSError, psycopg.Error), _same_socket(self.fileno()) as line:
            line.shutdown(socket.SHUT_RDWR)

    @property
    def is_idle(self) -> bool:
        """Whether nobody waits for the database now."""
        return not self._waits


def _same_socket(descriptor: int) -> socket.socket:
    return socket.fromfd(descriptor, socket.AF_INET, socket.SOCK_STREAM)
