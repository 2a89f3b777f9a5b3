/**
 * The agent's loop. `iterate` is one iteration: look at the engine, plan, begin what is to be done, report. Somebody
 * else owns time: `run` in production, the simulator in scenarios. Steps run beside the loop, one at a time per guest,
 * so that a long one (an image on its way) hides nothing of the other guests.
 */
import { VirgaError, type ErrorCode } from '../core/errors.ts';
import type { GuestStep, HostAction } from '../core/host/actions.ts';
import { type GuestJournal } from '../core/host/journal.ts';
import { allRules } from '../core/ha/rules.ts';
import { whereabouts } from '../core/host/groups.ts';
import { journalFor, noteFailure, noticeGuest, type Noticed } from '../core/host/observe.ts';
import type { HostView } from '../core/host/view.ts';
import { planHost, supersedes } from '../core/host-plan.ts';
import type { Assignment, GuestOrder } from '../core/model/assignment.ts';
import { engineSilent, type HostSession } from '../core/model/host.ts';
import type { Instant, Uuid } from '../core/model/resource.ts';
import type { EngineGuest, EngineView, GuestExit } from '../ports.ts';
import { Exits } from './exits.ts';
import { ImageFetches } from './fetches.ts';
import { LeaseWatch } from './lease.ts';
import { Memory } from './memory.ts';
import type { AgentIdentity, AgentPorts } from './ports.ts';
import { Reporter } from './reporter.ts';
import type { AgentRules } from './step-context.ts';
import { executeStep } from './steps.ts';
import { Upkeep } from './upkeep.ts';

export interface LoopSettings {
  /** Guests worked on at one time; 6 by default. */
  readonly parallel?: number;
  /** Milliseconds between two looks when nothing happens; 2,000 by default. */
  readonly everyMs?: number;
  /** Rules of the lease that the simulator leaves out; all on by default. */
  readonly rules?: AgentRules;
}

/** Milliseconds that steps under way have when the agent is stopped. */
const stopMs = 10_000;

interface Work {
  readonly done: Promise<void>;
  preparing?: { readonly what: string; readonly progress: number };
}

/** What is missing on the host, or answers not yet: tried again for ever, however often. */
const outside: readonly ErrorCode[] = [
  'timeout',
  'keeper',
  'site_unreachable',
  'not_found',
  'image_digest',
  'disk_full',
  'setup',
];

/** A guest that waits, and why; for reports. */
export interface WaitingGuest {
  readonly until?: Instant;
  readonly reason: string;
}

export class AgentLoop {
  readonly #ports: AgentPorts;
  readonly #identity: AgentIdentity;
  readonly #memory: Memory;
  readonly #fetches: ImageFetches;
  readonly #upkeep: Upkeep;
  readonly #lease: LeaseWatch;
  readonly #rules: AgentRules;
  readonly #reporter: Reporter;
  readonly #parallel: number;
  readonly #everyMs: number;
  readonly #work = new Map<Uuid, Work>();
  readonly #exits: Exits;
  #pending: Assignment | undefined;
  #waiting = new Map<Uuid, WaitingGuest>();
  #wake: (() => void) | undefined;
  #woken = false;
  #seen: EngineView | undefined;
  #engineProblem: string | undefined;
  readonly #stopListening: (() => void)[] = [];

  constructor(ports: AgentPorts, identity: AgentIdentity, settings: LoopSettings = {}) {
    this.#ports = ports;
    this.#identity = identity;
    this.#memory = new Memory(ports.files);
    this.#fetches = new ImageFetches(ports, () => this.wake());
    this.#upkeep = new Upkeep(ports, () => this.wake());
    this.#lease = new LeaseWatch(ports, () => this.wake());
    this.#exits = new Exits(ports.engine, identity.bootId);
    this.#rules = settings.rules ?? allRules;
    this.#reporter = new Reporter(ports, identity);
    this.#parallel = settings.parallel ?? 6;
    this.#everyMs = settings.everyMs ?? 2000;
  }

  /** Reads what an earlier life left behind and begins to listen to engine and keeper. Call once, first. */
  async load(): Promise<void> {
    await this.#memory.load();
    this.#stopListening.push(await this.#lease.load());
    const stop = this.#ports.engine.onChange((exit) => {
      // Ends of domains that are not ours are nobody's business here.
      if (exit && this.#memory.journals.has(exit.id)) this.#exits.tell(exit);
      this.wake();
    });
    this.#stopListening.push(stop);
  }

  /** The last session that the keeper told; number 0 before it ever answered. */
  get session(): HostSession {
    return this.#lease.session;
  }

  get assignment(): Assignment | undefined {
    return this.#memory.assignment;
  }

  /** Takes a newer assignment; an older one is ignored. It counts once the next iteration has written it to disk. */
  receive(assignment: Assignment): boolean {
    const current = this.#pending ?? this.#memory.assignment;
    const { hostId, siteId } = this.#identity;
    const forUs = assignment.hostId === hostId && assignment.siteId === siteId;
    // One for another session counts too: of highly available guests it starts none, all others know no sessions.
    if (!forUs || !supersedes(assignment, current)) {
      this.#ports.log.warn('assignment ignored', { generation: assignment.generation, epoch: assignment.epoch });
      return false;
    }
    this.#pending = assignment;
    this.wake();
    return true;
  }

  /** Lets `run` iterate at once. */
  wake(): void {
    this.#woken = true;
    this.#wake?.();
  }

  /** One iteration. Rejects only when the agent's own disk cannot be written. */
  async iterate(): Promise<void> {
    await this.#keepPending();
    const now = this.#ports.clock.now();
    // What was being worked on when we looked is judged at the next look: what is seen of it is from before.
    const busy = new Set([...this.#work.keys(), ...this.#memory.unreadable]);
    const view = await this.#look();
    // After the engine: who was killed by the keeper is seen with a keeper that says that it kills.
    await this.#lease.look();
    const assignment = this.#memory.assignment;
    if (view && assignment) {
      await this.#upkeep.networks(assignment.networks);
      const looked = await this.#notice(view, assignment, busy, now);
      this.#begin(planHost(assignment, this.#memory.journals, looked, now), assignment);
    }
    await this.#upkeep.often([...this.#memory.journals.values()], assignment);
    this.#report(busy);
  }

  /** Resolves when no step is under way (tests, clean stop). */
  async settled(): Promise<void> {
    while (this.#work.size > 0 || this.#fetches.running.length > 0)
      await Promise.all([...[...this.#work.values()].map((work) => work.done), this.#fetches.settled()]);
  }

  /** Iterates until aborted. Steps under way are then waited for; guests run on. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      this.#woken = false;
      try {
        await this.iterate();
      } catch (error) {
        this.#ports.log.error('the iteration failed', { detail: String(error) });
        await this.#ports.clock.sleep(1000, signal).catch(() => undefined);
      }
      await this.#pause(signal);
    }
    for (const stop of this.#stopListening) stop();
    // Steps are short; one that hangs is taken up by the next life, like after a crash. Fetches are ended by the cache.
    const steps = Promise.all([...this.#work.values()].map((work) => work.done));
    const limit = new AbortController();
    await Promise.race([steps, this.#ports.clock.sleep(stopMs, limit.signal).catch(() => undefined)]);
    limit.abort();
  }

  /** Waits for a trigger, the next thing due, or the ordinary pace. */
  async #pause(signal: AbortSignal): Promise<void> {
    // A storm of events makes one iteration, not many.
    await this.#ports.clock.sleep(10, signal).catch(() => undefined);
    if (this.#woken || signal.aborted) return;
    const dues = [...this.#waiting.values()].flatMap(({ until }) => (until === undefined ? [] : [until]));
    const next = Math.min(this.#everyMs, ...dues.map((due) => due - this.#ports.clock.now()));
    const stop = new AbortController();
    const end = (): void => stop.abort('woken');
    this.#wake = end;
    signal.addEventListener('abort', end, { once: true });
    await this.#ports.clock.sleep(Math.max(10, next), stop.signal).catch(() => undefined);
    signal.removeEventListener('abort', end);
    this.#wake = undefined;
  }

  async #keepPending(): Promise<void> {
    const next = this.#pending;
    if (!next) return;
    await this.#memory.keepAssignment(next);
    if (this.#pending === next) this.#pending = undefined;
    this.#ports.log.info('assignment', { generation: next.generation, epoch: next.epoch, guests: next.guests.length });
  }

  async #look(): Promise<EngineView | undefined> {
    try {
      this.#seen = await this.#ports.engine.view();
      this.#engineProblem = undefined;
      this.#upkeep.facts();
      return this.#seen;
    } catch (error) {
      if (this.#engineProblem === undefined)
        this.#ports.log.warn('the engine does not answer', { detail: String(error) });
      this.#engineProblem = `${engineSilent}: ${messageOf(error)}`;
      return undefined;
    }
  }

  /** Brings the journals up to what was seen, on disk before anything is decided on them. */
  async #notice(engine: EngineView, assignment: Assignment, busy: ReadonlySet<Uuid>, now: Instant): Promise<HostView> {
    const seen = new Map(engine.guests.map((guest) => [guest.id, guest]));
    const orders = new Map(assignment.guests.map((order) => [order.id, order]));
    const ids = new Set([...orders.keys(), ...this.#memory.journals.keys()]);
    for (const id of ids) {
      if (busy.has(id)) continue;
      const order = orders.get(id);
      const known = this.#memory.journals.get(id);
      const journal = known ?? (order && journalFor(order, undefined));
      if (!journal) continue;
      const guest = seen.get(id);
      const exit = guest ? undefined : await this.#exits.of(journal);
      const next = noticeGuest(journal, order, guest, this.#noticed(journal, guest, exit, now));
      if (next !== journal) await this.#memory.save(next);
      if (!guest && !next.running) this.#exits.forget(id);
    }
    return this.#viewOf(engine, await this.#ports.images.list(), busy);
  }

  #noticed(journal: GuestJournal, seen: EngineGuest | undefined, exit: GuestExit | undefined, now: Instant): Noticed {
    const { hostId, bootId } = this.#identity;
    const { session, sight } = this.#lease;
    const barred = (sight?.gone.get(journal.id) ?? -1) >= journal.accepted;
    return {
      now,
      bootId,
      sessionId: session.id,
      inside: whereabouts(seen?.group, hostId, session, journal.id) === 'session',
      sure: sight !== undefined,
      killed: sight?.lease === 'killing' || barred,
      ...(exit ? { exit } : {}),
    };
  }

  #viewOf(engine: EngineView, images: readonly string[], busy: ReadonlySet<Uuid>): HostView {
    const { session, sight, retryAt } = this.#lease;
    return {
      session,
      ...(sight ? { keeper: sight } : {}),
      leaseRetryAt: retryAt,
      guests: engine.guests,
      foreign: engine.foreign.map((domain) => domain.uuid),
      images,
      fetching: this.#fetches.running,
      fetchRetryAt: this.#fetches.retryAt,
      networks: this.#upkeep.readyNetworks,
      busy: [...busy],
    };
  }

  #begin(actions: readonly HostAction[], assignment: Assignment): void {
    const orders = new Map(assignment.guests.map((order) => [order.id, order]));
    this.#waiting = new Map();
    for (const action of actions) {
      if (action.do === 'fetch') this.#fetches.begin(action.sha512, assignment);
      else if (action.do === 'wait') this.#waiting.set(action.guestId, action);
      else if (action.do === 'forget') this.#forget(action.guestId);
      else {
        const order = orders.get(action.guestId);
        if (order && this.#work.size < this.#parallel) this.#start(action, order, assignment, action.reason);
      }
    }
  }

  #forget(id: Uuid): void {
    const done = this.#memory
      .forget(id)
      .catch((error: unknown) =>
        this.#ports.log.error('a journal cannot be removed', { guest: id, detail: String(error) }),
      )
      .finally(() => this.#work.delete(id));
    this.#work.set(id, { done });
  }

  #start(step: GuestStep, order: GuestOrder, assignment: Assignment, reason: string): void {
    const { log } = this.#ports;
    const journal = journalFor(order, this.#memory.journals.get(order.id));
    if (step.do !== 'settle') log.info(`guest ${step.do}`, { guest: order.name, id: order.id, reason });
    const context = {
      ports: this.#ports,
      assignment,
      bootId: this.#identity.bootId,
      session: this.#lease.session,
      keeper: this.#lease.sight,
      rules: this.#rules,
      awaitLease: (id: Uuid) => this.#lease.await(id),
      save: (next: GuestJournal) => this.#memory.save(next),
      progress: (what: string, progress: number): void => {
        const work = this.#work.get(order.id);
        if (work) work.preparing = { what, progress };
      },
    };
    const done = executeStep(step, order, journal, context)
      .catch((error: unknown) => this.#failed(step, order, error))
      .finally(() => {
        this.#work.delete(order.id);
        this.wake();
      });
    this.#work.set(order.id, { done });
  }

  /** An engine that does not answer is not the guest's failure; what the guest is refused is. */
  async #failed(step: GuestStep, order: GuestOrder, error: unknown): Promise<void> {
    const { log, clock } = this.#ports;
    const code: ErrorCode = error instanceof VirgaError ? error.code : 'internal';
    log.warn(`guest ${step.do} failed`, { guest: order.name, code, detail: messageOf(error) });
    const journal = this.#memory.journals.get(order.id) ?? journalFor(order, undefined);
    const patient = step.do !== 'start' || outside.includes(code);
    const failed = noteFailure(journal, { code, message: messageOf(error) }, clock.now(), patient);
    // While the engine may still be creating it, `starting` must stay: the next look tells what became of it.
    const next = code === 'timeout' && journal.starting ? { ...failed, starting: journal.starting } : failed;
    await this.#memory
      .save(next)
      .catch((fault: unknown) => log.error('a journal cannot be written', { detail: String(fault) }));
  }

  #report(busy: ReadonlySet<Uuid>): void {
    this.#reporter.send({
      assignment: this.#memory.assignment,
      journals: this.#memory.journals,
      unreadable: [...this.#memory.unreadable],
      view: this.#engineProblem === undefined ? this.#seen : undefined,
      busy,
      waiting: this.#waiting,
      preparing: new Map(
        [...this.#work].flatMap(([id, work]) => (work.preparing ? [[id, work.preparing] as const] : [])),
      ),
      fetches: this.#fetches,
      upkeep: this.#upkeep,
      lease: this.#lease,
      ...(this.#engineProblem === undefined ? {} : { engineProblem: this.#engineProblem }),
    });
  }

  /** True for guests that the assignment lists. */
  lists(id: Uuid): boolean {
    return this.#memory.assignment?.guests.some((order) => order.id === id) ?? false;
  }

  /**
   * Destroys a guest that carries our identity but is in no assignment, with its disks, after a person's review.
   * @throws VirgaError not_allowed · engine
   */
  async destroyStray(id: Uuid): Promise<void> {
    const seen = this.#seen?.guests.some((guest) => guest.id === id) ?? false;
    // A journal alone is enough for one that is off, unless the domain of that id is not ours (any more).
    const journal = this.#memory.journals.get(id);
    const foreign = this.#seen?.foreign.some((domain) => domain.uuid === id) ?? true;
    const ours = seen || (journal !== undefined && !journal.gone && !foreign);
    if (this.lists(id) || !ours) {
      const why = ours ? 'it is in the assignment' : 'there is no such guest on this host';
      throw new VirgaError('not_allowed', { state: 'no stray', action: 'destroyed as one', why, name: id });
    }
    // As work, so that no iteration writes its journal meanwhile; an iteration after it finds nothing of the guest.
    const done = this.#destroyWhole(id).finally(() => {
      this.#work.delete(id);
      this.wake();
    });
    this.#work.set(id, { done: done.catch(() => undefined) });
    await done;
  }

  async #destroyWhole(id: Uuid): Promise<void> {
    // Also one that may be frozen: the keeper ends and forgets what it knows of it.
    if (this.#lease.sight) await this.#ports.keeper.clear(id);
    await this.#ports.engine.destroy(id);
    await this.#ports.disks.removeAll(id);
    await this.#memory.forget(id);
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
