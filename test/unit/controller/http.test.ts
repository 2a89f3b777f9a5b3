/** The server from the route table, without a listener: what is refused before anybody is asked. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import { connect, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { FastifyInstance } from 'fastify';
import { routes, type Operation, type Route } from '../../../src/api/routes.ts';
import { VirgaError } from '../../../src/core/errors.ts';
import { virga, Access } from '../../../src/controller/http/access.ts';
import { Metrics } from '../../../src/controller/http/metrics.ts';
import { parseRange } from '../../../src/controller/http/range.ts';
import { allHandlers, buildServer } from '../../../src/controller/http/server.ts';
import type { Services } from '../../../src/controller/http/services.ts';
import { parseKinds, startOf, watchText } from '../../../src/controller/http/sse.ts';
import { parseListen } from '../../../src/controller/http/listen.ts';
import { validatorOf } from '../../../src/controller/http/validate.ts';
import { ImageWork } from '../../../src/controller/image-work.ts';
import { openImageFiles } from '../../../src/controller/images/service.ts';
import { Links } from '../../../src/controller/links.ts';
import { Loop } from '../../../src/controller/loop.ts';
import { Streams } from '../../../src/controller/streams.ts';
import { durableFiles } from '../../../src/effects/files.ts';
import { sandboxedQemuImg } from '../../../src/effects/qemu-img.ts';
import { aNetwork } from '../core/kit.ts';
import { change, ids, quiet, siteId, world } from './kit.ts';
import { alone } from './alone.ts';

let folder: string;
let services: Services;
let app: FastifyInstance;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'virga-http-'));
  const { clock, store, state } = world();
  await state.change(() => change([aNetwork('lan')]));
  const shared = { clock, ids, log: quiet };
  const loop = new Loop({ state, clock, log: quiet });
  const links = new Links({ loop, clock, log: quiet, siteId: () => siteId, version: 'test', ...alone });
  const records = durableFiles(folder);
  const files = await openImageFiles({ folder }, { tool: sandboxedQemuImg(), records, clock, log: quiet });
  services = {
    ...shared,
    version: 'test',
    startedAt: clock.now(),
    state,
    store,
    loop,
    links,
    streams: new Streams({ links, ...shared }),
    files,
    images: new ImageWork({ state, files, ...shared, actor: virga }),
    access: new Access({ state, clock, log: quiet }),
    metrics: new Metrics(),
    authority: () => {
      throw new VirgaError('not_leading');
    },
    agentUrls: () => [],
    storedImages: async () => [],
    backup: () => Promise.reject(new VirgaError('not_leading')),
  };
  ({ app } = await buildServer(services));
});
after(async () => {
  await app.close();
  await services.images.close();
  await rm(folder, { recursive: true, force: true });
});

const upgraded: readonly string[] = Object.entries(routes as Record<string, Route>)
  .filter(([, route]) => route.stream === 'websocket')
  .map(([operation]) => operation);

test('every route has a handler; those of WebSockets are served as upgrades', () => {
  const served = [...Object.keys(allHandlers(services)), ...upgraded];
  assert.deepEqual(served.sort(), Object.keys(routes).sort());
  assert.deepEqual(upgraded, ['guest.follow', 'guest.console']);
});

test('every route that is not open refuses who cannot say who they are', async () => {
  for (const [operation, route] of Object.entries(routes) as [Operation, Route][]) {
    if (upgraded.includes(operation)) continue;
    const url = route.path.replaceAll(/\{\w+\}/g, 'x');
    const answer = await app.inject({ method: route.method, url, ...(route.body ? { payload: {} } : {}) });
    if (route.open === true) assert.ok([200, 503].includes(answer.statusCode), operation);
    else assert.equal(answer.statusCode, 401, operation);
  }
});

test('what changes something needs the role for it', () => {
  for (const [operation, route] of Object.entries(routes) as [Operation, Route][]) {
    if (route.method === 'GET' || route.method === 'HEAD') continue;
    assert.equal(route.change, true, operation);
    assert.notEqual(route.open, true, operation);
  }
});

const refusal = (wanted: string, call: () => unknown, pattern = /./): void => {
  assert.throws(
    call,
    (error: unknown) => error instanceof VirgaError && error.code === wanted && pattern.test(error.message),
  );
};

test('bodies are taken as they are, queries are coerced', () => {
  const list = validatorOf(routes['guest.list']);
  const query = { limit: '5' } as Record<string, unknown>;
  list.query(query);
  assert.equal(query['limit'], 5);
  refusal('invalid_request', () => list.query({ limit: 'many' }));
  refusal('invalid_request', () => list.query({ limit: ['1', '2'] }));
  refusal('invalid_request', () => list.query({ x: '1' }), /no field "x"/);
  const create = validatorOf(routes['network.create']);
  create.body({ name: 'lan', mode: 'nat' });
  refusal('invalid_request', () => create.body({ name: 'lan', mode: 'nat', mtu: '1500' }), /mtu/);
  refusal('invalid_request', () => create.body({ name: 'lan', mode: 'star' }), /bridge, nat/);
  refusal('invalid_request', () => create.body(undefined));
  refusal('invalid_name', () => create.body({ name: 'Lan!', mode: 'nat' }), /"Lan!" is not a valid network name/);
  refusal('invalid_request', () => validatorOf(routes['guest.show']).body({ x: 1 }));
});

test('a body that does not come is not waited for, also where nobody is known yet', async () => {
  const { app: slow, listener } = await buildServer(services, { bodyMs: 50 });
  const server = createServer(listener);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const socket = connect((server.address() as AddressInfo).port, '127.0.0.1');
  socket.on('error', () => undefined);
  try {
    socket.write('POST /agent/v1/join HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n');
    socket.write('Content-Length: 100\r\n\r\n{');
    await once(socket.resume(), 'close', { signal: AbortSignal.timeout(5000) });
  } finally {
    socket.destroy();
    server.close();
    await slow.close();
  }
});

test('one range of bytes is understood, everything else is the whole', () => {
  assert.deepEqual(parseRange('bytes=0-3', 10), { start: 0, end: 3 });
  assert.deepEqual(parseRange('bytes=4-', 10), { start: 4 });
  assert.deepEqual(parseRange('bytes=-4', 10), { start: 6 });
  assert.deepEqual(parseRange('bytes=-40', 10), { start: 0 });
  for (const whole of [undefined, '', 'bytes=-', 'bytes=5-3', 'bytes=0-1,3-4', 'lines=1-2'])
    assert.equal(parseRange(whole, 10), undefined);
});

test('the id stands on the last event of a revision only', () => {
  const [a, b, c] = [aNetwork('a'), aNetwork('b'), aNetwork('c')];
  const text = [
    ...watchText([
      { type: 'put', revision: 5, resource: a },
      { type: 'put', revision: 5, resource: b },
      { type: 'gone', revision: 6, tombstone: { kind: 'network', id: c.id, name: 'c', revision: 6 } },
    ]),
  ].join('');
  const events = text.split('\n\n').filter((each) => each !== '');
  assert.deepEqual(
    events.map((each) => /id: (\d+)/.exec(each)?.[1]),
    [undefined, '5', '6'],
  );
  assert.match(events[2] ?? '', /^event: delete\n/);
});

test('where a stream goes on, and what it shows, is checked', () => {
  assert.equal(startOf('7', 3), 7);
  assert.equal(startOf(undefined, 3), 3);
  refusal('invalid_request', () => startOf('seven', 3));
  assert.deepEqual([...parseKinds('guest, host')], ['guest', 'host']);
  refusal('invalid_request', () => parseKinds('guest,stone'), /stone/);
});

test('addresses to listen on', () => {
  assert.deepEqual(parseListen('127.0.0.1:8443'), { host: '127.0.0.1', port: 8443 });
  assert.deepEqual(parseListen('[::1]:0'), { host: '::1', port: 0 });
  assert.deepEqual(parseListen(':8443'), { host: '', port: 8443 });
  assert.deepEqual(parseListen('fd:3'), { fd: 3 });
  for (const bad of ['8443', 'a:b', 'host:70000', '::1:80', '']) refusal('usage', () => parseListen(bad));
});
