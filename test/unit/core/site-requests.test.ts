import assert from 'node:assert/strict';
import { test } from 'node:test';
import { profiles } from '../../../src/core/ha/margin.ts';
import { eligibility } from '../../../src/core/ha/eligible.ts';
import { changeGuest } from '../../../src/core/requests/actions.ts';
import { runGuests } from '../../../src/core/requests/guests.ts';
import { changeHost, joinHost, noteKeeper } from '../../../src/core/requests/hosts.ts';
import { removeHost } from '../../../src/core/requests/remove-host.ts';
import { changeSite, holdSite, releaseSite } from '../../../src/core/requests/site.ts';
import { createInvite } from '../../../src/core/requests/tokens.ts';
import { aGuest, aHost, anImage, refused, t0, TestSite } from './kit.ts';

const image = anImage('debian');

test('the lease of the site: by name, by figures, and never one that cannot work', () => {
  const site = new TestSite();
  site.commit(changeSite(site, { lease: 'fast', onHostLeave: 'stop', lapseGraceSeconds: 0 }, site.context));
  assert.deepEqual(site.site.lease, profiles.fast);
  assert.deepEqual([site.site.onHostLeave, site.site.lapseGraceSeconds], ['stop', 0]);
  site.commit(changeSite(site, { lease: { lengthMs: 3000 } }, site.context));
  assert.deepEqual(site.site.lease, { ...profiles.fast, lengthMs: 3000 }, 'the other figures stay');
  assert.equal(changeSite(site, { lease: { lengthMs: 3000 } }, site.context).change.site, undefined);
  assert.match(
    refused('invalid_request', () => changeSite(site, { lease: { boundMs: 2000 } }, site.context)).message,
    /half/,
  );
  refused('limit', () => changeSite(site, { lapseGraceSeconds: -1 }, site.context));
  site.role = 'read';
  refused('forbidden', () => changeSite(site, { lease: 'default' }, site.context));
});

test('a hold says who and why; repeats and releases are harmless', () => {
  const site = new TestSite();
  refused('invalid_request', () => holdSite(site, { reason: ' ' }, site.context));
  site.commit(holdSite(site, { reason: 'new switch' }, site.context));
  assert.deepEqual(site.site.hold, { reason: 'new switch', who: 'local:root', heldAt: t0 });
  assert.equal(holdSite(site, { reason: 'new switch' }, site.context).change.site, undefined);
  site.commit(releaseSite(site, site.context));
  assert.equal(site.site.hold, undefined);
  assert.equal(releaseSite(site, site.context).change.site, undefined);
});

test('fence devices: agents of the distribution, secrets only by file', () => {
  const site = new TestSite([aHost('h1')]);
  const device = {
    agent: 'fence_ipmilan',
    parameters: { ip: '192.0.2.9', passwd_file: '/etc/virga/h1' },
    delayMs: 500,
  };
  site.commit(changeHost(site, 'h1', { fence: [device] }, site.context));
  assert.deepEqual(site.host('h1').spec.fence, [device]);
  site.commit(changeHost(site, 'h1', { cordoned: true }, site.context));
  assert.deepEqual(site.host('h1').spec.fence, [device], 'other changes leave them');
  const wrong = (agent: string, parameters: Record<string, string>): string =>
    refused('invalid_request', () => changeHost(site, 'h1', { fence: [{ agent, parameters }] }, site.context)).message;
  assert.match(wrong('/bin/sh', {}), /not the name of a fence agent/);
  assert.match(wrong('fence_ipmilan', { passwd: 'x' }), /passwd_file=PATH/);
  assert.match(wrong('fence_ipmilan', { 'a b': 'x' }), /not the name of a parameter/);
  site.commit(changeHost(site, 'h1', { fence: [] }, site.context));
  assert.equal(site.host('h1').spec.fence, undefined);
});

test('a witness is invited as one, says where its keeper is, and takes no guests', () => {
  const site = new TestSite([aHost('h1', { status: { measured: { cpus: 1, memoryMiB: 600, diskMiB: 9999 } } }), image]);
  site.commit(createInvite(site, { role: 'witness', hostName: 'w1' }, 'hash', site.context));
  const keeper = { diskId: 'd1', addresses: ['192.0.2.5:7444'] };
  const facts = {
    secretHash: 'hash',
    hostName: 'x',
    agentVersion: '0.1.0',
    protocol: 1,
    certificate: { serial: '1', expiresAt: t0 },
  };
  site.commit(joinHost(site, { ...facts, id: 'w-id', keeper }, site.context));
  const witness = site.host('w1');
  assert.deepEqual([witness.spec.role, witness.status.keeper], ['witness', keeper]);
  site.commit(noteKeeper(site, witness.id, { ...keeper, diskId: 'd2' }, site.context));
  assert.equal(site.host('w1').status.keeper?.diskId, 'd2');
  assert.deepEqual(noteKeeper(site, witness.id, { ...keeper, diskId: 'd2' }, site.context).change.put, []);
  site.apply({
    put: [{ ...site.host('w1'), status: { ...site.host('w1').status, state: 'online' } }],
    remove: [],
    events: [],
  });
  const input = { image: 'debian', name: 'g', count: 2, diskMode: 'fresh' } as const;
  const error = refused('no_placement', () => runGuests(site, input, site.context));
  assert.match(error.message, /a witness, which takes no guests \(1\)/);
  refused('invalid_request', () => runGuests(site, { ...input, preferredHosts: ['w1'] }, site.context));
});

test('recovery wishes of a guest: checked, kept, and taken back', () => {
  const site = new TestSite([aHost('h1'), aHost('h2'), image]);
  const wishes = { priority: 90, preferredHosts: ['h2', 'h2'], failBack: true, limits: { moves: 2 } } as const;
  site.commit(runGuests(site, { name: 'g', image: 'debian', diskMode: 'fresh', ...wishes }, site.context));
  const { spec, status } = site.guest('g');
  assert.deepEqual(spec.preferredHosts, [site.host('h2').id]);
  assert.equal(status.placement?.hostId, site.host('h2').id, 'preferred from the start');
  assert.deepEqual(spec.limits, { moves: 2, windowSeconds: 3600 });
  const said = (type: string): unknown => site.guest('g').conditions.find((each) => each.type === type)?.status;
  assert.equal(said('HighlyAvailable'), 'true');
  site.commit(changeGuest(site, 'g', { priority: 10 }, site.context));
  assert.equal(site.guest('g').status.lastGeneration, 1, 'who is recovered first is no matter of its host');
  assert.equal(site.guest('g').generation, 2);
  refused('invalid_request', () => changeGuest(site, 'g', { preferredHosts: [] }, site.context));
  const calm = { preferredHosts: [], failBack: false, limits: {}, ha: 'off' } as const;
  site.commit(changeGuest(site, 'g', calm, site.context));
  const after = site.guest('g');
  assert.deepEqual(
    [after.spec.preferredHosts, after.spec.limits, after.spec.failBack],
    [undefined, undefined, undefined],
  );
  assert.deepEqual([after.status.lastGeneration, said('HighlyAvailable')], [2, 'false'], 'its host must know');
  site.commit(changeGuest(site, 'g', { ha: 'on' }, site.context));
  assert.equal(site.guest('g').spec.ha, undefined);
  refused('limit', () => changeGuest(site, 'g', { priority: 101 }, site.context));
  refused('not_found', () => changeGuest(site, 'g', { preferredHosts: ['h9'] }, site.context));
});

test('who is highly available, and the sentence why not', () => {
  const on = aHost('h1');
  const why = (more: Parameters<typeof aGuest>[1]): string => {
    const able = eligibility(aGuest('g', { on, image, ...more }));
    return able.ha ? 'yes' : `${able.reason}: ${able.why}`;
  };
  assert.equal(why({ spec: { diskMode: 'fresh' } }), 'yes');
  assert.match(why({ spec: { diskMode: 'fresh', ha: 'off' } }), /^Off: /);
  assert.match(why({ spec: { diskMode: 'fresh', hostId: on.id } }), /^Pinned: /);
  assert.match(why({}), /^KeepDisk: its disk is kept on its host only/);
  const adopted = { xml: '<domain/>', persistent: true, autostart: false };
  assert.match(why({ spec: { adopted } }), /^Adopted: /);
});

test('a host that still removes what moved away is not removed before', () => {
  const left = { id: 'x', name: 'old', generation: 3 };
  const site = new TestSite([aHost('h1', { status: { leaving: [left] } })]);
  assert.match(refused('in_use', () => removeHost(site, 'h1', {}, site.context)).message, /still removes: old/);
  const over = new TestSite([aHost('h1', { status: { leaving: [{ ...left, over: true }] } })]);
  over.commit(removeHost(over, 'h1', {}, over.context));
});
