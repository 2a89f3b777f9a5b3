import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Host } from '../../../src/core/model/host.ts';
import {
  changeHost,
  cordonHost,
  hostDefaults,
  joinHost,
  renewHost,
  uncordonHost,
} from '../../../src/core/requests/hosts.ts';
import type { JoinFacts } from '../../../src/core/requests/hosts.ts';
import { removeHost } from '../../../src/core/requests/remove-host.ts';
import { rebuildGuest } from '../../../src/core/requests/actions.ts';
import { startGuest } from '../../../src/core/requests/start.ts';
import { createInvite, createToken, revokeInvite, revokeToken, tokenUsed } from '../../../src/core/requests/tokens.ts';
import { decide } from '../../../src/core/converge.ts';
import { aGuest, aHost, aNetwork, anImage, refused, t0, TestSite } from './kit.ts';

const facts: JoinFacts = {
  id: 'new-host',
  secretHash: 'hash',
  hostName: 'Rack7.site.example',
  agentVersion: '0.1.0',
  protocol: 1,
  certificate: { serial: '1', expiresAt: t0 + 1000 },
};

function invited(hostName?: string): TestSite {
  const site = new TestSite();
  site.commit(createInvite(site, { hostName }, 'hash', site.context));
  return site;
}

test('a host joins by its invitation, once', () => {
  const site = invited();
  site.who = 'host:joining';
  site.commit(joinHost(site, facts, site.context));
  const host = site.host('rack7');
  assert.equal(host.status.state, 'invited');
  assert.equal(host.owner, 'local:root', 'it belongs to whoever invited it');
  assert.deepEqual(host.spec, hostDefaults);
  const again = refused('invite_invalid', () => joinHost(site, { ...facts, id: 'x' }, site.context));
  assert.match(again.message, /used already/);
});

test('an invitation may name the host; wrong, expired and taken ones are refused', () => {
  const named = invited('h9');
  named.commit(joinHost(named, facts, named.context));
  assert.ok(named.host('h9'));
  const site = invited();
  refused('invite_invalid', () => joinHost(site, { ...facts, secretHash: 'other' }, site.context));
  refused('invalid_name', () => joinHost(site, { ...facts, hostName: '_' }, site.context));
  site.apply({ put: [aHost('rack7')], remove: [], events: [] });
  refused('name_taken', () => joinHost(site, facts, site.context));
  site.now = t0 + 3600_000;
  assert.match(refused('invite_invalid', () => joinHost(site, facts, site.context)).message, /expired/);
  site.now = t0;
  const [invite] = site.all('invite');
  site.commit(revokeInvite(site, invite?.name ?? '', site.context));
  refused('invite_invalid', () => joinHost(site, facts, site.context));
});

test('a new certificate is noted, and refused for a host that was removed', () => {
  const site = new TestSite([aHost('h1')]);
  site.commit(renewHost(site, site.host('h1').id, { serial: '2', expiresAt: t0 }, site.context));
  assert.equal(site.host('h1').status.certificate?.serial, '2');
  refused('certificate_refused', () => renewHost(site, 'gone', { serial: '2', expiresAt: t0 }, site.context));
});

test('cordon, uncordon, reserves, overcommit, capacity and labels', () => {
  const site = new TestSite([aHost('h1')]);
  site.reason = 'fan';
  site.commit(cordonHost(site, 'h1', site.context));
  assert.deepEqual([site.host('h1').spec.cordoned, site.host('h1').spec.cordonReason], [true, 'fan']);
  assert.equal(cordonHost(site, 'h1', site.context).change.put.length, 0);
  site.commit(uncordonHost(site, 'h1', site.context));
  assert.equal(site.host('h1').spec.cordonReason, undefined);
  const set = { capacity: { cpus: 2 }, reserved: { memoryMiB: 100 }, overcommit: { cpu: 2 }, labels: { rack: 'a' } };
  site.commit(changeHost(site, 'h1', set, site.context));
  const { spec, labels, generation } = site.host('h1');
  assert.deepEqual(
    [spec.capacity, spec.reserved.memoryMiB, spec.overcommit, labels, generation],
    [{ cpus: 2 }, 100, { cpu: 2, memory: 1 }, { rack: 'a' }, 4],
  );
  site.commit(changeHost(site, 'h1', { capacity: { cpus: null }, labels: { rack: null } }, site.context));
  assert.equal(site.host('h1').spec.capacity, undefined);
  refused('invalid_request', () => changeHost(site, 'h1', { overcommit: { cpu: 0 } }, site.context));
  refused('invalid_request', () => changeHost(site, 'h1', { overcommit: { memory: Number.NaN } }, site.context));
  refused('limit', () => changeHost(site, 'h1', { reserved: { cpus: -1 } }, site.context));
});

test('a host with guests, or with guests pinned to it, is not removed', () => {
  const h1 = aHost('h1');
  const full = new TestSite([h1, aGuest('g', { on: h1 })]);
  const error = refused('host_not_lost', () => removeHost(full, 'h1', {}, full.context));
  assert.match(error.message, /carries 1 guests/);
  const pinned = new TestSite([h1, aGuest('g', { spec: { hostId: h1.id } })]);
  refused('in_use', () => removeHost(pinned, 'h1', {}, pinned.context));
  const lan = { ...aNetwork('lan'), status: { problems: [{ host: 'h1', message: 'no' }] } };
  const free = new TestSite([h1, lan]);
  free.commit(removeHost(free, 'h1', {}, free.context));
  assert.equal(free.count('host'), 0);
  assert.deepEqual(free.byName('network', 'lan')?.status.problems, []);
});

test('a lost host: fresh guests go elsewhere, kept disks are lost and say so, deleted guests are gone', () => {
  const image = anImage('debian');
  const silent = aHost('h1', { status: { state: 'silent' } });
  const known = new TestSite([silent, aHost('h2')]);
  const early = refused('host_not_over', () => removeHost(known, 'h1', { lost: true, confirm: 'h1' }, known.context));
  assert.match(early.hint, /declare-dead h1/);
  const h1: Host = { ...silent, status: { ...silent.status, state: 'lost' } };
  const site = new TestSite([
    h1,
    aHost('h2'),
    image,
    aGuest('fresh', { on: h1, image, spec: { diskMode: 'fresh', hostId: h1.id } }),
    aGuest('keep', { on: h1, image }),
    aGuest('going', { on: h1, image, deletionAt: t0 }),
    aGuest('adopted', { on: h1 }),
  ]);
  const asked = refused('confirmation_required', () => removeHost(site, 'h1', { lost: true }, site.context));
  assert.match(asked.hint, /type its name, h1/);
  site.commit(removeHost(site, 'h1', { lost: true, confirm: 'h1' }, site.context));
  assert.equal(site.byName('guest', 'going'), undefined);
  assert.equal(site.guest('fresh').status.state, 'pending');
  for (const name of ['keep', 'adopted']) {
    assert.equal(site.guest(name).status.state, 'failed');
    assert.equal(site.guest(name).status.stateReason, 'its disk was lost with host h1');
  }
  const decideNow = (): void => {
    site.commit(decide(site, t0, new Map(), { silentAfterMs: 1000, listeningSinceAt: t0 }));
  };
  decideNow();
  const fresh = site.guest('fresh');
  assert.equal(fresh.status.placement?.hostId, site.host('h2').id);
  assert.equal(fresh.status.placement.generation, 2, 'never a generation twice');
  assert.equal(site.guest('keep').status.placement, undefined, 'it is not started without being asked');
  refused('not_allowed', () => startGuest(site, 'keep', site.context));
  refused('invalid_request', () => rebuildGuest(site, 'adopted', site.context));
  site.commit(rebuildGuest(site, 'keep', site.context));
  decideNow();
  const rebuilt = site.guest('keep');
  assert.equal(rebuilt.status.placement?.hostId, site.host('h2').id);
  assert.equal(rebuilt.status.lost, undefined);
});

test('a host that answers is not lost', () => {
  const site = new TestSite([aHost('h1')]);
  refused('host_not_lost', () => removeHost(site, 'h1', { lost: true, confirm: 'h1' }, site.context));
});

test('tokens: bounded validity, use noted once a minute, revoked', () => {
  const site = new TestSite();
  const { created } = site.commit(createToken(site, { name: 'ci' }, 'hash', site.context));
  const id = created[0]?.id ?? '';
  assert.equal(site.get('token', id)?.spec.expiresAt, t0 + 90 * 86_400_000);
  refused('name_taken', () => createToken(site, { name: 'ci' }, 'hash', site.context));
  refused('limit', () => createToken(site, { name: 'x', validSeconds: 367 * 86_400 }, 'hash', site.context));
  site.apply(tokenUsed(site, id, t0 + 61_000));
  assert.equal((site.get('token', id)?.status.lastUsedAt ?? 1) % 60_000, 0);
  assert.equal(tokenUsed(site, id, t0 + 62_000).put.length, 0);
  site.commit(revokeToken(site, 'ci', site.context));
  assert.equal(site.count('token'), 0);
});
