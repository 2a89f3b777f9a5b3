/**
 * Which guests may run in this host's session (host-lease, rules 9 and 10): an entry is made before a guest's group, and
 * leaves only after that group is removed. What is gone never comes back under the same generation. Pure.
 */
import type { HostSession } from '../model/host.ts';
import type { Uuid } from '../model/resource.ts';
import type { DoorRegistered, DoorTicket } from './door.ts';
import type { Rules } from './rules.ts';
import type { RegisterEntry } from './types.ts';

export interface RegisterDisk {
  readonly session: HostSession;
  readonly entries: readonly RegisterEntry[];
  readonly gone: readonly { readonly guestId: Uuid; readonly generation: number }[];
}

type Refusal = Extract<DoorRegistered, { ok: false }>;

/** Guests that are remembered as gone; the oldest are forgotten first, their sessions are long over. */
const maxGone = 10_000;

export class Register {
  readonly #rules: Rules;
  #session: HostSession;
  readonly #entries = new Map<Uuid, RegisterEntry>();
  readonly #gone = new Map<Uuid, number>();

  constructor(session: HostSession, disk: RegisterDisk | undefined, rules: Rules) {
    this.#rules = rules;
    this.#session = session;
    for (const each of disk?.gone ?? []) this.#gone.set(each.guestId, each.generation);
    const same = disk?.session.id === session.id;
    for (const entry of disk?.entries ?? []) {
      if (same) this.#entries.set(entry.guestId, entry);
      else this.#bury(entry.guestId, entry.generation);
    }
  }

  get disk(): RegisterDisk {
    return { session: this.#session, entries: this.entries, gone: this.gone };
  }

  get entries(): readonly RegisterEntry[] {
    return [...this.#entries.values()];
  }

  get gone(): RegisterDisk['gone'] {
    return [...this.#gone].map(([guestId, generation]) => ({ guestId, generation }));
  }

  has(guestId: Uuid): boolean {
    return this.#entries.has(guestId);
  }

  entry(guestId: Uuid): RegisterEntry | undefined {
    return this.#entries.get(guestId);
  }

  /** Another session: nothing of the old one runs any more. */
  begin(session: HostSession): void {
    for (const { guestId, generation } of this.#entries.values()) this.#bury(guestId, generation);
    this.#entries.clear();
    this.#session = session;
  }

  /** Undefined: registered (again). `epoch`: highest that the keeper knows. */
  register({ guestId, generation, epoch, session }: DoorTicket, known: number): Refusal | undefined {
    if (session.id !== this.#session.id)
      return no(
        'session',
        `the order is for session ${session.number}, the host is in session ${this.#session.number}`,
      );
    const entry = this.#entries.get(guestId);
    if (entry && generation < entry.generation)
      return no('generation', `the order has generation ${generation}, it runs under ${entry.generation}`);
    const gone = this.#gone.get(guestId);
    if (this.#rules.generationOnce && gone !== undefined && generation <= gone)
      return no('barred', `its generation ${generation} is gone from this host`);
    // An entry that stands is known to every leader that asked: what it covers may go on under an older epoch.
    if (!entry && this.#rules.epochWithYes && epoch < known)
      return no('epoch', `the order is of epoch ${epoch}, epoch ${known} leads`);
    if (!entry || entry.generation < generation)
      this.#entries.set(guestId, { guestId, generation, epoch: Math.max(epoch, entry?.epoch ?? 0) });
    return undefined;
  }

  /** From now on nothing up to `generation` is registered. True: an entry must be cleared before it is gone. */
  bar(guestId: Uuid, generation: number): boolean {
    const entry = this.#entries.get(guestId);
    if (this.#rules.barGeneration) this.#bury(guestId, generation);
    return entry !== undefined && entry.generation <= generation;
  }

  /** Its group was removed. */
  remove(guestId: Uuid): void {
    const entry = this.#entries.get(guestId);
    if (!entry) return;
    this.#entries.delete(guestId);
    this.#bury(guestId, entry.generation);
  }

  #bury(guestId: Uuid, generation: number): void {
    const before = this.#gone.get(guestId) ?? -1;
    this.#gone.delete(guestId);
    this.#gone.set(guestId, Math.max(before, generation));
    const [oldest] = this.#gone.keys();
    if (this.#gone.size > maxGone && oldest !== undefined) this.#gone.delete(oldest);
  }
}

const no = (why: Refusal['why'], detail: string): Refusal => ({ ok: false, why, detail });
