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

-- name: write_history
-- Write down what was applied.
INSERT INTO schema_history (name, checksum) VALUES (%(name)s, %(checksum)s)
ON CONFLICT (name) DO UPDATE SET checksum = excluded.checksum, applied_at = now();

-- name: engine
-- Version and licence of TimescaleDB when this database has it, and PostgreSQL's version.
SELECT
  current_setting('server_version_num')::int,
  (SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'),
  current_setting('timescaledb.license', true);

-- name: tell_retention
-- Let the engine's SQL know the retention horizon.
SELECT set_config('sungrow.retention_days', %(days)s, false);

-- name: refresh_aggregate
-- Fill a continuous aggregate behind the retention horizon, where nothing changes any more; its policy sees to
-- the rest. Not allowed inside a transaction.
CALL refresh_continuous_aggregate(%(name)s::regclass, NULL, now() - %(days)s * INTERVAL '1 day');
