/** What leases stand on: control groups of each host, priorities, a switch that goes dark, a second network. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { openTestbed, type Testbed, type TestbedHost } from '../../../src/testbed/index.ts';
import { groupRoot } from '../../../src/testbed/groups.ts';
import { alive, identify, until } from '../../../src/testbed/proc.ts';
import { echoServer, pingTimes } from './kit.ts';

const root = groupRoot();

describe('groups and networks of simulated hosts', { timeout: 90_000 }, () => {
  let testbed: Testbed;
  let alpha: TestbedHost;
  let beta: TestbedHost;

  before(async () => {
    testbed = await openTestbed({ hosts: ['alpha', 'beta'], secondNetwork: true });
    [alpha, beta] = [testbed.host('alpha'), testbed.host('beta')];
  });
  after(() => testbed.close());

  const noGroups = root === undefined ? 'the kernel has no version 2 tree of control groups' : false;

  test('a host freezes and kills its own groups; another does not see them', { skip: noGroups }, async () => {
    const mine = `${root}/virga/12345678/s1-87654321/guest`;
    await alpha.run(['mkdir', '-p', mine]);
    const sleeper = await alpha.spawn(['sleep', '1000'], { output: 'ignore' });
    const inner = (await alpha.run(['pgrep', '-x', 'sleep', '-n'])).trim();
    await alpha.run(['sh', '-c', `echo ${inner} > ${mine}/cgroup.procs`]);
    assert.match(await alpha.run(['cat', `/proc/${inner}/cgroup`]), /^0::\/virga\/12345678\/s1-87654321\/guest$/m);
    await alpha.run(['sh', '-c', `echo 1 > ${root}/virga/12345678/s1-87654321/cgroup.freeze`]);
    assert.ok(await until(async () => /frozen 1/.test(await alpha.run(['cat', `${mine}/cgroup.events`])), 5_000));
    assert.notEqual((await beta.exec(['ls', `${root}/virga`])).code, 0);
    await alpha.run(['sh', '-c', `echo 1 > ${mine}/cgroup.kill`]);
    await sleeper.exited;
    await alpha.run(['rmdir', mine]);
  });

  test(
    'a power cut kills what is frozen too, and the groups are gone at the next boot',
    { skip: noGroups },
    async () => {
      const group = `${root}/virga/12345678/s2-87654321`;
      await beta.run(['mkdir', '-p', group]);
      const sleeper = await beta.spawn(['sh', '-c', `echo 0 > ${group}/cgroup.procs; exec sleep 1000`], {
        output: 'ignore',
      });
      const id = identify(sleeper.pid);
      const stopped = await beta.spawn(['sleep', '1000'], { output: 'ignore' });
      stopped.kill('SIGSTOP');
      assert.ok(await until(async () => (await beta.run(['cat', `${group}/cgroup.procs`])) !== '', 5_000));
      await beta.run(['sh', '-c', `echo 1 > ${group}/cgroup.freeze`]);
      await beta.powerCut();
      assert.ok(!alive(id));
      assert.ok(!existsSync(join(root ?? '', `vg${testbed.id}`, 'beta')));
      await beta.powerOn();
      assert.notEqual((await beta.exec(['ls', `${root}/virga`])).code, 0);
      assert.equal((await alpha.exec(['ls', `${root}/virga`])).code, 0, 'others keep theirs');
    },
  );

  test('a real-time priority is permitted', async () => {
    assert.match(await alpha.run(['chrt', '-f', '10', 'sh', '-c', 'chrt -p $$']), /SCHED_FIFO/);
  });

  test('the switch without power: nobody hears anybody, until it is back; single cuts stay', async () => {
    await using server = await echoServer(alpha);
    const reaches = async (): Promise<boolean> => (await pingTimes(testbed, server, 1)).length === 1;
    const carrier = (host: TestbedHost): Promise<string> => host.run(['ip', '-o', 'link', 'show', 'uplink']);
    await beta.cutNetwork();
    await testbed.pullSwitch();
    assert.equal(await reaches(), false);
    assert.match(await carrier(alpha), /NO-CARRIER/);
    await testbed.restoreSwitch();
    assert.ok(await until(reaches, 5_000));
    assert.match(await carrier(beta), /NO-CARRIER/);
    await beta.restoreNetwork();
    assert.ok(await until(async () => !/NO-CARRIER/.test(await carrier(beta)), 5_000));
  });

  test('the second network works when the first is cut', async () => {
    await using server = await echoServer(alpha);
    await alpha.cutNetwork();
    try {
      assert.equal((await pingTimes(testbed, server, 1)).length, 0);
      const second = { ...server, address: alpha.address2 ?? '' };
      assert.equal((await pingTimes(testbed, second, 3)).length, 3);
      await alpha.cutNetwork('both', 2);
      assert.equal((await pingTimes(testbed, second, 1)).length, 0);
    } finally {
      await alpha.restoreNetwork();
      await alpha.restoreNetwork(2);
    }
  });

  test('closing leaves no group behind', async () => {
    await testbed.close();
    assert.deepEqual(root === undefined ? [] : readdirSync(root).filter((name) => name === `vg${testbed.id}`), []);
  });
});
