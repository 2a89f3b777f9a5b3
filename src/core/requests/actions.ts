/** What a person can do with a guest that exists. Repeats are harmless; the table in `model/states.ts` says what is legal. */
import { VirgaError } from '../errors.ts';
import { nextOrder, reorder, described } from '../guest-orders.ts';
import type { Guest, GuestSpec } from '../model/guest.ts';
import type { Host } from '../model/host.ts';
import type { RequestContext, Snapshot } from '../model/snapshot.ts';
import type { GuestAction } from '../model/states.ts';
import { guestState } from '../model/states.ts';
import { same, without } from '../util.ts';
import { checkFreeName, checkReason, checkText, invalid, limits, mergeLabels } from './check.ts';
import { checkGrace } from './guest-spec.ts';
import type { GuestChange } from './inputs.ts';
import { recoveryFrom } from './recovery-input.ts';
import { resolve } from './resolve.ts';
import type { EventDetails, RequestResult } from './result.ts';
import { Draft, legal, mayChange, notUnderReview, nothing } from './result.ts';

export interface StopInput {
  /** Seconds between the polite stop and the forced one, this time only. */
  readonly graceSeconds?: number | undefined;
  /** At once. */
  readonly force?: boolean | undefined;
}

/** The guest, if this action on it is legal and this person may do it. */
export function actOn(snapshot: Snapshot, ref: string, action: GuestAction, context: RequestContext): Guest {
  const guest = resolve(snapshot, 'guest', ref);
  mayChange(context, guest, `change the guest "${guest.name}"`);
  checkReason(context);
  legal(snapshot, guest, action);
  return guest;
}

export function hostOf(snapshot: Snapshot, guest: Guest): Host | undefined {
  return guest.status.placement && snapshot.get('host', guest.status.placement.hostId);
}

/** A request that changes this one guest. */
export function write(snapshot: Snapshot, guest: Guest, context: RequestContext, event: EventDetails): RequestResult {
  const draft = new Draft(context);
  draft.put(described(guest, hostOf(snapshot, guest), context.now));
  draft.event(guest, event);
  return draft.finish();
}

export function stopGuest(snapshot: Snapshot, ref: string, input: StopInput, context: RequestContext): RequestResult {
  const guest = actOn(snapshot, ref, 'stop', context);
  const grace = input.force === true ? 0 : input.graceSeconds;
  if (grace !== undefined) checkGrace(grace);
  const { spec } = guest;
  const now = spec.stopGraceSeconds ?? spec.graceSeconds;
  const down = guestState(guest, hostOf(snapshot, guest)).state === 'stopped';
  if (spec.power === 'off' && (down || grace === undefined || grace === now)) return nothing();
  const calm = without(spec, 'stopGraceSeconds');
  const next: GuestSpec = {
    ...calm,
    power: 'off',
    paused: false,
    ...(grace === undefined || grace === spec.graceSeconds ? {} : { stopGraceSeconds: grace }),
  };
  return write(snapshot, reorder(guest, next, snapshot.site.epoch), context, {
    type: 'guest.stop',
    message: grace === 0 ? `${guest.name} is stopped at once` : `${guest.name} is asked to stop`,
    evidence: { graceSeconds: grace ?? spec.graceSeconds },
  });
}

export function rebootGuest(snapshot: Snapshot, ref: string, context: RequestContext): RequestResult {
  const guest = actOn(snapshot, ref, 'reboot', context);
  const { spec } = guest;
  if (spec.rebootSeq > (guest.status.observed?.rebootSeq ?? 0)) return nothing();
  return write(snapshot, reorder(guest, { ...spec, rebootSeq: spec.rebootSeq + 1 }, snapshot.site.epoch), context, {
    type: 'guest.reboot',
    message: `${guest.name} is rebooted`,
  });
}

export function pauseGuest(snapshot: Snapshot, ref: string, context: RequestContext): RequestResult {
  const guest = actOn(snapshot, ref, 'pause', context);
  if (guest.spec.paused) return nothing();
  return write(snapshot, reorder(guest, { ...guest.spec, paused: true }, snapshot.site.epoch), context, {
    type: 'guest.pause',
    message: `${guest.name} is paused`,
  });
}

export function resumeGuest(snapshot: Snapshot, ref: string, context: RequestContext): RequestResult {
  const guest = actOn(snapshot, ref, 'resume', context);
  if (!guest.spec.paused) return nothing();
  return write(snapshot, reorder(guest, { ...guest.spec, paused: false }, snapshot.site.epoch), context, {
    type: 'guest.resume',
    message: `${guest.name} is resumed`,
  });
}

/**
 * Back to the original image. A guest whose disk was lost with its host is made anew wherever there is room. A guest
 * that had given up is started as well.
 */
export function rebuildGuest(snapshot: Snapshot, ref: string, context: RequestContext): RequestResult {
  const guest = actOn(snapshot, ref, 'rebuild', context);
  notUnderReview(snapshot);
  const { spec, status } = guest;
  if (!spec.image) throw invalid(`${guest.name} was adopted: there is no image to go back to`);
  if (!status.lost && spec.rebuildSeq > (status.observed?.rebuildSeq ?? 0)) return nothing();
  const failed = guestState(guest, hostOf(snapshot, guest)).state === 'failed';
  const next: GuestSpec = {
    ...spec,
    rebuildSeq: spec.rebuildSeq + 1,
    startSeq: failed ? spec.startSeq + 1 : spec.startSeq,
    ...(status.lost ? { snapshots: [] } : {}),
  };
  const found = { ...guest, status: without(status, 'lost') };
  return write(snapshot, reorder(found, next, snapshot.site.epoch), context, {
    type: 'guest.rebuild',
    message: `${guest.name} goes back to its image`,
  });
}

/** A guest that is nowhere goes at once; another when its host has removed it. */
export function deleteGuest(snapshot: Snapshot, ref: string, context: RequestContext): RequestResult {
  const known = resolve(snapshot, 'guest', ref);
  if (known.deletionAt !== undefined) return nothing();
  const guest = actOn(snapshot, ref, 'delete', context);
  notUnderReview(snapshot);
  if (!guest.status.placement) {
    const draft = new Draft(context);
    draft.remove(guest);
    draft.event(guest, { type: 'guest.deleted', message: `${guest.name} was deleted; it was on no host` });
    return draft.finish();
  }
  return write(snapshot, nextOrder({ ...guest, deletionAt: context.now }, snapshot.site.epoch), context, {
    type: 'guest.delete',
    message: `${guest.name} is to be deleted`,
  });
}

export function holdGuest(
  snapshot: Snapshot,
  ref: string,
  input: { readonly reason: string },
  context: RequestContext,
): RequestResult {
  const guest = actOn(snapshot, ref, 'hold', context);
  const reason = input.reason.trim();
  if (reason === '') throw invalid('a hold needs a reason');
  checkText('the reason', reason, limits.reason);
  if (guest.spec.held) return nothing();
  return write(
    snapshot,
    reorder(guest, { ...guest.spec, held: { reason, heldAt: context.now } }, snapshot.site.epoch),
    context,
    {
      type: 'guest.hold',
      message: `${guest.name} is held as it is: ${reason}`,
    },
  );
}

export function unholdGuest(snapshot: Snapshot, ref: string, context: RequestContext): RequestResult {
  const guest = actOn(snapshot, ref, 'unhold', context);
  if (!guest.spec.held) return nothing();
  return write(snapshot, reorder(guest, without(guest.spec, 'held'), snapshot.site.epoch), context, {
    type: 'guest.unhold',
    message: `${guest.name} is no longer held`,
  });
}

/** Labels and the order of recovery need no new order; the name, the restart policy, the grace time and `ha` do. */
export function changeGuest(
  snapshot: Snapshot,
  ref: string,
  input: GuestChange,
  context: RequestContext,
): RequestResult {
  const guest = resolve(snapshot, 'guest', ref);
  mayChange(context, guest, `change the guest "${guest.name}"`);
  checkReason(context);
  if (guest.deletionAt !== undefined)
    throw new VirgaError('not_allowed', { name: guest.name, state: 'deleting', action: 'changed', why: 'it is going' });
  const name = input.name ?? guest.name;
  if (name !== guest.name) {
    legal(snapshot, guest, 'rename');
    checkFreeName(snapshot, 'guest', name, guest.id);
  }
  const restart = input.restart ?? guest.spec.restart;
  const graceSeconds = checkGrace(input.graceSeconds ?? guest.spec.graceSeconds);
  const labels = mergeLabels(guest.labels, input.labels);
  const spec = recoveryFrom<GuestSpec>(snapshot, { ...guest.spec, restart, graceSeconds }, input);
  const changed = { ...guest, name, labels };
  const respecified = !same(spec, guest.spec);
  const ordered = name !== guest.name || tellsHost(guest.spec, spec);
  if (!ordered && !respecified && labelsEqual(labels, guest.labels)) return nothing();
  const next = ordered
    ? reorder(changed, spec, snapshot.site.epoch)
    : { ...changed, spec, generation: respecified ? guest.generation + 1 : guest.generation };
  const message = name === guest.name ? `${name} was changed` : `${guest.name} is now called ${name}`;
  return write(snapshot, next, context, { type: 'guest.changed', message });
}

/** Who is recovered first, and where to, is no matter of the host. */
function tellsHost(old: GuestSpec, next: GuestSpec): boolean {
  return old.restart !== next.restart || old.graceSeconds !== next.graceSeconds || old.ha !== next.ha;
}

export function labelsEqual(a: Readonly<Record<string, string>>, b: Readonly<Record<string, string>>): boolean {
  const keys = Object.keys(a);
  return keys.length === Object.keys(b).length && keys.every((key) => a[key] === b[key]);
}
