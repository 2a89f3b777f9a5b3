/**
 * Laws over random histories of whole sites: faults of every kind in any order, then peace. Each history is one seed; a
 * failing one is shrunk and printed by `virga sim --seed N`.
 */
import assert from 'node:assert/strict';
import { availableParallelism } from 'node:os';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { historyOf } from '../../src/sim/history.ts';
import { runHistory } from '../../src/sim/run.ts';
import type { ShareResult } from './history-worker.ts';

/** `./virga test --quick` sets none and runs few; `test` and `test --long` say how many. */
const wanted = Number(process.env['VIRGA_SIM_RUNS'] ?? 400);
const forMs = Number(process.env['VIRGA_SIM_MS'] ?? 110_000);
const first = Number(process.env['VIRGA_SIM_SEED'] ?? 1);

async function share(index: number, step: number): Promise<ShareResult> {
  return new Promise((done, failed) => {
    const worker = new Worker(new URL('history-worker.ts', import.meta.url), {
      // Most of what a history makes is gone soon: with room for it the collector has little to do.
      resourceLimits: { maxYoungGenerationSizeMb: 128 },
      workerData: { first: first + index, last: first + wanted - 1, step, forMs },
    });
    worker.once('message', done);
    worker.once('error', failed);
  });
}

test('the laws hold in random histories', { timeout: forMs + 60_000 }, async (context) => {
  const cores = Math.max(1, Math.min(4, availableParallelism()));
  const shares = await Promise.all(Array.from({ length: cores }, async (_, index) => share(index, cores)));
  const histories = shares.reduce((sum, each) => sum + each.histories, 0);
  const hours = shares.reduce((sum, each) => sum + each.simulatedMs, 0) / 3_600_000;
  context.diagnostic(`${histories} histories, ${hours.toFixed(1)} simulated hours`);
  const failures = shares.flatMap((each) => each.failures);
  assert.deepEqual(failures, [], `virga sim --seed ${failures[0]?.seed ?? ''} shows the first`);
  assert.ok(histories >= Math.min(wanted, 50), `only ${histories} of ${wanted} histories were run in ${forMs} ms`);
});

test('one seed is one history', async () => {
  const [first_, again] = [await runHistory(historyOf(11)), await runHistory(historyOf(11))];
  assert.equal(first_.ms, again.ms);
  assert.equal(first_.events, again.events);
  assert.deepEqual(first_.world.laws.happenings.length, again.world.laws.happenings.length);
});
