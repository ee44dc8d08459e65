// Small parts that several pages use.

import type { ComponentChildren } from "preact";
import { texts } from "../texts.ts";
import type { Loaded } from "./hooks.ts";

export function Icon({ name, size = 20 }: { name: string; size?: number }) {
  return (
    <svg class="icon" width={size} height={size} viewBox="0 0 24 24" aria-hidden="true">
      <path d={ICONS[name] ?? ""} />
    </svg>
  );
}

export const ICONS: Record<string, string> = {
  sun: "M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8zM12 2v2.5M12 19.5V22M2 12h2.5M19.5 12H22M4.9 4.9l1.8 1.8M17.3 17.3l1.8 1.8M4.9 19.1l1.8-1.8M17.3 6.7l1.8-1.8",
  moon: "M20 14.5A8 8 0 0 1 9.5 4 8 8 0 1 0 20 14.5z",
  battery: "M3 8.5A1.5 1.5 0 0 1 4.500 7h13A1.5 1.5 0 0 1 19 8.500v7a1.500 1.500 0 0 1-1.500 1.500h-13A1.500 1.500 0 0 1 3 15.500zM22 11v2M11.500 9 9 12.500h4L10.500 16",
  grid: "M12 2 6.500 22M12 2l5.500 20M8.700 8.500h6.600M4 8h16M7.700 14.500h8.600M5 13h14",
  house: "M3 11.500 12 4l9 7.500M5.500 10v10h13V10M10 20v-5.500h4V20",
  now: "M13 2 4.500 13.500H11L10 22l8.500-11.500H12z",
  history: "M4 20V10M10 20V4M16 20v-7M21 20H3",
  condition: "M3 12h4l2.500-6 4 12 2.500-6h5",
  left: "M15 5l-7 7 7 7",
  right: "M9 5l7 7-7 7",
  leave: "M14 4h5v16h-5M4 12h11M8 8l-4 4 4 4",
};

/** The page's own picture, under the name it has in this version. */
export function Emblem() {
  const address = document.querySelector<HTMLLinkElement>('link[rel="icon"]')?.getAttribute("href") ?? "";
  return <img src={address} alt="" width="30" height="30" />;
}

/** An answer of the server, or what is said while there is none. */
export function Answer<T>({ of, children }: { of: Loaded<T>; children: (value: T) => ComponentChildren }) {
  if (of.value === null && of.problem === null) return <p class="hint waiting">{texts.loading}</p>;
  return (
    <>
      {of.problem ? <p class="notice">{of.problem}</p> : null}
      {of.value === null ? null : children(of.value)}
    </>
  );
}

export function Facts({ rows }: { rows: readonly (readonly [string, string | null | undefined])[] }) {
  return (
    <dl class="facts">
      {rows.map(([title, value]) =>
        value && value !== texts.unknown ? (
          <div key={title}>
            <dt>{title}</dt>
            <dd>{value}</dd>
          </div>
        ) : null,
      )}
    </dl>
  );
}

interface ChoiceProps<T extends string> {
  label: string;
  names: Readonly<Record<T, string>>;
  chosen: T;
  choose: (value: T) => void;
}

/** A row of buttons of which one is pressed. */
export function Choice<T extends string>({ label, names, chosen, choose }: ChoiceProps<T>) {
  return (
    <div class="choice" role="group" aria-label={label}>
      {(Object.keys(names) as T[]).map((value) => (
        <button type="button" key={value} aria-pressed={value === chosen} onClick={() => choose(value)}>
          {names[value]}
        </button>
      ))}
    </div>
  );
}

export function Ring({ value, text, title, hint, colour }: { value: number | null; text: string; title: string; hint: string; colour: string }) {
  return (
    <div class="ring" data-colour={colour}>
      <dt>{title}</dt>
      <dd>
        <svg viewBox="0 0 64 64" aria-hidden="true">
          <circle cx="32" cy="32" r="27" />
          <circle cx="32" cy="32" r="27" pathLength={100} class="part" style={{ strokeDasharray: `${value ?? 0} 100` }} />
        </svg>
        {text}
      </dd>
      <dd class="hint">{hint}</dd>
    </div>
  );
}
