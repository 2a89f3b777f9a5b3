import type { Host, Resources } from '../model/host.ts';
import type { Uuid } from '../model/resource.ts';
import type { Snapshot } from '../model/snapshot.ts';

/**
 * What a host may promise to guests: capacity × overcommit − reserved, in whole units. The capacity is what the host
 * measured, where no override is set. Disks are never overcommitted. Undefined: the host has not said what it has.
 */
export function promisable(host: Host): Resources | undefined {
  const { capacity, overcommit, reserved } = host.spec;
  const { measured } = host.status;
  const cpus = capacity?.cpus ?? measured?.cpus;
  const memoryMiB = capacity?.memoryMiB ?? measured?.memoryMiB;
  const diskMiB = capacity?.diskMiB ?? measured?.diskMiB;
  if (cpus === undefined || memoryMiB === undefined || diskMiB === undefined) return undefined;
  return {
    cpus: Math.max(0, Math.floor(cpus * overcommit.cpu) - reserved.cpus),
    memoryMiB: Math.max(0, Math.floor(memoryMiB * overcommit.memory) - reserved.memoryMiB),
    diskMiB: Math.max(0, diskMiB - reserved.diskMiB),
  };
}

/**
 * What is promised on a host already. Guests count in full while they are placed, running or not, so that a stopped one
 * can always start again where its disk is. Foreign domains count while they run, or would run after a reboot; strays
 * while they run. `but` is left out (a guest that is being placed anew).
 */
export function promised(snapshot: Snapshot, host: Host, but?: Uuid): Resources {
  const sum = { cpus: 0, memoryMiB: 0, diskMiB: 0 };
  for (const guest of snapshot.guestsOn(host.id)) if (guest.id !== but) add(sum, guest.spec);
  return withOthers(snapshot, host, sum);
}

type Sum = { -readonly [K in keyof Resources]: Resources[K] };

function add(sum: Sum, { cpus, memoryMiB, diskMiB }: Resources): void {
  sum.cpus += cpus;
  sum.memoryMiB += memoryMiB;
  sum.diskMiB += diskMiB;
}

/** What runs on the host beside our guests. */
function withOthers(snapshot: Snapshot, host: Host, { cpus, memoryMiB, diskMiB }: Sum): Resources {
  const ours = (id: Uuid): boolean => snapshot.get('guest', id)?.status.placement?.hostId === host.id;
  let [cpuSum, memorySum] = [cpus, memoryMiB];
  for (const domain of host.status.foreign) {
    if (!(domain.running || domain.autostart) || ours(domain.uuid)) continue;
    cpuSum += domain.cpus;
    memorySum += domain.memoryMiB;
  }
  for (const stray of host.status.strays) {
    if (!stray.running || ours(stray.id)) continue;
    cpuSum += stray.cpus;
    memorySum += stray.memoryMiB;
  }
  return { cpus: cpuSum, memoryMiB: memorySum, diskMiB };
}

/** One host in a round of placements: what it may promise, and what is promised so far. */
export interface Slot {
  readonly host: Host;
  /** Undefined: unknown. */
  readonly total: Resources | undefined;
  cpus: number;
  memoryMiB: number;
  diskMiB: number;
  /** Guests that are on their way there. */
  starting: number;
  /** Rises when something is promised, so that older scores are known to be old. */
  version: number;
}

/** `starting`: guests that are on their way there. */
export function slotOf(snapshot: Snapshot, host: Host, but?: Uuid, starting = 0): Slot {
  return { host, total: promisable(host), ...promised(snapshot, host, but), starting, version: 0 };
}

/** The slots of many hosts: one pass over all guests is far cheaper than one walk per host. */
export function slotsOf(
  snapshot: Snapshot,
  hosts: readonly Host[],
  but?: Uuid,
  starting?: ReadonlyMap<Uuid, number>,
): readonly Slot[] {
  const slots = new Map(
    hosts.map((host) => {
      const slot = { host, total: promisable(host), cpus: 0, memoryMiB: 0, diskMiB: 0, version: 0 };
      return [host.id, { ...slot, starting: starting?.get(host.id) ?? 0 }] as const;
    }),
  );
  for (const { id, spec, status } of snapshot.all('guest')) {
    const slot = status.placement && slots.get(status.placement.hostId);
    if (slot && id !== but) add(slot, spec);
  }
  return [...slots.values()].map((slot) => Object.assign(slot, withOthers(snapshot, slot.host, slot)));
}
