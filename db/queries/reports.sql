-- name: kept_aside
-- What stands beside the stored readings of a device, newest first; nulls do not narrow it.
SELECT entry, ts, reason, detail, edge_id, date_trunc('milliseconds', received_at), body FROM kept_aside
WHERE device = %(device)s
  AND (%(before)s::int8 IS NULL OR entry < %(before)s::int8)
  AND (%(reason)s::text IS NULL OR reason = %(reason)s::text)
ORDER BY entry DESC
LIMIT %(limit)s;

-- name: stored_by_day
-- How many readings each local day of a device holds, and the time they stand for, in ms.
SELECT day, sample_count, covered_ms FROM rollup_day
WHERE device = %(device)s AND day >= %(first)s AND day <= %(last)s;

-- name: kept_aside_by_span
-- How many readings were kept aside in each span of time, by reason, and how many moments lack for that; one without a
-- valid time counts when it came, and as a moment of its own. Of those behind the horizon only as many lack as their
-- quarter of an hour's rollup cannot hold: which of them went into it, nobody knows any more.
SELECT q.begins, q.reason, sum(q.readings)::int8, sum(greatest(q.moments - coalesce(r.sample_count, 0), 0))::int8
FROM (
  SELECT
    k.begins, a.reason, date_bin('15 minutes', coalesce(a.ts, a.received_at), 'epoch') AS bucket,
    count(*) AS readings, count(DISTINCT a.ts) + count(*) FILTER (WHERE a.ts IS NULL) AS moments
  FROM unnest(%(begins)s::timestamptz[], %(ends)s::timestamptz[]) AS k(begins, ends)
  JOIN kept_aside a
    ON a.device = %(device)s AND coalesce(a.ts, a.received_at) >= k.begins AND coalesce(a.ts, a.received_at) < k.ends
  GROUP BY k.begins, a.reason, bucket
) AS q
LEFT JOIN rollup_15m r
  ON q.reason = 'behind_horizon' AND r.device = %(device)s AND r.bucket = q.bucket
  AND r.bucket > %(lowest)s::timestamptz - INTERVAL '15 minutes' AND r.bucket < %(until)s::timestamptz
GROUP BY q.begins, q.reason;

-- name: counter_breaks_by_span
-- How often counters of a device ran back or jumped in each span of time.
SELECT k.begins, count(*)
FROM unnest(%(begins)s::timestamptz[], %(ends)s::timestamptz[]) AS k(begins, ends)
JOIN counter_breaks b ON b.device = %(device)s AND b.ts >= k.begins AND b.ts < k.ends
GROUP BY k.begins;

-- name: counter_breaks
-- Where counters of a device ran back or jumped in a span of time.
SELECT ts, counter, value, before FROM counter_breaks
WHERE device = %(device)s AND ts >= %(from_ts)s AND ts < %(to_ts)s
ORDER BY ts, counter
LIMIT %(limit)s;

-- name: first_stored
-- When the first reading of a device was taken.
SELECT first_reading(%(device)s);

-- name: put_edge_status
-- Keep what an edge says of itself for a device, unless that is deleted; the latest word stands.
INSERT INTO edge_status (device, edge_id, body)
SELECT device, %(edge_id)s, %(body)s::jsonb FROM devices WHERE device = %(device)s AND deleted_at IS NULL
ON CONFLICT (device, edge_id) DO UPDATE SET body = excluded.body, reported_at = now()
RETURNING date_trunc('milliseconds', reported_at);

-- name: edge_status
-- What each edge said last of itself for a device, the latest first.
SELECT date_trunc('milliseconds', reported_at), body FROM edge_status WHERE device = %(device)s ORDER BY reported_at DESC;

-- name: device_model
-- Model of a device, null while unknown.
SELECT model FROM devices WHERE device = %(device)s;

-- name: code_changes
-- Readings at which the active alarms or faults of a device changed, and the last word before the span.
WITH earlier AS (
  (SELECT ts, 'alarm' AS kind, alarm_codes AS codes FROM samples
   WHERE device = %(device)s AND ts < %(from_ts)s AND ts >= %(from_ts)s::timestamptz - INTERVAL '1 day'
     AND alarm_codes IS NOT NULL
   ORDER BY ts DESC LIMIT 1)
  UNION ALL
  (SELECT ts, 'fault', fault_codes FROM samples
   WHERE device = %(device)s AND ts < %(from_ts)s AND ts >= %(from_ts)s::timestamptz - INTERVAL '1 day'
     AND fault_codes IS NOT NULL
   ORDER BY ts DESC LIMIT 1)
), told AS (
  SELECT ts, kind, codes FROM earlier
  UNION ALL
  SELECT ts, 'alarm', alarm_codes FROM samples
  WHERE device = %(device)s AND ts >= %(from_ts)s AND ts < %(to_ts)s AND alarm_codes IS NOT NULL
  UNION ALL
  SELECT ts, 'fault', fault_codes FROM samples
  WHERE device = %(device)s AND ts >= %(from_ts)s AND ts < %(to_ts)s AND fault_codes IS NOT NULL
), compared AS (
  SELECT ts, kind, codes, lag(codes) OVER (PARTITION BY kind ORDER BY ts) AS before FROM told
)
SELECT ts, kind, codes FROM compared WHERE before IS DISTINCT FROM codes ORDER BY ts, kind;

-- name: raw_page
-- The next readings of a device in a span of time, in order, with the columns that are asked for.
SELECT {present} FROM samples
WHERE device = %(device)s AND ts > %(after)s AND ts < %(until)s
ORDER BY ts
LIMIT %(limit)s;

-- name: count_marks
-- How many rollup buckets wait to be recomputed.
SELECT count(*) FROM rollup_marks;
