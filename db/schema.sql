-- The whole schema of a fresh install, on every engine: what the migrations lead to, in one file.
-- The engine's own part (plain/ or timescale/) is applied after it.

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
  deleted_at timestamptz,
  -- a zone the edge says and nobody knows
  edge_timezone_refused text,
  -- nominal AC power of the model
  nominal_kw float8
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

-- It outlives the device, so it names it.
CREATE TABLE IF NOT EXISTS device_audit (
  entry int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  device_id text NOT NULL,
  at timestamptz NOT NULL DEFAULT now(),
  action text NOT NULL CHECK (action IN ('set', 'deleted', 'restored', 'erased')),
  detail text
);

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

-- Readings, and what could not be stored among them.

-- Rows are inserted, never updated. A number is stored as the integer count of its resolution steps
-- (pv_daily_kwh 123 is 12.3 kWh). `flags`: 1 implausible value, 2 imported, 4 time stamp not from a trusted
-- clock. `extra` holds, in the wire's units, what has no place in a column: fields only a newer edge knows,
-- implausible values and values beyond their column's reach, so that totals stay clean and nothing is lost.
CREATE TABLE IF NOT EXISTS samples (
  ts timestamptz NOT NULL,
  device int4 NOT NULL,
-- generated: samples
  pv_power_w int4,
  pv_daily_kwh int4,
  pv_total_kwh int4,
  insulation_resistance_kohm int4,
  battery_power_w int4,
  battery_capacity_kwh int4,
  battery_charge_daily_kwh int4,
  battery_charge_total_kwh int4,
  battery_charge_from_pv_daily_kwh int4,
  battery_charge_from_pv_total_kwh int4,
  battery_discharge_daily_kwh int4,
  battery_discharge_total_kwh int4,
  battery_cell_voltage_max_v int4,
  battery_cell_voltage_min_v int4,
  load_power_w int4,
  export_power_w int4,
  export_daily_kwh int4,
  export_total_kwh int4,
  export_from_pv_daily_kwh int4,
  export_from_pv_total_kwh int4,
  import_daily_kwh int4,
  import_total_kwh int4,
  direct_use_daily_kwh int4,
  direct_use_total_kwh int4,
  export_phase_power_w_1 int4,
  export_phase_power_w_2 int4,
  export_phase_power_w_3 int4,
  active_power_w int4,
  reactive_power_var int4,
  apparent_power_va int4,
  output_daily_kwh int4,
  output_total_kwh int4,
  backup_power_w int4,
  backup_phase_power_w_1 int4,
  backup_phase_power_w_2 int4,
  backup_phase_power_w_3 int4,
  running_time_total_h int4,
  sample_count int4,
  interval_s int4,
  mppt_voltage_v_1 int2,
  mppt_voltage_v_2 int2,
  mppt_voltage_v_3 int2,
  mppt_voltage_v_4 int2,
  mppt_voltage_v_5 int2,
  mppt_voltage_v_6 int2,
  mppt_voltage_v_7 int2,
  mppt_voltage_v_8 int2,
  mppt_voltage_v_9 int2,
  mppt_voltage_v_10 int2,
  mppt_voltage_v_11 int2,
  mppt_voltage_v_12 int2,
  mppt_voltage_v_13 int2,
  mppt_voltage_v_14 int2,
  mppt_voltage_v_15 int2,
  mppt_voltage_v_16 int2,
  mppt_current_a_1 int2,
  mppt_current_a_2 int2,
  mppt_current_a_3 int2,
  mppt_current_a_4 int2,
  mppt_current_a_5 int2,
  mppt_current_a_6 int2,
  mppt_current_a_7 int2,
  mppt_current_a_8 int2,
  mppt_current_a_9 int2,
  mppt_current_a_10 int2,
  mppt_current_a_11 int2,
  mppt_current_a_12 int2,
  mppt_current_a_13 int2,
  mppt_current_a_14 int2,
  mppt_current_a_15 int2,
  mppt_current_a_16 int2,
  string_current_a_1 int2,
  string_current_a_2 int2,
  string_current_a_3 int2,
  string_current_a_4 int2,
  string_current_a_5 int2,
  string_current_a_6 int2,
  string_current_a_7 int2,
  string_current_a_8 int2,
  string_current_a_9 int2,
  string_current_a_10 int2,
  string_current_a_11 int2,
  string_current_a_12 int2,
  string_current_a_13 int2,
  string_current_a_14 int2,
  string_current_a_15 int2,
  string_current_a_16 int2,
  string_current_a_17 int2,
  string_current_a_18 int2,
  string_current_a_19 int2,
  string_current_a_20 int2,
  string_current_a_21 int2,
  string_current_a_22 int2,
  string_current_a_23 int2,
  string_current_a_24 int2,
  string_current_a_25 int2,
  string_current_a_26 int2,
  string_current_a_27 int2,
  string_current_a_28 int2,
  string_current_a_29 int2,
  string_current_a_30 int2,
  string_current_a_31 int2,
  string_current_a_32 int2,
  battery_current_a int2,
  battery_voltage_v int2,
  battery_soc_pct int2,
  battery_soh_pct int2,
  battery_temp_c int2,
  battery_module_temp_max_c int2,
  battery_module_temp_min_c int2,
  self_consumption_daily_pct int2,
  power_factor int2,
  grid_frequency_hz int2,
  phase_voltage_v_1 int2,
  phase_voltage_v_2 int2,
  phase_voltage_v_3 int2,
  line_voltage_v_1 int2,
  line_voltage_v_2 int2,
  line_voltage_v_3 int2,
  phase_current_a_1 int2,
  phase_current_a_2 int2,
  phase_current_a_3 int2,
  inverter_temp_c int2,
  bus_voltage_v int2,
  backup_phase_voltage_v_1 int2,
  backup_phase_voltage_v_2 int2,
  backup_phase_voltage_v_3 int2,
  backup_phase_current_a_1 int2,
  backup_phase_current_a_2 int2,
  backup_phase_current_a_3 int2,
  backup_frequency_hz int2,
  running_time_daily_min int2,
  running_state text,
  firmware text,
  inverter_clock text,
  clock_source text,
  alarm_codes int4[],
  fault_codes int4[],
-- end of generated
  flags int2 NOT NULL DEFAULT 0,
  extra jsonb,
  PRIMARY KEY (device, ts)
);

-- Firmware is read seldom; this finds the last known one without walking through the readings.
CREATE INDEX IF NOT EXISTS samples_firmware ON samples (device, ts) WHERE firmware IS NOT NULL;

-- PostgreSQL looks at its tables now and then, to know how often which value comes. In `samples` readings are looked for
-- by device, time and whether firmware was read; what the other columns hold decides no plan, and to look at more
-- than a hundred of them took a tenth of PostgreSQL's time while a backlog came. Nobody who reads or writes waits for this.
DO $$
DECLARE
  changes text;
BEGIN
  SELECT string_agg(format('ALTER COLUMN %I SET STATISTICS 0', attname), ', ' ORDER BY attnum) INTO changes
  FROM pg_attribute
  WHERE attrelid = 'samples'::regclass AND attnum > 0 AND NOT attisdropped
    AND attname NOT IN ('ts', 'device', 'firmware') AND attstattarget IS DISTINCT FROM 0;
  IF changes IS NOT NULL THEN
    EXECUTE 'ALTER TABLE samples ' || changes;
  END IF;
END
$$;

-- Readings that stand beside `samples`. The SHA-256 of the body's text makes keeping the same one again a no-operation.
CREATE TABLE IF NOT EXISTS kept_aside (
  entry int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  device int4 NOT NULL REFERENCES devices,
  ts timestamptz,
  reason text NOT NULL CHECK (reason IN ('conflict', 'rejected', 'additional', 'behind_horizon')),
  detail text,
  body jsonb NOT NULL,
  edge_id text,
  received_at timestamptz NOT NULL DEFAULT now(),
  digest bytea NOT NULL,
  CONSTRAINT kept_aside_once UNIQUE NULLS NOT DISTINCT (device, ts, reason, digest)
);

-- Which spans of `samples` came from `sungrow-server import`, and from where. One that broke off is not finished: who
-- imports the same again goes on with it.
CREATE TABLE IF NOT EXISTS import_ranges (
  entry int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  device int4 NOT NULL REFERENCES devices,
  from_ts timestamptz NOT NULL,
  to_ts timestamptz NOT NULL,
  source text NOT NULL,
  row_count int8 NOT NULL,
  imported_at timestamptz NOT NULL DEFAULT now(),
  finished bool NOT NULL DEFAULT true
);

-- Rollups: what can be merged again, per quarter of an hour (UTC) and per local day of the site.

CREATE OR REPLACE FUNCTION keep_first(int4, int4) RETURNS int4
  LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS 'BEGIN RETURN $1; END';
CREATE OR REPLACE FUNCTION keep_last(int4, int4) RETURNS int4
  LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS 'BEGIN RETURN $2; END';
-- The first and the last value that is not null, in the order given.
CREATE OR REPLACE AGGREGATE first_known(int4) (SFUNC = keep_first, STYPE = int4, PARALLEL = SAFE);
CREATE OR REPLACE AGGREGATE last_known(int4) (SFUNC = keep_last, STYPE = int4, PARALLEL = SAFE);

-- The sum of int8 as int8: the built-in one makes a numeric, which takes longer to turn back than to add up.
CREATE OR REPLACE AGGREGATE add_up(int8) (SFUNC = int8pl, STYPE = int8, COMBINEFUNC = int8pl, PARALLEL = SAFE);

-- Per gauge: sum of value x time (resolution steps x ms), its positive and negative parts, that time (ms),
-- least, greatest, number of readings. Per counter: first and last value, when, the increase since its last known value
-- however long ago, resets left out, and for energies the matching power x time while no value of the counter from before
-- and none from after is known (`_uncounted`). `sample_count` counts readings, `covered_ms` is the time they stand for.
CREATE TABLE IF NOT EXISTS rollup_15m (
  bucket timestamptz NOT NULL,
  device int4 NOT NULL,
-- generated: rollup
  sample_count int8 NOT NULL,
  covered_ms int8 NOT NULL,
  pv_power_w_sum int8,
  pv_power_w_ms int8,
  pv_power_w_min int4,
  pv_power_w_max int4,
  pv_power_w_n int8,
  insulation_resistance_kohm_sum int8,
  insulation_resistance_kohm_ms int8,
  insulation_resistance_kohm_min int4,
  insulation_resistance_kohm_max int4,
  insulation_resistance_kohm_n int8,
  battery_power_w_sum int8,
  battery_power_w_ms int8,
  battery_power_w_pos int8,
  battery_power_w_neg int8,
  battery_power_w_min int4,
  battery_power_w_max int4,
  battery_power_w_n int8,
  battery_current_a_sum int8,
  battery_current_a_ms int8,
  battery_current_a_pos int8,
  battery_current_a_neg int8,
  battery_current_a_min int2,
  battery_current_a_max int2,
  battery_current_a_n int8,
  battery_voltage_v_sum int8,
  battery_voltage_v_ms int8,
  battery_voltage_v_min int2,
  battery_voltage_v_max int2,
  battery_voltage_v_n int8,
  battery_soc_pct_sum int8,
  battery_soc_pct_ms int8,
  battery_soc_pct_min int2,
  battery_soc_pct_max int2,
  battery_soc_pct_n int8,
  battery_soh_pct_sum int8,
  battery_soh_pct_ms int8,
  battery_soh_pct_min int2,
  battery_soh_pct_max int2,
  battery_soh_pct_n int8,
  battery_temp_c_sum int8,
  battery_temp_c_ms int8,
  battery_temp_c_pos int8,
  battery_temp_c_neg int8,
  battery_temp_c_min int2,
  battery_temp_c_max int2,
  battery_temp_c_n int8,
  battery_capacity_kwh_sum int8,
  battery_capacity_kwh_ms int8,
  battery_capacity_kwh_min int4,
  battery_capacity_kwh_max int4,
  battery_capacity_kwh_n int8,
  battery_cell_voltage_max_v_sum int8,
  battery_cell_voltage_max_v_ms int8,
  battery_cell_voltage_max_v_min int4,
  battery_cell_voltage_max_v_max int4,
  battery_cell_voltage_max_v_n int8,
  battery_cell_voltage_min_v_sum int8,
  battery_cell_voltage_min_v_ms int8,
  battery_cell_voltage_min_v_min int4,
  battery_cell_voltage_min_v_max int4,
  battery_cell_voltage_min_v_n int8,
  battery_module_temp_max_c_sum int8,
  battery_module_temp_max_c_ms int8,
  battery_module_temp_max_c_pos int8,
  battery_module_temp_max_c_neg int8,
  battery_module_temp_max_c_min int2,
  battery_module_temp_max_c_max int2,
  battery_module_temp_max_c_n int8,
  battery_module_temp_min_c_sum int8,
  battery_module_temp_min_c_ms int8,
  battery_module_temp_min_c_pos int8,
  battery_module_temp_min_c_neg int8,
  battery_module_temp_min_c_min int2,
  battery_module_temp_min_c_max int2,
  battery_module_temp_min_c_n int8,
  load_power_w_sum int8,
  load_power_w_ms int8,
  load_power_w_pos int8,
  load_power_w_neg int8,
  load_power_w_min int4,
  load_power_w_max int4,
  load_power_w_n int8,
  export_power_w_sum int8,
  export_power_w_ms int8,
  export_power_w_pos int8,
  export_power_w_neg int8,
  export_power_w_min int4,
  export_power_w_max int4,
  export_power_w_n int8,
  self_consumption_daily_pct_sum int8,
  self_consumption_daily_pct_ms int8,
  self_consumption_daily_pct_min int2,
  self_consumption_daily_pct_max int2,
  self_consumption_daily_pct_n int8,
  active_power_w_sum int8,
  active_power_w_ms int8,
  active_power_w_pos int8,
  active_power_w_neg int8,
  active_power_w_min int4,
  active_power_w_max int4,
  active_power_w_n int8,
  reactive_power_var_sum int8,
  reactive_power_var_ms int8,
  reactive_power_var_pos int8,
  reactive_power_var_neg int8,
  reactive_power_var_min int4,
  reactive_power_var_max int4,
  reactive_power_var_n int8,
  apparent_power_va_sum int8,
  apparent_power_va_ms int8,
  apparent_power_va_min int4,
  apparent_power_va_max int4,
  apparent_power_va_n int8,
  power_factor_sum int8,
  power_factor_ms int8,
  power_factor_pos int8,
  power_factor_neg int8,
  power_factor_min int2,
  power_factor_max int2,
  power_factor_n int8,
  grid_frequency_hz_sum int8,
  grid_frequency_hz_ms int8,
  grid_frequency_hz_min int2,
  grid_frequency_hz_max int2,
  grid_frequency_hz_n int8,
  inverter_temp_c_sum int8,
  inverter_temp_c_ms int8,
  inverter_temp_c_pos int8,
  inverter_temp_c_neg int8,
  inverter_temp_c_min int2,
  inverter_temp_c_max int2,
  inverter_temp_c_n int8,
  bus_voltage_v_sum int8,
  bus_voltage_v_ms int8,
  bus_voltage_v_min int2,
  bus_voltage_v_max int2,
  bus_voltage_v_n int8,
  backup_power_w_sum int8,
  backup_power_w_ms int8,
  backup_power_w_pos int8,
  backup_power_w_neg int8,
  backup_power_w_min int4,
  backup_power_w_max int4,
  backup_power_w_n int8,
  backup_frequency_hz_sum int8,
  backup_frequency_hz_ms int8,
  backup_frequency_hz_min int2,
  backup_frequency_hz_max int2,
  backup_frequency_hz_n int8,
  pv_total_kwh_first int4,
  pv_total_kwh_last int4,
  pv_total_kwh_first_ts timestamptz,
  pv_total_kwh_last_ts timestamptz,
  pv_total_kwh_increase int8,
  pv_total_kwh_uncounted int8,
  battery_charge_total_kwh_first int4,
  battery_charge_total_kwh_last int4,
  battery_charge_total_kwh_first_ts timestamptz,
  battery_charge_total_kwh_last_ts timestamptz,
  battery_charge_total_kwh_increase int8,
  battery_charge_total_kwh_uncounted int8,
  battery_charge_from_pv_total_kwh_first int4,
  battery_charge_from_pv_total_kwh_last int4,
  battery_charge_from_pv_total_kwh_first_ts timestamptz,
  battery_charge_from_pv_total_kwh_last_ts timestamptz,
  battery_charge_from_pv_total_kwh_increase int8,
  battery_discharge_total_kwh_first int4,
  battery_discharge_total_kwh_last int4,
  battery_discharge_total_kwh_first_ts timestamptz,
  battery_discharge_total_kwh_last_ts timestamptz,
  battery_discharge_total_kwh_increase int8,
  battery_discharge_total_kwh_uncounted int8,
  export_total_kwh_first int4,
  export_total_kwh_last int4,
  export_total_kwh_first_ts timestamptz,
  export_total_kwh_last_ts timestamptz,
  export_total_kwh_increase int8,
  export_total_kwh_uncounted int8,
  export_from_pv_total_kwh_first int4,
  export_from_pv_total_kwh_last int4,
  export_from_pv_total_kwh_first_ts timestamptz,
  export_from_pv_total_kwh_last_ts timestamptz,
  export_from_pv_total_kwh_increase int8,
  import_total_kwh_first int4,
  import_total_kwh_last int4,
  import_total_kwh_first_ts timestamptz,
  import_total_kwh_last_ts timestamptz,
  import_total_kwh_increase int8,
  import_total_kwh_uncounted int8,
  direct_use_total_kwh_first int4,
  direct_use_total_kwh_last int4,
  direct_use_total_kwh_first_ts timestamptz,
  direct_use_total_kwh_last_ts timestamptz,
  direct_use_total_kwh_increase int8,
  output_total_kwh_first int4,
  output_total_kwh_last int4,
  output_total_kwh_first_ts timestamptz,
  output_total_kwh_last_ts timestamptz,
  output_total_kwh_increase int8,
  running_time_total_h_first int4,
  running_time_total_h_last int4,
  running_time_total_h_first_ts timestamptz,
  running_time_total_h_last_ts timestamptz,
  running_time_total_h_increase int8,
-- end of generated
  PRIMARY KEY (device, bucket)
);

CREATE TABLE IF NOT EXISTS rollup_day (
  day date NOT NULL,
  device int4 NOT NULL,
-- generated: rollup
  sample_count int8 NOT NULL,
  covered_ms int8 NOT NULL,
  pv_power_w_sum int8,
  pv_power_w_ms int8,
  pv_power_w_min int4,
  pv_power_w_max int4,
  pv_power_w_n int8,
  insulation_resistance_kohm_sum int8,
  insulation_resistance_kohm_ms int8,
  insulation_resistance_kohm_min int4,
  insulation_resistance_kohm_max int4,
  insulation_resistance_kohm_n int8,
  battery_power_w_sum int8,
  battery_power_w_ms int8,
  battery_power_w_pos int8,
  battery_power_w_neg int8,
  battery_power_w_min int4,
  battery_power_w_max int4,
  battery_power_w_n int8,
  battery_current_a_sum int8,
  battery_current_a_ms int8,
  battery_current_a_pos int8,
  battery_current_a_neg int8,
  battery_current_a_min int2,
  battery_current_a_max int2,
  battery_current_a_n int8,
  battery_voltage_v_sum int8,
  battery_voltage_v_ms int8,
  battery_voltage_v_min int2,
  battery_voltage_v_max int2,
  battery_voltage_v_n int8,
  battery_soc_pct_sum int8,
  battery_soc_pct_ms int8,
  battery_soc_pct_min int2,
  battery_soc_pct_max int2,
  battery_soc_pct_n int8,
  battery_soh_pct_sum int8,
  battery_soh_pct_ms int8,
  battery_soh_pct_min int2,
  battery_soh_pct_max int2,
  battery_soh_pct_n int8,
  battery_temp_c_sum int8,
  battery_temp_c_ms int8,
  battery_temp_c_pos int8,
  battery_temp_c_neg int8,
  battery_temp_c_min int2,
  battery_temp_c_max int2,
  battery_temp_c_n int8,
  battery_capacity_kwh_sum int8,
  battery_capacity_kwh_ms int8,
  battery_capacity_kwh_min int4,
  battery_capacity_kwh_max int4,
  battery_capacity_kwh_n int8,
  battery_cell_voltage_max_v_sum int8,
  battery_cell_voltage_max_v_ms int8,
  battery_cell_voltage_max_v_min int4,
  battery_cell_voltage_max_v_max int4,
  battery_cell_voltage_max_v_n int8,
  battery_cell_voltage_min_v_sum int8,
  battery_cell_voltage_min_v_ms int8,
  battery_cell_voltage_min_v_min int4,
  battery_cell_voltage_min_v_max int4,
  battery_cell_voltage_min_v_n int8,
  battery_module_temp_max_c_sum int8,
  battery_module_temp_max_c_ms int8,
  battery_module_temp_max_c_pos int8,
  battery_module_temp_max_c_neg int8,
  battery_module_temp_max_c_min int2,
  battery_module_temp_max_c_max int2,
  battery_module_temp_max_c_n int8,
  battery_module_temp_min_c_sum int8,
  battery_module_temp_min_c_ms int8,
  battery_module_temp_min_c_pos int8,
  battery_module_temp_min_c_neg int8,
  battery_module_temp_min_c_min int2,
  battery_module_temp_min_c_max int2,
  battery_module_temp_min_c_n int8,
  load_power_w_sum int8,
  load_power_w_ms int8,
  load_power_w_pos int8,
  load_power_w_neg int8,
  load_power_w_min int4,
  load_power_w_max int4,
  load_power_w_n int8,
  export_power_w_sum int8,
  export_power_w_ms int8,
  export_power_w_pos int8,
  export_power_w_neg int8,
  export_power_w_min int4,
  export_power_w_max int4,
  export_power_w_n int8,
  self_consumption_daily_pct_sum int8,
  self_consumption_daily_pct_ms int8,
  self_consumption_daily_pct_min int2,
  self_consumption_daily_pct_max int2,
  self_consumption_daily_pct_n int8,
  active_power_w_sum int8,
  active_power_w_ms int8,
  active_power_w_pos int8,
  active_power_w_neg int8,
  active_power_w_min int4,
  active_power_w_max int4,
  active_power_w_n int8,
  reactive_power_var_sum int8,
  reactive_power_var_ms int8,
  reactive_power_var_pos int8,
  reactive_power_var_neg int8,
  reactive_power_var_min int4,
  reactive_power_var_max int4,
  reactive_power_var_n int8,
  apparent_power_va_sum int8,
  apparent_power_va_ms int8,
  apparent_power_va_min int4,
  apparent_power_va_max int4,
  apparent_power_va_n int8,
  power_factor_sum int8,
  power_factor_ms int8,
  power_factor_pos int8,
  power_factor_neg int8,
  power_factor_min int2,
  power_factor_max int2,
  power_factor_n int8,
  grid_frequency_hz_sum int8,
  grid_frequency_hz_ms int8,
  grid_frequency_hz_min int2,
  grid_frequency_hz_max int2,
  grid_frequency_hz_n int8,
  inverter_temp_c_sum int8,
  inverter_temp_c_ms int8,
  inverter_temp_c_pos int8,
  inverter_temp_c_neg int8,
  inverter_temp_c_min int2,
  inverter_temp_c_max int2,
  inverter_temp_c_n int8,
  bus_voltage_v_sum int8,
  bus_voltage_v_ms int8,
  bus_voltage_v_min int2,
  bus_voltage_v_max int2,
  bus_voltage_v_n int8,
  backup_power_w_sum int8,
  backup_power_w_ms int8,
  backup_power_w_pos int8,
  backup_power_w_neg int8,
  backup_power_w_min int4,
  backup_power_w_max int4,
  backup_power_w_n int8,
  backup_frequency_hz_sum int8,
  backup_frequency_hz_ms int8,
  backup_frequency_hz_min int2,
  backup_frequency_hz_max int2,
  backup_frequency_hz_n int8,
  pv_total_kwh_first int4,
  pv_total_kwh_last int4,
  pv_total_kwh_first_ts timestamptz,
  pv_total_kwh_last_ts timestamptz,
  pv_total_kwh_increase int8,
  pv_total_kwh_uncounted int8,
  battery_charge_total_kwh_first int4,
  battery_charge_total_kwh_last int4,
  battery_charge_total_kwh_first_ts timestamptz,
  battery_charge_total_kwh_last_ts timestamptz,
  battery_charge_total_kwh_increase int8,
  battery_charge_total_kwh_uncounted int8,
  battery_charge_from_pv_total_kwh_first int4,
  battery_charge_from_pv_total_kwh_last int4,
  battery_charge_from_pv_total_kwh_first_ts timestamptz,
  battery_charge_from_pv_total_kwh_last_ts timestamptz,
  battery_charge_from_pv_total_kwh_increase int8,
  battery_discharge_total_kwh_first int4,
  battery_discharge_total_kwh_last int4,
  battery_discharge_total_kwh_first_ts timestamptz,
  battery_discharge_total_kwh_last_ts timestamptz,
  battery_discharge_total_kwh_increase int8,
  battery_discharge_total_kwh_uncounted int8,
  export_total_kwh_first int4,
  export_total_kwh_last int4,
  export_total_kwh_first_ts timestamptz,
  export_total_kwh_last_ts timestamptz,
  export_total_kwh_increase int8,
  export_total_kwh_uncounted int8,
  export_from_pv_total_kwh_first int4,
  export_from_pv_total_kwh_last int4,
  export_from_pv_total_kwh_first_ts timestamptz,
  export_from_pv_total_kwh_last_ts timestamptz,
  export_from_pv_total_kwh_increase int8,
  import_total_kwh_first int4,
  import_total_kwh_last int4,
  import_total_kwh_first_ts timestamptz,
  import_total_kwh_last_ts timestamptz,
  import_total_kwh_increase int8,
  import_total_kwh_uncounted int8,
  direct_use_total_kwh_first int4,
  direct_use_total_kwh_last int4,
  direct_use_total_kwh_first_ts timestamptz,
  direct_use_total_kwh_last_ts timestamptz,
  direct_use_total_kwh_increase int8,
  output_total_kwh_first int4,
  output_total_kwh_last int4,
  output_total_kwh_first_ts timestamptz,
  output_total_kwh_last_ts timestamptz,
  output_total_kwh_increase int8,
  running_time_total_h_first int4,
  running_time_total_h_last int4,
  running_time_total_h_first_ts timestamptz,
  running_time_total_h_last_ts timestamptz,
  running_time_total_h_increase int8,
-- end of generated
  PRIMARY KEY (device, day)
);

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

-- Where older servers keep them, which may run beside newer ones; those do nothing with it but forget who is erased. A later
-- release drops it.
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

-- Counters that ran back, or jumped by more than the device could have counted: the readings stand as they are, the step
-- makes no energy. `before` is the value it was compared with; both are counts of resolution steps.
CREATE TABLE IF NOT EXISTS counter_breaks (
  device int4 NOT NULL,
  ts timestamptz NOT NULL,
  counter text NOT NULL,
  value int4 NOT NULL,
  before int4 NOT NULL,
  PRIMARY KEY (device, ts, counter)
);

-- Raw readings from before this moment may be gone: rollups of that time are never made anew, however long raw readings
-- are to be kept from now on.
CREATE TABLE IF NOT EXISTS raw_dropped (
  is_all bool PRIMARY KEY DEFAULT true CHECK (is_all),
  until timestamptz NOT NULL
);

-- Buckets to be recomputed. Only appended to and deleted from.
CREATE TABLE IF NOT EXISTS rollup_marks (
  mark int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  device int4 NOT NULL,
  bucket timestamptz NOT NULL
);
CREATE INDEX IF NOT EXISTS rollup_marks_device ON rollup_marks (device);

-- What arrived late, for open streams; kept for a minute. Best effort: nothing is counted from it.

CREATE TABLE IF NOT EXISTS backfills (
  entry int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  device int4 NOT NULL,
  from_ts timestamptz NOT NULL,
  to_ts timestamptz NOT NULL,
  row_count int4 NOT NULL,
  noted_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX IF NOT EXISTS backfills_noted ON backfills (noted_at);

-- To plan for all of some years of days takes TimescaleDB seconds, for a few of them a millisecond. So these functions
-- look where readings are, and nowhere else: a reading lies within a local day that is rolled up (from a day before its
-- date to two days after, in UTC), or within a marked quarter of an hour.

-- The first or, with 'max', the last reading of a device that lies after one moment and before another. Executed anew
-- each time, so that the plan knows the moments.
CREATE OR REPLACE FUNCTION reading_between(wanted int4, which text, after timestamptz, until timestamptz)
RETURNS timestamptz LANGUAGE plpgsql STABLE AS $$
DECLARE
  found timestamptz;
BEGIN
  IF after IS NOT NULL AND after < until THEN
    EXECUTE format('SELECT %s(ts) FROM samples WHERE device = $1 AND ts > $2 AND ts < $3', which)
    INTO found USING wanted, after, until;
  END IF;
  RETURN found;
END
$$;

-- The first or, with 'max', the last quarter of an hour that is rolled up of a local day of a device.
CREATE OR REPLACE FUNCTION quarter_of_day(wanted int4, which text, day date)
RETURNS timestamptz LANGUAGE plpgsql STABLE AS $$
DECLARE
  found timestamptz;
BEGIN
  IF day IS NOT NULL THEN
    EXECUTE format('SELECT %s(bucket) FROM rollup_15m WHERE device = $1 AND bucket > $2 AND bucket < $3', which)
    INTO found USING wanted, (day - 1)::timestamp AT TIME ZONE 'UTC', (day + 2)::timestamp AT TIME ZONE 'UTC';
  END IF;
  RETURN found;
END
$$;

-- When the newest reading of a device was taken.
CREATE OR REPLACE FUNCTION newest_reading(wanted int4) RETURNS timestamptz LANGUAGE plpgsql STABLE AS $$
DECLARE
  rolled date := (SELECT max(day) FROM rollup_day WHERE device = wanted);
  marked timestamptz := (SELECT max(bucket) FROM rollup_marks WHERE device = wanted);
  since timestamptz := (rolled - 1)::timestamp AT TIME ZONE 'UTC';
  until timestamptz := (rolled + 2)::timestamp AT TIME ZONE 'UTC';
  newest timestamptz;
BEGIN
  IF rolled IS NULL OR marked <= since OR marked + INTERVAL '15 minutes' > until THEN -- else one look is enough
    newest := reading_between(wanted, 'max', marked - INTERVAL '1 microsecond', marked + INTERVAL '15 minutes');
  END IF;
  IF newest >= until THEN
    RETURN newest;
  END IF;
  RETURN greatest(newest, reading_between(wanted, 'max', since, until));
END
$$;

-- When the first reading of a device after a moment was taken.
CREATE OR REPLACE FUNCTION next_reading(wanted int4, after timestamptz) RETURNS timestamptz LANGUAGE plpgsql STABLE AS $$
DECLARE
  rolled date;
  marked timestamptz;
  found timestamptz;
  earlier timestamptz;
BEGIN
  FOR rolled IN
    SELECT day FROM rollup_day
    WHERE device = wanted AND day >= (after AT TIME ZONE 'UTC')::date - 1
    ORDER BY day
  LOOP
    found := reading_between(
      wanted, 'min', greatest(after, (rolled - 1)::timestamp AT TIME ZONE 'UTC'),
      (rolled + 2)::timestamp AT TIME ZONE 'UTC'
    );
    EXIT WHEN found IS NOT NULL;
  END LOOP;
  FOR marked IN
    SELECT DISTINCT bucket FROM rollup_marks
    WHERE device = wanted AND bucket > after - INTERVAL '15 minutes' AND (found IS NULL OR bucket < found)
    ORDER BY bucket
  LOOP
    earlier := reading_between(
      wanted, 'min', greatest(after, marked - INTERVAL '1 microsecond'), marked + INTERVAL '15 minutes'
    );
    EXIT WHEN earlier IS NOT NULL;
  END LOOP;
  RETURN least(found, earlier);
END
$$;

-- When the first reading of a device was taken; where single readings are gone, the quarter of an hour.
CREATE OR REPLACE FUNCTION first_reading(wanted int4) RETURNS timestamptz LANGUAGE plpgsql STABLE AS $$
DECLARE
  rolled date := (SELECT min(day) FROM rollup_day WHERE device = wanted);
  marked timestamptz := (SELECT min(bucket) FROM rollup_marks WHERE device = wanted);
  quarter timestamptz := quarter_of_day(wanted, 'min', rolled);
  found timestamptz;
BEGIN
  found := coalesce(reading_between(
    wanted, 'min', quarter - INTERVAL '1 microsecond', quarter + INTERVAL '15 minutes'
  ), quarter);
  IF found IS NULL OR marked < found THEN
    RETURN least(found, reading_between(
      wanted, 'min', marked - INTERVAL '1 microsecond', marked + INTERVAL '15 minutes'
    ));
  END IF;
  RETURN found;
END
$$;

-- When the last reading of a device was taken; where single readings are gone, the quarter of an hour.
CREATE OR REPLACE FUNCTION last_reading(wanted int4) RETURNS timestamptz LANGUAGE sql STABLE AS $$
  SELECT coalesce(
    newest_reading(wanted),
    quarter_of_day(wanted, 'max', (SELECT max(day) FROM rollup_day WHERE device = wanted))
  )
$$;
