import type { Clock } from '../ports.ts';

interface Timer {
  readonly at: number;
  readonly order: number;
  readonly run: () => void;
  cancelled: boolean;
}

/** Instant of virtual time zero: 2026-01-01T00:00:00Z, so that records look like records. */
export const epochAt = 1_767_225_600_000;

/**
 * Time that passes only when nothing is left to do. Between two timers every promise that can settle has settled, so a
 * history depends on the seed alone and never on the machine's speed.
 */
export class VirtualTime {
  #now = 0;
  #order = 0;
  #timers: Timer[] = [];

  /** Milliseconds since the beginning. */
  get now(): number {
    return this.#now;
  }

  /** Runs `run` in `ms`; returns the way to call it off. */
  after(ms: number, run: () => void): () => void {
    this.#order += 1;
    const timer: Timer = { at: this.#now + Math.max(0, ms), order: this.#order, run, cancelled: false };
    let low = 0;
    let high = this.#timers.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#timers[middle]?.at ?? Infinity) <= timer.at) low = middle + 1;
      else high = middle;
    }
    this.#timers.splice(low, 0, timer);
    return () => {
      timer.cancelled = true;
    };
  }

  /** Lets time pass until `end` (milliseconds since the beginning). */
  async runUntil(end: number): Promise<void> {
    for (;;) {
      await settle();
      const next = this.#timers[0];
      if (!next || next.at > end) break;
      this.#timers.shift();
      this.#now = next.at;
      if (!next.cancelled) next.run();
    }
    this.#now = Math.max(this.#now, end);
  }
}

/** Every promise that can settle without time passing has settled when this resolves. */
async function settle(): Promise<void> {
  await new Promise<void>((done) => {
    setImmediate(done);
  });
}

/** A process of the simulation; what it awaits when it is killed never comes. */
export class Life {
  alive = true;

  kill(): void {
    this.alive = false;
  }

  /** The promise as the process sees it: once it is killed, nothing comes any more. */
  async of<T>(promise: Promise<T>): Promise<T> {
    try {
      return await promise;
    } finally {
      if (!this.alive) await never;
    }
  }
}

const never = new Promise<never>(() => {});

/** A process's clock. `drift` 0.01 makes it run one per cent fast. */
export function clockOf(time: VirtualTime, life: Life, drift = 0): Clock {
  return {
    now: () => Math.round(epochAt + time.now * (1 + drift)),
    monotonic: () => time.now * (1 + drift),
    sleep: (ms, signal) =>
      new Promise((done, refuse) => {
        if (signal?.aborted) {
          refuse(signal.reason as Error);
          return;
        }
        const cancel = time.after(ms / (1 + drift), () => life.alive && done());
        signal?.addEventListener('abort', () => {
          cancel();
          if (life.alive) refuse(signal.reason as Error);
        });
      }),
  };
}
