/** Disk snapshots of a guest, recorded by Virga: libvirt forgets those of a transient domain. */
import { VirgaError } from '../errors.ts';
import { reorder } from '../guest-orders.ts';
import type { Guest, GuestSnapshot } from '../model/guest.ts';
import type { Uuid } from '../model/resource.ts';
import type { RequestContext, Snapshot } from '../model/snapshot.ts';
import { actOn, write } from './actions.ts';
import { checkName, checkWhole, invalid, limits } from './check.ts';
import type { RequestResult } from './result.ts';
import { notUnderReview, nothing } from './result.ts';

export function createSnapshot(
  snapshot: Snapshot,
  ref: string,
  input: { readonly name: string },
  context: RequestContext,
): RequestResult & { readonly snapshotId: Uuid } {
  const guest = actOn(snapshot, ref, 'snapshot', context);
  checkName('snapshot', input.name);
  if (guest.spec.adopted) throw invalid(`${guest.name} was adopted: Virga does not know its disks`);
  if (guest.spec.diskMode === 'fresh')
    throw invalid(`${guest.name} gets a fresh disk at each start: a snapshot would not outlive it`);
  const known = guest.spec.snapshots;
  if (known.some((each) => each.name === input.name))
    throw new VirgaError('name_taken', { kind: 'snapshot', name: input.name });
  checkWhole('the number of snapshots', known.length + 1, 0, limits.snapshots);
  const made: GuestSnapshot = { id: context.uuid(), name: input.name, askedAt: context.now, wanted: true };
  const next = reorder(guest, { ...guest.spec, snapshots: [...known, made] }, snapshot.site.epoch);
  const result = write(snapshot, next, context, {
    type: 'guest.snapshot',
    message: `a snapshot ${input.name} of ${guest.name} is taken`,
  });
  return { ...result, snapshotId: made.id };
}

/** Only to a snapshot that its host reports as ready. */
export function revertSnapshot(
  snapshot: Snapshot,
  ref: string,
  input: { readonly snapshot: string },
  context: RequestContext,
): RequestResult {
  const guest = actOn(snapshot, ref, 'revert', context);
  notUnderReview(snapshot);
  const wanted = snapshotOf(guest, input.snapshot);
  const { revert } = guest.spec;
  const seen = guest.status.observed?.snapshots.find((each) => each.id === wanted.id);
  if (!wanted.wanted || seen?.state !== 'ready')
    throw new VirgaError('snapshot_not_ready', {
      guest: guest.name,
      name: wanted.name,
      state: wanted.wanted ? (seen?.state ?? 'being taken') : 'being deleted',
    });
  if (revert && revert.snapshotId === wanted.id && underWay(guest)) return nothing();
  const next = reorder(
    guest,
    { ...guest.spec, revert: { seq: (revert?.seq ?? 0) + 1, snapshotId: wanted.id } },
    snapshot.site.epoch,
  );
  return write(snapshot, next, context, {
    type: 'guest.revert',
    message: `${guest.name} goes back to snapshot ${wanted.name}`,
  });
}

export function deleteSnapshot(
  snapshot: Snapshot,
  ref: string,
  input: { readonly snapshot: string },
  context: RequestContext,
): RequestResult {
  const guest = actOn(snapshot, ref, 'snapshot', context);
  notUnderReview(snapshot);
  const unwanted = snapshotOf(guest, input.snapshot);
  if (!unwanted.wanted) return nothing();
  if (guest.spec.revert?.snapshotId === unwanted.id && underWay(guest))
    throw new VirgaError('in_use', { kind: 'snapshot', name: unwanted.name, users: 'a revert that is under way' });
  const snapshots = guest.spec.snapshots.map((each) => (each.id === unwanted.id ? { ...each, wanted: false } : each));
  return write(snapshot, reorder(guest, { ...guest.spec, snapshots }, snapshot.site.epoch), context, {
    type: 'guest.snapshot-delete',
    message: `the snapshot ${unwanted.name} of ${guest.name} is to be deleted`,
  });
}

function snapshotOf(guest: Guest, ref: string): GuestSnapshot {
  const found = guest.spec.snapshots.find((each) => each.name === ref || each.id === ref);
  if (!found) throw new VirgaError('not_found', { kind: 'guest snapshot', name: ref });
  return found;
}

function underWay(guest: Guest): boolean {
  return (guest.spec.revert?.seq ?? 0) > (guest.status.observed?.revertSeq ?? 0);
}
