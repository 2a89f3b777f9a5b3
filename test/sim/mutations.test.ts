/**
 * Random histories with one rule of the lease left out: the simulator must notice the loss of those that random faults can
 * reach; the others have directed scenarios (`test/scenarios/rules`). Only in `./virga test --long`.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { allRules, without, type Rules } from '../../src/core/ha/rules.ts';
import { historyOf } from '../../src/sim/history.ts';
import { runHistory } from '../../src/sim/run.ts';

const long = Number(process.env['VIRGA_SIM_RUNS'] ?? 0) >= 20_000;
/** Histories that are tried for one rule. */
const most = 400;
/** Rules whose loss random histories are known to show. */
const shown: ReadonlySet<keyof Rules> = new Set(['margin', 'onlyTwoRefuse', 'sessionGroups']);

test('random histories with one rule left out', { skip: long ? false : 'only in --long' }, async (context) => {
  const missed: string[] = [];
  for (const rule of Object.keys(allRules) as (keyof Rules)[]) {
    const seed = await firstNoticed(rule);
    context.diagnostic(
      `${rule}: ${seed === undefined ? `not noticed in ${most} histories` : `noticed by seed ${seed}`}`,
    );
    if (seed === undefined && shown.has(rule)) missed.push(rule);
  }
  assert.deepEqual(missed, [], 'these were left out and nothing happened');
});

async function firstNoticed(rule: keyof Rules): Promise<number | undefined> {
  for (let seed = 1; seed <= most; seed += 1) {
    const { violations } = await runHistory(historyOf(seed, { kind: 'attack' }), without(rule));
    if (violations.length > 0) return seed;
  }
  return undefined;
}
