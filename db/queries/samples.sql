-- name: make_incoming
-- A connection's own table in which a batch waits for its insert.
CREATE TEMPORARY TABLE IF NOT EXISTS incoming (LIKE samples) ON COMMIT DELETE ROWS;

-- name: copy_incoming
-- Bring a batch in.
COPY incoming ({present}) FROM STDIN (FORMAT BINARY);

-- name: copy_samples
-- The same straight into `samples`, when no key seems to be taken; sorted by key by the caller.
COPY samples ({present}) FROM STDIN (FORMAT BINARY);

-- name: spans_with_rows
-- Which spans of time of devices hold any reading, by number from 1: one look into the index for each. The bounds
-- of all of them spare a look at what lies beyond.
SELECT t.number::int4 AS number
FROM unnest(%(devices)b::int4[], %(firsts)b::timestamptz[], %(lasts)b::timestamptz[])
  WITH ORDINALITY AS t(device, first_ts, last_ts, number)
WHERE EXISTS (
  SELECT FROM samples s
  WHERE s.device = t.device AND s.ts >= t.first_ts AND s.ts <= t.last_ts AND s.ts >= %(lowest)s AND s.ts <= %(highest)s
);

-- name: mark_unless_deleted
-- Marks for buckets about to get readings, unless a device was deleted; answers which. What an `INSERT` sees is younger
-- than the lock it takes of its table: who deletes a device, and sees no such lock from before, need not fear it.
WITH hindered AS MATERIALIZED (
{those_deleted}
), marks AS (
{marks_unless_hindered}
)
SELECT * FROM hindered;

-- name: mark_if_free
-- The same, and unless something stands in a span of time.
WITH hindered AS MATERIALIZED (
{those_deleted}
UNION ALL
{spans_with_rows}
), marks AS (
{marks_unless_hindered}
)
SELECT * FROM hindered;

-- name: marks_unless_hindered
-- Part of both.
  INSERT INTO rollup_marks (device, bucket)
  SELECT * FROM unnest(%(marked)s::int4[], %(buckets)s::timestamptz[])
  WHERE NOT EXISTS (SELECT FROM hindered)

-- name: copy_spans
-- What stands in spans of time of devices, span by span: a subquery with an order of its own is only ever looped over.
COPY (
  SELECT s.*
  FROM unnest(%(devices)s::int4[], %(firsts)s::timestamptz[], %(lasts)s::timestamptz[]) AS k(key_device, first_ts, last_ts)
  CROSS JOIN LATERAL (
    SELECT {present} FROM samples
    WHERE device = k.key_device AND ts >= k.first_ts AND ts <= k.last_ts AND ts >= %(lowest)s AND ts <= %(highest)s
    ORDER BY ts
  ) AS s
) TO STDOUT (FORMAT BINARY);

-- name: insert_incoming
-- Store the readings whose key is new, in the order of the key so that two batches cannot block each other.
INSERT INTO samples ({columns})
SELECT {columns} FROM incoming ORDER BY device, ts
ON CONFLICT DO NOTHING
RETURNING device, ts;

-- name: stored_samples
-- Readings that stand under the given keys.
SELECT {present} FROM samples s
JOIN unnest(%(devices)b::int4[], %(stamps)b::timestamptz[]) AS k(key_device, key_ts)
  ON s.device = k.key_device AND s.ts = k.key_ts
WHERE s.ts BETWEEN %(lowest)s AND %(highest)s;

-- name: newest_samples
-- The newest readings of a device after a moment and before another, newest first.
SELECT {columns} FROM samples
WHERE device = %(device)s AND ts > %(after)s AND ts < %(until)s
ORDER BY ts DESC
LIMIT %(limit)s;

-- name: look_again
-- The same with how many readings there are from another moment on, which shows late ones, and of those before it how
-- many as far as they are rolled up. One row at least.
SELECT counted.*, fresh.*
FROM (
  SELECT
    (SELECT count(*) FROM samples WHERE device = %(device)s AND ts >= %(since)s AND ts < %(until)s),
    (
      SELECT coalesce(sum(sample_count), 0)::int8 FROM rollup_day
      WHERE device = %(device)s AND day < (%(since)s AT TIME ZONE 'UTC')::date
    )
) AS counted
LEFT JOIN (
{newest_samples}
) AS fresh ON true;

-- name: days_of_newest
-- The first of the local days, before another one, that hold the newest readings of a device, as many as are wanted, as
-- far as they are rolled up; null when there are no more.
SELECT min(day)
FROM (
  SELECT day, sum(sample_count) OVER (ORDER BY day DESC ROWS UNBOUNDED PRECEDING) - sample_count AS younger
  FROM rollup_day
  WHERE device = %(device)s AND (%(before)s::date IS NULL OR day < %(before)s::date)
  ORDER BY day DESC
  LIMIT %(limit)s
) AS d
WHERE younger < %(limit)s;

-- name: count_rolled_before
-- How many readings a device has on the local days before a moment, as far as they are rolled up.
SELECT coalesce(sum(sample_count), 0)::int8 FROM rollup_day
WHERE device = %(device)s AND day < (%(before)s AT TIME ZONE 'UTC')::date;

-- name: last_firmware
-- When firmware was last read from a moment on and before another, and which.
SELECT ts, firmware FROM samples
WHERE device = %(device)s AND firmware IS NOT NULL AND ts >= %(since)s AND ts < %(until)s
ORDER BY ts DESC
LIMIT 1;

-- name: export_samples
-- All readings of a device in a span of time, in order.
SELECT {columns} FROM samples
WHERE device = %(device)s AND ts >= %(from_ts)s AND ts < %(to_ts)s
ORDER BY ts;

-- name: keep_aside
-- Keep readings beside the stored ones; the same one again changes nothing. Answers how many are new.
WITH new AS (
  INSERT INTO kept_aside (device, ts, reason, detail, body, edge_id, digest)
  SELECT device, ts, reason, detail, body::jsonb, %(edge_id)s, sha256(convert_to(body::jsonb::text, 'UTF8'))
  FROM unnest(
    %(devices)s::int4[], %(stamps)s::timestamptz[], %(reasons)s::text[], %(details)s::text[], %(bodies)s::text[]
  ) AS t(device, ts, reason, detail, body)
  ORDER BY device, ts, reason
  ON CONFLICT ON CONSTRAINT kept_aside_once DO NOTHING
  RETURNING 1
)
SELECT count(*) FROM new;

-- name: missing_keys
-- Those of the given keys, by number from 1, under which nothing is stored, nor kept aside.
SELECT t.number::int4
FROM unnest(%(devices)s::int4[], %(stamps)s::timestamptz[]) WITH ORDINALITY AS t(device, ts, number)
WHERE NOT EXISTS (
    SELECT FROM samples s WHERE s.device = t.device AND s.ts = t.ts AND s.ts BETWEEN %(lowest)s AND %(highest)s
  )
  AND NOT EXISTS (SELECT FROM kept_aside a WHERE a.device = t.device AND a.ts = t.ts);

-- name: add_import_range
-- Write down that the first part of a span was imported.
INSERT INTO import_ranges (device, from_ts, to_ts, source, row_count, finished)
VALUES (%(device)s, %(from_ts)s, %(to_ts)s, %(source)s, %(row_count)s, false)
RETURNING entry;

-- name: extend_import_range
-- Write down that the import goes on.
UPDATE import_ranges SET
  from_ts = least(from_ts, %(from_ts)s), to_ts = greatest(to_ts, %(to_ts)s), row_count = row_count + %(row_count)s
WHERE entry = %(entry)s;

-- name: finish_import_range
-- Write down that an import came to its end, and with it those that broke off within its span.
UPDATE import_ranges b SET finished = true
FROM import_ranges a
WHERE a.entry = %(entry)s AND b.device = a.device AND b.from_ts >= a.from_ts AND b.to_ts <= a.to_ts AND NOT b.finished;
