import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { AssignedNetwork } from '../../../src/core/model/assignment.ts';
import { guestAddress, tinySeed } from '../../../src/testbed/index.ts';
import { until } from '../../../src/testbed/proc.ts';
import { LibvirtEngine } from '../../../src/agent/engine.ts';
import { AgentBed } from './kit.ts';
import { guestId, lan, orderOf } from './orders.ts';

const natId = '11111111-0000-4000-8000-00000000000a';
const nat: AssignedNetwork = {
  id: natId,
  name: 'inner',
  mode: 'nat',
  bridge: 'vnat0',
  ipv4: { cidr: '10.99.0.0/24', from: '10.99.0.10', to: '10.99.0.99', gateway: '10.99.0.1' },
  ipv6: { cidr: 'fd99::/64', from: 'fd99::10', to: 'fd99::99', gateway: 'fd99::1' },
  mtu: 1400,
  dns: { servers: ['10.99.0.1'], search: [] },
};

describe('the host around the guests', { timeout: 300_000 }, () => {
  let bed: AgentBed;
  const shown = (table: string): Promise<string> => bed.host.run(['nft', 'list', 'table', ...table.split(' ')]);

  before(async () => {
    bed = await AgentBed.open();
    await bed.host.run([
      'nft',
      'add table inet sites_own { chain c { type filter hook input priority 0; tcp dport 9 drop; }; }',
    ]);
    await bed.startAgent();
  });
  after(() => bed.close());

  test('a bridge that is missing is reported, and its guests wait', async () => {
    await bed.networks({ ...lan, bridge: 'br9' });
    await bed.order(orderOf(0, bed.image, { power: 'on' }));
    const report = await bed.reportIs('complaining', ({ networkProblems }) => networkProblems.length === 1);
    assert.match(report.networkProblems[0]?.message ?? '', /there is no bridge "br9"/);
    const guest = await bed.guestIs(0, 'waiting', ({ error }) => error !== undefined);
    assert.equal(guest.engine, 'absent');
    assert.equal(guest.error?.gaveUp, false);
    await bed.unlist(0);
  });

  test('a NAT network: bridge, address, forwarding, own table; the other tables stay as they are', async () => {
    const before = await shown('inet sites_own');
    await bed.networks(lan, nat);
    await bed.reportIs('with a bridge more', ({ network }) => network.bridges.includes('vnat0'));
    const addresses = await bed.host.run(['ip', '-br', 'address', 'show', 'dev', 'vnat0']);
    assert.match(addresses, /10\.99\.0\.1\/24/);
    assert.match(addresses, /fd99::1\/64/);
    assert.match(await bed.host.run(['ip', 'link', 'show', 'dev', 'vnat0']), /mtu 1400/);
    assert.equal((await bed.host.run(['cat', '/proc/sys/net/ipv4/ip_forward'])).trim(), '1');
    assert.match(await shown('inet virga'), /ip saddr 10\.99\.0\.0\/24 .*masquerade/);
    assert.equal(await shown('inet sites_own'), before);
  });

  test('a guest behind NAT reaches out, by the host’s address, and is not reached from outside', async () => {
    const { mac } = guestAddress(1);
    const nics = [{ networkId: natId, mac, ipv4: '10.99.0.10', ipv6: 'fd99::10' }];
    const server =
      "require('http').createServer((q, s) => s.end(q.socket.remoteAddress)).listen(8099, '0.0.0.0', () => console.log('up'))";
    const outside = await bed.testbed.switchSpawn([process.execPath, '-e', server]);
    try {
      const userData = `#!/bin/sh\nwget -q -O - http://${bed.testbed.plan.gateway}:8099/\necho " was our address"\n`;
      await bed.order(orderOf(1, bed.image, { nics, userData }));
      const log = async (): Promise<string> => readFile(bed.guestFile(1, 'serial.log'), 'utf8').catch(() => '');
      assert.ok(await until(async () => (await log()).includes('was our address'), 30_000, 100), await log());
      assert.match(await log(), new RegExp(`${bed.host.address.replaceAll('.', '\\.')} was our address`));
      assert.match(
        await bed.host.run([
          process.execPath,
          '-e',
          "fetch('http://10.99.0.10/').then((a) => a.text()).then(console.log)",
        ]),
        /g1/,
      );
      await bed.testbed.switchExec(['ip', 'route', 'add', '10.99.0.0/24', 'via', bed.host.address]);
      await assert.rejects(bed.testbed.httpGet('10.99.0.10', '/', { timeoutMs: 1000 }));
    } finally {
      outside.kill('SIGKILL');
    }
  });

  test('the console, both ways', { timeout: 20_000 }, async () => {
    const silent = { debug() {}, info() {}, warn() {}, error() {}, child: () => silent };
    const engine = new LibvirtEngine({
      client: { socket: bed.host.libvirtSocket },
      hostName: 'alpha',
      arch: 'x86_64',
      kvm: async () => false,
      now: Date.now,
      log: silent,
    });
    try {
      await engine.client.ready();
      const terminal = await engine.console(guestId(1));
      await terminal.write(Buffer.from('\necho typed-$((6 * 7))-\n'));
      let seen = '';
      for await (const chunk of terminal.incoming) {
        seen += Buffer.from(chunk).toString('latin1');
        if (seen.includes('typed-42-')) break;
      }
      assert.match(seen, /typed-42-/);
      terminal.close();
      await assert.rejects(engine.console(guestId(9)), { code: 'engine' });
    } finally {
      await engine.close();
    }
  });

  test('held: killed, it stays as it is; let go, it comes back', async () => {
    await bed.change(1, { held: true });
    await bed.guestIs(1, 'settled', ({ generation }) => generation === 2);
    await bed.host.run(['kill', '-9', await bed.qemuPid(1)]);
    await bed.guestIs(1, 'down', ({ engine }) => engine === 'absent');
    const since = Date.now();
    await bed.guestIs(1, 'still down', ({ engine, observedAt }) => engine === 'absent' && observedAt > since + 2000);
    await bed.change(1, { held: false });
    await bed.guestIs(1, 'back', ({ engine, restarts }) => engine === 'running' && restarts === 1);
  });

  test('a guest with UEFI has firmware variables of its own', async () => {
    const machine = { arch: 'x86_64', type: 'pc-q35-7.2', firmware: 'uefi', cpuModel: 'qemu64' } as const;
    await bed.order(orderOf(2, bed.image, { machine }));
    await bed.guestIs(2, 'running', ({ engine }) => engine === 'running');
    const xml = await bed.host.run(['virsh', 'dumpxml', 'g2']);
    assert.ok(xml.includes(bed.guestFile(2, 'uefi-vars.fd')));
    assert.match(xml, /OVMF_CODE_4M\.fd/);
    await bed.change(2, { want: 'remove' });
    await bed.reportIs('without it', ({ gone }) => gone.length === 1);
    await bed.unlist(2);
    await bed.reportIs('silent about it', ({ gone }) => gone.length === 0);
  });

  test('removed from the assignment, its domain is a stray: reported, and never touched', async () => {
    await bed.unlist(1);
    const report = await bed.reportIs('with a stray', ({ strays }) => strays.length === 1);
    assert.equal(report.strays[0]?.id, guestId(1));
    assert.equal(report.strays[0]?.running, true);
    assert.match(await bed.host.run(['virsh', 'list', '--name']), /g1/);
    await bed.order(orderOf(1, bed.image, { want: 'remove', generation: 9 }));
    await bed.reportIs('without it', ({ gone, strays }) => gone.length === 1 && strays.length === 0);
    await bed.unlist(1);
  });

  test('an assigned NAT network no more: bridge and rules go, the other tables stay', async () => {
    const before = await shown('inet sites_own');
    await bed.networks(lan);
    await bed.reportIs('without the bridge', ({ network }) => !network.bridges.includes('vnat0'));
    const gone = await until(
      async () => (await bed.host.exec(['nft', 'list', 'table', 'inet', 'virga'])).code !== 0,
      5000,
      50,
    );
    assert.ok(gone);
    assert.equal(await shown('inet sites_own'), before);
  });

  test('a foreign domain is shown; taken over it runs on; given back it is as it was', async () => {
    const uuid = guestId(7);
    const disk = join(bed.host.dir, 'foreign.qcow2');
    const seed = join(bed.host.dir, 'foreign.iso');
    const { address, mac } = guestAddress(7);
    await bed.host.run(['qemu-img', 'create', '-q', '-f', 'qcow2', '-F', 'qcow2', '-b', bed.image.path, disk]);
    const network = { version: 2, ethernets: { n: { match: { macaddress: mac }, addresses: [`${address}/22`] } } };
    await tinySeed(seed, {
      metaData: 'instance-id: f\nlocal-hostname: foreign\n',
      networkConfig: JSON.stringify(network),
    });
    const xml = `<domain type='qemu'><name>foreign</name><uuid>${uuid}</uuid><memory unit='MiB'>128</memory><vcpu>1</vcpu>
      <metadata><other:tag xmlns:other='urn:other' keep='me'/></metadata>
      <os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type></os><features><acpi/></features>
      <cpu mode='custom' match='exact' check='none'><model>qemu64</model></cpu><devices>
      <disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='${disk}'/><target dev='vda' bus='virtio'/></disk>
      <disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='${seed}'/><target dev='vdb' bus='virtio'/><readonly/></disk>
      <interface type='bridge'><mac address='${mac}'/><source bridge='br0'/><model type='virtio'/></interface>
      <serial type='pty'/></devices></domain>`;
    await writeFile(join(bed.host.dir, 'foreign.xml'), xml);
    await bed.host.run(['virsh', 'define', join(bed.host.dir, 'foreign.xml')]);
    await bed.host.run(['virsh', 'autostart', 'foreign']);
    await bed.host.run(['virsh', 'start', 'foreign'], { timeoutMs: 60_000 });
    const described = await bed.host.run(['virsh', 'dumpxml', '--inactive', '--security-info', 'foreign']);
    const { foreign } = await bed.reportIs('with it', (report) => report.foreign.some((each) => each.running));
    assert.deepEqual(foreign, [
      { uuid, name: 'foreign', running: true, cpus: 1, memoryMiB: 128, persistent: true, autostart: true },
    ]);
    await bed.testbed.httpWait(address, { body: 'foreign' });
    const bootId = (await bed.testbed.httpGet(address, '/boot-id')).body;

    const { image: _image, ...order } = orderOf(7, bed.image, { name: 'foreign', cpus: 1, maxCpus: 1 });
    await bed.order({ ...order, adopted: { xml: described, persistent: true, autostart: true } });
    await bed.guestIs(7, 'taken over', ({ engine, generation }) => engine === 'running' && generation === 1);
    assert.match(await bed.host.run(['virsh', 'list', '--transient', '--name']), /foreign/);
    assert.equal((await bed.testbed.httpGet(address, '/boot-id')).body, bootId);

    await bed.host.run(['virsh', 'destroy', 'foreign']);
    await bed.guestIs(7, 'back', ({ engine, restarts }) => engine === 'running' && restarts === 1);
    assert.match(await bed.host.run(['virsh', 'dumpxml', 'foreign']), /keep="me"|keep='me'/);
    await bed.testbed.httpWait(address, { body: 'foreign' });

    await bed.change(7, { want: 'release' });
    await bed.reportIs('without it', ({ gone }) => gone.some((each) => each.id === uuid));
    assert.equal(await bed.host.run(['virsh', 'dumpxml', '--inactive', '--security-info', 'foreign']), described);
    assert.match(
      await bed.host.run(['virsh', 'list', '--name', '--autostart', '--persistent', '--state-running']),
      /foreign/,
    );
    assert.doesNotMatch(await bed.host.run(['virsh', 'dumpxml', 'foreign']), /urn:virga/);
    await bed.unlist(7);
    await bed.reportIs('with it as a foreign one', (report) =>
      report.foreign.some((each) => each.autostart && each.running),
    );
  });
});
