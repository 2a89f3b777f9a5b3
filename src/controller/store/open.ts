/** The site's database, opened: the one of DATABASE_URL, or an embedded server of our own. */
import { Database, type DatabaseOptions } from './database.ts';
import { EmbeddedPostgres, type EmbeddedOptions } from './embedded.ts';
import { PgStore, type PgStoreOptions } from './store.ts';

export interface OpenOptions extends EmbeddedOptions, PgStoreOptions {
  /** A server as libpq describes it; absent: the embedded one. */
  readonly databaseUrl?: string;
  readonly limits?: Omit<DatabaseOptions, 'log'>;
}

export interface OpenDatabase {
  readonly database: Database;
  /** Absent with `databaseUrl`. */
  readonly embedded?: EmbeddedPostgres;
  close(): Promise<void>;
}

/** The server without a look at its schema: what a restore needs. Throws VirgaError setup. */
export async function openDatabase(
  options: EmbeddedOptions & Pick<OpenOptions, 'databaseUrl' | 'limits'>,
): Promise<OpenDatabase> {
  const limits = { ...options.limits, log: options.log };
  if (options.databaseUrl !== undefined) {
    const database = new Database({ url: options.databaseUrl }, limits);
    return { database, close: async () => database.close() };
  }
  const embedded = await EmbeddedPostgres.start(options);
  const database = new Database(embedded.address, limits);
  return {
    database,
    embedded,
    close: async () => {
      await database.close();
      await embedded.stop();
    },
  };
}

/** The store, with its schema brought up to date. Throws VirgaError setup, store_newer, store_unavailable. */
export async function openStore(options: OpenOptions): Promise<OpenDatabase & { readonly store: PgStore }> {
  const opened = await openDatabase(options);
  try {
    return { ...opened, store: await PgStore.open(opened.database, options) };
  } catch (error) {
    await opened.close();
    throw error;
  }
}
