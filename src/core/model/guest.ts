import type { HostSession } from './host.ts';
import type { ImageFormat } from './image.ts';
import type { Instant, Resource, Uuid } from './resource.ts';

/** Derived from what was observed (law 5), see `guestState` in `states.ts`. */
export type GuestState =
  | 'pending' // accepted, no host yet
  | 'starting' // placed, not seen running yet
  | 'running'
  | 'paused'
  | 'stopping' // asked to stop, still seen running
  | 'stopped'
  | 'failed' // tried and gave up; says why
  | 'unknown' // its host is silent
  | 'deleting';

export type DiskMode = 'keep' | 'fresh';
export type RestartPolicy = 'always' | 'on-failure' | 'never';

export interface GuestNic {
  readonly networkId: Uuid;
  readonly mac: string;
  readonly ipv4?: string;
  readonly ipv6?: string;
}

/** Pinned at creation, so that the guest can move and be found the same years later. */
export interface GuestMachine {
  readonly arch: string;
  /** Versioned, e.g. `pc-q35-7.2`. */
  readonly type: string;
  readonly firmware: 'bios' | 'uefi';
  /** A named model such as `qemu64`; never `host`. */
  readonly cpuModel: string;
}

export interface GuestSnapshot {
  readonly id: Uuid;
  readonly name: string;
  readonly askedAt: Instant;
  /** False: deletion was asked for. */
  readonly wanted: boolean;
}

/** A foreign domain taken over: everything that `release` needs to give it back as it was. */
export interface AdoptedDomain {
  readonly xml: string;
  readonly persistent: boolean;
  readonly autostart: boolean;
}

export interface GuestSpec {
  /** Absent for an adopted domain. */
  readonly image?: { readonly id: Uuid; readonly sha512: string; readonly format: ImageFormat };
  readonly cpus: number;
  /** Upper bound for a change while running. */
  readonly maxCpus: number;
  readonly memoryMiB: number;
  readonly maxMemoryMiB: number;
  /** Virtual size of the first disk. */
  readonly diskMiB: number;
  /** `keep`: one overlay for life · `fresh`: a new overlay at each start. */
  readonly diskMode: DiskMode;
  readonly nics: readonly GuestNic[];
  readonly userData?: string;
  readonly sshKeys: readonly string[];
  readonly restart: RestartPolicy;
  /** `off`: never started elsewhere by itself. Absent: on, where its disk allows it (see `core/ha/eligible.ts`). */
  readonly ha?: 'off';
  /** Who is recovered first: 0 to 100, higher first; 50 when absent. */
  readonly priority?: number;
  /** Best first; a host that is not listed is taken only when none of these fits. */
  readonly preferredHosts?: readonly Uuid[];
  /** Moves back to a preferred host when that fits again. Costs a restart. */
  readonly failBack?: boolean;
  /** More restarts or moves within `windowSeconds` and it is given up until a person cleans up. */
  readonly limits?: { readonly restarts?: number; readonly moves?: number; readonly windowSeconds: number };
  /** Only on this host. */
  readonly hostId?: Uuid;
  readonly power: 'on' | 'off';
  readonly paused: boolean;
  /** Seconds between the polite stop and the forced one. */
  readonly graceSeconds: number;
  /** Grace of the stop that is under way, where it differs; a start takes it away. 0: at once. */
  readonly stopGraceSeconds?: number;
  /** Counters: each rise asks for the thing once more. What was done is in the agent's journal. */
  readonly startSeq: number;
  readonly rebootSeq: number;
  /** `rebuild`: back to the original image. */
  readonly rebuildSeq: number;
  readonly revert?: { readonly seq: number; readonly snapshotId: Uuid };
  readonly snapshots: readonly GuestSnapshot[];
  /** Keep exactly as it is: nothing starts, stops, restarts or moves it until `unhold`. */
  readonly held?: { readonly reason: string; readonly heldAt: Instant };
  readonly machine: GuestMachine;
  readonly adopted?: AdoptedDomain;
  /** Asked to be given back: the agent restores the domain, then the guest goes from Virga. */
  readonly releasing?: boolean;
}

/** Where the controller put it. `generation` is the order's: executed at most once, never a lower one after a higher. */
export interface Placement {
  readonly hostId: Uuid;
  /** Absent until the host reported its session. */
  readonly session?: HostSession;
  readonly epoch: number;
  readonly generation: number;
  readonly placedAt: Instant;
  /** Every order since it was last seen off was one of a highly available guest: it can run nowhere but in its session's group. */
  readonly ha?: true;
  /** Why here: the sentences that `explain` prints. */
  readonly reasons: readonly string[];
}

export interface GuestAddress {
  /** `assigned` by Virga · `agent`: reported by the guest agent. */
  readonly source: 'assigned' | 'agent';
  readonly family: 4 | 6;
  readonly address: string;
  readonly interface?: string;
}

/** `lease-lost`: its host's keeper killed it, because the session was over or a leader barred it there. */
export type ExitReason = 'shutdown' | 'destroyed' | 'crashed' | 'failed' | 'host-reboot' | 'lease-lost' | 'unknown';

/** What the host saw. Everything here was observed, with its time. */
export interface GuestObservation {
  readonly engine: 'absent' | 'running' | 'paused' | 'shutoff' | 'crashed' | 'io-error';
  readonly observedAt: Instant;
  /** The order that the host has executed. */
  readonly generation: number;
  /** The highest order that it has seen, where that is above the one it is given: it carries out no older one. */
  readonly accepted?: number;
  /** True: it runs in the group of the host's session, which freezes with the lease. Only such a guest may be started elsewhere. */
  readonly inside?: boolean;
  /** Frozen with its host's lapsed lease. */
  readonly frozen?: boolean;
  readonly since?: { readonly startedAt: Instant };
  /** `preparing` (image, overlay, seed) and its progress 0..1. */
  readonly preparing?: { readonly what: string; readonly progress: number };
  readonly exit?: { readonly reason: ExitReason; readonly exitAt: Instant };
  readonly restarts: number;
  readonly startSeq: number;
  readonly rebootSeq: number;
  readonly rebuildSeq: number;
  readonly revertSeq: number;
  readonly cpus?: number;
  readonly memoryMiB?: number;
  readonly cpuPercent?: number;
  readonly addresses: readonly GuestAddress[];
  readonly agentConnected?: boolean;
  readonly snapshots: readonly {
    readonly id: Uuid;
    readonly state: 'ready' | 'failed';
    readonly error?: string;
    readonly createdAt: Instant;
  }[];
  /** The last thing that went wrong; absent when all is well. The agent retries with back-off until `gaveUp`. */
  readonly error?: {
    readonly code: string;
    readonly message: string;
    readonly errorAt: Instant;
    readonly gaveUp: boolean;
  };
}

/** `lost`: its host's session is over · `fail-back`: a preferred host fits again · `start`: a start that found a better host. */
export interface Recovery {
  /** Name of the host that it leaves. */
  readonly from: string;
  readonly why: 'lost' | 'fail-back' | 'start';
  readonly sinceAt: Instant;
  /** Another host is taken where one fits: it failed there. */
  readonly notOn?: Uuid;
}

export interface GuestStatus {
  readonly state: GuestState;
  readonly stateAt: Instant;
  readonly stateReason?: string;
  readonly placement?: Placement;
  /** Highest generation ever ordered, also while not placed. */
  readonly lastGeneration: number;
  /** When it was moved by recovery, newest last; at most 32. */
  readonly movedAt?: readonly Instant[];
  /** When its host restarted it, newest last; at most 32. */
  readonly restartedAt?: readonly Instant[];
  /** It is to start anew elsewhere. Gone once it is placed. */
  readonly recovery?: Recovery;
  /** Why it is not started yet although it should be: a hold of the site, the barrier, its turn. */
  readonly waits?: string;
  /** Given up after too many restarts or moves; `guest cleanup` ends it. */
  readonly exhausted?: { readonly what: 'restarts' | 'moves'; readonly exhaustedAt: Instant };
  /** Why it is nowhere: one sentence per host. */
  readonly unplaced?: readonly string[];
  readonly observed?: GuestObservation;
  /** Its only disk went with a host that was removed as lost; `rebuild` makes it anew elsewhere. */
  readonly lost?: { readonly host: string; readonly lostAt: Instant };
}

export type Guest = Resource<'guest', GuestSpec, GuestStatus>;
