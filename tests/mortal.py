"""Databases that a test kills in the middle of what they do."""

from __future__ import annotations

from typing import Any, Final, Protocol, Self

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.sql import SQL, Identifier


class Mortal(Protocol):
    """A database that can be killed: one of ours whole, of a server that others use all we have of it."""

    @property
    def dsn(self) -> str:
        """Address of the database."""

    def kill(self) -> None:
        """End it without warning: whatever was not committed is lost, and nobody is let in."""

    def start(self) -> Any:
        """Let everybody in again."""


class LentDatabase:
    """A database of a server that others use, too, so that the server itself has to live.

    All its sessions are ended in the middle of what they do, and until it is started again each new one is
    refused: to who uses it, it is away, as if the server had been killed.

    Args:
        dsn: address of the database, empty and of this test alone.
        engine: address of another one of the same server.
    """

    def __init__(self, dsn: str, engine: str) -> None:
        self.dsn: Final = dsn
        self._name = str(conninfo_to_dict(dsn)["dbname"])
        self._admin = psycopg.connect(engine, autocommit=True)  # now: to connect takes longer than a COPY

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._admin.close()

    def kill(self) -> None:
        """End all its sessions and let nobody in."""
        self._end_sessions()
        self._let_in(everybody=False)
        self._end_sessions()  # those that came in between

    def start(self) -> None:
        """Let everybody in again."""
        self._let_in(everybody=True)

    def _end_sessions(self) -> None:
        sql = "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE datname = %s"
        self._admin.execute(sql, [self._name])

    def _let_in(self, *, everybody: bool) -> None:
        sql = SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
        self._admin.execute(sql.format(Identifier(self._name), everybody))
