/** Who asks: by peer uid on the unix socket, by token or by a host's certificate over TLS. Nobody else. */
import { createHash, timingSafeEqual } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import { VirgaError } from '../../core/errors.ts';
import type { Actor } from '../../core/model/access.ts';
import type { Host } from '../../core/model/host.ts';
import type { Uuid } from '../../core/model/resource.ts';
import { tokenUsed } from '../../core/requests/tokens.ts';
import type { Clock, Log } from '../../ports.ts';
import type { SiteState } from '../state.ts';
import { askPeer, type Peer } from './peer.ts';

/** Community of what is done on the controller's machine, until identities arrive. */
export const localCommunity = 'local';

/** The product itself. */
export const virga: Actor = { who: 'virga', role: 'admin', community: localCommunity };

/** Milliseconds between looks whether the token of a stream has expired. */
const leashMs = 15_000;
const tokenPattern = /^Bearer +vgt1\.([0-9a-f-]{36})\.([A-Za-z0-9_-]{43})$/i;

export interface AccessOptions {
  readonly state: SiteState;
  /** From the site's authority, known also while another controller leads; the state's when absent. */
  readonly siteId?: () => Uuid;
  readonly clock: Clock;
  readonly log: Log;
  /** Members may do everything over the unix socket; `virga` by default. */
  readonly group?: string;
}

export class Access {
  readonly #options: AccessOptions;
  readonly #peers = new WeakMap<Socket, Promise<Peer>>();
  readonly #noting = new Set<Uuid>();
  /** Tokens behind the actors that were let in. */
  readonly #tokens = new WeakMap<Actor, Uuid>();
  readonly #brake: Brake;

  constructor(options: AccessOptions) {
    this.#options = options;
    this.#brake = new Brake(options.clock);
  }

  /** A connection on the unix socket was accepted: its peer is asked at once, and remembered. */
  accepted(socket: Socket): void {
    const peer = askPeer(socket, this.#options.group ?? 'virga');
    peer.catch((error: unknown) =>
      this.#options.log.warn('a peer is not known', { error: String((error as Error).cause ?? error) }),
    );
    this.#peers.set(socket, peer);
  }

  /**
   * The person or program behind a request.
   * @throws VirgaError unauthenticated · token_expired · overloaded
   */
  async actor(request: IncomingMessage): Promise<Actor> {
    const local = this.#peers.get(request.socket);
    if (local) return this.#local(await local);
    if (!(request.socket instanceof TLSSocket)) throw new VirgaError('unauthenticated', { detail: 'no TLS' });
    return this.#brake.guard(request.socket.remoteAddress ?? '', () => this.#byToken(request.headers.authorization));
  }

  /**
   * The host behind a request, by its client certificate.
   * @throws VirgaError certificate_refused · not_leading
   */
  host(request: IncomingMessage): Host {
    const id = this.certified(request);
    const host = this.#options.state.snapshot.get('host', id);
    if (!host) throw refusedCertificate('the host is not, or no longer, of this site');
    return host;
  }

  /**
   * Who the client's certificate of this site names: a host's id, or `controller`. Whether the site still has that host
   * only the leader knows.
   * @throws VirgaError certificate_refused
   */
  certified(request: IncomingMessage): string {
    const { socket } = request;
    if (!(socket instanceof TLSSocket)) throw refusedCertificate('agents connect over TLS');
    const certificate = socket.getPeerCertificate();
    if (Object.keys(certificate).length === 0) throw refusedCertificate('there is none');
    if (!socket.authorized) throw refusedCertificate(`it is not of this site (${String(socket.authorizationError)})`);
    const { state, siteId } = this.#options;
    const { CN, O } = certificate.subject;
    if (O !== (siteId ? siteId() : state.snapshot.site.id)) throw refusedCertificate('it is of another site');
    return typeof CN === 'string' ? CN : '';
  }

  /** True for another controller of this site. @throws VirgaError certificate_refused: no certificate of this site */
  isController(request: IncomingMessage): boolean {
    return this.certified(request) === 'controller';
  }

  /**
   * Calls `cut` when the token behind a stream is revoked or expires: what was allowed when it began is not allowed for
   * ever. Streams of people on this machine go on. Returns the way to stop.
   */
  leash(actor: Actor, cut: () => void): () => void {
    const id = this.#tokens.get(actor);
    if (id === undefined) return () => undefined;
    const { state, clock } = this.#options;
    const look = (): void => {
      // Who stands by knows nothing newer than what it let in; streams of changes end then, by themselves.
      if (!state.known) return;
      const token = state.snapshot.get('token', id);
      if (!token || token.spec.expiresAt <= clock.now()) cut();
    };
    const stop = state.listen((news) => {
      if (news.type === 'loaded' || news.change.remove.some((each) => each.id === id)) look();
    });
    const timer = setInterval(look, leashMs).unref();
    return () => {
      clearInterval(timer);
      stop();
    };
  }

  /** Slows down who fails: guesses cost time, and many of them at once are refused unseen. */
  async guard<T>(request: IncomingMessage, judge: () => Promise<T> | T): Promise<T> {
    return this.#brake.guard(request.socket.remoteAddress ?? '', judge);
  }

  #local(peer: Peer): Actor {
    if (peer.uid !== 0 && !peer.member)
      throw new VirgaError('unauthenticated', { detail: `${peer.name} is neither root nor in the group virga` });
    return { who: `local:${peer.name}`, role: 'admin', community: localCommunity };
  }

  #byToken(header: string | undefined): Actor {
    if (header === undefined) throw new VirgaError('unauthenticated', { detail: 'no token was sent' });
    const match = tokenPattern.exec(header.trim());
    const { state, clock } = this.#options;
    const token = match && state.snapshot.get('token', match[1] ?? '');
    const given = hashOf(match?.[2] ?? '');
    // Compared even when there is no such token: the time tells nothing.
    const equal = sameHash(given, token?.spec.secretHash ?? hashOf(''));
    if (!token || !equal) throw new VirgaError('unauthenticated', { detail: 'the token is unknown here' });
    const now = clock.now();
    if (token.spec.expiresAt <= now)
      throw new VirgaError('token_expired', { name: token.name, at: new Date(token.spec.expiresAt).toISOString() });
    this.#note(token.id, now);
    const actor: Actor = { who: `token:${token.name}`, role: token.spec.role, community: token.community };
    this.#tokens.set(actor, token.id);
    return actor;
  }

  /** When a token was used is worth a write a minute, and never a failed request. */
  #note(id: Uuid, now: number): void {
    const { state, log } = this.#options;
    if (this.#noting.has(id) || tokenUsed(state.snapshot, id, now).put.length === 0) return;
    this.#noting.add(id);
    state
      .change((snapshot) => ({ change: tokenUsed(snapshot, id, now) }))
      .catch((error: unknown) => log.debug('the use of a token was not noted', { error: String(error) }))
      .finally(() => this.#noting.delete(id));
  }
}

const refusedCertificate = (detail: string): VirgaError => new VirgaError('certificate_refused', { detail });

/** SHA-256, hexadecimal: all that is kept of a secret. */
export function hashOf(secret: string): string {
  return createHash('sha256').update(secret).digest('hex');
}

function sameHash(a: string, b: string): boolean {
  const [left, right] = [Buffer.from(a, 'hex'), Buffer.from(b, 'hex')];
  return left.length === right.length && timingSafeEqual(left, right);
}

const failures = new Set(['unauthenticated', 'token_expired', 'invite_invalid']);
const maxAddresses = 4096;
const maxDelayed = 64;
const firstDelayMs = 100;
const longestDelayMs = 5000;
/** An address that behaved for so long starts anew. */
const forgetMs = 60_000;

/** Each failed authentication of an address makes the answer to the next failed one slower; bounded in every direction. */
class Brake {
  readonly #clock: Clock;
  readonly #failed = new Map<string, { count: number; at: number }>();
  #delayed = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  async guard<T>(address: string, judge: () => Promise<T> | T): Promise<T> {
    try {
      const result = await judge();
      this.#failed.delete(address);
      return result;
    } catch (error) {
      if (error instanceof VirgaError && failures.has(error.code)) await this.#slow(address);
      throw error;
    }
  }

  async #slow(address: string): Promise<void> {
    const now = this.#clock.monotonic();
    const old = this.#failed.get(address);
    const count = old && now - old.at < forgetMs ? old.count + 1 : 1;
    this.#failed.delete(address);
    this.#failed.set(address, { count, at: now });
    const [oldest] = this.#failed.keys();
    if (this.#failed.size > maxAddresses && oldest !== undefined) this.#failed.delete(oldest);
    if (this.#delayed >= maxDelayed) throw new VirgaError('overloaded', { what: 'failed logins', limit: maxDelayed });
    this.#delayed += 1;
    try {
      await this.#clock.sleep(Math.min(longestDelayMs, firstDelayMs * 2 ** (count - 1)));
    } finally {
      this.#delayed -= 1;
    }
  }
}
