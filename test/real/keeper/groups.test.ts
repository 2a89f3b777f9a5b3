/** Groups of guests on the machine's real cgroup v2 tree. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { hostGroup, sessionGroup } from '../../../src/core/ha/groups.ts';
import { VirgaError } from '../../../src/core/errors.ts';
import { eventsOf } from '../../../src/keeper/cgroup.ts';
import { hostGroups } from '../../../src/keeper/groups.ts';
import { busy, cleanHost, root, still, until } from './kit.ts';

const session = (number: number): { number: number; id: string } => ({ number, id: randomUUID() });

test('a session’s group is made frozen: who enters it does not run, and is killed whole', async (t) => {
  const hostId = randomUUID();
  cleanHost(t, hostId);
  const groups = hostGroups(hostId);
  const first = session(1);
  const guest = randomUUID();
  const child = busy(t);
  await groups.ensure(first);
  const path = await groups.make(first, guest);
  assert.equal(path, join(root, hostGroup(hostId), sessionGroup(first), guest));
  await groups.enter(first, guest, child.pid);
  await until('frozen', () => eventsOf(path)?.frozen === true);
  assert.ok(await still(child.pid));
  assert.equal(await groups.clear(first, guest), true);
  await until('gone', () => child.signalCode === 'SIGKILL');
  assert.ok(!existsSync(path));
  // A late start fails in the kernel, and says so.
  await assert.rejects(groups.enter(first, guest, process.pid), (error) => error instanceof VirgaError);
});

test('a thawed group is not frozen by looking for it again, and freeze stops it', async (t) => {
  const hostId = randomUUID();
  cleanHost(t, hostId);
  const groups = hostGroups(hostId);
  const first = session(1);
  const guest = randomUUID();
  const child = busy(t);
  await groups.ensure(first);
  const path = await groups.make(first, guest);
  await groups.enter(first, guest, child.pid);
  const freezer = join(root, hostGroup(hostId), sessionGroup(first), 'cgroup.freeze');
  writeFileSync(freezer, '0');
  await groups.ensure(first);
  await groups.make(first, guest);
  assert.equal(readFileSync(freezer, 'utf8').trim(), '0');
  assert.equal(await still(child.pid), false);
  await groups.freeze(first);
  await until('frozen', () => eventsOf(path)?.frozen === true);
  assert.ok(await still(child.pid));
});

test('the groups of other sessions are killed and removed, with what is below them; one stays', async (t) => {
  const hostId = randomUUID();
  cleanHost(t, hostId);
  const groups = hostGroups(hostId);
  const [old, kept] = [session(1), session(2)];
  const [doomed, spared] = [busy(t), busy(t)];
  for (const [each, child] of [
    [old, doomed],
    [kept, spared],
  ] as const) {
    const guest = randomUUID();
    await groups.ensure(each);
    const path = await groups.make(each, guest);
    await mkdir(join(path, 'threads'));
    await groups.enter(each, guest, child.pid);
  }
  assert.equal(await groups.clearOthers(kept), true);
  await until('killed', () => doomed.signalCode === 'SIGKILL');
  assert.ok(!existsSync(join(root, hostGroup(hostId), sessionGroup(old))));
  assert.equal(spared.signalCode, null);
  assert.equal(await groups.clearOthers(undefined), true);
  await until('killed too', () => spared.signalCode === 'SIGKILL');
});

test('ids that are no guest’s make no path', async (t) => {
  const hostId = randomUUID();
  cleanHost(t, hostId);
  const groups = hostGroups(hostId);
  await groups.ensure(session(1));
  await assert.rejects(groups.make(session(1), '../../x'), TypeError);
  await assert.rejects(groups.enter(session(1), randomUUID(), 0), TypeError);
  assert.equal(await groups.clear(session(9), randomUUID()), true);
});
