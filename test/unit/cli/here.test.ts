/** How things stand: at a glance, and on a host where no site can say it. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { VirgaError } from '../../../src/api/errors.ts';
import type { DoorView } from '../../../src/core/ha/door.ts';
import { openDoor, type DoorLoop } from '../../../src/keeper/door.ts';
import { quiet } from '../controller/kit.ts';
import { at, leases, siteStatus, uuid, voter } from './documents.ts';
import { cli, StandIn } from './stand-in.ts';

test('status: leases, voters, hold and what waits for what', async (t) => {
  const site = await StandIn.start(t, {
    'site.status': () =>
      siteStatus({
        leases: {
          leadership: 'leading',
          states: { held: 1, lost: 1 },
          votes: 3,
          answeringVotes: 2,
          silentVoters: ['h2'],
          advice: ['Bring h2 back.'],
        },
        hold: { reason: 'new switch', who: 'local:ada', heldAt: at },
        waiting: [{ what: 'guests that an earlier leader had placed', waitsFor: ['what the keeper of h2 says'] }],
      }),
  });
  const { out } = await cli(site.socket, ['status']);
  assert.match(out, /Leases {4}1 held, 1 lost\nVoters {4}2 of 3 votes answer; h2 silent/);
  assert.match(out, /Held by local:ada .* \(new switch\)/);
  assert.match(
    out,
    /What waits, and for what\n {2}guests that an earlier leader had placed: what the keeper of h2 says/,
  );
});

/** A keeper's real door, with what a test wants behind it. */
async function keeperHere(t: TestContext, view: DoorView): Promise<Record<string, string>> {
  const folder = mkdtempSync(join(tmpdir(), 'virga-here-'));
  mkdirSync(join(folder, 'abcdef01'));
  const loop: DoorLoop = {
    state: () => view,
    register: () => Promise.reject(new Error('not asked')),
    enter: () => Promise.reject(new Error('not asked')),
    clear: () => Promise.reject(new Error('not asked')),
    leave: () => Promise.reject(new Error('not asked')),
    onChange: () => () => undefined,
  };
  const door = await openDoor(join(folder, 'abcdef01', 'keeper.sock'), loop, quiet);
  t.after(async () => {
    await door.close();
    rmSync(folder, { recursive: true, force: true });
  });
  return { VIRGA_KEEPERS: folder };
}

const frozen: DoorView = {
  session: { number: 3, id: uuid() },
  lease: {
    diskId: uuid(),
    addresses: [],
    version: '1.2.3',
    state: 'lapsed',
    leftMs: 0,
    epoch: 7,
    guardLagMs: 3,
    roundTripsMs: { h1: 0.4 },
  },
  entries: [{ guestId: uuid(), generation: 2, epoch: 7 }],
  gone: [],
};

test('status without any controller: the keeper of this machine says how it stands and what to do', async (t) => {
  const env = await keeperHere(t, frozen);
  const ran = await cli('/nonexistent/virga.sock', ['status'], { env });
  assert.equal(ran.code, 3);
  assert.match(ran.err, /No site answers at \/nonexistent/);
  assert.match(ran.out, /Lease {5}lapsed: no majority of the voters answers, highly available guests are frozen/);
  assert.match(ran.out, /1 guest under the lease, frozen: 1 guest/);
  assert.match(ran.out, /Voters {4}h1 \(0\.4 ms\) answer/);
  assert.match(ran.out, /They go on by themselves as soon as a majority of the voters answers/);
  const json = JSON.parse((await cli('/nonexistent/virga.sock', ['status', '--json'], { env })).out) as {
    error: { code: string };
    here: { lease: { state: string } }[];
  };
  assert.equal(json.error.code, 'site_unreachable');
  assert.equal(json.here[0]?.lease.state, 'lapsed');
});

test('status on a controller without a majority: who answers it, and this machine', async (t) => {
  const env = await keeperHere(t, { ...frozen, lease: { ...frozen.lease, state: 'held', leftMs: 1500 } });
  const site = await StandIn.start(t, {
    'site.status': () => {
      throw new VirgaError('no_majority', { answering: 1, votes: 3 });
    },
    'lease.show': () =>
      leases({
        leadership: 'candidate',
        voters: [voter('h1'), voter('h2', { answers: false })],
        votes: 3,
        answeringVotes: 1,
        advice: ['Bring h2 back.'],
      }),
  });
  const ran = await cli(site.socket, ['status'], { env });
  assert.equal(ran.code, 1);
  assert.match(ran.err, /No majority of the voters answers this controller \(1 of 3 votes\)/);
  assert.match(ran.out, /Lease {5}held: .*, 1\.5 s left/);
  assert.match(ran.out, /1 of 3 votes answer: this controller does not lead/);
  assert.match(ran.out, /Bring h2 back/);
});

test('a keeper that does not run is said; other refusals of the site are told as ever', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'virga-here-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const env = { VIRGA_KEEPERS: folder };
  mkdirSync(join(folder, 'abcdef01'));
  assert.equal((await cli('/nonexistent/virga.sock', ['status'], { env })).out, '', 'it ended in order');
  // What a keeper leaves behind that was killed.
  writeFileSync(join(folder, 'abcdef01', 'keeper.sock'), '');
  assert.match(
    (await cli('/nonexistent/virga.sock', ['status'], { env })).out,
    /keeper\.sock: the keeper does not run/,
  );
  const site = await StandIn.start(t, {
    'site.status': () => {
      throw new VirgaError('forbidden', { who: 'x', action: 'look' });
    },
  });
  const ran = await cli(site.socket, ['status'], { env });
  assert.equal(ran.code, 1);
  assert.doesNotMatch(ran.out, /keeper/);
});
