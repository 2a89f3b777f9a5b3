/** Starting a guest: disk, seed, firmware variables, and then the domain. */
import { VirgaError } from '../core/errors.ts';
import type { GuestStep } from '../core/host/actions.ts';
import { without, type GuestJournal } from '../core/host/journal.ts';
import { chain, nextLayer, withActive } from '../core/host/layers.ts';
import type { GuestOrder } from '../core/model/assignment.ts';
import type { DomainSpec } from '../ports.ts';
import { growOffline, sweep, type StepContext } from './step-context.ts';

const MiB = 1024 * 1024;

/** Starts a guest that is down. The journal says `starting` before anything is made. */
export async function startGuest(
  step: Extract<GuestStep, { do: 'start' }>,
  order: GuestOrder,
  journal: GuestJournal,
  context: StepContext,
): Promise<void> {
  const { ports, save, progress } = context;
  await refuseUnknownDisk(journal, context);
  const restarts = journal.restarts + (step.again ? 1 : 0);
  const startSeq = Math.max(order.startSeq, journal.startSeq);
  let current = await save({ ...journal, restarts, starting: { startSeq, at: ports.clock.now() } });
  await checkImage(order, context);
  progress('preparing its disk', 0);
  if (step.freshDisk) current = await beginDisk(order, current, context);
  current = await growAtStart(order, current, context);
  // Also what an earlier life left behind between its journal and its tidying.
  await sweep(current, context);
  const spec = await describe(order, current, context);
  progress('starting', 1);
  const startedAt = ports.clock.now();
  await ports.engine.create(spec);
  const running = { startedAt, sessionId: context.sessionId };
  const applied = {
    cpus: spec.cpus,
    memoryMiB: spec.memoryMiB,
    diskMiB: Math.max(current.applied?.diskMiB ?? 0, order.diskMiB),
  };
  const done = without({ ...current, startSeq, running, applied }, 'starting', 'refused', 'stopping');
  await save({
    ...done,
    stoppedByOrder: false,
    rebooting: false,
    rebootSeq: Math.max(order.rebootSeq, journal.rebootSeq),
    // After a person's start the count of failures begins anew; otherwise only a good run ends it.
    failures: step.again ? done.failures : { ...done.failures, gaveUp: false },
  });
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

async function beginDisk(order: GuestOrder, journal: GuestJournal, context: StepContext): Promise<GuestJournal> {
  const { ports, save } = context;
  if (!order.image) return journal;
  const layer = nextLayer(journal, order.image.sha512);
  const backing = ports.images.path(order.image.sha512);
  const virtual = await ports.disks.virtualBytes(backing);
  const bytes = Math.max(order.diskMiB * MiB, virtual);
  await ports.disks.create(order.id, layer.file, backing, bytes);
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
