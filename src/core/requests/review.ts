/** After a restore: what the hosts know and the restored state does not is taken into it again, as it is. */
import { VirgaError } from '../errors.ts';
import { nextOrder } from '../guest-orders.ts';
import { highestSeen } from '../model/conditions.ts';
import type { Guest, GuestObservation, GuestSpec } from '../model/guest.ts';
import type { RequestContext, Snapshot } from '../model/snapshot.ts';
import { without } from '../util.ts';
import { write } from './actions.ts';
import { checkReason, invalid, limits } from './check.ts';
import type { RequestResult } from './result.ts';
import { Draft, mayChange, nothing } from './result.ts';

/** A person has looked at the restored state: from now on things may be destroyed again. */
export function finishReview(snapshot: Snapshot, context: RequestContext): RequestResult {
  mayChange(context, undefined, 'finish the review');
  checkReason(context);
  const { site } = snapshot;
  if (!site.review) return nothing();
  const draft = new Draft(context);
  draft.site(without(site, 'review'));
  draft.event(
    { kind: 'site', id: site.id, name: site.name },
    { type: 'site.reviewed', message: 'the review of the restored state was finished' },
  );
  return draft.finish();
}

/** True for a guest of which its host has seen a later order than this state gives. */
export function isNewer({ status }: Guest): boolean {
  return status.placement !== undefined && highestSeen(status.observed) > status.placement.generation;
}

/**
 * A known guest of the review is kept as it is: one that is being deleted is not, and one whose host has carried out
 * later orders goes on as its host has it.
 */
export function adoptKnown(snapshot: Snapshot, guest: Guest, context: RequestContext): RequestResult {
  mayChange(context, guest, `change the guest "${guest.name}"`);
  checkReason(context);
  if (guest.deletionAt !== undefined) return undelete(snapshot, guest, context);
  if (!isNewer(guest)) throw invalid(`the guest "${guest.name}" is known, and as its host has it`);
  return write(snapshot, nextOrder(caughtUp(guest), snapshot.site.epoch), context, {
    type: 'guest.adopted',
    message: `${guest.name} goes on as its host has it, which had carried out later orders`,
    evidence: { order: guest.status.placement?.generation ?? 0, seen: highestSeen(guest.status.observed) },
  });
}

/** Only under review: without one, the host may have begun to remove it. */
function undelete(snapshot: Snapshot, guest: Guest, context: RequestContext): RequestResult {
  if (!snapshot.site.review)
    throw new VirgaError('not_allowed', {
      name: guest.name,
      state: 'deleting',
      action: 'kept',
      why: 'no review is pending, so its host may have begun to remove it',
    });
  const kept: Guest = without(guest, 'deletionAt');
  return write(snapshot, nextOrder(isNewer(guest) ? caughtUp(kept) : kept, snapshot.site.epoch), context, {
    type: 'guest.undeleted',
    message: `${guest.name} is kept: it is not to be deleted any more`,
  });
}

/** The guest as its host sees it, under the highest generation that the host knows. */
function caughtUp(guest: Guest): Guest {
  const { observed, lastGeneration } = guest.status;
  if (!observed) return guest;
  return {
    ...guest,
    generation: guest.generation + 1,
    spec: {
      ...guest.spec,
      ...power(guest.spec, observed),
      ...sizes(guest.spec, observed),
      ...counters(guest, observed),
    },
    status: { ...guest.status, lastGeneration: Math.max(lastGeneration, highestSeen(observed)) },
  };
}

/** What runs is to run, what was switched off is to be off; what fell is left to its restart policy. */
function power(spec: GuestSpec, { engine, exit }: GuestObservation): Pick<GuestSpec, 'power' | 'paused'> {
  if (engine === 'paused' || engine === 'running') return { power: 'on', paused: engine === 'paused' };
  const switchedOff = engine !== 'io-error' && (exit?.reason === 'shutdown' || exit?.reason === 'destroyed');
  return switchedOff ? { power: 'off', paused: false } : { power: spec.power, paused: spec.paused };
}

function sizes(spec: GuestSpec, { cpus, memoryMiB }: GuestObservation): Partial<GuestSpec> {
  if (spec.adopted || cpus === undefined || memoryMiB === undefined) return {};
  const has = {
    cpus: Math.min(limits.cpus, Math.max(1, cpus)),
    memoryMiB: Math.min(limits.memoryMiB, Math.max(limits.smallestMemoryMiB, memoryMiB)),
  };
  return {
    ...has,
    maxCpus: Math.max(spec.maxCpus, has.cpus),
    maxMemoryMiB: Math.max(spec.maxMemoryMiB, has.memoryMiB),
  };
}

/** Counters never go back behind what was done, or the next start would seem done already. */
function counters({ id, spec }: Guest, observed: GuestObservation): Partial<GuestSpec> {
  const { revert } = spec;
  const snapshotId = revert?.snapshotId ?? observed.snapshots[0]?.id ?? id;
  return {
    startSeq: Math.max(spec.startSeq, observed.startSeq),
    rebootSeq: Math.max(spec.rebootSeq, observed.rebootSeq),
    rebuildSeq: Math.max(spec.rebuildSeq, observed.rebuildSeq),
    ...(observed.revertSeq > (revert?.seq ?? 0) ? { revert: { seq: observed.revertSeq, snapshotId } } : {}),
    snapshots: [...spec.snapshots, ...unknownSnapshots(spec, observed)],
  };
}

/** Their names went with the state: they are called by their ids. */
function unknownSnapshots(spec: GuestSpec, observed: GuestObservation): GuestSpec['snapshots'] {
  return observed.snapshots
    .filter((each) => each.state === 'ready' && !spec.snapshots.some((known) => known.id === each.id))
    .slice(0, Math.max(0, limits.snapshots - spec.snapshots.length))
    .map(({ id, createdAt }) => ({ id, name: `found-${id.slice(0, 8)}`, askedAt: createdAt, wanted: true }));
}
