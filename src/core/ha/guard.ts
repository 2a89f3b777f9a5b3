/**
 * The guard's rules (host-lease, rule 3): the guests of a session run before its deadline, and never after. It alone
 * thaws. Pure but for its effects, which are few, synchronous, and the simulator's as well.
 */
import type { HostSession } from '../model/host.ts';
import type { Uuid } from '../model/resource.ts';
import { sessionGroup } from './groups.ts';
import { longestMs } from './margin.ts';
import { allRules, type Rules } from './rules.ts';

export interface GuardEffects {
  /** Boot-time clock, milliseconds. */
  now(): number;
  /** Names of the groups of sessions that there are (`sessionGroup`). */
  groups(): readonly string[];
  /** Asks for it; frozen are they milliseconds later. */
  freeze(group: string): void;
  thaw(group: string): void;
  /** Freezing was asked for, whether or not all are frozen yet. */
  freezing(group: string): boolean;
  /** Everything in the group is frozen, and who enters will be (also when there is no such group). */
  frozen(group: string): boolean;
  /** Kills what is in the groups of these guests. */
  kill(group: string, guestIds: readonly Uuid[]): void;
  /** Remembers the deadline for the next guard; before it is answered for. */
  keep(kept: GuardKept): void;
}

export interface GuardKept {
  readonly session: HostSession;
  readonly deadline: number;
}

export interface GuardSettings {
  /** k: from the deadline to frozen guests, milliseconds. */
  readonly boundMs: number;
  /** How long after a lapse guests that hold locks on shared storage are killed, milliseconds; 0: at once. */
  readonly graceMs: number;
}

export interface GuardOrder {
  readonly session: HostSession;
  /** Boot-time clock, milliseconds. */
  readonly deadline: number;
  /** Also an earlier one than before (rule 14). */
  readonly force: boolean;
  readonly boundMs?: number;
  readonly graceMs?: number;
  /** Guests that hold locks on shared storage. */
  readonly lockers?: readonly Uuid[];
}

export interface GuardAnswer {
  readonly session: HostSession;
  readonly deadline: number;
  /** When the guard looked, its clock. */
  readonly at: number;
  /** Worst lag of the last minute, milliseconds. */
  readonly lagMs: number;
  readonly frozen: boolean;
}

export interface GuardEvent {
  readonly what: 'frozen' | 'thawed' | 'killed' | 'lagged' | 'refused';
  readonly group: string;
  readonly ms?: number;
}

/** The worst lag is told for one to two of these, milliseconds. */
const lagPeriodMs = 30_000;
/** A deadline further away than any lease is a mistake (of a clock, of a keeper): it does not count. */
const furthestMs = longestMs + 1000;

export class Guard {
  readonly #effects: GuardEffects;
  readonly #tell: (event: GuardEvent) => void;
  readonly #rules: Pick<Rules, 'guardThaws'>;
  #boundMs: number;
  #graceMs: number;
  #session: HostSession | undefined;
  #deadline = Number.NEGATIVE_INFINITY;
  #lockers: readonly Uuid[] = [];
  /** Its lockers were killed in this lapse. */
  #killed = false;
  #due: number;
  #lagging = false;
  #worstMs = 0;
  #worstBeforeMs = 0;
  #periodAt: number;

  /** `kept`: what an earlier guard of this boot and host remembered. */
  constructor(
    effects: GuardEffects,
    settings: GuardSettings,
    kept?: GuardKept,
    tell: (event: GuardEvent) => void = () => {},
    rules: Pick<Rules, 'guardThaws'> = allRules,
  ) {
    this.#rules = rules;
    this.#effects = effects;
    this.#tell = tell;
    this.#boundMs = settings.boundMs;
    this.#graceMs = settings.graceMs;
    const now = effects.now();
    if (kept && kept.deadline <= now + furthestMs) {
      this.#session = kept.session;
      this.#deadline = kept.deadline;
    }
    this.#due = now;
    this.#periodAt = now;
  }

  /** Milliseconds: worst lag of the last minute. */
  get lagMs(): number {
    return Math.max(this.#worstMs, this.#worstBeforeMs);
  }

  /**
   * Takes an order of the keeper. Without an answer for that very session the deadline does not count: an older session is
   * answered with the present one; there is none when the order is senseless, or the guard itself ran too late.
   */
  order(order: GuardOrder): GuardAnswer | undefined {
    const now = this.#effects.now();
    const group = sessionGroup(order.session);
    this.#measure(now);
    if (order.deadline > now + furthestMs || !this.#mayBecome(order.session)) {
      this.#tell({ what: 'refused', group });
      // A keeper whose disk was wiped learns from this what it must go above.
      return order.deadline > now + furthestMs ? undefined : this.answer();
    }
    this.#boundMs = order.boundMs ?? this.#boundMs;
    this.#graceMs = order.graceMs ?? this.#graceMs;
    this.#lockers = order.lockers ?? this.#lockers;
    const other = this.#session?.id !== order.session.id;
    const deadline = other || order.force ? order.deadline : Math.max(order.deadline, this.#deadline);
    if (other || deadline !== this.#deadline) this.#effects.keep({ session: order.session, deadline });
    this.#session = order.session;
    this.#deadline = deadline;
    this.#act();
    this.#plan();
    return this.answer();
  }

  /** What it vouches for now: nothing while it runs late, or without a session. */
  answer(): GuardAnswer | undefined {
    const state = this.#lagging ? undefined : this.state();
    return state && { ...state, at: this.#effects.now() };
  }

  /** What is so now, without an order. */
  state(): (GuardKept & { readonly lagMs: number; readonly frozen: boolean }) | undefined {
    const session = this.#session;
    if (!session) return undefined;
    const frozen = this.#effects.frozen(sessionGroup(session));
    return { session, deadline: this.#deadline, lagMs: this.lagMs, frozen };
  }

  /** When `check` must be called, at the latest. */
  get due(): number {
    return this.#due;
  }

  /** Looks at clock and freezers, and does what is due. Gives the time at which it must be called again, at the latest. */
  check(): number {
    this.#measure(this.#effects.now());
    this.#act();
    this.#plan();
    return this.#due;
  }

  /** The look that is due stays due, however often we look before: only a look in time shows that we can be trusted. */
  #plan(): void {
    const after = this.#effects.now();
    this.#due = Math.min(this.#due > after ? this.#due : Number.POSITIVE_INFINITY, this.#next(after));
  }

  #act(): void {
    const now = this.#effects.now();
    const current = this.#session && sessionGroup(this.#session);
    for (const group of this.#effects.groups()) {
      if (group === current && now < this.#deadline) this.#run(group);
      else this.#stop(group);
    }
    if (current !== undefined && now >= this.#deadline) this.#lapsed(current, now);
  }

  /** The same session, or a later one: an older keeper's word must not bring an older session back to life. */
  #mayBecome({ number, id }: HostSession): boolean {
    const session = this.#session;
    return session === undefined || number > session.number || (number === session.number && id === session.id);
  }

  #run(group: string): void {
    this.#killed = false;
    if (!this.#effects.freezing(group)) return;
    this.#effects.thaw(group);
    // It may have stalled between looking at the clock and thawing.
    if (this.#rules.guardThaws && this.#effects.now() >= this.#deadline) this.#effects.freeze(group);
    else this.#tell({ what: 'thawed', group });
  }

  #stop(group: string): void {
    if (this.#effects.freezing(group)) return;
    this.#effects.freeze(group);
    this.#tell({ what: 'frozen', group });
  }

  #lapsed(group: string, now: number): void {
    if (this.#killed || this.#lockers.length === 0 || now < this.#deadline + this.#graceMs) return;
    this.#killed = true;
    this.#effects.kill(group, this.#lockers);
    this.#tell({ what: 'killed', group });
  }

  #next(now: number): number {
    const times = [now + this.#boundMs / 2];
    if (this.#deadline > now) times.push(this.#deadline);
    const killAt = this.#deadline + this.#graceMs;
    if (!this.#killed && this.#lockers.length > 0 && killAt > now) times.push(killAt);
    return Math.min(...times);
  }

  /** How late we are for what was due. Too late once: we vouch for nothing until we were in time again. */
  #measure(now: number): void {
    const lag = Math.max(0, now - this.#due);
    if (now - this.#periodAt >= lagPeriodMs) {
      this.#worstBeforeMs = this.#worstMs;
      this.#worstMs = 0;
      this.#periodAt = now;
    }
    this.#worstMs = Math.max(this.#worstMs, lag);
    const lagged = lag > this.#boundMs / 2;
    if (lagged && !this.#lagging) this.#tell({ what: 'lagged', group: '', ms: lag });
    // Before it is due nothing was proven: only a look that was due, and in time, ends the doubt.
    if (lagged) this.#lagging = true;
    else if (now >= this.#due) this.#lagging = false;
  }
}
