/**
 * A simulated physical host: what survives its power (disk, images), what survives its agent (running guests), and its
 * agent, which is the real one on simulated ports.
 */
import { VirgaError } from '../core/errors.ts';
import type { AdoptedDomain } from '../core/model/guest.ts';
import type { Uuid } from '../core/model/resource.ts';
import type { DomainSpec, EngineGuest, Files, GuestExit } from '../ports.ts';
import type { AgentEngine, Disks, HostImages } from '../agent/ports.ts';
import type { Random } from './random.ts';
import { epochAt, type Life, type VirtualTime } from './time.ts';

export interface SimDomain {
  readonly spec: Pick<DomainSpec, 'id' | 'name' | 'siteId' | 'generation' | 'epoch' | 'cpus' | 'memoryMiB'>;
  readonly startedAt: number;
  state: 'running' | 'paused';
  /** It ignores the power button. */
  stubborn: boolean;
}

/** Everything of a host that outlives its agent. */
export class SimMachine {
  readonly name: string;
  readonly id: Uuid;
  /** Durable: path → text. */
  readonly files = new Map<string, string>();
  /** Durable: path → backing path. */
  readonly layers = new Map<string, string>();
  /** Durable: digests in the image cache. */
  readonly images = new Set<string>();
  /** Gone with the power. */
  readonly domains = new Map<Uuid, SimDomain>();
  readonly exits = new Map<Uuid, GuestExit>();
  /** Started guests by id, over its whole life: for properties. */
  readonly starts = new Map<Uuid, number>();
  readonly listeners = new Set<(exit?: GuestExit) => void>();
  powered = false;
  sessionNumber = 0;
  sessionId: Uuid = '';
  /** libvirtd answers. */
  engineUp = true;

  constructor(name: string, id: Uuid) {
    this.name = name;
    this.id = id;
  }

  /** Ends a guest; its agent is told if it listens. */
  end(id: Uuid, reason: GuestExit['reason'], now: number): boolean {
    if (!this.domains.delete(id)) return false;
    const exit: GuestExit = { id, reason, exitAt: Math.round(epochAt + now) };
    this.exits.set(id, exit);
    for (const listener of this.listeners) listener(exit);
    return true;
  }
}

/** Makes a call of a process take virtual time before and after its effect, so that a crash can fall in between. */
export type Slow = <T>(work: () => T | Promise<T>) => Promise<T>;

export function slowly(time: VirtualTime, life: Life, random: Random, mostMs: number): Slow {
  const pause = (): Promise<void> =>
    new Promise((done) => {
      time.after(random.whole(0, mostMs), () => life.alive && done());
    });
  return async (work) => {
    await pause();
    const result = await work();
    await pause();
    return result;
  };
}

export function simFiles(machine: SimMachine, slow: Slow): Files {
  return {
    read: (path) => slow(() => machine.files.get(path)),
    write: (path, text) => slow(() => void machine.files.set(path, text)),
    remove: (path) => slow(() => void machine.files.delete(path)),
    list: (folder) =>
      slow(() => {
        const below = [...machine.files.keys()].filter((path) => path.startsWith(`${folder}/`));
        return [...new Set(below.map((path) => path.slice(folder.length + 1).split('/')[0] ?? ''))].sort();
      }),
  };
}

export function simDisks(machine: SimMachine, slow: Slow): Disks {
  const path = (guestId: Uuid, file: string): string => `guests/${guestId}/${file}`;
  const remove = (guestId: Uuid, keep: readonly string[]): void => {
    for (const each of machine.layers.keys())
      if (each.startsWith(path(guestId, '')) && !keep.some((file) => each === path(guestId, file)))
        machine.layers.delete(each);
  };
  return {
    path,
    list: (guestId) =>
      slow(() =>
        [...machine.layers.keys()]
          .filter((each) => each.startsWith(path(guestId, '')))
          .map((each) => each.split('/').at(-1) ?? ''),
      ),
    create: (guestId, file, backing) => slow(() => void machine.layers.set(path(guestId, file), backing)),
    isOverlay: (guestId, file, backing) => slow(() => machine.layers.get(path(guestId, file)) === backing),
    virtualBytes: () => slow(() => 1 << 30),
    grow: () => slow(() => undefined),
    sweep: (guestId, keep) => slow(() => remove(guestId, keep)),
    nvram: (guestId) => slow(() => path(guestId, 'nvram')),
    serialLog: (guestId) => slow(() => path(guestId, 'serial.log')),
    boundLogs: () => Promise.resolve(),
    removeAll: (guestId) => slow(() => remove(guestId, [])),
  };
}

export function simImages(machine: SimMachine, slow: Slow): HostImages {
  return {
    ensure: (image) =>
      slow(() => {
        machine.images.add(image.sha512);
        return `images/${image.sha512}`;
      }),
    path: (sha512) => `images/${sha512}`,
    list: () => slow(() => [...machine.images].sort()),
    evict: () => Promise.resolve([]),
  };
}

const refused = (machine: SimMachine, detail: string): VirgaError =>
  new VirgaError('engine', { host: machine.name, detail });

/** The hypervisor as libvirt shows it; refuses what libvirt refuses. */
export function simEngine(machine: SimMachine, time: VirtualTime, slowly: Slow): AgentEngine {
  const slow: Slow = (work) =>
    slowly(() => {
      if (!machine.engineUp) throw new VirgaError('timeout', { what: 'libvirt', seconds: 5 });
      return work();
    });
  const domain = (id: Uuid): SimDomain => {
    const found = machine.domains.get(id);
    if (!found) throw refused(machine, `domain ${id} not found`);
    return found;
  };
  const adopted: AdoptedDomain = { xml: '<domain/>', persistent: false, autostart: false };
  return {
    facts: () =>
      slow(() => ({
        type: 'qemu',
        libvirtVersion: '9.0.0',
        emulatorVersion: '7.2.0',
        arch: 'x86_64',
        kvm: false,
        machines: ['pc-q35-7.2', 'pc-i440fx-7.2'],
        cpuModels: ['qemu64'],
        firmwares: ['bios', 'uefi'],
      })),
    view: () => slow(() => ({ guests: [...machine.domains.values()].map(shown), foreign: [] })),
    create: (spec) =>
      slow(() => {
        if (machine.domains.has(spec.id)) throw refused(machine, `domain ${spec.name} is already active`);
        machine.domains.set(spec.id, {
          spec,
          startedAt: Math.round(epochAt + time.now),
          state: 'running',
          stubborn: false,
        });
        machine.starts.set(spec.id, (machine.starts.get(spec.id) ?? 0) + 1);
        for (const listener of machine.listeners) listener();
      }),
    shutdown: (id) =>
      slow(() => {
        if (!domain(id).stubborn) time.after(800, () => machine.end(id, 'shutdown', time.now));
      }),
    destroy: (id) => slow(() => void machine.end(id, 'destroyed', time.now)),
    pause: (id) => slow(() => void (domain(id).state = 'paused')),
    resume: (id) => slow(() => void (domain(id).state = 'running')),
    setCpus: (id) => slow(() => void domain(id)),
    setMemory: (id) => slow(() => void domain(id)),
    growDisk: (id) => slow(() => void domain(id)),
    snapshotDisk: (id, overlay) =>
      slow(() => {
        domain(id);
        machine.layers.set(overlay, 'frozen');
      }),
    adopt: () => slow(() => adopted),
    inspect: () => slow(() => ({ ...adopted, cpus: 1, memoryMiB: 128, name: 'foreign' })),
    release: (id) => slow(() => void machine.domains.delete(id)),
    console: () => Promise.reject(refused(machine, 'simulated guests have no console')),
    lastExit: (id) => slow(() => machine.exits.get(id)),
    diskSource: () => slow(() => undefined),
    onChange: (listener) => {
      machine.listeners.add(listener);
      return () => machine.listeners.delete(listener);
    },
  };
}

function shown({ spec, startedAt, state }: SimDomain): EngineGuest {
  const { id, name, siteId, generation, epoch, cpus, memoryMiB } = spec;
  return {
    id,
    name,
    siteId,
    generation,
    epoch,
    state,
    startedAt,
    cpus,
    memoryMiB,
    cpuSeconds: 0,
    addresses: [],
    agentConnected: false,
  };
}
