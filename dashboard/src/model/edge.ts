// What an edge says of the inverter it reads.

import type { EdgeStatus } from "../api/types.ts";

export type Contact = "fine" | "asleep" | "silent";

/** What its connection does between two good polls, too: it need not be held open. */
const USUAL = ["ok", "connected", "disconnected", "connecting", "settling", "idle", "requesting"];

/** How the edge gets on with the inverter; null when it says nothing of it that is known here. */
export function contactOf({ connection, connection_detail }: EdgeStatus): Contact | null {
  if (connection === "asleep") return "asleep";
  if (connection_detail || connection === "backing off" || connection === "silent") return "silent";
  return connection && USUAL.includes(connection) ? "fine" : null;
}
