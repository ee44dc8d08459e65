"""Brings a database to the present schema: numbered files once each, the engine's own when they changed.

A fresh database gets ``schema.sql`` in one go; another the migrations it lacks. TimescaleDB Community then
gets ``timescale/``, every other engine ``plain/``; those files are safe to run again and are whenever
their text or the retention horizon changed.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic, sleep
from typing import Any, Final

import psycopg

from reference_server.resources import db_folder
from reference_server.storage.errors import StorageError, translated
from reference_server.storage.queries import query

_LOG: Final = logging.getLogger(__name__)

LOCK_NAMESPACE: Final = 0x53470001
"""First key of the advisory lock under which the schema changes."""

OLDEST_POSTGRESQL: Final = 150_000
OLDEST_TIMESCALEDB: Final = (2, 18, 1)
"""Before it, ON CONFLICT DO NOTHING on a compressed chunk skipped rows that were new."""

DROP_UNFINISHED: Final = (
    "if none is running, drop the database (DROP DATABASE ... WITH (FORCE)), make a new one and restore again"
)
"""What becomes of a database that holds a part of a backup."""

_AGGREGATES: Final = ("samples_hourly", "samples_daily", "samples_monthly")
_PATIENCE_S: Final = 600.0
_AGAIN_S: Final = 0.5

SCHEMA_VERSION: Final = max(path.stem for path in (db_folder() / "migrations").glob("*.sql"))
"""Name of the newest migration this program knows."""


@dataclass(frozen=True, slots=True)
class Engine:
    """What stores the data.

    Attributes:
        postgresql: such as 150020.
        timescaledb: its version, None without it.
        community: whether hypertable compression and continuous aggregates may be used.
        is_unfinished: whether a backup is being restored, or was until that broke off.
    """

    postgresql: int
    timescaledb: str | None
    community: bool
    is_unfinished: bool = False

    @classmethod
    def from_row(cls, row: tuple[Any, ...]) -> Engine:
        """Engine from what the statement `engine` answers."""
        postgresql, timescaledb, licence, is_unfinished = row
        return cls(postgresql, timescaledb, timescaledb is not None and licence == "timescale", is_unfinished)

    @property
    def folder(self) -> str:
        """Folder of ``db/`` with this engine's own part."""
        return "timescale" if self.community else "plain"

    def require_supported(self) -> None:
        """Refuse an engine that would lose data.

        Raises:
            StorageError: it is too old, or a restore has not finished.
        """
        if self.is_unfinished:
            raise StorageError(f"a restore into this database goes on or broke off; {DROP_UNFINISHED}")
        if self.postgresql < OLDEST_POSTGRESQL:
            raise StorageError(f"PostgreSQL {self.postgresql // 10_000} is too old; 15 or later is needed")
        if self.timescaledb is not None and _version(self.timescaledb) < OLDEST_TIMESCALEDB:
            raise StorageError(
                f"TimescaleDB {self.timescaledb} loses new rows that arrive together with known ones in a "
                "compressed chunk; update it to 2.18.1 or later (ALTER EXTENSION timescaledb UPDATE)"
            )


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("-", maxsplit=1)[0].split("."))


def migrate(
    url: str, *, retention_days: int = 400, folder: Path | None = None, from_schema: bool = True
) -> list[str]:
    """Bring the database at ``url`` to the present schema; return the names of what was applied.

    Args:
        url: where the database is, as libpq takes it.
        retention_days: how far back refresh policies may reach.
        folder: the SQL, by default the one the server carries.
        from_schema: whether a fresh database gets ``schema.sql``, not every migration.

    Raises:
        StorageUnavailableError: there is no connection.
        StorageError: the engine is too old, an applied migration was changed, or SQL was refused.
    """
    folder = folder or db_folder()
    with translated(), psycopg.connect(url, autocommit=True, connect_timeout=10) as connection:
        connection.execute("SET client_min_messages TO warning")
        engine = detect_engine(connection)
        engine.require_supported()
        connection.execute(query("lock_schema"), {"namespace": LOCK_NAMESPACE})
        connection.execute(query("tell_retention"), {"days": str(retention_days)})
        applied = _apply_numbered(connection, folder, from_schema=from_schema)
        changed = _apply_engine(connection, folder / engine.folder, retention_days)
        if engine.community and changed:
            now = datetime.now(UTC)
            told = {"horizon": now - timedelta(days=retention_days), "now": now}
            _refresh(connection, connection.execute(query("unreached_by_policies"), told).fetchall())
        applied += changed
        return applied


def is_timescaledb_unused(url: str) -> bool:
    """Whether TimescaleDB is installed, but the database does not use it.

    Raises:
        StorageUnavailableError: there is no connection.
        StorageError: SQL was refused.
    """
    with translated(), psycopg.connect(url, autocommit=True, connect_timeout=10) as connection:
        return connection.execute(query("timescaledb_unused")).fetchone() == (True,)


def refresh_aggregates(url: str) -> None:
    """Bring the continuous aggregates in step with the rollups, also where their policies no longer look.

    Raises:
        StorageUnavailableError: there is no connection.
        StorageError: SQL was refused.
    """
    with translated(), psycopg.connect(url, autocommit=True, connect_timeout=10) as connection:
        if detect_engine(connection).community:
            now = datetime.now(UTC)
            _refresh(connection, [(name, now) for name in _AGGREGATES])


def _refresh(connection: psycopg.Connection[Any], wanted: Iterable[tuple[str, datetime]]) -> None:
    """Refresh aggregates; TimescaleDB refuses while a policy of its own, say, refreshes the same time."""
    for name, until in wanted:
        end = monotonic() + _PATIENCE_S
        while not _refreshed(connection, name, until, is_last=monotonic() > end):
            sleep(_AGAIN_S)


def _refreshed(connection: psycopg.Connection[Any], name: str, until: datetime, *, is_last: bool) -> bool:
    try:
        connection.execute(query("refresh_aggregate"), {"name": name, "until": until})
    except psycopg.errors.LockNotAvailable:
        if is_last:
            raise
        return False
    return True


def detect_engine(connection: psycopg.Connection[Any]) -> Engine:
    """Find out what stores the data."""
    row = connection.execute(query("engine")).fetchone()
    assert row is not None
    return Engine.from_row(row)


def _apply_numbered(connection: psycopg.Connection[Any], folder: Path, *, from_schema: bool) -> list[str]:
    files = sorted((folder / "migrations").glob("*.sql"))
    exists = connection.execute(query("history_exists")).fetchone()
    if from_schema and exists == (False,):
        with connection.transaction():
            _run(connection, folder / "schema.sql")
            connection.execute(query("make_history"))
            for path in files:
                _remember(connection, path.stem, _checksum(path))
        return ["schema"]
    connection.execute(query("make_history"))
    history = _history(connection)
    applied = []
    for path in files:
        if history.get(path.stem, _checksum(path)) != _checksum(path):
            raise StorageError(f"migration {path.stem} was applied with another text than this program's")
        if path.stem not in history:
            with connection.transaction():
                _run(connection, path)
                _remember(connection, path.stem, _checksum(path))
            applied.append(path.stem)
    return applied


def _apply_engine(connection: psycopg.Connection[Any], folder: Path, retention_days: int) -> list[str]:
    """Run the engine's files whose text, or the horizon they depend on, has changed."""
    history = _history(connection)
    applied = []
    for path in sorted(folder.glob("*.sql")):
        name, version = f"{folder.name}/{path.stem}", f"{_checksum(path)} {retention_days}"
        if history.get(name) != version:
            with connection.transaction():
                _run(connection, path)
                _remember(connection, name, version)
            applied.append(name)
    return applied


def _run(connection: psycopg.Connection[Any], path: Path) -> None:
    _LOG.info("applying %s", path.name)
    connection.execute(path.read_bytes())


def _history(connection: psycopg.Connection[Any]) -> dict[str, str]:
    return dict(connection.execute(query("read_history")).fetchall())


def _remember(connection: psycopg.Connection[Any], name: str, checksum: str) -> None:
    connection.execute(query("write_history"), {"name": name, "checksum": checksum})


def _checksum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
