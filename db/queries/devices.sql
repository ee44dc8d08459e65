-- name: find_devices
-- Devices by name.
SELECT device, device_id, timezone, poll_interval_s, deleted_at FROM device_settings
WHERE device_id = ANY(%(device_ids)s);

-- name: add_devices
-- Make devices known.
INSERT INTO devices (device_id)
SELECT unnest(%(device_ids)s::text[])
ON CONFLICT (device_id) DO NOTHING;

-- name: list_devices
-- Devices that are not deleted with their first and last reading; null lists them all.
SELECT
  d.device_id, d.name, d.plant, d.timezone, d.poll_interval_s, d.model, d.serial, d.firmware,
  (SELECT min(s.ts) FROM samples s WHERE s.device = d.device) AS first_ts,
  (SELECT max(s.ts) FROM samples s WHERE s.device = d.device) AS last_ts
FROM device_settings d
WHERE d.deleted_at IS NULL
  AND (%(device_ids)s::text[] IS NULL OR d.device_id = ANY(%(device_ids)s::text[]))
ORDER BY d.device_id;

-- name: update_device_from_edge
-- Take over what the edge says of a device; unchanged rows are not rewritten, absent values stand.
UPDATE devices SET
  edge_name = coalesce(%(name)s::text, edge_name),
  edge_plant = coalesce(%(plant)s::text, edge_plant),
  edge_timezone = coalesce(%(timezone)s::text, edge_timezone),
  edge_poll_interval_s = coalesce(%(poll_interval_s)s::float8, edge_poll_interval_s),
  model = coalesce(%(model)s::text, model),
  serial = coalesce(%(serial)s::text, serial),
  firmware = coalesce(%(firmware)s::text, firmware)
WHERE device = %(device)s
  AND (edge_name, edge_plant, edge_timezone, edge_poll_interval_s, model, serial, firmware)
    IS DISTINCT FROM (
      coalesce(%(name)s::text, edge_name), coalesce(%(plant)s::text, edge_plant),
      coalesce(%(timezone)s::text, edge_timezone),
      coalesce(%(poll_interval_s)s::float8, edge_poll_interval_s),
      coalesce(%(model)s::text, model), coalesce(%(serial)s::text, serial),
      coalesce(%(firmware)s::text, firmware)
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
-- Take no more readings of a device, or with false take them again.
UPDATE devices SET deleted_at = CASE WHEN %(deleted)s THEN now() END
WHERE device_id = %(device_id)s
RETURNING device;

-- name: meet_edge
-- Note which edge sends for a device; at most one write every ten seconds.
INSERT INTO edges AS e (device, edge_id, generation, max_seq)
VALUES (%(device)s, %(edge_id)s, %(generation)s, %(max_seq)s)
ON CONFLICT (device, edge_id, generation) DO UPDATE
SET last_seen = now(), max_seq = greatest(e.max_seq, excluded.max_seq)
WHERE e.last_seen < now() - INTERVAL '10 seconds';

-- name: device_zones
-- The sites' time zones, null where not set.
SELECT device, timezone FROM device_settings WHERE device = ANY(%(devices)s);
