/** The wire on real sockets: who is heard, who is not, and what a third in the middle can do. */
import assert from 'node:assert/strict';
import { randomBytes, randomUUID } from 'node:crypto';
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { test, type TestContext } from 'node:test';
import { allRules } from '../../../src/core/ha/rules.ts';
import { Voter } from '../../../src/core/ha/voter.ts';
import { readMessage } from '../../../src/effects/wire/shapes.ts';
import { maxVotes, noEpoch, type HaMessage, type HostVote } from '../../../src/core/ha/types.ts';
import { aBeat, anAnswer, clock, end, testSite, until, type End, type TestSite } from './wire-kit.ts';

async function ends(
  t: TestContext,
  site: TestSite,
  ...roles: readonly ('keeper' | 'controller')[]
): Promise<readonly [End, End, ...End[]]> {
  const all: End[] = [];
  t.after(async () => Promise.all(all.map(async ({ wire }) => wire.close())));
  for (const role of roles) all.push(await end(site, role));
  const [first, second, ...rest] = all;
  assert.ok(first && second);
  return [first, second, ...rest];
}

const poll: HaMessage = {
  type: 'poll',
  epoch: { number: 1, id: randomUUID() },
  purpose: 'ask',
  committing: true,
  version: { forced: 0, epoch: noEpoch, number: 0 },
  seq: 1,
  about: [],
};

/** Between two ends: keeps what passes, and lets the test decide what does. */
async function middle(
  t: TestContext,
  to: () => string,
): Promise<{ address: string; passed: Buffer[]; raw: Socket; open: boolean }> {
  const raw = createSocket('udp4');
  t.after(() => raw.close());
  raw.bind(0, '127.0.0.1');
  await once(raw, 'listening');
  const state = { address: `127.0.0.1:${raw.address().port}`, passed: [] as Buffer[], raw, open: true };
  let client = 0;
  raw.on('message', (bytes, { port }) => {
    const target = Number(to().split(':')[1]);
    if (port !== target) client = port;
    state.passed.push(Buffer.from(bytes));
    if (state.open) raw.send(bytes, port === target ? client : target, '127.0.0.1');
  });
  return state;
}

test('a beat and its answer pass, the first one too, and the round trip is known', async (t) => {
  const site = await testSite();
  const [host, voter] = await ends(t, site, 'keeper', 'keeper');
  voter.wire.onMessage((from, message) => {
    if (message.type === 'beat') voter.wire.send(from.id, anAnswer(message));
  });
  host.wire.send(voter.id, aBeat(host.id, 17), [voter.address]);
  await until('answer', () => host.got.length === 1);
  assert.deepEqual(voter.got[0]?.from.role, 'keeper');
  assert.equal(voter.got[0]?.from.id, host.id);
  assert.equal(host.got[0]?.message.type, 'beat-answer');
  const [way] = host.wire.sight(voter.id).ways;
  assert.equal(way?.address, voter.address);
  assert.ok((way?.roundTripMs ?? -1) >= 0 && (way?.roundTripMs ?? 1e9) < 1000);
});

test('a keeper hears itself without a network', async (t) => {
  const [host] = await ends(t, await testSite(), 'keeper', 'keeper');
  host.wire.send(host.id, aBeat(host.id, 1));
  await until('own beat', () => host.got.length === 1);
  assert.equal(host.wire.stats().sent, 0);
});

test('roles: beats only of that very host, questions only of controllers', async (t) => {
  const site = await testSite();
  const [host, voter, leader] = await ends(t, site, 'keeper', 'keeper', 'controller');
  assert.ok(leader);
  leader.wire.send(voter.id, poll, [voter.address]);
  await until('poll', () => voter.got.length === 1);
  assert.deepEqual([voter.got[0]?.from.role, voter.got[0]?.from.id], ['controller', leader.id]);
  host.wire.send(voter.id, poll, [voter.address]);
  await until('poll of a host refused', () => voter.wire.stats().refused === 1);
  host.wire.send(voter.id, aBeat(voter.id, 1), [voter.address]);
  await until('beat for another refused', () => voter.wire.stats().refused === 2);
  leader.wire.send(voter.id, aBeat(leader.id, 1), [voter.address]);
  await until('beat of a controller refused', () => voter.wire.stats().refused === 3);
  assert.equal(voter.got.length, 1);
});

test('somebody else’s id, and certificates of another site, get no key', async (t) => {
  const site = await testSite();
  const [host, voter] = await ends(t, site, 'keeper', 'keeper');
  const liar = await end(site, 'keeper', { self: randomUUID(), identity: await site.host(host.id) });
  const stranger = await end(await testSite(), 'keeper');
  t.after(async () => Promise.all([liar.wire.close(), stranger.wire.close()]));
  liar.wire.send(voter.id, aBeat(liar.id, 1), [voter.address]);
  await until('liar refused', () => voter.wire.stats().refused === 1);
  stranger.wire.send(voter.id, aBeat(stranger.id, 1), [voter.address]);
  await until('stranger refused', () => voter.wire.stats().refused === 2);
  assert.equal(voter.got.length, 0);
});

test('a certificate that ended lately still serves, so that no lease hangs on a wall clock; an old one does not', async (t) => {
  const site = await testSite();
  const [voter] = await ends(t, site, 'keeper', 'keeper');
  const dayMs = 24 * 3600 * 1000;
  const signed = async (daysAgo: number): Promise<End> => {
    const self = randomUUID();
    const made = await end(site, 'keeper', { self, identity: await site.host(self, Date.now() - daysAgo * dayMs) });
    t.after(async () => made.wire.close());
    return made;
  };
  const lately = await signed(93);
  lately.wire.send(voter.id, aBeat(lately.id, 1), [voter.address]);
  await until('its beat', () => voter.got.length === 1);
  const old = await signed(99);
  old.wire.send(voter.id, aBeat(old.id, 1), [voter.address]);
  await until('the old one refused', () => voter.wire.stats().refused === 1);
  assert.equal(voter.got.length, 1);
});

test('replayed, forged and cut datagrams are counted and dropped', async (t) => {
  const site = await testSite();
  const [host, voter] = await ends(t, site, 'keeper', 'keeper');
  const between = await middle(t, () => voter.address);
  host.wire.send(voter.id, aBeat(host.id, 1), [between.address]);
  await until('beat', () => voter.got.length === 1);
  const sealed = between.passed.at(-1);
  assert.ok(sealed && sealed[1] === 2);
  const port = Number(voter.address.split(':')[1]);
  between.raw.send(sealed, port, '127.0.0.1');
  await until('replay', () => voter.wire.stats().replayed === 1);
  for (const at of [2, 12, 21, 30, 70, sealed.length - 1]) {
    const forged = Buffer.from(sealed);
    forged[at] = (forged[at] ?? 0) ^ 1;
    const before = voter.wire.stats().forged;
    between.raw.send(forged, port, '127.0.0.1');
    await until(`forged at ${at}`, () => voter.wire.stats().forged === before + 1);
  }
  between.raw.send(sealed.subarray(0, -1), port, '127.0.0.1');
  await until('cut', () => voter.wire.stats().forged === 7);
  between.raw.send(sealed.subarray(0, 40), port, '127.0.0.1');
  between.raw.send(Buffer.alloc(3000, 0x56), port, '127.0.0.1');
  await until('rubbish', () => voter.wire.stats().malformed === 2);
  assert.equal(voter.got.length, 1);
  host.wire.send(voter.id, aBeat(host.id, 2), [between.address]);
  await until('the next beat', () => voter.got.length === 2);
});

test('nothing of an earlier run is taken again, on either side', async (t) => {
  const site = await testSite();
  const [host, voter] = await ends(t, site, 'keeper', 'keeper');
  const identity = await site.host(voter.id);
  let current = voter;
  const between = await middle(t, () => current.address);
  host.wire.send(voter.id, aBeat(host.id, 1), [between.address]);
  await until('beat', () => voter.got.length === 1);
  const old = [...between.passed];
  await voter.wire.close();
  // The voter starts again: everything that it once took is shown to it, hellos first.
  current = await end(site, 'keeper', { self: voter.id, identity });
  t.after(async () => current.wire.close());
  between.open = false;
  const port = Number(current.address.split(':')[1]);
  for (const bytes of old) between.raw.send(bytes, port, '127.0.0.1');
  await until('all seen', () => current.wire.stats().received === old.length);
  assert.equal(current.got.length, 0);
  assert.equal(current.wire.stats().peers, 0);
  // And the host, which knows nothing of the restart, gets through with its next beats.
  between.open = true;
  let beats = 1;
  await until('beats go on', () => {
    beats += 1;
    host.wire.send(voter.id, aBeat(host.id, beats), [between.address]);
    return current.got.length > 0;
  });
});

test('a renewed certificate is followed', async (t) => {
  const site = await testSite();
  const [host, voter] = await ends(t, site, 'keeper', 'keeper');
  host.wire.send(voter.id, aBeat(host.id, 1), [voter.address]);
  await until('beat', () => voter.got.length === 1);
  voter.wire.use(await site.host(voter.id));
  host.wire.send(voter.id, aBeat(host.id, 2), [voter.address]);
  await until('the key that stands serves on', () => voter.got.length === 2);
  await host.wire.close();
  const again = await end(site, 'keeper', { self: host.id, identity: await site.host(host.id) });
  t.after(async () => again.wire.close());
  again.wire.send(voter.id, aBeat(host.id, 3), [voter.address]);
  await until('both renewed', () => voter.got.length === 3);
});

test('two networks: both are used, and each has its own answers', async (t) => {
  const site = await testSite();
  const two = { listen: ['127.0.0.1:0', '127.0.0.2:0'] };
  const host = await end(site, 'keeper', two);
  const voter = await end(site, 'keeper', two);
  t.after(async () => Promise.all([host.wire.close(), voter.wire.close()]));
  voter.wire.onMessage((from, message) => {
    if (message.type === 'beat') voter.wire.send(from.id, anAnswer(message));
  });
  const beat = (addresses: readonly string[]): void => host.wire.send(voter.id, aBeat(host.id, clock.now()), addresses);
  beat(voter.wire.addresses());
  const answering = (): number =>
    host.wire.sight(voter.id).ways.filter(({ roundTripMs }) => roundTripMs !== undefined).length;
  await until('answers on both', () => answering() === 2);
  assert.deepEqual(
    host.wire.sight(voter.id).ways.map(({ address }) => address),
    voter.wire.addresses(),
  );
  // The second network is cut: a port that nobody listens on.
  const [first = ''] = voter.wire.addresses();
  const before = host.got.length;
  beat([first, '127.0.0.2:9']);
  await until('answer on the first', () => host.got.length > before);
  assert.deepEqual(
    host.wire.sight(voter.id).ways.map(({ answeredMsAgo }) => answeredMsAgo !== undefined),
    [true, false],
  );
});

test('a voter passes on what the controller cannot bring itself', async (t) => {
  const site = await testSite();
  const [host, voter] = await ends(t, site, 'keeper', 'keeper');
  const leader = await end(site, 'controller', { relays: () => [voter.id] });
  t.after(async () => leader.wire.close());
  voter.wire.onMessage((from, message) => {
    if (message.type === 'beat') voter.wire.send(from.id, anAnswer(message));
  });
  host.wire.onMessage((from, message) => {
    if (message.type === 'poll') host.wire.send(from.id, anAnswer(aBeat(host.id, 5)));
  });
  // The voter hears the host; the leader knows an address of it where nobody is.
  const limit = performance.now() + 10_000;
  while (leader.got.every(({ from }) => from.id !== host.id)) {
    assert.ok(performance.now() < limit, 'no answer through the relay');
    host.wire.send(voter.id, aBeat(host.id, clock.now()), [voter.address]);
    leader.wire.send(voter.id, poll, [voter.address]);
    voter.wire.send(leader.id, anAnswer(aBeat(voter.id, 1)));
    leader.wire.send(host.id, poll, ['127.0.0.1:9']);
    await new Promise((done) => setTimeout(done, 50));
  }
  assert.ok(host.got.some(({ from, message }) => message.type === 'poll' && from.id === leader.id));
  assert.ok(voter.wire.stats().relayed >= 2);
});

test('what does not fit in a datagram, or has no address, is counted, and nothing else happens', async (t) => {
  const [host, voter] = await ends(t, await testSite(), 'keeper', 'keeper');
  host.wire.send(randomUUID(), aBeat(host.id, 1));
  host.wire.send(randomUUID(), aBeat(host.id, 1), ['voter.example:7444']);
  assert.equal(host.wire.stats().unsendable, 2);
  host.wire.send(voter.id, aBeat(host.id, 1), [voter.address]);
  await until('beat', () => voter.got.length === 1);
  const huge = { ...aBeat(host.id, 2), filler: randomBytes(60_000).toString('hex') };
  host.wire.send(voter.id, huge, [voter.address]);
  assert.equal(host.wire.stats().unsendable, 3);
});

test('all that a voter may say of a rack that is lost fits in a datagram', async (t) => {
  const site = await testSite();
  const [voter, leader] = await ends(t, site, 'keeper', 'controller');
  const epoch = { number: 7, id: randomUUID() };
  const ballot = { epoch, attempt: 3 };
  const version = { forced: 0, epoch, number: 12 };
  const hosts: HostVote[] = Array.from({ length: maxVotes }, () => {
    const session = { number: 17, id: randomUUID() };
    const seal = { session, ballot, first: ballot };
    const times = { leftMs: 0, silentMs: Math.random() * 1e5 };
    return {
      hostId: randomUUID(),
      session,
      ...times,
      lapsed: true,
      ended: false,
      seal,
      overThrough: 16,
      confirmed: version,
    };
  });
  const whole: HaMessage = {
    type: 'poll-answer',
    seq: 1,
    asked: epoch,
    ok: true,
    epoch,
    diskId: randomUUID(),
    version,
    hosts,
    well: 0,
    contactMs: 5000,
  };
  voter.wire.send(leader.id, whole, [leader.address]);
  await until('the answer', () => leader.got.length === 1);
  assert.deepEqual(leader.got[0]?.message, whole);
});

test('what a voter answers passes the checks of the wire, also of a keeper that only ever beat for contact', () => {
  const siteId = randomUUID();
  const [own, witness, controller] = [randomUUID(), randomUUID(), randomUUID()];
  const epoch = { number: 1, id: randomUUID() };
  const version = { forced: 0, epoch, number: 1 };
  const entry = { keeperId: own, diskId: randomUUID(), name: 'alder', votes: 1, addresses: ['127.0.0.1:7444'] };
  const list = { siteId, version, profile: { lengthMs: 2000, boundMs: 500, drift: 0.01 }, voters: [entry] };
  const voter = new Voter(own, { diskId: entry.diskId, epoch, list, hosts: new Map() }, 0, allRules);
  const session = { number: 1, id: randomUUID() };
  const beat = {
    type: 'beat',
    hostId: witness,
    session,
    sentAt: 1,
    boundMs: 500,
    lapsed: false,
    ended: false,
  } as const;
  const none = { forced: 0, epoch: { number: 0, id: '' }, number: 0 };
  const answers = [
    voter.beat({ ...beat, askMs: 0, reset: false, confirmed: none, list: none }, 10),
    voter.census({ type: 'census', epoch, after: '', seq: 1 }, 20),
    voter.poll({ type: 'poll', epoch, purpose: 'lead', committing: true, version, seq: 2, about: [witness] }, 30, 0),
    voter.seal({ type: 'seal', hostId: controller, session, ballot: { epoch, attempt: 1 }, version }, 9_000, 9_000),
    voter.census({ type: 'census', epoch, after: '', seq: 3 }, 9_100),
    voter.poll({ type: 'poll', epoch, purpose: 'lead', committing: true, version, seq: 4, about: [] }, 9_200, 9_000),
  ];
  for (const { answer } of answers) {
    const read = readMessage(JSON.stringify(answer), { id: own, role: 'keeper' });
    assert.ok(
      typeof read === 'object',
      `${answer.type} is ${typeof read === 'string' ? read : ''}: ${JSON.stringify(answer)}`,
    );
  }
});
