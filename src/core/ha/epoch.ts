/** Epochs compared as pairs: first the number, then the id (host-lease, rule 8). */
import type { Epoch } from './types.ts';

/** Negative when `a` is lower, 0 when they are the same, positive when `a` is higher. */
export function compareEpochs(a: Epoch, b: Epoch): number {
  if (a.number !== b.number) return a.number - b.number;
  if (a.id === b.id) return 0;
  return a.id < b.id ? -1 : 1;
}
