/** The doors of a simulated host's agent: disks, images and the hypervisor, as files and libvirt show them. */
import { VirgaError } from '../core/errors.ts';
import type { AdoptedDomain } from '../core/model/guest.ts';
import type { Uuid } from '../core/model/resource.ts';
import type { EngineGuest } from '../ports.ts';
import type { AgentEngine, Disks, HostImages } from '../agent/ports.ts';
import type { Surroundings } from './surroundings.ts';
import type { SimDomain, SimMachine } from './machine.ts';
import type { Life, Slow } from './process.ts';

export function simDisks(machine: SimMachine, slow: Slow): Disks {
  const path = (guestId: Uuid, file: string): string => `guests/${guestId}/${file}`;
  const remove = (guestId: Uuid, keep: readonly string[]): void => {
    for (const each of machine.layers.keys())
      if (each.startsWith(path(guestId, '')) && !keep.some((file) => each === path(guestId, file)))
        machine.layers.delete(each);
  };
  return {
    path,
    list: async (guestId) =>
      slow(() =>
        [...machine.layers.keys()]
          .filter((each) => each.startsWith(path(guestId, '')))
          .map((each) => each.split('/').at(-1) ?? ''),
      ),
    create: async (guestId, file, backing) => slow(() => void machine.layers.set(path(guestId, file), backing)),
    isOverlay: async (guestId, file, backing) => slow(() => machine.layers.get(path(guestId, file)) === backing),
    virtualBytes: async () => slow(() => 1 << 30),
    grow: async () => slow(() => undefined),
    sweep: async (guestId, keep) => slow(() => remove(guestId, keep)),
    nvram: async (guestId) => slow(() => path(guestId, 'nvram')),
    serialLog: async (guestId) => slow(() => path(guestId, 'serial.log')),
    boundLogs: async () => {},
    removeAll: async (guestId) => slow(() => remove(guestId, [])),
  };
}

export function simImages(machine: SimMachine, slow: Slow): HostImages {
  return {
    ensure: async (image) =>
      slow(() => {
        machine.images.add(image.sha512);
        return `images/${image.sha512}`;
      }),
    path: (sha512) => `images/${sha512}`,
    list: async () => slow(() => [...machine.images].sort()),
    evict: async () => [],
  };
}

const refused = (machine: SimMachine, detail: string): VirgaError =>
  new VirgaError('engine', { host: machine.name, detail });

/** Milliseconds until a call to a guest's monitor is given up. */
const monitorMs = 5000;

/** The hypervisor as libvirt shows it; refuses what libvirt refuses. */
export function simEngine(
  machine: SimMachine,
  life: Life,
  slowly: Slow,
  { random, rules, slowMs }: Surroundings,
): AgentEngine {
  const createMs = 2 * slowMs;
  const slow: Slow = async (work) =>
    slowly(() => {
      if (!machine.engineUp) throw new VirgaError('timeout', { what: 'libvirt', seconds: 5 });
      return work();
    });
  /** The effect comes although the caller dies meanwhile, as long as the machine has power. */
  const begun = async (work: () => void): Promise<void> => {
    const { bootId } = machine;
    return new Promise((done, refuse) => {
      machine.time.after(random.whole(0, createMs), () => {
        if (!machine.powered || machine.bootId !== bootId) return;
        try {
          if (!machine.engineUp) throw new VirgaError('timeout', { what: 'libvirt', seconds: 5 });
          work();
          life.enter(done);
        } catch (error) {
          life.enter(() => refuse(error));
        }
      });
    });
  };
  const domain = (id: Uuid): SimDomain => {
    const found = machine.domains.get(id);
    if (!found) throw refused(machine, `domain ${id} not found`);
    return found;
  };
  const told = (): void => {
    for (const listener of machine.listeners) listener();
  };
  /** Asks the guest's process: while that is frozen the caller waits in vain, and the thaw carries it out all the same. */
  const monitor = async (id: Uuid, work: (found: SimDomain) => void): Promise<void> => {
    const found = domain(id);
    if (!found.frozen) return work(found);
    found.atThaw.push(() => {
      if (machine.domains.get(id) === found) work(found);
    });
    return new Promise((_done, refuse) => {
      life.after(monitorMs, () => refuse(new VirgaError('timeout', { what: 'QEMU', seconds: monitorMs / 1000 })));
    });
  };
  const set = async (id: Uuid, state: SimDomain['state']): Promise<void> =>
    monitor(id, (found) => {
      found.state = state;
      found.changed();
    });
  const adopted: AdoptedDomain = { xml: '<domain/>', persistent: false, autostart: false };
  return {
    facts: async () =>
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
    view: async () => slow(() => ({ guests: [...machine.domains.values()].map(shown), foreign: [] })),
    // libvirtd finishes what it began, whatever becomes of the agent.
    createPaused: async (spec) =>
      begun(() => {
        if (machine.domains.has(spec.id)) throw refused(machine, `domain ${spec.name} is already active`);
        machine.begin(spec, rules.startPaused);
        told();
      }),
    pidOf: async (id) => slow(() => machine.domains.get(id)?.pid),
    shutdown: async (id) =>
      slow(() => {
        const found = domain(id);
        if (!found.stubborn) machine.time.after(800, () => machine.end(id, 'shutdown', found));
      }),
    destroy: async (id) => slow(() => void machine.end(id, 'destroyed')),
    pause: async (id) => slow(() => set(id, 'paused')),
    resume: async (id) => slow(() => set(id, 'running')),
    setCpus: async (id) => slow(() => void domain(id)),
    setMemory: async (id) => slow(() => void domain(id)),
    growDisk: async (id) => slow(() => void domain(id)),
    snapshotDisk: async (id, overlay) =>
      slow(() => {
        domain(id);
        machine.layers.set(overlay, 'frozen');
      }),
    adopt: async () => slow(() => adopted),
    inspect: async () => slow(() => ({ ...adopted, cpus: 1, memoryMiB: 128, name: 'foreign' })),
    release: async (id) => slow(() => void machine.end(id, 'unknown')),
    console: async () => {
      throw refused(machine, 'simulated guests have no console');
    },
    lastExit: async (id) => slow(() => machine.exits.get(id)),
    diskSource: async () => slow(() => undefined),
    onChange: (listener) => {
      machine.listeners.add(listener);
      return () => machine.listeners.delete(listener);
    },
  };
}

function shown({ spec, startedAt, state, group, frozen }: SimDomain): EngineGuest {
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
    ...(group ? { group: group.path } : {}),
    ...(frozen ? { frozen } : {}),
  };
}
