/** The keeper's doors to its host. The real ones are wired by `main.ts`; the simulator has its own. */
import type { Rules } from '../core/ha/rules.ts';
import type { Uuid } from '../core/model/resource.ts';
import type { HostSession } from '../core/model/host.ts';
import type { BootClock, Files, Ids, Log, Wire } from '../ports.ts';

/** The guard of this host: another process, which freezes at the deadline whatever happens to us (rule 3). */
export interface GuardDoor {
  /**
   * Tells the deadline of a session (boot-time clock, milliseconds); it only counts once it is answered. `force`: also an
   * earlier one than the guard has. The guard does not answer when its own lag was beyond k/2. `boundMs`: k.
   */
  deadline(session: HostSession, at: number, force: boolean, boundMs?: number): void;
  /** When the guard last answered for this session and what deadline it then had; undefined: not since it was asked. */
  answered():
    | {
        readonly session: HostSession;
        readonly deadline: number;
        readonly at: number;
        readonly lagMs: number;
        readonly frozen: boolean;
      }
    | undefined;
}

/** The groups of guests of this host (cgroup v2): one per session, one below it per guest. */
export interface Groups {
  /** Makes the session's group, frozen, if it is not there. */
  ensure(session: HostSession): Promise<void>;
  /** Makes the guest's group and returns its path. */
  make(session: HostSession, guestId: Uuid): Promise<string>;
  enter(session: HostSession, guestId: Uuid, pid: number): Promise<void>;
  /** Kills what is in it and removes it. False: something in it does not die (D state); tried again later. */
  clear(session: HostSession, guestId: Uuid): Promise<boolean>;
  /** Freezes the session's whole group. The guard does this first; the keeper stands behind it. */
  freeze(session: HostSession): Promise<void>;
  /** Kills and removes the groups of all sessions but `except`. False: something in them does not die. */
  clearOthers(except: HostSession | undefined): Promise<boolean>;
}

export interface KeeperPorts {
  readonly clock: BootClock;
  readonly ids: Ids;
  readonly files: Files;
  readonly wire: Wire;
  readonly guard: GuardDoor;
  readonly groups: Groups;
  readonly log: Log;
}

export interface KeeperSettings {
  readonly hostId: Uuid;
  readonly siteId: Uuid;
  readonly name: string;
  readonly role: 'host' | 'witness';
  readonly bootId: string;
  readonly rules?: Rules;
}
