"""Which layout a file has: whether it is a spool, and one that this program can read.

The header of the file says it, without any checksum, and a row of `meta` as well. A number that no version
ever had, or one that only the header has, is damage, and no reason to wait for another program for ever.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

from sungrow_lib.errors import NotASpoolError, SpoolCorruptError, SpoolUnavailableError
from sungrow_lib.spool import schema
from sungrow_lib.spool.disk import sync
from sungrow_lib.spool.errors import CORRUPT_ADVICE

_LAYOUT: Final = "layout"
"""Key of what the header should say."""
_KNOWN: Final = frozenset({schema.SCHEMA_VERSION, *schema.EARLIER_VERSIONS})
_MOST: Final = 99
"""No version will have a higher number."""


def has_tables(connection: sqlite3.Connection) -> bool:
    """Whether the file is more than yet to be made."""
    return bool(connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0])


def recognise(connection: sqlite3.Connection, path: Path) -> None:
    """Make sure that a file is a spool this program can read, or yet to be made; it is only read.

    Raises:
        NotASpoolError: it is another program's.
        SpoolCorruptError: what says what it is is damaged.
        SpoolUnavailableError: a newer version made it.
    """
    if not has_tables(connection):
        return
    if connection.execute("PRAGMA application_id").fetchone()[0] != schema.APPLICATION_ID:
        if _looks_like_ours(connection):
            raise _damaged(path)
        raise NotASpoolError(
            f"{path} is a database, but not a spool; name another file (SPOOL_PATH).",
            variable="SPOOL_PATH",
        )
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version in _KNOWN:
        return
    if not 0 < version <= _MOST or _noted(connection) in {str(known) for known in _KNOWN}:
        raise _damaged(path)
    raise SpoolUnavailableError(
        f"The spool {path} was written by a newer version (layout {version}, known: "
        f"{schema.SCHEMA_VERSION}); upgrade this program. Nothing was changed."
    )


def prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Make the tables where there are none, and note the layout; in a transaction."""
    if not has_tables(connection):
        for statement in (*schema.statements(schema.CREATE), *schema.KEEP_TWICE):
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
        # SQLite syncs the file, but the file's name is only safe once its folder is synced too.
        sync(path.parent)
    if connection.execute("PRAGMA user_version").fetchone()[0] != schema.SCHEMA_VERSION:
        # From now on an earlier program could not read all of it, and is told so.
        connection.execute(f"PRAGMA user_version = {schema.SCHEMA_VERSION}")
    if _noted(connection) != str(schema.SCHEMA_VERSION):
        connection.execute(schema.SET_META, (_LAYOUT, str(schema.SCHEMA_VERSION)))


def _noted(connection: sqlite3.Connection) -> object:
    row = connection.execute(schema.META, (_LAYOUT,)).fetchone()
    return None if row is None else row[0]


def _damaged(path: Path) -> SpoolCorruptError:
    return SpoolCorruptError(f"The spool {path} is damaged (its header). {CORRUPT_ADVICE}")


def _looks_like_ours(connection: sqlite3.Connection) -> bool:
    names = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    return {"reading", "standing", "answered"} <= names
