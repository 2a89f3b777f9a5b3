import { mkdir, readFile, readdir, rename, writeFile } from 'node:fs/promises';
import { randomInt } from 'node:crypto';
import { join } from 'node:path';
import { identify, type ProcessId } from './proc.ts';

/** Short on purpose: sockets below it must stay under 108 characters. */
export const testbedsDir = '/run/virga/t';

/** What is on record about a testbed, so that another process can remove it. */
export interface TestbedState {
  readonly id: string;
  readonly name: string;
  readonly owner: ProcessId;
  readonly dir: string;
  /** True when the testbed made `dir` and removes it whole; else only `hostDirs` are removed. */
  readonly ownsDir: boolean;
  readonly hostDirs: readonly string[];
  /** Processes that the rest hangs on: the switch's, each host's first, and what was started on the switch. */
  readonly processes: readonly ProcessId[];
  /** Network namespaces (as /proc/PID/ns/net shows them) that were made. */
  readonly namespaces: readonly string[];
}

export function homeOf(id: string): string {
  return join(testbedsDir, id);
}

/** The name of the switch's bridge; it also marks the namespace as this testbed's. */
export function bridgeOf(id: string): string {
  return `vg${id}`;
}

/** The bridge of the second network. */
export function secondBridgeOf(id: string): string {
  return `vs${id}`;
}

export async function writeState(state: TestbedState): Promise<void> {
  const path = join(homeOf(state.id), 'state.json');
  await writeFile(`${path}.new`, JSON.stringify(state));
  await rename(`${path}.new`, path);
}

/** Makes a home under a new id, with its state already in it when it appears under its final name. */
export async function createHome(fill: (id: string) => Omit<TestbedState, 'id' | 'owner'>): Promise<TestbedState> {
  for (let attempt = 0; attempt < 100; attempt++) {
    const id = randomInt(36 ** 5)
      .toString(36)
      .padStart(5, '0');
    const temporary = join(testbedsDir, `.${id}`);
    const state: TestbedState = { ...fill(id), id, owner: identify(process.pid) };
    try {
      await mkdir(testbedsDir, { recursive: true });
      await mkdir(temporary);
      await writeFile(join(temporary, 'state.json'), JSON.stringify(state));
      await rename(temporary, homeOf(id));
      return state;
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code;
      // Taken, or the last other testbed has just gone and taken the empty directory with it.
      if (code !== 'EEXIST' && code !== 'ENOTEMPTY' && code !== 'ENOENT') throw error;
    }
  }
  throw new Error(`no free testbed id in ${testbedsDir}`);
}

export async function readState(id: string): Promise<TestbedState | undefined> {
  const text = await readFile(join(homeOf(id), 'state.json'), 'utf8').catch(() => undefined);
  return text === undefined ? undefined : (JSON.parse(text) as TestbedState);
}

/** All testbeds on record, living or not. */
export async function listStates(): Promise<TestbedState[]> {
  const names = (await readdir(testbedsDir).catch(() => [])).filter((name) => /^[0-9a-z]{5}$/.test(name));
  const states = await Promise.all(names.map(readState));
  return states.filter((state) => state !== undefined);
}
