-- Counters that run back or jump are flagged; what a jump is goes by the device's nominal power.

ALTER TABLE devices ADD COLUMN IF NOT EXISTS nominal_kw float8;

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
