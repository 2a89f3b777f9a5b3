/** After a restore: what hosts have and the state does not, from the host's memory back into the state. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { assignmentFor } from '../../../src/core/assignment.ts';
import { newJournal, type GuestJournal } from '../../../src/core/host/journal.ts';
import { noticeGuest } from '../../../src/core/host/observe.ts';
import { strayOrderBytes, strays } from '../../../src/core/host/strays.ts';
import { planHost } from '../../../src/core/host-plan.ts';
import type { Assignment, GuestOrder } from '../../../src/core/model/assignment.ts';
import type { StrayGuest } from '../../../src/core/model/host.ts';
import type { Uuid } from '../../../src/core/model/resource.ts';
import type { AnyResource } from '../../../src/core/model/snapshot.ts';
import { receiveReport } from '../../../src/core/report.ts';
import { deleteGuest, stopGuest } from '../../../src/core/requests/actions.ts';
import { adoptKnown, finishReview, isNewer } from '../../../src/core/requests/review.ts';
import { startGuest } from '../../../src/core/requests/start.ts';
import { adoptStray } from '../../../src/core/requests/strays.ts';
import { aGuest, aHost, aNetwork, anImage, aReport, counter, refused, sight, t0, TestSite } from './kit.ts';

const host = aHost('alder');
const image = anImage('debian');
const lan = aNetwork('lan');
const mac = '52:54:00:00:00:01';
const lost = aGuest('web', {
  on: host,
  image,
  owner: 'token:ada',
  community: 'physics',
  spec: {
    nics: [{ networkId: lan.id, mac, ipv4: '10.0.0.2' }],
    userData: '#cloud-config',
    sshKeys: ['ssh-ed25519 AAAA'],
    startSeq: 3,
    rebootSeq: 2,
    rebuildSeq: 1,
    restart: 'always',
  },
  status: { lastGeneration: 9 },
});

/** What the host was told before the restore. */
function orderOf(guest = lost): GuestOrder {
  const before = new TestSite([host, image, lan, guest]);
  const [order] = assignmentFor(before, host.id)?.guests ?? [];
  assert.ok(order);
  return { ...order, generation: 9 };
}

const stray = (order: GuestOrder, more: Partial<StrayGuest> = {}): StrayGuest => {
  const { id, name, cpus, memoryMiB } = order;
  return { id, name, running: true, generation: 4, cpus, memoryMiB, order, ...more };
};

/** The restored state: under review, and `found` is on the host. */
function restored(found: readonly StrayGuest[], more: readonly AnyResource[] = [image, lan]): TestSite {
  const site = new TestSite([{ ...host, status: { ...host.status, strays: found } }, ...more]);
  site.site = { ...site.site, epoch: 5, review: { restoredAt: t0, backupAt: t0 - 1000 } };
  return site;
}

function adopt(site: TestSite): void {
  const there = site.host('alder');
  const [found] = there.status.strays;
  assert.ok(found);
  site.commit(adoptStray(site, there, found, site.context));
}

function assigned(site: TestSite): Assignment {
  const content = assignmentFor(site, host.id);
  assert.ok(content);
  return { ...content, generation: site.revision };
}

/** The host runs it, has carried out order 9, and settled. */
function journalOf(order: GuestOrder): GuestJournal {
  const { startSeq, rebootSeq, rebuildSeq } = order;
  const layer = { file: 'disk-0.qcow2', image: 'b'.repeat(128) };
  const running = { startedAt: t0, bootId: 'boot' };
  const applied = { cpus: order.cpus, memoryMiB: order.memoryMiB, diskMiB: order.diskMiB };
  const done = { generation: 9, startSeq, rebootSeq, rebuildSeq };
  return { ...newJournal(order), ...done, layers: [layer], active: layer.file, running, applied };
}

/** What the host does under the assignment, with the guest running. */
function planned(site: TestSite, journal: GuestJournal): readonly string[] {
  const assignment = assigned(site);
  const session = host.status.session ?? { number: 1, id: '' };
  const seen = { id: journal.id, siteId: site.site.id, state: 'running', startedAt: t0, generation: 4 } as const;
  const order = assignment.guests.find((each) => each.id === journal.id);
  const look = { now: t0, bootId: 'boot', sessionId: session.id, inside: false, sure: true, killed: false };
  const noticed = noticeGuest(journal, order, seen, look);
  const view = { session, guests: [seen], foreign: [], images: ['b'.repeat(128)], fetching: [], fetchRetryAt: {} };
  const whole = { ...view, leaseRetryAt: new Map(), networks: [lan.id], busy: [] };
  return planHost(assignment, new Map([[journal.id, noticed]]), whole, t0).map((action) => action.do);
}

test('a stray is taken back whole, and its host does nothing to it', () => {
  const order = orderOf();
  const site = restored([stray(order)]);
  adopt(site);
  const guest = site.guest('web');
  assert.equal(guest.id, lost.id);
  assert.deepEqual([guest.owner, guest.community], ['token:ada', 'physics']);
  assert.deepEqual(guest.spec, lost.spec);
  assert.equal(guest.status.placement?.hostId, host.id);
  assert.deepEqual(guest.status.placement?.session, host.status.session);
  assert.equal(guest.status.placement?.epoch, 5);
  assert.equal(guest.status.placement?.generation, 10);
  assert.equal(site.events.at(-1)?.severity, 'info');
  assert.deepEqual(planned(site, journalOf(order)), ['settle']);
  site.commit(receiveReport(site, host.id, aReport(site.host('alder'), [sight(guest)], { strays: [] }), t0));
  assert.equal(site.guest('web').status.state, 'running');
  site.reason = 'test';
  site.commit(stopGuest(site, 'web', {}, site.context));
  assert.deepEqual(planned(site, journalOf(order)), ['shutdown']);
  const off = sight(site.guest('web'), { engine: 'shutoff' });
  site.commit(receiveReport(site, host.id, aReport(site.host('alder'), [off]), t0));
  site.commit(startGuest(site, 'web', site.context));
  assert.equal(site.guest('web').spec.startSeq, 4);
  site.commit(finishReview(site, site.context));
  site.commit(deleteGuest(site, 'web', site.context));
  assert.deepEqual(planned(site, journalOf(order)), ['destroy']);
});

test('what the state lost with it is left out and told', () => {
  const gone: Uuid = counter(0x777)();
  const nics = [
    { networkId: lan.id, mac, ipv4: '10.0.0.2' },
    { networkId: lan.id, mac: '52:54:00:00:00:02', ipv4: '10.0.0.9' },
    { networkId: gone, mac: '52:54:00:00:00:03' },
  ];
  const order = { ...orderOf(), nics };
  const other = aGuest('web', {
    on: host,
    spec: { nics: [{ networkId: lan.id, mac: '52:54:00:00:00:09', ipv4: '10.0.0.2' }] },
  });
  const site = restored([stray(order)], [lan, other]);
  adopt(site);
  const guest = site.guest('web-2');
  assert.equal(guest.id, lost.id);
  assert.deepEqual(guest.spec.nics, [nics[1]]);
  assert.deepEqual(guest.spec.image, lost.spec.image, 'as the order has it, though the state lacks the image');
  const event = site.events.at(-1);
  assert.equal(event?.severity, 'warning');
  for (const part of [
    /name web is taken/,
    /10\.0\.0\.2 in lan is taken/,
    new RegExp(gone),
    /image is not in the state/,
  ])
    assert.match(event?.message ?? '', part);
  const { image: _image, ...bare } = order;
  const older = restored([stray({ ...bare, image: { sha512: 'c'.repeat(128) } })], [lan]);
  adopt(older);
  assert.equal(older.guest('web').spec.image?.sha512, 'c'.repeat(128));
});

test('a paused, held or stopped guest comes back so', () => {
  const site = restored([stray({ ...orderOf(), paused: true, held: true })]);
  adopt(site);
  assert.equal(site.guest('web').spec.paused, true);
  assert.ok(site.guest('web').spec.held);
  const off = restored([stray({ ...orderOf(), power: 'off', graceSeconds: 0 }, { running: false })]);
  adopt(off);
  const { power, graceSeconds, stopGraceSeconds } = off.guest('web').spec;
  assert.deepEqual([power, graceSeconds, stopGraceSeconds], ['off', 30, 0]);
});

test('no host takes the new order for an old one, and nothing is adopted twice or unasked', () => {
  const order = orderOf();
  const copy = aHost('birch', { status: { strays: [stray({ ...order, generation: 40 }, { running: false })] } });
  const site = restored([stray(order)], [image, lan, copy]);
  const there = site.host('alder');
  const silent = { ...there, status: { ...there.status, state: 'silent' as const } };
  refused('host_unreachable', () => adoptStray(site, silent, stray(order), site.context));
  const { order: _order, ...without } = stray(order);
  refused('invalid_request', () => adoptStray(site, there, without, site.context));
  refused('limit', () => adoptStray(site, there, stray({ ...order, cpus: 4096, maxCpus: 4096 }), site.context));
  adopt(site);
  assert.equal(site.guest('web').status.placement?.generation, 41);
  refused('invalid_request', () => adoptStray(site, there, stray(order), site.context));
  site.role = 'read';
  refused('forbidden', () => adoptStray(site, there, stray(order), site.context));
});

test('a guest that was being deleted is kept, while a review is pending', () => {
  const going = { ...lost, owner: 'local:root', deletionAt: t0 - 5 };
  const site = restored([], [image, lan, going]);
  const bare = new TestSite([host, image, lan, going]);
  refused('not_allowed', () => adoptKnown(bare, bare.guest('web'), bare.context));
  assert.equal(assigned(site).guests[0]?.want, 'remove');
  site.commit(adoptKnown(site, site.guest('web'), site.context));
  assert.equal(site.guest('web').deletionAt, undefined);
  assert.equal(assigned(site).guests[0]?.want, 'keep');
  assert.equal(assigned(site).guests[0]?.generation, 10);
  refused('invalid_request', () => adoptKnown(site, site.guest('web'), site.context));
});

test('a guest whose host went further goes on as its host has it', () => {
  const old = { ...lost, owner: 'local:root', spec: { ...lost.spec, power: 'off', startSeq: 1 } as const };
  const site = restored([], [image, lan, old]);
  const snapshots = [{ id: counter(0x900)(), state: 'ready', createdAt: t0 }] as const;
  const seen = sight(lost, { generation: 20, accepted: 22, startSeq: 5, revertSeq: 2, cpus: 2, snapshots });
  site.commit(receiveReport(site, host.id, aReport(site.host('alder'), [seen]), t0));
  assert.ok(isNewer(site.guest('web')));
  site.commit(adoptKnown(site, site.guest('web'), site.context));
  const { spec, status } = site.guest('web');
  assert.equal(isNewer(site.guest('web')), false);
  assert.equal(status.placement?.generation, 23);
  assert.deepEqual([spec.power, spec.cpus, spec.maxCpus, spec.startSeq, spec.revert?.seq], ['on', 2, 2, 5, 2]);
  assert.deepEqual(
    spec.snapshots.map((each) => each.id),
    [snapshots[0].id],
  );
  const journal = { ...journalOf(orderOf()), accepted: 22, generation: 20, startSeq: 5, revertSeq: 2 };
  const layer = { file: 'disk-0.qcow2', image: 'b'.repeat(128) };
  const record = { id: snapshots[0].id, state: 'ready', layer: layer.file, createdAt: t0 } as const;
  const applied = { cpus: 2, memoryMiB: 512, diskMiB: 64 };
  assert.deepEqual(planned(site, { ...journal, applied, snapshots: [record] }), ['settle']);
});

test('a host tells the orders of its strays, also of those that are off, within a bound', () => {
  const order = orderOf();
  const journal = { ...newJournal(order), accepted: 12 };
  const none: Assignment = { ...assigned(restored([])), siteId: 'site-id' };
  const view = { guests: [], foreign: [] };
  const [off] = strays(none, view, new Map([[order.id, journal]]));
  assert.deepEqual([off?.running, off?.name, off?.order?.generation], [false, 'web', 12]);
  assert.deepEqual(strays(none, view, new Map([[order.id, { ...journal, gone: { generation: 9 } }]])), []);
  assert.deepEqual(strays(none, { guests: [], foreign: [{ uuid: order.id }] }, new Map([[order.id, journal]])), []);
  const next = counter(0x5000);
  const heavy = Array.from({ length: 300 }, () => {
    const large = { ...order, id: next(), userData: 'x'.repeat(32 * 1024) };
    return [large.id, newJournal(large)] as const;
  });
  const all = strays(none, view, new Map(heavy));
  assert.equal(all.length, 300);
  assert.ok(JSON.stringify(all).length < strayOrderBytes + 100_000);
  assert.ok(all.some((each) => each.order) && all.some((each) => each.orderLater === true && !each.order));
});
