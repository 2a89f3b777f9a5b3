/**
 * The lease of one host, as its keeper counts it (host-lease, rules 2, 6, 12): what each voter answered, until when a
 * majority grants, which list the lease rests on, and for how long a majority has been heard. Pure.
 */
import type { HostSession } from '../model/host.ts';
import type { Uuid } from '../model/resource.ts';
import { compareVersions, keyOf, majorityOf, noVersion, totalVotes, votesOf } from './list.ts';
import { profiles } from './margin.ts';
import type { Rules } from './rules.ts';
import type { BeatAnswer, LeaseProfile, ListVersion, Voter, VoterList } from './types.ts';

interface Grant {
  /** Our clock: until when this voter's grants last. */
  until: number;
  /** Sending time of the newest beat that it answered, and of the newest it said yes to. */
  answeredSentAt: number;
  yesSentAt: number;
  /** It refuses this session: the next must be above. */
  floor?: number;
  roundTripMs?: number;
}

export class HostLease {
  readonly #rules: Rules;
  /** Answers to beats from before are of an earlier life of this keeper. */
  readonly #startedAt: number;
  #session: HostSession;
  #grants = new Map<string, Grant>();
  readonly #keys = new WeakMap<Voter, string>();
  #list: VoterList | undefined;
  #confirmed: VoterList | undefined;
  /** The lease that was ever reached, our clock: what a new list must cover. */
  #inForce = Number.NEGATIVE_INFINITY;
  /** Of `deadline`, until something changes. */
  #deadline: number | undefined;
  /** This session never had a lease. */
  #fresh: boolean;
  #contactSince: number | undefined;
  #contactAt = Number.NEGATIVE_INFINITY;

  constructor(
    session: HostSession,
    now: number,
    rules: Rules,
    kept: {
      readonly list?: VoterList | undefined;
      readonly confirmed?: VoterList | undefined;
      /** The session begins now: it never had a lease. */
      readonly began: boolean;
    },
  ) {
    this.#rules = rules;
    this.#startedAt = now;
    this.#session = session;
    this.#list = kept.list;
    this.#confirmed = kept.confirmed;
    this.#fresh = kept.began;
  }

  get session(): HostSession {
    return this.#session;
  }

  get list(): VoterList | undefined {
    return this.#list;
  }

  /** The list that the lease rests on. */
  get confirmed(): VoterList | undefined {
    return this.#confirmed;
  }

  get profile(): LeaseProfile {
    return this.#list?.profile ?? profiles.default;
  }

  /** All voters to beat to: those of the list that the lease rests on, and of the newest. */
  get voters(): readonly Voter[] {
    if (this.#confirmed === this.#list) return this.#list?.voters ?? [];
    const all = new Map<string, Voter>();
    for (const each of [...(this.#confirmed?.voters ?? []), ...(this.#list?.voters ?? [])]) all.set(keyOf(each), each);
    return [...all.values()];
  }

  /** A new life: nothing that was granted to the old one counts. */
  begin(session: HostSession): void {
    this.#session = session;
    this.#fresh = true;
    if (this.#rules.sessionDeadline) this.#grants = new Map();
    for (const grant of this.#grants.values()) delete grant.floor;
    this.#deadline = undefined;
    this.#inForce = Number.NEGATIVE_INFINITY;
  }

  /** What this host held when its keeper started; the next list must cover it as well. */
  inherit(deadline: number): void {
    this.#inForce = Math.max(this.#inForce, deadline);
  }

  /** The guard remembers another session as high as ours: our disk was wiped, and we must go above its number. */
  outdone(theirs: HostSession | undefined): number | undefined {
    const other = theirs && theirs.id !== this.#session.id && theirs.number >= this.#session.number;
    return other && this.#fresh ? theirs.number : undefined;
  }

  /** The highest list counts (rule 12). True: it was higher. */
  adopt(list: VoterList): boolean {
    if (this.#list && list.siteId !== this.#list.siteId) return false;
    if (compareVersions(list.version, this.#list?.version ?? noVersion, this.#rules.versionEpoch) <= 0) return false;
    this.#list = list;
    return true;
  }

  /** Takes an answer of a voter. */
  answer(from: Uuid, answer: BeatAnswer, now: number): void {
    if (answer.list) this.adopt(answer.list);
    const ours = answer.session.id === this.#session.id || !this.#rules.sessionStatus;
    const earlier = this.#rules.beatNumbers && answer.sentAt < this.#startedAt;
    if (!ours || earlier || answer.sentAt > now) return;
    const diskId = this.#rules.diskIds ? answer.diskId : (this.voters.find((v) => v.keeperId === from)?.diskId ?? '');
    const grant = this.#grant(keyOf({ keeperId: from, diskId }));
    if (answer.sentAt > grant.answeredSentAt) {
      grant.answeredSentAt = answer.sentAt;
      grant.roundTripMs = now - answer.sentAt;
      if (answer.refused) grant.floor = answer.floor ?? this.#session.number;
      else if (!answer.yes && !this.#rules.onlyTwoRefuse) grant.floor = this.#session.number;
      else delete grant.floor;
    }
    if (answer.yes) {
      const from = this.#rules.sendingTime ? answer.sentAt : now;
      this.#deadline = undefined;
      grant.until = Math.max(grant.until, from + answer.askMs);
      grant.yesSentAt = Math.max(grant.yesSentAt, answer.sentAt);
    }
    this.contactMs(now);
  }

  /** Looked up very often: the key of a voter's entry is made once. */
  #of(voter: Voter): Grant | undefined {
    let key = this.#keys.get(voter);
    if (key === undefined) {
      key = keyOf(voter);
      this.#keys.set(voter, key);
    }
    return this.#grants.get(key);
  }

  #grant(key: string): Grant {
    const known = this.#grants.get(key);
    if (known) return known;
    const never = Number.NEGATIVE_INFINITY;
    const made: Grant = { until: never, answeredSentAt: never, yesSentAt: never };
    this.#grants.set(key, made);
    return made;
  }

  /** The newest list takes over once the lease under it covers any that was taken before. True: it changed. */
  confirm(): boolean {
    const list = this.#list;
    if (!list || (this.#confirmed && compareVersions(list.version, this.#confirmed.version) === 0)) return false;
    const under = this.#under(list.voters);
    const covers = !this.#rules.confirmCovers || (under >= this.#inForce && under > Number.NEGATIVE_INFINITY);
    const first = this.#confirmed === undefined && this.#inForce === Number.NEGATIVE_INFINITY;
    if (!covers && !first) return false;
    this.#confirmed = list;
    this.#deadline = undefined;
    return true;
  }

  /** Until when a majority of the list grants, our clock; never: −∞. */
  deadline(): number {
    this.#deadline ??= this.#confirmed ? this.#under(this.#confirmed.voters) : Number.NEGATIVE_INFINITY;
    const at = this.#deadline;
    this.#inForce = Math.max(this.#inForce, at);
    if (at > Number.NEGATIVE_INFINITY) this.#fresh = false;
    return at;
  }

  #under(voters: readonly Voter[]): number {
    const needed = majorityOf(voters);
    const grants = voters
      .map((voter) => ({
        votes: voter.votes,
        until: this.#of(voter)?.until ?? Number.NEGATIVE_INFINITY,
      }))
      .toSorted((a, b) => b.until - a.until);
    let votes = 0;
    for (const each of grants) {
      votes += each.votes;
      if (votes >= needed) return each.until;
    }
    return Number.NEGATIVE_INFINITY;
  }

  /** A majority refuses this session for ever (rule 6): the number that the next one must be above. */
  refused(): number | undefined {
    const voters = this.#list?.voters ?? [];
    if (voters.length === 0) return undefined;
    let floor = this.#session.number;
    const votes = votesOf(voters, (voter) => {
      const refusal = this.#of(voter)?.floor;
      if (refusal !== undefined) floor = Math.max(floor, refusal);
      return refusal !== undefined;
    });
    // Nothing ever ran in a session without a lease: one refusal is enough to rise above it.
    return votes >= majorityOf(voters) || (this.#fresh && votes > 0) ? floor : undefined;
  }

  /** Votes of the newest list that answered a beat that was sent at `since` or later. */
  answeredSince(since: number): { readonly votes: number; readonly needed: number } {
    const voters = this.#list?.voters ?? [];
    return {
      votes: votesOf(voters, (voter) => (this.#of(voter)?.answeredSentAt ?? -1) >= since),
      needed: majorityOf(voters),
    };
  }

  /**
   * For how long a majority has answered us without a break, milliseconds (rule 4: contact). An answer, yes or no, counts
   * for the time since its beat was sent.
   */
  contactMs(now: number): number {
    const windowMs = this.profile.lengthMs / 2;
    const voters = this.#list?.voters ?? [];
    const votes = votesOf(voters, (voter) => {
      const grant = this.#of(voter);
      const sentAt = this.#rules.contactAnyAnswer ? grant?.answeredSentAt : grant?.yesSentAt;
      return sentAt !== undefined && sentAt >= now - windowMs;
    });
    const heard = voters.length > 0 && votes >= majorityOf(voters);
    // Between two looks there may have been a silence that nobody saw.
    const gap = now - this.#contactAt > windowMs;
    this.#contactAt = now;
    if (!heard) this.#contactSince = undefined;
    else if (this.#contactSince === undefined || gap) this.#contactSince = now;
    return this.#contactSince === undefined ? 0 : now - this.#contactSince;
  }

  /** Votes whose grant runs now, of how many. */
  votes(now: number): { readonly votes: number; readonly of: number } {
    const voters = this.#confirmed?.voters ?? [];
    const votes = votesOf(voters, (voter) => (this.#of(voter)?.until ?? Number.NEGATIVE_INFINITY) > now);
    return { votes, of: totalVotes(voters) };
  }

  /** Voter's name → milliseconds of the last round trip, of those that answered within the last lease. */
  roundTripsMs(now: number): Readonly<Record<string, number>> {
    const trips: Record<string, number> = {};
    for (const voter of this.voters) {
      const grant = this.#of(voter);
      if (grant?.roundTripMs !== undefined && grant.answeredSentAt > now - this.profile.lengthMs)
        trips[voter.name] = Math.round(grant.roundTripMs * 10) / 10;
    }
    return trips;
  }

  get version(): ListVersion {
    return this.#list?.version ?? noVersion;
  }
}
