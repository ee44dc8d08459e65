// Where one is, kept in the part of the address that never leaves the browser: links, the back button and
// bookmarks work.

import type { Frame } from "./api/types.ts";

export type Page = "now" | "history" | "condition";
export type View = "energy" | "battery" | "trackers";

export interface Route {
  page: Page;
  /** `device:ID` or `plant:NAME`; empty for the first one. */
  of: string;
  frame: Frame;
  /** A day of the site in the frame; empty for today. */
  at: string;
  view: View;
}

const PAGES: readonly Page[] = ["now", "history", "condition"];
const FRAMES: readonly Frame[] = ["day", "month", "year", "all"];
const VIEWS: readonly View[] = ["energy", "battery", "trackers"];

const oneOf = <T extends string>(values: readonly T[], text: string | null): T =>
  values.find((value) => value === text) ?? (values[0] as T);

export function parseRoute(hash: string): Route {
  const [path = "", query = ""] = hash.replace(/^#\/?/, "").split("?");
  const asked = new URLSearchParams(query);
  const at = asked.get("at") ?? "";
  return {
    page: oneOf(PAGES, path),
    of: asked.get("of") ?? "",
    frame: oneOf(FRAMES, asked.get("frame")),
    at: /^\d{4}-\d\d-\d\d$/.test(at) && !Number.isNaN(Date.parse(at)) ? at : "",
    view: oneOf(VIEWS, asked.get("view")),
  };
}

export function printRoute(route: Route): string {
  const query = new URLSearchParams();
  if (route.of) query.set("of", route.of);
  if (route.page === "history") {
    query.set("frame", route.frame);
    if (route.at) query.set("at", route.at);
    if (route.view !== "energy") query.set("view", route.view);
  }
  const text = query.toString();
  return `#/${route.page}${text ? `?${text}` : ""}`;
}
