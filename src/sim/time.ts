interface Timer {
  readonly at: number;
  readonly order: number;
  /** Undefined: called off. */
  run: (() => void) | undefined;
}

/** Instant of virtual time zero: 2026-01-01T00:00:00Z, so that records look like records. */
export const epochAt = 1_767_225_600_000;

/** Timers after which the real event loop gets a turn: signals, messages between threads. */
const turnEvery = 8192;

/**
 * Time that passes only when nothing is left to do. Between two timers every promise that can settle has settled, so a
 * history depends on the seed alone and never on the machine's speed.
 */
export class VirtualTime {
  #now = 0;
  #order = 0;
  /** A binary heap: the next timer is the first. */
  readonly #timers: Timer[] = [];
  #ran = 0;

  /** Milliseconds since the beginning. */
  get now(): number {
    return this.#now;
  }

  /** Timers that ran so far: how much happened. */
  get ran(): number {
    return this.#ran;
  }

  /** Runs `run` in `ms`; returns the way to call it off. */
  after(ms: number, run: () => void): () => void {
    this.#order += 1;
    const timer: Timer = { at: this.#now + Math.max(0, ms), order: this.#order, run };
    this.#push(timer);
    return () => {
      timer.run = undefined;
    };
  }

  /** Lets time pass until `end` (milliseconds since the beginning), or until `stop` says so after a timer. */
  async runUntil(end: number, stop?: () => boolean): Promise<void> {
    return new Promise((done, failed) => {
      const step = (): void => {
        try {
          const next = stop?.() === true ? undefined : this.#next(end);
          if (next) {
            this.#now = next.at;
            this.#ran += 1;
            next.run?.();
            settled(step, this.#ran % turnEvery === 0);
            return;
          }
          if (stop?.() !== true) this.#now = Math.max(this.#now, end);
          done();
        } catch (error) {
          failed(error);
        }
      };
      settled(step, false);
    });
  }

  /** Takes out the next timer that is due by `end` and was not called off. */
  #next(end: number): Timer | undefined {
    for (;;) {
      const first = this.#timers[0];
      if (!first || first.at > end) return undefined;
      this.#pop();
      if (first.run) return first;
    }
  }

  #push(timer: Timer): void {
    const heap = this.#timers;
    let index = heap.length;
    while (index > 0) {
      const above = (index - 1) >> 1;
      const parent = heap[above];
      if (!parent || before(parent, timer)) break;
      heap[index] = parent;
      index = above;
    }
    heap[index] = timer;
  }

  #pop(): void {
    const heap = this.#timers;
    const last = heap.pop();
    if (!last || heap.length === 0) return;
    let index = 0;
    for (;;) {
      let below = 2 * index + 1;
      let child = heap[below];
      const right = heap[below + 1];
      if (child && right && before(right, child)) {
        below += 1;
        child = right;
      }
      if (!child || before(last, child)) break;
      heap[index] = child;
      index = below;
    }
    heap[index] = last;
  }
}

const before = (a: Timer, b: Timer): boolean => a.at < b.at || (a.at === b.at && a.order < b.order);

/**
 * Calls `then` once every promise that can settle has settled. Node runs what is due at the next tick only when no
 * microtask is left; asked for within a microtask, it comes after all of them and long before the event loop turns.
 */
function settled(then: () => void, turn: boolean): void {
  if (turn) setImmediate(then);
  else queueMicrotask(() => process.nextTick(then));
}
