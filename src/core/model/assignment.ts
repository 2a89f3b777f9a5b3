import type { AdoptedDomain, GuestMachine, GuestObservation, GuestSnapshot, RestartPolicy, DiskMode } from './guest.ts';
import type { EngineFacts, ForeignDomain, HostNetwork, HostSession, Resources, StrayGuest } from './host.ts';
import type { ImageFormat } from './image.ts';
import type { NetworkSpec } from './network.ts';
import type { Instant, Uuid } from './resource.ts';

/** Version of the link between controller and agent. Each side serves its own and its neighbours (one newer, one older). */
export const linkProtocol = 1;

export interface AssignedNetwork extends NetworkSpec {
  readonly id: Uuid;
  readonly name: string;
}

export interface AssignedImage {
  readonly id: Uuid;
  readonly name: string;
  /** Of the stored copy; the host verifies it. */
  readonly sha512: string;
  readonly sizeBytes: number;
  readonly virtualBytes: number;
}

export interface AssignedNic {
  readonly networkId: Uuid;
  readonly mac: string;
  readonly ipv4?: string;
  readonly ipv6?: string;
}

/** Everything a host needs to make one guest so, without asking anybody. */
export interface GuestOrder {
  readonly id: Uuid;
  readonly name: string;
  readonly generation: number;
  readonly epoch: number;
  readonly owner: string;
  readonly community: string;
  /** `keep`: it should be here · `remove`: destroy it and its disks, then report it absent under this generation · `release`: give the domain back. */
  readonly want: 'keep' | 'remove' | 'release';
  readonly power: 'on' | 'off';
  readonly paused: boolean;
  readonly held: boolean;
  /** Highly available: it must be registered with the keeper and run in the session's group. */
  readonly ha?: true;
  /** The leader has not yet seen every host's register: it may go on, but not be started anew (host-lease, rule 9). */
  readonly barred?: true;
  /** `id` and `format` are for the record: with them a guest can be taken back into a state that lost it. */
  readonly image?: { readonly sha512: string; readonly id?: Uuid; readonly format?: ImageFormat };
  readonly cpus: number;
  readonly maxCpus: number;
  readonly memoryMiB: number;
  readonly maxMemoryMiB: number;
  readonly diskMiB: number;
  readonly diskMode: DiskMode;
  readonly nics: readonly AssignedNic[];
  readonly userData?: string;
  readonly sshKeys: readonly string[];
  readonly restart: RestartPolicy;
  readonly graceSeconds: number;
  readonly startSeq: number;
  readonly rebootSeq: number;
  readonly rebuildSeq: number;
  readonly revert?: { readonly seq: number; readonly snapshotId: Uuid };
  readonly snapshots: readonly GuestSnapshot[];
  readonly machine: GuestMachine;
  /** A foreign domain taken over. The id of such a guest is the domain's own UUID: libvirt knows it by no other. */
  readonly adopted?: AdoptedDomain;
}

/** Everything that should be on one host. The agent keeps its last one on disk. */
export interface Assignment {
  readonly siteId: Uuid;
  readonly hostId: Uuid;
  /** Rises with every change for this host; the agent ignores a lower (epoch, generation). */
  readonly generation: number;
  readonly epoch: number;
  /** The session these orders are meant for; absent: any. */
  readonly session?: HostSession;
  /** While a restore is under review the agent destroys nothing. */
  readonly destroyNothing: boolean;
  readonly guests: readonly GuestOrder[];
  readonly networks: readonly AssignedNetwork[];
  readonly images: readonly AssignedImage[];
}

/** What one guest looks like on the host, keyed by its id. */
export interface GuestReport extends GuestObservation {
  readonly id: Uuid;
}

/** What the host's keeper says, carried by the agent's report; flickers, so it is never written as it is. */
export interface LeaseReport {
  readonly diskId: Uuid;
  readonly addresses: readonly string[];
  readonly version: string;
  readonly state: 'held' | 'lapsed' | 'none' | 'killing';
  readonly leftMs: number;
  /** Highest leader's epoch that the keeper knows. */
  readonly epoch: number;
  readonly guardLagMs?: number;
  /** Round trips of beats: voter's name → milliseconds of the last one; absent voters do not answer. */
  readonly roundTripsMs: Readonly<Record<string, number>>;
}

/** What the host says of itself: whole, not a difference, so a lost one costs nothing. */
export interface HostReport {
  readonly hostId: Uuid;
  readonly session: HostSession;
  readonly agentVersion: string;
  readonly protocol: number;
  /** Rises with each report of one run of the agent, so that a late one is not taken for the newest. */
  readonly sequence?: number;
  /** Absent: its keeper does not answer. */
  readonly lease?: LeaseReport;
  readonly observedAt: Instant;
  /** Generation and epoch of the assignment on the host's disk; -1: none yet. */
  readonly assignmentGeneration: number;
  readonly assignmentEpoch: number;
  readonly engine?: EngineFacts;
  readonly network: HostNetwork;
  readonly measured: Resources;
  readonly used: { readonly cpuPercent: number; readonly memoryMiB: number; readonly diskMiB: number };
  /** Every guest that the host knows: in its assignment, or removed and not yet acknowledged (`engine: absent`, generation of the removal). */
  readonly guests: readonly GuestReport[];
  /** Guests removed or released under these generations; repeated until the assignment lists them no more. */
  readonly gone: readonly { readonly id: Uuid; readonly generation: number }[];
  readonly foreign: readonly ForeignDomain[];
  readonly strays: readonly StrayGuest[];
  readonly images: readonly string[];
  readonly networkProblems: readonly { readonly networkId: Uuid; readonly message: string }[];
  readonly problems: readonly string[];
}
