import assert from "node:assert/strict";
import { test } from "node:test";
import { addMonths, dayOf, isoAt, knownZone, spanOf, startOfDay, step } from "../src/model/time.ts";

const hours = ([from, to]: [Date, Date]) => (to.getTime() - from.getTime()) / 3_600_000;

test("a day of the site begins at its own midnight", () => {
  assert.equal(startOfDay("2026-06-15", "Europe/Berlin").toISOString(), "2026-06-14T22:00:00.000Z");
  assert.equal(startOfDay("2026-01-15", "America/Los_Angeles").toISOString(), "2026-01-15T08:00:00.000Z");
  assert.equal(startOfDay("2026-01-15", "Asia/Kolkata").toISOString(), "2026-01-14T18:30:00.000Z");
  assert.equal(startOfDay("2026-01-15", "Etc/GMT-14").toISOString(), "2026-01-14T10:00:00.000Z");
});

test("the days on which clocks change have 23 and 25 hours", () => {
  assert.equal(hours(spanOf("day", "2026-03-29", "Europe/Berlin")), 23);
  assert.equal(hours(spanOf("day", "2026-10-25", "Europe/Berlin")), 25);
  assert.equal(hours(spanOf("day", "2026-04-05", "Australia/Lord_Howe")), 24.5);
  assert.equal(hours(spanOf("month", "2026-03-10", "Europe/Berlin")), 31 * 24 - 1);
});

test("where the clock skips midnight, or shows it twice, a day still begins once", () => {
  assert.equal(isoAt(startOfDay("2018-11-04", "America/Sao_Paulo").getTime(), "America/Sao_Paulo"), "2018-11-04T01:00:00-02:00");
  assert.equal(hours(spanOf("day", "2018-11-04", "America/Sao_Paulo")), 23);
  assert.equal(startOfDay("2026-11-01", "America/Havana").toISOString(), "2026-11-01T04:00:00.000Z");
});

test("steps go over the ends of months and years", () => {
  assert.equal(step("day", "2026-02-28", 1), "2026-03-01");
  assert.equal(step("month", "2026-01-31", 1), "2026-02-01");
  assert.equal(step("month", "2026-01-31", -1), "2025-12-01");
  assert.equal(step("year", "2028-02-29", -1), "2027-01-01");
  assert.equal(addMonths("2026-12-05", 1), "2027-01-01");
});

test("dates are the site's, and a zone nobody knows counts as UTC", () => {
  assert.equal(dayOf(Date.parse("2026-06-15T23:30:00Z"), "Europe/Berlin"), "2026-06-16");
  assert.equal(isoAt(Date.parse("2026-06-15T23:30:00Z"), "America/St_Johns"), "2026-06-15T21:00:00-02:30");
  assert.equal(knownZone("Nowhere/Land"), "UTC");
  assert.equal(knownZone(null), "UTC");
});
