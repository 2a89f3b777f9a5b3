import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decide } from '../../../src/core/converge.ts';
import type { Instant, Uuid } from '../../../src/core/model/resource.ts';
import { createInvite, createToken } from '../../../src/core/requests/tokens.ts';
import { receiveReport } from '../../../src/core/report.ts';
import { aGuest, aHost, aNetwork, aReport, sight, t0, TestSite } from './kit.ts';

const settings = { silentAfterMs: 10_000, listeningSinceAt: t0 };

/** Decides, applies, and checks that nothing is left to do. */
function step(site: TestSite, now: Instant, heard: ReadonlyMap<Uuid, Instant> = new Map()): string[] {
  const { change } = site.commit(decide(site, now, heard, settings));
  assert.deepEqual(decide(site, now, heard, settings).change, { put: [], remove: [], events: [] });
  return change.events.map((each) => each.type);
}

test('a host that was not heard from is silent, its guests unknown and started nowhere else', () => {
  const h1 = aHost('h1');
  const site = new TestSite([h1, aHost('h2'), aGuest('g', { on: h1 })]);
  const heard = new Map([
    [h1.id, t0 + 5000],
    [site.host('h2').id, t0 + 15_000],
  ]);
  assert.deepEqual(step(site, t0 + 15_000, heard), [], 'ten seconds are not over');
  assert.deepEqual(step(site, t0 + 15_001, heard), ['host.silent', 'guest.state']);
  assert.equal(site.host('h1').status.state, 'silent');
  assert.equal(site.host('h1').status.lastHeardAt, t0 + 5000);
  assert.equal(site.host('h2').status.state, 'online');
  const guest = site.guest('g');
  assert.deepEqual([guest.status.state, guest.status.stateReason], ['unknown', 'host h1 is silent']);
  assert.equal(guest.status.placement?.hostId, h1.id);
  assert.match(site.events.at(-1)?.message ?? '', /^g is unknown on h1: host h1 is silent$/);
});

test('a controller that has just begun to listen gives every host its time', () => {
  const site = new TestSite([aHost('h1', { status: { lastHeardAt: t0 - 100_000, stateAt: t0 - 200_000 } })]);
  assert.deepEqual(step(site, t0 + 9000), []);
  assert.deepEqual(step(site, t0 + 10_001), ['host.silent']);
});

test('guests that wait are placed when a host has room, the longest waiting first', () => {
  const tiny = aHost('h1', { status: { measured: { cpus: 1, memoryMiB: 1000, diskMiB: 1000 } } });
  const site = new TestSite([tiny, aGuest('b', { createdAt: t0 - 1 }), aGuest('a')]);
  assert.deepEqual(step(site, t0), ['guest.placed', 'guest.state']);
  assert.equal(site.guest('b').status.placement?.generation, 1);
  assert.deepEqual(site.guest('a').status.unplaced, ['h1: not enough memory: 512 MiB needed, 488 MiB free']);
  assert.equal(site.guest('a').status.state, 'pending');
  site.apply({ put: [aHost('h2')], remove: [], events: [] });
  assert.deepEqual(step(site, t0), ['guest.placed', 'guest.state']);
  assert.equal(site.guest('a').status.unplaced, undefined);
  assert.equal(site.guest('a').status.state, 'starting');
});

test('what is said of a guest that waits holds when the whole round is over', () => {
  const host = aHost('h1', { status: { measured: { cpus: 4, memoryMiB: 2000, diskMiB: 1000 } } });
  const large = aGuest('large', { createdAt: t0 - 1, spec: { memoryMiB: 4000 } });
  const site = new TestSite([host, large, aGuest('small')]);
  step(site, t0);
  assert.deepEqual(site.guest('large').status.unplaced, ['h1: not enough memory: 4000 MiB needed, 1488 MiB free']);
});

test('held, lost and switched-off guests are not placed; a host that falls silent now takes none', () => {
  const site = new TestSite([
    aHost('h1'),
    aGuest('held', { spec: { held: { reason: 'x', heldAt: t0 } } }),
    aGuest('lost', { status: { lost: { host: 'h0', lostAt: t0 }, state: 'failed' } }),
    aGuest('off', { spec: { power: 'off' } }),
  ]);
  step(site, t0);
  for (const name of ['held', 'lost', 'off']) assert.equal(site.guest(name).status.placement, undefined, name);
  site.apply({ put: [aGuest('new')], remove: [], events: [] });
  step(site, t0 + 60_000);
  assert.deepEqual(site.guest('new').status.unplaced, ['h1: silent']);
});

test('a guest to be deleted that is nowhere, or whose host is gone, goes', () => {
  const site = new TestSite([
    aGuest('nowhere', { deletionAt: t0 }),
    aGuest('adrift', { deletionAt: t0, on: aHost('removed') }),
    aGuest('left', { on: aHost('removed2') }),
  ]);
  assert.deepEqual(step(site, t0), ['guest.deleted', 'guest.deleted', 'guest.state']);
  assert.equal(site.count('guest'), 1);
  assert.equal(site.guest('left').status.state, 'unknown');
});

test('expired invitations and tokens go after a while; complaints of removed hosts go', () => {
  const lan = { ...aNetwork('lan'), status: { problems: [{ host: 'gone', message: 'x' }] } };
  const site = new TestSite([lan]);
  site.commit(createInvite(site, { validSeconds: 60 }, 'a', site.context));
  site.commit(createToken(site, { name: 't', validSeconds: 60 }, 'b', site.context));
  step(site, t0 + 3600_000);
  assert.deepEqual([site.count('invite'), site.count('token')], [1, 1]);
  assert.deepEqual(site.byName('network', 'lan')?.status.problems, []);
  step(site, t0 + 86_400_000 + 60_001);
  assert.deepEqual([site.count('invite'), site.count('token')], [0, 1]);
  step(site, t0 + 30 * 86_400_000 + 60_001);
  assert.equal(site.count('token'), 0);
});

test('from acceptance to running: nothing is written once all is as it should be', () => {
  const site = new TestSite([aHost('h1'), aGuest('g')]);
  step(site, t0);
  const report = aReport(site.host('h1'), [sight(site.guest('g'))]);
  const { change } = site.commit(receiveReport(site, site.host('h1').id, report, t0));
  assert.deepEqual(
    change.events.map((each) => each.type),
    ['guest.started', 'guest.state'],
  );
  assert.equal(site.guest('g').status.state, 'running');
  assert.deepEqual(step(site, t0), []);
});
