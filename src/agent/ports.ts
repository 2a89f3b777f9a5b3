/**
 * What the agent's loop needs of its host, beyond the ports of the whole project. The real ones are wired by `main.ts`;
 * the simulator has its own.
 */
import type { DoorRegistered, DoorTicket, DoorView } from '../core/ha/door.ts';
import type { AssignedImage, AssignedNetwork, GuestOrder } from '../core/model/assignment.ts';
import type { HostNetwork, Resources } from '../core/model/host.ts';
import type { Uuid } from '../core/model/resource.ts';
import type { Clock, ControllerLink, Engine, Files, Ids, Log } from '../ports.ts';

/** The engine, with what snapshots need to find out where an earlier life of the agent was. */
export interface AgentEngine extends Engine {
  /** Path that the running guest's first disk is written to; `undefined`: it does not run. */
  diskSource(id: Uuid): Promise<string | undefined>;
}

/** The files of the guests' disks. Every new file is there whole or not at all. */
export interface Disks {
  /** Absolute path of a file in the guest's folder. */
  path(guestId: Uuid, file: string): string;
  /** Names of the disk layers in the guest's folder. */
  list(guestId: Uuid): Promise<readonly string[]>;
  /**
   * A new qcow2 overlay, pinned to its backing file; a leftover of that name is replaced. `passing`: it need not survive a
   * power cut, for nothing that is written to it does.
   */
  create(
    guestId: Uuid,
    file: string,
    backingPath: string,
    virtualBytes: number,
    options?: { readonly passing?: boolean },
  ): Promise<void>;
  /** True when the file is a whole overlay of that backing file. */
  isOverlay(guestId: Uuid, file: string, backingPath: string): Promise<boolean>;
  virtualBytes(path: string): Promise<number>;
  /** Grows a disk that no guest runs on. `backing`: the files under it, next first. */
  grow(guestId: Uuid, file: string, backing: readonly string[], virtualBytes: number): Promise<void>;
  /** Removes the layers that are not listed. */
  sweep(guestId: Uuid, keep: readonly string[]): Promise<void>;
  /** Path of the guest's UEFI variables; made from the template when missing. */
  nvram(guestId: Uuid, arch: string): Promise<string>;
  /** Path of the serial log; its folder exists afterwards. */
  serialLog(guestId: Uuid): Promise<string>;
  /** Keeps every serial log below its bound. */
  boundLogs(guestIds: readonly Uuid[]): Promise<void>;
  /** Deletes everything of the guest but its journal. */
  removeAll(guestId: Uuid): Promise<void>;
}

/** Contextualization media. */
export interface Seeds {
  /** Writes the NoCloud seed and returns its path. */
  write(order: GuestOrder, networks: readonly AssignedNetwork[], instanceId: string): Promise<string>;
}

export interface HostImages {
  ensure(image: AssignedImage, onProgress: (fraction: number) => void): Promise<string>;
  path(sha512: string): string;
  list(): Promise<readonly string[]>;
  evict(inUse: ReadonlySet<string>): Promise<readonly string[]>;
}

export interface HostNetworks {
  /**
   * Makes the assigned networks so and takes away what we made for others. Per network: `undefined` when guests can use
   * it, else what is wrong, in a sentence.
   */
  converge(networks: readonly AssignedNetwork[]): Promise<ReadonlyMap<Uuid, string | undefined>>;
}

export interface HostMeter {
  measure(): Promise<{
    readonly measured: Resources;
    readonly used: { readonly cpuPercent: number; readonly memoryMiB: number; readonly diskMiB: number };
    readonly network: HostNetwork;
  }>;
}

/**
 * The keeper of this host, as its agent sees it. Every method rejects with VirgaError `keeper` when it does not answer
 * within its time-out. The keeper owns the session; the agent only reads it.
 */
export interface KeeperDoor {
  state(): Promise<DoorView>;
  /**
   * Registers the guest's generation and makes its group (host-lease, rules 9 and 10). Idempotent: for an entry that
   * stands it says whether the guest may run now, so it is also the check right before a resume. Refused: gone, never
   * retried under the same generation.
   */
  register(guest: DoorTicket): Promise<DoorRegistered>;
  /** Moves a process (all its threads) into the guest's group. */
  enter(guestId: Uuid, pid: number): Promise<void>;
  /** Kills what is in the guest's group, removes it, and then the entry. */
  clear(guestId: Uuid): Promise<void>;
  /** Told at once when session or lease changed. Returns the way to stop it. */
  onChange(listener: () => void): () => void;
  /**
   * Planned leave: ends the session for good, kills what is left in its groups, and beats `ended`. Resolves when a
   * majority of the voters has answered such a beat.
   */
  leave?(reason: string): Promise<void>;
}

export interface AgentPorts {
  readonly clock: Clock;
  readonly ids: Ids;
  readonly files: Files;
  readonly engine: AgentEngine;
  readonly link: ControllerLink;
  readonly disks: Disks;
  readonly seeds: Seeds;
  readonly images: HostImages;
  readonly networks: HostNetworks;
  readonly meter: HostMeter;
  readonly keeper: KeeperDoor;
  readonly log: Log;
}

export interface AgentIdentity {
  readonly hostId: Uuid;
  readonly siteId: Uuid;
  /** Of the running kernel: another one means that nothing of before runs any more. */
  readonly bootId: string;
  readonly agentVersion: string;
}
