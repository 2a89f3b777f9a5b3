/** One run of one PostgreSQL server process on one data folder. */
import type { ChildProcess } from 'node:child_process';
import { readdir, readFile, readlink, realpath, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client } from 'pg';
import { VirgaError } from '../../core/errors.ts';
import { type Account, spawnAs } from './account.ts';
import type { PostgresBinaries } from './binaries.ts';
import type { BoundedLog } from './bounded-log.ts';

export interface PostmasterOptions {
  readonly binaries: PostgresBinaries;
  /** The cluster's data folder. */
  readonly folder: string;
  readonly socketFolder: string;
  readonly account: Account;
  readonly log: BoundedLog;
  /** Milliseconds until it must accept connections: recovery after a crash is part of it. */
  readonly startMs: number;
}

/** Steps of a stop and the milliseconds each may take: fast (SIGINT), immediate (SIGQUIT), the end. */
const stopSteps = [
  ['SIGINT', 20_000],
  ['SIGQUIT', 5000],
  ['SIGKILL', 5000],
] as const;

const pollMs = 25;

export class Postmaster {
  readonly #child: ChildProcess;
  /** Resolves when the process has ended, with a phrase that says how. */
  readonly ended: Promise<string>;
  #running = true;

  private constructor(child: ChildProcess) {
    this.#child = child;
    this.ended = new Promise((resolve) => {
      child.once('exit', (code, signal) => resolve(signal ? `was killed by ${signal}` : `ended with code ${code}`));
      child.once('error', (error) => resolve(`could not be started: ${error.message}`));
    });
    void this.ended.then(() => {
      this.#running = false;
    });
  }

  get pid(): number {
    return this.#child.pid ?? -1;
  }

  /**
   * Ends what an earlier run left, starts the server and waits until it accepts connections.
   * @throws VirgaError setup with the last lines of its log.
   */
  static async start(options: PostmasterOptions): Promise<Postmaster> {
    await endLeftovers(options.folder);
    const child = await spawnAs(
      options.account,
      [join(options.binaries.folder, 'postgres'), '-D', options.folder, '-k', options.socketFolder],
      options.folder,
    );
    const postmaster = new Postmaster(child);
    if (child.stderr) options.log.follow(child.stderr);
    child.stdout?.resume();
    try {
      await postmaster.#accepts(options);
    } catch (error) {
      await postmaster.stop();
      throw error;
    }
    return postmaster;
  }

  async #accepts(options: PostmasterOptions): Promise<void> {
    const deadline = performance.now() + options.startMs;
    const fail = (detail: string): never => {
      const words = options.log.lastLines.slice(-8).join('\n');
      throw new VirgaError('setup', {
        detail: `The embedded PostgreSQL ${detail}${words === '' ? '' : `; it says:\n${words}`}`,
        how: `Its log is ${options.log.path}; its data is ${options.folder}.`,
      });
    };
    while (!(await answers(options.socketFolder))) {
      if (!this.#running) fail(`${await this.ended} before it was ready`);
      if (performance.now() > deadline) fail(`does not accept connections within ${options.startMs / 1000} s`);
      await sleep(pollMs);
    }
  }

  /** Fast, then immediate, then the end. Committed work is safe in each case. */
  async stop(): Promise<void> {
    for (const [signal, limitMs] of stopSteps) {
      if (!this.#running) return;
      this.#child.kill(signal);
      if (await within(this.ended, limitMs)) return;
    }
  }
}

/** Resolves to whether the promise settled in time. */
async function within(promise: Promise<unknown>, limitMs: number): Promise<boolean> {
  const timer = new AbortController();
  try {
    return await Promise.race([
      promise.then(() => true),
      sleep(limitMs, false, { signal: timer.signal }).catch(() => false),
    ]);
  } finally {
    timer.abort();
  }
}

async function answers(socketFolder: string): Promise<boolean> {
  const client = new Client({
    host: socketFolder,
    user: 'virga',
    database: 'postgres',
    connectionTimeoutMillis: 5000,
    query_timeout: 5000,
  });
  client.on('error', () => undefined);
  try {
    await client.connect();
    await client.query('SELECT 1');
    return true;
  } catch {
    return false;
  } finally {
    await client.end().catch(() => undefined);
  }
}

/**
 * Ends all that still runs on a data folder: the server of a controller that was killed, or the children that outlive
 * their killed server for a moment. The caller holds the lock of the data folder, so nobody else's server can be hit.
 *
 * PostgreSQL's processes work in their data folder, which identifies them beyond doubt; the number in postmaster.pid
 * does not, because it may belong to another process by now.
 */
export async function endLeftovers(folder: string): Promise<void> {
  const recorded = await recordedPid(folder);
  for (const [signal, limitMs] of stopSteps) {
    const there = await processesIn(folder);
    if (there.length === 0) break;
    const first = there.filter((pid) => pid === recorded);
    for (const pid of signal === 'SIGKILL' || first.length === 0 ? there : first) signalTo(pid, signal);
    const deadline = performance.now() + limitMs;
    while ((await processesIn(folder)).length > 0 && performance.now() < deadline) await sleep(pollMs);
  }
  if ((await processesIn(folder)).length > 0)
    throw new VirgaError('setup', {
      detail: `Processes of an earlier PostgreSQL on ${folder} do not end`,
      how: 'They hang in the kernel (a broken disk?): look at dmesg.',
    });
  // Nothing runs on this folder, so a number that is alive belongs to a stranger; PostgreSQL would refuse to start.
  if (recorded !== undefined) await rm(join(folder, 'postmaster.pid'), { force: true });
}

async function recordedPid(folder: string): Promise<number | undefined> {
  const text = await readFile(join(folder, 'postmaster.pid'), 'utf8').catch(() => '');
  const pid = Number.parseInt(text.split('\n')[0] ?? '', 10);
  return Number.isSafeInteger(pid) && pid > 1 ? pid : undefined;
}

async function processesIn(folder: string): Promise<readonly number[]> {
  const home = await realpath(folder);
  const found: number[] = [];
  for (const name of await readdir('/proc')) {
    if (!/^\d+$/.test(name) || Number(name) === process.pid) continue;
    const cwd = await readlink(`/proc/${name}/cwd`).catch(() => '');
    if (cwd !== home) continue;
    const program = await readlink(`/proc/${name}/exe`).catch(() => '');
    // A person's shell may stand in the folder too. An upgraded package leaves " (deleted)" behind the name.
    if (/\/(postgres|postmaster)( \(deleted\))?$/.test(program)) found.push(Number(name));
  }
  return found;
}

function signalTo(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // It has ended in the meantime.
  }
}
