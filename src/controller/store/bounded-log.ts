/** A log file that never grows beyond two times its bound. */
import { closeSync, openSync, renameSync, fstatSync, writeSync } from 'node:fs';
import type { Readable } from 'node:stream';

/** Bytes after which the file is renamed to `.1` (replacing the one before). */
const fileBytes = 5 * 1024 * 1024;
const keptLines = 20;
const maxLineCharacters = 4096;

/**
 * Written synchronously: a few lines a day on a healthy server, and the last ones before a crash of ours are there.
 * The database must not stop because its log cannot be written, so a failing disk only loses lines.
 */
export class BoundedLog {
  readonly path: string;
  #file: number | undefined;
  #bytes = 0;
  #lines: string[] = [];
  #partial = '';

  constructor(path: string) {
    this.path = path;
  }

  /** The newest lines of the program that was followed last, for error messages. */
  get lastLines(): readonly string[] {
    return this.#lines;
  }

  /** Writes all that a program says, until it ends. */
  follow(source: Readable): void {
    this.#lines = [];
    this.#partial = '';
    this.#open();
    source.setEncoding('utf8');
    source.on('data', (text: string) => this.#write(text));
    source.on('error', () => undefined);
  }

  close(): void {
    if (this.#file === undefined) return;
    closeSync(this.#file);
    this.#file = undefined;
  }

  #open(): void {
    try {
      this.close();
      this.#file = openSync(this.path, 'a', 0o600);
      this.#bytes = fstatSync(this.#file).size;
    } catch {
      this.#file = undefined;
    }
  }

  #write(text: string): void {
    const lines = (this.#partial + text).split('\n');
    this.#partial = (lines.pop() ?? '').slice(-maxLineCharacters);
    this.#lines = [...this.#lines, ...lines.map((line) => line.slice(0, maxLineCharacters))].slice(-keptLines);
    try {
      if (this.#bytes > fileBytes) this.#turnOver();
      if (this.#file !== undefined) this.#bytes += writeSync(this.#file, text);
    } catch {
      // The lines are in memory for the error message; see the class.
    }
  }

  #turnOver(): void {
    renameSync(this.path, `${this.path}.1`);
    this.#open();
  }
}
