import assert from "node:assert/strict";
import { test } from "node:test";
import type { Bucket, Device, Realtime, Series } from "../src/api/types.ts";
import { EventParser } from "../src/api/stream.ts";
import { pointsOf, rawPoints, slotsOf, trackerPoints } from "../src/chart/pictures.ts";
import { padded } from "../src/chart/scale.ts";
import { parseCsv, toCsv } from "../src/model/csv.ts";
import { finest } from "../src/model/curve.ts";
import { contactOf } from "../src/model/edge.ts";
import { split, totals } from "../src/model/energy.ts";
import { hoursToFull, moodOf } from "../src/model/flow.ts";
import { combine } from "../src/model/plant.ts";
import { merge, stateOf } from "../src/model/state.ts";
import { parseRoute, printRoute } from "../src/route.ts";

const bucket = (values: Partial<Bucket>): Bucket => ({
  bucket: "2026-06-15T00:00:00+02:00",
  sample_count: 1,
  coverage: 1,
  partial: false,
  ...values,
});

test("the sun's energy is used, stored or sold, and nothing of it is counted twice", () => {
  const found = split(bucket({ pv_kwh: 10, export_kwh: 3, charge_kwh: 4, import_kwh: 1 }));
  assert.deepEqual(found, { used: 3, stored: 4, sold: 3, bought: 1, unsplit: null });
  const fromGrid = split(bucket({ pv_kwh: 2, export_kwh: 0, charge_kwh: 5 })); // charged from the grid, too
  assert.deepEqual([fromGrid.used, fromGrid.stored], [0, 2]);
});

test("unknown is never zero", () => {
  const noMeter = split(bucket({ pv_kwh: 10 }));
  assert.deepEqual(noMeter, { used: null, stored: null, sold: null, bought: null, unsplit: 10 });
  const sums = totals([bucket({ pv_kwh: 1 }), bucket({ pv_kwh: null })]);
  assert.equal(sums.pv_kwh, 1);
  assert.equal(sums.load_kwh, null);
  assert.equal(sums.self_consumption_pct, null);
});

test("shares count only where both energies are known", () => {
  const sums = totals([bucket({ pv_kwh: 10, export_kwh: 5 }), bucket({ pv_kwh: 90 })]);
  assert.equal(sums.self_consumption_pct, 50);
});

const series = (buckets: Bucket[]): Series => ({ device_id: "x", timezone: "UTC", series: buckets });

test("in a plant the meter counts once, and the house uses what came in less what went out", () => {
  const all = combine([
    series([bucket({ pv_kwh: 10, export_kwh: 12, import_kwh: 1, charge_kwh: 2, discharge_kwh: 1, load_kwh: -4 })]),
    series([bucket({ pv_kwh: 8, export_kwh: 12, import_kwh: 1, coverage: 0.5 })]),
  ]);
  const [found] = all?.series ?? [];
  assert.equal(found?.pv_kwh, 18);
  assert.equal(found?.export_kwh, 12);
  assert.equal(found?.load_kwh, 18 + 1 + 1 - 12 - 2);
  assert.equal(found?.coverage, 0.5);
});

test("a plant without a meter does not invent a consumption", () => {
  const all = combine([series([bucket({ pv_kwh: 10 })]), series([bucket({ pv_kwh: 8 })])]);
  assert.equal(all?.series[0]?.load_kwh, null);
});

const device = { device_id: "d", poll_interval_s: 5, timezone: "Europe/Berlin" } as Device;
const reading = (ts: string, values: object) => ({ device_id: "d", ts, read_at: {}, ...values }) as unknown as Realtime;

test("silence in the evening of an inverter without a battery is sleep, in the day it is stale", () => {
  const evening = reading("2026-06-15T19:40:00.000Z", { pv_power_w: 4 });
  assert.equal(stateOf(device, evening, 3600, true), "asleep");
  assert.equal(stateOf(device, evening, 30 * 3600, true), "stale");
  assert.equal(stateOf(device, reading("2026-06-15T10:00:00.000Z", { pv_power_w: 3000 }), 3600, true), "stale");
  assert.equal(stateOf(device, reading("2026-06-15T19:40:00.000Z", { pv_power_w: 4, battery_soc_pct: 50 }), 3600, true), "stale");
  assert.equal(stateOf(device, evening, 10, true), "live");
  assert.equal(stateOf(device, evening, 10, false), "offline");
  assert.equal(stateOf(device, null, 0, true), "empty");
});

test("a new reading keeps what it did not bring, with the time it was read", () => {
  const before = reading("2026-06-15T10:00:00.000Z", { pv_power_w: 1, inverter_temp_c: 40 });
  const merged = merge(before, { ts: "2026-06-15T10:00:05.000Z", device_id: "d", pv_power_w: 2 } as never);
  assert.equal(merged.pv_power_w, 2);
  assert.equal(merged.inverter_temp_c, 40);
  assert.deepEqual(merged.read_at, { inverter_temp_c: "2026-06-15T10:00:00.000Z" });
});

test("the moment in a word", () => {
  const flow = { sun: 3000, battery: 0, grid: 0, house: 3000, output: null, soc: null };
  assert.equal(moodOf(flow), "sun-alone");
  assert.equal(moodOf({ ...flow, grid: 500 }), "sun-sells");
  assert.equal(moodOf({ ...flow, sun: 0, battery: -400 }), "battery");
  assert.equal(hoursToFull({ battery_power_w: 2000, battery_soc_pct: 50, battery_capacity_kwh: 10 }), 2.5);
  assert.equal(hoursToFull({ battery_power_w: -2000, battery_soc_pct: 50, battery_capacity_kwh: 10 }), null);
});

test("without a meter nobody claims that the sun is enough for the house", () => {
  assert.equal(moodOf({ sun: 3000, battery: null, grid: null, house: null, output: 2900, soc: null }), "sun");
});

test("every word the edge has for its connection is understood", () => {
  const said = (connection: string | null, connection_detail: string | null = null) =>
    contactOf({ edge_id: "box", reported_at: "", connection, connection_detail });
  for (const word of ["disconnected", "connecting", "settling", "idle", "requesting", "ok"]) {
    assert.equal(said(word), "fine", word);
    assert.equal(said(word, "no answer within 3 s"), "silent", word);
  }
  assert.equal(said("backing off"), "silent");
  assert.equal(said("asleep", "no answer within 3 s"), "asleep");
  assert.deepEqual([said(null), said("a word of another edge")], [null, null]);
});

/** Buckets of an hour that begins at midnight; null is one without a reading. */
const hour = (minutes: number, watts: (number | null)[], coverage = 1): Series =>
  series(
    watts.map((avg_pv_power_w, index) => ({
      ...bucket({ sample_count: avg_pv_power_w === null ? 0 : 1, coverage: avg_pv_power_w === null ? 0 : coverage }),
      bucket: new Date(index * minutes * 60_000).toISOString(),
      avg_pv_power_w,
    })),
  );
const curveOf = (pieces: ReturnType<typeof finest>) => {
  const points = pointsOf(pieces, ["pv_power_w"]);
  return points.x.map((at, index) => [at / 60, points.columns["pv_power_w"]?.[index]]);
};

test("a curve is drawn in steps of five minutes, and a gap of five minutes is a gap", () => {
  const found = finest([hour(5, [1, 2, 3, 4, null, 6])], [hour(15, [2, 5], 0.66)]);
  assert.deepEqual(curveOf(found), [[2.5, 1], [7.5, 2], [12.5, 3], [17.5, 4], [22.5, null], [27.5, 6]]);
});

test("readings every quarter of an hour are no gaps, and a day without raw readings is still drawn", () => {
  const rare = finest([hour(5, [null, null, 2, 4, 5, 6])], [hour(15, [2, 5])]);
  assert.deepEqual(curveOf(rare), [[7.5, 2], [17.5, 4], [22.5, 5], [27.5, 6]]);
  assert.deepEqual(curveOf(finest([null], [hour(15, [2, null])])), [[7.5, 2], [22.5, null]]);
});

test("the curve of a plant is as fine as that of its coarsest device", () => {
  const found = finest([hour(5, [1, 1, 1]), hour(5, [null, null, 10])], [hour(15, [1]), hour(15, [10])]);
  assert.deepEqual(curveOf(found), [[7.5, 11]]);
});

test("what is read less often than every five minutes is taken from the quarter", () => {
  const [fives, quarters] = [hour(5, [1, 2, 3]), hour(15, [2])];
  for (const b of quarters.series) Object.assign(b, { avg_battery_temp_c: 21 });
  assert.deepEqual(pointsOf(finest([fives], [quarters]), ["battery_temp_c"]).columns, { battery_temp_c: [21, 21, 21] });
});

test("events of the stream are found wherever the pieces are cut", () => {
  const text = 'retry: 2000\n\n: alive\n\nid: a\nevent: sample\ndata: {"x":1}\n\nevent: gap\ndata: {}\n\n';
  for (let cut = 1; cut < text.length; cut += 1) {
    const parser = new EventParser();
    const events = [...parser.push(text.slice(0, cut)), ...parser.push(text.slice(cut))];
    assert.deepEqual(events, [
      { kind: "sample", data: '{"x":1}', id: "a" },
      { kind: "gap", data: "{}", id: "" },
    ]);
  }
});

test("CSV goes out and comes back, and no cell is taken for a formula", () => {
  const text = toCsv(["a", "b"], [['say "hi", all', null], ["=1+1", -5]]);
  assert.deepEqual(parseCsv(text), [
    { a: 'say "hi", all', b: "" },
    { a: "'=1+1", b: "-5" },
  ]);
});

test("a gap between raw readings is a gap in the curve", () => {
  const at = (s: number) => ({ bucket: new Date(s * 1000).toISOString(), pv_power_w: "7" });
  const points = rawPoints([at(0), at(5), at(100)], ["pv_power_w"], 5);
  assert.deepEqual(points.columns["pv_power_w"], [7, 7, null, 7]);
});

test("a tracker's power is averaged over each step, and unknown currents are left out", () => {
  const row = (s: number, volts: string, amperes: string) => ({
    bucket: new Date(s * 1000).toISOString(),
    mppt_voltage_v: volts,
    mppt_current_a: amperes,
  });
  const points = trackerPoints([row(0, "[100, 200]", "[1, null]"), row(60, "[300, 200]", "[1, 2]"), row(900, "", "")], 300);
  assert.deepEqual(points.columns, { mppt_1_power_w: [200, null, null], mppt_2_power_w: [400, null, null] });
});

test("all time begins with the first month that is known, and has room for a year", () => {
  const place = { name: "", frame: "all" as const, day: "2026-01-15", zone: "UTC" };
  const months = (...starts: string[]) => starts.map((start) => bucket({ bucket: `${start}T00:00:00+01:00` }));
  const young = slotsOf(place, months("2025-11-01", "2025-12-01", "2026-01-01"));
  assert.deepEqual([young.length, young[0]?.day, young[2]?.bucket?.bucket.slice(0, 7)], [12, "2025-11-01", "2026-01"]);
  const old = slotsOf(place, months("2023-04-01", "2026-01-01"));
  assert.deepEqual([old.length, old[0]?.day, old.at(-1)?.day], [34, "2023-04-01", "2026-01-01"]);
  assert.equal(slotsOf(place, []).length, 12);
});

test("before the sun is up the marks of the axis differ, and what is bought alone hangs from zero", () => {
  assert.deepEqual(padded(0, 0, 100), [0, 106]);
  assert.deepEqual(padded(null, null, 100), [0, 106]);
  assert.deepEqual(padded(-1000, 0, 100), [-1060, 0]);
  assert.deepEqual(padded(-500, 500, 100), [-560, 560]);
});

test("addresses lead where they say, and broken ones to the beginning", () => {
  const route = parseRoute("#/history?of=plant%3AHome&frame=month&at=2026-06-01&view=battery");
  assert.deepEqual(parseRoute(printRoute(route)), route);
  assert.deepEqual(parseRoute("#/nonsense?frame=week&at=2026-13-45"), { page: "now", of: "", frame: "day", at: "", view: "energy" });
});

test("readings that stand for minutes are no gaps, and what is missing between them is one", () => {
  const row = (minute: number) => ({
    bucket: new Date(minute * 60_000).toISOString(),
    interval_s: "60",
    pv_power_w: "7",
    mppt_voltage_v: "[400]",
    mppt_current_a: "[2]",
  });
  const raw = rawPoints([row(0), row(1), row(9)], ["pv_power_w"], 5);
  assert.deepEqual(raw.x, [0, 60, 120, 540]);
  assert.deepEqual(raw.columns["pv_power_w"], [7, 7, null, 7]);
  const quarters = [0, 15, 60].map((minute) => ({ ...row(minute), interval_s: "900" }));
  assert.deepEqual(trackerPoints(quarters, 300).columns["mppt_1_power_w"], [800, 800, null, 800]);
});
