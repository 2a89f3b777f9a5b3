/** Starting a guest: disk, seed, firmware variables, and then the domain. */
import { VirgaError } from '../core/errors.ts';
import type { GuestStep } from '../core/host/actions.ts';
import { without, type GuestJournal } from '../core/host/journal.ts';
import { chain, nextLayer, withActive } from '../core/host/layers.ts';
import type { GuestOrder } from '../core/model/assignment.ts';
import type { DomainSpec } from '../ports.ts';
import { letIn, registering, ticketOf, turnedAway } from './lease-steps.ts';
import type { DoorRegistered } from '../core/ha/door.ts';
import { growOffline, sweep, type StepContext } from './step-context.ts';

const MiB = 1024 * 1024;

/**
 * Starts a guest that is down. The journal says `starting` before anything is made. Every domain is made paused; a highly
 * available one is registered with the keeper first, and let in before it runs (host-lease, rule 10).
 */
export async function startGuest(
  step: Extract<GuestStep, { do: 'start' }>,
  order: GuestOrder,
  journal: GuestJournal,
  context: StepContext,
): Promise<void> {
  await refuseUnknownDisk(journal, context);
  const begun = await begin(step, order, journal, context);
  const [answer, made] = await both(register(order, context), prepare(step, order, begun, context));
  const { spec, journal: current } = made;
  if (!answer.ok) {
    await turnedAway(answer, order, await context.save(without(current, 'starting')), context);
    return;
  }
  context.progress('starting', 1);
  const startedAt = context.ports.clock.now();
  await context.ports.engine.createPaused(spec);
  if (order.ha) {
    if (!context.rules.startPaused) await context.ports.engine.resume(order.id);
    const ran = await letIn(order, current, context);
    if (ran) await context.save(started(step, order, ran, spec));
    return;
  }
  if (!order.paused) await context.ports.engine.resume(order.id);
  const running = { startedAt, bootId: context.bootId };
  await context.save(started(step, order, { ...current, running }, spec));
}

async function begin(
  step: Extract<GuestStep, { do: 'start' }>,
  order: GuestOrder,
  journal: GuestJournal,
  context: StepContext,
): Promise<GuestJournal> {
  const { ports, save } = context;
  const old = without(journal, 'gone', 'outside');
  const restarts = journal.restarts + (step.again ? 1 : 0);
  const starting = { startSeq: Math.max(order.startSeq, journal.startSeq), at: ports.clock.now() };
  if (!order.ha) return save({ ...(await unregistered(old, context)), restarts, starting });
  const registered = registering(order, context);
  return save({ ...old, registered, restarts, starting: { ...starting, sessionId: registered.sessionId } });
}

/** It was highly available and is not any more: its entry has no use. Nothing waits for a keeper that does not answer. */
async function unregistered(journal: GuestJournal, { ports }: StepContext): Promise<GuestJournal> {
  if (!journal.registered) return journal;
  try {
    await ports.keeper.clear(journal.id);
    return without(journal, 'registered');
  } catch (error) {
    ports.log.warn('the keeper keeps an entry without use', { guest: journal.id, detail: String(error) });
    return journal;
  }
}

async function register(order: GuestOrder, context: StepContext): Promise<DoorRegistered | { readonly ok: true }> {
  return order.ha ? context.ports.keeper.register(ticketOf(order, context)) : { ok: true };
}

/** Both to their end, whatever becomes of either: nothing of a start goes on behind the back of the next step. */
async function both<A, B>(first: Promise<A>, second: Promise<B>): Promise<[A, B]> {
  await Promise.allSettled([first, second]);
  return Promise.all([first, second]);
}

/** Everything that the domain needs, on disk. */
async function prepare(
  step: Extract<GuestStep, { do: 'start' }>,
  order: GuestOrder,
  journal: GuestJournal,
  context: StepContext,
): Promise<{ readonly spec: DomainSpec; readonly journal: GuestJournal }> {
  await checkImage(order, context);
  context.progress('preparing its disk', 0);
  const fresh = step.freshDisk || (order.diskMode === 'fresh' && !(await diskIsWhole(journal, context)));
  let current = fresh ? await beginDisk(order, journal, context) : journal;
  current = await growAtStart(order, current, context);
  // Also what an earlier life left behind between its journal and its tidying.
  await sweep(current, context);
  return { spec: await describe(order, current, context), journal: current };
}

/** The journal of a guest that runs. */
function started(
  step: Extract<GuestStep, { do: 'start' }>,
  order: GuestOrder,
  journal: GuestJournal,
  spec: DomainSpec,
): GuestJournal {
  const diskMiB = Math.max(journal.applied?.diskMiB ?? 0, order.diskMiB);
  const { failures } = journal;
  return {
    ...without(journal, 'starting', 'refused', 'stopping'),
    startSeq: Math.max(order.startSeq, journal.startSeq),
    applied: { cpus: spec.cpus, memoryMiB: spec.memoryMiB, diskMiB },
    stoppedByOrder: false,
    rebooting: false,
    rebootSeq: Math.max(order.rebootSeq, journal.rebootSeq),
    // After a person's start the count of failures begins anew; otherwise only a good run ends it.
    failures: step.again ? failures : { ...failures, gaveUp: false },
  };
}

/** Layers on disk of a guest without a journal: some earlier life, of which nothing is known. Never overwritten. */
async function refuseUnknownDisk(journal: GuestJournal, { ports }: StepContext): Promise<void> {
  if (journal.nextLayer > 0 || journal.starting) return;
  const files = await ports.disks.list(journal.id);
  if (files.length === 0) return;
  throw new VirgaError('setup', {
    detail: `There are disks of the guest ${journal.name} (${files.join(', ')}), but no journal`,
    how: `Look at ${ports.disks.path(journal.id, '')} and move it away.`,
  });
}

/** The file under the disk is still the image that was ordered (cheap where nobody touched it). */
async function checkImage(order: GuestOrder, { ports, assignment, progress }: StepContext): Promise<void> {
  const image = assignment.images.find((each) => each.sha512 === order.image?.sha512);
  if (image && !order.adopted) await ports.images.ensure(image, (fraction) => progress('checking its image', fraction));
}

/** A passing disk that is to be kept once more (a reboot) may have been cut short by a loss of power. */
async function diskIsWhole(journal: GuestJournal, { ports }: StepContext): Promise<boolean> {
  const [top, under] = chain(journal, journal.active);
  if (!top) return false;
  const backing = under ? ports.disks.path(journal.id, under.file) : ports.images.path(top.image);
  return ports.disks.isOverlay(journal.id, top.file, backing);
}

async function beginDisk(order: GuestOrder, journal: GuestJournal, context: StepContext): Promise<GuestJournal> {
  const { ports, save } = context;
  if (!order.image) return journal;
  const layer = nextLayer(journal, order.image.sha512);
  const backing = ports.images.path(order.image.sha512);
  const virtual = await ports.disks.virtualBytes(backing);
  const bytes = Math.max(order.diskMiB * MiB, virtual);
  await ports.disks.create(order.id, layer.file, backing, bytes, { passing: order.diskMode === 'fresh' });
  const applied = {
    cpus: order.cpus,
    memoryMiB: order.memoryMiB,
    diskMiB: Math.max(order.diskMiB, Math.floor(virtual / MiB)),
  };
  return save({ ...withActive(journal, layer), applied });
}

async function growAtStart(order: GuestOrder, journal: GuestJournal, context: StepContext): Promise<GuestJournal> {
  const [top] = chain(journal, journal.active);
  if (!top || order.diskMiB <= (journal.applied?.diskMiB ?? 0)) return journal;
  const { disks } = context.ports;
  const bytes = order.diskMiB * MiB;
  if ((await disks.virtualBytes(disks.path(order.id, top.file))) < bytes) await growOffline(journal, bytes, context);
  return journal;
}

async function describe(order: GuestOrder, journal: GuestJournal, context: StepContext): Promise<DomainSpec> {
  const { ports, assignment } = context;
  const { disks } = ports;
  const { machine } = order;
  const adopted = journal.adopted ?? order.adopted;
  const uefi = machine.firmware === 'uefi' && !adopted;
  const seeded = order.image !== undefined && !adopted;
  const networks = new Map(assignment.networks.map((network) => [network.id, network]));
  const nics = order.nics.flatMap((nic) => {
    const network = networks.get(nic.networkId);
    if (!network) return [];
    return [{ bridge: network.bridge, mac: nic.mac, ...(network.mtu === undefined ? {} : { mtu: network.mtu }) }];
  });
  const instanceId = `${order.id}-${journal.disksBegun}`;
  return {
    id: order.id,
    name: order.name,
    siteId: assignment.siteId,
    generation: order.generation,
    epoch: order.epoch,
    owner: order.owner,
    community: order.community,
    cpus: Math.min(order.cpus, order.maxCpus),
    maxCpus: order.maxCpus,
    memoryMiB: Math.min(order.memoryMiB, order.maxMemoryMiB),
    maxMemoryMiB: order.maxMemoryMiB,
    arch: machine.arch,
    machineType: machine.type,
    firmware: machine.firmware,
    cpuModel: machine.cpuModel,
    ...(uefi ? { nvramPath: await disks.nvram(order.id, machine.arch) } : {}),
    disks: describeDisks(journal, context),
    ...(seeded ? { seedPath: await ports.seeds.write(order, assignment.networks, instanceId) } : {}),
    nics,
    serialLogPath: await disks.serialLog(order.id),
    ...(adopted ? { adopted } : {}),
  };
}

function describeDisks(journal: GuestJournal, { ports }: StepContext): DomainSpec['disks'] {
  const [top, ...under] = chain(journal, journal.active);
  if (!top) return [];
  const backing = [...under.map((layer) => ports.disks.path(journal.id, layer.file)), ports.images.path(top.image)];
  return [{ path: ports.disks.path(journal.id, top.file), format: 'qcow2', backing }];
}
