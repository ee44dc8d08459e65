"""The storage's own errors, and the one place where psycopg's become them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import errors as pg
from psycopg_pool import PoolClosed, PoolTimeout

from sungrow_lib.errors import SungrowError


class StorageError(SungrowError):
    """The database could not do what was asked."""


class StorageUnavailableError(StorageError):
    """The database cannot be reached; check DATABASE_URL and that PostgreSQL runs."""


class SchemaMissingError(StorageUnavailableError):
    """The database has no schema, or an old one; run `sungrow-server migrate`."""


class BusyError(StorageUnavailableError):
    """The database is there, but has no connection for us now."""


RETRYABLE = (
    pg.DeadlockDetected,
    pg.SerializationFailure,
    pg.UniqueViolation,  # two identical inserts at one time into a TimescaleDB chunk
)
"""Errors after which the same transaction is simply run again."""

_UNDEFINED = (pg.UndefinedTable, pg.UndefinedColumn, pg.UndefinedFunction, pg.InvalidSchemaName)
_AWAY = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    pg.ReadOnlySqlTransaction,  # a standby after a failover, or an administrator who wants no writes now
)


_DISK_FULL = "the database's disk is full; make room there: until then no readings are taken"
_HELD = (
    "another session of the database has held for too long what this needs; look in pg_stat_activity for one "
    "that stands still ('idle in transaction', say), end it, and do the same again"
)
_FULL = ("too many connections", "too many clients", "connection slots are reserved")


def is_full(error: psycopg.Error) -> bool:
    """Whether the server refused a connection because it has too many (53300).

    libpq passes on no code of what is refused while connecting, so there it goes by the words.
    """
    if error.sqlstate is not None:
        return isinstance(error, pg.TooManyConnections)
    return any(words in str(error) for words in _FULL)


def is_outdated(error: psycopg.Error) -> bool:
    """Whether the server ended the session for what it is: one begun before an update of TimescaleDB, say.

    It ends all such sessions, each at its next statement; a new one works.
    """
    known = isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
    return not known and error.diag.severity_nonlocalized == "FATAL"


@contextmanager
def translated() -> Iterator[None]:
    """Turn psycopg's errors into the storage's.

    Raises:
        StorageUnavailableError: no connection, or it was lost; or there is no writing now, or no room.
        SchemaMissingError: a table or column is missing.
        StorageError: anything else the database refused.
    """
    try:
        yield
    except (PoolTimeout, PoolClosed) as error:
        raise StorageUnavailableError from error
    except _UNDEFINED as error:
        raise SchemaMissingError from error
    except pg.LockNotAvailable as error:
        raise StorageError(_HELD) from error
    except pg.DiskFull as error:
        raise StorageUnavailableError(_DISK_FULL) from error
    except _AWAY as error:
        raise StorageUnavailableError(_unusable(error)) from error
    except psycopg.Error as error:
        if is_outdated(error):
            raise StorageUnavailableError(_unusable(error)) from error
        raise StorageError(f"the database refused: {_first_line(error)}") from error


def _unusable(error: BaseException) -> str:
    return (
        f"the database cannot be used now ({_first_line(error)}); check DATABASE_URL and that PostgreSQL runs"
    )


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
