/** A site's authority, and identities of its hosts and controllers, for tests on real sockets. */
import 'reflect-metadata';
import { randomUUID, webcrypto } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as x509 from '@peculiar/x509';
import { Authority } from '../../../src/controller/ca.ts';
import type { Beat, BeatAnswer, HaMessage } from '../../../src/core/ha/types.ts';
import { noEpoch } from '../../../src/core/ha/types.ts';
import { BootTime } from '../../../src/effects/boottime.ts';
import {
  openWire,
  type OpenWire,
  type Sender,
  type WireIdentity,
  type WireOptions,
} from '../../../src/effects/wire/index.ts';
import type { Log } from '../../../src/ports.ts';

x509.cryptoProvider.set(webcrypto);

export const silent: Log = { debug() {}, info() {}, warn() {}, error() {}, child: () => silent };
export const clock = new BootTime();

export interface TestSite {
  readonly siteId: string;
  /** `at`: when it was signed; it is good for 90 days. */
  host(hostId: string, at?: number): Promise<WireIdentity>;
  controller(): Promise<WireIdentity>;
}

/** The authority's folder is gone when this returns: its key stays in memory. */
export async function testSite(): Promise<TestSite> {
  const folder = await mkdtemp(join(tmpdir(), 'virga-wire-'));
  try {
    const siteId = randomUUID();
    const authority = await Authority.create(folder, siteId, 'wire', Date.now());
    return {
      siteId,
      async host(hostId, at = Date.now()) {
        const keys = await webcrypto.subtle.generateKey({ name: 'ECDSA', namedCurve: 'P-256' }, true, [
          'sign',
          'verify',
        ]);
        const request = await x509.Pkcs10CertificateRequestGenerator.create({
          name: 'CN=host',
          keys,
          signingAlgorithm: { name: 'ECDSA', hash: 'SHA-256' },
        });
        const { certificate } = await authority.signHost(request.toString('pem'), hostId, at);
        const pkcs8 = await webcrypto.subtle.exportKey('pkcs8', keys.privateKey);
        return { certificate, key: x509.PemConverter.encode(pkcs8, 'PRIVATE KEY'), ca: authority.pem };
      },
      async controller() {
        const { certificate, key } = await authority.serverIdentity(['localhost'], Date.now());
        return { certificate, key, ca: authority.pem };
      },
    };
  } finally {
    await rm(folder, { recursive: true });
  }
}

export interface End {
  readonly id: string;
  readonly wire: OpenWire;
  readonly address: string;
  readonly got: { readonly from: Sender; readonly message: HaMessage }[];
}

export async function end(
  site: TestSite,
  role: 'keeper' | 'controller',
  more: Partial<WireOptions> = {},
): Promise<End> {
  const id = more.self ?? randomUUID();
  const identity = more.identity ?? (role === 'keeper' ? await site.host(id) : await site.controller());
  const wire = await openWire({
    siteId: site.siteId,
    listen: ['127.0.0.1:0'],
    clock,
    log: silent,
    ...more,
    self: id,
    identity,
  });
  const got: End['got'][number][] = [];
  wire.onMessage((from, message) => got.push({ from, message }));
  return { id, wire, address: wire.addresses()[0] ?? '', got };
}

/** Waits for a condition, at most `limitMs`. */
export async function until(what: string, condition: () => boolean | Promise<boolean>, limitMs = 5000): Promise<void> {
  const limit = performance.now() + limitMs;
  while (!(await condition())) {
    if (performance.now() > limit) throw new Error(`not within ${limitMs} ms: ${what}`);
    await new Promise((done) => setTimeout(done, 2));
  }
}

const version = { forced: 0, epoch: noEpoch, number: 1 };

export function aBeat(hostId: string, sentAt: number): Beat {
  return {
    type: 'beat',
    hostId,
    session: { number: 1, id: '00000000-0000-4000-8000-000000000001' },
    sentAt,
    askMs: 2000,
    boundMs: 500,
    lapsed: false,
    ended: false,
    reset: false,
    confirmed: version,
    list: version,
  };
}

export function anAnswer({ session, sentAt, askMs }: Beat): BeatAnswer {
  return {
    type: 'beat-answer',
    session,
    sentAt,
    askMs,
    yes: true,
    epoch: { number: 3, id: '00000000-0000-4000-8000-000000000003' },
    diskId: '00000000-0000-4000-8000-000000000002',
    version,
  };
}
