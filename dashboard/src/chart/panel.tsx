// A chart with all that belongs to it: a legend that shows the values under the pointer and hides what one does not
// want to see, zoom, the same as a table, and as a CSV file.

import type { ComponentChildren } from "preact";
import { useEffect, useMemo, useState } from "preact/hooks";
import { toCsv, type Cell } from "../model/csv.ts";
import { sum } from "../model/energy.ts";
import { texts } from "../texts.ts";
import { Chart, zoomed, type Column, type Line } from "./chart.tsx";

export interface Picture {
  /** Name of what is drawn, and of the file that holds it. */
  title: string;
  label: string;
  file: string;
  kind: "lines" | "bars";
  zone: string;
  x: readonly number[];
  /** Bars that hang below the base line instead of standing on each other. */
  downwards?: ReadonlySet<string>;
  values: readonly Column[];
  lines: readonly Line[];
  range: readonly [number, number];
  least: number;
  axis: (value: number) => string;
  /** How to read it, where the picture alone does not tell. */
  note?: string;
  place: (index: number) => string;
  /** First column of table and file. */
  placeTitle: string;
  stamp: (index: number) => string;
  /** Names of the columns in the file: those of the API. */
  names: readonly string[];
  ticks?: readonly string[];
  /** What is said of the whole while nothing is pointed at. */
  whole?: (column: number) => string;
}

interface PanelProps {
  picture: Picture;
  height?: number;
  isPlain?: boolean;
  /** What the picture comes to in figures; stands right below it. */
  children?: ComponentChildren;
  onOpen?: (index: number) => void;
  onRange?: (range: readonly [number, number] | null) => void;
}

const TABLE_ROWS = 400;

export function ChartPanel({ picture, height, isPlain = false, children, onOpen, onRange }: PanelProps) {
  const [hidden, setHidden] = useState<ReadonlySet<string>>(new Set());
  const [point, setPoint] = useState<number | null>(null);
  const [zoom, setZoom] = useState<readonly [number, number] | null>(null);
  const range = zoom ?? picture.range;

  const columns = useMemo(() => drawnColumns(picture, hidden), [picture, hidden]);
  const rows = useMemo(
    () => picture.x.map((_, index) => index).filter((i) => (picture.x[i] ?? 0) >= range[0] && (picture.x[i] ?? 0) <= range[1]),
    [picture.x, range[0], range[1]],
  );

  useEffect(() => setZoom(null), [picture.file]);
  useEffect(() => setPoint(null), [picture.x]);
  const change = (next: [number, number] | null) => {
    const cut = next && limit(next, picture.range);
    setZoom(cut);
    onRange?.(cut);
  };
  const toggle = (key: string) => {
    const next = new Set(hidden);
    if (!next.delete(key)) next.add(key);
    setHidden(next);
  };
  return (
    <>
      <figure class="panel">
        <figcaption class="legend" data-at={point === null ? "" : picture.place(point)}>
          <ul aria-label={picture.title}>
            {picture.lines.map((line, column) => (
              <li key={line.key}>
                <button type="button" aria-pressed={!hidden.has(line.key)} onClick={() => toggle(line.key)}>
                  <i class={`mark ${line.dash ? "dash" : ""}`} data-colour={line.colour} />
                  <span>{line.label}</span>
                  <b>{valueText(picture, column, point)}</b>
                </button>
              </li>
            ))}
          </ul>
          <span class="at">{point === null ? "" : picture.place(point)}</span>
        </figcaption>
        <Chart
          {...picture}
          columns={columns}
          hidden={hidden}
          range={range}
          onPoint={setPoint}
          onZoom={change}
          {...(onOpen ? { onOpen } : {})}
          {...(height ? { height } : {})}
        />
        {picture.note ? <p class="hint centre">{picture.note}</p> : null}
        {isPlain ? null : <Tools range={range} zoom={zoom} change={change} save={() => save(picture, rows)} />}
      </figure>
      {children}
      {isPlain ? null : <More picture={picture} rows={rows} opens={Boolean(onOpen)} />}
    </>
  );
}

/** Bars are drawn over each other from the base line, so each holds itself and all visible ones that come after it. */
function drawnColumns({ kind, values, lines, downwards = new Set() }: Picture, hidden: ReadonlySet<string>): readonly Column[] {
  if (kind === "lines") return values;
  const key = (index: number) => lines[index]?.key ?? "";
  return values.map((column, index) => {
    if (downwards.has(key(index))) return column.map((value) => (value === null ? null : -value));
    const upper = values.filter((_, other) => other >= index && !downwards.has(key(other)) && !hidden.has(key(other)));
    return column.map((value, at) => (value === null ? null : sum(upper.map((other) => other[at]))));
  });
}

function valueText(picture: Picture, column: number, point: number | null): string {
  if (point === null) return picture.whole?.(column) ?? "";
  return picture.lines[column]?.text(picture.values[column]?.[point]) ?? "";
}

function limit([from, to]: [number, number], [first, last]: readonly [number, number]): [number, number] | null {
  const cut: [number, number] = [Math.max(first, from), Math.min(last, to)];
  return cut[0] <= first && cut[1] >= last ? null : cut;
}

interface ToolsProps {
  range: readonly [number, number];
  zoom: readonly [number, number] | null;
  change: (range: [number, number] | null) => void;
  save: () => void;
}

function Tools({ range, zoom, change, save }: ToolsProps) {
  const t = texts.history;
  return (
    <div class="tools">
      <button type="button" onClick={() => change(zoomed(range, 0.5))}>
        {t.zoomIn}
      </button>
      <button type="button" disabled={!zoom} onClick={() => change(zoomed(range, 2))}>
        {t.zoomOut}
      </button>
      <button type="button" disabled={!zoom} onClick={() => change(null)}>
        {t.whole}
      </button>
      <button type="button" class="save" onClick={save}>
        {t.csv}
      </button>
    </div>
  );
}

/** The same as a table, and what one can do with the picture, by mouse and keyboard or by touch. */
function More({ picture, rows, opens }: { picture: Picture; rows: readonly number[]; opens: boolean }) {
  const [isOpen, setOpen] = useState(false);
  const t = texts.history;
  return (
    <>
      <details class="table" onToggle={(event) => setOpen(event.currentTarget.open)}>
        <summary>{t.table}</summary>
        {isOpen ? <Table picture={picture} rows={rows} /> : null}
      </details>
      <p class="hint by-mouse">
        {t.zoomHint} {opens ? t.drill : ""}
      </p>
      <p class="hint by-touch">{opens ? t.drillTouch : t.touchHint}</p>
    </>
  );
}

function Table({ picture, rows }: { picture: Picture; rows: readonly number[] }) {
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label={picture.label}>
      {rows.length > TABLE_ROWS ? <p class="hint">{texts.history.tableLimit(TABLE_ROWS)}</p> : null}
      <table>
        <caption class="unseen">{picture.label}</caption>
        <thead>
          <tr>
            <th scope="col">{picture.placeTitle}</th>
            {picture.lines.map((line) => (
              <th scope="col" key={line.key}>
                {line.label}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.slice(0, TABLE_ROWS).map((row) => (
            <tr key={row}>
              <th scope="row">{picture.place(row)}</th>
              {picture.lines.map((line, column) => (
                <td key={line.key}>{line.text(picture.values[column]?.[row])}</td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function save(picture: Picture, rows: readonly number[]): void {
  const head = [picture.kind === "bars" ? "bucket" : "ts", ...picture.names];
  const lines = rows.map((row): Cell[] => [picture.stamp(row), ...picture.values.map((column) => column[row])]);
  const address = URL.createObjectURL(new Blob([toCsv(head, lines)], { type: "text/csv;charset=utf-8" }));
  const link = document.createElement("a");
  link.href = address;
  link.download = `${picture.file}.csv`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}
