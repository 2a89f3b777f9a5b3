import { onDeadline } from './deadline.ts';
import { LibvirtError } from './errors.ts';

/** One call on its way: what to send, and what to do with the outcome. */
export interface Call {
  readonly serial: number;
  readonly name: string;
  readonly number: number;
  /** Puts the call on the wire. */
  readonly send: () => void;
  readonly resolve: (body: Buffer) => void;
  readonly reject: (error: LibvirtError) => void;
}

interface Slot {
  readonly call: Call;
  readonly off: () => void;
  /** When the caller stopped waiting (ms of the monotonic clock), while the daemon still owes the reply. */
  abandonedAt?: number;
}

/**
 * The calls of one connection: a few in flight, the others waiting, both bounded.
 *
 * libvirtd serves five requests of a client at a time and, while it does, does not read that client's socket: neither
 * the sixth request nor the answer to its keepalive ping, for lack of which it would drop us. So never more than
 * `maxInFlight` (four) are on the wire; a call whose caller gave up keeps its place until its reply has come.
 */
export class CallTable {
  readonly #maxInFlight: number;
  readonly #maxQueued: number;
  readonly #inFlight = new Map<number, Slot>();
  readonly #queue = new Map<number, Slot>();
  #idle: (() => void)[] = [];

  constructor(maxInFlight: number, maxQueued: number) {
    this.#maxInFlight = maxInFlight;
    this.#maxQueued = maxQueued;
  }

  /** Calls in flight and waiting. */
  get size(): number {
    return this.#inFlight.size + this.#queue.size;
  }

  has(serial: number): boolean {
    return this.#inFlight.has(serial) || this.#queue.has(serial);
  }

  /** Sends the call, or queues it. @throws LibvirtError (busy) where the queue is full. */
  add(call: Call, timeoutMs: number, signal: AbortSignal | undefined): void {
    if (this.#inFlight.size >= this.#maxInFlight && this.#queue.size >= this.#maxQueued) {
      throw new LibvirtError('busy', `${call.name}: ${this.size} calls are waiting already`, { procedure: call.name });
    }
    let stopped = false;
    const off = onDeadline(call.name, timeoutMs, signal, (error) => {
      stopped = true;
      this.#abandon(call, error);
    });
    if (stopped) return;
    this.#queue.set(call.serial, { call, off });
    this.#pump();
  }

  #abandon(call: Call, error: LibvirtError): void {
    const slot = this.#inFlight.get(call.serial);
    if (slot !== undefined) slot.abandonedAt = performance.now();
    this.#queue.delete(call.serial);
    call.reject(error);
    this.#settled();
  }

  #pump(): void {
    for (const [serial, slot] of this.#queue) {
      if (this.#inFlight.size >= this.#maxInFlight) return;
      this.#queue.delete(serial);
      this.#inFlight.set(serial, slot);
      slot.call.send();
    }
  }

  /** Takes the call that a reply belongs to; `undefined` where nobody waits for it any more. */
  take(serial: number): Call | undefined {
    const slot = this.#inFlight.get(serial);
    if (slot === undefined) return undefined;
    slot.off();
    this.#inFlight.delete(serial);
    this.#pump();
    this.#settled();
    return slot.abandonedAt === undefined ? slot.call : undefined;
  }

  /** Whether every place in flight has been held for so long by replies that nobody waits for any more. */
  stuck(forMs: number): boolean {
    if (this.#inFlight.size < this.#maxInFlight) return false;
    const before = performance.now() - forMs;
    return [...this.#inFlight.values()].every(({ abandonedAt }) => abandonedAt !== undefined && abandonedAt < before);
  }

  /** Rejects everything. */
  fail(error: LibvirtError): void {
    const slots = [...this.#inFlight.values(), ...this.#queue.values()];
    this.#inFlight.clear();
    this.#queue.clear();
    for (const { call, off, abandonedAt } of slots) {
      off();
      if (abandonedAt === undefined) call.reject(error);
    }
    this.#settled();
  }

  /** Resolves when no caller waits any more. */
  drained(): Promise<void> {
    return new Promise((resolve) => {
      this.#idle.push(resolve);
      this.#settled();
    });
  }

  #settled(): void {
    if (this.#idle.length === 0 || this.#queue.size > 0) return;
    if ([...this.#inFlight.values()].some(({ abandonedAt }) => abandonedAt === undefined)) return;
    const idle = this.#idle;
    this.#idle = [];
    for (const resolve of idle) resolve();
  }
}
