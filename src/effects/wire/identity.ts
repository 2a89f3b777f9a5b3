/** Who speaks on the wire: certificates of the site, and the keys that two of them share. */
import {
  createPrivateKey,
  createSecretKey,
  diffieHellman,
  hkdfSync,
  X509Certificate,
  type KeyObject,
} from 'node:crypto';
import type { Uuid } from '../../core/model/resource.ts';

/** PEM texts. */
export interface WireIdentity {
  readonly certificate: string;
  readonly key: string;
  readonly ca: string;
}

export type Role = 'keeper' | 'controller';

/** A certificate of the site whose holder is not yet proven. */
export interface Certified {
  /** CN: a host's id, or `controller`. */
  readonly name: string;
  readonly role: Role;
  readonly publicKey: KeyObject;
}

/**
 * A certificate is still taken this long after its end. Leases must not hang on wall clocks: a host whose clock is wrong
 * by hours keeps its guests. The agent renews a month before.
 */
const graceMs = 7 * 24 * 3600 * 1000;
const curve = 'prime256v1';

export class OwnIdentity {
  readonly certificate: Buffer;
  readonly #privateKey: KeyObject;
  readonly #ca: X509Certificate;
  readonly #siteId: Uuid;

  /** @throws Error when the texts are not PEM, or the key is not of the certificate */
  constructor({ certificate, key, ca }: WireIdentity, siteId: Uuid) {
    const own = new X509Certificate(certificate);
    this.certificate = own.raw;
    this.#privateKey = createPrivateKey(key);
    this.#ca = new X509Certificate(ca);
    this.#siteId = siteId;
    if (!own.checkPrivateKey(this.#privateKey)) throw new Error('the key is not that of the certificate');
    if (this.#privateKey.asymmetricKeyDetails?.namedCurve !== curve) throw new Error('the key is not of P-256');
  }

  /** The holder's name when the certificate is one of this site; undefined for every other. */
  check(der: Buffer, now: number): Certified | undefined {
    try {
      const certificate = new X509Certificate(der);
      const { publicKey } = certificate;
      const subject = new Map(certificate.subject.split('\n').map((line) => splitOnce(line)));
      const name = subject.get('CN') ?? '';
      if (subject.get('O') !== this.#siteId || certificate.ca) return undefined;
      if (Date.parse(certificate.validTo) + graceMs < now) return undefined;
      if (publicKey.asymmetricKeyDetails?.namedCurve !== curve) return undefined;
      if (!certificate.checkIssued(this.#ca) || !certificate.verify(this.#ca.publicKey)) return undefined;
      return { name, role: name === 'controller' ? 'controller' : 'keeper', publicKey };
    } catch {
      return undefined;
    }
  }

  /** What two holders of certificates share without having met (ECDH, RFC 5903 for P-256). */
  shared(publicKey: KeyObject): Buffer {
    return diffieHellman({ privateKey: this.#privateKey, publicKey });
  }
}

function splitOnce(line: string): [string, string] {
  const at = line.indexOf('=');
  return [line.slice(0, at), line.slice(at + 1)];
}

export const tagBytes = 8;

export interface SessionKey {
  readonly key: KeyObject;
  /** Names the key in a datagram. */
  readonly tag: string;
}

/** HKDF-SHA-256 (RFC 5869) of the shared secret; both sides name themselves, so that a key serves this pair only. */
function derive(secret: Buffer, siteId: Uuid, purpose: string, sides: readonly string[], length: number): Buffer {
  const info = [purpose, ...[...sides].sort()].join('|');
  return Buffer.from(hkdfSync('sha256', secret, siteId, info, length));
}

/** Proves who sent a hello. */
export function helloKey(secret: Buffer, siteId: Uuid, ids: readonly [Uuid, Uuid]): KeyObject {
  return createSecretKey(derive(secret, siteId, 'virga wire hello 1', ids, 32));
}

/** Seals datagrams between two runs of two processes: what an earlier run sent or heard opens with no later key. */
export function sessionKey(
  secret: Buffer,
  siteId: Uuid,
  sides: readonly [{ readonly id: Uuid; readonly run: string }, { readonly id: Uuid; readonly run: string }],
): SessionKey {
  const names = sides.map(({ id, run }) => `${id}/${run}`);
  const bytes = derive(secret, siteId, 'virga wire session 1', names, 32 + tagBytes);
  return { key: createSecretKey(bytes.subarray(0, 32)), tag: bytes.toString('latin1', 32) };
}
