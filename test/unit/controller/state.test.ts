import assert from 'node:assert/strict';
import { test } from 'node:test';
import { VirgaError, type ErrorCode } from '../../../src/core/errors.ts';
import type { Snapshot } from '../../../src/core/model/snapshot.ts';
import type { News } from '../../../src/controller/state.ts';
import { aGuest, aHost, aNetwork } from '../core/kit.ts';
import type { Store } from '../../../src/ports.ts';
import type { MemoryStore } from '../../../src/controller/store/memory.ts';
import { SiteState } from '../../../src/controller/state.ts';
import { change, quiet, world } from './kit.ts';

const code = (wanted: ErrorCode) => (error: unknown) => error instanceof VirgaError && error.code === wanted;
const names = (snapshot: Snapshot): string[] => [...snapshot.all('network')].map(({ name }) => name).sort();
const repeat = (key: string, requestHash = 'hash') => ({ key, who: 'local:root', requestHash });

test('nothing is known before it leads', () => {
  const { store, clock } = world();
  const state = new SiteState({ store, clock, log: quiet });
  assert.equal(state.leadership, 'starting');
  assert.throws(() => state.snapshot, code('not_leading'));
});

test('changes are decided one after the other, each on the newest state', async () => {
  const { state } = world();
  const counts = await Promise.all(
    Array.from({ length: 20 }, async (_, index) => {
      let seen = -1;
      await state.change((snapshot) => {
        seen = snapshot.count('network');
        return change([aNetwork(`n-${index}`)]);
      });
      return seen;
    }),
  );
  assert.deepEqual(
    counts,
    Array.from({ length: 20 }, (_, index) => index),
  );
  assert.equal(state.snapshot.revision, 20);
});

test('what a decision throws reaches its caller, and the next one goes on', async () => {
  const { state } = world();
  const failed = state.change(() => {
    throw new VirgaError('held', { name: 'a', reason: 'b' });
  });
  const next = state.change(() => change([aNetwork('n')]));
  await assert.rejects(failed, code('held'));
  assert.equal((await next).revision, 1);
});

test('a decision without a change writes nothing', async () => {
  const { state } = world();
  await state.ensure();
  assert.equal((await state.change(() => change([]))).revision, 0);
});

test('after an unknown outcome the state is loaded before anything else is decided', async () => {
  for (const fault of ['before', 'after'] as const) {
    const here = world();
    await here.state.change(() => change([aNetwork('first')]));
    let once = true;
    here.fault = (call) => {
      if (call !== 'commit' || !once) return undefined;
      once = false;
      return fault;
    };
    await assert.rejects(
      here.state.change(() => change([aNetwork('second')])),
      code('store_unavailable'),
    );
    assert.equal(here.state.leadership, 'reloading');
    assert.equal(here.state.known, true, 'what it knew still counts for those who are connected');
    let seen: string[] = [];
    await here.state.change((snapshot) => {
      seen = names(snapshot);
      return change([]);
    });
    assert.deepEqual(seen, fault === 'after' ? ['first', 'second'] : ['first']);
    assert.equal(here.state.snapshot.site.epoch, 1, 'its own epoch still stands');
  }
});

test('a repeat with the same key is done once, also when nobody knew whether it was done', async () => {
  const here = world();
  const create = (name: string) => {
    const network = aNetwork(name);
    return { ...change([network]), created: [{ kind: network.kind, id: network.id }] };
  };
  here.fault = (call) => (call === 'commit' ? 'after' : undefined);
  await assert.rejects(
    here.state.change(() => create('n'), repeat('k')),
    code('store_unavailable'),
  );
  here.fault = () => undefined;
  const outcome = await here.state.change(() => create('n'), repeat('k'));
  assert.equal(outcome.repeated, true);
  assert.deepEqual(outcome.repeated && outcome.created.map(({ id }) => here.state.snapshot.get('network', id)?.name), [
    'n',
  ]);
  await assert.rejects(
    here.state.change(() => create('m'), repeat('k', 'other')),
    code('idempotency_mismatch'),
  );
  assert.deepEqual(names(here.state.snapshot), ['n']);
});

test('while the database is away callers are told at once, and it is tried again with a back-off', async () => {
  const here = world();
  await here.state.ensure();
  let leads = 0;
  here.fault = (call) => {
    if (call === 'lead') leads += 1;
    return 'before';
  };
  for (let count = 0; count < 50; count += 1)
    await assert.rejects(
      here.state.change(() => change([aNetwork('n')])),
      code('store_unavailable'),
    );
  assert.equal(leads, 1);
  here.clock.pass(1000);
  await assert.rejects(here.state.ensure(), code('store_unavailable'));
  assert.equal(leads, 2);
  here.fault = () => undefined;
  here.clock.pass(10_000);
  await here.state.change(() => change([aNetwork('n')]));
  assert.equal(here.state.leadership, 'leading');
});

test('a leader that was displaced decides nothing any more', async () => {
  const here = world();
  await here.state.change(() => change([aNetwork('mine')]));
  const other = here.another();
  await other.change(() => change([aNetwork('theirs')]));
  await assert.rejects(
    here.state.change(() => change([aNetwork('late')])),
    code('not_leading'),
  );
  assert.equal(here.state.leadership, 'standby');
  assert.throws(() => here.state.snapshot, code('not_leading'));
  assert.deepEqual(names(other.snapshot), ['mine', 'theirs']);
});

test('who is outbid hears above which number it must stand, and leads again above it', async () => {
  const here = world();
  await here.state.change(() => change([aNetwork('mine')]));
  const bids: number[] = [];
  const seen: string[] = [];
  here.state.onOutbid((number) => bids.push(number));
  here.state.onLeadership((leadership) => seen.push(leadership));
  await here.store.lead({ number: 7, id: 'other' });
  assert.equal(await here.state.confirm(), true, 'it committed a moment ago, so nobody is asked');
  here.clock.pass(500);
  assert.equal(await here.state.confirm(), false);
  assert.deepEqual([bids, here.state.leadership, here.state.committedAt], [[7], 'standby', undefined]);
  await here.state.claim({ number: 8, id: 'mine' });
  await here.state.change(() => change([aNetwork('again')]));
  assert.deepEqual(names(here.state.snapshot), ['again', 'mine']);
  assert.deepEqual(seen, ['standby', 'reloading', 'leading']);
  await here.state.claim({ number: 6, id: 'too low' });
  assert.deepEqual([bids, here.state.leadership], [[7, 8], 'standby']);
});

test('who stands by decides nothing, also what waited and what was on its way', async () => {
  const here = world();
  await here.state.change(() => change([aNetwork('first')]));
  const running = here.state.change(() => change([aNetwork('second')]));
  const waiting = here.state.change(() => change([aNetwork('third')]));
  await here.state.claim(undefined);
  const outcomes = await Promise.allSettled([running, waiting]);
  assert.deepEqual(
    outcomes.map((each) => each.status),
    ['rejected', 'rejected'],
  );
  assert.equal(here.state.epoch, undefined);
  const other = here.another();
  await other.ensure();
  assert.ok(!names(other.snapshot).includes('third'));
});

test('the confirmation says when a commit would last have been taken, and is silent while the store is away', async () => {
  const here = world();
  await here.state.ensure();
  const led = here.clock.monotonic();
  here.clock.pass(460);
  assert.equal(await here.state.confirm(), true);
  assert.equal(here.state.committedAt, led + 460);
  here.clock.pass(2000);
  here.fault = (call) => (call === 'read' ? 'before' : undefined);
  assert.equal(await here.state.confirm(), false);
  assert.deepEqual([here.state.committedAt, here.state.leadership], [led + 460, 'leading']);
});

test('a database that lost its last rows: the leader stands again above what hosts have seen of it', async () => {
  const here = world();
  await here.state.change(() => change([aNetwork('kept')]));
  await here.state.change(() => change([aNetwork('lost')]));
  // The store that a failover left: it never had the second commit, nor this leader's epoch.
  const behind = world();
  await behind.state.change(() => change([aNetwork('kept')]));
  const bids: number[] = [];
  const state = new SiteState({ store: failover(here.store, behind.store), clock: here.clock, log: quiet });
  state.onOutbid((number) => bids.push(number));
  await state.claim({ number: 5, id: 'mine' });
  assert.equal(state.snapshot.revision, 2);
  here.clock.pass(1000);
  switched = true;
  assert.equal(await state.confirm(), false);
  assert.equal(state.leadership, 'reloading');
  await assert.rejects(state.ensure(), code('not_leading'));
  assert.deepEqual([bids, state.leadership], [[5], 'standby']);
  await state.claim({ number: 6, id: 'mine' });
  assert.deepEqual([state.snapshot.revision, names(state.snapshot)], [1, ['kept']]);
});

let switched = false;

/** One store until `switched`, then the other. */
function failover(first: MemoryStore, second: MemoryStore): Store {
  const now = (): MemoryStore => (switched ? second : first);
  return {
    lead: async (claim) => now().lead(claim),
    epoch: async () => now().epoch(),
    voters: async () => now().voters(),
    commit: async (commit) => now().commit(commit),
    idempotent: async (who, key) => now().idempotent(who, key),
    events: async (query) => now().events(query),
    ping: async () => now().ping(),
  };
}

test('too many changes at once are refused', async () => {
  const here = world();
  const state = here.another({ maxWaiting: 3 });
  await state.ensure();
  const all = await Promise.allSettled(
    Array.from({ length: 5 }, async (_, index) => state.change(() => change([aNetwork(`n-${index}`)]))),
  );
  assert.deepEqual(
    all.map((each) => each.status),
    ['fulfilled', 'fulfilled', 'fulfilled', 'rejected', 'rejected'],
  );
  await state.change(() => change([aNetwork('later')]));
});

test('listeners hear of every commit, and which hosts it touches', async () => {
  const { state } = world();
  const news: News[] = [];
  const [alpha, beta] = [aHost('alpha'), aHost('beta')];
  const guest = aGuest('web', { on: alpha });
  await state.change(() => change([alpha, beta, guest]));
  state.listen((each) => news.push(each));
  await state.change((snapshot) => {
    const now = snapshot.get('guest', guest.id);
    if (!now?.status.placement) throw new Error('it is not placed');
    const placement = { ...now.status.placement, hostId: beta.id };
    return change([{ ...now, status: { ...now.status, placement } }]);
  });
  await state.change(() => change([aNetwork('lan')]));
  const touched = news.map((each) => (each.type === 'commit' ? each.touched : each.type));
  assert.deepEqual(touched, [new Set([alpha.id, beta.id]), 'all']);
});
