/**
 * Laws over random histories: faults of every kind in any order, then peace. Each history is one seed; a failure prints
 * the seed and the shrunken list of events.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { carryOut } from '../../../src/sim/commands.ts';
import { World } from '../../../src/sim/world.ts';

const hosts = ['alder', 'birch', 'cedar'] as const;
const guests = ['web-1', 'web-2', 'web-3', 'fresh-1', 'fresh-2'] as const;

const host = fc.constantFrom(...hosts);
const guest = fc.constantFrom(...guests);
const of = (word: string, subject: fc.Arbitrary<string>): fc.Arbitrary<string> =>
  subject.map((each) => `${word} ${each}`);

const faults = fc.oneof(
  of('power-cut', host),
  of('power-on', host),
  of('kill-agent', host),
  of('start-agent', host),
  of('cut', host),
  of('mend', host),
  of('libvirtd-down', host),
  of('libvirtd-up', host),
  of('kill-qemu', guest),
  fc.constantFrom('kill-controller', 'start-controller', 'database-down', 'database-up', 'bad-weather', 'fair-weather'),
);
const asks = fc.oneof(
  of('stop', guest),
  of('start', guest),
  of('reboot', guest),
  of('pause', guest),
  of('resume', guest),
  of('rebuild', guest),
  of('delete', guest),
  of('hold', guest),
  of('unhold', guest),
  fc.nat({ max: 99 }).map((number) => `run more${number} --restart always`),
  fc.nat({ max: 99 }).map((number) => `run spare${number} --fresh`),
);
const history = fc.array(
  fc.record({
    afterMs: fc.integer({ min: 1, max: 6_000 }),
    what: fc.oneof({ weight: 3, arbitrary: faults }, { weight: 2, arbitrary: asks }),
  }),
  { minLength: 3, maxLength: 25 },
);

interface Step {
  readonly afterMs: number;
  readonly what: string;
}

/** Never two running copies of one guest (law 1), looked at after every step and often in between. */
function neverTwice(world: World): void {
  const seen = new Set<string>();
  for (const { machine } of world.sites.values())
    for (const id of machine.domains.keys()) {
      assert.ok(!seen.has(id), `two copies of ${id} run at ${world.time.now} ms`);
      seen.add(id);
    }
}

async function pass(world: World, ms: number): Promise<void> {
  const end = world.time.now + ms;
  while (world.time.now < end) {
    await world.time.runUntil(Math.min(end, world.time.now + 250));
    neverTwice(world);
  }
}

/** All faults end; the site gets time to converge. */
async function peace(world: World): Promise<void> {
  for (const line of ['fair-weather', 'database-up', 'start-controller']) carryOut(world, line);
  await pass(world, 1_000);
  for (const name of hosts)
    for (const word of ['mend', 'libvirtd-up', 'power-on', 'start-agent']) carryOut(world, `${word} ${name}`);
  await pass(world, 150_000);
}

async function live(seed: number, steps: readonly Step[]): Promise<World> {
  const world = new World({ seed, hosts, slowMs: 40 });
  await world.begin();
  carryOut(world, 'run web --count 3');
  carryOut(world, 'run fresh --count 2 --fresh');
  await pass(world, 3_000);
  for (const { afterMs, what } of steps) {
    await pass(world, afterMs);
    carryOut(world, what);
  }
  await peace(world);
  return world;
}

const runs = Number(process.env['VIRGA_SIM_RUNS'] ?? 12);
const seeds = fc.integer({ min: 1, max: 1_000_000 });

test('an acknowledged guest is never lost, and what is deleted stays deleted', { timeout: 110_000 }, async () => {
  await fc.assert(
    fc.asyncProperty(seeds, history, async (seed, steps) => {
      const world = await live(seed, steps);
      const known = new Set([...world.snapshot().all('guest')].map(({ id }) => id));
      for (const [id, name] of world.acknowledged)
        assert.ok(known.has(id) || world.deletable(id), `the guest ${name} (${id}) was acknowledged and is lost`);
      for (const id of world.deleted) {
        assert.ok(!known.has(id), `${id} was deleted and is still there`);
        assert.deepEqual(world.copies(id), [], `${id} was deleted and still runs`);
      }
    }),
    { numRuns: runs },
  );
});

test('the site converges from any state, and what a person sees is so', { timeout: 110_000 }, async () => {
  await fc.assert(
    fc.asyncProperty(seeds, history, async (seed, steps) => {
      const world = await live(seed, steps);
      for (const each of world.snapshot().all('host')) assert.equal(each.status.state, 'online', each.name);
      for (const each of world.snapshot().all('guest')) {
        const { state } = each.status;
        const copies = world.copies(each.id).length;
        const what = `${each.name}: ${state} (${each.status.stateReason ?? ''}), power ${each.spec.power}, ${copies} copies`;
        assert.equal(copies, state === 'running' || state === 'paused' ? 1 : 0, what);
        if (each.spec.power === 'off' && !each.spec.held) assert.equal(state, 'stopped', what);
        if (each.spec.restart === 'always' && each.spec.power === 'on' && !each.spec.held)
          assert.ok(state === 'running' || state === 'failed', what);
      }
      await quiet(world);
    }),
    { numRuns: runs },
  );
});

/** Once converged nothing is written any more: deciding again finds nothing to do. */
async function quiet(world: World): Promise<void> {
  const { revision } = world.snapshot();
  await pass(world, 30_000);
  assert.equal(world.snapshot().revision, revision, 'an idle site writes');
}

test('no order of messages breaks it', { timeout: 110_000 }, async () => {
  const stormy = fc.array(fc.record({ afterMs: fc.integer({ min: 1, max: 3_000 }), what: asks }), {
    minLength: 5,
    maxLength: 30,
  });
  await fc.assert(
    fc.asyncProperty(seeds, stormy, async (seed, steps) => {
      const world = await live(seed, [{ afterMs: 1, what: 'bad-weather' }, ...steps]);
      for (const each of world.snapshot().all('guest'))
        assert.equal(
          world.copies(each.id).length,
          ['running', 'paused'].includes(each.status.state) ? 1 : 0,
          each.name,
        );
    }),
    { numRuns: runs },
  );
});
