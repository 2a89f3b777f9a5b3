/** After a restore: what the restored state does not know, and a person's decisions on it. */
import type { Body } from '../../../api/routes.ts';
import { present } from '../../../api/present.ts';
import type { ReviewView } from '../../../api/schemas.ts';
import { VirgaError } from '../../../core/errors.ts';
import type { Host, StrayGuest } from '../../../core/model/host.ts';
import type { Kind, Uuid } from '../../../core/model/resource.ts';
import type { KindMap, RequestContext, Snapshot } from '../../../core/model/snapshot.ts';
import { adoptGuest } from '../../../core/requests/adoption.ts';
import type { Services } from '../services.ts';

export function reviewOf(snapshot: Snapshot): ReviewView {
  const { review } = snapshot.site;
  return { pending: review !== undefined, ...(review ? present(review) : {}), items: itemsOf(snapshot) };
}

function itemsOf(snapshot: Snapshot): ReviewView['items'] {
  const items: ReviewView['items'] = [];
  for (const host of snapshot.all('host'))
    for (const { id, name, running, generation } of host.status.strays)
      items.push({
        host: host.name,
        guestId: id,
        name,
        what: 'stray',
        running,
        detail: `carries this site's mark (order ${generation}), and this state does not know it`,
      });
  for (const guest of snapshot.all('guest')) {
    const { placement, observed } = guest.status;
    const host = placement && snapshot.get('host', placement.hostId);
    if (!placement || !host) continue;
    const item = { host: host.name, guestId: guest.id, name: guest.name, running: observed?.engine === 'running' };
    if (guest.deletionAt !== undefined)
      items.push({ ...item, what: 'deleting', detail: 'will be destroyed with its disks' });
    else if (observed && observed.generation > placement.generation)
      items.push({
        ...item,
        what: 'newer',
        detail: `the host executed order ${observed.generation}, this state knows ${placement.generation}`,
      });
  }
  return items;
}

/** @throws VirgaError not_found · invalid_request · host_unreachable · what the agent or the request answers */
export async function decideReview(
  services: Services,
  { guestId, decision }: Body<'site.decide'>,
  context: RequestContext,
): Promise<void> {
  if (decision === 'keep') return;
  const { state, links } = services;
  const { host, stray } = findStray(state.snapshot, guestId);
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
  const inspected = await links.ask<'inspect'>(host, { ask: 'inspect', uuid: guestId });
  await state.change((snapshot) => {
    const input = { host: host.name, domain: guestId, name: stray.name };
    return adoptGuest(withStrayAsForeign(snapshot, host.id, guestId), input, inspected, context);
  });
}

function findStray(snapshot: Snapshot, guestId: Uuid): { readonly host: Host; readonly stray: StrayGuest } {
  for (const host of snapshot.all('host')) {
    const stray = host.status.strays.find((each) => each.id === guestId);
    if (stray) return { host, stray };
  }
  if (snapshot.get('guest', guestId))
    throw new VirgaError('invalid_request', {
      detail: 'this guest is known: keep it, or act on it after the review (virga guest delete)',
    });
  throw new VirgaError('not_found', { kind: 'guest', name: guestId });
}

/** A stray is taken over as a foreign domain is: from its own description. */
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
