-- name: known_devices
-- Included by others: devices as they are known. Which version of its row it is tells what was remembered before a device
-- was erased, or changed.
SELECT s.device, s.device_id, s.timezone, s.poll_interval_s, s.deleted_at, o.xmin::text::int8 AS version
FROM device_settings s JOIN devices o USING (device)

-- name: find_devices
-- Devices by name.
{known_devices}
WHERE s.device_id = ANY(%(device_ids)s);

-- name: device_versions
-- Which version of its row each of some devices has now.
SELECT device, xmin::text::int8 AS version FROM devices WHERE device = ANY(%(devices)s);

-- name: hold_device_versions
-- The same, and nobody changes, or erases, one of them until the transaction ends. Without those that somebody is at
-- already: that may take long, and nobody has to wait for it.
SELECT device, xmin::text::int8 AS version FROM devices WHERE device = ANY(%(devices)s)
ORDER BY device
FOR SHARE SKIP LOCKED;

-- name: those_deleted
-- Those of the devices that were deleted.
SELECT device FROM devices WHERE device = ANY(%(marked)s::int4[]) AND deleted_at IS NOT NULL

-- name: writers
-- Transactions that are writing something of devices: each with the process of the database it runs in.
SELECT DISTINCT virtualtransaction, pid FROM pg_locks
WHERE locktype = 'relation' AND mode = 'RowExclusiveLock' AND granted AND pid <> pg_backend_pid()
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND relation = ANY('{devices, rollup_marks, kept_aside, backfills, edges, edge_status}'::regclass[]);

-- name: add_devices
-- Make devices known.
INSERT INTO devices (device_id)
SELECT unnest(%(device_ids)s::text[])
ON CONFLICT (device_id) DO NOTHING;

-- name: list_devices
-- Devices that are not deleted with their first and last reading; null lists them all.
SELECT
  d.device_id, d.name, d.plant, d.timezone,
  CASE WHEN o.timezone IS NULL THEN o.edge_timezone_refused END AS timezone_refused,
  d.poll_interval_s, d.model, d.serial, d.firmware,
  first_reading(d.device) AS first_ts,
  last_reading(d.device) AS last_ts
FROM device_settings d JOIN devices o USING (device)
WHERE d.deleted_at IS NULL
  AND (%(device_ids)s::text[] IS NULL OR d.device_id = ANY(%(device_ids)s::text[]))
ORDER BY d.device_id;

-- name: devices_of_plant
-- Devices of a plant, deleted ones as well: what they measured is the plant's. Null sees all of them.
{known_devices}
WHERE s.plant = %(plant)s AND (%(device_ids)s::text[] IS NULL OR s.device_id = ANY(%(device_ids)s::text[]))
ORDER BY s.device_id;

-- name: update_device_from_edge
-- Take over what the edge says of a device; unchanged rows are not rewritten, absent values stand.
UPDATE devices SET
  edge_name = coalesce(%(name)s::text, edge_name),
  edge_plant = coalesce(%(plant)s::text, edge_plant),
  edge_timezone = coalesce(%(timezone)s::text, edge_timezone),
  edge_timezone_refused = CASE
    WHEN %(timezone)s::text IS NULL THEN coalesce(%(refused)s::text, edge_timezone_refused)
  END,
  edge_poll_interval_s = coalesce(%(poll_interval_s)s::float8, edge_poll_interval_s),
  model = coalesce(%(model)s::text, model),
  serial = coalesce(%(serial)s::text, serial),
  firmware = coalesce(%(firmware)s::text, firmware),
  nominal_kw = coalesce(%(nominal_kw)s::float8, nominal_kw)
WHERE device = %(device)s
  AND (
    edge_name, edge_plant, edge_timezone, edge_timezone_refused, edge_poll_interval_s, model, serial, firmware,
    nominal_kw
  ) IS DISTINCT FROM (
      coalesce(%(name)s::text, edge_name), coalesce(%(plant)s::text, edge_plant),
      coalesce(%(timezone)s::text, edge_timezone),
      CASE WHEN %(timezone)s::text IS NULL THEN coalesce(%(refused)s::text, edge_timezone_refused) END,
      coalesce(%(poll_interval_s)s::float8, edge_poll_interval_s),
      coalesce(%(model)s::text, model), coalesce(%(serial)s::text, serial),
      coalesce(%(firmware)s::text, firmware), coalesce(%(nominal_kw)s::float8, nominal_kw)
    );

-- name: set_device
-- Take over what the owner says of a device; null leaves a value as it is.
UPDATE devices SET
  name = coalesce(%(name)s::text, name),
  plant = coalesce(%(plant)s::text, plant),
  timezone = coalesce(%(timezone)s::text, timezone),
  poll_interval_s = coalesce(%(poll_interval_s)s::float8, poll_interval_s)
WHERE device_id = %(device_id)s
RETURNING device;

-- name: mark_device_deleted
-- Take no more readings of a device, or with false take them again; return whether it was deleted before.
WITH before AS (
    SELECT device, deleted_at IS NOT NULL AS was_deleted FROM devices
    WHERE device_id = %(device_id)s FOR UPDATE
)
UPDATE devices AS d SET deleted_at = CASE WHEN %(deleted)s THEN coalesce(d.deleted_at, now()) END
FROM before WHERE d.device = before.device
RETURNING before.was_deleted;

-- name: meet_edge
-- Note which edge sends for a device; at most one write every ten seconds.
INSERT INTO edges AS e (device, edge_id, generation, max_seq)
VALUES (%(device)s, %(edge_id)s, %(generation)s, %(max_seq)s)
ON CONFLICT (device, edge_id, generation) DO UPDATE
SET last_seen = now(), max_seq = greatest(e.max_seq, excluded.max_seq)
WHERE e.last_seen < now() - INTERVAL '10 seconds';

-- name: other_edges
-- Edges that sent for a device in the last five minutes, beside this one.
SELECT DISTINCT edge_id FROM edges
WHERE device = %(device)s AND edge_id <> %(edge_id)s AND last_seen > now() - INTERVAL '5 minutes'
ORDER BY edge_id;

-- name: device_zones
-- The sites' time zones, null where not set.
SELECT device, timezone FROM device_settings WHERE device = ANY(%(devices)s);

-- name: audit_device
-- Write down what was done with a device.
INSERT INTO device_audit (device_id, action, detail) VALUES (%(device_id)s, %(action)s, %(detail)s);

-- name: device_audit
-- What was done with devices, newest first.
SELECT entry, device_id, at, action, detail FROM device_audit
ORDER BY entry DESC;

-- name: erase_samples
-- Forget a device's raw readings of a span of time; how many there were.
WITH gone AS (
  DELETE FROM samples WHERE device = %(device)s AND ts >= %(from_ts)s AND ts < %(to_ts)s RETURNING 1
)
SELECT count(*) FROM gone;

-- name: erase_rollup_15m
-- Forget a device's quarters of an hour.
DELETE FROM rollup_15m WHERE device = %(device)s;

-- name: erase_rollup_day
-- Forget a device's days.
DELETE FROM rollup_day WHERE device = %(device)s;

-- name: erase_counter_breaks
-- Forget where a device's counters ran back or jumped.
DELETE FROM counter_breaks WHERE device = %(device)s;

-- name: erase_marks
-- Forget which of a device's rollups wait.
DELETE FROM rollup_marks WHERE device = %(device)s;

-- name: erase_aside
-- Forget what stands beside a device's readings.
DELETE FROM kept_aside WHERE device = %(device)s;

-- name: erase_imports
-- Forget what was imported for a device.
DELETE FROM import_ranges WHERE device = %(device)s;

-- name: erase_backfills
-- Forget what came late for a device.
DELETE FROM backfills WHERE device = %(device)s;

-- name: erase_edges
-- Forget which edges sent for a device.
DELETE FROM edges WHERE device = %(device)s;

-- name: erase_edge_status
-- Forget what edges said for a device.
DELETE FROM edge_status WHERE device = %(device)s;

-- name: erase_description
-- Forget what a device is and where; its name alone stays, so that it stays deleted.
UPDATE devices SET
  name = NULL, plant = NULL, timezone = NULL, poll_interval_s = NULL, edge_name = NULL, edge_plant = NULL,
  edge_timezone = NULL, edge_timezone_refused = NULL, edge_poll_interval_s = NULL, model = NULL, serial = NULL,
  firmware = NULL, nominal_kw = NULL, deleted_at = coalesce(deleted_at, now())
WHERE device = %(device)s;

-- name: erase_settings
-- Forget what the owner said of a device; that it was said, and when, stays.
UPDATE device_audit SET detail = NULL
WHERE action = 'set' AND device_id = (SELECT device_id FROM devices WHERE device = %(device)s);

-- name: erase_plant_sums
-- Forget what a device did together with others.
DELETE FROM plant_sets WHERE %(device)s = ANY(devices);

-- name: erase_older_plant_sums
-- The same in what servers before `plant_kept` keep.
DELETE FROM plant_sums WHERE %(device)s = ANY(devices);

-- name: device_lags
-- Devices with the time of their last reading, null while there is none; at most so many.
SELECT d.device_id, last_reading(d.device) AS last_ts
FROM devices d
WHERE d.deleted_at IS NULL
ORDER BY d.device
LIMIT %(limit)s;
