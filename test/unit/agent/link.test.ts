/** Joining and the link, against a controller's certificate authority on the loopback. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { execFile } from 'node:child_process';
import { appendFile, mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join as joinPath } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { TLSSocket } from 'node:tls';
import { WebSocketServer, type WebSocket } from 'ws';
import { Authority } from '../../../src/controller/ca.ts';
import { VirgaError } from '../../../src/core/errors.ts';
import type { HostReport } from '../../../src/core/model/assignment.ts';
import { systemClock } from '../../../src/effects/clock.ts';
import { durableFiles } from '../../../src/effects/files.ts';
import { join, renewalDue, renewIfDue } from '../../../src/agent/join.ts';
import { imageTransport } from '../../../src/agent/link-images.ts';
import { joinAgent, runAgent } from '../../../src/agent/main.ts';
import { AgentLink } from '../../../src/agent/link.ts';
import { AgentStreams } from '../../../src/agent/link-streams.ts';
import { readCredentials, type Credentials } from '../../../src/agent/tls.ts';
import { assignment, hostId, image, order, siteId } from './fake-host.ts';

const quiet = { debug() {}, info() {}, warn() {}, error() {}, child: () => quiet };

/** A controller of few words: the authority is the real one, the rest answers what a test tells it. */
class TestController {
  readonly authority: Authority;
  readonly server: Server;
  readonly sockets: WebSocket[] = [];
  readonly messages: { readonly type: string; readonly [key: string]: unknown }[] = [];
  readonly streams: WebSocket[] = [];
  streamed = '';
  joins = 0;
  #waiting: (() => void)[] = [];

  private constructor(authority: Authority, key: string, cert: string) {
    this.authority = authority;
    this.server = createServer({ key, cert, ca: authority.pem, requestCert: true, rejectUnauthorized: false });
    const links = new WebSocketServer({ noServer: true });
    this.server.on('upgrade', (request, socket, head) => {
      if (!(request.socket as TLSSocket).authorized) {
        socket.destroy();
        return;
      }
      links.handleUpgrade(request, socket, head, (accepted) => {
        if (request.url?.startsWith('/agent/v1/streams/')) {
          this.#stream(accepted);
          return;
        }
        this.sockets.push(accepted);
        accepted.on('message', (data) => {
          this.messages.push(JSON.parse((data as Buffer).toString()) as { type: string });
          for (const wake of this.#waiting.splice(0)) wake();
        });
        accepted.on('close', () => this.#waiting.splice(0).forEach((wake) => wake()));
        this.#waiting.splice(0).forEach((wake) => wake());
      });
    });
    this.server.on('request', (request, response) => {
      const chunks: Buffer[] = [];
      request.on('data', (chunk: Buffer) => chunks.push(chunk));
      request.on('end', () => {
        void this.#answer(request.url ?? '', Buffer.concat(chunks).toString(), request.headers.range).then(
          ({ status, body }) => {
            response.writeHead(status).end(body);
          },
        );
      });
    });
  }

  #stream(accepted: WebSocket): void {
    this.streams.push(accepted);
    accepted.on('message', (data) => {
      this.streamed += (data as Buffer).toString();
      this.#waiting.splice(0).forEach((wake) => wake());
    });
    accepted.on('close', () => this.#waiting.splice(0).forEach((wake) => wake()));
    this.#waiting.splice(0).forEach((wake) => wake());
  }

  static async open(folder: string): Promise<TestController> {
    const authority = await Authority.create(folder, siteId, 'test', Date.now());
    const { key, certificate } = await authority.serverIdentity(['elsewhere.example'], Date.now());
    const made = new TestController(authority, key, certificate);
    await new Promise<void>((resolve) => {
      made.server.listen(0, '127.0.0.1', resolve);
    });
    return made;
  }

  async #answer(url: string, body: string, range: string | undefined): Promise<{ status: number; body: string }> {
    if (url === '/agent/v1/ca') return { status: 200, body: this.authority.pem };
    if (url === '/agent/v1/images/gone') return { status: 404, body: '{}' };
    if (url.startsWith('/agent/v1/images/')) {
      const from = Number(/^bytes=(\d+)-$/.exec(range ?? '')?.[1] ?? 0);
      return { status: from > 0 ? 206 : 200, body: 'the bytes'.slice(from) };
    }
    const { csr, token } = JSON.parse(body) as { csr: string; token?: string };
    if (url === '/agent/v1/join') this.joins += 1;
    if (token?.includes('used')) {
      const error = new VirgaError('invite_invalid', { detail: 'it was used' });
      return { status: 401, body: JSON.stringify(error.toBody()) };
    }
    const { certificate } = await this.authority.signHost(csr, hostId, Date.now());
    const answer = { certificate, ca: this.authority.pem, siteId, siteName: 'test', hostId, hostName: 'alpha' };
    return { status: 200, body: JSON.stringify(answer) };
  }

  get url(): string {
    return `https://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  token(secret = randomBytes(32).toString('base64url'), pin = this.authority.pin): string {
    return `vgi1.${secret}.${pin}`;
  }

  /** Waits until the check holds; messages and connections are looked at as they come. */
  async until(check: () => boolean): Promise<void> {
    const limit = AbortSignal.timeout(10_000);
    while (!check()) {
      limit.throwIfAborted();
      await new Promise<void>((resolve, reject) => {
        const fail = (): void => reject(limit.reason as Error);
        limit.addEventListener('abort', fail, { once: true });
        this.#waiting.push(() => {
          limit.removeEventListener('abort', fail);
          resolve();
        });
      });
    }
  }

  say(message: object): void {
    this.sockets.at(-1)?.send(JSON.stringify(message));
  }

  async close(): Promise<void> {
    for (const socket of this.sockets) socket.terminate();
    this.server.closeAllConnections();
    await new Promise((resolve) => {
      this.server.close(resolve);
    });
  }
}

describe('joining', () => {
  let folder: string;
  let site: TestController;
  before(async () => {
    folder = await mkdtemp(joinPath(tmpdir(), 'virga-agent-link-'));
    site = await TestController.open(joinPath(folder, 'site'));
  });
  after(async () => {
    await site.close();
    await rm(folder, { recursive: true, force: true });
  });
  const files = (name: string) => durableFiles(joinPath(folder, name));
  const options = (name: string) => ({ url: site.url, token: site.token(), files: files(name), agentVersion: '0.0.1' });

  test('the key stays here, the certificate is kept, and doing it again is harmless', async () => {
    const first = await join(options('a'));
    assert.equal(first.joined, true);
    assert.equal(first.credentials.hostName, 'alpha');
    assert.deepEqual(await readCredentials(files('a')), first.credentials);
    assert.equal(await files('a').read('joining.json'), undefined);
    const { joins } = site;
    const again = await join(options('a'));
    assert.equal(again.joined, false);
    assert.equal(site.joins, joins);
  });

  test('a site with another authority than the invitation’s is refused before anything is sent', async () => {
    const { joins } = site;
    const token = site.token(undefined, 'f'.repeat(64));
    await assert.rejects(join({ ...options('b'), token }), { code: 'invite_invalid' });
    assert.equal(site.joins, joins);
    assert.equal(await readCredentials(files('b')), undefined);
  });

  test('the refusal of a used token is told as it is; the key of the attempt is kept for the next', async () => {
    const token = site.token(`used${'x'.repeat(39)}`);
    await assert.rejects(join({ ...options('c'), token }), /it was used/);
    const kept = await files('c').read('joining.json');
    assert.ok(kept);
    const joined = await join(options('c'));
    assert.equal(joined.credentials.key, (JSON.parse(kept) as { key: string }).key);
  });

  test('wrong tokens and addresses', async () => {
    await assert.rejects(join({ ...options('d'), token: 'vgi1.short' }), { code: 'invite_invalid' });
    await assert.rejects(join({ ...options('d'), url: 'http://127.0.0.1' }), { code: 'usage' });
    await assert.rejects(join({ ...options('d'), url: 'https://127.0.0.1:1' }), { code: 'site_unreachable' });
  });

  test('renewal: due after two thirds, with a new key', async () => {
    const { credentials } = await join(options('e'));
    const day = 24 * 3600 * 1000;
    assert.equal(renewalDue(credentials.certificate, Date.now() + 58 * day), false);
    assert.equal(renewalDue(credentials.certificate, Date.now() + 61 * day), true);
    let renewed: Credentials | undefined;
    const clock = { ...systemClock, now: () => Date.now() + 61 * day };
    const use = (next: Credentials): void => {
      renewed = next;
    };
    assert.equal(await renewIfDue(credentials, { files: files('e'), clock, log: quiet, renewed: use }), true);
    assert.notEqual(renewed?.key, credentials.key);
    assert.deepEqual(await readCredentials(files('e')), renewed);
  });

  test('images: from a byte on, and gone for ever', async () => {
    const { credentials } = await join(options('f'));
    const transport = imageTransport(() => credentials);
    const read = async (from: number): Promise<string> => {
      const parts: Uint8Array[] = [];
      for await (const part of await transport.fetch(image, from, AbortSignal.timeout(5000))) parts.push(part);
      return Buffer.concat(parts).toString();
    };
    assert.equal(await read(0), 'the bytes');
    assert.equal(await read(4), 'bytes');
    await assert.rejects(transport.fetch('gone', 0, AbortSignal.timeout(5000)), { code: 'not_found' });
    await transport.close();
  });

  test('the link: hello, reports (the newest wins), assignments, questions, and back after a break', async () => {
    const { credentials } = await join(options('g'));
    const session = { number: 4, id: hostId };
    const link = new AgentLink({
      credentials,
      session: () => session,
      agentVersion: '0.0.1',
      clock: systemClock,
      log: quiet,
      random: () => 0,
    });
    const taken: number[] = [];
    const report = (observedAt: number): HostReport => ({ hostId, session, observedAt }) as HostReport;
    try {
      link.report(report(1));
      link.report(report(2));
      link.start({
        assignment: ({ generation }) => void taken.push(generation),
        ask: async (ask) => {
          if (ask.ask === 'log') return { text: 'words', truncated: false };
          throw new VirgaError('not_found', { kind: 'domain', name: 'x' });
        },
      });
      await site.until(() => site.messages.some(({ type }) => type === 'hello'));
      assert.deepEqual(site.messages.at(-1)?.['session'], session);
      assert.equal(link.connected(), false);
      const welcome = { type: 'welcome', protocol: 1, siteId, hostId, controllerVersion: '0' };
      site.say(welcome);
      await site.until(() => site.messages.some(({ type }) => type === 'report'));
      const reports = site.messages.filter(({ type }) => type === 'report');
      assert.deepEqual(
        reports.map((each) => (each['report'] as HostReport).observedAt),
        [2],
      );
      site.say({ type: 'assignment', assignment: { ...assignment(1, []), generation: 'many' } });
      for (const strange of [{ type: { toString: 1, valueOf: 1 } }, [], { type: 'from-tomorrow' }]) site.say(strange);
      site.say({ type: 'assignment', assignment: assignment(5, []) });
      site.say({ type: 'ask', id: 1, ask: 'log', guestId: hostId, tailBytes: 10 });
      site.say({ type: 'ask', id: 2, ask: 'inspect', uuid: hostId });
      await site.until(() => site.messages.filter(({ type }) => type === 'answer').length === 2);
      assert.deepEqual(taken, [5]);
      const answers = site.messages.filter(({ type }) => type === 'answer');
      assert.deepEqual(answers, [
        { type: 'answer', id: 1, ok: true, value: { text: 'words', truncated: false } },
        { type: 'answer', id: 2, ok: false, error: { code: 'not_found', values: { kind: 'domain', name: 'x' } } },
      ]);
      site.messages.length = 0;
      const connections = site.sockets.length;
      site.sockets.at(-1)?.terminate();
      await site.until(() => site.sockets.length > connections && site.messages.length > 0);
      assert.equal(site.messages[0]?.type, 'hello');
      site.say(welcome);
      await site.until(() => site.messages.some(({ type }) => type === 'report'));
      site.say({ type: 'refused', code: 'of_a_newer_version', values: { detail: { toString: 1 } } });
      site.say({ type: 'refused', code: 'of_a_newer_version', values: { detail: 'x' } });
      site.say({ type: 'ask', id: 3, ask: 'log', guestId: hostId, tailBytes: 10 });
      await site.until(() => site.messages.some((each) => each.type === 'answer' && each['id'] === 3));
    } finally {
      link.close();
    }
  });

  test('streams: a log from now on, also after it was cut; a console both ways', async () => {
    const { credentials } = await join(options('s'));
    const path = joinPath(folder, 'serial.log');
    await writeFile(path, 'from before\n');
    const typed: string[] = [];
    const ended = Promise.withResolvers<void>();
    const console = {
      incoming: (async function* incoming() {
        yield Buffer.from('login: ');
        await ended.promise;
      })(),
      write: async (bytes: Uint8Array) => void typed.push(Buffer.from(bytes).toString()),
      close: () => ended.resolve(),
    };
    const streams = new AgentStreams({ console: async () => console, serialPath: () => path }, quiet);
    try {
      await streams.open(credentials, hostId, 'log', hostId);
      await appendFile(path, 'one\n');
      await site.until(() => site.streamed === 'one\n');
      await writeFile(path, 'two\n');
      await site.until(() => site.streamed === 'one\ntwo\n');
      site.streams.at(-1)?.close();
      site.streamed = '';
      await streams.open(credentials, hostId, 'console', hostId);
      await site.until(() => site.streamed === 'login: ');
      site.streams.at(-1)?.send('root\n');
      site.streams.at(-1)?.close();
      await ended.promise;
      assert.deepEqual(typed, ['root\n']);
    } finally {
      streams.close();
    }
  });

  test('a whole agent without libvirt: it connects, says what is missing, and stops when told to', async () => {
    const dataDir = joinPath(folder, 'whole');
    const { joined } = await joinAgent({ dataDir, url: site.url, token: site.token(), agentVersion: '0.0.1' });
    assert.equal(joined, true);
    site.messages.length = 0;
    const stop = new AbortController();
    const socket = joinPath(folder, 'no-such-socket');
    const options = { dataDir, agentVersion: '0.0.1', log: quiet, socket, engineType: 'qemu' as const };
    // What an agent that was killed leaves behind is in nobody's way.
    await new Promise((done, failed) => {
      const dead = `require('net').createServer().listen(process.argv[1], () => process.kill(process.pid, 'SIGKILL'))`;
      execFile(process.execPath, ['-e', dead, joinPath(dataDir, 'agent.sock')], { timeout: 10_000 }, done).once(
        'error',
        failed,
      );
    });
    assert.equal((await stat(joinPath(dataDir, 'agent.sock'))).isSocket(), true);
    const running = runAgent({ ...options, signal: stop.signal });
    try {
      await site.until(() => site.messages.some(({ type }) => type === 'hello'));
      site.say({ type: 'welcome', protocol: 1, siteId, hostId, controllerVersion: '0' });
      site.say({ type: 'assignment', assignment: assignment(7, [order(1, { power: 'off' })]) });
      const reports = (): HostReport[] =>
        site.messages.flatMap((each) => (each.type === 'report' ? [each['report'] as HostReport] : []));
      await site.until(() => reports().some((each) => each.assignmentGeneration === 7));
      const last = reports().at(-1);
      assert.match(last?.problems.join() ?? '', /libvirt/);
      // No keeper runs here: no session was ever told, and it says so.
      assert.equal(last?.session.number, 0);
      assert.equal(last.lease, undefined);
      assert.match(last.problems.join(), /keeper/);
      await assert.rejects(runAgent({ ...options, signal: AbortSignal.timeout(5000) }), /runs on .* already/);
      assert.ok((last?.measured.memoryMiB ?? 0) > 0);
      const answer = async (id: number): Promise<unknown> => {
        const found = () => site.messages.find((each) => each.type === 'answer' && each['id'] === id);
        await site.until(() => found() !== undefined);
        return found();
      };
      site.say({ type: 'ask', id: 9, ask: 'log', guestId: order(1).id, tailBytes: 100 });
      assert.deepEqual(await answer(9), { type: 'answer', id: 9, ok: true, value: { text: '', truncated: false } });
      site.say({ type: 'ask', id: 10, ask: 'log', guestId: hostId, tailBytes: 100 });
      const values = { kind: 'guest', name: hostId };
      assert.deepEqual(await answer(10), { type: 'answer', id: 10, ok: false, error: { code: 'not_found', values } });
    } finally {
      stop.abort();
      await running;
    }
    const kept = await files('whole').read('assignment.json');
    assert.equal((JSON.parse(kept ?? '{}') as { generation?: number }).generation, 7);
  });

  test('a server with a certificate of another authority is not talked to', async () => {
    const { credentials } = await join(options('h'));
    const other = await TestController.open(joinPath(folder, 'other'));
    const failed = Promise.withResolvers<void>();
    const log = { ...quiet, debug: () => failed.resolve() };
    const link = new AgentLink({
      credentials: { ...credentials, url: other.url },
      session: () => ({ number: 1, id: hostId }),
      agentVersion: '0',
      clock: systemClock,
      log,
    });
    try {
      link.start({ assignment: () => undefined, ask: async () => ({}) });
      await failed.promise;
      assert.equal(other.messages.length, 0);
      assert.equal(other.sockets.length, 0);
    } finally {
      link.close();
      await other.close();
    }
  });
});
