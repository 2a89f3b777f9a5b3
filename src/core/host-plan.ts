/**
 * The agent's whole convergence as one pure decision: from the assignment, the journals and what was seen, the next
 * step for each guest, with its reason. Executing a step and planning again converges; planning twice without executing
 * gives the same.
 *
 * What it never does: touch a held guest, touch a domain that no order lists, execute an order older than one it has
 * seen, destroy anything while the assignment says `destroyNothing`.
 */
import type { HostAction, GuestStep, StopReason } from './host/actions.ts';
import type { GuestJournal } from './host/journal.ts';
import { newJournal } from './host/journal.ts';
import { bringIn, clearFirst, holdsStill, lostOrder, planAdmission, whyNotStart } from './host/lease-plan.ts';
import { neverRan } from './host/observe.ts';
import type { EngineGuestView, HostView } from './host/view.ts';
import type { Assignment, GuestOrder } from './model/assignment.ts';
import type { Instant, Uuid } from './model/resource.ts';

/** Milliseconds after which a guest that was asked politely to stop is asked again (it may have been booting). */
export const askAgainMs = 5000;

/**
 * Milliseconds for which a creation by an earlier life of the agent may still be under way in the engine: such a domain
 * is seen, but not running, and its disk must not be touched.
 */
export const creationMs = 60_000;

export interface PlanContext {
  readonly assignment: Assignment;
  readonly view: HostView;
  readonly now: Instant;
}
type Context = PlanContext;

export type PlanStep = (GuestStep & { readonly reason: string }) | Waiting;
type Step = PlanStep;
interface Waiting {
  readonly do: 'wait';
  readonly until?: Instant;
  readonly reason: string;
}

/** True when `next` may replace `current` on the host's disk: never back to an older leader or an older state. */
export function supersedes(next: Assignment, current: Assignment | undefined): boolean {
  if (!current) return true;
  if (next.siteId !== current.siteId || next.hostId !== current.hostId) return false;
  if (next.epoch !== current.epoch) return next.epoch > current.epoch;
  return next.generation >= current.generation;
}

/** What to do next on one host; at most one step per guest. */
export function planHost(
  assignment: Assignment,
  journals: ReadonlyMap<Uuid, GuestJournal>,
  view: HostView,
  now: Instant,
): readonly HostAction[] {
  const context = { assignment, view, now };
  const busy = new Set(view.busy);
  const seen = new Map(view.guests.map((guest) => [guest.id, guest]));
  const listed = new Set(assignment.guests.map((order) => order.id));
  const actions: HostAction[] = [];
  for (const order of assignment.guests) {
    if (busy.has(order.id)) continue;
    const journal = journals.get(order.id) ?? newJournal(order);
    const step = afterFailure(planGuest(order, journal, seen.get(order.id), context), journal, now);
    if (step) actions.push({ ...step, guestId: order.id });
  }
  for (const [id, journal] of journals) {
    if (!listed.has(id) && !busy.has(id) && journal.gone)
      actions.push({ do: 'forget', guestId: id, reason: 'it is gone and no longer listed' });
  }
  return [...fetches(context), ...actions];
}

/** After a failure every step waits for its time; what costs nothing does not. */
function afterFailure(step: Step | undefined, { failures }: GuestJournal, now: Instant): Step | undefined {
  if (!step || step.do === 'wait' || step.do === 'settle' || failures.count === 0 || failures.retryAt <= now)
    return step;
  return { do: 'wait', until: failures.retryAt, reason: 'it failed a moment ago' };
}

function fetches({ assignment, view, now }: Context): HostAction[] {
  const wanted = new Set<string>();
  for (const order of assignment.guests)
    if (order.want === 'keep' && !order.held && order.image && !order.adopted) wanted.add(order.image.sha512);
  return [...wanted]
    .filter((sha512) => !view.images.includes(sha512) && !view.fetching.includes(sha512))
    .filter((sha512) => (view.fetchRetryAt[sha512] ?? 0) <= now)
    .map((sha512) => ({ do: 'fetch', sha512, reason: 'a guest of this host needs it' }));
}

const alive = (seen: EngineGuestView | undefined): seen is EngineGuestView =>
  seen !== undefined && seen.state !== 'shutoff' && seen.state !== 'crashed';

/** The next step for one guest; `undefined`: it is as it should be. */
export function planGuest(
  order: GuestOrder,
  journal: GuestJournal,
  seen: EngineGuestView | undefined,
  context: Context,
): Step | undefined {
  if (order.generation < journal.accepted) return { do: 'wait', reason: 'the order is older than one already seen' };
  if (seen && seen.siteId !== context.assignment.siteId)
    return { do: 'wait', reason: 'a domain of another site has this identity' };
  if (order.held) return settled(order, journal, 'it is held');
  if (order.want === 'remove') return planRemove(order, journal, seen, context);
  if (journal.gone && journal.gone.generation >= order.generation) return undefined;
  const lost = lostOrder(order, journal, seen, context);
  if (lost) return lost;
  if (order.want === 'release') return planRelease(order, journal, seen);
  if (order.adopted && !journal.adopted && !seen) return { do: 'adopt', reason: 'it is to be taken over' };
  if (alive(seen)) return planAlive(order, journal, seen, context);
  if (journal.freezing) return { do: 'settle-snapshot', running: false, reason: 'a snapshot was cut short' };
  const creatingUntil = seen && journal.starting ? journal.starting.at + creationMs : 0;
  if (creatingUntil > context.now) return { do: 'wait', until: creatingUntil, reason: 'the engine is creating it' };
  return planDown(order, journal, context);
}

function settled(order: GuestOrder, journal: GuestJournal, reason: string): Step | undefined {
  if (journal.generation === order.generation) return undefined;
  return { do: 'settle', generation: order.generation, reason };
}

// ---------------------------------------------------------------- leaving

function planRemove(
  order: GuestOrder,
  journal: GuestJournal,
  seen: EngineGuestView | undefined,
  context: Context,
): Step | undefined {
  if (context.assignment.destroyNothing)
    return { do: 'wait', reason: 'nothing is destroyed until the restore is reviewed' };
  const done = journal.gone !== undefined && journal.gone.generation >= order.generation;
  if (done && !alive(seen)) return undefined;
  const clear = clearFirst(journal, seen, context);
  if (clear && !context.view.keeper)
    return { do: 'wait', reason: 'it is to be removed, and the keeper does not answer' };
  if (alive(seen)) return { do: 'destroy', why: 'remove', clear, reason: 'it is to be removed' };
  return { do: 'remove', clear, reason: 'it is to be removed' };
}

function planRelease(order: GuestOrder, journal: GuestJournal, seen: EngineGuestView | undefined): Step | undefined {
  if (!(journal.adopted ?? order.adopted)) return { do: 'wait', reason: 'only an adopted guest can be given back' };
  return { do: 'release', reason: seen ? 'it is to be given back' : 'it is to be given back, switched off' };
}

// ---------------------------------------------------------------- running

function planAlive(
  order: GuestOrder,
  journal: GuestJournal,
  seen: EngineGuestView,
  context: Context,
): Step | undefined {
  const down = whyDown(order, journal, context);
  if (neverRan(journal, seen)) return planAdmission(order, journal, down !== undefined, context);
  const still = holdsStill(seen, context);
  if (still) return planStill(order, journal, seen, { down, still }, context);
  if (journal.freezing) return { do: 'settle-snapshot', running: true, reason: 'a snapshot was cut short' };
  if (down) return bringDown(order, journal, seen, down, context);
  const entering = bringIn(order, journal, seen, context);
  if (entering) return entering;
  return planCalm(order, journal, seen);
}

function planCalm(order: GuestOrder, journal: GuestJournal, seen: EngineGuestView): Step | undefined {
  if (seen.state === 'running' && order.paused) return { do: 'pause', reason: 'it should be paused' };
  if (seen.state === 'paused' && !order.paused) return { do: 'resume', reason: 'it should not be paused' };
  return planSnapshots(order, journal, true) ?? planSizes(order, journal) ?? whenSettled(order, journal);
}

/** Whatever asks a guest that is (about to be) frozen hangs: it is ended through the keeper, or left alone. */
function planStill(
  order: GuestOrder,
  journal: GuestJournal,
  seen: EngineGuestView,
  { down, still }: { readonly down: StopReason | undefined; readonly still: string },
  context: Context,
): Step {
  if (down && seen.frozen && context.view.keeper)
    return { do: 'destroy', why: down, clear: true, reason: `it is to be ended, and ${still}` };
  const calm = down || journal.freezing ? undefined : planCalm(order, journal, seen);
  return calm?.do === 'settle' ? calm : { do: 'wait', reason: still };
}

/** What an order wants of a running guest that needs it down first. */
function whyDown(order: GuestOrder, journal: GuestJournal, { assignment }: Context): StopReason | undefined {
  if (!assignment.destroyNothing && order.rebuildSeq > journal.rebuildSeq && order.image) return 'rebuild';
  if (!assignment.destroyNothing && revertDue(order, journal)) return 'revert';
  if (order.power === 'off') return 'stop';
  return order.rebootSeq > journal.rebootSeq ? 'reboot' : undefined;
}

function bringDown(
  order: GuestOrder,
  journal: GuestJournal,
  seen: EngineGuestView,
  why: StopReason,
  { now }: Context,
): Step {
  if (why === 'rebuild') return { do: 'destroy', why, clear: false, reason: 'its disk begins anew' };
  if (why === 'revert') return { do: 'destroy', why, clear: false, reason: 'its disk goes back to a snapshot' };
  const verb = why === 'reboot' ? 'rebooted' : 'stopped';
  if (seen.state === 'io-error')
    return { do: 'destroy', why, clear: false, reason: `it is to be ${verb}, and stands at a disk error` };
  const { stopping } = journal;
  const forceAt = stopping && stopping.why === why ? stopping.since + order.graceSeconds * 1000 : undefined;
  if (forceAt !== undefined && now >= forceAt)
    return { do: 'destroy', why, clear: false, reason: `it did not stop within ${order.graceSeconds} s` };
  if (seen.state === 'paused') return { do: 'resume', reason: `it is to be ${verb}, and must run to stop in order` };
  if (!stopping || stopping.why !== why) return { do: 'shutdown', why, reason: `it is to be ${verb}` };
  const askAt = stopping.askedAt + askAgainMs;
  if (now >= askAt) return { do: 'shutdown', why, reason: 'it has not stopped yet' };
  return { do: 'wait', until: Math.min(askAt, forceAt ?? askAt), reason: 'it was asked to stop' };
}

function planSizes(order: GuestOrder, journal: GuestJournal): Step | undefined {
  const { applied, refused } = journal;
  if (!applied || order.adopted) return undefined;
  const cpus = Math.min(order.cpus, order.maxCpus);
  if (cpus !== applied.cpus && cpus !== refused?.cpus)
    return { do: 'set-cpus', cpus, reason: `${cpus} CPUs are ordered` };
  const memoryMiB = Math.min(order.memoryMiB, order.maxMemoryMiB);
  if (memoryMiB !== applied.memoryMiB && memoryMiB !== refused?.memoryMiB)
    return { do: 'set-memory', memoryMiB, reason: `${memoryMiB} MiB of memory are ordered` };
  return planGrowth(order, journal, true);
}

function planGrowth(
  { diskMiB }: GuestOrder,
  { applied, refused, active }: GuestJournal,
  running: boolean,
): Step | undefined {
  if (!applied || active === undefined || diskMiB <= applied.diskMiB || diskMiB === refused?.diskMiB) return undefined;
  return { do: 'grow-disk', diskMiB, running, reason: `a disk of ${diskMiB} MiB is ordered` };
}

function whenSettled(order: GuestOrder, journal: GuestJournal): Step | undefined {
  return settled(order, journal, 'it is as ordered');
}

// ---------------------------------------------------------------- down

function planDown(order: GuestOrder, journal: GuestJournal, context: Context): Step | undefined {
  const { destroyNothing } = context.assignment;
  const hasImage = order.image !== undefined && context.view.images.includes(order.image.sha512);
  if (!destroyNothing && order.rebuildSeq > journal.rebuildSeq && order.image) {
    if (!hasImage) return { do: 'wait', reason: 'its image is not here yet' };
    return { do: 'rebuild', reason: 'its disk begins anew' };
  }
  if (!destroyNothing && order.revert && revertDue(order, journal)) {
    return { do: 'revert', ...order.revert, reason: 'its disk goes back to a snapshot' };
  }
  return planSnapshots(order, journal, false) ?? startIfDue(order, journal, context);
}

const revertDue = (order: GuestOrder, journal: GuestJournal): boolean =>
  order.revert !== undefined && order.revert.seq > journal.revertSeq;

function startIfDue(order: GuestOrder, journal: GuestJournal, context: Context): Step | undefined {
  if (order.power === 'off') return planGrowth(order, journal, false) ?? settled(order, journal, 'it is to be off');
  const cause = whyStart(order, journal);
  if (!cause) return settled(order, journal, 'it stays off: that is how it ended, and nobody asked for a start since');
  if (journal.failures.gaveUp) return { do: 'wait', reason: 'it failed too often in a row; it waits for a person' };
  const missing = missingForStart(order, context);
  if (missing) return { do: 'wait', reason: missing };
  const barred = whyNotStart(order, context);
  if (barred) return { do: 'wait', ...barred };
  const freshDisk =
    order.image !== undefined && (journal.active === undefined || (order.diskMode === 'fresh' && !journal.rebooting));
  return { do: 'start', freshDisk, again: cause.again, reason: cause.reason };
}

interface StartCause {
  readonly reason: string;
  /** It counts as a restart. */
  readonly again: boolean;
}

/** Why a guest that is down and should be on is started; `undefined`: it stays off (its restart policy). */
export function whyStart(order: GuestOrder, journal: GuestJournal): StartCause | undefined {
  const { exit } = journal;
  if (order.startSeq > journal.startSeq) return { reason: 'a start was asked for', again: false };
  if (journal.stoppedByOrder) return { reason: 'what it was stopped for is over', again: false };
  if (!exit) return { reason: 'it should be on', again: false };
  if (exit.reason === 'host-reboot') return { reason: 'its host came up again', again: false };
  if (exit.reason === 'lease-lost') return { reason: 'its host may run it again', again: false };
  if (order.restart === 'always') return { reason: `it ended (${exit.reason})`, again: true };
  if (order.restart === 'never' || exit.reason === 'shutdown') return undefined;
  return { reason: `it failed (${exit.reason})`, again: true };
}

function missingForStart(order: GuestOrder, { view }: Context): string | undefined {
  if (order.adopted) return undefined;
  if (order.image && !view.images.includes(order.image.sha512)) return 'its image is not here yet';
  const absent = order.nics.find((nic) => !view.networks.includes(nic.networkId));
  return absent ? `its network ${absent.networkId} is not ready on this host` : undefined;
}

// ---------------------------------------------------------------- snapshots

function planSnapshots(order: GuestOrder, journal: GuestJournal, running: boolean): Step | undefined {
  if (order.adopted) return undefined;
  const listed = new Map(order.snapshots.map((snapshot) => [snapshot.id, snapshot]));
  const dropped = journal.snapshots.find((record) => listed.get(record.id)?.wanted === false);
  if (dropped) return { do: 'drop-snapshot', snapshotId: dropped.id, reason: 'the snapshot is to be deleted' };
  if (journal.active === undefined) return undefined;
  const due = order.snapshots.find((each) => each.wanted && !journal.snapshots.some((record) => record.id === each.id));
  return due && { do: 'snapshot', snapshotId: due.id, running, reason: `the snapshot ${due.name} is asked for` };
}
