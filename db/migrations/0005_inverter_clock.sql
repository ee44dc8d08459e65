-- The inverter's own date and time: its midnight, not ours, resets the daily counters.

ALTER TABLE samples ADD COLUMN IF NOT EXISTS inverter_clock text;
