/** Control groups, version 2, by their files (kernel documentation: admin-guide/cgroup-v2). */
import { existsSync, readFileSync } from 'node:fs';
import { readdir, readFile, rmdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { errno, missing } from '../effects/disk.ts';

/** Where the v2 tree is: alone, or beside v1 (hybrid). */
const mounts = ['/sys/fs/cgroup', '/sys/fs/cgroup/unified'];

/** The root of the v2 tree; undefined: this machine has none (or a kernel before 5.14, which cannot kill a group). */
export function cgroupRoot(): string | undefined {
  return mounts.find((each) => existsSync(join(each, 'cgroup.controllers')));
}

/** Processes that are gone, and groups that others removed meanwhile, are no failure. */
const harmless = new Set(['ENOENT', 'ENODEV']);

/** Writes one word to a file of a group. False: the group is gone. */
export async function tell(group: string, file: string, word: string): Promise<boolean> {
  try {
    await writeFile(join(group, file), word);
    return true;
  } catch (error) {
    if (harmless.has(errno(error) ?? '')) return false;
    throw error;
  }
}

/** `populated` and `frozen` of `cgroup.events`; undefined: there is no such group. */
export function eventsOf(group: string): { readonly populated: boolean; readonly frozen: boolean } | undefined {
  try {
    const text = readFileSync(join(group, 'cgroup.events'), 'latin1');
    return { populated: text.includes('populated 1'), frozen: text.includes('frozen 1') };
  } catch (error) {
    if (harmless.has(errno(error) ?? '')) return undefined;
    throw error;
  }
}

export async function subgroups(group: string): Promise<readonly string[]> {
  try {
    const entries = await readdir(group, { withFileTypes: true });
    return entries.filter((each) => each.isDirectory()).map(({ name }) => name);
  } catch (error) {
    if (missing(error)) return [];
    throw error;
  }
}

async function removeTree(group: string): Promise<void> {
  for (const name of await subgroups(group)) await removeTree(join(group, name));
  await rmdir(group).catch((error: unknown) => {
    if (!missing(error)) throw error;
  });
}

/** Milliseconds between two looks whether a killed group is empty, first and longest. */
const firstLookMs = 1;
const longestLookMs = 50;

/**
 * Kills everything in the group and below, frozen or not, and removes it. False: after `limitMs` something in it still
 * lives (uninterruptible sleep); the group stays.
 */
export async function killAndRemove(group: string, limitMs: number): Promise<boolean> {
  if (!(await tell(group, 'cgroup.kill', '1'))) return true;
  const until = performance.now() + limitMs;
  for (let lookMs = firstLookMs; ; lookMs = Math.min(lookMs * 2, longestLookMs)) {
    const events = eventsOf(group);
    if (!events) return true;
    if (!events.populated && (await removed(group))) return true;
    if (performance.now() >= until) return false;
    // Who came after the kill (a fork that was under way, a late start) is killed as well.
    await tell(group, 'cgroup.kill', '1');
    await sleep(lookMs);
  }
}

/** False: busy, somebody entered meanwhile. */
async function removed(group: string): Promise<boolean> {
  try {
    await removeTree(group);
    return true;
  } catch (error) {
    if (errno(error) === 'EBUSY' || errno(error) === 'ENOTEMPTY') return false;
    throw error;
  }
}

/** Process ids in the group itself and below. */
export async function processesOf(group: string): Promise<readonly number[]> {
  const text = await readFile(join(group, 'cgroup.procs'), 'latin1').catch(() => '');
  const own = text
    .split('\n')
    .filter((line) => line !== '')
    .map(Number);
  const below = await Promise.all((await subgroups(group)).map(async (name) => processesOf(join(group, name))));
  return [...own, ...below.flat()];
}
