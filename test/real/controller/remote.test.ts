/** What comes over TLS: people with tokens, agents with certificates; and what is refused there. */
import assert from 'node:assert/strict';
import { createHash, X509Certificate } from 'node:crypto';
import { request as httpRequest } from 'node:http';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join as path } from 'node:path';
import { after, before, test } from 'node:test';
import { openClient } from '../../../src/api/client.ts';
import type { AnyResource } from '../../../src/core/model/snapshot.ts';
import { Authority } from '../../../src/controller/ca.ts';
import { ask, join, makeKeys, ScriptedAgent, type Identity } from './agent.ts';
import { code, makeImage, site, until, type Site } from './kit.ts';

let here: Site;
let ca: string;
let identity: Identity;
let agent: ScriptedAgent;

before(async () => {
  here = await site({ silentAfterMs: 60_000 });
  ca = (await ask(here.url, '/agent/v1/ca')).body;
});
after(async () => {
  agent?.close();
  await here.stop();
});

const codeOf = (answer: { readonly body: string }): string =>
  (JSON.parse(answer.body) as { error: { code: string } }).error.code;

test('the certificate is of the site’s authority, and names where it listens', async () => {
  const authority = new X509Certificate(ca);
  assert.equal(authority.ca, true);
  assert.equal((await ask(here.url, '/healthz', { ca })).body, 'ok\n');
  const port = here.controller.ports[0];
  assert.equal((await ask(`https://localhost:${port}`, '/healthz', { ca })).status, 200);
});

test('without a token nothing but the open pages is answered', async () => {
  for (const open of ['/healthz', '/readyz', '/openapi.json', '/reference', '/agent/v1/ca'])
    assert.equal((await ask(here.url, open, { ca })).status, 200, open);
  for (const closed of ['/v1/status', '/v1/guests', '/metrics', '/v1/watch'])
    assert.equal((await ask(here.url, closed, { ca })).status, 401, closed);
  const bad = { authorization: `Bearer vgt1.${'0'.repeat(8)}-0000-0000-0000-${'0'.repeat(12)}.${'a'.repeat(43)}` };
  assert.equal(codeOf(await ask(here.url, '/v1/status', { ca, headers: bad })), 'unauthenticated');
});

test('tokens: admin does everything, read only looks, an expired or revoked one nothing', async () => {
  const make = async (name: string, role: 'admin' | 'read'): Promise<string> =>
    (await here.client.call('token.create', { body: { name, role } })).secret;
  const admin = openClient({ url: here.url, token: await make('chief', 'admin'), ca });
  const reader = openClient({ url: here.url, token: await make('reader', 'read'), ca });
  try {
    const made = await admin.call('network.create', { body: { name: 'lan', mode: 'bridge', bridge: 'br0' } });
    assert.equal(made.owner, 'token:chief');
    assert.equal((await reader.call('network.list')).items.length, 1);
    await assert.rejects(reader.call('network.delete', { params: { network: 'lan' } }), code('forbidden'));
    await assert.rejects(reader.call('token.list'), code('forbidden'));
    await assert.rejects(here.client.call('network.delete', { params: { network: 'lan' } }), code('reason_required'));
    await until('its use was noted', async () => {
      const { items } = await here.client.call('token.list');
      return items.some((each) => each.name === 'chief' && each.status.lastUsedAt !== undefined);
    });
    assert.ok(!JSON.stringify(await here.client.call('token.list')).includes('secretHash'));
    const { state } = here.controller.services;
    await state.change((snapshot) => {
      const token = snapshot.byName('token', 'reader');
      if (!token) throw new Error('no such token');
      const old: AnyResource = { ...token, spec: { ...token.spec, expiresAt: Date.now() - 1000 } };
      return { change: { put: [old], remove: [], events: [] } };
    });
    await assert.rejects(reader.call('network.list'), code('token_expired'));
    await here.client.call('token.revoke', { params: { token: 'chief' } });
    await assert.rejects(admin.call('network.list'), code('unauthenticated'));
  } finally {
    await admin.close();
    await reader.close();
  }
});

test('an invitation works once, pins the site, and makes a host', async () => {
  const { secret, urls } = await here.client.call('host.invite', { body: { hostName: 'alpha' } });
  assert.deepEqual(urls, [here.url]);
  assert.equal(secret.split('.')[2], createHash('sha256').update(new X509Certificate(ca).raw).digest('hex'));
  identity = await join(here.url, secret, 'whatever');
  assert.equal(identity.hostName, 'alpha');
  const certificate = new X509Certificate(identity.certificate);
  assert.ok(certificate.verify(new X509Certificate(ca).publicKey));
  assert.match(certificate.subject, new RegExp(`CN=${identity.hostId}`));
  await assert.rejects(join(here.url, secret, 'beta'), /invite_invalid/);
  const other = secret.replace(/[0-9a-f]{64}$/, 'f'.repeat(64));
  await assert.rejects(join(here.url, other, 'beta'), /invite_invalid/);
  const host = await here.client.call('host.show', { params: { host: 'alpha' } });
  assert.equal(host.status.state, 'invited');
  assert.equal(host.status.certificate?.serial.toUpperCase(), certificate.serialNumber);
});

test('a certificate of another site, none, or one of a removed host is refused', async () => {
  const renew = async (who?: Pick<Identity, 'certificate' | 'key'>) =>
    ask(here.url, '/agent/v1/renew', { ca, identity: who, body: { csr: (await makeKeys()).csr } });
  assert.equal(codeOf(await renew()), 'certificate_refused');
  const folder = await mkdtemp(path(tmpdir(), 'virga-other-'));
  try {
    const theirs = await Authority.create(folder, '11111111-1111-4111-8111-111111111111', 'other', Date.now());
    const keys = await makeKeys();
    const foreign = await theirs.signHost(keys.csr, identity.hostId, Date.now());
    const answer = await renew({ certificate: foreign.certificate, key: keys.key });
    assert.equal(answer.status, 403);
    assert.equal(codeOf(answer), 'certificate_refused');
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
  const { secret } = await here.client.call('host.invite', { body: { hostName: 'gone' } });
  const gone = await join(here.url, secret, 'gone');
  await here.client.call('host.remove', { params: { host: 'gone' } });
  assert.equal(codeOf(await renew(gone)), 'certificate_refused');
  const renewed = await renew(identity);
  assert.equal(renewed.status, 200);
  assert.notEqual((JSON.parse(renewed.body) as { certificate: string }).certificate, identity.certificate);
});

test('an agent of another version is told so', async () => {
  const stranger = new ScriptedAgent(here.url, identity);
  await stranger.hello(7, 9);
  const refused = await stranger.message('refused');
  assert.equal(refused['code'], 'protocol_mismatch');
  await until('the link is closed', () => stranger.closed);
});

test('an agent links, reports, and is given what it should run', { timeout: 60_000 }, async () => {
  agent = new ScriptedAgent(here.url, identity);
  await agent.hello(1, 2);
  assert.equal((await agent.message('welcome'))['protocol'], 1);
  await agent.message('assignment');
  agent.report();
  await until('the host is online', async () => {
    return (await here.client.call('host.show', { params: { host: 'alpha' } })).status.state === 'online';
  });
  await addImage('tiny');
  const { items } = await here.client.call('guest.run', {
    body: { image: 'tiny', name: 'web', count: 2, memoryMiB: 128, networks: [] },
  });
  assert.deepEqual(
    items.map((each) => each.name),
    ['web-1', 'web-2'],
  );
  await until('the order arrives', () => agent.assignment()?.guests.length === 2);
  assert.equal((await here.client.call('guest.show', { params: { guest: 'web-1' } })).status.state, 'starting');
  agent.reportRunning();
  await until('it is shown as running', async () => {
    return (await here.client.call('guest.show', { params: { guest: 'web-1' } })).status.state === 'running';
  });
  const explained = await here.client.call('guest.explain', { params: { guest: 'web-1' } });
  assert.equal(explained.host, 'alpha');
});

test('a malformed or foreign report changes nothing', async () => {
  const before = (await here.client.call('host.show', { params: { host: 'alpha' } })).revision;
  agent.send({ type: 'report', report: { hostId: identity.hostId, guests: 'many' } });
  agent.send({ type: 'nonsense' });
  // The answer to a question asked afterwards shows that both were read.
  const log = here.client.raw('guest.log', { params: { guest: 'web-1' } });
  const question = await agent.message('ask');
  agent.send({
    type: 'answer',
    id: question['id'],
    ok: true,
    value: { text: 'hello\n', truncated: false, more: 1 },
  });
  assert.equal(await (await log).body.text(), 'hello\n');
  assert.equal((await here.client.call('host.show', { params: { host: 'alpha' } })).revision, before);
  agent.received.splice(0, agent.received.length, ...agent.received.filter((each) => each.type !== 'ask'));
});

test('a console carries bytes both ways, and is refused where it cannot be', async () => {
  const echo = agent.echo();
  const socket = here.client.websocket('guest.console', { guest: 'web-1' });
  await new Promise((resolve, reject) => {
    socket.once('open', resolve);
    socket.once('error', reject);
  });
  const heard: string[] = [];
  socket.on('message', (data: Buffer) => heard.push(data.toString()));
  socket.send(Buffer.from('ls\n'));
  await until('the echo arrives', () => heard.join('') === 'LS\n');
  const theirs = await echo;
  socket.close();
  await until('the agent’s side closes, too', () => theirs.readyState === theirs.CLOSED);
  const none = here.client.websocket('guest.console', { guest: 'nobody' });
  const status = await new Promise((resolve) => {
    none.once('unexpected-response', (_request, answer) => resolve(answer.statusCode));
    none.once('error', () => undefined);
  });
  assert.equal(status, 404);
});

test('what a token opened ends when it is revoked; a handshake that fails leaves nothing open', async () => {
  agent.received.splice(0, agent.received.length, ...agent.received.filter((each) => each.type !== 'ask'));
  const { secret } = await here.client.call('token.create', { body: { name: 'brief', role: 'admin' } });
  const brief = openClient({ url: here.url, token: secret, ca });
  try {
    const echo = agent.echo();
    const socket = brief.websocket('guest.console', { guest: 'web-1' });
    socket.on('error', () => undefined);
    const theirs = await echo;
    await until('the console opens', () => socket.readyState === socket.OPEN);
    const watching = (async () => {
      for await (const event of brief.follow('site.watch')) assert.ok(event);
    })().catch(() => 'cut');
    await here.client.call('token.revoke', { params: { token: 'brief' }, reason: 'test' });
    await until('the console is cut', () => socket.readyState === socket.CLOSED);
    await until('the agent’s side closes', () => theirs.readyState === theirs.CLOSED);
    await watching;
  } finally {
    await brief.close();
  }
  agent.received.splice(0, agent.received.length, ...agent.received.filter((each) => each.type !== 'ask'));
  const half = agent.echo();
  const { socketPath } = here.controller;
  const headers = {
    connection: 'Upgrade',
    upgrade: 'websocket',
    'sec-websocket-key': 'short',
    'sec-websocket-version': '13',
  };
  const broken = httpRequest({ socketPath, path: '/v1/guests/web-1/console', headers });
  broken.on('error', () => undefined).end();
  const left = await half;
  await until('the agent’s side is not left open', () => left.readyState === left.CLOSED);
});

test('the host fetches the image, whole or from where it stopped', async () => {
  const image = await here.client.call('image.show', { params: { image: 'tiny' } });
  const digest = image.status.stored?.sha512 ?? '';
  assert.equal((await ask(here.url, `/agent/v1/images/${digest}`, { ca })).status, 403);
  const whole = await ask(here.url, `/agent/v1/images/${digest}`, { ca, identity });
  assert.equal(whole.status, 200);
  assert.equal(Number(whole.headers['content-length']), image.status.stored?.sizeBytes);
  const part = await ask(here.url, `/agent/v1/images/${digest}`, { ca, identity, headers: { range: 'bytes=0-3' } });
  assert.equal(part.status, 206);
  assert.equal(part.body, 'QFI\u{fffd}');
  assert.equal((await ask(here.url, `/agent/v1/images/${'0'.repeat(128)}`, { ca, identity })).status, 404);
});

/** Uploads in two parts with a break in between, finishes, waits until it is ready. */
async function addImage(name: string): Promise<void> {
  const file = path(here.database.work, `${name}.qcow2`);
  await makeImage(file);
  const bytes = await readFile(file);
  const params = { image: name };
  await here.client.call('image.add', { body: { name, format: 'qcow2', sizeBytes: bytes.length } });
  const upload = async (from: number, to: number) => {
    const options = { params, bytes: bytes.subarray(from, to), headers: { 'upload-offset': String(from) } };
    await (await here.client.raw('image.upload', options)).body.dump();
  };
  await upload(0, 1000);
  await assert.rejects(upload(5000, 6000), code('upload_offset'));
  await assert.rejects(here.client.call('image.finish', { params, body: {} }), code('upload_size'));
  const head = await here.client.raw('image.offset', { params });
  assert.equal(head.headers['upload-offset'], '1000');
  await assert.rejects(here.client.raw('image.offset', { params: { image: 'none' } }), code('not_found'));
  await upload(1000, bytes.length);
  await assert.rejects(here.client.call('image.finish', { params, body: {}, ifMatch: 1 }), code('stale'));
  await here.client.call('image.finish', { params, body: {} });
  await until('the image is ready', async () => {
    const { status } = await here.client.call('image.show', { params });
    if (status.state === 'failed') throw new Error(status.error?.message);
    return status.state === 'ready';
  });
}
