import assert from 'node:assert/strict';
import { test } from 'node:test';
import { assignmentFor } from '../../../src/core/assignment.ts';
import type { Guest } from '../../../src/core/model/guest.ts';
import { receiveReport } from '../../../src/core/report.ts';
import { deleteGuest } from '../../../src/core/requests/actions.ts';
import { holdSite, releaseSite } from '../../../src/core/requests/site.ts';
import { startGuest } from '../../../src/core/requests/start.ts';
import { aGuest, aHost, aReport, sight, t0 } from './kit.ts';
import { running, lossOf, World } from './recovery-kit.ts';

test('guests of a lost host start elsewhere, most critical first; the host is told to remove what is left', () => {
  const h1 = aHost('h1');
  const tiny = aHost('h2', { status: { measured: { cpus: 8, memoryMiB: 1100, diskMiB: 9999 } } });
  const world = new World(
    h1,
    tiny,
    running('low', h1, { spec: { priority: 1 }, createdAt: t0 - 9 }),
    running('young', h1, { createdAt: t0 - 1 }),
    running('old', h1, { createdAt: t0 - 2 }),
  );
  assert.deepEqual(world.lose('h1'), [
    'host.lost',
    'guest.recovered',
    'guest.state',
    'guest.recovered',
    'guest.state',
    'guest.state',
    'guest.waits',
  ]);
  assert.equal(world.site.host('h1').status.state, 'lost');
  assert.deepEqual([world.on('old'), world.on('young'), world.on('low')], ['h2', 'h2', undefined]);
  assert.equal(world.state('low'), 'pending: host h1 is lost, no other yet');
  assert.deepEqual(world.site.guest('low').status.unplaced, [
    'h1: lost',
    'h2: not enough memory: 512 MiB needed, 76 MiB free',
  ]);
  const old = world.site.guest('old');
  assert.deepEqual(
    [old.status.placement?.generation, old.status.placement?.ha, old.status.movedAt?.length],
    [3, true, 1],
  );
  assert.equal(old.status.observed, undefined);
  const removals = assignmentFor(world.site, h1.id)?.guests.map((each) => [each.name, each.want, each.generation]);
  assert.deepEqual(removals?.sort(), [
    ['low', 'remove', 2],
    ['old', 'remove', 2],
    ['young', 'remove', 2],
  ]);
  const event = world.site.events.find((each) => each.type === 'host.lost');
  assert.equal(event?.evidence?.['votes'], '2 of 3');
  assert.match(event?.cause ?? '', /a majority of voters/);
  // A host with room comes: the one that waits follows.
  world.site.apply({ put: [aHost('h3')], remove: [], events: [] });
  assert.deepEqual(world.step(), ['guest.recovered', 'guest.state']);
  assert.equal(world.on('low'), 'h3');
});

test('what may run outside the lease, or has its disk there, stays with its host and says so', () => {
  const h1 = aHost('h1');
  const outside = running('outside', h1);
  const { inside: _inside, ...unseen } = outside.status.observed ?? sight(outside);
  const world = new World(
    h1,
    aHost('h2'),
    running('keep', h1, { spec: { diskMode: 'keep' } }),
    running('off', h1, { spec: { ha: 'off' } }),
    running('held', h1, { spec: { held: { reason: 'forensics', heldAt: t0 } } }),
    { ...outside, status: { ...outside.status, observed: unseen } },
    running('unproved', h1, { status: { placement: aGuest('x', { on: h1 }).status.placement } as Guest['status'] }),
  );
  world.lose('h1');
  for (const name of ['keep', 'off', 'held', 'outside', 'unproved']) assert.equal(world.on(name), 'h1', name);
  assert.equal(world.state('keep'), 'unknown: host h1 is lost; its disk is there');
  assert.equal(world.state('off'), 'unknown: host h1 is lost; it is not highly available');
  assert.equal(world.state('held'), 'unknown: host h1 is lost; it is held');
  assert.equal(world.state('outside'), 'unknown: host h1 is lost; it may have run outside its lease there');
  assert.equal(world.state('unproved'), 'unknown: host h1 is lost; it may have run outside its lease there');
});

test('a guest that never started, one that is off, and one being deleted follow from the loss as well', () => {
  const h1 = aHost('h1');
  const world = new World(
    h1,
    aHost('h2'),
    running('fresh', h1, { status: { observed: undefined } as unknown as Guest['status'] }),
    running('off', h1, { spec: { power: 'off' } }),
    running('going', h1, { deletionAt: t0 }),
  );
  world.lose('h1');
  assert.equal(world.on('fresh'), 'h2');
  assert.deepEqual([world.on('off'), world.state('off')], [undefined, 'stopped']);
  assert.equal(world.site.byName('guest', 'going'), undefined);
  assert.deepEqual(
    world.site
      .host('h1')
      .status.leaving?.map((each) => each.name)
      .sort(),
    ['fresh', 'going', 'off'],
  );
  world.site.commit(startGuest(world.site, 'off', world.site.context));
  assert.equal(world.on('off'), 'h2', 'it can be started elsewhere at once');
});

test('a fence device or a word makes it fenced, an ended session lost; a loss is news once', () => {
  for (const [how, state] of [
    ['fence', 'fenced'],
    ['word', 'fenced'],
    ['ended', 'lost'],
  ] as const) {
    const world = new World(aHost('h1'));
    assert.deepEqual(world.lose('h1', how), ['host.lost']);
    assert.equal(world.site.host('h1').status.state, state);
    assert.deepEqual(world.step(), []);
  }
});

test('a host that went down in order: its guests wait for it by default, and go elsewhere when the policy says so', () => {
  const h1 = aHost('h1');
  const world = new World(h1, aHost('h2'), running('g', h1));
  world.lose('h1', 'ended');
  assert.equal(world.on('g'), 'h1');
  assert.match(world.site.guest('g').status.waits ?? '', /h1 went down in order, and the site waits for it/);
  const policy = (onHostLeave: 'stop' | 'migrate'): void => {
    const site = { ...world.site.site, onHostLeave };
    world.site.commit({ change: { put: [], remove: [], events: [], site }, expect: [] });
  };
  policy('stop');
  world.step();
  assert.equal(world.on('g'), 'h2');
  assert.equal(world.site.guest('g').status.waits, undefined);

  const other = aHost('h3');
  const cut = new World(other, aHost('h4'), running('g', other));
  cut.lose('h3', 'lease');
  assert.equal(cut.on('g'), 'h4', 'the policy is for hosts that go down in order only');
});

test('a loss of an earlier session is not believed', () => {
  const h1 = aHost('h1', { status: { session: { number: 5, id: 's5' } } });
  const world = new World(h1, running('g', h1));
  world.losses.set(h1.id, { ...lossOf(h1), session: { number: 4, id: 's4' } });
  assert.deepEqual(world.step(), []);
  assert.equal(world.site.host('h1').status.state, 'online');
});

test('reports of the lost session are not believed; a new session is online, keeps what moved away and takes no more', () => {
  const h1 = aHost('h1');
  const world = new World(h1, aHost('h2'), running('g', h1), running('keep', h1, { spec: { diskMode: 'keep' } }));
  world.lose('h1');
  const late = receiveReport(world.site, h1.id, aReport(h1, []), t0);
  assert.match(late.ignored ?? '', /sessions up to 1 are over/);
  assert.deepEqual(late.change.put, []);
  const session = { number: 2, id: 's2' };
  world.hear('h1', { engine: 'absent' }, { session });
  assert.equal(world.site.host('h1').status.state, 'online');
  assert.equal(world.on('g'), 'h2');
  assert.deepEqual(world.site.guest('keep').status.placement?.session, session);
  assert.equal(world.site.guest('keep').status.lastGeneration, 1, 'no new order for what needs no keeper');
  const { leaving } = world.site.host('h1').status;
  assert.deepEqual(
    leaving?.map((each) => [each.name, each.over]),
    [['g', true]],
  );
  world.hear('h1', {}, { session, gone: [{ id: world.site.guest('g').id, generation: 2 }] });
  assert.equal(world.site.host('h1').status.leaving, undefined);
});

test('the site on hold: the loss is recorded, guests wait with the reason, and start when it is released', () => {
  const h1 = aHost('h1');
  const world = new World(h1, aHost('h2'), running('g', h1));
  const { site } = world;
  site.commit(holdSite(site, { reason: 'new switch' }, site.context));
  assert.deepEqual(world.lose('h1'), ['host.lost', 'guest.state']);
  const why = 'unknown: host h1 is lost; it waits: the site is held by local:root: new switch';
  assert.deepEqual([world.on('g'), world.state('g')], ['h1', why]);
  site.commit(releaseSite(site, site.context));
  world.step();
  assert.deepEqual([world.on('g'), site.guest('g').status.waits], ['h2', undefined]);
});

test('held, then the host comes back: its guests start there under new orders, and the order before is barred', () => {
  const h1 = aHost('h1');
  const world = new World(h1, aHost('h2'), running('g', h1));
  const { site } = world;
  site.commit(holdSite(site, { reason: 'new switch' }, site.context));
  world.lose('h1');
  site.site = { ...site.site, epoch: 7 };
  const session = { number: 2, id: 's2' };
  const host = site.host('h1');
  site.commit(receiveReport(site, host.id, aReport(host, [], { session }), t0));
  assert.equal(assignmentFor(site, h1.id)?.guests[0]?.barred, true, 'an order of the lost session starts nothing');
  world.step();
  const { placement } = site.guest('g').status;
  assert.deepEqual([placement?.session, placement?.epoch, placement?.generation], [session, 7, 2]);
  assert.equal(assignmentFor(site, h1.id)?.guests[0]?.barred, undefined);
  assert.equal(assignmentFor(site, h1.id, () => true)?.guests[0]?.barred, true);
});

test('nothing is started anew behind the barrier, here or elsewhere', () => {
  const [h1, h2] = [aHost('h1'), aHost('h2', { status: { session: { number: 3, id: 's3' } } })];
  const elsewhere = running('moves', h1);
  const rebooted = running('stays', { ...h2, status: { ...h2.status, session: { number: 2, id: 's2' } } });
  const world = new World(h1, h2, elsewhere, rebooted);
  world.barrier = false;
  world.lose('h1');
  assert.equal(world.on('moves'), 'h1');
  assert.match(world.state('moves'), /it waits: the guests of every other host must be known first/);
  assert.equal(world.site.guest('stays').status.lastGeneration, 1);
  assert.match(world.site.guest('stays').status.waits ?? '', /must be known first/);
  world.barrier = true;
  world.step();
  assert.deepEqual([world.on('moves'), world.site.guest('stays').status.lastGeneration], ['h2', 2]);
});

test('so many starts at once on one host, the rest in their turn', () => {
  const h1 = aHost('h1');
  const roomy = { measured: { cpus: 64, memoryMiB: 65_536, diskMiB: 99_999 } };
  const guests = Array.from({ length: 9 }, (_, index) => running(`g${index}`, h1, { createdAt: t0 + index }));
  const world = new World(h1, aHost('h2', { status: roomy }), ...guests);
  world.lose('h1');
  const there = (): number => guests.filter((each) => world.on(each.name) === 'h2').length;
  assert.equal(there(), 6);
  assert.deepEqual(world.site.guest('g6').status.unplaced, ['h1: lost', 'h2: 6 guests start there already']);
  world.hear('h2');
  assert.equal(there(), 9);
});

test('a start that fails holds nobody up', () => {
  const h1 = aHost('h1');
  const roomy = { measured: { cpus: 64, memoryMiB: 65_536, diskMiB: 99_999 } };
  const guests = Array.from({ length: 7 }, (_, index) => running(`g${index}`, h1, { createdAt: t0 + index }));
  const world = new World(h1, aHost('h2', { status: roomy }), ...guests);
  world.lose('h1');
  assert.equal(world.on('g6'), undefined);
  const error = { code: 'engine', message: 'no', errorAt: t0, gaveUp: false };
  world.hear('h2', { engine: 'absent', error });
  assert.equal(world.on('g6'), 'h2');
});

test('cold start: all hosts in new sessions, guests in their turn, most critical first', () => {
  const h1 = aHost('h1', { status: { session: { number: 2, id: 's2' } } });
  const before = { ...h1, status: { ...h1.status, session: { number: 1, id: 's1' } } };
  const guests = Array.from({ length: 8 }, (_, index) =>
    running(`g${index}`, before, { spec: { priority: index }, status: { state: 'starting' } }),
  );
  const world = new World(h1, ...guests);
  world.hear('h1', { engine: 'absent', generation: 1 });
  const ordered = (): string[] =>
    guests.map((each) => each.name).filter((name) => world.site.guest(name).status.lastGeneration === 2);
  assert.deepEqual(ordered(), ['g2', 'g3', 'g4', 'g5', 'g6', 'g7']);
  assert.equal(world.state('g0'), 'starting: waits: its turn comes after 6 guests that start on h1');
  const { site } = world;
  const host = site.host('h1');
  const orders = assignmentFor(site, host.id)?.guests.filter((each) => each.barred === true);
  assert.deepEqual(orders?.map((each) => each.name).sort(), ['g0', 'g1']);
  world.hear('h1', { engine: 'running' });
  assert.equal(ordered().length, 8);
});

test('no keeper, no start: neither placed there, nor ordered anew there', () => {
  const h1 = aHost('h1');
  const bare = aHost('h2');
  const { keeper: _keeper, ...status } = bare.status;
  const world = new World(h1, { ...bare, status }, running('g', h1));
  world.lose('h1');
  assert.deepEqual(world.site.guest('g').status.unplaced, ['h1: lost', 'h2: its keeper does not answer']);
});

test('preferred hosts are taken before the least loaded one', () => {
  const h1 = aHost('h1');
  const [h2, h3] = [aHost('h2'), aHost('h3')];
  const load = running('load', h3);
  const world = new World(h1, h2, h3, load, running('g', h1, { spec: { preferredHosts: [h1.id, h3.id] } }));
  world.lose('h1');
  assert.equal(world.on('g'), 'h3');
  assert.match(world.site.guest('g').status.placement?.reasons[0] ?? '', /^h3 is preferred: /);
});

test('a guest that is deleted while it waits for another host is gone at once', () => {
  const h1 = aHost('h1');
  const world = new World(h1, running('g', h1));
  world.lose('h1');
  world.site.commit(deleteGuest(world.site, 'g', world.site.context));
  assert.equal(world.site.count('guest'), 0);
});
