/** From root to the system user, for good: what listens and who owns the data is settled before. */
import { execFile } from 'node:child_process';
import { chown, lchown, lstat, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { VirgaError } from '../core/errors.ts';

const execute = promisify(execFile);

export interface SystemUser {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
}

/** The user as the system knows it; undefined when there is none. */
export async function findUser(name: string): Promise<SystemUser | undefined> {
  const fields = await fieldsOf('passwd', name);
  return fields && { name, uid: Number(fields[2]), gid: Number(fields[3]) };
}

/** The group's number; undefined when there is none. */
export async function findGroup(name: string): Promise<number | undefined> {
  const fields = await fieldsOf('group', name);
  return fields && Number(fields[2]);
}

async function fieldsOf(base: 'passwd' | 'group', name: string): Promise<readonly string[] | undefined> {
  try {
    const { stdout } = await execute('getent', [base, name], { timeout: 10_000 });
    return stdout.trim().split(':');
  } catch (error) {
    // 2: no such key (getent(1)).
    if ((error as { code?: unknown }).code === 2) return undefined;
    throw new VirgaError(
      'setup',
      { detail: `getent ${base} ${name} failed`, how: 'Look at nsswitch.conf.' },
      { cause: error },
    );
  }
}

/** Gives the folder and what is in it to the user; links are not followed, other owners' subfolders are left alone. */
export async function giveTo(folder: string, user: SystemUser): Promise<void> {
  const facts = await lstat(folder);
  if (facts.uid !== 0 && facts.uid !== user.uid) return;
  if (facts.isSymbolicLink()) return;
  // A second name may lie outside: who owns this folder could have made it. A link put here since is not followed.
  if (!facts.isDirectory() && facts.nlink > 1) return;
  if (facts.uid !== user.uid || facts.gid !== user.gid) await lchown(folder, user.uid, user.gid);
  if (!facts.isDirectory()) return;
  for (const name of await readdir(folder)) await giveTo(join(folder, name), user);
}

/** Gives only the folder itself: others keep their sockets and folders in it. */
export async function giveFolder(folder: string, user: SystemUser): Promise<void> {
  const facts = await lstat(folder);
  if (facts.isDirectory() && facts.uid === 0) await chown(folder, user.uid, user.gid);
}

/** Becomes the user and cannot come back. The order matters: groups first, the uid last. */
export function become(user: SystemUser): void {
  if (process.getuid?.() !== 0) return;
  // In Node since 0.9, though its types have forgotten it.
  (process as { initgroups?: (user: string, gid: number) => void }).initgroups?.(user.name, user.gid);
  process.setgid?.(user.gid);
  process.setuid?.(user.uid);
  if (process.getuid?.() !== user.uid || process.geteuid?.() !== user.uid)
    throw new VirgaError('setup', { detail: `This process could not become ${user.name}`, how: 'Start it as root.' });
}
