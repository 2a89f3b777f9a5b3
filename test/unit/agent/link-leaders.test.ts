/** An agent among several controllers: whom it follows, and whom it does not believe. */
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join as joinPath } from 'node:path';
import { after, before, test } from 'node:test';
import { WebSocketServer, type WebSocket } from 'ws';
import { AgentLink } from '../../../src/agent/link.ts';
import { join } from '../../../src/agent/join.ts';
import type { Credentials } from '../../../src/agent/tls.ts';
import { Authority } from '../../../src/controller/ca.ts';
import type { HostReport } from '../../../src/core/model/assignment.ts';
import { systemClock } from '../../../src/effects/clock.ts';
import { durableFiles } from '../../../src/effects/files.ts';
import { assignment, hostId, siteId } from './fake-host.ts';

const quiet = { debug() {}, info() {}, warn() {}, error() {}, child: () => quiet };

async function until(what: string, condition: () => boolean): Promise<void> {
  const limit = AbortSignal.timeout(15_000);
  while (!condition()) {
    if (limit.aborted) assert.fail(`it did not come to this: ${what}`);
    await new Promise((resolve) => {
      setImmediate(resolve);
    });
  }
}

interface Said {
  readonly type: string;
  readonly [key: string]: unknown;
}

class Controller {
  readonly id: string;
  readonly server: Server;
  readonly heard: Said[] = [];
  #line: WebSocket | undefined;

  constructor(number: number, identity: { readonly key: string; readonly certificate: string }, authority: Authority) {
    this.id = `00000000-0000-4000-8000-00000000000${number}`;
    const { key, certificate: cert } = identity;
    this.server = createServer({ key, cert, ca: authority.pem, requestCert: true, rejectUnauthorized: false });
    const lines = new WebSocketServer({ noServer: true });
    this.server.on('upgrade', (request, socket, head) => {
      lines.handleUpgrade(request, socket, head, (line) => {
        this.#line = line;
        line.on('message', (data) => this.heard.push(JSON.parse((data as Buffer).toString()) as Said));
      });
    });
    this.server.on('request', (request, response) => {
      const chunks: Buffer[] = [];
      request.on('data', (chunk: Buffer) => chunks.push(chunk));
      request.on('end', () => {
        void answer(authority, request.url ?? '', Buffer.concat(chunks).toString()).then((body) => response.end(body));
      });
    });
  }

  get url(): string {
    return `https://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  get reports(): number {
    return this.heard.filter(({ type }) => type === 'report').length;
  }

  say(message: object): void {
    this.#line?.send(JSON.stringify(message));
  }

  welcome(epoch: number, controllers: readonly string[]): void {
    const who = { siteId, hostId, controllerVersion: '0', controllerId: this.id };
    this.say({ type: 'welcome', protocol: 1, ...who, epoch, controllers });
  }

  standBy(controllers: readonly string[], leader?: string): void {
    this.say({ type: 'standby', controllerId: this.id, controllers, ...(leader === undefined ? {} : { leader }) });
  }

  cut(): void {
    this.#line?.terminate();
  }
}

async function answer(authority: Authority, url: string, body: string): Promise<string> {
  if (url === '/agent/v1/ca') return authority.pem;
  const { csr } = JSON.parse(body) as { csr: string };
  const { certificate } = await authority.signHost(csr, hostId, Date.now());
  return JSON.stringify({ certificate, ca: authority.pem, siteId, siteName: 'test', hostId, hostName: 'alpha' });
}

let folder: string;
let one: Controller;
let two: Controller;
let credentials: Credentials;

before(async () => {
  folder = await mkdtemp(joinPath(tmpdir(), 'virga-leaders-'));
  const authority = await Authority.create(folder, siteId, 'test', Date.now());
  const make = async (number: number): Promise<Controller> => {
    const made = new Controller(number, await authority.serverIdentity(['x.example'], Date.now()), authority);
    await new Promise<void>((resolve) => {
      made.server.listen(0, '127.0.0.1', resolve);
    });
    return made;
  };
  [one, two] = [await make(1), await make(2)];
  const token = `vgi1.${'a'.repeat(43)}.${authority.pin}`;
  const files = durableFiles(joinPath(folder, 'host'));
  ({ credentials } = await join({ url: 'https://127.0.0.1:9', more: [one.url], token, files, agentVersion: 't' }));
});
after(async () => {
  for (const { server } of [one, two]) {
    server.closeAllConnections();
    server.close();
  }
  await rm(folder, { recursive: true, force: true });
});

test('it learns of controllers, follows the highest epoch, and hears no orders of another', async () => {
  assert.equal(credentials.url, one.url, 'the first address did not answer, the second did');
  const taken: number[] = [];
  const link = new AgentLink({
    credentials: { ...credentials, urls: [] },
    session: () => ({ number: 1, id: hostId }),
    agentVersion: 't',
    clock: systemClock,
    log: quiet,
    random: () => 0,
  });
  const all = [one.url, two.url];
  const greeted = (each: Controller): boolean => each.heard.some(({ type }) => type === 'hello');
  try {
    link.report({ hostId, observedAt: 1 } as HostReport);
    link.start({ assignment: ({ generation }) => void taken.push(generation), ask: async () => ({}) });
    await until('the one it knows is called', () => greeted(one));
    // It stands by and names who leads: that one is called at once.
    one.standBy(all, two.url);
    await until('the other one is called', () => greeted(two));
    assert.equal(link.connected(), false);
    two.welcome(5, all);
    await until('it reports there', () => two.reports === 1);
    assert.deepEqual([link.url, one.reports], [two.url, 0]);
    one.say({ type: 'assignment', assignment: assignment(99, []) });
    one.welcome(4, all);
    two.say({ type: 'assignment', assignment: assignment(1, []) });
    await until('the leader is heard', () => taken.length > 0);
    assert.deepEqual([taken, link.url, one.reports], [[1], two.url, 0], 'a lower epoch has nothing to say');
    one.welcome(6, all);
    await until('it follows the higher epoch, and reports there', () => one.reports === 1);
    two.say({ type: 'assignment', assignment: assignment(2, []) });
    one.say({ type: 'assignment', assignment: assignment(3, []) });
    await until('the new leader is heard', () => taken.length > 1);
    assert.deepEqual(taken, [1, 3]);
    one.standBy(all);
    await until('the next best is followed', () => link.url === two.url && two.reports === 2);
    one.heard.length = 0;
    two.cut();
    await until('nobody leads', () => !link.connected());
    one.welcome(7, all);
    await until('the line that was kept serves at once', () => link.url === one.url && one.reports === 1);
    assert.equal(greeted(one), false, 'without a new connection');
  } finally {
    link.close();
  }
});
