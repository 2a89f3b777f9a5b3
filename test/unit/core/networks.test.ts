import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import ipaddr from 'ipaddr.js';
import { formatAddress, overlap, parseAddress, parseSubnet, usable } from '../../../src/core/net/address.ts';
import type { NetworkInput } from '../../../src/core/requests/inputs.ts';
import { changeNetwork, createNetwork, deleteNetwork } from '../../../src/core/requests/networks.ts';
import { aGuest, refused, TestSite } from './kit.ts';

function make(site: TestSite, input: Partial<NetworkInput> = {}): TestSite {
  site.commit(
    createNetwork(site, { name: 'lan', mode: 'nat', ipv4: { cidr: '10.77.0.0/24' }, ...input }, site.context),
  );
  return site;
}

test('a NAT network: gateway, range and bridge are chosen', () => {
  const site = make(new TestSite(), { ipv6: { cidr: 'FD77:0::/64' } });
  assert.deepEqual(site.byName('network', 'lan')?.spec, {
    mode: 'nat',
    bridge: 'vg-lan',
    ipv4: { cidr: '10.77.0.0/24', from: '10.77.0.2', to: '10.77.0.254', gateway: '10.77.0.1' },
    ipv6: { cidr: 'fd77::/64', from: 'fd77::2', to: 'fd77::ffff:ffff:ffff:ffff', gateway: 'fd77::1' },
    dns: { servers: [], search: [] },
  });
  make(site, { name: 'a-name-that-is-long', ipv4: { cidr: '10.78.0.0/24' } });
  make(site, { name: 'a-name-that-is-lonely', ipv4: { cidr: '10.79.0.0/24' } });
  assert.equal(site.byName('network', 'a-name-that-is-long')?.spec.bridge, 'vg-a-name-that-');
  assert.equal(site.byName('network', 'a-name-that-is-lonely')?.spec.bridge, 'vg-a-name-that1');
});

test('a bridge network has no gateway unless given; the range keeps clear of it', () => {
  const range = (ipv4: NetworkInput['ipv4']): unknown =>
    make(new TestSite(), { mode: 'bridge', bridge: 'br0', ipv4 }).byName('network', 'lan')?.spec.ipv4;
  assert.deepEqual(range({ cidr: '10.0.0.0/30' }), { cidr: '10.0.0.0/30', from: '10.0.0.1', to: '10.0.0.2' });
  const gateway = '10.0.0.100';
  const cidr = '10.0.0.0/24';
  assert.deepEqual(range({ cidr, gateway }), { cidr, from: '10.0.0.101', to: '10.0.0.254', gateway });
  assert.deepEqual(range({ cidr, gateway, from: '10.0.0.50' }), { cidr, from: '10.0.0.50', to: '10.0.0.99', gateway });
  assert.deepEqual(range({ cidr, gateway, to: '10.0.0.120' }), { cidr, from: '10.0.0.101', to: '10.0.0.120', gateway });
  assert.deepEqual(range({ cidr, gateway, to: '10.0.0.50' }), { cidr, from: '10.0.0.1', to: '10.0.0.50', gateway });
});

test('what cannot be a network is refused', () => {
  const wrong: Partial<NetworkInput>[] = [
    { ipv4: undefined },
    { mode: 'bridge' },
    { bridge: 'a-name-longer-than-15' },
    { ipv4: { cidr: '10.77.0.1/24' } },
    { ipv4: { cidr: '10.77.0.0/33' } },
    { ipv4: { cidr: '10.77.0.0' } },
    { ipv4: { cidr: 'fd77::/64' } },
    { ipv4: { cidr: '10.77.0.0/32' } },
    { ipv4: { cidr: '10.77.0.0/24', gateway: '10.78.0.1' } },
    { ipv4: { cidr: '10.77.0.0/24', gateway: '10.77.0.255' } },
    { ipv4: { cidr: '10.77.0.0/24', gateway: '10.77.0.9', from: '10.77.0.2', to: '10.77.0.20' } },
    { ipv4: { cidr: '10.77.0.0/24', from: '10.77.0.20', to: '10.77.0.2' } },
    { dns: { servers: ['one.example'] } },
    { dns: { search: ['-bad-'] } },
  ];
  for (const input of wrong) refused('invalid_request', () => make(new TestSite(), input));
  refused('limit', () => make(new TestSite(), { mtu: 100 }));
  refused('invalid_name', () => make(new TestSite(), { name: 'LAN' }));
});

test('networks do not overlap, but may share a bridge with ranges apart', () => {
  const site = make(new TestSite());
  refused('name_taken', () => make(site, { ipv4: { cidr: '10.78.0.0/24' } }));
  const error = refused('invalid_request', () => make(site, { name: 'b', ipv4: { cidr: '10.77.0.0/16' } }));
  assert.match(error.message, /10.77.0.0\/16 overlaps 10.77.0.0\/24 of the network "lan"/);
  refused('invalid_request', () => make(site, { name: 'b', bridge: 'vg-lan', ipv4: { cidr: '10.78.0.0/24' } }));
  const shared = new TestSite();
  const half = (name: string, from: string, to: string): unknown =>
    make(shared, { name, mode: 'bridge', bridge: 'br0', ipv4: { cidr: '10.0.0.0/24', from, to } });
  half('a', '10.0.0.10', '10.0.0.19');
  half('b', '10.0.0.20', '10.0.0.29');
  refused('invalid_request', () => half('c', '10.0.0.29', '10.0.0.40'));
});

test('a network in use keeps its bridge and its guests’ addresses, and is not deleted', () => {
  const site = make(new TestSite());
  const lan = site.byName('network', 'lan');
  const nic = { networkId: lan?.id ?? '', mac: '52:54:00:00:00:01', ipv4: '10.77.0.9' };
  site.apply({ put: [aGuest('g', { spec: { nics: [nic] } })], remove: [], events: [] });
  const change = (input: Partial<NetworkInput>) => (): unknown =>
    site.commit(
      changeNetwork(site, 'lan', { name: 'lan', mode: 'nat', ipv4: { cidr: '10.77.0.0/24' }, ...input }, site.context),
    );
  refused('in_use', change({ mode: 'bridge', bridge: 'br0' }));
  refused('in_use', change({ ipv4: { cidr: '10.77.0.0/29' } }));
  assert.equal(lan?.generation, 1);
  change({})();
  assert.equal(site.byName('network', 'lan')?.generation, 1, 'the same wish again changes nothing');
  change({ ipv4: { cidr: '10.77.0.0/16' }, mtu: 1400 })();
  assert.equal(site.byName('network', 'lan')?.spec.ipv4?.to, '10.77.255.254');
  assert.match(refused('in_use', () => deleteNetwork(site, 'lan', site.context)).message, /by guests g$/);
  site.apply({ put: [], remove: [{ kind: 'guest', id: site.guest('g').id }], events: [] });
  site.commit(deleteNetwork(site, 'lan', site.context));
  assert.equal(site.count('network'), 0);
});

test('addresses are read and written as an independent library does', () => {
  const bytes = (length: number): fc.Arbitrary<number[]> =>
    fc.array(fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 255 })), { minLength: length, maxLength: length });
  fc.assert(
    fc.property(fc.oneof(bytes(4), bytes(16)), (raw) => {
      const theirs = ipaddr.fromByteArray(raw);
      const value = raw.reduce((sum, byte) => sum * 256n + BigInt(byte), 0n);
      const family = raw.length === 4 ? 4 : 6;
      const text = formatAddress(family, value);
      assert.equal(text, theirs.kind() === 'ipv6' ? (theirs as ipaddr.IPv6).toRFC5952String() : theirs.toString());
      assert.deepEqual(parseAddress(text), { family, value });
      assert.deepEqual(parseAddress(theirs.toNormalizedString()), { family, value });
    }),
  );
});

test('what is no address or subnet is not read', () => {
  for (const text of [
    '',
    '1.2.3',
    '1.2.3.256',
    '01.2.3.4',
    '1.2.3.4.5',
    ':',
    ':::',
    '1::2::3',
    '1:2:3:4:5:6:7:8:9',
    '1:2:3:4:5:6:7::8',
    'g::',
    '::1.2.3.4:5',
    ' ::1',
    '1:2:3:4:5:6:7',
  ])
    assert.equal(parseAddress(text), undefined, text);
  assert.deepEqual(parseAddress('::1.2.3.4'), { family: 6, value: 0x01020304n });
  for (const text of ['10.0.0.0/', '10.0.0.0/08', '10.0.0.0/8/8', '10.0.0.0/-1', '::/129', '10.0.0.1/8'])
    assert.equal(parseSubnet(text), undefined, text);
});

test('subnets: usable addresses and overlap', () => {
  const subnet = (text: string): NonNullable<ReturnType<typeof parseSubnet>> => {
    const read = parseSubnet(text);
    assert.ok(read);
    return read;
  };
  const ends = usable(subnet('10.0.0.0/29'));
  assert.deepEqual([formatAddress(4, ends.first), formatAddress(4, ends.last)], ['10.0.0.1', '10.0.0.6']);
  assert.equal(usable(subnet('10.0.0.0/31')).first, subnet('10.0.0.0/31').first);
  assert.ok(overlap(subnet('10.0.0.0/8'), subnet('10.3.0.0/16')));
  assert.ok(!overlap(subnet('10.0.0.0/16'), subnet('10.1.0.0/16')));
  assert.ok(!overlap(subnet('::/0'), subnet('0.0.0.0/0')));
});
