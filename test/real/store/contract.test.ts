import assert from 'node:assert/strict';
import { after, before, it } from 'node:test';
import * as fc from 'fast-check';
import { MemoryStore } from '../../../src/controller/store/memory.ts';
import { PgStore } from '../../../src/controller/store/store.ts';
import type { Commit, Store } from '../../../src/ports.ts';
import { type MakeStore, storeContract } from '../../unit/store/contract.ts';
import { commit, epochOf, event, guest, lead, network, uuid } from '../../unit/store/samples.ts';
import { type Server, server } from './kit.ts';

let shared: Server;
before(async () => {
  shared = await server();
});
after(async () => {
  await shared.stop();
});

const newSite = { id: uuid(0), name: 'test' };
const makePg: MakeStore = async (options) => {
  await shared.database.query('DROP SCHEMA IF EXISTS virga CASCADE');
  return PgStore.open(shared.database, { newSite, ...options });
};

storeContract('PostgreSQL', makePg);

/** Few numbers, names, addresses and keys, so that a random history meets every refusal. */
const few = (max: number): fc.Arbitrary<number> => fc.integer({ min: 1, max });
const anyGuest = fc
  .record({
    number: few(5),
    name: fc.option(few(4), { nil: undefined }),
    ipv4: fc.option(few(3), { nil: undefined }),
    labels: fc.dictionary(fc.string({ unit: 'binary', maxLength: 5 }), fc.string({ unit: 'binary', maxLength: 9 })),
  })
  .map(({ number, name, ipv4, labels }) =>
    guest(number, {
      ...(name === undefined ? {} : { name: `name-${name}` }),
      ...(ipv4 === undefined ? {} : { ipv4: `10.0.0.${ipv4}` }),
      labels,
    }),
  );
const anyCommit: fc.Arbitrary<Commit> = fc
  .record({
    epoch: fc.constantFrom(1, 1, 1, 1, 2),
    put: fc.uniqueArray(anyGuest, { selector: ({ id }) => id, maxLength: 3 }),
    remove: fc.uniqueArray(few(7), { maxLength: 2 }),
    withNetwork: fc.boolean(),
    events: fc.array(fc.string({ unit: 'binary' }), { maxLength: 2 }),
    expect: fc.array(fc.record({ number: few(5), revision: fc.option(few(9), { nil: undefined }) }), { maxLength: 1 }),
    key: fc.option(few(4), { nil: undefined }),
  })
  .map(({ epoch, put, remove, withNetwork, events, expect, key }) =>
    commit(epoch, {
      put: withNetwork ? [...put, network(9, 'name-1')] : put,
      remove: remove
        .map((number) => ({ kind: 'guest' as const, id: uuid(number) }))
        .filter(({ id }) => put.every((each) => each.id !== id)),
      events: events.map((message, index) => event(`type-${index}`, message)),
      expect: expect.map(({ number, revision }) => ({ kind: 'guest', id: uuid(number), revision })),
      ...(key === undefined
        ? {}
        : { idempotency: { key: `k${key}`, who: 'w', requestHash: JSON.stringify(put.length), created: [] } }),
    }),
  );

it('answers every history of commits as the store in memory does', async () => {
  const seen = new Set<string>();
  const play = async (store: Store, history: readonly Commit[]): Promise<unknown[]> => {
    const answers: unknown[] = [await lead(store)];
    for (const each of history) {
      const answer = await store.commit(each);
      seen.add(answer.ok ? 'ok' : answer.why);
      answers.push(answer);
    }
    answers.push(await store.events({ limit: 100 }), await store.idempotent('w', 'k1'), await lead(store));
    return answers;
  };
  await fc.assert(
    fc.asyncProperty(fc.array(anyCommit, { minLength: 1, maxLength: 15 }), async (history) => {
      const memory = await play(new MemoryStore({ newSite, now: () => 7 }), history);
      const database = await play(await makePg({ now: () => 7 }), history);
      assert.deepEqual(database, memory);
    }),
    { numRuns: 60 },
  );
  // The histories must have met everything that they are meant to compare.
  assert.deepEqual([...seen].sort(), ['address-taken', 'conflict', 'epoch', 'idempotency', 'name-taken', 'ok']);
});

it('two leaders at once: only the one with the higher epoch commits', async () => {
  const first = await makePg({ now: () => 0 });
  const second = await PgStore.open(shared.database, { newSite });
  const [low, high] = await Promise.all([first.lead(epochOf(1)), second.lead(epochOf(2))]);
  assert.ok(high.ok);
  // Whether the lower one came first or not: it has nothing to say any more.
  if (!low.ok) assert.deepEqual(low.epoch, epochOf(2));
  const results = await Promise.all([1, 2].map(async (epoch) => first.commit(commit(epoch, { put: [guest(epoch)] }))));
  assert.deepEqual(
    results.map(({ ok }) => ok),
    [false, true],
  );
});

it('many writers at once: no revision and no event number twice, none left out', async () => {
  const store = await makePg({ now: () => 0 });
  await lead(store);
  const numbers = Array.from({ length: 40 }, (_, index) => index + 1);
  const results = await Promise.all(
    numbers.map(async (number) => store.commit(commit(1, { put: [guest(number)], events: [event('e')] }))),
  );
  const revisions = results.map((result) => (result.ok ? result.revision : -1)).sort((a, b) => a - b);
  assert.deepEqual(revisions, numbers);
  assert.deepEqual(
    (await store.events({ limit: 100 })).map(({ seq }) => seq),
    numbers,
  );
});

it('loads twenty thousand guests and writes a thousand in one commit, all of them', async () => {
  const store = await makePg({ now: () => 0 });
  await lead(store);
  const address = (number: number): string => `10.${number >> 16}.${(number >> 8) & 255}.${number & 255}`;
  for (let start = 0; start < 20_000; start += 1024) {
    const put = Array.from({ length: Math.min(1024, 20_000 - start) }, (_, index) =>
      guest(start + index + 1, { ipv4: address(start + index) }),
    );
    const expect = put.map(({ kind, id }) => ({ kind, id, revision: undefined }));
    const result = await store.commit(commit(1, { put, expect }));
    assert.ok(result.ok);
  }
  const { resources } = await lead(store);
  assert.equal(resources.length, 20_000);
  assert.equal(new Set(resources.map(({ id }) => id)).size, 20_000);
  const clash = await store.commit(commit(2, { put: [guest(20_001, { ipv4: address(19_999) })] }));
  assert.equal(clash.ok ? 'ok' : clash.why, 'address-taken');
});
