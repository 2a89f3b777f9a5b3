import { spawn, type ChildProcess } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { CommandError, execute, type CommandResult } from '../setup/command.ts';
import { childrenOf, until } from './proc.ts';
import type { ExecOptions, ExecResult, SpawnOptions, TestbedProcess } from './types.ts';

/** Where a command runs: all namespaces of a host, or only the switch's network. */
export interface Place {
  readonly kind: 'host' | 'switch';
  /** First process of it, as seen from outside. */
  readonly pid: number;
  /** Control group that what is started there belongs to (hosts, where the kernel has version 2). */
  readonly group?: string;
}

const path = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
const tied = ['setpriv', '--pdeathsig', 'KILL'];

/** The vector that joins the control group and becomes `argv`, under the same process id. */
export function inGroup(group: string | undefined, argv: readonly string[]): string[] {
  if (group === undefined) return [...argv];
  return ['sh', '-c', 'echo 0 > "$0/cgroup.procs" && exec "$@"', group, ...argv];
}

/** The vector that enters the place and runs `argv` there, tied to the life of the process that starts it. */
export function enterArgv(place: Place, argv: readonly string[]): string[] {
  if (place.kind === 'switch') return ['nsenter', `--net=/proc/${place.pid}/ns/net`, '--', ...argv];
  const spaces = ['-m', '-u', '-p', '-n', ...(place.group === undefined ? [] : ['-C'])];
  return inGroup(place.group, ['nsenter', '-t', `${place.pid}`, ...spaces, '--', ...tied, ...argv]);
}

/** See `TestbedHost.exec`. */
export async function execIn(place: Place, argv: readonly string[], options: ExecOptions = {}): Promise<ExecResult> {
  const limit = options.timeoutMs ?? 30_000;
  // timeout(1) inside the place ends the whole process group; the outer limit is for an nsenter that hangs.
  const inner = ['timeout', '-s', 'KILL', (limit / 1000).toFixed(3), ...argv];
  const started = performance.now();
  const result: CommandResult = await execute([...tied, ...enterArgv(place, inner)], {
    timeoutMs: limit + 2_000,
    env: { PATH: `${process.env['PATH'] ?? ''}:${path}`, ...options.env },
    ...(options.input === undefined ? {} : { input: options.input }),
  });
  const late = result.code === 137 && performance.now() - started >= limit;
  return late ? { ...result, code: 124 } : result;
}

/** `execIn` that throws when the command fails. */
export async function runIn(place: Place, argv: readonly string[], options: ExecOptions = {}): Promise<string> {
  const result = await execIn(place, argv, options);
  if (result.code !== 0) throw new CommandError(argv, result);
  return result.stdout;
}

/** See `TestbedHost.spawn`. */
export async function spawnIn(
  place: Place,
  argv: readonly string[],
  options: SpawnOptions = {},
): Promise<TestbedProcess> {
  const output = options.output ?? 'pipe';
  const file = typeof output === 'object' ? openSync(output.file, 'a') : undefined;
  const sink = file ?? (output as 'pipe' | 'ignore');
  const inner = options.cwd === undefined ? argv : ['env', '-C', options.cwd, ...argv];
  const [program, ...args] = [...tied, ...enterArgv(place, inner)];
  const child = spawn(program ?? '', args, {
    stdio: ['pipe', sink, sink],
    // A session of its own: Ctrl-C at the terminal goes to the opener, which then ends the rest in order.
    detached: true,
    env: { ...process.env, PATH: `${process.env['PATH'] ?? ''}:${path}`, ...options.env },
  });
  if (file !== undefined) closeSync(file);
  child.stdin?.on('error', () => undefined);
  const exited = new Promise<{ code: number | null; signal: string | null }>((resolve) => {
    child.once('exit', (code, signal) => resolve({ code, signal }));
    child.once('error', () => resolve({ code: 127, signal: null }));
  });
  const pid = await innerPid(place, child);
  const outer = child.pid ?? pid;
  if (child.stdin === null) throw new Error('no standard input');
  return {
    pid,
    stdout: child.stdout ?? undefined,
    stderr: child.stderr ?? undefined,
    stdin: child.stdin,
    exited,
    kill: (signal = 'SIGTERM') => {
      // While nsenter has not ended it has not reaped the process, so the number still means the same.
      if (child.exitCode !== null || child.signalCode !== null) return false;
      try {
        process.kill(pid, signal);
        // In a host nsenter waits for it, and stops with it: stopped, it would never tell of the end.
        if (pid !== outer && (signal === 'SIGCONT' || signal === 'SIGKILL')) process.kill(outer, 'SIGCONT');
        return true;
      } catch {
        return false;
      }
    },
  };
}

/** On the switch nsenter becomes the program; in a host (another pid namespace) the program is its child. */
async function innerPid(place: Place, child: ChildProcess): Promise<number> {
  const outer = child.pid;
  if (outer === undefined) throw new Error('cannot start nsenter or setpriv (package util-linux)');
  if (place.kind === 'switch') return outer;
  let pid: number | undefined;
  await until(() => {
    pid = childrenOf(outer)[0];
    return pid !== undefined || child.exitCode !== null || child.signalCode !== null;
  }, 10_000);
  // A program that has ended already: no number, and `exited` says how.
  return pid ?? outer;
}

/** A long-lived first process of a host or the switch. Does not keep this program running by itself. */
export interface Held {
  readonly pid: number;
  running(): boolean;
  /** The first child (for `unshare --fork`); throws when there is none. */
  childPid(): number;
  /** Waits until it has ended; throws after `limitMs`. */
  ended(limitMs: number): Promise<void>;
}

/** Starts one and waits for its line "ready"; throws with what it said on standard error when that does not come. */
export async function spawnHeld(argv: readonly string[], what: string): Promise<Held> {
  const [program, ...args] = [...tied, ...argv];
  const child = spawn(program ?? '', args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
    env: { ...process.env, PATH: `${process.env['PATH'] ?? ''}:${path}` },
  });
  let words = '';
  let ready = false;
  child.stdout.on('data', (chunk: Buffer) => {
    ready ||= chunk.toString().includes('ready');
  });
  child.stderr.on('data', (chunk: Buffer) => {
    words = (words + chunk.toString()).slice(-2_000);
  });
  child.on('error', (error) => {
    words += error.message;
  });
  const running = (): boolean => child.pid !== undefined && child.exitCode === null && child.signalCode === null;
  await until(() => ready || !running(), 20_000);
  if (!ready || child.pid === undefined) {
    child.kill('SIGKILL');
    throw new Error(`${what} did not start: ${words.trim() || 'it said nothing in 20 s'}`);
  }
  child.stdout.destroy();
  child.stderr.destroy();
  child.unref();
  const pid = child.pid;
  return {
    pid,
    running,
    childPid: () => {
      const first = childrenOf(pid)[0];
      if (first === undefined) throw new Error(`${what} has ended`);
      return first;
    },
    ended: async (limitMs) => {
      if (!(await until(() => !running(), limitMs))) throw new Error(`${what} (process ${pid}) does not end`);
    },
  };
}
