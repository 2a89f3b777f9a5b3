/**
 * What the agent remembers of one guest across its own death and the host's: which orders it has executed, which files
 * make up the disk, how the guest last ended. One JSON file per guest, written whole before and after every step, so
 * that an agent killed between any two steps finds out where it was.
 */
import type { GuestOrder } from '../model/assignment.ts';
import type { AdoptedDomain, ExitReason } from '../model/guest.ts';
import type { Instant, Uuid } from '../model/resource.ts';

/** One qcow2 file of the guest's disk. */
export interface Layer {
  /** File name in the guest's folder, `disk-3.qcow2`. */
  readonly file: string;
  /** The layer under it; absent: the image. */
  readonly base?: string;
  /** The image at the bottom (SHA-512 of the stored copy). */
  readonly image: string;
}

export interface SnapshotRecord {
  readonly id: Uuid;
  readonly state: 'ready' | 'failed';
  /** The frozen layer that holds its content; absent when failed. */
  readonly layer?: string;
  readonly error?: string;
  readonly createdAt: Instant;
}

/** Quick failures in a row, and when to try again. */
export interface Failures {
  readonly count: number;
  readonly retryAt: Instant;
  readonly gaveUp: boolean;
}

export interface JournalError {
  readonly code: string;
  readonly message: string;
  readonly errorAt: Instant;
}

/** Sizes that the running guest (or its disk) has because of us. */
export interface AppliedSizes {
  readonly cpus: number;
  readonly memoryMiB: number;
  readonly diskMiB: number;
}

export interface GuestJournal {
  readonly version: 1;
  readonly id: Uuid;
  readonly name: string;
  /** Highest order seen; a lower one is never executed. */
  readonly accepted: number;
  /** The order that was executed to its end. */
  readonly generation: number;
  readonly startSeq: number;
  readonly rebootSeq: number;
  readonly rebuildSeq: number;
  readonly revertSeq: number;
  /** Highest start that was asked for and looked at: a higher one ends the giving up. */
  readonly askedSeq?: number;
  /**
   * Written before the engine is asked to make the domain. `sessionId`: for that session of the lease; then it stays until
   * the domain was resumed, and one that is seen paused meanwhile has never run.
   */
  readonly starting?: { readonly startSeq: number; readonly at: Instant; readonly sessionId?: Uuid };
  /** The guest ran (or stood paused) under this boot of the host. `sessionId`: in the group of that session of the lease. */
  readonly running?: { readonly startedAt: Instant; readonly bootId: string; readonly sessionId?: Uuid };
  /** The keeper was asked to register it in that session, and not to clear it since: nothing of it is gone before that. */
  readonly registered?: { readonly sessionId: Uuid };
  /** Order under which the keeper refused to take the running guest in: it stays outside of the session's group. */
  readonly outside?: { readonly generation: number };
  /** Why we are bringing it down: since when, when it was last asked politely, and what for. */
  readonly stopping?: {
    readonly since: Instant;
    readonly askedAt: Instant;
    readonly why: 'stop' | 'reboot' | 'rebuild' | 'revert' | 'remove';
  };
  /** It is down because an order said so: it starts as soon as no order says so. */
  readonly stoppedByOrder: boolean;
  /** A reboot is half done: the next start keeps a `fresh` disk. */
  readonly rebooting: boolean;
  readonly exit?: { readonly reason: ExitReason; readonly exitAt: Instant };
  /** Restarts after a failure, over its whole life here. */
  readonly restarts: number;
  readonly failures: Failures;
  readonly error?: JournalError;
  readonly layers: readonly Layer[];
  /** The layer that is written to. */
  readonly active?: string;
  /** Number of the next layer's file. */
  readonly nextLayer: number;
  /** How many times the disk began anew from the image; part of the instance id. */
  readonly disksBegun: number;
  readonly snapshots: readonly SnapshotRecord[];
  /** Written before a running guest's disk is frozen; what became of it is seen afterwards. */
  readonly freezing?: { readonly snapshotId: Uuid; readonly layer: Layer };
  readonly applied?: AppliedSizes;
  /** Sizes that the running guest refused; they are applied at its next start. */
  readonly refused?: Partial<AppliedSizes>;
  readonly adopted?: AdoptedDomain;
  /**
   * The last order to keep it: with it a guest that no assignment lists any more can be taken back into the site.
   * Absent in journals of earlier versions, until the next order.
   */
  readonly order?: GuestOrder;
  /** Removed or released under this order; kept until no assignment lists the guest. */
  readonly gone?: { readonly generation: number };
}

/** The journal of a guest that was never here. Sequences that only make sense for a life here begin as ordered. */
export function newJournal(order: GuestOrder): GuestJournal {
  return {
    version: 1,
    id: order.id,
    name: order.name,
    accepted: order.generation,
    generation: -1,
    startSeq: -1,
    askedSeq: order.startSeq,
    rebootSeq: order.rebootSeq,
    rebuildSeq: order.rebuildSeq,
    revertSeq: order.revert?.seq ?? 0,
    stoppedByOrder: false,
    rebooting: false,
    restarts: 0,
    failures: noFailures,
    layers: [],
    nextLayer: 0,
    disksBegun: 0,
    snapshots: [],
    ...(order.want === 'keep' ? { order } : {}),
  };
}

export const noFailures: Failures = { count: 0, retryAt: 0, gaveUp: false };

/** A copy without some optional entries. */
export function without(journal: GuestJournal, ...keys: readonly (keyof GuestJournal)[]): GuestJournal {
  const copy: Partial<Record<keyof GuestJournal, unknown>> = { ...journal };
  for (const key of keys) delete copy[key];
  return copy as unknown as GuestJournal;
}

/** Reads what was written. `undefined` for anything else: the file is ours alone, but disks do rot. */
export function parseJournal(text: string): GuestJournal | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (typeof value !== 'object' || value === null) return undefined;
  const journal = value as Partial<GuestJournal>;
  const whole =
    journal.version === 1 &&
    typeof journal.id === 'string' &&
    typeof journal.accepted === 'number' &&
    typeof journal.nextLayer === 'number' &&
    Array.isArray(journal.layers) &&
    Array.isArray(journal.snapshots) &&
    typeof journal.failures === 'object';
  return whole ? ofNow(journal as GuestJournal) : undefined;
}

/** Earlier versions knew the boot only by the session that the agent itself counted. */
function ofNow(journal: GuestJournal): GuestJournal {
  const running: Partial<NonNullable<GuestJournal['running']>> | undefined = journal.running;
  if (!running || running.bootId !== undefined) return journal;
  return { ...journal, running: { startedAt: running.startedAt ?? 0, bootId: '' } };
}
