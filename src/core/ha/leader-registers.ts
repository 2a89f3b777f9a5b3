/** What every host's keeper holds, asked under this leader's epoch (host-lease, rule 9: register and barrier). */
import type { HostSession } from '../model/host.ts';
import type { Uuid } from '../model/resource.ts';
import { compareEpochs } from './epoch.ts';
import { compareVersions, keyOf, votesOf } from './list.ts';
import type { Leader } from './leader.ts';
import type {
  BarAnswer,
  CensusAnswer,
  LeaseState,
  ListVersion,
  RegisterAnswer,
  RegisterEntry,
  Voter,
} from './types.ts';

export interface KeeperSight {
  readonly heardAt: number;
  readonly roundTripMs: number;
  readonly diskId: Uuid;
  readonly session: HostSession;
  readonly confirmed: ListVersion;
  readonly state: LeaseState;
  /** Asked and answered under the present leader's epoch. */
  readonly under: boolean;
  readonly entries: ReadonlyMap<Uuid, RegisterEntry>;
}

interface Pending {
  readonly seq: number;
  readonly at: number;
  readonly entries: Map<Uuid, RegisterEntry>;
}

const againMs = 1000;
const hurryMs = 200;
/** Milliseconds after which a keeper that does not answer is asked anew from its first page. */
const lateMs = 1500;

export class Registers {
  readonly #leader: Leader;
  readonly #keepers = new Map<Uuid, KeeperSight>();
  readonly #pending = new Map<Uuid, Pending>();
  readonly #askedAt = new Map<Uuid, number>();
  /** Every host that a voter ever granted, with its highest session and what is over, as the census of this leadership says. */
  readonly #granted = new Map<Uuid, { session: HostSession; over: number }>();
  readonly #census = new Map<string, { after: string; done: boolean; askedAt: number }>();
  readonly #bars = new Map<string, number>();
  #removed: ReadonlySet<Uuid> = new Set();

  constructor(leader: Leader) {
    this.#leader = leader;
  }

  /** No longer leading: what was seen says nothing under the next epoch. */
  reset(): void {
    for (const [id, sight] of this.#keepers) this.#keepers.set(id, { ...sight, under: false });
    this.#pending.clear();
    this.#askedAt.clear();
    this.#census.clear();
    this.#granted.clear();
    this.#bars.clear();
  }

  /** Hosts that were removed from the site in order: what voters remember of them blocks nobody. */
  removed(hosts: ReadonlySet<Uuid>): void {
    this.#removed = hosts;
  }

  get keepers(): ReadonlyMap<Uuid, KeeperSight> {
    return this.#keepers;
  }

  heardAt(keeperId: Uuid): number | undefined {
    return this.#keepers.get(keeperId)?.heardAt;
  }

  sessionOf(hostId: Uuid): HostSession | undefined {
    const [a, b] = [this.#keepers.get(hostId)?.session, this.#granted.get(hostId)?.session];
    if (!a || !b) return a ?? b;
    return a.number >= b.number ? a : b;
  }

  tick(now: number): void {
    for (const { id, addresses } of this.#leader.keepers) {
      const seen = this.#keepers.get(id);
      const everyMs = seen?.under && this.#confirms(seen) ? againMs : hurryMs;
      const askedAt = this.#askedAt.get(id) ?? Number.NEGATIVE_INFINITY;
      if (now - askedAt < everyMs) continue;
      const pending = this.#pending.get(id);
      if (pending && pending.entries.size > 0 && now - pending.at < lateMs) continue;
      this.#ask(id, addresses, now, '', new Map());
    }
    for (const voter of this.#leader.voters) this.#askCensus(voter, now);
  }

  #ask(id: Uuid, addresses: readonly string[], now: number, after: string, entries: Map<Uuid, RegisterEntry>): void {
    const seq = this.#leader.nextSeq();
    this.#askedAt.set(id, now);
    this.#pending.set(id, { seq, at: now, entries });
    const version = this.#leader.list?.version ?? { forced: 0, epoch: { number: 0, id: '' }, number: 0 };
    this.#leader.send(id, { type: 'register', epoch: this.#leader.epoch, version, seq, after }, addresses);
  }

  answered(answer: RegisterAnswer, now: number): void {
    const pending = this.#pending.get(answer.hostId);
    if (!pending || pending.seq !== answer.seq) return;
    for (const entry of answer.entries) pending.entries.set(entry.guestId, entry);
    const last = answer.entries.at(-1);
    if (answer.more && last) {
      const keeper = this.#leader.keepers.find((each) => each.id === answer.hostId);
      return this.#ask(answer.hostId, keeper?.addresses ?? [], now, last.guestId, pending.entries);
    }
    this.#pending.delete(answer.hostId);
    const { diskId, session, confirmed, state, hostId } = answer;
    this.#keepers.set(hostId, {
      heardAt: now,
      roundTripMs: now - pending.at,
      diskId,
      session,
      confirmed,
      state,
      under: answer.ok && compareEpochs(answer.epoch, this.#leader.epoch) === 0,
      entries: pending.entries,
    });
    if (!answer.ok) return this.#leader.outbid(answer.epoch.number);
    this.#teach(hostId, answer.version);
  }

  /** Who has no list beats to nobody, so no answer to a beat can bring it one: a new host, a wiped keeper. */
  #teach(hostId: Uuid, version: ListVersion): void {
    const { list, epoch, leads } = this.#leader;
    if (!list || !leads || compareVersions(version, list.version) >= 0) return;
    const keeper = this.#leader.keepers.find((each) => each.id === hostId);
    this.#leader.send(hostId, { type: 'list', epoch, list }, keeper?.addresses ?? []);
  }

  // ---------------------------------------------------------------- every host

  #askCensus(voter: Voter, now: number): void {
    const key = keyOf(voter);
    const state = this.#census.get(key) ?? { after: '', done: false, askedAt: Number.NEGATIVE_INFINITY };
    this.#census.set(key, state);
    if (state.done || now - state.askedAt < hurryMs) return;
    state.askedAt = now;
    const seq = this.#leader.nextSeq();
    const message = { type: 'census', epoch: this.#leader.epoch, after: state.after, seq } as const;
    this.#leader.send(voter.keeperId, message, voter.addresses);
  }

  census(from: Uuid, answer: CensusAnswer, now: number): void {
    const key = keyOf({ keeperId: from, diskId: answer.diskId });
    const state = this.#census.get(key);
    if (!state || state.done || compareEpochs(answer.epoch, this.#leader.epoch) !== 0) return;
    for (const { hostId, session, overThrough } of answer.hosts) {
      if (hostId <= state.after) continue;
      const known = this.#granted.get(hostId);
      const over = Math.max(overThrough, known?.over ?? 0);
      this.#granted.set(hostId, {
        session: known && known.session.number > session.number ? known.session : session,
        over,
      });
      if (overThrough > 0) this.#leader.lists.isOver(hostId, overThrough);
      if (overThrough >= session.number && session.number > 0) this.#leader.seals.known(hostId, session, now);
    }
    const last = answer.hosts.at(-1);
    if (last && last.hostId > state.after) state.after = last.hostId;
    if (!answer.more) state.done = true;
    else state.askedAt = Number.NEGATIVE_INFINITY;
  }

  get #counted(): boolean {
    if (!this.#leader.rules.census) return true;
    const votes = votesOf(this.#leader.voters, (voter) => this.#census.get(keyOf(voter))?.done === true);
    return votes >= this.#leader.majority;
  }

  /** Hosts whose register is to be seen before others' guests are started anew. */
  get waiting(): readonly Uuid[] {
    return this.#everyHost().filter((id) => !this.#overNow(id) && this.#keepers.get(id)?.under !== true);
  }

  #everyHost(): readonly Uuid[] {
    const known = this.#leader.keepers.filter(({ role }) => role === 'host').map(({ id }) => id);
    if (!this.#leader.rules.census) return known;
    // Who was never granted a lease never ran such a guest, unless it began to under us.
    const hosts = new Set(known.filter((id) => this.#keepers.has(id) || !this.#counted));
    for (const id of this.#granted.keys()) if (!this.#removed.has(id) && !this.#isWitness(id)) hosts.add(id);
    return [...hosts];
  }

  #confirms({ confirmed }: KeeperSight): boolean {
    const { list } = this.#leader;
    return list !== undefined && compareVersions(confirmed, list.version) === 0;
  }

  /** False: this host rests on another list than the leader's, and gets no order before it confirmed (rule 12). */
  mayOrder(hostId: Uuid): boolean {
    const seen = this.#keepers.get(hostId);
    return this.#overNow(hostId) || (seen !== undefined && this.#confirms(seen));
  }

  #isWitness(id: Uuid): boolean {
    return this.#leader.keepers.some((each) => each.id === id && each.role === 'witness');
  }

  /** Its highest session is proved over, and no later one was seen. */
  #overNow(id: Uuid): boolean {
    const lost = this.#leader.seals.losses.get(id)?.session.number ?? 0;
    const over = Math.max(lost, this.#granted.get(id)?.over ?? 0);
    const session = this.sessionOf(id)?.number ?? 0;
    return over > 0 && over >= session;
  }

  /**
   * True: no other host than `onHost` may run the guest, as far as earlier leaders could have ordered it. A host that
   * has it registered without being meant to is told to end it.
   */
  mayStart(guestId: Uuid, onHost: Uuid | undefined): boolean {
    if (!this.#leader.rules.barrier) return true;
    if (!this.#leader.leads || !this.#counted) return false;
    let clear = true;
    for (const id of this.#everyHost()) {
      if (id === onHost || this.#overNow(id)) continue;
      const seen = this.#keepers.get(id);
      if (!seen?.under) clear = false;
      else {
        const entry = seen.entries.get(guestId);
        if (!entry) continue;
        clear = false;
        this.#bar(id, seen.session, entry);
      }
    }
    return clear;
  }

  #bar(hostId: Uuid, session: HostSession, { guestId, generation }: RegisterEntry): void {
    const key = `${hostId}/${guestId}`;
    const askedAt = this.#bars.get(key) ?? Number.NEGATIVE_INFINITY;
    const heardAt = this.#keepers.get(hostId)?.heardAt ?? 0;
    if (heardAt - askedAt < 500) return;
    this.#bars.set(key, heardAt);
    const keeper = this.#leader.keepers.find((each) => each.id === hostId);
    const message = { type: 'bar', epoch: this.#leader.epoch, session, guestId, generation } as const;
    this.#leader.send(hostId, message, keeper?.addresses ?? []);
  }

  barred({ hostId, guestId, gone }: BarAnswer): void {
    const seen = this.#keepers.get(hostId);
    if (!gone || !seen) return;
    const entries = new Map(seen.entries);
    entries.delete(guestId);
    this.#keepers.set(hostId, { ...seen, entries });
  }

  /** Names of hosts with a live session that have not confirmed this list (rule 12). */
  unconfirmed(version: ListVersion): readonly string[] {
    const names: string[] = [];
    for (const id of this.#everyHost()) {
      if (this.#overNow(id)) continue;
      const seen = this.#keepers.get(id);
      const name = this.#leader.keepers.find((each) => each.id === id)?.name ?? id;
      // A host that never had a lease rests on no list.
      const bare = !this.#granted.has(id) && (!seen || seen.state.state === 'none') && this.#counted;
      if (!bare && (!seen || compareVersions(seen.confirmed, version) !== 0)) names.push(name);
    }
    return names;
  }
}
