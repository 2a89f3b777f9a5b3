/** Changing things: confirmation, several at once, "already", waiting by watching. */
import assert from 'node:assert/strict';
import type { ServerResponse } from 'node:http';
import { test } from 'node:test';
import { VirgaError } from '../../../src/api/errors.ts';
import type { GuestView } from '../../../src/api/schemas.ts';
import { guest, host, siteStatus } from './documents.ts';
import { cli, cut, page, StandIn, type Raw } from './stand-in.ts';

const sse =
  (write: (response: ServerResponse) => void): Raw =>
  (response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    response.flushHeaders();
    write(response);
  };
const put = (id: number, object: { kind: string; id: string }): string =>
  `event: put\nid: ${id}\ndata: ${JSON.stringify({ kind: object.kind, id: object.id, object })}\n\n`;

test('without a terminal and without --yes nothing is destroyed: exit code 5, and it says how', async (t) => {
  const site = await StandIn.start(t, { 'host.show': () => host('h1') });
  const ways = [
    ['guest', 'delete', 'a'],
    ['guest', 'rebuild', 'a'],
    ['guest', 'snapshot', 'revert', 'a', 's'],
    ['guest', 'stop', 'a', 'b', '--force'],
    ['guest', 'release', 'a'],
    ['host', 'remove', 'h1'],
    ['image', 'delete', 'i'],
    ['network', 'delete', 'n'],
    ['token', 'revoke', 't'],
  ];
  for (const argv of ways) {
    const ran = await cli(site.socket, argv);
    assert.equal(ran.code, 5, argv.join(' '));
    assert.match(ran.err, /--yes/);
  }
  assert.deepEqual([...new Set(site.asked.map((each) => each.operation))], ['host.show']);
});

test('host remove --lost asks for the name, and --yes is not enough', async (t) => {
  const site = await StandIn.start(t, { 'host.show': () => host('h1'), 'host.remove': () => undefined });
  assert.equal((await cli(site.socket, ['host', 'remove', 'h1', '--lost', '--yes'])).code, 5);
  assert.equal((await cli(site.socket, ['host', 'remove', 'h1', '--lost', '--confirm', 'h2'])).code, 2);
  assert.equal((await cli(site.socket, ['host', 'remove', 'h1', '--lost', '--confirm', 'h1'])).code, 0);
  const removals = site.asked.filter((each) => each.operation === 'host.remove');
  assert.deepEqual(
    removals.map((each) => each.query),
    [{ lost: 'h1' }],
  );
});

test('several guests: one that fails does not hold up the others; exit code 1, both told', async (t) => {
  const guests = new Map(['a', 'b', 'c'].map((name) => [name, guest(name)]));
  const byId = (id: string | undefined): GuestView => [...guests.values()].find((each) => each.id === id) as GuestView;
  const site = await StandIn.start(t, {
    'guest.show': ({ params }) => guests.get(params['guest'] ?? ''),
    'guest.start': ({ params }) => {
      const found = byId(params['guest']);
      if (found.name === 'b') throw new VirgaError('held', { name: 'b', reason: 'forensics' });
      return found.name === 'a' ? { ...found, generation: 2 } : found;
    },
  });
  const ran = await cli(site.socket, ['guest', 'start', 'a', 'b', 'c']);
  assert.equal(ran.code, 1);
  assert.equal(ran.out, 'a is starting\nc is started already\n');
  assert.match(ran.err, /b: The guest "b" is held \(forensics\)/);
  assert.match(ran.err, /2 guests started, 1 not/);
  const json = JSON.parse((await cli(site.socket, ['guest', 'start', 'a', 'b', '--json'])).out) as {
    name: string;
    error?: { code: string };
  }[];
  assert.deepEqual(
    json.map((each) => [each.name, each.error?.code]),
    [
      ['a', undefined],
      ['b', 'held'],
    ],
  );
});

test('guests are meant by name, by label or all; nothing else, and not two ways at once', async (t) => {
  const site = await StandIn.start(t, {
    'guest.list': () => page([guest('x')]),
    'guest.show': () => guest('x'),
    'guest.stop': () => guest('x'),
  });
  assert.equal((await cli(site.socket, ['guest', 'stop'])).code, 2);
  assert.equal((await cli(site.socket, ['guest', 'stop', 'x', '--all'])).code, 2);
  assert.equal((await cli(site.socket, ['guest', 'stop', '-l', 'role=web'])).code, 0);
  assert.equal(site.asked.find((each) => each.operation === 'guest.list')?.query['label'], 'role=web');
});

test('hold wants its reason', async (t) => {
  const site = await StandIn.start(t, {
    'guest.show': () => guest('x'),
    'guest.hold': () => guest('x', { generation: 2 }),
  });
  assert.equal((await cli(site.socket, ['guest', 'hold', 'x'])).code, 2);
  assert.equal((await cli(site.socket, ['guest', 'hold', 'x', '--reason', 'why'])).out, 'x is held\n');
  assert.deepEqual(site.asked.at(-1)?.body, { reason: 'why' });
});

test('guest wait watches, takes up a broken watch where it was, and reads again when that is too old', async (t) => {
  const one = guest('web', { status: { state: 'starting' } });
  const running: GuestView = { ...one, status: { ...one.status, state: 'running' } };
  let watches = 0;
  const site = await StandIn.start(t, {
    'site.status': () => siteStatus({ revision: 40 + watches }),
    'guest.show': () => one,
    'site.watch': ({ headers, query }) => {
      watches += 1;
      if (watches === 1)
        return sse((response) => {
          response.end(`id: 41\n\n${put(42, one)}`);
        });
      if (watches === 2) {
        assert.equal(headers['last-event-id'], '42');
        throw new VirgaError('too_old', { given: 42, oldest: 50, newest: 60 });
      }
      assert.equal(headers['last-event-id'], undefined);
      assert.equal(query['since'], '42', 'watches from the revision that was read anew');
      return sse((response) => response.write(put(61, running)));
    },
  });
  const ran = await cli(site.socket, ['guest', 'wait', 'web', '--timeout', '20s']);
  assert.equal(ran.err.includes('virga:'), false, ran.err);
  assert.equal(ran.code, 0);
  assert.equal(ran.out, 'web is running\n');
  assert.equal(site.asked.filter((each) => each.operation === 'guest.show').length, 2, 'it must not poll');
});

test('guest wait: exit code 4 when the time is over, 1 when the guest failed, 0 when it is gone as wanted', async (t) => {
  const waiting = guest('web', { status: { state: 'starting', stateReason: 'order sent' } });
  const site = await StandIn.start(t, {
    'site.status': () => siteStatus(),
    'guest.show': ({ params }) => {
      if (params['guest'] === 'gone') throw new VirgaError('not_found', { kind: 'guest', name: 'gone' });
      return params['guest'] === 'broken'
        ? guest('broken', { status: { state: 'failed', stateReason: 'no such disk' } })
        : waiting;
    },
    'site.watch': () => sse(() => undefined),
  });
  const late = await cli(site.socket, ['guest', 'wait', 'web', '--timeout', '300ms']);
  assert.equal(late.code, 4);
  assert.match(late.err, /0 of 1 running; web is starting \(order sent\)/);
  const failed = await cli(site.socket, ['guest', 'wait', 'broken']);
  assert.equal(failed.code, 1);
  assert.match(failed.err, /no such disk/);
  assert.equal((await cli(site.socket, ['guest', 'wait', 'gone', '--for', 'deleted'])).code, 0);
  assert.equal((await cli(site.socket, ['guest', 'wait', 'web', '--for', 'nonsense'])).code, 2);
});

test('Ctrl-C ends a wait with exit code 130', async (t) => {
  const site = await StandIn.start(t, {
    'site.status': () => siteStatus(),
    'guest.show': () => guest('web', { status: { state: 'starting' } }),
    'site.watch': () => sse(() => interrupt.abort()),
  });
  const interrupt = new AbortController();
  const ran = await cli(site.socket, ['guest', 'wait', 'web'], { signal: interrupt.signal });
  assert.equal(ran.code, 130);
  assert.match(ran.err, /interrupted/);
});

test('events --follow goes on after the last one it has seen', async (t) => {
  const event = (seq: number) => ({
    seq,
    eventAt: '2026-01-01T00:00:00.000Z',
    type: 'guest.state',
    severity: 'info',
    subject: { kind: 'guest', id: 'x', name: 'web' },
    message: `m${seq}`,
    who: 'virga',
  });
  const frame = (seq: number): string => `event: event\nid: ${seq}\ndata: ${JSON.stringify(event(seq))}\n\n`;
  const done = new AbortController();
  let follows = 0;
  const site = await StandIn.start(t, {
    'site.events': () => ({ items: [event(1)] }),
    'site.follow': ({ query }) => {
      follows += 1;
      if (follows === 2) return cut;
      return sse((response) => {
        if (follows > 1) assert.equal(query['after'], '2');
        if (follows === 1) response.end(frame(2));
        else response.write(frame(3));
      });
    },
  });
  const ran = await cli(site.socket, ['events', '--follow', '--json'], {
    signal: done.signal,
    heard: (out) => {
      if (out.includes('"seq":3')) done.abort();
    },
  });
  assert.deepEqual(
    ran.out
      .trim()
      .split('\n')
      .map((line) => (JSON.parse(line) as { seq: number }).seq),
    [1, 2, 3],
  );
});

test('a token is never taken from the command line', async () => {
  const ran = await cli(undefined, ['context', 'add', 'lab', 'https://127.0.0.1:1', '--token', 'secret']);
  assert.equal(ran.code, 2);
  assert.equal(
    (await cli(undefined, ['context', 'add', 'lab', 'http://127.0.0.1:1'])).code,
    2,
    'tokens travel over https only',
  );
  assert.equal((await cli(undefined, ['backup', 'x', '--passphrase', 'geheim'])).code, 2);
});
