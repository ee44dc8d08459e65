// CSV as the server writes it and as people save it.

export function parseCsv(text: string): Record<string, string>[] {
  const [head = [], ...rows] = rowsOf(text);
  return rows.map((row) => Object.fromEntries(head.map((name, column) => [name, row[column] ?? ""])));
}

function rowsOf(text: string): string[][] {
  const rows: string[][] = [];
  for (const line of text.split("\r\n")) {
    if (line) rows.push(line.includes('"') ? quotedCells(line) : line.split(","));
  }
  return rows;
}

function quotedCells(line: string): string[] {
  return [...line.matchAll(/(?:^|,)(?:"((?:[^"]|"")*)"|([^,]*))/g)].map(
    ([, quoted, plain]) => quoted?.replaceAll('""', '"') ?? plain ?? "",
  );
}

export type Cell = string | number | null | undefined;

/** Lines of CSV; unknown is empty. A text that a spreadsheet could take for a formula is marked as text. */
export function toCsv(head: readonly string[], rows: readonly (readonly Cell[])[]): string {
  return [head, ...rows].map((row) => row.map(cell).join(",")).join("\r\n") + "\r\n";
}

function cell(value: Cell): string {
  if (value === null || value === undefined) return "";
  if (typeof value === "number") return String(value);
  const text = /^[=+\-@\t]/.test(value) ? `'${value}` : value;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

export const numberOf = (text: string | undefined): number | null => (text ? Number(text) : null);

export function listOf(text: string | undefined): (number | null)[] {
  return text ? (JSON.parse(text) as (number | null)[]) : [];
}
