/**
 * kill -9 of the agent before any of its writes and any of its acts: the next life finds out where it was, and ends
 * where an undisturbed one would have ended.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import * as fc from 'fast-check';
import type { GuestOrder } from '../../../src/core/model/assignment.ts';
import { parseJournal } from '../../../src/core/host/journal.ts';
import { chain } from '../../../src/core/host/layers.ts';
import { assignment, FakeHost, idOf, order } from './fake-host.ts';

const one = idOf(1);
const snapshot = { id: idOf(50), name: 's', askedAt: 1, wanted: true };
type Change = Partial<GuestOrder>;

/** From a running guest with a snapshot to something else, by one order. */
const ha = { ha: true, diskMode: 'fresh' } as const;
const changes: Readonly<Record<string, Change>> = {
  'first start': {},
  stop: { power: 'off' },
  reboot: { rebootSeq: 1 },
  rebuild: { rebuildSeq: 1 },
  'second snapshot': { snapshots: [snapshot, { ...snapshot, id: idOf(51) }] },
  revert: { revert: { seq: 1, snapshotId: snapshot.id } },
  'deletion of a snapshot': { snapshots: [{ ...snapshot, wanted: false }] },
  'resize and pause': { cpus: 2, memoryMiB: 200, diskMiB: 150, paused: true },
  removal: { want: 'remove' },
  'highly available, first start': ha,
  'highly available, first start, paused': { ...ha, paused: true },
  'highly available, off': { ...ha, power: 'off' },
  'highly available, reboot': { ...ha, rebootSeq: 1 },
  'highly available, removal': { ...ha, want: 'remove' },
  'becomes highly available': { ...ha },
};
const isFirst = (name: string): boolean => name.includes('first start');

/** Files, journal and domain fit together: nothing that is needed is missing, nothing that is not needed lies about. */
function checkDisks(host: FakeHost): void {
  const text = host.files.get(`guests/${one}/journal.json`);
  const journal = text === undefined ? undefined : parseJournal(text);
  assert.ok(journal);
  const files = new Set([...host.disks.keys()].map((path) => path.split('/').at(-1) ?? ''));
  assert.deepEqual(files, new Set(journal.layers.map((layer) => layer.file)));
  for (const layer of journal.layers) assert.ok(layer.base === undefined || files.has(layer.base));
  for (const each of journal.snapshots) assert.ok(each.layer !== undefined && files.has(each.layer));
  const domain = host.domains.get(one);
  if (domain) assert.equal(domain.active, `/data/${one}/${chain(journal, journal.active)[0]?.file}`);
}

/** What must be the same whether or not the agent died on the way. */
function outcome(host: FakeHost): unknown {
  const { engine, generation, startSeq, rebootSeq, rebuildSeq, revertSeq, snapshots } = host.guest(1) ?? {};
  const states = snapshots?.map(({ id, state }) => ({ id, state }));
  const domain = host.domains.get(one);
  const sizes = domain && { cpus: domain.cpus, memoryMiB: domain.memoryMiB };
  const inside = host.guest(1)?.inside;
  const entry = host.keeper.entries.has(one);
  const seqs = { startSeq, rebootSeq, rebuildSeq, revertSeq };
  return { engine, generation, ...seqs, states, sizes, inside, entry, gone: host.report?.gone };
}

async function prepared(name: string): Promise<FakeHost> {
  const host = new FakeHost();
  if (isFirst(name)) return host;
  const loop = await host.agent();
  const kind = name.startsWith('highly') ? ha : {};
  loop.receive(assignment(1, [order(1, { snapshots: [snapshot], ...kind })]));
  await host.settle(loop);
  return host;
}

async function carryOut(host: FakeHost, change: Change): Promise<void> {
  const loop = await host.agent();
  loop.receive(assignment(2, [order(1, { snapshots: [snapshot], ...change, generation: 2 })]));
  await host.settle(loop, 10, 200);
}

describe('the agent is killed at every step', () => {
  for (const [name, change] of Object.entries(changes))
    test(name, async (t) => {
      const calm = await prepared(name);
      await carryOut(calm, change);
      checkDisks(calm);
      const expected = outcome(calm);
      let steps = 0;
      for (; steps < 200; steps += 1) {
        const host = await prepared(name);
        host.stepsLeft = steps;
        await carryOut(host, change).catch(() => undefined);
        const survived = host.stepsLeft >= 0;
        host.stepsLeft = Number.POSITIVE_INFINITY;
        await carryOut(host, change);
        // A back-off may have to pass.
        const loop = await host.agent();
        await host.settle(loop, 5, 2000);
        assert.deepEqual(outcome(host), expected, `killed before step ${steps}`);
        checkDisks(host);
        assert.deepEqual(host.wrong, []);
        if (survived) break;
      }
      assert.ok(steps > 5 && steps < 200, `${steps} steps`);
      t.diagnostic(`${steps} points`);
    });
});

type Wish = Partial<GuestOrder> & { readonly highly?: boolean | undefined; readonly noStart?: boolean | undefined };

/** An order with flags that are there or not. */
function wished(old: GuestOrder, { highly, noStart, ...change }: Wish): GuestOrder {
  const { ha: wasHa, barred: wasBarred, ...rest } = old;
  const flags = {
    ...((highly ?? wasHa) ? { ha: true as const } : {}),
    ...((noStart ?? wasBarred) ? { barred: true as const } : {}),
  };
  return { ...rest, ...change, ...flags };
}

/** What may happen to a host with two guests. */
const happening = fc.oneof(
  fc.record({
    kind: fc.constant('order' as const),
    guest: fc.integer({ min: 1, max: 2 }),
    change: fc.record(
      {
        power: fc.constantFrom('on' as const, 'off' as const),
        paused: fc.boolean(),
        held: fc.boolean(),
        cpus: fc.integer({ min: 1, max: 3 }),
        startSeq: fc.integer({ min: 0, max: 3 }),
        rebootSeq: fc.integer({ min: 0, max: 3 }),
        rebuildSeq: fc.integer({ min: 0, max: 3 }),
        diskMode: fc.constantFrom('keep' as const, 'fresh' as const),
        highly: fc.boolean(),
        noStart: fc.boolean(),
        restart: fc.constantFrom('always' as const, 'on-failure' as const, 'never' as const),
        snapshots: fc.constantFrom([], [snapshot], [{ ...snapshot, wanted: false }]),
      },
      { requiredKeys: [] },
    ),
  }),
  fc.record({
    kind: fc.constantFrom('unlist' as const, 'end' as const, 'crash' as const),
    guest: fc.integer({ min: 1, max: 2 }),
  }),
  fc.record({ kind: fc.constant('kill' as const), steps: fc.integer({ min: 0, max: 12 }) }),
  fc.record({
    kind: fc.constantFrom(
      'power-cut' as const,
      'engine-away' as const,
      'engine-back' as const,
      'old-orders' as const,
      'lease-lapses' as const,
      'lease-back' as const,
      'session-ends' as const,
      'keeper-away' as const,
      'keeper-back' as const,
      'leader-changes' as const,
      'ignore' as const,
    ),
  }),
  fc.record({
    kind: fc.constant('time' as const),
    rounds: fc.integer({ min: 1, max: 6 }),
    ms: fc.constantFrom(10, 700, 30_000),
  }),
);

test('whatever happened before, in calm it converges; held and unlisted guests are never touched', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(happening, { maxLength: 25 }), async (story) => {
      const host = new FakeHost();
      let loop = await host.agent();
      let generation = 0;
      const listed = new Map<string, GuestOrder>();
      // A guest that comes back is the same: its counters only rise.
      const known = new Map<string, GuestOrder>();
      const send = (): void => {
        generation += 1;
        loop.receive(assignment(generation, [...listed.values()]));
      };
      const untouched = (): ReadonlySet<string> =>
        new Set([1, 2].flatMap((index) => (listed.get(idOf(index))?.held === false ? [] : [idOf(index)])));
      const rest = async (rounds: number, ms: number): Promise<void> => {
        // Orders are taken first, again if they died with an agent; from then on what is held or not listed must be left
        // alone.
        if (generation > 0) loop.receive(assignment(generation, [...listed.values()]));
        await loop.iterate().catch(() => undefined);
        await loop.settled();
        const from = host.done.length;
        const alone = untouched();
        await host.settle(loop, rounds, ms).catch(() => undefined);
        for (const done of host.done.slice(from))
          for (const id of alone) assert.ok(!done.endsWith(id.slice(-2)), `${done}, but it is held or not listed`);
      };
      for (const event of story) {
        if (event.kind === 'order') {
          const old = known.get(idOf(event.guest)) ?? order(event.guest);
          const change = event.change;
          const rising = {
            startSeq: Math.max(old.startSeq, change.startSeq ?? 0),
            rebootSeq: Math.max(old.rebootSeq, change.rebootSeq ?? 0),
            rebuildSeq: Math.max(old.rebuildSeq, change.rebuildSeq ?? 0),
          };
          listed.set(old.id, wished(old, { ...change, ...rising, generation: generation + 1 }));
          known.set(old.id, wished(old, { ...change, ...rising }));
          send();
        } else if (event.kind === 'unlist') {
          listed.delete(idOf(event.guest));
          send();
        } else if (event.kind === 'end') host.end(idOf(event.guest), 'shutdown');
        else if (event.kind === 'crash') host.end(idOf(event.guest), 'crashed');
        else if (event.kind === 'kill') {
          host.stepsLeft = event.steps;
          await host.settle(loop, 2).catch(() => undefined);
          host.stepsLeft = Number.POSITIVE_INFINITY;
          loop = await host.agent();
        } else if (event.kind === 'power-cut') {
          host.reboot();
          loop = await host.agent();
        } else if (event.kind === 'engine-away') host.engineAway = true;
        else if (event.kind === 'engine-back') host.engineAway = false;
        else if (event.kind === 'lease-lapses') host.keeper.setLease('lapsed');
        else if (event.kind === 'lease-back') host.keeper.setLease('held');
        else if (event.kind === 'session-ends') host.keeper.endSession();
        else if (event.kind === 'keeper-away') host.keeper.away = true;
        else if (event.kind === 'keeper-back') host.keeper.away = false;
        else if (event.kind === 'leader-changes') host.keeper.epoch += 1;
        else if (event.kind === 'ignore') host.polite = host.polite === 'obey' ? 'ignore' : 'obey';
        else if (event.kind === 'old-orders') {
          const kept = loop.assignment?.generation;
          if (kept !== undefined) assert.equal(loop.receive(assignment(kept - 1, [])), false);
        } else if (event.kind === 'time') await rest(event.rounds, event.ms);
      }
      host.engineAway = false;
      host.keeper.away = false;
      host.keeper.setLease('held');
      // A person lets go of everything, and asks for a start of what should be on.
      for (const [id, old] of listed)
        listed.set(
          id,
          wished(old, {
            held: false,
            noStart: false,
            epoch: host.keeper.epoch,
            startSeq: old.startSeq + 1,
            generation: generation + 1,
          }),
        );
      send();
      await host.settle(loop, 40, 2000);
      // What ended on the way through the keeper is gone under that order: a leader orders it again.
      const gone = new Set(host.report?.gone.map((each) => each.id));
      for (const [id, old] of listed) if (gone.has(id)) listed.set(id, { ...old, generation: generation + 1 });
      if (gone.size > 0) send();
      await host.settle(loop, 40, 2000);
      assert.deepEqual(host.wrong, []);
      for (const wanted of listed.values()) {
        const state = host.domains.get(wanted.id)?.state;
        assert.equal(state, wanted.power === 'off' ? undefined : wanted.paused ? 'paused' : 'running');
        const report = host.report?.guests.find((guest) => guest.id === wanted.id);
        assert.equal(report?.generation, wanted.generation);
        assert.equal(report?.rebuildSeq, wanted.rebuildSeq);
        if (wanted.ha && state) assert.equal(report?.inside, true);
      }
      const before = host.done.length;
      await host.settle(loop, 5, 5000);
      assert.deepEqual(host.done.slice(before), [], 'once converged it does nothing more');
    }),
    {
      numRuns: 300,
      examples: [
        [
          [
            { kind: 'order', guest: 1, change: { paused: true } },
            { kind: 'kill', steps: 1 },
            { kind: 'order', guest: 1, change: { held: true } },
            { kind: 'kill', steps: 0 },
            { kind: 'time', rounds: 1, ms: 10 },
          ],
        ],
      ],
    },
  );
});
