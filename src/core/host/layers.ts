/**
 * The disk of a guest as a tree of overlays. A snapshot is a layer that is written no more; what is written goes to the
 * active layer. Pure bookkeeping: files are made and removed by the agent.
 */
import type { Instant, Uuid } from '../model/resource.ts';
import { without, type GuestJournal, type Layer } from './journal.ts';

/** The active layer and what lies under it, top first. Empty where there is no disk yet. */
export function chain(journal: Pick<GuestJournal, 'layers'>, from: string | undefined): readonly Layer[] {
  const found: Layer[] = [];
  let next = from;
  while (next !== undefined && found.length <= journal.layers.length) {
    const layer = journal.layers.find((each) => each.file === next);
    if (!layer) break;
    found.push(layer);
    next = layer.base;
  }
  return found;
}

/** Layers that neither the active one nor a snapshot stands on. */
export function unneeded(journal: GuestJournal): readonly Layer[] {
  const roots = [journal.active, ...journal.snapshots.map((snapshot) => snapshot.layer)];
  const needed = new Set(roots.flatMap((root) => chain(journal, root).map((layer) => layer.file)));
  return journal.layers.filter((layer) => !needed.has(layer.file));
}

/** The layer that would be made next. */
export function nextLayer(journal: GuestJournal, image: string, base?: string): Layer {
  return { file: `disk-${journal.nextLayer}.qcow2`, image, ...(base === undefined ? {} : { base }) };
}

/** The journal once `layer` is written to; layers that nothing needs any more are forgotten. */
export function withActive(journal: GuestJournal, layer: Layer): GuestJournal {
  const next: GuestJournal = {
    ...journal,
    layers: [...journal.layers, layer],
    active: layer.file,
    nextLayer: journal.nextLayer + 1,
    disksBegun: journal.disksBegun + (layer.base === undefined ? 1 : 0),
  };
  return forgetUnneeded(next);
}

export function forgetUnneeded(journal: GuestJournal): GuestJournal {
  const gone = new Set(unneeded(journal).map((layer) => layer.file));
  if (gone.size === 0) return journal;
  return { ...journal, layers: journal.layers.filter((layer) => !gone.has(layer.file)) };
}

/** The journal after a snapshot: the active layer is frozen under `layer`. */
export function withSnapshot(journal: GuestJournal, snapshotId: Uuid, layer: Layer, createdAt: Instant): GuestJournal {
  const frozen = journal.active;
  const record = { id: snapshotId, state: 'ready' as const, createdAt, ...(frozen ? { layer: frozen } : {}) };
  const others = journal.snapshots.filter((each) => each.id !== snapshotId);
  return withActive({ ...without(journal, 'freezing'), snapshots: [...others, record] }, layer);
}

export function withFailedSnapshot(
  journal: GuestJournal,
  snapshotId: Uuid,
  error: string,
  createdAt: Instant,
): GuestJournal {
  const others = journal.snapshots.filter((each) => each.id !== snapshotId);
  const record = { id: snapshotId, state: 'failed' as const, error, createdAt };
  return { ...without(journal, 'freezing'), snapshots: [...others, record] };
}

export function withoutSnapshot(journal: GuestJournal, snapshotId: Uuid): GuestJournal {
  return forgetUnneeded({ ...journal, snapshots: journal.snapshots.filter((each) => each.id !== snapshotId) });
}
