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
  let cpus = 0;
  let memoryMiB = 0;
  let diskMiB = 0;
  for (const guest of snapshot.guestsOn(host.id)) {
    if (guest.id === but) continue;
    cpus += guest.spec.cpus;
    memoryMiB += guest.spec.memoryMiB;
    diskMiB += guest.spec.diskMiB;
  }
  const ours = (id: Uuid): boolean => snapshot.get('guest', id)?.status.placement?.hostId === host.id;
  for (const domain of host.status.foreign) {
    if (!(domain.running || domain.autostart) || ours(domain.uuid)) continue;
    cpus += domain.cpus;
    memoryMiB += domain.memoryMiB;
  }
  for (const stray of host.status.strays) {
    if (!stray.running || ours(stray.id)) continue;
    cpus += stray.cpus;
    memoryMiB += stray.memoryMiB;
  }
  return { cpus, memoryMiB, diskMiB };
}

/** One host in a round of placements: what it may promise, and what is promised so far. */
export interface Slot {
  readonly host: Host;
  /** Undefined: unknown. */
  readonly total: Resources | undefined;
  cpus: number;
  memoryMiB: number;
  diskMiB: number;
  /** Rises when something is promised, so that older scores are known to be old. */
  version: number;
}

export function slotOf(snapshot: Snapshot, host: Host, but?: Uuid): Slot {
  return { host, total: promisable(host), ...promised(snapshot, host, but), version: 0 };
}
