import { readFile, statfs } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { bridgeNames } from './networks.ts';
import type { HostMeter } from './ports.ts';

const MiB = 1024 * 1024;

/** Figures of the machine from /proc, and of the file system that holds the guests' disks. */
export function hostMeter(dataDir: string): HostMeter {
  let last: { readonly busy: number; readonly total: number } | undefined;
  return {
    async measure() {
      const [memory, processor, disk, bridges] = await Promise.all([
        readFile('/proc/meminfo', 'utf8'),
        readFile('/proc/stat', 'utf8'),
        statfs(dataDir),
        bridgeNames(),
      ]);
      const totalKiB = figure(memory, 'MemTotal');
      const now = ticks(processor);
      const elapsed = last ? now.total - last.total : 0;
      const cpuPercent = last && elapsed > 0 ? Math.round(((now.busy - last.busy) / elapsed) * 100) : 0;
      last = now;
      const blocks = (count: number): number => Math.floor((count * disk.bsize) / MiB);
      return {
        measured: {
          cpus: availableParallelism(),
          memoryMiB: Math.floor(totalKiB / 1024),
          diskMiB: blocks(disk.blocks),
        },
        used: {
          cpuPercent,
          memoryMiB: Math.floor((totalKiB - figure(memory, 'MemAvailable')) / 1024),
          diskMiB: blocks(disk.blocks - disk.bavail),
        },
        network: { bridges },
      };
    },
  };
}

/** KiB. */
function figure(meminfo: string, name: string): number {
  return Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(meminfo)?.[1] ?? 0);
}

/** Ticks since boot over all processors: user, nice, system, idle, iowait, irq, softirq, steal. */
function ticks(stat: string): { busy: number; total: number } {
  const values = (/^cpu +(.*)$/m.exec(stat)?.[1] ?? '').split(' ').slice(0, 8).map(Number);
  const total = values.reduce((sum, value) => sum + value, 0);
  return { total, busy: total - (values[3] ?? 0) - (values[4] ?? 0) };
}
