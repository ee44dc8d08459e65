-- name: devices_with_old_samples
-- Devices that have raw readings from before a moment.
SELECT d.device FROM devices d
WHERE EXISTS (SELECT FROM samples s WHERE s.device = d.device AND s.ts < %(before)s);

-- name: delete_old_samples
-- Forget a device's raw readings from before a moment, a batch at a time; rollups stay.
WITH old AS (
  SELECT ts FROM samples
  WHERE device = %(device)s AND ts < %(before)s
  ORDER BY ts
  LIMIT %(limit)s
), gone AS (
  DELETE FROM samples s USING old WHERE s.device = %(device)s AND s.ts = old.ts RETURNING 1
)
SELECT count(*) FROM gone;

-- name: drop_old_chunks
-- The same on a hypertable: whole chunks at once.
SELECT drop_chunks('samples', older_than => %(before)s::timestamptz);
