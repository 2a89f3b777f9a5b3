/** Brings the schema forward: plain SQL files, each once, in one transaction, one controller at a time. */
import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { VirgaError } from '../../core/errors.ts';
import type { Database, Transaction } from './database.ts';

export interface Migration {
  readonly version: number;
  readonly name: string;
  readonly sql: string;
  /** SHA-256 (hex) of the file. */
  readonly sha256: string;
}

/** The folder of the migrations that belong to this version of Virga. */
export const migrationsFolder = join(import.meta.dirname, 'migrations');

/** Any number that nobody else uses: PostgreSQL's advisory locks are numbers. */
const lockNumber = 0x56_49_52_47;

const filePattern = /^(\d{3})-([a-z0-9-]+)\.sql$/;

/** Reads `NNN-name.sql` files; they must be numbered 1, 2, 3 … without a gap. */
export async function readMigrations(folder: string = migrationsFolder): Promise<readonly Migration[]> {
  const files = (await readdir(folder)).filter((file) => file.endsWith('.sql')).sort();
  const migrations: Migration[] = [];
  for (const file of files) {
    const match = filePattern.exec(file);
    const sql = await readFile(join(folder, file), 'utf8');
    const version = Number(match?.[1]);
    if (version !== migrations.length + 1)
      throw new TypeError(`${join(folder, file)}: migrations are NNN-name.sql, numbered without a gap`);
    migrations.push({
      version,
      name: match?.[2] ?? '',
      sql,
      sha256: createHash('sha256').update(sql).digest('hex'),
    });
  }
  return migrations;
}

/**
 * Applies what is missing.
 * @param upTo the highest version to apply; all by default.
 * @returns the versions that were applied now.
 * @throws VirgaError store_newer: the database is from a newer Virga · setup: an applied migration was changed.
 */
export async function migrate(
  database: Database,
  migrations: readonly Migration[],
  upTo: number = migrations.length,
): Promise<readonly number[]> {
  const applied: number[] = [];
  for (const migration of migrations.slice(0, upTo)) {
    const done = await database.transaction(async (transaction) => {
      await lockSchema(transaction);
      return migrateWithin(transaction, migrations, migration.version);
    });
    applied.push(...done);
  }
  return applied;
}

/** Waits until no other controller changes the schema; held until the end of the transaction. */
export async function lockSchema(transaction: Transaction): Promise<void> {
  await transaction.query('SELECT pg_advisory_xact_lock($1)', [lockNumber]);
}

/** The same within a transaction that holds the schema lock. */
export async function migrateWithin(
  transaction: Transaction,
  migrations: readonly Migration[],
  upTo: number = migrations.length,
): Promise<readonly number[]> {
  const known = await appliedVersions(transaction);
  checkApplied(known, migrations);
  const applied: number[] = [];
  for (const { version, name, sql, sha256 } of migrations.slice(known.length, upTo)) {
    await transaction.client.query(sql);
    await transaction.query('INSERT INTO virga.migration (version, name, sha256) VALUES ($1, $2, $3)', [
      version,
      name,
      sha256,
    ]);
    applied.push(version);
  }
  return applied;
}

interface Applied {
  readonly version: number;
  readonly name: string;
  readonly sha256: string;
}

async function appliedVersions(transaction: Transaction): Promise<readonly Applied[]> {
  await transaction.query('CREATE SCHEMA IF NOT EXISTS virga');
  await transaction.query(
    `CREATE TABLE IF NOT EXISTS virga.migration (
       version integer PRIMARY KEY,
       name text NOT NULL,
       sha256 text NOT NULL,
       applied_at timestamptz NOT NULL DEFAULT now()
     )`,
  );
  return transaction.query<Applied>('SELECT version, name, sha256 FROM virga.migration ORDER BY version');
}

function checkApplied(applied: readonly Applied[], migrations: readonly Migration[]): void {
  const newest = applied.at(-1)?.version ?? 0;
  if (newest > migrations.length) throw new VirgaError('store_newer', { actual: newest, known: migrations.length });
  for (const [index, { version, name, sha256 }] of applied.entries()) {
    const ours = migrations[index];
    if (ours?.version === version && ours.sha256 === sha256) continue;
    throw new VirgaError('setup', {
      detail: `Migration ${version} (${name}) of the database is not the one of this version of Virga`,
      how: 'A migration is never changed once it was applied: use an unchanged release of Virga.',
    });
  }
}
