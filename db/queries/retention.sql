-- name: dropped_until
-- Raw readings from before it may be gone; nothing where none were ever dropped.
SELECT until FROM raw_dropped;

-- name: note_dropped
-- Say that raw readings from before a moment are about to go, and answer if they may: not while somebody imports. It lies
-- not behind what is rolled up: by a clock that is wrong all would be frozen that is yet to come.
WITH free AS MATERIALIZED ( -- looked at once: nothing may go that was not said
  SELECT WHERE
{no_import_goes_on}
), noted AS (
  INSERT INTO raw_dropped AS r (until)
  SELECT least(%(before)s::timestamptz, (max(l.day) + 2)::timestamp AT TIME ZONE 'UTC')
  FROM devices d
  CROSS JOIN LATERAL (SELECT max(o.day) AS day FROM rollup_day o WHERE o.device = d.device) AS l
  HAVING max(l.day) IS NOT NULL AND EXISTS (SELECT FROM free)
  ON CONFLICT (is_all) DO UPDATE SET until = excluded.until WHERE r.until < excluded.until
)
SELECT 1 FROM free;

-- name: devices_with_old_samples
-- Devices that have raw readings from before a moment.
SELECT d.device FROM devices d
WHERE EXISTS (SELECT FROM samples s WHERE s.device = d.device AND s.ts < %(before)s);

-- name: announce_import
-- Say that an import goes on, until the session ends.
SELECT pg_advisory_lock_shared(%(namespace)s, 0);

-- name: no_import_goes_on
-- Part of others: whether nobody imports.
NOT EXISTS (
  SELECT FROM pg_locks l
  WHERE l.locktype = 'advisory' AND l.classid = %(imports)s AND l.objsubid = 2
    AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
)

-- name: delete_old_samples
-- Forget a device's raw readings from before a moment, a batch at a time; rollups stay.
WITH old AS (
  SELECT ts FROM samples
  WHERE device = %(device)s AND ts < %(before)s AND
{no_import_goes_on}
  ORDER BY ts
  LIMIT %(limit)s
), gone AS (
  DELETE FROM samples s USING old WHERE s.device = %(device)s AND s.ts = old.ts RETURNING 1
)
SELECT count(*) FROM gone;

-- name: drop_old_chunks
-- The same on a hypertable: whole chunks at once.
SELECT drop_chunks('samples', older_than => %(before)s::timestamptz)
WHERE
{no_import_goes_on};
