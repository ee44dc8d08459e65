// The finest curve that is honest: five minutes where readings come often enough, else quarters of an hour.

import type { Bucket, Series, Value } from "../api/types.ts";
import { combine } from "./plant.ts";

const QUARTER_MS = 900_000;
const FIVE_S = 300;
const ROUNDING = 0.05;

/** A piece of a curve. What was not read within it, but within its quarter, is taken from there. */
export interface Piece {
  bucket: Bucket;
  length_s: number;
  quarter: Bucket | undefined;
}

const startOf = (b: Bucket): number => Date.parse(b.bucket);
const quarterOf = (b: Bucket): number => Math.floor(startOf(b) / QUARTER_MS) * QUARTER_MS;

/** What was read within a piece of time; null when nothing was. */
export function valueIn({ bucket, quarter }: Piece, field: string): number | null {
  const of = (b: Bucket) => (b as unknown as Record<string, Value>)[field] ?? null;
  return of(bucket) ?? (quarter && bucket.sample_count > 0 ? of(quarter) : null);
}

/** The curve of one device, or of several together; where there are no buckets of five minutes, it is null. */
export function finest(fives: readonly (Series | null)[], quarters: readonly Series[]): Piece[] {
  const coarse = new Set(quarters.flatMap((series, at) => coarseQuarters(fives[at] ?? null, series)));
  const byQuarter = grouped(combine(fives.filter((series) => series !== null))?.series ?? []);
  return (combine(quarters)?.series ?? []).flatMap((quarter): Piece[] => {
    const fine = coarse.has(startOf(quarter)) ? [] : (byQuarter.get(startOf(quarter)) ?? []);
    if (fine.length === 0) return [{ bucket: quarter, length_s: QUARTER_MS / 1000, quarter: undefined }];
    return fine.map((bucket) => ({ bucket, length_s: FIVE_S, quarter }));
  });
}

function grouped(buckets: readonly Bucket[]): Map<number, Bucket[]> {
  const found = new Map<number, Bucket[]>();
  for (const b of buckets) found.set(quarterOf(b), [...(found.get(quarterOf(b)) ?? []), b]);
  return found;
}

/** Quarters of which readings cover more than their buckets of five minutes tell: readings that rare leave no gap. */
function coarseQuarters(fives: Series | null, quarters: Series): number[] {
  const byQuarter = grouped(fives?.series ?? []);
  const isCoarse = (quarter: Bucket): boolean => {
    const within = byQuarter.get(startOf(quarter)) ?? [];
    const told = within.filter((b) => b.sample_count > 0).length / Math.max(1, within.length);
    return quarter.sample_count > 0 && quarter.coverage > told + ROUNDING;
  };
  return quarters.series.filter(isCoarse).map(startOf);
}
