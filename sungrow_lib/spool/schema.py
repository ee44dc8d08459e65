"""The spool's tables and every statement on them.

Built for little wear: `reading` is appended to and hardly ever changed; where a reading stands is a narrow
row of `standing`, so that a settled batch rewrites one or two small pages instead of the readings
themselves. Time stamps are milliseconds since 1970 in UTC.
"""

# ruff: noqa: S608 - statements are put together from literals of this file only; values are always bound

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Final

from sungrow_lib.wire import LAST_DELIVERED_LIMIT

APPLICATION_ID: Final = 0x53475350  # "SGSP"
SCHEMA_VERSION: Final = 2
EARLIER_VERSIONS: Final = frozenset({1})
"""Differ only in that a content was plain text; such rows stay readable."""
FIRST_MS: Final = -62_135_596_800_000
LAST_MS: Final = 253_402_300_799_999
"""The first and the last date that can be written: of the years 1 to 9999."""
PAGE_BYTES: Final = 1024
"""A quarter of SQLite's default: a commit writes whole pages, and a reading is smaller than one."""

CREATE: Final = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
-- floor_ts: a date given to a waiting row; the device's dates go on above it.
CREATE TABLE device (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, floor_ts INTEGER);
CREATE TABLE boot (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);

-- seq is never used twice although the table has no AUTOINCREMENT (whose counter costs a page per commit):
-- SQLite continues after the highest row, and the trigger keeps that row.
CREATE TABLE reading (
  seq INTEGER PRIMARY KEY,
  device INTEGER NOT NULL REFERENCES device,
  ts INTEGER NOT NULL,
  boot INTEGER NOT NULL REFERENCES boot,
  boot_ms INTEGER NOT NULL,
  clock TEXT,
  content BLOB NOT NULL  -- see packing.py; `unpacked` is a function of ours
);
CREATE TRIGGER keep_last BEFORE DELETE ON reading WHEN old.seq = (SELECT max(seq) FROM reading)
BEGIN SELECT RAISE(ABORT, 'the last reading must stay: its number would be used again'); END;

-- One row per reading, at all times. at: delivered when (null: nobody knew the time), or deferred until
-- (see `Deferrals`).
-- offered: 0 never, 1 yes; 2 for a row called future that is on its way again: whether the server took it is
-- unknown, so its date must stand. More by a multiple of 4: not since its device was renamed (renaming.py).
CREATE TABLE standing (
  device INTEGER NOT NULL,
  state INTEGER NOT NULL,
  seq INTEGER NOT NULL,
  offered INTEGER NOT NULL DEFAULT 0,
  at INTEGER,
  code TEXT,
  reason TEXT,
  PRIMARY KEY (device, state, seq)
) WITHOUT ROWID;

-- ts of the last row of the most recently answered batches, per device.
CREATE TABLE answered (id INTEGER PRIMARY KEY, device INTEGER NOT NULL, ts INTEGER NOT NULL);
CREATE TABLE server_version (version TEXT PRIMARY KEY) WITHOUT ROWID;
-- Time stamps outside the increasing order (rows the server called future): not to be given again.
CREATE TABLE reserved (device INTEGER NOT NULL, ts INTEGER NOT NULL, PRIMARY KEY (device, ts)) WITHOUT ROWID;
"""


DOUBTFUL: Final = "doubtful"
"""Code of a reading a recovery set apart: its date is not known to be right, and counts for no other."""

EACH_RENAMING: Final = 4
"""`offered` is so much more, times the number of the renaming, until a reading is sent under its new name."""

HELD_PREFIX: Final = "held:"
RENAMED_PREFIX: Final = "renamed:"
NAMES_SEEN: Final = "lost_names"
"""Key that is there once names that an earlier version gave were seen to: a device may be called so, too."""

META: Final = "SELECT value FROM meta WHERE key = ?"
SET_META: Final = "INSERT OR REPLACE INTO meta VALUES (?, ?)"
# What decides whether readings may be sent, and as whose, is in the file twice, on pages of their own: one is
# left where damage takes the other. A recovery reads both alike.
_IS_KEPT_TWICE: Final = (
    f"({{0}} IN ('edge_id', 'spool_id', 'follows', '{NAMES_SEEN}') OR {{0}} GLOB '{HELD_PREFIX}*'"
    f" OR {{0}} GLOB '{RENAMED_PREFIX}*')"
)
_KEEP_AGAIN: Final = "DELETE FROM again WHERE key = {0}.key; INSERT INTO again VALUES ({0}.key, {0}.value);"
KEEP_TWICE: Final = (
    "CREATE TABLE IF NOT EXISTS again (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    *(
        f"CREATE TRIGGER IF NOT EXISTS again_{event} AFTER {event} ON meta"
        f" WHEN {_IS_KEPT_TWICE.format('new.key')} BEGIN {_KEEP_AGAIN.format('new')} END"
        for event in ("insert", "update")
    ),
    (
        f"CREATE TRIGGER IF NOT EXISTS again_delete AFTER DELETE ON meta"
        f" WHEN {_IS_KEPT_TWICE.format('old.key')} BEGIN DELETE FROM again WHERE key = old.key; END"
    ),
)
COPY_AGAIN: Final = (
    f"INSERT OR REPLACE INTO again SELECT key, value FROM meta WHERE {_IS_KEPT_TWICE.format('key')}"
    " EXCEPT SELECT key, value FROM again"
)
NAME_FILE: Final = "INSERT OR IGNORE INTO meta SELECT ?, value FROM meta WHERE key = 'generation'"
DROP_META: Final = "DELETE FROM meta WHERE key = ?"

# Devices whose readings are not sent: see holding.py.
HOLD: Final = f"INSERT OR IGNORE INTO meta VALUES ('{HELD_PREFIX}' || ?, ?)"
SEE_NAMES: Final = f"INSERT OR IGNORE INTO meta VALUES ('{NAMES_SEEN}', 'held')"
HOLD_LOST: Final = (
    f"INSERT OR IGNORE INTO meta SELECT '{HELD_PREFIX}' || name, ?1 FROM device"
    " WHERE name GLOB ?2 || '[0-9]*' AND NOT substr(name, length(?2) + 1) GLOB '*[^0-9]*'"
)
LET_GO: Final = f"DELETE FROM meta WHERE key = '{HELD_PREFIX}' || ?"
IS_HELD: Final = f"SELECT 1 FROM meta WHERE key = '{HELD_PREFIX}' || ?"
HELD: Final = (
    "SELECT d.name, m.value, (SELECT count(*) FROM standing WHERE device = d.id AND state IN (0, 1, 2)),"
    " (SELECT count(*) FROM standing WHERE device = d.id AND state = 5)"
    f" FROM device d JOIN meta m ON m.key = '{HELD_PREFIX}' || d.name ORDER BY d.id"
)
RENAME_DEVICE: Final = "UPDATE device SET name = ? WHERE name = ?"
NAMES: Final = "SELECT name FROM device WHERE EXISTS (SELECT 1 FROM standing WHERE device = id) ORDER BY id"
COUNT_DEVICE: Final = "SELECT count(*) FROM standing WHERE device = ?"
COUNT_WAITING: Final = "SELECT count(*) FROM standing WHERE device = ? AND state = 1"
SET_ASIDE: Final = (
    "UPDATE standing SET state = 4, at = NULL, code = 'set_aside', reason = 'set aside by command'"
    " WHERE device = ? AND state IN (0, 2)"
)

_RECORD: Final = (
    "SELECT r.seq, d.name, r.ts, r.content, r.clock, s.state, s.offered, s.at, s.code, s.reason,"
    f" b.name, r.boot_ms, (SELECT value FROM meta WHERE key = '{HELD_PREFIX}' || d.name)"
    # Where damage took what belongs to a reading it is found all the same, to be named.
    " FROM reading r LEFT JOIN device d ON d.id = r.device LEFT JOIN boot b ON b.id = r.boot"
    " LEFT JOIN standing s ON s.device = r.device AND s.state IN (0, 1, 2, 3, 4, 5) AND s.seq = r.seq"
)
RECORDS: Final = f"{_RECORD} WHERE r.seq > ? ORDER BY r.seq"

_ENTRY: Final = (
    "SELECT r.seq, r.ts, r.content, r.clock, s.offered FROM standing s CROSS JOIN reading r ON r.seq = s.seq"
)
FRESH: Final = f"{_ENTRY} WHERE s.device = ? AND s.state = 0 AND s.seq > ? ORDER BY s.seq DESC"
BACKLOG: Final = f"{_ENTRY} WHERE s.device = ? AND s.state = 0 AND s.seq <= ? ORDER BY s.seq"
BACKLOG_END: Final = (
    "SELECT seq FROM standing WHERE device = ? AND state = 0 ORDER BY seq DESC LIMIT 1 OFFSET ?"
)
DUE: Final = (
    f"{_ENTRY} WHERE s.device = ? AND s.state = 2"
    " AND coalesce(s.at, 0) NOT IN (SELECT value FROM json_each(?)) ORDER BY s.seq"
)

_NEVER: Final = -(2**62)
_NEWEST: Final = ", ".join(
    "coalesce((SELECT r.ts FROM standing s CROSS JOIN reading r ON r.seq = s.seq"
    f" WHERE s.device = ?1 AND s.state = {state} AND s.code IS NOT 'future' AND s.code IS NOT '{DOUBTFUL}'"
    f" ORDER BY s.seq DESC LIMIT 1), {_NEVER})"
    for state in (0, 2, 3, 4, 5)
)
_FLOOR: Final = f"coalesce((SELECT floor_ts FROM device WHERE id = ?1), {_NEVER})"
LAST_TS: Final = f"SELECT nullif(max({_FLOOR}, {_NEWEST}), {_NEVER})"
DATES: Final = (  # in one: every reading asks
    f"SELECT ({LAST_TS}), EXISTS (SELECT 1 FROM standing WHERE device = ?1 AND state = 1),"
    " EXISTS (SELECT 1 FROM standing WHERE device = ?1 AND state = 2),"
    " EXISTS (SELECT 1 FROM reserved WHERE device = ?1)"
)
IS_RESERVED: Final = "SELECT 1 FROM reserved WHERE device = ? AND ts = ?"
RESERVE: Final = "INSERT OR IGNORE INTO reserved VALUES (?, ?)"
RESERVE_SEQ: Final = "INSERT OR IGNORE INTO reserved SELECT device, ts FROM reading WHERE seq = ?"

_UNDATED: Final = (
    "SELECT r.seq, r.ts, b.name, r.boot_ms FROM standing s CROSS JOIN reading r ON r.seq = s.seq"
    " LEFT JOIN boot b ON b.id = r.boot WHERE s.device = ?"
)
WAITING: Final = f"{_UNDATED} AND s.state = 1 ORDER BY s.seq LIMIT ?"
FUTURE: Final = (
    f"{_UNDATED} AND s.state = 2 AND s.code = 'future' AND s.offered % {EACH_RENAMING} = 1 ORDER BY s.seq"
)
IS_WAITING: Final = "SELECT 1 FROM standing WHERE device = ? AND state = 1 LIMIT 1"
IS_ANY: Final = "SELECT 1 FROM device d JOIN standing s ON s.device = d.id AND s.state = ? LIMIT 1"
WAITING_SINCE: Final = (
    "SELECT min(r.boot_ms) FROM standing s CROSS JOIN reading r ON r.seq = s.seq"
    " JOIN boot b ON b.id = r.boot WHERE s.device = ? AND s.state = 1 AND b.name = ?"
)
WAITING_BOOTS: Final = (
    "SELECT b.name, min(r.seq), max(r.seq), min(r.boot_ms), max(r.boot_ms) FROM standing s"
    " CROSS JOIN reading r ON r.seq = s.seq JOIN boot b ON b.id = r.boot"
    " WHERE s.device = ? AND s.state = 1 GROUP BY r.boot"
)
BOOTS: Final = (
    "SELECT b.name, min(r.boot_ms), max(r.boot_ms), max(r.seq) FROM reading r JOIN boot b ON b.id = r.boot"
    " WHERE r.boot > 0 GROUP BY r.boot ORDER BY max(r.seq) DESC LIMIT ?"  # of 0 no stamp is known
)
START_SAID: Final = "SELECT ts - boot_ms FROM reading WHERE seq = ?"
WAITING_TO_PENDING: Final = "UPDATE standing SET state = 0 WHERE device = ? AND state = 1 AND seq <= ?"
# A row the server calls future must not hold up those after it: then the floor is what the others say.
LOWER_FLOOR: Final = (
    "UPDATE device SET floor_ts = (SELECT max(r.ts) FROM standing s CROSS JOIN reading r ON r.seq = s.seq"
    " WHERE s.device = ?1 AND s.state IN (0, 2, 3, 4, 5) AND s.code IS NOT 'future'"
    f" AND s.code IS NOT '{DOUBTFUL}') WHERE id = ?1 AND floor_ts >="
    " (SELECT min(ts) FROM reading WHERE seq IN (SELECT value FROM json_each(?2)))"
)
RAISE_FLOOR: Final = "UPDATE device SET floor_ts = max(coalesce(floor_ts, ?1), ?1) WHERE id = ?2"
DATES_BETWEEN: Final = "SELECT ts FROM reading WHERE device = ? AND ts BETWEEN ? AND ?"
START_OF_BOOT: Final = (
    "SELECT r.ts - r.boot_ms FROM reading r JOIN boot b ON b.id = r.boot"
    " JOIN standing s ON s.device = r.device AND s.state IN (0, 2, 3, 4, 5) AND s.seq = r.seq"
    " WHERE b.name = ? AND r.seq BETWEEN ? AND ? AND r.clock IS ? AND s.code IS NOT 'future'"
    f" AND s.code IS NOT '{DOUBTFUL}' LIMIT 1"
)

# Pending rows that were delivered once have that date still.
DELIVER: Final = (
    "UPDATE standing SET state = 5, at = CASE WHEN ?2 AND state = 0 THEN coalesce(at, ?1) ELSE ?1 END,"
    " code = NULL, reason = NULL, offered = 1 WHERE device = ?3 AND state IN (0, 2)"
    " AND seq IN (SELECT value FROM json_each(?4))"  # one statement for a batch: half the time
)
MOVE: Final = (
    "UPDATE standing SET state = ?1, at = ?2, code = ?3, reason = ?4, offered = 1"
    " WHERE device = ?5 AND state IN (0, 2) AND seq = ?6"
)
STANDING_AFTER: Final = (
    "SELECT seq FROM standing WHERE device = ? AND state = ? AND seq > ? ORDER BY seq LIMIT ?"
)
REOFFER: Final = (
    "UPDATE standing SET state = 0, at = CASE state WHEN 5 THEN at END, code = NULL, reason = NULL"
    " WHERE device = ? AND state = ? AND seq = ?"
)
REQUEUE_REJECTS: Final = (
    "UPDATE standing SET state = 0, at = NULL, code = NULL, reason = NULL WHERE state = 3"
    " AND device IN (SELECT id FROM device)"
)
REQUEUE_ONE: Final = (
    # 'future' stays noted: such a row never counts as the device's last date.
    "UPDATE standing SET state = 0, at = NULL, code = CASE code WHEN 'future' THEN code END, reason = NULL"
    " WHERE device = (SELECT device FROM reading WHERE seq = ?1) AND state IN (2, 3, 4) AND seq = ?1"
    # What is held is not sent: there its reason stays.
    " AND NOT EXISTS (SELECT 1 FROM device d JOIN meta m"
    f" ON m.key = '{HELD_PREFIX}' || d.name WHERE d.id = standing.device)"
)
NOTE_ANSWERED: Final = "INSERT INTO answered (device, ts) SELECT device, ts FROM reading WHERE seq = ?"
TRIM_ANSWERED: Final = (
    "DELETE FROM answered WHERE device = ?1 AND id <= (SELECT id FROM answered WHERE device = ?1"
    " ORDER BY id DESC LIMIT 1 OFFSET ?2)"
)
LAST_NEW: Final = (  # the readings of one batch have one `at`
    f"{_ENTRY} WHERE s.device = ?1 AND s.state = 5 AND s.seq IN (WITH batch AS (SELECT min(seq) AS first,"
    f" max(seq) AS last FROM standing WHERE device = ?1 AND state = 5 AND offered < {EACH_RENAMING}"
    " GROUP BY at ORDER BY at DESC LIMIT ?2)"
    " SELECT first FROM batch UNION SELECT last FROM batch) ORDER BY s.at, s.seq"
)
FORGET_ANSWERED: Final = "DELETE FROM answered WHERE device = ? AND id <= ?"
LAST_ANSWERED: Final = "SELECT coalesce(max(id), 0) FROM answered WHERE device = ?"
LAST_DELIVERED: Final = "SELECT ts FROM answered WHERE device = ? ORDER BY id DESC LIMIT ?"

# As it was, from the delivered readings that are here: those of one batch have one `at`.
NAME_DELIVERED: Final = (
    "DELETE FROM answered",
    (
        "INSERT INTO answered (device, ts) SELECT device, ts FROM (SELECT b.device, b.at, r.ts,"
        " row_number() OVER (PARTITION BY b.device ORDER BY b.at DESC) AS age FROM (SELECT device, at,"
        " max(seq) AS seq FROM standing WHERE state = 5 GROUP BY device, at) b"
        f" JOIN reading r ON r.seq = b.seq) WHERE age <= {LAST_DELIVERED_LIMIT} ORDER BY at"
    ),
)

_DEVICES: Final = "(SELECT id FROM device WHERE ?1 IS NULL OR name = ?1)"
COUNTS: Final = f"SELECT state, count(*) FROM standing WHERE device IN {_DEVICES} GROUP BY state"
OLDEST_PENDING: Final = (
    "SELECT min(r.ts) FROM reading r WHERE r.seq IN"
    f" (SELECT (SELECT min(seq) FROM standing WHERE device = d.id AND state = 0) FROM {_DEVICES} d)"
)
# The newest row of a device stays, whatever its age: it holds the device's last date.
EXPIRED: Final = (
    "SELECT seq FROM standing WHERE device = ?1 AND state = 5 AND (at < ?2 OR ?2 IS NULL)"
    " AND seq < (SELECT max(seq) FROM standing WHERE device = ?1 AND state = 5) ORDER BY seq LIMIT ?3"
)
# Delivered while nobody knew the time: their days begin when somebody does.
DATE_DELIVERED: Final = (
    "UPDATE standing SET at = ?1 WHERE (device, state, seq) IN (SELECT s.device, s.state, s.seq"
    " FROM device d JOIN standing s ON s.device = d.id AND s.state = 5 AND s.at IS NULL LIMIT ?2)"
)
DROP: Final = "DELETE FROM standing WHERE device = ? AND state = ? AND seq = ?"

# Merging on a full disk: only what was never offered, and not the newest ones.
BEFORE_NEWEST: Final = (
    "SELECT seq FROM standing WHERE device = ? AND state = ? ORDER BY seq DESC LIMIT 1 OFFSET ?"
)
THINNABLE: Final = (
    f"SELECT r.seq, s.state, r.boot, r.clock, r.ts, r.boot_ms, s.offered / {EACH_RENAMING},"
    " unpacked(r.content) FROM standing s CROSS JOIN reading r ON r.seq = s.seq"
    f" WHERE s.device = ? AND s.state = ? AND s.offered % {EACH_RENAMING} = 0 AND s.seq > ? AND s.seq <= ?"
    " ORDER BY s.seq LIMIT ?"
)
MERGED: Final = "SELECT CAST(value AS INTEGER) FROM meta WHERE key = 'merged'"

APPEND: Final = "INSERT INTO reading (device, ts, boot, boot_ms, clock, content) VALUES (?, ?, ?, ?, ?, ?)"
STAND: Final = "INSERT INTO standing (device, state, seq, offered) VALUES (?, ?, ?, ?)"
MARK_OFFERED: Final = (
    "UPDATE standing SET offered = CASE WHEN state = 2 AND code = 'future' THEN 2 ELSE 1 END"
    " WHERE device = ? AND state = ? AND seq IN (SELECT value FROM json_each(?))"
)

# Import: an index of what is here, for the time of the import only (on disk it would cost every append).
IMPORT_TABLES: Final = (
    "CREATE TEMP TABLE IF NOT EXISTS here (device INTEGER, ts INTEGER, boot INTEGER, boot_ms INTEGER, seq)",
    "CREATE INDEX IF NOT EXISTS temp.here_by_date ON here (device, ts)",
    "CREATE INDEX IF NOT EXISTS temp.here_by_boot ON here (device, boot, boot_ms)",
    "CREATE TEMP TABLE IF NOT EXISTS undated (seq INTEGER PRIMARY KEY)",
    "DELETE FROM temp.here",
    "DELETE FROM temp.undated",
)
_NOTE = "INSERT INTO temp.here SELECT device, ts, boot, boot_ms, seq FROM main.reading"
IMPORT_NOTE: Final = f"{_NOTE} WHERE seq > ? OR seq IN (SELECT seq FROM temp.undated)"
IMPORT_NOTE_ONE: Final = f"{_NOTE} WHERE seq = ?"
IMPORT_UNDATED: Final = (
    "INSERT OR IGNORE INTO temp.undated SELECT seq FROM main.standing"
    " WHERE device IN (SELECT id FROM device) AND (state = 1 OR (state = 2 AND code = 'future'))"
)
_FIND = (
    "SELECT unpacked(r.content) FROM temp.here h CROSS JOIN main.reading r ON r.seq = h.seq"
    " WHERE h.device = ?1 AND "
)
_SAME_MOMENT = "h.boot = ?3 AND h.boot_ms = ?4 AND unpacked(r.content) = ?5"
_IS_WAITING = "EXISTS (SELECT 1 FROM main.standing WHERE device = ?1 AND state = 1 AND seq = r.seq)"
IMPORT_FIND_DATED: Final = (
    f"{_FIND} h.ts = ?2 AND r.ts = ?2 AND NOT {_IS_WAITING}"
    f" UNION ALL {_FIND} {_SAME_MOMENT} AND {_IS_WAITING} LIMIT 1"
)
IMPORT_FIND_WAITING: Final = f"{_FIND} {_SAME_MOMENT} AND ?2 IS NOT NULL LIMIT 1"
IMPORT_READING: Final = (
    "INSERT INTO reading (seq, device, ts, boot, boot_ms, clock, content) VALUES (?, ?, ?, ?, ?, ?, ?)"
)
IMPORT_STANDING: Final = "INSERT INTO standing VALUES (?, ?, ?, ?, ?, ?, ?)"

# What each start looks for: whether every reading stands at one place, and every place is a reading's. One
# pass over each table: looking one up in the other takes several times as long.
_PAIRS: Final = "SELECT count(*), sum(device), sum(seq), sum(seq * seq % 2147483647) FROM"
AGREE: Final = f"SELECT ({_PAIRS} reading) IS ({_PAIRS} standing)"

# What `verify` looks for beside SQLite's own check: rows that break the spool's rules.
RULES: Final = {
    "readings that stand nowhere, or at two places": (
        "SELECT r.seq FROM reading r WHERE 1 <> (SELECT count(*) FROM standing s WHERE s.device = r.device"
        " AND s.state IN (0, 1, 2, 3, 4, 5) AND s.seq = r.seq)"
    ),
    "standings without a reading": (
        "SELECT s.seq FROM standing s LEFT JOIN reading r ON r.seq = s.seq AND r.device = s.device"
        " WHERE r.seq IS NULL"
    ),
    "readings of a device or boot that has no name": (
        "SELECT r.seq FROM reading r LEFT JOIN device d ON d.id = r.device LEFT JOIN boot b ON b.id = r.boot"
        " WHERE d.id IS NULL OR b.id IS NULL"
    ),
    "readings with a value that none can have": (
        "SELECT seq FROM reading WHERE typeof(ts) <> 'integer' OR typeof(boot_ms) <> 'integer'"
        f" OR ts NOT BETWEEN {FIRST_MS} AND {LAST_MS} OR typeof(clock) NOT IN ('text', 'null')"
        " OR typeof(content) NOT IN ('text', 'blob') OR NOT is_text(CAST(clock AS BLOB))"
    ),
    "readings of which is noted what cannot be": (
        "SELECT seq FROM standing WHERE typeof(offered) <> 'integer' OR typeof(at) NOT IN ('integer', 'null')"
        f" OR at NOT BETWEEN {FIRST_MS} AND {LAST_MS} OR typeof(code) NOT IN ('text', 'null')"
        " OR typeof(reason) NOT IN ('text', 'null') OR NOT is_text(CAST(code AS BLOB))"
        " OR NOT is_text(CAST(reason AS BLOB))"
    ),
    "readings whose content is no JSON": (
        "SELECT seq FROM reading WHERE CASE WHEN typeof(content) <> 'text' OR is_text(CAST(content AS BLOB))"
        " THEN NOT json_valid(unpacked(content)) ELSE 1 END"
    ),
    "readings that share their device and date with another": (
        "SELECT min(r.seq) FROM reading r JOIN standing s ON s.device = r.device"
        " AND s.state IN (0, 2, 3, 4, 5) AND s.seq = r.seq GROUP BY r.device, r.ts HAVING count(*) > 1"
    ),
}
# Beside `max`, SQLite takes a bare column (the reason) of the row that has it.
QUARANTINE: Final = (
    "SELECT d.name, s.state, s.code, count(*), max(s.seq), s.reason"
    " FROM standing s JOIN device d ON d.id = s.device"
    " WHERE s.state IN (2, 3, 4) GROUP BY d.name, s.state, s.code ORDER BY 1, 2, 3"
)


def statements(script: str) -> Iterator[str]:
    """Part a script into statements; `executescript` would commit the transaction they belong to."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
