import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decide } from '../../../src/core/converge.ts';
import { atNextStart, withConditions } from '../../../src/core/model/conditions.ts';
import { engineSilent } from '../../../src/core/model/host.ts';
import type { AnyResource } from '../../../src/core/model/snapshot.ts';
import type { Guest, GuestObservation } from '../../../src/core/model/guest.ts';
import { receiveReport } from '../../../src/core/report.ts';
import { pauseGuest, resumeGuest, stopGuest } from '../../../src/core/requests/actions.ts';
import { runGuests } from '../../../src/core/requests/guests.ts';
import { cordonHost } from '../../../src/core/requests/hosts.ts';
import { aGuest, aHost, aNetwork, anImage, aReport, sight, t0, TestSite } from './kit.ts';

const told = (resource: AnyResource, type: string): string => {
  const condition = resource.conditions.find((each) => each.type === type);
  return condition ? `${condition.status} ${condition.reason}` : 'absent';
};

/** A site with one guest that was run by request, and reports of its host. */
function small(): { site: TestSite; report: (more?: Partial<GuestObservation>) => void; heard: () => void } {
  const site = new TestSite([aHost('alder'), anImage('debian'), aNetwork('default')]);
  site.commit(runGuests(site, { image: 'debian', name: 'web' }, site.context));
  const heard = (): void => {
    const host = site.host('alder');
    site.commit(decide(site, site.now, new Map([[host.id, site.now]])));
  };
  const report = (more: Partial<GuestObservation> = {}): void => {
    const host = site.host('alder');
    const guest = sight(site.guest('web'), { observedAt: site.now, ...more });
    site.commit(receiveReport(site, host.id, aReport(host, [guest]), site.now));
    heard();
  };
  return { site, report, heard };
}

test('a guest says where it is and whether it is as asked, from its creation to its end', () => {
  const { site, report, heard } = small();
  const now = (type = 'Ready'): string => told(site.guest('web'), type);
  assert.equal(now('Placed'), 'true OnHost');
  assert.match(site.guest('web').conditions[0]?.message ?? '', /alder/);
  assert.equal(now(), 'false Starting');
  report();
  assert.equal(now(), 'true Running');
  site.commit(pauseGuest(site, 'web', site.context));
  assert.equal(now(), 'false Pausing');
  report({ engine: 'paused' });
  assert.equal(now(), 'true Paused');
  site.commit(resumeGuest(site, 'web', site.context));
  report();
  site.commit(stopGuest(site, 'web', {}, site.context));
  assert.equal(now(), 'false Stopping');
  report({ engine: 'shutoff', generation: 1 });
  assert.equal(now(), 'false Applying', 'it is off, and its host has not settled the order');
  report({ engine: 'shutoff' });
  assert.equal(now(), 'true Stopped');
  const host = site.host('alder');
  site.now = t0 + 60_000;
  site.commit(decide(site, site.now, new Map([[host.id, t0]])));
  assert.equal(now(), 'unknown HostSilent');
  assert.equal(told(site.host('alder'), 'Reachable'), 'false HostSilent');
  assert.equal(told(site.host('alder'), 'EngineReady'), 'unknown HostSilent');
  heard();
});

test('since when is kept while the status stays, and what is so is not written again', () => {
  const { site, report } = small();
  report();
  const ready = site.guest('web').conditions.find((each) => each.type === 'Ready');
  site.now = t0 + 20_000;
  report({ cpuPercent: 80 });
  const after = site.guest('web').conditions.find((each) => each.type === 'Ready');
  assert.equal(after, ready, 'the same fact');
  const guest = site.guest('web');
  assert.equal(withConditions(guest, site.host('alder'), t0 + 99_000), guest);
  const { revision } = site;
  const host = site.host('alder');
  assert.deepEqual(decide(site, site.now, new Map([[host.id, site.now]])).change.put, []);
  assert.equal(site.revision, revision);
});

test('what stands in the way has its own word', () => {
  const host = aHost('alder');
  const ready = (guest: Guest, seen?: Partial<GuestObservation>): string => {
    const { id: _id, ...observed } = sight(guest, seen);
    const status = { ...guest.status, ...(seen ? { observed } : {}) };
    return told(withConditions({ ...guest, status }, host, t0), 'Ready');
  };
  const error = { code: 'engine', message: 'no disk', errorAt: t0, gaveUp: true };
  assert.equal(ready(aGuest('a', { on: host }), { engine: 'absent', error }), 'false Failed');
  const exit = { reason: 'shutdown', exitAt: t0 } as const;
  assert.equal(ready(aGuest('b', { on: host }), { engine: 'absent', exit }), 'false PoweredOff');
  assert.equal(ready(aGuest('c', { on: host }), { engine: 'io-error' }), 'false DiskError');
  assert.equal(ready(aGuest('d', { on: host }), { generation: 7 }), 'unknown NewerOrder');
  assert.equal(ready(aGuest('e', { on: host, deletionAt: t0 }), {}), 'false Deleting');
  assert.equal(ready(aGuest('f', { on: host, status: { lost: { host: 'x', lostAt: t0 } } })), 'false DiskLost');
});

test('a guest that is nowhere says why', () => {
  const site = new TestSite([
    aHost('alder', { spec: { cordoned: true } }),
    aGuest('web'),
    aGuest('off', { spec: { power: 'off' } }),
  ]);
  site.commit(decide(site, t0, new Map([[site.host('alder').id, t0]])));
  assert.equal(told(site.guest('web'), 'Placed'), 'false NoRoom');
  assert.match(site.guest('web').conditions[0]?.message ?? '', /alder: cordoned/);
  assert.equal(told(withConditions(site.guest('off'), undefined, t0), 'Placed'), 'false PowerOff');
});

test('a resize that waits for the next start is told while it waits', () => {
  const { site, report } = small();
  report();
  assert.equal(told(site.guest('web'), 'ResizePending'), 'absent');
  report({ cpus: 2 });
  assert.equal(told(site.guest('web'), 'ResizePending'), 'true NextStart');
  report();
  assert.equal(told(site.guest('web'), 'ResizePending'), 'absent');
  const error = { code: 'engine', message: `the disk is busy; ${atNextStart}`, errorAt: t0, gaveUp: false };
  report({ error });
  assert.equal(told(site.guest('web'), 'ResizePending'), 'true NextStart');
});

test('a host says whether it is heard, its engine answers, and it takes guests', () => {
  const site = new TestSite([aHost('alder')]);
  const { id } = site.host('alder');
  const report = (problems: readonly string[]): void => {
    site.commit(receiveReport(site, id, aReport(site.host('alder'), [], { problems }), t0));
  };
  report([`${engineSilent}: no socket`]);
  assert.equal(told(site.host('alder'), 'EngineReady'), 'false EngineSilent');
  report(['the journal of x cannot be read']);
  assert.equal(told(site.host('alder'), 'EngineReady'), 'true AnswersWithProblems');
  report([]);
  assert.equal(told(site.host('alder'), 'EngineReady'), 'true Answers');
  assert.equal(told(site.host('alder'), 'Reachable'), 'true Reporting');
  assert.equal(told(site.host('alder'), 'Schedulable'), 'true TakesGuests');
  site.commit(cordonHost(site, 'alder', { ...site.context, actor: { ...site.context.actor, reason: 'new disks' } }));
  assert.equal(told(site.host('alder'), 'Schedulable'), 'false Cordoned');
  assert.match(site.host('alder').conditions[2]?.message ?? '', /new disks/);
});

test('an image is ready when checked; a network is usable while no host complains', () => {
  const image = anImage('debian');
  assert.equal(told(withConditions(image, undefined, t0), 'Ready'), 'true Checked');
  const failed = {
    ...image,
    status: { ...image.status, state: 'failed', error: { code: 'x', message: 'no' } },
  } as const;
  assert.equal(told(withConditions(failed, undefined, t0), 'Ready'), 'false Refused');
  const lan = aNetwork('lan');
  const site = new TestSite([aHost('alder'), lan]);
  const host = site.host('alder');
  const networkProblems = [{ networkId: lan.id, message: 'no bridge br0' }];
  site.commit(receiveReport(site, host.id, aReport(host, [], { networkProblems }), t0));
  const network = site.get('network', lan.id);
  assert.ok(network);
  assert.equal(told(network, 'Usable'), 'false HostProblems');
  assert.match(network.conditions[0]?.message ?? '', /alder: no bridge br0/);
});
