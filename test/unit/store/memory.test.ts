import assert from 'node:assert/strict';
import { it } from 'node:test';
import { VirgaError } from '../../../src/core/errors.ts';
import { MemoryStore, type StoreFault } from '../../../src/controller/store/memory.ts';
import { storeContract } from './contract.ts';
import { commit, guest, lead, uuid } from './samples.ts';

storeContract('memory', async (options) => new MemoryStore({ newSite: { id: uuid(0), name: 'test' }, ...options }));

it('a fault before the write loses the commit, one after it only the answer', async () => {
  let fault: StoreFault | undefined;
  const store = new MemoryStore({ newSite: { id: uuid(0), name: 'test' }, now: () => 0, fault: () => fault });
  await lead(store);
  const unavailable = (error: unknown): boolean => error instanceof VirgaError && error.code === 'store_unavailable';
  fault = 'before';
  await assert.rejects(store.commit(commit(1, { put: [guest(1)] })), unavailable);
  await assert.rejects(store.ping(), unavailable);
  fault = 'after';
  await assert.rejects(store.commit(commit(1, { put: [guest(2)] })), unavailable);
  fault = undefined;
  const state = await lead(store);
  assert.deepEqual(
    state.resources.map(({ id }) => id),
    [uuid(2)],
  );
});

it('shares no object with its caller', async () => {
  const store = new MemoryStore({ newSite: { id: uuid(0), name: 'test' }, now: () => 0 });
  await lead(store);
  const given = guest(1);
  await store.commit(commit(1, { put: [given] }));
  Object.assign(given.labels, { changed: 'later' });
  assert.deepEqual((await lead(store)).resources[0]?.labels, {});
});
