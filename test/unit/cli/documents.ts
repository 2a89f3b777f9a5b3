/** Whole documents of the API for tests, with the few fields that a test cares about. */
import type {
  GuestView,
  HostView,
  ImageView,
  LeasesView,
  NetworkView,
  SiteSettingsView,
  SiteStatusView,
  VoterView,
} from '../../../src/api/schemas.ts';

export const at = '2026-01-02T03:04:05.000Z';
let next = 0;
/** A new UUID, the same in every run. */
export const uuid = (): string => `00000000-0000-4000-8000-${String((next += 1)).padStart(12, '0')}`;

const meta = (name: string) => ({
  id: uuid(),
  name,
  owner: 'local:root',
  community: 'local',
  labels: {},
  generation: 1,
  revision: 1,
  createdAt: at,
  updatedAt: at,
  conditions: [],
});

export function host(name: string, change: Partial<HostView> = {}): HostView {
  return {
    kind: 'host',
    ...meta(name),
    spec: { cordoned: false, reserved: { cpus: 1, memoryMiB: 1024, diskMiB: 1024 }, overcommit: { cpu: 1, memory: 1 } },
    status: {
      state: 'online',
      stateAt: at,
      lastHeardAt: at,
      measured: { cpus: 8, memoryMiB: 16_384, diskMiB: 100_000 },
      used: { cpuPercent: 12, memoryMiB: 2048, diskMiB: 10 },
      foreign: [],
      strays: [],
      images: [],
      problems: [],
    },
    ...change,
  };
}

export function network(name: string, change: Partial<NetworkView> = {}): NetworkView {
  return {
    kind: 'network',
    ...meta(name),
    spec: {
      mode: 'bridge',
      bridge: 'br0',
      ipv4: { cidr: '10.0.0.0/24', from: '10.0.0.2', to: '10.0.0.254', gateway: '10.0.0.1' },
      dns: { servers: [], search: [] },
    },
    status: { problems: [] },
    ...change,
  };
}

export function image(name: string, change: Partial<ImageView> = {}): ImageView {
  return {
    kind: 'image',
    ...meta(name),
    spec: { format: 'qcow2' },
    status: {
      state: 'ready',
      stateAt: at,
      sizeBytes: 1000,
      receivedBytes: 1000,
      givenSha512: 'a'.repeat(128),
      stored: { sha512: 'b'.repeat(128), sizeBytes: 900, format: 'qcow2' },
      virtualBytes: 64 * 1024 ** 2,
    },
    ...change,
  };
}

export function guest(
  name: string,
  change: { readonly [K in keyof GuestView]?: K extends 'spec' | 'status' ? Partial<GuestView[K]> : GuestView[K] } = {},
): GuestView {
  const { spec, status, ...rest } = change;
  return {
    kind: 'guest',
    ...meta(name),
    ...rest,
    spec: {
      cpus: 1,
      maxCpus: 1,
      memoryMiB: 512,
      maxMemoryMiB: 512,
      diskMiB: 1024,
      diskMode: 'keep',
      nics: [],
      sshKeys: [],
      restart: 'on-failure',
      power: 'on',
      paused: false,
      graceSeconds: 30,
      startSeq: 1,
      rebootSeq: 0,
      rebuildSeq: 0,
      snapshots: [],
      machine: { arch: 'x86_64', type: 'pc-q35-7.2', firmware: 'bios', cpuModel: 'qemu64' },
      ...spec,
    },
    status: { state: 'running', stateAt: at, lastGeneration: 1, ...status },
  };
}

export const siteStatus = (change: Partial<SiteStatusView> = {}): SiteStatusView => ({
  id: '00000000-0000-4000-8000-000000000000',
  name: 'lab',
  version: '1.2.3',
  epoch: 1,
  revision: 7,
  leading: true,
  startedAt: at,
  hosts: { online: 1 },
  guests: { running: 2, failed: 1 },
  images: { ready: 1 },
  networks: 1,
  capacity: { total: { cpus: 8, memoryMiB: 1024, diskMiB: 1024 }, promised: { cpus: 2, memoryMiB: 512, diskMiB: 10 } },
  problems: [],
  ...change,
});

export const siteSettings: SiteSettingsView = {
  id: '00000000-0000-4000-8000-000000000001',
  name: 'lab',
  lease: { lengthMs: 2000, boundMs: 500, drift: 0.01 },
  leaseProfile: 'default',
  marginMs: 570.5,
  onHostLeave: 'wait',
  lapseGraceSeconds: 5,
};

const epoch = { number: 7, id: uuid() };
const version = { forced: 0, epoch, number: 3 };

export const voter = (name: string, more: Partial<VoterView> = {}): VoterView => ({
  keeperId: uuid(),
  name,
  role: 'host',
  votes: 1,
  answers: true,
  answeredAt: at,
  roundTripMs: 0.42,
  accepted: true,
  epoch,
  version,
  addresses: [{ address: '192.0.2.1:7444', answers: true, roundTripMs: 0.42 }],
  ...more,
});

export const leases = (change: Partial<LeasesView> = {}): LeasesView => ({
  observedAt: at,
  leadership: 'leading',
  epoch,
  committing: true,
  version,
  profile: { lengthMs: 2000, boundMs: 500, drift: 0.01 },
  marginMs: 570.5,
  voters: [],
  answeringVotes: 0,
  votes: 0,
  hosts: [],
  barrier: [],
  advice: [],
  ...change,
});
