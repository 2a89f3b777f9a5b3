/** Leases, voters and dead hosts on the command line. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { VirgaError } from '../../../src/api/errors.ts';
import type { FencingView, LossPlanView } from '../../../src/api/schemas.ts';
import { at, host, leases, uuid, voter } from './documents.ts';
import { cli, page, StandIn } from './stand-in.ts';

test('host list and show tell the lease of each host, for people and for programs', async (t) => {
  const [h1, h2] = [host('h1'), host('h2')];
  const lost = { ...h2.status, state: 'lost' as const };
  const loss = { session: { number: 4, id: uuid() }, lostAt: at, how: 'lease' as const, evidence: { sealedVotes: 2 } };
  const shown = leases({
    hosts: [
      { hostId: h1.id, host: 'h1', role: 'host', state: 'held', leftMs: 1640, voter: true },
      {
        hostId: h2.id,
        host: 'h2',
        role: 'host',
        state: 'sealing',
        sealedVotes: 1,
        votes: 3,
        voter: true,
        silentSinceAt: at,
      },
    ],
  });
  const site = await StandIn.start(t, {
    'host.list': () => page([h1, h2]),
    'host.show': () => ({ ...h2, status: { ...lost, loss } }),
    'lease.show': () => shown,
  });
  const { out } = await cli(site.socket, ['host', 'list']);
  assert.match(out, /h1 +online +held 1\.6 s/);
  assert.match(out, /h2 +online +sealing 1\/3/);
  const json = JSON.parse((await cli(site.socket, ['host', 'list', '--json'])).out) as { lease: { state: string } }[];
  assert.deepEqual(
    json.map((each) => each.lease.state),
    ['held', 'sealing'],
  );
  const facts = (await cli(site.socket, ['host', 'show', 'h2'])).out;
  assert.match(facts, /Lease +being sealed; then its guests start elsewhere \(1 of 3 votes so far\)/);
  assert.match(facts, /Last lost +session 4, .*sealed by a majority of the voters.*\(sealedVotes: 2\)/);
});

test('a site that cannot tell leases still lists its hosts', async (t) => {
  const site = await StandIn.start(t, {
    'host.list': () => page([host('h1')]),
    'lease.show': () => {
      throw new VirgaError('not_leading');
    },
  });
  const ran = await cli(site.socket, ['host', 'list']);
  assert.equal(ran.code, 0);
  assert.match(ran.out, /h1 +online +-/);
});

test('voters: who answers over which network, what is under way and what it waits for', async (t) => {
  const w1 = voter('w1', {
    role: 'witness',
    addresses: [
      { address: '192.0.2.9:7444', answers: true, roundTripMs: 1 },
      { address: '198.51.100.9:7444', answers: false },
    ],
  });
  const shown = leases({
    voters: [voter('h1'), voter('h2', { answers: false, answeredAt: at }), w1],
    votes: 3,
    answeringVotes: 2,
    change: { what: 'h3 joins the voters', waitsFor: ['h2 has not confirmed list 3'] },
    advice: ['The voter h2 does not answer.'],
    proposal: { voters: ['h1', 'h3', 'w1'], sentences: ['2 voters of 3 share one failure domain.'] },
  });
  const site = await StandIn.start(t, { 'lease.show': () => shown });
  const { out } = await cli(site.socket, ['voters']);
  assert.match(out, /h2 +host +1 +no, last/);
  assert.match(out, /198\.51\.100\.9:7444 does not answer/);
  assert.match(out, /2 of 3 votes answer; this controller leads under epoch 7/);
  assert.match(out, /h3 joins the voters; it waits for\n {2}h2 has not confirmed list 3/);
  assert.match(out, /The site proposes these voters: h1, h3, w1\.\n2 voters of 3 share one failure domain\./);
  assert.equal((await cli(site.socket, ['voters', '-q'])).out, 'h1\nh2\nw1\n');
  assert.equal((await cli(site.socket, ['voters', 'list', '-q'])).out, 'h1\nh2\nw1\n');
});

test('voters add --wait says what it waits for, and ends when the list has changed', async (t) => {
  const h3 = host('h3');
  const change = { what: 'h3 joins the voters', waitsFor: ['h2 has not confirmed list 3'] };
  let looks = 0;
  const site = await StandIn.start(t, {
    'host.show': () => h3,
    'voter.add': () => leases({ change }),
    'lease.show': () => {
      looks += 1;
      return looks < 2 ? leases({ change }) : leases({ voters: [voter('h3', { keeperId: h3.id })], votes: 1 });
    },
  });
  const ran = await cli(site.socket, ['voters', 'add', 'h3', '--wait']);
  assert.equal(ran.out, 'h3 is a voter\n');
  assert.match(ran.err, /waits for h2 has not confirmed list 3/);
  assert.deepEqual(site.asked.find((each) => each.operation === 'voter.add')?.body, { host: h3.id });
  looks = -1e6;
  assert.equal((await cli(site.socket, ['voters', 'add', 'h3', '--wait', '--timeout', '100ms'])).code, 4);
});

test('a dead host, a fenced host and forced voters want their names and a reason; --yes is no answer', async (t) => {
  const fenced: FencingView = { host: 'h3', test: false, ok: true, attempts: [] };
  const site = await StandIn.start(t, {
    'host.show': () => host('h3'),
    'lease.show': () => leases({ voters: [voter('h1'), voter('h2')], votes: 2 }),
    'host.declare': () => host('h3'),
    'host.fence': () => fenced,
    'voter.force': () => leases({ voters: [voter('h1')] }),
  });
  const changes = (): number => site.asked.filter((each) => !/show/.test(each.operation)).length;
  for (const argv of [
    ['host', 'declare-dead', 'h3'],
    ['host', 'fence', 'h3'],
    ['voters', 'force', 'h1'],
  ]) {
    assert.equal((await cli(site.socket, argv)).code, 5, argv.join(' '));
    assert.equal((await cli(site.socket, [...argv, '--yes'])).code, 2, 'there is no --yes');
    assert.equal((await cli(site.socket, [...argv, '--confirm', 'wrong', '--reason', 'x'])).code, 2);
    const name = argv[0] === 'voters' ? 'h1' : 'h3';
    assert.equal((await cli(site.socket, [...argv, '--confirm', name])).code, 2, 'no reason');
    assert.equal(changes(), 0);
  }
  await cli(site.socket, ['host', 'declare-dead', 'h3', '--confirm', 'h3', '--reason', 'burnt']);
  assert.deepEqual(site.asked.at(-1)?.body, { confirm: 'h3', reason: 'burnt' });
  assert.equal(decodeURIComponent(String(site.asked.at(-1)?.headers['virga-reason'])), 'burnt');
  const forced = await cli(site.socket, ['voters', 'force', 'h1', '--confirm', 'h1', '--reason', 'fire']);
  assert.deepEqual(site.asked.at(-1)?.body, { hosts: ['h1'], confirm: 'h1', reason: 'fire' });
  assert.equal(forced.out, 'The voters are h1\n');
});

test('at a terminal the name and the reason are typed; a wrong name changes nothing', async (t) => {
  const site = await StandIn.start(t, {
    'host.show': () => host('h3'),
    'lease.show': () => leases(),
    'host.declare': () => host('h3'),
  });
  const name = /Type h3 to go on: $/;
  const wrong = await cli(site.socket, ['host', 'declare-dead', 'h3'], { terminal: 80, answers: [[name, 'yes']] });
  assert.equal(wrong.code, 5);
  assert.equal(site.asked.filter((each) => each.operation === 'host.declare').length, 0);
  const right = await cli(site.socket, ['host', 'declare-dead', 'h3'], {
    terminal: 80,
    answers: [
      [name, 'h3'],
      [/Why .*: $/, 'board burnt'],
    ],
  });
  assert.equal(right.code, 0, right.err);
  assert.deepEqual(site.asked.at(-1)?.body, { confirm: 'h3', reason: 'board burnt' });
});

test('the warning before forced voters names those that still answer', async (t) => {
  const site = await StandIn.start(t, { 'lease.show': () => leases({ voters: [voter('h1'), voter('h2')], votes: 2 }) });
  const ran = await cli(site.socket, ['voters', 'force', 'h1']);
  assert.equal(ran.code, 5);
  assert.match(ran.err, /h2 STILL ANSWER/);
});

test('host fence --test asks nobody for a confirmation, and exit code 1 says that a device does not answer', async (t) => {
  const attempt = {
    attemptAt: at,
    what: 'test' as const,
    level: 1,
    agent: 'fence_ipmilan',
    ms: 900,
    who: 'x',
    reason: '',
  };
  const tested: FencingView = {
    host: 'h3',
    test: true,
    ok: false,
    attempts: [{ ...attempt, outcome: 'timeout', detail: 'it did not answer within 20 s' }],
  };
  const site = await StandIn.start(t, { 'host.show': () => host('h3'), 'host.fence': () => tested });
  const ran = await cli(site.socket, ['host', 'fence', 'h3', '--test']);
  assert.equal(ran.code, 1);
  assert.match(ran.out, /✗ 1\. fence_ipmilan: timeout: it did not answer within 20 s \(900 ms\)/);
});

test('host lose is a dry run only', async (t) => {
  const plan: LossPlanView = {
    host: 'h1',
    detectMs: 2700,
    blockers: ['Nothing would start: the site is held.'],
    guests: [
      { guest: 'web', what: 'moves', host: 'h2', why: 'least loaded' },
      { guest: 'db', what: 'stays', why: 'its disk is kept on its host only' },
    ],
  };
  const site = await StandIn.start(t, { 'host.loss': () => plan });
  assert.equal((await cli(site.socket, ['host', 'lose', 'h1'])).code, 2);
  const { out } = await cli(site.socket, ['host', 'lose', 'h1', '--dry-run']);
  assert.match(out, /after about 2\.7 s: 1 guest would start elsewhere, 0 would wait, 1 would stay down/);
  assert.match(out, /→ web starts on h2: least loaded/);
  assert.match(out, /! Nothing would start/);
});
