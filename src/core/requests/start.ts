import { VirgaError } from '../errors.ts';
import { placed, reorder, described, unplaced } from '../guest-orders.ts';
import { isHa } from '../ha/eligible.ts';
import type { Guest, GuestSpec, Recovery } from '../model/guest.ts';
import type { Host } from '../model/host.ts';
import type { Uuid } from '../model/resource.ts';
import type { RequestContext, Snapshot } from '../model/snapshot.ts';
import type { GuestState } from '../model/guest.ts';
import { guestState } from '../model/states.ts';
import { shapeOf } from '../place/fit.ts';
import type { Place } from '../place/placer.ts';
import { Placer } from '../place/placer.ts';
import { without } from '../util.ts';
import { actOn, hostOf, write } from './actions.ts';
import type { RequestResult } from './result.ts';
import { Draft, nothing } from './result.ts';

/**
 * Starts a guest. A `keep` disk stays on its host. A `fresh` one is free to go elsewhere, and does when its host is
 * cordoned or it failed there; otherwise it stays where its image is. A guest that is nowhere is placed if a host has
 * room, and waits otherwise.
 */
export function startGuest(snapshot: Snapshot, ref: string, context: RequestContext): RequestResult {
  const guest = actOn(snapshot, ref, 'start', context);
  if (guest.status.lost)
    throw new VirgaError('not_allowed', {
      name: guest.name,
      state: guest.status.state,
      action: 'started',
      why: `its disk was lost with host ${guest.status.lost.host}; rebuild makes a new one`,
    });
  if (guest.status.exhausted)
    throw new VirgaError('not_allowed', {
      name: guest.name,
      state: guest.status.state,
      action: 'started',
      why: `it was given up after too many ${guest.status.exhausted.what}; "virga guest cleanup" tries it anew`,
    });
  const host = hostOf(snapshot, guest);
  const { state } = guestState(guest, host);
  if (guest.spec.power === 'on' && (state === 'running' || state === 'starting' || state === 'pending'))
    return nothing();
  const spec: GuestSpec = {
    ...without(guest.spec, 'stopGraceSeconds'),
    power: 'on',
    startSeq: guest.spec.startSeq + 1,
  };
  if (!host) return startNowhere(snapshot, guest, spec, context);
  const elsewhere = mayMove(guest, host, state) ? betterPlace(snapshot, guest, host, state) : undefined;
  if (elsewhere) return move(snapshot, { ...guest, spec, generation: guest.generation + 1 }, host, elsewhere, context);
  return write(snapshot, reorder(guest, spec, snapshot.site.epoch), context, {
    type: 'guest.start',
    message: `${guest.name} is started on ${host.name}`,
  });
}

/** Only a guest that is seen down, on a host that answers, with nothing on its disk to keep. */
function mayMove(guest: Guest, host: Host, state: GuestState): boolean {
  const { observed } = guest.status;
  if (guest.spec.diskMode !== 'fresh' || !guest.spec.image || host.status.state !== 'online') return false;
  if (state !== 'stopped' && state !== 'failed') return false;
  // Down under its present order: an older sight could miss a start that is on its way.
  const seen = observed !== undefined && observed.generation >= (guest.status.placement?.generation ?? 0);
  return seen && (observed.engine === 'absent' || observed.engine === 'shutoff' || observed.engine === 'crashed');
}

function betterPlace(snapshot: Snapshot, guest: Guest, host: Host, state: GuestState): Place | undefined {
  if (state !== 'failed' && !host.spec.cordoned) return undefined;
  const shape = { ...shapeOf(snapshot, guest), notOn: host.id };
  return new Placer(snapshot, guest.id).place(shape);
}

/**
 * The old host keeps the order to remove what it has, until it reports that done. A highly available guest gets its new
 * host only then (host-lease, rule 10).
 */
function move(snapshot: Snapshot, guest: Guest, from: Host, to: Place, context: RequestContext): RequestResult {
  const draft = new Draft(context);
  // The removal takes one generation, the new place the next.
  const generation = guest.status.lastGeneration + 1;
  const leaving = [...(from.status.leaving ?? []), { id: guest.id, name: guest.name, generation }];
  draft.put({ ...from, status: { ...from.status, leaving } });
  const gone = { ...guest, status: { ...guest.status, lastGeneration: generation } };
  if (isHa(guest)) return moveLater(gone, from, to.host, draft, context);
  const there = placed(gone, to.host, to.reasons, snapshot.site.epoch, context.now);
  draft.put(described(there, to.host, context.now));
  draft.event(guest, {
    type: 'guest.start',
    message: `${guest.name} is started on ${to.host.name}, no longer on ${from.name}`,
    cause: to.reasons[0] ?? '',
  });
  return draft.finish();
}

function moveLater(gone: Guest, from: Host, to: Host, draft: Draft, context: RequestContext): RequestResult {
  const recovery: Recovery = { from: from.name, why: 'start', sinceAt: context.now, notOn: from.id };
  const off = unplaced({ ...gone, status: { ...gone.status, recovery } }, [
    `${from.name} removes its earlier copy first`,
  ]);
  draft.put(described(off, undefined, context.now));
  draft.event(gone, {
    type: 'guest.start',
    message: `${gone.name} is started elsewhere, on ${to.name} as things are, once ${from.name} has removed its copy`,
  });
  return draft.finish();
}

/** The host that may still run a copy of a guest that is nowhere: it has not reported it gone. */
function copyOn(snapshot: Snapshot, guestId: Uuid): Host | undefined {
  for (const host of snapshot.all('host'))
    if (host.status.leaving?.some((each) => each.id === guestId && each.over !== true)) return host;
  return undefined;
}

function startNowhere(snapshot: Snapshot, guest: Guest, spec: GuestSpec, context: RequestContext): RequestResult {
  const next: Guest = { ...guest, spec, generation: guest.generation + 1 };
  const copy = copyOn(snapshot, guest.id);
  if (copy)
    return write(snapshot, unplaced(next, [`${copy.name} removes its earlier copy first`]), context, {
      type: 'guest.start',
      message: `${guest.name} is started once ${copy.name} has removed its earlier copy`,
    });
  const placer = new Placer(snapshot);
  const shape = shapeOf(snapshot, next);
  const place = placer.place(shape);
  const refusal = placer.refusal(shape);
  const draft = new Draft(context);
  const after = place
    ? placed(next, place.host, place.reasons, snapshot.site.epoch, context.now)
    : unplaced(next, refusal.sentences);
  draft.put(described(after, place?.host, context.now));
  const where = place ? `on ${place.host.name}` : `as soon as a host has room: ${refusal.summary}`;
  draft.event(guest, { type: 'guest.start', message: `${guest.name} is started ${where}` });
  return draft.finish();
}
