/** Small files that answers rest on: an answer waits for the last write of just those records it rests on. */
import type { BootClock, Files, Log } from '../ports.ts';

const retryMs = 250;

interface Slot {
  /** What should be on disk, and what is. */
  wanted: string;
  written: string | undefined;
  writing: boolean;
  waiting: { readonly text: string; readonly done: () => void }[];
}

export class Durable {
  readonly #files: Files;
  readonly #clock: BootClock;
  readonly #log: Log;
  readonly #slots = new Map<string, Slot>();
  #failing = false;

  constructor(files: Files, clock: BootClock, log: Log) {
    this.#files = files;
    this.#clock = clock;
    this.#log = log;
  }

  /** What was read from the disk at the start: it needs no writing. */
  known(path: string, text: string): void {
    this.#slots.set(path, { wanted: text, written: text, writing: false, waiting: [] });
  }

  /** A write failed and has not succeeded since. */
  get failing(): boolean {
    return this.#failing;
  }

  /**
   * Wants this text in the file. Undefined: it is there already; else resolves when this text, or a later one that was
   * wanted after it, is on disk. A disk that refuses is tried again for ever: until then nobody is answered.
   */
  put(path: string, text: string): Promise<void> | undefined {
    const slot = this.#slot(path);
    if (slot.wanted === text && slot.written === text) return undefined;
    slot.wanted = text;
    const done = new Promise<void>((resolve) => slot.waiting.push({ text, done: resolve }));
    if (!slot.writing) void this.#write(path, slot);
    return done;
  }

  /** Undefined: what was wanted last is on disk; else resolves when it is. */
  pending(path: string): Promise<void> | undefined {
    const slot = this.#slots.get(path);
    return slot && slot.written !== slot.wanted ? this.put(path, slot.wanted) : undefined;
  }

  #slot(path: string): Slot {
    const known = this.#slots.get(path);
    if (known) return known;
    const made: Slot = { wanted: '', written: undefined, writing: false, waiting: [] };
    this.#slots.set(path, made);
    return made;
  }

  async #write(path: string, slot: Slot): Promise<void> {
    slot.writing = true;
    while (slot.written !== slot.wanted) {
      const text = slot.wanted;
      const waited = slot.waiting.length;
      try {
        await this.#files.write(path, text);
        this.#failing = false;
        slot.written = text;
        for (const each of slot.waiting.splice(0, waited)) each.done();
      } catch (error) {
        if (!this.#failing)
          this.#log.error('the keeper cannot write; it answers nobody', { path, error: String(error) });
        this.#failing = true;
        await this.#clock.sleep(retryMs);
      }
    }
    for (const each of slot.waiting.splice(0)) each.done();
    slot.writing = false;
  }
}
