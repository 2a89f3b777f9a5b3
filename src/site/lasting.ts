/**
 * Keeper and guard of this machine: they hold the lease of the guests that run, so they outlive the `up` that started
 * them. The next one finds them by their pid files and goes on tending to them; only `down --guests` ends them.
 */
import { spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { partFile, selfArgv } from './paths.ts';
import { livingPid, removePid, writePidOf } from './pidfile.ts';
import { until } from './ready.ts';

/** The guard first: a keeper asks for no lease without one. */
export const lastingParts = ['guard', 'keeper'] as const;
export type LastingPart = (typeof lastingParts)[number];

/** Milliseconds between two looks. A keeper that died costs its guests a pause if nobody starts it within the lease. */
const lookMs = 250;
const longestDelayMs = 30_000;
/** A process that ran this long is healthy: the next crash starts with the short delay again. */
const healthyMs = 60_000;

export interface Tended {
  readonly found: boolean;
  /** Lets it run on without us. */
  leave(): void;
}

export interface LastingOptions {
  /** The agent's data folder. */
  readonly agentDir: string;
  readonly logFile: string;
  readonly onExit: (message: string) => void;
}

function start(part: LastingPart, { agentDir, logFile, onExit }: LastingOptions): void {
  const [command = '', ...args] = selfArgv(part, 'run', '--data', agentDir);
  const log = openSync(logFile, 'a', 0o640);
  // A session of its own: Ctrl-C at the terminal of `up` must not reach it.
  const child = spawn(command, args, { stdio: ['ignore', log, log], detached: true });
  closeSync(log);
  child.once('error', (error) => onExit(`${part} could not be started: ${error.message}`));
  if (child.pid !== undefined) writePidOf(partFile(part), child.pid);
  child.unref();
}

/** Finds the part running or starts it, and starts it again with back-off when it ends. */
export function tend(part: LastingPart, options: LastingOptions): Tended {
  const found = livingPid(partFile(part)) !== undefined;
  let startedAt = performance.now();
  let delayMs = lookMs;
  let dueAt: number | undefined;
  if (!found) start(part, options);
  const look = (): void => {
    const now = performance.now();
    if (livingPid(partFile(part)) !== undefined) return;
    if (dueAt === undefined) {
      if (now - startedAt > healthyMs) delayMs = lookMs;
      dueAt = now + delayMs - lookMs;
      delayMs = Math.min(delayMs * 2, longestDelayMs);
      options.onExit(`the ${part} ended; starting it again, see ${options.logFile}`);
    }
    if (now < dueAt) return;
    dueAt = undefined;
    startedAt = now;
    start(part, options);
  };
  const timer = setInterval(look, lookMs);
  return { found, leave: () => clearInterval(timer) };
}

/** Ends them, the keeper first. Only when no guest needs the lease any more. Gives the names of those that ran. */
export async function endLasting(): Promise<string[]> {
  const ended: string[] = [];
  for (const part of lastingParts.toReversed()) {
    const pid = livingPid(partFile(part));
    if (pid !== undefined) {
      process.kill(pid, 'SIGTERM');
      await until(`the ${part} to stop`, 30_000, () =>
        Promise.resolve(livingPid(partFile(part)) === undefined ? true : undefined),
      );
      ended.push(part);
    }
    await removePid(partFile(part));
  }
  return ended;
}
