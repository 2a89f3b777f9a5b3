import assert from 'node:assert/strict';
import { it } from 'node:test';
import * as fc from 'fast-check';
import { MemoryStore } from '../../../src/controller/store/memory.ts';
import { Mirror } from '../../../src/controller/store/mirror.ts';
import { kinds } from '../../../src/core/model/resource.ts';
import type { AnyResource } from '../../../src/core/model/snapshot.ts';
import type { LoadedState } from '../../../src/ports.ts';
import { commit, guest, lead, network, uuid } from './samples.ts';

const empty: LoadedState = {
  revision: 0,
  site: { id: uuid(0), name: 'test', epoch: 1 },
  resources: [],
  tombstones: [],
  oldestTombstone: 0,
};

const ids = (resources: Iterable<AnyResource>): string[] => Array.from(resources, ({ id }) => id).sort();

it('finds objects by id and name, also after they swapped names', () => {
  const mirror = new Mirror(empty);
  mirror.apply({ put: [guest(1, { name: 'a' }), guest(2, { name: 'b' }), network(3, 'a')], remove: [] }, 1);
  mirror.apply({ put: [guest(1, { name: 'b' }), guest(2, { name: 'a' })], remove: [] }, 2);
  assert.equal(mirror.byName('guest', 'a')?.id, uuid(2));
  assert.equal(mirror.byName('guest', 'b')?.id, uuid(1));
  assert.equal(mirror.byName('network', 'a')?.id, uuid(3));
  assert.equal(mirror.get('guest', uuid(1))?.revision, 2);
  assert.equal(mirror.get('network', uuid(1)), undefined);
  assert.deepEqual([mirror.count('guest'), mirror.count('network'), mirror.count('image')], [2, 1, 0]);
});

it('knows the guests of each host as they move and go', () => {
  const mirror = new Mirror(empty);
  const [east, west] = [uuid(100), uuid(200)];
  mirror.apply({ put: [guest(1, { hostId: east }), guest(2, { hostId: east }), guest(3)], remove: [] }, 1);
  assert.deepEqual(ids(mirror.guestsOn(east)), [uuid(1), uuid(2)]);
  mirror.apply({ put: [guest(1, { hostId: west })], remove: [{ kind: 'guest', id: uuid(2) }] }, 2);
  assert.deepEqual(ids(mirror.guestsOn(east)), []);
  assert.deepEqual(ids(mirror.guestsOn(west)), [uuid(1)]);
});

it('tells a watch each change once, in order, and refuses one that is too old or from another time', () => {
  const mirror = new Mirror(empty, { maxTombstones: 1 });
  mirror.apply({ put: [guest(1), guest(2)], remove: [] }, 1);
  mirror.apply({ put: [guest(1)], remove: [] }, 2);
  mirror.apply({ put: [], remove: [{ kind: 'guest', id: uuid(2) }] }, 3);
  const told = (revision: number): string[] | undefined =>
    mirror
      .since(revision)
      ?.map((change) =>
        change.type === 'put'
          ? `${change.revision} ${change.resource.name}`
          : `${change.revision} -${change.tombstone.name}`,
      );
  assert.deepEqual(told(0), ['2 guest-1', '3 -guest-2']);
  assert.deepEqual(told(2), ['3 -guest-2']);
  assert.deepEqual(told(3), []);
  assert.equal(told(4), undefined);
  mirror.apply({ put: [], remove: [{ kind: 'guest', id: uuid(1) }] }, 4);
  assert.equal(told(2), undefined, 'the tombstone of revision 3 is gone');
  assert.deepEqual(told(3), ['4 -guest-1']);
});

it('refuses commits out of order', () => {
  const mirror = new Mirror({ ...empty, revision: 5 });
  assert.throws(() => mirror.apply({ put: [], remove: [] }, 5), RangeError);
});

it('stays small however often objects change', () => {
  const mirror = new Mirror(empty);
  for (let revision = 1; revision <= 20_000; revision += 1)
    mirror.apply({ put: [guest(revision % 10)], remove: [] }, revision);
  assert.equal(mirror.since(0)?.length, 10);
  assert.deepEqual(
    mirror.since(19_998)?.map(({ revision }) => revision),
    [19_999, 20_000],
  );
});

/** One step of a random history over few objects, so that they meet often. */
const step = fc.record({
  put: fc.uniqueArray(fc.record({ number: fc.integer({ min: 1, max: 6 }), host: fc.integer({ min: 0, max: 2 }) }), {
    selector: ({ number }) => number,
    maxLength: 3,
  }),
  remove: fc.uniqueArray(fc.integer({ min: 7, max: 9 }), { maxLength: 2 }),
  extra: fc.boolean(),
});

it('is at every moment what the store would load, and a watch that follows it ends with the same', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 20 }), fc.nat(20), async (steps, watchFrom) => {
      const store = new MemoryStore({ newSite: { id: uuid(0), name: 'test' }, now: () => 0 });
      const mirror = new Mirror(await lead(store));
      const watched = new Map<string, AnyResource>();
      for (const [index, { put, remove, extra }] of steps.entries()) {
        const guests = put.map(({ number, host }) => guest(number, host === 0 ? {} : { hostId: uuid(host) }));
        const change = commit(1, {
          put: extra ? [...guests, guest(7 + (index % 3))] : guests,
          remove: extra ? [] : remove.map((number) => ({ kind: 'guest' as const, id: uuid(number) })),
        });
        const result = await store.commit(change);
        assert.ok(result.ok);
        mirror.apply(change, result.revision);
        if (index === Math.min(watchFrom, steps.length - 1))
          for (const each of mirror.all('guest')) watched.set(each.id, each);
      }
      const state = await lead(store);
      assert.deepEqual(ids(kinds.flatMap((kind) => [...mirror.all(kind)])), ids(state.resources));
      for (const each of state.resources) assert.deepEqual(mirror.get(each.kind, each.id), each);
      const since = mirror.since(Math.min(watchFrom + 1, steps.length));
      assert.ok(since);
      for (const change of since) {
        if (change.type === 'put') watched.set(change.resource.id, change.resource);
        else watched.delete(change.tombstone.id);
      }
      assert.deepEqual(ids(watched.values()), ids(state.resources));
      for (const host of [1, 2]) {
        const there = state.resources.filter(
          (each) => each.kind === 'guest' && each.status.placement?.hostId === uuid(host),
        );
        assert.deepEqual(ids(mirror.guestsOn(uuid(host))), ids(there));
      }
    }),
    { numRuns: 200 },
  );
});
