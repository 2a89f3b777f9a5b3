/** Hosts that live but are not heard: they freeze their guests in time, whoever of their own processes hangs. */
import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, test } from 'node:test';
import type { GuestView } from '../../../src/api/schemas.ts';
import { bootIds, isFrozen } from '../../../src/site/dark.ts';
import { addressOf } from '../site/kit.ts';
import { LeaseSite, until } from './kit.ts';

describe('a host that is not heard', { timeout: 240_000 }, () => {
  let lease: LeaseSite;
  let guest: GuestView;

  before(async () => {
    lease = await LeaseSite.open();
    guest = await lease.run('web', 'alder');
  });
  after(() => lease.close());

  /** Where it is now; each test may have moved it. */
  let home = 'alder';
  beforeEach(async () => {
    await lease.whole();
    guest = await lease.site.guestIs(
      'web',
      'running inside',
      ({ status }) => status.state === 'running' && status.observed?.inside === true,
    );
    await lease.site.answers(guest);
    home = (await lease.site.hostOf(guest)).name;
  });

  test('the switch pulled for 8 s: all freeze, all thaw, none restarts, nobody is lost', async (t) => {
    const before = await bootIds(lease.lab, [addressOf(guest)]);
    const session = await lease.sessionOf(home);
    await lease.lab.testbed.pullSwitch();
    await lease.frozen(home, true, 4_000);
    const end = performance.now() + 5_000;
    while (performance.now() < end) assert.ok(await isFrozen(lease.lab, home), 'it went on without a lease');
    const back = performance.now();
    await lease.lab.testbed.restoreSwitch();
    await lease.frozen(home, false);
    await lease.site.answers(guest);
    t.diagnostic(`answers ${Math.round(performance.now() - back)} ms after the switch came back`);
    await lease.lab.settled();
    assert.deepEqual(await bootIds(lease.lab, [addressOf(guest)]), before);
    assert.deepEqual(await lease.sessionOf(home), session);
  });

  test('its cable is cut: frozen before it is lost; the guest goes on elsewhere; back, it starts clean', async (t) => {
    const cut = performance.now();
    await lease.lab.testbed.host(home).cutNetwork();
    await lease.frozen(home, true, 4_000);
    t.diagnostic(`frozen ${Math.round(performance.now() - cut)} ms after the cut`);
    await lease.wentOn(guest, home);
    await lease.lab.testbed.host(home).restoreNetwork();
    await lease.lab.settled();
    await until('no copy of it where it was', 20_000, async () =>
      lease.watch.copies().some((copy) => copy.host === home && copy.guestId === guest.id) ? undefined : true,
    );
  });

  test('it hears but is not heard (one-way cut): the same', async () => {
    await lease.lab.testbed.host(home).cutNetwork('fromHost');
    await lease.frozen(home, true, 4_000);
    await lease.wentOn(guest, home);
    await lease.lab.testbed.host(home).restoreNetwork();
    await lease.lab.settled();
  });

  test('its keeper hangs (SIGSTOP): the guard freezes; woken, the keeper kills what is over', async (t) => {
    const session = await lease.sessionOf(home);
    const stopped = performance.now();
    lease.lab.parts.signal('keeper', home, 'SIGSTOP');
    await lease.frozen(home, true, 4_000);
    t.diagnostic(`frozen ${Math.round(performance.now() - stopped)} ms after the stop`);
    await lease.wentOn(guest, home);
    lease.lab.parts.signal('keeper', home, 'SIGCONT');
    await lease.lab.settled();
    assert.ok((await lease.sessionOf(home)).number > session.number);
  });

  test('its guard hangs (SIGSTOP): the keeper freezes', async (t) => {
    const stopped = performance.now();
    lease.lab.parts.signal('guard', home, 'SIGSTOP');
    await lease.frozen(home, true, 6_000);
    t.diagnostic(`frozen ${Math.round(performance.now() - stopped)} ms after the stop`);
    lease.lab.parts.signal('guard', home, 'SIGCONT');
    await lease.lab.settled();
    await lease.site.answers(guest);
  });

  test('a voter’s disk is full: no host is lost without it, and recovery goes on when there is room', async () => {
    const full = ['alder', 'birch', 'cedar'].find((host) => host !== home) ?? 'birch';
    const machine = lease.lab.testbed.host(full);
    const folder = lease.lab.keeperDir(full);
    await lease.lab.parts.kill('keeper', full);
    // A small file system of its own, with what the keeper has.
    await machine.run([
      'sh',
      '-c',
      `mount -t tmpfs -o size=512k tmpfs /mnt && cp -a ${folder}/. /mnt/ && mount --move /mnt ${folder}`,
    ]);
    await machine.exec(['sh', '-c', `cat /dev/zero > ${folder}/ballast`]);
    await lease.lab.startKeeper(full);
    // Silent, or there and unable to write: either must not be counted as a seal.
    await until('the keeper to be asked again', 10_000, async () => {
      const { voters } = await lease.site.client.call('lease.show');
      return voters.some(({ name }) => name === full) ? true : undefined;
    });
    await lease.lab.testbed.host(home).powerCut();
    const end = performance.now() + 5_000;
    while (performance.now() < end) {
      // Without a second voter no controller leads, and says so.
      const state = await lease.site.hostView(home).then(
        (host) => host.status.state,
        (error: unknown) => (error as { code?: string }).code ?? 'unknown',
      );
      assert.notEqual(state, 'lost', 'a seal that is nowhere on disk was counted');
      await new Promise((next) => setTimeout(next, 250));
    }
    await machine.run(['rm', `${folder}/ballast`]);
    await lease.lab.startKeeper(full);
    await lease.wentOn(guest, home);
  });
});
