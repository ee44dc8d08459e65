-- name: make_history
-- Where the applied migrations are written down.
CREATE TABLE IF NOT EXISTS schema_history (
  name text PRIMARY KEY,
  checksum text NOT NULL,
  applied_at timestamptz NOT NULL DEFAULT now()
);

-- name: history_exists
-- Whether this database was ever migrated.
SELECT to_regclass('schema_history') IS NOT NULL;

-- name: lock_schema
-- One migration at a time.
SELECT pg_advisory_lock(%(namespace)s, 0);

-- name: read_history
-- What was applied.
SELECT name, checksum FROM schema_history;

-- name: is_read_only
-- Whether nothing can be written: on a standby, or by an administrator's will.
SELECT current_setting('transaction_read_only') = 'on';

-- name: write_history
-- Write down what was applied.
INSERT INTO schema_history (name, checksum) VALUES (%(name)s, %(checksum)s)
ON CONFLICT (name) DO UPDATE SET checksum = excluded.checksum, applied_at = now();

-- name: engine
-- Version and licence of TimescaleDB when this database has it, PostgreSQL's version, and whether a backup is being
-- restored or was until that broke off. TimescaleDB's own sign of it counts, too: rows then go where nobody finds them.
SELECT
  current_setting('server_version_num')::int,
  (SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'),
  current_setting('timescaledb.license', true),
  to_regclass('restore_unfinished') IS NOT NULL
    OR coalesce(current_setting('timescaledb.restoring', true) = 'on', false);

-- name: timescaledb_unused
-- Whether TimescaleDB is installed beside PostgreSQL, but not made part of this database.
SELECT EXISTS (
  SELECT FROM pg_available_extensions WHERE name = 'timescaledb' AND installed_version IS NULL
);

-- name: tell_retention
-- Let the engine's SQL know the retention horizon.
SELECT set_config('sungrow.retention_days', %(days)s, false);

-- name: unreached_by_policies
-- The continuous aggregates, and up to when their refresh policies bring them in step with nothing: to the end of the
-- bucket that the horizon cuts, as they refresh whole buckets; to now where the horizon leaves no room for a policy.
SELECT a.name, CASE
  WHEN EXISTS (
    SELECT FROM timescaledb_information.jobs j
    JOIN timescaledb_information.continuous_aggregates c
      ON c.materialization_hypertable_schema = j.hypertable_schema
      AND c.materialization_hypertable_name = j.hypertable_name
    WHERE j.proc_name = 'policy_refresh_continuous_aggregate'
      AND c.view_schema = current_schema() AND c.view_name = a.name
  ) THEN least(time_bucket(a.width, %(horizon)s::timestamptz) + a.width, %(now)s::timestamptz)
  ELSE %(now)s::timestamptz
END
FROM (
  VALUES
    ('samples_hourly', INTERVAL '1 hour'),
    ('samples_daily', INTERVAL '1 day'),
    ('samples_monthly', INTERVAL '1 month')
) AS a(name, width);

-- name: refresh_aggregate
-- Bring a continuous aggregate in step with the rollups up to a moment, as far as its buckets are over by then. The
-- rollups stay for ever, so that nothing is forgotten by it; what did not change costs nothing. Not allowed inside a
-- transaction.
CALL refresh_continuous_aggregate(%(name)s::regclass, NULL, %(until)s::timestamptz);
