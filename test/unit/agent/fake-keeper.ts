/** A keeper made of data: session, lease, register and groups, with the refusals of the real one (host-lease, rule 9). */
import { VirgaError } from '../../../src/core/errors.ts';
import { guestGroup } from '../../../src/core/host/groups.ts';
import type { LeaseReport } from '../../../src/core/model/assignment.ts';
import type { HostSession } from '../../../src/core/model/host.ts';
import type { DoorTicket, DoorRegistered } from '../../../src/core/ha/door.ts';
import type { KeeperDoor } from '../../../src/agent/ports.ts';

export const sessionOf = (number: number): HostSession => ({
  number,
  id: `0000000${number}-0000-4000-8000-0000000000f1`,
});

export class FakeKeeper {
  readonly #hostId: string;
  readonly #kill: (id: string) => void;
  session = sessionOf(1);
  lease: LeaseReport['state'] = 'held';
  epoch = 1;
  away = false;
  readonly entries = new Map<string, { generation: number; epoch: number }>();
  readonly gone = new Map<string, number>();
  /** Guests whose process is in a group of the session. */
  readonly inside = new Set<string>();
  readonly #listeners = new Set<() => void>();

  constructor(hostId: string, kill: (id: string) => void) {
    this.#hostId = hostId;
    this.#kill = kill;
  }

  groupOf(id: string): string {
    return this.inside.has(id) ? `/${guestGroup(this.#hostId, this.session, id)}` : '/machine.slice/qemu';
  }

  get frozen(): boolean {
    return this.lease !== 'held';
  }

  #tell(): void {
    for (const listener of this.#listeners) listener();
  }

  setLease(state: LeaseReport['state']): void {
    this.lease = state;
    this.#tell();
  }

  /** The session is over: everything in its groups is killed, and the next one begins. */
  endSession(): void {
    this.lease = 'killing';
    for (const id of this.inside) this.#kill(id);
    this.inside.clear();
    for (const [id, { generation }] of this.entries) this.#bury(id, generation);
    this.entries.clear();
    this.session = sessionOf(this.session.number + 1);
    this.lease = 'held';
    this.#tell();
  }

  /** A leader bars the guest up to this generation. */
  bar(id: string, generation: number): void {
    if (this.inside.delete(id)) this.#kill(id);
    this.entries.delete(id);
    this.#bury(id, generation);
    this.#tell();
  }

  #bury(id: string, generation: number): void {
    this.gone.set(id, Math.max(generation, this.gone.get(id) ?? -1));
  }

  #register({ guestId, generation, epoch, session }: DoorTicket): DoorRegistered {
    if (session.id !== this.session.id) return { ok: false, why: 'session', detail: 'that session is over' };
    const held = { ok: true as const, group: guestGroup(this.#hostId, this.session, guestId) };
    const lapsed = { ok: false as const, why: 'lapsed' as const, detail: 'no majority answers' };
    const entry = this.entries.get(guestId);
    if (entry && generation < entry.generation) return { ok: false, why: 'generation', detail: 'it is an older one' };
    if ((this.gone.get(guestId) ?? -1) >= generation)
      return { ok: false, why: 'barred', detail: 'it is gone from here' };
    // What stands may go on under an older epoch.
    if (!entry && epoch < this.epoch)
      return { ok: false, why: 'epoch', detail: `epoch ${epoch} is below ${this.epoch}` };
    this.entries.set(guestId, { generation, epoch: Math.max(epoch, entry?.epoch ?? 0) });
    return this.frozen ? lapsed : held;
  }

  /** `act` is called before each thing that is done, and may reject. */
  door(act: (what: string, id: string) => Promise<void>): KeeperDoor {
    const asked = async (what: string, id: string): Promise<void> => {
      await act(what, id);
      if (this.away) throw new VirgaError('keeper', { host: 'fake', detail: 'it does not answer' });
    };
    return {
      state: async () => {
        await Promise.resolve();
        if (this.away) throw new VirgaError('keeper', { host: 'fake', detail: 'it does not answer' });
        return {
          session: this.session,
          lease: {
            diskId: this.#hostId,
            addresses: [],
            version: '0.0.1',
            state: this.lease,
            leftMs: 1000,
            epoch: this.epoch,
            roundTripsMs: {},
          },
          entries: [...this.entries].map(([guestId, entry]) => ({ guestId, ...entry })),
          gone: [...this.gone].map(([guestId, generation]) => ({ guestId, generation })),
        };
      },
      register: async (ticket) => {
        await asked('register', ticket.guestId);
        return this.#register(ticket);
      },
      enter: async (id) => {
        await asked('enter', id);
        if (!this.entries.has(id)) throw new VirgaError('keeper', { host: 'fake', detail: 'there is no such group' });
        this.inside.add(id);
      },
      clear: async (id) => {
        await asked('clear', id);
        if (this.inside.delete(id)) this.#kill(id);
        const entry = this.entries.get(id);
        if (entry) this.#bury(id, entry.generation);
        this.entries.delete(id);
      },
      onChange: (listener) => {
        this.#listeners.add(listener);
        return () => void this.#listeners.delete(listener);
      },
    };
  }
}
