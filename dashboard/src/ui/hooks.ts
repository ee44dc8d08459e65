import { useEffect, useReducer, useRef, useState } from "preact/hooks";
import { Declined, Refused, type Client } from "../api/client.ts";
import type { Device, Series } from "../api/types.ts";
import type { Live } from "../live.ts";
import { finest, type Piece } from "../model/curve.ts";
import { spanOf } from "../model/time.ts";
import { parseRoute, printRoute, type Route } from "../route.ts";
import { texts } from "../texts.ts";

const TICK_MS = 1_000;
const AGAIN_MS = 5_000;
const QUARTER_MS = 900_000;

/** Draw again whenever something arrives, and every second for the ages. */
export function useLive(live: Live): void {
  const [, redraw] = useReducer((count: number) => count + 1, 0);
  useEffect(() => {
    const forget = live.subscribe(() => redraw(undefined));
    const timer = setInterval(() => redraw(undefined), TICK_MS);
    return () => {
      forget();
      clearInterval(timer);
    };
  }, [live]);
}

export function useRoute(): [Route, (change: Partial<Route>) => void] {
  const [route, setRoute] = useState(() => parseRoute(location.hash));
  useEffect(() => {
    const update = () => setRoute(parseRoute(location.hash));
    window.addEventListener("hashchange", update);
    return () => window.removeEventListener("hashchange", update);
  }, []);
  return [route, (change) => (location.hash = printRoute({ ...route, ...change }))];
}

export interface Loaded<T> {
  /** The last answer to this very question, also while a newer one is awaited or cannot be had. */
  value: T | null;
  /** Why there is none, in words; null while all is well. */
  problem: string | null;
}

/**
 * Ask, and ask again when the question changes, after a failure, every `again_ms`, and with each new `revision`.
 * The answer to another question is never shown: last month's sums are not this month's.
 */
export function useAnswer<T>(key: string, ask: () => Promise<T>, again_ms: number | null = null, revision = 0): Loaded<T> {
  const [state, setState] = useState<{ key: string; value: T | null; problem: string | null }>({ key: "", value: null, problem: null });
  const latest = useRef(ask);
  latest.current = ask;
  useEffect(() => {
    let isOver = false;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const run = async () => {
      let pause = again_ms;
      try {
        const value = await latest.current();
        if (!isOver) setState({ key, value, problem: null });
      } catch (error) {
        if (isOver || error instanceof Refused) return; // the live part signs out
        const declined = error instanceof Declined;
        if (!declined) pause = AGAIN_MS;
        const problem = declined ? texts.failed(error.message) : texts.notReached;
        setState((before) => ({ key, value: before.key === key ? before.value : null, problem }));
      }
      if (!isOver && pause !== null) timer = setTimeout(() => void run(), pause);
    };
    void run();
    return () => {
      isOver = true;
      clearTimeout(timer);
    };
  }, [key, revision]);
  return state.key === key ? { value: state.value, problem: state.problem } : { value: null, problem: null };
}

/** The curve of a day, as fine as the server still knows it. */
export async function askCurve(
  { client, rawSince }: Live,
  devices: readonly Device[],
  { day, zone }: { day: string; zone: string },
  fields: readonly string[],
): Promise<Piece[]> {
  const [from, to] = spanOf("day", day, zone);
  const asked = fields.map((field) => `avg_${field}`);
  const quarters = Promise.all(devices.map((device) => client.range(device.device_id, from, to, "15m", asked)));
  const fives = Promise.all(devices.map((device) => askFives(client, device, [Math.max(from.getTime(), rawSince), to.getTime()], asked)));
  return finest(...(await Promise.all([fives, quarters])));
}

/** Buckets of five minutes; null for a day whose raw readings are not kept any more. */
async function askFives(client: Client, device: Device, [kept, to]: [number, number], asked: readonly string[]): Promise<Series | null> {
  const from = Math.ceil(kept / QUARTER_MS) * QUARTER_MS;
  if (!device.first_ts || Date.parse(device.first_ts) >= to || from >= to) return null;
  try {
    return await client.range(device.device_id, new Date(from), new Date(to), "5m", asked);
  } catch (error) {
    if (error instanceof Declined) return null; // the horizon has moved meanwhile
    throw error;
  }
}

/** What is looked at: one device, or the devices of a plant together. */
export interface System {
  key: string;
  name: string;
  devices: Device[];
  isPlant: boolean;
}

/** Every plant of several devices, then every device. */
export function systemsOf(devices: readonly Device[]): System[] {
  const plants = new Map<string, Device[]>();
  for (const device of devices) {
    if (device.plant) plants.set(device.plant, [...(plants.get(device.plant) ?? []), device]);
  }
  return [
    ...[...plants].filter(([, members]) => members.length > 1).map(([name, members]) => ({ key: `plant:${name}`, name, devices: members, isPlant: true })),
    ...devices.map((device) => ({ key: `device:${device.device_id}`, name: device.name || device.device_id, devices: [device], isPlant: false })),
  ];
}
