import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { HostReport } from '../../../src/core/model/assignment.ts';
import type { Guest } from '../../../src/core/model/guest.ts';
import type { Instant } from '../../../src/core/model/resource.ts';
import { receiveReport } from '../../../src/core/report.ts';
import { deleteGuest } from '../../../src/core/requests/actions.ts';
import { releaseGuest } from '../../../src/core/requests/adoption.ts';
import { aGuest, aHost, aNetwork, aReport, sight, t0, TestSite } from './kit.ts';
import type { GuestWish, HostWish } from './kit.ts';

interface World {
  site: TestSite;
  /** Types of the events that this report makes. */
  hear: (more?: Partial<HostReport>, look?: Parameters<typeof sight>[1], now?: Instant) => string[];
  guest: () => Guest;
}

/** One host with one guest, both as first reported. */
function world(guestWish: GuestWish = {}, hostWish: HostWish = {}): World {
  const h1 = aHost('h1', {
    ...hostWish,
    status: { agentVersion: '0.1.0', protocol: 1, assignmentGeneration: 1, ...hostWish.status },
  });
  const site = new TestSite([h1, aGuest('g', { on: h1, ...guestWish })]);
  const hear: World['hear'] = (more = {}, look = {}, now = t0) => {
    const there = site.byName('guest', 'g');
    const report = aReport(site.host('h1'), there ? [sight(there, look)] : [], more);
    const { change } = site.commit(receiveReport(site, h1.id, report, now));
    return change.events.map((each) => each.type);
  };
  hear();
  return { site, hear, guest: () => site.guest('g') };
}

function writes(run: () => unknown, site: TestSite): number {
  const before = [...site.all('guest'), ...site.all('host'), ...site.all('network')].map((each) => each.revision);
  run();
  const after = [...site.all('guest'), ...site.all('host'), ...site.all('network')].map((each) => each.revision);
  return after.filter((revision) => !before.includes(revision)).length;
}

test('the same report again, and mere flicker, write nothing', () => {
  const { site, hear } = world();
  const later = t0 + 60_000;
  assert.equal(
    writes(() => hear({ observedAt: later }, { observedAt: later }, later), site),
    0,
  );
  const used = { cpuPercent: 4, memoryMiB: 1020, diskMiB: 1001 };
  assert.equal(
    writes(() => hear({ observedAt: later, used }, { observedAt: later, cpuPercent: 4 }, later), site),
    0,
  );
});

test('load that moved visibly is written every 15 seconds at most', () => {
  const { site, hear, guest } = world();
  const busy = { used: { cpuPercent: 90, memoryMiB: 9000, diskMiB: 1000 } };
  const soon = t0 + 14_999;
  assert.equal(
    writes(() => hear(busy, { observedAt: soon, cpuPercent: 90 }, soon), site),
    0,
  );
  const later = t0 + 15_000;
  assert.equal(
    writes(() => hear(busy, { observedAt: later, cpuPercent: 90 }, later), site),
    2,
  );
  assert.equal(guest().status.observed?.cpuPercent, 90);
  assert.equal(site.host('h1').status.used?.memoryMiB, 9000);
});

test('progress is written in steps, a new phase at once', () => {
  const { site, hear } = world();
  const preparing = (what: string, progress: number) => (): unknown => hear({}, { preparing: { what, progress } });
  assert.equal(writes(preparing('image', 0), site), 1);
  assert.equal(writes(preparing('image', 0.04), site), 0);
  assert.equal(writes(preparing('image', 0.06), site), 1);
  assert.equal(writes(preparing('disk', 0.06), site), 1);
});

test('a host that is heard from again is online, and its guests are known again', () => {
  const { site, hear, guest } = world();
  const silent = site.host('h1');
  site.apply({
    put: [
      { ...silent, status: { ...silent.status, state: 'silent' } },
      { ...guest(), status: { ...guest().status, state: 'unknown', stateReason: 'host h1 is silent' } },
    ],
    remove: [],
    events: [],
  });
  assert.deepEqual(hear({}, {}, t0 + 1), ['host.online', 'guest.state']);
  assert.equal(guest().status.state, 'running');
  assert.equal(guest().status.stateReason, undefined);
});

test('what changed in meaning is an event with its cause', () => {
  const { site, hear, guest } = world();
  const exit = { reason: 'crashed', exitAt: t0 + 1 } as const;
  assert.deepEqual(hear({}, { engine: 'crashed', exit }), ['guest.exited', 'guest.state']);
  assert.deepEqual([site.events.at(-2)?.severity, site.events.at(-2)?.cause], ['error', 'crashed']);
  assert.equal(guest().status.state, 'starting', 'on-failure: it comes back');
  const back = { exit, restarts: 1, since: { startedAt: t0 + 2 } };
  assert.deepEqual(hear({}, back), ['guest.restarted', 'guest.state']);
  const off = { reason: 'shutdown', exitAt: t0 + 3 } as const;
  assert.deepEqual(hear({}, { ...back, engine: 'shutoff', exit: off }), ['guest.exited', 'guest.state']);
  assert.match(site.events.at(-2)?.message ?? '', /powered off from inside on h1/);
  assert.equal(guest().status.state, 'stopped');
});

test('an asked stop is no surprise', () => {
  const { site, hear, guest } = world();
  site.apply({ put: [{ ...guest(), spec: { ...guest().spec, power: 'off' } }], remove: [], events: [] });
  hear({}, { exit: { reason: 'destroyed', exitAt: t0 + 1 } });
  const exited = site.events.find((each) => each.type === 'guest.exited');
  assert.deepEqual([exited?.severity, exited?.cause], ['info', 'asked to stop']);
});

test('errors are told once, until they change or it gave up', () => {
  const { site, hear, guest } = world();
  const error = { code: 'engine', message: 'no memory', errorAt: t0, gaveUp: false };
  assert.deepEqual(hear({}, { engine: 'absent', error }), ['guest.error', 'guest.state']);
  assert.deepEqual(hear({}, { engine: 'absent', error: { ...error, errorAt: t0 + 5 } }), []);
  assert.deepEqual(hear({}, { engine: 'absent', error: { ...error, gaveUp: true } }), ['guest.error', 'guest.state']);
  assert.deepEqual([guest().status.state, guest().status.stateReason], ['failed', 'no memory']);
  assert.equal(site.events.at(-1)?.severity, 'error');
});

test('a reboot is a new session; orders stand for it; reports of the old life are not believed', () => {
  const { site, hear, guest } = world();
  const session = { number: 2, id: 's2' };
  assert.deepEqual(hear({ session }), ['host.rebooted']);
  assert.deepEqual(guest().status.placement?.session, session);
  assert.equal(guest().status.placement?.generation, 1, 'a new session is no new order');
  const old = aReport(site.host('h1'), [], { session: { number: 1, id: 's1' } });
  const { ignored, change } = receiveReport(site, site.host('h1').id, old, t0);
  assert.match(ignored ?? '', /session 1, the host is in session 2/);
  assert.equal(change.put.length, 0);
  assert.match(receiveReport(site, 'nobody', old, t0).ignored ?? '', /not of this site/);
  assert.match(receiveReport(site, site.host('h1').id, { ...old, hostId: 'x' }, t0).ignored ?? '', /another host/);
});

test('what a host says of a guest that is placed elsewhere does not count', () => {
  const { site } = world();
  const h2 = aHost('h2', { status: { agentVersion: '0.1.0', protocol: 1, assignmentGeneration: 1 } });
  site.apply({ put: [h2], remove: [], events: [] });
  const lie = sight(site.guest('g'), { engine: 'crashed', generation: 99 });
  assert.equal(receiveReport(site, h2.id, aReport(h2, [lie]), t0).change.put.length, 0);
});

test('a deleted guest goes when it is reported gone under its order, not under an older one', () => {
  const { site, hear, guest } = world();
  const { id } = guest();
  hear({ gone: [{ id, generation: 99 }] });
  assert.ok(site.guest('g'), 'nobody asked for it');
  site.commit(deleteGuest(site, 'g', site.context));
  hear({ gone: [{ id, generation: 1 }] });
  assert.equal(guest().status.state, 'deleting');
  assert.deepEqual(hear({ gone: [{ id, generation: 2 }] }), ['guest.deleted']);
  assert.equal(site.count('guest'), 0);
  assert.deepEqual(hear({ gone: [{ id, generation: 2 }] }), [], 'a repeat is no news');
});

test('a released guest goes likewise', () => {
  const adopted = { xml: '<domain/>', persistent: true, autostart: false };
  const { site, hear, guest } = world({ spec: { adopted } });
  site.commit(releaseGuest(site, 'g', site.context));
  assert.deepEqual(hear({ gone: [{ id: guest().id, generation: 2 }] }), ['guest.released']);
});

test('what a guest left behind is forgotten when it is gone', () => {
  const { site, hear } = world({}, { status: { leaving: [{ id: 'x', name: 'x', generation: 4 }] } });
  hear({ gone: [{ id: 'x', generation: 3 }] });
  assert.equal(site.host('h1').status.leaving?.length, 1);
  hear({ gone: [{ id: 'x', generation: 4 }] });
  assert.equal(site.host('h1').status.leaving, undefined);
});

test('deleted snapshots leave the guest when they are reported no more', () => {
  const unwanted = { id: 's1', name: 'old', askedAt: t0, wanted: false };
  const { site, hear, guest } = world();
  const there = [{ id: 's1', state: 'ready', createdAt: t0 }] as const;
  site.apply({ put: [{ ...guest(), spec: { ...guest().spec, snapshots: [unwanted] } }], remove: [], events: [] });
  hear({}, { snapshots: there });
  assert.equal(guest().spec.snapshots.length, 1);
  hear({}, { generation: 0 });
  assert.equal(guest().spec.snapshots.length, 1, 'it may not know of it yet');
  hear();
  assert.deepEqual(guest().spec.snapshots, []);
  assert.equal(guest().status.placement?.generation, 2);
});

test('each host’s word on a network is kept, and taken back when it is well', () => {
  const { site, hear } = world();
  const lan = { ...aNetwork('lan'), status: { problems: [{ host: 'h9', message: 'x' }] } };
  site.apply({ put: [lan], remove: [], events: [] });
  const networkProblems = [{ networkId: lan.id, message: 'no bridge' }];
  assert.deepEqual(hear({ networkProblems }), ['network.problem']);
  assert.deepEqual(
    site.byName('network', 'lan')?.status.problems.map((each) => each.host),
    ['h1', 'h9'],
  );
  assert.deepEqual(hear({ networkProblems }), []);
  assert.deepEqual(hear(), ['network.well']);
  assert.deepEqual(
    site.byName('network', 'lan')?.status.problems.map((each) => each.host),
    ['h9'],
  );
});

test('problems of the host come and go; engine facts go with the engine', () => {
  const { site, hear } = world();
  assert.deepEqual(hear({ problems: ['libvirt does not answer'] }), ['host.problem']);
  assert.deepEqual(hear({ problems: [] }), ['host.well']);
  const { engine: _engine, ...without } = aReport(site.host('h1'), [sight(site.guest('g'))]);
  site.commit(receiveReport(site, site.host('h1').id, without, t0));
  assert.equal(site.host('h1').status.engine, undefined);
});
