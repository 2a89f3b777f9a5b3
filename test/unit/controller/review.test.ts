/** The review through its handlers: what hosts reported over the loop, decided by a person, ordered by the next assignment. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Ajv } from 'ajv';
import { documentBytes } from '../../../src/controller/http/lists.ts';
import { Report } from '../../../src/api/report.ts';
import { assignmentFor } from '../../../src/core/assignment.ts';
import { VirgaError } from '../../../src/core/errors.ts';
import type { GuestOrder } from '../../../src/core/model/assignment.ts';
import type { StrayGuest } from '../../../src/core/model/host.ts';
import type { RequestContext } from '../../../src/core/model/snapshot.ts';
import { decideReview, reviewOf } from '../../../src/controller/http/handlers/review.ts';
import { Links } from '../../../src/controller/links.ts';
import { Loop } from '../../../src/controller/loop.ts';
import { aGuest, aHost, aNetwork, anImage, aReport, sight, TestSite } from '../core/kit.ts';
import { change, ids, quiet, siteId, world } from './kit.ts';
import { alone } from './alone.ts';

const host = aHost('alder');
const image = anImage('debian');
const lan = aNetwork('lan');
const nics = [{ networkId: lan.id, mac: '52:54:00:00:00:01', ipv4: '10.0.0.2' }];
const lost = aGuest('web', {
  on: host,
  image,
  spec: { nics, userData: '#secret-of-web', sshKeys: ['ssh-ed25519 AAAA'] },
});
const going = aGuest('going', { on: host, image, deletionAt: 5 });

/** As an agent has it after the link: what the schema lets through. */
function overTheLink(stray: StrayGuest): StrayGuest {
  const report = { type: 'report', report: aReport(host, [sight(going)], { strays: [stray] }) };
  const copy = JSON.parse(JSON.stringify(report)) as { report: { strays: StrayGuest[] } };
  const valid = new Ajv({ removeAdditional: 'all', strict: false }).compile(Report);
  assert.ok(valid(copy), JSON.stringify(valid.errors));
  const [taken] = copy.report.strays;
  assert.ok(taken);
  return taken;
}

async function restored() {
  const [order] = assignmentFor(new TestSite([host, image, lan, lost]), host.id)?.guests ?? [];
  assert.ok(order);
  const kept: GuestOrder = { ...order, generation: 6 };
  const { id, name, cpus, memoryMiB } = kept;
  const stray = overTheLink({ id, name, running: true, generation: 6, cpus, memoryMiB, order: kept });
  const parts = world();
  const { state, clock } = parts;
  const loop = new Loop({ state, clock, log: quiet });
  await loop.iterate();
  await state.change(() => change([host, image, lan, going]));
  const review = { restoredAt: clock.now(), backupAt: clock.now() - 1000 };
  await state.change((snapshot) => change([], { site: { ...snapshot.site, review } }));
  const links = new Links({ loop, clock, log: quiet, siteId: () => siteId, version: 'test', ...alone });
  loop.report(host.id, aReport(host, [sight(going)], { strays: [stray] }));
  await loop.iterate();
  const services = { state, links } as Parameters<typeof decideReview>[0];
  const context: RequestContext = {
    now: clock.now(),
    uuid: () => ids.uuid(),
    actor: { who: 'local:root', role: 'admin', community: 'site' },
  };
  return { state, loop, services, context };
}

test('what is found is listed, adopted and ordered to go on; nothing of it is shown beforehand', async () => {
  const { state, services, context } = await restored();
  const items = reviewOf(state.snapshot).items.map(({ name, what }) => `${what} ${name}`);
  assert.deepEqual(items, ['stray web', 'deleting going']);
  const shown = state.snapshot.byName('host', 'alder');
  assert.ok(shown?.status.strays[0]?.order);
  assert.ok(!documentBytes(shown).toString().includes('secret-of-web'));
  await decideReview(services, { guestId: lost.id, decision: 'keep' }, context);
  assert.equal(reviewOf(state.snapshot).items.length, 2);
  await decideReview(services, { guestId: lost.id, decision: 'adopt' }, context);
  await decideReview(services, { guestId: going.id, decision: 'adopt' }, context);
  assert.deepEqual(reviewOf(state.snapshot).items, []);
  assert.deepEqual(state.snapshot.byName('guest', 'web')?.spec, lost.spec);
  const assignment = assignmentFor(state.snapshot, host.id);
  assert.deepEqual(assignment?.guests.map((each) => [each.name, each.want, each.generation]).toSorted(), [
    ['going', 'keep', 2],
    ['web', 'keep', 7],
  ]);
  assert.equal(assignment?.destroyNothing, true);
});

test('a known guest is not destroyed from the review, and what nobody knows is not found', async () => {
  const { services, context } = await restored();
  const refusal = (code: string) => (error: unknown) => error instanceof VirgaError && error.code === code;
  await assert.rejects(
    decideReview(services, { guestId: going.id, decision: 'destroy' }, context),
    refusal('invalid_request'),
  );
  await assert.rejects(
    decideReview(services, { guestId: ids.uuid(), decision: 'adopt' }, context),
    refusal('not_found'),
  );
});
