/**
 * How each step of the plan is carried out. Every step may be cut off between any two awaits and done again: what is
 * about to happen is written to the journal first, and what happened is found out afterwards.
 */
import { VirgaError } from '../core/errors.ts';
import type { GuestStep } from '../core/host/actions.ts';
import { noFailures, without, type GuestJournal } from '../core/host/journal.ts';
import {
  chain,
  nextLayer,
  withActive,
  withFailedSnapshot,
  withoutSnapshot,
  withSnapshot,
} from '../core/host/layers.ts';
import type { GuestOrder } from '../core/model/assignment.ts';
import { atNextStart } from '../core/model/conditions.ts';
import { admit, discard, enter, lose } from './lease-steps.ts';
import { startGuest } from './start.ts';
import { growOffline, sweep, type StepContext } from './step-context.ts';

const MiB = 1024 * 1024;
/** Every layer makes reading slower and the domain's description longer; QEMU itself gives up at some hundreds. */
const maxLayers = 64;

/** Carries out one step. Rejects with VirgaError; the journal is then as far as it came. */
export async function executeStep(
  step: GuestStep,
  order: GuestOrder,
  journal: GuestJournal,
  context: StepContext,
): Promise<void> {
  switch (step.do) {
    case 'start':
      return startGuest(step, order, journal, context);
    case 'shutdown':
    case 'destroy':
      return bringDown(step, order, journal, context);
    case 'pause':
      return context.ports.engine.pause(order.id);
    case 'resume':
      return context.ports.engine.resume(order.id);
    case 'admit':
      return admit(order, journal, context);
    case 'discard':
      return discard(order, journal, context);
    case 'enter':
      return enter(order, journal, context);
    case 'lose':
      return lose(step.detail, order, journal, context);
    case 'adopt':
      return adopt(order, journal, context);
    case 'release':
      return release(order, journal, context);
    case 'remove':
      return remove(step.clear, order, journal, context);
    case 'rebuild':
      return rebuild(order, journal, context);
    case 'settle':
      await context.save({ ...(order.held ? journal : takeSeqs(order, journal)), generation: step.generation });
      return;
    case 'revert':
    case 'snapshot':
    case 'settle-snapshot':
    case 'drop-snapshot':
    case 'set-cpus':
    case 'set-memory':
    case 'grow-disk':
      return diskStep(step, order, journal, context);
  }
}

async function diskStep(
  step: Extract<
    GuestStep,
    {
      do: 'revert' | 'snapshot' | 'settle-snapshot' | 'drop-snapshot' | 'set-cpus' | 'set-memory' | 'grow-disk';
    }
  >,
  order: GuestOrder,
  journal: GuestJournal,
  context: StepContext,
): Promise<void> {
  switch (step.do) {
    case 'revert':
      return revert(step, order, journal, context);
    case 'snapshot':
      return snapshot(step, journal, context);
    case 'settle-snapshot':
      return settleSnapshot(step.running, journal, context);
    case 'drop-snapshot': {
      const next = await context.save(withoutSnapshot(journal, step.snapshotId));
      return sweep(next, context);
    }
    case 'set-cpus':
      return resize({ cpus: step.cpus }, journal, context, () => context.ports.engine.setCpus(order.id, step.cpus));
    case 'set-memory':
      return resize({ memoryMiB: step.memoryMiB }, journal, context, () =>
        context.ports.engine.setMemory(order.id, step.memoryMiB),
      );
    case 'grow-disk':
      return resize({ diskMiB: step.diskMiB }, journal, context, () =>
        step.running
          ? context.ports.engine.growDisk(order.id, step.diskMiB * MiB)
          : growOffline(journal, step.diskMiB * MiB, context),
      );
  }
}

/** A reboot of a guest that is off, or a start of one that should be off, is done by doing nothing. */
function takeSeqs(order: GuestOrder, journal: GuestJournal): GuestJournal {
  return { ...journal, rebootSeq: Math.max(journal.rebootSeq, order.rebootSeq) };
}

async function bringDown(
  step: Extract<GuestStep, { do: 'shutdown' | 'destroy' }>,
  order: GuestOrder,
  journal: GuestJournal,
  { ports, save }: StepContext,
): Promise<void> {
  const now = ports.clock.now();
  const since = journal.stopping?.why === step.why ? journal.stopping.since : now;
  // Written first: if the guest is gone when an agent looks again, it is known that this was wanted.
  const wanted = await save({ ...journal, stopping: { since, askedAt: now, why: step.why } });
  if (step.do === 'shutdown') return ports.engine.shutdown(order.id);
  if (step.clear) await ports.keeper.clear(order.id);
  await ports.engine.destroy(order.id);
  if (step.clear) await save(without(wanted, 'registered'));
}

async function adopt(
  order: GuestOrder,
  journal: GuestJournal,
  { ports, save, assignment, bootId }: StepContext,
): Promise<void> {
  const adopted = order.adopted;
  if (!adopted) return;
  // The description was read when the adoption was asked for; kept before the domain is touched.
  const intended = await save({ ...journal, adopted });
  const { foreign } = await ports.engine.view();
  const domain = foreign.find((each) => each.uuid === order.id);
  if (!domain) return;
  const { name, generation, epoch, owner, community } = order;
  const identity = { name, generation, epoch, owner, community, siteId: assignment.siteId };
  try {
    const given = await ports.engine.adopt(order.id, identity);
    const startedAt = ports.clock.now();
    const running = domain.running ? { running: { startedAt, bootId } } : {};
    await save({ ...intended, ...running, adopted: given, startSeq: order.startSeq, stoppedByOrder: !domain.running });
  } catch (error) {
    await save(without(intended, 'adopted'));
    throw error;
  }
}

async function release(order: GuestOrder, journal: GuestJournal, { ports, save }: StepContext): Promise<void> {
  const adopted = journal.adopted ?? order.adopted;
  if (!adopted) return;
  await ports.engine.release(order.id, adopted);
  await save({ ...without(journal, 'running', 'starting'), gone: { generation: order.generation } });
}

async function remove(
  clear: boolean,
  order: GuestOrder,
  journal: GuestJournal,
  { ports, save }: StepContext,
): Promise<void> {
  if (clear) await ports.keeper.clear(order.id);
  // Its domain is gone already: the plan saw to that. Destroying by id here could hit one that was given back.
  await ports.disks.removeAll(order.id);
  const gone = { generation: order.generation };
  const run = ['running', 'starting', 'stopping', 'registered', 'outside'] as const;
  const bare = without(journal, ...run, 'active', 'freezing', 'applied', 'error');
  await save({ ...bare, layers: [], snapshots: [], gone, generation: order.generation });
}

async function rebuild(order: GuestOrder, journal: GuestJournal, context: StepContext): Promise<void> {
  if (!order.image) return;
  const layer = nextLayer(journal, order.image.sha512);
  const backing = context.ports.images.path(order.image.sha512);
  const virtual = await context.ports.disks.virtualBytes(backing);
  await context.ports.disks.create(order.id, layer.file, backing, Math.max(order.diskMiB * MiB, virtual));
  const begun = withActive(journal, layer);
  const next = { ...without(begun, 'error', 'applied', 'refused'), rebuildSeq: order.rebuildSeq, failures: noFailures };
  await sweep(await context.save({ ...next, stoppedByOrder: true }), context);
}

async function revert(
  step: Extract<GuestStep, { do: 'revert' }>,
  order: GuestOrder,
  journal: GuestJournal,
  context: StepContext,
): Promise<void> {
  const record = journal.snapshots.find((each) => each.id === step.snapshotId);
  const under = journal.layers.find((layer) => layer.file === record?.layer);
  const { disks, clock } = context.ports;
  if (!under) {
    const message = `There is no snapshot ${step.snapshotId} of it on this host`;
    const error = { code: 'not_found', message, errorAt: clock.now() };
    await context.save({ ...journal, error, revertSeq: step.seq });
    return;
  }
  const layer = nextLayer(journal, under.image, under.file);
  const backing = disks.path(order.id, under.file);
  await disks.create(order.id, layer.file, backing, await disks.virtualBytes(backing));
  const next = { ...without(withActive(journal, layer), 'error'), revertSeq: step.seq, failures: noFailures };
  await sweep(await context.save({ ...next, stoppedByOrder: true }), context);
}

async function snapshot(
  step: Extract<GuestStep, { do: 'snapshot' }>,
  journal: GuestJournal,
  context: StepContext,
): Promise<void> {
  const active = journal.layers.find((each) => each.file === journal.active);
  if (!active) return;
  const layer = nextLayer(journal, active.image, active.file);
  const { ports, save } = context;
  if (chain(journal, active.file).length >= maxLayers) {
    const message = `its disk has ${maxLayers} layers already; a rebuild begins a new one`;
    await save(withFailedSnapshot(journal, step.snapshotId, message, ports.clock.now()));
    return;
  }
  const intended = await save({ ...journal, freezing: { snapshotId: step.snapshotId, layer } });
  // A leftover of a snapshot that never came about has the same name, and libvirt refuses an existing file.
  await ports.disks.sweep(
    journal.id,
    journal.layers.map((each) => each.file),
  );
  if (!step.running) return settleSnapshot(false, intended, context);
  try {
    await ports.engine.snapshotDisk(journal.id, ports.disks.path(journal.id, layer.file));
    await save(withSnapshot(intended, step.snapshotId, layer, ports.clock.now()));
  } catch (error) {
    // Only a refusal says that nothing happened; after a time-out the next look decides.
    if (!(error instanceof VirgaError) || error.code !== 'engine') throw error;
    await save(withFailedSnapshot(intended, step.snapshotId, error.message, ports.clock.now()));
  }
}

/**
 * A snapshot was begun, and it is unknown how far it came. While the guest runs, the disk it writes to tells. When it is
 * down, either answer gives the same content: whatever was written after the switch is in the overlay, and if there was
 * no switch an overlay that is empty changes nothing.
 */
async function settleSnapshot(running: boolean, journal: GuestJournal, context: StepContext): Promise<void> {
  const { freezing } = journal;
  const { ports, save } = context;
  if (!freezing) return;
  const { layer, snapshotId } = freezing;
  const path = ports.disks.path(journal.id, layer.file);
  if (running) {
    const source = await ports.engine.diskSource(journal.id);
    const next =
      source === path ? withSnapshot(journal, snapshotId, layer, ports.clock.now()) : without(journal, 'freezing');
    await save(next);
    return;
  }
  const backing = ports.disks.path(journal.id, layer.base ?? '');
  if (!(await ports.disks.isOverlay(journal.id, layer.file, backing)))
    await ports.disks.create(journal.id, layer.file, backing, await ports.disks.virtualBytes(backing));
  await save(withSnapshot(journal, snapshotId, layer, ports.clock.now()));
}

async function resize(
  sizes: { readonly cpus?: number; readonly memoryMiB?: number; readonly diskMiB?: number },
  journal: GuestJournal,
  { ports, save }: StepContext,
  apply: () => Promise<void>,
): Promise<void> {
  if (!journal.applied) return;
  try {
    await apply();
    await save({ ...without(journal, 'error'), applied: { ...journal.applied, ...sizes } });
  } catch (cause) {
    if (!(cause instanceof VirgaError) || cause.code === 'timeout') throw cause;
    const message = `${cause.message}; ${atNextStart}`;
    const error = { code: cause.code, message, errorAt: ports.clock.now() };
    await save({ ...journal, refused: { ...journal.refused, ...sizes }, error });
  }
}
