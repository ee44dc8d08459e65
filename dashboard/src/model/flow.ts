// Who gives and who takes at this moment.

import type { Reading, Value } from "../api/types.ts";

export interface Flow {
  sun: number | null;
  /** + charging, - discharging. */
  battery: number | null;
  /** + selling, - buying. */
  grid: number | null;
  house: number | null;
  /** The inverter's own output, where no meter tells what of it reaches the grid. */
  output: number | null;
  soc: number | null;
}

const known = (value: Value): number | null => value ?? null;

export function flowOf(reading: Partial<Reading>): Flow {
  return {
    sun: known(reading.pv_power_w),
    battery: known(reading.battery_power_w),
    grid: known(reading.export_power_w),
    house: known(reading.load_power_w),
    output: known(reading.active_power_w),
    soc: known(reading.battery_soc_pct),
  };
}

/** Below this a flow is called nothing: meters and inverters never rest at exactly 0 W. */
export const QUIET_W = 15;

export type Mood = "sun" | "sun-sells" | "sun-charges" | "sun-alone" | "sun-battery" | "sun-buys" | "battery" | "grid" | "night" | "dark";

/** The situation in one word, so that a sentence can be made of it; it changes rarely. */
export function moodOf({ sun, battery, grid }: Flow): Mood {
  const isSunny = sun !== null && sun > QUIET_W;
  const [selling, buying] = [(grid ?? 0) > 2 * QUIET_W, (grid ?? 0) < -2 * QUIET_W];
  const [charging, giving] = [(battery ?? 0) > QUIET_W, (battery ?? 0) < -QUIET_W];
  if (isSunny && grid === null) return "sun"; // without a meter nobody knows whether it is enough for the house
  if (isSunny && selling) return "sun-sells";
  if (isSunny && buying) return "sun-buys";
  if (isSunny && charging) return "sun-charges";
  if (isSunny) return giving ? "sun-battery" : "sun-alone";
  if (giving && !buying) return "battery";
  if (buying) return "grid";
  return sun === null ? "dark" : "night";
}

/** Hours until the battery is full at this rate; null when that is unknown or far off. */
export function hoursToFull(reading: Partial<Reading>): number | null {
  const { battery_power_w: power, battery_soc_pct: soc, battery_capacity_kwh: capacity } = reading;
  if (!power || power < 100 || soc === null || soc === undefined || !capacity) return null;
  const hours = (capacity * (100 - soc) * 10) / power;
  return hours < 0.05 || hours > 18 ? null : hours;
}
