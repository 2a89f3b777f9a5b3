/** A client that asks guests over and over, as their users would: what fails, and when they answer again. */
import type { Testbed } from '../testbed/index.ts';

export interface Watched {
  readonly name: string;
  readonly address: string;
}

/** One outage of one guest, as its client saw it. Instants are milliseconds of `performance.now`. */
export interface Outage {
  readonly begunAt: number;
  /** First good answer to a request that was sent after the begin. */
  readonly answeredAt?: number;
  /** Requests sent since the begin, before the first good answer, that failed. */
  readonly failed: number;
}

const everyMs = 50;
const patienceMs = 500;
/** A guest that is away keeps each request for the whole patience: so many are on their way at once. */
const mostWaiting = patienceMs / everyMs;

interface State {
  readonly guest: Watched;
  begunAt: number;
  /** Answers to what was sent before do not count: it may have reached the guest before its end. */
  countsFrom: number;
  answeredAt: number | undefined;
  failed: number;
  waiting: number;
}

/** Asks each guest for its name every 50 ms until it is stopped. */
export class Poller {
  readonly #testbed: Testbed;
  readonly #states = new Map<string, State>();
  readonly #timer: NodeJS.Timeout;

  constructor(testbed: Testbed, guests: readonly Watched[]) {
    this.#testbed = testbed;
    this.watch(guests);
    this.#timer = setInterval(() => this.#ask(), everyMs);
  }

  /** These guests from now on, and no others; what is known of those that stay is kept. */
  watch(guests: readonly Watched[]): void {
    const names = new Set(guests.map(({ name }) => name));
    for (const name of this.#states.keys()) if (!names.has(name)) this.#states.delete(name);
    for (const guest of guests) {
      if (this.#states.has(guest.name)) continue;
      this.#states.set(guest.name, { guest, begunAt: 0, countsFrom: 0, answeredAt: 0, failed: 0, waiting: 0 });
    }
  }

  /** An outage that began at `begunAt`; only what is sent from now on counts. */
  begin(names: readonly string[], begunAt: number = performance.now()): number {
    const countsFrom = performance.now();
    for (const name of names) {
      const state = this.#states.get(name);
      if (state) Object.assign(state, { begunAt, countsFrom, answeredAt: undefined, failed: 0 });
    }
    return begunAt;
  }

  outage(name: string): Outage {
    const state = this.#states.get(name);
    if (!state) throw new Error(`${name} is not asked`);
    const { begunAt, answeredAt, failed } = state;
    return { begunAt, failed, ...(answeredAt === undefined ? {} : { answeredAt }) };
  }

  answering(names: readonly string[]): boolean {
    return names.every((name) => this.#states.get(name)?.answeredAt !== undefined);
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  #ask(): void {
    for (const state of this.#states.values()) if (state.waiting < mostWaiting) void this.#askOne(state);
  }

  async #askOne(state: State): Promise<void> {
    const sentAt = performance.now();
    state.waiting += 1;
    const good = await this.#testbed.httpGet(state.guest.address, '/', { timeoutMs: patienceMs }).then(
      ({ status, body }) => status === 200 && body === state.guest.name,
      () => false,
    );
    state.waiting -= 1;
    if (sentAt < state.countsFrom || state.answeredAt !== undefined) return;
    if (good) state.answeredAt = performance.now();
    else state.failed += 1;
  }
}
