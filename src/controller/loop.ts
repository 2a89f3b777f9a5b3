/**
 * The controller's loop: one iteration is snapshot → pure decision → recheck at commit → assignments. Somebody else owns
 * time: production calls `run`, the simulator calls `iterate`. Knows nothing but ports.
 */
import { assignmentFor, sameAssignment } from '../core/assignment.ts';
import { decide, defaultSettings, type DecideSettings } from '../core/converge.ts';
import { VirgaError } from '../core/errors.ts';
import type { Assignment, HostReport } from '../core/model/assignment.ts';
import type { Guest } from '../core/model/guest.ts';
import type { HostLoss } from '../core/model/host.ts';
import type { Instant, Uuid } from '../core/model/resource.ts';
import type { Snapshot } from '../core/model/snapshot.ts';
import { receiveReport } from '../core/report.ts';
import type { Clock, HostLink, Log } from '../ports.ts';
import type { Decision, News, SiteState } from './state.ts';

/** What the loop needs of the lease (host-lease, rules 5 and 9). */
export interface LoopLease {
  /** Sessions that this leader proved over. Whoever adds one calls `Loop.hurry`. */
  losses(): ReadonlyMap<Uuid, HostLoss>;
  /** True: this highly available guest may be started anew now. */
  barrier(guest: Guest): boolean;
  /** When each keeper answered last. */
  keepersHeard(): ReadonlyMap<Uuid, Instant>;
  /** Told every report at once, before the state knows it; its `lease` holds what the host's keeper says. */
  reported(report: HostReport): void;
}

export interface LoopOptions {
  readonly state: SiteState;
  readonly clock: Clock;
  readonly log: Log;
  /** Milliseconds without a report until a host is called silent; 10,000 by default. */
  readonly silentAfterMs?: number;
  /** Milliseconds between iterations when nothing happens; 1,000 by default. */
  readonly everyMs?: number;
  /** Told the milliseconds of every iteration. */
  readonly onIteration?: (ms: number) => void;
  /** Told every report that is not older than one before. */
  readonly onReport?: (report: HostReport) => void;
  /** Asked each time, since it may stand on this loop. Absent: no host is ever lost, and guests start without a barrier. */
  readonly lease?: () => LoopLease | undefined;
}

/** While the state must be loaded again, milliseconds between two attempts. */
const reloadMs = 200;
/** Milliseconds beyond its time after which an iteration shows that this process stood still: silence then proves nothing. */
const stalledMs = 3000;

/** Iterations that follow each other at once because each changed something; then the timer takes over. */
const maxRounds = 8;

export class Loop {
  readonly #options: LoopOptions;
  readonly #state: SiteState;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #links = new Map<Uuid, HostLink>();
  readonly #lastHeard = new Map<Uuid, Instant>();
  /** The newest report of each host that nobody has looked at. */
  readonly #reports = new Map<Uuid, HostReport>();
  /** Sequence of the newest report on each host's present connection. */
  readonly #sequences = new Map<Uuid, number>();
  readonly #sent = new Map<Uuid, Assignment>();
  #dirty: Set<Uuid> | 'all' = 'all';
  #listeningSinceAt: Instant | undefined;
  #wake: (() => void) | undefined;
  #woken = false;
  /** A host was lost: its guests come before reports. */
  #urgent = false;
  #iteratedAt: number | undefined;
  /** Why the last iteration failed; the same is said once. */
  #failing: string | undefined;

  constructor(options: LoopOptions) {
    this.#options = options;
    this.#state = options.state;
    this.#clock = options.clock;
    this.#log = options.log;
    this.#state.listen((news) => this.#hear(news));
    this.#state.onLeadership((leadership) => {
      if (leadership === 'standby') this.#forget();
    });
  }

  /** A host is connected; a newer link of the same host takes the place of the older. */
  attach(link: HostLink): void {
    this.#links.set(link.hostId, link);
    // Another run of the agent counts from the beginning.
    this.#sequences.delete(link.hostId);
    this.#sent.delete(link.hostId);
    this.#touch([link.hostId]);
    this.wake();
  }

  detach(link: HostLink): void {
    if (this.#links.get(link.hostId) !== link) return;
    this.#links.delete(link.hostId);
    this.#sent.delete(link.hostId);
  }

  /** Takes a host's report; it is looked at in the next iteration, and a newer one replaces it until then. */
  report(hostId: Uuid, report: HostReport): void {
    this.#lastHeard.set(hostId, this.#clock.now());
    const { sequence } = report;
    if (sequence !== undefined) {
      if (sequence <= (this.#sequences.get(hostId) ?? -1)) return;
      this.#sequences.set(hostId, sequence);
    }
    this.#reports.set(hostId, report);
    this.#options.lease?.()?.reported(report);
    this.#options.onReport?.(report);
    this.wake();
  }

  /** When the host was last heard from by this process. */
  lastHeard(hostId: Uuid): Instant | undefined {
    return this.#lastHeard.get(hostId);
  }

  /** Asks for an iteration soon. */
  wake(): void {
    this.#woken = true;
    this.#wake?.();
  }

  /** A host was lost: its guests are placed before anything else is looked at. */
  hurry(): void {
    this.#urgent = true;
    this.wake();
  }

  /** Iterates until aborted. Never rejects: what goes wrong is logged, and the next iteration tries again. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      this.#woken = false;
      this.#noticeStall();
      try {
        await this.iterate();
        this.#failing = undefined;
      } catch (error) {
        this.#failed(error);
      }
      await this.#pause(signal);
    }
  }

  /**
   * One iteration: reports, decision, assignments. While another controller leads it does nothing.
   * @returns whether anything was written.
   */
  async iterate(): Promise<boolean> {
    const { leadership } = this.#state;
    if (leadership === 'standby' || leadership === 'starting') return false;
    const started = this.#clock.monotonic();
    await this.#state.ensure();
    let wrote = this.#urgent && (await this.#settle());
    if (await this.#takeReports()) wrote = true;
    if (await this.#settle()) wrote = true;
    this.#options.onIteration?.(this.#clock.monotonic() - started);
    return wrote;
  }

  /** Decides until nothing follows any more; orders go out after each step. */
  async #settle(): Promise<boolean> {
    this.#urgent = false;
    let wrote = false;
    for (let round = 0; round < maxRounds && (await this.#converge()); round += 1) {
      wrote = true;
      await this.#dispatch();
    }
    await this.#dispatch();
    return wrote;
  }

  async #pause(signal: AbortSignal): Promise<void> {
    if (this.#woken || signal.aborted) return;
    const timer = new AbortController();
    const woken = new Promise<void>((resolve) => {
      this.#wake = resolve;
    });
    const slept = this.#clock.sleep(this.#everyMs(), AbortSignal.any([timer.signal, signal])).catch(() => undefined);
    await Promise.race([woken, slept]);
    this.#wake = undefined;
    timer.abort('over');
  }

  #everyMs(): number {
    return this.#state.leadership === 'reloading' ? reloadMs : (this.#options.everyMs ?? 1000);
  }

  /** After this process stood still hosts get time to call again before they count as silent. */
  #noticeStall(): void {
    const now = this.#clock.monotonic();
    const last = this.#iteratedAt ?? now;
    this.#iteratedAt = now;
    if (now - last < (this.#options.everyMs ?? 1000) + stalledMs) return;
    this.#log.warn('this controller stood still', { ms: Math.round(now - last) });
    if (this.#listeningSinceAt !== undefined) this.#listeningSinceAt = this.#clock.now();
  }

  async #takeReports(): Promise<boolean> {
    const reports = [...this.#reports];
    this.#reports.clear();
    let wrote = false;
    for (const [hostId, report] of reports) {
      if (this.#urgent) {
        // The rest waits for the next iteration, which comes at once.
        if (!this.#reports.has(hostId)) this.#reports.set(hostId, report);
        continue;
      }
      try {
        if (await this.#takeReport(hostId, report)) wrote = true;
      } catch (error) {
        // The report is kept for the next iteration while the database is away, unless a newer one came.
        if (error instanceof VirgaError && error.code === 'store_unavailable' && !this.#reports.has(hostId))
          this.#reports.set(hostId, report);
        this.#complain('a report could not be taken', error, { hostId });
      }
    }
    return wrote;
  }

  async #takeReport(hostId: Uuid, report: HostReport): Promise<boolean> {
    const judge = (snapshot: Snapshot) => receiveReport(snapshot, hostId, report, this.#clock.now());
    const first = judge(this.#state.snapshot);
    if (first.ignored !== undefined) this.#log.warn('a report was not believed', { hostId, why: first.ignored });
    if (nothing(first)) return false;
    await this.#state.change(judge);
    return true;
  }

  /** Decides on the newest state, and once more inside the queue when there is something to write. */
  async #converge(): Promise<boolean> {
    const lease = this.#options.lease?.();
    const settings: DecideSettings = {
      silentAfterMs: this.#options.silentAfterMs ?? defaultSettings.silentAfterMs,
      listeningSinceAt: (this.#listeningSinceAt ??= this.#clock.now()),
      ...(lease
        ? { losses: lease.losses(), barrier: (guest) => lease.barrier(guest), keepersHeard: lease.keepersHeard() }
        : {}),
    };
    const judge = (snapshot: Snapshot) => decide(snapshot, this.#clock.now(), this.#lastHeard, settings);
    const { snapshot } = this.#state;
    const first = judge(snapshot);
    if (nothing(first)) return false;
    const { revision } = snapshot;
    // Nothing came in between: what was decided is decided on the newest state.
    await this.#state.change((newest) => (newest === snapshot && newest.revision === revision ? first : judge(newest)));
    return true;
  }

  /** Sends what changed. Nothing is ordered while it is not known that this controller could commit. */
  async #dispatch(): Promise<void> {
    if (this.#dirty !== 'all' && this.#dirty.size === 0) return;
    if (!(await this.#state.confirm())) return;
    const { snapshot } = this.#state;
    const lease = this.#options.lease?.();
    const hosts = this.#dirty === 'all' ? [...this.#links.keys()] : [...this.#dirty];
    this.#dirty = new Set();
    for (const hostId of hosts) {
      const link = this.#links.get(hostId);
      const content = link && assignmentFor(snapshot, hostId, lease && ((guest) => !lease.barrier(guest)));
      if (!link || !content) continue;
      // The barrier opens without a change of the state: looked at again in the next iteration.
      if (content.guests.some((order) => order.barred)) this.#touch([hostId]);
      const last = this.#sent.get(hostId);
      // The revision rises with every change and survives restarts, so it serves as the generation.
      const next: Assignment = { ...content, generation: snapshot.revision };
      if (last && sameAssignment(last, next)) continue;
      this.#sent.set(hostId, next);
      link.send(next);
    }
  }

  #hear(news: News): void {
    if (news.type === 'loaded') {
      // Until the hosts had time to call, silence says nothing about them.
      this.#listeningSinceAt ??= this.#clock.now();
      this.#sent.clear();
      this.#dirty = 'all';
    } else {
      if (news.touched === 'all') this.#dirty = 'all';
      else this.#touch(news.touched);
      for (const { kind, id } of news.change.remove) if (kind === 'host') this.#lastHeard.delete(id);
    }
    this.wake();
  }

  /** Another controller leads: what was heard here says nothing about the time to come. */
  #forget(): void {
    this.#listeningSinceAt = undefined;
    this.#lastHeard.clear();
    this.#reports.clear();
    this.#sent.clear();
    this.#dirty = 'all';
  }

  #touch(hosts: Iterable<Uuid>): void {
    if (this.#dirty === 'all') return;
    for (const each of hosts) this.#dirty.add(each);
  }

  #failed(error: unknown): void {
    const why = String(error);
    if (why !== this.#failing) this.#complain('the iteration failed; it is tried again every second', error);
    this.#failing = why;
  }

  #complain(message: string, error: unknown, values: Readonly<Record<string, unknown>> = {}): void {
    if (error instanceof VirgaError) this.#log.warn(message, { ...values, code: error.code, detail: error.message });
    else
      this.#log.error(message, {
        ...values,
        error: error instanceof Error ? (error.stack ?? error.message) : String(error),
      });
  }
}

function nothing({ change }: Decision): boolean {
  return change.put.length === 0 && change.remove.length === 0 && change.events.length === 0 && !change.site;
}
