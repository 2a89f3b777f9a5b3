/** What a voter keeps of each host: on disk, and in memory. */
import type { HostSession } from '../model/host.ts';
import type { Uuid } from '../model/resource.ts';
import { compareEpochs } from './epoch.ts';
import type { Ballot, Epoch, ListVersion, VoterList, Word } from './types.ts';

/** Durable. */
export interface HostRecord {
  /** Highest session granted. */
  granted?: HostSession;
  /** Largest ℓ and largest k of grants that may still last, milliseconds. */
  askMs: number;
  boundMs: number;
  seal?: { readonly session: HostSession; readonly ballot: Ballot; readonly first: Ballot; readonly word?: Word };
  /** Highest ballot whose seal was taken back: what comes late under it or below is ignored. */
  withdrawn?: Ballot;
  /** Sessions up to this number are over for ever. */
  overThrough: number;
}

export interface VoterDisk {
  readonly diskId: Uuid;
  readonly epoch: Epoch;
  readonly list?: VoterList;
  readonly hosts: ReadonlyMap<Uuid, HostRecord>;
}

/** Volatile: our clock, milliseconds. */
export interface Watch {
  /** When the last grant ends. */
  until: number;
  /** When every grant is older than its own ℓ + m(ℓ, k). */
  ranOut: number;
  /** When a grant as long as the record says was last given. */
  longestAt: number;
  beat?: {
    readonly at: number;
    readonly session: HostSession;
    readonly sentAt: number;
    readonly lapsed: boolean;
    readonly ended: boolean;
    readonly confirmed: ListVersion;
  };
}

export const fresh: Watch = {
  until: Number.NEGATIVE_INFINITY,
  ranOut: Number.NEGATIVE_INFINITY,
  longestAt: Number.NEGATIVE_INFINITY,
};

/** Negative when `a` is lower. */
export function compareBallots(a: Ballot, b: Ballot): number {
  const epochs = compareEpochs(a.epoch, b.epoch);
  return epochs === 0 ? a.attempt - b.attempt : epochs;
}

/**
 * The lengths to keep after one more grant: never below what may still last, and lowered once the longer grants are over
 * (rule 2).
 */
export function ageLongest(
  record: Pick<HostRecord, 'askMs' | 'boundMs'>,
  watch: Watch,
  askMs: number,
  boundMs: number,
  now: number,
  marginOf: (askMs: number, boundMs: number) => number,
): Pick<HostRecord, 'askMs' | 'boundMs'> {
  if (askMs >= record.askMs && boundMs >= record.boundMs) {
    watch.longestAt = now;
    return { askMs, boundMs };
  }
  const over = watch.longestAt + record.askMs + marginOf(record.askMs, record.boundMs);
  if (now <= over) {
    if (askMs >= record.askMs || boundMs >= record.boundMs) watch.longestAt = now;
    return { askMs: Math.max(askMs, record.askMs), boundMs: Math.max(boundMs, record.boundMs) };
  }
  watch.longestAt = now;
  return { askMs, boundMs };
}
