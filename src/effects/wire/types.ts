/** What the wire is to those who use it. */
import type { HaMessage } from '../../core/ha/types.ts';
import type { Uuid } from '../../core/model/resource.ts';
import type { BootClock, Log, Wire } from '../../ports.ts';
import type { Role, WireIdentity } from './identity.ts';

export interface WireOptions {
  /** A host's id, or the controller's own. */
  readonly self: Uuid;
  readonly siteId: Uuid;
  readonly identity: WireIdentity;
  /** `ADDRESS:PORT`, one per network, at most two; port 0: any. */
  readonly listen: readonly string[];
  readonly clock: BootClock;
  readonly log: Log;
  /** Keepers that pass datagrams on to those that do not answer us. */
  readonly relays?: () => readonly Uuid[];
}

export interface Sender {
  readonly id: Uuid;
  /** What its certificate says. */
  readonly role: Role;
  readonly address: string;
}

export interface PeerSight {
  readonly id: Uuid;
  readonly role?: Role;
  /** Milliseconds since it was last heard from. */
  readonly heardMsAgo?: number;
  readonly ways: readonly {
    readonly address: string;
    readonly answeredMsAgo?: number;
    /** Of the last question that was answered, milliseconds. */
    readonly roundTripMs?: number;
  }[];
}

export interface WireCounts {
  sent: number;
  received: number;
  /** Not one of ours, or not whole. */
  malformed: number;
  /** The MAC is wrong. */
  forged: number;
  replayed: number;
  /** Under a key that we do not have (we or the sender restarted). */
  unknown: number;
  /** Certificates that are not of this site, or not of who says so; roles that may not say it. */
  refused: number;
  /** Not looked at, because there were too many. */
  busy: number;
  relayed: number;
  /** Nowhere to send to, too long, or refused by the system. */
  unsendable: number;
}

export interface OpenWire extends Wire {
  /** Called at once for each message. Returns the way to stop it. */
  onMessage(listener: (from: Sender, message: HaMessage) => void): () => void;
  /** Goes on with a renewed certificate. @throws Error when it is not usable */
  use(identity: WireIdentity): void;
  /** Where it listens, with the ports that the system gave. */
  addresses(): readonly string[];
  sight(id: Uuid): PeerSight;
  stats(): Readonly<WireCounts> & { readonly peers: number };
  close(): Promise<void>;
}
