/** Seals: which hosts are to be sealed, under which ballot, and when that proves a session over (host-lease, rules 4, 5, 7). */
import type { HostSession } from '../model/host.ts';
import type { Uuid } from '../model/resource.ts';
import { compareEpochs } from './epoch.ts';
import { compareVersions, keyOf, voterOf, votesOf } from './list.ts';
import type { Leader, Sight } from './leader.ts';
import { maxAbout } from './types.ts';
import type { Ballot, HostVote, SealAnswer, Voter, WithdrawAnswer, Word } from './types.ts';
import { compareBallots } from './voter-record.ts';

/** Proof that a session is over. Times are of the leader's boot clock. */
export interface Lost {
  readonly hostId: Uuid;
  readonly session: HostSession;
  readonly how: 'lease' | 'fence' | 'word' | 'ended';
  readonly silentAt: number;
  readonly sealingAt: number;
  readonly lostAt: number;
  readonly sealedVotes: number;
  readonly votes: number;
}

export interface Attempt {
  readonly hostId: Uuid;
  readonly session: HostSession;
  readonly ballot: Ballot;
  readonly word?: Word;
  readonly ended: boolean;
  readonly silentAt: number;
  readonly sealingAt: number;
  readonly answers: Map<string, SealAnswer>;
  sentAt: number;
  /** It came back: the seals are being taken back from these voters. */
  withdrawing?: Set<string>;
}

const againMs = 50;
/** Proofs kept in memory; the database and the voters keep them for good. */
const maxLosses = 4096;

export class Seals {
  readonly #leader: Leader;
  readonly #attempts = new Map<Uuid, Attempt>();
  readonly #losses = new Map<Uuid, Lost>();
  readonly #numbers = new Map<Uuid, number>();
  #fresh: Lost[] = [];

  constructor(leader: Leader) {
    this.#leader = leader;
  }

  get busy(): boolean {
    return this.#attempts.size > 0;
  }

  get attempts(): ReadonlyMap<Uuid, Attempt> {
    return this.#attempts;
  }

  get losses(): ReadonlyMap<Uuid, Lost> {
    return this.#losses;
  }

  /** No longer leading: attempts are dropped, what is proved stays proved. */
  reset(): void {
    this.#attempts.clear();
    this.#numbers.clear();
  }

  take(): readonly Lost[] {
    return this.#fresh.splice(0);
  }

  /** Some voter knows that sessions up to this number are over: a leader proved it. */
  known(hostId: Uuid, session: HostSession, now: number): void {
    const before = this.#losses.get(hostId);
    if (before && before.session.number >= session.number) return;
    this.#lost({ hostId, session, how: 'lease', silentAt: now, sealingAt: now, lostAt: now, sealedVotes: 0, votes: 0 });
  }

  declare(hostId: Uuid, session: HostSession, word: Word): void {
    this.#attempts.delete(hostId);
    this.#begin(hostId, session, { silentAt: 0, ended: false }, 0, word);
  }

  tick(now: number): void {
    for (const [hostId, votes] of this.#troubled()) this.#look(hostId, votes, now);
    for (const attempt of this.#attempts.values()) {
      this.#comeBack(attempt, now);
      if (now - attempt.sentAt >= againMs - 1) this.#send(attempt, now);
    }
  }

  /** Hosts that some voter reports as not well, with what each voter says that answered lately. */
  #troubled(): ReadonlyMap<Uuid, readonly HostVote[]> {
    const troubled = new Map<Uuid, HostVote[]>();
    for (const voter of this.#leader.voters) {
      for (const [hostId, vote] of this.#leader.sight(voter)?.hosts ?? []) {
        const list = troubled.get(hostId);
        if (list) list.push(vote);
        else troubled.set(hostId, [vote]);
      }
    }
    return troubled;
  }

  #look(hostId: Uuid, votes: readonly HostVote[], now: number): void {
    if (this.#attempts.has(hostId)) return;
    const session = votes.reduce<HostSession>((high, { session: each }) => (each.number > high.number ? each : high), {
      number: 0,
      id: '',
    });
    if (session.number === 0 || (this.#losses.get(hostId)?.session.number ?? 0) >= session.number) return;
    const { majority } = this.#leader;
    const ended = this.#count(now, hostId, session, (vote) => vote.ended);
    const out = this.#count(now, hostId, session, (vote) => vote.leftMs <= 0 || vote.lapsed || vote.ended);
    if (ended >= majority || out >= majority) {
      const silentMs = Math.min(...votes.map((vote) => vote.silentMs ?? Number.POSITIVE_INFINITY));
      const silentAt = Number.isFinite(silentMs) ? now - silentMs : now;
      this.#begin(hostId, session, { silentAt, ended: ended >= majority }, now);
      return;
    }
    this.#withdrawOld(hostId, votes, now);
  }

  #count(now: number, hostId: Uuid, session: HostSession, yes: (vote: HostVote) => boolean): number {
    return this.#leader.count(now, ({ hosts }: Sight) => {
      const vote = hosts.get(hostId);
      const same = !this.#leader.rules.sessionStatus || vote?.session.id === session.id;
      return vote !== undefined && same && yes(vote);
    });
  }

  /** Hosts that every voter shall tell of: a voter's silence about one proves nothing. */
  get about(): readonly Uuid[] {
    const sealed = [...this.#troubled()].filter(([, votes]) => votes.some((vote) => vote.seal)).map(([id]) => id);
    return [...new Set([...this.#attempts.keys(), ...sealed])].slice(0, maxAbout);
  }

  /** Votes of voters that accepted our epoch and say that their grant for the host runs. */
  #granting(now: number, hostId: Uuid): number {
    return this.#leader.count(now, (sight) => {
      const vote = sight.hosts.get(hostId);
      const accepted = compareEpochs(sight.epoch, this.#leader.epoch) === 0;
      return accepted && vote !== undefined && vote.leftMs > 0 && !vote.lapsed && !vote.ended && !vote.seal;
    });
  }

  #begin(
    hostId: Uuid,
    session: HostSession,
    { silentAt, ended }: { readonly silentAt: number; readonly ended: boolean },
    now: number,
    word?: Word,
  ): void {
    const number = (this.#numbers.get(hostId) ?? 0) + 1;
    this.#numbers.set(hostId, number);
    this.#attempts.set(hostId, {
      hostId,
      session,
      ballot: { epoch: this.#leader.epoch, attempt: number },
      ended,
      silentAt,
      sealingAt: now,
      sentAt: Number.NEGATIVE_INFINITY,
      answers: new Map(),
      ...(word ? { word } : {}),
    });
  }

  #send(attempt: Attempt, now: number): void {
    const { list } = this.#leader;
    if (!list) return;
    attempt.sentAt = now;
    const { hostId, session, ballot, word, withdrawing } = attempt;
    const { version } = list;
    if (withdrawing) {
      const left = (voter: Voter): boolean => withdrawing.has(keyOf(voter));
      this.#leader.toVoters({ type: 'withdraw', hostId, session, ballot, version }, left);
      return;
    }
    const done = (voter: Voter): boolean => attempt.answers.get(keyOf(voter))?.ranOut === true;
    const seal = { type: 'seal', hostId, session, ballot, version, ...(word ? { word } : {}) } as const;
    this.#leader.toVoters(seal, (voter) => !done(voter));
  }

  answered(from: Uuid, answer: SealAnswer, now: number): void {
    const attempt = this.#attempts.get(answer.hostId);
    const voter = voterOf(this.#leader.list, from, this.#leader.rules.diskIds ? answer.diskId : undefined);
    if (!attempt || !voter || answer.session.id !== attempt.session.id) return;
    const { rules, list } = this.#leader;
    if (rules.oneBallot && compareBallots(answer.ballot, attempt.ballot) !== 0) return;
    if (answer.higher && answer.higher.number > attempt.session.number) {
      // The host is in a later life: the present one is what matters.
      this.#attempts.delete(answer.hostId);
      return;
    }
    if (!list || compareVersions(answer.version, list.version) !== 0) return;
    attempt.answers.set(keyOf(voter), answer);
    this.#proved(attempt, now);
  }

  #proved(attempt: Attempt, now: number): void {
    if (attempt.withdrawing) return;
    const votes = votesOf(this.#leader.voters, (voter) => {
      const answer = attempt.answers.get(keyOf(voter));
      return answer?.sealed === true && answer.ranOut;
    });
    if (votes < this.#leader.majority) return;
    const { hostId, session, silentAt, sealingAt, word, ended } = attempt;
    this.#attempts.delete(hostId);
    const how = word ? (word.kind === 'fence' ? 'fence' : 'word') : ended ? 'ended' : 'lease';
    const known = { silentAt: silentAt || now, sealingAt: sealingAt || now };
    this.#lost({ hostId, session, how, ...known, lostAt: now, sealedVotes: votes, votes: this.#leader.votes });
  }

  #lost(lost: Lost): void {
    this.#losses.delete(lost.hostId);
    this.#losses.set(lost.hostId, lost);
    const [oldest] = this.#losses.keys();
    if (this.#losses.size > maxLosses && oldest !== undefined) this.#losses.delete(oldest);
    this.#fresh.push(lost);
    this.#leader.lists.isOver(lost.hostId, lost.session.number);
  }

  /** A host that a majority grants again while it is being sealed: what was set is taken back (rule 7). */
  #comeBack(attempt: Attempt, now: number): void {
    if (attempt.word || attempt.withdrawing) return;
    // Without the rule one voter that hears the host is enough, whoever set the seals.
    const needed = this.#leader.rules.firstWithdraws ? this.#leader.majority : 1;
    if (this.#granting(now, attempt.hostId) < needed) return;
    const sealed = new Set([...attempt.answers].filter(([, answer]) => answer.sealed).map(([key]) => key));
    this.#withdraw(attempt, sealed);
  }

  #withdraw(attempt: Attempt, sealed: Set<string>): void {
    // One that did not answer may have sealed all the same: all are told.
    const all = new Set(this.#leader.voters.map(keyOf));
    attempt.withdrawing = sealed.size === 0 ? all : new Set([...sealed, ...all]);
    attempt.sentAt = Number.NEGATIVE_INFINITY;
  }

  /** Seals of earlier leaders at a minority, on a host that a majority grants under our epoch. */
  #withdrawOld(hostId: Uuid, votes: readonly HostVote[], now: number): void {
    const sealed = votes.find((vote) => vote.seal !== undefined)?.seal;
    if (!sealed) return;
    const first = compareEpochs(sealed.first.epoch, this.#leader.epoch) === 0;
    const needed = this.#leader.rules.firstWithdraws || first ? this.#leader.majority : 1;
    if (this.#granting(now, hostId) < needed) return;
    this.#begin(hostId, sealed.session, { silentAt: now, ended: false }, now);
    const attempt = this.#attempts.get(hostId);
    if (attempt) this.#withdraw(attempt, new Set());
  }

  withdrawn(from: Uuid, answer: WithdrawAnswer): void {
    const attempt = this.#attempts.get(answer.hostId);
    if (!attempt?.withdrawing || compareBallots(answer.ballot, attempt.ballot) !== 0) return;
    const voter = voterOf(this.#leader.list, from, this.#leader.rules.diskIds ? answer.diskId : undefined);
    if (voter) attempt.withdrawing.delete(keyOf(voter));
    const present = this.#leader.voters.filter((each) => attempt.withdrawing?.has(keyOf(each)));
    // Whoever does not answer is told again when it shows a seal.
    const waits = present.some((each) => attempt.answers.get(keyOf(each))?.sealed === true);
    if (!waits) this.#attempts.delete(answer.hostId);
  }
}
