/** Objects for the tests of the stores. */
import type { Guest } from '../../../src/core/model/guest.ts';
import type { Network } from '../../../src/core/model/network.ts';
import type { NewEvent } from '../../../src/core/model/snapshot.ts';
import type { AnyResource } from '../../../src/core/model/snapshot.ts';
import type { Epoch } from '../../../src/core/ha/types.ts';
import type { Commit, LoadedState, Store } from '../../../src/ports.ts';

/** A UUID that tells its number. */
export function uuid(number: number): string {
  return `00000000-0000-4000-8000-${number.toString(16).padStart(12, '0')}`;
}

export const networkId = uuid(0xabc);

export interface GuestSample {
  readonly name?: string;
  readonly ipv4?: string;
  readonly ipv6?: string;
  readonly hostId?: string;
  readonly labels?: Readonly<Record<string, string>>;
}

const meta = {
  owner: 'local:root',
  community: 'physics',
  labels: {},
  generation: 1,
  revision: 0,
  createdAt: 1_700_000_000_000,
  updatedAt: 1_700_000_000_000,
  conditions: [],
};

export function guest(number: number, sample: GuestSample = {}): Guest {
  const { ipv4, ipv6, hostId } = sample;
  const hasNic = ipv4 !== undefined || ipv6 !== undefined;
  const nic = {
    networkId,
    mac: '52:54:00:00:00:01',
    ...(ipv4 === undefined ? {} : { ipv4 }),
    ...(ipv6 === undefined ? {} : { ipv6 }),
  };
  return {
    ...meta,
    kind: 'guest',
    id: uuid(number),
    name: sample.name ?? `guest-${number}`,
    labels: sample.labels ?? {},
    spec: {
      cpus: 1,
      maxCpus: 2,
      memoryMiB: 512,
      maxMemoryMiB: 1024,
      diskMiB: 2048,
      diskMode: 'keep',
      nics: hasNic ? [nic] : [],
      sshKeys: [],
      restart: 'on-failure',
      power: 'on',
      paused: false,
      graceSeconds: 60,
      startSeq: 0,
      rebootSeq: 0,
      rebuildSeq: 0,
      snapshots: [],
      machine: { arch: 'x86_64', type: 'pc-q35-7.2', firmware: 'bios', cpuModel: 'qemu64' },
    },
    status: {
      state: 'pending',
      stateAt: 1_700_000_000_000,
      lastGeneration: 0,
      ...(hostId === undefined
        ? {}
        : { placement: { hostId, epoch: 1, generation: 1, placedAt: 1_700_000_000_000, reasons: [] } }),
    },
  };
}

export function network(number: number, name: string): Network {
  const dns = { servers: [], search: [] };
  return {
    ...meta,
    kind: 'network',
    id: uuid(number),
    name,
    spec: { mode: 'bridge', bridge: 'br0', dns },
    status: { problems: [] },
  };
}

export function event(type: string, message = 'It happened', subjectNumber = 1): NewEvent {
  const subject = { kind: 'guest' as const, id: uuid(subjectNumber), name: `guest-${subjectNumber}` };
  return { eventAt: 1_700_000_000_000, type, severity: 'info', subject, message, who: 'local:root' };
}

/** The epoch of that number that the tests claim. */
export const epochOf = (number: number): Epoch => ({ number, id: uuid(0xe0000 + number) });

/** Takes the lead under the next epoch. */
export async function lead(store: Store): Promise<LoadedState> {
  const { number } = await store.epoch();
  const answer = await store.lead(epochOf(number + 1));
  if (!answer.ok) throw new Error(`outbid by ${answer.epoch.number}`);
  return answer.state;
}

export function commit(epoch: number, change: Partial<Commit>): Commit {
  return { epoch: epochOf(epoch), put: [], remove: [], events: [], expect: [], ...change };
}

/** What the store must give back for an object: the object itself, under the commit's revision. */
export function stored<T extends AnyResource>(resource: T, revision: number): T {
  return { ...resource, revision };
}
