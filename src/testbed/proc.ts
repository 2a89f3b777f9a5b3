import { readFileSync, readdirSync, readlinkSync } from 'node:fs';

/** A process that cannot be confused with a later one of the same number. */
export interface ProcessId {
  readonly pid: number;
  /** Field 22 of /proc/PID/stat (clock ticks since boot). */
  readonly start: number;
}

/** When the process started, undefined when there is none (a zombie counts as none). */
export function startTime(pid: number): number | undefined {
  let stat: string;
  try {
    stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  } catch {
    return undefined;
  }
  // The name in parentheses may hold anything; fields are counted after the last one.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  if (fields[0] === 'Z' || fields[0] === 'X') return undefined;
  return Number(fields[19]);
}

export function identify(pid: number): ProcessId {
  const start = startTime(pid);
  if (start === undefined) throw new Error(`process ${pid} has ended`);
  return { pid, start };
}

export function alive(id: ProcessId): boolean {
  return startTime(id.pid) === id.start;
}

/** Direct children of the process's main thread. */
export function childrenOf(pid: number): number[] {
  try {
    const text = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8');
    return text.split(' ').filter(Boolean).map(Number);
  } catch {
    return [];
  }
}

/** Inode of the process's network namespace, undefined when it is gone. */
export function networkNamespace(pid: number): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/ns/net`);
  } catch {
    return undefined;
  }
}

/** Ids of all processes whose network namespace is one of these. */
export function processesIn(namespaces: ReadonlySet<string>): number[] {
  const pids = readdirSync('/proc').filter((name) => /^\d+$/.test(name));
  return pids.map(Number).filter((pid) => namespaces.has(networkNamespace(pid) ?? ''));
}

/** Asks `done` every `everyMs` until it is true; false when `limitMs` have passed first. */
export async function until(done: () => boolean | Promise<boolean>, limitMs: number, everyMs = 5): Promise<boolean> {
  const end = performance.now() + limitMs;
  for (;;) {
    if (await done()) return true;
    if (performance.now() >= end) return false;
    await new Promise((resolve) => setTimeout(resolve, everyMs));
  }
}

/** SIGKILL to each that is still itself, then waits until they are gone. Returns those that are not within 10 s. */
export async function killAll(ids: readonly ProcessId[]): Promise<ProcessId[]> {
  for (const id of ids) {
    if (!alive(id)) continue;
    try {
      process.kill(id.pid, 'SIGKILL');
    } catch {
      // It ended between the two lines: what was wanted.
    }
  }
  await until(() => !ids.some(alive), 10_000);
  return ids.filter(alive);
}
