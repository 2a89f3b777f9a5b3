import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { all, at, attr, child, parseXml, text } from '../../../src/libvirt/index.ts';
import { domainXml, metadataUri, readIdentity, snapshotXml } from '../../../src/agent/domain-xml.ts';
import { exitFromLog, exitReason } from '../../../src/agent/engine-view.ts';
import { addressesOf } from '../../../src/agent/guest-addresses.ts';
import type { DomainSpec } from '../../../src/ports.ts';

const spec: DomainSpec = {
  id: '00000000-0000-4000-8000-000000000101',
  name: 'web-1',
  siteId: '00000000-0000-4000-8000-00000000000a',
  generation: 7,
  epoch: 3,
  owner: 'local:root',
  community: 'site',
  cpus: 2,
  maxCpus: 4,
  memoryMiB: 256,
  maxMemoryMiB: 1024,
  arch: 'x86_64',
  machineType: 'pc-q35-7.2',
  firmware: 'bios',
  cpuModel: 'qemu64',
  disks: [{ path: '/d/disk-2.qcow2', format: 'qcow2', backing: ['/d/disk-0.qcow2', '/i/tiny.qcow2'] }],
  seedPath: '/d/seed.iso',
  nics: [{ bridge: 'br0', mac: '52:54:00:00:00:01', mtu: 1400 }],
  serialLogPath: '/d/serial.log',
};
const emulated = { type: 'qemu', emulator: '/usr/bin/qemu-system-x86_64' } as const;

const golden = `<domain type="qemu"><name>web-1</name><uuid>00000000-0000-4000-8000-000000000101</uuid>
<metadata><virga:guest xmlns:virga="urn:virga:guest:1" site="00000000-0000-4000-8000-00000000000a" id="00000000-0000-4000-8000-000000000101" name="web-1" generation="7" epoch="3" owner="local:root" community="site" started="42"/></metadata>
<memory unit="MiB">1024</memory><currentMemory unit="MiB">256</currentMemory><vcpu placement="static" current="2">4</vcpu>
<os><type arch="x86_64" machine="pc-q35-7.2">hvm</type></os>
<features><acpi/><apic/></features>
<cpu mode="custom" match="exact" check="none"><model fallback="forbid">qemu64</model></cpu>
<clock offset="utc"/><on_poweroff>destroy</on_poweroff><on_reboot>restart</on_reboot><on_crash>destroy</on_crash>
<devices><emulator>/usr/bin/qemu-system-x86_64</emulator>
<disk type="file" device="disk"><driver name="qemu" type="qcow2" cache="writeback" error_policy="stop" discard="unmap"/><source file="/d/disk-2.qcow2"/>
<backingStore type="file"><format type="qcow2"/><source file="/d/disk-0.qcow2"/><backingStore type="file"><format type="qcow2"/><source file="/i/tiny.qcow2"/><backingStore/></backingStore></backingStore>
<target dev="vda" bus="virtio"/><boot order="1"/></disk>
<disk type="file" device="disk"><driver name="qemu" type="raw" error_policy="stop"/><source file="/d/seed.iso"/><backingStore/><target dev="vdb" bus="virtio"/><readonly/></disk>
<interface type="bridge"><mac address="52:54:00:00:00:01"/><source bridge="br0"/><model type="virtio"/><mtu size="1400"/></interface>
<serial type="pty"><log file="/d/serial.log" append="on"/><target port="0"/></serial>
<console type="pty"><log file="/d/serial.log" append="on"/><target type="serial" port="0"/></console>
<channel type="unix"><target type="virtio" name="org.qemu.guest_agent.0"/></channel>
<memballoon model="virtio"><stats period="10"/></memballoon>
<rng model="virtio"><backend model="random">/dev/urandom</backend></rng>
<controller type="usb" model="none"/></devices></domain>`.replaceAll('\n', '');

describe('the description of a domain', () => {
  test('is this, for an emulated guest with a snapshot', () => {
    assert.equal(domainXml(spec, emulated, 42), golden);
  });

  test('with KVM and UEFI', () => {
    const uefi = { ...spec, firmware: 'uefi' as const, nvramPath: '/d/vars.fd' };
    const root = parseXml(domainXml(uefi, { type: 'kvm', emulator: '/e', uefiCode: '/code.fd' }, 42));
    assert.equal(attr(root, 'type'), 'kvm');
    assert.equal(text(root, 'os/loader'), '/code.fd');
    assert.equal(attr(at(root, 'os/loader'), 'readonly'), 'yes');
    assert.equal(text(root, 'os/nvram'), '/d/vars.fd');
    assert.equal(at(root, 'features/tcg'), undefined);
  });

  test('carries hostile words as text, and nothing else of them', () => {
    const hostile = `"/><on_crash>preserve</on_crash>'<!--]]>&lt;\u{1F600}\n`;
    const root = parseXml(
      domainXml({ ...spec, owner: hostile, community: hostile, serialLogPath: `/d/${hostile}` }, emulated, 42),
    );
    assert.equal(all(root, 'on_crash').length, 1);
    const identity = readIdentity(root);
    assert.equal(identity?.owner, hostile);
    assert.equal(identity?.community, hostile);
    assert.equal(attr(at(root, 'devices/serial/log'), 'file'), `/d/${hostile}`);
  });

  test('what XML cannot carry is refused', () => {
    assert.throws(() => domainXml({ ...spec, owner: 'bell\u0007' }, emulated, 42), /cannot carry/);
  });

  test('the identity comes back as it went', () => {
    const { id, name, siteId, generation, epoch, owner, community } = spec;
    const identity = readIdentity(parseXml(domainXml(spec, emulated, 42)));
    assert.deepEqual(identity, { id, name, siteId, generation, epoch, owner, community, startedAt: 42 });
    assert.equal(readIdentity(parseXml('<domain><metadata><guest id="x"/></metadata></domain>')), undefined);
  });

  test('a taken-over domain keeps everything of its own; an older identity of ours is replaced', () => {
    const own = `<domain type='qemu' id='7' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'><name>db</name>
      <metadata><o:tag xmlns:o='urn:o' a='1'/><virga:guest xmlns:virga='${metadataUri}' id='old'/></metadata>
      <devices><disk type='file'><source file='/own.img'/></disk></devices>
      <qemu:commandline><qemu:arg value='-foo'/></qemu:commandline></domain>`;
    const adopted = { xml: own, persistent: true, autostart: true };
    const root = parseXml(domainXml({ ...spec, disks: [], nics: [], adopted }, emulated, 42));
    assert.equal(attr(root, 'id'), undefined);
    assert.equal(text(root, 'name'), 'db');
    assert.equal(attr(at(root, 'devices/disk/source'), 'file'), '/own.img');
    assert.equal(readIdentity(root)?.id, spec.id);
    const metadata = child(root, 'metadata');
    assert.ok(metadata && child(metadata, 'tag', 'urn:o'));
    assert.ok(child(root, 'commandline', 'http://libvirt.org/schemas/domain/qemu/1.0'));
    assert.equal(all(root, 'metadata').length, 1);
  });

  test('a snapshot names every disk', () => {
    assert.equal(
      snapshotXml('/d/disk-3.qcow2', ['vdb']),
      '<domainsnapshot><disks><disk name="vda" snapshot="external" type="file"><driver type="qcow2"/><source file="/d/disk-3.qcow2"/></disk><disk name="vdb" snapshot="no"/></disks></domainsnapshot>',
    );
  });
});

describe('how guests end', () => {
  test('by the details of the event', () => {
    assert.deepEqual([0, 1, 2, 3, 5, 99].map(exitReason), [
      'shutdown',
      'destroyed',
      'crashed',
      'unknown',
      'failed',
      'unknown',
    ]);
  });

  test('by libvirt’s log, unless it was started again since', () => {
    const start = '2026-11-21 15:00:00.000+0000: starting up libvirt version: 9.0.0\n';
    const end = '2026-11-21 15:59:01.123+0000: shutting down, reason=crashed\n';
    const exitAt = Date.parse('2026-11-21T15:59:01.123Z');
    assert.deepEqual(exitFromLog(`${start}rubbish\n${end}`), { reason: 'crashed', exitAt });
    assert.equal(exitFromLog(`${end}${start}`), undefined);
    assert.equal(exitFromLog('a guest wrote: shutting down, reason=shutdown\n'), undefined);
    assert.equal(exitFromLog(end.replace('crashed', 'daemon'))?.reason, 'unknown');
  });
});

test('addresses from inside a guest are bounded and look like addresses', () => {
  const addrs = [
    { type: 0, addr: '10.0.0.1', prefix: 24 },
    { type: 1, addr: 'fd00::1', prefix: 64 },
    { type: 0, addr: '<script>', prefix: 24 },
  ];
  const found = addressesOf([
    { name: 'lo', hwaddr: null, addrs: [{ type: 0, addr: '127.0.0.1', prefix: 8 }] },
    { name: 'eth0', hwaddr: null, addrs },
    { name: 'many', hwaddr: null, addrs: Array.from({ length: 100 }, () => ({ type: 0, addr: '1.1.1.1', prefix: 8 })) },
  ]);
  assert.equal(found.length, 32);
  assert.deepEqual(found.slice(0, 2), [
    { source: 'agent', family: 4, address: '10.0.0.1', interface: 'eth0' },
    { source: 'agent', family: 6, address: 'fd00::1', interface: 'eth0' },
  ]);
});
