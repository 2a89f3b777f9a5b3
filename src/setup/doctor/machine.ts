import { existsSync, readFileSync } from 'node:fs';
import { arch as nodeArch, availableParallelism, totalmem } from 'node:os';
import { tryKvm } from '../../effects/kvm.ts';
import { operatingSystem } from '../system.ts';
import { quietly } from './command.ts';
import type { Finding } from './finding.ts';

const text = (path: string): string => (existsSync(path) ? readFileSync(path, 'utf8') : '');

export function linuxArch(): string {
  return nodeArch() === 'arm64' ? 'aarch64' : 'x86_64';
}

export function machineFindings(): Finding[] {
  const { name, family: kind } = operatingSystem();
  const memory = Math.round(totalmem() / 2 ** 30);
  return [
    {
      area: 'machine',
      title: 'distribution',
      state: kind === 'other' ? 'warn' : 'ok',
      found: name,
      ...(kind === 'debian'
        ? {}
        : {
            todo: 'Virga installs packages by itself on Debian only; elsewhere install libvirt, QEMU, nftables, bubblewrap, xorriso and PostgreSQL yourself',
          }),
    },
    {
      area: 'machine',
      title: 'processors, memory',
      state: memory < 2 ? 'warn' : 'ok',
      found: `${availableParallelism()} processors, ${memory} GiB`,
    },
    process.getuid?.() === 0
      ? { area: 'machine', title: 'user', state: 'ok', found: 'root' }
      : {
          area: 'machine',
          title: 'user',
          state: 'warn',
          found: 'not root',
          todo: 'run virga doctor as root: some things can only be seen then',
        },
    existsSync('/sys/fs/cgroup/cgroup.controllers') || text('/proc/mounts').includes(' cgroup2 ')
      ? { area: 'machine', title: 'cgroup v2', state: 'ok', found: 'mounted' }
      : {
          area: 'machine',
          title: 'cgroup v2',
          state: 'warn',
          found: 'not mounted',
          todo: 'boot with systemd.unified_cgroup_hierarchy=1, or mount cgroup2',
        },
    ...clockFindings(),
  ];
}

function clockFindings(): Finding[] {
  const source = text('/sys/devices/system/clocksource/clocksource0/current_clocksource').trim();
  if (source === '') return [];
  const steady = ['tsc', 'kvm-clock', 'arch_sys_counter', 'hyperv_clocksource_tsc_page'].includes(source);
  return [
    {
      area: 'machine',
      title: 'clock source',
      state: steady ? 'ok' : 'note',
      found: source,
      ...(steady ? {} : { todo: 'a slow clock source costs guests time; see the kernel log for why tsc was dropped' }),
    },
  ];
}

/** Does a guest really run under KVM here? */
export async function kvmFindings(): Promise<Finding[]> {
  const verdict = await tryKvm(linuxArch());
  const took = verdict.trialMs === undefined ? '' : ` (trial ${(verdict.trialMs / 1000).toFixed(1)} s)`;
  if (verdict.works) return [{ area: 'engine', title: 'KVM', state: 'ok', found: verdict.why + took }];
  return [
    {
      area: 'engine',
      title: 'KVM',
      state: 'warn',
      found: `not used: ${verdict.why}${took}`,
      todo: 'guests run, some ten times slower; switch on VT-x or AMD-V in the firmware, or nested virtualization in the outer hypervisor',
    },
  ];
}

export async function kernelModuleFindings(): Promise<Finding[]> {
  const loaded = text('/proc/modules');
  const has = async (module: string): Promise<boolean> =>
    loaded.includes(`${module} `) ||
    existsSync(`/sys/module/${module}`) ||
    (await quietly('modprobe', ['--dry-run', '--quiet', module])).code === 0;
  const wanted: readonly (readonly [string, string])[] = [
    ['tun', 'guests have no network card without it'],
    ['bridge', 'guests have no network without it'],
    ['vhost_net', 'faster guest networks'],
  ];
  const findings: Finding[] = [];
  for (const [module, why] of wanted) {
    const there = (await has(module)) || (module === 'tun' && existsSync('/dev/net/tun'));
    findings.push({
      area: 'machine',
      title: `kernel: ${module}`,
      state: there ? 'ok' : module === 'vhost_net' ? 'note' : 'warn',
      found: there ? 'there' : 'not found',
      ...(there ? {} : { todo: `modprobe ${module} (${why})` }),
    });
  }
  return findings;
}
