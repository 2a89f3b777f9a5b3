/**
 * The processes of libvirt's QEMU guests, and how the kernel holds them. libvirt's API gives no process id; its file is
 * where its own restart finds the guest again (qemu_process.c), so it lasts, and it is believed only where the process
 * under that id carries the guest's id on its command line. Files of /proc and of cgroup v2 never wait for a disk, so
 * they are read at once: a promise for each would cost more than the reading.
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Uuid } from '../core/model/resource.ts';

export interface ProcessSettings {
  /** Folder of libvirt's process files; `/run/libvirt/qemu` by default. */
  readonly runDir?: string;
  /** Root of the cgroup v2 tree; by default where the distribution has it, also beside version 1. */
  readonly cgroups?: string;
}

export interface ProcessSight {
  readonly group?: string;
  readonly frozen?: boolean;
  readonly cpuSeconds?: number;
}

interface Known {
  readonly domainId: number;
  readonly pid: number;
}

export class GuestProcesses {
  readonly #runDir: string;
  readonly #cgroups: string;
  readonly #known = new Map<Uuid, Known>();

  constructor(settings: ProcessSettings = {}) {
    this.#runDir = settings.runDir ?? '/run/libvirt/qemu';
    const unified = '/sys/fs/cgroup/unified';
    this.#cgroups = settings.cgroups ?? (existsSync(join(unified, 'cgroup.procs')) ? unified : '/sys/fs/cgroup');
  }

  /** `undefined`: there is no such process (any more). */
  pidOf(id: Uuid, name: string): number | undefined {
    const pid = Number(read(join(this.#runDir, `${name}.pid`))?.trim());
    if (!Number.isSafeInteger(pid) || pid <= 1) return undefined;
    // `-uuid ID`, each with a zero behind it.
    return read(`/proc/${pid}/cmdline`)?.includes(`\0${id}\0`) ? pid : undefined;
  }

  /** What the kernel says of a running guest's process. `domainId`: libvirt's number of this run of it. */
  sight(id: Uuid, name: string, domainId: number): ProcessSight {
    let known = this.#known.get(id);
    if (known?.domainId !== domainId) {
      const pid = this.pidOf(id, name);
      if (pid === undefined) return {};
      known = { domainId, pid };
      this.#known.set(id, known);
    }
    // `0::/path`: the line of version 2, also where version 1 is mounted beside it (cgroups(7)).
    const group = /^0::(.*)$/m.exec(read(`/proc/${known.pid}/cgroup`) ?? '')?.[1];
    if (group === undefined) return {};
    const sight = { group, cpuSeconds: cpuSeconds(known.pid) };
    if (!group.includes('/virga/')) return sight;
    const events = read(join(this.#cgroups, group, 'cgroup.events')) ?? '';
    return { ...sight, ...(/^frozen 1$/m.test(events) ? { frozen: true } : {}) };
  }

  /** Forgets guests that do not run any more. */
  keep(present: ReadonlySet<Uuid>): void {
    for (const id of this.#known.keys()) if (!present.has(id)) this.#known.delete(id);
  }
}

/** USER_HZ, which Linux shows to programs on every architecture of ours (time(7)). */
const ticksPerSecond = 100;

/** User and system time, all threads (proc_pid_stat(5), fields 14 and 15, behind the name in brackets). */
function cpuSeconds(pid: number): number {
  const stat = read(`/proc/${pid}/stat`) ?? '';
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11] ?? 0) + Number(fields[12] ?? 0)) / ticksPerSecond;
}

/** `undefined`: it is not there; of a process that is about to end also "no such process". */
function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}
