/**
 * Filling a new major version of the embedded server. PostgreSQL cannot open the files of another major, so the content
 * goes over in our own backup format, by COPY.
 */
import { randomBytes } from 'node:crypto';
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { VirgaError } from '../../core/errors.ts';
import type { Log } from '../../ports.ts';
import type { Decryption } from './backup-file.ts';
import { createBackup } from './backup.ts';
import type { PostgresBinaries } from './binaries.ts';
import { Database } from './database.ts';
import { addressOf, type Place, startCluster } from './place.ts';
import { restoreBackup, type RestoreOptions } from './restore.ts';
import { listBackups } from './schedule.ts';

/** Opens scheduled backups that are encrypted. */
export type UpgradeIdentity = Decryption;

/** The old binaries are still here: the old server is read, then the new one filled with exactly that. */
export async function fillFromOld(
  place: Place,
  old: PostgresBinaries,
  next: PostgresBinaries,
  temporary: string,
  log: Log,
): Promise<void> {
  const work = join(place.folder, `upgrade-${randomBytes(4).toString('hex')}`);
  await mkdir(work, { mode: 0o700 });
  const path = join(work, 'content.backup');
  try {
    const oldCluster = join(place.folder, String(old.major));
    const held = await withServer(place, old, oldCluster, log, async (database) => {
      const [found] = await database.query<{ there: boolean }>(`SELECT to_regclass('virga.site') IS NOT NULL AS there`);
      const [site] = found?.there ? await database.query('SELECT 1 FROM virga.site') : [];
      if (!site) return false;
      await createBackup(database, { path, now: Date.now(), secrets: [] });
      return true;
    });
    if (held) await fillNew(place, next, temporary, log, { path, exact: true });
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

/** The old binaries are gone: the newest scheduled backup is all that can be read. It needs a review, and says so. */
export async function fillFromBackup(
  place: Place,
  oldMajor: number,
  next: PostgresBinaries,
  temporary: string,
  backups: { readonly folder: string; readonly identity?: Decryption },
  log: Log,
): Promise<void> {
  const [newest] = (await listBackups(backups.folder)).reverse();
  if (!newest)
    throw new VirgaError('setup', {
      detail: `The database is of PostgreSQL ${oldMajor}, whose programs are gone, and ${backups.folder} holds no backup`,
      how: `Install PostgreSQL ${oldMajor} beside ${next.major} once: then Virga moves its data over by itself.`,
    });
  log.warn('the old PostgreSQL is gone: restoring the newest scheduled backup; changes after it are lost', {
    backup: newest.path,
    madeAt: new Date(newest.madeAt).toISOString(),
    oldMajor,
  });
  await fillNew(place, next, temporary, log, {
    path: newest.path,
    reason: `PostgreSQL ${oldMajor} was replaced by ${next.major}`,
    ...(backups.identity === undefined ? {} : { decryption: backups.identity }),
  });
}

async function fillNew(
  place: Place,
  next: PostgresBinaries,
  temporary: string,
  log: Log,
  how: Pick<RestoreOptions, 'path' | 'exact' | 'decryption' | 'reason'>,
): Promise<void> {
  await withServer(place, next, temporary, log, async (database) => {
    await restoreBackup(database, { ...how, now: Date.now(), who: 'virga' });
  });
}

async function withServer<T>(
  place: Place,
  binaries: PostgresBinaries,
  cluster: string,
  log: Log,
  work: (database: Database) => Promise<T>,
): Promise<T> {
  const postmaster = await startCluster(place, binaries, cluster);
  const database = new Database(addressOf(place), { log });
  try {
    return await work(database);
  } finally {
    await database.close();
    await postmaster.stop();
  }
}
