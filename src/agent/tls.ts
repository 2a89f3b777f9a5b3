/** Who this host is to the site, and how it recognizes the controller. */
import { X509Certificate, createHash } from 'node:crypto';
import { Agent as HttpsAgent } from 'node:https';
import type { PeerCertificate } from 'node:tls';
import { Agent } from 'undici';
import { WebSocket } from 'ws';
import type { Files } from '../ports.ts';

/** Everything from joining, in one file, so that key and certificate never differ. Mode 0600. */
export interface Credentials {
  /** Where the controller is, `https://HOST:PORT`. */
  readonly url: string;
  /** All controllers that the site named, for when that one does not lead. */
  readonly urls?: readonly string[];
  readonly siteId: string;
  readonly siteName: string;
  readonly hostId: string;
  readonly hostName: string;
  /** PEM; made here, never sent. */
  readonly key: string;
  readonly certificate: string;
  readonly ca: string;
}

export const credentialsFile = 'credentials.json';

export async function readCredentials(files: Files): Promise<Credentials | undefined> {
  const text = await files.read(credentialsFile);
  return text === undefined ? undefined : (JSON.parse(text) as Credentials);
}

export async function keepCredentials(files: Files, credentials: Credentials): Promise<void> {
  await files.write(credentialsFile, JSON.stringify(credentials));
}

/** SHA-256 (hex) of a certificate in DER: what an invitation pins. */
export function fingerprint(pem: string): string {
  return createHash('sha256').update(new X509Certificate(pem).raw).digest('hex');
}

/**
 * The controller is known by its name in a certificate of the site's own authority, not by its address: hosts reach it
 * by ways that it does not know of (forwarded ports, another interface).
 */
export function checkController(siteId: string | undefined) {
  return (_host: string, certificate: PeerCertificate): Error | undefined => {
    const { CN, O } = certificate.subject;
    if (CN !== 'controller') return new Error(`the certificate is of "${String(CN)}", not of a controller`);
    return siteId === undefined || O === siteId ? undefined : new Error('the certificate is of another site');
  };
}

export interface TlsIdentity {
  readonly ca: string;
  readonly cert?: string;
  readonly key?: string;
  readonly minVersion: 'TLSv1.3';
  readonly checkServerIdentity: ReturnType<typeof checkController>;
}

export function tlsOf({ ca, certificate, key, siteId }: Credentials): TlsIdentity {
  return { ca, cert: certificate, key, minVersion: 'TLSv1.3', checkServerIdentity: checkController(siteId) };
}

/** HTTP with this identity; a bounded number of connections, every wait bounded. */
export function dispatcher(tls: TlsIdentity): Agent {
  return new Agent({
    connect: { ...tls, timeout: 10_000 },
    headersTimeout: 20_000,
    bodyTimeout: 30_000,
    connections: 8,
  });
}

/** A WebSocket to the controller with this identity, on a connection of its own. */
export function webSocket(
  credentials: Credentials,
  path: string,
  limits: { readonly handshakeTimeout: number; readonly maxPayload: number },
): WebSocket {
  const agent = new HttpsAgent({ ...tlsOf(credentials), keepAlive: false });
  return new WebSocket(`${credentials.url.replace(/^http/, 'ws')}${path}`, {
    ...limits,
    agent,
    perMessageDeflate: false,
  });
}
