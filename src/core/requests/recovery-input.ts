/** What a person says of recovery, checked: who is recovered first, where to, how often. */
import { usualLimits } from '../ha/eligible.ts';
import type { GuestSpec } from '../model/guest.ts';
import type { Snapshot } from '../model/snapshot.ts';
import { without } from '../util.ts';
import { checkWhole, invalid } from './check.ts';
import type { RecoveryInput } from './inputs.ts';
import { resolve } from './resolve.ts';

export type RecoverySpec = Pick<GuestSpec, 'ha' | 'priority' | 'preferredHosts' | 'failBack' | 'limits'>;

/** `preferredHosts` bounds what placement looks at; `times` fits what is kept of moves and restarts. */
const most = { preferredHosts: 16, times: 31, windowSeconds: 30 * 86_400 } as const;

/** The old wishes with the changes; what takes its usual value is left out. */
export function recoveryFrom<T extends RecoverySpec>(snapshot: Snapshot, old: T, input: RecoveryInput): T {
  let next = old;
  if (input.ha !== undefined) next = input.ha === 'off' ? { ...next, ha: 'off' } : dropped(next, 'ha');
  if (input.priority !== undefined) {
    checkWhole('the priority', input.priority, 0, 100);
    next = { ...next, priority: input.priority };
  }
  if (input.preferredHosts !== undefined) {
    const preferredHosts = hostIds(snapshot, input.preferredHosts);
    next = preferredHosts.length > 0 ? { ...next, preferredHosts } : dropped(next, 'preferredHosts');
  }
  if (input.failBack !== undefined) next = input.failBack ? { ...next, failBack: true } : dropped(next, 'failBack');
  if (input.limits !== undefined) {
    const limits = limitsFrom(input.limits);
    next = limits ? { ...next, limits } : dropped(next, 'limits');
  }
  if (next.failBack === true && (next.preferredHosts ?? []).length === 0)
    throw invalid('fail-back needs preferred hosts to go back to');
  return next;
}

function dropped<T extends RecoverySpec>(spec: T, key: keyof RecoverySpec): T {
  return without(spec, key) as T;
}

function hostIds(snapshot: Snapshot, refs: readonly string[]): readonly string[] {
  checkWhole('the number of preferred hosts', refs.length, 0, most.preferredHosts);
  const hosts = refs.map((ref) => resolve(snapshot, 'host', ref));
  const witness = hosts.find((host) => host.spec.role === 'witness');
  if (witness) throw invalid(`${witness.name} is a witness, which takes no guests`);
  return [...new Set(hosts.map((host) => host.id))];
}

function limitsFrom(input: NonNullable<RecoveryInput['limits']>): GuestSpec['limits'] {
  const { restarts, moves, windowSeconds } = input;
  if (restarts === undefined && moves === undefined && windowSeconds === undefined) return undefined;
  if (restarts !== undefined) checkWhole('the limit of restarts', restarts, 0, most.times);
  if (moves !== undefined) checkWhole('the limit of moves', moves, 0, most.times);
  const seconds = windowSeconds ?? usualLimits.windowSeconds;
  checkWhole('the window of the limits in seconds', seconds, 1, most.windowSeconds);
  return {
    ...(restarts === undefined ? {} : { restarts }),
    ...(moves === undefined ? {} : { moves }),
    windowSeconds: seconds,
  };
}
