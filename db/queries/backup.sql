-- name: is_empty
-- Whether nobody has put anything into this database yet, beside what extensions bring.
SELECT NOT EXISTS (
  SELECT FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind IN ('r', 'p', 'v', 'm')
    AND n.nspname !~ '^(pg_|information_schema$|_timescaledb_|timescaledb_)'
    AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')
);

-- name: installable_timescaledb
-- Versions of TimescaleDB this PostgreSQL could give to a database.
SELECT version FROM pg_available_extension_versions WHERE name = 'timescaledb' ORDER BY version;

-- name: make_timescaledb
-- The version the backup was made with: its tables describe what only that version understands.
CREATE EXTENSION IF NOT EXISTS timescaledb VERSION %(version)s;

-- name: mark_unfinished
-- There until all of a backup is in; whoever finds it must not work with what is there.
CREATE TABLE restore_unfinished ();

-- name: unmark_unfinished
-- All of it is in.
DROP TABLE restore_unfinished;

-- name: end_servers
-- End the connections of servers that wait for their tables.
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND application_name IN ('sungrow-server pool', 'sungrow-server') AND pid <> pg_backend_pid();

-- name: begin_restore
-- Let catalogue rows of TimescaleDB be written as they were.
SELECT timescaledb_pre_restore();

-- name: end_restore
-- Back to normal work, with its background jobs.
SELECT timescaledb_post_restore();

-- name: analyze
-- Statistics are not part of a backup.
ANALYZE;
