/** A guest that a host has and the state does not know is made anew in the state, from the last order the host kept. */
import { VirgaError } from '../errors.ts';
import { described, marked, placed } from '../guest-orders.ts';
import type { GuestOrder } from '../model/assignment.ts';
import type { Guest, GuestNic, GuestSpec } from '../model/guest.ts';
import type { Host, StrayGuest } from '../model/host.ts';
import { namePattern, type Uuid } from '../model/resource.ts';
import type { RequestContext, Snapshot } from '../model/snapshot.ts';
import { checkWhole, invalid, limits, newMeta } from './check.ts';
import { guestDefaults } from './guest-spec.ts';
import { newGuest } from './guests.ts';
import type { RequestResult } from './result.ts';
import { Draft, mayChange } from './result.ts';

const name = new RegExp(namePattern);
/** Of an image that nobody knows, where the order does not say which it was. */
const noId: Uuid = '00000000-0000-0000-0000-000000000000';

/**
 * The guest keeps its id, disk, sizes, counters and owner, and goes on untouched: its new order says what its last one
 * said, under a higher generation. What the state lost with it (labels, a missing network, a taken name or address) is
 * told in the event. Errors: `host_unreachable`, `invalid_request` for a guest that is known or without a kept order.
 */
export function adoptStray(snapshot: Snapshot, host: Host, stray: StrayGuest, context: RequestContext): RequestResult {
  mayChange(context, undefined, 'adopt guests');
  const { order } = stray;
  if (host.status.state !== 'online') throw new VirgaError('host_unreachable', { name: host.name });
  if (snapshot.get('guest', stray.id)) throw invalid(`the guest ${stray.id} is known already`);
  if (!order) throw invalid(`${host.name} remembers no order of ${stray.name}`);
  checkSizes(order);
  const notes: string[] = [];
  const { now } = context;
  const spec = specOf(snapshot, host, order, now, notes);
  const called = freeName(snapshot, order.name);
  if (called !== order.name) notes.push(`its name ${order.name} is taken`);
  const meta = newMeta(context, stray.id, called);
  const owned = {
    ...meta,
    owner: order.owner === '' ? meta.owner : order.owner,
    community: order.community === '' ? meta.community : order.community,
  };
  const bare = newGuest(owned, spec, now);
  const known: Guest = { ...bare, status: { ...bare.status, lastGeneration: highestOrder(snapshot, stray) } };
  const reasons = [`found on ${host.name} after a restore, where its disk is`];
  const guest = described(unproved(placed(known, host, reasons, snapshot.site.epoch, now)), host, now);
  const draft = new Draft(context);
  draft.reads(host);
  draft.create(guest);
  draft.event(guest, {
    type: 'guest.adopted',
    ...(notes.length > 0 ? { severity: 'warning' } : {}),
    message: `${called} on ${host.name} was taken back into the state${notes.length > 0 ? `; ${notes.join('; ')}` : ''}`,
    evidence: { host: host.name, order: order.generation },
  });
  return draft.finish();
}

/** Where it runs is not known before its host reports it. */
function unproved(guest: Guest): Guest {
  const { placement } = guest.status;
  return placement ? { ...guest, status: { ...guest.status, placement: marked(placement, false) } } : guest;
}

/** The host's word is checked like a person's, before the figures count in placement. */
function checkSizes(order: GuestOrder): void {
  checkWhole('the number of CPUs', order.cpus, 1, limits.cpus);
  checkWhole('the upper bound of CPUs', order.maxCpus, order.cpus, limits.cpus);
  // A foreign domain that was adopted has whatever memory it had.
  checkWhole('the memory in MiB', order.memoryMiB, 1, limits.memoryMiB);
  checkWhole('the upper bound of memory in MiB', order.maxMemoryMiB, order.memoryMiB, limits.memoryMiB);
  checkWhole('the disk in MiB', order.diskMiB, 0, limits.diskMiB);
}

/** Also of a copy that another host remembers: no host may take the new order for an old one. */
function highestOrder(snapshot: Snapshot, stray: StrayGuest): number {
  let highest = 0;
  for (const host of snapshot.all('host'))
    for (const each of host.status.strays)
      if (each.id === stray.id) highest = Math.max(highest, each.generation, each.order?.generation ?? 0);
  return Math.max(highest, stray.generation, stray.order?.generation ?? 0);
}

function specOf(snapshot: Snapshot, host: Host, order: GuestOrder, now: number, notes: string[]): GuestSpec {
  const { cpus, maxCpus, memoryMiB, maxMemoryMiB, diskMiB, diskMode, userData, sshKeys, restart } = order;
  const { power, paused, startSeq, rebootSeq, rebuildSeq, revert, snapshots, machine, adopted } = order;
  const image = imageOf(snapshot, order, notes);
  return {
    ...(image ? { image } : {}),
    cpus,
    maxCpus,
    memoryMiB,
    maxMemoryMiB,
    diskMiB,
    diskMode,
    nics: nicsOf(snapshot, order, notes),
    ...(userData === undefined ? {} : { userData }),
    sshKeys,
    restart,
    ...(adopted ? { hostId: host.id } : {}),
    power,
    paused,
    ...graceOf(order),
    startSeq,
    rebootSeq,
    rebuildSeq,
    ...(revert ? { revert } : {}),
    snapshots,
    ...(order.held ? { held: { reason: 'it was held before the restore', heldAt: now } } : {}),
    machine,
    ...(adopted ? { adopted } : {}),
  };
}

/** The order of a guest that is to be off has the grace of that one stop; its usual one is not known any more. */
function graceOf({ power, graceSeconds }: GuestOrder): Pick<GuestSpec, 'graceSeconds' | 'stopGraceSeconds'> {
  const usual = guestDefaults.graceSeconds;
  if (power === 'on' || graceSeconds === usual) return { graceSeconds };
  return { graceSeconds: usual, stopGraceSeconds: graceSeconds };
}

/** By content: an image that was added again after the restore has another id. */
function imageOf(snapshot: Snapshot, { image }: GuestOrder, notes: string[]): GuestSpec['image'] {
  if (!image) return undefined;
  for (const each of snapshot.all('image'))
    if (each.status.stored?.sha512 === image.sha512)
      return { id: each.id, sha512: image.sha512, format: each.spec.format };
  notes.push('its image is not in the state: it runs on from the copy on its host, and cannot be rebuilt elsewhere');
  return { id: image.id ?? noId, sha512: image.sha512, format: image.format ?? 'qcow2' };
}

function nicsOf(snapshot: Snapshot, order: GuestOrder, notes: string[]): readonly GuestNic[] {
  const taken = new Set<string>();
  for (const guest of snapshot.all('guest'))
    for (const nic of guest.spec.nics) for (const key of keysOf(nic)) taken.add(key);
  return order.nics.filter((nic) => {
    const network = snapshot.get('network', nic.networkId);
    const clash = keysOf(nic).some((key) => taken.has(key));
    if (network && !clash) return true;
    const addresses = [nic.ipv4, nic.ipv6].filter((each) => each !== undefined).join(' and ') || nic.mac;
    const why = network
      ? `${addresses} in ${network.name} is taken`
      : `its network ${nic.networkId} is not in the state`;
    notes.push(`its interface ${nic.mac} is left out: ${why}`);
    return false;
  });
}

function keysOf({ networkId, mac, ipv4, ipv6 }: GuestNic): readonly string[] {
  const addresses = [ipv4, ipv6].flatMap((each) => (each === undefined ? [] : [`${networkId} ${each}`]));
  return [mac.toLowerCase(), ...addresses];
}

/** Its own name, or that with the lowest free number. */
function freeName(snapshot: Snapshot, wanted: string): string {
  if (!name.test(wanted)) throw invalid(`"${wanted.slice(0, 80)}" is not a valid guest name`);
  if (!snapshot.byName('guest', wanted)) return wanted;
  const stem = wanted.slice(0, 56).replace(/-+$/, '');
  for (let number = 2; ; number += 1) {
    const called = `${stem}-${number}`;
    if (!snapshot.byName('guest', called)) return called;
  }
}
