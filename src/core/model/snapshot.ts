import type { Actor, Invite, Token } from './access.ts';
import type { Guest } from './guest.ts';
import type { LeaseProfile, VoterList } from '../ha/types.ts';
import type { Host } from './host.ts';
import type { Image } from './image.ts';
import type { Network } from './network.ts';
import type { Instant, Kind, Uuid } from './resource.ts';

export interface KindMap {
  host: Host;
  guest: Guest;
  image: Image;
  network: Network;
  token: Token;
  invite: Invite;
}
export type AnyResource = KindMap[Kind];

/** Facts about the site as a whole. */
export interface SiteFacts {
  readonly id: Uuid;
  readonly name: string;
  /** The leader's epoch; the store commits only under the current one. */
  readonly epoch: number;
  /** How leases are asked for; the default profile when absent. */
  readonly lease?: LeaseProfile;
  /** No recovery while it stands (network work); `site release` ends it. */
  readonly hold?: { readonly reason: string; readonly who: string; readonly heldAt: Instant };
  /** The first voter list was handed out: from then on only the voters themselves change it. */
  readonly voters?: {
    readonly begunAt: Instant;
    /** The last list that this database heard of, so that a controller knows whom to ask. */
    readonly list?: VoterList;
    /** What people wished beside what the site proposes by itself. */
    readonly added?: readonly Uuid[];
    readonly removed?: readonly Uuid[];
  };
  /** Guests with locks on shared storage are killed so long after the lease lapsed; 5 when absent, 0: at once. */
  readonly lapseGraceSeconds?: number;
  /** What happens to guests of a host that is powered off or rebooted in order; `wait` when absent. */
  readonly onHostLeave?: 'stop' | 'migrate' | 'wait';
  /** Set by a restore: nothing that this state does not know is destroyed until a person has reviewed it. */
  readonly review?: { readonly restoredAt: Instant; readonly backupAt: Instant };
}

/** The whole state of a site at one revision, read-only. Decisions are made on this. */
export interface Snapshot {
  readonly revision: number;
  readonly site: SiteFacts;
  get<K extends Kind>(kind: K, id: Uuid): KindMap[K] | undefined;
  byName<K extends Kind>(kind: K, name: string): KindMap[K] | undefined;
  all<K extends Kind>(kind: K): Iterable<KindMap[K]>;
  count(kind: Kind): number;
  /** Guests placed on a host, without scanning all guests. */
  guestsOn(hostId: Uuid): Iterable<Guest>;
}

export interface Subject {
  readonly kind: Kind | 'site';
  readonly id: Uuid;
  readonly name: string;
}

/** One line of the site's record: who did what to what, when and why; or what was observed, with its cause. */
export interface SiteEvent {
  readonly seq: number;
  readonly eventAt: Instant;
  /** Dotted, stable: `guest.created`, `guest.state`, `host.silent`, `image.ready` … */
  readonly type: string;
  readonly severity: 'info' | 'warning' | 'error';
  readonly subject: Subject;
  readonly message: string;
  readonly who: string;
  readonly reason?: string;
  readonly cause?: string;
  readonly evidence?: Readonly<Record<string, string | number | boolean>>;
}
export type NewEvent = Omit<SiteEvent, 'seq'>;

/** What one transaction writes. Written whole or not at all. */
export interface Change {
  /** Objects to write; `revision` is ignored and given by the store. */
  readonly put: readonly AnyResource[];
  readonly remove: readonly { readonly kind: Kind; readonly id: Uuid }[];
  readonly events: readonly NewEvent[];
  readonly site?: SiteFacts;
}
export const noChange: Change = { put: [], remove: [], events: [] };

/** What a pure request needs from the world. */
export interface RequestContext {
  readonly now: Instant;
  readonly uuid: () => Uuid;
  readonly actor: Actor;
}
