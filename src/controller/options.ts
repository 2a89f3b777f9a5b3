/** How a controller is started, and what its starter holds of it. */
import type { Uuid } from '../core/model/resource.ts';
import type { BootClock, Clock, Ids, Log, Store } from '../ports.ts';
import type { BackupSettings } from './backups.ts';
import type { Services } from './http/services.ts';
import type { FenceDoor } from './fence/door.ts';
import type { LeaseDoor } from './lease/view.ts';
import type { Loop, LoopLease } from './loop.ts';
import type { SiteState } from './state.ts';
import type { Decryption } from './store/backup-file.ts';
import type { WireDoor } from './wire-door.ts';

export interface ControllerOptions {
  readonly dataDir: string;
  /** `/run/virga/virga.sock` by default. */
  readonly socketPath?: string;
  /** `HOST:PORT`, or `fd:N` for an inherited listening socket; each speaks TLS. */
  readonly listen?: readonly string[];
  /** Names and addresses under which agents and people reach the listeners, besides this machine's own. */
  readonly names?: readonly string[];
  /** URLs that invitations show; made from `names` and the listeners when absent. */
  readonly agentUrls?: readonly string[];
  /** A PostgreSQL server; the embedded one when absent. */
  readonly databaseUrl?: string;
  /** Of the embedded server; see `EmbeddedOptions`. */
  readonly runFolder?: string;
  /** System user of the embedded server; `virga` by default. */
  readonly databaseUser?: string;
  readonly siteName?: string;
  /** Becomes this system user once everything that needs root is done; not when absent or not root. */
  readonly dropTo?: string;
  readonly backup?: BackupSettings;
  /** The site's certificate authority from another controller (`exportAuthority`), for a data folder that has none. */
  readonly authority?: { readonly path: string; readonly decryption?: Decryption };
  /** Says when this controller leads; `leadByVoters` when absent. */
  readonly lead?: Lead;
  /** Milliseconds without a report until a host is called silent. */
  readonly silentAfterMs?: number;
  readonly version?: string;
  readonly log?: Log;
}

/** What leadership stands on. */
export interface LeadParts {
  /** The controller's data folder. */
  readonly dataDir: string;
  readonly controllerId: Uuid;
  /** Of its machine. */
  readonly controllerName: string;
  readonly state: SiteState;
  readonly store: Pick<Store, 'epoch' | 'voters'>;
  /** `hurry` when a host was lost. */
  readonly loop: Pick<Loop, 'hurry' | 'wake'>;
  /** To the keepers; silent until the site has its certificates. */
  readonly wire: WireDoor;
  readonly boot: BootClock;
  readonly clock: Clock;
  readonly ids: Ids;
  readonly log: Log;
}

/** Who says when this controller leads, by `state.claim`. */
export interface Leading {
  /** Absent: no host is ever lost, and nobody can ask of leases. */
  readonly lease?: LeaseDoor & LoopLease;
  /** Absent: no host is ever powered off. */
  readonly fencer?: FenceDoor;
  /** Until the signal, from the start on, also while the database is away. Never rejects. */
  run(signal: AbortSignal): Promise<void>;
}

export type Lead = (parts: LeadParts) => Leading;

export interface RunningController {
  readonly socketPath: string;
  /** Ports of the TLS listeners, in their order. */
  readonly ports: readonly number[];
  readonly services: Services;
  /** Resolves when it leads for the first time. */
  readonly leading: Promise<void>;
  /** Rejects with what makes going on useless (a newer database, no database programs). */
  readonly failed: Promise<never>;
  stop(): Promise<void>;
}
