/** Two hosts and a witness as real processes: leases, lapses and what becomes of a guest's process meanwhile. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { profiles } from '../../../src/core/ha/margin.ts';
import { runFolder } from '../../../src/effects/lines.ts';
import { eventsOf } from '../../../src/keeper/cgroup.ts';
import { guardStatus } from '../../../src/keeper/guard/client.ts';
import { busy, ended, still, until } from './kit.ts';
import { keeperSite, type TestKeeper } from './site.ts';

const { lengthMs, boundMs } = profiles.default;

const stateOf = async ({ door }: TestKeeper): Promise<string> =>
  door.state().then(
    ({ lease }) => lease.state,
    () => 'away',
  );
const frozen = (group: string) => (): boolean => eventsOf(group)?.frozen === true;

test('a lease is held by a majority; a guest’s process lives and stands still with it', async (t) => {
  const { keepers } = await keeperSite(t, ['keeper', 'keeper', 'witness']);
  const [host, other, witness] = keepers;
  assert.ok(host && other && witness);
  await until(
    'both hosts hold their lease',
    async () => (await stateOf(host)) === 'held' && (await stateOf(other)) === 'held',
    15_000,
  );
  assert.equal(await stateOf(witness), 'none');
  const { session, lease } = await host.door.state();
  assert.deepEqual(lease.addresses, [host.address]);
  assert.ok(lease.leftMs > 0 && lease.leftMs <= lengthMs);

  // A guest's process enters, and runs.
  const guestId = randomUUID();
  const { pid } = busy(t);
  const registered = await host.door.register({ guestId, generation: 1, epoch: 1, session });
  assert.ok(registered.ok, JSON.stringify(registered));
  await host.door.enter(guestId, pid);
  assert.equal(await still(pid), false);

  // The keeper dies: its guard lets the guest run to the deadline only; the next keeper goes on in the same session.
  await ended(host.process());
  await until('frozen', frozen(registered.group), lengthMs + boundMs + 1000);
  await host.start();
  await until('held again', async () => (await stateOf(host)) === 'held');
  await until('thawed', () => !frozen(registered.group)());
  const again = await host.door.state();
  assert.deepEqual(again.session, session);
  assert.deepEqual(again.entries, [{ guestId, generation: 1, epoch: 1 }]);

  // Both other voters hang: no majority, a pause; they go on, and so does the guest.
  other.process().kill('SIGSTOP');
  witness.process().kill('SIGSTOP');
  await until('lapsed', async () => (await stateOf(host)) === 'lapsed', 5000);
  await until('frozen', frozen(registered.group), boundMs + 100);
  assert.ok(await still(pid));
  const late = await host.door.register({ guestId: randomUUID(), generation: 1, epoch: 1, session });
  assert.equal(late.ok ? 'ok' : late.why, 'lapsed');
  other.process().kill('SIGCONT');
  witness.process().kill('SIGCONT');
  await until('held', async () => (await stateOf(host)) === 'held');
  await until('thawed', () => !frozen(registered.group)());
  assert.deepEqual((await host.door.state()).session, session);

  // Its guard dies: another one comes, and the lease with it.
  const before = await guardStatus(runFolder(host.id));
  process.kill(before?.pid ?? 0, 'SIGKILL');
  await until(
    'another guard',
    async () => ((await guardStatus(runFolder(host.id), 200))?.pid ?? before?.pid) !== before?.pid,
    15_000,
  );
  await until('held', async () => (await stateOf(host)) === 'held');
  await until('thawed', () => !frozen(registered.group)());

  await host.door.clear(guestId);
  assert.ok(!existsSync(registered.group));
  assert.deepEqual((await host.door.state()).entries, []);
});

test('a planned restart is no pause; a planned power-off ends the session', async (t) => {
  const { keepers } = await keeperSite(t, ['keeper', 'keeper', 'witness']);
  const [host] = keepers;
  assert.ok(host);
  await until('held', async () => (await stateOf(host)) === 'held', 15_000);
  const { session } = await host.door.state();
  const guestId = randomUUID();
  const child = busy(t);
  const registered = await host.door.register({ guestId, generation: 1, epoch: 1, session });
  assert.ok(registered.ok);
  await host.door.enter(guestId, child.pid);
  let pauses = 0;
  const watch = setInterval(() => {
    if (frozen(registered.group)()) pauses += 1;
  }, 5);
  t.after(() => clearInterval(watch));
  const old = host.process();
  old.kill('SIGTERM');
  await until('ended', () => old.exitCode === 0, 10_000);
  await host.start();
  await until('held again', async () => (await stateOf(host)) === 'held');
  clearInterval(watch);
  assert.equal(pauses, 0);

  await host.door.leave('poweroff');
  await until('the guest is gone', () => child.signalCode === 'SIGKILL');
  assert.ok(!existsSync(registered.group));
  const refused = await host.door.register({ guestId, generation: 2, epoch: 1, session });
  assert.equal(refused.ok, false);
});

test('one keeper per host; it and its guard are small and in front of the queue', async (t) => {
  const { keepers } = await keeperSite(t, ['keeper']);
  const [host] = keepers;
  assert.ok(host);
  await until('held', async () => (await stateOf(host)) === 'held', 15_000);
  const first = host.process();
  await host.start();
  const second = host.process();
  await until('the second ends', () => second.exitCode !== null, 10_000);
  t.after(async () => ended(first));
  assert.equal(second.exitCode, 1);
  assert.equal(await stateOf(host), 'held');
  const guard = await guardStatus(runFolder(host.id));
  for (const pid of [first.pid ?? 0, guard?.pid ?? 0]) {
    const status = readFileSync(`/proc/${pid}/status`, 'utf8');
    t.diagnostic(
      `${pid}: ${/VmRSS:\s+(\d+ kB)/.exec(status)?.[1]}, ${/RssAnon:\s+(\d+ kB)/.exec(status)?.[1]} of its own`,
    );
  }
  assert.ok((guard?.lagMs ?? 1e9) < boundMs / 2);
});
