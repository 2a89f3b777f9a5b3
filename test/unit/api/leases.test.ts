/** Leases, voters and dead hosts through their handlers: answers fit the schemas, and what is dangerous asks first. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Body, Operation, Params } from '../../../src/api/routes.ts';
import { routes } from '../../../src/api/routes.ts';
import type { LeasesView, LossPlanView, SiteSettingsView } from '../../../src/api/schemas.ts';
import { VirgaError, type ErrorCode } from '../../../src/core/errors.ts';
import { profiles } from '../../../src/core/ha/margin.ts';
import type { Actor } from '../../../src/core/model/access.ts';
import type { AnyResource } from '../../../src/core/model/snapshot.ts';
import { whatIfLost } from '../../../src/core/ha/recovery.ts';
import type { Call, Handler } from '../../../src/controller/http/call.ts';
import type { FenceDoor } from '../../../src/controller/fence/door.ts';
import { leaseHandlers } from '../../../src/controller/http/handlers/leases.ts';
import { statusOf } from '../../../src/controller/http/handlers/status.ts';
import { Metrics } from '../../../src/controller/http/metrics.ts';
import type { Services } from '../../../src/controller/http/services.ts';
import { newValidator } from '../../../src/controller/http/validate.ts';
import type { Detection, LeaseDoor, LeaseSight, VoterSight } from '../../../src/controller/lease/view.ts';
import { change, ids, quiet, world } from '../controller/kit.ts';
import { aGuest, aHost, anImage } from '../core/kit.ts';

const epoch = { number: 7, id: ids.uuid() };
const version = { forced: 0, epoch, number: 3 };

function voter(keeperId: string, name: string, more: Partial<VoterSight> = {}): VoterSight {
  return {
    keeperId,
    name,
    votes: 1,
    answers: true,
    answeredAt: 1_700_000_000_000,
    roundTripMs: 0.4,
    accepted: true,
    epoch,
    version,
    addresses: [{ address: '192.0.2.1:7444', answers: true, roundTripMs: 0.4 }],
    ...more,
  };
}

/** A door that shows what a test wants and remembers what it was asked to do. */
class Door implements LeaseDoor {
  readonly done: unknown[] = [];
  shown: LeaseSight;
  found: Detection[] = [];
  constructor(shown: LeaseSight) {
    this.shown = shown;
  }
  sight(): LeaseSight {
    return this.shown;
  }
  detections(): readonly Detection[] {
    return this.found;
  }
  wishVoters(wish: object): void {
    this.done.push(wish);
  }
  async declareDead(hostId: string, word: object): Promise<void> {
    this.done.push({ hostId, ...word });
  }
  async forceVoters(keeperIds: readonly string[], word: object): Promise<void> {
    this.done.push({ keeperIds, ...word });
  }
}

async function site() {
  const { clock, state } = world();
  const [h1, h2] = [aHost('h1'), aHost('h2')];
  const w1 = aHost('w1', { spec: { role: 'witness' } });
  const image = anImage('debian');
  const fresh = { spec: { diskMode: 'fresh' as const }, image, on: h1 };
  const web = aGuest('web', fresh);
  const placement = web.status.placement;
  const moves = {
    ...web,
    status: { ...web.status, ...(placement ? { placement: { ...placement, ha: true as const } } : {}) },
  };
  const keeps = aGuest('db', { image, on: h1 });
  await state.change(() => change([h1, h2, w1, image, moves, keeps] as AnyResource[]));
  const door = new Door({
    leadership: 'leading',
    epoch,
    committing: true,
    version,
    profile: profiles.default,
    voters: [voter(h1.id, 'h1'), voter(h2.id, 'h2'), voter(w1.id, 'w1')],
    hosts: [
      { hostId: h1.id, state: 'held', session: { number: 2, id: ids.uuid() }, leftMs: 1700, confirmed: version },
      { hostId: h2.id, state: 'sealing', silentSinceAt: 1_700_000_000_000, sealedVotes: 1, votes: 3 },
    ],
    barrier: [h2.id],
  });
  const fencer: FenceDoor = {
    test: async () => ({ ok: true, attempts: [] }),
    fence: async (hostId, who, reason) => {
      door.done.push({ fenced: hostId, who, reason });
      return {
        ok: true,
        attempts: [
          {
            at: clock.now(),
            what: 'off',
            level: 1,
            agent: 'fence_ipmilan',
            outcome: 'off',
            detail: 'off',
            ms: 900,
            who,
            reason,
          },
        ],
      };
    },
    history: () => [],
    waits: () => new Map([[h2.id, 'the site is held']]),
  };
  const services = {
    clock,
    ids,
    log: quiet,
    state,
    lease: door,
    fencer,
    version: 'test',
    startedAt: clock.now(),
  } as unknown as Services;
  return { h1, h2, w1, web, door, services, state, clock, handlers: leaseHandlers(services) };
}

type Site = Awaited<ReturnType<typeof site>>;
const ada: Actor = { who: 'local:root', role: 'admin', community: 'site' };

/** Calls a handler as the server does, and holds its answer against the schema. */
async function ask<O extends keyof Site['handlers'] & Operation>(
  { handlers, clock }: Site,
  operation: O,
  given: { params?: Partial<Params<O>>; body?: Body<O>; actor?: Actor } = {},
): Promise<unknown> {
  const actor = given.actor ?? ada;
  const call = {
    params: given.params ?? {},
    query: undefined,
    body: given.body,
    actor,
    context: { now: clock.now(), uuid: () => ids.uuid(), actor },
    raw: { socket: { setTimeout: () => undefined } },
  } as unknown as Call<Operation>;
  const reply = await (handlers[operation] as unknown as Handler<Operation>)(call);
  if ('value' in reply) {
    const valid = newValidator().compile(routes[operation].answer);
    const value: unknown = JSON.parse(JSON.stringify(reply.value));
    assert.ok(valid(value), `${operation}: ${JSON.stringify(valid.errors?.slice(0, 3))}`);
    return value;
  }
  return 'resource' in reply ? reply.resource : undefined;
}

const refused = (code: ErrorCode, promise: Promise<unknown>): Promise<void> =>
  assert.rejects(promise, (error: unknown) => error instanceof VirgaError && error.code === code);

test('leases are shown with names, votes, margin, and hosts that no voter speaks of', async () => {
  const at = await site();
  const view = (await ask(at, 'lease.show')) as LeasesView;
  assert.deepEqual(
    view.hosts.map((each) => [each.host, each.role, each.state, each.voter]),
    [
      ['h1', 'host', 'held', true],
      ['h2', 'host', 'sealing', true],
      ['w1', 'witness', 'none', true],
    ],
  );
  assert.deepEqual([view.answeringVotes, view.votes, view.marginMs], [3, 3, 570.5]);
  assert.deepEqual(view.barrier, ['h2']);
});

test('who has no majority says so, and names what to do; also a controller that has no state at all', async () => {
  const at = await site();
  const silent = at.door.shown.voters.map((each, index) => (index === 0 ? each : { ...each, answers: false }));
  at.door.shown = { ...at.door.shown, leadership: 'candidate', voters: silent, hosts: [] };
  await at.state.claim(undefined);
  const view = (await ask(at, 'lease.show')) as LeasesView;
  assert.equal(view.leadership, 'candidate');
  assert.equal(view.answeringVotes, 1);
  assert.match(view.advice[0] ?? '', /No majority of the voters answers \(1 of 3 votes; h2, w1 do not\)/);
});

test('a host that voters hear is not declared dead; another only with its name and a reason', async () => {
  const at = await site();
  const dead = { confirm: 'h2', reason: 'unplugged' };
  await refused('host_alive', ask(at, 'host.declare', { params: { host: 'h1' }, body: { ...dead, confirm: 'h1' } }));
  await refused(
    'confirmation_required',
    ask(at, 'host.declare', { params: { host: 'h2' }, body: { ...dead, confirm: 'h1' } }),
  );
  await refused('invalid_request', ask(at, 'host.declare', { params: { host: 'h2' }, body: { ...dead, reason: ' ' } }));
  assert.deepEqual(at.door.done, []);
  await ask(at, 'host.declare', { params: { host: 'h2' }, body: dead });
  assert.deepEqual(at.door.done, [{ hostId: at.h2.id, who: 'local:root', reason: 'unplugged', kind: 'person' }]);
  const events = at.state.recentEvents(0) ?? [];
  const spoken = events.find((each) => each.type === 'host.declared-dead');
  assert.equal(spoken?.reason, 'unplugged');
});

test('voters come and go by name; survivors by force only with their names once more, also without any state', async () => {
  const at = await site();
  await ask(at, 'voter.add', { body: { host: 'h2' } });
  await ask(at, 'voter.remove', { params: { host: 'w1' } });
  await at.state.claim(undefined);
  const reason = 'fire';
  await refused('confirmation_required', ask(at, 'voter.force', { body: { hosts: ['h1'], confirm: 'yes', reason } }));
  await refused('not_found', ask(at, 'voter.force', { body: { hosts: ['nobody'], confirm: 'nobody', reason } }));
  await ask(at, 'voter.force', { body: { hosts: ['h1', 'w1'], confirm: 'h1 w1', reason } });
  assert.deepEqual(at.door.done, [
    { add: at.h2.id },
    { remove: at.w1.id },
    { keeperIds: [at.h1.id, at.w1.id], who: 'local:root', reason },
  ]);
});

test('fencing asks for the name, a test does not; the record has who and why', async () => {
  const at = await site();
  await refused('confirmation_required', ask(at, 'host.fence', { params: { host: 'h2' }, body: {} }));
  await refused('invalid_request', ask(at, 'host.fence', { params: { host: 'h2' }, body: { confirm: 'h2' } }));
  await ask(at, 'host.fence', { params: { host: 'h2' }, body: { test: true } });
  assert.deepEqual(at.door.done, []);
  const actor = { ...ada, reason: 'hangs' };
  await ask(at, 'host.fence', { params: { host: 'h2' }, body: { confirm: 'h2' }, actor });
  assert.deepEqual(at.door.done, [{ fenced: at.h2.id, who: 'local:root', reason: 'hangs' }]);
  const history = (await ask(at, 'host.fencing', { params: { host: 'h2' } })) as { waits?: string };
  assert.equal(history.waits, 'the site is held');
});

test('what would happen if a host were lost: where each guest goes, and what stands in the way', async () => {
  const at = await site();
  const plan = (await ask(at, 'host.loss', { params: { host: 'h1' } })) as LossPlanView;
  assert.equal(plan.detectMs, 2701);
  assert.deepEqual(plan.blockers, []);
  const verdicts = Object.fromEntries(plan.guests.map((each) => [each.guest, each.what]));
  const wanted = whatIfLost(at.state.snapshot, at.h1, at.clock.now());
  assert.deepEqual(verdicts, Object.fromEntries(wanted.map((each) => [each.guest, each.what])));
  assert.equal(verdicts['db'], 'stays');
  at.door.shown = { ...at.door.shown, voters: at.door.shown.voters.slice(0, 2) };
  await ask(at, 'site.hold', { body: { reason: 'new switch' } });
  const held = (await ask(at, 'host.loss', { params: { host: 'h1' } })) as LossPlanView;
  assert.match(held.blockers.join('\n'), /Without h1 only 1 of 2 votes would answer[^]*the site is held/);
});

test('settings of the site: profiles by name or figures, and the hold that the status shows', async () => {
  const at = await site();
  const settings = async () => (await ask(at, 'site.settings')) as SiteSettingsView;
  assert.equal((await settings()).leaseProfile, 'default');
  await ask(at, 'site.set', { body: { lease: 'fast', onHostLeave: 'stop', lapseGraceSeconds: 0 } });
  const { leaseProfile, onHostLeave, lapseGraceSeconds } = await settings();
  assert.deepEqual([leaseProfile, onHostLeave, lapseGraceSeconds], ['fast', 'stop', 0]);
  await refused('invalid_request', ask(at, 'site.set', { body: { lease: { lengthMs: 100 } } }));
  await ask(at, 'site.set', { body: { lease: { lengthMs: 3000 } } });
  assert.equal((await settings()).leaseProfile, 'own');
  await ask(at, 'site.hold', { body: { reason: 'new switch' } });
  const status = statusOf(at.services);
  assert.equal(status.hold?.reason, 'new switch');
  assert.deepEqual(status.leases?.states, { held: 1, sealing: 1, none: 1 });
  assert.ok(status.waiting?.some((each) => each.what === 'recovery of guests'));
  assert.ok(status.waiting?.some((each) => each.waitsFor.join().includes('keeper of h2')));
  await ask(at, 'site.release', { body: {} });
  assert.equal((await settings()).hold, undefined);
});

test('metrics: leases by state, votes, each detection once, beats as hosts report them', async () => {
  const { door, state } = await site();
  const metrics = new Metrics();
  metrics.watch({ state, links: () => 0, storeUp: async () => true, lease: door });
  const session = { number: 1, id: ids.uuid() };
  door.found = [{ hostId: ids.uuid(), session, silentAt: 1000, sealedAt: 3500, lostAt: 3600 }];
  const lease = {
    diskId: ids.uuid(),
    addresses: [],
    version: '1',
    state: 'held',
    leftMs: 1800,
    epoch: 7,
    guardLagMs: 2,
    roundTripsMs: { h1: 0.3, h2: 4 },
  } as const;
  metrics.report({ lease });
  await metrics.registry.metrics();
  const text = await metrics.registry.metrics();
  for (const line of [
    'virga_epoch 7',
    'virga_votes_answering 3',
    'virga_host_leases{state="held"} 1',
    'virga_host_leases{state="lost"} 0',
    'virga_detection_seconds_count{step="lost"} 1',
    'virga_detection_seconds_bucket{le="2.5",step="sealed"} 1',
    'virga_beat_round_trip_seconds_count 2',
    'virga_lease_left_seconds_bucket{le="1.75"} 0',
  ])
    assert.ok(text.includes(line), `${line} is not in\n${text}`);
});
