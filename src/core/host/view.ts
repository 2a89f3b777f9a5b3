/** What the agent saw when it looked: the input of its decision. */
import type { HostSession } from '../model/host.ts';
import type { Instant, Uuid } from '../model/resource.ts';

/** One domain with our identity, as far as decisions need it. */
export interface EngineGuestView {
  readonly id: Uuid;
  readonly siteId: Uuid;
  readonly state: 'running' | 'paused' | 'shutoff' | 'crashed' | 'io-error';
  readonly startedAt: Instant;
  readonly generation: number;
}

export interface HostView {
  readonly session: HostSession;
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
