/**
 * Control groups (version 2) of simulated hosts: each host has a part of the tree for itself and sees it as the whole
 * one, through a cgroup namespace. What a host makes in it (groups of guests, frozen ones) would stay behind when its
 * processes die, unlike on a real machine: the testbed kills and removes it.
 */
import { existsSync } from 'node:fs';
import { mkdir, readFile, readdir, rmdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { until } from './proc.ts';

/** Where the version 2 tree is mounted: alone, or beside version 1 (hybrid). Only in a true mount is there this file. */
export function groupRoot(): string | undefined {
  return ['/sys/fs/cgroup', '/sys/fs/cgroup/unified'].find((path) => existsSync(join(path, 'cgroup.procs')));
}

/** Path of the group of a testbed's host; undefined where the kernel has no version 2 tree. */
export function hostGroup(bridge: string, host: string): string | undefined {
  const root = groupRoot();
  return root === undefined ? undefined : join(root, bridge, host);
}

export async function makeGroup(path: string): Promise<void> {
  await mkdir(path, { recursive: true });
}

/** SIGKILL to all in it and below it, at once. */
export async function killGroup(path: string): Promise<void> {
  await writeFile(join(path, 'cgroup.kill'), '1');
}

const killMs = 10_000;

/** Kills what is in the group and below it, frozen or not, and removes all of it. Nothing happens when it is not there. */
export async function removeGroup(path: string): Promise<void> {
  if (!existsSync(path)) return;
  await killGroup(path);
  const empty = await until(async () => !(await populated(path)), killMs);
  if (!empty) throw new Error(`the processes in ${path} survive cgroup.kill`);
  await removeTree(path);
}

async function populated(path: string): Promise<boolean> {
  return /^populated 1$/m.test(await readFile(join(path, 'cgroup.events'), 'utf8'));
}

async function removeTree(path: string): Promise<void> {
  for (const entry of await readdir(path, { withFileTypes: true })) {
    if (entry.isDirectory()) await removeTree(join(path, entry.name));
  }
  await rmdir(path);
}
