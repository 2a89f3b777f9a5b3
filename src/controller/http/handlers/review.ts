/** After a restore: what the restored state does not know, and a person's decisions on it. */
import type { Body } from '../../../api/routes.ts';
import { present } from '../../../api/present.ts';
import type { ReviewView } from '../../../api/schemas.ts';
import { VirgaError } from '../../../core/errors.ts';
import { highestSeen } from '../../../core/model/conditions.ts';
import type { Guest } from '../../../core/model/guest.ts';
import type { Host, StrayGuest } from '../../../core/model/host.ts';
import type { Kind, Uuid } from '../../../core/model/resource.ts';
import type { KindMap, RequestContext, Snapshot } from '../../../core/model/snapshot.ts';
import { adoptGuest } from '../../../core/requests/adoption.ts';
import { resolve } from '../../../core/requests/resolve.ts';
import { adoptKnown, isNewer } from '../../../core/requests/review.ts';
import { adoptStray } from '../../../core/requests/strays.ts';
import type { Services } from '../services.ts';

export function reviewOf(snapshot: Snapshot): ReviewView {
  const { review } = snapshot.site;
  return { pending: review !== undefined, ...(review ? present(review) : {}), items: itemsOf(snapshot) };
}

function itemsOf(snapshot: Snapshot): ReviewView['items'] {
  const items: ReviewView['items'] = [];
  for (const host of snapshot.all('host'))
    for (const stray of host.status.strays) {
      const { id, name, running } = stray;
      const known = snapshot.get('guest', id);
      // Taken back just now: its host has not heard of it yet.
      if (known?.status.placement?.hostId === host.id) continue;
      items.push({ host: host.name, guestId: id, name, what: 'stray', running, detail: strayDetail(stray, known) });
    }
  for (const guest of snapshot.all('guest')) {
    const { placement, observed } = guest.status;
    const host = placement && snapshot.get('host', placement.hostId);
    if (!placement || !host) continue;
    const item = { host: host.name, guestId: guest.id, name: guest.name, running: observed?.engine === 'running' };
    if (guest.deletionAt !== undefined)
      items.push({ ...item, what: 'deleting', detail: 'will be destroyed with its disks' });
    else if (isNewer(guest))
      items.push({
        ...item,
        what: 'newer',
        detail: `the host has order ${highestSeen(observed)}, this state knows ${placement.generation}`,
      });
  }
  return items;
}

function strayDetail({ generation, order, orderLater, running }: StrayGuest, known: Guest | undefined): string {
  if (known) return `a copy of ${known.name}, which this state has elsewhere`;
  const mark = `${running ? 'runs' : 'is off'} with this site's mark (order ${order?.generation ?? generation})`;
  const unknown = `${mark}, and this state does not know it`;
  if (order) return unknown;
  return orderLater === true
    ? `${unknown}; decide on others first`
    : `${unknown}; its host remembers no order: its image and networks would be lost`;
}

/** @throws VirgaError not_found · invalid_request · host_unreachable · what the agent or the request answers */
export async function decideReview(
  services: Services,
  { guestId, decision }: Body<'site.decide'>,
  context: RequestContext,
): Promise<void> {
  if (decision === 'keep') return;
  const { state, links } = services;
  const { host, stray } = findStray(state.snapshot, guestId, decision);
  if (!host || !stray) {
    await state.change((snapshot) => adoptKnown(snapshot, resolve(snapshot, 'guest', guestId), context));
    return;
  }
  if (decision === 'destroy') {
    await links.ask<'destroy-stray'>(host, { ask: 'destroy-stray', guestId });
    await state.change((snapshot) => ({
      change: {
        put: [],
        remove: [],
        events: [
          {
            eventAt: context.now,
            type: 'guest.stray-destroyed',
            severity: 'warning',
            subject: { kind: 'host', id: host.id, name: snapshot.get('host', host.id)?.name ?? host.name },
            message: `the unknown guest ${stray.name} on ${host.name} was destroyed after review`,
            who: context.actor.who,
            ...(context.actor.reason === undefined ? {} : { reason: context.actor.reason }),
          },
        ],
      },
    }));
    return;
  }
  if (stray.order) {
    await state.change((snapshot) => {
      const now = findStray(snapshot, guestId, decision);
      if (!now.host || !now.stray) throw known();
      return adoptStray(snapshot, now.host, now.stray, context);
    });
    return;
  }
  if (stray.orderLater === true)
    throw new VirgaError('invalid_request', {
      detail: `${host.name} has too many such guests to tell all at once: decide on others first`,
    });
  // An agent of an earlier version kept no orders.
  const inspected = await links.ask<'inspect'>(host, { ask: 'inspect', uuid: guestId });
  await state.change((snapshot) => {
    const input = { host: host.name, domain: guestId, name: stray.name };
    return adoptGuest(withStrayAsForeign(snapshot, host.id, guestId), input, inspected, context);
  });
}

interface FoundStray {
  /** Both absent: the guest is known, and no host has it as a stray. */
  readonly host?: Host;
  readonly stray?: StrayGuest;
}

/** Of several copies the one that runs, then the one with the latest order. */
function findStray(snapshot: Snapshot, guestId: Uuid, decision: 'adopt' | 'destroy'): FoundStray {
  const guest = snapshot.get('guest', guestId);
  const found: Required<FoundStray>[] = [];
  for (const host of snapshot.all('host')) {
    const stray = host.status.strays.find((each) => each.id === guestId);
    if (stray && guest?.status.placement?.hostId !== host.id) found.push({ host, stray });
  }
  if (guest && decision === 'adopt') return {};
  const [best] = found.toSorted(
    (a, b) =>
      Number(b.stray.running) - Number(a.stray.running) ||
      (b.stray.order?.generation ?? b.stray.generation) - (a.stray.order?.generation ?? a.stray.generation),
  );
  if (best) return best;
  if (guest) throw known();
  throw new VirgaError('not_found', { kind: 'guest', name: guestId });
}

const known = (): VirgaError =>
  new VirgaError('invalid_request', {
    detail: 'this guest is known: adopt or keep it, or act on it after the review (virga guest delete)',
  });

/** A stray without a kept order is taken over as a foreign domain is: from its own description. */
function withStrayAsForeign(snapshot: Snapshot, hostId: Uuid, guestId: Uuid): Snapshot {
  const host = snapshot.get('host', hostId);
  const stray = host?.status.strays.find((each) => each.id === guestId);
  if (!host || !stray) throw new VirgaError('not_found', { kind: 'guest', name: guestId });
  const { name, running, cpus, memoryMiB } = stray;
  const domain = { uuid: guestId, name, running, cpus, memoryMiB, persistent: false, autostart: false };
  const shown: Host = { ...host, status: { ...host.status, foreign: [...host.status.foreign, domain] } };
  const get: Snapshot['get'] = (kind, id) => snapshot.get(kind, id);
  const byName: Snapshot['byName'] = <K extends Kind>(kind: K, wanted: string) =>
    kind === 'host' && wanted === host.name ? (shown as KindMap[K]) : snapshot.byName(kind, wanted);
  return {
    revision: snapshot.revision,
    site: snapshot.site,
    get,
    byName,
    all: (kind) => snapshot.all(kind),
    count: (kind) => snapshot.count(kind),
    guestsOn: (id) => snapshot.guestsOn(id),
  };
}
