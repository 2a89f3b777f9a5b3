import { VirgaError } from '../errors.ts';
import { described, unplaced } from '../guest-orders.ts';
import type { Guest, GuestSpec } from '../model/guest.ts';
import type { Host } from '../model/host.ts';
import { isGone } from '../model/host.ts';
import type { RequestContext, Snapshot } from '../model/snapshot.ts';
import { some, without } from '../util.ts';
import { checkReason } from './check.ts';
import { forgetHostInNetworks } from './hosts.ts';
import { resolve } from './resolve.ts';
import type { RequestResult } from './result.ts';
import { Draft, mayChange, notUnderReview } from './result.ts';

export interface RemoveHostInput {
  /** The machine is gone for ever, with everything on it. */
  readonly lost?: boolean | undefined;
  /** With `lost`: the host's name, typed again. */
  readonly confirm?: string | undefined;
}

/**
 * Takes a host out of the site; its certificate is worth nothing from then on. Refused while it carries guests, unless
 * it is lost for ever. Then its guests' local disks are lost with it:
 * - being deleted or given back: they are gone now;
 * - `fresh` disks had nothing to keep: the guests wait for another host and start there;
 * - `keep` disks are lost: the guests are `failed` and say so; `rebuild` makes them anew elsewhere, from their image.
 * Guests that were pinned to the host are no longer: a pin to what is gone could never be met.
 */
export function removeHost(
  snapshot: Snapshot,
  ref: string,
  input: RemoveHostInput,
  context: RequestContext,
): RequestResult {
  const host = resolve(snapshot, 'host', ref);
  mayChange(context, host, `remove the host "${host.name}"`);
  checkReason(context);
  const guests = [...snapshot.guestsOn(host.id)];
  const draft = new Draft(context);
  if (input.lost === true) {
    mayBeLost(snapshot, host, input);
    for (const guest of guests) loseGuest(guest, host, context, draft);
    unpinWaiting(snapshot, host, draft);
  } else {
    notLeaving(host);
    if (guests.length > 0)
      throw new VirgaError('host_not_lost', { name: host.name, state: host.status.state, guests: guests.length });
    notPinned(snapshot, host);
  }
  forgetHostInNetworks(snapshot, host, draft);
  draft.remove(host);
  draft.event(host, {
    type: 'host.removed',
    severity: input.lost === true ? 'warning' : 'info',
    message: input.lost === true ? `${host.name} was removed as lost for ever` : `${host.name} was removed`,
    evidence: { guests: guests.length },
  });
  return draft.finish();
}

function mayBeLost(snapshot: Snapshot, host: Host, input: RemoveHostInput): void {
  notUnderReview(snapshot);
  if (host.status.state === 'online')
    throw new VirgaError('host_not_lost', {
      name: host.name,
      state: 'online',
      guests: [...snapshot.guestsOn(host.id)].length,
    });
  // What ran under its lease may still run: that must be over before its guests start elsewhere (host-lease, rule 9). The
  // only host of a site has nobody who could seal it, and no other to start them on.
  if (snapshot.count('host') > 1 && leased(snapshot, host) && !isGone(host))
    throw new VirgaError('host_not_over', { name: host.name, state: host.status.state });
  if (input.confirm !== host.name)
    throw new VirgaError('confirmation_required', {
      what: `everything on ${host.name} is given up, and it must never run again`,
      how: `type its name, ${host.name}`,
    });
}

/** Where it still has what moved away, that must be gone before nobody is left to say so. */
function leased(snapshot: Snapshot, host: Host): boolean {
  if (host.spec.role === 'witness') return false;
  if (host.status.keeper && host.status.session) return true;
  for (const guest of snapshot.guestsOn(host.id)) if (guest.status.placement?.ha === true) return true;
  return false;
}

function notLeaving({ name, status }: Host): void {
  const left = status.leaving?.filter((each) => each.over !== true) ?? [];
  if (left.length > 0 && !isGone({ status }))
    throw new VirgaError('in_use', {
      kind: 'host',
      name,
      users: `guests that it still removes: ${some(left.map((each) => each.name).toSorted())}`,
    });
}

function notPinned(snapshot: Snapshot, host: Host): void {
  const pinned: string[] = [];
  for (const guest of snapshot.all('guest')) if (guest.spec.hostId === host.id) pinned.push(guest.name);
  if (pinned.length > 0)
    throw new VirgaError('in_use', {
      kind: 'host',
      name: host.name,
      users: `guests pinned to it: ${some(pinned.toSorted())}`,
    });
}

function loseGuest(guest: Guest, host: Host, context: RequestContext, draft: Draft): void {
  if (guest.deletionAt !== undefined || guest.spec.releasing === true) {
    draft.remove(guest);
    draft.event(guest, { type: 'guest.deleted', message: `${guest.name} went with ${host.name}` });
    return;
  }
  const keeps = guest.spec.diskMode === 'keep' || !guest.spec.image;
  const adrift = unplaced(unpinned(guest, host), []);
  const { status } = adrift;
  const after = keeps
    ? { ...adrift, status: { ...without(status, 'unplaced'), lost: { host: host.name, lostAt: context.now } } }
    : adrift;
  draft.put(described(after, undefined, context.now));
  draft.event(guest, {
    type: 'guest.lost',
    severity: keeps ? 'error' : 'warning',
    message: keeps
      ? `the disk of ${guest.name} was lost with ${host.name}; "virga guest rebuild" makes a new one`
      : `${guest.name} was lost with ${host.name} and waits for another host`,
    cause: `${host.name} was removed as lost`,
  });
}

function unpinned(guest: Guest, host: Host): Guest {
  if (guest.spec.hostId !== host.id) return guest;
  const spec: GuestSpec = without(guest.spec, 'hostId');
  return { ...guest, spec, generation: guest.generation + 1 };
}

function unpinWaiting(snapshot: Snapshot, host: Host, draft: Draft): void {
  for (const guest of snapshot.all('guest')) {
    if (guest.spec.hostId !== host.id || guest.status.placement?.hostId === host.id) continue;
    draft.put(unpinned(guest, host));
    draft.event(guest, {
      type: 'guest.changed',
      message: `${guest.name} is no longer pinned to ${host.name}, which was removed`,
    });
  }
}
