// The live stream of one device: server-sent events over fetch, because a token must not stand in an address.

import { Client, Declined, Refused } from "./client.ts";
import type { Reading } from "./types.ts";

export interface StreamEvent {
  kind: string;
  data: string;
  id: string;
}

/** Puts the pieces of a stream together to events, wherever they are cut. */
export class EventParser {
  private rest = "";

  push(text: string): StreamEvent[] {
    const blocks = (this.rest + text).replaceAll("\r\n", "\n").split("\n\n");
    this.rest = blocks.pop() ?? "";
    return blocks.map(parseBlock).filter((event) => event !== null);
  }
}

function parseBlock(block: string): StreamEvent | null {
  const event = { kind: "", data: "", id: "" };
  for (const line of block.split("\n")) {
    const [name = "", ...rest] = line.split(":");
    const value = rest.join(":").replace(/^ /, "");
    if (name === "event") event.kind = value;
    if (name === "data") event.data += value;
    if (name === "id") event.id = value;
  }
  return event.kind ? event : null;
}

export interface Listener {
  sample(reading: Reading): void;
  /** Readings were left out or came late: what is shown of the past has to be asked for again. */
  changed(): void;
  connected(isConnected: boolean): void;
  refused(status: number): void;
}

const SILENCE_MS = 25_000; // the server says that it is alive every ten seconds
const FIRST_PAUSE_MS = 1_000;
const LONGEST_PAUSE_MS = 15_000;

/** Listen until the returned function is called; reconnects, and goes on where it was. */
export function listen(client: Client, device: string, after: string, listener: Listener): () => void {
  const end = new AbortController();
  void run(client, device, after, listener, end.signal);
  return () => end.abort();
}

async function run(client: Client, device: string, after: string, listener: Listener, end: AbortSignal) {
  let pause = FIRST_PAUSE_MS;
  let last = after;
  const dispatch = (event: StreamEvent) => {
    pause = FIRST_PAUSE_MS;
    if (event.id) last = event.id;
    if (event.kind === "sample") listener.sample(JSON.parse(event.data) as Reading);
    else listener.changed();
  };
  while (!end.aborted) {
    try {
      await readOnce(client, device, last, listener, dispatch, end);
    } catch (error) {
      if (end.aborted) return;
      if (error instanceof Refused) return listener.refused(error.status);
      if (error instanceof Declined) last = "";
    }
    if (end.aborted) return;
    listener.connected(false);
    await new Promise((resolve) => setTimeout(resolve, pause * (0.5 + Math.random() / 2)));
    pause = Math.min(LONGEST_PAUSE_MS, pause * 2);
  }
}

async function readOnce(
  client: Client,
  device: string,
  last: string,
  listener: Listener,
  dispatch: (event: StreamEvent) => void,
  end: AbortSignal,
) {
  const silence = new AbortController();
  const stop = AbortSignal.any([end, silence.signal]);
  let timer = setTimeout(() => silence.abort(), SILENCE_MS);
  try {
    const headers: Record<string, string> = last ? { "Last-Event-ID": last } : {};
    const response = await client.ask("/v1/stream", { device_id: device }, headers, 0, stop);
    if (!response.body) return;
    listener.connected(true);
    const parser = new EventParser();
    const decoder = new TextDecoder();
    const reader = response.body.getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      clearTimeout(timer);
      timer = setTimeout(() => silence.abort(), SILENCE_MS);
      parser.push(decoder.decode(value, { stream: true })).forEach(dispatch);
    }
  } finally {
    clearTimeout(timer);
  }
}
