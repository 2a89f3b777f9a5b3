/** Procedures of the keepalive program. */
export const PING = 1;
export const PONG = 2;

/** Missed answers after which the other side counts as dead (libvirt's own default). */
const MAX_MISSES = 5;

interface KeepaliveHooks {
  /** A number that grows with every byte from the other side. */
  readonly signs: () => number;
  readonly ping: () => void;
  readonly dead: (afterMs: number) => void;
  /** Whether the connection is of no use although the other side lives. */
  readonly stuck: () => boolean;
}

/**
 * Finds a daemon that has stopped answering. It counts ticks of its own, not time: a process that was itself stopped
 * for an hour gives the other side five more ticks before it judges.
 */
export class Keepalive {
  readonly #hooks: KeepaliveHooks;
  #timer: NodeJS.Timeout | undefined;
  #seen = 0;
  #misses = 0;

  constructor(hooks: KeepaliveHooks) {
    this.#hooks = hooks;
  }

  start(intervalMs: number): void {
    this.#seen = this.#hooks.signs();
    this.#timer = setInterval(() => this.#tick(intervalMs), intervalMs);
    this.#timer.unref();
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  #tick(intervalMs: number): void {
    const signs = this.#hooks.signs();
    this.#misses = signs === this.#seen ? this.#misses + 1 : 0;
    this.#seen = signs;
    if (this.#misses > MAX_MISSES || this.#hooks.stuck()) this.#hooks.dead(this.#misses * intervalMs);
    else if (this.#misses > 0) this.#hooks.ping();
  }
}
