// What the server answers, as far as the page uses it. Null or absent is unknown, never zero. See /openapi.json.

export interface Device {
  device_id: string;
  name: string | null;
  plant: string | null;
  model: string | null;
  serial: string | null;
  firmware: string | null;
  timezone: string | null;
  poll_interval_s: number;
  first_ts: string | null;
  last_ts: string | null;
  health: string;
}

export interface DeviceList {
  devices: Device[];
  /** From here on single readings are kept, and buckets of five minutes. */
  raw_since?: string | null;
}

export type Value = number | null | undefined;
export type List = readonly Value[] | null | undefined;

/** One reading; powers in W, battery + charging, grid + selling. */
export interface Reading {
  device_id: string;
  ts: string;
  pv_power_w?: Value;
  battery_power_w?: Value;
  battery_soc_pct?: Value;
  battery_soh_pct?: Value;
  battery_temp_c?: Value;
  battery_capacity_kwh?: Value;
  battery_voltage_v?: Value;
  load_power_w?: Value;
  export_power_w?: Value;
  active_power_w?: Value;
  inverter_temp_c?: Value;
  grid_frequency_hz?: Value;
  pv_total_kwh?: Value;
  insulation_resistance_kohm?: Value;
  mppt_voltage_v?: List;
  mppt_current_a?: List;
  running_state?: string | null;
}

export interface Realtime extends Reading {
  read_at: Record<string, string>;
  age_s: number;
  stale: boolean;
}

export interface Bucket {
  bucket: string;
  avg_pv_power_w?: Value;
  avg_battery_power_w?: Value;
  avg_battery_soc_pct?: Value;
  avg_battery_temp_c?: Value;
  avg_load_power_w?: Value;
  avg_export_power_w?: Value;
  avg_active_power_w?: Value;
  pv_kwh?: Value;
  load_kwh?: Value;
  import_kwh?: Value;
  export_kwh?: Value;
  charge_kwh?: Value;
  discharge_kwh?: Value;
  sample_count: number;
  coverage: number;
  partial: boolean;
}

export interface Series {
  device_id: string;
  timezone: string;
  series: Bucket[];
}

export interface Plant {
  plant: string;
  devices: string[];
  left_out: string[];
  totals: Partial<Reading>;
}

export interface DeviceEvent {
  kind: string;
  code: number;
  text: string;
  begin: string;
  began_before: boolean;
  end: string | null;
}

/** A counter that ran back or jumped; no energy is made of the step. */
export interface CounterBreak {
  counter: string;
  text: string;
  ts: string;
}

export interface DayCompleteness {
  day: string;
  expected: number;
  stored: number;
  missing: { rejected: number; behind_horizon: number; slower: number; unknown: number };
  conflicts: number;
  rejected: number;
  partial: boolean;
}

export interface KeptAside {
  entry: number;
  ts: string | null;
  reason: string;
  detail: string | null;
  edge_id: string | null;
  received_at: string;
}

export interface EdgeStatus {
  edge_id: string;
  reported_at: string;
  edge_version?: string | null;
  connection?: string | null;
  connection_detail?: string | null;
  backlog?: Value;
  oldest_waiting?: string | null;
  quarantined?: Value;
  clock?: string | null;
  clock_offset_s?: Value;
  polled?: Value;
  accepted?: Value;
  started_at?: string | null;
}

export type Frame = "day" | "month" | "year" | "all";
