import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { openTestbed, tinyImage, type Testbed, type TestbedHost } from '../../../src/testbed/index.ts';
import { alive, identify, until } from '../../../src/testbed/proc.ts';
import { guestProcess, startGuest, type StartedGuest } from './kit.ts';

interface Info {
  readonly name: string;
  readonly bootId: string;
  readonly boots: number;
  readonly cpus: number;
  readonly memoryKiB: number;
}

describe('the tiny guest', { timeout: 180_000 }, () => {
  let testbed: Testbed;
  let host: TestbedHost;
  let web: StartedGuest;
  const log = (): string => readFileSync(join(host.dir, 'web1.log'), 'utf8');
  const info = async (): Promise<Info> =>
    JSON.parse((await testbed.httpGet(web.address, '/cgi-bin/info', { timeoutMs: 5_000 })).body) as Info;

  before(async () => {
    await tinyImage();
    testbed = await openTestbed({ hosts: ['alpha'] });
    host = testbed.host('alpha');
  });
  after(() => testbed.close());

  test('boots under the host’s libvirt and answers with its own name, by IPv4 and IPv6', async (t) => {
    const userData = '#!/bin/sh\necho "user data as $(hostname)"\n';
    const started = performance.now();
    web = await startGuest(host, 'web1', 0, { userData });
    await testbed.httpWait(web.address, { body: 'web1' });
    t.diagnostic(
      `virsh create to HTTP answer (overlay and seed included): ${Math.round(performance.now() - started)} ms`,
    );
    await testbed.httpWait(web.address6, { body: 'web1', timeoutMs: 10_000 });
    assert.equal((await testbed.httpGet(web.address, '/boots')).body, '1');
    assert.match(await host.run(['virsh', 'list']), /web1 +running/);
  });

  test('network settings, user data and the console are there', async () => {
    const ran = await until(() => log().includes('user-data ended with code 0'), 15_000, 50);
    assert.ok(ran, log());
    assert.match(log(), /user data as web1/);
    assert.match(log(), /tiny: web1 answers HTTP on 10\.77\.0\.100\/22 fd77:/);
    assert.equal((await testbed.httpGet(web.address, '/user-data.log')).body, 'user data as web1\n');
    // A shell on the serial console answers what is typed.
    const pty = (await host.run(['virsh', 'ttyconsole', 'web1'])).trim();
    const typist = await host.spawn(['sh', '-c', `exec 3<>${pty}; stty raw -echo <&3; exec cat >&3`]);
    typist.stdin.write('echo typed $((6 * 7)); ip link show eth0; cat /etc/resolv.conf\n');
    const shown = await until(() => /typed 42[^]*mtu 1400[^]*nameserver 10\.77\.0\.1/.test(log()), 10_000, 50);
    typist.kill();
    await typist.exited;
    assert.ok(shown, log());
  });

  test('the guest agent reports addresses', async () => {
    let words = '';
    const reported = await until(
      async () => {
        words = (await host.exec(['virsh', 'domifaddr', 'web1', '--source', 'agent'])).stdout;
        return words.includes(`${web.address}/22`) && words.includes(web.address6);
      },
      20_000,
      200,
    );
    assert.ok(reported, words);
  });

  test('processors and memory come while it runs', async () => {
    assert.equal((await info()).cpus, 1);
    await host.run(['virsh', 'setvcpus', 'web1', '2', '--live']);
    assert.ok(await until(async () => (await info()).cpus === 2, 15_000, 200));
    const before = (await info()).memoryKiB;
    await host.run(['virsh', 'setmem', 'web1', '256M', '--live']);
    assert.ok(await until(async () => (await info()).memoryKiB > before + 50_000, 15_000, 200), `${before} KiB`);
  });

  test('what it wrote is kept over a power-button shutdown, with a new boot id', async (t) => {
    assert.equal((await testbed.httpGet(web.address, '/cgi-bin/put?word=kept', { timeoutMs: 5_000 })).body, 'kept');
    const first = await info();
    const started = performance.now();
    await host.run(['virsh', 'shutdown', 'web1', '--mode', 'acpi']);
    const off = await until(async () => !(await host.run(['virsh', 'list', '--name'])).includes('web1'), 20_000, 50);
    assert.ok(off, log());
    t.diagnostic(`power button to off: ${Math.round(performance.now() - started)} ms`);
    assert.match(log(), /power button/);
    await host.run(['virsh', 'create', join(host.dir, 'web1.xml')]);
    await testbed.httpWait(web.address, { body: 'web1' });
    const second = await info();
    assert.equal(second.boots, first.boots + 1);
    assert.notEqual(second.bootId, first.bootId);
    assert.equal((await testbed.httpGet(web.address, '/cgi-bin/get?word', { timeoutMs: 5_000 })).body, 'kept');
    assert.equal(log().split('user data as web1').length, 2, 'user data ran once for this instance');
  });

  test('network settings of version 1, and a power cut ends the guest with its host', async () => {
    const second = await startGuest(host, 'web2', 1, { version: 1 });
    await testbed.httpWait(second.address, { body: 'web2' });
    await testbed.httpWait(second.address6, { body: 'web2', timeoutMs: 10_000 });
    const guest = identify(guestProcess(host, 'web2'));
    await host.powerCut();
    assert.equal(alive(guest), false);
    await assert.rejects(testbed.httpGet(second.address));
    await host.powerOn();
    assert.equal((await host.run(['virsh', 'list', '--all', '--name'])).trim(), '', 'nothing starts by itself');
    await host.run(['virsh', 'create', join(host.dir, 'web2.xml')]);
    await testbed.httpWait(second.address, { body: 'web2' });
    assert.equal((await testbed.httpGet(second.address, '/boots')).body, '2');
  });
});
