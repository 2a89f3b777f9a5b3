/** What an agent may send is judged, whatever it is; over a real WebSocket on the loopback. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { after, before, beforeEach, test } from 'node:test';
import { WebSocket, WebSocketServer } from 'ws';
import { maxMessageBytes, type ToAgent } from '../../../src/api/link.ts';
import { Links } from '../../../src/controller/links.ts';
import type { Assignment, HostReport } from '../../../src/core/model/assignment.ts';
import { systemClock } from '../../../src/effects/clock.ts';
import type { HostLink, Log } from '../../../src/ports.ts';
import { aHost } from '../core/kit.ts';
import { siteId } from './kit.ts';

const host = aHost('alpha');
const session = { number: 1, id: '00000000-0000-0000-0000-00000000000a' };
const hello = { type: 'hello', agentVersion: 't', protocolMin: 1, protocolMax: 1, session };
const report: HostReport = {
  hostId: host.id,
  session,
  agentVersion: 't',
  protocol: 1,
  observedAt: 1,
  sequence: 7,
  assignmentGeneration: 0,
  assignmentEpoch: 0,
  network: { bridges: [] },
  measured: { cpus: 1, memoryMiB: 1, diskMiB: 1 },
  used: { cpuPercent: 0, memoryMiB: 0, diskMiB: 0 },
  guests: [],
  gone: [],
  foreign: [],
  strays: [],
  images: [],
  networkProblems: [],
  problems: [],
};

let server: Server;
let links: Links;
let attached: HostLink[];
let detached: HostLink[];
let reports: HostReport[];
let epoch: number | undefined;
let known = true;
const controllerId = '00000000-0000-4000-8000-0000000000c0';
let said: string[];
const log: Log = {
  debug() {},
  info() {},
  warn: (message) => void said.push(message),
  error: (message) => void said.push(message),
  child: () => log,
};

before(async () => {
  const sockets = new WebSocketServer({ noServer: true });
  server = createServer().on('upgrade', (request, socket, head) => {
    sockets.handleUpgrade(request, socket, head, (accepted) => links.accept(accepted, host.id));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
});
after(() => {
  server.closeAllConnections();
  server.close();
});
beforeEach(() => {
  attached = [];
  detached = [];
  reports = [];
  said = [];
  const loop = {
    attach: (link: HostLink) => void attached.push(link),
    detach: (link: HostLink) => void detached.push(link),
    report: (_id: string, each: HostReport) => void reports.push(each),
  };
  epoch = 1;
  known = true;
  links = new Links({
    loop,
    clock: systemClock,
    log,
    siteId: () => siteId,
    version: 't',
    epoch: () => epoch,
    host: (id) => (known && id === host.id ? host : undefined),
    controllerId,
    controllers: () => ['https://one.example:7443', 'https://two.example:7443'],
    leader: () => 'https://two.example:7443',
  });
});

/** An agent that has said `first`; `next` gives what it is told, in order. */
async function agent(first: object) {
  const socket = new WebSocket(`ws://127.0.0.1:${(server.address() as AddressInfo).port}`, { maxPayload: 0 });
  const told: ToAgent[] = [];
  let wake = (): void => {};
  socket.on('message', (data: Buffer) => {
    told.push(JSON.parse(data.toString()) as ToAgent);
    wake();
  });
  await once(socket, 'open', { signal: AbortSignal.timeout(5000) });
  const send = (message: unknown): void => socket.send(JSON.stringify(message));
  const until = async (check: () => boolean): Promise<void> => {
    const limit = AbortSignal.timeout(5000);
    while (!check()) {
      const rung = new Promise<void>((resolve) => {
        wake = resolve;
      });
      const late = once(limit, 'abort').then(() => assert.fail('nothing came'));
      await Promise.race([rung, late]);
    }
  };
  send(first);
  return { socket, told, send, until };
}

/** Everything sent before was read when the answer to a question is. */
async function settled({ send, told, until }: Awaited<ReturnType<typeof agent>>): Promise<void> {
  const before = told.length;
  const asked = links.ask(host, { ask: 'destroy-stray', guestId: host.id });
  await until(() => told.length > before);
  const question = told.findLast((each) => each.type === 'ask');
  send({ type: 'answer', id: question?.type === 'ask' ? question.id : 0, ok: true });
  await asked;
}

test('messages that are nothing of ours change nothing and end nothing', async () => {
  const one = await agent(hello);
  await one.until(() => one.told.length === 1);
  for (const strange of [null, 5, 'x', [], {}, { type: 7 }, { type: null }, { type: { toString: 1, valueOf: 1 } }])
    one.send(strange);
  one.socket.send('{');
  one.send({ type: 'report', report: { guests: 'many' } });
  one.send({ type: 'report', report });
  await settled(one);
  assert.deepEqual(reports, [report]);
  assert.deepEqual(said, ['a message of an agent is malformed']);
  one.socket.terminate();
});

test('who was sent away is not listened to any more', async () => {
  const good = await agent(hello);
  await good.until(() => good.told.length === 1);
  const bad = await agent({ type: 'hello' });
  bad.send(hello);
  const [code] = (await once(bad.socket, 'close', { signal: AbortSignal.timeout(5000) })) as [number];
  assert.equal(code, 1008);
  assert.equal(attached.length, 1);
  await settled(good);
  good.socket.terminate();
});

test('an assignment that no message can carry is not sent, and the link stays', async () => {
  const one = await agent(hello);
  await one.until(() => attached.length === 1);
  const [link] = attached;
  const small = { siteId, hostId: host.id, generation: 1, epoch: 1, destroyNothing: true } as Assignment;
  const huge = { ...small, networks: [], images: [], guests: [{ userData: 'x'.repeat(maxMessageBytes) }] };
  link?.send(huge as unknown as Assignment);
  assert.deepEqual(said, ['the assignment of a host is too large to be sent']);
  link?.send({ ...small, generation: 2 });
  await one.until(() => one.told.length === 2);
  assert.equal(one.told[1]?.type === 'assignment' && one.told[1].assignment.generation, 2);
  one.socket.terminate();
});

test('a host waits while another controller leads, and is welcomed the moment this one does', async () => {
  epoch = undefined;
  const one = await agent(hello);
  await one.until(() => one.told.length === 1);
  const controllers = ['https://one.example:7443', 'https://two.example:7443'];
  assert.deepEqual(one.told[0], { type: 'standby', controllerId, controllers, leader: 'https://two.example:7443' });
  one.send({ type: 'report', report });
  one.socket.ping();
  await once(one.socket, 'pong', { signal: AbortSignal.timeout(5000) });
  assert.deepEqual([attached.length, links.count, links.connected(host.id)], [0, 0, false]);
  await assert.rejects(links.ask(host, { ask: 'destroy-stray', guestId: host.id }), { code: 'host_unreachable' });
  epoch = 7;
  links.update();
  await one.until(() => one.told.length === 2);
  const [, welcome] = one.told;
  assert.ok(welcome?.type === 'welcome');
  assert.deepEqual([welcome.epoch, welcome.controllerId, welcome.controllers], [7, controllerId, controllers]);
  assert.deepEqual([attached.length, links.count, reports.length], [1, 1, 0], 'what it said before is not believed');
  links.update();
  one.send({ type: 'report', report });
  await settled(one);
  assert.deepEqual([one.told.length, reports.length, attached.length], [3, 1, 1], 'it is welcomed once');
  epoch = undefined;
  const asked = links.ask(host, { ask: 'destroy-stray', guestId: host.id });
  links.update();
  await assert.rejects(asked, { code: 'host_unreachable' });
  await one.until(() => one.told.at(-1)?.type === 'standby');
  assert.ok(detached.length > 0);
  one.socket.terminate();
});

test('a host that the site removed while it waited is refused when this controller leads', async () => {
  epoch = undefined;
  const one = await agent(hello);
  await one.until(() => one.told.length === 1);
  known = false;
  epoch = 7;
  links.update();
  await one.until(() => one.told.length === 2);
  assert.equal(one.told[1]?.type === 'refused' && one.told[1].code, 'certificate_refused');
  one.socket.terminate();
});
