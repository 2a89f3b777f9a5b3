/** Which guests may run on this host now: registered at the door, shown to the leader, barred by it (host-lease, rules 9 and 10). */
import { VirgaError } from '../core/errors.ts';
import type { DoorRegistered, DoorTicket } from '../core/ha/door.ts';
import { compareEpochs } from '../core/ha/epoch.ts';
import type { HostLease } from '../core/ha/lease.ts';
import type { Register } from '../core/ha/register.ts';
import type { Rules } from '../core/ha/rules.ts';
import { registerPage } from '../core/ha/types.ts';
import type {
  Bar,
  BarAnswer,
  Epoch,
  LeaseState,
  ListVersion,
  RegisterAnswer,
  RegisterQuery,
} from '../core/ha/types.ts';
import type { Uuid } from '../core/model/resource.ts';
import type { Durable } from './durable.ts';
import { clearGuest } from './ends.ts';
import { paths } from './memory.ts';
import type { KeeperPorts } from './ports.ts';

export interface EntriesWorld {
  readonly ports: KeeperPorts;
  readonly durable: Durable;
  readonly rules: Rules;
  readonly hostId: Uuid;
  readonly name: string;
  readonly diskId: Uuid;
  /** The session ends or has ended: nothing more may run in it. */
  readonly ending: () => boolean;
  /** Highest epoch that was heard of. */
  readonly epoch: () => Epoch;
  /** Takes a higher one; it is on disk when this resolves. */
  readonly learn: (epoch: Epoch) => Promise<void>;
  readonly confirmed: () => ListVersion;
  readonly state: () => LeaseState;
}

export class Entries {
  readonly #lease: HostLease;
  readonly #register: Register;
  readonly #world: EntriesWorld;

  constructor(lease: HostLease, register: Register, world: EntriesWorld) {
    this.#lease = lease;
    this.#register = register;
    this.#world = world;
  }

  async keep(): Promise<void> {
    await this.#world.durable.put(paths.register, JSON.stringify(this.#register.disk));
  }

  async register(ticket: DoorTicket): Promise<DoorRegistered> {
    const early = this.#mayNot(ticket);
    if (early) return early;
    const refusal = this.#register.register(ticket, this.#world.epoch().number);
    if (refusal) return refusal;
    await this.keep();
    const late = this.#mayNot(ticket);
    if (late) return late;
    const group = await this.#world.ports.groups.make(ticket.session, ticket.guestId);
    // Both took time: what was so before says nothing about now (rule 10).
    if (!this.#register.has(ticket.guestId)) return { ok: false, why: 'barred', detail: 'it was barred meanwhile' };
    return this.#mayNot(ticket) ?? { ok: true, group };
  }

  #mayNot({ session }: DoorTicket): Extract<DoorRegistered, { ok: false }> | undefined {
    const present = this.#lease.session;
    if (session.id !== present.id)
      return {
        ok: false,
        why: 'session',
        detail: `the order is for session ${session.number}, the host is in session ${present.number}`,
      };
    if (this.#world.ending()) return { ok: false, why: 'session', detail: `session ${session.number} is over` };
    const now = this.#world.ports.clock.now();
    const answered = this.#world.ports.guard.answered();
    const held = answered?.session.id === session.id && answered.deadline > now && this.#lease.deadline() > now;
    return held ? undefined : { ok: false, why: 'lapsed', detail: 'the lease of this host has run out' };
  }

  async enter(guestId: Uuid, pid: number): Promise<void> {
    if (!this.#register.has(guestId))
      throw new VirgaError('keeper', { host: this.#world.name, detail: 'the guest is not registered' });
    await this.#world.ports.groups.enter(this.#lease.session, guestId, pid);
  }

  /** The entry leaves only after its group is removed. */
  async clear(guestId: Uuid): Promise<void> {
    const { session } = this.#lease;
    await clearGuest(this.#world.ports, session, guestId, this.#world.name);
    if (this.#lease.session.id !== session.id || !this.#register.has(guestId)) return;
    this.#register.remove(guestId);
    await this.keep();
  }

  /** What the leader sees; the epoch is on disk before anything is said under it. */
  async tell(query: RegisterQuery): Promise<RegisterAnswer> {
    const ok = compareEpochs(query.epoch, this.#world.epoch()) >= 0;
    await this.#world.learn(query.epoch);
    const entries = this.#register.entries.filter(({ guestId }) => guestId > query.after).toSorted(byGuest);
    const page = entries.slice(0, registerPage);
    return {
      type: 'register-answer',
      seq: query.seq,
      hostId: this.#world.hostId,
      diskId: this.#world.diskId,
      ok,
      epoch: this.#world.epoch(),
      session: this.#lease.session,
      version: this.#lease.version,
      confirmed: this.#world.confirmed(),
      entries: page,
      more: entries.length > page.length,
      state: this.#world.state(),
    };
  }

  /** Bars, and begins to end what runs: the leader asks again until it is gone. */
  async bar(bar: Bar): Promise<BarAnswer> {
    const { guestId, generation, session } = bar;
    const answer = (gone: boolean, why?: BarAnswer['why']): BarAnswer => ({
      type: 'bar-answer',
      hostId: this.#world.hostId,
      guestId,
      generation,
      gone,
      ...(why ? { why } : {}),
      epoch: this.#world.epoch(),
    });
    if (compareEpochs(bar.epoch, this.#world.epoch()) < 0) return answer(false, 'epoch');
    await this.#world.learn(bar.epoch);
    // Whatever session it is for: what is answered as gone must never be registered afterwards.
    const runs = this.#register.bar(guestId, generation);
    await this.keep();
    const present = this.#lease.session;
    if (session.id !== present.id) return answer(session.number < present.number, 'session');
    if (!runs) return answer(!this.#register.has(guestId), this.#register.has(guestId) ? 'session' : undefined);
    if (this.#world.rules.keeperBars) await this.clear(guestId).catch(() => undefined);
    return this.#register.has(guestId) ? answer(false, 'killing') : answer(true);
  }
}

const byGuest = (a: { readonly guestId: Uuid }, b: { readonly guestId: Uuid }): number =>
  a.guestId < b.guestId ? -1 : 1;
