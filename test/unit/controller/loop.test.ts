import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Assignment } from '../../../src/core/model/assignment.ts';
import type { Guest } from '../../../src/core/model/guest.ts';
import { Loop, type LoopLease } from '../../../src/controller/loop.ts';
import type { HostLoss } from '../../../src/core/model/host.ts';
import type { SiteState } from '../../../src/controller/state.ts';
import type { HostLink } from '../../../src/ports.ts';
import { aGuest, aHost, aReport, sight } from '../core/kit.ts';
import { image, lossOf, running } from '../core/recovery-kit.ts';
import { change, quiet, world, type World } from './kit.ts';

class Link implements HostLink {
  readonly hostId: string;
  readonly sent: Assignment[] = [];
  constructor(hostId: string) {
    this.hostId = hostId;
  }
  send(assignment: Assignment): void {
    this.sent.push(assignment);
  }
}

const loopOf = (here: World, state: SiteState = here.state): Loop =>
  new Loop({ state, clock: here.clock, log: quiet, silentAfterMs: 10_000 });

function stateOf(state: SiteState, guest: Guest): string | undefined {
  return state.snapshot.get('guest', guest.id)?.status.state;
}

/** A host with one guest, heard from and linked. */
async function linked() {
  const here = world();
  const host = aHost('alpha');
  const guest = aGuest('web', { on: host });
  await here.state.change(() => change([host, guest]));
  const loop = loopOf(here);
  const link = new Link(host.id);
  loop.attach(link);
  loop.report(host.id, aReport(host, [], { observedAt: here.clock.now() }));
  await loop.iterate();
  return { here, host, guest, loop, link };
}

test('a host is given its assignment when it links, and again only when that changed', async () => {
  const { here, host, guest, loop, link } = await linked();
  assert.deepEqual(
    link.sent.map((each) => each.guests.map(({ name }) => name)),
    [['web']],
  );
  await loop.iterate();
  assert.equal(link.sent.length, 1);
  const extra = aGuest('db', { on: host });
  await here.state.change(() => change([extra]));
  await loop.iterate();
  assert.equal(link.sent.length, 2);
  assert.ok((link.sent[1]?.generation ?? 0) > (link.sent[0]?.generation ?? 0));
  assert.equal(link.sent[1]?.guests.length, 2);
  loop.report(host.id, aReport(host, [sight(guest), sight(extra)], { observedAt: here.clock.now() }));
  await loop.iterate();
  assert.equal(stateOf(here.state, guest), 'running');
  assert.equal(link.sent.length, 2);
});

test('a new leader’s assignments are newer than those of the old one', async () => {
  const { here, host, link } = await linked();
  const next = here.another();
  const loop = loopOf(here, next);
  const again = new Link(host.id);
  loop.attach(again);
  await loop.iterate();
  const [old, now] = [link.sent.at(-1), again.sent.at(-1)];
  assert.ok(old && now);
  assert.ok(now.epoch > old.epoch);
  assert.ok(now.generation >= old.generation);
});

test('the newer link of a host takes the place of the older', async () => {
  const { here, host, loop, link } = await linked();
  const newer = new Link(host.id);
  loop.attach(newer);
  loop.detach(link);
  await here.state.change(() => change([aGuest('db', { on: host })]));
  await loop.iterate();
  assert.equal(link.sent.length, 1);
  assert.equal(newer.sent.at(-1)?.guests.length, 2);
});

test('a silent host’s guests are unknown; after a restart hosts get time to call first', async () => {
  const { here, host, guest, loop } = await linked();
  loop.report(host.id, aReport(host, [sight(guest)], { observedAt: here.clock.now() }));
  await loop.iterate();
  here.clock.pass(9000);
  await loop.iterate();
  assert.equal(stateOf(here.state, guest), 'running');
  const restarted = here.another();
  const fresh = loopOf(here, restarted);
  here.clock.pass(60_000);
  await fresh.iterate();
  assert.equal(stateOf(restarted, guest), 'running');
  here.clock.pass(11_000);
  await fresh.iterate();
  assert.equal(stateOf(restarted, guest), 'unknown');
  fresh.report(host.id, aReport(host, [sight(guest)], { observedAt: here.clock.now() }));
  await fresh.iterate();
  assert.equal(stateOf(restarted, guest), 'running');
});

test('a report that comes while the database is away is taken afterwards', async () => {
  const { here, host, guest, loop } = await linked();
  loop.report(host.id, aReport(host, [sight(guest)], { observedAt: here.clock.now() }));
  here.fault = (call) => (call === 'commit' ? 'before' : undefined);
  await loop.iterate().catch(() => undefined);
  assert.equal(stateOf(here.state, guest), 'starting');
  here.fault = () => undefined;
  await loop.iterate();
  assert.equal(stateOf(here.state, guest), 'running');
});

test('the loop sleeps until it is woken, and ends when told', async () => {
  const { here, host, link } = await linked();
  const loop = loopOf(here);
  const stopping = new AbortController();
  const running = loop.run(stopping.signal);
  const newer = new Link(host.id);
  loop.attach(newer);
  while (newer.sent.length === 0) await new Promise((resolve) => setImmediate(resolve));
  stopping.abort();
  await running;
  assert.equal(link.sent.length, 1);
});

test('a lost host comes before reports, and its guest’s new host has its orders in the same iteration', async () => {
  const here = world();
  const [host, beta] = [aHost('alpha'), aHost('beta')];
  const guest = running('web', host);
  await here.state.change(() => change([host, beta, image, guest]));
  const losses = new Map<string, HostLoss>();
  const reported: string[] = [];
  const lease: LoopLease = {
    losses: () => losses,
    barrier: () => true,
    keepersHeard: () => new Map(),
    reported: (report) => void reported.push(report.hostId),
  };
  const loop = new Loop({ state: here.state, clock: here.clock, log: quiet, lease: () => lease });
  const link = new Link(beta.id);
  loop.attach(link);
  loop.report(beta.id, aReport(beta, [], { observedAt: here.clock.now() }));
  assert.deepEqual(reported, [beta.id]);
  await loop.iterate();
  const before = link.sent.length;
  losses.set(host.id, lossOf(host));
  loop.hurry();
  await loop.iterate();
  assert.equal(here.state.snapshot.get('guest', guest.id)?.status.placement?.hostId, beta.id);
  assert.ok(link.sent.length > before);
  assert.deepEqual(
    link.sent.at(-1)?.guests.map(({ name }) => name),
    ['web'],
  );
});

test('while another controller leads the loop decides nothing, and forgets whom it heard', async () => {
  const { here, host, loop, link } = await linked();
  loop.report(host.id, aReport(host, [], { observedAt: here.clock.now() }));
  await here.state.claim(undefined);
  assert.equal(await loop.iterate(), false);
  assert.equal(loop.lastHeard(host.id), undefined);
  here.clock.pass(600_000);
  await here.state.claim({ number: 9, id: 'again' });
  await loop.iterate();
  assert.notEqual(here.state.snapshot.get('host', host.id)?.status.state, 'silent', 'it listens only since now');
  assert.equal(link.sent.at(-1)?.epoch, 9);
});

test('nothing is ordered while it is not known that a commit would be taken', async () => {
  const { here, host, loop } = await linked();
  here.clock.pass(2000);
  here.fault = (call) => (call === 'read' ? 'before' : undefined);
  const late = new Link(host.id);
  loop.attach(late);
  await loop.iterate();
  assert.equal(late.sent.length, 0);
  here.fault = () => undefined;
  await loop.iterate();
  assert.equal(late.sent.length, 1);
});
