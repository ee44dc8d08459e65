// Asks the server's documented API with the token of this browser.

import type {
  CounterBreak,
  DayCompleteness,
  DeviceEvent,
  DeviceList,
  EdgeStatus,
  Frame,
  KeptAside,
  Plant,
  Realtime,
  Series,
} from "./types.ts";
import { parseCsv } from "../model/csv.ts";

/** The token is refused: unknown, expired or revoked (401), or without the right to read (403). */
export class Refused extends Error {
  constructor(readonly status: number) {
    super(`the token is refused (${status})`);
  }
}

/** The server answered that it cannot, and why. */
export class Declined extends Error {
  constructor(
    readonly status: number,
    detail: string,
  ) {
    super(detail);
  }
}

/** The server was not reached, or cannot answer now. */
export class Unreachable extends Error {}

const PATIENCE_MS = 15_000;
const LATER = new Set([429, 500, 502, 503, 504]);

export class Client {
  constructor(readonly token: string) {}

  devices = (): Promise<DeviceList> => this.json("/v1/devices");

  plants = async (): Promise<Plant[]> => (await this.json<{ plants: Plant[] }>("/v1/plants")).plants;

  /** The latest reading; null when there is none yet. */
  async realtime(device: string): Promise<Realtime | null> {
    try {
      return await this.json<Realtime>("/v1/realtime", { device_id: device });
    } catch (error) {
      if (error instanceof Declined && error.status === 404) return null;
      throw error;
    }
  }

  frame = (device: string, frame: Frame, at: string): Promise<Series> =>
    this.json("/v1/series", { device_id: device, frame, ...(frame === "all" ? {} : { at }) });

  range = (device: string, from: Date, to: Date, bucket: string, fields: readonly string[]): Promise<Series> =>
    this.json("/v1/series", { device_id: device, ...span(from, to), bucket, fields: fields.join(",") });

  /** Raw readings of a span, as rows of texts under the names of their columns; CSV is half the size of JSON. */
  async raw(device: string, from: Date, to: Date, fields: readonly string[]): Promise<Record<string, string>[]> {
    const query = { device_id: device, ...span(from, to), bucket: "raw", fields: fields.join(",") };
    return parseCsv(await (await this.ask("/v1/series", query, { Accept: "text/csv" }, 60_000)).text());
  }

  events = (device: string, from: Date, to: Date): Promise<{ events: DeviceEvent[]; counter_breaks: CounterBreak[] | null }> =>
    this.json("/v1/events", { device_id: device, ...span(from, to) });

  completeness = async (device: string, from: Date, to: Date): Promise<DayCompleteness[]> =>
    (await this.json<{ days: DayCompleteness[] }>("/v1/completeness", { device_id: device, ...span(from, to) })).days;

  conflicts = (device: string, before?: number): Promise<{ conflicts: KeptAside[]; next_before: number | null }> =>
    this.json("/v1/conflicts", { device_id: device, limit: "20", ...(before ? { before: String(before) } : {}) });

  edges = async (device: string): Promise<EdgeStatus[]> =>
    (await this.json<{ edges: EdgeStatus[] }>("/v1/edge-status", { device_id: device })).edges;

  /** Open an answer and hand it over as it comes; errors are those of every question. */
  async ask(
    path: string,
    query: Record<string, string> = {},
    headers: Record<string, string> = {},
    patience = PATIENCE_MS,
    signal?: AbortSignal,
  ): Promise<Response> {
    const asked = new URLSearchParams(query).toString();
    const timeout = AbortSignal.timeout(patience);
    let response: Response;
    try {
      response = await fetch(asked ? `${path}?${asked}` : path, {
        headers: { Authorization: `Bearer ${this.token}`, ...headers },
        signal: signal ?? timeout,
      });
    } catch (error) {
      throw new Unreachable(String(error));
    }
    if (response.status === 401 || response.status === 403) throw new Refused(response.status);
    if (LATER.has(response.status)) throw new Unreachable(`the server answered ${response.status}`);
    if (!response.ok) throw new Declined(response.status, await reason(response));
    return response;
  }

  private async json<T>(path: string, query: Record<string, string> = {}): Promise<T> {
    const response = await this.ask(path, query);
    try {
      return (await response.json()) as T;
    } catch (error) {
      throw new Unreachable(String(error)); // cut off in between
    }
  }
}

const span = (from: Date, to: Date) => ({ from: from.toISOString(), to: to.toISOString() });

async function reason(response: Response): Promise<string> {
  try {
    const problem = (await response.json()) as { detail?: string };
    return problem.detail ?? `status ${response.status}`;
  } catch {
    return `status ${response.status}`;
  }
}
