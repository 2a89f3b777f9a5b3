import type { Assignment, GuestOrder } from '../model/assignment.ts';
import type { StrayGuest } from '../model/host.ts';
import type { Uuid } from '../model/resource.ts';
import { compareText, utf8Bytes } from '../util.ts';
import type { GuestJournal } from './journal.ts';
import type { EngineGuestView } from './view.ts';

/** Of the orders of all strays in one report, as JSON; a report may have 32 MiB in all. */
export const strayOrderBytes = 8 * 1024 * 1024;

type Seen = EngineGuestView & { readonly name: string; readonly cpus: number; readonly memoryMiB: number };

/**
 * Guests with our identity that this host was never told to have, or not any more: domains, and guests that are off and
 * of which only the journal and the disk are left. Each with the last order that it was kept under.
 */
export function strays(
  assignment: Assignment | undefined,
  view: { readonly guests: readonly Seen[]; readonly foreign: readonly { readonly uuid: Uuid }[] },
  journals: ReadonlyMap<Uuid, GuestJournal>,
): readonly StrayGuest[] {
  const listed = new Set(assignment?.guests.map((order) => order.id));
  const found: StrayGuest[] = [];
  // A domain that was given back, or not yet taken over, is not ours, whatever a journal says of it.
  const seen = new Set(view.foreign.map((domain) => domain.uuid));
  for (const { id, name, siteId, state, generation, cpus, memoryMiB } of view.guests) {
    seen.add(id);
    const ours = siteId === assignment?.siteId;
    if (listed.has(id) && ours) continue;
    const running = state !== 'shutoff' && state !== 'crashed';
    found.push({ id, name, running, generation, cpus, memoryMiB, ...(ours ? orderOf(journals.get(id)) : {}) });
  }
  for (const [id, journal] of journals) {
    if (seen.has(id) || listed.has(id) || journal.gone) continue;
    const { cpus = 0, memoryMiB = 0 } = journal.order ?? {};
    const { name, accepted: generation } = journal;
    found.push({ id, name, running: false, generation, cpus, memoryMiB, ...orderOf(journal) });
  }
  return bounded(found.toSorted((a, b) => compareText(a.id, b.id)));
}

/** Under the highest generation seen, so that whoever takes the guest back gives a higher one. */
function orderOf(journal: GuestJournal | undefined): { readonly order?: GuestOrder } {
  return journal?.order ? { order: { ...journal.order, generation: journal.accepted } } : {};
}

function bounded(found: readonly StrayGuest[]): readonly StrayGuest[] {
  let bytes = 0;
  return found.map((stray) => {
    if (!stray.order) return stray;
    if (bytes <= strayOrderBytes) bytes += utf8Bytes(JSON.stringify(stray.order));
    if (bytes <= strayOrderBytes) return stray;
    const { order: _order, ...rest } = stray;
    return { ...rest, orderLater: true };
  });
}
