import { execute } from './command.ts';
import type { Family } from './system.ts';

/** What a machine is to do: decides which packages it needs. */
/** `tests`: what only the tests use. */
export type Purpose = 'controller' | 'agent' | 'testbed' | 'tests';

export interface Requirement {
  /** Debian's package. */
  readonly package: string;
  /** What it is needed for, in words for the person who is asked. */
  readonly why: string;
  readonly purposes: readonly Purpose[];
  /** The same on systems of the RHEL family; undefined where the base system has it. */
  readonly rhel?: string;
  /** An installed package of such a name will do as well. */
  readonly instead?: RegExp;
  /** Only on these architectures (Node's names). */
  readonly arch?: readonly string[];
}

/** All that Virga takes from the distribution beyond a minimal system. */
export const requirements: readonly Requirement[] = [
  {
    package: 'postgresql',
    why: 'the database behind the controller (a private server; no cluster of the distribution is used)',
    purposes: ['controller'],
    rhel: 'postgresql-server',
    instead: /^postgresql-\d+$/,
  },
  { package: 'procps', why: 'ps, for the tests', purposes: ['tests'], rhel: 'procps-ng' },
  { package: 'tmux', why: 'terminals for the tests', purposes: ['tests'], rhel: 'tmux' },
  {
    package: 'fence-agents',
    why: 'power fencing with the programs of the distribution, for the tests',
    purposes: ['tests'],
    rhel: 'fence-agents-all',
  },
  { package: 'libvirt-daemon-system', why: 'runs the guests', purposes: ['agent', 'testbed'], rhel: 'libvirt' },
  {
    package: 'libvirt-clients',
    why: 'virsh, to look at the same guests without Virga',
    purposes: ['agent', 'testbed'],
    rhel: 'libvirt-client',
  },
  {
    package: 'qemu-system-x86',
    why: 'the machine that a guest is',
    purposes: ['agent', 'testbed'],
    rhel: 'qemu-kvm',
    arch: ['x64'],
  },
  {
    package: 'qemu-system-arm',
    why: 'the machine that a guest is',
    purposes: ['agent', 'testbed'],
    rhel: 'qemu-kvm',
    arch: ['arm64'],
  },
  { package: 'ovmf', why: 'UEFI firmware for guests', purposes: ['agent'], rhel: 'edk2-ovmf', arch: ['x64'] },
  {
    package: 'qemu-efi-aarch64',
    why: 'UEFI firmware for guests',
    purposes: ['agent'],
    rhel: 'edk2-aarch64',
    arch: ['arm64'],
  },
  {
    package: 'qemu-utils',
    why: 'qemu-img, which checks and converts images',
    purposes: ['controller', 'agent', 'testbed'],
    rhel: 'qemu-img',
  },
  {
    package: 'bubblewrap',
    why: 'locks qemu-img up while it reads an image of a stranger',
    purposes: ['controller', 'agent'],
    rhel: 'bubblewrap',
  },
  {
    package: 'xorriso',
    why: 'writes the disk that tells a guest its name and address',
    purposes: ['agent', 'testbed'],
    rhel: 'xorriso',
  },
  { package: 'nftables', why: 'packet filter for guests’ networks', purposes: ['agent', 'testbed'], rhel: 'nftables' },
  { package: 'iptables', why: 'what libvirt uses for NAT networks', purposes: ['agent'], rhel: 'iptables-nft' },
  { package: 'dnsmasq-base', why: 'addresses and names on NAT networks', purposes: ['agent'], rhel: 'dnsmasq' },
  { package: 'iproute2', why: 'bridges and links', purposes: ['agent', 'testbed'], rhel: 'iproute' },
  { package: 'kmod', why: 'order of the tiny guest’s kernel modules', purposes: ['testbed'], rhel: 'kmod' },
  { package: 'e2fsprogs', why: 'the tiny guest’s data partition', purposes: ['testbed'], rhel: 'e2fsprogs' },
  { package: 'mtools', why: 'the tiny guest’s boot partition', purposes: ['testbed'], rhel: 'mtools' },
  { package: 'syslinux', why: 'the tiny guest’s boot loader', purposes: ['testbed'], rhel: 'syslinux', arch: ['x64'] },
  {
    package: 'syslinux-common',
    why: 'the tiny guest’s boot sector',
    purposes: ['testbed'],
    rhel: 'syslinux-nonlinux',
    arch: ['x64'],
  },
];

/** What these purposes need on this architecture. */
export function required(purposes: readonly Purpose[], arch: string = process.arch): Requirement[] {
  return requirements.filter(
    (entry) => entry.purposes.some((purpose) => purposes.includes(purpose)) && (entry.arch?.includes(arch) ?? true),
  );
}

/** Which of the requirements are not met by a set of installed packages. */
export function unmet(needed: readonly Requirement[], installed: ReadonlySet<string>): Requirement[] {
  const names = [...installed];
  return needed.filter((entry) => {
    if (installed.has(entry.package)) return false;
    const { instead } = entry;
    return instead === undefined || !names.some((name) => instead.test(name));
  });
}

/** Names of the packages that dpkg holds installed and configured (without architecture). */
export async function installedPackages(): Promise<Set<string>> {
  const format = '${db:Status-Status} ${Package}\n';
  const result = await execute(['dpkg-query', '-W', '-f', format]);
  const lines = result.stdout.split('\n').filter((line) => line.startsWith('installed '));
  return new Set(lines.map((line) => line.slice('installed '.length)));
}

/** What is missing here for these purposes (Debian family). */
export async function missing(purposes: readonly Purpose[]): Promise<Requirement[]> {
  return unmet(required(purposes), await installedPackages());
}

/** What a person can do where Virga does not install: names of packages for their system. */
export function byHand(family: Family, needed: readonly Requirement[]): string {
  if (family === 'rhel') {
    const names = new Set(needed.map((entry) => entry.rhel).filter((name) => name !== undefined));
    return `install them by hand: dnf install ${[...names].join(' ')}`;
  }
  const names = needed.map((entry) => entry.package);
  if (family === 'debian') return `install them by hand: apt-get install --no-install-recommends ${names.join(' ')}`;
  return `install by hand what your system calls these (names of Debian): ${names.join(' ')}`;
}
