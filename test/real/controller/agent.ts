/** A scripted agent: joins with a real certificate and speaks the link, but runs nothing. */
import 'reflect-metadata';
import { webcrypto } from 'node:crypto';
import * as x509 from '@peculiar/x509';
import { Agent as HttpAgent, request } from 'undici';
import WebSocket from 'ws';
import type { JoinAnswer } from '../../../src/api/link.ts';
import type { Assignment, HostReport } from '../../../src/core/model/assignment.ts';
import { until } from './kit.ts';

x509.cryptoProvider.set(webcrypto);

export interface Keys {
  readonly csr: string;
  readonly key: string;
}

export async function makeKeys(): Promise<Keys> {
  const keys = await webcrypto.subtle.generateKey({ name: 'ECDSA', namedCurve: 'P-256' }, true, ['sign', 'verify']);
  const csr = await x509.Pkcs10CertificateRequestGenerator.create({
    name: [{ CN: ['whatever'] }],
    keys,
    signingAlgorithm: { name: 'ECDSA', hash: 'SHA-256' },
  });
  const pkcs8 = await webcrypto.subtle.exportKey('pkcs8', keys.privateKey);
  return { csr: csr.toString('pem'), key: x509.PemConverter.encode(pkcs8, 'PRIVATE KEY') };
}

export interface Identity extends JoinAnswer {
  readonly key: string;
}

export interface HttpAnswer {
  readonly status: number;
  readonly body: string;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
}

/** One HTTP request as an agent, with or without a certificate. */
export async function ask(
  url: string,
  path: string,
  options: {
    readonly identity?: Pick<Identity, 'certificate' | 'key'> | undefined;
    readonly ca?: string;
    readonly body?: unknown;
    readonly headers?: Record<string, string>;
  } = {},
): Promise<HttpAnswer> {
  const { identity, ca, body } = options;
  const dispatcher = new HttpAgent({
    connect: {
      ...(ca === undefined ? { rejectUnauthorized: false } : { ca }),
      ...(identity ? { cert: identity.certificate, key: identity.key } : {}),
    },
  });
  try {
    const answer = await request(url + path, {
      dispatcher,
      method: body === undefined ? 'GET' : 'POST',
      headers: { ...options.headers, ...(body === undefined ? {} : { 'content-type': 'application/json' }) },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    return { status: answer.statusCode, body: await answer.body.text(), headers: answer.headers };
  } finally {
    await dispatcher.close();
  }
}

export async function join(url: string, token: string, hostName: string): Promise<Identity> {
  const { csr, key } = await makeKeys();
  const ca = await ask(url, '/agent/v1/ca');
  const answer = await ask(url, '/agent/v1/join', {
    ca: ca.body,
    body: { token, csr, hostName, protocol: 1, agentVersion: 'scripted' },
  });
  if (answer.status !== 200) throw new Error(`join: ${answer.status} ${answer.body}`);
  return { ...(JSON.parse(answer.body) as JoinAnswer), key };
}

type Message = { readonly type: string } & Readonly<Record<string, unknown>>;

export class ScriptedAgent {
  readonly identity: Identity;
  readonly received: Message[] = [];
  readonly #url: string;
  readonly #socket: WebSocket;
  readonly session = { number: 1, id: webcrypto.randomUUID() as string };

  constructor(url: string, identity: Identity) {
    this.#url = url;
    this.identity = identity;
    this.#socket = this.#dial('/agent/v1/link');
    this.#socket.on('message', (data: Buffer) => this.received.push(JSON.parse(data.toString()) as Message));
    this.#socket.on('error', () => undefined);
  }

  #dial(path: string): WebSocket {
    return new WebSocket(this.#url.replace(/^http/, 'ws') + path, {
      ca: this.identity.ca,
      cert: this.identity.certificate,
      key: this.identity.key,
    });
  }

  async hello(protocolMin = 1, protocolMax = 1): Promise<void> {
    await until('the link opens', () => this.#socket.readyState === WebSocket.OPEN);
    this.send({ type: 'hello', agentVersion: 'scripted', protocolMin, protocolMax, session: this.session });
  }

  send(message: Message): void {
    this.#socket.send(JSON.stringify(message));
  }

  get closed(): boolean {
    return this.#socket.readyState === WebSocket.CLOSED;
  }

  async message(type: string): Promise<Message> {
    await until(`a message ${type}`, () => this.received.some((each) => each.type === type));
    return this.received.find((each) => each.type === type) as Message;
  }

  assignment(): Assignment | undefined {
    const last = this.received.findLast((each) => each.type === 'assignment');
    return last?.['assignment'] as Assignment | undefined;
  }

  report(more: Partial<HostReport> = {}): void {
    const assignment = this.assignment();
    const report: HostReport = {
      hostId: this.identity.hostId,
      session: this.session,
      agentVersion: 'scripted',
      protocol: 1,
      observedAt: Date.now(),
      assignmentGeneration: assignment?.generation ?? -1,
      assignmentEpoch: assignment?.epoch ?? -1,
      engine: {
        type: 'qemu',
        libvirtVersion: '9.0.0',
        emulatorVersion: '7.2.0',
        arch: 'x86_64',
        kvm: false,
        machines: ['pc-q35-7.2', 'pc-i440fx-7.2'],
        cpuModels: ['qemu64', 'Nehalem'],
        firmwares: ['bios'],
      },
      network: { bridges: ['br0'] },
      measured: { cpus: 8, memoryMiB: 16_384, diskMiB: 200_000 },
      used: { cpuPercent: 1, memoryMiB: 1000, diskMiB: 1000 },
      guests: [],
      gone: [],
      foreign: [],
      strays: [],
      images: [],
      networkProblems: [],
      problems: [],
      ...more,
    };
    this.send({ type: 'report', report });
  }

  /** Reports every guest of the newest assignment as running. */
  reportRunning(): void {
    this.report({
      guests: (this.assignment()?.guests ?? []).map((order) => ({
        id: order.id,
        engine: 'running' as const,
        observedAt: Date.now(),
        generation: order.generation,
        since: { startedAt: Date.now() },
        restarts: 0,
        startSeq: order.startSeq,
        rebootSeq: order.rebootSeq,
        rebuildSeq: order.rebuildSeq,
        revertSeq: 0,
        addresses: [],
        snapshots: [],
      })),
    });
  }

  /** Answers an `open` by dialling the stream and echoing what comes. */
  async echo(): Promise<WebSocket> {
    const question = await this.message('ask');
    const socket = this.#dial(`/agent/v1/streams/${String(question['stream'])}`);
    socket.on('error', () => undefined);
    socket.on('message', (data: Buffer) => socket.send(Buffer.from(data.toString().toUpperCase()), { binary: true }));
    this.send({ type: 'answer', id: question['id'], ok: true, value: {} });
    return socket;
  }

  close(): void {
    this.#socket.terminate();
  }
}
