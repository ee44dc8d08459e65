// Numbers, ages and dates for people.

import type { Frame, Value } from "./api/types.ts";
import { texts } from "./texts.ts";

const numbers = new Map<number, Intl.NumberFormat>();

export function number(value: number, digits = 0): string {
  let format = numbers.get(digits);
  if (!format) {
    format = new Intl.NumberFormat(texts.locale, { minimumFractionDigits: digits, maximumFractionDigits: digits });
    numbers.set(digits, format);
  }
  return format.format(value === 0 ? 0 : value).replace("-", "−");
}

export const quantity = (value: Value, unit: string, digits = 1): string =>
  value === null || value === undefined ? texts.unknown : `${number(value, digits)} ${unit}`;

/** The size of a power: 850 W, 3.21 kW, 12.4 kW. */
export function power(watts: Value): string {
  if (watts === null || watts === undefined) return texts.unknown;
  const size = Math.abs(watts);
  if (size < 1000) return `${number(size)} W`;
  return `${number(size / 1000, size < 9_995 ? 2 : 1)} kW`;
}

export const signedPower = (watts: Value): string => `${(watts ?? 0) < 0 ? "−" : ""}${power(watts)}`;

/** An energy: 0.8 kWh, 214 kWh, 3.42 MWh. */
export function energy(kwh: Value): string {
  if (kwh === null || kwh === undefined) return texts.unknown;
  if (Math.abs(kwh) >= 10_000) return `${number(kwh / 1000, 2)} MWh`;
  return `${number(kwh, Math.abs(kwh) < 1_000 ? 1 : 0)} kWh`;
}

export const percent = (value: Value, digits = 0): string =>
  value === null || value === undefined ? texts.unknown : `${number(value, digits)} %`;

export function ago(seconds: number): string {
  if (seconds < 2) return texts.ago.now;
  if (seconds < 90) return texts.ago.seconds(Math.round(seconds));
  if (seconds < 5_400) return texts.ago.minutes(Math.round(seconds / 60));
  if (seconds < 172_800) return texts.ago.hours(Math.round(seconds / 3600));
  return texts.ago.days(Math.round(seconds / 86_400));
}

export const hours = (value: number): string =>
  value < 1 ? `${number(Math.max(5, Math.round(value * 12) * 5))} min` : `${number(value, value < 5 ? 1 : 0)} h`;

const dates = new Map<string, Intl.DateTimeFormat>();

function date(instant: number | Date, zone: string, options: Intl.DateTimeFormatOptions): string {
  const key = zone + JSON.stringify(options);
  let format = dates.get(key);
  if (!format) {
    format = new Intl.DateTimeFormat(texts.locale, { timeZone: zone, hourCycle: "h23", ...options });
    dates.set(key, format);
  }
  return format.format(instant);
}

export const timeOfDay = (instant: number | Date, zone: string, seconds = false): string =>
  date(instant, zone, { hour: "2-digit", minute: "2-digit", ...(seconds ? { second: "2-digit" } : {}) });

export const moment = (text: string, zone: string): string =>
  date(Date.parse(text), zone, { day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit" });

/** A day of the site, written 2026-01-31, in words. */
export function dayName(day: string, style: "long" | "short" | "month" | "monthShort" | "dayOfMonth" | "weekday" = "long"): string {
  const options: Record<string, Intl.DateTimeFormatOptions> = {
    long: { weekday: "long", day: "numeric", month: "long", year: "numeric" },
    short: { day: "numeric", month: "short" },
    month: { month: "long", year: "numeric" },
    monthShort: { month: "short" },
    dayOfMonth: { day: "numeric" },
    weekday: { weekday: "short", day: "numeric", month: "short" },
  };
  return date(Date.parse(`${day}T12:00:00Z`), "UTC", options[style] ?? {});
}

export function frameName(frame: Frame, day: string): string {
  if (frame === "day") return dayName(day);
  if (frame === "month") return dayName(day, "month");
  return frame === "year" ? day.slice(0, 4) : texts.history.allTime;
}
