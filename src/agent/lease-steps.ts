/**
 * What highly available guests need of the keeper (host-lease, rules 9 and 10): they are registered before anything of
 * them runs, made paused, moved into the group of the lease's session, checked again, and only then resumed.
 */
import { VirgaError } from '../core/errors.ts';
import { without, type GuestJournal } from '../core/host/journal.ts';
import type { GuestOrder } from '../core/model/assignment.ts';
import type { DoorTicket, DoorRegistered } from '../core/ha/door.ts';
import type { StepContext } from './step-context.ts';

type Refusal = Extract<DoorRegistered, { ok: false }>;

/** What the keeper is asked to register: the order, for the session that it was given for. */
export function ticketOf({ id, generation, epoch }: GuestOrder, { assignment, session }: StepContext): DoorTicket {
  return { guestId: id, generation, epoch, session: assignment.session ?? session };
}

/** What the journal says before the keeper is asked to register the guest. */
export const registering = (order: GuestOrder, context: StepContext): NonNullable<GuestJournal['registered']> => ({
  sessionId: ticketOf(order, context).session.id,
});

/** Takes in a domain that was made by `startGuest`, in this life of the agent or an earlier one. */
export async function admit(order: GuestOrder, journal: GuestJournal, context: StepContext): Promise<void> {
  const current = await context.save({ ...journal, registered: registering(order, context) });
  const answer = await context.ports.keeper.register(ticketOf(order, context));
  if (!answer.ok) return turnedAway(answer, order, current, context);
  const ran = await letIn(order, current, context);
  if (ran) await context.save(ran);
}

/**
 * Moves the paused, registered domain into its group, asks once more, and lets it run. Returns the journal of a guest that
 * may run now, to be saved; `undefined`: it may not, and what follows from that is done.
 */
export async function letIn(
  order: GuestOrder,
  journal: GuestJournal,
  context: StepContext,
): Promise<GuestJournal | undefined> {
  const { ports, rules } = context;
  const startedAt = ports.clock.now();
  await ports.keeper.enter(order.id, await processOf(order, context));
  if (rules.startPaused) {
    const answer = await ports.keeper.register(ticketOf(order, context));
    if (!answer.ok) {
      await turnedAway(answer, order, journal, context);
      return undefined;
    }
  }
  if (!order.paused) await ports.engine.resume(order.id);
  const startSeq = Math.max(journal.startSeq, journal.starting?.startSeq ?? 0);
  const running = { startedAt, bootId: context.bootId, sessionId: ticketOf(order, context).session.id };
  return without({ ...journal, startSeq, running, stoppedByOrder: false, rebooting: false }, 'starting');
}

/** The keeper says no: for now, or for ever. */
export async function turnedAway(
  answer: Refusal,
  order: GuestOrder,
  journal: GuestJournal,
  context: StepContext,
): Promise<void> {
  if (answer.why === 'lapsed') return context.awaitLease(order.id);
  return lose(answer.detail, order, journal, context);
}

/** Ends whatever there is of the guest; what its own disk holds stays. */
export async function discard(order: GuestOrder, journal: GuestJournal, context: StepContext): Promise<void> {
  const { ports, save } = context;
  await ports.keeper.clear(order.id);
  await ports.engine.destroy(order.id);
  await save(without(journal, 'starting', 'registered'));
}

/** This order is never carried out here: said only when nothing of it can run any more. */
export async function lose(
  detail: string,
  order: GuestOrder,
  journal: GuestJournal,
  context: StepContext,
): Promise<void> {
  const { ports, save } = context;
  await ports.keeper.clear(order.id);
  await ports.engine.destroy(order.id);
  const bare = without(journal, 'starting', 'running', 'registered', 'stopping');
  const error = {
    code: 'keeper' as const,
    message: `The keeper of this host does not let it run here under this order: ${detail}`,
    errorAt: ports.clock.now(),
  };
  const lost = { ...bare, gone: { generation: order.generation }, error };
  // A disk that begins anew at each start is nobody's any more; snapshots stay until an order says otherwise.
  if (order.diskMode !== 'fresh' || journal.snapshots.length > 0) return void (await save(lost));
  await ports.disks.removeAll(order.id);
  await save({ ...without(lost, 'active', 'freezing', 'applied'), layers: [] });
}

/** Brings a running guest into the session's group. Refused for good, it goes on outside, and is not highly available. */
export async function enter(order: GuestOrder, journal: GuestJournal, context: StepContext): Promise<void> {
  const { ports, save } = context;
  const current = await save({ ...journal, registered: registering(order, context) });
  const answer = await ports.keeper.register(ticketOf(order, context));
  if (answer.ok) return ports.keeper.enter(order.id, await processOf(order, context));
  if (answer.why === 'lapsed') return context.awaitLease(order.id);
  const message = `It cannot become highly available under this order: ${answer.detail}`;
  const error = { code: 'keeper', message, errorAt: ports.clock.now() };
  await save({ ...current, outside: { generation: order.generation }, error });
}

async function processOf(order: GuestOrder, { ports }: StepContext): Promise<number> {
  const pid = await ports.engine.pidOf(order.id);
  if (pid !== undefined) return pid;
  throw new VirgaError('timeout', { what: `finding the process of ${order.name}`, seconds: 1 });
}
