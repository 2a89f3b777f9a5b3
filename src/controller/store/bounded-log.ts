/** A log file that never grows beyond two times its bound. */
import { createWriteStream, type WriteStream } from 'node:fs';
import { rename, stat } from 'node:fs/promises';
import type { Readable } from 'node:stream';

/** Bytes after which the file is renamed to `.1` (replacing the one before). */
const fileBytes = 5 * 1024 * 1024;
const keptLines = 20;

export class BoundedLog {
  readonly path: string;
  #stream: WriteStream | undefined;
  #bytes = 0;
  #lines: string[] = [];
  #partial = '';

  constructor(path: string) {
    this.path = path;
  }

  /** The newest lines, for error messages. */
  get lastLines(): readonly string[] {
    return this.#lines;
  }

  /** Writes all that a program says, until it ends. Never holds the program up: if the disk fails, lines are lost. */
  async follow(source: Readable): Promise<void> {
    this.#lines = [];
    await this.#open();
    source.setEncoding('utf8');
    source.on('data', (text: string) => this.#write(text));
    source.once('close', () => this.#stream?.end());
  }

  async #open(): Promise<void> {
    const size = await stat(this.path).then(
      (found) => found.size,
      () => 0,
    );
    if (size > fileBytes) await rename(this.path, `${this.path}.1`).catch(() => undefined);
    this.#bytes = size > fileBytes ? 0 : size;
    this.#stream = createWriteStream(this.path, { flags: 'a', mode: 0o600 });
    // The database must not stop because its log cannot be written.
    this.#stream.on('error', () => undefined);
  }

  #write(text: string): void {
    const lines = (this.#partial + text).split('\n');
    this.#partial = (lines.pop() ?? '').slice(-4096);
    this.#lines = [...this.#lines, ...lines].slice(-keptLines);
    this.#stream?.write(text);
    this.#bytes += Buffer.byteLength(text);
    if (this.#bytes <= fileBytes) return;
    this.#bytes = 0;
    this.#stream?.end();
    void this.#open();
  }
}
