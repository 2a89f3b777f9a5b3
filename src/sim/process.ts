/**
 * A process of the simulation: it may be killed between any two awaits (what it awaits then never comes), and it may
 * stall between any two awaits: timers, messages and answers wait for it and are worked off late, one after the other.
 */
import type { BootClock, Clock } from '../ports.ts';
import type { Random } from './random.ts';
import { epochAt, type VirtualTime } from './time.ts';

/** How often a process stalls by itself, and for how long. */
export interface Stalls {
  /** Probability at each wake-up. */
  readonly chance: number;
  /** Milliseconds, from and to. */
  readonly ms: readonly [number, number];
}

export class Life {
  alive = true;
  readonly #time: VirtualTime;
  readonly #random: Random;
  #stalls: Stalls | undefined;
  /** Work that waits while it stalls; undefined: it does not. */
  #waiting: (() => void)[] | undefined;
  #cancel: (() => void) | undefined;

  constructor(time: VirtualTime, random: Random, stalls?: Stalls) {
    this.#time = time;
    this.#random = random;
    this.#stalls = stalls;
  }

  kill(): void {
    this.alive = false;
    this.#waiting = undefined;
    this.#cancel?.();
  }

  set stalls(stalls: Stalls | undefined) {
    this.#stalls = stalls;
  }

  get stalled(): boolean {
    return this.#waiting !== undefined;
  }

  /** Stops it (SIGSTOP), for `ms` or until `resume`. */
  stall(ms: number = Infinity): void {
    if (!this.alive) return;
    this.#waiting ??= [];
    this.#cancel?.();
    this.#cancel = ms === Infinity ? undefined : this.#time.after(ms, () => this.resume());
  }

  /** Goes on (SIGCONT): first with what waited, in its order, other processes in between. */
  resume(): void {
    this.#cancel?.();
    const next = this.#waiting?.shift();
    if (!next) {
      this.#waiting = undefined;
      return;
    }
    next();
    // A stall within what just ran has its own end.
    this.#cancel = this.#time.after(0, () => this.resume());
  }

  /** Everything that reaches the process from outside comes through here. */
  enter(work: () => void): void {
    if (!this.alive) return;
    if (!this.#waiting && this.#stalls && this.#random.chance(this.#stalls.chance))
      this.stall(this.#random.whole(...this.#stalls.ms));
    if (this.#waiting) this.#waiting.push(work);
    else work();
  }

  /** Runs `work` in the process after `ms`; returns the way to call it off. */
  after(ms: number, work: () => void): () => void {
    let off = false;
    const cancel = this.#time.after(ms, () => {
      // Called off while it waited for a stalled process: the process never sees it.
      this.enter(() => {
        if (!off) work();
      });
    });
    return () => {
      off = true;
      cancel();
    };
  }

  /** The promise as the process sees it: it hears of the outcome when it runs, and never once it is killed. */
  async of<T>(promise: Promise<T>): Promise<T> {
    return new Promise((resolve, refuse) => {
      promise.then(
        (value) => this.enter(() => resolve(value)),
        (error: unknown) => this.enter(() => refuse(error)),
      );
    });
  }
}

/** Makes a call of a process take virtual time before and after its effect, so that a crash can fall in between. */
export type Slow = <T>(work: () => T | Promise<T>) => Promise<T>;

/**
 * `mostMs`: most milliseconds of each half. The effect itself happens although the process stalls meanwhile, as a system
 * call does; its answer waits.
 */
export function slowly(time: VirtualTime, life: Life, random: Random, mostMs: number): Slow {
  return async (work) =>
    new Promise((resolve, refuse) => {
      const answer = (settle: () => void): void => void life.after(random.whole(0, mostMs), settle);
      time.after(random.whole(0, mostMs), () => {
        if (!life.alive) return;
        try {
          const result = work();
          if (result instanceof Promise)
            result.then(
              (value) => answer(() => resolve(value)),
              (error: unknown) => answer(() => refuse(error)),
            );
          else answer(() => resolve(result));
        } catch (error) {
          answer(() => refuse(error));
        }
      });
    });
}

/** Time as one machine counts it: `rate` 1.01 runs one per cent fast; the boot-time clock starts anywhere at each boot. */
export class MachineTime {
  readonly #time: VirtualTime;
  readonly rate: number;
  #bootAt = 0;
  #start = 0;

  constructor(time: VirtualTime, rate: number) {
    this.#time = time;
    this.rate = rate;
  }

  boot(start: number): void {
    this.#bootAt = this.#time.now;
    this.#start = start;
  }

  /** Milliseconds of CLOCK_BOOTTIME. */
  boottime(): number {
    return this.#start + (this.#time.now - this.#bootAt) * this.rate;
  }

  wall(): number {
    return Math.round(epochAt + this.#time.now * this.rate);
  }
}

function sleeper(life: Life, rate: number): Clock['sleep'] {
  return async (ms, signal) =>
    new Promise((resolve, refuse) => {
      if (signal?.aborted) {
        refuse(signal.reason as Error);
        return;
      }
      const aborted = (): void => {
        cancel();
        if (life.alive) refuse(signal?.reason as Error);
      };
      const cancel = life.after(ms / rate, () => {
        signal?.removeEventListener('abort', aborted);
        resolve();
      });
      signal?.addEventListener('abort', aborted, { once: true });
    });
}

export function clockOf(life: Life, machine: MachineTime): Clock {
  return {
    now: () => machine.wall(),
    monotonic: () => machine.boottime(),
    sleep: sleeper(life, machine.rate),
  };
}

export function bootClockOf(life: Life, machine: MachineTime): BootClock {
  return { now: () => machine.boottime(), sleep: sleeper(life, machine.rate) };
}
