import type { Rules } from '../core/ha/rules.ts';
import type { GuestJournal } from '../core/host/journal.ts';
import { chain } from '../core/host/layers.ts';
import type { KeeperSight } from '../core/host/view.ts';
import type { Assignment } from '../core/model/assignment.ts';
import type { HostSession } from '../core/model/host.ts';
import type { Uuid } from '../core/model/resource.ts';
import type { AgentPorts } from './ports.ts';

/** The rule of the lease that lives in the agent; only the simulator leaves it out. */
export type AgentRules = Pick<Rules, 'startPaused'>;

/** What a step works with. `save` writes the journal durably before it returns it. */
export interface StepContext {
  readonly ports: AgentPorts;
  readonly assignment: Assignment;
  readonly bootId: string;
  /** Of the host's lease, as it was when the step was decided. */
  readonly session: HostSession;
  /** Absent: the keeper did not answer then. */
  readonly keeper: KeeperSight | undefined;
  readonly rules: AgentRules;
  readonly save: (journal: GuestJournal) => Promise<GuestJournal>;
  /** Shown while it lasts, fraction 0..1. */
  readonly progress: (what: string, fraction: number) => void;
  /** The keeper has no lease for the guest now: it is asked again when that changes. */
  readonly awaitLease: (id: Uuid) => void;
}

/** Grows the active layer of a guest that is down. */
export async function growOffline(journal: GuestJournal, bytes: number, { ports }: StepContext): Promise<void> {
  const [top, ...under] = chain(journal, journal.active);
  if (!top) return;
  const backing = [...under.map((layer) => ports.disks.path(journal.id, layer.file)), ports.images.path(top.image)];
  await ports.disks.grow(journal.id, top.file, backing, bytes);
}

export async function sweep(journal: GuestJournal, { ports }: StepContext): Promise<void> {
  await ports.disks.sweep(
    journal.id,
    journal.layers.map((layer) => layer.file),
  );
}
