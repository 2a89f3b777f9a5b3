/**
 * What the host's lease forbids and asks for in the plan of one guest (host-lease, rules 3, 9 and 10). Highly available
 * guests run in the group of the lease's session and need the keeper for each start; all others never notice any of this.
 */
import type { PlanContext, PlanStep } from '../host-plan.ts';
import type { GuestOrder } from '../model/assignment.ts';
import type { Instant } from '../model/resource.ts';
import { whereabouts } from './groups.ts';
import type { GuestJournal } from './journal.ts';
import { neverRan } from './observe.ts';
import type { EngineGuestView } from './view.ts';

const keeperSilent = 'the keeper of this host does not answer';

const where = (seen: EngineGuestView, { assignment, view }: PlanContext): ReturnType<typeof whereabouts> =>
  whereabouts(seen.group, assignment.hostId, view.session, seen.id);

/** The order was made for another session than the present one: that session is over (rule 6). */
const forAnother = ({ assignment, view }: PlanContext): boolean =>
  assignment.session !== undefined && assignment.session.id !== view.session.id;

interface Hold {
  readonly reason: string;
  readonly until?: Instant;
}

const isBarred = (order: GuestOrder, { view }: PlanContext): boolean =>
  order.barred === true && !(order.ha && view.keeper?.entries.has(order.id));

/** Why a guest that is down may not be started now, and when to look again; `undefined`: the lease forbids nothing. */
export function whyNotStart(order: GuestOrder, context: PlanContext): Hold | undefined {
  if (isBarred(order, context)) return { reason: 'it may still run on a host that the leader has not heard of yet' };
  return order.ha ? whyNoLease(order, context) : undefined;
}

function whyNoLease(order: GuestOrder, context: PlanContext): Hold | undefined {
  const { keeper, leaseRetryAt } = context.view;
  if (!keeper) return { reason: `it is highly available, and ${keeperSilent}` };
  if (forAnother(context)) return { reason: 'the order is for an earlier session of this host' };
  if (keeper.lease === 'killing') return { reason: 'the session of this host is over, its guests are being ended' };
  if (keeper.lease === 'lapsed') return { reason: 'this host has no lease: it hears no majority of the voters' };
  const until = leaseRetryAt.get(order.id);
  return until !== undefined && until > context.now ? { reason: 'this host has no lease yet', until } : undefined;
}

/** The keeper will never register this order again: a leader barred it, or its session is over (rules 9 and 10). */
export function lostOrder(
  order: GuestOrder,
  journal: GuestJournal,
  seen: EngineGuestView | undefined,
  context: PlanContext,
): PlanStep | undefined {
  const gone = context.view.keeper?.gone.get(order.id);
  if (!order.ha || gone === undefined || gone < order.generation) return undefined;
  // What is to be off is not started; a new start is a new order.
  if (!seen && order.power === 'off') return undefined;
  // One that never was in a group is not what is gone; nobody starts it elsewhere. One that still is in one is being killed.
  const alive = seen !== undefined && seen.state !== 'shutoff' && seen.state !== 'crashed';
  if (alive && !neverRan(journal, seen)) return undefined;
  return { do: 'lose', detail: `generation ${gone} of it is gone from this host`, reason: 'it is gone from here' };
}

/** A domain that was made for the lease's session and never ran: it is let in, waits, or ends. */
export function planAdmission(
  order: GuestOrder,
  journal: GuestJournal,
  unwanted: boolean,
  context: PlanContext,
): PlanStep {
  const { keeper, session } = context.view;
  if (!keeper) return { do: 'wait', reason: `it is highly available, and ${keeperSilent}` };
  if (unwanted) return { do: 'discard', reason: 'it was made, never ran, and should not' };
  if (!order.ha) return { do: 'discard', reason: 'it was made as a highly available guest, and is none any more' };
  if (journal.starting?.sessionId !== session.id)
    return { do: 'discard', reason: 'it was made for an earlier session of this host' };
  if (isBarred(order, context)) return { do: 'discard', reason: 'the leader barred it before it ran' };
  const hold = whyNoLease(order, context);
  return hold ? { do: 'wait', ...hold } : { do: 'admit', reason: 'it was made, and waits to run' };
}

/** Why nothing may be asked of a running guest now: it is frozen, or may be at any moment. */
export function holdsStill(seen: EngineGuestView, context: PlanContext): string | undefined {
  if (seen.frozen) return 'it is frozen while its host has no lease';
  const place = where(seen, context);
  if (place === 'outside') return undefined;
  if (place === 'another') return 'it is of a session of this host that is over';
  const { keeper } = context.view;
  if (!keeper) return keeperSilent;
  return keeper.lease === 'held' ? undefined : 'its host has no lease';
}

/** A running guest that became highly available; its host reports it inside once it was seen there (rule 3). */
export function bringIn(
  order: GuestOrder,
  journal: GuestJournal,
  seen: EngineGuestView,
  context: PlanContext,
): PlanStep | undefined {
  if (!order.ha || where(seen, context) !== 'outside' || seen.group === undefined) return undefined;
  const refused = journal.outside !== undefined && journal.outside.generation >= order.generation;
  if (refused || whyNoLease(order, context)) return undefined;
  return { do: 'enter', reason: 'it became highly available' };
}

/** The keeper must kill its group and forget its entry before anything of it is called gone (rule 9). */
export function clearFirst(journal: GuestJournal, seen: EngineGuestView | undefined, context: PlanContext): boolean {
  if (journal.registered || context.view.keeper?.entries.has(journal.id)) return true;
  return seen !== undefined && where(seen, context) !== 'outside';
}
