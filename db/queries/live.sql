-- name: listen_for_arrivals
-- Be told which devices have new readings.
LISTEN sungrow_arrivals;

-- name: tell_arrivals
-- Tell every server process which devices have new readings; an empty text means any device.
SELECT pg_notify('sungrow_arrivals', %(keys)s);

-- name: newest_stamp
-- When the newest reading of a device was taken.
SELECT newest_reading(%(device)s);

-- name: next_stamps
-- When the first reading after a moment was taken, for each of the devices.
SELECT k.device, next_reading(k.device, k.after)
FROM unnest(%(devices)s::int4[], %(after)s::timestamptz[]) AS k(device, after);

-- name: samples_after
-- The next readings of each device after its moment, in order.
SELECT s.*
FROM unnest(%(devices)s::int4[], %(after)s::timestamptz[]) AS k(key_device, key_after)
CROSS JOIN LATERAL (
  SELECT {columns} FROM samples
  WHERE device = k.key_device AND ts > k.key_after AND ts > %(lowest)s AND ts < %(until)s
  ORDER BY ts
  LIMIT %(limit)s
) AS s
ORDER BY s.ts;

-- name: note_backfills
-- Note those of the batches whose last reading is not the newest of its device; answers which. Each device is looked at
-- once, however many of the batches are its own; a deleted one is not.
WITH newest AS MATERIALIZED (
  SELECT device, newest_reading(device) AS ts FROM devices WHERE device = ANY(%(devices)s::int4[]) AND deleted_at IS NULL
)
INSERT INTO backfills (device, from_ts, to_ts, row_count)
SELECT t.device, t.from_ts, t.to_ts, t.row_count
FROM unnest(
  %(devices)s::int4[], %(begins)s::timestamptz[], %(ends)s::timestamptz[], %(counts)s::int4[]
) AS t(device, from_ts, to_ts, row_count)
JOIN newest USING (device)
WHERE newest.ts > t.to_ts
RETURNING device, to_ts;

-- name: mixed_batches
-- Which of the batches, by number from 1, have readings of others between their own: there are more than they brought.
SELECT t.number::int4
FROM unnest(
  %(devices)s::int4[], %(begins)s::timestamptz[], %(ends)s::timestamptz[], %(counts)s::int4[]
) WITH ORDINALITY AS t(device, from_ts, to_ts, row_count, number)
WHERE EXISTS (
  SELECT FROM samples s
  WHERE s.device = t.device AND s.ts >= t.from_ts AND s.ts <= t.to_ts AND s.ts >= %(lowest)s AND s.ts <= %(until)s
  OFFSET t.row_count
);

-- name: note_partly_late
-- Of batches whose last reading is the newest of its device, note what came after a younger one of another batch.
INSERT INTO backfills (device, from_ts, to_ts, row_count)
WITH stamp AS (
  SELECT p.batch, p.device, 'epoch'::timestamptz + p.us * INTERVAL '1 microsecond' AS ts
  FROM unnest(%(batches)s::int4[], %(devices)s::int4[], %(stamps)s::int8[]) AS p(batch, device, us)
), batch AS (
  SELECT batch, device, min(ts) AS first, max(ts) AS last, array_agg(ts) AS own FROM stamp GROUP BY 1, 2
)
SELECT b.device, min(p.ts), max(p.ts), count(*)
FROM batch b
CROSS JOIN LATERAL (
  SELECT s.ts FROM samples s
  WHERE s.device = b.device AND s.ts > b.first AND s.ts < b.last AND s.ts > %(lowest)s AND s.ts < %(until)s
    AND s.ts <> ALL (b.own)
  ORDER BY s.ts DESC
  LIMIT 1
) AS younger
JOIN stamp p ON p.batch = b.batch AND p.ts < younger.ts
WHERE EXISTS (SELECT FROM devices d WHERE d.device = b.device AND d.deleted_at IS NULL)
GROUP BY b.batch, b.device;

-- name: forget_backfills
-- Forget what every open stream has been told.
DELETE FROM backfills WHERE noted_at < now() - INTERVAL '1 minute';

-- name: recent_backfills
-- What arrived late for these devices in the last seconds.
SELECT entry, device, from_ts, to_ts, row_count FROM backfills
WHERE noted_at > now() - INTERVAL '4 seconds' AND device = ANY(%(devices)s);

-- name: devices_present
-- Those of the devices that are not deleted.
SELECT device FROM devices WHERE device = ANY(%(devices)s) AND deleted_at IS NULL;

-- name: valid_tokens
-- Those of the token hashes that are still good.
SELECT hash FROM tokens
WHERE hash = ANY(%(hashes)s) AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now());
