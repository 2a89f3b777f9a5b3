import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Guest } from '../../../src/core/model/guest.ts';
import type { Host } from '../../../src/core/model/host.ts';
import type { RequestContext, Snapshot } from '../../../src/core/model/snapshot.ts';
import {
  changeGuest,
  deleteGuest,
  holdGuest,
  pauseGuest,
  rebootGuest,
  rebuildGuest,
  resumeGuest,
  stopGuest,
  unholdGuest,
} from '../../../src/core/requests/actions.ts';
import { decide } from '../../../src/core/converge.ts';
import { receiveReport } from '../../../src/core/report.ts';
import { adoptGuest, releaseGuest } from '../../../src/core/requests/adoption.ts';
import { resizeGuest } from '../../../src/core/requests/resize.ts';
import type { RequestResult } from '../../../src/core/requests/result.ts';
import { createSnapshot, deleteSnapshot, revertSnapshot } from '../../../src/core/requests/snapshots.ts';
import { startGuest } from '../../../src/core/requests/start.ts';
import { aGuest, aHost, anImage, aReport, refused, sight, t0, TestSite } from './kit.ts';
import type { GuestWish } from './kit.ts';

const image = anImage('debian');

function seen(guest: Guest, more: Parameters<typeof sight>[1] = {}): Guest {
  const { id: _id, ...observed } = sight(guest, more);
  const down = observed.engine === 'shutoff' || observed.engine === 'absent';
  return { ...guest, status: { ...guest.status, observed, state: down ? 'stopped' : 'running' } };
}

function siteOf(wish: GuestWish = {}, look: Parameters<typeof sight>[1] = {}, ...hosts: Host[]): TestSite {
  const h1 = hosts[0] ?? aHost('h1');
  return new TestSite([h1, ...hosts.slice(1), image, seen(aGuest('g', { on: h1, image, ...wish }), look)]);
}

type Action = (snapshot: Snapshot, ref: string, context: RequestContext) => RequestResult;

/** Does it, checks that the order's generation rose by `rise`, returns the guest. */
function act(site: TestSite, action: Action, rise = 1): Guest {
  const before = site.guest('g').status.lastGeneration;
  site.commit(action(site, 'g', site.context));
  const guest = site.guest('g');
  assert.equal(guest.status.lastGeneration, before + rise);
  assert.equal(guest.status.placement?.generation ?? guest.status.lastGeneration, before + rise);
  return guest;
}

function decideOn(site: TestSite): void {
  const heard = new Map([...site.all('host')].map((host) => [host.id, site.now] as const));
  site.commit(decide(site, site.now, heard));
}

/** h1 reports the copy gone; then it is decided. */
function hearGone(site: TestSite, gone: { readonly id: string; readonly generation: number }): void {
  const h1 = site.host('h1');
  site.commit(receiveReport(site, h1.id, aReport(h1, [], { gone: [gone] }), site.now));
  decideOn(site);
}

function idle(site: TestSite, action: Action): void {
  const { change } = action(site, 'g', site.context);
  assert.deepEqual(change, { put: [], remove: [], events: [] });
}

const stop =
  (input: Parameters<typeof stopGuest>[2] = {}): Action =>
  (snapshot, ref, context) =>
    stopGuest(snapshot, ref, input, context);

test('stop: polite, with another grace, at once; repeats change nothing', () => {
  const site = siteOf();
  const asked = act(site, stop());
  assert.equal(asked.spec.power, 'off');
  assert.equal(asked.status.state, 'stopping', 'it is still seen running');
  assert.equal(asked.generation, 2);
  idle(site, stop());
  assert.equal(act(site, stop({ graceSeconds: 5 })).spec.stopGraceSeconds, 5);
  const forced = act(site, stop({ force: true }));
  assert.equal(forced.spec.stopGraceSeconds, 0);
  assert.equal(forced.spec.graceSeconds, 30, 'the next stop is polite again');
  idle(site, stop({ force: true }));
  const started = act(site, startGuest);
  assert.equal(started.spec.stopGraceSeconds, undefined);
  refused('limit', () => stopGuest(site, 'g', { graceSeconds: 3601 }, site.context));
});

test('start: rises the counter; a running guest stays as it is', () => {
  const running = siteOf();
  idle(running, startGuest);
  const stopped = siteOf({ spec: { power: 'off' } });
  const started = act(stopped, startGuest);
  assert.equal(started.spec.startSeq, 2);
  assert.equal(started.status.state, 'starting');
  idle(stopped, startGuest);
});

test('a guest that was powered off from inside starts when asked', () => {
  const site = siteOf({}, { engine: 'shutoff', exit: { reason: 'shutdown', exitAt: t0 } });
  assert.equal(act(site, startGuest).spec.startSeq, 2);
});

test('a keep disk stays on its host even when that is cordoned', () => {
  const h1 = aHost('h1', { spec: { cordoned: true } });
  const site = siteOf({ spec: { power: 'off' } }, {}, h1, aHost('h2'));
  assert.equal(act(site, startGuest).status.placement?.hostId, h1.id);
});

test('a fresh disk leaves a cordoned host, and the old host is told to remove what it has', () => {
  const h1 = aHost('h1', { spec: { cordoned: true } });
  const site = siteOf({ spec: { power: 'off', diskMode: 'fresh' } }, {}, h1, aHost('h2'));
  const moved = act(site, startGuest);
  assert.equal(moved.status.placement, undefined, 'its old copy must be gone first: it is highly available');
  assert.equal(moved.status.observed, undefined, 'what the old host saw no longer counts');
  const left = { id: moved.id, name: 'g', generation: 2 };
  assert.deepEqual(site.host('h1').status.leaving, [left]);
  decideOn(site);
  assert.deepEqual(site.guest('g').status.unplaced, ['h1 removes its earlier copy first']);
  hearGone(site, left);
  assert.equal(site.guest('g').status.placement?.hostId, site.host('h2').id);
  assert.equal(site.guest('g').status.placement?.generation, 3);
});

test('a fresh disk that is not highly available moves at once', () => {
  const h1 = aHost('h1', { spec: { cordoned: true } });
  const site = siteOf({ spec: { power: 'off', diskMode: 'fresh', ha: 'off' } }, {}, h1, aHost('h2'));
  const moved = act(site, startGuest, 2);
  assert.equal(moved.status.placement?.hostId, site.host('h2').id);
  assert.deepEqual(site.host('h1').status.leaving, [{ id: moved.id, name: 'g', generation: 2 }]);
});

test('a fresh disk stays where it is seen down under an older order only', () => {
  const h1 = aHost('h1', { spec: { cordoned: true } });
  const site = siteOf({ spec: { power: 'off', diskMode: 'fresh' } }, { generation: 0 }, h1, aHost('h2'));
  assert.equal(act(site, startGuest).status.placement?.hostId, h1.id);
});

test('a fresh guest that failed on its host is tried elsewhere', () => {
  const error = { code: 'engine', message: 'no', errorAt: t0, gaveUp: true };
  const site = siteOf({ spec: { diskMode: 'fresh' } }, { engine: 'absent', error }, aHost('h1'), aHost('h2'));
  const { id } = act(site, startGuest);
  hearGone(site, { id, generation: 2 });
  assert.equal(site.guest('g').status.placement?.hostId, site.host('h2').id);
});

test('a guest that is nowhere is placed when started, or waits', () => {
  const nowhere = aGuest('g', { image, spec: { power: 'off' }, status: { state: 'stopped' } });
  const site = new TestSite([aHost('h1'), image, nowhere]);
  assert.equal(act(site, startGuest).status.state, 'starting');
  const empty = new TestSite([aHost('h1', { spec: { cordoned: true } }), image, nowhere]);
  const waits = act(empty, startGuest, 0);
  assert.equal(waits.status.state, 'pending');
  assert.deepEqual(waits.status.unplaced, ['h1: cordoned']);
});

test('reboot once at a time; pause and resume', () => {
  const site = siteOf();
  assert.equal(act(site, rebootGuest).spec.rebootSeq, 1);
  idle(site, rebootGuest);
  assert.equal(act(site, pauseGuest).spec.paused, true);
  idle(site, pauseGuest);
  assert.equal(act(site, resumeGuest).spec.paused, false);
  idle(site, resumeGuest);
});

test('the table of legal actions is held: stopped guests are not rebooted, silent ones not started', () => {
  const stopped = siteOf({ spec: { power: 'off' } });
  const error = refused('not_allowed', () => rebootGuest(stopped, 'g', stopped.context));
  assert.equal(error.message, 'A guest that is stopped cannot be rebooted: only a running guest can be rebooted');
  const silent = siteOf({ spec: { power: 'off' } }, {}, aHost('h1', { status: { state: 'silent' } }));
  refused('not_allowed', () => startGuest(silent, 'g', silent.context));
  refused('not_found', () => startGuest(silent, 'nobody', silent.context));
});

test('a hold forbids every change until it ends, and is itself an order', () => {
  const site = siteOf();
  const hold: Action = (snapshot, ref, context) => holdGuest(snapshot, ref, { reason: 'court order' }, context);
  act(site, hold);
  idle(site, hold);
  for (const action of [stop(), rebootGuest, pauseGuest, deleteGuest, rebuildGuest])
    assert.match(refused('held', () => action(site, 'g', site.context)).message, /court order/);
  refused('held', () => resizeGuest(site, 'g', { cpus: 1 }, site.context));
  refused('invalid_request', () => holdGuest(site, 'g', { reason: ' ' }, site.context));
  act(site, unholdGuest);
  idle(site, unholdGuest);
  act(site, stop());
});

test('a change on another’s guest needs a reason, and the record has it', () => {
  const site = siteOf({ owner: 'local:alice' });
  refused('reason_required', () => pauseGuest(site, 'g', site.context));
  site.reason = 'maintenance';
  act(site, pauseGuest);
  assert.deepEqual(
    site.events.map(({ type, who, reason }) => [type, who, reason]),
    [['guest.pause', 'local:root', 'maintenance']],
  );
  site.role = 'read';
  refused('forbidden', () => resumeGuest(site, 'g', site.context));
});

test('rebuild: once at a time, starts one that had failed, not for adopted ones', () => {
  const site = siteOf();
  assert.equal(act(site, rebuildGuest).spec.rebuildSeq, 1);
  idle(site, rebuildGuest);
  const error = { code: 'engine', message: 'no', errorAt: t0, gaveUp: true };
  const failed = siteOf({}, { engine: 'shutoff', error });
  assert.equal(act(failed, rebuildGuest).spec.startSeq, 2);
  const adopted = new TestSite([aHost('h1')]);
  adopted.apply({ put: [seen(aGuest('g', { on: adopted.host('h1') }))], remove: [], events: [] });
  refused('invalid_request', () => rebuildGuest(adopted, 'g', adopted.context));
});

test('delete: a guest that is nowhere goes at once, another is ordered away; repeats change nothing', () => {
  const site = siteOf();
  const going = act(site, deleteGuest);
  assert.equal(going.deletionAt, t0);
  assert.equal(going.status.state, 'deleting');
  idle(site, deleteGuest);
  refused('not_allowed', () => pauseGuest(site, 'g', site.context));
  refused('not_allowed', () => changeGuest(site, 'g', {}, site.context));
  const nowhere = new TestSite([aGuest('g')]);
  nowhere.commit(deleteGuest(nowhere, 'g', nowhere.context));
  assert.equal(nowhere.count('guest'), 0);
});

test('nothing is destroyed while a restored state waits for review', () => {
  const site = siteOf();
  site.site = { ...site.site, review: { restoredAt: t0, backupAt: t0 } };
  refused('review_pending', () => deleteGuest(site, 'g', site.context));
  refused('review_pending', () => rebuildGuest(site, 'g', site.context));
});

test('resize while running keeps its bounds; while down the bounds go along', () => {
  const site = siteOf({ spec: { maxCpus: 4, maxMemoryMiB: 1024 } });
  const larger = act(site, (snapshot, ref, context) =>
    resizeGuest(snapshot, ref, { cpus: 4, memoryMiB: 1024 }, context),
  );
  assert.deepEqual([larger.spec.cpus, larger.spec.memoryMiB], [4, 1024]);
  idle(site, (snapshot, ref, context) => resizeGuest(snapshot, ref, { cpus: 4 }, context));
  refused('limit', () => resizeGuest(site, 'g', { cpus: 5 }, site.context));
  refused('not_allowed', () => resizeGuest(site, 'g', { maxCpus: 8 }, site.context));
  refused('limit', () => resizeGuest(site, 'g', { diskMiB: 63 }, site.context));
  const down = siteOf({ spec: { power: 'off' } });
  const grown = act(down, (snapshot, ref, context) => resizeGuest(snapshot, ref, { cpus: 8, diskMiB: 100 }, context));
  assert.deepEqual([grown.spec.cpus, grown.spec.maxCpus, grown.spec.diskMiB], [8, 8, 100]);
  const full = refused('no_placement', () => resizeGuest(down, 'g', { cpus: 9 }, down.context));
  assert.match(full.message, /it stays on h1, which has 8 cpus for it, 9 needed/);
});

test('a guest may shrink on a host that is too full', () => {
  const tight = aHost('h1', { status: { measured: { cpus: 1, memoryMiB: 100, diskMiB: 10 } } });
  const site = siteOf({ spec: { power: 'off', cpus: 4, maxCpus: 4 } }, {}, tight);
  assert.equal(act(site, (snapshot, ref, context) => resizeGuest(snapshot, ref, { cpus: 3 }, context)).spec.cpus, 3);
});

test('change: labels are no order, name and restart policy are', () => {
  const site = siteOf({ spec: { power: 'off' }, labels: { a: '1', b: '2' } });
  const change =
    (input: Parameters<typeof changeGuest>[2]): Action =>
    (snapshot, ref, context) =>
      changeGuest(snapshot, ref, input, context);
  assert.deepEqual(act(site, change({ labels: { a: null, c: '3' } }), 0).labels, { b: '2', c: '3' });
  idle(site, change({ labels: { c: '3' } }));
  assert.equal(act(site, change({ restart: 'never' })).spec.restart, 'never');
  site.commit(changeGuest(site, 'g', { name: 'h' }, site.context));
  assert.equal(site.guest('h').status.placement?.generation, 3);
  const running = siteOf();
  refused('not_allowed', () => changeGuest(running, 'g', { name: 'h' }, running.context));
});

test('snapshots: taken, reverted to when ready, deleted', () => {
  const site = siteOf();
  const { snapshotId } = site.commit(createSnapshot(site, 'g', { name: 'before' }, site.context));
  refused('name_taken', () => createSnapshot(site, 'g', { name: 'before' }, site.context));
  const revert: Action = (snapshot, ref, context) => revertSnapshot(snapshot, ref, { snapshot: 'before' }, context);
  const early = refused('snapshot_not_ready', () => revert(site, 'g', site.context));
  assert.match(early.message, /is being taken, not ready/);
  const ready = seen(site.guest('g'), { snapshots: [{ id: snapshotId, state: 'ready', createdAt: t0 }] });
  site.apply({ put: [ready], remove: [], events: [] });
  assert.deepEqual(act(site, revert).spec.revert, { seq: 1, snapshotId });
  idle(site, revert);
  refused('in_use', () => deleteSnapshot(site, 'g', { snapshot: 'before' }, site.context));
  site.apply({ put: [{ ...seen(site.guest('g'), { revertSeq: 1 }) }], remove: [], events: [] });
  const remove: Action = (snapshot, ref, context) => deleteSnapshot(snapshot, ref, { snapshot: snapshotId }, context);
  assert.deepEqual(
    act(site, remove).spec.snapshots.map((each) => each.wanted),
    [false],
  );
  idle(site, remove);
  refused('not_found', () => deleteSnapshot(site, 'g', { snapshot: 'other' }, site.context));
  const fresh = siteOf({ spec: { diskMode: 'fresh' } });
  refused('invalid_request', () => createSnapshot(fresh, 'g', { name: 's' }, fresh.context));
});

test('adoption keeps the domain’s UUID and what release needs; release gives it back', () => {
  const domain = {
    uuid: 'd-1',
    name: 'Old',
    running: true,
    autostart: true,
    persistent: true,
    cpus: 2,
    memoryMiB: 300,
  };
  const site = new TestSite([aHost('h1', { status: { foreign: [domain] } })]);
  const xml = '<domain><os firmware="efi"><type arch="x86_64" machine="pc-q35-7.0">hvm</type></os></domain>';
  const facts = { name: 'Old', cpus: 2, memoryMiB: 300, xml, persistent: true, autostart: true };
  refused('domain_not_found', () => adoptGuest(site, { host: 'h1', domain: 'New' }, facts, site.context));
  refused('invalid_name', () => adoptGuest(site, { host: 'h1', domain: 'Old' }, facts, site.context));
  site.commit(adoptGuest(site, { host: 'h1', domain: 'Old', name: 'g' }, facts, site.context));
  const adopted = site.guest('g');
  assert.equal(adopted.id, 'd-1');
  assert.deepEqual(adopted.spec.adopted, { xml, persistent: true, autostart: true });
  assert.deepEqual(adopted.spec.machine, { arch: 'x86_64', type: 'pc-q35-7.0', firmware: 'uefi', cpuModel: 'unknown' });
  assert.equal(adopted.status.placement?.hostId, site.host('h1').id);
  refused('invalid_request', () => adoptGuest(site, { host: 'h1', domain: 'Old', name: 'x' }, facts, site.context));
  site.apply({ put: [seen(adopted)], remove: [], events: [] });
  assert.equal(act(site, releaseGuest).spec.releasing, true);
  idle(site, releaseGuest);
  const made = siteOf();
  refused('invalid_request', () => releaseGuest(made, 'g', made.context));
});
