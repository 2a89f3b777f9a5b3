import { compareText } from '../util.ts';
import type { Slot } from './capacity.ts';
import type { Shape } from './fit.ts';

/** How full a host would be with one more guest, as fractions of what it may promise. */
export interface Load {
  readonly cpu: number;
  readonly memory: number;
}

/** Of a slot that fits. */
export function loadAfter(slot: Slot, shape: Shape): Load {
  const { total } = slot;
  if (!total) return { cpu: 1, memory: 1 };
  return {
    cpu: total.cpus === 0 ? 1 : (slot.cpus + shape.cpus) / total.cpus,
    memory: total.memoryMiB === 0 ? 1 : (slot.memoryMiB + shape.memoryMiB) / total.memoryMiB,
  };
}

/** One host in the order of preference, as it was at `version`. */
export interface Candidate {
  readonly slot: Slot;
  readonly worst: number;
  readonly sum: number;
  readonly version: number;
}

export function candidate(slot: Slot, shape: Shape): Candidate {
  const { cpu, memory } = loadAfter(slot, shape);
  return { slot, worst: Math.max(cpu, memory), sum: cpu + memory, version: slot.version };
}

/** Least loaded first: by the scarcer of CPU and memory, then by both, then by name. */
export function better(a: Candidate, b: Candidate): number {
  return a.worst - b.worst || a.sum - b.sum || compareText(a.slot.host.name, b.slot.host.name);
}
