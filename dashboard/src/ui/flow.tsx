// The picture of the moment: who gives, who takes, and how much.

import { percent, power } from "../format.ts";
import { QUIET_W, type Flow } from "../model/flow.ts";
import { texts } from "../texts.ts";
import { ICONS } from "./parts.tsx";

interface Node {
  key: "sun" | "battery" | "grid" | "house";
  watts: number | null;
  /** Whether the energy runs from it to the others. */
  gives: boolean;
  label: string;
  x: number;
  y: number;
  /** From the node to the middle. */
  wire: string;
}

const t = texts.now;
const RADIUS = 58;

export function FlowPicture({ flow, isNight }: { flow: Flow; isNight: boolean }) {
  const nodes = nodesOf(flow).filter((node) => node.watts !== null || (node.key === "battery" && flow.soc !== null));
  return (
    <svg class="flow" viewBox="0 0 480 412" role="img" aria-label={`${t.flow}: ${sentenceOf(flow)}`}>
      {nodes.map((node) => (
        <Wire key={node.key} node={node} />
      ))}
      <circle class="hub" cx="240" cy="206" r="9" />
      {nodes.map((node) => (
        <Bubble key={node.key} node={node} soc={flow.soc} isNight={isNight} />
      ))}
    </svg>
  );
}

function nodesOf({ sun, battery, grid, house, output, soc }: Flow): Node[] {
  const gridWatts = grid ?? output;
  const isPair = battery === null && soc === null && house === null; // one below the other: nothing looks left out
  const below = { x: 240, y: 346, wire: "M240 288V215" };
  return [
    { key: "sun", watts: sun, gives: true, label: t.sun, x: 240, y: 66, wire: "M240 124V197" },
    { key: "battery", watts: battery, gives: (battery ?? 0) < 0, label: batteryLabel(battery), x: 66, y: 206, wire: "M124 206H231" },
    { key: "grid", watts: gridWatts, gives: (gridWatts ?? 0) < 0, label: gridLabel(grid), ...(isPair ? below : { x: 414, y: 206, wire: "M356 206H249" }) },
    { key: "house", watts: house, gives: (house ?? 0) < 0, label: t.house, ...below },
  ];
}

function Wire({ node }: { node: Node }) {
  const size = Math.abs(node.watts ?? 0);
  const runs = size > QUIET_W;
  // Twice the power is not twice the width: from a standby of 30 W to 10 kW all has to be told apart.
  const width = runs ? 3 + Math.min(9, 3 * Math.log10(size / 30 + 1)) : 2;
  const speed = runs ? Math.max(0.7, 2.6 - 0.7 * Math.log10(size / 50 + 1)) : 0;
  return (
    <g class="wire" data-of={node.key} data-runs={runs ? (node.gives ? "in" : "out") : "no"}>
      <path class="bed" d={node.wire} style={{ strokeWidth: `${width}` }} />
      {runs ? <path class="stream" d={node.wire} style={{ strokeWidth: `${width}`, animationDuration: `${speed}s` }} /> : null}
    </g>
  );
}

function Bubble({ node, soc, isNight }: { node: Node; soc: number | null; isNight: boolean }) {
  const isBattery = node.key === "battery";
  const icon = ICONS[node.key === "sun" && isNight ? "moon" : node.key];
  return (
    <g class="bubble" data-of={node.key} transform={`translate(${node.x} ${node.y})`}>
      <circle r={RADIUS} />
      {isBattery && soc !== null ? <circle class="soc" r={RADIUS} pathLength={100} style={{ strokeDasharray: `${soc} 100` }} /> : null}
      <path class="icon" transform="translate(-12 -46)" d={icon} />
      <text class="value" y={5} data-part={node.key}>
        {power(node.watts)}
      </text>
      <text class="label" y={23}>
        {node.label}
      </text>
      {isBattery && soc !== null ? (
        <text class="label strong" y={40} data-part="soc">
          {percent(soc)}
        </text>
      ) : null}
    </g>
  );
}

function batteryLabel(watts: number | null): string {
  if (watts === null) return t.battery;
  if (Math.abs(watts) <= QUIET_W) return t.resting;
  return watts > 0 ? t.charging : t.discharging;
}

function gridLabel(watts: number | null): string {
  if (watts === null) return t.output;
  if (Math.abs(watts) <= QUIET_W) return t.balanced;
  return watts > 0 ? t.selling : t.buying;
}

/** The same in words. */
export function sentenceOf(flow: Flow): string {
  const parts = [];
  if (flow.sun !== null) parts.push(`${t.sun} ${power(flow.sun)}`);
  if (flow.house !== null) parts.push(`${t.house} ${power(flow.house)}`);
  if (flow.battery !== null) parts.push(`${t.battery} ${batteryLabel(flow.battery)} ${power(flow.battery)}`);
  if (flow.soc !== null) parts.push(`${t.battery} ${percent(flow.soc)}`);
  if (flow.grid !== null) parts.push(`${t.grid} ${gridLabel(flow.grid)} ${power(flow.grid)}`);
  else if (flow.output !== null) parts.push(`${t.output} ${power(flow.output)}`);
  return t.sentence(parts);
}
