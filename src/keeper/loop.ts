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
import { noEpoch, registerPage } from '../core/ha/types.ts';
import type {
  Bar,
  Beat,
  BeatAnswer,
  Epoch,
  HaMessage,
  LeaseState,
  RegisterQuery,
  VoterList,
} from '../core/ha/types.ts';
import { Voter, type Reply } from '../core/ha/voter.ts';
import type { HostSession } from '../core/model/host.ts';
import type { Uuid } from '../core/model/resource.ts';
import type { DoorLoop } from './door.ts';
import { Durable } from './durable.ts';
import { paths, remember } from './memory.ts';
import type { KeeperPorts } from './ports.ts';

export interface KeeperSettings {
  readonly hostId: Uuid;
  readonly siteId: Uuid;
  readonly name: string;
  readonly role: 'host' | 'witness';
  readonly bootId: string;
  readonly rules?: Rules;
}

/** Milliseconds that a kill or a removal is waited for before the asker is told. */
const clearMs = 4000;
const clearEveryMs = 50;
/** Milliseconds that a leave waits for the voters. */
const leaveMs = 3000;

export class KeeperLoop implements DoorLoop {
  readonly #ports: KeeperPorts;
  readonly #settings: KeeperSettings;
  readonly #rules: Rules;
  readonly #durable: Durable;
  readonly #listeners = new Set<() => void>();
  #voter: Voter | undefined;
  #lease: HostLease | undefined;
  #register: Register | undefined;
  /** Highest epoch heard of, and what of it is on disk. */
  #epoch: Epoch = noEpoch;
  /** The list that our beats say is confirmed: only once that is on disk. */
  #confirmedOnDisk: VoterList | undefined;
  #killing = false;
  #ended = false;
  /** A restarted keeper: the guard may hold a longer deadline than what we now know (rule 14). */
  #reset: 'lower' | 'say' | undefined = 'lower';
  #longer = false;
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
    this.#voter = new Voter(hostId, kept.voter, now, this.#rules);
    this.#lease = new HostLease(kept.session, now, this.#rules, { list: kept.voter.list, confirmed: kept.confirmed });
    this.#register = new Register(kept.session, kept.register, this.#rules);
    await this.#clearOthers(kept.session);
    if (this.#settings.role === 'host') await groups.ensure(kept.session);
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
    this.#wake = () => stop.abort();
    const end = (): void => stop.abort();
    signal.addEventListener('abort', end, { once: true });
    await this.#ports.clock.sleep(beatEveryMs(this.#its.lease.profile.lengthMs), stop.signal).catch(() => undefined);
    signal.removeEventListener('abort', end);
    this.#wake = undefined;
  }

  get #its(): { voter: Voter; lease: HostLease; register: Register } {
    const [voter, lease, register] = [this.#voter, this.#lease, this.#register];
    if (!voter || !lease || !register)
      throw new VirgaError('keeper', { host: this.#settings.name, detail: 'it starts' });
    return { voter, lease, register };
  }

  // ---------------------------------------------------------------- beats

  /** One round: what the guard must know, whether the session is over, and a beat to every voter. */
  async tick(): Promise<void> {
    const { lease } = this.#its;
    const { clock, groups } = this.#ports;
    this.#confirm();
    this.#tellGuard(false);
    const floor = lease.refused();
    if (floor !== undefined && this.#settings.role === 'host') void this.#endSession(floor);
    this.#lowerFirst();
    const now = clock.now();
    lease.contactMs(now);
    const askMs = this.#ask(now);
    for (const voter of lease.voters) {
      const beat = this.#beat(askMs, clock.now());
      if (voter.keeperId === this.#settings.hostId) this.#hear(this.#settings.hostId, beat);
      else this.#ports.wire.send(voter.keeperId, beat, voter.addresses);
    }
    this.#notice();
    // The guard does this, at the deadline; we stand behind it.
    if (this.#settings.role === 'host' && !this.#guarded(now) && lease.deadline() <= now)
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
    if (this.#settings.role === 'witness' || this.#killing || this.#ended) return 0;
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
    this.#ports.guard.deadline(lease.session, at, force || this.#killing || this.#ended);
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
    const done = (): void => {
      if (compareVersions(list.version, this.#confirmedOnDisk?.version ?? noVersion) >= 0) this.#confirmedOnDisk = list;
    };
    if (written) void written.then(done);
    else done();
  }

  #answered(from: Uuid, answer: BeatAnswer): void {
    const { lease, voter } = this.#its;
    const before = lease.deadline();
    lease.answer(from, answer, this.#ports.clock.now());
    if (answer.list && voter.adopt(answer.list, this.#ports.clock.now()))
      void this.#durable.put(paths.voter, JSON.stringify(voter.self));
    this.#learn(answer.epoch);
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
    await this.#clearOthers(undefined);
    const session = { number: Math.max(floor, over.number) + 1, id: ids.uuid() };
    register.begin(session);
    await this.#durable.put(paths.register, JSON.stringify(register.disk));
    await this.#durable.put(paths.session, JSON.stringify({ ...session, bootId: this.#settings.bootId }));
    lease.begin(session);
    await groups
      .ensure(session)
      .catch((error: unknown) => log.error('no group for the session', { error: String(error) }));
    this.#killing = false;
    this.#ended = false;
    this.#changed();
    this.#wake?.();
  }

  /** Until nothing of any other session is left; who is in D state is waited for. */
  async #clearOthers(except: HostSession | undefined): Promise<void> {
    const { groups, clock, log } = this.#ports;
    if (this.#settings.role === 'witness') return;
    for (let said = false; ; said = true) {
      const clear = await groups.clearOthers(except).catch((error: unknown) => {
        if (!said) log.error('groups cannot be removed', { error: String(error) });
        return false;
      });
      if (clear) return;
      if (!said) log.warn('something in the groups of an ended session does not die yet');
      await clock.sleep(clearEveryMs * 2);
    }
  }

  /** Heard of a leader: remembered before anything is done under it. */
  #learn(epoch: Epoch): void {
    if (compareEpochs(epoch, this.#epoch) <= 0) return;
    this.#epoch = epoch;
    void this.#durable.put(paths.epoch, JSON.stringify(epoch));
  }

  // ---------------------------------------------------------------- messages

  /** Takes a message of an authenticated keeper or controller. */
  receive(from: Uuid, message: HaMessage): void {
    if (!this.#voter) return;
    if (message.type === 'beat-answer') this.#answered(from, message);
    else if (message.type === 'register') void this.#tellRegister(from, message);
    else if (message.type === 'bar') void this.#bar(from, message);
    else this.#hear(from, message);
  }

  #hear(from: Uuid, message: HaMessage): void {
    const { voter, lease } = this.#its;
    const now = this.#ports.clock.now();
    switch (message.type) {
      case 'beat':
        if (message.hostId === from) this.#reply(from, voter.beat(message, now));
        return;
      case 'poll':
        return this.#reply(from, voter.poll(message, now, lease.contactMs(now)));
      case 'census':
        return this.#reply(from, voter.census(message, now));
      case 'seal':
        return this.#reply(from, voter.seal(message, now, lease.contactMs(now)));
      case 'withdraw':
        return this.#reply(from, voter.withdraw(message));
      case 'over':
        return this.#reply(from, voter.over(message));
      case 'list': {
        const reply = voter.storeList(message, now);
        if (voter.list) lease.adopt(voter.list);
        return this.#reply(from, reply);
      }
      default:
    }
  }

  /** The answer leaves when what it rests on is on disk. */
  #reply(to: Uuid, { answer, rests }: Reply<HaMessage>): void {
    const { voter } = this.#its;
    const writes: Promise<void>[] = [];
    for (const key of rests) {
      const write =
        key === 'self'
          ? this.#durable.put(paths.voter, JSON.stringify(voter.self))
          : this.#durable.put(paths.host(key), JSON.stringify(voter.record(key)));
      if (write) writes.push(write);
    }
    const own = to === this.#settings.hostId;
    const send = (): void => {
      if (own && answer.type === 'beat-answer') this.#answered(to, answer);
      else if (!own) this.#ports.wire.send(to, answer);
    };
    if (writes.length === 0) send();
    else void Promise.all(writes).then(send);
  }

  async #tellRegister(from: Uuid, query: RegisterQuery): Promise<void> {
    const ok = compareEpochs(query.epoch, this.#epoch) >= 0;
    if (ok) this.#learn(query.epoch);
    await this.#durable.put(paths.epoch, JSON.stringify(this.#epoch));
    const { voter, lease, register } = this.#its;
    const entries = register.entries.filter(({ guestId }) => guestId > query.after).toSorted(byGuest);
    const page = entries.slice(0, registerPage);
    this.#ports.wire.send(from, {
      type: 'register-answer',
      seq: query.seq,
      hostId: this.#settings.hostId,
      diskId: voter.diskId,
      ok,
      epoch: this.#epoch,
      session: lease.session,
      version: lease.version,
      confirmed: this.#confirmedOnDisk?.version ?? noVersion,
      entries: page,
      more: entries.length > page.length,
      state: this.#leaseState(),
    });
  }

  async #bar(from: Uuid, bar: Bar): Promise<void> {
    const { guestId, generation, session } = bar;
    const answer = (gone: boolean, why?: 'epoch' | 'session' | 'killing'): void =>
      this.#ports.wire.send(from, {
        type: 'bar-answer',
        hostId: this.#settings.hostId,
        guestId,
        generation,
        gone,
        ...(why ? { why } : {}),
        epoch: this.#epoch,
      });
    if (compareEpochs(bar.epoch, this.#epoch) < 0) return answer(false, 'epoch');
    this.#learn(bar.epoch);
    const { lease, register } = this.#its;
    if (session.id !== lease.session.id) return answer(session.number < lease.session.number, 'session');
    const runs = register.bar(guestId, generation);
    await this.#durable.put(paths.register, JSON.stringify(register.disk));
    if (!runs) return answer(!register.has(guestId), register.has(guestId) ? 'session' : undefined);
    answer(false, 'killing');
    if (this.#rules.keeperBars) await this.clear(guestId).catch(() => undefined);
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
    const { register } = this.#its;
    const early = this.#mayNot(ticket);
    if (early) return early;
    const refusal = register.register(ticket, this.#epoch.number);
    if (refusal) return refusal;
    await this.#durable.put(paths.register, JSON.stringify(register.disk));
    const late = this.#mayNot(ticket);
    if (late) return late;
    const group = await this.#ports.groups.make(ticket.session, ticket.guestId);
    // Both took time: what was so before says nothing about now (rule 10).
    if (!register.has(ticket.guestId)) return { ok: false, why: 'barred', detail: 'it was barred meanwhile' };
    return this.#mayNot(ticket) ?? { ok: true, group };
  }

  #mayNot({ session }: DoorTicket): Extract<DoorRegistered, { ok: false }> | undefined {
    const { lease } = this.#its;
    if (session.id !== lease.session.id || this.#killing || this.#ended) {
      const detail = `the order is for session ${session.number}, which is over`;
      if (session.number < lease.session.number || this.#killing || this.#ended)
        return { ok: false, why: 'session', detail };
      return { ok: false, why: 'session', detail: `the host is in session ${lease.session.number}` };
    }
    const now = this.#ports.clock.now();
    const answered = this.#ports.guard.answered();
    const held = answered?.session.id === session.id && answered.deadline > now && lease.deadline() > now;
    return held ? undefined : { ok: false, why: 'lapsed', detail: 'the lease of this host has run out' };
  }

  async enter(guestId: Uuid, pid: number): Promise<void> {
    const { lease, register } = this.#its;
    if (!register.has(guestId))
      throw new VirgaError('keeper', { host: this.#settings.name, detail: 'the guest is not registered' });
    await this.#ports.groups.enter(lease.session, guestId, pid);
  }

  async clear(guestId: Uuid): Promise<void> {
    const { lease, register } = this.#its;
    const { groups, clock, wire: _ } = this.#ports;
    const { session } = lease;
    const until = clock.now() + clearMs;
    while (!(await groups.clear(session, guestId))) {
      if (clock.now() >= until)
        throw new VirgaError('keeper', {
          host: this.#settings.name,
          detail: 'the guest does not die (a disk that hangs?)',
        });
      await clock.sleep(clearEveryMs);
    }
    if (lease.session.id !== session.id || !register.has(guestId)) return;
    register.remove(guestId);
    await this.#durable.put(paths.register, JSON.stringify(register.disk));
  }

  async leave(reason: string): Promise<void> {
    const { lease } = this.#its;
    const { clock, log } = this.#ports;
    log.info('this host leaves', { reason });
    await this.#clearOthers(undefined);
    this.#ended = true;
    const since = clock.now();
    this.#wake?.();
    while (clock.now() < since + leaveMs && lease.contactMs(clock.now()) < clock.now() - since) {
      await this.tick();
      await clock.sleep(clearEveryMs);
    }
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

const byGuest = (a: { readonly guestId: Uuid }, b: { readonly guestId: Uuid }): number =>
  a.guestId < b.guestId ? -1 : 1;
