import assert from 'node:assert/strict';
import { test } from 'node:test';
import { runGuests } from '../../../src/core/requests/guests.ts';
import { aGuest, aHost, aNetwork, anImage, engine, refused, TestSite } from './kit.ts';
import type { AnyResource } from '../../../src/core/model/snapshot.ts';
import type { RunGuestInput } from '../../../src/core/requests/inputs.ts';

function siteWith(...more: AnyResource[]): TestSite {
  return new TestSite([aHost('h1'), aHost('h2'), anImage('debian'), ...more]);
}

function run(site: TestSite, input: Partial<RunGuestInput> = {}): ReturnType<typeof runGuests> {
  return site.commit(runGuests(site, { image: 'debian', name: 'web', ...input }, site.context));
}

test('one guest: defaults, place, order, event', () => {
  const site = siteWith();
  const { created } = run(site);
  const guest = site.guest('web');
  assert.deepEqual(created, [{ kind: 'guest', id: guest.id }]);
  assert.equal(guest.spec.cpus, 1);
  assert.equal(guest.spec.memoryMiB, 512);
  assert.equal(guest.spec.diskMiB, 64);
  assert.equal(guest.spec.restart, 'on-failure');
  assert.equal(guest.spec.diskMode, 'keep');
  assert.equal(guest.spec.graceSeconds, 30);
  assert.deepEqual(guest.spec.machine, { arch: 'x86_64', type: 'pc-q35-7.2', firmware: 'bios', cpuModel: 'qemu64' });
  assert.equal(guest.spec.image?.sha512, 'b'.repeat(128), 'hosts verify the stored copy');
  assert.equal(guest.status.state, 'starting');
  assert.equal(guest.status.placement?.hostId, site.host('h1').id);
  assert.equal(guest.status.placement.generation, 1);
  assert.equal(guest.status.lastGeneration, 1);
  assert.equal(guest.owner, 'local:root');
  assert.deepEqual(
    site.events.map((each) => each.type),
    ['guest.created'],
  );
});

test('a virtual size that is no whole MiB is rounded up', () => {
  const image = anImage('odd');
  const site = siteWith({ ...image, status: { ...image.status, virtualBytes: 64 * 1024 ** 2 + 1 } });
  run(site, { image: 'odd' });
  assert.equal(site.guest('web').spec.diskMiB, 65);
});

test('with a count the names are numbered and the guests spread', () => {
  const site = siteWith();
  run(site, { count: 4 });
  const hosts = ['web-1', 'web-2', 'web-3', 'web-4'].map((name) => site.guest(name).status.placement?.hostId);
  const [a, b] = [site.host('h1').id, site.host('h2').id];
  assert.deepEqual(hosts, [a, b, a, b]);
});

test('without a name the lowest free numbers of the image’s name', () => {
  const site = siteWith(aGuest('debian-2'));
  const { name: _none, ...nameless } = { name: '', image: 'debian', count: 2 };
  site.commit(runGuests(site, nameless, site.context));
  assert.ok(site.guest('debian-1'));
  assert.ok(site.guest('debian-3'));
});

test('all or nothing, with the hosts’ reasons; partial takes what fits and names the rest', () => {
  const site = siteWith(aHost('h3', { spec: { cordoned: true } }));
  const error = refused('no_placement', () => run(site, { count: 20 }));
  assert.equal(error.message, 'No host can take 4 of the 20 guests: 3 hosts: not enough CPUs (2), cordoned (1)');
  assert.equal(site.count('guest'), 0);
  const { created, refused: left } = run(site, { count: 20, partial: true });
  assert.equal(created.length, 16);
  assert.deepEqual(
    left.map((each) => each.name),
    ['web-17', 'web-18', 'web-19', 'web-20'],
  );
  refused('no_placement', () => run(site, { name: 'more', partial: true }));
});

test('without hosts, or with hosts that have not spoken, nothing is accepted', () => {
  const empty = new TestSite([anImage('debian')]);
  refused('no_hosts', () => run(empty));
  const host = aHost('h1', { status: { state: 'invited' } });
  const { engine: _engine, ...dumb } = host.status;
  const mute = new TestSite([{ ...host, status: dumb }, anImage('debian')]);
  refused('no_placement', () => run(mute));
});

test('a pinned guest goes there or nowhere', () => {
  const site = siteWith(aHost('full', { status: { measured: { cpus: 0, memoryMiB: 0, diskMiB: 0 } } }));
  run(site, { host: 'h2' });
  assert.equal(site.guest('web').status.placement?.hostId, site.host('h2').id);
  const error = refused('no_placement', () => run(site, { name: 'b', host: 'full' }));
  assert.match(error.message, /not enough memory \(1\)/);
});

test('names, images, sizes and texts are checked', () => {
  const image = anImage('busy');
  const site = siteWith(aGuest('taken'), { ...image, status: { ...image.status, state: 'checking' } });
  refused('invalid_name', () => run(site, { name: 'Web' }));
  refused('invalid_name', () => run(site, { name: 'a'.repeat(62), count: 2 }));
  refused('name_taken', () => run(site, { name: 'taken' }));
  refused('not_found', () => run(site, { image: 'nothing' }));
  refused('not_ready', () => run(site, { image: 'busy' }));
  refused('limit', () => run(site, { count: 1025 }));
  refused('limit', () => run(site, { count: 0 }));
  refused('limit', () => run(site, { cpus: 0 }));
  refused('limit', () => run(site, { cpus: 2, maxCpus: 1 }));
  refused('limit', () => run(site, { memoryMiB: 1 }));
  refused('limit', () => run(site, { diskMiB: 63 }));
  refused('invalid_request', () => run(site, { cpus: 1.5 }));
  refused('limit', () => run(site, { graceSeconds: -1 }));
  refused('limit', () => run(site, { userData: 'é'.repeat(16_385) }));
  refused('invalid_request', () => run(site, { sshKeys: ['hello'] }));
  refused('invalid_request', () => run(site, { labels: { 'a b': 'c' } }));
  refused('invalid_request', () => run(site, { labels: { a: 'b,c' } }));
  refused('limit', () =>
    run(site, { labels: Object.fromEntries(Array.from({ length: 65 }, (_, at) => [`k${at}`, 'v'])) }),
  );
  refused('invalid_request', () => run(site, { machineType: '<x>' }));
  refused('no_placement', () => run(site, { machineType: 'pc-q35-1.0' }));
  assert.equal(site.count('guest'), 1);
});

test('someone who may only look creates nothing', () => {
  const site = siteWith();
  site.role = 'read';
  refused('forbidden', () => run(site));
});

test('the network: default, the only one, none, or the named ones', () => {
  const lan = aNetwork('lan');
  const only = siteWith(lan);
  run(only);
  assert.deepEqual(
    only.guest('web').spec.nics.map((nic) => [nic.networkId, nic.ipv4]),
    [[lan.id, '10.0.0.2']],
  );
  const usual = aNetwork('default', {
    bridge: 'br0',
    ipv4: { cidr: '10.1.0.0/24', from: '10.1.0.9', to: '10.1.0.10' },
  });
  const both = siteWith(lan, usual);
  run(both);
  assert.equal(both.guest('web').spec.nics[0]?.ipv4, '10.1.0.9');
  run(both, { name: 'none', networks: [] });
  assert.deepEqual(both.guest('none').spec.nics, []);
  run(both, { name: 'two', networks: ['lan', 'default'] });
  assert.deepEqual(
    both.guest('two').spec.nics.map((nic) => nic.ipv4),
    ['10.0.0.2', '10.1.0.10'],
  );
  refused('invalid_request', () => run(both, { name: 'x', networks: ['lan', 'lan'] }));
  const error = refused('address_range_full', () => run(both, { name: 'third' }));
  assert.equal(error.message, 'The network "default" has no free address left (2 of 2 used)');
});

test('addresses of both families, lowest free first, none twice', () => {
  const lan = aNetwork('lan', { ipv6: { cidr: 'fd77::/64', from: 'fd77::2', to: 'fd77::ffff' } });
  const taken = aGuest('old', {
    spec: { nics: [{ networkId: lan.id, mac: '52:54:00:00:00:01', ipv4: '10.0.0.3', ipv6: 'fd77::2' }] },
  });
  const site = siteWith(lan, taken);
  run(site, { count: 2 });
  const nics = ['web-1', 'web-2'].map((name) => site.guest(name).spec.nics[0]);
  assert.deepEqual(
    nics.map((nic) => [nic?.ipv4, nic?.ipv6]),
    [
      ['10.0.0.2', 'fd77::3'],
      ['10.0.0.4', 'fd77::4'],
    ],
  );
  for (const nic of nics) assert.match(nic?.mac ?? '', /^52:54:00(:[0-9a-f]{2}){3}$/);
  assert.equal(new Set([...nics.map((nic) => nic?.mac), '52:54:00:00:00:01']).size, 3);
});

test('a fixed address must be in the range and free', () => {
  const lan = aNetwork('lan', { ipv6: { cidr: 'fd77::/64', from: 'fd77::2', to: 'fd77::ffff' } });
  const site = siteWith(lan);
  run(site, { addresses: { lan: 'fd77:0::9' } });
  assert.deepEqual(
    [site.guest('web').spec.nics[0]?.ipv4, site.guest('web').spec.nics[0]?.ipv6],
    ['10.0.0.2', 'fd77::9'],
  );
  const fixed =
    (address: string, more: Partial<RunGuestInput> = {}) =>
    (): unknown =>
      run(site, { name: 'b', addresses: { lan: address }, ...more });
  refused('in_use', fixed('fd77::9'));
  refused('in_use', fixed('10.0.0.2'));
  refused('invalid_request', fixed('10.0.0.1'));
  refused('invalid_request', fixed('10.2.0.1'));
  refused('invalid_request', fixed('10.0.0.01'));
  refused('invalid_request', fixed('10.0.0.9', { count: 2 }));
  refused('invalid_request', () => run(site, { name: 'b', addresses: { other: '10.0.0.9' } }));
});

test('UEFI is refused where no host has it, and pinned where one has', () => {
  const site = new TestSite([
    aHost('h1', { status: { engine: { ...engine, firmwares: ['bios'] } } }),
    aHost('h2'),
    anImage('debian'),
  ]);
  run(site, { firmware: 'uefi' });
  assert.equal(site.guest('web').status.placement?.hostId, site.host('h2').id);
});
