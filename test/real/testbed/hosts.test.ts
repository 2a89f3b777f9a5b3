import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { openTestbed, type Testbed, type TestbedHost } from '../../../src/testbed/index.ts';
import { alive, identify, until } from '../../../src/testbed/proc.ts';
import { echoServer, pingTimes, throughput } from './kit.ts';

describe('simulated hosts', { timeout: 120_000 }, () => {
  let testbed: Testbed;
  let alpha: TestbedHost;
  let beta: TestbedHost;
  const linksBefore = readdirSync('/sys/class/net').sort();

  before(async () => {
    testbed = await openTestbed({ hosts: ['alpha', 'beta'] });
    [alpha, beta] = [testbed.host('alpha'), testbed.host('beta')];
  });
  after(() => testbed.close());

  test('each is a machine of its own', async () => {
    for (const host of [alpha, beta]) {
      assert.equal((await host.run(['hostname'])).trim(), host.name);
      const capabilities = await host.run(['virsh', 'capabilities']);
      assert.ok(capabilities.includes(`<uuid>${host.hostUuid}</uuid>`));
      assert.equal((await host.run(['cat', '/proc/sys/kernel/random/boot_id'])).trim(), host.bootId());
      // Nothing may find a KVM here: guests under a broken one hang.
      assert.equal((await host.exec(['dd', 'if=/dev/kvm', 'bs=1', 'count=1'])).stdout, '');
      assert.ok(!capabilities.includes("<domain type='kvm'/>"));
    }
    assert.notEqual(alpha.hostUuid, beta.hostUuid);
    assert.notEqual(alpha.bootId(), beta.bootId());
    const seen = await alpha.run(['ps', '-eo', 'args']);
    assert.ok(seen.includes('libvirtd') && !seen.includes('node '), 'only its own processes');
  });

  test('nothing of it is in the machine’s own network or mounts', () => {
    assert.deepEqual(readdirSync('/sys/class/net').sort(), linksBefore);
    assert.ok(!readFileSync('/proc/self/mountinfo', 'utf8').includes(testbed.id));
  });

  test('commands: exit code, output, input, time limit, a missing program', async () => {
    assert.deepEqual(await alpha.exec(['sh', '-c', 'cat; echo err >&2; exit 3'], { input: 'in' }), {
      code: 3,
      stdout: 'in',
      stderr: 'err\n',
    });
    const started = performance.now();
    const late = await alpha.exec(['sh', '-c', 'sleep 87 & sleep 88'], { timeoutMs: 300 });
    assert.equal(late.code, 124);
    assert.ok(performance.now() - started < 5_000);
    assert.ok(!(await alpha.run(['ps', '-eo', 'args'])).includes('sleep 8'), 'what it started is gone too');
    assert.notEqual((await alpha.exec(['no-such-program'])).code, 0);
    await assert.rejects(alpha.run(['ls', '/no-such-file']), /No such file/);
  });

  test('a spawned process gets signals itself and says how it ended', async () => {
    const process_ = await alpha.spawn(['sh', '-c', 'trap "exit 7" TERM; echo up; while :; do sleep 0.05; done']);
    assert.ok(process_.stdout);
    for await (const chunk of process_.stdout) {
      if (String(chunk).includes('up')) break;
    }
    assert.equal(process_.kill('SIGTERM'), true);
    assert.deepEqual(await process_.exited, { code: 7, signal: null });
    assert.equal(process_.kill('SIGTERM'), false);
  });

  test('libvirtd can be killed and restarted without the host', async () => {
    const pid = alpha.libvirtdPid();
    assert.ok(pid !== undefined && readFileSync(`/proc/${pid}/comm`, 'utf8').startsWith('libvirtd'));
    const init = alpha.pid();
    await alpha.killLibvirtd();
    assert.equal(alpha.libvirtdPid(), undefined);
    assert.notEqual((await alpha.exec(['virsh', 'list'])).code, 0);
    await alpha.startLibvirtd();
    assert.equal((await alpha.exec(['virsh', 'list'])).code, 0);
    const second = alpha.libvirtdPid();
    await alpha.restartLibvirtd();
    assert.notEqual(alpha.libvirtdPid(), second);
    assert.equal((await alpha.exec(['virsh', 'list'])).code, 0);
    assert.equal(alpha.pid(), init);
  });

  test('a power cut ends every process; power on is a new boot of the same disks', async (t) => {
    const process_ = await beta.spawn(['setsid', 'sleep', '1000'], { output: 'ignore' });
    const ids = [identify(process_.pid), identify(beta.pid()), identify(beta.libvirtdPid() ?? 0)];
    const [boot, uuid] = [beta.bootId(), beta.hostUuid];
    await beta.run(['sh', '-c', 'echo kept > /var/lib/libvirt/kept; echo gone > /run/gone']);
    const started = performance.now();
    await beta.powerCut();
    t.diagnostic(`power cut in ${Math.round(performance.now() - started)} ms`);
    assert.equal(beta.powered, false);
    assert.ok(!ids.some(alive));
    await assert.rejects(async () => beta.exec(['true']), /without power/);
    assert.notEqual((await testbed.switchExec(pingOnce(beta.address))).code, 0);
    await beta.powerOn();
    t.diagnostic(`power cut and on in ${Math.round(performance.now() - started)} ms`);
    assert.equal((await beta.run(['cat', '/var/lib/libvirt/kept'])).trim(), 'kept');
    assert.notEqual((await beta.exec(['test', '-e', '/run/gone'])).code, 0);
    assert.notEqual(beta.bootId(), boot);
    assert.equal((await beta.run(['cat', '/proc/sys/kernel/random/boot_id'])).trim(), beta.bootId());
    assert.ok((await beta.run(['virsh', 'capabilities'])).includes(uuid));
  });

  test('a pulled cable, and a cut in one direction', async () => {
    await using server = await echoServer(alpha);
    const reaches = async (): Promise<boolean> => (await pingTimes(testbed, server, 1)).length === 1;
    assert.ok(await reaches());
    await alpha.cutNetwork();
    assert.equal(await reaches(), false);
    assert.match(await alpha.run(['ip', '-o', 'link', 'show', 'uplink']), /NO-CARRIER/);
    await alpha.restoreNetwork();
    assert.ok(await until(reaches, 5_000));
    const received = server.received();
    await alpha.cutNetwork('fromHost');
    assert.equal(await reaches(), false);
    assert.ok(await until(() => server.received() > received, 2_000), 'questions still arrive');
    await alpha.cutNetwork('toHost');
    const stopped = server.received();
    assert.equal(await reaches(), false);
    assert.equal(server.received(), stopped, 'questions do not arrive');
    await alpha.restoreNetwork();
    assert.ok(await until(reaches, 5_000));
  });

  test('loss, delay and rate are what was asked for', async (t) => {
    await using server = await echoServer(alpha);
    const median = (values: readonly number[]): number => [...values].sort((a, b) => a - b)[values.length >> 1] ?? NaN;
    const quick = median(await pingTimes(testbed, server, 20));
    await alpha.shape({ delayMs: 40 });
    const slow = median(await pingTimes(testbed, server, 20));
    t.diagnostic(`round trip ${quick.toFixed(2)} ms, with 40 ms of delay each way ${slow.toFixed(2)} ms`);
    assert.ok(slow - quick >= 80 && slow - quick < 130, `${slow - quick} ms more`);
    await alpha.shape({ lossPercent: 30 });
    const answered = (await pingTimes(testbed, server, 500)).length;
    t.diagnostic(`with 30 % loss each way ${answered} of 500 came back`);
    // 0.7² = 49 %; six standard deviations of 500 draws are 13 %.
    assert.ok(answered > 180 && answered < 310, `${answered} of 500`);
    await alpha.shape({ rateKbit: 8_000 });
    const limited = await throughput(testbed, alpha, 1_000_000);
    await alpha.shape({});
    const free = await throughput(testbed, alpha, 20_000_000);
    t.diagnostic(`8,000 kbit/s asked for: ${Math.round(limited)}; unshaped: ${Math.round(free)}`);
    assert.ok(limited > 5_000 && limited < 9_500, `${limited} kbit/s`);
    assert.ok(free > 4 * limited);
    assert.equal((await pingTimes(testbed, server, 20)).length, 20);
  });

  test('the shape stays over a power cut, as a cable’s', async () => {
    await beta.shape({ delayMs: 30, lossPercent: 0, rateKbit: 50_000 });
    await beta.powerCut();
    await beta.powerOn();
    await using server = await echoServer(beta);
    const times = await pingTimes(testbed, server, 5);
    assert.ok(times.length === 5 && Math.min(...times) >= 60, times.join(' '));
    assert.match(await beta.run(['tc', 'qdisc', 'show', 'dev', 'uplink']), /tbf.*50Mbit/);
    await beta.shape({});
  });

  test('two testbeds at once do not see each other; a name is given once', async (t) => {
    await assert.rejects(openTestbed({ hosts: ['a'], name: testbed.name }), /is open/);
    const started = performance.now();
    const second = await openTestbed({ hosts: ['alpha'], name: `${testbed.name}-2` });
    t.diagnostic(`testbed of one host open in ${Math.round(performance.now() - started)} ms`);
    try {
      await second.host('alpha').run(['touch', '/run/mark']);
      assert.notEqual((await alpha.exec(['test', '-e', '/run/mark'])).code, 0);
      assert.notEqual(second.host('alpha').hostUuid, alpha.hostUuid);
    } finally {
      await second.close();
    }
    await second.close();
    assert.equal((await alpha.exec(['true'])).code, 0);
  });

  test('names that cannot be hosts are refused', async () => {
    await assert.rejects(openTestbed({ hosts: ['Alpha'] }), /cannot be a host/);
    await assert.rejects(openTestbed({ hosts: ['a', 'a'] }), /same name/);
    await assert.rejects(openTestbed({ hosts: [] }), /1 to 64/);
    await assert.rejects(openTestbed({ hosts: ['a'], dir: '/run/x' }), /below \/run/);
  });
});

/** One echo request with BusyBox or iputils would need a package; a TCP connection that is refused says as much. */
function pingOnce(address: string): string[] {
  return ['bash', '-c', `exec 2>&1; timeout 1 bash -c '</dev/tcp/${address}/9' | grep -q refused`];
}
