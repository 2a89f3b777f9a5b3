/** A PostgreSQL data folder of our own: made whole or not at all, with settings that we write at every start. */
import { randomBytes } from 'node:crypto';
import { chmod, chown, mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { VirgaError } from '../../core/errors.ts';
import { type Account, runAs } from './account.ts';
import type { PostgresBinaries } from './binaries.ts';

/** Written as postgresql.conf. No TCP, nothing lost at a power cut, modest memory for a site of thousands of guests. */
const settings = `# Written by Virga at every start; changes are lost.
listen_addresses = ''
unix_socket_permissions = 0700
max_connections = 20
shared_buffers = 64MB
work_mem = 8MB
maintenance_work_mem = 64MB
dynamic_shared_memory_type = posix
fsync = on
full_page_writes = on
synchronous_commit = on
wal_level = minimal
max_wal_senders = 0
max_wal_size = 512MB
min_wal_size = 64MB
checkpoint_timeout = 5min
jit = off
autovacuum_max_workers = 2
max_parallel_workers_per_gather = 0
log_destination = 'stderr'
logging_collector = off
log_line_prefix = '%m [%p] '
log_min_messages = warning
# The text of a failed statement may hold what is nobody's business.
log_min_error_statement = panic
timezone = 'UTC'
log_timezone = 'UTC'
lc_messages = 'C'
`;

/** Only over the socket, only our own account and root, as the kernel says who they are. */
const access = 'local all virga peer map=virga\n';
const accounts = (account: Account): string => `virga root virga\nvirga ${account.name} virga\n`;

const initMs = 120_000;

/** Makes the folder that holds the clusters, and checks that the account can get there. */
export async function prepareFolder(folder: string, account: Account): Promise<void> {
  await mkdir(folder, { recursive: true, mode: 0o700 });
  if ((await stat(folder)).uid !== account.uid) await chown(folder, account.uid, account.gid);
  await chmod(folder, 0o700);
  await runAs(account, ['test', '-w', folder], 10_000).catch((error: unknown) => {
    throw new VirgaError(
      'setup',
      {
        detail: `The user ${account.name} cannot reach ${folder}`,
        how: 'Give every folder on the way at least the permission to be passed through (chmod o+x).',
      },
      { cause: error },
    );
  });
}

/** Majors of the clusters in the folder, newest first. */
export async function existingClusters(folder: string): Promise<readonly number[]> {
  const names = await readdir(folder);
  return names
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .sort((a, b) => b - a);
}

const unfinished = /^\d+\.new-[0-9a-f]+$/;

/** Removes what a killed start left unfinished. */
export async function removeUnfinished(folder: string): Promise<void> {
  for (const name of await readdir(folder)) {
    if (unfinished.test(name)) await rm(join(folder, name), { recursive: true, force: true });
  }
}

/**
 * Makes a new cluster under a temporary name, lets `fill` work on it, then gives it its real name: so a cluster with a
 * real name is always complete.
 */
export async function createCluster(
  folder: string,
  binaries: PostgresBinaries,
  account: Account,
  fill: (temporary: string) => Promise<void> = async () => {},
): Promise<string> {
  const final = join(folder, String(binaries.major));
  const temporary = `${final}.new-${randomBytes(4).toString('hex')}`;
  try {
    const initdb = join(binaries.folder, 'initdb');
    await runAs(
      account,
      // prettier-ignore
      [initdb, '-D', temporary, '-U', 'virga', '--auth=peer', '--encoding=UTF8', '--locale=C', '--data-checksums'],
      initMs,
    );
    await fill(temporary);
    await rename(temporary, final);
  } catch (error) {
    await rm(temporary, { recursive: true, force: true });
    throw error;
  }
  await sync(folder);
  return final;
}

/** Writes our settings into a cluster; nothing else is in force, whatever a person or another version wrote there. */
export async function configure(cluster: string, account: Account): Promise<void> {
  const files = {
    'postgresql.conf': settings,
    'postgresql.auto.conf': '',
    'pg_hba.conf': access,
    'pg_ident.conf': accounts(account),
  };
  for (const [name, text] of Object.entries(files)) {
    const path = join(cluster, name);
    const handle = await open(`${path}.new`, 'w', 0o600);
    try {
      await handle.writeFile(text);
      await handle.chown(account.uid, account.gid);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(`${path}.new`, path);
  }
  await sync(cluster);
}

async function sync(folder: string): Promise<void> {
  const handle = await open(folder, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
