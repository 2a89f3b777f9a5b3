/**
 * One voter: grants, seals, accepts leaders (host-lease, rules 2, 4, 5, 7, 8, 12). Pure; each method changes the memory at
 * once and says on which durable records its answer rests. The answer must not leave before those are on disk.
 */
import type { Uuid } from '../model/resource.ts';
import { compareEpochs } from './epoch.ts';
import { compareVersions, noVersion, voterOf } from './list.ts';
import { longestMs, margin, profiles } from './margin.ts';
import type { Rules } from './rules.ts';
import { refusal, refuseSeal, voteOf } from './voter-judge.ts';
import { ageLongest, compareBallots, fresh, type HostRecord, type VoterDisk, type Watch } from './voter-record.ts';
import { censusPage, maxVotes, noEpoch } from './types.ts';
import type {
  Beat,
  BeatAnswer,
  Census,
  CensusAnswer,
  Epoch,
  HostVote,
  ListAnswer,
  Over,
  OverAnswer,
  Poll,
  PollAnswer,
  Seal,
  SealAnswer,
  StoreList,
  VoterList,
  Withdraw,
  WithdrawAnswer,
} from './types.ts';

/** An answer and the records that must be on disk before it leaves: `self`, or a host's id. */
export interface Reply<A> {
  readonly answer: A;
  readonly rests: readonly string[];
}

/** Milliseconds for which a leader that commits keeps its voters (rule 8), and one that only polls. */
const leaderKeepsMs = 1500;
const pollerKeepsMs = 1000;

export class Voter {
  readonly #rules: Rules;
  readonly #keeperId: Uuid;
  readonly diskId: Uuid;
  readonly #hosts = new Map<Uuid, HostRecord>();
  readonly #watches = new Map<Uuid, Watch>();
  readonly #revisions = new Map<string, number>();
  #epoch: Epoch;
  #list: VoterList | undefined;
  /** Nothing that we may have granted to hosts without a record lasts beyond these. */
  #assumed: { until: number; ranOut: number };
  #leaderUntil = Number.NEGATIVE_INFINITY;
  #leaderCommits = false;

  constructor(keeperId: Uuid, disk: VoterDisk, now: number, rules: Rules) {
    this.#keeperId = keeperId;
    this.#rules = rules;
    this.diskId = disk.diskId;
    this.#epoch = disk.epoch;
    this.#list = disk.list;
    const { lengthMs } = this.#profile;
    const start = rules.assumeGrants ? now : Number.NEGATIVE_INFINITY;
    this.#assumed = { until: start + lengthMs, ranOut: start + lengthMs + this.#margin(lengthMs, 0) };
    for (const [id, record] of disk.hosts) {
      const kept = { ...record };
      if (!rules.durableSeals) delete kept.seal;
      if (!rules.durableSessions) delete kept.granted;
      this.#hosts.set(id, kept);
      const ranOut = start + record.askMs + this.#margin(record.askMs, record.boundMs);
      this.#watches.set(id, { ...fresh, until: start + record.askMs, ranOut, longestAt: start });
    }
  }

  get epoch(): Epoch {
    return this.#epoch;
  }

  get list(): VoterList | undefined {
    return this.#list;
  }

  /** What must be on disk of the voter itself. */
  get self(): Pick<VoterDisk, 'diskId' | 'epoch' | 'list'> {
    return { diskId: this.diskId, epoch: this.#epoch, ...(this.#list ? { list: this.#list } : {}) };
  }

  /** What must be on disk of a host. */
  record(hostId: Uuid): HostRecord | undefined {
    return this.#hosts.get(hostId);
  }

  /** Rises whenever the durable record of that key changes. */
  revision(key: string): number {
    return this.#revisions.get(key) ?? 0;
  }

  #touch(key: string): void {
    this.#revisions.set(key, this.revision(key) + 1);
  }

  #accept(epoch: Epoch): void {
    if (compareEpochs(epoch, this.#epoch) === 0) return;
    this.#epoch = epoch;
    this.#touch('self');
  }

  get #profile() {
    return this.#list?.profile ?? profiles.default;
  }

  #margin(lengthMs: number, boundMs: number): number {
    if (!this.#rules.margin) return 0;
    const { drift, boundMs: usual } = this.#profile;
    return margin(lengthMs, Math.max(boundMs, usual), drift);
  }

  // ---------------------------------------------------------------- grants

  /** Answers a beat. The grant counts from `now`, the receipt, on our clock. */
  beat(beat: Beat, now: number): Reply<BeatAnswer> {
    const record = this.#record(beat.hostId);
    const watch = this.#watch(beat.hostId);
    const floor = refusal(record, beat.session, this.#rules);
    this.#notice(watch, beat, now, floor !== undefined);
    // A beat that was overtaken by the word that all has ended asks for nothing any more.
    const ended = beat.ended || (watch.beat?.ended === true && watch.beat.session.id === beat.session.id);
    const yes = floor === undefined && beat.askMs > 0 && !ended;
    if (yes) this.#grant(record, watch, beat, now);
    const higher = this.#list && compareVersions(this.#list.version, beat.list) > 0 && this.#rules.listWithAnswers;
    return {
      rests: ['self', beat.hostId],
      answer: {
        type: 'beat-answer',
        session: beat.session,
        sentAt: beat.sentAt,
        askMs: beat.askMs,
        yes,
        ...(floor === undefined ? {} : { refused: floor.why, floor: floor.number }),
        epoch: this.#rules.epochWithYes ? this.#epoch : noEpoch,
        diskId: this.diskId,
        version: this.#list?.version ?? noVersion,
        ...(higher && this.#list ? { list: this.#list } : {}),
      },
    };
  }

  #notice(watch: Watch, beat: Beat, now: number, refused: boolean): void {
    const { session, sentAt, lapsed, ended, confirmed } = beat;
    const before = watch.beat?.session.id === session.id ? watch.beat : undefined;
    if (refused || (before && before.sentAt >= sentAt)) return;
    watch.beat = { at: now, session, sentAt, lapsed: lapsed && this.#rules.lapsedSaid, ended, confirmed };
    if (ended) {
      watch.until = Number.NEGATIVE_INFINITY;
      watch.ranOut = now;
    } else if (beat.reset && before) {
      // A voter without memory of that session keeps what it assumes: this beat may be older than a longer grant.
      watch.until = now;
      watch.ranOut = now;
    }
  }

  #grant(record: HostRecord, watch: Watch, { hostId, session, askMs, boundMs }: Beat, now: number): void {
    if (!record.granted || session.number > record.granted.number) {
      // A higher session: whatever ran in the lower ones has ended, the host says so by its number (rule 1).
      if (record.granted) record.overThrough = Math.max(record.overThrough, session.number - 1);
      record.granted = session;
      record.askMs = askMs;
      record.boundMs = boundMs;
      delete record.seal;
      this.#touch(hostId);
      Object.assign(watch, { until: now, ranOut: now, longestAt: now });
    }
    const lengths = ageLongest(record, watch, askMs, boundMs, now, (ask, bound) => this.#margin(ask, bound));
    if (lengths.askMs !== record.askMs || lengths.boundMs !== record.boundMs) this.#touch(hostId);
    Object.assign(record, lengths);
    watch.until = Math.max(watch.until, now + askMs);
    const [ask, bound] = this.#rules.marginOfGrant
      ? [askMs, boundMs]
      : [profiles.default.lengthMs, profiles.default.boundMs];
    watch.ranOut = Math.max(watch.ranOut, now + ask + this.#margin(ask, bound));
  }

  // ---------------------------------------------------------------- leaders

  poll(poll: Poll, now: number, contactMs: number): Reply<PollAnswer> {
    const refusal = this.#refusePoll(poll, now);
    if (!refusal && poll.purpose !== 'ask') {
      this.#accept(poll.epoch);
      this.#leaderCommits = poll.committing;
      this.#leaderUntil = now + (poll.committing ? leaderKeepsMs : pollerKeepsMs);
    }
    const higher = this.#list && compareVersions(this.#list.version, poll.version) > 0;
    const { votes, well } = this.#votes(now, new Set(poll.about));
    return {
      rests: ['self', ...votes.map((each) => each.hostId)],
      answer: {
        type: 'poll-answer',
        seq: poll.seq,
        asked: poll.epoch,
        ok: refusal === undefined,
        ...(refusal ? { why: refusal } : {}),
        epoch: this.#epoch,
        diskId: this.diskId,
        version: this.#list?.version ?? noVersion,
        ...(higher && this.#list ? { list: this.#list } : {}),
        hosts: votes,
        well,
        contactMs,
      },
    };
  }

  #refusePoll({ epoch, purpose, committing }: Poll, now: number): PollAnswer['why'] {
    const order = compareEpochs(epoch, this.#epoch);
    if (order < 0) return this.#rules.votersRefuseLow ? 'epoch' : undefined;
    if (order === 0) return undefined;
    if (purpose === 'ask' && !this.#rules.askFirst) return undefined;
    if (now >= this.#leaderUntil) return undefined;
    // A leader that cannot commit gives way to one that can.
    return this.#leaderCommits || !committing || !this.#rules.committingWins ? 'busy' : undefined;
  }

  #votes(now: number, about: ReadonlySet<Uuid>): { votes: readonly HostVote[]; well: number } {
    const votes: HostVote[] = [];
    let well = 0;
    for (const [id, record] of this.#hosts) {
      const highest = Math.max(record.granted?.number ?? 0, record.seal?.session.number ?? 0);
      if (record.overThrough >= highest) continue;
      const vote = this.#vote(id, record, now);
      const isWell = vote.leftMs > 0 && !vote.lapsed && !vote.ended && !vote.seal;
      if (isWell) well += 1;
      if (about.has(id) || (!isWell && votes.length < maxVotes)) votes.push(vote);
    }
    return { votes, well };
  }

  #vote(hostId: Uuid, record: HostRecord, now: number): HostVote {
    return voteOf(hostId, record, this.#watch(hostId), now, this.#rules);
  }

  census({ epoch, after, seq }: Census, now: number): Reply<CensusAnswer> {
    // Who only ever beat for contact (a witness) has nothing to be counted.
    const counted = [...this.#hosts].filter(([id, { granted, seal }]) => id > after && (granted ?? seal) !== undefined);
    const ids = counted.map(([id]) => id).toSorted();
    const page = ids.slice(0, censusPage);
    const hosts = page.flatMap((id) => {
      const record = this.#hosts.get(id);
      return record ? [this.#vote(id, record, now)] : [];
    });
    const { diskId } = this;
    const ok = compareEpochs(epoch, this.#epoch) === 0;
    return {
      rests: ['self', ...page],
      answer: {
        type: 'census-answer',
        seq,
        epoch: this.#epoch,
        diskId,
        hosts: ok ? hosts : [],
        more: ids.length > page.length,
      },
    };
  }

  // ---------------------------------------------------------------- seals

  /** `contactMs`: how long this voter itself has had answers of a majority without a break (rule 4). */
  seal(seal: Seal, now: number, contactMs: number): Reply<SealAnswer> {
    const record = this.#record(seal.hostId);
    const voter = { epoch: this.#epoch, list: this.#list, rules: this.#rules };
    const why = refuseSeal(seal, record, this.#watch(seal.hostId), voter, now, contactMs);
    if (!why) this.#setSeal(record, seal);
    this.#touch(seal.hostId);
    const { hostId, session, ballot } = seal;
    const set = record.seal;
    const { granted } = record;
    return {
      rests: ['self', hostId],
      answer: {
        type: 'seal-answer',
        hostId,
        session,
        ballot,
        version: this.#list?.version ?? noVersion,
        diskId: this.diskId,
        sealed: !why,
        ranOut: !why && (set?.word !== undefined || now >= this.#watch(hostId).ranOut),
        ...(set ? { first: set.first } : {}),
        ...(why ? { why } : {}),
        epoch: this.#epoch,
        ...(granted && granted.number > session.number ? { higher: granted } : {}),
      },
    };
  }

  #setSeal(record: HostRecord, { session, ballot, word }: Seal): void {
    const before = record.seal?.session.number === session.number ? record.seal : undefined;
    const said = before?.word ?? word;
    record.seal = { session, ballot, first: before?.first ?? ballot, ...(said ? { word: said } : {}) };
    if (compareEpochs(ballot.epoch, this.#epoch) > 0) this.#accept(ballot.epoch);
  }

  withdraw({ hostId, session, ballot }: Withdraw): Reply<WithdrawAnswer> {
    const record = this.#record(hostId);
    const { seal } = record;
    const late =
      this.#rules.lateWithdrawals &&
      (compareEpochs(ballot.epoch, this.#epoch) < 0 || (seal !== undefined && compareBallots(ballot, seal.ballot) < 0));
    const ok = !late && record.overThrough < session.number;
    this.#touch(hostId);
    if (ok) {
      if (seal?.session.number === session.number) delete record.seal;
      if (!record.withdrawn || compareBallots(ballot, record.withdrawn) > 0) record.withdrawn = ballot;
    }
    const { diskId } = this;
    return { rests: ['self', hostId], answer: { type: 'withdraw-answer', hostId, session, ballot, diskId, ok } };
  }

  over({ epoch, hosts, seq }: Over): Reply<OverAnswer> {
    const ok = compareEpochs(epoch, this.#epoch) >= 0;
    const changed: Uuid[] = [];
    for (const { hostId, through } of ok ? hosts : []) {
      const record = this.#record(hostId);
      changed.push(hostId);
      this.#touch(hostId);
      record.overThrough = Math.max(record.overThrough, through);
      if (record.seal && record.seal.session.number <= through) delete record.seal;
    }
    return { rests: ['self', ...changed], answer: { type: 'over-answer', seq, diskId: this.diskId, ok } };
  }

  // ---------------------------------------------------------------- lists

  storeList({ epoch, list, word }: StoreList, now: number): Reply<ListAnswer> {
    const version = this.#list?.version ?? noVersion;
    const known = this.#list === undefined || this.#list.siteId === list.siteId;
    const allowed = word !== undefined || compareEpochs(epoch, this.#epoch) >= 0;
    const order = compareVersions(list.version, version, this.#rules.versionEpoch);
    if (known && allowed && order > 0) this.#take(list, now);
    return {
      rests: ['self'],
      answer: {
        type: 'list-answer',
        asked: list.version,
        version: this.#list?.version ?? noVersion,
        diskId: this.diskId,
        stored: this.#list !== undefined && compareVersions(this.#list.version, list.version) === 0,
        epoch: this.#epoch,
      },
    };
  }

  /** Takes a higher list from another voter's answer (rule 12: keepers adopt the highest). True: it was higher. */
  adopt(list: VoterList, now: number): boolean {
    const known = this.#list === undefined || this.#list.siteId === list.siteId;
    if (!known || compareVersions(list.version, this.#list?.version ?? noVersion) <= 0) return false;
    this.#take(list, now);
    return true;
  }

  #take(list: VoterList, now: number): void {
    const byForce = list.version.forced > (this.#list?.version.forced ?? 0);
    const was = !byForce && voterOf(this.#list, this.#keeperId, this.diskId) !== undefined;
    this.#list = list;
    this.#touch('self');
    const is = voterOf(list, this.#keeperId, this.diskId) !== undefined;
    if (was || !is || !this.#rules.newVoterAssumes) return;
    // Who becomes a voter assumes that it granted each host just now. By force also who was one, and the longest that there
    // is: the dead may have granted it, and no majority of them answers for it.
    const lengthMs = byForce ? longestMs : list.profile.lengthMs;
    const until = now + lengthMs;
    const ranOut = until + this.#margin(lengthMs, 0);
    this.#assumed = { until, ranOut };
    for (const watch of this.#watches.values()) {
      watch.until = Math.max(watch.until, until);
      watch.ranOut = Math.max(watch.ranOut, ranOut);
    }
  }

  #record(hostId: Uuid): HostRecord {
    const known = this.#hosts.get(hostId);
    if (known) return known;
    const made: HostRecord = { askMs: 0, boundMs: 0, overThrough: 0 };
    this.#hosts.set(hostId, made);
    return made;
  }

  #watch(hostId: Uuid): Watch {
    const known = this.#watches.get(hostId);
    if (known) return known;
    const made: Watch = { ...fresh, ...this.#assumed };
    this.#watches.set(hostId, made);
    return made;
  }
}
