// Energies of a span: what the sun gave, where it went, what the house used and where that came from.

import type { Bucket, Value } from "../api/types.ts";

export const ENERGIES = ["pv_kwh", "load_kwh", "import_kwh", "export_kwh", "charge_kwh", "discharge_kwh"] as const;
export type Energy = (typeof ENERGIES)[number];
export type Energies = Record<Energy, number | null>;

export interface Totals extends Energies {
  self_consumption_pct: number | null;
  autarky_pct: number | null;
}

/** What is known of several values, added; null when nothing is. */
export function sum(values: readonly Value[]): number | null {
  const known = values.filter((value): value is number => value !== null && value !== undefined);
  return known.length === 0 ? null : round(known.reduce((total, value) => total + value, 0));
}

export const round = (value: number, digits = 3): number => Number(value.toFixed(digits));

/** Totals of buckets; the shares count only buckets in which both energies are known. */
export function totals(buckets: readonly Bucket[]): Totals {
  const found = Object.fromEntries(ENERGIES.map((name) => [name, sum(buckets.map((b) => b[name]))])) as Energies;
  return {
    ...found,
    self_consumption_pct: share(buckets, "pv_kwh", "export_kwh"),
    autarky_pct: share(buckets, "load_kwh", "import_kwh"),
  };
}

function share(buckets: readonly Bucket[], whole: Energy, less: Energy): number | null {
  const both = buckets.filter((b) => isKnown(b[whole]) && isKnown(b[less]));
  const [all, lost] = [sum(both.map((b) => b[whole])), sum(both.map((b) => b[less]))];
  if (all === null || lost === null || all <= 0) return null;
  return Math.min(100, Math.max(0, (100 * (all - lost)) / all));
}

const isKnown = (value: Value): value is number => value !== null && value !== undefined;

/** Where the sun's energy went, and what was bought beside it; in kWh. */
export interface Split {
  /** Used at once. */
  used: number | null;
  stored: number | null;
  sold: number | null;
  bought: number | null;
  /** The sun's energy where nobody counted what became of it. */
  unsplit: number | null;
}

export function split(bucket: Bucket): Split {
  const { pv_kwh: pv, export_kwh: sold, charge_kwh: charged, import_kwh } = bucket;
  const bought = import_kwh ?? null;
  if (!isKnown(pv) || !isKnown(sold)) return { used: null, stored: null, sold: sold ?? null, bought, unsplit: pv ?? null };
  const kept = Math.max(0, pv - sold);
  const stored = isKnown(charged) ? Math.min(charged, kept) : null;
  return { used: round(kept - (stored ?? 0)), stored, sold: round(Math.min(sold, pv)), bought, unsplit: null };
}
