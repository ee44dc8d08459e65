"""What a spool says of itself: which one it is, and what it was made from."""

from __future__ import annotations

import json
import sqlite3
import uuid
from dataclasses import asdict

from sungrow_lib.spool.entries import SpoolIdentity, SpoolRecovery


def identify(connection: sqlite3.Connection) -> SpoolIdentity:
    """Return which spool this is; one that is new gets its names now."""
    for key in ("edge_id", "generation"):
        connection.execute("INSERT OR IGNORE INTO meta VALUES (?, ?)", (key, str(uuid.uuid4())))
    return read_identity(connection)


def read_identity(connection: sqlite3.Connection) -> SpoolIdentity:
    """Return which spool this is."""
    meta = dict(connection.execute("SELECT key, value FROM meta").fetchall())
    return SpoolIdentity(edge_id=meta["edge_id"], generation=meta["generation"])


def renew_generation(connection: sqlite3.Connection) -> SpoolIdentity:
    """Give the spool a new generation, and return which spool it is now."""
    connection.execute("UPDATE meta SET value = ? WHERE key = 'generation'", (str(uuid.uuid4()),))
    return read_identity(connection)


def note_recovery(connection: sqlite3.Connection, recovery: SpoolRecovery) -> None:
    """Keep what became of the damaged file this one is made from, for `status`."""
    value = json.dumps(asdict(recovery))
    connection.execute("INSERT OR REPLACE INTO meta VALUES ('recovery', ?)", (value,))


def read_recovery(connection: sqlite3.Connection) -> SpoolRecovery | None:
    """Return what a spool says of its origin."""
    row = connection.execute("SELECT value FROM meta WHERE key = 'recovery'").fetchone()
    return None if row is None else SpoolRecovery(**json.loads(row[0]))
