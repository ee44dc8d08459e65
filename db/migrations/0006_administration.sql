-- A time zone an edge names and nobody knows; and what was done with devices.

ALTER TABLE devices ADD COLUMN IF NOT EXISTS edge_timezone_refused text;

-- It outlives the device, so it names it.
CREATE TABLE IF NOT EXISTS device_audit (
  entry int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  device_id text NOT NULL,
  at timestamptz NOT NULL DEFAULT now(),
  action text NOT NULL CHECK (action IN ('set', 'deleted', 'restored', 'erased')),
  detail text
);
