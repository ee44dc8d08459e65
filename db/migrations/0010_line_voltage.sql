-- Voltages between phases, of inverters that are wired without a neutral: they used to stand among the phases' own.

ALTER TABLE samples ADD COLUMN IF NOT EXISTS line_voltage_v_1 int2;
ALTER TABLE samples ADD COLUMN IF NOT EXISTS line_voltage_v_2 int2;
ALTER TABLE samples ADD COLUMN IF NOT EXISTS line_voltage_v_3 int2;
