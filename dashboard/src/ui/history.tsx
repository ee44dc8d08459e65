// The past: curves of a day, bars of months and years, step by step, and as files.

import type { ComponentChildren } from "preact";
import { useMemo, useRef, useState } from "preact/hooks";
import type { Client } from "../api/client.ts";
import type { Bucket, Frame } from "../api/types.ts";
import { ChartPanel, type Picture } from "../chart/panel.tsx";
import {
  batteryBars,
  batteryPicture,
  energyPicture,
  pointsOf,
  powerPicture,
  rawPoints,
  slotsOf,
  trackerPicture,
  trackerPoints,
  type Place,
  type Points,
} from "../chart/pictures.ts";
import { frameName, percent } from "../format.ts";
import type { Live } from "../live.ts";
import { totals } from "../model/energy.ts";
import { combine } from "../model/plant.ts";
import { dayOf, knownZone, spanOf, step } from "../model/time.ts";
import type { Route, View } from "../route.ts";
import { texts } from "../texts.ts";
import { askCurve, useAnswer, type System } from "./hooks.ts";
import { BatteryTiles, EnergyTiles, POWER_FIELDS, Shares } from "./now.tsx";
import { Answer, Choice, Icon } from "./parts.tsx";

const t = texts.history;
const TRACKER_STEP_S = 300;
const TRACKER_FIELDS = ["mppt_voltage_v", "mppt_current_a", "interval_s"];
const FINE_S = 4 * 3600;
const AGAIN_MS = 60_000;
const BATTERY_FIELDS = ["battery_power_w", "battery_soc_pct", "battery_temp_c"];

type Row = Record<string, string>;

interface HistoryProps {
  live: Live;
  system: System;
  route: Route;
  go: (change: Partial<Route>) => void;
}

export function History({ live, system, route, go }: HistoryProps) {
  const zone = knownZone(system.devices[0]?.timezone);
  const today = dayOf(live.clock.now(), zone);
  const day = route.at && route.at <= today ? route.at : today;
  const place: Place = { name: system.name, frame: route.frame, day, zone };
  return (
    <section class="card history" aria-labelledby="span">
      <header>
        <Choice label={t.framesLabel} names={t.frames} chosen={route.frame} choose={(frame) => go({ frame, at: day })} />
        <Choice label={t.viewsLabel} names={t.views} chosen={route.view} choose={(view) => go({ view, at: day })} />
      </header>
      <Steps place={place} today={today} go={go} />
      <Body live={live} system={system} place={place} view={route.view} today={today} go={go} />
    </section>
  );
}

interface StepsProps {
  place: Place;
  today: string;
  go: HistoryProps["go"];
}

function Steps({ place, today, go }: StepsProps) {
  if (place.frame !== "all") return <DatedSteps place={place} today={today} go={go} />;
  return (
    <div class="steps">
      <h2 id="span">{frameName("all", place.day)}</h2>
    </div>
  );
}

function DatedSteps({ place: { frame, day }, today, go }: StepsProps) {
  const next = step(frame, day, 1);
  const choose = (value: string) => {
    if (/^\d{4}-\d\d-\d\d$/.test(value) && value >= "1990-01-01") go({ at: value < today ? value : today });
  };
  return (
    <div class="steps">
      <button type="button" aria-label={t.earlier} onClick={() => go({ at: step(frame, day, -1) })}>
        <Icon name="left" />
      </button>
      <h2 id="span" aria-live="polite">
        {frameName(frame, day)}
      </h2>
      <button type="button" data-step="later" aria-label={t.later} disabled={next > today} onClick={() => go({ at: next })}>
        <Icon name="right" />
      </button>
      <label>
        <span class="unseen">{t.date}</span>
        <input type="date" value={day} max={today} min="1990-01-01" onChange={(event) => choose(event.currentTarget.value)} />
      </label>
      <button type="button" disabled={day === today} onClick={() => go({ at: "" })}>
        {t.today}
      </button>
    </div>
  );
}

interface BodyProps {
  live: Live;
  system: System;
  place: Place;
  view: View;
  today: string;
  go: HistoryProps["go"];
}

function Body(props: BodyProps) {
  const { system, place, view, go } = props;
  if (view === "trackers") {
    if (system.isPlant) return <p class="empty">{t.onlyOneDevice}</p>;
    if (place.frame !== "day") {
      return (
        <div class="empty">
          <p>{t.trackersByDay}</p>
          <button type="button" onClick={() => go({ frame: "day", at: place.day })}>
            {t.chooseDay}
          </button>
        </div>
      );
    }
    return <Trackers {...props} />;
  }
  return place.frame === "day" ? <Day {...props} /> : <Bars {...props} />;
}

/** Names a question. */
const keyOf = ({ system, place, view, today }: BodyProps): string =>
  `${system.key} ${place.frame} ${place.day} ${place.zone} ${view} ${today}`;

const againOf = ({ place, today }: BodyProps): number | null =>
  place.frame === "all" || step(place.frame, place.day, 1) > today ? AGAIN_MS : null;

const framesOf = (client: Client, system: System, { frame, day }: Place) =>
  Promise.all(system.devices.map((device) => client.frame(device.device_id, frame, day))).then(combine);

function Day(props: BodyProps) {
  const { live, system, place, view } = props;
  const [span, setSpan] = useState<readonly [number, number] | null>(null);
  const fields = view === "battery" ? BATTERY_FIELDS : POWER_FIELDS;
  const coarse = useAnswer(`${keyOf(props)} coarse`, () => askDay(live, system, place, fields), againOf(props), live.revision);
  const fine = useFine(props, span, fields);
  return (
    <Answer of={coarse}>
      {(found) => (
        <DayPicture place={place} view={view} points={fine ?? found.points} onRange={setSpan}>
          <Totals buckets={found.buckets} frame="day" place={place} view={view} />
        </DayPicture>
      )}
    </Answer>
  );
}

async function askDay(live: Live, system: System, place: Place, fields: readonly string[]) {
  const [frame, curve] = await Promise.all([framesOf(live.client, system, place), askCurve(live, system.devices, place, fields)]);
  return { buckets: frame?.series ?? [], points: pointsOf(curve, fields) };
}

/** Each reading as it was sent, once one has zoomed in far enough; the rest of the day stays as it is. */
function useFine(props: BodyProps, span: readonly [number, number] | null, fields: readonly string[]): Points | null {
  const { live, system } = props;
  const [device] = system.devices;
  const isWanted = span !== null && span[1] - span[0] <= FINE_S && !system.isPlant && device !== undefined;
  const key = isWanted ? `${keyOf(props)} ${span.join()}` : "";
  const answer = useAnswer(key, async () => {
    if (!isWanted) return null;
    const [from, to] = [new Date(span[0] * 1000), new Date(span[1] * 1000)];
    const rows = await live.client.raw(device.device_id, from, to, [...fields, "interval_s"]);
    return rawPoints(rows, fields, device.poll_interval_s);
  });
  return isWanted && answer.value && answer.value.x.length > 0 ? answer.value : null;
}

interface DayPictureProps {
  place: Place;
  view: View;
  points: Points;
  onRange: (range: readonly [number, number] | null) => void;
  children: ComponentChildren;
}

function DayPicture({ place, view, points, onRange, children }: DayPictureProps) {
  const picture = useMemo(
    () => (view === "battery" ? batteryPicture(place, points) : powerPicture(place, points)),
    [points, view, place.name, place.day, place.zone],
  );
  return (
    <Drawn picture={picture} empty={view === "battery" ? t.noBattery : t.empty} onRange={onRange}>
      {children}
    </Drawn>
  );
}

interface DrawnProps {
  picture: Picture;
  empty: string;
  onRange?: DayPictureProps["onRange"];
  onOpen?: (index: number) => void;
  children?: ComponentChildren;
}

function Drawn({ picture, empty, onRange, onOpen, children }: DrawnProps) {
  if (picture.lines.length === 0) {
    return (
      <>
        <p class="empty">{empty}</p>
        {children}
      </>
    );
  }
  return (
    <ChartPanel picture={picture} {...(onRange ? { onRange } : {})} {...(onOpen ? { onOpen } : {})}>
      {children}
    </ChartPanel>
  );
}

function Bars(props: BodyProps) {
  const { live, system, place, view, go } = props;
  const answer = useAnswer(`${keyOf(props)} bars`, () => framesOf(live.client, system, place), againOf(props), live.revision);
  return (
    <Answer of={answer}>
      {(found) => <BarsPicture place={place} view={view} buckets={found?.series ?? []} go={go} today={props.today} />}
    </Answer>
  );
}

interface BarsPictureProps {
  place: Place;
  view: View;
  buckets: readonly Bucket[];
  today: string;
  go: HistoryProps["go"];
}

function BarsPicture({ place, view, buckets, today, go }: BarsPictureProps) {
  const picture = useMemo(
    () => (view === "battery" ? batteryBars(place, buckets) : energyPicture(place, buckets)),
    [buckets, view, place.name, place.frame, place.day],
  );
  const open = (index: number) => {
    const at = slotsOf(place, buckets)[index]?.day;
    if (at && at <= today) go({ frame: place.frame === "month" ? "day" : "month", at });
  };
  return (
    <Drawn picture={picture} empty={view === "battery" ? t.noBattery : t.empty} onOpen={open}>
      <Totals buckets={buckets} frame={place.frame} place={place} view={view} />
    </Drawn>
  );
}

function Totals({ buckets, frame, place, view }: { buckets: readonly Bucket[]; frame: Frame; place: Place; view: View }) {
  const sums = totals(buckets);
  return (
    <>
      <dl class="tiles" data-part="totals">
        {view === "battery" ? <BatteryTiles sums={sums} /> : <EnergyTiles sums={sums} />}
      </dl>
      {view === "battery" ? null : <Shares sums={sums} />}
      <Coverage buckets={buckets} frame={frame} place={place} />
    </>
  );
}

/** How much of the span is known at all: three days of a year must not pass for the year. */
function Coverage({ buckets, frame, place }: { buckets: readonly Bucket[]; frame: Frame; place: Place }) {
  const known = buckets.filter((b) => b.sample_count > 0);
  if (known.length === 0) return null;
  const weights = buckets.map((b, index) => lengthOf(b, buckets[index + 1], frame, place.zone));
  const whole = weights.reduce((sum, weight) => sum + weight, 0);
  const covered = buckets.reduce((sum, b, index) => sum + b.coverage * (weights[index] ?? 0), 0);
  const share = whole > 0 ? (100 * covered) / whole : 0;
  if (share >= 99) return null;
  return (
    <p class="hint" data-part="coverage">
      {frame === "month" ? `${t.sparse(known.length, buckets.length)} ` : ""}
      {t.covered(percent(share, share < 10 ? 1 : 0))}
    </p>
  );
}

function lengthOf(bucket: Bucket, next: Bucket | undefined, frame: Frame, zone: string): number {
  const start = Date.parse(bucket.bucket);
  if (next) return Date.parse(next.bucket) - start;
  if (bucket.partial) return Math.max(0, Date.now() - start);
  if (frame === "day") return 3_600_000;
  const day = bucket.bucket.slice(0, 10);
  const [from, to] = frame === "month" ? spanOf("day", day, zone) : spanOf("month", day, zone);
  return to.getTime() - from.getTime();
}

function Trackers(props: BodyProps) {
  const { live, system, place } = props;
  const [from, to] = spanOf("day", place.day, place.zone);
  const key = `${keyOf(props)} trackers`;
  const kept = useRef<{ of: string; rows: Row[] }>({ of: "", rows: [] });
  const answer = useAnswer(key, async () => {
    const [device] = system.devices;
    if (!device) return [];
    const of = `${key} ${live.revision}`;
    const known = kept.current.of === of ? kept.current.rows : [];
    const last = known.at(-1)?.["bucket"];
    const begin = last === undefined ? from : new Date(Date.parse(last) + 1); // a day that goes on: what came since
    const rows = [...known, ...(await live.client.raw(device.device_id, begin, to, TRACKER_FIELDS))];
    kept.current = { of, rows };
    return rows;
  }, againOf(props), live.revision);
  return (
    <Answer of={answer}>
      {(rows) => {
        const points = trackerPoints(rows, TRACKER_STEP_S);
        const empty = rows.length > 0 ? t.noTrackers : to.getTime() <= live.rawSince ? t.noRaw : t.empty;
        return <Drawn picture={trackerPicture(place, points)} empty={empty} />;
      }}
    </Answer>
  );
}
