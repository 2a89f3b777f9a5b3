/**
 * The leader's state. Every change of the site goes through `SiteState.change`: one at a time, decided on the newest
 * state, written to the store, and only then visible. Knows nothing but ports, so the simulator runs the same code.
 */
import { VirgaError } from '../core/errors.ts';
import type { Uuid } from '../core/model/resource.ts';
import type { Change, SiteEvent, Snapshot } from '../core/model/snapshot.ts';
import type { Clock, CommitResult, Expectation, IdempotencyRecord, Log, Store } from '../ports.ts';
import { Mirror } from './store/mirror.ts';

/**
 * `starting`: never led yet · `leading` · `reloading`: the outcome of a commit is unknown, or the store was away; loads
 * again before anything else · `displaced`: another controller leads; final for this process.
 */
export type Leadership = 'starting' | 'leading' | 'reloading' | 'displaced';

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

/** Hosts whose assignment may have changed; `all` when a network, an image or the site itself changed. */
export type Touched = 'all' | ReadonlySet<Uuid>;

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
const firstRetryMs = 250;
const longestRetryMs = 5000;

export class SiteState {
  readonly #store: Store;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #options: StateOptions;
  readonly #listeners = new Set<(news: News) => void>();
  #leadership: Leadership = 'starting';
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

  /**
   * The newest known state. While the database is away it is what was known last.
   * @throws VirgaError not_leading before the first load and after another controller took over.
   */
  get snapshot(): Mirror {
    if (!this.#mirror || this.#leadership === 'displaced') throw new VirgaError('not_leading');
    return this.#mirror;
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
   * Leads if it does not yet, or loads again after an unknown outcome. Cheap when all is well.
   * @throws VirgaError store_unavailable · not_leading (displaced) · store_newer
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
      const result = decide(mirror);
      if (isEmpty(result.change)) return { repeated: false, result, revision: mirror.revision };
      const answer = await this.#commit(mirror, result, repeat);
      if (answer.ok) return { repeated: false, result, revision: answer.revision };
      if (answer.why === 'idempotency' && repeat) return repeated(answer.record, repeat, mirror.revision);
      if (answer.why === 'epoch') throw this.#displace(answer.epoch);
      last = answer;
      // Under our epoch nobody else writes: the store knows something that this state does not.
      this.#doubt(answer.why);
    }
    if (last && !last.ok && last.why === 'name-taken')
      throw new VirgaError('name_taken', { kind: last.kind, name: last.name });
    throw new VirgaError('conflict', { tries: maxTries });
  }

  async #commit(mirror: Mirror, decision: Decision, repeat: Repeat | undefined): Promise<CommitResult> {
    const started = this.#clock.monotonic();
    let answer: CommitResult;
    try {
      answer = await this.#store.commit({
        ...decision.change,
        epoch: mirror.site.epoch,
        expect: expectations(mirror, decision),
        ...(repeat ? { idempotency: { ...repeat, created: decision.created ?? [] } } : {}),
      });
    } catch (error) {
      // Whether it was written is unknown: nothing may be decided before the state was loaded again.
      this.#doubt(error instanceof VirgaError ? error.code : 'unexpected error');
      throw error;
    }
    if (answer.ok) {
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
    if (this.#leadership === 'displaced') throw new VirgaError('not_leading');
    // Who waits behind a dead database is told at once, not after a time-out each.
    if (this.#clock.monotonic() < this.#retryAt) throw this.#lastFailure;
    try {
      const state = await this.#store.lead();
      const mirror = new Mirror(state);
      this.#mirror = mirror;
      this.#events = [];
      this.#leadership = 'leading';
      this.#retryMs = firstRetryMs;
      this.#log.info('leads', { epoch: state.site.epoch, revision: state.revision, objects: state.resources.length });
      this.#tell({ type: 'loaded', revision: state.revision });
      return mirror;
    } catch (error) {
      this.#lastFailure = error;
      this.#retryAt = this.#clock.monotonic() + this.#retryMs;
      this.#retryMs = Math.min(longestRetryMs, this.#retryMs * 2);
      throw error;
    }
  }

  #doubt(why: string): void {
    this.#log.warn('loads the state again', { why });
    this.#leadership = 'reloading';
    this.#retryAt = Number.NEGATIVE_INFINITY;
  }

  #displace(epoch: number): VirgaError {
    this.#leadership = 'displaced';
    this.#log.error('another controller leads; this one stands by until it is started again', { epoch });
    return new VirgaError('not_leading');
  }

  #keep(events: readonly SiteEvent[]): void {
    this.#events.push(...events);
    if (this.#events.length > 2 * keptEvents) this.#events = this.#events.slice(-keptEvents);
  }

  #tell(news: News): void {
    for (const listener of this.#listeners) {
      try {
        listener(news);
      } catch (error) {
        this.#log.error('a listener failed', { error: String(error) });
      }
    }
  }
}

function isEmpty(change: Change): boolean {
  return change.put.length === 0 && change.remove.length === 0 && change.events.length === 0 && !change.site;
}

/** What the decision says it stands on, and everything it writes as this state has it. */
function expectations(snapshot: Snapshot, { change, expect = [] }: Decision): readonly Expectation[] {
  const all = new Map<string, Expectation>();
  for (const { kind, id } of [...change.put, ...change.remove])
    all.set(`${kind}/${id}`, { kind, id, revision: snapshot.get(kind, id)?.revision });
  for (const each of expect) all.set(`${each.kind}/${each.id}`, each);
  return [...all.values()];
}

function repeated(record: IdempotencyRecord, repeat: Repeat, revision: number): Outcome<never> {
  if (record.requestHash !== repeat.requestHash) throw new VirgaError('idempotency_mismatch', { key: repeat.key });
  return { repeated: true, created: record.created, revision };
}

/** Hosts whose assignment may change by this; looked up before the change is applied. */
function touchedBy(snapshot: Snapshot, change: Change): Touched {
  const hosts = new Set<Uuid>();
  if (change.site) return 'all';
  for (const { kind, id } of change.remove) {
    if (kind === 'network' || kind === 'image') return 'all';
    if (kind === 'host') hosts.add(id);
    const placement = kind === 'guest' ? snapshot.get('guest', id)?.status.placement : undefined;
    if (placement) hosts.add(placement.hostId);
  }
  for (const resource of change.put) {
    if (resource.kind === 'network') return 'all';
    // An upload in progress is in no assignment.
    if (resource.kind === 'image' && resource.status.state === 'ready') return 'all';
    if (resource.kind === 'host') hosts.add(resource.id);
    if (resource.kind !== 'guest') continue;
    const before = snapshot.get('guest', resource.id)?.status.placement;
    if (before) hosts.add(before.hostId);
    if (resource.status.placement) hosts.add(resource.status.placement.hostId);
  }
  return hosts;
}
