/**
 * Guests of a lost host: who may start elsewhere, in which order, and what would happen if a host were lost. Lost means
 * proved (host-lease, rule 5): nothing of the session runs any more, so its guests may be started anew at once.
 */
import type { Guest, GuestStatus } from '../model/guest.ts';
import type { Host, Leaving } from '../model/host.ts';
import type { Instant, Uuid } from '../model/resource.ts';
import type { SiteFacts, Snapshot } from '../model/snapshot.ts';
import { shapeOf } from '../place/fit.ts';
import { Placer } from '../place/placer.ts';
import { unplaced } from '../guest-orders.ts';
import { compareText, without } from '../util.ts';
import { eligibility, limitsOf, priorityOf } from './eligible.ts';

/** Guests that one host starts at once after a loss or a cold start: more would only slow each other down. */
export const usualStartsAtOnce = 6;
/** Milliseconds for which a start that says nothing holds its place among those. */
export const startCountsMs = 120_000;
/** Times of moves and restarts that are kept. */
const timesKept = 32;

/** Most critical first: by priority, then by age, then by name. */
export function byUrgency(a: Guest, b: Guest): number {
  return priorityOf(b.spec) - priorityOf(a.spec) || a.createdAt - b.createdAt || compareText(a.name, b.name);
}

/**
 * Why a guest must not be started elsewhere although the session of its host (up to number `through`) is over; undefined:
 * it may. What may run outside the session's group outlives the session (host-lease, rule 3).
 */
export function staysBecause(guest: Guest, through: number): string | undefined {
  const able = eligibility(guest);
  if (!able.ha) return able.why;
  const { spec, status } = guest;
  if (spec.held) return `it is held as it is: ${spec.held.reason}`;
  const { placement, observed } = status;
  if (!placement?.session || placement.session.number > through) return 'its order is of another session';
  const outside = (observed?.engine === 'running' || observed?.engine === 'io-error') && observed.inside !== true;
  if (placement.ha !== true || outside) return 'its host never reported it inside the group of its session';
  return undefined;
}

/**
 * Why guests wait for a host that went down in order instead of starting elsewhere; undefined: they do not. Judged anew each
 * time, so a changed policy takes effect on hosts that are away already.
 */
export function waitsForHost({ onHostLeave = 'wait' }: SiteFacts, { name, status }: Host): string | undefined {
  if (status.loss?.how !== 'ended' || onHostLeave !== 'wait') return undefined;
  return `${name} went down in order, and the site waits for it (policy on-host-leave)`;
}

/** The guest off its host, under a generation of its own for the removal of what is left there. */
export function takenOff(guest: Guest, reasons: readonly string[]): { readonly guest: Guest; readonly left: Leaving } {
  const generation = guest.status.lastGeneration + 1;
  const off = unplaced(guest, reasons);
  return {
    guest: { ...off, status: { ...off.status, lastGeneration: generation } },
    left: { id: guest.id, name: guest.name, generation },
  };
}

/** With one more time; only the newest are kept. */
export function noted(times: readonly Instant[] | undefined, now: Instant, count = 1): readonly Instant[] {
  return [...(times ?? []), ...Array.from({ length: Math.min(count, timesKept) }, () => now)].slice(-timesKept);
}

/** One more move would be too many within the guest's window. */
export function movesExhausted(guest: Guest, now: Instant): boolean {
  const { moves, windowSeconds } = limitsOf(guest.spec);
  return within(guest.status.movedAt, windowSeconds, now) >= moves;
}

export function restartsExhausted(guest: Guest, now: Instant): boolean {
  const { restarts, windowSeconds } = limitsOf(guest.spec);
  return restarts !== undefined && within(guest.status.restartedAt, windowSeconds, now) > restarts;
}

function within(times: readonly Instant[] | undefined, seconds: number, now: Instant): number {
  return times?.filter((at) => now - at < seconds * 1000).length ?? 0;
}

/** Given up until a person cleans up. */
export function exhausted(guest: Guest, what: 'restarts' | 'moves', now: Instant): Guest {
  return { ...guest, status: { ...without(guest.status, 'recovery'), exhausted: { what, exhaustedAt: now } } };
}

/** Why it was given up, for people. */
export function exhaustedWhy(guest: Guest, what: NonNullable<GuestStatus['exhausted']>['what']): string {
  const { restarts, moves, windowSeconds } = limitsOf(guest.spec);
  return what === 'moves'
    ? `it was moved ${moves} times within ${windowSeconds} s, which is its limit`
    : `it was restarted more than ${restarts ?? 0} times within ${windowSeconds} s, which is its limit`;
}

// ---------------------------------------------------------------- what if

export interface LossVerdict {
  readonly guestId: Uuid;
  readonly guest: string;
  /** `moves`: it starts on `host` · `waits`: it should, but cannot now · `stays`: nothing is started elsewhere. */
  readonly what: 'moves' | 'waits' | 'stays';
  /** Name of the host that it would start on. */
  readonly host?: string;
  readonly why: string;
}

/** What would follow if the host were lost now, most critical guests first. Changes nothing. */
export function whatIfLost(snapshot: Snapshot, host: Host, now: Instant): readonly LossVerdict[] {
  const through = host.status.session?.number ?? 0;
  const lost: Host = { ...host, status: { ...host.status, state: 'lost' } };
  const hosts = [...snapshot.all('host')].map((each) => (each.id === host.id ? lost : each));
  const placer = new Placer(snapshot, undefined, hosts);
  const verdicts = [...snapshot.guestsOn(host.id)].toSorted(byUrgency).map((guest) => {
    const verdict = verdictOn(snapshot, guest, through, now, placer);
    return { guestId: guest.id, guest: guest.name, ...verdict };
  });
  // Figures of those that wait hold when all others are placed.
  return verdicts.map(({ shape, ...verdict }) =>
    shape ? { ...verdict, why: placer.refusal(shape).sentences.join('; ') } : verdict,
  );
}

type Verdict = Omit<LossVerdict, 'guestId' | 'guest'> & { readonly shape?: ReturnType<typeof shapeOf> };

function verdictOn(snapshot: Snapshot, guest: Guest, through: number, now: Instant, placer: Placer): Verdict {
  const stays = staysBecause(guest, through);
  if (stays !== undefined) return { what: 'stays', why: stays };
  if (guest.deletionAt !== undefined) return { what: 'stays', why: 'it is being deleted, which ends with its host' };
  if (guest.spec.power === 'off') return { what: 'stays', why: 'it is to be off; it can be started elsewhere' };
  if (guest.status.exhausted || movesExhausted(guest, now))
    return { what: 'waits', why: exhaustedWhy(guest, guest.status.exhausted?.what ?? 'moves') };
  const { hold } = snapshot.site;
  if (hold) return { what: 'waits', why: heldBy(hold) };
  const shape = shapeOf(snapshot, guest);
  const place = placer.place(shape);
  if (!place) return { what: 'waits', why: '', shape };
  return { what: 'moves', host: place.host.name, why: place.reasons[0] ?? '' };
}

export const heldBy = ({ who, reason }: { readonly who: string; readonly reason: string }): string =>
  `the site is held by ${who}: ${reason}`;
