/** The guard's rules, on a clock and freezers of the test. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Guard, type GuardEffects, type GuardKept, type GuardOrder } from '../../../src/core/ha/guard.ts';
import { sessionGroup } from '../../../src/core/ha/groups.ts';

const first = { number: 1, id: '11111111-0000-4000-8000-000000000000' };
const second = { number: 2, id: '22222222-0000-4000-8000-000000000000' };

class World implements GuardEffects {
  time = 1000;
  readonly frozenGroups = new Map<string, boolean>();
  readonly killed: string[] = [];
  readonly log: string[] = [];
  kept: GuardKept | undefined;
  /** Milliseconds that a thaw takes: the stall between looking and doing. */
  thawMs = 0;

  add(session: typeof first): void {
    this.frozenGroups.set(sessionGroup(session), true);
  }
  now(): number {
    return this.time;
  }
  groups(): readonly string[] {
    return [...this.frozenGroups.keys()];
  }
  freeze(group: string): void {
    this.log.push(`freeze ${group}`);
    this.frozenGroups.set(group, true);
  }
  thaw(group: string): void {
    this.log.push(`thaw ${group}`);
    this.frozenGroups.set(group, false);
    this.time += this.thawMs;
  }
  freezing(group: string): boolean {
    return this.frozenGroups.get(group) ?? true;
  }
  frozen(group: string): boolean {
    return this.freezing(group);
  }
  kill(_group: string, guestIds: readonly string[]): void {
    this.killed.push(...guestIds);
  }
  keep(kept: GuardKept): void {
    this.kept = kept;
  }
}

const settings = { boundMs: 500, graceMs: 5000 };
const order = (deadline: number, more: Partial<GuardOrder> = {}): GuardOrder => ({
  session: first,
  deadline,
  force: false,
  ...more,
});

function guarded(): { world: World; guard: Guard } {
  const world = new World();
  world.add(first);
  return { world, guard: new Guard(world, settings) };
}

/** Lets time pass, with every look in time. */
function pass(world: World, guard: Guard, until: number): void {
  while (guard.due <= until) {
    world.time = Math.max(world.time, guard.due);
    guard.check();
  }
  world.time = until;
}

test('without a deadline everything stays frozen; under one it runs, and at the deadline it stops', () => {
  const { world, guard } = guarded();
  world.frozenGroups.set(sessionGroup(first), false);
  guard.check();
  assert.equal(world.frozen(sessionGroup(first)), true);
  const answer = guard.order(order(3000));
  assert.deepEqual([answer?.deadline, answer?.frozen], [3000, false]);
  pass(world, guard, 2999);
  assert.equal(world.frozen(sessionGroup(first)), false);
  assert.ok(guard.due <= 3000, 'it must wake at the deadline');
  pass(world, guard, 3000);
  assert.equal(world.frozen(sessionGroup(first)), true);
  guard.order(order(5000));
  assert.equal(world.frozen(sessionGroup(first)), false);
});

test('it looks every k/2 and freezes what somebody thawed', () => {
  const { world, guard } = guarded();
  guard.check();
  assert.equal(guard.due, 1250);
  world.frozenGroups.set(sessionGroup(first), false);
  pass(world, guard, 1250);
  assert.equal(world.frozen(sessionGroup(first)), true);
});

test('a stall while thawing, past the deadline: frozen again before anything else', () => {
  const { world, guard } = guarded();
  world.thawMs = 2500;
  const answer = guard.order(order(3000));
  assert.deepEqual(world.log, [`thaw ${sessionGroup(first)}`, `freeze ${sessionGroup(first)}`]);
  assert.equal(answer?.frozen, true);
});

test('an earlier deadline counts only by force', () => {
  const { guard } = guarded();
  guard.order(order(3000));
  assert.equal(guard.order(order(2000))?.deadline, 3000);
  assert.equal(guard.order(order(1500, { force: true }))?.deadline, 1500);
});

test('the deadline of another session never counts, and an older session never comes back', () => {
  const { world, guard } = guarded();
  world.add(second);
  guard.order(order(3000));
  const answer = guard.order(order(1200, { session: second }));
  assert.equal(answer?.deadline, 1200);
  assert.equal(world.frozen(sessionGroup(first)), true);
  assert.equal(world.frozen(sessionGroup(second)), false);
  const present = { session: second, deadline: guard.state()?.deadline };
  const told = (answer: ReturnType<Guard['order']>) => answer && { session: answer.session, deadline: answer.deadline };
  assert.deepEqual(told(guard.order(order(4000))), present, 'it tells what it holds instead');
  assert.equal(world.frozen(sessionGroup(first)), true);
  const sameNumber = { number: 2, id: '33333333-0000-4000-8000-000000000000' };
  assert.deepEqual(told(guard.order(order(4000, { session: sameNumber }))), present);
});

test('a deadline further away than any lease is refused', () => {
  const { guard } = guarded();
  assert.equal(guard.order(order(1000 + 60_000)), undefined);
});

test('the next guard goes on with the deadline; one of the far future is none', () => {
  const { world, guard } = guarded();
  guard.order(order(3000));
  assert.deepEqual(world.kept, { session: first, deadline: 3000 });
  const next = new Guard(world, settings, world.kept);
  next.check();
  assert.equal(world.frozen(sessionGroup(first)), false);
  const wrong = new Guard(world, settings, { session: first, deadline: 1e9 });
  wrong.check();
  assert.equal(world.frozen(sessionGroup(first)), true);
});

test('the deadline is kept before it is answered', () => {
  const { world, guard } = guarded();
  guard.order(order(3000));
  world.keep = () => {
    throw new Error('disk');
  };
  assert.throws(() => guard.order(order(3500)));
  assert.equal(guard.order(order(3000))?.deadline, 3000);
});

test('too late once: no answers until a look was in time again; the worst lag is told', () => {
  const { world, guard } = guarded();
  guard.check();
  world.time = 1250 + 251;
  assert.equal(guard.order(order(3000)), undefined);
  assert.equal(guard.order(order(3000)), undefined);
  pass(world, guard, guard.due);
  const answer = guard.order(order(3000));
  assert.equal(answer?.deadline, 3000);
  assert.equal(answer?.lagMs, 251);
  pass(world, guard, 90_000);
  assert.equal(guard.lagMs, 0);
});

test('orders that come more often than looks do not put the looks off', () => {
  const { world, guard } = guarded();
  guard.check();
  for (let at = 1100; at <= 3000; at += 100) {
    world.time = at;
    guard.order(order(at + 2000));
    assert.ok(guard.due <= 1250 + Math.floor((at - 1000) / 250) * 250 + 250);
    if (guard.due <= at) guard.check();
  }
});

test('after the grace the holders of shared locks are killed once per lapse; the others stay', () => {
  const { world, guard } = guarded();
  const lockers = ['44444444-0000-4000-8000-000000000000'];
  guard.order(order(2000, { lockers }));
  pass(world, guard, 6999);
  assert.deepEqual(world.killed, []);
  pass(world, guard, 20_000);
  assert.deepEqual(world.killed, lockers);
  guard.order(order(21_000));
  guard.order(order(20_000, { force: true, graceMs: 0 }));
  pass(world, guard, 22_000);
  assert.deepEqual(world.killed, [...lockers, ...lockers]);
});

test('a guard that lagged is believed again, also when it looks more often than it must', () => {
  const { world, guard } = guarded();
  assert.ok(guard.order(order(world.time + 2000)));
  world.time += 3000;
  guard.check();
  assert.equal(guard.order(order(world.time + 2000)), undefined, 'it stood still: it vouches for nothing');
  // Every 125 ms, half of what it has to: the look that is due must come all the same.
  for (let look = 0; look < 8; look += 1) {
    world.time += 125;
    guard.check();
  }
  assert.ok(guard.order(order(world.time + 2000)), 'it was in time for a second');
});
