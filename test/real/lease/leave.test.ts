/** Hosts that go down in order: the session ends at once, and the policy says what becomes of the guests. */
import assert from 'node:assert/strict';
import { dirname } from 'node:path';
import { after, afterEach, before, describe, test } from 'node:test';
import type { GuestView } from '../../../src/api/schemas.ts';
import { selfArgv } from '../../../src/site/paths.ts';
import type { ExecResult } from '../../../src/testbed/index.ts';
import { Site } from '../site/kit.ts';
import { LeaseSite, until } from './kit.ts';

describe('a planned leave', { timeout: 300_000 }, () => {
  let lease: LeaseSite;

  before(async () => {
    lease = await LeaseSite.open();
  });
  after(() => lease.close());
  afterEach(async () => lease.whole());

  const policy = async (onHostLeave: 'stop' | 'wait'): Promise<unknown> =>
    lease.lab.client.call('site.set', { body: { onHostLeave } });

  /** What the unit `virga-leave` does when somebody types `poweroff` there. */
  async function leave(host: string, seconds = 20): Promise<{ readonly announced: boolean; readonly forced: number }> {
    const data = dirname(lease.lab.keeperDir(host));
    const argv = selfArgv('host', 'leave', '--here', '--json', '--within', String(seconds), '--data', data);
    const done = await lease.lab.testbed.host(host).exec(argv, { timeoutMs: 90_000 });
    assert.equal(done.code, 0, `${done.stdout}${done.stderr}`);
    return JSON.parse(done.stdout) as { announced: boolean; forced: number };
  }

  const lossOf = async (host: string) => (await lease.site.hostView(host)).status.loss;

  async function gone(guest: GuestView, host: string): Promise<void> {
    await until(`no copy of ${guest.name} on ${host}`, 10_000, async () =>
      lease.watch.copies().some((copy) => copy.host === host && copy.guestId === guest.id) ? undefined : true,
    );
  }

  test('stop: guests are stopped, the session is over as it ended, and they start elsewhere at once', async (t) => {
    await policy('stop');
    const guest = await lease.run('web', 'alder');
    const session = await lease.sessionOf('alder');
    const left = await leave('alder');
    const told = performance.now();
    assert.equal(left.announced, true);
    await gone(guest, 'alder');
    await until('the session to be over', 3000, async () =>
      (await lossOf('alder'))?.session.number === session.number ? true : undefined,
    );
    t.diagnostic(`over ${Math.round(performance.now() - told)} ms after the word`);
    assert.equal((await lossOf('alder'))?.how, 'ended');
    await lease.lab.testbed.host('alder').powerCut();
    await lease.wentOn(guest, 'alder');
    t.diagnostic(`answers elsewhere ${Math.round(performance.now() - told)} ms after the word`);
  });

  test('wait: the guest waits for its host, and says so; there it starts again', async () => {
    await policy('wait');
    const guest = await lease.run('patient', 'birch');
    await leave('birch');
    await lease.lab.testbed.host('birch').powerCut();
    await until('the session to be over', 3000, async () =>
      (await lossOf('birch'))?.how === 'ended' ? true : undefined,
    );
    // Long enough for every recovery that there is: the loop of the controller iterates each second.
    const end = performance.now() + 6000;
    while (performance.now() < end) {
      const elsewhere = lease.watch.copies().filter(({ guestId }) => guestId === guest.id);
      assert.deepEqual(elsewhere, [], 'it runs, although it should wait');
      await lease.site.guest('patient');
    }
    await lease.lab.powerOn('birch');
    await lease.lab.settled();
    const back = await lease.site.guestIs(
      'patient',
      'running again',
      ({ status }) => status.state === 'running',
      90_000,
    );
    assert.equal((await lease.site.hostOf(back)).name, 'birch');
    await lease.site.answers(back);
  });
});

describe('a leave that nobody can be told of', { timeout: 180_000 }, () => {
  let site: Site;

  before(async () => {
    site = await Site.open({ hosts: ['alder'], keepers: false });
  });
  after(() => site.lab.close());

  const leave = async (): Promise<ExecResult> => {
    const data = dirname(site.lab.keeperDir('alder'));
    const argv = selfArgv('host', 'leave', '--here', '--within', '20', '--data', data);
    return site.lab.testbed.host('alder').exec(argv, { timeoutMs: 60_000 });
  };

  test('without a keeper guests are stopped all the same, and it is said; a new life of the agent starts them', async () => {
    const [guest] = await site.run({ name: 'web' });
    assert.ok(guest);
    await site.answers(guest);
    const left = await leave();
    assert.equal(left.code, 1, left.stderr);
    assert.match(left.stdout, /web is asked to stop[^]*could not be announced[^]*lease has run out/);
    const listed = await site.lab.testbed.host('alder').exec(['virsh', 'list', '--name'], { timeoutMs: 10_000 });
    assert.equal(listed.stdout.trim(), '');
    assert.match((await leave()).stderr, /leaving already/);
    await site.lab.killAgent('alder');
    assert.match((await leave()).stderr, /does not answer/);
    await site.lab.startAgent('alder');
    await site.answers(await site.guestIs('web', 'running again', ({ status }) => status.state === 'running', 60_000));
  });
});
