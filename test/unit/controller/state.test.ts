import assert from 'node:assert/strict';
import { test } from 'node:test';
import { VirgaError, type ErrorCode } from '../../../src/core/errors.ts';
import type { Snapshot } from '../../../src/core/model/snapshot.ts';
import type { News } from '../../../src/controller/state.ts';
import { aGuest, aHost, aNetwork } from '../core/kit.ts';
import { change, world } from './kit.ts';

const code = (wanted: ErrorCode) => (error: unknown) => error instanceof VirgaError && error.code === wanted;
const names = (snapshot: Snapshot): string[] => [...snapshot.all('network')].map(({ name }) => name).sort();
const repeat = (key: string, requestHash = 'hash') => ({ key, who: 'local:root', requestHash });

test('nothing is known before it leads', () => {
  const { state } = world();
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
    let seen: string[] = [];
    await here.state.change((snapshot) => {
      seen = names(snapshot);
      return change([]);
    });
    assert.deepEqual(seen, fault === 'after' ? ['first', 'second'] : ['first']);
    assert.equal(here.state.snapshot.site.epoch, 2);
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
  assert.equal(here.state.leadership, 'displaced');
  assert.throws(() => here.state.snapshot, code('not_leading'));
  assert.deepEqual(names(other.snapshot), ['mine', 'theirs']);
});

test('too many changes at once are refused', async () => {
  const here = world();
  const state = here.another({ maxWaiting: 3 });
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
