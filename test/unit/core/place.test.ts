import assert from 'node:assert/strict';
import { test } from 'node:test';
import { chooseMachine } from '../../../src/core/place/machine.ts';
import { promisable, promised } from '../../../src/core/place/capacity.ts';
import { explain } from '../../../src/core/place/explain.ts';
import { shapeOf } from '../../../src/core/place/fit.ts';
import { Placer } from '../../../src/core/place/placer.ts';
import { aGuest, aHost, aNetwork, engine, TestSite } from './kit.ts';
import type { GuestWish, HostWish } from './kit.ts';

function why(wish: HostWish, guestWish: GuestWish = {}): string {
  const guest = aGuest('g', guestWish);
  const site = new TestSite([aHost('h1', wish), aNetwork('lan', { bridge: 'br9' }), guest]);
  const placer = new Placer(site);
  const shape = shapeOf(site, guest);
  return placer.place(shape) ? 'fits' : (placer.refusal(shape).sentences[0] ?? '');
}

test('each reason why a host does not fit is said, with figures', () => {
  assert.equal(why({}), 'fits');
  assert.equal(why({ status: { state: 'silent' } }), 'h1: silent');
  assert.equal(why({ status: { state: 'invited' } }), 'h1: not heard from yet');
  assert.equal(why({ spec: { cordoned: true, cordonReason: 'fan' } }), 'h1: cordoned (fan)');
  assert.equal(why({}, { spec: { hostId: 'other' } }), 'h1: pinned to another host');
  assert.equal(why({}, { spec: { memoryMiB: 20_000 } }), 'h1: not enough memory: 20000 MiB needed, 16384 MiB free');
  assert.equal(why({}, { spec: { cpus: 9 } }), 'h1: not enough CPUs: 9 needed, 8 free');
  assert.equal(why({}, { spec: { diskMiB: 200_000 } }), 'h1: not enough disk: 200000 MiB needed, 102400 MiB free');
  assert.equal(why({ status: { engine: { ...engine, arch: 'aarch64' } } }), 'h1: is aarch64, not x86_64');
  assert.match(
    why({ status: { engine: { ...engine, machines: ['pc-q35-6.2'] } } }),
    /does not offer machine type pc-q35-7.2/,
  );
  assert.match(why({ status: { engine: { ...engine, cpuModels: ['Nehalem'] } } }), /does not offer CPU model qemu64/);
  const uefi = {
    spec: { machine: { arch: 'x86_64', type: 'pc-q35-7.2', firmware: 'uefi', cpuModel: 'qemu64' } },
  } as const;
  assert.match(why({ status: { engine: { ...engine, firmwares: ['bios'] } } }, uefi), /has no UEFI firmware/);
});

test('a host without engine facts or figures takes nothing', () => {
  const host = aHost('h1');
  const { engine: _engine, ...dumb } = host.status;
  const { measured: _measured, ...unmeasured } = host.status;
  for (const [status, sentence] of [
    [dumb, 'h1: its engine does not answer'],
    [unmeasured, 'h1: has not said yet what it has'],
  ] as const) {
    const guest = aGuest('g');
    const site = new TestSite([{ ...host, status }, guest]);
    const placer = new Placer(site);
    assert.equal(placer.place(shapeOf(site, guest)), undefined);
    assert.deepEqual(placer.refusal(shapeOf(site, guest)).sentences, [sentence]);
  }
});

test('a missing bridge and a host’s complaint about a network keep guests away', () => {
  const lan = aNetwork('lan', { bridge: 'br9' });
  const nat = {
    ...aNetwork('nat', { mode: 'nat', bridge: 'vg-nat' }),
    status: { problems: [{ host: 'h1', message: 'no nft' }] },
  };
  const nic = (networkId: string): GuestWish => ({ spec: { nics: [{ networkId, mac: '52:54:00:00:00:01' }] } });
  const site = new TestSite([aHost('h1'), lan, nat]);
  const refusal = (wish: GuestWish): unknown => {
    const shape = shapeOf(site, aGuest('g', wish));
    const placer = new Placer(site);
    return placer.place(shape) ?? placer.refusal(shape).sentences;
  };
  assert.deepEqual(refusal(nic(lan.id)), ['h1: has no bridge br9 (network lan)']);
  assert.deepEqual(refusal(nic(nat.id)), ['h1: cannot use network nat: no nft']);
});

test('capacity is what was measured or set, times overcommit, less what is reserved', () => {
  const host = aHost('h1', {
    spec: {
      overcommit: { cpu: 4, memory: 1.5 },
      reserved: { cpus: 1, memoryMiB: 512, diskMiB: 1000 },
      capacity: { memoryMiB: 1000 },
    },
  });
  assert.deepEqual(promisable(host), { cpus: 31, memoryMiB: 988, diskMiB: 101_400 });
});

test('foreign domains and strays count while they run, and never twice', () => {
  const foreign = (uuid: string, running: boolean, autostart: boolean): object => ({
    uuid,
    name: uuid,
    running,
    autostart,
    persistent: true,
    cpus: 2,
    memoryMiB: 1000,
  });
  const ours = aGuest('ours');
  const host = aHost('h1', {
    status: {
      foreign: [
        foreign('a', true, false),
        foreign('b', false, false),
        foreign('c', false, true),
        foreign(ours.id, true, false),
      ] as never,
      strays: [
        { id: 's', name: 's', running: true, generation: 1, cpus: 1, memoryMiB: 10 },
        { id: 't', name: 't', running: false, generation: 1, cpus: 1, memoryMiB: 10 },
      ],
    },
  });
  const placed = aGuest('ours', { id: ours.id, on: host });
  const stopped = aGuest('stopped', { on: host, spec: { power: 'off' } });
  assert.deepEqual(promised(new TestSite([host, placed, stopped]), host), {
    cpus: 2 + 2 + 1 + 1 + 1,
    memoryMiB: 1000 + 1000 + 10 + 512 + 512,
    diskMiB: 128,
  });
});

test('the least loaded host wins; ties go by name; every placement counts at once', () => {
  const site = new TestSite([
    aHost('h3'),
    aHost('h1'),
    aHost('h2', { status: { measured: { cpus: 16, memoryMiB: 32_768, diskMiB: 102_400 } } }),
  ]);
  const placer = new Placer(site);
  const shape = shapeOf(site, aGuest('g'));
  const order = Array.from({ length: 6 }, () => placer.place(shape)?.host.name);
  // h2 is twice as large: two guests there load it as one does the others.
  assert.deepEqual(order, ['h2', 'h1', 'h2', 'h3', 'h2', 'h1']);
  const first = new Placer(site).place(shape);
  assert.deepEqual(first?.reasons, [
    'h2 is the least loaded of 3 hosts that fit: with it 2 % of memory and 6 % of CPUs are promised',
  ]);
});

test('guests of different shapes share one count', () => {
  const site = new TestSite([aHost('h1', { status: { measured: { cpus: 4, memoryMiB: 4096, diskMiB: 10_000 } } })]);
  const placer = new Placer(site);
  const small = shapeOf(site, aGuest('s', { spec: { cpus: 1 } }));
  const large = shapeOf(site, aGuest('l', { spec: { cpus: 2 } }));
  assert.ok(placer.place(small));
  assert.ok(placer.place(large));
  assert.equal(placer.place(large), undefined);
  assert.ok(placer.place(small));
  assert.equal(placer.place(small), undefined);
  assert.equal(placer.refusal(small).summary, '1 host: not enough CPUs (1)');
});

test('with many hosts the reasons are summed up', () => {
  const hosts = Array.from({ length: 20 }, (_, index) => aHost(`h${index + 10}`, { spec: { cordoned: index < 5 } }));
  const site = new TestSite(hosts);
  const { summary, sentences } = new Placer(site).refusal(shapeOf(site, aGuest('g', { spec: { cpus: 99 } })));
  assert.equal(summary, '20 hosts: cordoned (5), not enough CPUs (15)');
  assert.deepEqual(sentences, ['5 hosts (h10 …): cordoned', '15 hosts (h15 …): not enough CPUs']);
});

test('explain judges every host, the guest’s own first, without counting the guest itself', () => {
  const h1 = aHost('h1', { status: { measured: { cpus: 1, memoryMiB: 600, diskMiB: 1000 } } });
  const guest = aGuest('g', { on: h1 });
  const site = new TestSite([aHost('h0', { spec: { cordoned: true } }), h1, aHost('h2'), guest]);
  const { placed, hosts } = explain(site, guest);
  assert.deepEqual(placed, { host: 'h1', reasons: ['because'] });
  assert.deepEqual(
    hosts.map(({ host, chosen, fits, sentence }) => [host, chosen, fits, sentence]),
    [
      ['h1', true, true, 'fits: with it 85 % of memory and 100 % of CPUs are promised'],
      ['h2', false, true, 'fits: with it 3 % of memory and 13 % of CPUs are promised'],
      ['h0', false, false, 'cordoned'],
    ],
  );
});

test('the machine is the newest versioned type that most hosts offer, with a named CPU', () => {
  const newer = aHost('new', {
    status: { engine: { ...engine, machines: ['pc-q35-10.0', 'pc-q35-9.1', 'pc-q35-7.2', 'q35'] } },
  });
  assert.deepEqual(chooseMachine([newer, aHost('old')], {}), {
    arch: 'x86_64',
    type: 'pc-q35-7.2',
    firmware: 'bios',
    cpuModel: 'qemu64',
  });
  assert.equal(chooseMachine([newer], {})?.type, 'pc-q35-10.0', 'versions are numbers, not text');
  const kvm = aHost('kvm', { status: { engine: { ...engine, kvm: true } } });
  assert.equal(chooseMachine([kvm], {})?.cpuModel, 'Nehalem');
  assert.equal(chooseMachine([kvm, aHost('tcg')], {})?.cpuModel, 'qemu64', 'a guest may land on either');
  assert.throws(() => chooseMachine([kvm], { cpuModel: 'host-passthrough' }), /named one/);
  assert.equal(chooseMachine([], {}), undefined);
});
