/**
 * The leader's state. Every change of the site goes through `SiteState.change`: one at a time, decided on the newest
 * state, written to the store, and only then visible. Knows nothing but ports, so the simulator runs the same code.
 */
import { VirgaError } from '../core/errors.ts';
import { compareEpochs } from '../core/ha/epoch.ts';
import { noEpoch, type Epoch } from '../core/ha/types.ts';
import type { Change, SiteEvent, Snapshot } from '../core/model/snapshot.ts';
import type { Clock, CommitResult, Expectation, IdempotencyRecord, LoadedState, Log, Store } from '../ports.ts';
import { expectations, isEmpty, touchedBy, type Touched } from './changes.ts';
import { Mirror } from './store/mirror.ts';

/**
 * `starting`: nobody has said yet whether it leads · `standby`: another controller leads, or nobody · `leading` ·
 * `reloading`: it leads, but the outcome of a commit is unknown, the store was away, or it has not loaded yet; loads
 * before anything else.
 */
export type Leadership = 'starting' | 'standby' | 'leading' | 'reloading';

/** What a pure request or decision gives back. `expect` beyond what is written is what the decision stands on. */
export interface Decision {
  readonly change: Change;
  readonly expect?: readonly Expectation[];
  readonly created?: IdempotencyRecord['created'];
}

/** A client's idempotency key with what it stands for. */
export type Repeat = Pick<IdempotencyRecord, 'key' | 'who' | 'requestHash'>;

export type Outcome<T> =
  | { readonly repeated: false; readonly result: T; readonly revision: number }
  /** The same request came before; this is what it created. */
  | { readonly repeated: true; readonly created: IdempotencyRecord['created']; readonly revision: number };

/** What listeners are told, after the mirror has it. */
export type News =
  | { readonly type: 'commit'; readonly revision: number; readonly change: Change; readonly touched: Touched }
  /** The state was loaded anew; anything may have changed. */
  | { readonly type: 'loaded'; readonly revision: number };

export interface StateOptions {
  readonly store: Store;
  readonly clock: Clock;
  readonly log: Log;
  /** Changes that wait or run at one moment; 1,024 by default. */
  readonly maxWaiting?: number;
  /** Told the milliseconds of every commit. */
  readonly onCommitted?: (ms: number) => void;
}

/** Decisions on one change before it is given up as `conflict`. */
const maxTries = 8;
/** Events kept in memory for those who follow the record. */
const keptEvents = 2000;
/** Milliseconds between attempts to load again: first and longest. */
const firstRetryMs = 100;
const longestRetryMs = 1000;
/** Milliseconds after the last commit until the store is asked whether it would take one. */
const confirmAfterMs = 450;

export class SiteState {
  readonly #store: Store;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #options: StateOptions;
  readonly #listeners = new Set<(news: News) => void>();
  readonly #leadershipListeners = new Set<(leadership: Leadership) => void>();
  readonly #outbidListeners = new Set<(number: number) => void>();
  #leadership: Leadership = 'starting';
  #claim: Epoch | undefined;
  #committedAt: number | undefined;
  /** A question to the store that is under way. */
  #confirming: Promise<boolean> | undefined;
  #mirror: Mirror | undefined;
  #tail: Promise<unknown> = Promise.resolve();
  #waiting = 0;
  #retryAt = Number.NEGATIVE_INFINITY;
  #retryMs = firstRetryMs;
  #lastFailure: unknown;
  #events: SiteEvent[] = [];

  constructor(options: StateOptions) {
    this.#store = options.store;
    this.#clock = options.clock;
    this.#log = options.log;
    this.#options = options;
  }

  get leadership(): Leadership {
    return this.#leadership;
  }

  /** Changes that wait or run. */
  get waiting(): number {
    return this.#waiting;
  }

  /** The epoch under which it leads or is about to. */
  get epoch(): Epoch | undefined {
    return this.#claim;
  }

  /** It has led under the present epoch: also while it loads again, what it knows is what this site is. */
  get known(): boolean {
    return this.#mirror !== undefined;
  }

  /**
   * When the last commit, load or confirmation under the present epoch was sent that then succeeded (monotonic
   * milliseconds); undefined: none yet.
   */
  get committedAt(): number | undefined {
    return this.#committedAt;
  }

  /**
   * The newest known state. While the database is away it is what was known last.
   * @throws VirgaError not_leading unless it leads and has loaded
   */
  get snapshot(): Mirror {
    if (!this.#mirror) throw notLeading();
    return this.#mirror;
  }

  /**
   * Leads under this epoch, or stands by (`undefined`): from this moment on nothing more is decided under the old one.
   * Resolves when the state is loaded or the first attempt failed, and never rejects: the loop tries again.
   */
  async claim(epoch: Epoch | undefined): Promise<void> {
    if (epoch === undefined) return this.#stand('standby');
    if (!this.#claim || compareEpochs(epoch, this.#claim) !== 0) {
      this.#stand('reloading', epoch);
    }
    try {
      await this.ensure();
    } catch (error) {
      this.#log.info('does not lead yet', { epoch: epoch.number, error: String(error) });
    }
  }

  /**
   * Asks the store, when nothing was committed lately, whether it would take a commit under our epoch; call it several times
   * a second. Never rejects.
   * @returns whether it would, as far as is known.
   */
  async confirm(): Promise<boolean> {
    this.#confirming ??= this.#confirm().finally(() => {
      this.#confirming = undefined;
    });
    return this.#confirming;
  }

  async #confirm(): Promise<boolean> {
    const claim = this.#claim;
    if (!claim || this.#leadership !== 'leading') return false;
    const asked = this.#clock.monotonic();
    if (this.#committedAt !== undefined && asked - this.#committedAt < confirmAfterMs) return true;
    let epoch: Epoch;
    try {
      epoch = await this.#store.epoch();
    } catch {
      return false;
    }
    if (this.#claim !== claim) return false;
    const compared = compareEpochs(epoch, claim);
    if (compared === 0) this.#committedAt = Math.max(asked, this.#committedAt ?? asked);
    else if (compared > 0) this.#outbid(epoch.number);
    else this.#doubt('the store forgot our epoch');
    return compared === 0;
  }

  /** Something that was to follow from the load failed: it is loaded again. */
  doubt(): void {
    if (this.#leadership === 'leading') this.#doubt('what followed from the load failed');
  }

  /** Told when it leads, stands by, or must load again. Returns the way to stop it. */
  onLeadership(listener: (leadership: Leadership) => void): () => void {
    this.#leadershipListeners.add(listener);
    return () => this.#leadershipListeners.delete(listener);
  }

  /**
   * Told the number above which a new epoch must be to lead: the store has that one, or it lost rows that were written
   * under it. This controller stands by from then on. Returns the way to stop it.
   */
  onOutbid(listener: (number: number) => void): () => void {
    this.#outbidListeners.add(listener);
    return () => this.#outbidListeners.delete(listener);
  }

  /** Called after every commit and load. Returns the way to stop it. */
  listen(listener: (news: News) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Events after `seq` if memory still has all of them, else `undefined`: then ask the store. */
  recentEvents(seq: number): readonly SiteEvent[] | undefined {
    const first = this.#events[0];
    if (!first || first.seq > seq + 1) return undefined;
    return this.#events.slice(Math.max(0, seq + 1 - first.seq));
  }

  /**
   * Loads the state under the claimed epoch if that is not done yet, or again after an unknown outcome. Cheap when all is well.
   * @throws VirgaError store_unavailable · not_leading · store_newer
   */
  async ensure(): Promise<void> {
    if (this.#leadership === 'leading') return;
    await this.#enqueue(async () => this.#ready());
  }

  /**
   * Decides on the newest state and writes what was decided; decides again when the store knows better.
   * @param decide pure and synchronous; what it throws reaches the caller and nothing is written.
   * @throws VirgaError overloaded · conflict · name_taken · idempotency_mismatch · not_leading · store_unavailable
   *   (then it is unknown whether it was written) · whatever `decide` throws
   */
  async change<T extends Decision>(decide: (snapshot: Snapshot) => T, repeat?: Repeat): Promise<Outcome<T>> {
    return this.#enqueue(async () => this.#change(decide, repeat));
  }

  async #enqueue<T>(work: () => Promise<T>): Promise<T> {
    const limit = this.#options.maxWaiting ?? 1024;
    if (this.#waiting >= limit) throw new VirgaError('overloaded', { what: 'changes', limit });
    this.#waiting += 1;
    const turn = this.#tail.then(work);
    this.#tail = turn.then(
      () => undefined,
      () => undefined,
    );
    try {
      return await turn;
    } finally {
      this.#waiting -= 1;
    }
  }

  async #change<T extends Decision>(decide: (snapshot: Snapshot) => T, repeat?: Repeat): Promise<Outcome<T>> {
    let last: CommitResult | undefined;
    for (let attempt = 0; attempt < maxTries; attempt += 1) {
      const mirror = await this.#ready();
      const before = repeat && attempt === 0 ? await this.#store.idempotent(repeat.who, repeat.key) : undefined;
      if (before && repeat) return repeated(before, repeat, mirror.revision);
      if (this.#mirror !== mirror) throw notLeading();
      const result = decide(mirror);
      if (isEmpty(result.change)) return { repeated: false, result, revision: mirror.revision };
      const answer = await this.#commit(mirror, result, repeat);
      if (answer.ok) return { repeated: false, result, revision: answer.revision };
      if (answer.why === 'idempotency' && repeat) return repeated(answer.record, repeat, mirror.revision);
      if (this.#mirror !== mirror) throw notLeading();
      if (answer.why === 'epoch' && compareEpochs(answer.epoch, this.#claim ?? noEpoch) > 0)
        throw this.#outbid(answer.epoch.number);
      last = answer;
      // Under our epoch nobody else writes: the store knows something that this state does not, or forgot our epoch.
      this.#doubt(answer.why);
    }
    if (last && !last.ok && last.why === 'name-taken')
      throw new VirgaError('name_taken', { kind: last.kind, name: last.name });
    throw new VirgaError('conflict', { tries: maxTries });
  }

  async #commit(mirror: Mirror, decision: Decision, repeat: Repeat | undefined): Promise<CommitResult> {
    const claim = this.#claim;
    if (!claim) throw notLeading();
    const started = this.#clock.monotonic();
    let answer: CommitResult;
    try {
      answer = await this.#store.commit({
        ...decision.change,
        epoch: claim,
        expect: expectations(mirror, decision),
        ...(repeat ? { idempotency: { ...repeat, created: decision.created ?? [] } } : {}),
      });
    } catch (error) {
      // Whether it was written is unknown: nothing may be decided before the state was loaded again.
      if (this.#mirror === mirror) this.#doubt(error instanceof VirgaError ? error.code : 'unexpected error');
      throw error;
    }
    // Who stands by meanwhile has written it all the same, but shows it to nobody.
    if (answer.ok && this.#mirror === mirror) {
      this.#committedAt = Math.max(started, this.#committedAt ?? started);
      this.#options.onCommitted?.(this.#clock.monotonic() - started);
      const touched = touchedBy(mirror, decision.change);
      mirror.apply(decision.change, answer.revision);
      this.#keep(answer.events);
      this.#tell({ type: 'commit', revision: answer.revision, change: decision.change, touched });
    }
    return answer;
  }

  async #ready(): Promise<Mirror> {
    if (this.#leadership === 'leading' && this.#mirror) return this.#mirror;
    const claim = this.#claim;
    if (!claim) throw notLeading();
    // Who waits behind a dead database is told at once, not after a time-out each.
    if (this.#clock.monotonic() < this.#retryAt) throw this.#lastFailure;
    const started = this.#clock.monotonic();
    try {
      const answer = await this.#store.lead(claim);
      if (this.#claim !== claim) throw notLeading();
      if (!answer.ok) throw this.#outbid(answer.epoch.number);
      // Hosts ignore what is not newer than what they have seen under one epoch.
      if (answer.state.revision < (this.#mirror?.revision ?? 0)) throw this.#outbid(claim.number);
      return this.#load(answer.state, started);
    } catch (error) {
      if (this.#claim !== claim) throw error;
      this.#lastFailure = error;
      this.#retryAt = this.#clock.monotonic() + this.#retryMs;
      this.#retryMs = Math.min(longestRetryMs, this.#retryMs * 2);
      throw error;
    }
  }

  #load(state: LoadedState, asked: number): Mirror {
    const mirror = new Mirror(state);
    this.#mirror = mirror;
    this.#events = [];
    this.#committedAt = asked;
    this.#retryMs = firstRetryMs;
    this.#log.info('leads', { epoch: state.site.epoch, revision: state.revision, objects: state.resources.length });
    this.#become('leading');
    this.#tell({ type: 'loaded', revision: state.revision });
    return mirror;
  }

  #doubt(why: string): void {
    this.#log.warn('loads the state again', { why });
    this.#retryAt = Number.NEGATIVE_INFINITY;
    this.#become('reloading');
  }

  #outbid(number: number): VirgaError {
    this.#log.warn('the database has a higher epoch, or lost what was written under ours', { number });
    this.#stand('standby');
    for (const listener of this.#outbidListeners) this.#guarded(() => listener(number));
    return notLeading();
  }

  /** Leaves the epoch that was claimed, with everything that was known under it. */
  #stand(leadership: Leadership, claim?: Epoch): void {
    this.#claim = claim;
    this.#mirror = undefined;
    this.#committedAt = undefined;
    this.#events = [];
    this.#retryAt = Number.NEGATIVE_INFINITY;
    this.#retryMs = firstRetryMs;
    this.#become(leadership);
  }

  #become(leadership: Leadership): void {
    if (this.#leadership === leadership) return;
    this.#leadership = leadership;
    for (const listener of this.#leadershipListeners) this.#guarded(() => listener(leadership));
  }

  #keep(events: readonly SiteEvent[]): void {
    this.#events.push(...events);
    if (this.#events.length > 2 * keptEvents) this.#events = this.#events.slice(-keptEvents);
  }

  #tell(news: News): void {
    for (const listener of this.#listeners) this.#guarded(() => listener(news));
  }

  #guarded(listener: () => void): void {
    try {
      listener();
    } catch (error) {
      this.#log.error('a listener failed', { error: String(error) });
    }
  }
}

const notLeading = (): VirgaError => new VirgaError('not_leading');

function repeated(record: IdempotencyRecord, repeat: Repeat, revision: number): Outcome<never> {
  if (record.requestHash !== repeat.requestHash) throw new VirgaError('idempotency_mismatch', { key: repeat.key });
  return { repeated: true, created: record.created, revision };
}
