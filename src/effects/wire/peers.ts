/** What is known of those we talk with: the keys, what was received of each, and by which ways they answer. */
import type { Uuid } from '../../core/model/resource.ts';
import { idBytes } from './frame.ts';
import type { Role, SessionKey } from './identity.ts';
import { ReplayWindow } from './replay.ts';
import type { Endpoint, OpenSocket } from './sockets.ts';

/** Keys kept per peer: datagrams under the one before may still arrive while a restart becomes known. */
const maxSessions = 3;
const maxPending = 8;
const maxPeers = 4096;
/** Keys that were given up and may not come back. */
const maxRetired = 20_000;

export interface Session extends SessionKey {
  readonly peer: Peer;
  /** Ids of the peer and of us, as they stand in what it sends, and the other way round. */
  readonly incoming: Buffer;
  readonly outgoing: Buffer;
  readonly window: ReplayWindow;
  /** Counter of the last datagram sent. */
  sent: number;
}

/** One address of a peer, in the order in which it was given. */
export interface Way {
  readonly address: string;
  readonly endpoint: Endpoint;
  answeredAt?: number;
  roundTripMs?: number;
}

/** Where a peer was last heard from, for answers. */
export interface Heard {
  readonly socket: OpenSocket;
  readonly from: Endpoint;
  readonly way: number;
  readonly at: number;
  /** `from` in text. */
  readonly address: string;
  /** Of the datagram, to be echoed once; 0: it was. */
  stamp: number;
}

export interface Waiting {
  readonly json: Buffer;
  readonly addresses: readonly string[] | undefined;
}

export class Peer {
  readonly id: Uuid;
  /** Proven by a certificate. */
  role: Role | undefined;
  ways: Way[] = [];
  heard: Heard | undefined;
  /** When it was last heard from without a relay. */
  directAt = Number.NEGATIVE_INFINITY;
  firstSentAt = Number.POSITIVE_INFINITY;
  helloAt = Number.NEGATIVE_INFINITY;
  /** Newest first. */
  readonly sessions: Session[] = [];
  /** What is to be said once there is a key; newest last. */
  pending: Waiting[] = [];

  constructor(id: Uuid) {
    this.id = id;
  }

  wait(waiting: Waiting): void {
    this.pending.push(waiting);
    if (this.pending.length > maxPending) this.pending.shift();
  }
}

/** Bytes that are kept for long, in memory of their own: a slice of Node's pool would hold 8 KiB of it. */
export function apart(...parts: readonly Uint8Array[]): Buffer {
  const whole = Buffer.allocUnsafeSlow(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

export class PeerTable {
  readonly #self: Buffer;
  /** Least recently added first; one that is heard again moves to the end by `touch`. */
  readonly #peers = new Map<Uuid, Peer>();
  readonly #byTag = new Map<string, Session>();
  readonly #retired = new Set<string>();

  constructor(self: Uuid) {
    this.#self = idBytes(self);
  }

  get(id: Uuid): Peer | undefined {
    return this.#peers.get(id);
  }

  all(): Iterable<Peer> {
    return this.#peers.values();
  }

  ensure(id: Uuid): Peer {
    const known = this.#peers.get(id);
    if (known) return known;
    const made = new Peer(id);
    if (this.#peers.size >= maxPeers) this.#evict();
    this.#peers.set(id, made);
    return made;
  }

  byTag(tag: string): Session | undefined {
    return this.#byTag.get(tag);
  }

  /** Makes the key the peer's newest. False: it was given up before (somebody replays an old hello). */
  establish(peer: Peer, role: Role, { key, tag }: SessionKey): boolean {
    if (this.#retired.has(tag)) return false;
    peer.role = role;
    const known = this.#byTag.get(tag);
    if (known) {
      if (known.peer !== peer) return false;
      if (peer.sessions[0] !== known) peer.sessions.splice(peer.sessions.indexOf(known), 1);
      if (peer.sessions[0] !== known) peer.sessions.unshift(known);
      return true;
    }
    const id = idBytes(peer.id);
    const incoming = apart(id, this.#self);
    const outgoing = apart(this.#self, id);
    const session: Session = { peer, key, tag, incoming, outgoing, window: new ReplayWindow(), sent: 0 };
    peer.sessions.unshift(session);
    this.#byTag.set(tag, session);
    for (const old of peer.sessions.splice(maxSessions)) this.#retire(old);
    return true;
  }

  #retire({ tag }: Session): void {
    this.#byTag.delete(tag);
    this.#retired.add(tag);
    if (this.#retired.size <= maxRetired) return;
    for (const oldest of this.#retired) {
      this.#retired.delete(oldest);
      return;
    }
  }

  #evict(): void {
    let silent: Peer | undefined;
    for (const peer of this.#peers.values())
      if (!silent || (peer.heard?.at ?? -1) < (silent.heard?.at ?? -1)) silent = peer;
    if (!silent) return;
    for (const session of silent.sessions) this.#retire(session);
    this.#peers.delete(silent.id);
  }
}
