/** Restoring a backup: all of it in one transaction, so a failure leaves the database as it was. */
import { DatabaseError } from 'pg';
import { VirgaError } from '../../core/errors.ts';
import type { Instant } from '../../core/model/resource.ts';
import { type Decryption, readBackupFile } from './backup-file.ts';
import { backupDamaged, type BackupHeader, BackupReader, newerBackup, type PartStart } from './backup-format.ts';
import { type SecretFile, tableName } from './backup.ts';
import { copyIn } from './copy.ts';
import type { Database, Transaction } from './database.ts';
import { lockSchema, type Migration, migrateWithin, readMigrations } from './migrate.ts';
import { lockSite, record, type SiteRow } from './write.ts';

export interface RestoreOptions {
  readonly path: string;
  readonly now: Instant;
  /** Who restores, for the record. */
  readonly who: string;
  readonly reason?: string;
  readonly decryption?: Decryption;
  /** A database that holds a site is only replaced when a person confirmed it. */
  readonly replace?: boolean;
  /**
   * True only when nothing can have happened since the backup was made (the upgrade of a stopped server): then no review
   * is needed, and nothing moves on.
   */
  readonly exact?: boolean;
  /** Those of this version of Virga by default. */
  readonly migrations?: readonly Migration[];
}

export interface RestoreResult {
  readonly siteId: string;
  readonly siteName: string;
  /** When the backup was made. */
  readonly backupAt: Instant;
  /** Of the backup; the database has the newest now. */
  readonly schema: number;
  readonly resources: number;
  /** The caller puts them where they belong; empty when the backup was not encrypted. */
  readonly secrets: readonly SecretFile[];
  /** True when the database held a site before. */
  readonly replaced: boolean;
}

const maxSecretBytes = 1024 * 1024;

/** Throws VirgaError backup (damaged, wrong key, newer, database not empty) or store_unavailable. */
export async function restoreBackup(database: Database, options: RestoreOptions): Promise<RestoreResult> {
  const migrations = options.migrations ?? (await readMigrations());
  const reader = new BackupReader(readBackupFile(options.path, options.decryption));
  try {
    const header = await reader.header();
    if (header.schema > migrations.length) throw newerBackup(`schema ${header.schema}`);
    return await database.transaction(async (transaction) => {
      await transaction.client.query("SET LOCAL statement_timeout = '30min'");
      await transaction.client.query("SET LOCAL idle_in_transaction_session_timeout = '30min'");
      await lockSchema(transaction);
      const before = await clear(transaction, options);
      await migrateWithin(transaction, migrations, header.schema);
      const secrets = await readParts(transaction, reader);
      await migrateWithin(transaction, migrations);
      const site = await moveOn(transaction, header, before, options);
      const [count] = await transaction.query<{ count: number }>('SELECT count(*) AS count FROM virga.resource');
      return {
        siteId: site.id,
        siteName: site.name,
        backupAt: header.createdAt,
        schema: header.schema,
        resources: count?.count ?? 0,
        secrets,
        replaced: before !== undefined,
      };
    });
  } finally {
    await reader.close();
  }
}

/** Empties the database; returns the site that was there. */
async function clear(transaction: Transaction, options: RestoreOptions): Promise<SiteRow | undefined> {
  const [found] = await transaction.query<{ there: boolean }>(`SELECT to_regclass('virga.site') IS NOT NULL AS there`);
  const before = found?.there ? await lockSite(transaction) : undefined;
  if (before && options.replace !== true)
    throw new VirgaError('backup', {
      detail: `The database holds the site "${before.name}"`,
      how: 'To replace it by the backup, confirm with --replace.',
    });
  await transaction.query('DROP SCHEMA IF EXISTS virga CASCADE');
  return before;
}

async function readParts(transaction: Transaction, reader: BackupReader): Promise<readonly SecretFile[]> {
  const secrets: SecretFile[] = [];
  for (let part = await reader.next(); part; part = await reader.next()) {
    const [type, name = ''] = part.name.split(':', 2);
    if (type === 'table') await readTable(transaction, name, part, reader);
    else if (type === 'key') secrets.push({ name: secretName(name), bytes: await readSecret(reader) });
    else throw newerBackup(`part ${part.name}`);
  }
  return secrets;
}

async function readTable(
  transaction: Transaction,
  table: string,
  part: PartStart,
  reader: BackupReader,
): Promise<void> {
  const target = tableName(table, part.columns ?? []);
  try {
    await copyIn(transaction.client, `COPY ${target} FROM STDIN`, reader.content());
  } catch (error) {
    // Classes 22, 23 and 42: the rows do not fit the table. Anything else is about the server.
    if (error instanceof DatabaseError && /^(22|23|42)/.test(error.code ?? ''))
      throw backupDamaged(`table ${table}: ${error.message}`, error);
    throw error;
  }
}

function secretName(name: string): string {
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]{0,100}$/.test(name)) throw backupDamaged('a key has an impossible name');
  return name;
}

async function readSecret(reader: BackupReader): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of reader.content()) {
    bytes += chunk.length;
    if (bytes > maxSecretBytes) throw backupDamaged('a key is too large');
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

/** Added to what the backup says, besides the milliseconds since it was made. */
const leap = 1_000_000;

/**
 * Between the backup and now the site lived on, and nobody knows how far: hosts have seen higher epochs, watches higher
 * revisions. Both go on above anything that can have been given in the meantime (fewer than a thousand a second), so no
 * host takes the restored controller for an old one and every watch lists again.
 */
async function moveOn(
  transaction: Transaction,
  header: BackupHeader,
  before: SiteRow | undefined,
  options: RestoreOptions,
): Promise<SiteRow> {
  const site = await lockSite(transaction);
  if (!site || site.id !== header.site.id) throw backupDamaged('it does not hold the site that its header names');
  if (options.exact) return site;
  const elapsed = leap + Math.max(0, options.now - header.createdAt);
  const above = (saved: number, found: number | undefined): number => Math.max(saved + elapsed, (found ?? 0) + 1);
  const revision = above(site.revision, before?.revision);
  const [event] = await record(
    transaction,
    [restored(site, header, options)],
    above(site.event_seq, before?.event_seq),
  );
  await transaction.query(
    `UPDATE virga.site SET epoch = $1, epoch_id = '', leader_id = NULL, authority_pin = NULL, revision = $2, oldest_tombstone = $2, event_seq = $3,
            review_restored_at = $4, review_backup_at = $5`,
    [above(site.epoch, before?.epoch), revision, event?.seq, options.now, header.createdAt],
  );
  await transaction.query('DELETE FROM virga.tombstone');
  return site;
}

function restored(site: SiteRow, header: BackupHeader, options: RestoreOptions): Parameters<typeof record>[1][number] {
  return {
    eventAt: options.now,
    type: 'site.restored',
    severity: 'warning',
    subject: { kind: 'site', id: site.id, name: site.name },
    message: `restored from a backup of ${new Date(header.createdAt).toISOString()}; nothing is destroyed until review`,
    who: options.who,
    ...(options.reason === undefined ? {} : { reason: options.reason }),
  };
}
