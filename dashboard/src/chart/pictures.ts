// Makes pictures of what the API answers: curves of a day, bars of months and years.

import type { Bucket, Frame, Value } from "../api/types.ts";
import { energy, frameName, number, percent, quantity, signedPower, dayName, timeOfDay } from "../format.ts";
import { listOf, numberOf } from "../model/csv.ts";
import { valueIn, type Piece } from "../model/curve.ts";
import { round, split, sum, type Split } from "../model/energy.ts";
import { addDays, addMonths, frameStart, isoAt, spanOf, step } from "../model/time.ts";
import { texts } from "../texts.ts";
import type { Column, Line } from "./chart.tsx";
import type { Picture } from "./panel.tsx";

const t = texts.history.series;
const plain = (value: number): string => number(value, value.toFixed(2).replace(/\.?0+$/, "").split(".")[1]?.length ?? 0);
const kw = (watts: number): string => (watts === 0 ? "0" : `${plain(watts / 1000)} kW`);
const kwh = (value: number): string => (value === 0 ? "0" : `${plain(Math.abs(value))} kWh`);
const [LEAST_W, LEAST_KWH] = [100, 0.1];
const soc = (value: Value) => percent(value);

interface Drawn extends Line {
  name: string;
  values: Column;
}

export interface Place {
  /** Of what: the name of a device or plant. */
  name: string;
  frame: Frame;
  day: string;
  zone: string;
}

const isKnown = (value: Value): value is number => value !== null && value !== undefined;
const hasValues = (line: { values: Column }): boolean => line.values.some(isKnown);

export interface Points {
  /** Instants, s. */
  x: number[];
  /** Columns by the field of a sample. */
  columns: Record<string, Column>;
}

/** Averages of pieces of time, each at the middle of it. */
export function pointsOf(pieces: readonly Piece[], fields: readonly string[]): Points {
  const x = pieces.map(({ bucket, length_s }) => Date.parse(bucket.bucket) / 1000 + length_s / 2);
  const column = (field: string): Column => pieces.map((piece) => valueIn(piece, `avg_${field}`));
  return { x, columns: Object.fromEntries(fields.map((field) => [field, column(field)])) };
}

/** Raw readings; where more than three times what a reading stands for lies between two, a gap is drawn. */
export function rawPoints(rows: readonly Record<string, string>[], fields: readonly string[], interval_s: number): Points {
  const points: Points = { x: [], columns: Object.fromEntries(fields.map((field) => [field, [] as Column])) };
  let last = Infinity;
  for (const row of rows) {
    const ts = Date.parse(row["bucket"] ?? "") / 1000;
    const stands_s = Math.max(interval_s, numberOf(row["interval_s"]) ?? 0);
    if (ts - last > 3 * stands_s) {
      points.x.push(last + stands_s);
      for (const field of fields) points.columns[field]?.push(null);
    }
    points.x.push(ts);
    for (const field of fields) points.columns[field]?.push(numberOf(row[field]));
    last = ts;
  }
  return points;
}

/** Power of each tracker, averaged over steps of time. */
export function trackerPoints(rows: readonly Record<string, string>[], step_s: number): Points {
  const steps = new Map<number, { sum: number; count: number }[]>();
  let trackers = 0;
  let stands_s = 0;
  for (const row of rows) {
    const at = Math.floor(Date.parse(row["bucket"] ?? "") / 1000 / step_s) * step_s;
    stands_s = Math.max(stands_s, numberOf(row["interval_s"]) ?? 0);
    const [volts, amperes] = [listOf(row["mppt_voltage_v"]), listOf(row["mppt_current_a"])];
    const found = steps.get(at) ?? [];
    steps.set(at, found);
    volts.forEach((volt, index) => {
      const ampere = amperes[index];
      if (!isKnown(volt) || !isKnown(ampere)) return;
      trackers = Math.max(trackers, index + 1);
      const slot = (found[index] ??= { sum: 0, count: 0 });
      slot.sum += volt * ampere;
      slot.count += 1;
    });
  }
  const x: number[] = [];
  for (const at of [...steps.keys()].sort((a, b) => a - b)) {
    const last = x.at(-1);
    if (last !== undefined && at - last > Math.max(step_s, stands_s)) x.push(last + step_s);
    x.push(at);
  }
  const column = (index: number): Column =>
    x.map((at) => {
      const slot = steps.get(at)?.[index];
      return slot ? round(slot.sum / slot.count, 1) : null;
    });
  const names = Array.from({ length: trackers }, (_, index) => `mppt_${index + 1}_power_w`);
  return { x: x.map((at) => at + step_s / 2), columns: Object.fromEntries(names.map((name, i) => [name, column(i)])) };
}

export function powerPicture(place: Place, points: Points): Picture {
  const { columns } = points;
  const isMetered = (columns["export_power_w"] ?? []).some(isKnown);
  const watts = { text: signedPower };
  const lines = [
    { key: "sun", label: t.sun, colour: "sun", name: "pv_power_w", fill: true, ...watts },
    { key: "house", label: t.house, colour: "house", name: "load_power_w", ...watts },
    { key: "battery", label: t.battery, colour: "battery", name: "battery_power_w", ...watts },
    { key: "grid", label: t.grid, colour: "grid", name: "export_power_w", ...watts },
    ...(isMetered ? [] : [{ key: "output", label: t.output, colour: "grid", name: "active_power_w", ...watts }]),
    { key: "soc", label: t.soc, colour: "soc", name: "battery_soc_pct", scale: "pct" as const, dash: true, text: soc },
  ];
  return curves(place, texts.history.powerCurve, points, lines, kw);
}

export function batteryPicture(place: Place, points: Points): Picture {
  const celsius = (value: Value) => quantity(value, "°C");
  return curves(
    place,
    t.battery,
    points,
    [
      { key: "battery", label: t.battery, colour: "battery", name: "battery_power_w", fill: true, text: signedPower },
      { key: "soc", label: t.soc, colour: "soc", name: "battery_soc_pct", scale: "pct", dash: true, text: soc },
      { key: "temperature", label: t.temperature, colour: "warm", name: "battery_temp_c", scale: "own", text: celsius },
    ],
    kw,
  );
}

export function trackerPicture(place: Place, points: Points): Picture {
  const lines = Object.keys(points.columns).map((name, index) => ({
    key: name,
    label: t.tracker(index + 1),
    colour: `tracker-${(index % 6) + 1}`,
    name,
    text: signedPower,
  }));
  return curves(place, texts.history.trackerCurve, points, lines, kw);
}

function curves(
  { name, day, zone }: Place,
  title: string,
  { x, columns }: Points,
  lines: readonly (Line & { name: string })[],
  axis: (value: number) => string,
): Picture {
  const drawn: Drawn[] = lines.map((line) => ({ ...line, values: columns[line.name] ?? [] })).filter(hasValues);
  const [from, to] = spanOf("day", day, zone);
  const values = drawn.map((line) => line.values);
  const isFine = x.length > 1 && (x[1] ?? 0) - (x[0] ?? 0) < 60;
  return {
    title,
    label: texts.history.chart(`${title} ${name}`, frameName("day", day)),
    file: `${name} ${title} ${day}`,
    kind: "lines",
    zone,
    x,
    values,
    lines: drawn,
    range: [from.getTime() / 1000, to.getTime() / 1000],
    least: LEAST_W,
    axis,
    note: drawn.map((line) => texts.history.signs[line.key]).filter(Boolean).join(" "),
    place: (index) => timeOfDay((x[index] ?? 0) * 1000, zone, isFine),
    placeTitle: texts.history.time,
    stamp: (index) => isoAt((x[index] ?? 0) * 1000, zone),
    names: drawn.map((line) => line.name),
  };
}

const SPLIT_LINES: readonly { key: keyof Split; colour: string; name: string }[] = [
  { key: "unsplit", colour: "sun", name: "pv_kwh" },
  { key: "sold", colour: "grid", name: "sold_kwh" },
  { key: "stored", colour: "battery", name: "stored_kwh" },
  { key: "used", colour: "sun", name: "used_kwh" },
  { key: "bought", colour: "bought", name: "bought_kwh" },
];

/** Bars of energies: the sun's, split by where it went, upwards; what was bought, downwards. */
export function energyPicture(place: Place, buckets: readonly Bucket[]): Picture {
  const slots = slotsOf(place, buckets);
  const splits = slots.map(({ bucket }) => (bucket ? split(bucket) : null));
  const drawn = SPLIT_LINES.map(({ key, colour, name }) => ({
    key,
    colour,
    name,
    label: t[key],
    text: energy,
    values: splits.map((found) => found?.[key] ?? null),
  })).filter(hasValues);
  return bars(place, texts.history.energyBars, slots, drawn, new Set(["bought"]));
}

export function batteryBars(place: Place, buckets: readonly Bucket[]): Picture {
  const slots = slotsOf(place, buckets);
  const drawn = [
    { key: "charged", label: t.charged, colour: "battery", name: "charge_kwh" as const },
    { key: "discharged", label: t.discharged, colour: "soc", name: "discharge_kwh" as const },
  ]
    .map((line) => ({ ...line, text: energy, values: slots.map(({ bucket }) => bucket?.[line.name] ?? null) }))
    .filter(hasValues);
  return bars(place, texts.history.batteryBars, slots, drawn, new Set(["discharged"]));
}

export interface Slot {
  day: string;
  bucket: Bucket | null;
}

/**
 * A place for every day of the month, or month of the year, whether it is over yet or not; of all time for every month
 * from the first one known, and for a year at least.
 */
export function slotsOf({ frame, day }: Place, buckets: readonly Bucket[]): Slot[] {
  const byDay = new Map(buckets.map((b) => [b.bucket.slice(0, 10), b]));
  const [first, end] = frame === "all" ? allTime(buckets, day) : [frameStart(frame, day), step(frame, frameStart(frame, day), 1)];
  const slots: Slot[] = [];
  for (let at = first; at < end; at = frame === "month" ? addDays(at, 1) : addMonths(at, 1)) {
    slots.push({ day: at, bucket: byDay.get(at) ?? null });
  }
  return slots;
}

function allTime(buckets: readonly Bucket[], today: string): [string, string] {
  const first = frameStart("month", buckets[0]?.bucket.slice(0, 10) ?? today);
  const end = addMonths(frameStart("month", buckets.at(-1)?.bucket.slice(0, 10) ?? today), 1);
  const year = addMonths(first, 12);
  return [first, end > year ? end : year];
}

function bars(
  { name, frame, day }: Place,
  title: string,
  slots: readonly Slot[],
  drawn: readonly Drawn[],
  downwards: ReadonlySet<string>,
): Picture {
  const isMonth = frame === "month";
  const tick = (at: string) => (isMonth ? dayName(at, "dayOfMonth") : frame === "all" ? allTick(at, slots.length) : dayName(at, "monthShort"));
  return {
    title,
    label: texts.history.chart(`${title} ${name}`, frameName(frame, day)),
    file: `${name} ${title} ${frame === "all" ? "all" : day.slice(0, isMonth ? 7 : 4)}`,
    kind: "bars",
    zone: "UTC",
    x: slots.map((_, index) => index),
    values: drawn.map((line) => line.values),
    lines: drawn,
    range: [-0.6, slots.length - 0.4],
    least: LEAST_KWH,
    axis: kwh,
    place: (index) => dayName(slots[index]?.day ?? day, isMonth ? "weekday" : "month"),
    placeTitle: isMonth ? texts.history.day : texts.history.month,
    stamp: (index) => slots[index]?.bucket?.bucket ?? slots[index]?.day ?? "",
    names: drawn.map((line) => line.name),
    downwards,
    ticks: slots.map((slot) => tick(slot.day)),
    whole: (column) => energy(sum(drawn[column]?.values ?? [])),
  };
}

/** The names of months have room for two years; after that the year stands where it begins. */
const allTick = (day: string, months: number): string => {
  const year = day.slice(0, 4);
  if (months > 24) return day.slice(5, 7) === "01" ? year : "";
  return `${dayName(day, "monthShort")}\n${year}`;
};
