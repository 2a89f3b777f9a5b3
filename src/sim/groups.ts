/**
 * The kernel's groups of one machine (cgroup v2): one per session, one below it per guest. They live as long as its
 * power. What runs in a frozen group does not execute; what enters one does not either.
 */
import { VirgaError } from '../core/errors.ts';
import { sessionGroup } from '../core/ha/groups.ts';
import { guestGroup } from '../core/host/groups.ts';
import type { HostSession } from '../core/model/host.ts';
import type { Uuid } from '../core/model/resource.ts';

/** A process of a guest, as the kernel sees it. */
export interface GuestProcess {
  readonly pid: number;
  readonly guestId: Uuid;
  readonly name: string;
  /** It is in D state: no signal ends it. */
  undying: boolean;
  /** Its group, where it is in one. */
  group: Group | undefined;
  /** Something about its group changed: does it execute? */
  changed(): void;
  /** SIGKILL reached it. */
  killed(): void;
}

export interface Group {
  readonly session: string;
  /** As the kernel names it. */
  readonly path: string;
  readonly members: Set<GuestProcess>;
}

interface SessionGroup {
  frozen: boolean;
  readonly guests: Map<Uuid, Group>;
}

export class KernelGroups {
  readonly #hostId: Uuid;
  readonly #sessions = new Map<string, SessionGroup>();
  /** False (a rule left out): all sessions share one group. */
  readonly #apart: boolean;
  readonly #note: (what: string) => void;

  constructor(hostId: Uuid, note: (what: string) => void, apart = true) {
    this.#hostId = hostId;
    this.#note = note;
    this.#apart = apart;
  }

  #name(session: HostSession): string {
    return this.#apart ? sessionGroup(session) : 's0-00000000';
  }

  /** Names of the sessions' groups. */
  names(): readonly string[] {
    return [...this.#sessions.keys()];
  }

  ensure(session: HostSession): void {
    const name = this.#name(session);
    if (!this.#sessions.has(name)) this.#sessions.set(name, { frozen: true, guests: new Map() });
  }

  make(session: HostSession, guestId: Uuid): string {
    const name = this.#name(session);
    const found = this.#sessions.get(name);
    if (!found) throw missing(name);
    const path = `/${guestGroup(this.#hostId, session, guestId)}`;
    if (!found.guests.has(guestId)) found.guests.set(guestId, { session: name, path, members: new Set() });
    return path;
  }

  enter(session: HostSession, guestId: Uuid, process: GuestProcess): void {
    const name = this.#name(session);
    const group = this.#sessions.get(name)?.guests.get(guestId);
    if (!group) throw missing(`${name}/${guestId}`);
    process.group?.members.delete(process);
    group.members.add(process);
    process.group = group;
    process.changed();
  }

  /** False: something in it does not die. */
  clear(session: HostSession, guestId: Uuid): boolean {
    const found = this.#sessions.get(this.#name(session));
    const group = found?.guests.get(guestId);
    if (!found || !group) return true;
    if (!this.#kill(group)) return false;
    found.guests.delete(guestId);
    return true;
  }

  frozen(group: Group): boolean {
    return this.#sessions.get(group.session)?.frozen ?? true;
  }

  /** True when nothing in it runs, also when it is gone. */
  isFrozen(name: string): boolean {
    return this.#sessions.get(name)?.frozen ?? true;
  }

  freezeSession(session: HostSession): void {
    this.freeze(this.#name(session));
  }

  freeze(name: string): void {
    this.#set(name, true);
  }

  thaw(name: string): void {
    this.#set(name, false);
  }

  #set(name: string, frozen: boolean): void {
    const found = this.#sessions.get(name);
    if (!found || found.frozen === frozen) return;
    found.frozen = frozen;
    const members = [...found.guests.values()].flatMap((group) => [...group.members]);
    if (members.length > 0) this.#note(frozen ? 'guests are frozen' : 'guests are thawed');
    for (const each of members) each.changed();
  }

  kill(name: string, guestIds: readonly Uuid[]): void {
    for (const [guestId, group] of this.#sessions.get(name)?.guests ?? [])
      if (guestIds.includes(guestId)) this.#kill(group);
  }

  /** Kills everything in the groups of all sessions but one. False: something does not die. */
  clearOthers(except: HostSession | undefined): boolean {
    let whole = true;
    for (const [name, session] of this.#sessions) {
      if (except !== undefined && name === this.#name(except)) continue;
      for (const [guestId, group] of session.guests)
        if (this.#kill(group)) session.guests.delete(guestId);
        else whole = false;
      if (session.guests.size === 0) this.#sessions.delete(name);
    }
    return whole;
  }

  #kill(group: Group): boolean {
    for (const each of group.members) {
      if (each.undying) continue;
      group.members.delete(each);
      this.#note(`${each.name} is killed`);
      each.killed();
    }
    return group.members.size === 0;
  }
}

const missing = (name: string): VirgaError =>
  new VirgaError('engine', { host: 'the kernel', detail: `there is no group ${name}` });
