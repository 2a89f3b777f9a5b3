/**
 * The site's certificate authority: ECDSA P-256, ten years, one per site. It signs the controller's own server
 * certificate and one client certificate per host (CN = host id, O = site id). Keys stay in the data folder, 0600.
 */
import 'reflect-metadata';
import {
  createHash,
  createPrivateKey,
  createPublicKey,
  hkdfSync,
  randomBytes,
  webcrypto,
  X509Certificate,
} from 'node:crypto';
import { mkdir, readFile } from 'node:fs/promises';
import { isIP } from 'node:net';
import { hostname, networkInterfaces } from 'node:os';
import { join } from 'node:path';
import * as x509 from '@peculiar/x509';
import { VirgaError } from '../core/errors.ts';
import type { Instant, Uuid } from '../core/model/resource.ts';
import { writeDurably } from '../effects/files.ts';

x509.cryptoProvider.set(webcrypto);

type Key = webcrypto.CryptoKey;

const dayMs = 24 * 3600 * 1000;
const authorityDays = 3653;
const serverDays = 90;
/** Validity of a host's certificate; the agent renews it in the last third. */
export const hostDays = 90;
/** Clocks of hosts may be behind by this much. */
const backdateMs = 3600 * 1000;
const curve = { name: 'ECDSA', namedCurve: 'P-256' } as const;
const signing = { name: 'ECDSA', hash: 'SHA-256' } as const;

export interface Issued {
  /** PEM, the certificate alone. */
  readonly certificate: string;
  /** Hexadecimal. */
  readonly serial: string;
  readonly expiresAt: Instant;
}

export interface ServerIdentity {
  readonly certificate: string;
  readonly key: string;
  readonly expiresAt: Instant;
}

/** The files of the authority below the data folder; the backup carries them when it is encrypted. */
export const authorityFiles = { folder: 'ca', certificate: 'ca/ca.pem', key: 'ca/ca.key' } as const;

export class Authority {
  readonly #certificate: x509.X509Certificate;
  readonly #key: Key;
  readonly #secret: Uint8Array;
  readonly siteId: Uuid;
  /** PEM of the authority's certificate. */
  readonly pem: string;
  /** SHA-256 (hex) of the certificate in DER; invitation tokens pin it. */
  readonly pin: string;

  private constructor(certificate: x509.X509Certificate, key: Key, pkcs8: Uint8Array) {
    this.#certificate = certificate;
    this.#key = key;
    this.#secret = new Uint8Array(hkdfSync('sha256', pkcs8, new Uint8Array(), 'virga secrets', 32));
    this.siteId = certificate.subjectName.getField('O')[0] ?? '';
    this.pem = pemOf(certificate);
    this.pin = createHash('sha256').update(new Uint8Array(certificate.rawData)).digest('hex');
  }

  /** Reads the authority of a data folder; undefined when it has none. @throws VirgaError setup when it is damaged. */
  static async read(dataDir: string): Promise<Authority | undefined> {
    try {
      const pem = await readFile(join(dataDir, authorityFiles.certificate), 'utf8');
      const keyPem = await readFile(join(dataDir, authorityFiles.key), 'utf8');
      const pkcs8 = new Uint8Array(x509.PemConverter.decodeFirst(keyPem));
      const key = await webcrypto.subtle.importKey('pkcs8', pkcs8, curve, false, ['sign']);
      const certificate = new x509.X509Certificate(pem);
      if (!new X509Certificate(pem).checkPrivateKey(createPrivateKey(keyPem)))
        throw new Error('key and certificate differ');
      return new Authority(certificate, key, pkcs8);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      const folder = join(dataDir, authorityFiles.folder);
      throw new VirgaError(
        'setup',
        { detail: `The site's certificate authority in ${folder} cannot be read`, how: 'Restore it from a backup.' },
        { cause: error },
      );
    }
  }

  /** Makes the authority of a new site. The key is written before the certificate: without both there is none. */
  static async create(dataDir: string, siteId: Uuid, siteName: string, now: Instant): Promise<Authority> {
    const keys = await webcrypto.subtle.generateKey(curve, true, ['sign', 'verify']);
    const pkcs8 = new Uint8Array(await webcrypto.subtle.exportKey('pkcs8', keys.privateKey));
    const certificate = await x509.X509CertificateGenerator.createSelfSigned({
      serialNumber: newSerial(),
      name: [{ CN: [`Virga site ${siteName}`.slice(0, 64)] }, { O: [siteId] }],
      notBefore: new Date(now - backdateMs),
      notAfter: new Date(now + authorityDays * dayMs),
      keys: keys,
      signingAlgorithm: signing,
      extensions: [
        new x509.BasicConstraintsExtension(true, 0, true),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
        await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
      ],
    });
    await mkdir(join(dataDir, authorityFiles.folder), { recursive: true, mode: 0o700 });
    await writeDurably(join(dataDir, authorityFiles.key), x509.PemConverter.encode(pkcs8, 'PRIVATE KEY'));
    await writeDurably(join(dataDir, authorityFiles.certificate), pemOf(certificate), 0o644);
    return new Authority(certificate, keys.privateKey, pkcs8);
  }

  /** Signs a host's request. What the request says of its subject is ignored: the site decides who it is. */
  async signHost(csr: string, hostId: Uuid, now: Instant): Promise<Issued> {
    let request: x509.Pkcs10CertificateRequest;
    try {
      request = new x509.Pkcs10CertificateRequest(csr);
      if (!(await request.verify())) throw new Error('its signature is wrong');
      checkKey(request.publicKey.toString('pem'));
    } catch (error) {
      throw new VirgaError(
        'invalid_request',
        { detail: `the certificate request is not usable: ${(error as Error).message}` },
        { cause: error },
      );
    }
    return this.#issue(
      request.publicKey,
      hostId,
      now,
      hostDays,
      [],
      [new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.clientAuth], true)],
    );
  }

  /**
   * A fresh key and certificate for one controller: for its listeners, and to call other controllers with. `names`: DNS
   * names and addresses. `id`: its own, for people who look at the certificate (OU).
   */
  async serverIdentity(names: readonly string[], now: Instant, id?: Uuid): Promise<ServerIdentity> {
    const keys = await webcrypto.subtle.generateKey(curve, true, ['sign', 'verify']);
    const unit = id === undefined ? [] : [{ OU: [id] }];
    const issued = await this.#issue(keys.publicKey, 'controller', now, serverDays, unit, [
      new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth, x509.ExtendedKeyUsage.clientAuth], true),
      new x509.SubjectAlternativeNameExtension(
        names.map((value) => ({ type: isIP(value) ? ('ip' as const) : ('dns' as const), value })),
      ),
    ]);
    const pkcs8 = await webcrypto.subtle.exportKey('pkcs8', keys.privateKey);
    return { ...issued, key: x509.PemConverter.encode(pkcs8, 'PRIVATE KEY') };
  }

  /**
   * A secret that belongs to an object, base64url, 256 bits. It is never kept: who repeats the request that made the
   * object gets the same one, and who does not hold the authority's key cannot guess it.
   */
  secretFor(purpose: string, id: Uuid): string {
    return Buffer.from(hkdfSync('sha256', this.#secret, id, purpose, 32)).toString('base64url');
  }

  async #issue(
    publicKey: Key | x509.PublicKey,
    commonName: string,
    now: Instant,
    days: number,
    unit: readonly { readonly OU: string[] }[],
    extensions: x509.Extension[],
  ): Promise<Issued> {
    const serial = newSerial();
    const notAfter = new Date(Math.min(now + days * dayMs, this.#certificate.notAfter.getTime()));
    const certificate = await x509.X509CertificateGenerator.create({
      serialNumber: serial,
      subject: [{ CN: [commonName] }, { O: [this.siteId] }, ...unit],
      issuer: this.#certificate.subjectName,
      notBefore: new Date(now - backdateMs),
      notAfter,
      publicKey,
      signingKey: this.#key,
      signingAlgorithm: signing,
      extensions: [
        new x509.BasicConstraintsExtension(false, undefined, true),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
        await x509.AuthorityKeyIdentifierExtension.create(this.#certificate.publicKey),
        ...extensions,
      ],
    });
    return { certificate: pemOf(certificate), serial, expiresAt: notAfter.getTime() };
  }
}

/** With the line end that lets PEM texts be put together. */
function pemOf(certificate: x509.X509Certificate): string {
  return `${certificate.toString('pem').trimEnd()}\n`;
}

/** Positive, 128 random bits (RFC 5280, 4.1.2.2). */
function newSerial(): string {
  const bytes = randomBytes(16);
  bytes[0] = ((bytes[0] ?? 0) & 0x7f) | 0x40;
  return bytes.toString('hex');
}

/** Only keys that cannot be broken: P-256, P-384, Ed25519, RSA of 2,048 bits or more. */
function checkKey(pem: string): void {
  const key = createPublicKey(pem);
  const bits = key.asymmetricKeyDetails?.modulusLength ?? 0;
  const named = key.asymmetricKeyDetails?.namedCurve ?? '';
  if (key.asymmetricKeyType === 'ed25519') return;
  if (key.asymmetricKeyType === 'ec' && ['prime256v1', 'secp384r1'].includes(named)) return;
  if (key.asymmetricKeyType === 'rsa' && bits >= 2048 && bits <= 8192) return;
  throw new Error('its key is too weak or of an unknown kind');
}

/** The names under which this machine may be reached, besides what a person adds. */
export function ownNames(more: readonly string[] = []): readonly string[] {
  const addresses = Object.values(networkInterfaces())
    .flatMap((each) => each ?? [])
    .map(({ address }) => address.split('%')[0] ?? '')
    .filter((address) => isIP(address) !== 0);
  const names = [
    'localhost',
    hostname(),
    ...addresses,
    ...more.filter((each) => each !== '' && each !== '0.0.0.0' && each !== '::'),
  ];
  return [...new Set(names)];
}
