import type { AssignedNetwork, Assignment, GuestOrder } from '../../../src/core/model/assignment.ts';
import type { HostSession } from '../../../src/core/model/host.ts';
import { addressPlan, guestAddress, type TinyImage } from '../../../src/testbed/index.ts';

export const hostId = '11111111-0000-4000-8000-000000000001';
export const siteId = '11111111-0000-4000-8000-000000000002';
export const networkId = '11111111-0000-4000-8000-000000000003';
export const imageId = '11111111-0000-4000-8000-000000000004';

export const guestId = (index: number): string => `22222222-0000-4000-8000-${String(index).padStart(12, '0')}`;

/** The testbed's own network, on the bridge that every host has. */
export const lan: AssignedNetwork = {
  id: networkId,
  name: 'lan',
  mode: 'bridge',
  bridge: 'br0',
  ipv4: {
    cidr: addressPlan.subnet,
    from: addressPlan.guestsFirst,
    to: addressPlan.guestsLast,
    gateway: addressPlan.gateway,
  },
  dns: { servers: [addressPlan.gateway], search: [] },
};

/** Guest number `index`, as a controller would order it. */
export function orderOf(index: number, image: TinyImage, change: Partial<GuestOrder> = {}): GuestOrder {
  const { address, mac } = guestAddress(index);
  return {
    id: guestId(index),
    name: `g${index}`,
    generation: 1,
    epoch: 1,
    owner: 'local:root',
    community: 'site',
    want: 'keep',
    power: 'on',
    paused: false,
    held: false,
    image: { sha512: image.sha512 },
    cpus: 1,
    maxCpus: 2,
    memoryMiB: 128,
    maxMemoryMiB: 192,
    diskMiB: 256,
    diskMode: 'keep',
    nics: [{ networkId, mac, ipv4: address }],
    sshKeys: [],
    restart: 'on-failure',
    graceSeconds: 20,
    startSeq: 0,
    rebootSeq: 0,
    rebuildSeq: 0,
    snapshots: [],
    machine: { arch: 'x86_64', type: 'pc-q35-7.2', firmware: 'bios', cpuModel: 'qemu64' },
    ...change,
  };
}

export function assignmentOf(
  generation: number,
  image: TinyImage,
  guests: readonly GuestOrder[],
  networks: readonly AssignedNetwork[] = [lan],
  session?: HostSession,
): Assignment {
  const images = [{ id: imageId, name: 'tiny', sha512: image.sha512, sizeBytes: image.bytes, virtualBytes: 0 }];
  const whole = { siteId, hostId, generation, epoch: 1, destroyNothing: false, guests, networks, images };
  return session ? { ...whole, session } : whole;
}
