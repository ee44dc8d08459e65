-- Devices, the tokens that may touch them, and what edges say of themselves.

CREATE TABLE IF NOT EXISTS devices (
  device int4 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  device_id text NOT NULL UNIQUE CHECK (device_id ~ '^[A-Za-z0-9._-]{1,64}$'),
  -- what the owner set; it wins over what the edge says
  name text,
  plant text,
  timezone text,
  poll_interval_s float8 CHECK (poll_interval_s > 0),
  -- what the edge says
  edge_name text,
  edge_plant text,
  edge_timezone text,
  edge_poll_interval_s float8 CHECK (edge_poll_interval_s > 0),
  model text,
  serial text,
  firmware text,
  created_at timestamptz NOT NULL DEFAULT now(),
  deleted_at timestamptz
);

-- The values that count: the owner's, else the edge's.
CREATE OR REPLACE VIEW device_settings AS
SELECT
  device,
  device_id,
  coalesce(name, edge_name) AS name,
  coalesce(plant, edge_plant) AS plant,
  coalesce(timezone, edge_timezone) AS timezone,
  coalesce(poll_interval_s, edge_poll_interval_s, 5) AS poll_interval_s,
  model,
  serial,
  firmware,
  created_at,
  deleted_at
FROM devices;

CREATE TABLE IF NOT EXISTS edges (
  device int4 NOT NULL REFERENCES devices,
  edge_id text NOT NULL,
  generation text NOT NULL,
  first_seen timestamptz NOT NULL DEFAULT now(),
  last_seen timestamptz NOT NULL DEFAULT now(),
  max_seq int8,
  PRIMARY KEY (device, edge_id, generation)
);

CREATE TABLE IF NOT EXISTS edge_status (
  device int4 NOT NULL REFERENCES devices,
  edge_id text NOT NULL,
  reported_at timestamptz NOT NULL DEFAULT now(),
  body jsonb NOT NULL,
  PRIMARY KEY (device, edge_id)
);

-- A token itself is never stored; `prefix` is what people recognise it by.
CREATE TABLE IF NOT EXISTS tokens (
  token int4 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  prefix text NOT NULL,
  hash bytea NOT NULL UNIQUE CHECK (length(hash) = 32),
  label text NOT NULL,
  scopes text[] NOT NULL CHECK (scopes <@ '{ingest,read,control,admin}'),
  devices text[], -- null: every device
  created_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz,
  revoked_at timestamptz,
  last_used_at timestamptz
);

CREATE TABLE IF NOT EXISTS token_audit (
  entry int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  token int4 NOT NULL REFERENCES tokens,
  at timestamptz NOT NULL DEFAULT now(),
  action text NOT NULL CHECK (action IN ('created', 'revoked', 'rotated')),
  detail text
);
