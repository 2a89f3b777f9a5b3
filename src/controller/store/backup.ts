/** Making a backup: one consistent view of the database, by COPY, in one file. */
import { VirgaError } from '../../core/errors.ts';
import type { Instant } from '../../core/model/resource.ts';
import { type Encryption, writeBackupFile, type WrittenFile } from './backup-file.ts';
import { type BackupHeader, type OutgoingPart, writeFormat } from './backup-format.ts';
import { copyOut } from './copy.ts';
import type { Database, Transaction } from './database.ts';

/** A secret that belongs to the site but not to the database, such as the key of its CA. */
export interface SecretFile {
  /** Letters, digits, dot, hyphen, underscore. */
  readonly name: string;
  readonly bytes: Uint8Array;
}

export interface BackupOptions {
  /** Must not exist. */
  readonly path: string;
  readonly now: Instant;
  /** Only taken into an encrypted backup. */
  readonly secrets: readonly SecretFile[];
  readonly encryption?: Encryption;
}

export interface BackupResult extends WrittenFile {
  readonly createdAt: Instant;
  readonly siteId: string;
  readonly siteName: string;
  readonly schema: number;
  readonly resources: number;
  readonly events: number;
  readonly encrypted: boolean;
  /** Names of the secrets that are in it. */
  readonly secrets: readonly string[];
  /** Names of the secrets that were left out because the backup is not encrypted. The caller must say so. */
  readonly secretsLeftOut: readonly string[];
}

/** Server-side limit for one table, in place of the one for short statements. */
const copyLimit = "SET LOCAL statement_timeout = '30min'; SET LOCAL idle_in_transaction_session_timeout = '30min'";

/** Throws VirgaError backup (the file cannot be written) or store_unavailable. */
export async function createBackup(database: Database, options: BackupOptions): Promise<BackupResult> {
  const secrets = options.encryption ? options.secrets : [];
  return database.transaction(async (transaction) => {
    await transaction.client.query(copyLimit);
    const facts = await siteToSave(transaction);
    const tables = await tablesToSave(transaction);
    const header: BackupHeader = {
      schema: facts.schema,
      site: { id: facts.id, name: facts.name },
      createdAt: options.now,
      contents: [...tables.map(({ name }) => `table:${name}`), ...secrets.map(({ name }) => `key:${name}`)],
    };
    const parts = partsToSave(transaction, tables, secrets);
    const file = await writeBackupFile(options.path, writeFormat(header, parts), options.encryption);
    return {
      ...file,
      createdAt: options.now,
      siteId: facts.id,
      siteName: facts.name,
      schema: facts.schema,
      resources: facts.resources,
      events: facts.events,
      encrypted: options.encryption !== undefined,
      secrets: secrets.map(({ name }) => name),
      secretsLeftOut: options.encryption ? [] : options.secrets.map(({ name }) => name),
    };
  }, 'ISOLATION LEVEL REPEATABLE READ READ ONLY');
}

interface SiteToSave {
  readonly id: string;
  readonly name: string;
  readonly schema: number;
  readonly resources: number;
  readonly events: number;
}

async function siteToSave(transaction: Transaction): Promise<SiteToSave> {
  const [row] = await transaction.query<SiteToSave>(
    `SELECT id, name, (SELECT max(version) FROM virga.migration) AS schema,
            (SELECT count(*) FROM virga.resource) AS resources, (SELECT count(*) FROM virga.event) AS events
       FROM virga.site`,
  );
  if (!row) throw new VirgaError('backup', { detail: 'The database holds no site', how: 'Start the site first.' });
  return row;
}

interface TableToSave {
  readonly name: string;
  readonly columns: readonly string[];
}

async function tablesToSave(transaction: Transaction): Promise<readonly TableToSave[]> {
  const rows = await transaction.query<{ name: string; columns: string }>(
    `SELECT c.table_name AS name, json_agg(c.column_name ORDER BY c.ordinal_position)::text AS columns
       FROM information_schema.columns c
       JOIN information_schema.tables t USING (table_schema, table_name)
      WHERE c.table_schema = 'virga' AND t.table_type = 'BASE TABLE' AND c.table_name <> 'migration'
        AND c.is_generated = 'NEVER'
      GROUP BY c.table_name ORDER BY c.table_name`,
  );
  return rows.map(({ name, columns }) => ({ name, columns: JSON.parse(columns) as string[] }));
}

async function* partsToSave(
  transaction: Transaction,
  tables: readonly TableToSave[],
  secrets: readonly SecretFile[],
): AsyncGenerator<OutgoingPart> {
  for (const { name, columns } of tables) {
    const content = copyOut(transaction.client, `COPY ${tableName(name, columns)} TO STDOUT`);
    yield { name: `table:${name}`, columns, content };
  }
  for (const { name, bytes } of secrets) yield { name: `key:${name}`, content: [bytes] };
}

const identifier = /^[a-z][a-z0-9_]{0,62}$/;

/** `virga.table (columns)` for COPY, which takes no parameters: so every word is checked. */
export function tableName(table: string, columns: readonly string[]): string {
  for (const word of [table, ...columns]) {
    if (!identifier.test(word))
      throw new VirgaError('backup', { detail: `"${word}" is no name of a table or column`, how: 'Use another file.' });
  }
  return `virga."${table}" (${columns.map((column) => `"${column}"`).join(', ')})`;
}
