/** Every failure story is a folder. A missing expected log fails; `node src/sim/main.ts FOLDER --write` makes it, on purpose. */
import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { runScenario, type Start } from '../../../src/sim/scenario.ts';

const folder = resolve(dirname(fileURLToPath(import.meta.url)), '../../scenarios');
const names = globSync('*/start.json', { cwd: folder })
  .map((path) => dirname(path))
  .sort();

test('there are scenarios', () => assert.ok(names.length >= 10));

for (const name of names) {
  test(`scenario ${name}`, async () => {
    const read = (file: string): string => readFileSync(join(folder, name, file), 'utf8');
    assert.ok(read('README.md').length > 80, 'the README says why');
    const start = JSON.parse(read('start.json')) as Start;
    assert.equal(await runScenario(start, read('commands')), read('expected.log'));
  });
}

test('the same seed gives the same log, another seed another one', async () => {
  const commands = '0 bad-weather\n1 run web --count 5\n10 kill-qemu web-2\n30 end';
  const run = (seed: number): Promise<string> => runScenario({ seed, hosts: ['alder', 'birch'] }, commands);
  const [first, again, other] = [await run(41), await run(41), await run(42)];
  assert.equal(first, again);
  assert.notEqual(first, other);
});
