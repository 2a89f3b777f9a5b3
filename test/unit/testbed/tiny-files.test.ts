import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { stringify } from 'yaml';
import { guestFiles } from '../../../src/testbed/tiny-files.ts';

let dir = '';
const macs = ' 52:54:00:77:00:64=eth0 52:54:00:77:00:65=eth1';

/** Runs the guest's own programs (awk of this machine in BusyBox's place) and gives their lines. */
function awk(program: 'net.awk' | 'meta.awk', text: string): string[] {
  writeFileSync(join(dir, 'input'), text);
  const files = ['-f', join(dir, 'yaml.awk'), '-f', join(dir, program)];
  return execFileSync('awk', ['-v', `macs=${macs}`, ...files, join(dir, 'input')], { encoding: 'utf8' })
    .split('\n')
    .filter(Boolean);
}

const config2 = {
  version: 2,
  ethernets: {
    nic0: {
      match: { macaddress: '52:54:00:77:00:64' },
      mtu: 1400,
      addresses: ['10.77.0.100/22', 'fd77::100/64'],
      routes: [
        { to: 'default', via: '10.77.0.1' },
        { to: '::/0', via: 'fd77::1' },
      ],
      nameservers: { addresses: ['10.77.0.1', 'fd77::1'], search: ['example.org'] },
    },
    nic1: { match: { macaddress: '52:54:00:77:00:65' }, addresses: ['192.0.2.5/24'] },
  },
};

const commands2 = [
  'ip link set eth0 mtu 1400',
  'ip link set eth0 up',
  'ip -4 addr add 10.77.0.100/22 dev eth0',
  'ip -6 addr add fd77::100/64 dev eth0',
  'echo nameserver 10.77.0.1 >> /etc/resolv.conf',
  'echo nameserver fd77::1 >> /etc/resolv.conf',
  'ip link set eth1 up',
  'ip -4 addr add 192.0.2.5/24 dev eth1',
  'ip -4 route add default via 10.77.0.1 dev eth0 || ip -4 route add default via 10.77.0.1 dev eth0 onlink',
  'ip -6 route add default via fd77::1 dev eth0 || ip -6 route add default via fd77::1 dev eth0 onlink',
  'arping -q -U -c 2 -I eth0 10.77.0.100 &',
  'arping -q -U -c 2 -I eth1 192.0.2.5 &',
];

describe('the tiny guest’s reading of its seed', () => {
  before(() => {
    dir = mkdtempSync(join(tmpdir(), 'virga-guest-files-'));
    for (const name of ['yaml.awk', 'net.awk', 'meta.awk']) {
      const file = guestFiles.find((entry) => entry.path === `lib/${name}`);
      assert.ok(file);
      writeFileSync(join(dir, name), file.text);
    }
  });
  after(() => rmSync(dir, { recursive: true }));

  test('version 2 in block style, flow style, as JSON, and below a "network" key gives the same commands', () => {
    assert.deepEqual(awk('net.awk', stringify(config2)), commands2);
    assert.deepEqual(awk('net.awk', stringify({ network: config2 })), commands2);
    assert.deepEqual(awk('net.awk', JSON.stringify(config2)), commands2);
    assert.deepEqual(awk('net.awk', JSON.stringify(config2, undefined, 2)), commands2);
    assert.deepEqual(awk('net.awk', stringify(config2, { collectionStyle: 'flow' })), commands2);
    assert.deepEqual(
      awk('net.awk', `#cloud-config\n---\n${stringify(config2, { indent: 4, indentSeq: false })}`),
      commands2,
    );
  });

  test('version 1: netmasks, gateways, name servers, MTU', () => {
    const text = stringify({
      version: 1,
      config: [
        {
          type: 'physical',
          name: 'eth0',
          mac_address: '52:54:00:77:00:64',
          mtu: 9000,
          subnets: [
            {
              type: 'static',
              address: '10.77.0.100',
              netmask: '255.255.252.0',
              gateway: '10.77.0.1',
              dns_nameservers: ['10.77.0.1'],
            },
            { type: 'static6', address: 'fd77::100/64' },
          ],
        },
        { type: 'nameserver', address: ['192.0.2.53'] },
      ],
    });
    assert.deepEqual(awk('net.awk', text), [
      'ip link set eth0 mtu 9000',
      'ip link set eth0 up',
      'ip -4 addr add 10.77.0.100/22 dev eth0',
      'echo nameserver 10.77.0.1 >> /etc/resolv.conf',
      'ip -6 addr add fd77::100/64 dev eth0',
      'echo nameserver 192.0.2.53 >> /etc/resolv.conf',
      'ip -4 route add default via 10.77.0.1 dev eth0 || ip -4 route add default via 10.77.0.1 dev eth0 onlink',
      'arping -q -U -c 2 -I eth0 10.77.0.100 &',
    ]);
  });

  test('block style with flow style inside, as people write it', () => {
    const text = `version: 1
config:
- type: physical   # the only one
  name: eth0
  mac_address: "52:54:00:77:00:64"
  subnets:
  - {type: static, address: 10.77.0.100/22, dns_nameservers: [10.77.0.1]}
  - {type: static6, address: "fd77::100/64"}
`;
    assert.deepEqual(awk('net.awk', text), [
      'ip link set eth0 up',
      'ip -4 addr add 10.77.0.100/22 dev eth0',
      'echo nameserver 10.77.0.1 >> /etc/resolv.conf',
      'ip -6 addr add fd77::100/64 dev eth0',
      'arping -q -U -c 2 -I eth0 10.77.0.100 &',
    ]);
  });

  test('what is no address never reaches the shell', () => {
    const text = stringify({
      version: 2,
      ethernets: { eth0: { addresses: ['10.0.0.1/24; reboot', '$(reboot)'], gateway4: '`x`' } },
    });
    assert.deepEqual(awk('net.awk', text), ['ip link set eth0 up']);
    assert.deepEqual(awk('meta.awk', 'instance-id: "i-1; reboot"\nlocal-hostname: $(reboot)x\n'), [
      'id=i-1reboot',
      'name=rebootx',
    ]);
  });

  test('meta-data in YAML and JSON', () => {
    assert.deepEqual(awk('meta.awk', 'instance-id: i-1\nlocal-hostname: web1\n'), ['id=i-1', 'name=web1']);
    assert.deepEqual(awk('meta.awk', '{"instance-id": "i-1", "local-hostname": "web1"}'), ['id=i-1', 'name=web1']);
  });

  test('every shell script of the guest is one that sh can read', () => {
    const scripts = guestFiles.filter((file) => file.text.startsWith('#!/bin/sh'));
    assert.ok(scripts.length >= 7);
    for (const script of scripts) execFileSync('sh', ['-n'], { input: script.text });
  });
});
