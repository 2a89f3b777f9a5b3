/** Watches every guest of the simulation: law 1 at each instant, and what was stopped, frozen or started. */
import type { Uuid } from '../core/model/resource.ts';
import type { VirtualTime } from './time.ts';

export interface Violation {
  readonly at: number;
  readonly law: number;
  readonly text: string;
}

/** One copy of a guest on one machine. */
export interface Copy {
  readonly guestId: Uuid;
  readonly machine: string;
}

export interface Happening {
  readonly at: number;
  /** `ran`: executes now · `froze`: it was frozen · `ended`: it is no more · `held`: paused or created paused. */
  readonly what: 'ran' | 'froze' | 'ended' | 'paused';
  readonly copy: Copy;
}

export class Laws {
  readonly #time: VirtualTime;
  readonly #executing = new Map<Uuid, Set<Copy>>();
  readonly violations: Violation[] = [];
  readonly happenings: Happening[] = [];

  constructor(time: VirtualTime) {
    this.#time = time;
  }

  /** Where the guest executes: runs and is not frozen. */
  executing(guestId: Uuid): readonly string[] {
    return [...(this.#executing.get(guestId) ?? [])].map(({ machine }) => machine);
  }

  /** A copy executes from now on. Two at one moment break law 1. */
  runs(copy: Copy): void {
    const copies = this.#executing.get(copy.guestId) ?? new Set();
    this.#executing.set(copy.guestId, copies);
    if (copies.has(copy)) return;
    copies.add(copy);
    this.#note('ran', copy);
    if (copies.size > 1)
      this.violated(1, `two copies of ${copy.guestId} run: ${[...copies].map(({ machine }) => machine).join(', ')}`);
  }

  /** It does not execute any more. */
  rests(copy: Copy, what: 'froze' | 'ended' | 'paused'): void {
    const ran = this.#executing.get(copy.guestId)?.delete(copy);
    if (ran === true || what === 'ended') this.#note(what, copy);
  }

  violated(law: number, text: string): void {
    this.violations.push({ at: this.#time.now, law, text });
  }

  #note(what: Happening['what'], copy: Copy): void {
    this.happenings.push({ at: this.#time.now, what, copy });
  }
}
