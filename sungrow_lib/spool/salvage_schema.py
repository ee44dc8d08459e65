"""The statements of a recovery, which fills a new spool from the rows that are readable.

They are apart from those of `schema`, because hardly any start needs them.
"""

# ruff: noqa: S608 - statements are put together from literals only; values are always bound

from __future__ import annotations

from typing import Final

from sungrow_lib.spool import schema
from sungrow_lib.spool.clock import SERVER_TOLERANCE_MS, STEP_MS
from sungrow_lib.spool.foreign import NO_BOOT

# `found` collects where readings stand until it is known which of them are readable.
TABLES: Final = (
    (
        "CREATE TEMP TABLE found (device INTEGER, state INTEGER, seq INTEGER PRIMARY KEY, offered INTEGER,"
        " at INTEGER, code TEXT, reason TEXT, rank INTEGER, is_stale INTEGER)"
    ),
    # What is only on a page whose newest version is damaged; and how rows once were.
    "CREATE TEMP TABLE stale_reading (seq INTEGER PRIMARY KEY)",
    "CREATE TEMP TABLE once_undated (seq INTEGER PRIMARY KEY, device INTEGER)",
    "CREATE TEMP TABLE once_dated (seq INTEGER, ts INTEGER, clock TEXT, PRIMARY KEY (seq, ts, clock))",
    "CREATE TEMP TABLE told (device INTEGER, ts INTEGER, PRIMARY KEY (device, ts))",
    "CREATE TEMP TABLE server_start (boot INTEGER PRIMARY KEY, start INTEGER)",
    "CREATE TEMP TABLE floor (device INTEGER, ts INTEGER, PRIMARY KEY (device, ts))",
    "CREATE TEMP TABLE superseded (seq INTEGER PRIMARY KEY, device, ts, boot, boot_ms, clock, content)",
)
READING: Final = (
    "INSERT OR IGNORE INTO reading (seq, device, ts, boot, boot_ms, clock, content)"
    " VALUES (?, ?, ?, ?, ?, ?, ?)"
)
STANDING: Final = (
    "INSERT INTO temp.found VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0) ON CONFLICT (seq) DO UPDATE SET"
    " device = excluded.device, state = excluded.state, offered = excluded.offered, at = excluded.at,"
    " code = excluded.code, reason = excluded.reason, rank = excluded.rank WHERE excluded.rank < rank"
)
SUPERSEDED: Final = "INSERT OR REPLACE INTO temp.superseded VALUES (?, ?, ?, ?, ?, ?, ?)"
IS_MERGED: Final = (
    "SELECT 1 FROM main.reading WHERE EXISTS (SELECT 1 FROM temp.superseded)"
    " AND json_extract(CASE WHEN json_valid(unpacked(content)) THEN unpacked(content) END,"
    " '$.sample_count') > 1"
)
_MAY_RETURN: Final = "FROM temp.superseded WHERE ?1 OR seq IN (SELECT seq FROM temp.found)"
SUPERSEDED_TAKE: Final = (
    f"INSERT INTO temp.stale_reading SELECT seq {_MAY_RETURN}",
    f"INSERT INTO main.reading SELECT * {_MAY_RETURN}",
)
STALE_STANDING: Final = (
    # It may have been offered since: it is not merged any more, nor is a date corrected that the server has.
    "INSERT INTO temp.found VALUES (?1, ?2, ?3, max(?4 % 4, 1 + (?2 = 2 AND ?6 IS 'future')), ?5,"
    " ?6, ?7, ?8, 1)"
    " ON CONFLICT (seq) DO UPDATE SET device = excluded.device, state = excluded.state,"
    " offered = excluded.offered, at = excluded.at, code = excluded.code, reason = excluded.reason,"
    " rank = excluded.rank WHERE is_stale AND excluded.rank < rank"
)
_START: Final = "SELECT r.boot, r.ts - r.boot_ms FROM main.reading r"
_MAY_VOUCH: Final = (  # one that waited, on an older page, has not got its date there
    "r.clock IS NULL AND r.boot > 0"
    " AND r.seq NOT IN (SELECT seq FROM temp.stale_reading JOIN temp.once_undated USING (seq))"
)
STAND: Final = (
    (
        "INSERT INTO standing SELECT f.device, f.state, f.seq, f.offered, f.at, f.code, f.reason"
        " FROM temp.found f JOIN main.reading r ON r.seq = f.seq AND r.device = f.device"
    ),
    (
        "CREATE TEMP TABLE waits (device INTEGER, boot INTEGER, since INTEGER, PRIMARY KEY (device, boot),"
        " UNIQUE (device, since))"
    ),
    (
        "INSERT INTO temp.waits SELECT s.device, r.boot, min(s.seq) FROM standing s"
        " CROSS JOIN main.reading r ON r.seq = s.seq WHERE s.state = 1 GROUP BY s.device, r.boot"
    ),
    # When a boot began, by readings of any device that had their date from a clock that was trusted.
    "CREATE TEMP TABLE vouched (boot INTEGER, start INTEGER, PRIMARY KEY (boot, start)) WITHOUT ROWID",
    (
        f"INSERT OR IGNORE INTO temp.vouched {_START} JOIN standing s ON s.device = r.device"
        f" AND s.state IN (0, 2, 3, 4, 5) AND s.seq = r.seq WHERE {_MAY_VOUCH}"
        f" AND s.code IS NOT 'future' AND s.code IS NOT '{schema.DOUBTFUL}'"
    ),
    # Of one the device's last date is noted ...
    (
        f"INSERT OR IGNORE INTO temp.vouched {_START} JOIN device d ON d.id = r.device AND d.floor_ts = r.ts"
        f" WHERE {_MAY_VOUCH} AND r.seq NOT IN (SELECT seq FROM temp.found)"
    ),
    # ... and of others that the server answered.
    (
        f"INSERT OR IGNORE INTO temp.vouched {_START} JOIN temp.told t ON t.device = r.device AND t.ts = r.ts"
        f" WHERE {_MAY_VOUCH} AND r.seq NOT IN (SELECT seq FROM temp.found)"
    ),
)
SERVER_START: Final = "INSERT OR IGNORE INTO temp.server_start SELECT id, ? FROM boot WHERE name = ?"
# Nothing tells where it stood. Readings get their dates in their order: after one of its boot that waits it
# waits, too. Else it is sent with the date it has only where somebody vouches for that: it says who dated it,
# or a clock that was right, or agreed with the server's, says the same of when its boot began. Never before
# one that waits, though: that could not get its own date any more. Where it is by the clock of one of its
# boot that waits, and of none that has its date, it waits. Any other one is set apart.
_START_SAID = "r.ts - r.boot_ms"
_IS_VOUCHED: Final = (
    "(EXISTS (SELECT 1 FROM temp.vouched v WHERE v.boot = r.boot"
    f" AND v.start BETWEEN {_START_SAID} - {STEP_MS} AND {_START_SAID} + {STEP_MS})"
    " OR EXISTS (SELECT 1 FROM temp.server_start v WHERE v.boot = r.boot"
    f" AND abs(v.start - ({_START_SAID})) <= {SERVER_TOLERANCE_MS}))"
)
_WAITS: Final = "EXISTS (SELECT 1 FROM temp.waits w WHERE w.device = r.device AND {0})"
_SAME_CLOCK: Final = (
    "EXISTS (SELECT 1 FROM temp.waits w JOIN main.reading f ON f.seq = w.since WHERE w.device = r.device"
    f" AND w.boot = r.boot AND abs({_START_SAID} - f.ts + f.boot_ms) <= {STEP_MS})"
)
STAND_NOWHERE: Final = (
    "INSERT INTO standing (device, state, seq, offered, code, reason) SELECT device, state, seq, state <> 1,"
    " CASE state WHEN 4 THEN ?2 END, CASE state WHEN 4 THEN ?3 END FROM (SELECT r.device, r.seq, CASE"
    f" WHEN r.clock IS NOT NULL THEN 0 WHEN ?1 AND {_WAITS.format('w.boot = r.boot AND w.since < r.seq')}"
    f" THEN 1 WHEN {_IS_VOUCHED} AND NOT {_WAITS.format('w.since < r.seq')} THEN 0"
    f" WHEN ?1 AND {_SAME_CLOCK} THEN 1 ELSE 4 END AS state FROM main.reading r"
    " WHERE NOT EXISTS (SELECT 1 FROM temp.found f WHERE f.seq = r.seq AND f.device = r.device))"
)
MAYBE_DATED: Final = "whether it has its final date is not known any more"
_SET_APART: Final = (
    f"UPDATE standing SET state = 4, code = '{schema.DOUBTFUL}', offered = 1,"
    " reason = 'recovered from an older page: %s' WHERE seq IN"
)
NOBODYS: Final = (
    _SET_APART % "it may be another device''s, whose renaming was taken back"
    + " (SELECT seq FROM temp.nobodys)"
)
UNDATABLE: Final = (
    _SET_APART % "when it was read is not known any more"
    + f" (SELECT seq FROM main.reading WHERE boot = {NO_BOOT}) AND state = 1"
)
_WAS_DATED: Final = (
    "EXISTS (SELECT 1 FROM temp.once_dated o JOIN main.reading r ON r.seq = o.seq WHERE o.seq = standing.seq"
    " AND (o.ts <> r.ts OR o.clock <> coalesce(r.clock, '')))"
)
DOUBT: Final = (
    # Where it stood is lost, and others before it waited: so may have this one.
    (
        "INSERT OR IGNORE INTO temp.once_undated SELECT r.seq, r.device FROM main.reading r"
        " WHERE r.seq NOT IN (SELECT seq FROM temp.found)"
        " AND r.seq > (SELECT min(o.seq) FROM temp.once_undated o WHERE o.device = r.device)"
    ),
    # A reading that waited, and whose newest version is lost: it may have been dated, and sent so.
    _SET_APART
    % "its date may have been another"
    + " (SELECT seq FROM temp.stale_reading WHERE seq IN (SELECT seq FROM temp.once_undated)"
    " AND seq NOT IN (SELECT seq FROM temp.found WHERE NOT is_stale AND (state = 1 OR (state = 2"
    f" AND offered % {schema.EACH_RENAMING} = 1))))",
    # It is there as it should be; that it waits is what an older page says, or no page at all.
    (
        "CREATE TEMP TABLE unsure AS SELECT seq FROM temp.once_undated WHERE seq NOT IN"
        " (SELECT seq FROM temp.found WHERE state <> 1 OR NOT is_stale) AND seq NOT IN temp.stale_reading"
    ),
    (
        "UPDATE standing SET state = 0, offered = 1, code = NULL, reason = NULL"
        f" WHERE seq IN temp.unsure AND {_WAS_DATED}"
    ),
    # Dating raises the device's floor: where that never moved, the reading waits as before.
    (
        f"UPDATE standing SET state = 1, offered = 0, code = NULL, reason = NULL"
        f" WHERE seq IN temp.unsure AND NOT {_WAS_DATED}"
        " AND 1 = (SELECT count(*) FROM temp.floor f WHERE f.device = standing.device)"
    ),
    _SET_APART
    % "whether it has its final date is not known"
    + f" (SELECT seq FROM temp.unsure) AND NOT {_WAS_DATED}"
    " AND 1 <> (SELECT count(*) FROM temp.floor f WHERE f.device = standing.device)",
)
_UNDONE: Final = "(SELECT device FROM temp.undone)"
_SAME = "(r.{0} / {1} = m.{0} / {1})"
MERGED: Final = (
    # A merged row is there, and one it may be made of comes back from an older page, or from a deleted one.
    # Twelve readings of a minute may stand for a bit more than it: no two begin less than 5 s apart.
    (
        "CREATE TEMP TABLE merged AS SELECT r.seq, r.device, r.boot, r.ts, r.boot_ms,"
        " coalesce(json_extract(c.content, '$.interval_s'), 99)"
        " > 60 + 6 * (json_extract(c.content, '$.sample_count') > 9)"
        " OR json_extract(c.content, '$.sample_count') > 12 AS is_wide"
        " FROM main.reading r JOIN (SELECT seq, CASE WHEN json_valid(unpacked(content))"
        " THEN unpacked(content) END AS content FROM main.reading) c USING (seq)"
        " WHERE json_extract(c.content, '$.sample_count') > 1 AND (?1 OR r.seq NOT IN temp.stale_reading"
        f" OR r.device IN {_UNDONE})"
    ),
    _SET_APART
    % "it may be part of a merged one"
    + " (SELECT r.seq FROM main.reading r JOIN temp.merged m ON (m.device = r.device OR ?2"
    # What was taken back tells of its own readings only.
    f" OR (r.device IN {_UNDONE} AND m.device IN {_UNDONE}"
    " AND EXISTS (SELECT 1 FROM temp.undone u WHERE r.seq BETWEEN u.since AND u.until)))"
    f" AND m.boot = r.boot AND m.seq > r.seq AND ({_SAME.format('ts', 60_000)}"
    f" OR {_SAME.format('boot_ms', 60_000)} OR (m.is_wide"
    f" AND ({_SAME.format('ts', 900_000)} OR {_SAME.format('boot_ms', 900_000)})))"
    " WHERE ?1 OR r.seq IN temp.stale_reading) AND state <> 5"
    # What was ever offered is not merged: whoever knows that, be it from a page no longer used, can be sure.
    " AND seq NOT IN (SELECT seq FROM temp.found"
    f" WHERE offered % {schema.EACH_RENAMING} > 0 AND NOT is_stale)",
)
FINISH: Final = (
    # What is called delivered is named to the server again: it may have been restored meanwhile and lack it.
    *schema.NAME_DELIVERED,
    (
        "UPDATE device SET floor_ts = (SELECT max(ts) FROM (SELECT device.floor_ts AS ts UNION ALL"
        " SELECT r.ts FROM reading r JOIN standing s ON s.device = r.device AND s.state IN (0, 2, 3, 4, 5)"
        " AND s.seq = r.seq WHERE r.device = device.id AND s.code IS NOT 'future'"
        f" AND s.code IS NOT '{schema.DOUBTFUL}'))"
    ),
)
COUNTS: Final = (
    "SELECT count(*) FROM reading",
    "SELECT count(*) FROM temp.found WHERE seq NOT IN (SELECT seq FROM main.reading)",
    f"SELECT count(*) FROM standing WHERE code = '{schema.DOUBTFUL}'",
)
