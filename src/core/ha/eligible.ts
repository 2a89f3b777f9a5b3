/** Which guests are highly available: started elsewhere when their host is lost, and frozen with its lease before that. */
import type { Guest, GuestSpec } from '../model/guest.ts';

export type Eligibility = { readonly ha: true } | { readonly ha: false; readonly reason: NotHa; readonly why: string };

/** Stable words for programs. */
export type NotHa = 'Off' | 'Adopted' | 'KeepDisk' | 'Pinned';

/** Whether the guest is highly available, or the sentence that says why not. Only such guests run under the host's lease. */
export function eligibility({ spec }: Pick<Guest, 'spec'>): Eligibility {
  if (spec.ha === 'off') return no('Off', 'it was asked not to be (ha off)');
  if (spec.adopted || !spec.image) return no('Adopted', 'it was adopted: its disk is on its host only');
  if (spec.diskMode !== 'fresh')
    return no('KeepDisk', 'its disk is kept on its host only; a fresh disk could start elsewhere');
  if (spec.hostId !== undefined) return no('Pinned', 'it is pinned to one host');
  return yes;
}

/** As `eligibility`, for those who need no reason; makes nothing. */
export function isHa(guest: Pick<Guest, 'spec'>): boolean {
  const { ha, adopted, image, diskMode, hostId } = guest.spec;
  return ha !== 'off' && !adopted && image !== undefined && diskMode === 'fresh' && hostId === undefined;
}

const yes: Eligibility = { ha: true };

function no(reason: NotHa, why: string): Eligibility {
  return { ha: false, reason, why };
}

/** 0 to 100; higher is recovered first. */
export const usualPriority = 50;
export const priorityOf = (spec: Pick<GuestSpec, 'priority'>): number => spec.priority ?? usualPriority;

export interface Limits {
  /** Absent: as many as happen. */
  readonly restarts?: number;
  readonly moves: number;
  readonly windowSeconds: number;
}

/**
 * Without limits of its own a guest is restarted for ever (its host's back-off bounds the load) and moved at most five
 * times in an hour: a guest that brings down one host after the other must not get to all of them.
 */
export const usualLimits: Limits = { moves: 5, windowSeconds: 3600 };

export function limitsOf({ limits }: Pick<GuestSpec, 'limits'>): Limits {
  if (!limits) return usualLimits;
  const { restarts, moves, windowSeconds } = limits;
  return { ...(restarts === undefined ? {} : { restarts }), moves: moves ?? usualLimits.moves, windowSeconds };
}
