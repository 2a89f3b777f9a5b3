/** What every store must do. Runs against the one in memory and the one in PostgreSQL. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Instant } from '../../../src/core/model/resource.ts';
import type { CommitResult, Store } from '../../../src/ports.ts';
import type { Pruned } from '../../../src/controller/store/prune.ts';
import type { Retention } from '../../../src/controller/store/shape.ts';
import { commit, epochOf, event, guest, lead, network, networkId, stored, uuid } from './samples.ts';

export interface StoreUnderTest extends Store {
  prune(): Promise<Pruned>;
}

/** Makes an empty store whose clock the test moves. */
export type MakeStore = (options: {
  readonly now: () => Instant;
  readonly retention?: Partial<Retention>;
}) => Promise<StoreUnderTest>;

const hour = 3_600_000;

function accepted(result: CommitResult): Extract<CommitResult, { ok: true }> {
  assert.ok(result.ok, `refused: ${JSON.stringify(result)}`);
  return result;
}

export function storeContract(name: string, make: MakeStore): void {
  describe(`store contract: ${name}`, () => {
    writesAndReads(make);
    refusals(make);
    keys(make);
    forgetting(make);
  });
}

function writesAndReads(make: MakeStore): void {
  it('gives back what was committed, under the revision of the commit', async () => {
    const store = await make({ now: () => 0 });
    const { site, revision } = await lead(store);
    assert.deepEqual([site.epoch, revision], [1, 0]);
    const odd = guest(1, { labels: { z: 'ä\u2028\u0000"\\', a: '\ud800' } });
    const first = accepted(await store.commit(commit(1, { put: [odd, network(2, 'lan')], events: [event('a')] })));
    assert.equal(first.revision, 1);
    assert.equal(first.events[0]?.seq, 1);
    const again = await lead(store);
    assert.equal(again.site.epoch, 2);
    assert.deepEqual(again.resources, [stored(odd, 1), stored(network(2, 'lan'), 1)]);
    const keysOf = (value: object | undefined): string[] => Object.keys(value ?? {});
    assert.deepEqual(keysOf(again.resources[0]), keysOf(odd), 'the order of the keys too');
  });

  it('leaves a tombstone for what was removed, and none for what never was', async () => {
    const store = await make({ now: () => 0 });
    await lead(store);
    accepted(await store.commit(commit(1, { put: [guest(1), guest(2)] })));
    const remove = [1, 3].map((number) => ({ kind: 'guest' as const, id: uuid(number) }));
    accepted(await store.commit(commit(1, { remove })));
    const state = await lead(store);
    assert.deepEqual(state.resources, [stored(guest(2), 1)]);
    assert.deepEqual(state.tombstones, [{ kind: 'guest', id: uuid(1), name: 'guest-1', revision: 2 }]);
    accepted(await store.commit(commit(2, { put: [guest(1)] })));
    assert.deepEqual((await lead(store)).tombstones, []);
  });

  it('keeps events in order, finds them by subject and type, and the newest without a start', async () => {
    const store = await make({ now: () => 0 });
    await lead(store);
    const odd = { ...event('b', 'nul \0 and half \ud800', 2), reason: 'why', cause: 'c', evidence: { load: 0.5 } };
    accepted(await store.commit(commit(1, { events: [event('a'), odd, event('a')] })));
    const seqs = async (query: Parameters<Store['events']>[0]): Promise<number[]> =>
      (await store.events(query)).map(({ seq }) => seq);
    assert.deepEqual(await seqs({ limit: 2 }), [2, 3]);
    assert.deepEqual(await seqs({ limit: 2, afterSeq: 0 }), [1, 2]);
    assert.deepEqual(await seqs({ limit: 9, type: 'a' }), [1, 3]);
    assert.deepEqual(await seqs({ limit: 9, subjectId: uuid(2) }), [2]);
    assert.deepEqual(await seqs({ limit: 0 }), []);
    const [kept] = await store.events({ limit: 1, type: 'b' });
    assert.deepEqual(kept, { ...odd, seq: 2, message: 'nul \ufffd and half \ufffd' });
  });

  it('writes the facts about the site, never its identity or epoch', async () => {
    const store = await make({ now: () => 0 });
    const { site } = await lead(store);
    const review = { restoredAt: 5, backupAt: 4 };
    accepted(await store.commit(commit(1, { site: { id: uuid(9), name: 'renamed', epoch: 77, review } })));
    assert.deepEqual((await lead(store)).site, { id: site.id, name: 'renamed', epoch: 2, review });
    const hold = { reason: 'work on the switch', who: 'local:root', heldAt: 7 };
    const lease = { lengthMs: 1000, boundMs: 250, drift: 0.01 };
    const facts = { hold, lease, voters: { begunAt: 8 }, onHostLeave: 'stop' } as const;
    accepted(await store.commit(commit(2, { site: { id: site.id, name: 'renamed', epoch: 2, review, ...facts } })));
    assert.deepEqual((await lead(store)).site, { id: site.id, name: 'renamed', epoch: 3, review, ...facts });
    accepted(await store.commit(commit(3, { site: { id: site.id, name: 'renamed', epoch: 2 } })));
    assert.deepEqual((await lead(store)).site, { id: site.id, name: 'renamed', epoch: 4 });
  });
}

function refusals(make: MakeStore): void {
  it('refuses a former leader', async () => {
    const store = await make({ now: () => 0 });
    await lead(store);
    await lead(store);
    const late = await store.commit(commit(1, { put: [guest(1)] }));
    assert.deepEqual(late, { ok: false, why: 'epoch', epoch: epochOf(2) });
    assert.deepEqual((await lead(store)).resources, []);
  });

  it('leads under the claimed epoch when it is not below its own, number and id', async () => {
    const store = await make({ now: () => 0 });
    const claim = async (number: number, id: number): Promise<string> => {
      const answer = await store.lead({ number, id: uuid(id) });
      return answer.ok ? `leads ${answer.state.site.epoch}` : `${answer.epoch.number} ${answer.epoch.id}`;
    };
    assert.deepEqual(await store.epoch(), { number: 0, id: '' });
    assert.equal(await claim(7, 5), 'leads 7');
    assert.deepEqual(await store.epoch(), { number: 7, id: uuid(5) });
    const refusals = [await claim(6, 9), await claim(7, 4)];
    assert.deepEqual(refusals, [`7 ${uuid(5)}`, `7 ${uuid(5)}`]);
    assert.equal(await claim(7, 5), 'leads 7', 'its owner loads again under the same');
    accepted(await store.commit({ ...commit(1, { put: [guest(1)] }), epoch: { number: 7, id: uuid(5) } }));
    assert.equal(await claim(7, 6), 'leads 7', 'the same number with a higher id');
    const old = await store.commit({ ...commit(1, { put: [guest(2)] }), epoch: { number: 7, id: uuid(5) } });
    assert.deepEqual(old, { ok: false, why: 'epoch', epoch: { number: 7, id: uuid(6) } });
    accepted(await store.commit({ ...commit(1, { put: [guest(2)] }), epoch: { number: 7, id: uuid(6) } }));
  });

  it('refuses a commit whose expectations do not hold, and writes nothing of it', async () => {
    const store = await make({ now: () => 0 });
    await lead(store);
    accepted(await store.commit(commit(1, { put: [guest(1)] })));
    const expecting = async (number: number, revision: number | undefined): Promise<CommitResult> =>
      store.commit(commit(1, { put: [guest(5)], expect: [{ kind: 'guest', id: uuid(number), revision }] }));
    const conflict = { ok: false, why: 'conflict', kind: 'guest' };
    assert.deepEqual(await expecting(1, 7), { ...conflict, id: uuid(1) });
    assert.deepEqual(await expecting(1, undefined), { ...conflict, id: uuid(1) });
    assert.deepEqual(await expecting(2, 1), { ...conflict, id: uuid(2) });
    assert.equal((await lead(store)).resources.length, 1);
    accepted(await store.commit(commit(2, { expect: [{ kind: 'guest', id: uuid(1), revision: 1 }] })));
  });

  it('gives a name once per kind; objects may swap names, and a removed one frees its name', async () => {
    const store = await make({ now: () => 0 });
    await lead(store);
    accepted(await store.commit(commit(1, { put: [guest(1, { name: 'a' }), guest(2, { name: 'b' })] })));
    const taken = { ok: false, why: 'name-taken', kind: 'guest', name: 'a' };
    assert.deepEqual(await store.commit(commit(1, { put: [guest(3, { name: 'a' })] })), taken);
    assert.deepEqual(await store.commit(commit(1, { put: [guest(2, { name: 'a' })] })), taken);
    const twice = [guest(3, { name: 'x' }), guest(4, { name: 'x' })];
    assert.deepEqual(await store.commit(commit(1, { put: twice })), { ...taken, name: 'x' });
    accepted(await store.commit(commit(1, { put: [guest(1, { name: 'b' }), guest(2, { name: 'a' })] })));
    accepted(await store.commit(commit(1, { put: [network(3, 'a')] })));
    const gone = { kind: 'guest' as const, id: uuid(2) };
    accepted(await store.commit(commit(1, { remove: [gone], put: [guest(5, { name: 'a' })] })));
  });

  it('gives an address once per network, however it is spelled, until its guest is gone', async () => {
    const store = await make({ now: () => 0 });
    await lead(store);
    const [one, two] = [guest(1, { ipv4: '10.0.0.1', ipv6: 'fd00::1' }), guest(2, { ipv4: '10.0.0.2' })];
    accepted(await store.commit(commit(1, { put: [one, two] })));
    const taken = { ok: false, why: 'address-taken', networkId };
    const spelled = 'FD00:0:0::0001';
    assert.deepEqual(await store.commit(commit(1, { put: [guest(3, { ipv6: spelled })] })), {
      ...taken,
      address: spelled,
    });
    const twice = [guest(3, { ipv4: '10.0.0.3' }), guest(4, { ipv4: '10.0.0.3' })];
    assert.deepEqual(await store.commit(commit(1, { put: twice })), { ...taken, address: '10.0.0.3' });
    const swapped = [guest(1, { ipv4: '10.0.0.2' }), guest(2, { ipv4: '10.0.0.1' })];
    accepted(await store.commit(commit(1, { put: swapped })));
    accepted(await store.commit(commit(1, { put: [guest(3, { ipv6: spelled })] })));
    const gone = { kind: 'guest' as const, id: uuid(1) };
    accepted(await store.commit(commit(1, { remove: [gone], put: [guest(4, { ipv4: '10.0.0.2' })] })));
  });

  it('throws for a commit that contradicts itself', async () => {
    const store = await make({ now: () => 0 });
    await lead(store);
    await assert.rejects(store.commit(commit(1, { put: [guest(1), guest(1)] })), TypeError);
    await assert.rejects(store.commit(commit(1, { put: [guest(1, { ipv4: '10.0.0.256' })] })), TypeError);
    await assert.rejects(store.commit(commit(1, { remove: [{ kind: 'guest', id: 'x' }] })), TypeError);
    assert.equal((await lead(store)).revision, 0);
  });
}

function keys(make: MakeStore): void {
  it('answers a repeated key with the first record, per person, for a day', async () => {
    let now = 1_000_000;
    const store = await make({ now: () => now });
    await lead(store);
    const idempotency = {
      key: 'k',
      who: 'local:root',
      requestHash: 'h1',
      created: [{ kind: 'guest' as const, id: uuid(1) }],
    };
    accepted(await store.commit(commit(1, { put: [guest(1)], idempotency })));
    const repeat = commit(1, { put: [guest(2)], idempotency: { ...idempotency, requestHash: 'h2' } });
    assert.deepEqual(await store.commit(repeat), { ok: false, why: 'idempotency', record: idempotency });
    assert.deepEqual(await store.idempotent('local:root', 'k'), idempotency);
    assert.equal(await store.idempotent('token:x', 'k'), undefined);
    const other = { ...idempotency, who: 'token:x' };
    accepted(await store.commit(commit(1, { put: [guest(3)], idempotency: other })));
    now += 24 * hour;
    assert.equal(await store.idempotent('local:root', 'k'), undefined);
    accepted(await store.commit(repeat));
    assert.equal((await store.idempotent('local:root', 'k'))?.requestHash, 'h2');
  });
}

function forgetting(make: MakeStore): void {
  it('forgets old events, keys and tombstones, and says from where watches can resume', async () => {
    let now = 0;
    const retention = { maxEvents: 3, eventLifeMs: 400 * 24 * hour, tombstoneLifeMs: 10 * hour, maxTombstones: 100 };
    const store = await make({ now: () => now, retention });
    await lead(store);
    const idempotency = { key: 'k', who: 'w', requestHash: 'h', created: [] };
    accepted(await store.commit(commit(1, { put: [guest(1), guest(2)], idempotency })));
    accepted(await store.commit(commit(1, { remove: [{ kind: 'guest', id: uuid(1) }] })));
    now = 8 * hour;
    const events = [1, 2, 3, 4, 5].map((number) => ({ ...event(`e${number}`), eventAt: now }));
    accepted(await store.commit(commit(1, { remove: [{ kind: 'guest', id: uuid(2) }], events })));
    now = 12 * hour;
    assert.deepEqual(await store.prune(), { events: 2, tombstones: 1, keys: 0, more: false });
    const state = await lead(store);
    assert.equal(state.oldestTombstone, 2);
    assert.deepEqual(
      state.tombstones.map(({ id }) => id),
      [uuid(2)],
    );
    assert.deepEqual(
      (await store.events({ limit: 10 })).map(({ seq }) => seq),
      [3, 4, 5],
    );
    now = 24 * hour;
    assert.deepEqual(await store.prune(), { events: 0, tombstones: 1, keys: 1, more: false });
    now = 500 * 24 * hour;
    assert.deepEqual(await store.prune(), { events: 3, tombstones: 0, keys: 0, more: false });
    const next = accepted(await store.commit(commit(2, { events: [event('later')] })));
    assert.equal(next.events[0]?.seq, 6, 'numbers are never given again');
  });

  it('keeps a bounded number of tombstones', async () => {
    const store = await make({ now: () => 0, retention: { maxTombstones: 2 } });
    await lead(store);
    for (const number of [1, 2, 3, 4]) {
      accepted(await store.commit(commit(1, { put: [guest(number)] })));
      accepted(await store.commit(commit(1, { remove: [{ kind: 'guest', id: uuid(number) }] })));
    }
    assert.equal((await store.prune()).tombstones, 2);
    const state = await lead(store);
    assert.deepEqual(
      state.tombstones.map(({ revision }) => revision),
      [6, 8],
    );
    assert.equal(state.oldestTombstone, 4);
  });
}
