// What the devices of a plant do together. The meter they share counts once.

import type { Bucket, Series, Value } from "../api/types.ts";
import { round, sum } from "./energy.ts";

const ADDED = ["pv_kwh", "charge_kwh", "discharge_kwh", "avg_pv_power_w", "avg_battery_power_w"] as const;
const METERED = ["import_kwh", "export_kwh", "avg_export_power_w"] as const;

/** One series out of those of the devices, bucket by bucket. */
export function combine(all: readonly Series[]): Series | null {
  const [first] = all;
  if (!first || all.length === 1) return first ?? null;
  const starts = [...new Set(all.flatMap((series) => series.series.map((b) => b.bucket)))].sort(
    (one, other) => Date.parse(one) - Date.parse(other),
  );
  const byStart = all.map((series) => new Map(series.series.map((b) => [b.bucket, b])));
  const series = starts.map((start) =>
    combineBuckets(byStart.map((buckets) => buckets.get(start)).filter((b) => b !== undefined)),
  );
  return { ...first, series };
}

function combineBuckets(buckets: readonly Bucket[]): Bucket {
  const [first] = buckets as [Bucket];
  const combined: Bucket = {
    bucket: first.bucket,
    sample_count: buckets.reduce((count, b) => count + b.sample_count, 0),
    coverage: Math.min(...buckets.map((b) => b.coverage)),
    partial: buckets.some((b) => b.partial),
  };
  for (const name of ADDED) combined[name] = sum(buckets.map((b) => b[name]));
  for (const name of METERED) combined[name] = metered(buckets, name);
  const socs = buckets.map((b) => b.avg_battery_soc_pct).filter((soc) => soc !== null && soc !== undefined);
  combined.avg_battery_soc_pct = socs.length === 1 ? socs[0] : null; // of several batteries the sizes are unknown
  combined.load_kwh = loadOf(buckets, combined);
  combined.avg_load_power_w = powerOf(buckets, combined);
  return combined;
}

/** The word of the device that covers the most: every inverter that reads the meter reads the same one. */
function metered(buckets: readonly Bucket[], name: (typeof METERED)[number]): Value {
  const known = buckets.filter((b) => b[name] !== null && b[name] !== undefined);
  known.sort((one, other) => other.coverage - one.coverage);
  return known[0]?.[name] ?? null;
}

/** What the house used: all that came in less all that went out. */
function loadOf(buckets: readonly Bucket[], all: Bucket): number | null {
  if (buckets.length === 1) return buckets[0]?.load_kwh ?? null;
  return balance(
    [all.pv_kwh, all.import_kwh, ...optional(all.discharge_kwh)],
    [all.export_kwh, ...optional(all.charge_kwh)],
  );
}

function powerOf(buckets: readonly Bucket[], all: Bucket): number | null {
  if (buckets.length === 1) return buckets[0]?.avg_load_power_w ?? null;
  return balance([all.avg_pv_power_w], [all.avg_export_power_w, ...optional(all.avg_battery_power_w)]);
}

const optional = (value: Value): Value[] => (value === null || value === undefined ? [] : [value]);

function balance(came: readonly Value[], went: readonly Value[]): number | null {
  let result = 0;
  for (const value of came) {
    if (value === null || value === undefined) return null;
    result += value;
  }
  for (const value of went) {
    if (value === null || value === undefined) return null;
    result -= value;
  }
  return Math.max(0, round(result));
}
