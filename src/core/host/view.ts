/** What the agent saw when it looked: the input of its decision. */
import type { LeaseReport } from '../model/assignment.ts';
import type { HostSession } from '../model/host.ts';
import type { Instant, Uuid } from '../model/resource.ts';

/** One domain with our identity, as far as decisions need it. */
export interface EngineGuestView {
  readonly id: Uuid;
  readonly siteId: Uuid;
  readonly state: 'running' | 'paused' | 'shutoff' | 'crashed' | 'io-error';
  readonly startedAt: Instant;
  readonly generation: number;
  /** The group of its process, as the kernel names it. */
  readonly group?: string;
  /** The kernel holds its process still: whatever asks it hangs. */
  readonly frozen?: boolean;
}

/** What the host's keeper said when it was asked, as far as decisions need it. */
export interface KeeperSight {
  readonly lease: LeaseReport['state'];
  /** Guests registered in this session. */
  readonly entries: ReadonlyMap<Uuid, { readonly generation: number; readonly epoch: number }>;
  /** Guests, and the highest generation of each that the keeper will never register. */
  readonly gone: ReadonlyMap<Uuid, number>;
}

export interface HostView {
  /** The last that is known; it is the keeper's while that answers. */
  readonly session: HostSession;
  /** Absent: the keeper does not answer. */
  readonly keeper?: KeeperSight;
  /** Guests that the keeper sent away for want of a lease, and when to ask again if it says nothing before. */
  readonly leaseRetryAt: ReadonlyMap<Uuid, Instant>;
  readonly guests: readonly EngineGuestView[];
  /** UUIDs of domains that are not ours. */
  readonly foreign: readonly Uuid[];
  /** SHA-512 of the images in the cache. */
  readonly images: readonly string[];
  /** Images being fetched now, and those whose fetching failed and when to try again. */
  readonly fetching: readonly string[];
  readonly fetchRetryAt: Readonly<Record<string, Instant>>;
  /** Assigned networks that the guests can use; the others have a problem or were not looked at yet. */
  readonly networks: readonly Uuid[];
  /** Guests that are being worked on: nothing new is begun for them. */
  readonly busy: readonly Uuid[];
}
