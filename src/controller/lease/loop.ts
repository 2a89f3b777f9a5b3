/**
 * The controller's part of the host lease: who leads, which sessions are over, who votes (host-lease). One `step` is one
 * iteration; messages come in between. Knows nothing but ports, so the simulator runs the same code.
 */
import { VirgaError } from '../../core/errors.ts';
import { compareEpochs } from '../../core/ha/epoch.ts';
import { Leader, type KnownKeeper } from '../../core/ha/leader.ts';
import { profiles } from '../../core/ha/margin.ts';
import { allRules, type Rules } from '../../core/ha/rules.ts';
import { noEpoch, type Epoch, type HaMessage } from '../../core/ha/types.ts';
import type { HostReport } from '../../core/model/assignment.ts';
import type { Guest } from '../../core/model/guest.ts';
import type { HostLoss } from '../../core/model/host.ts';
import type { Instant, Uuid } from '../../core/model/resource.ts';
import type { NewEvent, SiteFacts, Snapshot } from '../../core/model/snapshot.ts';
import type { BootClock, Clock, Ids, Log, Store, Wire } from '../../ports.ts';
import type { LoopLease } from '../loop.ts';
import type { SiteState } from '../state.ts';
import { declareDead, forceVoters, type ByHand } from './by-hand.ts';
import { sightOf, type Way } from './sight.ts';
import { Tidings } from './tidings.ts';
import type { Detection, LeaseDoor, LeaseSight } from './view.ts';
import { beginVoters, changeWishes, keepList, Wishes } from './voters.ts';

export interface LeaseLoopOptions {
  readonly state: SiteState;
  readonly store: Pick<Store, 'epoch' | 'voters'>;
  readonly clock: Clock;
  readonly boot: BootClock;
  readonly wire: Wire;
  readonly ids: Ids;
  readonly log: Log;
  readonly rules?: Rules;
  /** The ways to a keeper, one per network, as they are now. */
  readonly ways?: (keeperId: Uuid) => readonly Way[];
  /** Told when a session was proved over, or who leads changed: the site's loop should iterate at once. */
  readonly onNews?: () => void;
}

/** Milliseconds between two looks at the store while it is not known who votes. */
const lookEveryMs = 500;
/** A commit or confirmation this old still says that this controller commits. */
const committingMs = 1000;
const confirmEveryMs = 250;
const wishEveryMs = 1000;
const keptDetections = 64;

export class LeaseLoop implements LeaseDoor, LoopLease {
  readonly #options: LeaseLoopOptions;
  readonly #leader: Leader;
  readonly #wishes: Wishes;
  readonly #tidings: Tidings;
  readonly #losses = new Map<Uuid, HostLoss>();
  /** Where each keeper was last said to be. */
  readonly #addresses = new Map<Uuid, readonly string[]>();
  #detections: Detection[] = [];
  /** The epoch that the state was told of. */
  #claimed: Epoch | undefined;
  /** There is no voter list: the database alone says who leads. */
  #alone = false;
  #storeEpoch = 0;
  #lookedAt = Number.NEGATIVE_INFINITY;
  #looking = false;
  #confirmedAt = Number.NEGATIVE_INFINITY;
  #wishedAt = Number.NEGATIVE_INFINITY;
  #changing = false;
  #wake: (() => void) | undefined;

  constructor(options: LeaseLoopOptions) {
    this.#options = options;
    const { ids, state, clock, log } = options;
    this.#leader = new Leader(options.rules ?? allRules, {
      uuid: () => ids.uuid(),
      random: () => fraction(ids.uuid()),
    });
    this.#wishes = new Wishes(this.#leader);
    this.#tidings = new Tidings(state, clock, log);
    state.onOutbid((number) => this.#outbid(number));
  }

  /** Steps until aborted. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const dueMs = this.step();
      await this.#pause(dueMs, signal);
    }
  }

  async #pause(dueMs: number, signal: AbortSignal): Promise<void> {
    const stop = new AbortController();
    const end = (): void => stop.abort('woken');
    this.#wake = end;
    signal.addEventListener('abort', end, { once: true });
    await this.#options.boot.sleep(dueMs, stop.signal).catch(() => undefined);
    signal.removeEventListener('abort', end);
    this.#wake = undefined;
  }

  /** One iteration; due again after so many milliseconds. */
  step(): number {
    const now = this.#options.boot.now();
    this.#look(now);
    this.#confirm(now);
    const dueMs = this.#leader.tick(now, {
      committing: this.#committing,
      above: this.#storeEpoch,
      keepers: this.#keepers(),
    });
    this.#after();
    this.#wishVoters(now);
    return dueMs;
  }

  /** Takes a message of an authenticated keeper. */
  receive(from: Uuid, message: HaMessage): void {
    this.#leader.receive(from, message, this.#options.boot.now());
    this.#after();
  }

  get #snapshot(): Snapshot | undefined {
    const { state } = this.#options;
    return state.leadership === 'leading' ? state.snapshot : undefined;
  }

  get #committing(): boolean {
    const { state, clock } = this.#options;
    if (!this.#leader.leads) return this.#storeSeen;
    return state.committedAt !== undefined && clock.monotonic() - state.committedAt <= committingMs;
  }

  /** A candidate can commit when the store answered it lately. */
  get #storeSeen(): boolean {
    return this.#options.boot.now() - this.#answeredAt <= 2 * lookEveryMs;
  }
  #answeredAt = Number.NEGATIVE_INFINITY;

  /** Everything that sending and telling follows from, after any change. */
  #after(): void {
    const { wire } = this.#options;
    this.#leadership();
    for (const { to, message, addresses } of this.#leader.take()) wire.send(to, message, addresses);
    const lost = this.#leader.takeLost();
    for (const each of lost) {
      const [silentAt, sealedAt, lostAt] = [each.silentAt, each.sealingAt, each.lostAt].map((at) => this.#instant(at));
      const evidence = {
        silentMs: Math.round(each.lostAt - each.silentAt),
        sealedVotes: each.sealedVotes,
        votes: each.votes,
      };
      const loss: HostLoss = { session: each.session, lostAt: lostAt ?? 0, how: each.how, evidence };
      this.#losses.set(each.hostId, loss);
      this.#options.log.warn('a session is over', {
        hostId: each.hostId,
        session: each.session.number,
        how: each.how,
        ...evidence,
      });
      const detection = { silentAt: silentAt ?? 0, sealedAt: sealedAt ?? 0, lostAt: lostAt ?? 0 };
      // What an earlier leader proved was detected by that one.
      if (each.votes > 0) this.#detections.push({ hostId: each.hostId, session: each.session, ...detection });
    }
    this.#detections = this.#detections.slice(-keptDetections);
    if (lost.length > 0) this.#options.onNews?.();
  }

  /** Boot clock → wall clock, for records. */
  #instant(at: number): Instant {
    return Math.round(this.#options.clock.now() - (this.#options.boot.now() - at));
  }

  // ---------------------------------------------------------------- leading

  #leadership(): void {
    const { state, log } = this.#options;
    if (this.#leader.leads) {
      this.#alone = false;
      if (this.#claimed && compareEpochs(this.#claimed, this.#leader.epoch) === 0) return;
      this.#claimed = this.#leader.epoch;
      log.info('a majority of the voters accepted this controller', { epoch: this.#claimed.number });
      void state.claim(this.#claimed).then(() => this.#options.onNews?.());
    } else if (this.#claimed && !this.#alone) {
      this.#claimed = undefined;
      log.warn('this controller does not lead any more');
      void state.claim(undefined);
    }
  }

  #outbid(number: number): void {
    this.#storeEpoch = Math.max(this.#storeEpoch, number);
    if (this.#alone) {
      // Two that know of each other only through the database would take the lead from each other for ever.
      this.#options.log.warn('another controller leads by the database; this one stands by', { epoch: number });
      return;
    }
    this.#leader.outbid(number);
    this.#leadership();
    this.#wake?.();
  }

  /** What the store says of epoch and voters, as long as nobody else does, and whether it answers at all. */
  #look(now: number): void {
    if (this.#looking || now - this.#lookedAt < lookEveryMs || (this.#leader.leads && this.#leader.list)) return;
    this.#lookedAt = now;
    this.#looking = true;
    void this.#lookNow().finally(() => {
      this.#looking = false;
    });
  }

  async #lookNow(): Promise<void> {
    const { store, state, ids } = this.#options;
    let read: { readonly epoch: Epoch; readonly voters: SiteFacts['voters'] };
    try {
      read = { epoch: await store.epoch(), voters: await store.voters() };
    } catch {
      return;
    }
    this.#answeredAt = this.#options.boot.now();
    this.#storeEpoch = Math.max(this.#storeEpoch, read.epoch.number);
    this.#leader.adopt(read.voters?.list);
    if (this.#leader.list || this.#claimed || state.leadership === 'standby') return;
    this.#alone = true;
    this.#claimed = { number: read.epoch.number + 1, id: ids.uuid() };
    await state.claim(this.#claimed);
    this.#options.onNews?.();
  }

  #confirm(now: number): void {
    if (!this.#claimed || now - this.#confirmedAt < confirmEveryMs) return;
    this.#confirmedAt = now;
    void this.#options.state.confirm();
  }

  // ---------------------------------------------------------------- voters

  #keepers(): readonly KnownKeeper[] {
    const snapshot = this.#snapshot;
    if (!snapshot) return this.#leader.keepers;
    return [...snapshot.all('host')].flatMap(({ id, name, spec, status }) => {
      // A keeper that its agent could not reach may be just the one that must hear of us.
      const addresses = status.keeper?.addresses ?? this.#addresses.get(id);
      if (!addresses) return [];
      this.#addresses.set(id, addresses);
      return [{ id, name, role: spec.role ?? 'host', addresses }];
    });
  }

  /** First list, changes of the list, and what the database should remember of them. */
  #wishVoters(now: number): void {
    const snapshot = this.#snapshot;
    if (!snapshot || this.#changing || now - this.#wishedAt < wishEveryMs) return;
    this.#wishedAt = now;
    this.#tidings.tell(this.sight(), snapshot);
    if (!this.#leader.list) {
      if (this.#alone)
        this.#change(
          (newest) => beginVoters(newest, this.#options.clock.now()),
          (site) => this.#leader.adopt(site?.voters?.list),
        );
      return;
    }
    if (!this.#leader.leads) return;
    this.#leader.registers.removed(this.#options.state.snapshot.removed('host'));
    this.#wishes.update(snapshot, now);
    const { list } = this.#leader;
    this.#change((newest) => keepList(newest, list, this.#options.clock.now()));
  }

  /** Writes a change of the site's facts in the background; nothing when there is none. */
  #change(
    decide: (snapshot: Snapshot) => { readonly site?: SiteFacts; readonly events: readonly NewEvent[] },
    written?: (site: SiteFacts | undefined) => void,
  ): void {
    const snapshot = this.#snapshot;
    if (!snapshot || !decide(snapshot).site) return;
    const { state, log } = this.#options;
    this.#changing = true;
    state
      .change((newest) => {
        const { site, events } = decide(newest);
        return { change: { put: [], remove: [], events, ...(site ? { site } : {}) }, site };
      })
      .then((outcome) => {
        if (!outcome.repeated && written) written(outcome.result.site);
      })
      .catch((error: unknown) => log.warn('the voters could not be written', { error: String(error) }))
      .finally(() => {
        this.#changing = false;
      });
  }

  // ---------------------------------------------------------------- for the rest of the controller

  losses(): ReadonlyMap<Uuid, HostLoss> {
    return this.#losses;
  }

  barrier(guest: Guest): boolean {
    if (this.#alone || !this.#leader.list) return true;
    const { placement, lastGeneration } = guest.status;
    // Ordered by nobody before: no register can have it.
    if (!placement && lastGeneration === 0) return true;
    const { registers } = this.#leader;
    // No order for a host that rests on another list (rule 12).
    if (placement && !registers.mayOrder(placement.hostId)) return false;
    return registers.mayStart(guest.id, placement?.hostId);
  }

  keepersHeard(): ReadonlyMap<Uuid, Instant> {
    return new Map(
      [...this.#leader.registers.keepers].map(([id, { heardAt }]) => [id, this.#instant(heardAt)] as const),
    );
  }

  reported(_report: HostReport): void {
    // Whatever a report says of its keeper, we ask the keeper itself.
  }

  sight(): LeaseSight {
    const { clock, boot, state } = this.#options;
    const now = boot.now();
    const snapshot = state.leadership === 'leading' ? state.snapshot : undefined;
    return sightOf(this.#leader, now, {
      alone: this.#alone,
      committing: this.#committing,
      profile: this.#leader.list?.profile ?? snapshot?.site.lease ?? profiles.default,
      epoch: this.#claimed ?? noEpoch,
      instant: (at) => Math.round(clock.now() - (now - at)),
      ways: this.#options.ways ?? (() => []),
    });
  }

  detections(): readonly Detection[] {
    return this.#detections;
  }

  wishVoters(wish: { readonly add?: Uuid; readonly remove?: Uuid }): void {
    const snapshot = this.#snapshot;
    if (!snapshot || !this.#leader.list)
      throw new VirgaError('no_majority', { answering: 0, votes: this.#leader.votes });
    changeWishes(snapshot, wish);
    this.#change((newest) => ({ site: changeWishes(newest, wish), events: [] }));
    this.#wishedAt = Number.NEGATIVE_INFINITY;
  }

  async declareDead(hostId: Uuid, word: Parameters<LeaseDoor['declareDead']>[1]): Promise<void> {
    await declareDead(this.#byHand(), hostId, word, this.#losses);
  }

  async forceVoters(keeperIds: readonly Uuid[], word: Parameters<LeaseDoor['forceVoters']>[1]): Promise<void> {
    await forceVoters(this.#byHand(), keeperIds, word);
    this.#tidings.forced(word);
  }

  #byHand(): ByHand {
    const { boot, clock, ids } = this.#options;
    const flush = (): void => this.#after();
    return {
      leader: this.#leader,
      boot,
      now: () => clock.now(),
      uuid: () => ids.uuid(),
      flush,
      snapshot: () => this.#snapshot,
    };
  }
}

/** 0 ≤ x < 1, from the random digits of an id. */
const fraction = (id: Uuid): number => Number.parseInt(id.slice(0, 8), 16) / 2 ** 32;
