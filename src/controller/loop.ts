/**
 * The controller's loop: one iteration is snapshot → pure decision → recheck at commit → assignments. Somebody else owns
 * time: production calls `run`, the simulator calls `iterate`. Knows nothing but ports.
 */
import { assignmentFor, sameAssignment } from '../core/assignment.ts';
import { decide, defaultSettings } from '../core/converge.ts';
import { VirgaError } from '../core/errors.ts';
import type { Assignment, HostReport } from '../core/model/assignment.ts';
import type { Instant, Uuid } from '../core/model/resource.ts';
import type { Snapshot } from '../core/model/snapshot.ts';
import { receiveReport } from '../core/report.ts';
import type { Clock, HostLink, Log } from '../ports.ts';
import type { Decision, News, SiteState } from './state.ts';

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
}

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
  /** Why the last iteration failed; the same is said once. */
  #failing: string | undefined;

  constructor(options: LoopOptions) {
    this.#options = options;
    this.#state = options.state;
    this.#clock = options.clock;
    this.#log = options.log;
    this.#state.listen((news) => this.#hear(news));
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

  /** Iterates until aborted. Never rejects: what goes wrong is logged, and the next iteration tries again. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      this.#woken = false;
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
   * One iteration: reports, decision, assignments.
   * @returns whether anything was written.
   */
  async iterate(): Promise<boolean> {
    const started = this.#clock.monotonic();
    await this.#state.ensure();
    let wrote = await this.#takeReports();
    for (let round = 0; round < maxRounds && (await this.#converge()); round += 1) wrote = true;
    this.#dispatch();
    this.#options.onIteration?.(this.#clock.monotonic() - started);
    return wrote;
  }

  async #pause(signal: AbortSignal): Promise<void> {
    if (this.#woken || signal.aborted) return;
    const timer = new AbortController();
    const woken = new Promise<void>((resolve) => {
      this.#wake = resolve;
    });
    const slept = this.#clock
      .sleep(this.#options.everyMs ?? 1000, AbortSignal.any([timer.signal, signal]))
      .catch(() => undefined);
    await Promise.race([woken, slept]);
    this.#wake = undefined;
    timer.abort();
  }

  async #takeReports(): Promise<boolean> {
    const reports = [...this.#reports];
    this.#reports.clear();
    let wrote = false;
    for (const [hostId, report] of reports) {
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
    const settings = {
      silentAfterMs: this.#options.silentAfterMs ?? defaultSettings.silentAfterMs,
      listeningSinceAt: (this.#listeningSinceAt ??= this.#clock.now()),
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

  #dispatch(): void {
    const { snapshot } = this.#state;
    const hosts = this.#dirty === 'all' ? [...this.#links.keys()] : [...this.#dirty];
    this.#dirty = new Set();
    for (const hostId of hosts) {
      const link = this.#links.get(hostId);
      const content = link && assignmentFor(snapshot, hostId);
      if (!link || !content) continue;
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
