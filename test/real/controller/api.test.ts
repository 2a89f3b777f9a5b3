/** The API over the unix socket, with a real database. */
import assert from 'node:assert/strict';
import { request as httpRequest } from 'node:http';
import { connect } from 'node:net';
import { after, before, test } from 'node:test';
import type { ServerEvent } from '../../../src/api/sse.ts';
import { code, site, until, type Site } from './kit.ts';

let here: Site;
before(async () => {
  here = await site();
});
after(async () => here.stop());

interface RawAnswer {
  readonly status: number;
  readonly body: string;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
}

/** A request that the typed client would not make. */
async function raw(
  method: string,
  path: string,
  headers: Record<string, string> = {},
  write?: (send: (chunk: Buffer) => boolean) => void,
): Promise<RawAnswer> {
  return new Promise((resolve, reject) => {
    const request = httpRequest({ socketPath: here.controller.socketPath, method, path, headers }, (answer) => {
      let body = '';
      answer.on('data', (chunk: Buffer) => {
        body += chunk.toString();
      });
      answer.on('end', () => resolve({ status: answer.statusCode ?? 0, body, headers: answer.headers }));
      answer.on('error', reject);
    });
    request.on('error', reject);
    write?.((chunk) => request.write(chunk));
    request.end();
  });
}
const json = (body: unknown) => (send: (chunk: Buffer) => boolean) => {
  send(Buffer.from(typeof body === 'string' ? body : JSON.stringify(body)));
};
const jsonHeaders = { 'content-type': 'application/json' };
const codeOf = (answer: RawAnswer): string => (JSON.parse(answer.body) as { error: { code: string } }).error.code;

const network = (name: string) => ({ name, mode: 'bridge' as const, bridge: 'br0' });

test('what was created is there, shown with its ETag, and in the record with its reason', async () => {
  const made = await here.client.call('network.create', { body: network('lan'), reason: 'für das Praktikum' });
  assert.equal(made.owner, 'local:root');
  const answer = await here.client.raw('network.show', { params: { network: 'lan' } });
  assert.equal(answer.headers['etag'], `"${made.revision}"`);
  assert.deepEqual(await answer.body.json(), made);
  assert.deepEqual(await here.client.call('network.show', { params: { network: made.id } }), made);
  const { items } = await here.client.call('site.events', { query: { subject: 'lan' } });
  assert.equal(items[0]?.reason, 'für das Praktikum');
  assert.equal(items[0]?.who, 'local:root');
  await assert.rejects(here.client.call('network.create', { body: network('lan') }), code('name_taken'));
});

test('wrong input is refused with its own error, before anything is written', async () => {
  const before = (await here.client.call('site.status')).revision;
  const post = async (body: unknown, path = '/v1/networks') => raw('POST', path, jsonHeaders, json(body));
  assert.equal(codeOf(await post({ ...network('Bad_Name') })), 'invalid_name');
  assert.equal(codeOf(await post({ ...network('x'.repeat(64)) })), 'invalid_name');
  const unknown = await post({ ...network('a'), colour: 'red' });
  assert.equal(codeOf(unknown), 'invalid_request');
  assert.match(unknown.body, /no field \\"colour\\"/);
  assert.equal(codeOf(await post({ ...network('a'), mtu: '1500' })), 'invalid_request');
  assert.equal(codeOf(await post('{"name":')), 'invalid_request');
  assert.equal(codeOf(await post('{"__proto__":{"x":1},"name":"a","mode":"nat"}')), 'invalid_request');
  assert.equal(
    codeOf(await raw('POST', '/v1/networks', { 'content-type': 'text/plain' }, json('x'))),
    'invalid_request',
  );
  assert.equal(codeOf(await raw('POST', '/v1/networks')), 'invalid_request');
  assert.equal(codeOf(await raw('GET', '/v1/guests?colour=red')), 'invalid_request');
  assert.equal(codeOf(await raw('GET', '/v1/guests?limit=0')), 'invalid_request');
  assert.equal(codeOf(await raw('GET', '/v1/guests?cursor=zzz')), 'invalid_request');
  assert.equal(codeOf(await raw('GET', '/v1/networks/none')), 'not_found');
  assert.equal(codeOf(await raw('GET', '/v1/nothing')), 'route_not_found');
  assert.equal(codeOf(await raw('GET', '/v1/networks/%zz')), 'invalid_request');
  assert.equal(
    codeOf(await raw('POST', '/v1/networks', { ...jsonHeaders, 'virga-reason': '%zz' }, json(network('a')))),
    'invalid_request',
  );
  assert.equal((await here.client.call('site.status')).revision, before);
});

test('what is no HTTP is refused in the same form', async () => {
  const say = async (text: string): Promise<string> => {
    const socket = connect(here.controller.socketPath);
    socket.on('error', () => undefined).write(text);
    let heard = '';
    for await (const chunk of socket.setEncoding('utf8')) heard += chunk;
    return heard;
  };
  for (const text of ['HELO there\r\n\r\n', `GET / HTTP/1.1\r\nx: ${'y'.repeat(20_000)}\r\n\r\n`]) {
    const [head = '', body = ''] = (await say(text)).split('\r\n\r\n');
    assert.match(head, /^HTTP\/1\.1 400 /);
    assert.equal(codeOf({ status: 400, body, headers: {} }), 'invalid_request');
  }
  for (const method of ['OPTIONS', 'PUT', 'TRACE'])
    assert.equal(codeOf(await raw(method, '/v1/guests')), 'route_not_found');
  assert.equal((await raw('HEAD', '/v1/guests')).status, 404);
});

test('100 MB of JSON are refused without being kept', async () => {
  const before = process.memoryUsage.rss();
  const chunk = Buffer.alloc(1024 * 1024, 0x20);
  const announced = { ...jsonHeaders, 'content-length': String(100 * chunk.length) };
  for (const headers of [announced, { ...jsonHeaders, 'transfer-encoding': 'chunked' }]) {
    const answer = await raw('POST', '/v1/networks', headers, (send) => {
      for (let count = 0; count < 100; count += 1) send(chunk);
    });
    assert.equal(answer.status, 413);
    assert.equal(codeOf(answer), 'body_too_large');
  }
  // The 100 chunks are one piece of memory; a copy of the body would be 100 MB.
  assert.ok(process.memoryUsage.rss() - before < 80 * 1024 * 1024);
  assert.equal((await raw('GET', '/healthz')).body, 'ok\n');
  const body = { name: 'a', mode: 'bridge' as const, bridge: 'x'.repeat(100 * 1024 * 1024) };
  await assert.rejects(here.client.call('network.create', { body }), code('body_too_large'));
});

test('an idempotency key stands for one request', async () => {
  const options = { body: network('once'), idempotencyKey: 'key-1' };
  const first = await here.client.call('network.create', options);
  assert.deepEqual(await here.client.call('network.create', options), first);
  await assert.rejects(
    here.client.call('network.create', { body: network('other'), idempotencyKey: 'key-1' }),
    code('idempotency_mismatch'),
  );
  await here.restart();
  assert.deepEqual(await here.client.call('network.create', options), first);
  const twice = { body: network('race'), idempotencyKey: 'key-2' };
  const both = await Promise.all([
    here.client.call('network.create', twice),
    here.client.call('network.create', twice),
  ]);
  assert.equal(both[0].id, both[1].id);
  const invite = { body: {}, idempotencyKey: 'key-3' };
  const secret = (await here.client.call('host.invite', invite)).secret;
  assert.equal((await here.client.call('host.invite', invite)).secret, secret);
});

test('a change of what has moved on since is refused', async () => {
  const made = await here.client.call('token.create', { body: { name: 'stale' } });
  const seen = made.token.revision;
  await assert.rejects(
    here.client.call('token.revoke', { params: { token: 'stale' }, ifMatch: seen + 1 }),
    code('stale'),
  );
  assert.equal(codeOf(await raw('DELETE', '/v1/tokens/stale', { 'if-match': '"abc"' })), 'stale');
  await here.client.call('token.revoke', { params: { token: 'stale' }, ifMatch: seen });
  await assert.rejects(here.client.call('token.revoke', { params: { token: 'stale' } }), code('not_found'));
});

async function collect(
  events: AsyncIterable<ServerEvent>,
  enough: (seen: ServerEvent[]) => boolean,
): Promise<ServerEvent[]> {
  const seen: ServerEvent[] = [];
  for await (const event of events) {
    seen.push(event);
    if (enough(seen)) break;
  }
  return seen;
}
const nameIn = (event: ServerEvent): string => {
  const data = JSON.parse(event.data) as { name?: string; object?: { name: string } };
  return data.object?.name ?? data.name ?? '';
};

test('a watch resumes after a break and misses nothing', async () => {
  const { revision } = await here.client.call('site.status');
  const names = ['w-1', 'w-2', 'w-3'];
  for (const name of names) await here.client.call('network.create', { body: network(name) });
  const first = await collect(
    here.client.follow('site.watch', { query: { since: revision, kinds: 'network' } }),
    (seen) => seen.length === 2,
  );
  assert.deepEqual(first.map(nameIn), ['w-1', 'w-2']);
  await here.client.call('network.delete', { params: { network: 'w-3' } });
  await here.client.call('network.create', { body: network('w-4') });
  await here.restart();
  const rest = await collect(
    here.client.follow('site.watch', { lastEventId: first.at(-1)?.id ?? '', query: { kinds: 'network' } }),
    (seen) => seen.length === 2,
  );
  assert.deepEqual(
    rest.map((each) => [each.event, nameIn(each)]),
    [
      ['delete', 'w-3'],
      ['put', 'w-4'],
    ],
  );
  const live = collect(
    here.client.follow('site.watch', { lastEventId: rest.at(-1)?.id ?? '' }),
    (seen) => seen.length === 1,
  );
  await here.client.call('network.create', { body: network('w-5') });
  assert.deepEqual((await live).map(nameIn), ['w-5']);
  await assert.rejects(
    collect(here.client.follow('site.watch', { query: { since: 10_000_000 } }), () => true),
    code('too_old'),
  );
  await assert.rejects(
    collect(here.client.follow('site.watch', { query: { kinds: 'stone' } }), () => true),
    code('invalid_request'),
  );
});

test('the record can be followed, and resumes by number', async () => {
  const { items } = await here.client.call('site.events', { query: { limit: 1 } });
  const start = items.at(-1)?.seq ?? 0;
  const live = collect(here.client.follow('site.follow', { query: { after: start } }), (seen) => seen.length === 2);
  await here.client.call('network.create', { body: network('f-1') });
  await here.client.call('network.create', { body: network('f-2') });
  const seen = await live;
  assert.deepEqual(
    seen.map((each) => Number(each.id)),
    [start + 1, start + 2],
  );
  await here.restart();
  const again = await collect(
    here.client.follow('site.follow', { lastEventId: String(start + 1) }),
    (each) => each.length === 1,
  );
  assert.equal(again[0]?.id, seen[1]?.id);
});

test('lists go by pages', async () => {
  for (const name of ['p-1', 'p-2', 'p-3']) await here.client.call('network.create', { body: network(name) });
  const names: string[] = [];
  let cursor: string | undefined;
  do {
    const page = await here.client.call('network.list', {
      query: { limit: 2, name: 'p-', ...(cursor === undefined ? {} : { cursor }) },
    });
    names.push(...page.items.map((each) => each.name));
    cursor = page.next;
  } while (cursor !== undefined);
  assert.deepEqual(names, ['p-1', 'p-2', 'p-3']);
});

test('health, metrics, reference and document are served', async () => {
  assert.equal((await raw('GET', '/readyz')).status, 200);
  const metrics = await raw('GET', '/metrics');
  for (const name of [
    'virga_leading 1',
    'virga_store_up 1',
    'virga_commit_seconds_count',
    'virga_http_request_seconds_bucket',
  ])
    assert.ok(metrics.body.includes(name), name);
  const page = await raw('GET', '/reference');
  assert.match(String(page.headers['content-security-policy']), /default-src 'none'/);
  assert.match(page.body, /\/v1\/guests/);
  assert.equal((JSON.parse((await raw('GET', '/openapi.json')).body) as { openapi: string }).openapi, '3.1.0');
});

test('a backup is streamed, and leaves no file', async () => {
  const plain = await here.client.raw('site.backup', { body: {} });
  assert.equal(plain.headers['virga-secrets-left-out'], 'ca.pem,ca.key');
  assert.equal((await plain.body.bytes()).length, Number(plain.headers['content-length']));
  const sealed = await here.client.raw('site.backup', { body: { passphrase: 'correct horse' } });
  assert.equal(sealed.headers['virga-secrets-left-out'], '');
  assert.match(Buffer.from(await sealed.body.bytes()).toString('latin1', 0, 30), /^age-encryption\.org/);
  const { readdir } = await import('node:fs/promises');
  const folder = `${here.database.work}/controller/download`;
  await until('the file is removed', async () => (await readdir(folder)).length === 0);
});
