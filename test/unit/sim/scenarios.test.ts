/** Every failure story is a folder. A missing expected log fails; `node src/sim/main.ts FOLDER --write` makes it, on purpose. */
import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { without } from '../../../src/core/ha/rules.ts';
import { readMessage } from '../../../src/effects/wire/shapes.ts';
import { Network } from '../../../src/sim/network.ts';
import { runScenario, type Start } from '../../../src/sim/scenario.ts';

const folder = resolve(dirname(fileURLToPath(import.meta.url)), '../../scenarios');
const names = globSync('**/start.json', { cwd: folder })
  .map((path) => dirname(path))
  .sort();
/** Seeds that a left-out rule has to show itself in: delays of a millisecond may decide. */
const tries = 12;

/** Kinds of datagrams that the real wire would drop, with the first one of each. */
const malformed = new Map<string, string>();
Network.tap = (message) => {
  const text = JSON.stringify(message);
  const hostId = 'hostId' in message ? message.hostId : '';
  const asked = ['poll', 'census', 'seal', 'withdraw', 'over', 'list', 'register', 'bar'].includes(message.type);
  const read = readMessage(text, { id: hostId, role: asked ? 'controller' : 'keeper' });
  if (typeof read !== 'object' && !malformed.has(message.type)) malformed.set(message.type, `${read}: ${text}`);
};

test('there are scenarios', () => assert.ok(names.length >= 30));

for (const name of names) {
  const read = (file: string): string => readFileSync(join(folder, name, file), 'utf8');
  const start = JSON.parse(read('start.json')) as Start;
  test(`scenario ${name}`, async () => {
    assert.ok(read('README.md').length > 80, 'the README says why');
    const { log, violations } = await runScenario(start, read('commands'));
    assert.deepEqual(violations, []);
    assert.equal(log, read('expected.log'));
  });
  for (const rule of start.guards ?? [])
    test(`scenario ${name} notices when the rule ${rule} is left out`, async () => {
      for (let seed = start.seed; seed < start.seed + tries; seed += 1) {
        const { violations } = await runScenario({ ...start, seed }, read('commands'), without(rule));
        if (violations.length > 0) return;
      }
      assert.fail(`no law is violated without ${rule} in ${tries} seeds`);
    });
}

test('the real wire lets every datagram of the scenarios through', () => assert.deepEqual([...malformed], []));

test('the same seed gives the same log, another seed another one', async () => {
  const commands = '0 bad-weather\n1 run web --count 5\n10 kill-qemu web-2\n30 end';
  const run = async (seed: number): Promise<string> =>
    (await runScenario({ seed, hosts: ['alder', 'birch'] }, commands)).log;
  const [first, again, other] = [await run(41), await run(41), await run(42)];
  assert.equal(first, again);
  assert.notEqual(first, other);
});
