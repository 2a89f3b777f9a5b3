/** When a host is powered off, whose word counts, and which devices are taken. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  backOffMs,
  decideFencing,
  deviceProblem,
  judgeOff,
  maxRounds,
  patienceMs,
  type FenceHost,
  type FenceSite,
} from '../../../src/core/ha/fencing.ts';
import { profiles } from '../../../src/core/ha/margin.ts';

const profile = profiles.default;
const session = { number: 3, id: 's3' };

function silent(name: string, more: Partial<FenceHost> = {}): FenceHost {
  const base = { hostId: name, name, devices: 1, domain: name, over: false, running: false, failed: 0 } as const;
  return { ...base, state: 'sealing', session, silentMs: 2000, ...more };
}

function site(hosts: readonly FenceHost[], more: Partial<FenceSite> = {}): FenceSite {
  return { leading: true, profile, hosts, ...more };
}

const begun = (given: FenceSite): readonly string[] => decideFencing(given).begin.map(({ hostId }) => hostId);

test('a host that is silent for its lease is fenced, one that is heard or over never', () => {
  assert.deepEqual(begun(site([silent('a')])), ['a']);
  assert.deepEqual(begun(site([silent('a', { silentMs: 1999 })])), []);
  // `unknown`: this controller hears nothing, but perhaps the voters do.
  for (const state of ['held', 'lapsed', 'none', 'lost', 'unknown'] as const)
    assert.deepEqual(begun(site([silent('a', { state })])), []);
  assert.deepEqual(begun(site([silent('a', { over: true })])), []);
  assert.deepEqual(begun(site([silent('a', { devices: 0 })])), []);
  assert.deepEqual(begun(site([silent('a', { running: true })])), []);
});

test('nobody is fenced without a majority or while the site is held, and the reason is said', () => {
  const alone = decideFencing(site([silent('a')], { leading: false }));
  assert.deepEqual(alone.begin, []);
  assert.match(alone.waits[0]?.why ?? '', /no majority/);
  const held = decideFencing(site([silent('a')], { hold: 'new switch' }));
  assert.deepEqual(held.begin, []);
  assert.match(held.waits[0]?.why ?? '', /held: new switch/);
});

test('of hosts that may be struck together only one at a time, the longest silent first', () => {
  const rack = [
    silent('a', { domain: 'r1', silentMs: 2500 }),
    silent('b', { domain: 'r1', silentMs: 4000 }),
    silent('c', { domain: 'r2', silentMs: 2100 }),
  ];
  const plan = decideFencing(site(rack));
  assert.deepEqual(
    plan.begin.map(({ hostId }) => hostId),
    ['b', 'c'],
  );
  assert.match(plan.waits.find(({ hostId }) => hostId === 'a')?.why ?? '', /b of the same failure domain/);
  const working = [silent('a', { domain: 'r1' }), silent('b', { domain: 'r1', running: true })];
  assert.deepEqual(begun(site(working)), []);
});

test('failed rounds are repeated with a growing pause, and then a person is wanted', () => {
  assert.deepEqual([1, 2, 3, 4, 5, 9].map(backOffMs), [10_000, 20_000, 40_000, 80_000, 120_000, 120_000]);
  assert.deepEqual(begun(site([silent('a', { failed: 1, failedAgoMs: 9999 })])), []);
  assert.deepEqual(begun(site([silent('a', { failed: 1, failedAgoMs: 10_000 })])), ['a']);
  assert.deepEqual(begun(site([silent('a', { failed: maxRounds, failedAgoMs: 1e9 })])), []);
});

test('a device is never believed against the voters', () => {
  const sight = { state: 'sealing', session, silentMs: 2000 } as const;
  const off = { session, agoMs: 0 };
  assert.equal(judgeOff(off, sight, true, profile).verdict, 'counts');
  assert.equal(judgeOff(off, { ...sight, state: 'lost' }, true, profile).verdict, 'counts');
  // A session that is sealed although its host is heard (it lapsed, it is idle): no device is needed, none is believed.
  assert.equal(judgeOff(off, { ...sight, silentMs: 100 }, true, profile).verdict, 'wait');
  assert.equal(judgeOff({ session, agoMs: 60_000 }, { ...sight, state: 'unknown' }, true, profile).verdict, 'refused');
  const alive = { ...sight, state: 'held', silentMs: 0 } as const;
  // Grants of before the cut still run: an honest device is given the time that they last.
  assert.equal(judgeOff({ session, agoMs: patienceMs(profile) }, alive, true, profile).verdict, 'wait');
  assert.equal(judgeOff({ session, agoMs: patienceMs(profile) + 1 }, alive, true, profile).verdict, 'refused');
  assert.equal(judgeOff(off, { ...sight, session: { number: 4, id: 's4' } }, true, profile).verdict, 'refused');
  assert.equal(judgeOff(off, sight, false, profile).verdict, 'wait');
  assert.equal(judgeOff({ session, agoMs: 60_000 }, sight, false, profile).verdict, 'refused');
  assert.equal(judgeOff({ session, agoMs: 60_000 }, undefined, true, profile).verdict, 'refused');
});

test('patience: ℓ + m + a second', () => {
  // m(2000, 500) = 500 + 2 · 0.01 · 2500 / 0.99 + 20 = 570.5 ms
  assert.ok(Math.abs(patienceMs(profile) - 3570.505) < 0.001);
});

test('devices: only what cuts the power, no secrets in the open, nothing that starts programs', () => {
  const device = (agent: string, parameters: Record<string, string> = {}) => ({ agent, parameters });
  assert.equal(
    deviceProblem(device('fence_ipmilan', { ip: '192.0.2.1', username: 'u', password_file: 'pw' })),
    undefined,
  );
  assert.equal(deviceProblem(device('fence_virsh', { identity_file: 'key', plug: 'h1' })), undefined);
  const wrong: readonly [string, Record<string, string>, RegExp][] = [
    ['/bin/sh', {}, /not the name/],
    ['fence_../../x', {}, /not the name/],
    ['fence_scsi', {}, /does not cut the power/],
    ['fence_ack_manual', {}, /does not cut the power/],
    ['fence_ipmilan', { password: 'x' }, /secret/],
    ['fence_ipmilan', { passwd: 'x' }, /secret/],
    ['fence_apc_snmp', { community: 'x' }, /secret/],
    ['fence_ipmilan', { hexadecimal_kg: 'x' }, /secret/],
    ['fence_x', { api_key: 'x' }, /secret/],
    ['fence_ipmilan', { action: 'on' }, /Virga itself/],
    ['fence_ipmilan', { ip: 'a\naction=on' }, /control characters/],
    ['fence_ipmilan', { 'ip\naction': 'on' }, /not a parameter name/],
    ['fence_ipmilan', { password_script: '/x' }, /starts programs/],
    ['fence_ipmilan', { ipmitool_path: '/x' }, /starts programs/],
    ['fence_ipmilan', { 'ipmitool-path': '/x' }, /starts programs/],
    ['fence_ipmilan', { debug_file: '/x' }, /writes files/],
    ['fence_virsh', { missing_as_off: '1' }, /hides failures/],
    ['fence_virsh', { ssh_options: '-o ProxyCommand=/x' }, /starts a program/],
  ];
  for (const [agent, parameters, expected] of wrong)
    assert.match(deviceProblem(device(agent, parameters)) ?? 'taken', expected, JSON.stringify([agent, parameters]));
  assert.match(deviceProblem({ agent: 'fence_apc', parameters: {}, delayMs: -1 }) ?? '', /delay/);
});
