/** Processes of ours that a supervisor on this machine keeps running. */
import { spawn, type ChildProcess } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { writePidOf } from './pidfile.ts';

export interface Kept {
  readonly name: string;
  /** Stops it politely, then by force after `graceMs`; never restarts it again. */
  stop(graceMs?: number): Promise<void>;
  pid(): number | undefined;
}

const firstDelayMs = 500;
const longestDelayMs = 30_000;
/** A process that ran this long is healthy: the next crash starts with the short delay again. */
const healthyMs = 60_000;

/**
 * Starts a process and starts it again with back-off when it ends by itself. Its output goes to `logFile`.
 * `onExit` hears of every end that was not asked for.
 */
export function keepRunning(
  name: string,
  argv: readonly string[],
  options: {
    readonly logFile: string;
    /** Where its pid is kept, so that it is found when this supervisor was killed. */
    readonly pidFile: string;
    readonly env?: NodeJS.ProcessEnv;
    readonly onExit: (message: string) => void;
  },
): Kept {
  let child: ChildProcess | undefined;
  let timer: NodeJS.Timeout | undefined;
  let stopping = false;
  let delayMs = firstDelayMs;

  const start = (): void => {
    const [command = '', ...args] = argv;
    const log = openSync(options.logFile, 'a', 0o640);
    const startedAt = performance.now();
    child = spawn(command, args, { stdio: ['ignore', log, log], env: { ...process.env, ...options.env } });
    closeSync(log);
    if (child.pid !== undefined) writePidOf(options.pidFile, child.pid);
    child.once('error', (error) => again(error.message));
    child.once('exit', (code, signal) => {
      if (performance.now() - startedAt > healthyMs) delayMs = firstDelayMs;
      again(signal ?? `exit code ${code}`);
    });
  };
  const again = (why: string): void => {
    child = undefined;
    if (stopping || timer) return;
    options.onExit(`${name} ended (${why}); starting it again in ${delayMs / 1000} s, see ${options.logFile}`);
    timer = setTimeout(() => {
      timer = undefined;
      start();
    }, delayMs);
    delayMs = Math.min(delayMs * 2, longestDelayMs);
  };
  start();
  return {
    name,
    pid: () => child?.pid,
    async stop(graceMs = 20_000) {
      stopping = true;
      clearTimeout(timer);
      await endChild(child, graceMs);
    },
  };
}

/** SIGTERM, then SIGKILL after `graceMs`; resolves when it is gone. */
export async function endChild(child: ChildProcess | undefined, graceMs: number): Promise<void> {
  if (!child || child.exitCode !== null || child.signalCode !== null) return;
  const gone = new Promise<void>((done) => child.once('exit', () => done()));
  child.kill('SIGTERM');
  const force = setTimeout(() => child.kill('SIGKILL'), graceMs);
  await gone;
  clearTimeout(force);
}
