import { existsSync, globSync, readFileSync, statfsSync } from 'node:fs';
import { dirname } from 'node:path';
import { installCommand as install, quietly } from './command.ts';
import type { Finding } from './finding.ts';

const text = (path: string): string => (existsSync(path) ? readFileSync(path, 'utf8').trim() : '');
interface Tool {
  readonly title: string;
  readonly command: string;
  readonly debian: string;
  readonly rhel: string;
  readonly why: string;
}

const tools: readonly Tool[] = [
  { title: 'qemu-img', command: 'qemu-img', debian: 'qemu-utils', rhel: 'qemu-img', why: 'images and overlays' },
  { title: 'nftables', command: 'nft', debian: 'nftables', rhel: 'nftables', why: 'NAT networks' },
  { title: 'iproute2', command: 'ip', debian: 'iproute2', rhel: 'iproute', why: 'networks' },
  { title: 'xorriso', command: 'xorriso', debian: 'xorriso', rhel: 'xorriso', why: 'contextualization (NoCloud)' },
  {
    title: 'bubblewrap',
    command: 'bwrap',
    debian: 'bubblewrap',
    rhel: 'bubblewrap',
    why: 'the sandbox for untrusted images',
  },
  {
    title: 'perl',
    command: 'perl',
    debian: 'perl-base',
    rhel: 'perl-interpreter',
    why: 'the helper that asks who is at the unix socket',
  },
];

export async function toolFindings(): Promise<Finding[]> {
  return Promise.all(
    tools.map(async (tool): Promise<Finding> => {
      const { code } = await quietly(tool.command, ['--version']);
      const there = code !== 127;
      return {
        area: 'site',
        title: tool.title,
        state: there ? 'ok' : 'fail',
        found: there ? 'there' : `missing (${tool.why})`,
        ...(there ? {} : { todo: install(tool.debian, tool.rhel) }),
      };
    }),
  );
}

export function postgresFindings(): Finding[] {
  const found = [
    ...globSync('/usr/lib/postgresql/*/bin/postgres'),
    ...globSync('/usr/pgsql-*/bin/postgres'),
    ...globSync('/usr/bin/postgres'),
  ];
  if (found.length > 0) return [{ area: 'site', title: 'PostgreSQL', state: 'ok', found: found.join(', ') }];
  return [
    {
      area: 'site',
      title: 'PostgreSQL',
      state: 'warn',
      found: 'no server binaries',
      todo: `for a controller on this machine: ${install('postgresql-15', 'postgresql-server')}; or give DATABASE_URL`,
    },
  ];
}

export async function sandboxFindings(): Promise<Finding[]> {
  const { code, out } = await quietly('bwrap', ['--unshare-all', '--ro-bind', '/', '/', 'true']);
  if (code === 127) return [];
  if (code === 0) return [{ area: 'security', title: 'sandbox', state: 'ok', found: 'namespaces work' }];
  return [
    {
      area: 'security',
      title: 'sandbox',
      state: 'fail',
      found: out.trim().split('\n')[0] ?? 'namespaces are refused',
      todo: 'allow user namespaces: sysctl kernel.unprivileged_userns_clone=1 (or user.max_user_namespaces)',
    },
  ];
}

export function confinementFindings(): Finding[] {
  const selinux = text('/sys/fs/selinux/enforce');
  const apparmor = text('/sys/module/apparmor/parameters/enabled');
  const found =
    selinux === '1'
      ? 'SELinux, enforcing'
      : selinux === '0'
        ? 'SELinux, permissive'
        : apparmor === 'Y'
          ? 'AppArmor'
          : 'none';
  return [
    {
      area: 'security',
      title: 'confinement of QEMU (sVirt)',
      state: found === 'none' || found === 'SELinux, permissive' ? 'note' : 'ok',
      found,
      ...(found === 'none'
        ? { todo: 'guests are separated by users and namespaces only; SELinux or AppArmor would add a wall' }
        : {}),
    },
  ];
}

export async function networkFindings(): Promise<Finding[]> {
  const { code, out } = await quietly('ip', ['-json', 'link', 'show', 'type', 'bridge']);
  const bridges =
    code === 0 && out.trim() !== '' ? (JSON.parse(out) as { ifname: string }[]).map((each) => each.ifname) : [];
  const filter = text('/proc/sys/net/bridge/bridge-nf-call-iptables');
  const forwarding = text('/proc/sys/net/ipv4/ip_forward');
  return [
    bridges.length > 0
      ? { area: 'network', title: 'bridges', state: 'ok', found: bridges.join(', ') }
      : {
          area: 'network',
          title: 'bridges',
          state: 'note',
          found: 'none',
          todo: 'use a NAT network (virga network create NAME --mode nat …), or make a bridge over your uplink',
        },
    filter === '1'
      ? {
          area: 'network',
          title: 'bridge-nf-call',
          state: 'warn',
          found: 'bridged frames pass the host’s IP filters',
          todo: 'sysctl net.bridge.bridge-nf-call-iptables=0 net.bridge.bridge-nf-call-ip6tables=0',
        }
      : { area: 'network', title: 'bridge-nf-call', state: 'ok', found: 'off' },
    {
      area: 'network',
      title: 'IPv4 forwarding',
      state: 'note',
      found: forwarding === '1' ? 'on' : 'off (Virga switches it on when a NAT network needs it)',
    },
  ];
}

/** Free space where a folder is or would be. */
export function spaceFindings(folder = '/var/lib/virga'): Finding[] {
  let at = folder;
  while (!existsSync(at)) at = dirname(at);
  const { bavail, bsize } = statfsSync(at);
  const gib = (bavail * bsize) / 2 ** 30;
  return [
    {
      area: 'storage',
      title: `space for ${folder}`,
      state: gib < 2 ? 'fail' : gib < 20 ? 'warn' : 'ok',
      found: `${gib.toFixed(0)} GiB free`,
      ...(gib < 20 ? { todo: 'images and overlays live there: give it a larger file system (--data elsewhere)' } : {}),
    },
  ];
}
