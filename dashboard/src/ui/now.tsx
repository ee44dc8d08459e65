// What happens at this moment, and what today brought.

import { useMemo } from "preact/hooks";
import { ChartPanel } from "../chart/panel.tsx";
import { pointsOf, powerPicture } from "../chart/pictures.ts";
import type { Client } from "../api/client.ts";
import type { Device, EdgeStatus, Realtime } from "../api/types.ts";
import { ago, energy, hours, percent, power } from "../format.ts";
import type { Live } from "../live.ts";
import { totals } from "../model/energy.ts";
import { contactOf } from "../model/edge.ts";
import { flowOf, hoursToFull, moodOf, QUIET_W } from "../model/flow.ts";
import { combine } from "../model/plant.ts";
import { stateOf, type State } from "../model/state.ts";
import { dayOf, knownZone } from "../model/time.ts";
import { printRoute, type Route } from "../route.ts";
import { texts } from "../texts.ts";
import { FlowPicture } from "./flow.tsx";
import { askCurve, useAnswer, type System } from "./hooks.ts";
import { Answer, Ring } from "./parts.tsx";

const t = texts.now;
const AGAIN_MS = 60_000;
export const POWER_FIELDS = ["pv_power_w", "load_power_w", "battery_power_w", "export_power_w", "active_power_w", "battery_soc_pct"];

interface NowProps {
  live: Live;
  system: System;
  route: Route;
}

interface Shown {
  device: Device;
  reading: Realtime | null;
  age_s: number;
  state: State;
}

function shownOf(live: Live, device: Device): Shown {
  const reading = live.readings.get(device.device_id) ?? null;
  const age_s = reading ? live.clock.age_s(reading.ts) : 0;
  return { device, reading, age_s, state: stateOf(device, reading, age_s, live.isReached) };
}

export function Now({ live, system, route }: NowProps) {
  const shown = system.devices.map((device) => shownOf(live, device));
  const freshest = shown.reduce((best, one) => (rank(one) < rank(best) ? one : best));
  if (!live.isLoaded || live.readings.get(freshest.device.device_id) === undefined) {
    return <p class="hint waiting">{live.isReached ? texts.loading : texts.notReached}</p>;
  }
  return (
    <div class="now">
      <Moment live={live} system={system} shown={shown} freshest={freshest} />
      <Today live={live} system={system} route={route} />
      {system.isPlant ? <Members live={live} shown={shown} system={system} /> : null}
    </div>
  );
}

/** A desk sees it without scrolling, and on a wall there is no idle space. */
const chartHeight = (hasShares: boolean): number => {
  const isWall = innerWidth >= 1600 && innerHeight >= 900; // as in the style sheet
  const share = (isWall ? 0.42 : 0.3) + (hasShares ? 0 : 0.14); // without them there is that much more room
  return Math.max(220, Math.round(innerHeight * share));
};

const rank = (one: Shown): number => (one.reading ? one.age_s : Number.MAX_VALUE);

interface MomentProps {
  live: Live;
  system: System;
  shown: Shown[];
  freshest: Shown;
}

function Moment({ live, system, freshest }: MomentProps) {
  const plant = live.plants.find((one) => system.isPlant && one.plant === system.name);
  const { reading, state, age_s, device } = freshest;
  const values = plant ? plant.totals : reading;
  const soc = system.isPlant ? undefined : reading?.battery_soc_pct;
  const flow = flowOf({ ...values, ...(soc === undefined ? {} : { battery_soc_pct: soc }) });
  const mood = moodOf(flow);
  const toFull = !system.isPlant && reading && state === "live" ? hoursToFull(reading) : null;
  const isNight = state === "asleep" || (flow.sun !== null && flow.sun <= QUIET_W);
  return (
    <section class="card moment" data-state={state} aria-labelledby="moment">
      <header>
        <h2 id="moment">{t.heading}</h2>
        <StateMark state={state} age_s={age_s} />
      </header>
      {reading ? (
        <>
          <p class="mood" aria-live="polite">
            {state === "live" || state === "empty" ? t.moods[mood] : t.old[state]}
          </p>
          <FlowPicture flow={flow} isNight={isNight} />
          {toFull === null ? null : <p class="hint centre">{t.fullIn(hours(toFull))}</p>}
        </>
      ) : null}
      {state === "stale" ? <Cause client={live.client} live={live} device={device} /> : null}
      {state === "empty" ? <p class="empty">{texts.stateText.empty()}</p> : null}
    </section>
  );
}

export function StateMark({ state, age_s }: { state: State; age_s: number }) {
  return (
    <p class="state" data-state={state}>
      <i class="dot" />
      <strong>{texts.states[state]}</strong> <span>{state === "empty" ? "" : texts.stateText[state](ago(age_s))}</span>
    </p>
  );
}

/** Why nothing comes, as far as the edge tells. */
function Cause({ client, live, device }: { client: Client; live: Live; device: Device }) {
  const edges = useAnswer(`edges ${device.device_id}`, () => client.edges(device.device_id), AGAIN_MS / 2);
  const edge = edges.value?.[0];
  return edge ? <p class="hint centre">{causeOf(edge, live)}</p> : null;
}

function causeOf(edge: EdgeStatus, live: Live): string | null {
  const age_s = live.clock.age_s(edge.reported_at);
  if (age_s > 300) return texts.causes.edgeGone(ago(age_s));
  const contact = contactOf(edge);
  if (contact === "asleep") return texts.causes.edgeWaits;
  if (contact === "silent") return texts.causes.edgeSilent;
  return edge.backlog ? texts.causes.edgeBacklog(edge.backlog) : null;
}

function Today({ live, system, route }: NowProps) {
  const zone = knownZone(system.devices[0]?.timezone);
  const day = dayOf(live.clock.now(), zone);
  const answer = useAnswer(
    `today ${system.key} ${day} ${zone}`,
    () => askToday(live, system, day, zone),
    AGAIN_MS,
    live.revision,
  );
  return (
    <section class="card today" aria-labelledby="today">
      <header>
        <h2 id="today">{t.today}</h2>
        <a href={printRoute({ ...route, page: "history", frame: "day", at: "" })}>{t.toHistory}</a>
      </header>
      <Answer of={answer}>{(found) => <TodayFigures found={found} name={system.name} day={day} zone={zone} />}</Answer>
    </section>
  );
}

async function askToday(live: Live, system: System, day: string, zone: string) {
  const [frames, curve] = await Promise.all([
    Promise.all(system.devices.map((device) => live.client.frame(device.device_id, "day", day))),
    askCurve(live, system.devices, { day, zone }, POWER_FIELDS),
  ]);
  return { frame: combine(frames), curve };
}

type TodayAnswer = Awaited<ReturnType<typeof askToday>>;

function TodayFigures({ found, name, day, zone }: { found: TodayAnswer; name: string; day: string; zone: string }) {
  const sums = totals(found.frame?.series ?? []);
  const height = chartHeight(sums.self_consumption_pct !== null || sums.autarky_pct !== null);
  const picture = useMemo(
    () => powerPicture({ name, frame: "day", day, zone }, pointsOf(found.curve, POWER_FIELDS)),
    [found, name, day, zone],
  );
  return (
    <>
      <dl class="tiles">
        <EnergyTiles sums={sums} />
      </dl>
      <Shares sums={sums} />
      {picture.lines.length > 0 ? <ChartPanel picture={picture} height={height} isPlain /> : <p class="empty">{texts.history.empty}</p>}
    </>
  );
}

export function Shares({ sums }: { sums: ReturnType<typeof totals> }) {
  const { self_consumption_pct: own, autarky_pct: autarky } = sums;
  if (own === null && autarky === null) return null;
  return (
    <dl class="rings">
      <Ring value={own} text={percent(own)} title={t.selfConsumption} hint={t.selfConsumptionHint} colour="sun" />
      <Ring value={autarky} text={percent(autarky)} title={t.autarky} hint={t.autarkyHint} colour="battery" />
    </dl>
  );
}

export function EnergyTiles({ sums }: { sums: ReturnType<typeof totals> }) {
  return (
    <>
      <Tile title={t.produced} value={sums.pv_kwh} colour="sun" />
      <Tile title={t.used} value={sums.load_kwh} colour="house" />
      <Tile title={t.bought} value={sums.import_kwh} colour="bought" />
      <Tile title={t.sold} value={sums.export_kwh} colour="grid" />
      <BatteryTiles sums={sums} />
    </>
  );
}

export function BatteryTiles({ sums }: { sums: ReturnType<typeof totals> }) {
  return (
    <>
      <Tile title={t.charged} value={sums.charge_kwh} colour="battery" />
      <Tile title={t.discharged} value={sums.discharge_kwh} colour="soc" />
    </>
  );
}

function Tile({ title, value, colour }: { title: string; value: number | null; colour: string }) {
  if (value === null) return null;
  return (
    <div class="tile" data-colour={colour}>
      <dt>{title}</dt>
      <dd>{energy(value)}</dd>
    </div>
  );
}

function Members({ live, shown, system }: { live: Live; shown: Shown[]; system: System }) {
  const left = live.plants.find((plant) => plant.plant === system.name)?.left_out ?? [];
  return (
    <section class="card members" aria-labelledby="members">
      <h2 id="members">{t.devices}</h2>
      <ul>
        {shown.map(({ device, reading, state, age_s }) => (
          <li key={device.device_id}>
            <a href={printRoute({ page: "now", of: `device:${device.device_id}`, frame: "day", at: "", view: "energy" })}>
              {device.name || device.device_id}
            </a>
            <span class="hint">{device.model}</span>
            <strong>{power(reading?.pv_power_w)}</strong>
            <StateMark state={state} age_s={age_s} />
            {left.includes(device.device_id) ? <span class="hint">{t.leftOut}</span> : null}
          </li>
        ))}
      </ul>
    </section>
  );
}
