import assert from 'node:assert/strict';
import { test } from 'node:test';
import { assignmentFor } from '../../../src/core/assignment.ts';
import { decide } from '../../../src/core/converge.ts';
import { failBackAfterMs } from '../../../src/core/ha/fail-back.ts';
import { whatIfLost } from '../../../src/core/ha/recovery.ts';
import type { Guest } from '../../../src/core/model/guest.ts';
import { receiveReport } from '../../../src/core/report.ts';
import { changeGuest, stopGuest } from '../../../src/core/requests/actions.ts';
import { cleanupGuest, declareDead } from '../../../src/core/requests/cleanup.ts';
import { startGuest } from '../../../src/core/requests/start.ts';
import { aHost, aReport, refused, sight, t0, TestSite } from './kit.ts';
import { running, World } from './recovery-kit.ts';

test('too many moves: given up where people see it, until it is cleaned up', () => {
  const h1 = aHost('h1');
  const world = new World(
    h1,
    aHost('h2'),
    aHost('h3'),
    running('g', h1, { spec: { limits: { moves: 1, windowSeconds: 600 } } }),
  );
  const { site } = world;
  world.lose('h1');
  const second = world.on('g') ?? '';
  world.hear(second);
  assert.ok(world.lose(second).includes('guest.exhausted'));
  assert.match(world.state('g'), /^failed: given up after too many moves; "virga guest cleanup"/);
  assert.match(refused('not_allowed', () => startGuest(site, 'g', site.context)).message, /guest cleanup/);
  site.commit(cleanupGuest(site, 'g', site.context));
  assert.deepEqual(cleanupGuest(site, 'g', site.context).change.put, [], 'a repeat does nothing');
  world.step();
  assert.equal(site.guest('g').status.state, 'starting');
  assert.notEqual(world.on('g'), second);
});

test('moves count within the window only', () => {
  const h1 = aHost('h1');
  const moved = { movedAt: [t0 - 600_000] } as unknown as Guest['status'];
  const world = new World(
    h1,
    aHost('h2'),
    running('g', h1, { spec: { limits: { moves: 1, windowSeconds: 600 } }, status: moved }),
  );
  world.lose('h1');
  assert.equal(world.on('g'), 'h2');
});

test('too many restarts: stopped and given up, until it is cleaned up', () => {
  const h1 = aHost('h1');
  const world = new World(h1, running('g', h1, { spec: { limits: { restarts: 2, windowSeconds: 600 } } }));
  const { site } = world;
  world.hear('h1', { restarts: 2 });
  assert.equal(world.state('g'), 'running', 'two are allowed');
  world.hear('h1', { restarts: 3 });
  assert.match(world.state('g'), /^stopping: given up after too many restarts/);
  assert.equal(assignmentFor(site, h1.id)?.guests[0]?.power, 'off');
  world.hear('h1', { restarts: 3, engine: 'shutoff' });
  assert.match(world.state('g'), /^failed: given up/);
  const before = site.guest('g').spec.startSeq;
  site.commit(cleanupGuest(site, 'g', site.context));
  assert.equal(site.guest('g').spec.startSeq, before + 1);
  assert.equal(assignmentFor(site, h1.id)?.guests[0]?.power, 'on');
});

test('fail-back: stopped here, gone here, then started there; one at a time, and only to a host that stays', () => {
  const [h1, h2] = [aHost('h1'), aHost('h2')];
  const spec = { preferredHosts: [h1.id], failBack: true };
  const world = new World(h1, h2, running('a', h2, { spec }), running('b', h2, { spec }));
  const { site } = world;
  site.now = t0 + failBackAfterMs - 1;
  assert.deepEqual(world.step(), []);
  site.now += 1;
  assert.deepEqual(world.step(), ['guest.fail-back', 'guest.state']);
  assert.equal(world.state('a'), 'stopping: goes back to a host that it prefers');
  assert.equal(assignmentFor(site, h2.id)?.guests.find((each) => each.name === 'a')?.power, 'off');
  assert.deepEqual([world.on('a'), world.state('b')], ['h2', 'running']);
  const orders = assignmentFor(site, h2.id)?.guests ?? [];
  const host = site.host('h2');
  const reported = orders.map((each) =>
    sight(site.guest(each.name), { inside: true, engine: each.name === 'a' ? 'shutoff' : 'running' }),
  );
  site.commit(receiveReport(site, host.id, aReport(host, reported), site.now));
  world.step();
  assert.deepEqual(
    [world.on('a'), site.guest('a').status.unplaced],
    [undefined, ['h2 removes its earlier copy first']],
  );
  const { id, status } = site.guest('a');
  world.hear('h2', {}, { gone: [{ id, generation: status.lastGeneration }] });
  assert.equal(world.on('a'), 'h1');
  assert.equal(world.state('b'), 'running', 'not while another is on its way');
  assert.deepEqual(world.hear('h1'), ['guest.fail-back', 'guest.state'], 'now it is its turn');
});

test('a guest that is stopped and started while its old copy is not gone waits for that', () => {
  const [h1, h2] = [aHost('h1', { spec: { cordoned: true } }), aHost('h2')];
  const world = new World(h1, h2, running('g', h1, { spec: { power: 'off' } }));
  const { site } = world;
  world.hear('h1');
  site.commit(startGuest(site, 'g', site.context));
  site.commit(stopGuest(site, 'g', {}, site.context));
  assert.equal(world.state('g'), 'stopped');
  site.commit(startGuest(site, 'g', site.context));
  assert.deepEqual([world.on('g'), world.state('g')], [undefined, 'pending: leaves host h1, no other yet']);
  const { id } = site.guest('g');
  // The host is lost instead of answering: its copy is over with its session.
  assert.ok(world.lose('h1').includes('guest.moved'));
  assert.equal(world.on('g'), 'h2');
  assert.deepEqual(
    site.host('h1').status.leaving?.map((each) => [each.id, each.over]),
    [[id, true]],
  );
});

test('an order that the keeper refused is given anew, under the present epoch', () => {
  const h1 = aHost('h1');
  const world = new World(h1, running('g', h1));
  const { site } = world;
  site.site = { ...site.site, epoch: 9 };
  world.hear('h1', { engine: 'absent' }, { gone: [{ id: site.guest('g').id, generation: 1 }] });
  const { placement } = site.guest('g').status;
  assert.deepEqual([placement?.generation, placement?.epoch], [2, 9]);
});

test('only a report of it inside, or off, under its present order makes a guest one that may start elsewhere', () => {
  const h1 = aHost('h1');
  const world = new World(h1, aHost('h2'), running('g', h1, { spec: { ha: 'off' } }));
  const { site } = world;
  const change = (ha: 'on' | 'off'): void => {
    site.commit(changeGuest(site, 'g', { ha }, site.context));
  };
  world.hear('h1', { inside: false });
  change('off');
  change('on');
  const mark = (): boolean => site.guest('g').status.placement?.ha === true;
  assert.equal(mark(), false);
  world.hear('h1', { inside: false });
  assert.equal(mark(), false, 'it still runs outside');
  world.hear('h1', { inside: true, generation: 1 });
  assert.equal(mark(), false, 'seen inside under an older order: the present one may have started it outside');
  world.hear('h1');
  assert.equal(mark(), true);
  change('off');
  assert.equal(mark(), false);
});

test('frozen guests are paused and say why; freezing and thawing are on record', () => {
  const h1 = aHost('h1');
  const world = new World(h1, running('g', h1));
  const { site } = world;
  world.hear('h1', { frozen: true });
  assert.equal(world.state('g'), 'paused: frozen: its host hears no majority');
  world.hear('h1');
  assert.equal(world.state('g'), 'running');
  const types = site.events.map((each) => each.type);
  assert.deepEqual(types, ['guest.frozen', 'guest.state', 'guest.thawed', 'guest.state']);
});

test('a witness lives by its keeper alone, and takes no guests', () => {
  const witness = aHost('w', { spec: { role: 'witness' }, status: { state: 'invited' } });
  const site = new TestSite([witness]);
  const at = (now: number, heard: number): string[] => {
    const keepersHeard = new Map([[witness.id, heard]]);
    const settings = { silentAfterMs: 10_000, listeningSinceAt: t0, keepersHeard };
    return site.commit(decide(site, now, new Map(), settings)).change.events.map((each) => each.type);
  };
  assert.deepEqual(at(t0 + 100, t0 + 50), ['host.online']);
  assert.deepEqual(at(t0 + 200, t0 + 150), []);
  assert.deepEqual(at(t0 + 20_000, t0 + 150), ['host.silent']);
  assert.deepEqual(at(t0 + 20_001, t0 + 150), []);
  assert.deepEqual(at(t0 + 20_100, t0 + 20_050), ['host.online']);
});

test('what if a host were lost: who moves, who waits, who stays, without changing anything', () => {
  const h1 = aHost('h1');
  const tiny = aHost('h2', { status: { measured: { cpus: 8, memoryMiB: 600, diskMiB: 9999 } } });
  const world = new World(
    h1,
    tiny,
    running('first', h1, { spec: { priority: 90 } }),
    running('second', h1),
    running('keep', h1, { spec: { diskMode: 'keep', priority: 0 } }),
  );
  const verdicts = whatIfLost(world.site, world.site.host('h1'), t0);
  assert.deepEqual(
    verdicts.map((each) => [each.guest, each.what, each.host]),
    [
      ['first', 'moves', 'h2'],
      ['second', 'waits', undefined],
      ['keep', 'stays', undefined],
    ],
  );
  assert.equal(verdicts[1]?.why, 'h1: lost; h2: not enough memory: 512 MiB needed, 88 MiB free');
  assert.match(verdicts[2]?.why ?? '', /disk is kept/);
  assert.deepEqual(world.step(), []);
  world.lose('h1');
  assert.deepEqual([world.on('first'), world.on('second'), world.on('keep')], ['h2', undefined, 'h1'], 'as foretold');
});

test('a word that a host is dead needs its name and a reason, and is on record', () => {
  const { site } = new World(aHost('h1'));
  refused('invalid_request', () => declareDead(site, 'h1', { confirm: 'h1' }, site.context));
  refused('confirmation_required', () => declareDead(site, 'h1', { confirm: 'h2', reason: 'burnt' }, site.context));
  site.commit(declareDead(site, 'h1', { confirm: 'h1', reason: 'burnt' }, site.context));
  assert.equal(site.events[0]?.type, 'host.declared-dead');
  assert.equal(site.host('h1').status.state, 'online', 'only the seal makes it lost');
});
