/** Back to a preferred host: a stop here, gone from here, then a start there. Costs a restart, so only where it is asked for. */
import type { Guest } from '../model/guest.ts';
import type { Host } from '../model/host.ts';
import type { Instant, Uuid } from '../model/resource.ts';
import type { Snapshot } from '../model/snapshot.ts';
import { slotOf } from '../place/capacity.ts';
import { misfit, shapeOf } from '../place/fit.ts';
import { isHa } from './eligible.ts';

/** Milliseconds for which a host must have been well: guests shall not follow one that comes and goes. */
export const failBackAfterMs = 60_000;

/** The one of the `hosts` that the guest should go back to now; undefined: it stays. Only what runs well is moved. */
export function backTo(
  snapshot: Snapshot,
  hosts: ReadonlyMap<Uuid, Host>,
  guest: Guest,
  now: Instant,
): Host | undefined {
  const { spec, status } = guest;
  const { placement } = status;
  if (!placement || status.state !== 'running' || spec.held || status.exhausted || !isHa(guest)) return undefined;
  if (guest.deletionAt !== undefined) return undefined;
  // Its host has not carried out its present order yet: that comes first.
  if ((status.observed?.generation ?? -1) < placement.generation) return undefined;
  for (const id of spec.preferredHosts ?? []) {
    if (id === placement.hostId) return undefined;
    const host = hosts.get(id);
    if (!host || host.status.state !== 'online' || now - host.status.stateAt < failBackAfterMs) continue;
    if (!misfit(slotOf(snapshot, host, guest.id), shapeOf(snapshot, guest))) return host;
  }
  return undefined;
}

/** Seen off under its present order: nothing of it runs here any more. */
export function isDown({ status }: Guest): boolean {
  const { observed, placement } = status;
  if (!observed || observed.generation < (placement?.generation ?? 0)) return false;
  return observed.engine === 'absent' || observed.engine === 'shutoff' || observed.engine === 'crashed';
}
