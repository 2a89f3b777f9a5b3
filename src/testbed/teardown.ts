import { existsSync } from 'node:fs';
import { readdir, rm, rmdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { execute } from '../setup/command.ts';
import { groupRoot, removeGroup } from './groups.ts';
import { alive, identify, killAll, processesIn, type ProcessId } from './proc.ts';
import { bridgeOf, homeOf, listStates, testbedsDir, type TestbedState } from './state.ts';

/** Removes what a testbed left: processes, then control groups, then files. Any number of times, by any process. */
export async function tearDown(state: TestbedState): Promise<void> {
  const left = [...(await killAll(state.processes)), ...(await killStragglers(state))];
  const root = groupRoot();
  if (root !== undefined) await removeGroup(join(root, bridgeOf(state.id)));
  const paths = state.ownsDir ? [state.dir] : state.hostDirs;
  for (const path of paths) await rm(path, { recursive: true, force: true, maxRetries: 3 });
  if (left.length > 0) {
    // The record stays, so that the next clean-up tries again.
    throw new Error(`testbed ${state.name}: processes ${left.map((id) => id.pid).join(', ')} survive SIGKILL`);
  }
  await rm(homeOf(state.id), { recursive: true, force: true, maxRetries: 3 });
}

/**
 * What somebody started on the switch's network by hand (`nsenter --net=…`) or what daemonized there. The kernel
 * gives numbers of namespaces again, so a number alone proves nothing: the namespace must also hold our bridge.
 */
async function killStragglers(state: TestbedState): Promise<ProcessId[]> {
  const found: ProcessId[] = [];
  for (const pid of processesIn(new Set(state.namespaces))) {
    try {
      const id = identify(pid);
      const probe = ['nsenter', `--net=/proc/${pid}/ns/net`, 'ip', '-o', 'link', 'show', 'dev', bridgeOf(state.id)];
      const { code } = await execute(probe, { timeoutMs: 5_000 });
      if (code === 0 && alive(id)) found.push(id);
    } catch {
      // It ended while it was looked at.
    }
  }
  return killAll(found);
}

/**
 * Removes the testbeds whose opener is dead. Returns their names.
 * Called at each opening; call it by hand after a crash when none follows.
 */
export async function cleanStale(): Promise<string[]> {
  const names: string[] = [];
  for (const state of await listStates()) {
    if (alive(state.owner)) continue;
    await tearDown(state);
    names.push(state.name);
  }
  await removeUnfinished();
  return names;
}

/** A home whose opener died before its state was in place; nothing else can exist for it yet. */
async function removeUnfinished(): Promise<void> {
  for (const name of await readdir(testbedsDir).catch(() => [])) {
    const path = join(testbedsDir, name);
    const age = await stat(path).then(
      (found) => Date.now() - found.mtimeMs,
      () => 0,
    );
    const unfinished = name.startsWith('.') || !existsSync(join(path, 'state.json'));
    if (unfinished && age > 60_000) await rm(path, { recursive: true, force: true });
  }
  // Leaves nothing behind when the last one is gone; fails, as it should, when one is there.
  await rmdir(testbedsDir).catch(() => undefined);
}

/** Ends the testbed of that name, whoever opened it. False when there is none. */
export async function closeByName(name: string): Promise<boolean> {
  const state = (await listStates()).find((entry) => entry.name === name);
  if (state === undefined) return false;
  await tearDown(state);
  await rmdir(testbedsDir).catch(() => undefined);
  return true;
}
