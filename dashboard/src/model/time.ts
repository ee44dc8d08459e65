// Days, months and years of the site, whatever the zone of the one who looks. A day is written 2026-01-31.

import type { Frame } from "../api/types.ts";

const DAY_MS = 86_400_000;
const formats = new Map<string, Intl.DateTimeFormat>();

/** The zone, or UTC where this browser does not know it. */
export function knownZone(name: string | null | undefined): string {
  try {
    return name ? new Intl.DateTimeFormat("en", { timeZone: name }).resolvedOptions().timeZone && name : "UTC";
  } catch {
    return "UTC";
  }
}

function wallClock(zone: string): Intl.DateTimeFormat {
  let format = formats.get(zone);
  if (!format) {
    format = new Intl.DateTimeFormat("en-US", {
      timeZone: zone,
      hourCycle: "h23",
      year: "numeric",
      month: "numeric",
      day: "numeric",
      hour: "numeric",
      minute: "numeric",
      second: "numeric",
    });
    formats.set(zone, format);
  }
  return format;
}

/** What the site's clock shows at an instant, as if it were UTC, in ms. */
export function siteClock(instant: number, zone: string): number {
  const parts: Record<string, number> = {};
  for (const { type, value } of wallClock(zone).formatToParts(instant)) parts[type] = Number(value);
  const { year = 0, month = 1, day = 1, hour = 0, minute = 0, second = 0 } = parts;
  return Date.UTC(year, month - 1, day, hour, minute, second);
}

export const offsetOf = (instant: number, zone: string): number =>
  siteClock(instant, zone) - Math.floor(instant / 1000) * 1000;

export const dayText = (clock: number): string => new Date(clock).toISOString().slice(0, 10);

/** The site's date at an instant. */
export const dayOf = (instant: number, zone: string): string => dayText(siteClock(instant, zone));

/** The instant at which a day of the site begins; where the clock skips midnight, the first one after it. */
export function startOfDay(day: string, zone: string): Date {
  const midnight = Date.parse(`${day}T00:00:00Z`);
  const candidates = [midnight - DAY_MS, midnight + DAY_MS].map((near) => midnight - offsetOf(near, zone));
  const fitting = candidates.filter((instant) => dayOf(instant, zone) === day && siteClock(instant, zone) === midnight);
  if (fitting.length > 0) return new Date(Math.min(...fitting));
  return firstInstantOf(day, zone, Math.min(...candidates) - DAY_MS / 12);
}

function firstInstantOf(day: string, zone: string, from: number): Date {
  let [before, after] = [from, from + DAY_MS];
  while (after - before > 1000) {
    const middle = (before + after) / 2;
    if (dayOf(middle, zone) < day) before = middle;
    else after = middle;
  }
  return new Date(Math.round(after / 60_000) * 60_000);
}

export function addDays(day: string, days: number): string {
  return dayText(Date.parse(`${day}T00:00:00Z`) + days * DAY_MS);
}

export function addMonths(day: string, months: number): string {
  const [year = 1970, month = 1] = day.split("-").map(Number);
  return dayText(Date.UTC(year, month - 1 + months, 1));
}

/** First day of the frame that holds a day. */
export function frameStart(frame: Frame, day: string): string {
  if (frame === "month") return `${day.slice(0, 7)}-01`;
  if (frame === "year") return `${day.slice(0, 4)}-01-01`;
  return day;
}

/** The same frame, one earlier (-1) or later (+1). */
export function step(frame: Frame, day: string, by: number): string {
  if (frame === "day") return addDays(day, by);
  if (frame === "month") return addMonths(day, by);
  return addMonths(frameStart("year", day), 12 * by);
}

/** The span of a day, month or year of the site. */
export function spanOf(frame: Exclude<Frame, "all">, day: string, zone: string): [Date, Date] {
  const first = frameStart(frame, day);
  return [startOfDay(first, zone), startOfDay(step(frame, first, 1), zone)];
}

/** Names every date in the site's words: `2026-06-15T10:00:00+02:00`. */
export function isoAt(instant: number, zone: string): string {
  const offset = Math.round(offsetOf(instant, zone) / 60_000);
  const size = Math.abs(offset);
  const two = (value: number) => String(value).padStart(2, "0");
  const zoneText = `${offset < 0 ? "-" : "+"}${two(Math.floor(size / 60))}:${two(size % 60)}`;
  return new Date(siteClock(instant, zone)).toISOString().slice(0, 19) + zoneText;
}
