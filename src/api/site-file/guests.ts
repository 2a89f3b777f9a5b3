/** Guests in a site file. */
import { usualLimits, usualPriority } from '../recovery.ts';
import type { Body } from '../routes.ts';
import type { GuestView } from '../schemas.ts';
import { changed, Differences, given, labelChange, some } from './compare.ts';
import type { Difference } from './plan.ts';
import type { GuestEntry, SiteState } from './types.ts';

/** The request that creates one guest of an entry. */
export function guestBody(name: string, entry: GuestEntry, origin: string): Body<'guest.run'> {
  return {
    image: entry.image,
    ...given({
      cpus: entry.cpus,
      maxCpus: entry.maxCpus,
      memoryMiB: entry.memory,
      maxMemoryMiB: entry.maxMemory,
      diskMiB: entry.disk,
      diskMode: entry.diskMode,
      networks: entry.networks && [...entry.networks],
      addresses: entry.addresses && { ...entry.addresses },
      labels: entry.labels && { ...entry.labels },
      userData: entry.userData,
      sshKeys: entry.sshKeys && [...entry.sshKeys],
      restart: entry.restart,
      host: entry.host,
      ha: entry.ha,
      priority: entry.priority,
      preferredHosts: entry.prefer && [...entry.prefer],
      failBack: entry.failBack,
      limits: entry.limits && limitsBody(entry.limits, undefined),
      graceSeconds: entry.grace,
      firmware: entry.firmware,
      machineType: entry.machineType,
      cpuModel: entry.cpuModel,
    }),
    name,
    origin,
  };
}

type Limits = GuestView['spec']['limits'];

/** Limits are set whole: what the file leaves out is kept as it is. */
function limitsBody(
  entry: NonNullable<GuestEntry['limits']>,
  actual: Limits,
): NonNullable<Body<'guest.run'>['limits']> {
  return given({
    restarts: entry.restarts ?? actual?.restarts,
    moves: entry.moves ?? actual?.moves,
    windowSeconds: entry.window ?? actual?.windowSeconds,
  });
}

function recoveryDifferences(entry: GuestEntry, { spec }: GuestView, state: SiteState, differences: Differences): void {
  const { limits } = spec;
  differences.compare('ha', entry.ha, spec.ha ?? 'on');
  differences.number('priority', entry.priority, spec.priority ?? usualPriority);
  const preferred = (spec.preferredHosts ?? []).map((id) => nameOf(state.hosts, id) ?? id);
  differences.list('prefer', entry.prefer, preferred);
  differences.compare('failBack', entry.failBack?.toString(), String(spec.failBack ?? false));
  differences.number('limits.restarts', entry.limits?.restarts, limits?.restarts);
  differences.number('limits.moves', entry.limits?.moves, limits?.moves ?? usualLimits.moves);
  differences.number('limits.window', entry.limits?.window, limits?.windowSeconds ?? usualLimits.windowSeconds);
}

/** The part of the request about recovery, as far as it differs. */
function recoveryChange(entry: GuestEntry, guest: GuestView, state: SiteState): Partial<Body<'guest.change'>> {
  const found = new Differences();
  recoveryDifferences(entry, guest, state, found);
  const differs = (field: string): boolean => found.found.some((each) => each.field.split('.')[0] === field);
  return given({
    ha: differs('ha') ? entry.ha : undefined,
    priority: differs('priority') ? entry.priority : undefined,
    preferredHosts: differs('prefer') ? entry.prefer && [...entry.prefer] : undefined,
    failBack: differs('failBack') ? entry.failBack : undefined,
    limits: differs('limits') && entry.limits ? limitsBody(entry.limits, guest.spec.limits) : undefined,
  });
}

const nameOf = (
  items: readonly { readonly id: string; readonly name: string }[],
  id: string | undefined,
): string | undefined => (id === undefined ? undefined : (items.find((each) => each.id === id)?.name ?? id));

/** Field by field. What no request can change is marked `fixed`. */
export function guestDifferences(entry: GuestEntry, guest: GuestView, state: SiteState): Difference[] {
  const { spec } = guest;
  const differences = new Differences();
  const image = nameOf(state.images, spec.image?.id);
  if (entry.image !== spec.image?.id) differences.compare('image', entry.image, image, true);
  differences.number('cpus', entry.cpus, spec.cpus);
  differences.number('maxCpus', entry.maxCpus, spec.maxCpus);
  differences.size('memory', entry.memory, spec.memoryMiB);
  differences.size('maxMemory', entry.maxMemory, spec.maxMemoryMiB);
  // A disk only grows.
  differences.size('disk', entry.disk, spec.diskMiB, (entry.disk ?? 0) < spec.diskMiB);
  differences.compare('diskMode', entry.diskMode, spec.diskMode, true);
  const networks = spec.nics.map((nic) => nameOf(state.networks, nic.networkId) ?? '');
  differences.list('networks', entry.networks, networks, true);
  for (const [network, address] of Object.entries(entry.addresses ?? {})) {
    const nic = spec.nics[networks.indexOf(network)];
    if (address !== nic?.ipv4 && address !== nic?.ipv6)
      differences.compare(`addresses.${network}`, address, nic?.ipv4 ?? nic?.ipv6, true);
  }
  differences.labels(entry.labels, guest.labels);
  differences.compare('userData', entry.userData === '' ? undefined : entry.userData, spec.userData, true);
  differences.list('sshKeys', entry.sshKeys, spec.sshKeys, true);
  differences.compare('restart', entry.restart, spec.restart);
  if (entry.host !== spec.hostId) differences.compare('host', entry.host, nameOf(state.hosts, spec.hostId), true);
  recoveryDifferences(entry, guest, state, differences);
  differences.number('grace', entry.grace, spec.graceSeconds);
  differences.compare('firmware', entry.firmware, spec.machine.firmware, true);
  differences.compare('machineType', entry.machineType, spec.machine.type, true);
  differences.compare('cpuModel', entry.cpuModel, spec.machine.cpuModel, true);
  return differences.found;
}

/** The requests that make the changeable fields so. */
export function guestRequests(
  entry: GuestEntry,
  guest: GuestView,
  state: SiteState,
): { change?: Body<'guest.change'>; resize?: Body<'guest.resize'> } {
  const { spec } = guest;
  return given({
    change: some({
      labels: labelChange(entry.labels, guest.labels),
      restart: changed(entry.restart, spec.restart),
      graceSeconds: changed(entry.grace, spec.graceSeconds),
      ...recoveryChange(entry, guest, state),
    }),
    resize: some({
      cpus: changed(entry.cpus, spec.cpus),
      maxCpus: changed(entry.maxCpus, spec.maxCpus),
      memoryMiB: changed(entry.memory, spec.memoryMiB),
      maxMemoryMiB: changed(entry.maxMemory, spec.maxMemoryMiB),
      diskMiB: changed(entry.disk, spec.diskMiB),
    }),
  });
}
