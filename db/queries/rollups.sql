-- name: mark_buckets
-- Append marks for buckets whose readings changed; in the transaction that changes them.
INSERT INTO rollup_marks (device, bucket)
SELECT * FROM unnest(%(marked)s::int4[], %(buckets)s::timestamptz[]);

-- name: mark_without_interval
-- Mark the quarters of an hour with readings of a device that do not say what time they stand for.
INSERT INTO rollup_marks (device, bucket)
SELECT DISTINCT device, date_bin('15 minutes', ts, 'epoch'::timestamptz) FROM samples
WHERE device = %(device)s AND interval_s IS NULL;

-- name: devices_to_repair
-- All devices, while it is not written down that a repair of their rollups was marked.
SELECT device FROM devices WHERE NOT EXISTS (SELECT FROM schema_history WHERE name = %(name)s) ORDER BY device;

-- name: an_older_server_is_there
-- Whether a server is connected that knows nothing of the repair, which is not written down yet: its connections have
-- another name.
SELECT EXISTS (
  SELECT FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'sungrow-server'
) AND NOT EXISTS (SELECT FROM schema_history WHERE name = %(name)s);

-- name: note_repair
-- Write down that a repair was marked; another process may have.
INSERT INTO schema_history (name, checksum) VALUES (%(name)s, 'marked') ON CONFLICT (name) DO NOTHING;

-- name: ends_of_silences
-- Where a counter came back in a quarter of an hour, or was read first of all, of days of a device whose sums let suspect
-- that the energy was lost or counted twice, and where it fell; with the quarter before and the second one after, which
-- belong to what making it anew reads or makes.
WITH told AS (
  SELECT
    d.day, d.{counter}_last AS last, d.{counter}_increase AS increase,
    to_jsonb(d) ->> '{counter}_uncounted' AS uncounted, -- not every counter has that column
    lag(d.{counter}_last) OVER days AS last_before,
    lag(to_jsonb(d) ->> '{counter}_uncounted') OVER days AS uncounted_before
  FROM rollup_day d
  WHERE d.device = %(device)s AND d.day >= (%(horizon)s::timestamptz AT TIME ZONE 'UTC')::date - 2
  WINDOW days AS (ORDER BY d.day)
), suspect AS (
  SELECT day FROM told
  WHERE last IS NOT NULL AND (
    last - last_before IS DISTINCT FROM increase OR uncounted IS NOT NULL OR uncounted_before IS NOT NULL
  )
), returned AS (
  SELECT DISTINCT q.bucket
  FROM suspect s
  CROSS JOIN LATERAL (
    SELECT r.bucket, r.{counter}_increase AS increase, r.{counter}_last_ts AS ts, lag(r.{counter}_last_ts) OVER (ORDER BY r.bucket) AS ts_before
    FROM rollup_15m r
    WHERE r.device = %(device)s AND r.bucket >= (s.day - 1)::timestamp AT TIME ZONE 'UTC'
      AND r.bucket < (s.day + 2)::timestamp AT TIME ZONE 'UTC'
  ) AS q
  WHERE q.ts IS NOT NULL AND (q.ts_before IS NULL OR q.increase IS NULL) AND q.bucket >= %(horizon)s
  UNION
  SELECT date_bin('15 minutes', b.ts, 'epoch'::timestamptz)
  FROM counter_breaks b
  WHERE b.device = %(device)s AND b.ts >= %(horizon)s AND b.counter = '{counter}' AND b.value < b.before
)
SELECT
  t.bucket,
  coalesce((SELECT max(r.bucket) FROM rollup_15m r WHERE r.device = %(device)s AND r.bucket < t.bucket), t.bucket),
  coalesce((
    SELECT max(n.bucket) FROM (
      SELECT r.bucket FROM rollup_15m r WHERE r.device = %(device)s AND r.bucket > t.bucket ORDER BY r.bucket LIMIT 2
    ) AS n
  ), t.bucket)
FROM returned t;

-- name: mark_whole
-- Mark those quarters of an hour of a device in whose surroundings all readings are still there: of others, what is known
-- would be lost.
INSERT INTO rollup_marks (device, bucket)
SELECT %(device)s, t.bucket
FROM unnest(%(buckets)s::timestamptz[], %(begins)s::timestamptz[], %(ends)s::timestamptz[]) AS t(bucket, begins, ends)
WHERE NOT EXISTS (
  SELECT FROM rollup_15m r
  WHERE r.device = %(device)s AND r.bucket >= t.begins AND r.bucket <= t.ends
    AND r.bucket >= %(lowest)s AND r.bucket < %(until)s
    AND r.sample_count IS DISTINCT FROM (
      SELECT sum(coalesce(s.sample_count, 1)) FROM samples s
      WHERE s.device = %(device)s AND s.ts >= r.bucket AND s.ts < r.bucket + INTERVAL '15 minutes'
        AND s.ts >= %(lowest)s AND s.ts < %(until)s
    )
);

-- name: marked_shards
-- Which shards have marks waiting, the newest of each, and how many.
SELECT device %% %(shards)s AS shard, max(mark), count(*) FROM rollup_marks GROUP BY 1 ORDER BY 1;

-- name: newest_mark
-- The newest mark that waits, null when none does.
SELECT max(mark) FROM rollup_marks;

-- name: device_is_marked
-- Whether a device has marks waiting.
SELECT EXISTS (SELECT FROM rollup_marks WHERE device = %(device)s);

-- name: lock_shard
-- Wait for the right to refresh the rollups of one shard of devices, until the transaction ends.
SELECT pg_advisory_xact_lock(%(namespace)s, %(shard)s);

-- name: try_lock_shards
-- The same for several without waiting: those that no other process is at.
SELECT shard FROM unnest(%(wanted)s::int4[]) AS w(shard) WHERE pg_try_advisory_xact_lock(%(namespace)s, shard);

-- name: see_marks
-- The oldest marks of some shards; exactly these are deleted afterwards.
SELECT mark, device, bucket FROM rollup_marks
WHERE device %% %(shards)s = ANY(%(locked)s::int4[]) AND mark <= %(newest)s
ORDER BY mark
LIMIT %(limit)s;

-- name: delete_marks
-- Delete the marks that were seen.
DELETE FROM rollup_marks WHERE mark = ANY(%(marks)s);

-- name: affected_buckets
-- The marked buckets and the next two that hold readings: what they know of the reading before may have
-- changed with it. Buckets behind the horizon are frozen.
WITH marked AS (
  SELECT DISTINCT device, bucket FROM unnest(%(devices)s::int4[], %(buckets)s::timestamptz[]) AS m(device, bucket)
), following AS (
  SELECT m.device, m.bucket, date_bin('15 minutes', n.ts, 'epoch'::timestamptz) AS next_bucket
  FROM marked m
  CROSS JOIN LATERAL (
    SELECT s.ts FROM samples s
    WHERE s.device = m.device AND s.ts >= m.bucket + INTERVAL '15 minutes' AND s.ts >= %(lowest)s AND s.ts < %(until)s
    ORDER BY s.ts LIMIT 1
  ) n
), after_following AS (
  SELECT f.device, date_bin('15 minutes', n.ts, 'epoch'::timestamptz) AS bucket
  FROM (SELECT DISTINCT device, next_bucket FROM following) f
  CROSS JOIN LATERAL (
    SELECT s.ts FROM samples s
    WHERE s.device = f.device AND s.ts >= f.next_bucket + INTERVAL '15 minutes' AND s.ts >= %(lowest)s AND s.ts < %(until)s
    ORDER BY s.ts LIMIT 1
  ) n
)
SELECT device, bucket FROM (
  SELECT device, bucket FROM marked
  UNION SELECT device, next_bucket FROM following
  UNION SELECT device, bucket FROM after_following
) affected
WHERE bucket >= %(horizon)s
ORDER BY device, bucket;

-- name: clear_rollup_15m
-- Make room for the buckets about to be recomputed; tell in which of them counters fell.
WITH breaks AS (
  DELETE FROM counter_breaks b
  USING unnest(%(devices)s::int4[], %(buckets)s::timestamptz[]) AS t(device, bucket)
  WHERE b.device = t.device AND b.ts >= t.bucket AND b.ts < t.bucket + INTERVAL '15 minutes'
  RETURNING b.device, t.bucket, b.value < b.before AS fell
), cleared AS (
  DELETE FROM rollup_15m r
  USING unnest(%(devices)s::int4[], %(buckets)s::timestamptz[]) AS t(device, bucket)
  WHERE r.device = t.device AND r.bucket = t.bucket AND r.bucket >= %(lowest)s AND r.bucket < %(until)s
)
SELECT DISTINCT device, bucket FROM breaks WHERE fell;

-- name: following_end
-- A moment after the next two buckets that hold readings, for each of some buckets: they lie before the end of two local
-- days that are rolled up and begin later, or, where there are none, of all that is rolled up or marked.
SELECT max(coalesce(
  (
    SELECT d.day + 2 FROM rollup_day d
    WHERE d.device = t.device AND d.day > t.day + 1
    ORDER BY d.day OFFSET 1 LIMIT 1
  )::timestamp AT TIME ZONE 'UTC',
  greatest(
    (SELECT max(d.day) + 2 FROM rollup_day d WHERE d.device = t.device)::timestamp AT TIME ZONE 'UTC',
    (SELECT max(m.bucket) FROM rollup_marks m WHERE m.device = t.device) + INTERVAL '15 minutes',
    t.bucket + INTERVAL '15 minutes'
  )
))
FROM (
  SELECT device, max(bucket) AS bucket, (max(bucket) AT TIME ZONE 'UTC')::date AS day
  FROM unnest(%(devices)s::int4[], %(buckets)s::timestamptz[]) AS u(device, bucket)
  GROUP BY device
) AS t;

-- name: readings_begin
-- A moment before all readings that count for buckets: within a quarter of an hour, or else a day, that is rolled up and
-- lies before the first bucket of a device is a reading, or is none any more; without such a day, what is not rolled up is
-- marked.
SELECT min(coalesce(
  (
    SELECT max(r.bucket) FROM rollup_15m r
    WHERE r.device = t.device AND r.bucket < t.bucket AND r.bucket >= t.bucket - INTERVAL '1 day'
      AND r.bucket < %(highest)s AND r.bucket >= %(lowest)s::timestamptz - INTERVAL '1 day'
  ),
  (SELECT max(d.day) FROM rollup_day d WHERE d.device = t.device AND d.day < t.day - 1)::timestamp AT TIME ZONE 'UTC',
  least(
    (SELECT min(d.day) FROM rollup_day d WHERE d.device = t.device)::timestamp AT TIME ZONE 'UTC',
    (SELECT min(m.bucket) FROM rollup_marks m WHERE m.device = t.device),
    t.bucket
  )
)) - INTERVAL '1 day'
FROM (
  SELECT device, min(bucket) AS bucket, (min(bucket) AT TIME ZONE 'UTC')::date AS day
  FROM unnest(%(devices)s::int4[], %(buckets)s::timestamptz[]) AS u(device, bucket)
  GROUP BY device
) AS t;

-- name: stepped_readings
-- Included by others: the readings of quarters of an hour, each with the time it stands for and its counters' steps.
-- A reading stands for the least of its interval (three poll intervals when it has none) and the time since the
-- reading before.
-- A counter's step looks at its known values among the readings before, back to 15 minutes before the last one in
-- front of the bucket: the last of them, and the highest of them, the peak. When there is none, it is compared with its
-- last known value however long ago, which `known` tells as a reading of its own: the caller looks it up in the rollups.
--   * No known value before: the step is unknown.
--   * Below the last one: 0. The counter was reset, the inverter replaced, or it shows nonsense for a moment.
--   * Between the last one and the peak: from the last one. After a reset or a replacement it counts on from there.
--   * At the peak or above: from the peak. So a momentary 0 and its recovery are no energy, nor is a step back.
--   * A rise beyond what is possible in the time since the value it is taken from and 15 minutes more (three times the
--     nominal power; a counter may stand still for a while and then catch up): 0. So a jump of a damaged high word is no
--     energy, nor is a counter that comes back after more than 15 minutes of nonsense. Where nobody knows the nominal
--     power, it is that of the largest inverter; from 0 on that of a house's: most counters hold more than such a one
--     makes in 15 minutes, young ones less than the largest does.
-- A step that makes no energy is a break, with the difference to what it was compared with. So is one of a daily
-- counter, but for a fall within three hours of the site's midnight (`zone_ms` from UTC; null while the zone is not
-- set, then any fall to what can have been counted since).
-- The last known value and when it was read are those of the greatest `turn` and value in one number: `turn` is a time,
-- times 2^32, and no counter is negative. That is far quicker than an aggregate that is no part of PostgreSQL. The peak
-- and when it was last read are the other way round, the value times 2^32 and the time, 2^31 later to be positive. Times
-- are in ms, 1,000,000 at the bucket's begin, as if the readings in front of it ended just there; `gap_ms` is the time
-- between. A longer silence than of 24 days in front of those counts for 24 days: `turn` has no room for more.
WITH target AS (
  SELECT
    t.device,
    t.bucket,
    t.zone_ms,
    (3000 * d.poll_interval_s)::int8 AS longest_ms,
    coalesce(n.nominal_kw, 352) AS kw, -- that of the largest inverter
    coalesce(n.nominal_kw, 15) AS from_zero_kw,
    p.ts AS ts_before,
    (1000 * date_part('epoch', coalesce(p.ts, t.bucket)))::int8 AS before_ms,
    (1000 * date_part('epoch', t.bucket))::int8 AS bucket_ms,
    t.known::jsonb AS known
  FROM unnest(%(devices)s::int4[], %(buckets)s::timestamptz[], %(zone_ms)s::int8[], %(known)s::text[])
    AS t(device, bucket, zone_ms, known)
  JOIN device_settings d ON d.device = t.device
  JOIN devices n ON n.device = t.device
  LEFT JOIN LATERAL (
    SELECT s.ts FROM samples s
    WHERE s.device = t.device AND s.ts < t.bucket AND s.ts >= %(lowest)s AND s.ts < %(highest)s
    ORDER BY s.ts DESC LIMIT 1
  ) p ON true
  OFFSET 0 -- computed once for each bucket, not anew for each reading
), reading AS (
  SELECT
    t.bucket,
    t.zone_ms,
    t.longest_ms,
    t.kw,
    t.from_zero_kw,
    t.before_ms,
    t.bucket_ms,
    (1000 * date_part('epoch', s.ts))::int8 AS at_ms, -- exact, and several times as fast as extract
    s.*
  FROM target t
  CROSS JOIN LATERAL (
    (
      SELECT * FROM samples s
      WHERE s.device = t.device
        AND s.ts >= coalesce(t.ts_before - %(sight)s::interval, t.bucket)
        AND s.ts < t.bucket + INTERVAL '15 minutes'
        AND s.ts >= %(lowest)s AND s.ts < %(highest)s -- a plan that knows them looks at few chunks
      OFFSET 0 -- one look into the index for each bucket; never all readings joined with all buckets
    )
    {known_readings}
  ) s
), ordered AS (
  SELECT
    r.*,
    bucket_ms - before_ms AS gap_ms,
    4294967296 * CASE
      WHEN ts < bucket THEN 999999 - least(before_ms - at_ms, 2073600000) ELSE 1000000 + at_ms - bucket_ms END AS turn,
    2147483648 + CASE
      WHEN ts < bucket THEN 999999 - least(before_ms - at_ms, 2073600000) ELSE 1000000 + at_ms - bucket_ms END AS late_ms
  FROM reading r
  OFFSET 0 -- computed once for each reading, not anew for each counter
), watched AS (
  SELECT
    device,
    bucket,
    ts,
    sample_count,
    turn,
    gap_ms,
    least(coalesce(interval_s, longest_ms), at_ms - lag(at_ms) OVER before) AS dt,
    kw,
    from_zero_kw,
    at_ms,
    zone_ms,
-- generated: watched
    pv_power_w,
    insulation_resistance_kohm,
    battery_power_w,
    battery_current_a,
    battery_voltage_v,
    battery_soc_pct,
    battery_soh_pct,
    battery_temp_c,
    battery_capacity_kwh,
    battery_cell_voltage_max_v,
    battery_cell_voltage_min_v,
    battery_module_temp_max_c,
    battery_module_temp_min_c,
    load_power_w,
    export_power_w,
    self_consumption_daily_pct,
    active_power_w,
    reactive_power_var,
    apparent_power_va,
    power_factor,
    grid_frequency_hz,
    inverter_temp_c,
    bus_voltage_v,
    backup_power_w,
    backup_frequency_hz,
    pv_total_kwh,
    battery_charge_total_kwh,
    battery_charge_from_pv_total_kwh,
    battery_discharge_total_kwh,
    export_total_kwh,
    export_from_pv_total_kwh,
    import_total_kwh,
    direct_use_total_kwh,
    output_total_kwh,
    running_time_total_h,
    pv_daily_kwh,
    battery_charge_daily_kwh,
    battery_charge_from_pv_daily_kwh,
    battery_discharge_daily_kwh,
    export_daily_kwh,
    export_from_pv_daily_kwh,
    import_daily_kwh,
    direct_use_daily_kwh,
    output_daily_kwh,
    running_time_daily_min,
    max(turn + pv_total_kwh) OVER before AS pv_total_kwh_before,
    max((pv_total_kwh::int8 << 32) + late_ms) OVER before AS pv_total_kwh_peak,
    max(turn + battery_charge_total_kwh) OVER before AS battery_charge_total_kwh_before,
    max((battery_charge_total_kwh::int8 << 32) + late_ms) OVER before AS battery_charge_total_kwh_peak,
    max(turn + battery_charge_from_pv_total_kwh) OVER before AS battery_charge_from_pv_total_kwh_before,
    max((battery_charge_from_pv_total_kwh::int8 << 32) + late_ms) OVER before AS battery_charge_from_pv_total_kwh_peak,
    max(turn + battery_discharge_total_kwh) OVER before AS battery_discharge_total_kwh_before,
    max((battery_discharge_total_kwh::int8 << 32) + late_ms) OVER before AS battery_discharge_total_kwh_peak,
    max(turn + export_total_kwh) OVER before AS export_total_kwh_before,
    max((export_total_kwh::int8 << 32) + late_ms) OVER before AS export_total_kwh_peak,
    max(turn + export_from_pv_total_kwh) OVER before AS export_from_pv_total_kwh_before,
    max((export_from_pv_total_kwh::int8 << 32) + late_ms) OVER before AS export_from_pv_total_kwh_peak,
    max(turn + import_total_kwh) OVER before AS import_total_kwh_before,
    max((import_total_kwh::int8 << 32) + late_ms) OVER before AS import_total_kwh_peak,
    max(turn + direct_use_total_kwh) OVER before AS direct_use_total_kwh_before,
    max((direct_use_total_kwh::int8 << 32) + late_ms) OVER before AS direct_use_total_kwh_peak,
    max(turn + output_total_kwh) OVER before AS output_total_kwh_before,
    max((output_total_kwh::int8 << 32) + late_ms) OVER before AS output_total_kwh_peak,
    max(turn + running_time_total_h) OVER before AS running_time_total_h_before,
    max((running_time_total_h::int8 << 32) + late_ms) OVER before AS running_time_total_h_peak,
    max(turn + pv_daily_kwh) OVER before AS pv_daily_kwh_before,
    max((pv_daily_kwh::int8 << 32) + late_ms) OVER before AS pv_daily_kwh_peak,
    max(turn + battery_charge_daily_kwh) OVER before AS battery_charge_daily_kwh_before,
    max((battery_charge_daily_kwh::int8 << 32) + late_ms) OVER before AS battery_charge_daily_kwh_peak,
    max(turn + battery_charge_from_pv_daily_kwh) OVER before AS battery_charge_from_pv_daily_kwh_before,
    max((battery_charge_from_pv_daily_kwh::int8 << 32) + late_ms) OVER before AS battery_charge_from_pv_daily_kwh_peak,
    max(turn + battery_discharge_daily_kwh) OVER before AS battery_discharge_daily_kwh_before,
    max((battery_discharge_daily_kwh::int8 << 32) + late_ms) OVER before AS battery_discharge_daily_kwh_peak,
    max(turn + export_daily_kwh) OVER before AS export_daily_kwh_before,
    max((export_daily_kwh::int8 << 32) + late_ms) OVER before AS export_daily_kwh_peak,
    max(turn + export_from_pv_daily_kwh) OVER before AS export_from_pv_daily_kwh_before,
    max((export_from_pv_daily_kwh::int8 << 32) + late_ms) OVER before AS export_from_pv_daily_kwh_peak,
    max(turn + import_daily_kwh) OVER before AS import_daily_kwh_before,
    max((import_daily_kwh::int8 << 32) + late_ms) OVER before AS import_daily_kwh_peak,
    max(turn + direct_use_daily_kwh) OVER before AS direct_use_daily_kwh_before,
    max((direct_use_daily_kwh::int8 << 32) + late_ms) OVER before AS direct_use_daily_kwh_peak,
    max(turn + output_daily_kwh) OVER before AS output_daily_kwh_before,
    max((output_daily_kwh::int8 << 32) + late_ms) OVER before AS output_daily_kwh_peak,
    max(turn + running_time_daily_min) OVER before AS running_time_daily_min_before,
    max((running_time_daily_min::int8 << 32) + late_ms) OVER before AS running_time_daily_min_peak
-- end of generated
  FROM ordered
  WINDOW before AS (PARTITION BY device, bucket ORDER BY ts ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
), stepped AS (
  SELECT
    device,
    bucket,
    ts,
    sample_count,
    turn,
    gap_ms,
    dt,
    kw,
    from_zero_kw,
    at_ms,
    zone_ms,
-- generated: stepped
    pv_power_w,
    insulation_resistance_kohm,
    battery_power_w,
    battery_current_a,
    battery_voltage_v,
    battery_soc_pct,
    battery_soh_pct,
    battery_temp_c,
    battery_capacity_kwh,
    battery_cell_voltage_max_v,
    battery_cell_voltage_min_v,
    battery_module_temp_max_c,
    battery_module_temp_min_c,
    load_power_w,
    export_power_w,
    self_consumption_daily_pct,
    active_power_w,
    reactive_power_var,
    apparent_power_va,
    power_factor,
    grid_frequency_hz,
    inverter_temp_c,
    bus_voltage_v,
    backup_power_w,
    backup_frequency_hz,
    pv_total_kwh,
    battery_charge_total_kwh,
    battery_charge_from_pv_total_kwh,
    battery_discharge_total_kwh,
    export_total_kwh,
    export_from_pv_total_kwh,
    import_total_kwh,
    direct_use_total_kwh,
    output_total_kwh,
    running_time_total_h,
    pv_daily_kwh,
    battery_charge_daily_kwh,
    battery_charge_from_pv_daily_kwh,
    battery_discharge_daily_kwh,
    export_daily_kwh,
    export_from_pv_daily_kwh,
    import_daily_kwh,
    direct_use_daily_kwh,
    output_daily_kwh,
    running_time_daily_min,
    pv_total_kwh - CASE WHEN pv_total_kwh >= pv_total_kwh_peak >> 32 THEN pv_total_kwh_peak >> 32 ELSE pv_total_kwh_before & 4294967295 END AS pv_total_kwh_rise,
    (turn >> 32) - CASE WHEN pv_total_kwh >= pv_total_kwh_peak >> 32 THEN (pv_total_kwh_peak & 4294967295) - 2147483648 ELSE pv_total_kwh_before >> 32 END + CASE WHEN CASE WHEN pv_total_kwh >= pv_total_kwh_peak >> 32 THEN (pv_total_kwh_peak & 4294967295) - 2147483648 ELSE pv_total_kwh_before >> 32 END < 1000000 THEN gap_ms - 1 ELSE 0 END AS pv_total_kwh_ms_since,
    battery_charge_total_kwh - CASE WHEN battery_charge_total_kwh >= battery_charge_total_kwh_peak >> 32 THEN battery_charge_total_kwh_peak >> 32 ELSE battery_charge_total_kwh_before & 4294967295 END AS battery_charge_total_kwh_rise,
    (turn >> 32) - CASE WHEN battery_charge_total_kwh >= battery_charge_total_kwh_peak >> 32 THEN (battery_charge_total_kwh_peak & 4294967295) - 2147483648 ELSE battery_charge_total_kwh_before >> 32 END + CASE WHEN CASE WHEN battery_charge_total_kwh >= battery_charge_total_kwh_peak >> 32 THEN (battery_charge_total_kwh_peak & 4294967295) - 2147483648 ELSE battery_charge_total_kwh_before >> 32 END < 1000000 THEN gap_ms - 1 ELSE 0 END AS battery_charge_total_kwh_ms_since,
    battery_charge_from_pv_total_kwh - CASE WHEN battery_charge_from_pv_total_kwh >= battery_charge_from_pv_total_kwh_peak >> 32 THEN battery_charge_from_pv_total_kwh_peak >> 32 ELSE battery_charge_from_pv_total_kwh_before & 4294967295 END AS battery_charge_from_pv_total_kwh_rise,
    (turn >> 32) - CASE WHEN battery_charge_from_pv_total_kwh >= battery_charge_from_pv_total_kwh_peak >> 32 THEN (battery_charge_from_pv_total_kwh_peak & 4294967295) - 2147483648 ELSE battery_charge_from_pv_total_kwh_before >> 32 END + CASE WHEN CASE WHEN battery_charge_from_pv_total_kwh >= battery_charge_from_pv_total_kwh_peak >> 32 THEN (battery_charge_from_pv_total_kwh_peak & 4294967295) - 2147483648 ELSE battery_charge_from_pv_total_kwh_before >> 32 END < 1000000 THEN gap_ms - 1 ELSE 0 END AS battery_charge_from_pv_total_kwh_ms_since,
    battery_discharge_total_kwh - CASE WHEN battery_discharge_total_kwh >= battery_discharge_total_kwh_peak >> 32 THEN battery_discharge_total_kwh_peak >> 32 ELSE battery_discharge_total_kwh_before & 4294967295 END AS battery_discharge_total_kwh_rise,
    (turn >> 32) - CASE WHEN battery_discharge_total_kwh >= battery_discharge_total_kwh_peak >> 32 THEN (battery_discharge_total_kwh_peak & 4294967295) - 2147483648 ELSE battery_discharge_total_kwh_before >> 32 END + CASE WHEN CASE WHEN battery_discharge_total_kwh >= battery_discharge_total_kwh_peak >> 32 THEN (battery_discharge_total_kwh_peak & 4294967295) - 2147483648 ELSE battery_discharge_total_kwh_before >> 32 END < 1000000 THEN gap_ms - 1 ELSE 0 END AS battery_discharge_total_kwh_ms_since,
    export_total_kwh - CASE WHEN export_total_kwh >= export_total_kwh_peak >> 32 THEN export_total_kwh_peak >> 32 ELSE export_total_kwh_before & 4294967295 END AS export_total_kwh_rise,
    (turn >> 32) - CASE WHEN export_total_kwh >= export_total_kwh_peak >> 32 THEN (export_total_kwh_peak & 4294967295) - 2147483648 ELSE export_total_kwh_before >> 32 END + CASE WHEN CASE WHEN export_total_kwh >= export_total_kwh_peak >> 32 THEN (export_total_kwh_peak & 4294967295) - 2147483648 ELSE export_total_kwh_before >> 32 END < 1000000 THEN gap_ms - 1 ELSE 0 END AS export_total_kwh_ms_since,
    export_from_pv_total_kwh - CASE WHEN export_from_pv_total_kwh >= export_from_pv_total_kwh_peak >> 32 THEN export_from_pv_total_kwh_peak >> 32 ELSE export_from_pv_total_kwh_before & 4294967295 END AS export_from_pv_total_kwh_rise,
    (turn >> 32) - CASE WHEN export_from_pv_total_kwh >= export_from_pv_total_kwh_peak >> 32 THEN (export_from_pv_total_kwh_peak & 4294967295) - 2147483648 ELSE export_from_pv_total_kwh_before >> 32 END + CASE WHEN CASE WHEN export_from_pv_total_kwh >= export_from_pv_total_kwh_peak >> 32 THEN (export_from_pv_total_kwh_peak & 4294967295) - 2147483648 ELSE export_from_pv_total_kwh_before >> 32 END < 1000000 THEN gap_ms - 1 ELSE 0 END AS export_from_pv_total_kwh_ms_since,
    import_total_kwh - CASE WHEN import_total_kwh >= import_total_kwh_peak >> 32 THEN import_total_kwh_peak >> 32 ELSE import_total_kwh_before & 4294967295 END AS import_total_kwh_rise,
    (turn >> 32) - CASE WHEN import_total_kwh >= import_total_kwh_peak >> 32 THEN (import_total_kwh_peak & 4294967295) - 2147483648 ELSE import_total_kwh_before >> 32 END + CASE WHEN CASE WHEN import_total_kwh >= import_total_kwh_peak >> 32 THEN (import_total_kwh_peak & 4294967295) - 2147483648 ELSE import_total_kwh_before >> 32 END < 1000000 THEN gap_ms - 1 ELSE 0 END AS import_total_kwh_ms_since,
    direct_use_total_kwh - CASE WHEN direct_use_total_kwh >= direct_use_total_kwh_peak >> 32 THEN direct_use_total_kwh_peak >> 32 ELSE direct_use_total_kwh_before & 4294967295 END AS direct_use_total_kwh_rise,
    (turn >> 32) - CASE WHEN direct_use_total_kwh >= direct_use_total_kwh_peak >> 32 THEN (direct_use_total_kwh_peak & 4294967295) - 2147483648 ELSE direct_use_total_kwh_before >> 32 END + CASE WHEN CASE WHEN direct_use_total_kwh >= direct_use_total_kwh_peak >> 32 THEN (direct_use_total_kwh_peak & 4294967295) - 2147483648 ELSE direct_use_total_kwh_before >> 32 END < 1000000 THEN gap_ms - 1 ELSE 0 END AS direct_use_total_kwh_ms_since,
    output_total_kwh - CASE WHEN output_total_kwh >= output_total_kwh_peak >> 32 THEN output_total_kwh_peak >> 32 ELSE output_total_kwh_before & 4294967295 END AS output_total_kwh_rise,
    (turn >> 32) - CASE WHEN output_total_kwh >= output_total_kwh_peak >> 32 THEN (output_total_kwh_peak & 4294967295) - 2147483648 ELSE output_total_kwh_before >> 32 END + CASE WHEN CASE WHEN output_total_kwh >= output_total_kwh_peak >> 32 THEN (output_total_kwh_peak & 4294967295) - 2147483648 ELSE output_total_kwh_before >> 32 END < 1000000 THEN gap_ms - 1 ELSE 0 END AS output_total_kwh_ms_since,
    running_time_total_h - CASE WHEN running_time_total_h >= running_time_total_h_peak >> 32 THEN running_time_total_h_peak >> 32 ELSE running_time_total_h_before & 4294967295 END AS running_time_total_h_rise,
    (turn >> 32) - CASE WHEN running_time_total_h >= running_time_total_h_peak >> 32 THEN (running_time_total_h_peak & 4294967295) - 2147483648 ELSE running_time_total_h_before >> 32 END + CASE WHEN CASE WHEN running_time_total_h >= running_time_total_h_peak >> 32 THEN (running_time_total_h_peak & 4294967295) - 2147483648 ELSE running_time_total_h_before >> 32 END < 1000000 THEN gap_ms - 1 ELSE 0 END AS running_time_total_h_ms_since,
    pv_daily_kwh - CASE WHEN pv_daily_kwh >= pv_daily_kwh_peak >> 32 THEN pv_daily_kwh_peak >> 32 ELSE pv_daily_kwh_before & 4294967295 END AS pv_daily_kwh_rise,
    (turn >> 32) - CASE WHEN pv_daily_kwh >= pv_daily_kwh_peak >> 32 THEN (pv_daily_kwh_peak & 4294967295) - 2147483648 ELSE pv_daily_kwh_before >> 32 END + CASE WHEN CASE WHEN pv_daily_kwh >= pv_daily_kwh_peak >> 32 THEN (pv_daily_kwh_peak & 4294967295) - 2147483648 ELSE pv_daily_kwh_before >> 32 END < 1000000 THEN gap_ms - 1 ELSE 0 END AS pv_daily_kwh_ms_since,
    battery_charge_daily_kwh - CASE WHEN battery_charge_daily_kwh >= battery_charge_daily_kwh_peak >> 32 THEN battery_charge_daily_kwh_peak >> 32 ELSE battery_charge_daily_kwh_before & 4294967295 END AS battery_charge_daily_kwh_rise,
    (turn >> 32) - CASE WHEN battery_charge_daily_kwh >= battery_charge_daily_kwh_peak >> 32 THEN (battery_charge_daily_kwh_peak & 4294967295) - 2147483648 ELSE battery_charge_daily_kwh_before >> 32 END + CASE WHEN CASE WHEN battery_charge_daily_kwh >= battery_charge_daily_kwh_peak >> 32 THEN (battery_charge_daily_kwh_peak & 4294967295) - 2147483648 ELSE battery_charge_daily_kwh_before >> 32 END < 1000000 THEN gap_ms - 1 ELSE 0 END AS battery_charge_daily_kwh_ms_since,
    battery_charge_from_pv_daily_kwh - CASE WHEN battery_charge_from_pv_daily_kwh >= battery_charge_from_pv_daily_kwh_peak >> 32 THEN battery_charge_from_pv_daily_kwh_peak >> 32 ELSE battery_charge_from_pv_daily_kwh_before & 4294967295 END AS battery_charge_from_pv_daily_kwh_rise,
    (turn >> 32) - CASE WHEN battery_charge_from_pv_daily_kwh >= battery_charge_from_pv_daily_kwh_peak >> 32 THEN (battery_charge_from_pv_daily_kwh_peak & 4294967295) - 2147483648 ELSE battery_charge_from_pv_daily_kwh_before >> 32 END + CASE WHEN CASE WHEN battery_charge_from_pv_daily_kwh >= battery_charge_from_pv_daily_kwh_peak >> 32 THEN (battery_charge_from_pv_daily_kwh_peak & 4294967295) - 2147483648 ELSE battery_charge_from_pv_daily_kwh_before >> 32 END < 1000000 THEN gap_ms - 1 ELSE 0 END AS battery_charge_from_pv_daily_kwh_ms_since,
    battery_discharge_daily_kwh - CASE WHEN battery_discharge_daily_kwh >= battery_discharge_daily_kwh_peak >> 32 THEN battery_discharge_daily_kwh_peak >> 32 ELSE battery_discharge_daily_kwh_before & 4294967295 END AS battery_discharge_daily_kwh_rise,
    (turn >> 32) - CASE WHEN battery_discharge_daily_kwh >= battery_discharge_daily_kwh_peak >> 32 THEN (battery_discharge_daily_kwh_peak & 4294967295) - 2147483648 ELSE battery_discharge_daily_kwh_before >> 32 END + CASE WHEN CASE WHEN battery_discharge_daily_kwh >= battery_discharge_daily_kwh_peak >> 32 THEN (battery_discharge_daily_kwh_peak & 4294967295) - 2147483648 ELSE battery_discharge_daily_kwh_before >> 32 END < 1000000 THEN gap_ms - 1 ELSE 0 END AS battery_discharge_daily_kwh_ms_since,
    export_daily_kwh - CASE WHEN export_daily_kwh >= export_daily_kwh_peak >> 32 THEN export_daily_kwh_peak >> 32 ELSE export_daily_kwh_before & 4294967295 END AS export_daily_kwh_rise,
    (turn >> 32) - CASE WHEN export_daily_kwh >= export_daily_kwh_peak >> 32 THEN (export_daily_kwh_peak & 4294967295) - 2147483648 ELSE export_daily_kwh_before >> 32 END + CASE WHEN CASE WHEN export_daily_kwh >= export_daily_kwh_peak >> 32 THEN (export_daily_kwh_peak & 4294967295) - 2147483648 ELSE export_daily_kwh_before >> 32 END < 1000000 THEN gap_ms - 1 ELSE 0 END AS export_daily_kwh_ms_since,
    export_from_pv_daily_kwh - CASE WHEN export_from_pv_daily_kwh >= export_from_pv_daily_kwh_peak >> 32 THEN export_from_pv_daily_kwh_peak >> 32 ELSE export_from_pv_daily_kwh_before & 4294967295 END AS export_from_pv_daily_kwh_rise,
    (turn >> 32) - CASE WHEN export_from_pv_daily_kwh >= export_from_pv_daily_kwh_peak >> 32 THEN (export_from_pv_daily_kwh_peak & 4294967295) - 2147483648 ELSE export_from_pv_daily_kwh_before >> 32 END + CASE WHEN CASE WHEN export_from_pv_daily_kwh >= export_from_pv_daily_kwh_peak >> 32 THEN (export_from_pv_daily_kwh_peak & 4294967295) - 2147483648 ELSE export_from_pv_daily_kwh_before >> 32 END < 1000000 THEN gap_ms - 1 ELSE 0 END AS export_from_pv_daily_kwh_ms_since,
    import_daily_kwh - CASE WHEN import_daily_kwh >= import_daily_kwh_peak >> 32 THEN import_daily_kwh_peak >> 32 ELSE import_daily_kwh_before & 4294967295 END AS import_daily_kwh_rise,
    (turn >> 32) - CASE WHEN import_daily_kwh >= import_daily_kwh_peak >> 32 THEN (import_daily_kwh_peak & 4294967295) - 2147483648 ELSE import_daily_kwh_before >> 32 END + CASE WHEN CASE WHEN import_daily_kwh >= import_daily_kwh_peak >> 32 THEN (import_daily_kwh_peak & 4294967295) - 2147483648 ELSE import_daily_kwh_before >> 32 END < 1000000 THEN gap_ms - 1 ELSE 0 END AS import_daily_kwh_ms_since,
    direct_use_daily_kwh - CASE WHEN direct_use_daily_kwh >= direct_use_daily_kwh_peak >> 32 THEN direct_use_daily_kwh_peak >> 32 ELSE direct_use_daily_kwh_before & 4294967295 END AS direct_use_daily_kwh_rise,
    (turn >> 32) - CASE WHEN direct_use_daily_kwh >= direct_use_daily_kwh_peak >> 32 THEN (direct_use_daily_kwh_peak & 4294967295) - 2147483648 ELSE direct_use_daily_kwh_before >> 32 END + CASE WHEN CASE WHEN direct_use_daily_kwh >= direct_use_daily_kwh_peak >> 32 THEN (direct_use_daily_kwh_peak & 4294967295) - 2147483648 ELSE direct_use_daily_kwh_before >> 32 END < 1000000 THEN gap_ms - 1 ELSE 0 END AS direct_use_daily_kwh_ms_since,
    output_daily_kwh - CASE WHEN output_daily_kwh >= output_daily_kwh_peak >> 32 THEN output_daily_kwh_peak >> 32 ELSE output_daily_kwh_before & 4294967295 END AS output_daily_kwh_rise,
    (turn >> 32) - CASE WHEN output_daily_kwh >= output_daily_kwh_peak >> 32 THEN (output_daily_kwh_peak & 4294967295) - 2147483648 ELSE output_daily_kwh_before >> 32 END + CASE WHEN CASE WHEN output_daily_kwh >= output_daily_kwh_peak >> 32 THEN (output_daily_kwh_peak & 4294967295) - 2147483648 ELSE output_daily_kwh_before >> 32 END < 1000000 THEN gap_ms - 1 ELSE 0 END AS output_daily_kwh_ms_since,
    running_time_daily_min - CASE WHEN running_time_daily_min >= running_time_daily_min_peak >> 32 THEN running_time_daily_min_peak >> 32 ELSE running_time_daily_min_before & 4294967295 END AS running_time_daily_min_rise,
    (turn >> 32) - CASE WHEN running_time_daily_min >= running_time_daily_min_peak >> 32 THEN (running_time_daily_min_peak & 4294967295) - 2147483648 ELSE running_time_daily_min_before >> 32 END + CASE WHEN CASE WHEN running_time_daily_min >= running_time_daily_min_peak >> 32 THEN (running_time_daily_min_peak & 4294967295) - 2147483648 ELSE running_time_daily_min_before >> 32 END < 1000000 THEN gap_ms - 1 ELSE 0 END AS running_time_daily_min_ms_since
-- end of generated
  FROM watched
  WHERE ts >= bucket
  ORDER BY device, bucket -- as they are
  OFFSET 0 -- computed once for each reading, not anew wherever it is used
);

-- name: known_readings
-- Included where values from long before a bucket are known.
UNION ALL SELECT * FROM jsonb_populate_recordset(NULL::samples, t.known);

-- name: fill_rollup_15m
-- Recompute buckets from their readings. Returns of each whether a counter ran back or jumped in it, and bits of counters:
-- those that have a value, and those for which the integral of power stands in; of the bucket before it, if that is not
-- recomputed as well, which it is, the counters that have a value among readings that are still there, and those of which
-- that is the first value of all, while it is not settled whether the integral stands in; and whether a counter fell
-- shortly before it.
{stepped_readings}
, made AS MATERIALIZED (
SELECT
  device,
  bucket,
  bool_or(
-- generated: any_break
       pv_total_kwh_rise NOT BETWEEN 0 AND greatest(3 * CASE WHEN pv_total_kwh_rise = pv_total_kwh THEN from_zero_kw ELSE kw END, 12) * 10 * (pv_total_kwh_ms_since + 900000) / 3600000
    OR battery_charge_total_kwh_rise NOT BETWEEN 0 AND greatest(3 * CASE WHEN battery_charge_total_kwh_rise = battery_charge_total_kwh THEN from_zero_kw ELSE kw END, 12) * 10 * (battery_charge_total_kwh_ms_since + 900000) / 3600000
    OR battery_charge_from_pv_total_kwh_rise NOT BETWEEN 0 AND greatest(3 * CASE WHEN battery_charge_from_pv_total_kwh_rise = battery_charge_from_pv_total_kwh THEN from_zero_kw ELSE kw END, 12) * 10 * (battery_charge_from_pv_total_kwh_ms_since + 900000) / 3600000
    OR battery_discharge_total_kwh_rise NOT BETWEEN 0 AND greatest(3 * CASE WHEN battery_discharge_total_kwh_rise = battery_discharge_total_kwh THEN from_zero_kw ELSE kw END, 12) * 10 * (battery_discharge_total_kwh_ms_since + 900000) / 3600000
    OR export_total_kwh_rise NOT BETWEEN 0 AND greatest(3 * CASE WHEN export_total_kwh_rise = export_total_kwh THEN from_zero_kw ELSE kw END, 100) * 10 * (export_total_kwh_ms_since + 900000) / 3600000
    OR export_from_pv_total_kwh_rise NOT BETWEEN 0 AND greatest(3 * CASE WHEN export_from_pv_total_kwh_rise = export_from_pv_total_kwh THEN from_zero_kw ELSE kw END, 12) * 10 * (export_from_pv_total_kwh_ms_since + 900000) / 3600000
    OR import_total_kwh_rise NOT BETWEEN 0 AND greatest(3 * CASE WHEN import_total_kwh_rise = import_total_kwh THEN from_zero_kw ELSE kw END, 100) * 10 * (import_total_kwh_ms_since + 900000) / 3600000
    OR direct_use_total_kwh_rise NOT BETWEEN 0 AND greatest(3 * CASE WHEN direct_use_total_kwh_rise = direct_use_total_kwh THEN from_zero_kw ELSE kw END, 12) * 10 * (direct_use_total_kwh_ms_since + 900000) / 3600000
    OR output_total_kwh_rise NOT BETWEEN 0 AND greatest(3 * CASE WHEN output_total_kwh_rise = output_total_kwh THEN from_zero_kw ELSE kw END, 12) * 10 * (output_total_kwh_ms_since + 900000) / 3600000
    OR running_time_total_h_rise NOT BETWEEN 0 AND 4 * 1 * (running_time_total_h_ms_since + 900000) / 3600000
    OR (pv_daily_kwh_rise > greatest(3 * kw, 12) * 10 * (pv_daily_kwh_ms_since + 900000) / 3600000 OR (pv_daily_kwh_rise < 0 AND NOT CASE WHEN zone_ms IS NULL THEN pv_daily_kwh <= greatest(3 * kw, 12) * 10 * (pv_daily_kwh_ms_since + 900000) / 3600000 ELSE (at_ms + zone_ms + 10800000) / 86400000 > (at_ms - pv_daily_kwh_ms_since + zone_ms - 10800000) / 86400000 END))
    OR (battery_charge_daily_kwh_rise > greatest(3 * kw, 12) * 10 * (battery_charge_daily_kwh_ms_since + 900000) / 3600000 OR (battery_charge_daily_kwh_rise < 0 AND NOT CASE WHEN zone_ms IS NULL THEN battery_charge_daily_kwh <= greatest(3 * kw, 12) * 10 * (battery_charge_daily_kwh_ms_since + 900000) / 3600000 ELSE (at_ms + zone_ms + 10800000) / 86400000 > (at_ms - battery_charge_daily_kwh_ms_since + zone_ms - 10800000) / 86400000 END))
    OR (battery_charge_from_pv_daily_kwh_rise > greatest(3 * kw, 12) * 10 * (battery_charge_from_pv_daily_kwh_ms_since + 900000) / 3600000 OR (battery_charge_from_pv_daily_kwh_rise < 0 AND NOT CASE WHEN zone_ms IS NULL THEN battery_charge_from_pv_daily_kwh <= greatest(3 * kw, 12) * 10 * (battery_charge_from_pv_daily_kwh_ms_since + 900000) / 3600000 ELSE (at_ms + zone_ms + 10800000) / 86400000 > (at_ms - battery_charge_from_pv_daily_kwh_ms_since + zone_ms - 10800000) / 86400000 END))
    OR (battery_discharge_daily_kwh_rise > greatest(3 * kw, 12) * 10 * (battery_discharge_daily_kwh_ms_since + 900000) / 3600000 OR (battery_discharge_daily_kwh_rise < 0 AND NOT CASE WHEN zone_ms IS NULL THEN battery_discharge_daily_kwh <= greatest(3 * kw, 12) * 10 * (battery_discharge_daily_kwh_ms_since + 900000) / 3600000 ELSE (at_ms + zone_ms + 10800000) / 86400000 > (at_ms - battery_discharge_daily_kwh_ms_since + zone_ms - 10800000) / 86400000 END))
    OR (export_daily_kwh_rise > greatest(3 * kw, 100) * 10 * (export_daily_kwh_ms_since + 900000) / 3600000 OR (export_daily_kwh_rise < 0 AND NOT CASE WHEN zone_ms IS NULL THEN export_daily_kwh <= greatest(3 * kw, 100) * 10 * (export_daily_kwh_ms_since + 900000) / 3600000 ELSE (at_ms + zone_ms + 10800000) / 86400000 > (at_ms - export_daily_kwh_ms_since + zone_ms - 10800000) / 86400000 END))
    OR (export_from_pv_daily_kwh_rise > greatest(3 * kw, 12) * 10 * (export_from_pv_daily_kwh_ms_since + 900000) / 3600000 OR (export_from_pv_daily_kwh_rise < 0 AND NOT CASE WHEN zone_ms IS NULL THEN export_from_pv_daily_kwh <= greatest(3 * kw, 12) * 10 * (export_from_pv_daily_kwh_ms_since + 900000) / 3600000 ELSE (at_ms + zone_ms + 10800000) / 86400000 > (at_ms - export_from_pv_daily_kwh_ms_since + zone_ms - 10800000) / 86400000 END))
    OR (import_daily_kwh_rise > greatest(3 * kw, 100) * 10 * (import_daily_kwh_ms_since + 900000) / 3600000 OR (import_daily_kwh_rise < 0 AND NOT CASE WHEN zone_ms IS NULL THEN import_daily_kwh <= greatest(3 * kw, 100) * 10 * (import_daily_kwh_ms_since + 900000) / 3600000 ELSE (at_ms + zone_ms + 10800000) / 86400000 > (at_ms - import_daily_kwh_ms_since + zone_ms - 10800000) / 86400000 END))
    OR (direct_use_daily_kwh_rise > greatest(3 * kw, 12) * 10 * (direct_use_daily_kwh_ms_since + 900000) / 3600000 OR (direct_use_daily_kwh_rise < 0 AND NOT CASE WHEN zone_ms IS NULL THEN direct_use_daily_kwh <= greatest(3 * kw, 12) * 10 * (direct_use_daily_kwh_ms_since + 900000) / 3600000 ELSE (at_ms + zone_ms + 10800000) / 86400000 > (at_ms - direct_use_daily_kwh_ms_since + zone_ms - 10800000) / 86400000 END))
    OR (output_daily_kwh_rise > greatest(3 * kw, 12) * 10 * (output_daily_kwh_ms_since + 900000) / 3600000 OR (output_daily_kwh_rise < 0 AND NOT CASE WHEN zone_ms IS NULL THEN output_daily_kwh <= greatest(3 * kw, 12) * 10 * (output_daily_kwh_ms_since + 900000) / 3600000 ELSE (at_ms + zone_ms + 10800000) / 86400000 > (at_ms - output_daily_kwh_ms_since + zone_ms - 10800000) / 86400000 END))
    OR (running_time_daily_min_rise > 240 * 1 * (running_time_daily_min_ms_since + 900000) / 3600000 OR (running_time_daily_min_rise < 0 AND NOT CASE WHEN zone_ms IS NULL THEN running_time_daily_min <= 240 * 1 * (running_time_daily_min_ms_since + 900000) / 3600000 ELSE (at_ms + zone_ms + 10800000) / 86400000 > (at_ms - running_time_daily_min_ms_since + zone_ms - 10800000) / 86400000 END))
-- end of generated
  ) AS has_break,
  max(gap_ms) = 0 AS is_cut_off,
-- generated: aggregate
  (sum(coalesce(sample_count, 1)))::int8 AS sample_count,
  (sum(dt))::int8 AS covered_ms,
  (sum(pv_power_w::int8 * dt))::int8 AS pv_power_w_sum,
  (sum(dt) FILTER (WHERE pv_power_w IS NOT NULL))::int8 AS pv_power_w_ms,
  (min(pv_power_w))::int4 AS pv_power_w_min,
  (max(pv_power_w))::int4 AS pv_power_w_max,
  (count(pv_power_w))::int8 AS pv_power_w_n,
  (sum(insulation_resistance_kohm::int8 * dt))::int8 AS insulation_resistance_kohm_sum,
  (sum(dt) FILTER (WHERE insulation_resistance_kohm IS NOT NULL))::int8 AS insulation_resistance_kohm_ms,
  (min(insulation_resistance_kohm))::int4 AS insulation_resistance_kohm_min,
  (max(insulation_resistance_kohm))::int4 AS insulation_resistance_kohm_max,
  (count(insulation_resistance_kohm))::int8 AS insulation_resistance_kohm_n,
  (sum(battery_power_w::int8 * dt))::int8 AS battery_power_w_sum,
  (sum(dt) FILTER (WHERE battery_power_w IS NOT NULL))::int8 AS battery_power_w_ms,
  (sum(greatest(battery_power_w, 0)::int8 * dt) FILTER (WHERE battery_power_w IS NOT NULL))::int8 AS battery_power_w_pos,
  (sum(least(battery_power_w, 0)::int8 * dt) FILTER (WHERE battery_power_w IS NOT NULL))::int8 AS battery_power_w_neg,
  (min(battery_power_w))::int4 AS battery_power_w_min,
  (max(battery_power_w))::int4 AS battery_power_w_max,
  (count(battery_power_w))::int8 AS battery_power_w_n,
  (sum(battery_current_a::int8 * dt))::int8 AS battery_current_a_sum,
  (sum(dt) FILTER (WHERE battery_current_a IS NOT NULL))::int8 AS battery_current_a_ms,
  (sum(greatest(battery_current_a, 0)::int8 * dt) FILTER (WHERE battery_current_a IS NOT NULL))::int8 AS battery_current_a_pos,
  (sum(least(battery_current_a, 0)::int8 * dt) FILTER (WHERE battery_current_a IS NOT NULL))::int8 AS battery_current_a_neg,
  (min(battery_current_a))::int2 AS battery_current_a_min,
  (max(battery_current_a))::int2 AS battery_current_a_max,
  (count(battery_current_a))::int8 AS battery_current_a_n,
  (sum(battery_voltage_v::int8 * dt))::int8 AS battery_voltage_v_sum,
  (sum(dt) FILTER (WHERE battery_voltage_v IS NOT NULL))::int8 AS battery_voltage_v_ms,
  (min(battery_voltage_v))::int2 AS battery_voltage_v_min,
  (max(battery_voltage_v))::int2 AS battery_voltage_v_max,
  (count(battery_voltage_v))::int8 AS battery_voltage_v_n,
  (sum(battery_soc_pct::int8 * dt))::int8 AS battery_soc_pct_sum,
  (sum(dt) FILTER (WHERE battery_soc_pct IS NOT NULL))::int8 AS battery_soc_pct_ms,
  (min(battery_soc_pct))::int2 AS battery_soc_pct_min,
  (max(battery_soc_pct))::int2 AS battery_soc_pct_max,
  (count(battery_soc_pct))::int8 AS battery_soc_pct_n,
  (sum(battery_soh_pct::int8 * dt))::int8 AS battery_soh_pct_sum,
  (sum(dt) FILTER (WHERE battery_soh_pct IS NOT NULL))::int8 AS battery_soh_pct_ms,
  (min(battery_soh_pct))::int2 AS battery_soh_pct_min,
  (max(battery_soh_pct))::int2 AS battery_soh_pct_max,
  (count(battery_soh_pct))::int8 AS battery_soh_pct_n,
  (sum(battery_temp_c::int8 * dt))::int8 AS battery_temp_c_sum,
  (sum(dt) FILTER (WHERE battery_temp_c IS NOT NULL))::int8 AS battery_temp_c_ms,
  (sum(greatest(battery_temp_c, 0)::int8 * dt) FILTER (WHERE battery_temp_c IS NOT NULL))::int8 AS battery_temp_c_pos,
  (sum(least(battery_temp_c, 0)::int8 * dt) FILTER (WHERE battery_temp_c IS NOT NULL))::int8 AS battery_temp_c_neg,
  (min(battery_temp_c))::int2 AS battery_temp_c_min,
  (max(battery_temp_c))::int2 AS battery_temp_c_max,
  (count(battery_temp_c))::int8 AS battery_temp_c_n,
  (sum(battery_capacity_kwh::int8 * dt))::int8 AS battery_capacity_kwh_sum,
  (sum(dt) FILTER (WHERE battery_capacity_kwh IS NOT NULL))::int8 AS battery_capacity_kwh_ms,
  (min(battery_capacity_kwh))::int4 AS battery_capacity_kwh_min,
  (max(battery_capacity_kwh))::int4 AS battery_capacity_kwh_max,
  (count(battery_capacity_kwh))::int8 AS battery_capacity_kwh_n,
  (sum(battery_cell_voltage_max_v::int8 * dt))::int8 AS battery_cell_voltage_max_v_sum,
  (sum(dt) FILTER (WHERE battery_cell_voltage_max_v IS NOT NULL))::int8 AS battery_cell_voltage_max_v_ms,
  (min(battery_cell_voltage_max_v))::int4 AS battery_cell_voltage_max_v_min,
  (max(battery_cell_voltage_max_v))::int4 AS battery_cell_voltage_max_v_max,
  (count(battery_cell_voltage_max_v))::int8 AS battery_cell_voltage_max_v_n,
  (sum(battery_cell_voltage_min_v::int8 * dt))::int8 AS battery_cell_voltage_min_v_sum,
  (sum(dt) FILTER (WHERE battery_cell_voltage_min_v IS NOT NULL))::int8 AS battery_cell_voltage_min_v_ms,
  (min(battery_cell_voltage_min_v))::int4 AS battery_cell_voltage_min_v_min,
  (max(battery_cell_voltage_min_v))::int4 AS battery_cell_voltage_min_v_max,
  (count(battery_cell_voltage_min_v))::int8 AS battery_cell_voltage_min_v_n,
  (sum(battery_module_temp_max_c::int8 * dt))::int8 AS battery_module_temp_max_c_sum,
  (sum(dt) FILTER (WHERE battery_module_temp_max_c IS NOT NULL))::int8 AS battery_module_temp_max_c_ms,
  (sum(greatest(battery_module_temp_max_c, 0)::int8 * dt) FILTER (WHERE battery_module_temp_max_c IS NOT NULL))::int8 AS battery_module_temp_max_c_pos,
  (sum(least(battery_module_temp_max_c, 0)::int8 * dt) FILTER (WHERE battery_module_temp_max_c IS NOT NULL))::int8 AS battery_module_temp_max_c_neg,
  (min(battery_module_temp_max_c))::int2 AS battery_module_temp_max_c_min,
  (max(battery_module_temp_max_c))::int2 AS battery_module_temp_max_c_max,
  (count(battery_module_temp_max_c))::int8 AS battery_module_temp_max_c_n,
  (sum(battery_module_temp_min_c::int8 * dt))::int8 AS battery_module_temp_min_c_sum,
  (sum(dt) FILTER (WHERE battery_module_temp_min_c IS NOT NULL))::int8 AS battery_module_temp_min_c_ms,
  (sum(greatest(battery_module_temp_min_c, 0)::int8 * dt) FILTER (WHERE battery_module_temp_min_c IS NOT NULL))::int8 AS battery_module_temp_min_c_pos,
  (sum(least(battery_module_temp_min_c, 0)::int8 * dt) FILTER (WHERE battery_module_temp_min_c IS NOT NULL))::int8 AS battery_module_temp_min_c_neg,
  (min(battery_module_temp_min_c))::int2 AS battery_module_temp_min_c_min,
  (max(battery_module_temp_min_c))::int2 AS battery_module_temp_min_c_max,
  (count(battery_module_temp_min_c))::int8 AS battery_module_temp_min_c_n,
  (sum(load_power_w::int8 * dt))::int8 AS load_power_w_sum,
  (sum(dt) FILTER (WHERE load_power_w IS NOT NULL))::int8 AS load_power_w_ms,
  (sum(greatest(load_power_w, 0)::int8 * dt) FILTER (WHERE load_power_w IS NOT NULL))::int8 AS load_power_w_pos,
  (sum(least(load_power_w, 0)::int8 * dt) FILTER (WHERE load_power_w IS NOT NULL))::int8 AS load_power_w_neg,
  (min(load_power_w))::int4 AS load_power_w_min,
  (max(load_power_w))::int4 AS load_power_w_max,
  (count(load_power_w))::int8 AS load_power_w_n,
  (sum(export_power_w::int8 * dt))::int8 AS export_power_w_sum,
  (sum(dt) FILTER (WHERE export_power_w IS NOT NULL))::int8 AS export_power_w_ms,
  (sum(greatest(export_power_w, 0)::int8 * dt) FILTER (WHERE export_power_w IS NOT NULL))::int8 AS export_power_w_pos,
  (sum(least(export_power_w, 0)::int8 * dt) FILTER (WHERE export_power_w IS NOT NULL))::int8 AS export_power_w_neg,
  (min(export_power_w))::int4 AS export_power_w_min,
  (max(export_power_w))::int4 AS export_power_w_max,
  (count(export_power_w))::int8 AS export_power_w_n,
  (sum(self_consumption_daily_pct::int8 * dt))::int8 AS self_consumption_daily_pct_sum,
  (sum(dt) FILTER (WHERE self_consumption_daily_pct IS NOT NULL))::int8 AS self_consumption_daily_pct_ms,
  (min(self_consumption_daily_pct))::int2 AS self_consumption_daily_pct_min,
  (max(self_consumption_daily_pct))::int2 AS self_consumption_daily_pct_max,
  (count(self_consumption_daily_pct))::int8 AS self_consumption_daily_pct_n,
  (sum(active_power_w::int8 * dt))::int8 AS active_power_w_sum,
  (sum(dt) FILTER (WHERE active_power_w IS NOT NULL))::int8 AS active_power_w_ms,
  (sum(greatest(active_power_w, 0)::int8 * dt) FILTER (WHERE active_power_w IS NOT NULL))::int8 AS active_power_w_pos,
  (sum(least(active_power_w, 0)::int8 * dt) FILTER (WHERE active_power_w IS NOT NULL))::int8 AS active_power_w_neg,
  (min(active_power_w))::int4 AS active_power_w_min,
  (max(active_power_w))::int4 AS active_power_w_max,
  (count(active_power_w))::int8 AS active_power_w_n,
  (sum(reactive_power_var::int8 * dt))::int8 AS reactive_power_var_sum,
  (sum(dt) FILTER (WHERE reactive_power_var IS NOT NULL))::int8 AS reactive_power_var_ms,
  (sum(greatest(reactive_power_var, 0)::int8 * dt) FILTER (WHERE reactive_power_var IS NOT NULL))::int8 AS reactive_power_var_pos,
  (sum(least(reactive_power_var, 0)::int8 * dt) FILTER (WHERE reactive_power_var IS NOT NULL))::int8 AS reactive_power_var_neg,
  (min(reactive_power_var))::int4 AS reactive_power_var_min,
  (max(reactive_power_var))::int4 AS reactive_power_var_max,
  (count(reactive_power_var))::int8 AS reactive_power_var_n,
  (sum(apparent_power_va::int8 * dt))::int8 AS apparent_power_va_sum,
  (sum(dt) FILTER (WHERE apparent_power_va IS NOT NULL))::int8 AS apparent_power_va_ms,
  (min(apparent_power_va))::int4 AS apparent_power_va_min,
  (max(apparent_power_va))::int4 AS apparent_power_va_max,
  (count(apparent_power_va))::int8 AS apparent_power_va_n,
  (sum(power_factor::int8 * dt))::int8 AS power_factor_sum,
  (sum(dt) FILTER (WHERE power_factor IS NOT NULL))::int8 AS power_factor_ms,
  (sum(greatest(power_factor, 0)::int8 * dt) FILTER (WHERE power_factor IS NOT NULL))::int8 AS power_factor_pos,
  (sum(least(power_factor, 0)::int8 * dt) FILTER (WHERE power_factor IS NOT NULL))::int8 AS power_factor_neg,
  (min(power_factor))::int2 AS power_factor_min,
  (max(power_factor))::int2 AS power_factor_max,
  (count(power_factor))::int8 AS power_factor_n,
  (sum(grid_frequency_hz::int8 * dt))::int8 AS grid_frequency_hz_sum,
  (sum(dt) FILTER (WHERE grid_frequency_hz IS NOT NULL))::int8 AS grid_frequency_hz_ms,
  (min(grid_frequency_hz))::int2 AS grid_frequency_hz_min,
  (max(grid_frequency_hz))::int2 AS grid_frequency_hz_max,
  (count(grid_frequency_hz))::int8 AS grid_frequency_hz_n,
  (sum(inverter_temp_c::int8 * dt))::int8 AS inverter_temp_c_sum,
  (sum(dt) FILTER (WHERE inverter_temp_c IS NOT NULL))::int8 AS inverter_temp_c_ms,
  (sum(greatest(inverter_temp_c, 0)::int8 * dt) FILTER (WHERE inverter_temp_c IS NOT NULL))::int8 AS inverter_temp_c_pos,
  (sum(least(inverter_temp_c, 0)::int8 * dt) FILTER (WHERE inverter_temp_c IS NOT NULL))::int8 AS inverter_temp_c_neg,
  (min(inverter_temp_c))::int2 AS inverter_temp_c_min,
  (max(inverter_temp_c))::int2 AS inverter_temp_c_max,
  (count(inverter_temp_c))::int8 AS inverter_temp_c_n,
  (sum(bus_voltage_v::int8 * dt))::int8 AS bus_voltage_v_sum,
  (sum(dt) FILTER (WHERE bus_voltage_v IS NOT NULL))::int8 AS bus_voltage_v_ms,
  (min(bus_voltage_v))::int2 AS bus_voltage_v_min,
  (max(bus_voltage_v))::int2 AS bus_voltage_v_max,
  (count(bus_voltage_v))::int8 AS bus_voltage_v_n,
  (sum(backup_power_w::int8 * dt))::int8 AS backup_power_w_sum,
  (sum(dt) FILTER (WHERE backup_power_w IS NOT NULL))::int8 AS backup_power_w_ms,
  (sum(greatest(backup_power_w, 0)::int8 * dt) FILTER (WHERE backup_power_w IS NOT NULL))::int8 AS backup_power_w_pos,
  (sum(least(backup_power_w, 0)::int8 * dt) FILTER (WHERE backup_power_w IS NOT NULL))::int8 AS backup_power_w_neg,
  (min(backup_power_w))::int4 AS backup_power_w_min,
  (max(backup_power_w))::int4 AS backup_power_w_max,
  (count(backup_power_w))::int8 AS backup_power_w_n,
  (sum(backup_frequency_hz::int8 * dt))::int8 AS backup_frequency_hz_sum,
  (sum(dt) FILTER (WHERE backup_frequency_hz IS NOT NULL))::int8 AS backup_frequency_hz_ms,
  (min(backup_frequency_hz))::int2 AS backup_frequency_hz_min,
  (max(backup_frequency_hz))::int2 AS backup_frequency_hz_max,
  (count(backup_frequency_hz))::int8 AS backup_frequency_hz_n,
  (min(turn + pv_total_kwh) & 4294967295)::int4 AS pv_total_kwh_first,
  (max(turn + pv_total_kwh) & 4294967295)::int4 AS pv_total_kwh_last,
  (min(ts) FILTER (WHERE pv_total_kwh IS NOT NULL))::timestamptz AS pv_total_kwh_first_ts,
  (max(ts) FILTER (WHERE pv_total_kwh IS NOT NULL))::timestamptz AS pv_total_kwh_last_ts,
  (sum(CASE WHEN pv_total_kwh_rise BETWEEN 0 AND greatest(3 * CASE WHEN pv_total_kwh_rise = pv_total_kwh THEN from_zero_kw ELSE kw END, 12) * 10 * (pv_total_kwh_ms_since + 900000) / 3600000 THEN pv_total_kwh_rise WHEN pv_total_kwh_rise IS NOT NULL THEN 0 END))::int8 AS pv_total_kwh_increase,
  (CASE WHEN sum(CASE WHEN pv_total_kwh_rise BETWEEN 0 AND greatest(3 * CASE WHEN pv_total_kwh_rise = pv_total_kwh THEN from_zero_kw ELSE kw END, 12) * 10 * (pv_total_kwh_ms_since + 900000) / 3600000 THEN pv_total_kwh_rise WHEN pv_total_kwh_rise IS NOT NULL THEN 0 END) IS NULL THEN sum(pv_power_w::int8 * dt) END)::int8 AS pv_total_kwh_uncounted,
  (min(turn + battery_charge_total_kwh) & 4294967295)::int4 AS battery_charge_total_kwh_first,
  (max(turn + battery_charge_total_kwh) & 4294967295)::int4 AS battery_charge_total_kwh_last,
  (min(ts) FILTER (WHERE battery_charge_total_kwh IS NOT NULL))::timestamptz AS battery_charge_total_kwh_first_ts,
  (max(ts) FILTER (WHERE battery_charge_total_kwh IS NOT NULL))::timestamptz AS battery_charge_total_kwh_last_ts,
  (sum(CASE WHEN battery_charge_total_kwh_rise BETWEEN 0 AND greatest(3 * CASE WHEN battery_charge_total_kwh_rise = battery_charge_total_kwh THEN from_zero_kw ELSE kw END, 12) * 10 * (battery_charge_total_kwh_ms_since + 900000) / 3600000 THEN battery_charge_total_kwh_rise WHEN battery_charge_total_kwh_rise IS NOT NULL THEN 0 END))::int8 AS battery_charge_total_kwh_increase,
  (CASE WHEN sum(CASE WHEN battery_charge_total_kwh_rise BETWEEN 0 AND greatest(3 * CASE WHEN battery_charge_total_kwh_rise = battery_charge_total_kwh THEN from_zero_kw ELSE kw END, 12) * 10 * (battery_charge_total_kwh_ms_since + 900000) / 3600000 THEN battery_charge_total_kwh_rise WHEN battery_charge_total_kwh_rise IS NOT NULL THEN 0 END) IS NULL THEN sum(greatest(battery_power_w, 0)::int8 * dt) FILTER (WHERE battery_power_w IS NOT NULL) END)::int8 AS battery_charge_total_kwh_uncounted,
  (min(turn + battery_charge_from_pv_total_kwh) & 4294967295)::int4 AS battery_charge_from_pv_total_kwh_first,
  (max(turn + battery_charge_from_pv_total_kwh) & 4294967295)::int4 AS battery_charge_from_pv_total_kwh_last,
  (min(ts) FILTER (WHERE battery_charge_from_pv_total_kwh IS NOT NULL))::timestamptz AS battery_charge_from_pv_total_kwh_first_ts,
  (max(ts) FILTER (WHERE battery_charge_from_pv_total_kwh IS NOT NULL))::timestamptz AS battery_charge_from_pv_total_kwh_last_ts,
  (sum(CASE WHEN battery_charge_from_pv_total_kwh_rise BETWEEN 0 AND greatest(3 * CASE WHEN battery_charge_from_pv_total_kwh_rise = battery_charge_from_pv_total_kwh THEN from_zero_kw ELSE kw END, 12) * 10 * (battery_charge_from_pv_total_kwh_ms_since + 900000) / 3600000 THEN battery_charge_from_pv_total_kwh_rise WHEN battery_charge_from_pv_total_kwh_rise IS NOT NULL THEN 0 END))::int8 AS battery_charge_from_pv_total_kwh_increase,
  (min(turn + battery_discharge_total_kwh) & 4294967295)::int4 AS battery_discharge_total_kwh_first,
  (max(turn + battery_discharge_total_kwh) & 4294967295)::int4 AS battery_discharge_total_kwh_last,
  (min(ts) FILTER (WHERE battery_discharge_total_kwh IS NOT NULL))::timestamptz AS battery_discharge_total_kwh_first_ts,
  (max(ts) FILTER (WHERE battery_discharge_total_kwh IS NOT NULL))::timestamptz AS battery_discharge_total_kwh_last_ts,
  (sum(CASE WHEN battery_discharge_total_kwh_rise BETWEEN 0 AND greatest(3 * CASE WHEN battery_discharge_total_kwh_rise = battery_discharge_total_kwh THEN from_zero_kw ELSE kw END, 12) * 10 * (battery_discharge_total_kwh_ms_since + 900000) / 3600000 THEN battery_discharge_total_kwh_rise WHEN battery_discharge_total_kwh_rise IS NOT NULL THEN 0 END))::int8 AS battery_discharge_total_kwh_increase,
  (CASE WHEN sum(CASE WHEN battery_discharge_total_kwh_rise BETWEEN 0 AND greatest(3 * CASE WHEN battery_discharge_total_kwh_rise = battery_discharge_total_kwh THEN from_zero_kw ELSE kw END, 12) * 10 * (battery_discharge_total_kwh_ms_since + 900000) / 3600000 THEN battery_discharge_total_kwh_rise WHEN battery_discharge_total_kwh_rise IS NOT NULL THEN 0 END) IS NULL THEN sum(least(battery_power_w, 0)::int8 * dt) FILTER (WHERE battery_power_w IS NOT NULL) END)::int8 AS battery_discharge_total_kwh_uncounted,
  (min(turn + export_total_kwh) & 4294967295)::int4 AS export_total_kwh_first,
  (max(turn + export_total_kwh) & 4294967295)::int4 AS export_total_kwh_last,
  (min(ts) FILTER (WHERE export_total_kwh IS NOT NULL))::timestamptz AS export_total_kwh_first_ts,
  (max(ts) FILTER (WHERE export_total_kwh IS NOT NULL))::timestamptz AS export_total_kwh_last_ts,
  (sum(CASE WHEN export_total_kwh_rise BETWEEN 0 AND greatest(3 * CASE WHEN export_total_kwh_rise = export_total_kwh THEN from_zero_kw ELSE kw END, 100) * 10 * (export_total_kwh_ms_since + 900000) / 3600000 THEN export_total_kwh_rise WHEN export_total_kwh_rise IS NOT NULL THEN 0 END))::int8 AS export_total_kwh_increase,
  (CASE WHEN sum(CASE WHEN export_total_kwh_rise BETWEEN 0 AND greatest(3 * CASE WHEN export_total_kwh_rise = export_total_kwh THEN from_zero_kw ELSE kw END, 100) * 10 * (export_total_kwh_ms_since + 900000) / 3600000 THEN export_total_kwh_rise WHEN export_total_kwh_rise IS NOT NULL THEN 0 END) IS NULL THEN sum(greatest(export_power_w, 0)::int8 * dt) FILTER (WHERE export_power_w IS NOT NULL) END)::int8 AS export_total_kwh_uncounted,
  (min(turn + export_from_pv_total_kwh) & 4294967295)::int4 AS export_from_pv_total_kwh_first,
  (max(turn + export_from_pv_total_kwh) & 4294967295)::int4 AS export_from_pv_total_kwh_last,
  (min(ts) FILTER (WHERE export_from_pv_total_kwh IS NOT NULL))::timestamptz AS export_from_pv_total_kwh_first_ts,
  (max(ts) FILTER (WHERE export_from_pv_total_kwh IS NOT NULL))::timestamptz AS export_from_pv_total_kwh_last_ts,
  (sum(CASE WHEN export_from_pv_total_kwh_rise BETWEEN 0 AND greatest(3 * CASE WHEN export_from_pv_total_kwh_rise = export_from_pv_total_kwh THEN from_zero_kw ELSE kw END, 12) * 10 * (export_from_pv_total_kwh_ms_since + 900000) / 3600000 THEN export_from_pv_total_kwh_rise WHEN export_from_pv_total_kwh_rise IS NOT NULL THEN 0 END))::int8 AS export_from_pv_total_kwh_increase,
  (min(turn + import_total_kwh) & 4294967295)::int4 AS import_total_kwh_first,
  (max(turn + import_total_kwh) & 4294967295)::int4 AS import_total_kwh_last,
  (min(ts) FILTER (WHERE import_total_kwh IS NOT NULL))::timestamptz AS import_total_kwh_first_ts,
  (max(ts) FILTER (WHERE import_total_kwh IS NOT NULL))::timestamptz AS import_total_kwh_last_ts,
  (sum(CASE WHEN import_total_kwh_rise BETWEEN 0 AND greatest(3 * CASE WHEN import_total_kwh_rise = import_total_kwh THEN from_zero_kw ELSE kw END, 100) * 10 * (import_total_kwh_ms_since + 900000) / 3600000 THEN import_total_kwh_rise WHEN import_total_kwh_rise IS NOT NULL THEN 0 END))::int8 AS import_total_kwh_increase,
  (CASE WHEN sum(CASE WHEN import_total_kwh_rise BETWEEN 0 AND greatest(3 * CASE WHEN import_total_kwh_rise = import_total_kwh THEN from_zero_kw ELSE kw END, 100) * 10 * (import_total_kwh_ms_since + 900000) / 3600000 THEN import_total_kwh_rise WHEN import_total_kwh_rise IS NOT NULL THEN 0 END) IS NULL THEN sum(least(export_power_w, 0)::int8 * dt) FILTER (WHERE export_power_w IS NOT NULL) END)::int8 AS import_total_kwh_uncounted,
  (min(turn + direct_use_total_kwh) & 4294967295)::int4 AS direct_use_total_kwh_first,
  (max(turn + direct_use_total_kwh) & 4294967295)::int4 AS direct_use_total_kwh_last,
  (min(ts) FILTER (WHERE direct_use_total_kwh IS NOT NULL))::timestamptz AS direct_use_total_kwh_first_ts,
  (max(ts) FILTER (WHERE direct_use_total_kwh IS NOT NULL))::timestamptz AS direct_use_total_kwh_last_ts,
  (sum(CASE WHEN direct_use_total_kwh_rise BETWEEN 0 AND greatest(3 * CASE WHEN direct_use_total_kwh_rise = direct_use_total_kwh THEN from_zero_kw ELSE kw END, 12) * 10 * (direct_use_total_kwh_ms_since + 900000) / 3600000 THEN direct_use_total_kwh_rise WHEN direct_use_total_kwh_rise IS NOT NULL THEN 0 END))::int8 AS direct_use_total_kwh_increase,
  (min(turn + output_total_kwh) & 4294967295)::int4 AS output_total_kwh_first,
  (max(turn + output_total_kwh) & 4294967295)::int4 AS output_total_kwh_last,
  (min(ts) FILTER (WHERE output_total_kwh IS NOT NULL))::timestamptz AS output_total_kwh_first_ts,
  (max(ts) FILTER (WHERE output_total_kwh IS NOT NULL))::timestamptz AS output_total_kwh_last_ts,
  (sum(CASE WHEN output_total_kwh_rise BETWEEN 0 AND greatest(3 * CASE WHEN output_total_kwh_rise = output_total_kwh THEN from_zero_kw ELSE kw END, 12) * 10 * (output_total_kwh_ms_since + 900000) / 3600000 THEN output_total_kwh_rise WHEN output_total_kwh_rise IS NOT NULL THEN 0 END))::int8 AS output_total_kwh_increase,
  (min(turn + running_time_total_h) & 4294967295)::int4 AS running_time_total_h_first,
  (max(turn + running_time_total_h) & 4294967295)::int4 AS running_time_total_h_last,
  (min(ts) FILTER (WHERE running_time_total_h IS NOT NULL))::timestamptz AS running_time_total_h_first_ts,
  (max(ts) FILTER (WHERE running_time_total_h IS NOT NULL))::timestamptz AS running_time_total_h_last_ts,
  (sum(CASE WHEN running_time_total_h_rise BETWEEN 0 AND 4 * 1 * (running_time_total_h_ms_since + 900000) / 3600000 THEN running_time_total_h_rise WHEN running_time_total_h_rise IS NOT NULL THEN 0 END))::int8 AS running_time_total_h_increase
-- end of generated
FROM stepped
WHERE ts >= bucket
GROUP BY device, bucket
), filled AS (
INSERT INTO rollup_15m (
  device,
  bucket,
-- generated: rollup_names
  sample_count,
  covered_ms,
  pv_power_w_sum,
  pv_power_w_ms,
  pv_power_w_min,
  pv_power_w_max,
  pv_power_w_n,
  insulation_resistance_kohm_sum,
  insulation_resistance_kohm_ms,
  insulation_resistance_kohm_min,
  insulation_resistance_kohm_max,
  insulation_resistance_kohm_n,
  battery_power_w_sum,
  battery_power_w_ms,
  battery_power_w_pos,
  battery_power_w_neg,
  battery_power_w_min,
  battery_power_w_max,
  battery_power_w_n,
  battery_current_a_sum,
  battery_current_a_ms,
  battery_current_a_pos,
  battery_current_a_neg,
  battery_current_a_min,
  battery_current_a_max,
  battery_current_a_n,
  battery_voltage_v_sum,
  battery_voltage_v_ms,
  battery_voltage_v_min,
  battery_voltage_v_max,
  battery_voltage_v_n,
  battery_soc_pct_sum,
  battery_soc_pct_ms,
  battery_soc_pct_min,
  battery_soc_pct_max,
  battery_soc_pct_n,
  battery_soh_pct_sum,
  battery_soh_pct_ms,
  battery_soh_pct_min,
  battery_soh_pct_max,
  battery_soh_pct_n,
  battery_temp_c_sum,
  battery_temp_c_ms,
  battery_temp_c_pos,
  battery_temp_c_neg,
  battery_temp_c_min,
  battery_temp_c_max,
  battery_temp_c_n,
  battery_capacity_kwh_sum,
  battery_capacity_kwh_ms,
  battery_capacity_kwh_min,
  battery_capacity_kwh_max,
  battery_capacity_kwh_n,
  battery_cell_voltage_max_v_sum,
  battery_cell_voltage_max_v_ms,
  battery_cell_voltage_max_v_min,
  battery_cell_voltage_max_v_max,
  battery_cell_voltage_max_v_n,
  battery_cell_voltage_min_v_sum,
  battery_cell_voltage_min_v_ms,
  battery_cell_voltage_min_v_min,
  battery_cell_voltage_min_v_max,
  battery_cell_voltage_min_v_n,
  battery_module_temp_max_c_sum,
  battery_module_temp_max_c_ms,
  battery_module_temp_max_c_pos,
  battery_module_temp_max_c_neg,
  battery_module_temp_max_c_min,
  battery_module_temp_max_c_max,
  battery_module_temp_max_c_n,
  battery_module_temp_min_c_sum,
  battery_module_temp_min_c_ms,
  battery_module_temp_min_c_pos,
  battery_module_temp_min_c_neg,
  battery_module_temp_min_c_min,
  battery_module_temp_min_c_max,
  battery_module_temp_min_c_n,
  load_power_w_sum,
  load_power_w_ms,
  load_power_w_pos,
  load_power_w_neg,
  load_power_w_min,
  load_power_w_max,
  load_power_w_n,
  export_power_w_sum,
  export_power_w_ms,
  export_power_w_pos,
  export_power_w_neg,
  export_power_w_min,
  export_power_w_max,
  export_power_w_n,
  self_consumption_daily_pct_sum,
  self_consumption_daily_pct_ms,
  self_consumption_daily_pct_min,
  self_consumption_daily_pct_max,
  self_consumption_daily_pct_n,
  active_power_w_sum,
  active_power_w_ms,
  active_power_w_pos,
  active_power_w_neg,
  active_power_w_min,
  active_power_w_max,
  active_power_w_n,
  reactive_power_var_sum,
  reactive_power_var_ms,
  reactive_power_var_pos,
  reactive_power_var_neg,
  reactive_power_var_min,
  reactive_power_var_max,
  reactive_power_var_n,
  apparent_power_va_sum,
  apparent_power_va_ms,
  apparent_power_va_min,
  apparent_power_va_max,
  apparent_power_va_n,
  power_factor_sum,
  power_factor_ms,
  power_factor_pos,
  power_factor_neg,
  power_factor_min,
  power_factor_max,
  power_factor_n,
  grid_frequency_hz_sum,
  grid_frequency_hz_ms,
  grid_frequency_hz_min,
  grid_frequency_hz_max,
  grid_frequency_hz_n,
  inverter_temp_c_sum,
  inverter_temp_c_ms,
  inverter_temp_c_pos,
  inverter_temp_c_neg,
  inverter_temp_c_min,
  inverter_temp_c_max,
  inverter_temp_c_n,
  bus_voltage_v_sum,
  bus_voltage_v_ms,
  bus_voltage_v_min,
  bus_voltage_v_max,
  bus_voltage_v_n,
  backup_power_w_sum,
  backup_power_w_ms,
  backup_power_w_pos,
  backup_power_w_neg,
  backup_power_w_min,
  backup_power_w_max,
  backup_power_w_n,
  backup_frequency_hz_sum,
  backup_frequency_hz_ms,
  backup_frequency_hz_min,
  backup_frequency_hz_max,
  backup_frequency_hz_n,
  pv_total_kwh_first,
  pv_total_kwh_last,
  pv_total_kwh_first_ts,
  pv_total_kwh_last_ts,
  pv_total_kwh_increase,
  pv_total_kwh_uncounted,
  battery_charge_total_kwh_first,
  battery_charge_total_kwh_last,
  battery_charge_total_kwh_first_ts,
  battery_charge_total_kwh_last_ts,
  battery_charge_total_kwh_increase,
  battery_charge_total_kwh_uncounted,
  battery_charge_from_pv_total_kwh_first,
  battery_charge_from_pv_total_kwh_last,
  battery_charge_from_pv_total_kwh_first_ts,
  battery_charge_from_pv_total_kwh_last_ts,
  battery_charge_from_pv_total_kwh_increase,
  battery_discharge_total_kwh_first,
  battery_discharge_total_kwh_last,
  battery_discharge_total_kwh_first_ts,
  battery_discharge_total_kwh_last_ts,
  battery_discharge_total_kwh_increase,
  battery_discharge_total_kwh_uncounted,
  export_total_kwh_first,
  export_total_kwh_last,
  export_total_kwh_first_ts,
  export_total_kwh_last_ts,
  export_total_kwh_increase,
  export_total_kwh_uncounted,
  export_from_pv_total_kwh_first,
  export_from_pv_total_kwh_last,
  export_from_pv_total_kwh_first_ts,
  export_from_pv_total_kwh_last_ts,
  export_from_pv_total_kwh_increase,
  import_total_kwh_first,
  import_total_kwh_last,
  import_total_kwh_first_ts,
  import_total_kwh_last_ts,
  import_total_kwh_increase,
  import_total_kwh_uncounted,
  direct_use_total_kwh_first,
  direct_use_total_kwh_last,
  direct_use_total_kwh_first_ts,
  direct_use_total_kwh_last_ts,
  direct_use_total_kwh_increase,
  output_total_kwh_first,
  output_total_kwh_last,
  output_total_kwh_first_ts,
  output_total_kwh_last_ts,
  output_total_kwh_increase,
  running_time_total_h_first,
  running_time_total_h_last,
  running_time_total_h_first_ts,
  running_time_total_h_last_ts,
  running_time_total_h_increase
-- end of generated
)
SELECT
  device,
  bucket,
-- generated: rollup_names
  sample_count,
  covered_ms,
  pv_power_w_sum,
  pv_power_w_ms,
  pv_power_w_min,
  pv_power_w_max,
  pv_power_w_n,
  insulation_resistance_kohm_sum,
  insulation_resistance_kohm_ms,
  insulation_resistance_kohm_min,
  insulation_resistance_kohm_max,
  insulation_resistance_kohm_n,
  battery_power_w_sum,
  battery_power_w_ms,
  battery_power_w_pos,
  battery_power_w_neg,
  battery_power_w_min,
  battery_power_w_max,
  battery_power_w_n,
  battery_current_a_sum,
  battery_current_a_ms,
  battery_current_a_pos,
  battery_current_a_neg,
  battery_current_a_min,
  battery_current_a_max,
  battery_current_a_n,
  battery_voltage_v_sum,
  battery_voltage_v_ms,
  battery_voltage_v_min,
  battery_voltage_v_max,
  battery_voltage_v_n,
  battery_soc_pct_sum,
  battery_soc_pct_ms,
  battery_soc_pct_min,
  battery_soc_pct_max,
  battery_soc_pct_n,
  battery_soh_pct_sum,
  battery_soh_pct_ms,
  battery_soh_pct_min,
  battery_soh_pct_max,
  battery_soh_pct_n,
  battery_temp_c_sum,
  battery_temp_c_ms,
  battery_temp_c_pos,
  battery_temp_c_neg,
  battery_temp_c_min,
  battery_temp_c_max,
  battery_temp_c_n,
  battery_capacity_kwh_sum,
  battery_capacity_kwh_ms,
  battery_capacity_kwh_min,
  battery_capacity_kwh_max,
  battery_capacity_kwh_n,
  battery_cell_voltage_max_v_sum,
  battery_cell_voltage_max_v_ms,
  battery_cell_voltage_max_v_min,
  battery_cell_voltage_max_v_max,
  battery_cell_voltage_max_v_n,
  battery_cell_voltage_min_v_sum,
  battery_cell_voltage_min_v_ms,
  battery_cell_voltage_min_v_min,
  battery_cell_voltage_min_v_max,
  battery_cell_voltage_min_v_n,
  battery_module_temp_max_c_sum,
  battery_module_temp_max_c_ms,
  battery_module_temp_max_c_pos,
  battery_module_temp_max_c_neg,
  battery_module_temp_max_c_min,
  battery_module_temp_max_c_max,
  battery_module_temp_max_c_n,
  battery_module_temp_min_c_sum,
  battery_module_temp_min_c_ms,
  battery_module_temp_min_c_pos,
  battery_module_temp_min_c_neg,
  battery_module_temp_min_c_min,
  battery_module_temp_min_c_max,
  battery_module_temp_min_c_n,
  load_power_w_sum,
  load_power_w_ms,
  load_power_w_pos,
  load_power_w_neg,
  load_power_w_min,
  load_power_w_max,
  load_power_w_n,
  export_power_w_sum,
  export_power_w_ms,
  export_power_w_pos,
  export_power_w_neg,
  export_power_w_min,
  export_power_w_max,
  export_power_w_n,
  self_consumption_daily_pct_sum,
  self_consumption_daily_pct_ms,
  self_consumption_daily_pct_min,
  self_consumption_daily_pct_max,
  self_consumption_daily_pct_n,
  active_power_w_sum,
  active_power_w_ms,
  active_power_w_pos,
  active_power_w_neg,
  active_power_w_min,
  active_power_w_max,
  active_power_w_n,
  reactive_power_var_sum,
  reactive_power_var_ms,
  reactive_power_var_pos,
  reactive_power_var_neg,
  reactive_power_var_min,
  reactive_power_var_max,
  reactive_power_var_n,
  apparent_power_va_sum,
  apparent_power_va_ms,
  apparent_power_va_min,
  apparent_power_va_max,
  apparent_power_va_n,
  power_factor_sum,
  power_factor_ms,
  power_factor_pos,
  power_factor_neg,
  power_factor_min,
  power_factor_max,
  power_factor_n,
  grid_frequency_hz_sum,
  grid_frequency_hz_ms,
  grid_frequency_hz_min,
  grid_frequency_hz_max,
  grid_frequency_hz_n,
  inverter_temp_c_sum,
  inverter_temp_c_ms,
  inverter_temp_c_pos,
  inverter_temp_c_neg,
  inverter_temp_c_min,
  inverter_temp_c_max,
  inverter_temp_c_n,
  bus_voltage_v_sum,
  bus_voltage_v_ms,
  bus_voltage_v_min,
  bus_voltage_v_max,
  bus_voltage_v_n,
  backup_power_w_sum,
  backup_power_w_ms,
  backup_power_w_pos,
  backup_power_w_neg,
  backup_power_w_min,
  backup_power_w_max,
  backup_power_w_n,
  backup_frequency_hz_sum,
  backup_frequency_hz_ms,
  backup_frequency_hz_min,
  backup_frequency_hz_max,
  backup_frequency_hz_n,
  pv_total_kwh_first,
  pv_total_kwh_last,
  pv_total_kwh_first_ts,
  pv_total_kwh_last_ts,
  pv_total_kwh_increase,
  pv_total_kwh_uncounted,
  battery_charge_total_kwh_first,
  battery_charge_total_kwh_last,
  battery_charge_total_kwh_first_ts,
  battery_charge_total_kwh_last_ts,
  battery_charge_total_kwh_increase,
  battery_charge_total_kwh_uncounted,
  battery_charge_from_pv_total_kwh_first,
  battery_charge_from_pv_total_kwh_last,
  battery_charge_from_pv_total_kwh_first_ts,
  battery_charge_from_pv_total_kwh_last_ts,
  battery_charge_from_pv_total_kwh_increase,
  battery_discharge_total_kwh_first,
  battery_discharge_total_kwh_last,
  battery_discharge_total_kwh_first_ts,
  battery_discharge_total_kwh_last_ts,
  battery_discharge_total_kwh_increase,
  battery_discharge_total_kwh_uncounted,
  export_total_kwh_first,
  export_total_kwh_last,
  export_total_kwh_first_ts,
  export_total_kwh_last_ts,
  export_total_kwh_increase,
  export_total_kwh_uncounted,
  export_from_pv_total_kwh_first,
  export_from_pv_total_kwh_last,
  export_from_pv_total_kwh_first_ts,
  export_from_pv_total_kwh_last_ts,
  export_from_pv_total_kwh_increase,
  import_total_kwh_first,
  import_total_kwh_last,
  import_total_kwh_first_ts,
  import_total_kwh_last_ts,
  import_total_kwh_increase,
  import_total_kwh_uncounted,
  direct_use_total_kwh_first,
  direct_use_total_kwh_last,
  direct_use_total_kwh_first_ts,
  direct_use_total_kwh_last_ts,
  direct_use_total_kwh_increase,
  output_total_kwh_first,
  output_total_kwh_last,
  output_total_kwh_first_ts,
  output_total_kwh_last_ts,
  output_total_kwh_increase,
  running_time_total_h_first,
  running_time_total_h_last,
  running_time_total_h_first_ts,
  running_time_total_h_last_ts,
  running_time_total_h_increase
-- end of generated
FROM made
)
SELECT
  device,
  bucket,
  has_break,
-- generated: held_and_shown
  CASE WHEN pv_total_kwh_last_ts IS NULL THEN 0 ELSE 1 END + CASE WHEN battery_charge_total_kwh_last_ts IS NULL THEN 0 ELSE 2 END + CASE WHEN battery_charge_from_pv_total_kwh_last_ts IS NULL THEN 0 ELSE 4 END + CASE WHEN battery_discharge_total_kwh_last_ts IS NULL THEN 0 ELSE 8 END + CASE WHEN export_total_kwh_last_ts IS NULL THEN 0 ELSE 16 END + CASE WHEN export_from_pv_total_kwh_last_ts IS NULL THEN 0 ELSE 32 END + CASE WHEN import_total_kwh_last_ts IS NULL THEN 0 ELSE 64 END + CASE WHEN direct_use_total_kwh_last_ts IS NULL THEN 0 ELSE 128 END + CASE WHEN output_total_kwh_last_ts IS NULL THEN 0 ELSE 256 END + CASE WHEN running_time_total_h_last_ts IS NULL THEN 0 ELSE 512 END AS held,
  CASE WHEN pv_total_kwh_uncounted IS NULL THEN 0 ELSE 1 END + CASE WHEN battery_charge_total_kwh_uncounted IS NULL THEN 0 ELSE 2 END + CASE WHEN battery_discharge_total_kwh_uncounted IS NULL THEN 0 ELSE 8 END + CASE WHEN export_total_kwh_uncounted IS NULL THEN 0 ELSE 16 END + CASE WHEN import_total_kwh_uncounted IS NULL THEN 0 ELSE 64 END AS shown
-- end of generated
  , b.before, CASE WHEN m.is_cut_off THEN 0 ELSE b.held END AS held_before, b.firsts
  , EXISTS (
    SELECT FROM counter_breaks f
    WHERE f.device = m.device AND f.ts < m.bucket AND f.ts >= b.before - INTERVAL '15 minutes' AND f.value < f.before
  ) AS sees_fall
FROM made m
LEFT JOIN LATERAL (
  SELECT
    bucket AS before,
-- generated: held
  CASE WHEN pv_total_kwh_last_ts IS NULL THEN 0 ELSE 1 END + CASE WHEN battery_charge_total_kwh_last_ts IS NULL THEN 0 ELSE 2 END + CASE WHEN battery_charge_from_pv_total_kwh_last_ts IS NULL THEN 0 ELSE 4 END + CASE WHEN battery_discharge_total_kwh_last_ts IS NULL THEN 0 ELSE 8 END + CASE WHEN export_total_kwh_last_ts IS NULL THEN 0 ELSE 16 END + CASE WHEN export_from_pv_total_kwh_last_ts IS NULL THEN 0 ELSE 32 END + CASE WHEN import_total_kwh_last_ts IS NULL THEN 0 ELSE 64 END + CASE WHEN direct_use_total_kwh_last_ts IS NULL THEN 0 ELSE 128 END + CASE WHEN output_total_kwh_last_ts IS NULL THEN 0 ELSE 256 END + CASE WHEN running_time_total_h_last_ts IS NULL THEN 0 ELSE 512 END AS held
-- end of generated
    ,
-- generated: firsts
    CASE WHEN pv_total_kwh_last_ts IS NOT NULL AND pv_total_kwh_increase IS NULL AND (m.has_break OR pv_total_kwh_uncounted IS NOT NULL) THEN 1 ELSE 0 END + CASE WHEN battery_charge_total_kwh_last_ts IS NOT NULL AND battery_charge_total_kwh_increase IS NULL AND (m.has_break OR battery_charge_total_kwh_uncounted IS NOT NULL) THEN 2 ELSE 0 END + CASE WHEN battery_discharge_total_kwh_last_ts IS NOT NULL AND battery_discharge_total_kwh_increase IS NULL AND (m.has_break OR battery_discharge_total_kwh_uncounted IS NOT NULL) THEN 8 ELSE 0 END + CASE WHEN export_total_kwh_last_ts IS NOT NULL AND export_total_kwh_increase IS NULL AND (m.has_break OR export_total_kwh_uncounted IS NOT NULL) THEN 16 ELSE 0 END + CASE WHEN import_total_kwh_last_ts IS NOT NULL AND import_total_kwh_increase IS NULL AND (m.has_break OR import_total_kwh_uncounted IS NOT NULL) THEN 64 ELSE 0 END AS firsts
-- end of generated
  FROM rollup_15m r
  WHERE r.device = m.device AND r.bucket < m.bucket AND r.bucket >= %(lowest)s AND r.bucket < %(highest)s
  ORDER BY r.bucket DESC LIMIT 1
) AS b ON true;

-- name: flag_counter_breaks
-- Note where counters do not go on from the value before.
{stepped_readings}
INSERT INTO counter_breaks (device, ts, counter, value, before)
SELECT s.device, s.ts, b.counter, b.value, b.value - b.rise
FROM stepped s
CROSS JOIN LATERAL (VALUES
-- generated: breaks
  ('pv_total_kwh', pv_total_kwh, CASE WHEN pv_total_kwh_rise NOT BETWEEN 0 AND greatest(3 * CASE WHEN pv_total_kwh_rise = pv_total_kwh THEN from_zero_kw ELSE kw END, 12) * 10 * (pv_total_kwh_ms_since + 900000) / 3600000 THEN pv_total_kwh_rise END),
  ('battery_charge_total_kwh', battery_charge_total_kwh, CASE WHEN battery_charge_total_kwh_rise NOT BETWEEN 0 AND greatest(3 * CASE WHEN battery_charge_total_kwh_rise = battery_charge_total_kwh THEN from_zero_kw ELSE kw END, 12) * 10 * (battery_charge_total_kwh_ms_since + 900000) / 3600000 THEN battery_charge_total_kwh_rise END),
  ('battery_charge_from_pv_total_kwh', battery_charge_from_pv_total_kwh, CASE WHEN battery_charge_from_pv_total_kwh_rise NOT BETWEEN 0 AND greatest(3 * CASE WHEN battery_charge_from_pv_total_kwh_rise = battery_charge_from_pv_total_kwh THEN from_zero_kw ELSE kw END, 12) * 10 * (battery_charge_from_pv_total_kwh_ms_since + 900000) / 3600000 THEN battery_charge_from_pv_total_kwh_rise END),
  ('battery_discharge_total_kwh', battery_discharge_total_kwh, CASE WHEN battery_discharge_total_kwh_rise NOT BETWEEN 0 AND greatest(3 * CASE WHEN battery_discharge_total_kwh_rise = battery_discharge_total_kwh THEN from_zero_kw ELSE kw END, 12) * 10 * (battery_discharge_total_kwh_ms_since + 900000) / 3600000 THEN battery_discharge_total_kwh_rise END),
  ('export_total_kwh', export_total_kwh, CASE WHEN export_total_kwh_rise NOT BETWEEN 0 AND greatest(3 * CASE WHEN export_total_kwh_rise = export_total_kwh THEN from_zero_kw ELSE kw END, 100) * 10 * (export_total_kwh_ms_since + 900000) / 3600000 THEN export_total_kwh_rise END),
  ('export_from_pv_total_kwh', export_from_pv_total_kwh, CASE WHEN export_from_pv_total_kwh_rise NOT BETWEEN 0 AND greatest(3 * CASE WHEN export_from_pv_total_kwh_rise = export_from_pv_total_kwh THEN from_zero_kw ELSE kw END, 12) * 10 * (export_from_pv_total_kwh_ms_since + 900000) / 3600000 THEN export_from_pv_total_kwh_rise END),
  ('import_total_kwh', import_total_kwh, CASE WHEN import_total_kwh_rise NOT BETWEEN 0 AND greatest(3 * CASE WHEN import_total_kwh_rise = import_total_kwh THEN from_zero_kw ELSE kw END, 100) * 10 * (import_total_kwh_ms_since + 900000) / 3600000 THEN import_total_kwh_rise END),
  ('direct_use_total_kwh', direct_use_total_kwh, CASE WHEN direct_use_total_kwh_rise NOT BETWEEN 0 AND greatest(3 * CASE WHEN direct_use_total_kwh_rise = direct_use_total_kwh THEN from_zero_kw ELSE kw END, 12) * 10 * (direct_use_total_kwh_ms_since + 900000) / 3600000 THEN direct_use_total_kwh_rise END),
  ('output_total_kwh', output_total_kwh, CASE WHEN output_total_kwh_rise NOT BETWEEN 0 AND greatest(3 * CASE WHEN output_total_kwh_rise = output_total_kwh THEN from_zero_kw ELSE kw END, 12) * 10 * (output_total_kwh_ms_since + 900000) / 3600000 THEN output_total_kwh_rise END),
  ('running_time_total_h', running_time_total_h, CASE WHEN running_time_total_h_rise NOT BETWEEN 0 AND 4 * 1 * (running_time_total_h_ms_since + 900000) / 3600000 THEN running_time_total_h_rise END),
  ('pv_daily_kwh', pv_daily_kwh, CASE WHEN (pv_daily_kwh_rise > greatest(3 * kw, 12) * 10 * (pv_daily_kwh_ms_since + 900000) / 3600000 OR (pv_daily_kwh_rise < 0 AND NOT CASE WHEN zone_ms IS NULL THEN pv_daily_kwh <= greatest(3 * kw, 12) * 10 * (pv_daily_kwh_ms_since + 900000) / 3600000 ELSE (at_ms + zone_ms + 10800000) / 86400000 > (at_ms - pv_daily_kwh_ms_since + zone_ms - 10800000) / 86400000 END)) THEN pv_daily_kwh_rise END),
  ('battery_charge_daily_kwh', battery_charge_daily_kwh, CASE WHEN (battery_charge_daily_kwh_rise > greatest(3 * kw, 12) * 10 * (battery_charge_daily_kwh_ms_since + 900000) / 3600000 OR (battery_charge_daily_kwh_rise < 0 AND NOT CASE WHEN zone_ms IS NULL THEN battery_charge_daily_kwh <= greatest(3 * kw, 12) * 10 * (battery_charge_daily_kwh_ms_since + 900000) / 3600000 ELSE (at_ms + zone_ms + 10800000) / 86400000 > (at_ms - battery_charge_daily_kwh_ms_since + zone_ms - 10800000) / 86400000 END)) THEN battery_charge_daily_kwh_rise END),
  ('battery_charge_from_pv_daily_kwh', battery_charge_from_pv_daily_kwh, CASE WHEN (battery_charge_from_pv_daily_kwh_rise > greatest(3 * kw, 12) * 10 * (battery_charge_from_pv_daily_kwh_ms_since + 900000) / 3600000 OR (battery_charge_from_pv_daily_kwh_rise < 0 AND NOT CASE WHEN zone_ms IS NULL THEN battery_charge_from_pv_daily_kwh <= greatest(3 * kw, 12) * 10 * (battery_charge_from_pv_daily_kwh_ms_since + 900000) / 3600000 ELSE (at_ms + zone_ms + 10800000) / 86400000 > (at_ms - battery_charge_from_pv_daily_kwh_ms_since + zone_ms - 10800000) / 86400000 END)) THEN battery_charge_from_pv_daily_kwh_rise END),
  ('battery_discharge_daily_kwh', battery_discharge_daily_kwh, CASE WHEN (battery_discharge_daily_kwh_rise > greatest(3 * kw, 12) * 10 * (battery_discharge_daily_kwh_ms_since + 900000) / 3600000 OR (battery_discharge_daily_kwh_rise < 0 AND NOT CASE WHEN zone_ms IS NULL THEN battery_discharge_daily_kwh <= greatest(3 * kw, 12) * 10 * (battery_discharge_daily_kwh_ms_since + 900000) / 3600000 ELSE (at_ms + zone_ms + 10800000) / 86400000 > (at_ms - battery_discharge_daily_kwh_ms_since + zone_ms - 10800000) / 86400000 END)) THEN battery_discharge_daily_kwh_rise END),
  ('export_daily_kwh', export_daily_kwh, CASE WHEN (export_daily_kwh_rise > greatest(3 * kw, 100) * 10 * (export_daily_kwh_ms_since + 900000) / 3600000 OR (export_daily_kwh_rise < 0 AND NOT CASE WHEN zone_ms IS NULL THEN export_daily_kwh <= greatest(3 * kw, 100) * 10 * (export_daily_kwh_ms_since + 900000) / 3600000 ELSE (at_ms + zone_ms + 10800000) / 86400000 > (at_ms - export_daily_kwh_ms_since + zone_ms - 10800000) / 86400000 END)) THEN export_daily_kwh_rise END),
  ('export_from_pv_daily_kwh', export_from_pv_daily_kwh, CASE WHEN (export_from_pv_daily_kwh_rise > greatest(3 * kw, 12) * 10 * (export_from_pv_daily_kwh_ms_since + 900000) / 3600000 OR (export_from_pv_daily_kwh_rise < 0 AND NOT CASE WHEN zone_ms IS NULL THEN export_from_pv_daily_kwh <= greatest(3 * kw, 12) * 10 * (export_from_pv_daily_kwh_ms_since + 900000) / 3600000 ELSE (at_ms + zone_ms + 10800000) / 86400000 > (at_ms - export_from_pv_daily_kwh_ms_since + zone_ms - 10800000) / 86400000 END)) THEN export_from_pv_daily_kwh_rise END),
  ('import_daily_kwh', import_daily_kwh, CASE WHEN (import_daily_kwh_rise > greatest(3 * kw, 100) * 10 * (import_daily_kwh_ms_since + 900000) / 3600000 OR (import_daily_kwh_rise < 0 AND NOT CASE WHEN zone_ms IS NULL THEN import_daily_kwh <= greatest(3 * kw, 100) * 10 * (import_daily_kwh_ms_since + 900000) / 3600000 ELSE (at_ms + zone_ms + 10800000) / 86400000 > (at_ms - import_daily_kwh_ms_since + zone_ms - 10800000) / 86400000 END)) THEN import_daily_kwh_rise END),
  ('direct_use_daily_kwh', direct_use_daily_kwh, CASE WHEN (direct_use_daily_kwh_rise > greatest(3 * kw, 12) * 10 * (direct_use_daily_kwh_ms_since + 900000) / 3600000 OR (direct_use_daily_kwh_rise < 0 AND NOT CASE WHEN zone_ms IS NULL THEN direct_use_daily_kwh <= greatest(3 * kw, 12) * 10 * (direct_use_daily_kwh_ms_since + 900000) / 3600000 ELSE (at_ms + zone_ms + 10800000) / 86400000 > (at_ms - direct_use_daily_kwh_ms_since + zone_ms - 10800000) / 86400000 END)) THEN direct_use_daily_kwh_rise END),
  ('output_daily_kwh', output_daily_kwh, CASE WHEN (output_daily_kwh_rise > greatest(3 * kw, 12) * 10 * (output_daily_kwh_ms_since + 900000) / 3600000 OR (output_daily_kwh_rise < 0 AND NOT CASE WHEN zone_ms IS NULL THEN output_daily_kwh <= greatest(3 * kw, 12) * 10 * (output_daily_kwh_ms_since + 900000) / 3600000 ELSE (at_ms + zone_ms + 10800000) / 86400000 > (at_ms - output_daily_kwh_ms_since + zone_ms - 10800000) / 86400000 END)) THEN output_daily_kwh_rise END),
  ('running_time_daily_min', running_time_daily_min, CASE WHEN (running_time_daily_min_rise > 240 * 1 * (running_time_daily_min_ms_since + 900000) / 3600000 OR (running_time_daily_min_rise < 0 AND NOT CASE WHEN zone_ms IS NULL THEN running_time_daily_min <= 240 * 1 * (running_time_daily_min_ms_since + 900000) / 3600000 ELSE (at_ms + zone_ms + 10800000) / 86400000 > (at_ms - running_time_daily_min_ms_since + zone_ms - 10800000) / 86400000 END)) THEN running_time_daily_min_rise END)
-- end of generated
) AS b(counter, value, rise)
WHERE s.ts >= s.bucket AND b.rise IS NOT NULL;

-- name: days_known_before
-- For quarters of an hour of devices, the last local day with a value of a counter from before.
SELECT t.device, t.bucket, known.day
FROM unnest(%(devices)s::int4[], %(buckets)s::timestamptz[]) AS t(device, bucket)
CROSS JOIN LATERAL (
  SELECT d.day FROM rollup_day d
  WHERE d.device = t.device AND d.day <= (t.bucket AT TIME ZONE 'UTC')::date + 1 AND d.{counter}_first_ts < t.bucket
  ORDER BY d.day DESC LIMIT 1
) AS known;

-- name: days_known_after
-- The same for the first local day with a value from after them.
SELECT t.device, t.bucket, known.day
FROM unnest(%(devices)s::int4[], %(buckets)s::timestamptz[]) AS t(device, bucket)
CROSS JOIN LATERAL (
  SELECT d.day FROM rollup_day d
  WHERE d.device = t.device AND d.day >= (t.bucket AT TIME ZONE 'UTC')::date - 1
    AND d.{counter}_last_ts >= t.bucket + INTERVAL '15 minutes'
  ORDER BY d.day LIMIT 1
) AS known;

-- name: quarters_known_before
-- The last quarter of an hour in such a day, or after it, with a value of the counter from before others. Where no readings
-- from there on are left to tell, also from where the counter fell shortly before that value.
SELECT t.device, t.bucket, known.*, (
  SELECT max(b.before) FROM counter_breaks b
  WHERE b.device = t.device AND b.counter = '{counter}' AND b.value < b.before
    AND b.ts > known.ts - INTERVAL '15 minutes' AND b.ts <= known.ts
    AND NOT EXISTS (
      SELECT FROM samples s
      WHERE s.device = t.device AND s.ts >= known.bucket AND s.ts < t.bucket AND s.ts >= %(lowest)s AND s.ts < %(until)s
    )
)
FROM unnest(%(devices)s::int4[], %(buckets)s::timestamptz[], %(days)s::date[]) AS t(device, bucket, day)
CROSS JOIN LATERAL (
  SELECT r.bucket, r.{counter}_last_ts AS ts, r.{counter}_last FROM rollup_15m r
  WHERE r.device = t.device AND r.bucket < t.bucket AND r.bucket >= (t.day - 1)::timestamp AT TIME ZONE 'UTC'
    AND r.bucket >= %(lowest)s AND r.bucket < %(highest)s AND r.{counter}_last_ts IS NOT NULL
  ORDER BY r.bucket DESC LIMIT 1
) AS known;

-- name: quarters_known_after
-- The first quarter of an hour in such a day, or before it, with a value of the counter from after others, and whether its
-- readings are there.
SELECT t.device, t.bucket, known.bucket, EXISTS (
  SELECT FROM samples s
  WHERE s.device = t.device AND s.ts >= known.bucket AND s.ts < known.bucket + INTERVAL '15 minutes'
    AND s.ts >= %(lowest)s AND s.ts < %(highest)s
)
FROM unnest(%(devices)s::int4[], %(buckets)s::timestamptz[], %(days)s::date[]) AS t(device, bucket, day)
CROSS JOIN LATERAL (
  SELECT r.bucket FROM rollup_15m r
  WHERE r.device = t.device AND r.bucket > t.bucket AND r.bucket >= (t.day - 1)::timestamp AT TIME ZONE 'UTC'
    AND r.bucket < (t.day + 2)::timestamp AT TIME ZONE 'UTC'
    AND r.bucket >= %(lowest)s AND r.bucket < %(highest)s AND r.{counter}_last_ts IS NOT NULL
  ORDER BY r.bucket LIMIT 1
) AS known;

-- name: known_span
-- When a counter was read first of all and last of all, of devices whose spans of time it was read after and before the
-- end of.
SELECT t.device, earliest.ts, latest.ts
FROM unnest(%(devices)s::int4[], %(lowest)s::timestamptz[], %(highest)s::timestamptz[]) AS t(device, lowest, highest)
CROSS JOIN LATERAL (
  SELECT d.{counter}_last_ts AS ts FROM rollup_day d
  WHERE d.device = t.device AND d.day >= (t.lowest AT TIME ZONE 'UTC')::date - 1
    AND d.{counter}_last_ts >= t.lowest + INTERVAL '15 minutes'
  ORDER BY d.day DESC LIMIT 1
) AS latest
CROSS JOIN LATERAL (
  SELECT d.{counter}_first_ts AS ts FROM rollup_day d
  WHERE d.device = t.device AND d.day <= (t.highest AT TIME ZONE 'UTC')::date + 1
    AND d.{counter}_first_ts < t.highest + INTERVAL '15 minutes'
  ORDER BY d.day LIMIT 1
) AS earliest;

-- name: closing_breaks
-- Those of some quarters of an hour whose first value of a counter is a break: when it was read, and whether it fell.
SELECT q.device, q.bucket, b.ts, b.value < b.before
FROM unnest(%(devices)s::int4[], %(buckets)s::timestamptz[]) AS t(device, bucket)
JOIN rollup_15m q ON q.device = t.device AND q.bucket = t.bucket
  AND q.bucket >= %(lowest)s AND q.bucket < %(highest)s
JOIN counter_breaks b ON b.device = q.device AND b.ts = q.{counter}_first_ts AND b.counter = '{counter}';

-- name: after_falls
-- These quarters of an hour and the next two of each, whose values may be compared with those from before a fall in it.
SELECT t.device, t.bucket, n.bucket
FROM unnest(%(devices)s::int4[], %(buckets)s::timestamptz[]) AS t(device, bucket)
CROSS JOIN LATERAL (
  SELECT r.bucket FROM rollup_15m r
  WHERE r.device = t.device AND r.bucket >= t.bucket AND r.bucket >= %(lowest)s
  ORDER BY r.bucket LIMIT 3
) AS n;

-- name: earliest_bases
-- Of quarters of an hour, the earliest value of a counter that a step of energy in them is taken from, as a time in ms.
{stepped_readings}
SELECT s.device, s.bucket, min(s.at_ms - s.{counter}_ms_since)
FROM stepped s
WHERE s.ts >= s.bucket AND s.{counter}_rise IS NOT NULL AND NOT EXISTS (
  SELECT FROM counter_breaks b WHERE b.device = s.device AND b.ts = s.ts AND b.counter = '{counter}'
)
GROUP BY s.device, s.bucket;

-- name: settle_integral
-- Let the integral of power stand in for a silent counter in quarters of an hour, or no longer where a step covers them.
UPDATE rollup_15m r SET {counter}_uncounted = CASE WHEN t.is_covered THEN NULL ELSE r.{power} END
FROM unnest(
  %(devices)s::int4[], %(begins)s::timestamptz[], %(ends)s::timestamptz[], %(covered)s::bool[]
) AS t(device, begins, ends, is_covered)
WHERE r.device = t.device AND r.bucket >= t.begins AND r.bucket < t.ends AND r.{counter}_increase IS NULL
  AND r.{counter}_uncounted IS DISTINCT FROM CASE WHEN t.is_covered THEN NULL ELSE r.{power} END
  AND r.bucket >= %(horizon)s AND r.bucket >= %(lowest)s AND r.bucket < %(highest)s
RETURNING r.device, r.bucket;

-- name: deduct_frozen
-- Take from a counter's steps what the integral of power made of frozen quarters of an hour that they cover. What is less
-- than nothing is nothing.
UPDATE rollup_15m r SET {counter}_increase = greatest(0, r.{counter}_increase - t.steps)
FROM (
  SELECT u.device, u.closing, round(abs(sum(f.{counter}_uncounted)) / 3600000.0 / %(step_wh)s)::int8 AS steps
  FROM unnest(%(devices)s::int4[], %(begins)s::timestamptz[], %(ends)s::timestamptz[], %(closings)s::timestamptz[])
    AS u(device, begins, ends, closing)
  JOIN rollup_15m f ON f.device = u.device AND f.bucket >= u.begins AND f.bucket < u.ends
    AND f.bucket >= %(lowest)s AND f.bucket < %(horizon)s AND f.{counter}_increase IS NULL
  GROUP BY u.device, u.closing
) AS t
WHERE r.device = t.device AND r.bucket = t.closing AND r.bucket >= %(horizon)s AND r.bucket < %(highest)s
  AND r.{counter}_increase > 0 AND t.steps > 0
RETURNING r.device, r.bucket;

-- name: falls_in
-- Quarters of an hour in which lifetime counters fell below what they were compared with.
SELECT DISTINCT b.device, t.bucket, b.counter
FROM unnest(%(devices)s::int4[], %(buckets)s::timestamptz[]) AS t(device, bucket)
JOIN counter_breaks b ON b.device = t.device AND b.ts >= t.bucket AND b.ts < t.bucket + INTERVAL '15 minutes'
WHERE b.value < b.before AND b.counter = ANY(%(counters)s);

-- name: falls_in_sight
-- Lifetime counters that fell among the readings in front of quarters of an hour that their values are compared with; the
-- moment from which on those are, and the quarter it fell in.
SELECT DISTINCT
  t.device, t.bucket, b.counter, p.ts - INTERVAL '15 minutes', date_bin('15 minutes', b.ts, 'epoch'::timestamptz)
FROM unnest(%(devices)s::int4[], %(buckets)s::timestamptz[]) AS t(device, bucket)
CROSS JOIN LATERAL (
  SELECT s.ts FROM samples s
  WHERE s.device = t.device AND s.ts < t.bucket AND s.ts >= %(lowest)s AND s.ts < %(highest)s
  ORDER BY s.ts DESC LIMIT 1
) AS p
JOIN counter_breaks b ON b.device = t.device AND b.ts >= p.ts - INTERVAL '15 minutes' AND b.ts < t.bucket
WHERE b.value < b.before AND b.counter = ANY(%(counters)s);

-- name: known_within
-- The last values of a counter among the readings of quarters of an hour up to some moments in them.
SELECT t.device, t.bucket, s.ts, s.{counter}
FROM unnest(%(devices)s::int4[], %(buckets)s::timestamptz[], %(moments)s::timestamptz[]) AS t(device, bucket, moment)
CROSS JOIN LATERAL (
  SELECT n.ts, n.{counter} FROM samples n
  WHERE n.device = t.device AND n.ts >= date_bin('15 minutes', t.moment, 'epoch'::timestamptz) AND n.ts < t.moment
    AND n.ts >= %(lowest)s AND n.ts < %(highest)s AND n.{counter} IS NOT NULL
  ORDER BY n.ts DESC LIMIT 1
) AS s;

-- name: seam
-- A quarter of an hour whose readings are gone, and what tells whether the step towards it is possible; nothing where a
-- counter broke within it.
SELECT q.{counter}_first, q.{counter}_first_ts, q.{counter}_last, n.nominal_kw
FROM rollup_15m q
JOIN devices n ON n.device = q.device
WHERE q.device = %(device)s AND q.bucket = %(bucket)s AND q.{counter}_last >= q.{counter}_first AND NOT EXISTS (
  SELECT FROM counter_breaks b
  WHERE b.device = q.device AND b.counter = '{counter}' AND b.ts > q.{counter}_first_ts
    AND b.ts < q.bucket + INTERVAL '15 minutes'
);

-- name: unflag_seam
-- Its step is judged anew.
DELETE FROM counter_breaks WHERE device = %(device)s AND ts = %(ts)s AND counter = '{counter}';

-- name: flag_seam
-- No step leads to it.
INSERT INTO counter_breaks (device, ts, counter, value, before)
VALUES (%(device)s, %(ts)s, '{counter}', %(value)s, %(before)s);

-- name: mend_seam
-- Take its step from another value than it was taken from.
UPDATE rollup_15m r SET {counter}_increase = %(increase)s
WHERE r.device = %(device)s AND r.bucket = %(bucket)s;

-- name: forget_integral
-- Of a quarter of an hour that has a step, the integral stands in no more.
UPDATE rollup_15m r SET {counter}_uncounted = NULL WHERE r.device = %(device)s AND r.bucket = %(bucket)s;

-- name: clear_rollup_day
-- Make room for the days about to be recomputed.
DELETE FROM rollup_day r
USING unnest(%(devices)s::int4[], %(days)s::date[]) AS t(device, day)
WHERE r.device = t.device AND r.day = t.day;

-- name: fill_rollup_day
-- Recompute local days from their quarters of an hour; the caller knows when each begins and ends.
INSERT INTO rollup_day (
  device,
  day,
-- generated: rollup_names
  sample_count,
  covered_ms,
  pv_power_w_sum,
  pv_power_w_ms,
  pv_power_w_min,
  pv_power_w_max,
  pv_power_w_n,
  insulation_resistance_kohm_sum,
  insulation_resistance_kohm_ms,
  insulation_resistance_kohm_min,
  insulation_resistance_kohm_max,
  insulation_resistance_kohm_n,
  battery_power_w_sum,
  battery_power_w_ms,
  battery_power_w_pos,
  battery_power_w_neg,
  battery_power_w_min,
  battery_power_w_max,
  battery_power_w_n,
  battery_current_a_sum,
  battery_current_a_ms,
  battery_current_a_pos,
  battery_current_a_neg,
  battery_current_a_min,
  battery_current_a_max,
  battery_current_a_n,
  battery_voltage_v_sum,
  battery_voltage_v_ms,
  battery_voltage_v_min,
  battery_voltage_v_max,
  battery_voltage_v_n,
  battery_soc_pct_sum,
  battery_soc_pct_ms,
  battery_soc_pct_min,
  battery_soc_pct_max,
  battery_soc_pct_n,
  battery_soh_pct_sum,
  battery_soh_pct_ms,
  battery_soh_pct_min,
  battery_soh_pct_max,
  battery_soh_pct_n,
  battery_temp_c_sum,
  battery_temp_c_ms,
  battery_temp_c_pos,
  battery_temp_c_neg,
  battery_temp_c_min,
  battery_temp_c_max,
  battery_temp_c_n,
  battery_capacity_kwh_sum,
  battery_capacity_kwh_ms,
  battery_capacity_kwh_min,
  battery_capacity_kwh_max,
  battery_capacity_kwh_n,
  battery_cell_voltage_max_v_sum,
  battery_cell_voltage_max_v_ms,
  battery_cell_voltage_max_v_min,
  battery_cell_voltage_max_v_max,
  battery_cell_voltage_max_v_n,
  battery_cell_voltage_min_v_sum,
  battery_cell_voltage_min_v_ms,
  battery_cell_voltage_min_v_min,
  battery_cell_voltage_min_v_max,
  battery_cell_voltage_min_v_n,
  battery_module_temp_max_c_sum,
  battery_module_temp_max_c_ms,
  battery_module_temp_max_c_pos,
  battery_module_temp_max_c_neg,
  battery_module_temp_max_c_min,
  battery_module_temp_max_c_max,
  battery_module_temp_max_c_n,
  battery_module_temp_min_c_sum,
  battery_module_temp_min_c_ms,
  battery_module_temp_min_c_pos,
  battery_module_temp_min_c_neg,
  battery_module_temp_min_c_min,
  battery_module_temp_min_c_max,
  battery_module_temp_min_c_n,
  load_power_w_sum,
  load_power_w_ms,
  load_power_w_pos,
  load_power_w_neg,
  load_power_w_min,
  load_power_w_max,
  load_power_w_n,
  export_power_w_sum,
  export_power_w_ms,
  export_power_w_pos,
  export_power_w_neg,
  export_power_w_min,
  export_power_w_max,
  export_power_w_n,
  self_consumption_daily_pct_sum,
  self_consumption_daily_pct_ms,
  self_consumption_daily_pct_min,
  self_consumption_daily_pct_max,
  self_consumption_daily_pct_n,
  active_power_w_sum,
  active_power_w_ms,
  active_power_w_pos,
  active_power_w_neg,
  active_power_w_min,
  active_power_w_max,
  active_power_w_n,
  reactive_power_var_sum,
  reactive_power_var_ms,
  reactive_power_var_pos,
  reactive_power_var_neg,
  reactive_power_var_min,
  reactive_power_var_max,
  reactive_power_var_n,
  apparent_power_va_sum,
  apparent_power_va_ms,
  apparent_power_va_min,
  apparent_power_va_max,
  apparent_power_va_n,
  power_factor_sum,
  power_factor_ms,
  power_factor_pos,
  power_factor_neg,
  power_factor_min,
  power_factor_max,
  power_factor_n,
  grid_frequency_hz_sum,
  grid_frequency_hz_ms,
  grid_frequency_hz_min,
  grid_frequency_hz_max,
  grid_frequency_hz_n,
  inverter_temp_c_sum,
  inverter_temp_c_ms,
  inverter_temp_c_pos,
  inverter_temp_c_neg,
  inverter_temp_c_min,
  inverter_temp_c_max,
  inverter_temp_c_n,
  bus_voltage_v_sum,
  bus_voltage_v_ms,
  bus_voltage_v_min,
  bus_voltage_v_max,
  bus_voltage_v_n,
  backup_power_w_sum,
  backup_power_w_ms,
  backup_power_w_pos,
  backup_power_w_neg,
  backup_power_w_min,
  backup_power_w_max,
  backup_power_w_n,
  backup_frequency_hz_sum,
  backup_frequency_hz_ms,
  backup_frequency_hz_min,
  backup_frequency_hz_max,
  backup_frequency_hz_n,
  pv_total_kwh_first,
  pv_total_kwh_last,
  pv_total_kwh_first_ts,
  pv_total_kwh_last_ts,
  pv_total_kwh_increase,
  pv_total_kwh_uncounted,
  battery_charge_total_kwh_first,
  battery_charge_total_kwh_last,
  battery_charge_total_kwh_first_ts,
  battery_charge_total_kwh_last_ts,
  battery_charge_total_kwh_increase,
  battery_charge_total_kwh_uncounted,
  battery_charge_from_pv_total_kwh_first,
  battery_charge_from_pv_total_kwh_last,
  battery_charge_from_pv_total_kwh_first_ts,
  battery_charge_from_pv_total_kwh_last_ts,
  battery_charge_from_pv_total_kwh_increase,
  battery_discharge_total_kwh_first,
  battery_discharge_total_kwh_last,
  battery_discharge_total_kwh_first_ts,
  battery_discharge_total_kwh_last_ts,
  battery_discharge_total_kwh_increase,
  battery_discharge_total_kwh_uncounted,
  export_total_kwh_first,
  export_total_kwh_last,
  export_total_kwh_first_ts,
  export_total_kwh_last_ts,
  export_total_kwh_increase,
  export_total_kwh_uncounted,
  export_from_pv_total_kwh_first,
  export_from_pv_total_kwh_last,
  export_from_pv_total_kwh_first_ts,
  export_from_pv_total_kwh_last_ts,
  export_from_pv_total_kwh_increase,
  import_total_kwh_first,
  import_total_kwh_last,
  import_total_kwh_first_ts,
  import_total_kwh_last_ts,
  import_total_kwh_increase,
  import_total_kwh_uncounted,
  direct_use_total_kwh_first,
  direct_use_total_kwh_last,
  direct_use_total_kwh_first_ts,
  direct_use_total_kwh_last_ts,
  direct_use_total_kwh_increase,
  output_total_kwh_first,
  output_total_kwh_last,
  output_total_kwh_first_ts,
  output_total_kwh_last_ts,
  output_total_kwh_increase,
  running_time_total_h_first,
  running_time_total_h_last,
  running_time_total_h_first_ts,
  running_time_total_h_last_ts,
  running_time_total_h_increase
-- end of generated
)
SELECT
  r.device,
  t.day,
-- generated: merge_buckets
  add_up(sample_count) AS sample_count,
  add_up(covered_ms) AS covered_ms,
  add_up(pv_power_w_sum) AS pv_power_w_sum,
  add_up(pv_power_w_ms) AS pv_power_w_ms,
  min(pv_power_w_min) AS pv_power_w_min,
  max(pv_power_w_max) AS pv_power_w_max,
  add_up(pv_power_w_n) AS pv_power_w_n,
  add_up(insulation_resistance_kohm_sum) AS insulation_resistance_kohm_sum,
  add_up(insulation_resistance_kohm_ms) AS insulation_resistance_kohm_ms,
  min(insulation_resistance_kohm_min) AS insulation_resistance_kohm_min,
  max(insulation_resistance_kohm_max) AS insulation_resistance_kohm_max,
  add_up(insulation_resistance_kohm_n) AS insulation_resistance_kohm_n,
  add_up(battery_power_w_sum) AS battery_power_w_sum,
  add_up(battery_power_w_ms) AS battery_power_w_ms,
  add_up(battery_power_w_pos) AS battery_power_w_pos,
  add_up(battery_power_w_neg) AS battery_power_w_neg,
  min(battery_power_w_min) AS battery_power_w_min,
  max(battery_power_w_max) AS battery_power_w_max,
  add_up(battery_power_w_n) AS battery_power_w_n,
  add_up(battery_current_a_sum) AS battery_current_a_sum,
  add_up(battery_current_a_ms) AS battery_current_a_ms,
  add_up(battery_current_a_pos) AS battery_current_a_pos,
  add_up(battery_current_a_neg) AS battery_current_a_neg,
  min(battery_current_a_min) AS battery_current_a_min,
  max(battery_current_a_max) AS battery_current_a_max,
  add_up(battery_current_a_n) AS battery_current_a_n,
  add_up(battery_voltage_v_sum) AS battery_voltage_v_sum,
  add_up(battery_voltage_v_ms) AS battery_voltage_v_ms,
  min(battery_voltage_v_min) AS battery_voltage_v_min,
  max(battery_voltage_v_max) AS battery_voltage_v_max,
  add_up(battery_voltage_v_n) AS battery_voltage_v_n,
  add_up(battery_soc_pct_sum) AS battery_soc_pct_sum,
  add_up(battery_soc_pct_ms) AS battery_soc_pct_ms,
  min(battery_soc_pct_min) AS battery_soc_pct_min,
  max(battery_soc_pct_max) AS battery_soc_pct_max,
  add_up(battery_soc_pct_n) AS battery_soc_pct_n,
  add_up(battery_soh_pct_sum) AS battery_soh_pct_sum,
  add_up(battery_soh_pct_ms) AS battery_soh_pct_ms,
  min(battery_soh_pct_min) AS battery_soh_pct_min,
  max(battery_soh_pct_max) AS battery_soh_pct_max,
  add_up(battery_soh_pct_n) AS battery_soh_pct_n,
  add_up(battery_temp_c_sum) AS battery_temp_c_sum,
  add_up(battery_temp_c_ms) AS battery_temp_c_ms,
  add_up(battery_temp_c_pos) AS battery_temp_c_pos,
  add_up(battery_temp_c_neg) AS battery_temp_c_neg,
  min(battery_temp_c_min) AS battery_temp_c_min,
  max(battery_temp_c_max) AS battery_temp_c_max,
  add_up(battery_temp_c_n) AS battery_temp_c_n,
  add_up(battery_capacity_kwh_sum) AS battery_capacity_kwh_sum,
  add_up(battery_capacity_kwh_ms) AS battery_capacity_kwh_ms,
  min(battery_capacity_kwh_min) AS battery_capacity_kwh_min,
  max(battery_capacity_kwh_max) AS battery_capacity_kwh_max,
  add_up(battery_capacity_kwh_n) AS battery_capacity_kwh_n,
  add_up(battery_cell_voltage_max_v_sum) AS battery_cell_voltage_max_v_sum,
  add_up(battery_cell_voltage_max_v_ms) AS battery_cell_voltage_max_v_ms,
  min(battery_cell_voltage_max_v_min) AS battery_cell_voltage_max_v_min,
  max(battery_cell_voltage_max_v_max) AS battery_cell_voltage_max_v_max,
  add_up(battery_cell_voltage_max_v_n) AS battery_cell_voltage_max_v_n,
  add_up(battery_cell_voltage_min_v_sum) AS battery_cell_voltage_min_v_sum,
  add_up(battery_cell_voltage_min_v_ms) AS battery_cell_voltage_min_v_ms,
  min(battery_cell_voltage_min_v_min) AS battery_cell_voltage_min_v_min,
  max(battery_cell_voltage_min_v_max) AS battery_cell_voltage_min_v_max,
  add_up(battery_cell_voltage_min_v_n) AS battery_cell_voltage_min_v_n,
  add_up(battery_module_temp_max_c_sum) AS battery_module_temp_max_c_sum,
  add_up(battery_module_temp_max_c_ms) AS battery_module_temp_max_c_ms,
  add_up(battery_module_temp_max_c_pos) AS battery_module_temp_max_c_pos,
  add_up(battery_module_temp_max_c_neg) AS battery_module_temp_max_c_neg,
  min(battery_module_temp_max_c_min) AS battery_module_temp_max_c_min,
  max(battery_module_temp_max_c_max) AS battery_module_temp_max_c_max,
  add_up(battery_module_temp_max_c_n) AS battery_module_temp_max_c_n,
  add_up(battery_module_temp_min_c_sum) AS battery_module_temp_min_c_sum,
  add_up(battery_module_temp_min_c_ms) AS battery_module_temp_min_c_ms,
  add_up(battery_module_temp_min_c_pos) AS battery_module_temp_min_c_pos,
  add_up(battery_module_temp_min_c_neg) AS battery_module_temp_min_c_neg,
  min(battery_module_temp_min_c_min) AS battery_module_temp_min_c_min,
  max(battery_module_temp_min_c_max) AS battery_module_temp_min_c_max,
  add_up(battery_module_temp_min_c_n) AS battery_module_temp_min_c_n,
  add_up(load_power_w_sum) AS load_power_w_sum,
  add_up(load_power_w_ms) AS load_power_w_ms,
  add_up(load_power_w_pos) AS load_power_w_pos,
  add_up(load_power_w_neg) AS load_power_w_neg,
  min(load_power_w_min) AS load_power_w_min,
  max(load_power_w_max) AS load_power_w_max,
  add_up(load_power_w_n) AS load_power_w_n,
  add_up(export_power_w_sum) AS export_power_w_sum,
  add_up(export_power_w_ms) AS export_power_w_ms,
  add_up(export_power_w_pos) AS export_power_w_pos,
  add_up(export_power_w_neg) AS export_power_w_neg,
  min(export_power_w_min) AS export_power_w_min,
  max(export_power_w_max) AS export_power_w_max,
  add_up(export_power_w_n) AS export_power_w_n,
  add_up(self_consumption_daily_pct_sum) AS self_consumption_daily_pct_sum,
  add_up(self_consumption_daily_pct_ms) AS self_consumption_daily_pct_ms,
  min(self_consumption_daily_pct_min) AS self_consumption_daily_pct_min,
  max(self_consumption_daily_pct_max) AS self_consumption_daily_pct_max,
  add_up(self_consumption_daily_pct_n) AS self_consumption_daily_pct_n,
  add_up(active_power_w_sum) AS active_power_w_sum,
  add_up(active_power_w_ms) AS active_power_w_ms,
  add_up(active_power_w_pos) AS active_power_w_pos,
  add_up(active_power_w_neg) AS active_power_w_neg,
  min(active_power_w_min) AS active_power_w_min,
  max(active_power_w_max) AS active_power_w_max,
  add_up(active_power_w_n) AS active_power_w_n,
  add_up(reactive_power_var_sum) AS reactive_power_var_sum,
  add_up(reactive_power_var_ms) AS reactive_power_var_ms,
  add_up(reactive_power_var_pos) AS reactive_power_var_pos,
  add_up(reactive_power_var_neg) AS reactive_power_var_neg,
  min(reactive_power_var_min) AS reactive_power_var_min,
  max(reactive_power_var_max) AS reactive_power_var_max,
  add_up(reactive_power_var_n) AS reactive_power_var_n,
  add_up(apparent_power_va_sum) AS apparent_power_va_sum,
  add_up(apparent_power_va_ms) AS apparent_power_va_ms,
  min(apparent_power_va_min) AS apparent_power_va_min,
  max(apparent_power_va_max) AS apparent_power_va_max,
  add_up(apparent_power_va_n) AS apparent_power_va_n,
  add_up(power_factor_sum) AS power_factor_sum,
  add_up(power_factor_ms) AS power_factor_ms,
  add_up(power_factor_pos) AS power_factor_pos,
  add_up(power_factor_neg) AS power_factor_neg,
  min(power_factor_min) AS power_factor_min,
  max(power_factor_max) AS power_factor_max,
  add_up(power_factor_n) AS power_factor_n,
  add_up(grid_frequency_hz_sum) AS grid_frequency_hz_sum,
  add_up(grid_frequency_hz_ms) AS grid_frequency_hz_ms,
  min(grid_frequency_hz_min) AS grid_frequency_hz_min,
  max(grid_frequency_hz_max) AS grid_frequency_hz_max,
  add_up(grid_frequency_hz_n) AS grid_frequency_hz_n,
  add_up(inverter_temp_c_sum) AS inverter_temp_c_sum,
  add_up(inverter_temp_c_ms) AS inverter_temp_c_ms,
  add_up(inverter_temp_c_pos) AS inverter_temp_c_pos,
  add_up(inverter_temp_c_neg) AS inverter_temp_c_neg,
  min(inverter_temp_c_min) AS inverter_temp_c_min,
  max(inverter_temp_c_max) AS inverter_temp_c_max,
  add_up(inverter_temp_c_n) AS inverter_temp_c_n,
  add_up(bus_voltage_v_sum) AS bus_voltage_v_sum,
  add_up(bus_voltage_v_ms) AS bus_voltage_v_ms,
  min(bus_voltage_v_min) AS bus_voltage_v_min,
  max(bus_voltage_v_max) AS bus_voltage_v_max,
  add_up(bus_voltage_v_n) AS bus_voltage_v_n,
  add_up(backup_power_w_sum) AS backup_power_w_sum,
  add_up(backup_power_w_ms) AS backup_power_w_ms,
  add_up(backup_power_w_pos) AS backup_power_w_pos,
  add_up(backup_power_w_neg) AS backup_power_w_neg,
  min(backup_power_w_min) AS backup_power_w_min,
  max(backup_power_w_max) AS backup_power_w_max,
  add_up(backup_power_w_n) AS backup_power_w_n,
  add_up(backup_frequency_hz_sum) AS backup_frequency_hz_sum,
  add_up(backup_frequency_hz_ms) AS backup_frequency_hz_ms,
  min(backup_frequency_hz_min) AS backup_frequency_hz_min,
  max(backup_frequency_hz_max) AS backup_frequency_hz_max,
  add_up(backup_frequency_hz_n) AS backup_frequency_hz_n,
  first_known(pv_total_kwh_first ORDER BY bucket) AS pv_total_kwh_first,
  last_known(pv_total_kwh_last ORDER BY bucket) AS pv_total_kwh_last,
  min(pv_total_kwh_first_ts) AS pv_total_kwh_first_ts,
  max(pv_total_kwh_last_ts) AS pv_total_kwh_last_ts,
  add_up(pv_total_kwh_increase) AS pv_total_kwh_increase,
  add_up(pv_total_kwh_uncounted) AS pv_total_kwh_uncounted,
  first_known(battery_charge_total_kwh_first ORDER BY bucket) AS battery_charge_total_kwh_first,
  last_known(battery_charge_total_kwh_last ORDER BY bucket) AS battery_charge_total_kwh_last,
  min(battery_charge_total_kwh_first_ts) AS battery_charge_total_kwh_first_ts,
  max(battery_charge_total_kwh_last_ts) AS battery_charge_total_kwh_last_ts,
  add_up(battery_charge_total_kwh_increase) AS battery_charge_total_kwh_increase,
  add_up(battery_charge_total_kwh_uncounted) AS battery_charge_total_kwh_uncounted,
  first_known(battery_charge_from_pv_total_kwh_first ORDER BY bucket) AS battery_charge_from_pv_total_kwh_first,
  last_known(battery_charge_from_pv_total_kwh_last ORDER BY bucket) AS battery_charge_from_pv_total_kwh_last,
  min(battery_charge_from_pv_total_kwh_first_ts) AS battery_charge_from_pv_total_kwh_first_ts,
  max(battery_charge_from_pv_total_kwh_last_ts) AS battery_charge_from_pv_total_kwh_last_ts,
  add_up(battery_charge_from_pv_total_kwh_increase) AS battery_charge_from_pv_total_kwh_increase,
  first_known(battery_discharge_total_kwh_first ORDER BY bucket) AS battery_discharge_total_kwh_first,
  last_known(battery_discharge_total_kwh_last ORDER BY bucket) AS battery_discharge_total_kwh_last,
  min(battery_discharge_total_kwh_first_ts) AS battery_discharge_total_kwh_first_ts,
  max(battery_discharge_total_kwh_last_ts) AS battery_discharge_total_kwh_last_ts,
  add_up(battery_discharge_total_kwh_increase) AS battery_discharge_total_kwh_increase,
  add_up(battery_discharge_total_kwh_uncounted) AS battery_discharge_total_kwh_uncounted,
  first_known(export_total_kwh_first ORDER BY bucket) AS export_total_kwh_first,
  last_known(export_total_kwh_last ORDER BY bucket) AS export_total_kwh_last,
  min(export_total_kwh_first_ts) AS export_total_kwh_first_ts,
  max(export_total_kwh_last_ts) AS export_total_kwh_last_ts,
  add_up(export_total_kwh_increase) AS export_total_kwh_increase,
  add_up(export_total_kwh_uncounted) AS export_total_kwh_uncounted,
  first_known(export_from_pv_total_kwh_first ORDER BY bucket) AS export_from_pv_total_kwh_first,
  last_known(export_from_pv_total_kwh_last ORDER BY bucket) AS export_from_pv_total_kwh_last,
  min(export_from_pv_total_kwh_first_ts) AS export_from_pv_total_kwh_first_ts,
  max(export_from_pv_total_kwh_last_ts) AS export_from_pv_total_kwh_last_ts,
  add_up(export_from_pv_total_kwh_increase) AS export_from_pv_total_kwh_increase,
  first_known(import_total_kwh_first ORDER BY bucket) AS import_total_kwh_first,
  last_known(import_total_kwh_last ORDER BY bucket) AS import_total_kwh_last,
  min(import_total_kwh_first_ts) AS import_total_kwh_first_ts,
  max(import_total_kwh_last_ts) AS import_total_kwh_last_ts,
  add_up(import_total_kwh_increase) AS import_total_kwh_increase,
  add_up(import_total_kwh_uncounted) AS import_total_kwh_uncounted,
  first_known(direct_use_total_kwh_first ORDER BY bucket) AS direct_use_total_kwh_first,
  last_known(direct_use_total_kwh_last ORDER BY bucket) AS direct_use_total_kwh_last,
  min(direct_use_total_kwh_first_ts) AS direct_use_total_kwh_first_ts,
  max(direct_use_total_kwh_last_ts) AS direct_use_total_kwh_last_ts,
  add_up(direct_use_total_kwh_increase) AS direct_use_total_kwh_increase,
  first_known(output_total_kwh_first ORDER BY bucket) AS output_total_kwh_first,
  last_known(output_total_kwh_last ORDER BY bucket) AS output_total_kwh_last,
  min(output_total_kwh_first_ts) AS output_total_kwh_first_ts,
  max(output_total_kwh_last_ts) AS output_total_kwh_last_ts,
  add_up(output_total_kwh_increase) AS output_total_kwh_increase,
  first_known(running_time_total_h_first ORDER BY bucket) AS running_time_total_h_first,
  last_known(running_time_total_h_last ORDER BY bucket) AS running_time_total_h_last,
  min(running_time_total_h_first_ts) AS running_time_total_h_first_ts,
  max(running_time_total_h_last_ts) AS running_time_total_h_last_ts,
  add_up(running_time_total_h_increase) AS running_time_total_h_increase
-- end of generated
FROM unnest(%(devices)s::int4[], %(days)s::date[], %(begins)s::timestamptz[], %(ends)s::timestamptz[])
  AS t(device, day, begins, ends)
CROSS JOIN LATERAL (
  SELECT * FROM rollup_15m q
  WHERE q.device = t.device AND q.bucket >= t.begins AND q.bucket < t.ends
    AND q.bucket >= %(lowest)s AND q.bucket < %(until)s
  OFFSET 0
) r
GROUP BY r.device, t.day;

-- name: drop_days
-- Forget all local days of a device, before they are rebuilt in another time zone.
DELETE FROM rollup_day WHERE device = %(device)s;

-- name: rollup_span
-- The first and the last quarter of an hour of a device.
SELECT min(bucket), max(bucket) FROM rollup_15m WHERE device = %(device)s;

-- name: free_buckets
-- Those of the given buckets that have no rollup yet, or one from an import that broke off and whose readings are all
-- still stored: to make it anew loses nothing.
SELECT t.bucket
FROM unnest(%(buckets)s::timestamptz[]) AS t(bucket)
LEFT JOIN rollup_15m r ON r.device = %(device)s AND r.bucket = t.bucket
WHERE r.bucket IS NULL OR (
  EXISTS (
    SELECT FROM import_ranges i
    WHERE i.device = %(device)s AND NOT i.finished AND i.from_ts < t.bucket + INTERVAL '15 minutes' AND i.to_ts >= t.bucket
  )
  AND r.sample_count = (
    SELECT sum(coalesce(s.sample_count, 1)) FROM samples s
    WHERE s.device = %(device)s AND s.ts >= t.bucket AND s.ts < t.bucket + INTERVAL '15 minutes'
      AND s.ts >= %(lowest)s AND s.ts < %(until)s AND s.flags & %(imported)s <> 0
  )
);
