/**
 * The keeper: holds the lease of its host, and votes on the leases of all (host-lease). One `tick` is one round of beats;
 * messages and questions at the door come in between. Knows nothing but ports, so the simulator runs the same code.
 */
import { VirgaError } from '../core/errors.ts';
import type { DoorRegistered, DoorTicket, DoorView } from '../core/ha/door.ts';
import { compareEpochs } from '../core/ha/epoch.ts';
import { HostLease } from '../core/ha/lease.ts';
import { compareVersions, noVersion } from '../core/ha/list.ts';
import { beatEveryMs, longestMs } from '../core/ha/margin.ts';
import { Register } from '../core/ha/register.ts';
import { allRules, type Rules } from '../core/ha/rules.ts';
import { noEpoch } from '../core/ha/types.ts';
import type { Beat, BeatAnswer, Epoch, HaMessage, LeaseState, VoterList } from '../core/ha/types.ts';
import { Voter } from '../core/ha/voter.ts';
import type { Uuid } from '../core/model/resource.ts';
import type { DoorLoop } from './door.ts';
import { Durable } from './durable.ts';
import { clearOthers, endEverything, within } from './ends.ts';
import { Entries } from './entries.ts';
import { paths, remember } from './memory.ts';
import type { KeeperPorts, KeeperSettings } from './ports.ts';
import { Votes } from './votes.ts';

export class KeeperLoop implements DoorLoop {
  readonly #ports: KeeperPorts;
  readonly #settings: KeeperSettings;
  readonly #rules: Rules;
  readonly #durable: Durable;
  readonly #listeners = new Set<() => void>();
  #voter: Voter | undefined;
  #votes: Votes | undefined;
  #lease: HostLease | undefined;
  #register: Register | undefined;
  #entries: Entries | undefined;
  /** Highest epoch heard of, and what of it is on disk. */
  #epoch: Epoch = noEpoch;
  /** The list that our beats say is confirmed: only once that is on disk. */
  #confirmedOnDisk: VoterList | undefined;
  #killing = false;
  #ended = false;
  /** A planned end began: nothing new may run, and no lease is asked for. */
  #leaving = false;
  /** A restarted keeper: the guard may hold a longer deadline than what we now know (rule 14). */
  #reset: 'lower' | 'say' | undefined = 'lower';
  #longer = false;
  #loadedAt = 0;
  #state: LeaseState['state'] = 'none';
  #wake: (() => void) | undefined;

  constructor(ports: KeeperPorts, settings: KeeperSettings) {
    this.#ports = ports;
    this.#settings = settings;
    this.#rules = settings.rules ?? allRules;
    this.#durable = new Durable(ports.files, ports.clock, ports.log);
  }

  /** Reads what an earlier life left and ends the groups of earlier sessions. Call once, first. */
  async load(): Promise<void> {
    const { files, ids, clock, groups } = this.#ports;
    const { hostId, bootId } = this.#settings;
    const kept = await remember(files, ids, this.#durable, bootId);
    const now = clock.now();
    this.#epoch = this.#rules.durableEpoch ? kept.epoch : noEpoch;
    this.#confirmedOnDisk = kept.confirmed;
    this.#loadedAt = now;
    this.#voter = new Voter(hostId, kept.voter, now, this.#rules);
    const { confirmed, began, voter } = kept;
    this.#lease = new HostLease(kept.session, now, this.#rules, { list: voter.list, confirmed, began });
    this.#register = new Register(kept.session, kept.register, this.#rules);
    this.#votes = this.#asVoter(this.#voter, this.#lease);
    this.#entries = this.#asHost(this.#lease, this.#register, this.#voter.diskId);
    if (this.#settings.role === 'witness') return;
    await clearOthers(this.#ports, kept.session);
    await groups.ensure(kept.session);
  }

  #asVoter(voter: Voter, lease: HostLease): Votes {
    return new Votes(voter, {
      clock: this.#ports.clock,
      durable: this.#durable,
      contactMs: (now) => lease.contactMs(now),
      listed: () => {
        if (voter.list) lease.adopt(voter.list);
      },
      send: (to, answer) => {
        const own = to === this.#settings.hostId;
        if (own && answer.type === 'beat-answer') this.#answered(to, answer);
        else if (!own) this.#ports.wire.send(to, answer);
      },
    });
  }

  #asHost(lease: HostLease, register: Register, diskId: Uuid): Entries {
    const { hostId, name } = this.#settings;
    return new Entries(lease, register, {
      ports: this.#ports,
      durable: this.#durable,
      rules: this.#rules,
      hostId,
      name,
      diskId,
      ending: () => this.#killing || this.#ended || this.#leaving,
      epoch: () => this.#epoch,
      learn: async (epoch) => this.#learn(epoch),
      confirmed: () => this.#confirmedOnDisk?.version ?? noVersion,
      state: () => this.#leaseState(),
    });
  }

  /** Beats until aborted. Then it asks for a longer lease, so that a restart is no lapse (rule 14). */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        await this.tick();
      } catch (error) {
        this.#ports.log.error('a round of beats failed', { error: String(error) });
      }
      await this.#pause(signal);
    }
    await this.#sayGoodbye();
  }

  async #pause(signal: AbortSignal): Promise<void> {
    const stop = new AbortController();
    this.#wake = () => stop.abort('woken');
    const end = (): void => stop.abort('woken');
    signal.addEventListener('abort', end, { once: true });
    await this.#ports.clock.sleep(beatEveryMs(this.#its.lease.profile.lengthMs), stop.signal).catch(() => undefined);
    signal.removeEventListener('abort', end);
    this.#wake = undefined;
  }

  get #its(): { voter: Voter; lease: HostLease; register: Register; entries: Entries } {
    const [voter, lease, register, entries] = [this.#voter, this.#lease, this.#register, this.#entries];
    if (!voter || !lease || !register || !entries)
      throw new VirgaError('keeper', { host: this.#settings.name, detail: 'it starts' });
    return { voter, lease, register, entries };
  }

  // ---------------------------------------------------------------- beats

  /** One round: what the guard must know, whether the session is over, and a beat to every voter. */
  async tick(): Promise<void> {
    const { lease } = this.#its;
    const { clock, groups } = this.#ports;
    this.#confirm();
    this.#tellGuard(false);
    const floor = lease.refused() ?? lease.outdone(this.#ports.guard.answered()?.session);
    if (floor !== undefined && this.#settings.role === 'host') void this.#endSession(floor);
    this.#lowerFirst();
    const now = clock.now();
    lease.contactMs(now);
    const askMs = this.#ask(now);
    for (const voter of lease.voters) {
      const beat = this.#beat(askMs, clock.now());
      if (voter.keeperId === this.#settings.hostId) this.#votes?.hear(this.#settings.hostId, beat);
      else this.#ports.wire.send(voter.keeperId, beat, voter.addresses);
    }
    this.#notice();
    // The guard does this, at the deadline; we stand behind it, once it had time to answer a keeper that just started.
    const patient = now < this.#loadedAt + lease.profile.boundMs;
    if (this.#settings.role === 'host' && !patient && !this.#guarded(now) && lease.deadline() <= now)
      await groups.freeze(lease.session).catch(() => undefined);
  }

  #beat(askMs: number, sentAt: number): Beat {
    const { lease } = this.#its;
    const lapsed = this.#settings.role === 'host' && this.#state === 'lapsed';
    return {
      type: 'beat',
      hostId: this.#settings.hostId,
      session: lease.session,
      sentAt,
      askMs,
      boundMs: lease.profile.boundMs,
      lapsed,
      ended: this.#ended,
      reset: this.#reset === 'say' && askMs > 0,
      confirmed: this.#confirmedOnDisk?.version ?? noVersion,
      list: lease.version,
    };
  }

  /** ℓ; nothing is asked for without guests to run, without our guard, or while the session is ended (rule 3). */
  #ask(now: number): number {
    const { lease } = this.#its;
    if (this.#settings.role === 'witness' || this.#killing || this.#ended || this.#leaving) return 0;
    if (this.#rules.guardAnswers && !this.#guarded(now)) return 0;
    return this.#longer ? longestMs : lease.profile.lengthMs;
  }

  /** The guard answered for this session within k. */
  #guarded(now: number): boolean {
    const answered = this.#ports.guard.answered();
    const { lease } = this.#its;
    return answered?.session.id === lease.session.id && answered.at >= now - lease.profile.boundMs;
  }

  #tellGuard(force: boolean): void {
    if (this.#settings.role === 'witness') return;
    const { lease } = this.#its;
    const at = this.#killing || this.#ended ? Number.NEGATIVE_INFINITY : lease.deadline();
    this.#ports.guard.deadline(lease.session, at, force || this.#killing || this.#ended, lease.profile.boundMs);
  }

  /** Rule 14: first the guard has the shorter deadline, then the voters hear that nothing before counts. */
  #lowerFirst(): void {
    if (this.#reset === undefined || this.#longer) return;
    const { lease } = this.#its;
    const answered = this.#ports.guard.answered();
    if (answered?.session.id !== lease.session.id) return;
    lease.inherit(answered.deadline);
    const held = lease.deadline();
    if (held <= this.#ports.clock.now()) return;
    if (this.#reset === 'say') this.#reset = undefined;
    else if (!this.#rules.restartLowers || answered.deadline <= held) this.#reset = 'say';
    else this.#tellGuard(true);
  }

  #confirm(): void {
    const { lease } = this.#its;
    if (!lease.confirm() || !lease.confirmed) return;
    const list = lease.confirmed;
    const written = this.#durable.put(paths.confirmed, JSON.stringify(list));
    void this.#confirmed(list, written);
  }

  async #confirmed(list: VoterList, written: Promise<void> | undefined): Promise<void> {
    await written;
    if (compareVersions(list.version, this.#confirmedOnDisk?.version ?? noVersion) >= 0) this.#confirmedOnDisk = list;
  }

  #answered(from: Uuid, answer: BeatAnswer): void {
    const { lease, voter } = this.#its;
    const before = lease.deadline();
    lease.answer(from, answer, this.#ports.clock.now());
    if (answer.list && voter.adopt(answer.list, this.#ports.clock.now())) this.#votes?.keep();
    void this.#learn(answer.epoch);
    if (lease.deadline() > before) this.#tellGuard(false);
    this.#notice();
    const floor = lease.refused();
    if (floor !== undefined && this.#settings.role === 'host') void this.#endSession(floor);
  }

  /** Tells those who listen when the lease begins, lapses or ends. */
  #notice(): void {
    const state = this.#leaseState().state;
    if (state === this.#state) return;
    this.#ports.log.info('lease', { state, was: this.#state, session: this.#its.lease.session.number });
    this.#state = state;
    this.#changed();
  }

  #changed(): void {
    for (const listener of this.#listeners) listener();
  }

  #leaseState(): LeaseState {
    const { lease } = this.#its;
    const now = this.#ports.clock.now();
    const { votes, of } = lease.votes(now);
    const answered = this.#settings.role === 'host' ? this.#ports.guard.answered() : undefined;
    const leftMs = Math.max(0, lease.deadline() - now);
    const had = lease.deadline() > Number.NEGATIVE_INFINITY;
    const state = this.#killing ? 'killing' : leftMs > 0 ? 'held' : had ? 'lapsed' : 'none';
    return { state, leftMs: Math.round(leftMs), votes, of, ...(answered ? { guardLagMs: answered.lagMs } : {}) };
  }

  // ---------------------------------------------------------------- sessions

  /** Rule 6: a majority refuses this session. Everything is killed, and a new one begins above. */
  async #endSession(floor: number): Promise<void> {
    if (this.#killing) return;
    this.#killing = true;
    const { lease, register } = this.#its;
    const { ids, groups, log } = this.#ports;
    const over = lease.session;
    log.warn('the session is over: its guests are killed', { session: over.number, floor });
    this.#tellGuard(true);
    this.#notice();
    await clearOthers(this.#ports, undefined);
    const session = { number: Math.max(floor, over.number) + 1, id: ids.uuid() };
    register.begin(session);
    await this.#its.entries.keep();
    await this.#durable.put(paths.session, JSON.stringify({ ...session, bootId: this.#settings.bootId }));
    lease.begin(session);
    await groups
      .ensure(session)
      .catch((error: unknown) => log.error('no group for the session', { error: String(error) }));
    this.#killing = false;
    this.#ended = false;
    this.#leaving = false;
    this.#changed();
    this.#wake?.();
  }

  /** Heard of a leader: remembered before anything is done under it. */
  async #learn(epoch: Epoch): Promise<void> {
    if (compareEpochs(epoch, this.#epoch) > 0) this.#epoch = epoch;
    await this.#durable.put(paths.epoch, JSON.stringify(this.#epoch));
  }

  // ---------------------------------------------------------------- messages

  /** Takes a message of an authenticated keeper or controller. */
  receive(from: Uuid, message: HaMessage): void {
    if (!this.#voter) return;
    if (message.type === 'beat-answer') this.#answered(from, message);
    else if (message.type === 'register') void this.#say(from, this.#its.entries.tell(message));
    else if (message.type === 'bar') void this.#say(from, this.#its.entries.bar(message));
    else this.#votes?.hear(from, message);
  }

  async #say(to: Uuid, answer: Promise<HaMessage>): Promise<void> {
    this.#ports.wire.send(to, await answer);
  }

  // ---------------------------------------------------------------- the door

  state(): DoorView {
    const { lease, register, voter } = this.#its;
    const { state, leftMs, guardLagMs } = this.#leaseState();
    return {
      session: lease.session,
      lease: {
        diskId: voter.diskId,
        addresses: [],
        version: '',
        state,
        leftMs,
        epoch: this.#epoch.number,
        ...(guardLagMs === undefined ? {} : { guardLagMs }),
        roundTripsMs: lease.roundTripsMs(this.#ports.clock.now()),
      },
      entries: register.entries,
      gone: register.gone,
    };
  }

  async register(ticket: DoorTicket): Promise<DoorRegistered> {
    return this.#its.entries.register(ticket);
  }

  async enter(guestId: Uuid, pid: number): Promise<void> {
    await this.#its.entries.enter(guestId, pid);
  }

  async clear(guestId: Uuid): Promise<void> {
    await this.#its.entries.clear(guestId);
  }

  async leave(reason: string): Promise<void> {
    const { lease } = this.#its;
    const { clock, log } = this.#ports;
    log.info('this host leaves', { reason });
    // From here on nothing is registered: what is looked for once more is all that there is.
    this.#leaving = true;
    try {
      await endEverything(this.#ports, this.#settings.name);
    } catch (error) {
      this.#leaving = false;
      throw error;
    }
    this.#ended = true;
    const since = clock.now();
    await within(
      this.#ports,
      this.#settings.name,
      'no majority of the voters heard that its session ended',
      async () => {
        await this.tick();
        const { votes, needed } = lease.answeredSince(since);
        return votes >= needed;
      },
    );
  }

  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** A planned restart (rule 14): a longer lease for those who stay, so that nothing lapses meanwhile. */
  async #sayGoodbye(): Promise<void> {
    if (this.#ended || this.#killing || this.#settings.role === 'witness' || this.#state !== 'held') return;
    const { clock } = this.#ports;
    const { lease } = this.#its;
    this.#longer = true;
    const until = clock.now() + lease.profile.lengthMs / 4;
    await this.tick();
    while (clock.now() < until && lease.deadline() < clock.now() + longestMs / 2) await clock.sleep(10);
    this.#tellGuard(false);
    await clock.sleep(20);
  }
}
