/** PostgreSQL as the distribution installed it. */
import { execFile } from 'node:child_process';
import { access, constants, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

export interface PostgresBinaries {
  readonly major: number;
  /** Folder that holds `postgres` and `initdb`. */
  readonly folder: string;
}

const execute = promisify(execFile);

/** Our statements are PostgreSQL 15's dialect; 13 is the oldest on which all of them exist. */
export const oldestMajor = 13;

/** Folders whose children are versions: Debian's, that of PostgreSQL's own RPMs. Then RHEL's own and a self-built one. */
const parents = ['/usr/lib/postgresql', '/usr'];
const single = ['/usr/bin', '/usr/libexec/postgresql', '/usr/local/pgsql/bin'];

/** Everything usable on this machine, newest first. */
export async function findBinaries(): Promise<readonly PostgresBinaries[]> {
  const folders = [...single];
  for (const parent of parents) {
    const children = await readdir(parent).catch(() => []);
    const versions = children.filter((child) => (parent === '/usr' ? /^pgsql-\d+$/ : /^\d+$/).test(child));
    folders.push(...versions.map((version) => join(parent, version, 'bin')));
  }
  const found: PostgresBinaries[] = [];
  for (const folder of folders) {
    const major = await majorIn(folder);
    if (major !== undefined && major >= oldestMajor) found.push({ major, folder });
  }
  return found.sort((a, b) => b.major - a.major);
}

async function majorIn(folder: string): Promise<number | undefined> {
  try {
    await access(join(folder, 'initdb'), constants.X_OK);
    const { stdout } = await execute(join(folder, 'postgres'), ['--version'], { timeout: 10_000 });
    const match = /\(PostgreSQL\) (\d+)/.exec(stdout);
    return match ? Number(match[1]) : undefined;
  } catch {
    return undefined;
  }
}
