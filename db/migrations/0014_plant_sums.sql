-- What devices did together on local days, and in months, that are over: those that were heard in it. It can be found
-- out again from `rollup_15m`; `digest` is of all that it comes from.
CREATE TABLE IF NOT EXISTS plant_sums (
  devices int4[] NOT NULL,
  is_month bool NOT NULL,
  begins timestamptz NOT NULL,
  digest bytea NOT NULL,
  pv int8,
  pv_ms int8,
  battery int8,
  battery_ms int8,
  soc int8,
  soc_ms int8,
  load int8,
  load_ms int8,
  export int8,
  export_ms int8,
  PRIMARY KEY (devices, is_month, begins)
);
