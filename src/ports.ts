/**
 * The only doors to the world. Production and simulator implement them; the loops know nothing else.
 * Every asynchronous method either finishes or rejects within its implementation's time-out.
 */
import type { Epoch, HaMessage } from './core/ha/types.ts';
import type { Assignment, HostReport } from './core/model/assignment.ts';
import type { AdoptedDomain, ExitReason, GuestAddress } from './core/model/guest.ts';
import type { EngineFacts, FenceDevice, ForeignDomain } from './core/model/host.ts';
import type { Instant, Kind, Uuid } from './core/model/resource.ts';
import type { AnyResource, Change, SiteEvent, SiteFacts } from './core/model/snapshot.ts';

export interface Clock {
  /** Wall clock, for records. */
  now(): Instant;
  /** Milliseconds of a clock that never jumps, for durations. */
  monotonic(): number;
  /** Resolves after `ms`; rejects with the signal's reason when aborted. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
}

export interface Ids {
  uuid(): Uuid;
  /** A secret of at least 256 random bits, base64url. */
  secret(): string;
}

export interface Log {
  debug(message: string, values?: Readonly<Record<string, unknown>>): void;
  info(message: string, values?: Readonly<Record<string, unknown>>): void;
  warn(message: string, values?: Readonly<Record<string, unknown>>): void;
  error(message: string, values?: Readonly<Record<string, unknown>>): void;
  child(values: Readonly<Record<string, unknown>>): Log;
}

// ---------------------------------------------------------------- store

export interface Expectation {
  readonly kind: Kind;
  readonly id: Uuid;
  /** The revision it must still have; `undefined`: it must not exist. */
  readonly revision: number | undefined;
}

export interface IdempotencyRecord {
  /** The client's key, scoped to `who`. */
  readonly key: string;
  readonly who: string;
  /** SHA-256 (hex) of method, path and body. */
  readonly requestHash: string;
  /** Ids of what the first request created; answered again on a repeat. */
  readonly created: readonly { readonly kind: Kind; readonly id: Uuid }[];
}

export interface Commit extends Change {
  /** Of the leader that decided this; refused unless the store has exactly this one. */
  readonly epoch: Epoch;
  readonly expect: readonly Expectation[];
  readonly idempotency?: IdempotencyRecord;
}

export type CommitResult =
  | { readonly ok: true; readonly revision: number; readonly events: readonly SiteEvent[] }
  | { readonly ok: false; readonly why: 'conflict'; readonly kind: Kind; readonly id: Uuid }
  | { readonly ok: false; readonly why: 'name-taken'; readonly kind: Kind; readonly name: string }
  | { readonly ok: false; readonly why: 'address-taken'; readonly networkId: Uuid; readonly address: string }
  | { readonly ok: false; readonly why: 'idempotency'; readonly record: IdempotencyRecord }
  /** `epoch`: the store's. A lower one than the commit's: the database lost its last rows. */
  | { readonly ok: false; readonly why: 'epoch'; readonly epoch: Epoch };

export type LeadResult =
  | { readonly ok: true; readonly state: LoadedState }
  /** The store has this higher one. */
  | { readonly ok: false; readonly why: 'epoch'; readonly epoch: Epoch };

export interface Tombstone {
  readonly kind: Kind;
  readonly id: Uuid;
  readonly name: string;
  readonly revision: number;
}

export interface LoadedState {
  readonly revision: number;
  readonly site: SiteFacts;
  readonly resources: readonly AnyResource[];
  /** Of the last days, for watches that resume. */
  readonly tombstones: readonly Tombstone[];
  /** Watches from before this revision cannot resume. */
  readonly oldestTombstone: number;
}

export interface EventQuery {
  /** Only later ones. */
  readonly afterSeq?: number;
  /** The newest `limit` ones if `afterSeq` is absent; at most 1,000. */
  readonly limit: number;
  readonly subjectId?: Uuid;
  readonly type?: string;
}

export interface Store {
  /**
   * Makes the caller the leader under the claimed epoch, durably, unless the store has a higher one; returns the state.
   * The same epoch may be claimed again by its owner: then it loads, and no earlier commit of it is under way any more.
   * `state.site.epoch` is the epoch's number.
   */
  lead(claim: Epoch): Promise<LeadResult>;
  /** The store's present epoch; `noEpoch` before the first leader. Cheap, and rejects within a second when the database does not answer. */
  epoch(): Promise<Epoch>;
  /** What the store says of the voters; a controller that does not lead reads it, too. Undefined: there were none yet. Cheap, as `epoch`. */
  voters(): Promise<SiteFacts['voters']>;
  /** One transaction. An object's `revision` becomes the commit's. Rejects with VirgaError store_unavailable when the database is away: then whether it was written is unknown, and the caller must load again. */
  commit(commit: Commit): Promise<CommitResult>;
  idempotent(who: string, key: string): Promise<IdempotencyRecord | undefined>;
  events(query: EventQuery): Promise<readonly SiteEvent[]>;
  /** Cheap round trip; rejects when the database does not answer. */
  ping(): Promise<void>;
}

// ---------------------------------------------------------------- controller ↔ agent

/** Controller's side: one per connected host. */
export interface HostLink {
  readonly hostId: Uuid;
  /** Hands over the newest assignment; older ones not yet sent are dropped. Never blocks. */
  send(assignment: Assignment): void;
}

/** Agent's side. */
export interface ControllerLink {
  /** Whole state of the host; the newest replaces an unsent one. Never blocks. */
  report(report: HostReport): void;
  connected(): boolean;
}

// ---------------------------------------------------------------- host

/** One domain that carries Virga's identity, as the engine shows it. */
export interface EngineGuest {
  readonly id: Uuid;
  readonly name: string;
  readonly siteId: Uuid;
  readonly generation: number;
  readonly epoch: number;
  readonly state: 'running' | 'paused' | 'shutoff' | 'crashed' | 'io-error';
  readonly startedAt: Instant;
  readonly cpus: number;
  readonly memoryMiB: number;
  /** Since its start. */
  readonly cpuSeconds: number;
  readonly addresses: readonly GuestAddress[];
  readonly agentConnected: boolean;
  /** The group (cgroup v2) of its process, as the kernel names it; absent: not known. */
  readonly group?: string;
  /** The kernel holds its process still (host-lease, rule 3): whatever asks it hangs. */
  readonly frozen?: boolean;
}

export interface EngineView {
  readonly guests: readonly EngineGuest[];
  readonly foreign: readonly ForeignDomain[];
}

/** What the engine needs to create one domain. Paths are local files that the agent made. */
export interface DomainSpec {
  readonly id: Uuid;
  readonly name: string;
  readonly siteId: Uuid;
  readonly generation: number;
  readonly epoch: number;
  readonly owner: string;
  readonly community: string;
  readonly cpus: number;
  readonly maxCpus: number;
  readonly memoryMiB: number;
  readonly maxMemoryMiB: number;
  readonly arch: string;
  readonly machineType: string;
  readonly firmware: 'bios' | 'uefi';
  readonly cpuModel: string;
  /** UEFI variables of this guest. */
  readonly nvramPath?: string;
  /** The overlay chain, active layer first; formats are pinned, never probed. */
  readonly disks: readonly {
    readonly path: string;
    readonly format: 'qcow2' | 'raw';
    readonly backing: readonly string[];
  }[];
  readonly seedPath?: string;
  readonly nics: readonly { readonly bridge: string; readonly mac: string; readonly mtu?: number }[];
  readonly serialLogPath: string;
  /** For an adopted domain: its own description, to which only the identity is added. */
  readonly adopted?: AdoptedDomain;
}

export interface GuestExit {
  readonly id: Uuid;
  readonly reason: ExitReason;
  readonly exitAt: Instant;
}

export interface Duplex {
  readonly incoming: AsyncIterable<Uint8Array>;
  write(bytes: Uint8Array): Promise<void>;
  close(): void;
}

/** The hypervisor of one host. `VirgaError engine` on refusal, `timeout` when it does not answer. */
export interface Engine {
  facts(): Promise<EngineFacts>;
  /** Asks no guest's process, so that frozen ones hold nothing up. */
  view(): Promise<EngineView>;
  /** Makes the domain, paused: not one instruction of it runs before `resume` (host-lease, rule 10). */
  createPaused(spec: DomainSpec): Promise<void>;
  /** The guest's process, by its id in our own space of processes; `undefined`: it has none. */
  pidOf(id: Uuid): Promise<number | undefined>;
  /** Asks politely (ACPI, guest agent). */
  shutdown(id: Uuid): Promise<void>;
  /** Ends it now; no error when it is not there. */
  destroy(id: Uuid): Promise<void>;
  pause(id: Uuid): Promise<void>;
  resume(id: Uuid): Promise<void>;
  setCpus(id: Uuid, cpus: number): Promise<void>;
  setMemory(id: Uuid, memoryMiB: number): Promise<void>;
  growDisk(id: Uuid, bytes: number): Promise<void>;
  /** Freezes the file that the running guest's first disk is written to; the guest goes on in a new overlay at `overlayPath`, which must not exist. */
  snapshotDisk(id: Uuid, overlayPath: string): Promise<void>;
  /** Marks a foreign domain as ours, makes it transient, and returns what `release` needs. */
  adopt(
    uuid: Uuid,
    spec: Pick<DomainSpec, 'name' | 'siteId' | 'generation' | 'epoch' | 'owner' | 'community'>,
  ): Promise<AdoptedDomain>;
  /** Reads a foreign domain without touching it. */
  inspect(
    uuid: Uuid,
  ): Promise<AdoptedDomain & { readonly cpus: number; readonly memoryMiB: number; readonly name: string }>;
  release(id: Uuid, domain: AdoptedDomain): Promise<void>;
  console(id: Uuid): Promise<Duplex>;
  /** How it ended, if the engine still knows (events missed while we were away). */
  lastExit(id: Uuid, name: string): Promise<GuestExit | undefined>;
  /** Called at once when something changed (lifecycle events, reconnection). Returns the way to stop it. */
  onChange(listener: (exit?: GuestExit) => void): () => void;
}

/** Durable files below the agent's data folder. Writes are write-then-rename with fsync. */
export interface Files {
  read(path: string): Promise<string | undefined>;
  write(path: string, text: string): Promise<void>;
  remove(path: string): Promise<void>;
  list(folder: string): Promise<readonly string[]>;
}

// ---------------------------------------------------------------- leases

/** Time that counts while the machine sleeps, and never jumps (CLOCK_BOOTTIME), milliseconds. */
export interface BootClock {
  now(): number;
  /** Resolves after `ms`; rejects with the signal's reason when aborted. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
}

/** Authenticated datagrams: may be lost, late, doubled or overtake each other. Who sent one is certain. Never blocks. */
export interface Wire {
  /** `to`: a keeper or a controller. `addresses`: where it may be; absent: where it was last heard from. */
  send(to: Uuid, message: HaMessage, addresses?: readonly string[]): void;
}

// ---------------------------------------------------------------- fencing

/** What a fence device said at the end. */
export interface PowerSight {
  /** `unknown`: it did not say, or not clearly; `failure` says why. */
  readonly power: 'off' | 'on' | 'unknown';
  /** `refused`: its configuration is not taken · `timeout`: it hung and was killed · `failed`: it says that it could not. */
  readonly failure?: 'refused' | 'timeout' | 'failed';
  /** One line for people, without secrets. */
  readonly detail: string;
  /** Milliseconds that it took. */
  readonly ms: number;
}

/** Devices that cut a host's power. Neither method rejects; both end within their time-out, or soon after the signal. */
export interface Fencer {
  /** Cuts the power, then asks the device: only its answer to that question counts. */
  off(device: FenceDevice, signal?: AbortSignal): Promise<PowerSight>;
  /** Only asks; changes nothing. */
  status(device: FenceDevice, signal?: AbortSignal): Promise<PowerSight>;
}
