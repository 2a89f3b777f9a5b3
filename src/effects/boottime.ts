/**
 * The boot-time clock: it counts while the machine sleeps and nobody can set it. Node reads CLOCK_MONOTONIC, which stops
 * during sleep; `/proc/uptime` shows CLOCK_BOOTTIME, rounded down to 10 ms (proc(5)). So the time is CLOCK_MONOTONIC plus
 * the sleep so far, and that offset is the highest difference seen: every sample is at most the truth, and the truth
 * only rises.
 */
import { closeSync, openSync, readSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { BootClock } from '../ports.ts';

/** Milliseconds of CLOCK_MONOTONIC for which one sample serves, where the wall clock shows no sleep either. */
const reuseMs = 1;
/** Milliseconds of wall clock against CLOCK_MONOTONIC that may be a sleep. */
const jumpMs = 2;
/** Longest wait for the counter of `/proc/uptime` to step, once at the start: it makes the first offset exact. */
const settleMs = 15;

export interface ClockSources {
  /** CLOCK_MONOTONIC, milliseconds. */
  readonly monotonic: () => number;
  /** Wall clock, milliseconds: only a hint that the machine slept. */
  readonly wall: () => number;
  /** CLOCK_BOOTTIME, milliseconds, rounded down to 10. */
  readonly uptime: () => number;
}

const digitZero = 48;

/** Reads `/proc/uptime` through a descriptor that stays open: it costs a microsecond. */
function uptimeReader(): () => number {
  const handle = openSync('/proc/uptime', 'r');
  const bytes = Buffer.alloc(64);
  return () => {
    const length = readSync(handle, bytes, 0, bytes.length, 0);
    let hundredths = 0;
    for (let index = 0; index < length; index += 1) {
      const byte = bytes[index] ?? 0;
      if (byte === 0x20) return hundredths * 10;
      if (byte !== 0x2e) hundredths = hundredths * 10 + (byte - digitZero);
    }
    closeSync(handle);
    throw new Error(`/proc/uptime cannot be read: ${bytes.toString('latin1', 0, length)}`);
  };
}

export function realSources(): ClockSources {
  return {
    monotonic: () => {
      const [seconds, nanoseconds] = process.hrtime();
      return seconds * 1000 + nanoseconds / 1e6;
    },
    wall: () => Date.now(),
    uptime: uptimeReader(),
  };
}

/** Exact to some microseconds from the start; after a sleep low by at most 10 ms, until the next samples correct it. */
export class BootTime implements BootClock {
  readonly #sources: ClockSources;
  #offset = 0;
  #sampledAt = Number.NEGATIVE_INFINITY;
  #wallOffset = 0;

  constructor(sources: ClockSources = realSources()) {
    this.#sources = sources;
    const until = sources.monotonic() + settleMs;
    const first = sources.uptime();
    this.#sample();
    while (sources.uptime() === first && sources.monotonic() < until);
    this.#sample();
  }

  now(): number {
    const { monotonic, wall } = this.#sources;
    const at = monotonic();
    const slept = Math.abs(wall() - at - this.#wallOffset) > jumpMs;
    // A grant that is stamped without the sleep before it would seem to have run out long ago.
    if (slept || at - this.#sampledAt > reuseMs) return this.#sample();
    return at + this.#offset;
  }

  /** Milliseconds that the machine has slept since it booted (at least). */
  sleptMs(): number {
    return Math.max(0, this.#offset);
  }

  async sleep(ms: number, signal?: AbortSignal): Promise<void> {
    await sleep(ms, undefined, signal ? { signal } : {});
  }

  #sample(): number {
    const { monotonic, wall, uptime } = this.#sources;
    const shown = uptime();
    const after = monotonic();
    this.#offset = this.#sampledAt === Number.NEGATIVE_INFINITY ? shown - after : Math.max(this.#offset, shown - after);
    this.#sampledAt = after;
    this.#wallOffset = wall() - after;
    return after + this.#offset;
  }
}
