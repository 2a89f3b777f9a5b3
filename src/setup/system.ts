import { existsSync, readFileSync } from 'node:fs';
import { execute, run } from './command.ts';

export type Family = 'debian' | 'rhel' | 'other';

export interface OperatingSystem {
  readonly family: Family;
  /** As the system calls itself, e.g. "Debian GNU/Linux 12 (bookworm)". */
  readonly name: string;
}

/** Reads os-release(5). */
export function operatingSystem(file = '/etc/os-release'): OperatingSystem {
  const text = existsSync(file) ? readFileSync(file, 'utf8') : '';
  const field = (key: string): string => new RegExp(`^${key}="?([^"\n]*)"?$`, 'm').exec(text)?.[1] ?? '';
  const ids = `${field('ID')} ${field('ID_LIKE')}`.split(' ');
  const isOne = (names: readonly string[]): boolean => names.some((name) => ids.includes(name));
  const family = isOne(['debian', 'ubuntu']) ? 'debian' : isOne(['rhel', 'fedora', 'centos']) ? 'rhel' : 'other';
  return { family, name: field('PRETTY_NAME') || 'this system' };
}

/** Name of the system user and group that the database runs under and that may reach the administrator socket. */
export const systemUser = 'virga';

/** Makes the system group and user `virga` where missing (no home made, no login). True when it made one. */
export async function ensureUser(): Promise<boolean> {
  const has = async (database: string): Promise<boolean> =>
    (await execute(['getent', database, systemUser], { timeoutMs: 10_000 })).code === 0;
  let made = false;
  if (!(await has('group'))) {
    await run(['groupadd', '--system', systemUser]);
    made = true;
  }
  if (!(await has('passwd'))) {
    const home = ['--home-dir', '/var/lib/virga', '--no-create-home'];
    await run(['useradd', '--system', '--gid', systemUser, ...home, '--shell', '/usr/sbin/nologin', systemUser]);
    made = true;
  }
  return made;
}
