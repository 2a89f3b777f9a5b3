/**
 * The leader's part of the host lease (host-lease, rules 4, 5, 7, 8, 9, 12): elections, seals, voter lists, registers. Pure:
 * `tick` and `receive` change the memory, and `take` gives what is to be sent and told.
 */
import type { HostSession } from '../model/host.ts';
import type { Uuid } from '../model/resource.ts';
import { compareEpochs } from './epoch.ts';
import { compareVersions, keyOf, majorityOf, noVersion, totalVotes, voterOf, votesOf } from './list.ts';
import { Lists } from './leader-lists.ts';
import { Registers } from './leader-registers.ts';
import { Seals, type Lost } from './leader-seals.ts';
import type { Rules } from './rules.ts';
import { noEpoch } from './types.ts';
import type { Epoch, HaMessage, HostVote, PollAnswer, Voter, VoterList, Word } from './types.ts';

export interface Outgoing {
  readonly to: Uuid;
  readonly message: HaMessage;
  readonly addresses: readonly string[];
}

/** A keeper that the site knows of: a host or a witness. */
export interface KnownKeeper {
  readonly id: Uuid;
  readonly name: string;
  readonly role: 'host' | 'witness';
  readonly addresses: readonly string[];
}

/** What a voter said last. */
export interface Sight {
  readonly voter: Voter;
  /** When it answered, and which of our questions (when that was sent). */
  answeredAt: number;
  sentAt: number;
  roundTripMs: number;
  /** The epoch that it accepted, as it said. */
  epoch: Epoch;
  /** It answered "yes" to this epoch, which was asked for this purpose. */
  yes?: { readonly epoch: Epoch; readonly purpose: 'ask' | 'accept' };
  version: VoterList['version'];
  hosts: ReadonlyMap<Uuid, HostVote>;
  contactMs: number;
}

export interface LeaderWorld {
  readonly uuid: () => Uuid;
  /** 0 ≤ x < 1. */
  readonly random: () => number;
}

export interface TickInput {
  /** It committed to the database within the last second. */
  readonly committing: boolean;
  /** Highest number that the database, or anybody, showed. */
  readonly above: number;
  readonly keepers: readonly KnownKeeper[];
}

export const pollEveryMs = 250;
const hurryEveryMs = 50;
/** A leader without answers of a majority for so long stops (rule 8). */
const lonelyMs = 1000;
/** An answer says something about now for so long. */
export const freshMs = 700;
const seqsKept = 512;

export class Leader {
  readonly rules: Rules;
  readonly #world: LeaderWorld;
  readonly #out: Outgoing[] = [];
  readonly sights = new Map<string, Sight>();
  readonly seals: Seals;
  readonly lists: Lists;
  readonly registers: Registers;
  #list: VoterList | undefined;
  #epoch: Epoch = noEpoch;
  #phase: 'idle' | 'asking' | 'accepting' | 'leading' = 'idle';
  #highest = 0;
  #tryAt = 0;
  #phaseSince = 0;
  #majorityAt = Number.NEGATIVE_INFINITY;
  #polledAt = Number.NEGATIVE_INFINITY;
  #committing = false;
  #keepers: readonly KnownKeeper[] = [];
  #seq = 0;
  readonly #asked = new Map<
    number,
    { readonly at: number; readonly epoch: Epoch; readonly purpose: 'ask' | 'accept' | 'lead' }
  >();

  constructor(rules: Rules, world: LeaderWorld) {
    this.rules = rules;
    this.#world = world;
    this.seals = new Seals(this);
    this.lists = new Lists(this);
    this.registers = new Registers(this);
  }

  // ---------------------------------------------------------------- what it knows

  get leads(): boolean {
    return this.#phase === 'leading';
  }

  get epoch(): Epoch {
    return this.#epoch;
  }

  get list(): VoterList | undefined {
    return this.#list;
  }

  get voters(): readonly Voter[] {
    return this.#list?.voters ?? [];
  }

  get keepers(): readonly KnownKeeper[] {
    return this.#keepers;
  }

  get votes(): number {
    return totalVotes(this.voters);
  }

  get majority(): number {
    return majorityOf(this.voters);
  }

  sight(voter: Voter): Sight | undefined {
    return this.sights.get(keyOf(voter));
  }

  /** Votes of voters that answered lately and for which `yes` holds. */
  count(now: number, yes: (sight: Sight) => boolean): number {
    return votesOf(this.voters, (voter) => {
      const sight = this.sight(voter);
      return sight !== undefined && now - sight.answeredAt <= freshMs && yes(sight);
    });
  }

  /** Highest session of a host that any voter showed. */
  sessionOf(hostId: Uuid): HostSession | undefined {
    let found: HostSession | undefined;
    for (const voter of this.voters) {
      const session = this.sight(voter)?.hosts.get(hostId)?.session;
      if (session && (!found || session.number > found.number)) found = session;
    }
    return found ?? this.registers.sessionOf(hostId);
  }

  // ---------------------------------------------------------------- doing

  send(to: Uuid, message: HaMessage, addresses: readonly string[] = []): void {
    this.#out.push({ to, message, addresses });
  }

  toVoters(message: HaMessage, which: (voter: Voter) => boolean = () => true): void {
    for (const voter of this.voters) if (which(voter)) this.send(voter.keeperId, message, voter.addresses);
  }

  nextSeq(): number {
    this.#seq += 1;
    return this.#seq;
  }

  /** What is to be sent, once. */
  take(): readonly Outgoing[] {
    return this.#out.splice(0);
  }

  takeLost(): readonly Lost[] {
    return this.seals.take();
  }

  /** The list as the database, a file or a keeper shows it; the highest counts. */
  adopt(list: VoterList | undefined): void {
    if (!list) return;
    if (this.#list && compareVersions(list.version, this.#list.version) <= 0) return;
    this.#list = list;
    // Made by hand, under an epoch of its own: we stand again above it.
    this.#highest = Math.max(this.#highest, list.version.epoch.number);
  }

  /** One step; due again after so many milliseconds. */
  tick(now: number, { committing, above, keepers }: TickInput): number {
    this.#committing = committing;
    this.#keepers = keepers;
    this.#highest = Math.max(this.#highest, above);
    if (this.#phase === 'leading') this.#stayOrGo(now);
    if (this.#phase !== 'leading') this.#stand(now);
    const everyMs = this.seals.busy || this.#phase === 'accepting' ? hurryEveryMs : pollEveryMs;
    if (now - this.#polledAt >= everyMs - 1) this.#poll(now);
    if (this.#phase === 'leading') {
      this.seals.tick(now);
      this.lists.tick(now);
      this.registers.tick(now);
    }
    return this.seals.busy ? hurryEveryMs : Math.min(everyMs, 100);
  }

  /** The database shows a higher epoch: another leads, or led last; we stand again above it. */
  outbid(number: number): void {
    this.#highest = Math.max(this.#highest, number);
    this.#stepDown();
  }

  #stayOrGo(now: number): void {
    const votes = this.count(now, (sight) => compareEpochs(sight.epoch, this.#epoch) === 0);
    if (votes >= this.majority) this.#majorityAt = now;
    const higher = votesOf(this.voters, (voter) => compareEpochs(this.sight(voter)?.epoch ?? noEpoch, this.#epoch) > 0);
    const lonely = this.rules.leaderStops && now - this.#majorityAt > lonelyMs;
    const forced = this.#list !== undefined && compareEpochs(this.#list.version.epoch, this.#epoch) > 0;
    if (lonely || forced || higher > 0) this.#stepDown();
  }

  #stepDown(): void {
    this.#phase = 'idle';
    this.seals.reset();
    this.lists.reset();
    this.registers.reset();
    // The beaten wait a random time (rule 8).
    this.#tryAt = this.#phaseSince + 100;
  }

  /** Idle → asking (writes nothing) → accepting → leading. */
  #stand(now: number): void {
    if (!this.#list) return;
    if (this.#phase === 'idle') {
      if (now < this.#tryAt) return;
      this.#begin('asking', now, { number: this.#highest + 1, id: this.#world.uuid() });
      this.#polledAt = Number.NEGATIVE_INFINITY;
      return;
    }
    const purpose = this.#phase === 'asking' ? 'ask' : 'accept';
    const votes = this.count(now, ({ yes }) => yes?.purpose === purpose && compareEpochs(yes.epoch, this.#epoch) === 0);
    if (votes >= this.majority) {
      this.#begin(this.#phase === 'asking' ? 'accepting' : 'leading', now, this.#epoch);
      this.#majorityAt = now;
      this.#polledAt = Number.NEGATIVE_INFINITY;
      return;
    }
    const waitMs = 100 + this.#world.random() * 300;
    if (now - this.#phaseSince < pollEveryMs + waitMs) return;
    this.#phase = 'idle';
    this.#tryAt = now;
  }

  #begin(phase: 'asking' | 'accepting' | 'leading', now: number, epoch: Epoch): void {
    this.#phase = phase;
    this.#phaseSince = now;
    this.#epoch = epoch;
  }

  #poll(now: number): void {
    this.#polledAt = now;
    const seq = this.nextSeq();
    const purpose = this.#phase === 'leading' ? 'lead' : this.#phase === 'accepting' ? 'accept' : 'ask';
    this.#asked.set(seq, { at: now, epoch: this.#epoch, purpose });
    const [oldest] = this.#asked.keys();
    if (this.#asked.size > seqsKept && oldest !== undefined) this.#asked.delete(oldest);
    const message = {
      type: 'poll',
      epoch: this.#epoch,
      purpose,
      committing: this.#committing,
      version: this.#list?.version ?? noVersion,
      seq,
      about: this.leads ? this.seals.about : [],
    } as const;
    this.toVoters(message);
    // Who has no list of its own yet learns the list from whatever keeper it knows.
    if (!this.#list)
      for (const { id, addresses } of this.#keepers) this.send(id, { ...message, purpose: 'ask' }, addresses);
  }

  receive(from: Uuid, message: HaMessage, now: number): void {
    switch (message.type) {
      case 'poll-answer':
        return this.#polled(from, message, now);
      case 'seal-answer':
        return this.seals.answered(from, message, now);
      case 'withdraw-answer':
        return this.seals.withdrawn(from, message);
      case 'over-answer':
        return this.lists.overAnswered(from, message);
      case 'list-answer':
        return this.lists.answered(from, message);
      case 'census-answer':
        return this.registers.census(from, message, now);
      case 'register-answer':
        return this.registers.answered(message, now);
      case 'bar-answer':
        return this.registers.barred(message);
      case 'beat':
      case 'beat-answer':
      case 'poll':
      case 'census':
      case 'seal':
      case 'withdraw':
      case 'over':
      case 'list':
      case 'register':
      case 'bar':
      // Not for a controller.
    }
  }

  #polled(from: Uuid, answer: PollAnswer, now: number): void {
    const asked = this.#asked.get(answer.seq);
    if (!asked) return;
    this.adopt(answer.list);
    this.#highest = Math.max(this.#highest, answer.epoch.number);
    const voter = voterOf(this.#list, from, this.rules.diskIds ? answer.diskId : undefined);
    if (!voter) return;
    const key = keyOf(voter);
    const before = this.sights.get(key);
    if (before && before.sentAt > asked.at) return;
    const yes = answer.ok && asked.purpose !== 'lead' ? { epoch: asked.epoch, purpose: asked.purpose } : undefined;
    this.sights.set(key, {
      voter,
      answeredAt: now,
      sentAt: asked.at,
      roundTripMs: now - asked.at,
      epoch: answer.epoch,
      ...(yes ? { yes } : {}),
      version: answer.version,
      hosts: new Map(answer.hosts.map((each) => [each.hostId, each] as const)),
      contactMs: answer.contactMs,
    });
    if (this.#phase === 'asking' || this.#phase === 'accepting') this.#stand(now);
    if (this.leads) this.seals.tick(now);
  }

  /** A person's or a fence agent's word (rule 15). */
  declare(hostId: Uuid, session: HostSession, word: Word): void {
    if (this.rules.wordSeals) this.seals.declare(hostId, session, word);
  }
}
