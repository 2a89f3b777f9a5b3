/** What the handlers stand on; wired in `main.ts`. */
import type { Readable } from 'node:stream';
import type { StoredImages } from '../../api/link.ts';
import type { Body } from '../../api/routes.ts';
import type { Instant } from '../../core/model/resource.ts';
import type { Clock, Ids, Log, Store } from '../../ports.ts';
import type { Authority } from '../ca.ts';
import type { ImageFiles } from '../images/types.ts';
import type { ImageWork } from '../image-work.ts';
import type { FenceDoor } from '../fence/door.ts';
import type { LeaseDoor } from '../lease/view.ts';
import type { Links } from '../links.ts';
import type { Loop } from '../loop.ts';
import type { SiteState } from '../state.ts';
import type { Streams } from '../streams.ts';
import type { Access } from './access.ts';
import type { Metrics } from './metrics.ts';

export interface BackupStream {
  readonly stream: Readable;
  readonly sizeBytes: number;
  readonly fileName: string;
  readonly secretsLeftOut: readonly string[];
}

export interface Services {
  readonly clock: Clock;
  readonly ids: Ids;
  readonly log: Log;
  readonly version: string;
  readonly startedAt: Instant;
  readonly state: SiteState;
  readonly store: Pick<Store, 'events' | 'ping'>;
  readonly loop: Loop;
  readonly links: Links;
  readonly streams: Streams;
  readonly files: ImageFiles;
  readonly images: ImageWork;
  readonly access: Access;
  readonly metrics: Metrics;
  /** Absent while it is not wired: then nothing is known of leases. */
  readonly lease?: LeaseDoor;
  readonly fencer?: FenceDoor;
  /** Address or name of the controller that leads, where another one does and it is known. */
  leader?(): string | undefined;
  /** @throws VirgaError not_leading while a new site has none yet */
  authority(): Authority;
  /** Images that this controller holds and the site needs, for controllers that lack them. */
  storedImages(): Promise<StoredImages['images']>;
  /** Where agents reach this controller; empty without a TLS listener. */
  agentUrls(): readonly string[];
  backup(request: Body<'site.backup'>): Promise<BackupStream>;
}
