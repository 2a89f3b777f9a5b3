/**
 * The guard as a process: it freezes the guests of its host at the deadline, whatever keeper and agent do. It imports
 * little, allocates little, and touches no disk and no network.
 */
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { VirgaError } from '../../core/errors.ts';
import { Guard, type GuardAnswer, type GuardEvent, type GuardOrder } from '../../core/ha/guard.ts';
import { profiles } from '../../core/ha/margin.ts';
import { BootTime } from '../../effects/boottime.ts';
import { policyOf, raisePriority, type Policy } from '../../effects/priority.ts';
import { cgroupRoot } from '../cgroup.ts';
import { makeRunFolder, runFolder, serveLines, type Line } from '../../effects/lines.ts';
import { bootId, groupEffects, readKept } from './effects.ts';
import { openWatchdog, type Watchdog } from './watchdog.ts';

export const guardSocket = 'guard.sock';

/** The keeper's words; the first makes the connection the one that orders, and ends every other's say. */
export type ToGuard =
  | { readonly keeper: true }
  | { readonly n: number; readonly order: GuardOrder }
  | { readonly status: true };
/** An answer without one says that it has no session, or vouches for nothing. */
export type FromGuard = { readonly n: number; readonly answer?: GuardAnswer } | { readonly status: GuardStatus };

export interface GuardStatus {
  readonly pid: number;
  readonly policy: Policy;
  readonly lagMs: number;
  readonly watchdog: boolean;
  readonly session?: { readonly number: number; readonly id: string };
  /** Milliseconds until the deadline; negative: past. */
  readonly leftMs?: number;
  readonly frozen?: boolean;
}

export interface GuardOptions {
  readonly hostId: string;
  /** Milliseconds from a lapse to the end of guests that hold locks on shared storage. */
  readonly graceMs: number;
  /** Path of a hardware watchdog; absent: none is opened. */
  readonly watchdog?: string;
  readonly signal: AbortSignal;
  /** One line of JSON per event. */
  readonly tell: (event: Readonly<Record<string, unknown>>) => void;
  /** Root of the cgroup v2 tree, where it is not the usual one. */
  readonly root?: string;
  /** Folder of socket and deadline, where it is not the usual one. */
  readonly folder?: string;
}

/** Looks at least this often, whatever bound the keeper names, milliseconds: half of the smallest usual bound. */
const slowestLookMs = profiles.fast.boundMs / 2;

/**
 * Runs until the signal. Where no keeper is connected that could stand behind, everything is frozen then: the next guard
 * thaws it in milliseconds if the lease still holds.
 * @throws VirgaError setup
 */
export async function runGuard(options: GuardOptions): Promise<void> {
  const root = options.root ?? cgroupRoot();
  if (root === undefined)
    throw new VirgaError('setup', {
      detail: 'This machine has no cgroup v2 tree, so guests cannot be frozen',
      how: 'Boot with systemd.unified_cgroup_hierarchy=1, or mount cgroup2 at /sys/fs/cgroup/unified.',
    });
  const folder = options.folder ?? runFolder(options.hostId);
  await makeRunFolder(folder);
  const policy = raisePriority();
  spareFromOom();
  const clock = new BootTime();
  const effects = groupEffects({ root, hostId: options.hostId, folder, now: () => clock.now() });
  const tell = (event: GuardEvent): void => options.tell({ msg: `guard: ${event.what}`, ...event, at: clock.now() });
  // Until the keeper names its bound: the strictest usual one.
  const settings = { boundMs: profiles.fast.boundMs, graceMs: options.graceMs };
  const guard = new Guard(effects, settings, readKept(folder, bootId()), tell);
  const watchdog = options.watchdog === undefined ? undefined : openWatchdog(options.watchdog);
  const running = new GuardProcess(guard, clock, options.tell, policy, watchdog);
  const server = await serveLines(join(folder, guardSocket), (line) => running.client(line));
  writeFileSync(join(folder, 'guard.pid'), String(process.pid), { mode: 0o600 });
  options.tell({ msg: 'guard runs', policy, watchdog: watchdog !== undefined });
  running.look();
  await new Promise<void>((done) => {
    if (options.signal.aborted) done();
    else options.signal.addEventListener('abort', () => done(), { once: true });
  });
  if (!running.hasKeeper) for (const group of effects.groups()) effects.freeze(group);
  running.stop();
  watchdog?.close();
  await server.close();
  rmSync(join(folder, 'guard.pid'), { force: true });
}

/** The last that the kernel should end when memory is short: guests must not outlive it for long. */
function spareFromOom(): void {
  try {
    writeFileSync('/proc/self/oom_score_adj', '-1000');
  } catch {
    // Not permitted in some containers.
  }
}

class GuardProcess {
  readonly #guard: Guard;
  readonly #clock: BootTime;
  readonly #tell: (event: Readonly<Record<string, unknown>>) => void;
  readonly #policy: Policy;
  readonly #watchdog: Watchdog | undefined;
  #keeper: Line | undefined;
  #timer: NodeJS.Timeout | undefined;
  #armedFor = Number.POSITIVE_INFINITY;
  #stopped = false;
  #failure = '';

  constructor(
    guard: Guard,
    clock: BootTime,
    tell: (event: Readonly<Record<string, unknown>>) => void,
    policy: Policy,
    watchdog: Watchdog | undefined,
  ) {
    this.#guard = guard;
    this.#clock = clock;
    this.#tell = tell;
    this.#policy = policy;
    this.#watchdog = watchdog;
  }

  /** A keeper is there, which freezes when nobody else does. */
  get hasKeeper(): boolean {
    return this.#keeper !== undefined;
  }

  /** One look at clock and freezers. */
  look(): void {
    if (this.#stopped) return;
    const done = this.#try(() => this.#guard.check());
    if (done && this.#sound()) this.#watchdog?.feed();
    this.#arm();
  }

  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
  }

  client(line: Line): { readonly line: (value: unknown) => void; readonly gone: () => void } {
    return {
      line: (value) => this.#heard(line, value as Partial<Record<'keeper' | 'n' | 'order' | 'status', unknown>>),
      gone: () => {
        if (this.#keeper === line) this.#keeper = undefined;
      },
    };
  }

  /** What should stand still does. The watchdog bites when it does not, for as long as it is not. */
  #sound(): boolean {
    const state = this.#guard.state();
    return state === undefined || state.frozen || this.#clock.now() < state.deadline;
  }

  #try(work: () => void): boolean {
    try {
      work();
      this.#failure = '';
      return true;
    } catch (error) {
      const failure = String(error);
      if (failure !== this.#failure) this.#tell({ msg: 'guard: failed', error: failure });
      this.#failure = failure;
      return false;
    }
  }

  #arm(): void {
    const now = this.#clock.now();
    const due = Math.min(this.#guard.due, now + slowestLookMs);
    if (this.#armedFor <= due && this.#armedFor > now) return;
    clearTimeout(this.#timer);
    this.#armedFor = due;
    this.#timer = setTimeout(
      () => {
        this.#armedFor = Number.POSITIVE_INFINITY;
        this.look();
      },
      Math.max(1, Math.ceil(due - now)),
    );
  }

  #heard(line: Line, value: Partial<Record<'keeper' | 'n' | 'order' | 'status', unknown>>): void {
    if (value.keeper === true) {
      // What an earlier keeper still has in its pipe must not come after what this one says.
      if (this.#keeper !== line) this.#keeper?.end();
      this.#keeper = line;
      // A restarted keeper learns at once until when its guests run.
      const answer = this.#guard.answer();
      line.send({ n: 0, ...(answer ? { answer } : {}) } satisfies FromGuard);
    } else if (value.status === true) line.send({ status: this.#status() } satisfies FromGuard);
    else if (this.#keeper === line && typeof value.n === 'number' && isOrder(value.order))
      this.#order(line, value.n, value.order);
    else line.end();
  }

  #order(line: Line, n: number, order: GuardOrder): void {
    this.#try(() => {
      const answer = this.#guard.order(order);
      if (answer) line.send({ n, answer } satisfies FromGuard);
    });
    this.#arm();
  }

  #status(): GuardStatus {
    const state = this.#guard.state();
    return {
      pid: process.pid,
      policy: this.#policy === 'fifo' ? policyOf() : this.#policy,
      lagMs: this.#guard.lagMs,
      watchdog: this.#watchdog !== undefined,
      ...(state ? { session: state.session, leftMs: state.deadline - this.#clock.now(), frozen: state.frozen } : {}),
    };
  }
}

function isOrder(value: unknown): value is GuardOrder {
  const { session, deadline, force } = (value ?? {}) as Partial<GuardOrder>;
  return (
    typeof session?.number === 'number' &&
    typeof session.id === 'string' &&
    typeof deadline === 'number' &&
    typeof force === 'boolean'
  );
}
