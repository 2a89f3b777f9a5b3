/** What a command says: JSON for programs, tables and sentences for people. */
import type { Io } from '../io.ts';
import { plain } from '../failure.ts';
import { paintFor, type Paint } from './style.ts';
import { facts, table, type Column } from './table.ts';

export interface OutputOptions {
  readonly json: boolean;
  readonly quiet: boolean;
  readonly wide: boolean;
}

export class Output {
  readonly io: Io;
  readonly json: boolean;
  readonly quiet: boolean;
  readonly wide: boolean;
  readonly paint: Paint;

  constructor(io: Io, options: OutputOptions) {
    this.io = io;
    this.json = options.json;
    this.quiet = options.quiet;
    this.wide = options.wide;
    this.paint = paintFor(io, io.stdout);
  }

  /** Columns of the terminal; undefined when the output is no terminal. */
  get width(): number | undefined {
    return this.io.stdout.isTTY === true ? (this.io.stdout.columns ?? 80) : undefined;
  }

  /** The result, for people. Nothing with `--json`. */
  line(text = ''): void {
    if (!this.json) this.io.stdout.write(`${plain(text)}\n`);
  }

  /** Already painted lines. */
  lines(lines: readonly string[]): void {
    if (!this.json && lines.length > 0) this.io.stdout.write(`${lines.join('\n')}\n`);
  }

  /** Beside the result: progress, summaries. Never with `--json`. */
  note(text: string): void {
    if (!this.json && !this.quiet) this.io.stderr.write(`${plain(text)}\n`);
  }

  /** The one JSON document of `--json`. */
  document(value: unknown): void {
    if (this.json) this.io.stdout.write(`${JSON.stringify(value, undefined, 2)}\n`);
  }

  /** One JSON document a line, for streams without an end. */
  record(value: unknown): void {
    if (this.json) this.io.stdout.write(`${JSON.stringify(value)}\n`);
  }

  facts(entries: readonly (readonly [string, string | undefined])[]): void {
    this.lines(facts(entries, this.paint));
  }

  /** A list: JSON array, names only, or a table. */
  list<T extends { readonly name: string }>(rows: readonly T[], columns: readonly Column<T>[], none: string): void {
    if (this.json) return this.document(rows);
    if (this.quiet) return this.lines(rows.map((row) => row.name));
    if (rows.length === 0) return this.note(none);
    const shown = columns.filter((column) => this.wide || column.wide !== true);
    this.lines(table(shown, rows, { width: this.wide ? undefined : this.width, paint: this.paint }));
  }
}
