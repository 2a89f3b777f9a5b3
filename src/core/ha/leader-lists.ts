/** Voter lists: re-issued by each leader, and changed one voter at a time (host-lease, rules 12 and 15). */
import type { Uuid } from '../model/resource.ts';
import { compareEpochs } from './epoch.ts';
import { compareVersions, keyOf, majorityOf, nextVoters, totalVotes, votesOf } from './list.ts';
import { freshMs, type Leader } from './leader.ts';
import type { LeaseProfile, ListAnswer, OverAnswer, Voter, VoterList } from './types.ts';

const againMs = 300;
/** Hosts in one `over` message. */
const overPage = 100;

export interface ListChange {
  readonly what: string;
  readonly waitsFor: readonly string[];
}

export class Lists {
  readonly #leader: Leader;
  /** Voter → the version that it has on disk. */
  readonly #stored = new Map<string, VoterList['version']>();
  /** Host → sessions over; and what each voter acknowledged. */
  readonly #over = new Map<Uuid, number>();
  readonly #acked = new Map<string, Map<Uuid, number>>();
  readonly #asked = new Map<
    number,
    { readonly key: string; readonly hosts: readonly { hostId: Uuid; through: number }[] }
  >();
  #wish: readonly Voter[] | undefined;
  #profile: LeaseProfile | undefined;
  #sentAt = Number.NEGATIVE_INFINITY;

  constructor(leader: Leader) {
    this.#leader = leader;
  }

  reset(): void {
    this.#stored.clear();
    this.#asked.clear();
  }

  /** Sessions of the host up to this number are over: every voter is to know. */
  isOver(hostId: Uuid, through: number): void {
    this.#over.set(hostId, Math.max(through, this.#over.get(hostId) ?? 0));
  }

  /** The voters that the site should have; reached one step at a time. */
  wish(voters: readonly Voter[], profile: LeaseProfile): void {
    this.#wish = voters;
    this.#profile = profile;
  }

  /** A change under way, and what it waits for. */
  change(now: number): ListChange | undefined {
    const next = this.#next();
    if (!next) return undefined;
    const names = next.voters.map((each) => (each.votes > 1 ? `${each.name} (${each.votes} votes)` : each.name));
    return { what: `voters become ${names.join(', ')}`, waitsFor: this.#waitsFor(next.voters, now) };
  }

  tick(now: number): void {
    const { list } = this.#leader;
    if (!list) return;
    if (compareEpochs(list.version.epoch, this.#leader.epoch) !== 0) this.#issue(list.voters, list.profile, list);
    else {
      const next = this.#next();
      if (next && this.#waitsFor(next.voters, now).length === 0) this.#issue(next.voters, next.profile, list);
    }
    if (now - this.#sentAt < againMs) return;
    this.#sentAt = now;
    this.#spread();
    for (const voter of this.#everybody()) this.#tellOver(voter);
  }

  #next(): Pick<VoterList, 'voters' | 'profile'> | undefined {
    const { list, rules } = this.#leader;
    if (!list) return undefined;
    const profile = this.#profile ?? list.profile;
    const even = rules.oddLists && this.#wish !== undefined && totalVotes(this.#wish) % 2 === 0;
    const voters = this.#wish && !even ? nextVoters(list.voters, this.#wish) : undefined;
    const same = profile.lengthMs === list.profile.lengthMs && profile.boundMs === list.profile.boundMs;
    if (!voters && same && profile.drift === list.profile.drift) return undefined;
    return { voters: voters ?? list.voters, profile };
  }

  #issue(voters: readonly Voter[], profile: LeaseProfile, before: VoterList): void {
    const version = { forced: before.version.forced, epoch: this.#leader.epoch, number: before.version.number + 1 };
    this.#leader.adopt({ siteId: before.siteId, version, profile, voters });
    this.#sentAt = Number.NEGATIVE_INFINITY;
  }

  /** Hands the list out to who has not got it. */
  #spread(): void {
    const { list, epoch } = this.#leader;
    if (!list) return;
    const lacks = (voter: Voter): boolean => {
      const stored = this.#stored.get(keyOf(voter)) ?? this.#leader.sight(voter)?.version;
      return !stored || compareVersions(stored, list.version) < 0;
    };
    this.#leader.toVoters({ type: 'list', epoch, list }, lacks);
  }

  /** The voter has this very list on disk. */
  hasStored(voter: Voter, version: VoterList['version']): boolean {
    const stored = this.#stored.get(keyOf(voter));
    return stored !== undefined && compareVersions(stored, version) === 0;
  }

  answered(from: Uuid, answer: ListAnswer): void {
    this.#stored.set(keyOf({ keeperId: from, diskId: answer.diskId }), answer.version);
  }

  /** What the step to these voters waits for (rule 12), in sentences. */
  #waitsFor(next: readonly Voter[], now: number): readonly string[] {
    const { list, majority, rules } = this.#leader;
    if (!list) return ['there is no list yet'];
    const waits: string[] = [];
    const has = votesOf(list.voters, (voter) => {
      const stored = this.#stored.get(keyOf(voter)) ?? this.#leader.sight(voter)?.version;
      return stored !== undefined && compareVersions(stored, list.version) === 0;
    });
    if (has < majority) waits.push('a majority of the voters has the present list on disk');
    if (this.#leader.seals.busy) waits.push('no seal is under way');
    if (rules.confirmBeforeNext)
      for (const name of this.#leader.registers.unconfirmed(list.version))
        waits.push(`${name} confirms the present list`);
    if (rules.overTransfer && !this.#overKnown(list.voters)) waits.push('a majority knows which sessions are over');
    if (rules.overTransfer && !this.#overKnown(next))
      waits.push('a majority of the next voters knows which sessions are over');
    if (votesOf(next, (voter) => this.#lives(voter, now)) < majorityOf(next))
      waits.push('a majority of the next voters answers');
    for (const voter of next) {
      const joins = !list.voters.some((each) => keyOf(each) === keyOf(voter));
      const heard = this.#leader.registers.heardAt(voter.keeperId);
      if (joins && (heard === undefined || now - heard > 4 * freshMs))
        waits.push(`the keeper of ${voter.name} answers`);
    }
    return waits;
  }

  /** It answered lately, under this very disk id: a step that the living cannot carry would be the last one. */
  #lives(voter: Voter, now: number): boolean {
    const sight = this.#leader.sight(voter);
    if (sight && now - sight.answeredAt <= freshMs) return true;
    const seen = this.#leader.registers.keepers.get(voter.keeperId);
    return seen?.diskId === voter.diskId && now - seen.heardAt <= 4 * freshMs;
  }

  #overKnown(voters: readonly Voter[]): boolean {
    const knows = votesOf(voters, (voter) => this.#unknownTo(voter).length === 0);
    return knows >= Math.floor(totalVotes(voters) / 2) + 1;
  }

  #unknownTo(voter: Voter): readonly { hostId: Uuid; through: number }[] {
    const acked = this.#acked.get(keyOf(voter));
    return [...this.#over]
      .filter(([hostId, through]) => (acked?.get(hostId) ?? 0) < through)
      .map(([hostId, through]) => ({ hostId, through }));
  }

  /** Present voters, and those that are to join. */
  #everybody(): readonly Voter[] {
    const all = new Map([...this.#leader.voters, ...(this.#wish ?? [])].map((each) => [keyOf(each), each] as const));
    return [...all.values()];
  }

  #tellOver(voter: Voter): void {
    const hosts = this.#unknownTo(voter).slice(0, overPage);
    if (hosts.length === 0) return;
    const seq = this.#leader.nextSeq();
    this.#asked.set(seq, { key: keyOf(voter), hosts });
    const [oldest] = this.#asked.keys();
    if (this.#asked.size > 256 && oldest !== undefined) this.#asked.delete(oldest);
    this.#leader.send(voter.keeperId, { type: 'over', epoch: this.#leader.epoch, hosts, seq }, voter.addresses);
  }

  overAnswered(from: Uuid, answer: OverAnswer): void {
    const asked = this.#asked.get(answer.seq);
    const key = keyOf({ keeperId: from, diskId: answer.diskId });
    if (!asked || !answer.ok || asked.key !== key) return;
    this.#asked.delete(answer.seq);
    const acked = this.#acked.get(key) ?? new Map<Uuid, number>();
    for (const { hostId, through } of asked.hosts) acked.set(hostId, Math.max(through, acked.get(hostId) ?? 0));
    this.#acked.set(key, acked);
  }
}
