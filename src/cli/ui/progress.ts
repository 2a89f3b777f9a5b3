/** One line that is redrawn in place; where nobody looks at a terminal, plain lines now and then. */
import type { Io } from '../io.ts';
import { plain } from '../failure.ts';
import { bytes, span } from '../units.ts';
import { paintFor } from './style.ts';
import { cut, pad } from './table.ts';

/** Redraws at most ten times a second; the reader of a terminal sees no more, a slow line is not flooded. */
const redrawMs = 100;

export class StatusLine {
  readonly #io: Io;
  readonly #silent: boolean;
  #shown = '';
  #drawnAt = 0;

  constructor(io: Io, silent: boolean) {
    this.#io = io;
    this.#silent = silent;
  }

  get #live(): boolean {
    return this.#io.stderr.isTTY === true;
  }

  /** Shows a sentence: in place on a terminal, else as a line when it has changed. */
  show(text: string): void {
    const clean = plain(text).replaceAll('\n', ' ');
    if (this.#silent || clean === this.#shown) return;
    if (this.#live) {
      if (Date.now() - this.#drawnAt < redrawMs) return;
      this.#drawnAt = Date.now();
      this.#io.stderr.write(`\r\u001b[2K${cut(clean, (this.#io.stderr.columns ?? 80) - 1)}`);
    } else this.#io.stderr.write(`${clean}\n`);
    this.#shown = clean;
  }

  clear(): void {
    if (!this.#silent && this.#live && this.#shown !== '') this.#io.stderr.write('\r\u001b[2K');
    this.#shown = '';
  }
}

/** Speed over the last seconds, so that a pause or a resumed upload does not spoil the estimate. */
export class Rate {
  readonly #points: { at: number; done: number }[] = [];

  add(done: number, at: number): void {
    this.#points.push({ at, done });
    while (this.#points.length > 2 && at - (this.#points[0]?.at ?? at) > 10_000) this.#points.shift();
  }

  /** Bytes a second; 0 before there is an estimate. */
  get perSecond(): number {
    const [first] = this.#points;
    const last = this.#points.at(-1);
    if (!first || !last || last.at <= first.at) return 0;
    return ((last.done - first.done) * 1000) / (last.at - first.at);
  }
}

/** `debian  [████████    ]  42 %  420 MiB of 1 GiB  35 MiB/s  17 s left`, at most `width` wide. */
export function bar(label: string, done: number, total: number, perSecond: number, width: number): string {
  const part = total > 0 ? Math.min(1, done / total) : 1;
  const left = perSecond > 0 && part < 1 ? `  ${span(((total - done) / perSecond) * 1000)} left` : '';
  const speed = perSecond > 0 ? `  ${bytes(perSecond)}/s` : '';
  const tail = `${pad(String(Math.floor(part * 100)), 3, true)} %  ${bytes(done)} of ${bytes(total)}${speed}${left}`;
  const head = cut(label, 24);
  const space = Math.min(40, width - head.length - tail.length - 6);
  if (space < 5) return cut(`${head}  ${tail}`, width);
  const filled = Math.round(part * space);
  return `${head}  [${'█'.repeat(filled)}${'·'.repeat(space - filled)}]  ${tail}`;
}

/** Progress of bytes: a bar on a terminal, one line per tenth otherwise. */
export class ByteProgress {
  readonly #io: Io;
  readonly #label: string;
  readonly #total: number;
  readonly #silent: boolean;
  readonly #rate = new Rate();
  #drawnAt = 0;
  #tenth = -1;

  constructor(io: Io, label: string, total: number, silent: boolean) {
    this.#io = io;
    this.#label = label;
    this.#total = total;
    this.#silent = silent;
  }

  /** `now` in milliseconds. */
  at(done: number, now: number = Date.now()): void {
    this.#rate.add(done, now);
    if (this.#silent) return;
    if (this.#io.stderr.isTTY === true) return this.#draw(done, now);
    const tenth = Math.floor((done / this.#total) * 10);
    if (tenth <= this.#tenth) return;
    this.#tenth = tenth;
    this.#io.stderr.write(`${this.#label}: ${tenth * 10} % (${bytes(done)} of ${bytes(this.#total)})\n`);
  }

  #draw(done: number, now: number): void {
    if (now - this.#drawnAt < redrawMs && done < this.#total) return;
    this.#drawnAt = now;
    const width = (this.#io.stderr.columns ?? 80) - 1;
    const paint = paintFor(this.#io, this.#io.stderr);
    this.#io.stderr.write(
      `\r\u001b[2K${paint('accent', bar(this.#label, done, this.#total, this.#rate.perSecond, width))}`,
    );
  }

  finish(): void {
    if (!this.#silent && this.#io.stderr.isTTY === true && this.#drawnAt > 0) this.#io.stderr.write('\r\u001b[2K');
  }
}
