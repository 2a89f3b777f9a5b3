/** A rule whose loss nothing notices needs a history, or goes: each has a scenario that guards it, or a directed history here. */
import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { allRules } from '../../../../src/core/ha/rules.ts';

const here = dirname(fileURLToPath(import.meta.url));
const scenarios = resolve(here, '../../../scenarios');

test('every rule of the lease is guarded', () => {
  const guarded = globSync('**/start.json', { cwd: scenarios }).flatMap((path) => {
    const { guards = [] } = JSON.parse(readFileSync(join(scenarios, path), 'utf8')) as { guards?: readonly string[] };
    return guards;
  });
  const directed = globSync('*.test.ts', { cwd: here }).flatMap((path) =>
    [...readFileSync(join(here, path), 'utf8').matchAll(/^ {4}rule: '(\w+)',$/gm)].map(([, rule]) => rule),
  );
  const shown = new Set([...guarded, ...directed]);
  assert.deepEqual(
    Object.keys(allRules).filter((rule) => !shown.has(rule)),
    [],
  );
});
