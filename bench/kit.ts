/** What every bench shares: the shape of a result, medians, and the table that people read. */

/** One measured figure, and the bound it must keep. */
export interface BenchRow {
  readonly measure: string;
  readonly value: number;
  /** `ms`, `s`, `MB`, `×`, `1/s` … */
  readonly unit: string;
  /** The bound in words, such as `≥ 100` or `< 10`. */
  readonly bound?: string;
  readonly holds?: boolean;
}

/** The result of one bench; it holds when every bounded row does. */
export interface BenchResult {
  readonly name: string;
  readonly holds: boolean;
  readonly rows: BenchRow[];
}

/** Collects rows into a result. */
export function result(name: string, rows: BenchRow[]): BenchResult {
  return { name, holds: rows.every(({ holds }) => holds !== false), rows };
}

/** A figure that must stay below a bound. */
export function below(measure: string, value: number, unit: string, bound: number): BenchRow {
  return { measure, value, unit, bound: `< ${bound}`, holds: value < bound };
}

/** A figure that may reach a bound but not pass it. */
export function atMost(measure: string, value: number, unit: string, bound: number): BenchRow {
  return { measure, value, unit, bound: `≤ ${formatValue(bound)}`, holds: value <= bound };
}

/** A figure that must reach a bound. */
export function atLeast(measure: string, value: number, unit: string, bound: number): BenchRow {
  return { measure, value, unit, bound: `≥ ${bound}`, holds: value >= bound };
}

/** What a person may choose; each bench takes what concerns it. */
export interface BenchOptions {
  /** How long a bench of endurance runs. */
  readonly minutes?: number;
  /** How often each case of a bench of failures is tried. */
  readonly cuts?: number;
}

/** The middle value; the mean of the two middle ones where their number is even. @throws RangeError for none */
export function median(values: readonly number[]): number {
  if (values.length === 0) throw new RangeError('no values have no median');
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2;
}

/** How many times each figure is measured; its median counts. */
export const ROUNDS = 5;

/** Runs `work` `rounds` times, one after the other, and gives the median of its durations in ms. */
export async function medianMs(work: () => unknown, rounds: number = ROUNDS): Promise<number> {
  const times: number[] = [];
  for (let round = 0; round < rounds; round += 1) {
    const started = performance.now();
    await work();
    times.push(performance.now() - started);
  }
  return median(times);
}

/** Three significant digits, without exponents. */
export function formatValue(value: number): string {
  if (!Number.isFinite(value)) return String(value);
  const digits = value === 0 ? 0 : Math.max(0, 2 - Math.floor(Math.log10(Math.abs(value))));
  return value.toFixed(Math.min(digits, 6));
}

/** The result as a table for people. */
export function formatTable({ name, holds, rows }: BenchResult): string {
  const cells = rows.map((row) => [
    row.measure,
    formatValue(row.value),
    row.unit,
    row.bound ?? '',
    row.holds === undefined ? '' : row.holds ? 'holds' : 'FAILS',
  ]);
  const table = [['measure', 'value', 'unit', 'bound', ''], ...cells];
  const widths = [0, 1, 2, 3, 4].map((column) => Math.max(...table.map((row) => row[column]?.length ?? 0)));
  const lines = table.map((row) =>
    row
      .map((cell, column) => (column === 1 ? cell.padStart(widths[column] ?? 0) : cell.padEnd(widths[column] ?? 0)))
      .join('  ')
      .trimEnd(),
  );
  return [`${name}: ${holds ? 'holds' : 'FAILS'}`, ...lines, ''].join('\n');
}
