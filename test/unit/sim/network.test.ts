/** The simulator's own parts: what they promise to the histories. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { noEpoch, type HaMessage } from '../../../src/core/ha/types.ts';
import { Laws } from '../../../src/sim/laws.ts';
import { SimMachine } from '../../../src/sim/machine.ts';
import { Network } from '../../../src/sim/network.ts';
import { bootClockOf, Life, MachineTime, slowly } from '../../../src/sim/process.ts';
import { Random } from '../../../src/sim/random.ts';
import { VirtualTime } from '../../../src/sim/time.ts';

const poll = (seq: number): HaMessage => ({
  type: 'poll',
  epoch: noEpoch,
  purpose: 'ask',
  committing: true,
  version: { forced: 0, epoch: noEpoch, number: 0 },
  seq,
  about: [],
});

function twoMachines(): { time: VirtualTime; network: Network; heard: HaMessage[]; send: (seq: number) => void } {
  const time = new VirtualTime();
  const network = new Network(time, new Random(3));
  const heard: HaMessage[] = [];
  network.listen('b', { machine: 'birch', deliver: (_from, message) => heard.push(message) });
  return { time, network, heard, send: (seq) => network.send('a', 'alder', 'b', poll(seq)) };
}

test('timers run in the order of their time, and every promise settles in between', async () => {
  const time = new VirtualTime();
  const seen: string[] = [];
  time.after(20, () => seen.push('late'));
  time.after(10, () => {
    seen.push('first');
    void Promise.resolve()
      .then(() => Promise.resolve())
      .then(async () => {
        await Promise.resolve();
        seen.push('settled');
      });
  });
  time.after(10, () => seen.push('second'));
  const cancel = time.after(15, () => seen.push('never'));
  cancel();
  await time.runUntil(30);
  assert.deepEqual(seen, ['first', 'settled', 'second', 'late']);
  assert.equal(time.now, 30);
});

test('each direction of a way breaks by itself', async () => {
  const { time, network, heard, send } = twoMachines();
  network.cut('birch', 'alder');
  send(1);
  await time.runUntil(10);
  assert.equal(heard.length, 1, 'the other direction goes on');
  network.cut('alder', 'birch');
  send(2);
  await time.runUntil(20);
  assert.equal(heard.length, 1);
  network.mendAll();
  send(3);
  await time.runUntil(30);
  assert.deepEqual(
    heard.map((each) => ('seq' in each ? each.seq : -1)),
    [1, 3],
  );
});

test('a message under way when the cable is pulled is lost; one that is held arrives after its sender is gone', async () => {
  const { time, network, heard, send } = twoMachines();
  send(1);
  network.pull('birch');
  await time.runUntil(10);
  assert.equal(heard.length, 0);
  network.plug('birch');
  network.hold('poll', 'alder', '*');
  send(2);
  network.power('alder', false);
  await time.runUntil(20);
  assert.equal(heard.length, 0);
  network.letGo();
  assert.equal(heard.length, 1);
});

test('a stalled process works off its queue late and in order; a killed one never wakes', async () => {
  const time = new VirtualTime();
  const life = new Life(time, new Random(1));
  const seen: string[] = [];
  life.stall(100);
  life.after(10, () => seen.push(`timer at ${time.now}`));
  time.after(20, () => life.enter(() => seen.push(`message at ${time.now}`)));
  const off = life.after(30, () => seen.push('called off'));
  time.after(50, off);
  await time.runUntil(200);
  assert.deepEqual(seen, ['timer at 100', 'message at 100']);
  life.after(10, () => seen.push('after death'));
  life.kill();
  await time.runUntil(300);
  assert.equal(seen.length, 2);
});

test('a call takes time before and after its effect, and its answer waits for a stalled caller', async () => {
  const time = new VirtualTime();
  const life = new Life(time, new Random(1));
  const slow = slowly(time, life, new Random(2), 10);
  let effectAt = Number.NaN;
  let answerAt = Number.NaN;
  void slow(() => {
    effectAt = time.now;
  }).then(() => {
    answerAt = time.now;
  });
  life.stall(500);
  await time.runUntil(400);
  assert.ok(effectAt <= 10);
  assert.ok(Number.isNaN(answerAt));
  await time.runUntil(600);
  assert.equal(answerAt, 500);
});

test('clocks drift and start anew at each boot', async () => {
  const time = new VirtualTime();
  const life = new Life(time, new Random(1));
  const machine = new MachineTime(time, 1.05);
  machine.boot(70_000);
  const clock = bootClockOf(life, machine);
  let wokenAt = 0;
  void clock.sleep(1050).then(() => {
    wokenAt = time.now;
  });
  await time.runUntil(2000);
  assert.equal(Math.round(wokenAt), 1000);
  assert.equal(Math.round(clock.now()), 72_100);
  machine.boot(5);
  assert.equal(clock.now(), 5);
});

test('law 1 sees two copies at once, also for a moment, and none while one is frozen', async () => {
  const time = new VirtualTime();
  const laws = new Laws(time);
  const machine = (name: string): SimMachine =>
    new SimMachine(name, `${name}-id`, { time, clock: new MachineTime(time, 1), laws }, () => {});
  const [alder, birch] = [machine('alder'), machine('birch')];
  const spec = { id: 'g', name: 'web-1', siteId: 's', generation: 1, epoch: 1, cpus: 1, memoryMiB: 1 };
  const session = { number: 1, id: '11111111-1111-4111-8111-111111111111' };
  alder.groups.ensure(session);
  alder.groups.make(session, 'g');
  const first = alder.begin(spec, true);
  alder.groups.enter(session, 'g', first);
  first.state = 'running';
  first.changed();
  assert.deepEqual(laws.executing('g'), [], 'a new group is frozen');
  alder.groups.thaw('s1-11111111');
  assert.deepEqual(laws.executing('g'), ['alder']);
  alder.groups.freeze('s1-11111111');
  birch.begin(spec, false);
  assert.deepEqual(laws.violations, []);
  alder.groups.thaw('s1-11111111');
  alder.groups.freeze('s1-11111111');
  assert.deepEqual(
    laws.violations.map(({ law }) => law),
    [1],
  );
});
