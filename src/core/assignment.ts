/** What one host is told: everything that should be there, derived from the state alone. */
import { isHa } from './ha/eligible.ts';
import type { Assignment, AssignedImage, AssignedNetwork, GuestOrder } from './model/assignment.ts';
import type { Guest } from './model/guest.ts';
import type { Host, Leaving } from './model/host.ts';
import type { Uuid } from './model/resource.ts';
import type { Snapshot } from './model/snapshot.ts';
import { inSession } from './guest-orders.ts';
import { wantsOn } from './model/states.ts';
import { byName, compareText, same } from './util.ts';

/**
 * An assignment without its number. The controller numbers it with the revision of the snapshot in which its content
 * changed (`sameAssignment`): revisions are durable and only rise, and a new leader has a higher epoch.
 */
export type AssignmentContent = Omit<Assignment, 'generation'>;

/**
 * Undefined: there is no such host. Lists are sorted, so that equal states give equal assignments. `barred`: true for a
 * highly available guest that must not be started anew yet (host-lease, rule 9); absent: nobody is.
 */
export function assignmentFor(
  snapshot: Snapshot,
  hostId: Uuid,
  barred?: (guest: Guest) => boolean,
): AssignmentContent | undefined {
  const host = snapshot.get('host', hostId);
  if (!host) return undefined;
  const guests: GuestOrder[] = [];
  const networkIds = new Set<Uuid>();
  const imageIds = new Set<Uuid>();
  for (const guest of snapshot.guestsOn(hostId)) {
    const order = orderFor(guest, host, barred);
    guests.push(order);
    if (order.want === 'remove') continue;
    for (const nic of guest.spec.nics) networkIds.add(nic.networkId);
    if (guest.spec.image) imageIds.add(guest.spec.image.id);
  }
  for (const left of host.status.leaving ?? []) guests.push(leavingOrder(snapshot, left));
  const { session } = host.status;
  return {
    siteId: snapshot.site.id,
    hostId,
    epoch: snapshot.site.epoch,
    ...(session ? { session } : {}),
    destroyNothing: snapshot.site.review !== undefined,
    guests: guests.toSorted((a, b) => compareText(a.id, b.id)),
    networks: networksOf(snapshot, networkIds),
    images: imagesOf(snapshot, imageIds),
  };
}

/** Equal in content, whatever its number. */
export function sameAssignment(a: AssignmentContent | undefined, b: AssignmentContent | undefined): boolean {
  if (!a || !b) return a === b;
  return same({ ...a, generation: 0 }, { ...b, generation: 0 });
}

/** `host`: the one that it is placed on; absent: it only removes. */
function orderFor(guest: Guest, host?: Host, barred?: (guest: Guest) => boolean): GuestOrder {
  const { spec } = guest;
  const ha = isHa(guest);
  return {
    id: guest.id,
    name: guest.name,
    generation: guest.status.placement?.generation ?? guest.status.lastGeneration,
    epoch: guest.status.placement?.epoch ?? 0,
    owner: guest.owner,
    community: guest.community,
    want: wantOf(guest),
    power: wantsOn(guest) ? 'on' : 'off',
    paused: spec.paused,
    held: spec.held !== undefined,
    ...(ha ? { ha } : {}),
    ...(ha && host && (barred?.(guest) === true || !inSession(guest, host)) ? { barred: true } : {}),
    ...(spec.image ? { image: spec.image } : {}),
    cpus: spec.cpus,
    maxCpus: spec.maxCpus,
    memoryMiB: spec.memoryMiB,
    maxMemoryMiB: spec.maxMemoryMiB,
    diskMiB: spec.diskMiB,
    diskMode: spec.diskMode,
    nics: spec.nics,
    ...(spec.userData === undefined ? {} : { userData: spec.userData }),
    sshKeys: spec.sshKeys,
    restart: spec.restart,
    graceSeconds: spec.stopGraceSeconds ?? spec.graceSeconds,
    startSeq: spec.startSeq,
    rebootSeq: spec.rebootSeq,
    rebuildSeq: spec.rebuildSeq,
    ...(spec.revert ? { revert: spec.revert } : {}),
    snapshots: spec.snapshots,
    machine: spec.machine,
    ...(spec.adopted ? { adopted: spec.adopted } : {}),
  };
}

function wantOf(guest: Guest): GuestOrder['want'] {
  if (guest.deletionAt !== undefined) return 'remove';
  return guest.spec.releasing === true ? 'release' : 'keep';
}

/** The order to remove what is left of a guest that lives elsewhere now, or not at all any more. */
function leavingOrder(snapshot: Snapshot, left: Leaving): GuestOrder {
  const guest = snapshot.get('guest', left.id);
  const { id, name, generation } = left;
  const gone = { want: 'remove', power: 'off', paused: false, held: false, nics: [], snapshots: [] } as const;
  if (guest) return { ...orderFor(guest), ...gone, name, generation };
  return {
    ...gone,
    id,
    name,
    generation,
    epoch: 0,
    owner: '',
    community: '',
    cpus: 1,
    maxCpus: 1,
    memoryMiB: 0,
    maxMemoryMiB: 0,
    diskMiB: 0,
    diskMode: 'fresh',
    sshKeys: [],
    restart: 'never',
    graceSeconds: 0,
    startSeq: 0,
    rebootSeq: 0,
    rebuildSeq: 0,
    // Nobody knows any more; the agent only removes, but reads no order with empty words.
    machine: { arch: 'none', type: 'none', firmware: 'bios', cpuModel: 'none' },
  };
}

function networksOf(snapshot: Snapshot, ids: ReadonlySet<Uuid>): readonly AssignedNetwork[] {
  const networks: AssignedNetwork[] = [];
  for (const id of ids) {
    const network = snapshot.get('network', id);
    if (network) networks.push({ id, name: network.name, ...network.spec });
  }
  return networks.toSorted(byName);
}

function imagesOf(snapshot: Snapshot, ids: ReadonlySet<Uuid>): readonly AssignedImage[] {
  const images: AssignedImage[] = [];
  for (const id of ids) {
    const image = snapshot.get('image', id);
    const stored = image?.status.stored;
    if (!image || !stored) continue;
    const { sha512, sizeBytes } = stored;
    images.push({ id, name: image.name, sha512, sizeBytes, virtualBytes: image.status.virtualBytes ?? 0 });
  }
  return images.toSorted(byName);
}
