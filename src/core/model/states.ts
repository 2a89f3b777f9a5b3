import type { Guest, GuestState } from './guest.ts';
import type { Host } from './host.ts';

/** What a person can ask of a guest. */
export type GuestAction =
  | 'start'
  | 'stop'
  | 'reboot'
  | 'pause'
  | 'resume'
  | 'resize'
  | 'rebuild'
  | 'snapshot'
  | 'revert'
  | 'delete'
  | 'console'
  | 'log'
  | 'hold'
  | 'unhold'
  | 'release'
  | 'rename';

const everywhere: readonly GuestState[] = [
  'pending',
  'starting',
  'running',
  'paused',
  'stopping',
  'stopped',
  'failed',
  'unknown',
];

/**
 * The one table of what is legal in which state; the API refuses, the CLI explains and the page greys out from it.
 * An action that is not listed for a state is refused with the sentence in `why`.
 */
export const guestCan: Readonly<
  Record<GuestAction, { readonly states: readonly GuestState[]; readonly past: string; readonly why: string }>
> = {
  start: {
    states: ['stopped', 'failed', 'stopping', 'pending', 'starting', 'running'],
    past: 'started',
    why: 'a paused guest is resumed, and a guest on a silent host may still be running',
  },
  stop: {
    states: ['pending', 'starting', 'running', 'paused', 'stopping', 'stopped', 'failed', 'unknown'],
    past: 'stopped',
    why: 'it is being deleted',
  },
  reboot: { states: ['running'], past: 'rebooted', why: 'only a running guest can be rebooted' },
  pause: { states: ['running', 'paused'], past: 'paused', why: 'only a running guest can be paused' },
  resume: { states: ['paused', 'running'], past: 'resumed', why: 'only a paused guest can be resumed' },
  resize: {
    states: ['pending', 'running', 'stopped', 'failed'],
    past: 'resized',
    why: 'it must be running or stopped',
  },
  rebuild: {
    states: ['running', 'stopped', 'failed', 'paused'],
    past: 'rebuilt',
    why: 'it must be on a host that answers',
  },
  snapshot: {
    states: ['running', 'stopped', 'paused'],
    past: 'snapshotted',
    why: 'it must be running, paused or stopped',
  },
  revert: {
    states: ['running', 'stopped', 'paused', 'failed'],
    past: 'reverted',
    why: 'it must be on a host that answers',
  },
  delete: { states: everywhere, past: 'deleted', why: 'it is being deleted already' },
  console: { states: ['running', 'paused'], past: 'attached to', why: 'only a running guest has a console' },
  log: {
    states: ['starting', 'running', 'paused', 'stopping', 'stopped', 'failed'],
    past: 'read',
    why: 'it has no host that answers',
  },
  hold: { states: everywhere, past: 'held', why: 'it is being deleted' },
  unhold: { states: everywhere, past: 'let go', why: 'it is being deleted' },
  release: {
    states: ['running', 'stopped', 'paused', 'failed'],
    past: 'released',
    why: 'it must be on a host that answers',
  },
  rename: {
    states: ['pending', 'stopped', 'failed'],
    past: 'renamed',
    why: 'stop it first: its host name is its name',
  },
};

/** Actions that a hold forbids: everything that would change the guest. */
export const forbiddenWhileHeld: readonly GuestAction[] = [
  'start',
  'stop',
  'reboot',
  'pause',
  'resume',
  'resize',
  'rebuild',
  'revert',
  'delete',
  'release',
  'rename',
];

/** True, or the sentence that says why not. */
export function can(action: GuestAction, state: GuestState): true | string {
  const rule = guestCan[action];
  return rule.states.includes(state) ? true : rule.why;
}

/**
 * The state a person sees: observed, never wished (law 5). `host` is the one it is placed on.
 * The reason is a short phrase for `list`, or absent where the state says it all.
 */
export function guestState(guest: Guest, host: Host | undefined): { state: GuestState; reason?: string } {
  const { placement, observed } = guest.status;
  if (guest.deletionAt !== undefined) return { state: 'deleting' };
  if (guest.status.lost) return { state: 'failed', reason: `its disk was lost with host ${guest.status.lost.host}` };
  if (!placement) return guest.spec.power === 'on' ? { state: 'pending', reason: 'no host yet' } : { state: 'stopped' };
  if (!host || host.status.state !== 'online')
    return { state: 'unknown', reason: `host ${host?.name ?? placement.hostId} is silent` };
  if (!observed) return guest.spec.power === 'on' ? { state: 'starting', reason: 'order sent' } : { state: 'stopped' };
  if (observed.engine === 'running') return guest.spec.power === 'on' ? { state: 'running' } : { state: 'stopping' };
  if (observed.engine === 'paused') return whenPaused(guest);
  if (observed.engine === 'io-error') return { state: 'paused', reason: 'stopped at a disk error' };
  return whenDown(guest);
}

/** A guest that nobody wants paused is on its way: libvirt starts every guest paused, and its host resumes it. */
function whenPaused({ spec }: Guest): { state: GuestState; reason?: string } {
  if (spec.power === 'off') return { state: 'stopping' };
  return spec.paused || spec.held ? { state: 'paused' } : { state: 'starting' };
}

function whenDown(guest: Guest): { state: GuestState; reason?: string } {
  const { observed } = guest.status;
  if (guest.spec.power === 'off') return { state: 'stopped' };
  if (observed?.error?.gaveUp) return { state: 'failed', reason: observed.error.message };
  const asked = guest.spec.startSeq > (observed?.startSeq ?? -1);
  if (asked) return { state: 'starting', ...(observed?.preparing ? { reason: observed.preparing.what } : {}) };
  const exit = observed?.exit?.reason;
  if (exit === 'shutdown' && guest.spec.restart !== 'always')
    return { state: 'stopped', reason: 'powered off from inside' };
  if (guest.spec.restart === 'never' && exit !== undefined && exit !== 'host-reboot')
    return exit === 'shutdown' || exit === 'destroyed'
      ? { state: 'stopped', reason: exit }
      : { state: 'failed', reason: exit };
  if (observed?.error) return { state: 'starting', reason: `${observed.error.message} (trying again)` };
  return { state: 'starting', ...(observed?.preparing ? { reason: observed.preparing.what } : {}) };
}
