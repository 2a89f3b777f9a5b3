/** A simulated machine: what survives its power (disk), what survives its processes (guests, groups), and its faults. */
import { VirgaError } from '../core/errors.ts';
import type { HostSession } from '../core/model/host.ts';
import type { Uuid } from '../core/model/resource.ts';
import type { DomainSpec, Files, GuestExit } from '../ports.ts';
import { KernelGroups, type Group, type GuestProcess } from './groups.ts';
import type { Copy, Laws } from './laws.ts';
import type { MachineTime, Slow } from './process.ts';
import { epochAt, type VirtualTime } from './time.ts';

/** One folder of a disk: path → text. It survives power cuts; it can fill up, hang, be wiped or put back to an old state. */
export class SimDisk {
  readonly files = new Map<string, string>();
  full = false;
  /** Calls that wait for a hung disk; undefined: it does not hang. */
  #hung: (() => void)[] | undefined;
  #old: ReadonlyMap<string, string> | undefined;

  hang(): void {
    this.#hung ??= [];
  }

  unhang(): void {
    const waiting = this.#hung ?? [];
    this.#hung = undefined;
    for (const each of waiting) each();
  }

  wipe(): void {
    this.files.clear();
  }

  /** Takes a copy, which `restore` puts back. */
  keep(): void {
    this.#old = new Map(this.files);
  }

  restore(): void {
    if (!this.#old) return;
    this.files.clear();
    for (const [path, text] of this.#old) this.files.set(path, text);
  }

  /** Does the work now, or once the disk answers again. */
  async #when<T>(work: () => T): Promise<T> {
    const waiting = this.#hung;
    if (!waiting) return work();
    return new Promise((done, refuse) => {
      waiting.push(() => {
        try {
          done(work());
        } catch (error) {
          refuse(error);
        }
      });
    });
  }

  ports(slow: Slow): Files {
    const { files } = this;
    return {
      read: (path) => slow(async () => this.#when(() => files.get(path))),
      write: (path, text) =>
        slow(async () =>
          this.#when(() => {
            if (this.full) throw new VirgaError('disk_full', { path, detail: 'simulated' });
            files.set(path, text);
          }),
        ),
      remove: (path) => slow(async () => this.#when(() => void files.delete(path))),
      list: (folder) =>
        slow(async () =>
          this.#when(() => {
            const below = [...files.keys()].filter((path) => path.startsWith(`${folder}/`));
            return [...new Set(below.map((path) => path.slice(folder.length + 1).split('/')[0] ?? ''))].sort();
          }),
        ),
    };
  }
}

/** One guest's process on one machine. */
export class SimDomain implements GuestProcess, Copy {
  readonly spec: Pick<DomainSpec, 'id' | 'name' | 'siteId' | 'generation' | 'epoch' | 'cpus' | 'memoryMiB'>;
  readonly pid: number;
  readonly startedAt: number;
  readonly machine: string;
  readonly #host: SimMachine;
  state: 'running' | 'paused';
  /** It ignores the power button. */
  stubborn = false;
  undying = false;
  group: Group | undefined;
  /** Calls to its monitor that wait for the thaw. */
  readonly atThaw: (() => void)[] = [];

  constructor(host: SimMachine, spec: SimDomain['spec'], pid: number, paused: boolean, now: number) {
    this.#host = host;
    this.machine = host.name;
    this.spec = spec;
    this.pid = pid;
    this.startedAt = Math.round(epochAt + now);
    this.state = paused ? 'paused' : 'running';
  }

  get guestId(): Uuid {
    return this.spec.id;
  }

  get name(): string {
    return this.spec.name;
  }

  get frozen(): boolean {
    return this.group !== undefined && this.#host.groups.frozen(this.group);
  }

  changed(): void {
    if (!this.frozen) for (const each of this.atThaw.splice(0)) each();
    if (this.state === 'running' && !this.frozen) this.#host.laws.runs(this);
    else this.#host.laws.rests(this, this.frozen ? 'froze' : 'paused');
  }

  killed(): void {
    this.#host.end(this.spec.id, 'destroyed', this);
  }
}

/** Everything of a host that outlives its agent. */
export class SimMachine {
  readonly name: string;
  readonly id: Uuid;
  readonly time: VirtualTime;
  readonly clock: MachineTime;
  readonly laws: Laws;
  /** The agent's files, and the keeper's. Durable. */
  readonly disk = new SimDisk();
  readonly keeperDisk = new SimDisk();
  /** Durable: path → backing path. */
  readonly layers = new Map<string, string>();
  /** Durable: digests in the image cache. */
  readonly images = new Set<string>();
  /** Gone with the power: domains, groups, and what lies in /run. */
  readonly domains = new Map<Uuid, SimDomain>();
  readonly exits = new Map<Uuid, GuestExit>();
  readonly run = new Map<string, string>();
  groups: KernelGroups;
  bootId: Uuid = '';
  /** Started guests by id, over its whole life: for properties. */
  readonly starts = new Map<Uuid, number>();
  readonly listeners = new Set<(exit?: GuestExit) => void>();
  /** Agents that want to know when session or lease of this machine changed. */
  readonly keeperListeners = new Set<() => void>();
  powered = false;
  /** libvirtd answers. */
  engineUp = true;
  sessionNumber = 0;
  sessionId: Uuid = '';
  /** Processes of ours that ran on it so far. */
  lives = 0;
  #pids = 100;
  readonly #note: (text: string) => void;
  readonly #apart: boolean;

  constructor(
    name: string,
    id: Uuid,
    world: { readonly time: VirtualTime; readonly clock: MachineTime; readonly laws: Laws },
    note: (text: string) => void,
    apart = true,
  ) {
    this.name = name;
    this.id = id;
    this.time = world.time;
    this.clock = world.clock;
    this.laws = world.laws;
    this.#note = note;
    this.#apart = apart;
    this.groups = new KernelGroups(id, note, apart);
  }

  /** Takes over what another machine's disks have. */
  become(other: Pick<SimMachine, 'disk' | 'keeperDisk' | 'layers' | 'images' | 'sessionNumber'>): void {
    for (const [path, text] of other.disk.files) this.disk.files.set(path, text);
    for (const [path, text] of other.keeperDisk.files) this.keeperDisk.files.set(path, text);
    for (const [path, backing] of other.layers) this.layers.set(path, backing);
    for (const each of other.images) this.images.add(each);
    this.sessionNumber = other.sessionNumber;
  }

  /** The session that an agent without a keeper lives in. */
  get session(): HostSession {
    return { number: this.sessionNumber, id: this.sessionId };
  }

  begin(spec: SimDomain['spec'], paused: boolean): SimDomain {
    this.#pids += 1;
    const domain = new SimDomain(this, spec, this.#pids, paused, this.time.now);
    this.domains.set(spec.id, domain);
    this.starts.set(spec.id, (this.starts.get(spec.id) ?? 0) + 1);
    domain.changed();
    return domain;
  }

  byPid(pid: number): SimDomain | undefined {
    for (const each of this.domains.values()) if (each.pid === pid) return each;
    return undefined;
  }

  /** Ends a guest; its agent is told if it listens. */
  end(id: Uuid, reason: GuestExit['reason'], only?: SimDomain): boolean {
    const domain = this.domains.get(id);
    if (!domain || (only && domain !== only)) return false;
    this.domains.delete(id);
    domain.group?.members.delete(domain);
    this.laws.rests(domain, 'ended');
    const exit: GuestExit = { id, reason, exitAt: Math.round(epochAt + this.time.now) };
    this.exits.set(id, exit);
    for (const listener of this.listeners) listener(exit);
    return true;
  }

  powerOff(): void {
    this.powered = false;
    for (const domain of this.domains.values()) this.laws.rests(domain, 'ended');
    this.domains.clear();
    this.exits.clear();
    this.run.clear();
    this.groups = new KernelGroups(this.id, this.#note, this.#apart);
  }
}
