import { readFileSync, writeFileSync } from 'node:fs';
import { mkdir, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { writeDurably } from '../effects/files.ts';

/** Start of a process in clock ticks since boot, field 22 of /proc/PID/stat; pids are used again, starts are not. */
function startOf(pid: number): string | undefined {
  try {
    return readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').at(-1)?.split(' ')[19];
  } catch {
    return undefined;
  }
}

/** The living process that wrote the file, if any. */
export function livingPid(path: string): number | undefined {
  try {
    const [pid, start] = readFileSync(path, 'utf8').trim().split(' ');
    return pid !== undefined && startOf(Number(pid)) === start ? Number(pid) : undefined;
  } catch {
    return undefined;
  }
}

export async function writePid(path: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  await writeDurably(path, `${process.pid} ${startOf(process.pid)}\n`, 0o644);
}

/** Says who a process is that was just started. Not durable: it lies in /run, and is about this boot only. */
export function writePidOf(path: string, pid: number): void {
  writeFileSync(path, `${pid} ${startOf(pid)}\n`, { mode: 0o644 });
}

export async function removePid(path: string): Promise<void> {
  await rm(path, { force: true });
}
