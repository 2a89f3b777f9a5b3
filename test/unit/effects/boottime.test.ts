import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { BootTime, type ClockSources } from '../../../src/effects/boottime.ts';

/** A machine's clocks: `awake` is CLOCK_MONOTONIC, `asleep` what it slept. Every look at a clock takes some time. */
class Machine implements ClockSources {
  awake = 5003.7;
  asleep = 0;
  wallShift = 1e12;
  looks = 0;

  monotonic = (): number => {
    this.awake += 0.01;
    return this.awake;
  };
  wall = (): number => Math.floor(this.awake + this.asleep + this.wallShift);
  uptime = (): number => {
    this.looks += 1;
    this.awake += 0.01;
    return Math.floor((this.awake + this.asleep) / 10) * 10;
  };
  get truth(): number {
    return this.awake + this.asleep;
  }
}

test('it is exact from the start, and counts sleep', () => {
  const machine = new Machine();
  const clock = new BootTime(machine);
  const off = machine.truth - clock.now();
  assert.ok(Math.abs(off) < 0.2, `off by ${off} ms`);
  machine.asleep += 3_600_000;
  const after = machine.truth - clock.now();
  assert.ok(after > -0.2 && after <= 10.2, `off by ${after} ms right after the sleep`);
  for (let each = 0; each < 20; each += 1) {
    machine.awake += 3.3;
    clock.now();
  }
  const settled = machine.truth - clock.now();
  assert.ok(Math.abs(settled) < 3.5, `off by ${settled} ms when it settled`);
  assert.ok(clock.sleptMs() > 3_599_900);
});

test('a short sleep between two looks is seen at once, by the hint of the wall clock', () => {
  const machine = new Machine();
  const clock = new BootTime(machine);
  clock.now();
  machine.asleep += 50;
  assert.ok(machine.truth - clock.now() < 10.2);
});

test('it never goes back, whatever happens to the wall clock', () => {
  const machine = new Machine();
  const clock = new BootTime(machine);
  let last = clock.now();
  for (let each = 0; each < 2000; each += 1) {
    machine.awake += 0.3;
    if (each % 100 === 50) machine.wallShift -= 3_600_000;
    if (each % 333 === 0) machine.asleep += 7;
    const now = clock.now();
    assert.ok(now >= last);
    assert.ok(now <= machine.truth + 0.01);
    last = now;
  }
});

test('a thousand looks in a millisecond read the file only some times', () => {
  const machine = new Machine();
  const clock = new BootTime(machine);
  machine.looks = 0;
  machine.monotonic = () => {
    machine.awake += 0.001;
    return machine.awake;
  };
  for (let each = 0; each < 1000; each += 1) clock.now();
  assert.ok(machine.looks <= 3, `${machine.looks} looks`);
});

test('on this machine it agrees with /proc/uptime, and two of them with each other', () => {
  const [one, other] = [new BootTime(), new BootTime()];
  const before = one.now();
  const shown = Number(readFileSync('/proc/uptime', 'utf8').split(' ')[0]) * 1000;
  const after = one.now();
  assert.ok(shown <= after + 0.5 && shown + 10 >= before - 0.5, `${before} ${shown} ${after}`);
  const apart = Math.abs(other.now() - one.now());
  assert.ok(apart < 5, `${apart} ms apart`);
});
