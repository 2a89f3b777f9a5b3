/** The fencing loop with devices that behave, lie, hang and fail. Time is the test's. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FenceLoop } from '../../../src/controller/fence/loop.ts';
import type { HostLeaseSight, LeaseSight } from '../../../src/controller/lease/view.ts';
import { profiles } from '../../../src/core/ha/margin.ts';
import type { FenceDevice, Host } from '../../../src/core/model/host.ts';
import type { Fencer, Files, PowerSight } from '../../../src/ports.ts';
import { aHost } from '../core/kit.ts';
import { change, quiet, world } from './kit.ts';

const device = (name: string, delayMs?: number): FenceDevice => ({
  agent: `fence_${name}`,
  parameters: {},
  ...(delayMs === undefined ? {} : { delayMs }),
});
const session = { number: 2, id: 'two' };

function memoryFiles(): Files & { readonly kept: Map<string, string> } {
  const kept = new Map<string, string>();
  return {
    kept,
    read: async (path) => kept.get(path),
    write: async (path, text) => void kept.set(path, text),
    remove: async (path) => void kept.delete(path),
    list: async () => [...kept.keys()],
  };
}

const says = (power: PowerSight['power'], failure?: PowerSight['failure']): PowerSight => ({
  power,
  detail: `says ${power}`,
  ms: 5,
  ...(failure ? { failure } : {}),
});

/** A site of hosts with devices; what the voters see and what the devices say is the test's to set. */
async function fencedSite(hosts: readonly Host[]) {
  const given = world();
  await given.state.change(() => change(hosts));
  const seen = new Map<string, Partial<HostLeaseSight>>();
  const view: { leadership: LeaseSight['leadership'] } = { leadership: 'leading' };
  const used: string[] = [];
  const declared: { hostId: string; reason: string; who: string }[] = [];
  const answers = new Map<string, PowerSight>();
  const during = new Map<string, () => void>();
  const say = async (what: string, { agent }: FenceDevice): Promise<PowerSight> => {
    used.push(`${what} ${agent}`);
    during.get(agent)?.();
    return answers.get(agent) ?? says(what === 'off' ? 'off' : 'on');
  };
  const fencer: Fencer = { off: async (each) => say('off', each), status: async (each) => say('status', each) };
  const sight = (): LeaseSight => ({
    leadership: view.leadership,
    epoch: { number: 1, id: 'e' },
    committing: true,
    profile: profiles.default,
    voters: [],
    barrier: [],
    hosts: hosts.map(({ id }) => {
      const each = { hostId: id, state: 'held' as const, session, ...seen.get(id) };
      return each.state === 'held' || each.state === 'none'
        ? each
        : { ...each, silentSinceAt: given.clock.now() - 2000 };
    }),
  });
  const files = memoryFiles();
  const loop = new FenceLoop({
    state: given.state,
    lease: {
      sight,
      declareDead: async (hostId, word) => {
        declared.push({ hostId, ...word });
        seen.set(hostId, { state: 'lost' });
      },
    },
    fencer,
    files,
    clock: given.clock,
    log: quiet,
  });
  const see = (host: Host, state: HostLeaseSight['state'], more: Partial<HostLeaseSight> = {}): void =>
    void seen.set(host.id, { state, ...more });
  /** An iteration, and what follows from it. */
  const turn = async (): Promise<void> => {
    loop.iterate();
    await loop.settled();
  };
  return { ...given, loop, see, view, used, declared, answers, during, files, turn };
}

const h1 = aHost('h1', { spec: { fence: [device('apc'), device('ipmilan', 5000)] } });

test('a silent host is powered off by its first device and declared over, with its evidence kept', async () => {
  const site = await fencedSite([h1]);
  site.see(h1, 'sealing');
  await site.turn();
  assert.deepEqual(site.used, ['off fence_apc']);
  assert.equal(site.declared.length, 1);
  assert.match(site.declared[0]?.reason ?? '', /confirmed by fence_apc/);
  const [attempt] = site.loop.history(h1.id);
  assert.equal(attempt?.outcome, 'off');
  await site.turn();
  assert.equal(site.used.length, 1);
  const { events } = { events: await site.store.events({ limit: 10, type: 'host.fence' }) };
  assert.equal(events.length, 1);
  // Another controller on this machine knows it too.
  const next = new FenceLoop({
    state: site.state,
    lease: { sight: () => assert.fail(), declareDead: async () => undefined },
    fencer: { off: async () => says('off'), status: async () => says('on') },
    files: site.files,
    clock: site.clock,
    log: quiet,
  });
  await next.load();
  assert.equal(next.history(h1.id).length, 1);
});

test('the second level follows after its delay, unless the host is heard again meanwhile', async () => {
  const site = await fencedSite([h1]);
  site.answers.set('fence_apc', says('unknown', 'timeout'));
  site.see(h1, 'sealing');
  const before = site.clock.monotonic();
  await site.turn();
  assert.deepEqual(site.used, ['off fence_apc', 'off fence_ipmilan']);
  assert.ok(site.clock.monotonic() - before >= 5000);
  assert.equal(site.declared.length, 1);

  const back = await fencedSite([h1]);
  back.answers.set('fence_apc', says('unknown', 'failed'));
  back.during.set('fence_apc', () => back.see(h1, 'held'));
  back.see(h1, 'sealing');
  await back.turn();
  assert.deepEqual(back.used, ['off fence_apc']);
  assert.deepEqual(back.declared, []);
});

test('a device that lies counts for nothing', async () => {
  const site = await fencedSite([h1]);
  site.during.set('fence_apc', () => site.see(h1, 'held'));
  site.see(h1, 'sealing');
  await site.turn();
  assert.deepEqual(site.declared, []);
  assert.equal(site.loop.history(h1.id).at(-1)?.outcome, 'disbelieved');
});

test('a host that came back under another session is not declared over', async () => {
  const site = await fencedSite([h1]);
  site.during.set('fence_apc', () => site.see(h1, 'sealing', { session: { number: 3, id: 'three' } }));
  site.see(h1, 'sealing');
  await site.turn();
  assert.deepEqual(site.declared, []);
});

test('not while the site is held, not without a majority', async () => {
  const site = await fencedSite([h1]);
  site.see(h1, 'sealing');
  site.view.leadership = 'candidate';
  await site.turn();
  site.view.leadership = 'leading';
  await site.state.change((snapshot) =>
    change([], { site: { ...snapshot.site, hold: { reason: 'new switch', who: 'local:root', heldAt: 1 } } }),
  );
  await site.turn();
  assert.deepEqual(site.used, []);
  assert.match(site.loop.waits().get(h1.id) ?? '', /new switch/);
});

test('what carries nothing is not fenced: a witness, a host that left in order, one that never came', async () => {
  const spec = { fence: [device('apc')] };
  const hosts = [
    aHost('w', { spec: { ...spec, role: 'witness' } }),
    aHost('left', { spec, status: { loss: { session, lostAt: 1, how: 'ended', evidence: {} } } }),
    aHost('never', { spec, status: { state: 'invited' } }),
  ];
  const site = await fencedSite(hosts);
  for (const host of hosts) site.see(host, 'sealing');
  await site.turn();
  site.clock.pass(60_000);
  await site.turn();
  assert.deepEqual(site.used, []);
  const [, left] = hosts;
  assert.ok(left);
  // Back under another session, and silent again: that is another matter.
  site.see(left, 'sealing', { session: { number: 3, id: 'three' } });
  await site.turn();
  assert.deepEqual(site.used, ['off fence_apc']);
});

test('a whole silent rack is fenced one host after the other', async () => {
  const rack = ['a', 'b'].map((name) =>
    aHost(name, { labels: { 'failure-domain': 'r1' }, spec: { fence: [device(`apc_${name}`)] } }),
  );
  const [a, b] = rack;
  assert.ok(a && b);
  const site = await fencedSite(rack);
  for (const host of rack) site.see(host, 'sealing');
  site.loop.iterate();
  assert.deepEqual(site.used, ['off fence_apc_a']);
  site.loop.iterate();
  assert.deepEqual(site.used, ['off fence_apc_a']);
  await site.loop.settled();
  await site.turn();
  assert.deepEqual(site.used, ['off fence_apc_a', 'off fence_apc_b']);
});

test('failed rounds wait, and end', async () => {
  const one = aHost('h9', { spec: { fence: [device('apc')] } });
  const site = await fencedSite([one]);
  site.answers.set('fence_apc', says('on'));
  site.see(one, 'sealing');
  await site.turn();
  await site.turn();
  assert.equal(site.used.length, 1);
  for (let rounds = 0; rounds < 10; rounds += 1) {
    site.clock.pass(200_000);
    await site.turn();
  }
  assert.equal(site.used.length, 5);
  assert.match(site.loop.waits().get(one.id) ?? '', /failed 5 times/);
});

test('a device that says off of a host that is heard is wired to another machine: it is not used', async () => {
  const site = await fencedSite([h1]);
  site.answers.set('fence_apc', says('off'));
  site.see(h1, 'held');
  await site.turn();
  assert.equal(site.loop.history(h1.id).at(-1)?.outcome, 'disbelieved');
  site.used.length = 0;
  site.see(h1, 'sealing');
  await site.turn();
  assert.deepEqual(site.used, ['off fence_ipmilan']);
});

test('a person tests and fences', async () => {
  const site = await fencedSite([h1]);
  site.see(h1, 'held');
  assert.equal((await site.loop.test(h1.id, 'local:root')).ok, true);
  site.answers.set('fence_ipmilan', says('unknown', 'failed'));
  assert.equal((await site.loop.test(h1.id, 'local:root')).ok, false);
  site.during.set('fence_apc', () => site.see(h1, 'sealing'));
  const done = await site.loop.fence(h1.id, 'local:root', 'it smokes');
  assert.equal(done.ok, true);
  assert.equal(site.declared[0]?.who, 'local:root');
  assert.match(site.declared[0]?.reason ?? '', /it smokes/);
  await assert.rejects(site.loop.fence('nobody', 'local:root', 'x'), { code: 'not_found' });
  site.view.leadership = 'candidate';
  await assert.rejects(site.loop.fence(h1.id, 'local:root', 'x'), { code: 'no_majority' });
});
