// How fresh a device is, and what that means.

import type { Device, Realtime } from "../api/types.ts";
import { siteClock } from "./time.ts";

export type State = "live" | "stale" | "asleep" | "offline" | "empty";

const STALE_INTERVALS = 3;
const DARK_W = 25;
const LONGEST_NIGHT_S = 20 * 3600;
const SLEEPING = ["standby", "initial standby", "stopped", "key stop"];

/** Remembers how far the server's clock is from this browser's. */
export class ServerClock {
  private offset = 0;

  learn(ts: string, age_s: number): void {
    this.offset = Date.parse(ts) + age_s * 1000 - Date.now();
  }

  now = (): number => Date.now() + this.offset;

  age_s = (ts: string): number => Math.max(0, (this.now() - Date.parse(ts)) / 1000);
}

export function stateOf(device: Device, reading: Realtime | null, age_s: number, isReached: boolean): State {
  if (!isReached) return "offline";
  if (reading === null) return "empty";
  if (age_s <= STALE_INTERVALS * device.poll_interval_s) return "live";
  return fellAsleep(device, reading, age_s) ? "asleep" : "stale";
}

/** Whether its last word was that of an inverter whose sun went down: dark, without a battery, in the evening. */
function fellAsleep(device: Device, reading: Realtime, age_s: number): boolean {
  const hour = new Date(siteClock(Date.parse(reading.ts), device.timezone ?? "UTC")).getUTCHours();
  const isEvening = hour >= 14 || hour < 4;
  const isDark = (reading.pv_power_w ?? 1e9) <= DARK_W || SLEEPING.includes(reading.running_state ?? "");
  const hasBattery = reading.battery_soc_pct !== null && reading.battery_soc_pct !== undefined;
  return age_s < LONGEST_NIGHT_S && isEvening && isDark && !hasBattery;
}

const OF_ONE_READING = new Set(["device_id", "ts", "read_at", "age_s", "stale"]);

/** The newest reading, completed with what was known before. */
export function merge(before: Realtime | null, reading: Record<string, unknown> & { ts: string }): Realtime {
  const read_at = { ...before?.read_at };
  const known: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(before ?? {})) {
    if (OF_ONE_READING.has(name) || value === null || value === undefined) continue;
    known[name] = value;
    read_at[name] ??= before?.ts ?? reading.ts;
  }
  for (const [name, value] of Object.entries(reading)) {
    if (value === null || value === undefined) continue;
    known[name] = value;
    delete read_at[name];
  }
  return { ...known, read_at, age_s: 0, stale: false } as unknown as Realtime;
}
