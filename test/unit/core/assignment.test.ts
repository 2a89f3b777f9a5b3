import assert from 'node:assert/strict';
import { test } from 'node:test';
import { assignmentFor, sameAssignment } from '../../../src/core/assignment.ts';
import { deleteGuest, stopGuest } from '../../../src/core/requests/actions.ts';
import { startGuest } from '../../../src/core/requests/start.ts';
import { aGuest, aHost, aNetwork, anImage, sight, t0, TestSite } from './kit.ts';

const h1 = aHost('h1');
const image = anImage('debian');
const lan = aNetwork('lan');
const nics = [{ networkId: lan.id, mac: '52:54:00:00:00:01', ipv4: '10.0.0.2' }];

function site(): TestSite {
  const other = aHost('h2');
  const objects = [h1, other, image, lan, aNetwork('unused', { bridge: 'br1' }), anImage('unused')];
  const guests = [
    aGuest('b', { on: h1 }),
    aGuest('a', { on: h1, image, spec: { nics } }),
    aGuest('far', { on: other }),
  ];
  return new TestSite([...objects, ...guests]);
}

test('an assignment has this host’s guests, and the networks and images they need', () => {
  const state = site();
  const content = assignmentFor(state, h1.id);
  assert.ok(content);
  assert.deepEqual(
    content.guests.map((each) => each.id),
    [state.guest('a').id, state.guest('b').id].toSorted(),
  );
  assert.deepEqual(
    content.networks.map((each) => each.name),
    ['lan'],
  );
  assert.deepEqual(content.images, [
    { id: image.id, name: 'debian', sha512: 'b'.repeat(128), sizeBytes: 1000, virtualBytes: 64 * 1024 ** 2 },
  ]);
  assert.equal(content.destroyNothing, false);
  assert.deepEqual(content.session, h1.status.session);
  assert.equal(assignmentFor(state, 'nobody'), undefined);
});

test('equal states give equal assignments; every order is a difference', () => {
  const state = site();
  const before = assignmentFor(state, h1.id);
  assert.ok(sameAssignment(before, assignmentFor(state, h1.id)));
  const labelled = { ...state.guest('a'), labels: { a: 'b' } };
  state.apply({ put: [labelled], remove: [], events: [] });
  assert.ok(sameAssignment(before, assignmentFor(state, h1.id)), 'labels are no order');
  state.commit(stopGuest(state, 'a', { graceSeconds: 7 }, state.context));
  const after = assignmentFor(state, h1.id);
  assert.ok(!sameAssignment(before, after));
  const order = after?.guests.find((each) => each.name === 'a');
  assert.deepEqual([order?.power, order?.graceSeconds, order?.generation], ['off', 7, 2]);
  assert.ok(!sameAssignment(before, undefined));
  state.site = { ...state.site, epoch: 2 };
  assert.ok(!sameAssignment(after, assignmentFor(state, h1.id)), 'a new leader says so');
});

test('a deleted guest is listed for removal, and needs neither network nor image', () => {
  const state = site();
  state.commit(deleteGuest(state, 'a', state.context));
  const content = assignmentFor(state, h1.id);
  assert.equal(content?.guests.find((each) => each.name === 'a')?.want, 'remove');
  assert.deepEqual([content?.networks, content?.images], [[], []]);
});

test('under review nothing is destroyed', () => {
  const state = site();
  state.site = { ...state.site, review: { restoredAt: t0, backupAt: t0 } };
  assert.equal(assignmentFor(state, h1.id)?.destroyNothing, true);
});

test('a guest that moved away is removed on its old host and kept on its new one, also after its deletion', () => {
  const old = aHost('old', { spec: { cordoned: true } });
  const guest = aGuest('g', { on: old, image, spec: { diskMode: 'fresh', power: 'off', ha: 'off' } });
  const { id: _id, ...observed } = sight(guest);
  const state = new TestSite([old, h1, image, { ...guest, status: { ...guest.status, state: 'stopped', observed } }]);
  state.commit(startGuest(state, 'g', state.context));
  const orders = (hostId: string): unknown =>
    assignmentFor(state, hostId)?.guests.map((each) => [each.id, each.want, each.power, each.generation]);
  assert.deepEqual(orders(old.id), [[guest.id, 'remove', 'off', 2]]);
  assert.deepEqual(orders(h1.id), [[guest.id, 'keep', 'on', 3]]);
  state.apply({ put: [], remove: [{ kind: 'guest', id: guest.id }], events: [] });
  assert.deepEqual(orders(old.id), [[guest.id, 'remove', 'off', 2]]);
});
