/** One guard per host runs for as long as the keeper does, and longer: it outlives the keeper's death and its upgrade. */
import { spawn } from 'node:child_process';
import { closeSync, mkdirSync, openSync, readFileSync, statSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import type { Log } from '../../ports.ts';
import type { GuardClient } from './client.ts';

/** Milliseconds between two looks whether there is one. */
const lookEveryMs = 100;
/** Milliseconds without one before another is started: a supervisor may be quicker. */
const missingMs = 1000;
/** The same when the keeper starts. */
const missingFirstMs = 300;
/** A started one takes this long to answer, milliseconds. */
const startingMs = 3000;
/** Milliseconds without an answer, although somebody listens, before that one is ended and replaced. */
const hungMs = 30_000;
const maxLogBytes = 1024 * 1024;

export interface GuardKeeping {
  close(): void;
}

export interface KeepOptions {
  /** How the guard of this host is started. */
  readonly argv: readonly string[];
  readonly env: NodeJS.ProcessEnv;
  /** Folder of socket and pid. */
  readonly folder: string;
  readonly logFile: string;
  readonly client: GuardClient;
  /** Boot-time clock, milliseconds. */
  readonly now: () => number;
  readonly log: Log;
}

export function keepGuard(options: KeepOptions): GuardKeeping {
  const { client, log, now } = options;
  const began = now();
  let wellAt = began;
  let notBefore = began + missingFirstMs;
  const look = (): void => {
    const at = now();
    if (client.connected()) {
      notBefore = at + missingMs;
      if (client.alive()) wellAt = at;
      if (at - wellAt < hungMs) return;
      endHung(options.folder, log);
    } else if (at < notBefore) return;
    wellAt = at;
    notBefore = at + startingMs;
    log.warn('no guard answers; starting one');
    start(options);
  };
  const timer = setInterval(() => {
    try {
      look();
    } catch (error) {
      log.error('the guard cannot be started', { error: String(error) });
    }
  }, lookEveryMs);
  return { close: () => clearInterval(timer) };
}

function start({ argv, env, logFile, log }: KeepOptions): void {
  const [program = '', ...args] = argv;
  mkdirSync(join(logFile, '..'), { recursive: true, mode: 0o700 });
  const output = openSync(logFile, 'a', 0o600);
  if (statSync(logFile).size > maxLogBytes) truncateSync(logFile);
  try {
    const child = spawn(program, args, { detached: true, stdio: ['ignore', output, output], env });
    child.once('error', (error) => log.error('the guard cannot be started', { error: error.message }));
    child.unref();
  } finally {
    closeSync(output);
  }
}

/** The process that the pid file names, when it is a guard still. */
function endHung(folder: string, log: Log): void {
  try {
    const pid = Number(readFileSync(join(folder, 'guard.pid'), 'utf8'));
    const words = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
    if (!Number.isInteger(pid) || pid < 2 || !words.includes('guard')) return;
    log.error('the guard hangs and is ended', { pid });
    process.kill(pid, 'SIGKILL');
  } catch (error) {
    log.warn('the guard that hangs cannot be ended', { error: String(error) });
  }
}
