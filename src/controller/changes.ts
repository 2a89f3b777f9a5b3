/** What one change of the site stands on, and whom it concerns. */
import type { Uuid } from '../core/model/resource.ts';
import type { Change, Snapshot } from '../core/model/snapshot.ts';
import type { Expectation } from '../ports.ts';

/** Hosts whose assignment may have changed; `all` when a network, an image or the site itself changed. */
export type Touched = 'all' | ReadonlySet<Uuid>;

export function isEmpty(change: Change): boolean {
  return change.put.length === 0 && change.remove.length === 0 && change.events.length === 0 && !change.site;
}

/** What the decision says it stands on, and everything it writes as this state has it. */
export function expectations(
  snapshot: Snapshot,
  { change, expect = [] }: { readonly change: Change; readonly expect?: readonly Expectation[] },
): readonly Expectation[] {
  const all = new Map<string, Expectation>();
  for (const { kind, id } of [...change.put, ...change.remove])
    all.set(`${kind}/${id}`, { kind, id, revision: snapshot.get(kind, id)?.revision });
  for (const each of expect) all.set(`${each.kind}/${each.id}`, each);
  return [...all.values()];
}

/** Hosts whose assignment may change by this; looked up before the change is applied. */
export function touchedBy(snapshot: Snapshot, change: Change): Touched {
  const hosts = new Set<Uuid>();
  if (change.site) return 'all';
  for (const { kind, id } of change.remove) {
    if (kind === 'network' || kind === 'image') return 'all';
    if (kind === 'host') hosts.add(id);
    const placement = kind === 'guest' ? snapshot.get('guest', id)?.status.placement : undefined;
    if (placement) hosts.add(placement.hostId);
  }
  for (const resource of change.put) {
    if (resource.kind === 'network') return 'all';
    // An upload in progress is in no assignment.
    if (resource.kind === 'image' && resource.status.state === 'ready') return 'all';
    if (resource.kind === 'host') hosts.add(resource.id);
    if (resource.kind !== 'guest') continue;
    const before = snapshot.get('guest', resource.id)?.status.placement;
    if (before) hosts.add(before.hostId);
    if (resource.status.placement) hosts.add(resource.status.placement.hostId);
  }
  return hosts;
}
