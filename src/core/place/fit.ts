import { isHa } from '../ha/eligible.ts';
import type { Guest, GuestSpec } from '../model/guest.ts';
import type { Host } from '../model/host.ts';
import type { Network } from '../model/network.ts';
import type { Uuid } from '../model/resource.ts';
import type { Snapshot } from '../model/snapshot.ts';
import { count } from '../util.ts';
import type { Slot } from './capacity.ts';

/** What placement looks at in a guest; guests of one shape fit the same hosts. */
export interface Shape {
  readonly cpus: number;
  readonly memoryMiB: number;
  readonly diskMiB: number;
  readonly machine: GuestSpec['machine'];
  /** Pinned to this host. */
  readonly hostId?: Uuid | undefined;
  readonly networks: readonly NetworkNeed[];
  /** The guest itself, when it is placed anew: a host that still removes its old copy does not fit. */
  readonly guestId?: Uuid | undefined;
  /** Highly available: only where a keeper answers. */
  readonly ha?: boolean | undefined;
  /** Best first; taken before any other that fits. */
  readonly preferred?: readonly Uuid[] | undefined;
  /** A host where so many guests are on their way takes no more. */
  readonly startsAtOnce?: number | undefined;
  /** Not there (it failed there just now). */
  readonly notOn?: Uuid | undefined;
}

export interface NetworkNeed {
  readonly network: Network;
  /** Host name → what the host said of this network. */
  readonly problems: ReadonlyMap<string, string>;
}

/** Why a host does not fit: `why` sums up (the same for many hosts), `sentence` has the figures. */
export interface Misfit {
  readonly why: string;
  readonly sentence: string;
}

function plain(why: string): Misfit {
  return { why, sentence: why };
}

export function networkNeeds(snapshot: Snapshot, ids: Iterable<Uuid>): readonly NetworkNeed[] {
  const needs: NetworkNeed[] = [];
  for (const id of new Set(ids)) {
    const network = snapshot.get('network', id);
    if (!network) continue;
    const problems = new Map(network.status.problems.map((each) => [each.host, each.message] as const));
    needs.push({ network, problems });
  }
  return needs;
}

/** The shape of a guest that exists. */
export function shapeOf(snapshot: Snapshot, guest: Guest): Shape {
  const { spec } = guest;
  return {
    cpus: spec.cpus,
    memoryMiB: spec.memoryMiB,
    diskMiB: spec.diskMiB,
    machine: spec.machine,
    hostId: spec.hostId,
    networks: networkNeeds(
      snapshot,
      spec.nics.map((nic) => nic.networkId),
    ),
    guestId: guest.id,
    ha: isHa(guest),
    preferred: spec.preferredHosts,
  };
}

/** Undefined: the host can take one more guest of this shape. The first reason that holds is the one that is said. */
export function misfit(slot: Slot, shape: Shape): Misfit | undefined {
  return (
    standing(slot.host, shape) ??
    engine(slot.host, shape) ??
    reach(slot.host, shape) ??
    room(slot, shape) ??
    turn(slot, shape)
  );
}

function standing(host: Host, shape: Shape): Misfit | undefined {
  if (shape.hostId !== undefined && shape.hostId !== host.id) return plain('pinned to another host');
  if (host.spec.role === 'witness') return plain('a witness, which takes no guests');
  if (host.status.state === 'invited') return plain('not heard from yet');
  if (host.status.state !== 'online') return plain(host.status.state);
  if (host.spec.cordoned) {
    const { cordonReason } = host.spec;
    return { why: 'cordoned', sentence: cordonReason === undefined ? 'cordoned' : `cordoned (${cordonReason})` };
  }
  if (shape.notOn === host.id) return plain('it failed there');
  if (host.status.leaving?.some((each) => each.id === shape.guestId))
    return plain('still removes an earlier copy of it');
  return undefined;
}

function engine(host: Host, shape: Shape): Misfit | undefined {
  if (shape.ha === true && (!host.status.keeper || host.status.keeper.silent))
    return plain('its keeper does not answer');
  const facts = host.status.engine;
  const { arch, type, firmware, cpuModel } = shape.machine;
  if (!facts) return plain('its engine does not answer');
  if (facts.arch !== arch) return { why: `not of architecture ${arch}`, sentence: `is ${facts.arch}, not ${arch}` };
  if (!facts.machines.includes(type)) return plain(`does not offer machine type ${type}`);
  if (!facts.firmwares.includes(firmware)) return plain(`has no ${firmware.toUpperCase()} firmware`);
  if (facts.cpuModels.length > 0 && !facts.cpuModels.includes(cpuModel))
    return plain(`does not offer CPU model ${cpuModel}`);
  return undefined;
}

function reach(host: Host, shape: Shape): Misfit | undefined {
  for (const { network, problems } of shape.networks) {
    const { mode, bridge } = network.spec;
    if (mode === 'bridge' && !(host.status.network?.bridges.includes(bridge) ?? false))
      return plain(`has no bridge ${bridge} (network ${network.name})`);
    const problem = problems.get(host.name);
    if (problem !== undefined)
      return { why: `cannot use network ${network.name}`, sentence: `cannot use network ${network.name}: ${problem}` };
  }
  return undefined;
}

function room(slot: Slot, shape: Shape): Misfit | undefined {
  const { total } = slot;
  if (!total) return plain('has not said yet what it has');
  if (slot.memoryMiB + shape.memoryMiB > total.memoryMiB)
    return lacking('memory', shape.memoryMiB, total.memoryMiB - slot.memoryMiB, ' MiB');
  if (slot.cpus + shape.cpus > total.cpus) return lacking('CPUs', shape.cpus, total.cpus - slot.cpus, '');
  if (slot.diskMiB + shape.diskMiB > total.diskMiB)
    return lacking('disk', shape.diskMiB, total.diskMiB - slot.diskMiB, ' MiB');
  return undefined;
}

function turn({ starting }: Slot, { startsAtOnce }: Shape): Misfit | undefined {
  if (startsAtOnce === undefined || starting < startsAtOnce) return undefined;
  return plain(`${count(startsAtOnce, 'guest')} start there already`);
}

function lacking(what: string, needed: number, free: number, unit: string): Misfit {
  const why = `not enough ${what}`;
  return { why, sentence: `${why}: ${needed}${unit} needed, ${Math.max(0, free)}${unit} free` };
}
