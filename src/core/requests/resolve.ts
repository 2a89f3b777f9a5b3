import { VirgaError } from '../errors.ts';
import type { Kind } from '../model/resource.ts';
import type { KindMap, Snapshot } from '../model/snapshot.ts';

/** Shorter beginnings of a UUID are taken for names only. */
const shortestPrefix = 8;

/** Finds an object by name, UUID, or the beginning of its UUID (8 characters or more). */
export function resolve<K extends Kind>(snapshot: Snapshot, kind: K, ref: string): KindMap[K] {
  const exact = snapshot.byName(kind, ref) ?? snapshot.get(kind, ref);
  if (exact) return exact;
  const found = ref.length >= shortestPrefix ? startingWith(snapshot, kind, ref) : undefined;
  if (!found) throw new VirgaError('not_found', { kind, name: ref });
  return found;
}

function startingWith<K extends Kind>(snapshot: Snapshot, kind: K, prefix: string): KindMap[K] | undefined {
  let found: KindMap[K] | undefined;
  for (const each of snapshot.all(kind)) {
    if (!each.id.startsWith(prefix)) continue;
    if (found) throw new VirgaError('ambiguous', { kind, name: prefix });
    found = each;
  }
  return found;
}
