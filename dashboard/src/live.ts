// What is known now of the devices that are looked at, kept up to date by streams, and by asking where there is none.

import { Client, Refused, Unreachable } from "./api/client.ts";
import { listen } from "./api/stream.ts";
import type { Device, Plant, Realtime, Reading } from "./api/types.ts";
import { merge, ServerClock } from "./model/state.ts";

/** A browser opens six connections to a server; the rest is for questions. */
const MOST_STREAMS = 3;
const USUAL_MS = 30_000;
const WITHOUT_STREAM_MS = 5_000;
const UNREACHED_MS = 2_000;
const PLANTS_MS = 1_000;
/** A draining backlog tells of itself every second; drawing the past anew that often would help nobody. */
const PAST_MS = 5_000;

export class Live {
  devices: Device[] = [];
  /** From this instant on single readings are kept, ms. */
  rawSince = 0;
  plants: Plant[] = [];
  readings = new Map<string, Realtime | null>();
  isLoaded = false;
  isReached = true;
  /** Grows when the past may have changed: what is drawn of it is asked for again. */
  revision = 0;
  readonly clock = new ServerClock();

  private watched: string[] = [];
  private streams = new Map<string, () => void>();
  private listeners = new Set<() => void>();
  private timer: ReturnType<typeof setTimeout> | undefined;
  private plantTimer: ReturnType<typeof setTimeout> | undefined;
  private pastTimer: ReturnType<typeof setTimeout> | undefined;
  private isEnded = false;
  private isAsking = false;

  constructor(
    readonly client: Client,
    private readonly onRefused: (status: number) => void,
  ) {
    document.addEventListener("visibilitychange", this.wake);
    window.addEventListener("online", this.wake);
    void this.refresh();
  }

  end(): void {
    this.isEnded = true;
    document.removeEventListener("visibilitychange", this.wake);
    window.removeEventListener("online", this.wake);
    clearTimeout(this.timer);
    clearTimeout(this.plantTimer);
    clearTimeout(this.pastTimer);
    for (const close of this.streams.values()) close();
  }

  subscribe(listener: () => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /** Say which devices are looked at. */
  watch(ids: readonly string[]): void {
    if (ids.join() === this.watched.join()) return;
    this.watched = [...ids];
    for (const [id, close] of this.streams) {
      if (ids.includes(id)) continue;
      close();
      this.streams.delete(id);
    }
    void this.refresh();
  }

  private wake = (): void => {
    if (document.visibilityState === "visible") void this.refresh();
  };

  private async refresh(): Promise<void> {
    if (this.isEnded || this.isAsking) return;
    clearTimeout(this.timer);
    this.isAsking = true;
    const asked = this.watched;
    try {
      const [listed, plants] = await Promise.all([this.client.devices(), this.client.plants()]);
      [this.devices, this.plants] = [listed.devices, plants];
      this.rawSince = listed.raw_since ? Date.parse(listed.raw_since) : 0;
      await Promise.all(asked.map((id) => this.readLatest(id)));
      if (!this.isReached) this.cameBack();
      this.isLoaded = this.isReached = true;
    } catch (error) {
      this.failed(error);
    }
    this.isAsking = false;
    if (this.isEnded) return;
    this.openStreams();
    this.changed();
    const again = asked !== this.watched;
    this.timer = setTimeout(() => void this.refresh(), again ? 0 : this.pause());
  }

  /** The server is there again: streams that wait for their next attempt must not wait any longer. */
  private cameBack(): void {
    this.revision += 1;
    for (const close of this.streams.values()) close();
    this.streams.clear();
  }

  private pause(): number {
    if (!this.isReached) return UNREACHED_MS;
    return this.watched.length > this.streams.size ? WITHOUT_STREAM_MS : USUAL_MS;
  }

  private async readLatest(id: string): Promise<void> {
    const hasReadings = this.devices.some((device) => device.device_id === id && device.last_ts);
    const reading = hasReadings ? await this.client.realtime(id) : null;
    if (reading) this.clock.learn(reading.ts, reading.age_s);
    const known = this.readings.get(id);
    if (!known || (reading && reading.ts >= known.ts)) this.readings.set(id, reading);
  }

  private failed(error: unknown): void {
    if (error instanceof Refused) this.refused(error.status);
    else this.isReached = false;
    if (!(error instanceof Refused || error instanceof Unreachable)) console.error(error); // and it is tried again
  }

  private refused = (status: number): void => {
    if (!this.isEnded) this.onRefused(status);
  };

  private openStreams(): void {
    if (!this.isReached) return;
    for (const id of this.watched) {
      const reading = this.readings.get(id);
      if (this.streams.has(id) || this.streams.size >= MOST_STREAMS || reading === undefined) continue;
      const close = listen(this.client, id, reading?.ts ?? "", {
        sample: (sample) => this.arrived(id, sample),
        changed: () => this.pastChanged(),
        connected: (isConnected) => {
          if (!isConnected || !this.isReached) void this.refresh();
        },
        refused: this.refused,
      });
      this.streams.set(id, close);
    }
  }

  private arrived(id: string, sample: Reading): void {
    const known = this.readings.get(id) ?? null;
    if (known && sample.ts <= known.ts) return;
    this.readings.set(id, merge(known, sample as Reading & Record<string, unknown>));
    this.askForPlants();
    this.changed();
  }

  private pastChanged(): void {
    this.pastTimer ??= setTimeout(() => {
      this.pastTimer = undefined;
      this.revision += 1;
      void this.refresh();
    }, PAST_MS);
  }

  private askForPlants(): void {
    if (this.watched.length < 2 || this.plantTimer !== undefined) return;
    this.plantTimer = setTimeout(() => {
      this.plantTimer = undefined;
      this.client.plants().then(
        (plants) => {
          this.plants = plants;
          this.changed();
        },
        () => undefined, // the regular round notices
      );
    }, PLANTS_MS / 2);
  }

  private changed(): void {
    for (const listener of this.listeners) listener();
  }
}
