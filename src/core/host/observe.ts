/**
 * Journal and reality: what a look at the engine changes in what the agent remembers. Pure; the agent writes the result
 * down before it acts on it.
 */
import type { EngineGuestView } from './view.ts';
import type { ExitReason } from '../model/guest.ts';
import type { GuestOrder } from '../model/assignment.ts';
import type { Instant, Uuid } from '../model/resource.ts';
import { newJournal, noFailures, without, type GuestJournal } from './journal.ts';

/** A guest that ran at least this long had started well: its next failure is a first one. Milliseconds. */
export const settledAfterMs = 60_000;
/** Quick failures in a row after which the agent waits for a person. */
export const maxFailures = 10;
/** Longest pause between two tries, milliseconds. */
export const maxBackOffMs = 60_000;

/** Pause before the next try: none after the first failure, then 1 s, 2 s, 4 s … at most 60 s. */
export function backOffMs(failures: number): number {
  if (failures <= 1) return 0;
  return Math.min(maxBackOffMs, 1000 * 2 ** (failures - 2));
}

export interface Noticed {
  readonly now: Instant;
  readonly bootId: string;
  /** Id of the present session of the host's lease. */
  readonly sessionId: Uuid;
  /** It is in the group of that session: the kernel says so. */
  readonly inside: boolean;
  /** The keeper answers, and that is its session. */
  readonly sure: boolean;
  /** The keeper kills what is in its groups, or killed this guest by a leader's word. */
  readonly killed: boolean;
  /** How it ended, where the engine said so. */
  readonly exit?: { readonly reason: ExitReason; readonly exitAt: Instant };
}

const alive = (guest: EngineGuestView | undefined): guest is EngineGuestView =>
  guest !== undefined && guest.state !== 'shutoff' && guest.state !== 'crashed';

/** What the look at one guest changes; the same object when nothing does. */
export function noticeGuest(
  journal: GuestJournal,
  order: GuestOrder | undefined,
  seen: EngineGuestView | undefined,
  noticed: Noticed,
): GuestJournal {
  const accepted = forgetEntry(accept(journal, order), noticed);
  return alive(seen) ? noticeAlive(accepted, seen, noticed) : noticeDown(accepted, order, noticed);
}

/** The register of an earlier session is over with it. */
function forgetEntry(journal: GuestJournal, { sure, sessionId }: Noticed): GuestJournal {
  const over = sure && journal.registered !== undefined && journal.registered.sessionId !== sessionId;
  return over ? without(journal, 'registered') : journal;
}

/** Takes note of a newer order; a person who asks for a start again ends the giving up. */
function accept(journal: GuestJournal, order: GuestOrder | undefined): GuestJournal {
  if (!order || order.generation < journal.accepted) return journal;
  const kept = order.want === 'keep' ? { order } : {};
  if (order.generation === journal.accepted)
    return journal.order || order.want !== 'keep' ? journal : { ...journal, ...kept };
  const { generation: accepted, name, startSeq: askedSeq } = order;
  const next: GuestJournal = { ...journal, ...kept, accepted, name, askedSeq };
  const asked = order.startSeq > (journal.askedSeq ?? journal.startSeq);
  return asked || order.power === 'off' ? without({ ...next, failures: noFailures }, 'error') : next;
}

/** Made for the lease's session, and not resumed yet (host-lease, rule 10). */
export function neverRan(journal: GuestJournal, seen: EngineGuestView): boolean {
  return journal.starting?.sessionId !== undefined && seen.state === 'paused';
}

function noticeAlive(journal: GuestJournal, seen: EngineGuestView, noticed: Noticed): GuestJournal {
  if (neverRan(journal, seen)) return journal;
  const { now, bootId, sessionId, inside } = noticed;
  let next = journal;
  const entered = inside && next.running?.sessionId !== sessionId;
  if (next.running?.bootId !== bootId || next.starting || entered) {
    const startSeq = Math.max(next.startSeq, next.starting?.startSeq ?? next.startSeq);
    // Nobody leaves a group while running, so what was seen once holds.
    const before = next.running?.bootId === bootId ? next.running.sessionId : undefined;
    const group = inside ? sessionId : before;
    const running = { startedAt: seen.startedAt, bootId, ...(group === undefined ? {} : { sessionId: group }) };
    next = without({ ...next, startSeq, running, stoppedByOrder: false, rebooting: false }, 'starting');
    if (entered && next.outside) next = without(next, 'outside', 'error');
  }
  const healthy = next.failures.count > 0 && now - (next.running?.startedAt ?? now) >= settledAfterMs;
  if (healthy) next = { ...next, failures: noFailures };
  return next.error && (healthy || next.failures.count === 0) && isStartError(next) ? without(next, 'error') : next;
}

/** Errors of starting are over once the guest has run for a while; errors of a resize stay until it is ordered anew. */
const isStartError = (journal: GuestJournal): boolean => journal.refused === undefined && journal.outside === undefined;

function noticeDown(journal: GuestJournal, order: GuestOrder | undefined, noticed: Noticed): GuestJournal {
  const { running, starting } = journal;
  if (starting && noticed.exit && noticed.exit.exitAt >= starting.at)
    return ended({ ...without(journal, 'starting'), startSeq: starting.startSeq }, order, starting.at, noticed);
  if (!running) return journal;
  return ended(journal, order, running.startedAt, noticed);
}

function ended(
  journal: GuestJournal,
  order: GuestOrder | undefined,
  startedAt: Instant,
  { now, bootId, sessionId, killed, exit }: Noticed,
): GuestJournal {
  const { running } = journal;
  const rebooted = running !== undefined && running.bootId !== bootId;
  const grouped = running?.sessionId;
  const leaseLost = !rebooted && grouped !== undefined && (killed || grouped !== sessionId);
  const told = exit && { reason: exit.reason, exitAt: exit.exitAt };
  const byKeeper = leaseLost ? { reason: 'lease-lost' as const, exitAt: exit?.exitAt ?? now } : told;
  const known = rebooted ? { reason: 'host-reboot' as const, exitAt: now } : byKeeper;
  const last = known ?? { reason: 'unknown' as const, exitAt: now };
  const down = without({ ...journal, exit: last }, 'running', 'stopping');
  if (journal.stopping) {
    const reboot = journal.stopping.why === 'reboot';
    const rebootSeq = reboot && order ? Math.max(order.rebootSeq, journal.rebootSeq) : journal.rebootSeq;
    return { ...down, stoppedByOrder: true, rebooting: reboot, rebootSeq };
  }
  if (rebooted || leaseLost) return { ...down, failures: noFailures };
  if (last.reason === 'shutdown') return { ...down, failures: noFailures };
  return countFailure(down, last.exitAt - startedAt >= settledAfterMs, now);
}

/** One more failure; after a good run the count begins anew. */
function countFailure(journal: GuestJournal, ranWell: boolean, now: Instant): GuestJournal {
  const count = ranWell ? 1 : journal.failures.count + 1;
  const gaveUp = count >= maxFailures;
  const failures = { count, retryAt: now + backOffMs(count), gaveUp };
  const message = `it ended unasked (${journal.exit?.reason ?? 'unknown'})${gaveUp ? ` ${count} times in a row` : ''}`;
  return { ...journal, failures, error: { code: 'engine', message, errorAt: now } };
}

/** An attempt of ours that failed. `patient`: something outside is missing, so we go on trying for ever. */
export function noteFailure(
  journal: GuestJournal,
  error: { readonly code: string; readonly message: string },
  now: Instant,
  patient: boolean,
): GuestJournal {
  const count = journal.failures.count + 1;
  const gaveUp = !patient && count >= maxFailures;
  const failures = {
    count: patient ? Math.min(count, maxFailures - 1) : count,
    retryAt: now + backOffMs(count + 1),
    gaveUp,
  };
  // A domain made for the lease's session may be there, and must not run before it was let in, whatever failed.
  const kept = journal.starting?.sessionId === undefined ? without(journal, 'starting') : journal;
  return { ...kept, failures, error: { ...error, errorAt: now } };
}

/** The journal that a new order begins, or the one there is. */
export function journalFor(order: GuestOrder, existing: GuestJournal | undefined): GuestJournal {
  return existing ?? newJournal(order);
}
