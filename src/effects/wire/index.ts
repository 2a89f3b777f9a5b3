/**
 * Authenticated datagrams between keepers and controllers (`Wire` of `src/ports.ts`), over UDP: a lost beat is not worth
 * repeating, and a stream would stall all later ones behind it. Formats: `frame.ts`; how keys come about: `greeting.ts`.
 */
import type { HaMessage, Relay } from '../../core/ha/types.ts';
import type { Uuid } from '../../core/model/resource.ts';
import { Bucket } from './bucket.ts';
import {
  answerBit,
  authentic,
  decode,
  encodeSealed,
  endsOf,
  idBytes,
  isBetween,
  isFor,
  maxDatagramBytes,
  payloadOf,
  type Hello,
  type Sealed,
} from './frame.ts';
import { Greeter } from './greeting.ts';
import type { WireIdentity } from './identity.ts';
import type { OpenWire, PeerSight, Sender, WireCounts, WireOptions } from './types.ts';
import { PeerTable, type Peer, type Session } from './peers.ts';
import { readMessage } from './shapes.ts';
import { formatEndpoint, maxNetworks, parseAddress, Sockets, type Endpoint, type OpenSocket } from './sockets.ts';

export type { WireIdentity } from './identity.ts';
export type { OpenWire, PeerSight, Sender, WireCounts, WireOptions } from './types.ts';

/** Milliseconds between two "who are you?" to one peer. */
const helloEveryMs = 100;
/** A peer that has not answered for this long is also tried through relays, milliseconds. */
const relayAfterMs = 1000;
const relaysAtOnce = 2;
/** A relay passes on to controllers that it heard within this time, milliseconds. */
const relayFreshMs = 10_000;
/** Set in `way` of what goes through a relay, and repeated by its answer. */
const relayBit = 0x40;
/** Shorter ones are not worth asking who sent them: the question would be longer. */
const minAskedBytes = 200;

const stampOf = (now: number): number => Math.floor(now * 10) % 2 ** 32 || 1;

class UdpWire implements OpenWire {
  readonly #options: WireOptions;
  readonly #greeter: Greeter;
  readonly #peers: PeerTable;
  readonly #self: Buffer;
  readonly #listeners = new Set<(from: Sender, message: HaMessage) => void>();
  readonly #counts: WireCounts = {
    sent: 0,
    received: 0,
    malformed: 0,
    forged: 0,
    replayed: 0,
    unknown: 0,
    refused: 0,
    busy: 0,
    relayed: 0,
    unsendable: 0,
  };
  readonly #asking: Bucket;
  readonly #passing: Bucket;
  #sockets: Sockets | undefined;

  constructor(options: WireOptions) {
    this.#options = options;
    this.#peers = new PeerTable(options.self);
    this.#self = idBytes(options.self);
    const now = options.clock.now();
    this.#greeter = new Greeter(options.self, options.siteId, options.identity, now);
    this.#asking = new Bucket(1500, 500, now);
    this.#passing = new Bucket(2000, 500, now);
  }

  async open(): Promise<void> {
    const events = {
      datagram: (bytes: Buffer, from: Endpoint, socket: OpenSocket) => this.#receive(bytes, from, socket),
      failed: (error: Error) => {
        this.#counts.unsendable += 1;
        this.#options.log.debug('a datagram was not sent', { error: error.message });
      },
    };
    this.#sockets = await Sockets.open(this.#options.listen, events, this.#options.log);
  }

  send(to: Uuid, message: HaMessage, addresses?: readonly string[]): void {
    if (to === this.#options.self) return this.#loop(message);
    const json = Buffer.from(JSON.stringify(message));
    const peer = this.#peers.ensure(to);
    const now = this.#options.clock.now();
    if (addresses) this.#know(peer, addresses);
    peer.firstSentAt = Math.min(peer.firstSentAt, now);
    const session = peer.sessions[0];
    if (session) return this.#sendUnder(session, json, addresses, now);
    peer.wait({ json, addresses });
    this.#askWho(peer, now);
  }

  onMessage(listener: (from: Sender, message: HaMessage) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  use(identity: WireIdentity): void {
    this.#greeter.use(identity);
  }

  addresses(): readonly string[] {
    return (this.#sockets?.all ?? []).map(({ local }) => formatEndpoint(local));
  }

  sight(id: Uuid): PeerSight {
    const now = this.#options.clock.now();
    const peer = this.#peers.get(id);
    return {
      id,
      ...(peer?.role === undefined ? {} : { role: peer.role }),
      ...(peer?.heard === undefined ? {} : { heardMsAgo: now - peer.heard.at }),
      ways: (peer?.ways ?? []).map(({ address, answeredAt, roundTripMs }) => ({
        address,
        ...(answeredAt === undefined ? {} : { answeredMsAgo: now - answeredAt }),
        ...(roundTripMs === undefined ? {} : { roundTripMs }),
      })),
    };
  }

  stats(): Readonly<WireCounts> & { readonly peers: number } {
    let peers = 0;
    for (const peer of this.#peers.all()) if (peer.role) peers += 1;
    return { ...this.#counts, peers };
  }

  async close(): Promise<void> {
    this.#listeners.clear();
    const sockets = this.#sockets;
    this.#sockets = undefined;
    await sockets?.close();
  }

  /** To oneself: a keeper's own vote needs no network. */
  #loop(message: HaMessage): void {
    const { self } = this.#options;
    const role = 'keeper';
    setImmediate(() => this.#tell({ id: self, role, address: 'self' }, message));
  }

  #tell(from: Sender, message: HaMessage): void {
    for (const listener of this.#listeners) listener(from, message);
  }

  #know(peer: Peer, addresses: readonly string[]): void {
    const same =
      addresses.length === peer.ways.length && addresses.every((each, at) => peer.ways[at]?.address === each);
    if (same) return;
    peer.ways = addresses.slice(0, maxNetworks).flatMap((address) => {
      const endpoint = parseAddress(address);
      const known = peer.ways.find((way) => way.address === address);
      return known ?? (endpoint ? { address, endpoint } : []);
    });
  }

  #emit(bytes: Buffer, to: Endpoint, socket: OpenSocket | undefined): void {
    if (!socket || !this.#sockets) {
      this.#counts.unsendable += 1;
      return;
    }
    this.#counts.sent += 1;
    this.#sockets.send(bytes, to, socket);
  }

  #seal(session: Session, json: Buffer, way: number, now: number, echoed = 0): Buffer | undefined {
    session.sent += 1;
    const head = { way, counter: session.sent, stamp: stampOf(now), echoed };
    try {
      return encodeSealed(head, session.outgoing, json, session);
    } catch (error) {
      this.#counts.unsendable += 1;
      this.#options.log.error('a message cannot be sent', { to: session.peer.id, error: String(error) });
      return undefined;
    }
  }

  #sendUnder(session: Session, json: Buffer, addresses: readonly string[] | undefined, now: number): void {
    const { peer } = session;
    const { heard } = peer;
    if (!addresses && heard) {
      const bytes = this.#seal(session, json, heard.way | answerBit, now, heard.stamp);
      heard.stamp = 0;
      if (bytes) this.#emit(bytes, heard.from, heard.socket);
      return;
    }
    for (const [way, { endpoint }] of peer.ways.entries()) {
      const bytes = this.#seal(session, json, way, now);
      if (bytes) this.#emit(bytes, endpoint, this.#sockets?.choose(endpoint, way));
    }
    const bytes = this.#relayDue(peer, now) ? this.#seal(session, json, relayBit, now) : undefined;
    if (bytes) this.#sendByRelay(peer, bytes, now);
    else if (peer.ways.length === 0) this.#counts.unsendable += 1;
  }

  #askWho(peer: Peer, now: number): void {
    if (now - peer.helloAt < helloEveryMs) return;
    peer.helloAt = now;
    const bytes = this.#greeter.ask(peer.id, now);
    for (const [way, { endpoint }] of peer.ways.entries())
      this.#emit(bytes, endpoint, this.#sockets?.choose(endpoint, way));
    if (this.#relayDue(peer, now)) this.#sendByRelay(peer, bytes, now);
    else if (peer.ways.length === 0) this.#counts.unsendable += 1;
  }

  #relayDue(peer: Peer, now: number): boolean {
    return this.#options.relays !== undefined && now - Math.max(peer.directAt, peer.firstSentAt) > relayAfterMs;
  }

  #sendByRelay(peer: Peer, bytes: Buffer, now: number): void {
    let left = relaysAtOnce;
    const relay: Relay = { type: 'relay', to: peer.id, datagram: bytes.toString('base64') };
    const json = Buffer.from(JSON.stringify(relay));
    for (const id of this.#options.relays?.() ?? []) {
      const by = this.#peers.get(id);
      const session = by?.sessions[0];
      const well = by !== undefined && by !== peer && now - by.directAt < relayAfterMs;
      const way = by?.ways[0];
      if (!well || !session || !way || left === 0 || json.length > maxDatagramBytes / 2) continue;
      left -= 1;
      const wrapped = this.#seal(session, json, 0, now);
      if (wrapped) this.#emit(wrapped, way.endpoint, this.#sockets?.choose(way.endpoint, 0));
    }
  }

  #receive(bytes: Buffer, from: Endpoint, socket: OpenSocket): void {
    this.#counts.received += 1;
    const datagram = decode(bytes);
    if (!datagram) this.#counts.malformed += 1;
    else if (!isFor(bytes, this.#self)) this.#passOn(bytes);
    else if (datagram.type === 'hello') this.#greet(datagram, bytes, from, socket);
    else this.#open(datagram, bytes, from, socket);
  }

  /** Between a controller and a host that hear each other through us only. */
  #passOn(bytes: Buffer): void {
    const now = this.#options.clock.now();
    const { from, to } = endsOf(bytes);
    const [sender, receiver] = [this.#peers.get(from), this.#peers.get(to)];
    const heard = receiver?.heard;
    const fresh = [sender, receiver].every(
      (peer) => now - (peer?.heard?.at ?? Number.NEGATIVE_INFINITY) < relayFreshMs,
    );
    if (!heard || !fresh || (sender?.role === 'controller') === (receiver?.role === 'controller'))
      this.#counts.malformed += 1;
    else if (!this.#passing.take(now)) this.#counts.busy += 1;
    else {
      this.#counts.relayed += 1;
      this.#emit(bytes, heard.from, heard.socket);
    }
  }

  #greet(hello: Hello, bytes: Buffer, from: Endpoint, socket: OpenSocket): void {
    const now = this.#options.clock.now();
    const met = this.#greeter.meet(hello, bytes, now, Date.now());
    if (met === 'busy' || met === 'refused') {
      this.#counts[met] += 1;
      return;
    }
    const other = this.#peers.get(hello.from)?.role;
    if (other !== undefined && other !== met.role) {
      this.#counts.refused += 1;
      return;
    }
    if (met.answer) this.#emit(met.answer, from, socket);
    if (!met.key) return;
    const peer = this.#peers.ensure(hello.from);
    if (!this.#peers.establish(peer, met.role, met.key)) {
      this.#counts.replayed += 1;
      return;
    }
    peer.heard ??= { socket, from, address: formatEndpoint(from), way: 0, at: now, stamp: 0 };
    const session = peer.sessions[0];
    const waiting = peer.pending;
    peer.pending = [];
    if (session) for (const { json, addresses } of waiting) this.#sendUnder(session, json, addresses, now);
  }

  #open(sealed: Sealed, bytes: Buffer, from: Endpoint, socket: OpenSocket): void {
    const session = this.#peers.byTag(sealed.tag);
    const now = this.#options.clock.now();
    if (!session) {
      this.#counts.unknown += 1;
      if (bytes.length >= minAskedBytes && this.#asking.take(now))
        this.#emit(this.#greeter.ask(endsOf(bytes).from, now), from, socket);
      return;
    }
    const { peer } = session;
    if (!isBetween(bytes, session.incoming) || !authentic(bytes, session.key)) {
      this.#counts.forged += 1;
      return;
    }
    if (!session.window.accept(sealed.counter)) {
      this.#counts.replayed += 1;
      return;
    }
    const address = this.#note(peer, sealed, from, socket, now);
    const sender: Sender = { id: peer.id, role: peer.role ?? 'keeper', address };
    const payload = payloadOf(bytes);
    const message = payload !== undefined ? readMessage(payload, sender) : 'malformed';
    if (message === 'malformed') this.#counts.malformed += 1;
    else if (message === 'forbidden') this.#counts.refused += 1;
    else if (message.type === 'relay') this.#relay(message, now);
    else this.#tell(sender, message);
  }

  /** Remembers where the peer is and what it answered; gives the address in text. */
  #note(peer: Peer, { way, stamp, echoed }: Sealed, from: Endpoint, socket: OpenSocket, now: number): string {
    const { heard } = peer;
    const same = heard !== undefined && heard.from.port === from.port && heard.from.host === from.host;
    const address = same ? heard.address : formatEndpoint(from);
    const answer = (way & answerBit) !== 0;
    const relayed = (way & relayBit) !== 0;
    if (!relayed) peer.directAt = now;
    // What came back through a relay came from the relay's address, where the peer itself is not.
    if (!(answer && relayed)) peer.heard = { socket, from, address, way: way & ~answerBit, at: now, stamp };
    const known = answer && !relayed ? peer.ways[way & ~answerBit] : undefined;
    if (known) known.answeredAt = now;
    if (known && echoed !== 0) known.roundTripMs = ((stampOf(now) - echoed + 2 ** 32) % 2 ** 32) / 10;
    return address;
  }

  #relay({ to, datagram }: Relay, now: number): void {
    const heard = this.#peers.get(to)?.heard;
    if (!heard || !this.#passing.take(now)) return;
    this.#counts.relayed += 1;
    this.#emit(Buffer.from(datagram, 'base64'), heard.from, heard.socket);
  }
}

/** Opens the sockets. @throws Error when an address cannot be listened on, or the identity is not usable */
export async function openWire(options: WireOptions): Promise<OpenWire> {
  const wire = new UdpWire(options);
  await wire.open();
  return wire;
}
