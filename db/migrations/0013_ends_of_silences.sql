-- Where a counter came back after a silence, its energy was lost, or counted by the integral of power as well. Marks the
-- quarters of an hour at the ends of silences, of days whose sums let suspect it, so that the refresher repairs them.
DO $$
DECLARE
  horizon timestamptz :=
    now() - make_interval(days => coalesce(nullif(current_setting('sungrow.retention_days', true), ''), '400')::int);
  counter text;
  silent text;
BEGIN
  FOREACH counter IN ARRAY ARRAY[
    'pv_total_kwh', 'import_total_kwh', 'export_total_kwh', 'battery_charge_total_kwh', 'battery_discharge_total_kwh',
    'battery_charge_from_pv_total_kwh', 'export_from_pv_total_kwh', 'direct_use_total_kwh', 'output_total_kwh',
    'running_time_total_h'
  ] LOOP
    silent := CASE
      WHEN counter IN (
        'pv_total_kwh', 'import_total_kwh', 'export_total_kwh', 'battery_charge_total_kwh', 'battery_discharge_total_kwh'
      ) THEN counter || '_uncounted' ELSE 'NULL::int8' END;
    EXECUTE format($statement$
      WITH told AS (
        SELECT
          device, day, %1$s_last AS last, %1$s_increase AS increase, %2$s AS uncounted,
          lag(%1$s_last) OVER days AS last_before, lag(%2$s) OVER days AS uncounted_before
        FROM rollup_day
        WHERE day >= ($1 AT TIME ZONE 'UTC')::date - 2
        WINDOW days AS (PARTITION BY device ORDER BY day)
      ), suspect AS (
        SELECT device, day FROM told
        WHERE last IS NOT NULL AND (
          last - last_before IS DISTINCT FROM increase OR uncounted IS NOT NULL OR uncounted_before IS NOT NULL
        )
      )
      INSERT INTO rollup_marks (device, bucket)
      SELECT DISTINCT s.device, q.bucket
      FROM suspect s
      CROSS JOIN LATERAL (
        SELECT r.bucket, r.%1$s_last_ts AS ts, lag(r.%1$s_last_ts) OVER (ORDER BY r.bucket) AS ts_before
        FROM rollup_15m r
        WHERE r.device = s.device AND r.bucket >= (s.day - 1)::timestamp AT TIME ZONE 'UTC'
          AND r.bucket < (s.day + 2)::timestamp AT TIME ZONE 'UTC'
      ) AS q
      WHERE q.ts IS NOT NULL AND q.ts_before IS NULL AND q.bucket >= $1
    $statement$, counter, silent) USING horizon;
  END LOOP;
END
$$;
