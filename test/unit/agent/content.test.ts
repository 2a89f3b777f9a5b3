/** What is written for others to read: seeds, firewall rules, messages. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { AssignedNetwork } from '../../../src/core/model/assignment.ts';
import { parseToAgent } from '../../../src/agent/link-messages.ts';
import { natTable } from '../../../src/agent/nft.ts';
import { seedContent } from '../../../src/agent/seed-content.ts';
import { assignment, idOf, networkId, order } from './fake-host.ts';

const lan: AssignedNetwork = {
  id: networkId,
  name: 'lan',
  mode: 'nat',
  bridge: 'vnat0',
  ipv4: { cidr: '10.9.0.0/24', from: '10.9.0.2', to: '10.9.0.9', gateway: '10.9.0.1' },
  ipv6: { cidr: 'fd09::/64', from: 'fd09::2', to: 'fd09::9', gateway: 'fd09::1' },
  mtu: 1400,
  dns: { servers: ['10.9.0.1'], search: ['example.org'] },
};
const nics = [{ networkId, mac: '52:54:00:AA:00:01', ipv4: '10.9.0.2', ipv6: 'fd09::2' }];

describe('seeds', () => {
  test('addresses, routes, DNS and MTU, matched by MAC', () => {
    const seed = seedContent(order(1, { nics }), [lan], 'x-1');
    assert.deepEqual(JSON.parse(seed['meta-data']), { 'instance-id': 'x-1', 'local-hostname': 'g1' });
    assert.deepEqual(JSON.parse(seed['network-config']), {
      version: 2,
      ethernets: {
        nic0: {
          match: { macaddress: '52:54:00:aa:00:01' },
          dhcp4: false,
          dhcp6: false,
          addresses: ['10.9.0.2/24', 'fd09::2/64'],
          routes: [
            { to: '0.0.0.0/0', via: '10.9.0.1' },
            { to: '::/0', via: 'fd09::1' },
          ],
          nameservers: { addresses: ['10.9.0.1'], search: ['example.org'] },
          mtu: 1400,
        },
      },
    });
  });

  test('a network that gives no addresses leaves it to DHCP', () => {
    const { ipv4: _four, ipv6: _six, mtu: _mtu, ...bare } = lan;
    const plain = { ...bare, dns: { servers: [], search: [] } };
    const seed = seedContent(order(1, { nics: [{ networkId, mac: '52:54:00:00:00:01' }] }), [plain], 'x');
    assert.deepEqual(JSON.parse(seed['network-config']).ethernets.nic0, {
      match: { macaddress: '52:54:00:00:00:01' },
      dhcp4: true,
    });
  });

  test('given user data goes as it is; else host name and keys', () => {
    const given = '#!/bin/sh\necho "$HOME"\n';
    assert.equal(seedContent(order(1, { userData: given }), [], 'x')['user-data'], given);
    const key = 'ssh-ed25519 AAAA "quoted"\n: key';
    const made = seedContent(order(1, { sshKeys: [key] }), [], 'x')['user-data'];
    const [first, ...rest] = made.split('\n');
    assert.equal(first, '#cloud-config');
    assert.deepEqual(JSON.parse(rest.join('\n')), {
      hostname: 'g1',
      preserve_hostname: false,
      ssh_authorized_keys: [key],
    });
  });
});

describe('our firewall table', () => {
  test('is replaced whole, names no other table, and masquerades what leaves', () => {
    const text = natTable([lan]);
    assert.ok(text.startsWith('table inet virga\ndelete table inet virga\ntable inet virga {\n'));
    assert.match(text, /ip saddr 10\.9\.0\.0\/24 ip daddr != 10\.9\.0\.0\/24 oifname != "vnat0" counter masquerade/);
    assert.match(text, /ip6 saddr fd09::\/64 ip6 daddr != fd09::\/64/);
    assert.ok(!/flush|ruleset|inet (?!virga)/.test(text));
    assert.equal(natTable([]), 'table inet virga\ndelete table inet virga\n');
  });

  for (const [what, change] of Object.entries({
    'a bridge with a quote': { bridge: 'x" }; flush ruleset; #' },
    'a bridge that is too long': { bridge: 'a'.repeat(16) },
    'a subnet that is none': { ipv4: { cidr: '10.9.0.0/24; drop', from: '', to: '' } },
    'an IPv6 subnet as IPv4': { ipv4: { cidr: 'fd00::/64', from: '', to: '' } },
    'a prefix out of range': { ipv4: { cidr: '10.9.0.0/33', from: '', to: '' } },
  }))
    test(`${what} is refused`, () => {
      assert.throws(() => natTable([{ ...lan, ...change }]), { code: 'invalid_request' });
    });
});

describe('messages of the controller', () => {
  const good = assignment(3, [order(1, { nics, userData: '#!/bin/sh\n', revert: { seq: 1, snapshotId: idOf(9) } })]);
  const frame = (value: unknown): string => JSON.stringify({ type: 'assignment', assignment: value });

  test('an assignment passes as it is; what a newer controller adds is dropped', () => {
    const parsed = parseToAgent(
      frame({ ...good, networks: [lan], colour: 'blue', guests: [{ ...good.guests[0], mood: 1 }] }),
    );
    assert.deepEqual(parsed, { ok: true, message: { type: 'assignment', assignment: { ...good, networks: [lan] } } });
  });

  const [guest] = good.guests;
  for (const [what, value] of Object.entries({
    'a guest id that leaves the folder': { ...good, guests: [{ ...guest, id: '../../etc' }] },
    'a name that is no host name': { ...good, guests: [{ ...guest, name: 'a/b' }] },
    'a wish that we do not know': { ...good, guests: [{ ...guest, want: 'explode' }] },
    'a negative generation': { ...good, generation: -1 },
    'an image that is no digest': { ...good, guests: [{ ...guest, image: { sha512: '/etc/passwd' } }] },
    'a bridge with a space': { ...good, networks: [{ ...lan, bridge: 'br 0' }] },
    'a missing field': { ...good, guests: [{ ...guest, graceSeconds: undefined }] },
    'no list': { ...good, guests: {} },
  }))
    test(`${what} is refused`, () => {
      assert.equal(parseToAgent(frame(value))?.ok, false);
    });

  test('what is no message is refused; an unknown type is passed over', () => {
    assert.equal(parseToAgent('{')?.ok, false);
    assert.equal(parseToAgent('[]')?.ok, false);
    assert.equal(parseToAgent('null')?.ok, false);
    assert.equal(parseToAgent('{"type":"sing"}'), undefined);
    assert.deepEqual(parseToAgent('{"type":"ask","id":4,"ask":"log","guestId":"../x","tailBytes":1}')?.ok, false);
  });
});
