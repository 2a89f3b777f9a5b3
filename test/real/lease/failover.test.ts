/**
 * A host dies: its guests go on elsewhere, once. And what must not be taken for a death: agents and controllers that are
 * gone, a clock that is set back, datagrams of somebody else.
 */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { GuestView } from '../../../src/api/schemas.ts';
import { beside } from '../../../src/site/lab-parts.ts';
import { killFamily, postmasterPid } from '../site/faults.ts';
import { LeaseSite, threeHosts, until } from './kit.ts';
import { replay } from './replay.ts';

/** UDP port of beats. */
const beats = 7444;
const clockShifter = join(import.meta.dirname, 'shift-clock.ts');

describe('a host that loses power', { timeout: 240_000 }, () => {
  let lease: LeaseSite;
  let one: GuestView;
  let two: GuestView;
  let pinned: GuestView;

  before(async () => {
    // Their wall clocks can be set back; NODE_OPTIONS reaches every part of every host.
    lease = await LeaseSite.open({ env: { NODE_OPTIONS: `--import=file://${clockShifter}` } });
    one = await lease.run('one', 'birch');
    two = await lease.run('two', 'alder');
    [pinned = assert.fail()] = await lease.site.run({ name: 'pinned', diskMode: 'keep', host: 'birch' });
    await lease.site.answers(pinned);
  });
  after(() => lease.close());

  test('agents away, killed or stopped: no lease notices', async () => {
    const { parts } = lease.lab;
    await lease.lab.killAgent('alder');
    parts.signal('agent', 'birch', 'SIGSTOP');
    await lease.nothingHappens(5_000);
    parts.signal('agent', 'birch', 'SIGCONT');
    await lease.lab.startAgent('alder');
    await lease.hostIs('alder', 'online');
  });

  test('controller and database away: nothing is frozen, nothing lost on return', async () => {
    const before = await Promise.all([one, two].map(async (guest) => lease.bootId(guest)));
    const database = await postmasterPid(lease.lab.dataDir);
    await lease.lab.killController();
    killFamily(database);
    const end = performance.now() + 5_000;
    while (performance.now() < end) {
      for (const { host, frozen } of lease.watch.copies()) assert.ok(!frozen, `a guest of ${host} is frozen`);
      await new Promise((next) => setTimeout(next, 50));
    }
    await lease.lab.startController();
    await lease.nothingHappens(2_000);
    assert.deepEqual(await Promise.all([one, two].map(async (guest) => lease.bootId(guest))), before);
  });

  test('all clocks of a host an hour back: nothing', async () => {
    const { parts } = lease.lab;
    for (const part of ['keeper', 'guard', 'agent'] as const) parts.signal(part, 'birch', 'SIGUSR2');
    parts.signal('keeper', 'alder', 'SIGUSR2');
    await lease.nothingHappens(5_000);
  });

  test('replayed and forged datagrams keep no dead host alive; its guests go on elsewhere, once', async (t) => {
    const index = threeHosts.indexOf('alder');
    // What birch sends to alder passes this cable; so do alder's own beats to the others.
    await using stranger = await replay(lease.lab.testbed, `p${index}`, beats, 3);
    assert.ok(stranger.frames > 10, `${stranger.frames} frames recorded`);
    const others = await lease.bootId(two);
    const before = await lease.sessionOf('birch');
    const cut = performance.now();
    await lease.lab.testbed.host('birch').powerCut();
    await lease.hostIs('birch', 'lost', 8_000);
    t.diagnostic(`lost ${Math.round(performance.now() - cut)} ms after the cut`);
    one = await lease.wentOn(one, 'birch');
    t.diagnostic(`answers from elsewhere ${Math.round(performance.now() - cut)} ms after the cut`);
    const { loss } = (await lease.site.hostView('birch')).status;
    assert.equal(loss?.how, 'lease');
    assert.deepEqual(loss.session, before);
    assert.equal(await lease.bootId(two), others, 'the guest of another host booted anew');
    for (const host of ['alder', 'cedar'])
      assert.ok(lease.lab.parts.runs('keeper', host), `the keeper of ${host} ended`);
  });

  test('a guest whose disk is only there is not started elsewhere', async () => {
    const { status } = await lease.site.guest('pinned');
    assert.equal(status.state, 'unknown');
    assert.equal((await lease.site.hostOf(await lease.site.guest('pinned'))).name, 'birch');
  });

  test('the lost host comes back: a new session, what moved away is cleaned, what stayed starts', async (t) => {
    const before = await lease.sessionOf('birch');
    const leftover = join(lease.lab.testbed.host('birch').dir, 'agent');
    await lease.lab.powerOn('birch');
    await lease.lab.settled();
    const now = await lease.sessionOf('birch');
    t.diagnostic(`session ${before.number} was lost, ${now.number} runs`);
    assert.ok(now.number > before.number && now.id !== before.id);
    await lease.site.inState('pinned', 'running', 60_000);
    await lease.site.answers(pinned);
    const here = await lease.lab.testbed.host('birch').run(['virsh', 'list', '--all', '--name']);
    assert.deepEqual(here.split('\n').filter(Boolean), ['pinned']);
    await until('the disks of the moved guest to be cleaned', 20_000, async () => {
      const found = await lease.lab.testbed
        .host('birch')
        .run(['find', leftover, '-path', `*${one.id}*`, '-name', '*.qcow2']);
      return found.trim() === '' ? true : undefined;
    });
  });

  test('the voter’s disk was wiped: it joins as another one, and its host is a new session', async () => {
    const { parts } = lease.lab;
    const view = await lease.site.client.call('lease.show');
    const old = await lease.sessionOf('cedar');
    await parts.kill('agent', 'cedar');
    await parts.kill('keeper', 'cedar');
    await lease.lab.testbed.host('cedar').run(['rm', '-rf', lease.lab.keeperDir('cedar')]);
    assert.ok(!existsSync(lease.lab.keeperDir('cedar')));
    await lease.lab.startAgent('cedar');
    await until('a higher session of cedar', 30_000, async () =>
      (await lease.sessionOf('cedar')).number > old.number ? true : undefined,
    );
    await lease.lab.settled(60_000);
    const after = await lease.site.client.call('lease.show');
    assert.equal(after.votes, view.votes);
    for (const guest of [one, two]) await lease.site.answers(guest);
  });

  test('a hand on the controller’s process changes nothing: it is stopped, and goes on', async () => {
    const { parts } = lease.lab;
    parts.signal('controller', beside, 'SIGSTOP');
    const end = performance.now() + 4_000;
    while (performance.now() < end) {
      for (const { host, frozen } of lease.watch.copies()) assert.ok(!frozen, `a guest of ${host} is frozen`);
      await new Promise((next) => setTimeout(next, 50));
    }
    parts.signal('controller', beside, 'SIGCONT');
    await lease.nothingHappens(2_000);
  });
});
