/** What the tests of groups, guard and keeper share. */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { hostGroup } from '../../../src/core/ha/groups.ts';
import { runFolder } from '../../../src/effects/lines.ts';
import { cgroupRoot, killAndRemove } from '../../../src/keeper/cgroup.ts';

export const root = cgroupRoot() ?? '';

/** Waits for a condition, at most `limitMs`. */
export async function until(what: string, condition: () => boolean | Promise<boolean>, limitMs = 5000): Promise<void> {
  const limit = performance.now() + limitMs;
  while (!(await condition())) {
    if (performance.now() > limit) throw new Error(`not within ${limitMs} ms: ${what}`);
    await new Promise((done) => setTimeout(done, 2));
  }
}

/** A host's groups and run folder are removed after the test, whatever happened. */
export function cleanHost(t: TestContext, hostId: string): void {
  t.after(async () => {
    await killAndRemove(join(root, hostGroup(hostId)), 2000);
    await rm(runFolder(hostId), { recursive: true, force: true });
  });
}

/** A process that does nothing but use a processor; ended after the test. */
export function busy(t: TestContext): ChildProcess & { readonly pid: number } {
  const child = spawn('/bin/sh', ['-c', 'while :; do :; done'], { stdio: 'ignore' });
  t.after(async () => ended(child));
  if (child.pid === undefined) throw new Error('no process');
  return child as ChildProcess & { readonly pid: number };
}

/** SIGKILL by its id, and wait. */
export async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = once(child, 'exit');
  child.kill('SIGKILL');
  await gone;
}

/** Processor time that a process has used, clock ticks (proc(5), utime + stime); undefined: it is gone. */
export function ticks(pid: number): number | undefined {
  if (!existsSync(`/proc/${pid}/stat`)) return undefined;
  const fields = readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ').at(-1)?.split(' ') ?? [];
  return Number(fields[11]) + Number(fields[12]);
}

/** True when the process uses no processor time while another one's timer passes `ms`. */
export async function still(pid: number, ms = 150): Promise<boolean> {
  const before = ticks(pid);
  await new Promise((done) => setTimeout(done, ms));
  return ticks(pid) === before;
}
