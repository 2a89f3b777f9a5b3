/** A small site in memory for tests and benches of the core: builds objects, applies changes as the store does. */
import assert from 'node:assert/strict';
import type { Guest, GuestObservation, GuestSpec } from '../../../src/core/model/guest.ts';
import type { Host, HostSpec, HostStatus, KeeperFacts } from '../../../src/core/model/host.ts';
import type { GuestReport, HostReport, LeaseReport } from '../../../src/core/model/assignment.ts';
import type { Image } from '../../../src/core/model/image.ts';
import type { Network, NetworkSpec } from '../../../src/core/model/network.ts';
import type { Instant, Kind, Meta, Uuid } from '../../../src/core/model/resource.ts';
import { kinds } from '../../../src/core/model/resource.ts';
import type {
  AnyResource,
  Change,
  KindMap,
  NewEvent,
  RequestContext,
  SiteFacts,
  Snapshot,
} from '../../../src/core/model/snapshot.ts';
import type { Expected } from '../../../src/core/requests/result.ts';
import type { ErrorCode } from '../../../src/core/errors.ts';
import { VirgaError } from '../../../src/core/errors.ts';

/** A moment to count from. */
export const t0: Instant = 1_700_000_000_000;

/** UUIDs that count, so that failures can be read; the last digits differ, as in random ones. */
export function counter(start = 0): () => Uuid {
  let number = start;
  return () => {
    number += 1;
    return `00000000-0000-4000-8000-${number.toString(16).padStart(12, '0')}`;
  };
}

const uuid = counter(0x100000);

export function meta(name: string, more: Partial<Meta> = {}): Meta {
  return {
    id: uuid(),
    name,
    owner: 'local:root',
    community: 'site',
    labels: {},
    generation: 1,
    revision: 0,
    createdAt: t0,
    updatedAt: t0,
    conditions: [],
    ...more,
  };
}

export interface HostWish extends Partial<Meta> {
  spec?: Partial<HostSpec>;
  status?: Partial<HostStatus>;
}

export const engine = {
  type: 'qemu',
  libvirtVersion: '9.0.0',
  emulatorVersion: '7.2.0',
  arch: 'x86_64',
  kvm: false,
  machines: ['pc-q35-7.2', 'pc-q35-7.1', 'pc-i440fx-7.2'],
  cpuModels: ['qemu64', 'Nehalem'],
  firmwares: ['bios', 'uefi'],
} as const satisfies HostStatus['engine'];

/** Online, 8 CPUs (no overcommit), 16 GiB, 100 GiB, nothing reserved. */
export function aHost(name: string, wish: HostWish = {}): Host {
  const { spec, status, ...more } = wish;
  return {
    ...meta(name, more),
    kind: 'host',
    spec: {
      cordoned: false,
      reserved: { cpus: 0, memoryMiB: 0, diskMiB: 0 },
      overcommit: { cpu: 1, memory: 1 },
      ...spec,
    },
    status: {
      state: 'online',
      stateAt: t0,
      lastHeardAt: t0,
      session: { number: 1, id: uuid() },
      keeper: { diskId: uuid(), addresses: ['192.0.2.1:7444'], version: '0.1.0' },
      engine,
      network: { bridges: ['br0'] },
      measured: { cpus: 8, memoryMiB: 16_384, diskMiB: 102_400 },
      used: { cpuPercent: 1, memoryMiB: 1000, diskMiB: 1000 },
      foreign: [],
      strays: [],
      images: [],
      problems: [],
      ...status,
    },
  };
}

export function anImage(name: string, more: Partial<Image> = {}): Image {
  return {
    ...meta(name),
    kind: 'image',
    spec: { format: 'qcow2' },
    status: {
      state: 'ready',
      stateAt: t0,
      sizeBytes: 1000,
      receivedBytes: 1000,
      givenSha512: 'a'.repeat(128),
      stored: { sha512: 'b'.repeat(128), sizeBytes: 1000, format: 'qcow2' },
      virtualBytes: 64 * 1024 ** 2,
    },
    ...more,
  };
}

export function aNetwork(name: string, spec: Partial<NetworkSpec> = {}): Network {
  return {
    ...meta(name),
    kind: 'network',
    spec: {
      mode: 'bridge',
      bridge: 'br0',
      ipv4: { cidr: '10.0.0.0/16', from: '10.0.0.2', to: '10.0.255.254', gateway: '10.0.0.1' },
      dns: { servers: [], search: [] },
      ...spec,
    },
    status: { problems: [] },
  };
}

export interface GuestWish extends Partial<Meta> {
  spec?: Partial<GuestSpec>;
  status?: Partial<Guest['status']>;
  /** Placed here, under generation 1. */
  on?: Host;
  image?: Image;
}

export function aGuest(name: string, wish: GuestWish = {}): Guest {
  const { spec, status, on, image, ...more } = wish;
  const placement = on && {
    placement: {
      hostId: on.id,
      ...(on.status.session ? { session: on.status.session } : {}),
      epoch: 1,
      generation: 1,
      placedAt: t0,
      reasons: ['because'],
    },
  };
  return {
    ...meta(name, more),
    kind: 'guest',
    spec: {
      ...(image ? { image: { id: image.id, sha512: 'b'.repeat(128), format: 'qcow2' } } : {}),
      cpus: 1,
      maxCpus: 1,
      memoryMiB: 512,
      maxMemoryMiB: 512,
      diskMiB: 64,
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
    status: {
      state: on ? 'starting' : 'pending',
      stateAt: t0,
      lastGeneration: on ? 1 : 0,
      ...placement,
      ...status,
    },
  };
}

/** What a host sees of a guest that runs as ordered. */
export function sight(guest: Guest, more: Partial<GuestObservation> = {}): GuestReport {
  const { spec, status } = guest;
  return {
    id: guest.id,
    engine: spec.power === 'on' ? 'running' : 'shutoff',
    observedAt: t0,
    generation: status.placement?.generation ?? 0,
    ...(spec.power === 'on' ? { since: { startedAt: t0 } } : {}),
    restarts: 0,
    startSeq: spec.startSeq,
    rebootSeq: spec.rebootSeq,
    rebuildSeq: spec.rebuildSeq,
    revertSeq: spec.revert?.seq ?? 0,
    cpus: spec.cpus,
    memoryMiB: spec.memoryMiB,
    cpuPercent: 1,
    addresses: [],
    snapshots: [],
    ...more,
  };
}

function aLease({ diskId, addresses, version }: KeeperFacts): LeaseReport {
  return { diskId, addresses, version: version ?? '0.1.0', state: 'held', leftMs: 1900, epoch: 1, roundTripsMs: {} };
}

/** A report that says of the host what is known of it already, and these guests. */
export function aReport(host: Host, guests: readonly GuestReport[], more: Partial<HostReport> = {}): HostReport {
  const { status } = host;
  return {
    hostId: host.id,
    session: status.session ?? { number: 1, id: 'x' },
    agentVersion: status.agentVersion ?? '0.1.0',
    protocol: status.protocol ?? 1,
    observedAt: t0,
    assignmentGeneration: status.assignmentGeneration ?? 1,
    assignmentEpoch: 1,
    ...(status.engine ? { engine: status.engine } : {}),
    ...(status.keeper ? { lease: aLease(status.keeper) } : {}),
    network: status.network ?? { bridges: ['br0'] },
    measured: status.measured ?? { cpus: 8, memoryMiB: 16_384, diskMiB: 102_400 },
    used: status.used ?? { cpuPercent: 1, memoryMiB: 1000, diskMiB: 1000 },
    guests,
    gone: [],
    foreign: status.foreign,
    strays: status.strays,
    images: status.images,
    networkProblems: [],
    problems: status.problems,
    ...more,
  };
}

/** The state of a site, with the store's rules: expectations, revisions, unique names. */
export class TestSite implements Snapshot {
  revision = 1;
  site: SiteFacts = { id: 'site-id', name: 'test', epoch: 1 };
  now: Instant = t0;
  who = 'local:root';
  reason: string | undefined;
  role: 'admin' | 'read' = 'admin';
  readonly events: NewEvent[] = [];
  readonly #uuid = counter();
  readonly #objects = new Map<Kind, Map<Uuid, AnyResource>>(kinds.map((kind) => [kind, new Map()] as const));
  readonly #names = new Map<Kind, Map<string, Uuid>>(kinds.map((kind) => [kind, new Map()] as const));
  readonly #placed = new Map<Uuid, Set<Uuid>>();

  constructor(resources: readonly AnyResource[] = []) {
    this.apply({ put: resources, remove: [], events: [] });
  }

  get context(): RequestContext {
    const { who, role, reason } = this;
    return {
      now: this.now,
      uuid: this.#uuid,
      actor: { who, role, community: 'site', ...(reason === undefined ? {} : { reason }) },
    };
  }

  get<K extends Kind>(kind: K, id: Uuid): KindMap[K] | undefined {
    return this.#objects.get(kind)?.get(id) as KindMap[K] | undefined;
  }

  byName<K extends Kind>(kind: K, name: string): KindMap[K] | undefined {
    const id = this.#names.get(kind)?.get(name);
    return id === undefined ? undefined : this.get(kind, id);
  }

  all<K extends Kind>(kind: K): Iterable<KindMap[K]> {
    return (this.#objects.get(kind)?.values() ?? []) as Iterable<KindMap[K]>;
  }

  count(kind: Kind): number {
    return this.#objects.get(kind)?.size ?? 0;
  }

  *guestsOn(hostId: Uuid): Iterable<Guest> {
    for (const id of this.#placed.get(hostId) ?? []) {
      const guest = this.get('guest', id);
      if (guest) yield guest;
    }
  }

  /** Checks what the decision stood on, then writes it. */
  commit<T extends { readonly change: Change; readonly expect: readonly Expected[] }>(result: T): T {
    for (const { kind, id, revision } of result.expect)
      assert.equal(this.get(kind, id)?.revision, revision, `expectation on ${kind} ${id}`);
    const written = new Set(result.expect.map((each) => each.id));
    for (const each of [...result.change.put, ...result.change.remove])
      assert.ok(written.has(each.id), `${each.kind} ${each.id} is written without an expectation`);
    this.apply(result.change);
    return result;
  }

  apply(change: Change): void {
    const ids = [...change.put, ...change.remove].map((each) => each.id);
    assert.equal(new Set(ids).size, ids.length, 'an object is written twice in one change');
    this.revision += 1;
    for (const each of change.remove) this.#forget(each.kind, each.id);
    for (const each of change.put) this.#forget(each.kind, each.id);
    for (const each of change.put) this.#keep({ ...each, revision: this.revision });
    this.events.push(...change.events);
    if (change.site) this.site = change.site;
  }

  guest(name: string): Guest {
    const guest = this.byName('guest', name);
    assert.ok(guest, `guest ${name}`);
    return guest;
  }

  host(name: string): Host {
    const host = this.byName('host', name);
    assert.ok(host, `host ${name}`);
    return host;
  }

  #forget(kind: Kind, id: Uuid): void {
    const old = this.get(kind, id);
    if (!old) return;
    this.#objects.get(kind)?.delete(id);
    this.#names.get(kind)?.delete(old.name);
    if (old.kind === 'guest' && old.status.placement) this.#placed.get(old.status.placement.hostId)?.delete(id);
  }

  #keep(resource: AnyResource): void {
    const names = this.#names.get(resource.kind);
    assert.ok(!names?.has(resource.name), `the ${resource.kind} name ${resource.name} is taken`);
    names?.set(resource.name, resource.id);
    this.#objects.get(resource.kind)?.set(resource.id, resource);
    if (resource.kind !== 'guest' || !resource.status.placement) return;
    const { hostId } = resource.status.placement;
    const there = this.#placed.get(hostId);
    if (there) there.add(resource.id);
    else this.#placed.set(hostId, new Set([resource.id]));
  }
}

/** The call must be refused with this code; returns the error. */
export function refused(code: ErrorCode, call: () => unknown): VirgaError {
  const error = thrown(call);
  assert.ok(error instanceof VirgaError, `expected ${code}, not ${String(error)}`);
  assert.equal(error.code, code, error.message);
  assert.doesNotMatch(`${error.message} ${error.hint}`, /\{\w+\}/, 'a value of the message is missing');
  return error;
}

function thrown(call: () => unknown): unknown {
  try {
    call();
  } catch (error) {
    return error;
  }
  return 'no refusal';
}
