/** What people see of leases: from the leader's memory, with the time of each sight; never written to the store. */
import type { Epoch, LeaseProfile, ListVersion } from '../../core/ha/types.ts';
import type { HostSession } from '../../core/model/host.ts';
import type { Instant, Uuid } from '../../core/model/resource.ts';

export interface VoterSight {
  readonly keeperId: Uuid;
  readonly name: string;
  readonly votes: number;
  /** It answered within the last second. */
  readonly answers: boolean;
  readonly answeredAt?: Instant;
  readonly roundTripMs?: number;
  /** It accepted this controller's epoch. */
  readonly accepted: boolean;
  /** Highest epoch that it accepted, and its list; absent: it never answered. */
  readonly epoch?: Epoch;
  readonly version?: ListVersion;
  readonly addresses: readonly { readonly address: string; readonly answers: boolean; readonly roundTripMs?: number }[];
}

/**
 * `held`: a majority of voters grants it · `lapsed`: its guests are frozen, it is heard · `sealing`: it is being sealed, `sealedVotes`
 * of `votes` so far · `lost`: its session is over · `none`: it asks for no lease (no guests, or no guard) · `unknown`: no
 * majority says anything of it.
 */
export interface HostLeaseSight {
  readonly hostId: Uuid;
  readonly state: 'held' | 'lapsed' | 'sealing' | 'lost' | 'none' | 'unknown';
  readonly session?: HostSession;
  /** Milliseconds that the lease still lasts, at least. */
  readonly leftMs?: number;
  readonly silentSinceAt?: Instant;
  readonly sealedVotes?: number;
  readonly votes?: number;
  /** Generation of the voter list that the host confirmed. */
  readonly confirmed?: ListVersion;
}

export interface LeaseSight {
  /** `alone`: there is no voter list yet, the database alone says who leads · `candidate`: it asks for the voters' majority. */
  readonly leadership: 'alone' | 'candidate' | 'leading';
  readonly epoch: Epoch;
  /** It can commit to the database. */
  readonly committing: boolean;
  readonly version?: ListVersion;
  readonly profile: LeaseProfile;
  readonly voters: readonly VoterSight[];
  readonly hosts: readonly HostLeaseSight[];
  /** Hosts whose register was not seen under this epoch: guests that earlier leaders placed are not started anew before. */
  readonly barrier: readonly Uuid[];
  /** A change of the voter list that is under way or wished, and what it waits for. */
  readonly change?: { readonly what: string; readonly waitsFor: readonly string[] };
}

/** Last detections, for metrics and `bench`: milliseconds from the last grant to each step. */
export interface Detection {
  readonly hostId: Uuid;
  readonly session: HostSession;
  readonly silentAt: Instant;
  readonly sealedAt: Instant;
  readonly lostAt: Instant;
}

/** What the rest of the controller may ask of the lease. */
export interface LeaseDoor {
  sight(): LeaseSight;
  /** Newest last; at most 64. */
  detections(): readonly Detection[];
  /** Wishes a change of the voter list; the loop carries it out one step at a time. @throws VirgaError invalid_request · no_majority */
  wishVoters(wish: { readonly add?: Uuid; readonly remove?: Uuid }): void;
  /** Seals the host's session by a person's word (rule 15). Resolves when a majority has it durably. @throws VirgaError no_majority · timeout */
  declareDead(
    hostId: Uuid,
    word: {
      readonly who: string;
      readonly reason: string;
      readonly kind: 'person' | 'fence';
      /** The session that is meant, where it must be no later one. */
      readonly session?: HostSession;
    },
  ): Promise<void>;
  /** Makes this list of survivors the voters, by hand (rule 15). @throws VirgaError timeout */
  forceVoters(keeperIds: readonly Uuid[], word: { readonly who: string; readonly reason: string }): Promise<void>;
}
