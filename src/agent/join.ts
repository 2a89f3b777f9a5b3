/** Joining a site, and renewing the certificate that came of it. The key is made on the host and stays there. */
import 'reflect-metadata';
import { webcrypto, X509Certificate } from 'node:crypto';
import { hostname } from 'node:os';
import * as x509 from '@peculiar/x509';
import { Agent, request, type Dispatcher } from 'undici';
import {
  inviteTokenPattern,
  type JoinAnswer,
  type JoinRequest,
  type KeeperSaid,
  type RenewAnswer,
} from '../api/link.ts';
import { errorRegistry, VirgaError, type ErrorCode, type ErrorValues } from '../core/errors.ts';
import { linkProtocol } from '../core/model/assignment.ts';
import type { Clock, Files, Log } from '../ports.ts';
import {
  checkController,
  credentialsFile,
  dispatcher,
  fingerprint,
  keepCredentials,
  readCredentials,
  tlsOf,
  type Credentials,
} from './tls.ts';

x509.cryptoProvider.set(webcrypto);

const curve = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;
const joiningFile = 'joining.json';
const maxAnswerBytes = 256 * 1024;

interface KeyAndRequest {
  readonly key: string;
  readonly csr: string;
}

async function makeKey(): Promise<KeyAndRequest> {
  const keys = await webcrypto.subtle.generateKey(curve, true, ['sign', 'verify']);
  const request = await x509.Pkcs10CertificateRequestGenerator.create({
    name: 'CN=host',
    keys,
    signingAlgorithm: curve,
  });
  const pkcs8 = await webcrypto.subtle.exportKey('pkcs8', keys.privateKey);
  return { key: x509.PemConverter.encode(pkcs8, 'PRIVATE KEY'), csr: request.toString('pem') };
}

export interface Joined {
  /** False: this host belonged to the site already. */
  readonly joined: boolean;
  readonly credentials: Credentials;
}

export interface JoinOptions {
  readonly url: string;
  /** Other controllers of the same site, asked in turn where that one does not lead or does not answer. */
  readonly more?: readonly string[];
  readonly token: string;
  readonly files: Files;
  readonly agentVersion: string;
  /** Name to ask for; the machine's own by default. */
  readonly hostName?: string;
}

/**
 * Joins the site that the invitation pins. Doing it again is harmless: the same key is used until an answer is kept.
 * @throws VirgaError invite_invalid · site_unreachable · setup (it belongs to another site) · what the controller says
 */
export async function join(options: JoinOptions): Promise<Joined> {
  const { files, token, agentVersion } = options;
  const pin = inviteTokenPattern.exec(token)?.[2];
  if (pin === undefined) throw new VirgaError('invite_invalid', { detail: 'it is not complete' });
  const urls = [...new Set([options.url, ...(options.more ?? [])].map(normalUrl))];
  const existing = await readCredentials(files);
  if (existing) return alreadyJoined(existing, pin);
  const { key, csr } = await unfinished(files);
  const hostName = (options.hostName ?? hostname().split('.')[0] ?? 'host').toLowerCase().slice(0, 63);
  const body: JoinRequest = { token, csr, hostName, protocol: linkProtocol, agentVersion };
  const { url, answer } = await askInTurn(urls, async (each) => askToJoin(each, pin, body));
  if (fingerprint(answer.ca) !== pin)
    throw new VirgaError('invite_invalid', { detail: 'the answer is of another site' });
  checkCertificate(answer.certificate, answer.ca, answer.hostId);
  const { certificate, siteId, siteName, hostId, ca } = answer;
  const credentials = { url, urls, siteId, siteName, hostId, hostName: answer.hostName, key, certificate, ca };
  await keepCredentials(files, credentials);
  await files.remove(joiningFile);
  return { joined: true, credentials };
}

async function askToJoin(url: string, pin: string, body: JoinRequest): Promise<JoinAnswer> {
  const ca = await fetchAuthority(url, pin);
  const tls = { ca, minVersion: 'TLSv1.3' as const, checkServerIdentity: checkController(undefined) };
  const http = dispatcher(tls);
  try {
    return await post<JoinAnswer>(`${url}/agent/v1/join`, body, http);
  } finally {
    await http.close();
  }
}

/** Refusals after which another controller may say yes. */
const elsewhere: readonly ErrorCode[] = ['site_unreachable', 'not_leading', 'store_unavailable'];

/** Asks one after the other; what the last one says is what the caller hears. */
async function askInTurn<T>(
  urls: readonly string[],
  ask: (url: string) => Promise<T>,
): Promise<{ readonly url: string; readonly answer: T }> {
  let failure: unknown;
  for (const url of urls) {
    try {
      return { url, answer: await ask(url) };
    } catch (error) {
      if (!(error instanceof VirgaError) || !elsewhere.includes(error.code)) throw error;
      failure = error;
    }
  }
  throw failure;
}

function alreadyJoined(existing: Credentials, pin: string): Joined {
  if (fingerprint(existing.ca) === pin) return { joined: false, credentials: existing };
  throw new VirgaError('setup', {
    detail: `This host belongs to the site "${existing.siteName}" already`,
    how: `Remove it there first (virga host remove ${existing.hostName}), then its ${credentialsFile} here.`,
  });
}

/** The key of an attempt that was cut off: the site may have signed it. */
async function unfinished(files: Files): Promise<KeyAndRequest> {
  const text = await files.read(joiningFile);
  if (text !== undefined) return JSON.parse(text) as KeyAndRequest;
  const made = await makeKey();
  await files.write(joiningFile, JSON.stringify(made));
  return made;
}

function normalUrl(given: string): string {
  const url = URL.canParse(given) ? new URL(given) : undefined;
  if (url?.protocol !== 'https:') throw new VirgaError('usage', { detail: `"${given}" is not an https:// address` });
  return url.origin;
}

/** The one request that trusts nobody: what it brings is compared with the pin. */
async function fetchAuthority(url: string, pin: string): Promise<string> {
  const http = new Agent({ connect: { rejectUnauthorized: false, timeout: 10_000 }, headersTimeout: 20_000 });
  try {
    const { statusCode, body } = await request(`${url}/agent/v1/ca`, { dispatcher: http }).catch((cause: unknown) => {
      throw unreachable(url, cause);
    });
    const pem = await bounded(body);
    if (statusCode !== 200) throw new VirgaError('site_unreachable', { where: url, detail: `status ${statusCode}` });
    let actual: string;
    try {
      actual = fingerprint(pem);
    } catch (cause) {
      throw new VirgaError('invite_invalid', { detail: `${url} is not a Virga site` }, { cause });
    }
    if (actual !== pin) throw new VirgaError('invite_invalid', { detail: `${url} is not the site that it is for` });
    return pem;
  } finally {
    await http.close();
  }
}

async function post<T>(url: string, body: object, http: Dispatcher): Promise<T> {
  const answer = await request(url, {
    method: 'POST',
    dispatcher: http,
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  }).catch((cause: unknown) => {
    throw unreachable(url, cause);
  });
  const text = await bounded(answer.body);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new VirgaError('site_unreachable', { where: url, detail: `status ${answer.statusCode}, no JSON` }, { cause });
  }
  if (answer.statusCode >= 200 && answer.statusCode < 300) return value as T;
  throw refusal(value, url, answer.statusCode);
}

function refusal(value: unknown, where: string, status: number): VirgaError {
  const { error } = (value ?? {}) as { error?: { code?: string; values?: ErrorValues } };
  if (error?.code !== undefined && Object.hasOwn(errorRegistry, error.code))
    return new VirgaError(error.code as ErrorCode, error.values ?? {});
  return new VirgaError('site_unreachable', { where, detail: `status ${status}` });
}

function unreachable(where: string, cause: unknown): VirgaError {
  const detail = cause instanceof Error ? cause.message : String(cause);
  return new VirgaError('site_unreachable', { where, detail }, { cause });
}

async function bounded(body: AsyncIterable<Uint8Array>): Promise<string> {
  const parts: Uint8Array[] = [];
  let bytes = 0;
  for await (const part of body) {
    bytes += part.length;
    if (bytes > maxAnswerBytes) throw new VirgaError('body_too_large', { limit: '256 KiB' });
    parts.push(part);
  }
  return Buffer.concat(parts).toString('utf8');
}

function checkCertificate(certificate: string, ca: string, hostId: string): void {
  const own = new X509Certificate(certificate);
  if (own.verify(new X509Certificate(ca).publicKey) && own.subject.includes(`CN=${hostId}`)) return;
  throw new VirgaError('invite_invalid', { detail: 'the certificate in the answer is not of its site' });
}

/** True when two thirds of the certificate's life are over. */
export function renewalDue(certificate: string, now: number): boolean {
  const { validFrom, validTo } = new X509Certificate(certificate);
  const from = Date.parse(validFrom);
  const to = Date.parse(validTo);
  return now >= from + ((to - from) * 2) / 3;
}

export interface RenewOptions {
  /** Of the controller that leads; that of the credentials when absent. */
  readonly url?: string;
  readonly files: Files;
  readonly clock: Clock;
  readonly log: Log;
  /** Told the new credentials; the link then uses them. */
  readonly renewed: (credentials: Credentials) => void;
}

/** Renews when it is due, with a new key. False: it is not due, or it failed and is tried again later. */
export async function renewIfDue(current: Credentials, options: RenewOptions): Promise<boolean> {
  const { clock, files, log, renewed } = options;
  if (!renewalDue(current.certificate, clock.now())) return false;
  const { key, csr } = await makeKey();
  const http = dispatcher(tlsOf(current));
  try {
    const { certificate, ca } = await post<RenewAnswer>(`${options.url ?? current.url}/agent/v1/renew`, { csr }, http);
    if (fingerprint(ca) !== fingerprint(current.ca))
      throw new VirgaError('certificate_refused', { detail: 'the answer is of another authority' });
    checkCertificate(certificate, ca, current.hostId);
    const next = { ...current, key, certificate, ca };
    await keepCredentials(files, next);
    renewed(next);
    log.info('certificate renewed', { until: new X509Certificate(certificate).validTo });
    return true;
  } catch (error) {
    log.warn('the certificate could not be renewed', {
      detail: error instanceof Error ? error.message : String(error),
    });
    return false;
  } finally {
    await http.close();
  }
}

/**
 * A witness has no agent: its keeper says by itself where it hears beats.
 * @throws VirgaError site_unreachable · what the controller says
 */
export async function tellKeeper(current: Credentials, said: KeeperSaid): Promise<void> {
  const http = dispatcher(tlsOf(current));
  try {
    const urls = [...new Set([current.url, ...(current.urls ?? [])])];
    await askInTurn(urls, async (url) => post<object>(`${url}/agent/v1/keeper`, said, http));
  } finally {
    await http.close();
  }
}
