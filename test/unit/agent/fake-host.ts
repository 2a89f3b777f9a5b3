/**
 * A host made of data, behind the same ports as a real one: virtual time, a disk that may fail at any write, an engine
 * that keeps domains. It survives the agent (a new loop on the same host is an agent that was restarted).
 */
import { VirgaError } from '../../../src/core/errors.ts';
import type { AssignedNetwork, Assignment, GuestOrder, HostReport } from '../../../src/core/model/assignment.ts';
import type { AgentIdentity, AgentPorts } from '../../../src/agent/ports.ts';
import { AgentLoop } from '../../../src/agent/loop.ts';
import type { AdoptedDomain, ExitReason } from '../../../src/core/model/guest.ts';
import type { DomainSpec, EngineGuest, GuestExit } from '../../../src/ports.ts';
import { FakeKeeper } from './fake-keeper.ts';

export const siteId = '00000000-0000-4000-8000-00000000000a';
export const hostId = '00000000-0000-4000-8000-00000000000b';
export const image = 'a'.repeat(128);
export const networkId = '00000000-0000-4000-8000-00000000000c';
export const idOf = (index: number): string => `00000000-0000-4000-8000-0000000001${String(index).padStart(2, '0')}`;

export function order(index: number, change: Partial<GuestOrder> = {}): GuestOrder {
  return {
    id: idOf(index),
    name: `g${index}`,
    generation: 1,
    epoch: 1,
    owner: 'local:root',
    community: 'site',
    want: 'keep',
    power: 'on',
    paused: false,
    held: false,
    image: { sha512: image },
    cpus: 1,
    maxCpus: 4,
    memoryMiB: 128,
    maxMemoryMiB: 512,
    diskMiB: 100,
    diskMode: 'keep',
    nics: [{ networkId, mac: '52:54:00:00:00:01' }],
    sshKeys: [],
    restart: 'on-failure',
    graceSeconds: 10,
    startSeq: 0,
    rebootSeq: 0,
    rebuildSeq: 0,
    snapshots: [],
    machine: { arch: 'x86_64', type: 'pc-q35-7.2', firmware: 'bios', cpuModel: 'qemu64' },
    ...change,
  };
}

const network: AssignedNetwork = {
  id: networkId,
  name: 'lan',
  mode: 'bridge',
  bridge: 'br0',
  dns: { servers: [], search: [] },
};

export function assignment(
  generation: number,
  guests: readonly GuestOrder[],
  change: Partial<Assignment> = {},
): Assignment {
  const images = [{ id: networkId, name: 'tiny', sha512: image, sizeBytes: 1, virtualBytes: 1 }];
  return {
    siteId,
    hostId,
    generation,
    epoch: 1,
    destroyNothing: false,
    guests,
    networks: [network],
    images,
    ...change,
  };
}

/** Thrown where the agent dies: nothing after it happens. */
export class Killed extends Error {}

interface Domain {
  spec: DomainSpec;
  state: EngineGuest['state'];
  startedAt: number;
  cpus: number;
  memoryMiB: number;
  /** Path that is written to. */
  active: string;
}

export class FakeHost {
  now = 1_000_000;
  readonly files = new Map<string, string>();
  /** Layers by path, with what each stands on. */
  readonly disks = new Map<string, string>();
  readonly domains = new Map<string, Domain>();
  readonly images = new Set<string>([image]);
  readonly foreign = new Map<string, AdoptedDomain>();
  readonly done: string[] = [];
  /** What guests do when asked politely to stop. */
  polite: 'obey' | 'ignore' = 'obey';
  /** Every step of the world counts this down; at 0 the agent dies. */
  stepsLeft = Number.POSITIVE_INFINITY;
  refuse: ((what: string, id: string) => string | undefined) | undefined;
  engineAway = false;
  report: HostReport | undefined;
  boot = 1;
  readonly keeper = new FakeKeeper(hostId, (id) => this.end(id, 'crashed'));
  /** What must never happen, as it happened. */
  readonly wrong: string[] = [];
  #listeners = new Set<(exit?: GuestExit) => void>();
  #life = 0;

  /** The ports of one life of the agent; a later life's death does not touch an earlier one's. */
  ports(): AgentPorts {
    this.#life += 1;
    const life = this.#life;
    const step = async (what: string, id = ''): Promise<void> => {
      await Promise.resolve();
      if (life !== this.#life) throw new Killed();
      this.stepsLeft -= 1;
      if (this.stepsLeft < 0) throw new Killed();
      const refusal = this.refuse?.(what, id);
      if (refusal !== undefined) throw new VirgaError('engine', { host: 'fake', detail: refusal });
    };
    const act = async (what: string, id: string): Promise<void> => {
      await step(what, id);
      if (this.engineAway) throw new VirgaError('timeout', { what: 'libvirt', seconds: 1 });
      this.done.push(`${what} ${id.slice(-2)}`);
      const asksProcess = ['shutdown', 'destroy', 'pause', 'resume', 'cpus', 'memory', 'grow', 'snapshot'];
      if (asksProcess.includes(what) && this.keeper.inside.has(id) && this.keeper.frozen)
        this.wrong.push(`${what} was asked of the frozen ${id.slice(-2)}, and hangs`);
    };
    const noLog = { debug() {}, info() {}, warn() {}, error() {}, child: () => noLog };
    const diskPath = (id: string, file: string): string => `/data/${id}/${file}`;
    const layersOf = (id: string): string[] =>
      [...this.disks.keys()]
        .filter((path) => path.startsWith(`/data/${id}/`))
        .map((path) => path.split('/').at(-1) ?? '');
    return {
      clock: { now: () => this.now, monotonic: () => this.now, sleep: async () => undefined },
      ids: { uuid: () => idOf(99), secret: () => 'x' },
      log: noLog,
      link: {
        connected: () => true,
        report: (report) => {
          this.report = report;
        },
      },
      files: {
        read: async (path) => this.files.get(path),
        write: async (path, text) => {
          await step('write', path);
          this.files.set(path, text);
        },
        remove: async (path) => {
          await step('unlink', path);
          this.files.delete(path);
        },
        list: async (folder) => {
          const names = [...this.files.keys()].filter((path) => path.startsWith(`${folder}/`));
          return [...new Set(names.map((path) => path.slice(folder.length + 1).split('/')[0] ?? ''))].sort();
        },
      },
      disks: {
        path: diskPath,
        list: async (id) => layersOf(id),
        create: async (id, file, backing) => {
          await act('overlay', id);
          const path = diskPath(id, file);
          const used = [...this.domains.values()].some((domain) => domain.active === path);
          if (used) throw new Error(`${path} is in use and would be lost`);
          this.disks.set(path, backing);
        },
        isOverlay: async (id, file, backing) => this.disks.get(diskPath(id, file)) === backing,
        virtualBytes: async () => 64 * 1024 * 1024,
        grow: async (id) => act('grow-offline', id),
        sweep: async (id, keep) => {
          await step('sweep', id);
          for (const file of layersOf(id)) if (!keep.includes(file)) this.disks.delete(diskPath(id, file));
        },
        nvram: async (id) => diskPath(id, 'vars'),
        serialLog: async (id) => diskPath(id, 'serial.log'),
        boundLogs: async () => undefined,
        removeAll: async (id) => {
          await act('delete-files', id);
          if (this.domains.has(id)) throw new Error('the disk of a running guest was deleted');
          for (const file of layersOf(id)) this.disks.delete(diskPath(id, file));
        },
      },
      seeds: {
        write: async (each) => {
          await act('seed', each.id);
          return diskPath(each.id, 'seed.iso');
        },
      },
      images: {
        ensure: async ({ sha512 }) => {
          await step('fetch', sha512);
          this.images.add(sha512);
          return `/images/${sha512}`;
        },
        path: (sha512) => `/images/${sha512}`,
        list: async () => [...this.images],
        evict: async () => [],
      },
      networks: { converge: async (wanted) => new Map(wanted.map((each) => [each.id, undefined])) },
      meter: {
        measure: async () => {
          const nothing = { cpus: 8, memoryMiB: 1, diskMiB: 1 };
          return { measured: nothing, used: { cpuPercent: 0, memoryMiB: 0, diskMiB: 0 }, network: { bridges: [] } };
        },
      },
      keeper: this.keeper.door(act),
      engine: {
        facts: async () => {
          throw new Error('not asked in these tests');
        },
        view: async () => {
          await step('view');
          if (this.engineAway) throw new VirgaError('timeout', { what: 'libvirt', seconds: 1 });
          const guests = [...this.domains].map(([id, domain]) => ({
            id,
            name: domain.spec.name,
            siteId: domain.spec.siteId,
            generation: domain.spec.generation,
            epoch: domain.spec.epoch,
            state: domain.state,
            startedAt: domain.startedAt,
            cpus: domain.cpus,
            memoryMiB: domain.memoryMiB,
            cpuSeconds: 0,
            addresses: [],
            agentConnected: false,
            group: this.keeper.groupOf(id),
            ...(this.keeper.inside.has(id) && this.keeper.frozen ? { frozen: true } : {}),
          }));
          const foreign = [...this.foreign].map(([uuid, { persistent, autostart }]) => {
            return { uuid, name: 'f', running: true, cpus: 1, memoryMiB: 1, persistent, autostart };
          });
          return { guests, foreign };
        },
        createPaused: async (spec) => {
          await act('create', spec.id);
          if (this.domains.has(spec.id))
            throw new VirgaError('engine', { host: 'fake', detail: 'it is already active' });
          const [disk] = spec.disks;
          for (const path of disk ? [disk.path, ...disk.backing.slice(0, -1)] : [])
            if (!this.disks.has(path)) throw new Error(`there is no ${path}`);
          this.domains.set(spec.id, {
            spec,
            state: 'paused',
            startedAt: this.now,
            cpus: spec.cpus,
            memoryMiB: spec.memoryMiB,
            active: disk?.path ?? '',
          });
        },
        shutdown: async (id) => {
          await act('shutdown', id);
          if (this.polite === 'obey') this.end(id, 'shutdown');
        },
        destroy: async (id) => {
          await act('destroy', id);
          this.end(id, 'destroyed');
        },
        pause: async (id) => {
          await act('pause', id);
          this.#set(id, 'paused');
        },
        resume: async (id) => {
          await act('resume', id);
          if (this.keeper.entries.has(id) && !this.keeper.inside.has(id))
            this.wrong.push(`${id.slice(-2)} was resumed outside of its group`);
          this.#set(id, 'running');
        },
        pidOf: async (id) => (this.domains.has(id) ? 1000 + Number(id.slice(-2)) : undefined),
        setCpus: async (id, cpus) => {
          await act('cpus', id);
          const domain = this.domains.get(id);
          if (domain) domain.cpus = cpus;
        },
        setMemory: async (id, memoryMiB) => {
          await act('memory', id);
          const domain = this.domains.get(id);
          if (domain) domain.memoryMiB = memoryMiB;
        },
        growDisk: async (id) => act('grow', id),
        snapshotDisk: async (id, path) => {
          await act('snapshot', id);
          const domain = this.domains.get(id);
          if (!domain) throw new VirgaError('engine', { host: 'fake', detail: 'it does not run' });
          if (this.disks.has(path)) throw new VirgaError('engine', { host: 'fake', detail: 'the file exists' });
          this.disks.set(path, domain.active);
          domain.active = path;
        },
        diskSource: async (id) => this.domains.get(id)?.active,
        adopt: async (id, spec) => {
          await act('adopt', id);
          const adopted = this.foreign.get(id);
          if (!adopted) throw new VirgaError('engine', { host: 'fake', detail: 'there is no such domain' });
          this.foreign.delete(id);
          const whole = { ...order(0), ...spec, id, disks: [], nics: [], serialLogPath: '' };
          const flat = { ...whole, arch: '', machineType: '', firmware: 'bios' as const, cpuModel: '' };
          this.domains.set(id, {
            spec: flat,
            state: 'running',
            startedAt: this.now,
            cpus: 1,
            memoryMiB: 1,
            active: '',
          });
          return adopted;
        },
        inspect: async () => ({ xml: '', persistent: true, autostart: true, cpus: 1, memoryMiB: 1, name: 'f' }),
        release: async (id, adopted) => {
          await act('release', id);
          this.domains.delete(id);
          this.foreign.set(id, adopted);
        },
        console: async () => {
          throw new Error('not asked in these tests');
        },
        lastExit: async () => undefined,
        onChange: (listener) => {
          this.#listeners.add(listener);
          return () => void this.#listeners.delete(listener);
        },
      },
    };
  }

  #set(id: string, state: EngineGuest['state']): void {
    const domain = this.domains.get(id);
    if (domain) domain.state = state;
  }

  /** A domain ends, for whatever reason; those who listen hear of it. */
  end(id: string, reason: ExitReason): void {
    if (!this.domains.delete(id)) return;
    this.keeper.inside.delete(id);
    for (const listener of this.#listeners) listener({ id, reason, exitAt: this.now });
  }

  identity(): AgentIdentity {
    return { hostId, siteId, bootId: `boot-${this.boot}`, agentVersion: '0.0.1' };
  }

  /** A new life of the agent on this host; whatever the last one was doing is over. */
  async agent(): Promise<AgentLoop> {
    this.#listeners.clear();
    const loop = new AgentLoop(this.ports(), this.identity());
    await loop.load();
    return loop;
  }

  /** Iterates until nothing happens any more, at most `rounds` times. Virtual time passes between iterations. */
  async settle(loop: AgentLoop, rounds = 12, msEach = 100): Promise<void> {
    for (let round = 0; round < rounds; round += 1) {
      await loop.iterate();
      await loop.settled();
      this.now += msEach;
    }
    await loop.iterate();
    await loop.settled();
  }

  /** Power cut and boot: no domain is left, and boot and session are new ones. */
  reboot(): void {
    this.domains.clear();
    this.boot += 1;
    this.keeper.endSession();
  }

  guest(index: number): HostReport['guests'][number] | undefined {
    return this.report?.guests.find((guest) => guest.id === idOf(index));
  }
}
