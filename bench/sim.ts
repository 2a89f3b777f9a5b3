/**
 * `./virga bench sim`: random histories of the simulator a second, on one core, and how that falls with the number of
 * hosts. Bound: 50 a second at three hosts. A violated law is an error: a wrong history has no speed.
 */
import assert from 'node:assert/strict';
import { historyOf, type ShapeName } from '../src/sim/history.ts';
import { runHistory } from '../src/sim/run.ts';
import { cutToStart } from '../src/sim/measure.ts';
import { atLeast, below, median, result, type BenchResult, type BenchRow } from './kit.ts';

/** Milliseconds that each shape is measured for. */
const forMs = 8000;

async function rateOf(shape: ShapeName): Promise<{ readonly rate: number; readonly speed: number }> {
  // The first makes the site that all others begin with, and warms up.
  for (let seed = 1; seed <= 5; seed += 1) await runHistory(historyOf(seed, { shape }));
  const started = performance.now();
  let [histories, simulated] = [0, 0];
  while (performance.now() - started < forMs) {
    histories += 1;
    const history = historyOf(1000 + histories, { shape });
    const { violations, ms } = await runHistory(history);
    assert.deepEqual(violations, [], `seed ${history.seed}, shape ${shape}`);
    simulated += ms;
  }
  const elapsed = performance.now() - started;
  return { rate: (histories * 1000) / elapsed, speed: simulated / elapsed };
}

/** Power cuts that are measured in virtual time, each at another moment between two beats. */
const cuts = 60;

async function cutsOf(shape: ShapeName, host?: string): Promise<readonly number[]> {
  const times: number[] = [];
  for (let seed = 1; seed <= cuts; seed += 1) {
    const ms = await cutToStart(seed, shape, host);
    if (ms > 0) times.push(ms);
  }
  return times;
}

/** @throws AssertionError when a law is violated */
export async function run(): Promise<BenchResult> {
  const [three, five, nine] = [await rateOf('three'), await rateOf('five'), await rateOf('nine')];
  const [host, leader] = [await cutsOf('three', 'alder'), await cutsOf('standby')];
  const plain = (measure: string, value: number, unit: string): BenchRow => ({ measure, value, unit });
  return result('sim', [
    atLeast('histories at three hosts, one core', three.rate, '1/s', 50),
    plain('histories at five hosts', five.rate, '1/s'),
    plain('histories at nine hosts and three controllers', nine.rate, '1/s'),
    plain('three hosts against nine', three.rate / nine.rate, '×'),
    below('power cut → guests run elsewhere, median (virtual)', median(host), 'ms', 3100),
    below('power cut → guests run elsewhere, worst (virtual)', Math.max(...host), 'ms', 3600),
    below('the same, the leader on that host, median', median(leader), 'ms', 3100),
    plain('the same, the leader on that host, worst', Math.max(...leader), 'ms'),
    plain('virtual time against real time, three hosts', three.speed, '×'),
  ]);
}
