-- Sums of plants by a number for the devices that were heard: the list of more than six hundred fits into no index, and
-- those that name a device can be found. What was kept is put together anew.
-- `plant_sums` stays where older servers keep them, which may run beside newer ones; those do nothing with it but forget who
-- is erased. A later release drops it.

-- Devices that were heard together on a day, or in a month, in the order of their keys. In a hash any number of them finds
-- room, as in no other index.
CREATE TABLE IF NOT EXISTS plant_sets (
  heard int4 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  devices int4[] NOT NULL,
  EXCLUDE USING hash (devices WITH =)
);

-- What devices did together on local days, and in months, that are over: those that were heard in it. It can be found
-- out again from `rollup_15m`; `digest` is of all that it comes from.
CREATE TABLE IF NOT EXISTS plant_kept (
  heard int4 NOT NULL REFERENCES plant_sets ON DELETE CASCADE,
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
  PRIMARY KEY (heard, is_month, begins)
);
