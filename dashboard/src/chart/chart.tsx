// uPlot in a frame that fits its place, follows the colours of the page, and can be used by keyboard.

import { useEffect, useRef, useState } from "preact/hooks";
import uPlot from "uplot";
import { timeOfDay } from "../format.ts";
import { padded } from "./scale.ts";

export type Column = (number | null)[];

export interface Line {
  key: string;
  label: string;
  /** Name of the colour in the style sheet, without `--`. */
  colour: string;
  /** Text of a value. */
  text: (value: number | null | undefined) => string;
  /** Its axis: the unit's, percent, or one of its own that is not drawn. */
  scale?: "y" | "pct" | "own";
  fill?: boolean;
  dash?: boolean;
}

export interface ChartProps {
  /** What is drawn, for people who cannot see it. */
  label: string;
  x: readonly number[];
  columns: readonly Column[];
  lines: readonly Line[];
  kind: "lines" | "bars";
  zone: string;
  /** The shortest span of the unit's axis. */
  least: number;
  /** Text of the unit's axis. */
  axis: (value: number) => string;
  /** Text of a place on the x axis, for bars and for the pointer. */
  place: (index: number) => string;
  /** Short texts under the bars; a second line is written where it differs from the one before. */
  ticks?: readonly string[];
  hidden: ReadonlySet<string>;
  range: readonly [number, number];
  onPoint: (index: number | null) => void;
  onZoom: (range: [number, number] | null) => void;
  onOpen?: (index: number) => void;
  height?: number;
}

/** How much larger than usual the letters of the page are; on a wall they are. */
const scale = (): number => parseFloat(getComputedStyle(document.documentElement).fontSize) / 16 || 1;

export function Chart(props: ChartProps) {
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const latest = useRef(props);
  latest.current = props;
  const [spoken, setSpoken] = useState("");
  const theme = useTheme();

  useEffect(() => {
    const element = place.current;
    if (!element) return undefined;
    const height = () => latest.current.height ?? Math.max(240, Math.min(440, element.clientWidth * 0.5));
    const made = new uPlot(
      options(latest, element.clientWidth, height()),
      dataOf(props),
      element,
    );
    plot.current = made;
    const observer = new ResizeObserver(() => made.setSize({ width: element.clientWidth, height: height() }));
    observer.observe(element);
    return () => {
      observer.disconnect();
      plot.current = null;
      made.destroy();
    };
  }, [theme, props.kind, props.zone, props.lines.map((line) => line.key).join()]);

  useEffect(() => {
    plot.current?.setData(dataOf(props), false);
    const [min, max] = props.range;
    plot.current?.setScale("x", { min, max });
  }, [props.x, props.columns, props.range[0], props.range[1], theme]);

  useEffect(() => {
    props.lines.forEach((line, index) => {
      plot.current?.setSeries(index + 1, { show: !props.hidden.has(line.key) });
    });
  }, [props.hidden, theme]);

  const onKeyDown = (event: KeyboardEvent) => {
    const made = plot.current;
    if (made && byKey(event, made, latest.current)) {
      event.preventDefault();
      setSpoken(sentence(latest.current, made.cursor.idx));
    }
  };
  return (
    <>
      <div
        ref={place}
        class="chart"
        tabIndex={0}
        role="group"
        aria-roledescription="chart"
        aria-label={props.label}
        onKeyDown={onKeyDown}
        onBlur={() => setSpoken("")}
      />
      <p class="unseen" aria-live="polite">
        {spoken}
      </p>
    </>
  );
}

/** Changes whenever the colours do. */
function useTheme(): string {
  const read = () => getComputedStyle(document.documentElement).getPropertyValue("--ink");
  const [theme, setTheme] = useState(read);
  useEffect(() => {
    const update = () => setTheme(read());
    const media = window.matchMedia("(prefers-color-scheme: dark)");
    media.addEventListener("change", update);
    const observer = new MutationObserver(update);
    observer.observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
    return () => {
      media.removeEventListener("change", update);
      observer.disconnect();
    };
  }, []);
  return theme;
}

const dataOf = (props: ChartProps): uPlot.AlignedData => [[...props.x], ...props.columns] as unknown as uPlot.AlignedData;

const colour = (name: string): string =>
  getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

function options(latest: { current: ChartProps }, width: number, height: number): uPlot.Options {
  const { kind, lines, zone, axis } = latest.current;
  const [ink, grid] = [colour("soft"), colour("line")];
  const hasShare = lines.some((line) => line.scale === "pct");
  const by = scale();
  const font = `${12 * by}px system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif`;
  const common = { stroke: ink, font, ticks: { show: false } };
  return {
    width,
    height,
    legend: { show: false },
    cursor: { y: false, points: { show: kind === "lines" }, drag: { x: true, y: false, setScale: false } },
    ...(kind === "lines" ? { tzDate: (ts: number) => uPlot.tzDate(new Date(ts * 1000), zone) } : {}),
    scales: {
      x: { time: kind === "lines", auto: false },
      y: { range: (_, min, max) => padded(min, max, latest.current.least) },
      own: { range: (_, min, max) => [Math.min(0, min ?? 0), 1.6 * Math.max(1, max ?? 1)] },
      ...(hasShare ? { pct: { range: [0, 100] as [number, number] } } : {}),
    },
    axes: [
      {
        ...common,
        size: () => (latest.current.ticks?.some(isTwoLined) ? 50 : 33) * by,
        gap: 8 * by,
        grid: { stroke: grid, width: 1, show: kind === "lines" },
        ...(kind === "bars" ? barAxis(latest, by) : timeAxis(zone, by)),
      },
      { ...common, grid: { stroke: grid, width: 1 }, size: (_, values) => sizeOf(values, by), values: (_, splits) => splits.map(axis) },
      ...(hasShare
        ? [{ ...common, scale: "pct", side: 1, size: 46 * by, grid: { show: false }, values: (_: uPlot, s: number[]) => s.map((v) => `${v} %`) }]
        : []),
    ],
    series: [{}, ...lines.map((line) => (kind === "bars" ? barSeries(line) : lineSeries(line)))],
    hooks: {
      setCursor: [(made) => latest.current.onPoint(made.cursor.idx ?? null)],
      setSelect: [
        (made) => {
          const [from, to] = [made.select.left, made.select.left + made.select.width].map((at) => made.posToVal(at, "x"));
          if (made.select.width > 8) latest.current.onZoom([from ?? 0, to ?? 0]);
          made.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
        },
      ],
      ready: [
        (made) => {
          made.over.addEventListener("dblclick", () => latest.current.onZoom(null));
          made.over.addEventListener("click", () => {
            if (made.cursor.idx !== null && made.cursor.idx !== undefined) latest.current.onOpen?.(made.cursor.idx);
          });
        },
      ],
    },
  };
}

/** Room for the longest text of an axis. */
const sizeOf = (values: readonly (string | null)[] | null, by: number): number =>
  (16 + 7 * Math.max(3, ...(values ?? []).map((text) => text?.length ?? 0))) * by;

function timeAxis(zone: string, by: number): Partial<uPlot.Axis> {
  return { values: (_, splits, _axis, _space, step) => splits.map((ts) => timeOfDay(ts * 1000, zone, step < 60)), space: 56 * by };
}

const isTwoLined = (tick: string): boolean => tick.includes("\n");

function barAxis(latest: { current: ChartProps }, by: number): Partial<uPlot.Axis> {
  return {
    splits: (made) => {
      const { ticks = [] } = latest.current;
      const [min = 0, max = 0] = [made.scales["x"]?.min, made.scales["x"]?.max];
      const shown = ticks.map((_, index) => index).filter((index) => index >= min && index <= max && ticks[index]);
      const room = (ticks.some(isTwoLined) ? 48 : 38) * by;
      const each = Math.max(1, Math.ceil((shown.length * room) / Math.max(1, made.width - 60)));
      return shown.filter((_, count) => count % each === 0);
    },
    values: (_, splits) => {
      const lines = splits.map((index) => (latest.current.ticks?.[index] ?? "").split("\n"));
      return lines.map(([top = "", below], at) => (below === undefined || below === lines[at - 1]?.[1] ? top : `${top}\n${below}`));
    },
  };
}

function barSeries(line: Line): uPlot.Series {
  const stroke = colour(line.colour);
  return {
    label: line.label,
    stroke,
    fill: stroke,
    width: 0,
    points: { show: false },
    paths: uPlot.paths.bars?.({ size: [0.72, 44] }) ?? (() => null),
  };
}

function lineSeries(line: Line): uPlot.Series {
  const stroke = colour(line.colour);
  return {
    label: line.label,
    stroke,
    scale: line.scale ?? "y",
    width: 2,
    spanGaps: false,
    points: { show: true, size: 5, fill: stroke, filter: (made, series) => lonely(made.data[series] ?? []) },
    ...(line.dash ? { dash: [6, 5] } : {}),
    ...(line.fill ? { fill: `color-mix(in srgb, ${stroke} 18%, transparent)` } : {}),
  };
}

/** Places of values between gaps: no line leads to them, so they are drawn as points. */
export function lonely(values: ArrayLike<number | null | undefined>): number[] {
  const isKnown = (index: number) => values[index] !== null && values[index] !== undefined;
  return Array.from(values, (_, index) => index).filter((at) => isKnown(at) && !isKnown(at - 1) && !isKnown(at + 1));
}

/** Moves, zooms or opens by keyboard; whether it did. */
function byKey(event: KeyboardEvent, made: uPlot, props: ChartProps): boolean {
  const index = made.cursor.idx ?? null;
  const [low, high] = visible(props);
  const move = (to: number): boolean => {
    const next = Math.max(low, Math.min(high, to));
    made.setCursor({ left: made.valToPos(props.x[next] ?? 0, "x"), top: 10 });
    return true;
  };
  switch (event.key) {
    case "ArrowRight":
      return move(index === null ? low : index + 1);
    case "ArrowLeft":
      return move(index === null ? high : index - 1);
    case "Home":
      return move(low);
    case "End":
      return move(high);
    case "+":
    case "-": {
      props.onZoom(zoomed(props.range, event.key === "+" ? 0.5 : 2, props.x[index ?? -1]));
      return true;
    }
    case "Enter":
      if (index === null || !props.onOpen) return false;
      props.onOpen(index);
      return true;
    default:
      return false;
  }
}

function visible({ x, range }: ChartProps): [number, number] {
  const inside = x.map((_, index) => index).filter((index) => (x[index] ?? 0) >= range[0] && (x[index] ?? 0) <= range[1]);
  return [inside[0] ?? 0, inside.at(-1) ?? 0];
}

/** The span, made smaller or larger around a place in it. */
export function zoomed([from, to]: readonly [number, number], factor: number, around?: number): [number, number] {
  const centre = around ?? (from + to) / 2;
  return [centre - (centre - from) * factor, centre + (to - centre) * factor];
}

function sentence(props: ChartProps, index: number | null | undefined): string {
  if (index === null || index === undefined) return "";
  const values = props.lines
    .map((line, at) => ({ line, value: props.columns[at]?.[index] }))
    .filter(({ line }) => !props.hidden.has(line.key))
    .map(({ line, value }) => `${line.label} ${line.text(value)}`);
  return `${props.place(index)}: ${values.join(", ")}`;
}
