/**
 * Fencing: powers silent hosts off, in parallel to sealing them. `iterate` is one iteration, and never waits for a device;
 * somebody else owns time. Knows nothing but ports. What it may do is decided in `core/ha/fencing.ts`.
 */
import { VirgaError } from '../../core/errors.ts';
import { decideFencing, patienceMs, voiceless, type FenceHost, type FenceSight } from '../../core/ha/fencing.ts';
import type { Host, HostSession } from '../../core/model/host.ts';
import type { Uuid } from '../../core/model/resource.ts';
import type { NewEvent } from '../../core/model/snapshot.ts';
import type { Clock, Fencer, Files, Log } from '../../ports.ts';
import type { HostLeaseSight, LeaseDoor } from '../lease/view.ts';
import type { SiteState } from '../state.ts';
import type { FenceAttempt, FenceDoor, FenceResult } from './door.ts';
import { FenceHistory } from './history.ts';
import { fenceRound, type RoundWorld } from './round.ts';
import { Watchman } from './watchman.ts';

export interface FenceOptions {
  readonly state: Pick<SiteState, 'snapshot' | 'change'>;
  readonly lease: Pick<LeaseDoor, 'sight' | 'declareDead'>;
  readonly fencer: Fencer;
  /** Below the controller's folder for fencing. */
  readonly files: Files;
  readonly clock: Clock;
  readonly log: Log;
  /** Milliseconds between two iterations; 250 by default. */
  readonly everyMs?: number;
  /** Milliseconds between two tests of a device of a host that is well; an hour by default. */
  readonly testEveryMs?: number;
}

/** Label of a host that names its failure domain (a rack, a power line). */
export const domainLabel = 'failure-domain';
const tellMs = 15_000;
const stopMs = 3000;

/** Rounds that failed while the host was silent in one session. */
interface Silence {
  readonly session: HostSession | undefined;
  failed: number;
  failedAt: number;
}

export class FenceLoop implements FenceDoor {
  readonly #options: FenceOptions;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #history: FenceHistory;
  readonly #watchman: Watchman;
  readonly #stopping = new AbortController();
  readonly #silences = new Map<Uuid, Silence>();
  readonly #running = new Map<Uuid, Promise<FenceResult>>();
  #waits: ReadonlyMap<Uuid, string> = new Map();

  constructor(options: FenceOptions) {
    this.#options = options;
    this.#clock = options.clock;
    this.#log = options.log;
    this.#history = new FenceHistory(options.files, options.log);
    this.#watchman = new Watchman({
      ...options,
      signal: this.#stopping.signal,
      heard: (hostId) => isHeard(this.#sightOf(hostId)),
      patienceMs: () => patienceMs(options.lease.sight().profile),
      note: (hostId, attempt) => this.#note(hostId, attempt),
    });
  }

  /** Reads the history; `run` does it by itself. */
  async load(): Promise<void> {
    await this.#history.load();
  }

  /** Iterates until aborted; devices at work are then ended, and their end is waited for a moment. */
  async run(signal: AbortSignal): Promise<void> {
    const stop = (): void => this.#stopping.abort();
    signal.addEventListener('abort', stop, { once: true });
    await this.load();
    while (!signal.aborted) {
      try {
        this.iterate();
      } catch (error) {
        this.#log.error('the iteration of fencing failed', { detail: String(error) });
      }
      await this.#clock.sleep(this.#options.everyMs ?? 250, signal).catch(() => undefined);
    }
    const limit = new AbortController();
    await Promise.race([this.settled(), this.#clock.sleep(stopMs, limit.signal).catch(() => undefined)]);
    limit.abort();
  }

  /** One iteration: looks, begins what is to be begun, and returns at once. */
  iterate(): void {
    const { lease } = this.#options;
    const sight = lease.sight();
    const hosts = this.#hosts();
    if (!hosts) return;
    const seen = new Map(sight.hosts.map((each) => [each.hostId, each]));
    for (const host of hosts) this.#listen(host.id, seen.get(host.id));
    const devised = hosts.filter((host) => (host.spec.fence ?? []).length > 0);
    const { hold } = this.#options.state.snapshot.site;
    const plan = decideFencing({
      leading: sight.leadership === 'leading',
      ...(hold ? { hold: hold.reason } : {}),
      profile: sight.profile,
      hosts: devised.map((host) => this.#judged(host, seen.get(host.id))),
    });
    this.#waits = new Map(plan.waits.map(({ hostId, why }) => [hostId, why]));
    for (const { hostId, session, why } of plan.begin) {
      const host = devised.find((each) => each.id === hostId);
      if (host) void this.#begin(host, session, 'virga', why);
    }
    if (sight.leadership === 'leading' && !hold) this.#watchman.look(devised, seen);
  }

  /** Resolves when no device is at work. */
  async settled(): Promise<void> {
    await Promise.all([...this.#running.values(), this.#watchman.settled()]);
    await this.#history.written();
  }

  history(hostId: Uuid): readonly FenceAttempt[] {
    return this.#history.of(hostId);
  }

  waits(): ReadonlyMap<Uuid, string> {
    return this.#waits;
  }

  async test(hostId: Uuid, who = 'virga'): Promise<FenceResult> {
    const host = this.#devised(hostId);
    const attempts = await this.#watchman.test(host, { who, reason: 'test' });
    for (const attempt of attempts) this.#note(hostId, attempt);
    return { ok: attempts.every(({ outcome }) => outcome === 'on' || outcome === 'off'), attempts };
  }

  async fence(hostId: Uuid, who: string, reason: string): Promise<FenceResult> {
    const host = this.#devised(hostId);
    const sight = this.#options.lease.sight();
    const votes = sight.voters.reduce((sum, voter) => sum + voter.votes, 0);
    const answering = sight.voters.reduce((sum, voter) => sum + (voter.answers ? voter.votes : 0), 0);
    if (sight.leadership !== 'leading') throw new VirgaError('no_majority', { answering, votes });
    if (this.#running.has(hostId))
      throw new VirgaError('invalid_request', { detail: `${host.name} is being fenced already; see its history` });
    const { hold } = this.#options.state.snapshot.site;
    if (hold)
      throw new VirgaError('invalid_request', {
        detail: `The site is held (${hold.reason}): virga site release first`,
      });
    const session = this.#sightOf(hostId)?.session ?? host.status.session;
    if (!session) throw new VirgaError('invalid_request', { detail: `${host.name} was never seen: it has no session` });
    return this.#begin(host, session, who, reason);
  }

  // -------------------------------------------------------------- a round

  async #begin(host: Host, session: HostSession, who: string, reason: string): Promise<FenceResult> {
    const work = this.#round(host, session, who, reason).finally(() => this.#running.delete(host.id));
    this.#running.set(host.id, work);
    return work;
  }

  /** Never rejects: what goes wrong is told, and the next round is due after a back-off. */
  async #round(host: Host, session: HostSession, who: string, reason: string): Promise<FenceResult> {
    this.#log.warn('fencing a host', { host: host.name, session: session.number, reason });
    const devices = host.spec.fence ?? [];
    const world = this.#world(host, session, who === 'virga');
    const { off, attempts, stopped } = await fenceRound({ session, devices, who, reason }, world);
    const declared = off !== undefined && (await this.#declare(host, session, off));
    if (!declared && stopped === undefined) this.#failed(host.id);
    if (stopped !== undefined) this.#log.info('fencing was broken off', { host: host.name, why: stopped });
    return { ok: declared, attempts, ...(stopped === undefined ? {} : { stopped }) };
  }

  #world(host: Host, session: HostSession, byItself: boolean): RoundWorld {
    const { lease, fencer } = this.#options;
    return {
      clock: this.#clock,
      fencer,
      signal: this.#stopping.signal,
      sight: () => this.#sighted(this.#sightOf(host.id)),
      leading: () => lease.sight().leadership === 'leading',
      profile: () => lease.sight().profile,
      stop: () => this.#stop(host, session, byItself),
      suspect: (key) => this.#watchman.suspect(host.id, key),
      note: (attempt) => this.#note(host.id, attempt),
    };
  }

  /** A person may power off a host that is heard; by itself the site stops at the first sign of life. */
  #stop(host: Host, session: HostSession, byItself: boolean): string | undefined {
    const { lease, state } = this.#options;
    if (lease.sight().leadership !== 'leading') return 'this controller has no majority any more';
    const { hold } = state.snapshot.site;
    if (hold) return `the site is held: ${hold.reason}`;
    const sight = this.#sighted(this.#sightOf(host.id));
    if (sight.session && sight.session.id !== session.id) return 'it came back under another session';
    if (byItself && sight.state !== 'lost' && !voiceless(sight, lease.sight().profile)) return 'it is heard again';
    return undefined;
  }

  async #declare(host: Host, session: HostSession, off: FenceAttempt): Promise<boolean> {
    const sight = this.#sightOf(host.id);
    if (sight?.state === 'lost' && sight.session?.id === session.id) return true;
    try {
      const reason = `power off confirmed by ${off.agent} (level ${off.level}, ${off.ms} ms): ${off.reason}`;
      await this.#options.lease.declareDead(host.id, { kind: 'fence', who: off.who, reason });
      return true;
    } catch (error) {
      // Sealing goes on without us; it only takes longer.
      this.#log.warn('the voters did not take the word of the fence device', {
        host: host.name,
        detail: String(error),
      });
      return false;
    }
  }

  #failed(hostId: Uuid): void {
    const silence = this.#silences.get(hostId);
    if (!silence) return;
    silence.failed += 1;
    silence.failedAt = this.#clock.monotonic();
  }

  // -------------------------------------------------------------- what is seen

  #hosts(): readonly Host[] | undefined {
    try {
      return [...this.#options.state.snapshot.all('host')];
    } catch (error) {
      if (error instanceof VirgaError && error.code === 'not_leading') return undefined;
      throw error;
    }
  }

  /** A silence ends with any sign of the host; one that is over, or that nobody knows of now, keeps its count. */
  #listen(hostId: Uuid, seen: HostLeaseSight | undefined): void {
    const silence = this.#silences.get(hostId);
    if (!seen || seen.state === 'held' || seen.state === 'none') this.#silences.delete(hostId);
    else if (seen.state === 'sealing' && silence?.session?.id !== seen.session?.id)
      this.#silences.set(hostId, { session: seen.session, failed: 0, failedAt: 0 });
  }

  #judged(host: Host, seen: HostLeaseSight | undefined): FenceHost {
    const silence = this.#silences.get(host.id);
    const { state } = host.status;
    return {
      ...this.#sighted(seen),
      hostId: host.id,
      name: host.name,
      devices: host.spec.fence?.length ?? 0,
      domain: host.labels[domainLabel] ?? '',
      // A witness carries nothing that could run twice.
      over: state === 'invited' || host.spec.role === 'witness' || isOver(host, seen?.session),
      running: this.#running.has(host.id),
      failed: silence?.failed ?? 0,
      ...(silence?.failed ? { failedAgoMs: this.#clock.monotonic() - silence.failedAt } : {}),
    };
  }

  #sighted(seen: HostLeaseSight | undefined): FenceSight {
    const { state = 'unknown', session, silentSinceAt } = seen ?? {};
    // Made from the same clock a moment ago: a clock that was set since cannot come between.
    const silentMs = silentSinceAt === undefined ? 0 : Math.max(0, this.#clock.now() - silentSinceAt);
    return { state, silentMs, ...(session ? { session } : {}) };
  }

  #sightOf(hostId: Uuid): HostLeaseSight | undefined {
    return this.#options.lease.sight().hosts.find((each) => each.hostId === hostId);
  }

  #devised(hostId: Uuid): Host {
    const host = this.#options.state.snapshot.get('host', hostId);
    if (!host) throw new VirgaError('not_found', { kind: 'host', name: hostId });
    if ((host.spec.fence ?? []).length === 0)
      throw new VirgaError('invalid_request', {
        detail: `${host.name} has no fence device: virga host set ${host.name}`,
      });
    return host;
  }

  // -------------------------------------------------------------- what is told

  #note(hostId: Uuid, attempt: FenceAttempt): void {
    this.#history.note(hostId, attempt);
    const host = this.#hosts()?.find((each) => each.id === hostId);
    if (host) void this.#tell(host, attempt);
  }

  /** An event with its evidence, when the database is there; fencing never waits for it. */
  async #tell(host: Host, attempt: FenceAttempt): Promise<void> {
    const { what, level, agent, outcome, detail, ms } = attempt;
    this.#log.info('fence device', { host: host.name, what, level, agent, outcome, detail, ms });
    const well = what === 'test' ? outcome === 'on' : outcome === 'off';
    if (what === 'test' && well) return;
    const event: NewEvent = {
      eventAt: attempt.at,
      type: what === 'test' ? 'host.fence-test' : 'host.fence',
      severity: well ? 'warning' : 'error',
      subject: { kind: 'host', id: host.id, name: host.name },
      message: well ? `${host.name} was powered off by ${agent}` : `${agent} of ${host.name}: ${outcome} (${detail})`,
      who: attempt.who,
      reason: attempt.reason,
      evidence: { level, agent, outcome, ms },
    };
    const limit = AbortSignal.timeout(tellMs);
    const late = new Promise<void>((resolve) => {
      limit.addEventListener('abort', () => resolve(), { once: true });
    });
    const told = this.#options.state
      .change(() => ({ change: { put: [], remove: [], events: [event] } }))
      .then(
        () => undefined,
        (error: unknown) => this.#log.warn('an event of fencing was not recorded', { detail: String(error) }),
      );
    await Promise.race([told, late]);
  }
}

/** Its keeper answered this controller just now. */
function isHeard(seen: HostLeaseSight | undefined): boolean {
  return seen?.state === 'held' || seen?.state === 'none';
}

/** What was proven of this session is proven; another session of the host is another matter. */
function isOver(host: Host, session: HostSession | undefined): boolean {
  const { loss } = host.status;
  return loss !== undefined && (session === undefined || loss.session.number >= session.number);
}
