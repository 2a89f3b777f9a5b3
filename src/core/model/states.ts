import { eligibility } from '../ha/eligible.ts';
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
  if (!placement) return whenNowhere(guest);
  if (!host || host.status.state !== 'online')
    return { state: 'unknown', reason: host ? hostAway(guest, host) : `host ${placement.hostId} is silent` };
  if (!observed) return wantsOn(guest) ? { state: 'starting', reason: waits(guest) ?? 'order sent' } : whenDown(guest);
  if (observed.frozen === true && (observed.engine === 'running' || observed.engine === 'paused'))
    return { state: wantsOn(guest) ? 'paused' : 'stopping', reason: 'frozen: its host hears no majority' };
  if (observed.engine === 'running')
    return wantsOn(guest) ? { state: 'running' } : { state: 'stopping', ...why(guest) };
  if (observed.engine === 'paused') return whenPaused(guest);
  if (observed.engine === 'io-error') return { state: 'paused', reason: 'stopped at a disk error' };
  return whenDown(guest);
}

/** It should run where it is: nobody stopped it, it was not given up, and it does not go back to another host. */
export function wantsOn({ spec, status }: Guest): boolean {
  return spec.power === 'on' && !status.exhausted && status.recovery?.why !== 'fail-back';
}

function waits({ status }: Guest): string | undefined {
  return status.waits === undefined ? undefined : `waits: ${status.waits}`;
}

/** Why it is stopped although its power is to be on. */
function why({ spec, status }: Guest): { reason?: string } {
  if (spec.power === 'off') return {};
  if (status.exhausted) return { reason: givenUp(status.exhausted.what) };
  return { reason: 'goes back to a host that it prefers' };
}

const givenUp = (what: 'restarts' | 'moves'): string =>
  `given up after too many ${what}; "virga guest cleanup" ends that`;

function whenNowhere(guest: Guest): { state: GuestState; reason?: string } {
  const { recovery, exhausted } = guest.status;
  if (guest.spec.power === 'off') return { state: 'stopped' };
  if (exhausted) return { state: 'failed', reason: givenUp(exhausted.what) };
  if (!recovery) return { state: 'pending', reason: 'no host yet' };
  return recovery.why === 'lost'
    ? { state: 'pending', reason: `host ${recovery.from} is lost, no other yet` }
    : { state: 'pending', reason: `leaves host ${recovery.from}, no other yet` };
}

/** Nothing is heard from its host: what that means for the guest. */
function hostAway(guest: Guest, { name, status }: Host): string {
  if (status.state === 'silent') return `host ${name} is silent`;
  if (status.state !== 'lost' && status.state !== 'fenced') return `host ${name} was not heard from yet`;
  const is = `host ${name} is ${status.state}`;
  if (guest.status.waits !== undefined) return `${is}; it waits: ${guest.status.waits}`;
  const able = eligibility(guest);
  if (able.ha) return guest.spec.held ? `${is}; it is held` : `${is}; it may have run outside its lease there`;
  const bound = able.reason === 'KeepDisk' || able.reason === 'Adopted';
  return `${is}; ${bound ? 'its disk is there' : 'it is not highly available'}`;
}

/** A guest that nobody wants paused is on its way: libvirt starts every guest paused, and its host resumes it. */
function whenPaused(guest: Guest): { state: GuestState; reason?: string } {
  const { spec } = guest;
  if (!wantsOn(guest)) return { state: 'stopping', ...why(guest) };
  return spec.paused || spec.held ? { state: 'paused' } : { state: 'starting' };
}

function whenDown(guest: Guest): { state: GuestState; reason?: string } {
  const { observed, exhausted } = guest.status;
  if (guest.spec.power === 'off') return { state: 'stopped' };
  if (exhausted) return { state: 'failed', reason: givenUp(exhausted.what) };
  if (!wantsOn(guest)) return { state: 'starting', ...why(guest) };
  const waiting = waits(guest);
  if (waiting !== undefined) return { state: 'starting', reason: waiting };
  if (observed?.error?.gaveUp) return { state: 'failed', reason: observed.error.message };
  const asked = guest.spec.startSeq > (observed?.startSeq ?? -1);
  if (asked) return { state: 'starting', ...(observed?.preparing ? { reason: observed.preparing.what } : {}) };
  const exit = observed?.exit?.reason;
  if (exit === 'shutdown' && guest.spec.restart !== 'always')
    return { state: 'stopped', reason: 'powered off from inside' };
  if (guest.spec.restart === 'never' && exit !== undefined && !['host-reboot', 'lease-lost'].includes(exit))
    return exit === 'shutdown' || exit === 'destroyed'
      ? { state: 'stopped', reason: exit }
      : { state: 'failed', reason: exit };
  if (observed?.error) return { state: 'starting', reason: `${observed.error.message} (trying again)` };
  return { state: 'starting', ...(observed?.preparing ? { reason: observed.preparing.what } : {}) };
}
