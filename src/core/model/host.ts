import type { GuestOrder } from './assignment.ts';
import type { Instant, Resource, Uuid } from './resource.ts';

/**
 * `invited`: asked to join, never seen · `online`: heard from lately · `silent`: not heard from, its guests are `unknown` ·
 * `lost`: its session is sealed and its lease has provably run out · `fenced`: confirmed powered off, or a person's word.
 */
export type HostState = 'invited' | 'online' | 'silent' | 'lost' | 'fenced';

/** The life of a host between two boots. The number rises at every boot, the id is random (host-lease, rule 1). */
export interface HostSession {
  readonly number: number;
  readonly id: Uuid;
}

export interface Resources {
  readonly cpus: number;
  readonly memoryMiB: number;
  readonly diskMiB: number;
}

/** One way to power a host off: a `fence_*` program of the distribution. Levels are tried in their order. */
export interface FenceDevice {
  /** Name of the program, `fence_ipmilan`. */
  readonly agent: string;
  /** Its parameters, given on standard input; secrets are files named by `NAME_file`. */
  readonly parameters: Readonly<Record<string, string>>;
  /** Milliseconds to wait before it is used. */
  readonly delayMs?: number;
}

export interface HostSpec {
  /** A witness votes on leases and carries no guests; `host` when absent. */
  readonly role?: 'host' | 'witness';
  readonly fence?: readonly FenceDevice[];
  /** A cordoned host takes no new placements. */
  readonly cordoned: boolean;
  readonly cordonReason?: string;
  /** Kept for the host itself, never given to guests. */
  readonly reserved: Resources;
  /** Virtual per physical; 1 means no overcommit. */
  readonly overcommit: { readonly cpu: number; readonly memory: number };
  /** Overrides what the host measures (a simulated host may not count the whole machine). */
  readonly capacity?: Partial<Resources>;
}

/** A domain on the host that is not ours: shown, counted in placement, never touched. */
export interface ForeignDomain {
  readonly uuid: Uuid;
  readonly name: string;
  readonly running: boolean;
  readonly cpus: number;
  readonly memoryMiB: number;
  readonly persistent: boolean;
  readonly autostart: boolean;
}

/** How the problem of a host begins whose libvirt does not answer. */
export const engineSilent = 'libvirt does not answer';

/**
 * A guest with Virga's identity that is in no assignment (e.g. after a restore): its domain, or, while it is off, what
 * the host remembers of it. Never destroyed unasked.
 */
export interface StrayGuest {
  readonly id: Uuid;
  readonly name: string;
  readonly running: boolean;
  readonly generation: number;
  readonly cpus: number;
  readonly memoryMiB: number;
  /**
   * The last order to keep it, under the highest generation that the host has seen of it. Absent: the host remembers
   * none. Never presented: it has what only the guest's own document shows.
   */
  readonly order?: GuestOrder;
  /** The orders of all strays were too much for one report: this one comes when others were decided. */
  readonly orderLater?: boolean;
}

export interface EngineFacts {
  /** libvirt driver: `qemu`. */
  readonly type: string;
  /** e.g. `9.0.0` */
  readonly libvirtVersion: string;
  readonly emulatorVersion: string;
  readonly arch: string;
  /** True only when a guest really ran under KVM (or the capabilities list it and no trial was asked for). */
  readonly kvm: boolean;
  /** Versioned machine types the host offers, newest first. */
  readonly machines: readonly string[];
  readonly cpuModels: readonly string[];
  readonly firmwares: readonly ('bios' | 'uefi')[];
}

export interface HostNetwork {
  /** Bridges that exist on the host. */
  readonly bridges: readonly string[];
}

/** What the host's keeper says of itself; firm facts only, figures that flicker are served from memory. */
export interface KeeperFacts {
  /** Random, made when its disk was first written (host-lease, rule 12). */
  readonly diskId: Uuid;
  /** Where it hears beats, `ADDRESS:PORT`. */
  readonly addresses: readonly string[];
  readonly version?: string;
  /** It does not answer its agent now: no highly available guest starts here. */
  readonly silent?: true;
}

/** Proof that a session of the host is over. */
export interface HostLoss {
  readonly session: HostSession;
  readonly lostAt: Instant;
  /** `lease`: sealed by a majority, and every grant ran out · `fence`: power off confirmed · `word`: a person said so · `ended`: the host said so as it went down. */
  readonly how: 'lease' | 'fence' | 'word' | 'ended';
  readonly evidence: Readonly<Record<string, string | number | boolean>>;
}

/** A guest that moved away. */
export interface Leaving {
  readonly id: Uuid;
  readonly name: string;
  /** Of the order to remove it. */
  readonly generation: number;
  /** The session that it ran in is over: it may run elsewhere before this host has removed what is left. */
  readonly over?: true;
}

export interface HostStatus {
  readonly keeper?: KeeperFacts;
  /** The last session that was declared over. */
  readonly loss?: HostLoss;
  readonly state: HostState;
  readonly stateAt: Instant;
  /** When the last report was received. */
  readonly lastHeardAt?: Instant;
  /** When the host looked (its own clock). */
  readonly observedAt?: Instant;
  readonly session?: HostSession;
  readonly agentVersion?: string;
  readonly protocol?: number;
  readonly address?: string;
  readonly engine?: EngineFacts;
  readonly network?: HostNetwork;
  readonly measured?: Resources;
  readonly used?: { readonly cpuPercent: number; readonly memoryMiB: number; readonly diskMiB: number };
  readonly foreign: readonly ForeignDomain[];
  readonly strays: readonly StrayGuest[];
  /** SHA-512 digests of the images in its cache. */
  readonly images: readonly string[];
  readonly certificate?: { readonly serial: string; readonly expiresAt: Instant };
  /** Generation of the assignment that the host has on disk. */
  readonly assignmentGeneration?: number;
  /** Guests that moved away; the host must still remove what it has of them, under these generations. */
  readonly leaving?: readonly Leaving[];
  /** What stands in its way, as the agent says it (libvirt down, disk full …). */
  readonly problems: readonly string[];
}

export type Host = Resource<'host', HostSpec, HostStatus>;

/** Nothing of its last session runs any more. */
export const isGone = ({ status }: Pick<Host, 'status'>): boolean =>
  status.state === 'lost' || status.state === 'fenced';
