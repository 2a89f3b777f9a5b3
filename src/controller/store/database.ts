/** Connections to one PostgreSQL server: the embedded one or any other. Every wait here has an end. */
import { type ClientConfig, DatabaseError, Pool, type PoolClient, TypeOverrides } from 'pg';
import { VirgaError } from '../../core/errors.ts';
import type { Log } from '../../ports.ts';

/** Where the database is: a URL as libpq has it, or the embedded server's socket. */
export type DatabaseAddress =
  | { readonly url: string }
  | { readonly socketFolder: string; readonly user: string; readonly database: string };

export interface DatabaseOptions {
  readonly log: Log;
  /** Most connections at once; 6 by default. */
  readonly maxConnections?: number;
  /** Milliseconds to connect; 1,000 by default, so that a dead server is noticed. */
  readonly connectMs?: number;
  /** Milliseconds for one statement; 20,000 by default. */
  readonly statementMs?: number;
  /** Milliseconds to wait for a lock; 10,000 by default. */
  readonly lockMs?: number;
}

/** A client inside a transaction. Values are always parameters, never part of the text. */
export interface Transaction {
  query<Row extends object>(text: string, values?: readonly unknown[]): Promise<readonly Row[]>;
  /** For what the query interface does not do (COPY). */
  readonly client: PoolClient;
}

/**
 * A statement that takes longer than this (milliseconds) raises the question whether the server is alive; a server that
 * does not answer that within `quickMs` is given up. So a dead one is noticed within a second, and a long statement may
 * take its time.
 */
const doubtMs = 300;
const quickMs = 600;
/** Milliseconds between two such questions about one statement. */
const doubtEveryMs = 1000;

/** Beyond the server's own limit, for an answer that never comes because the connection is dead. */
const answerSlackMs = 5000;

// Our 64-bit columns hold milliseconds, epochs and counters: all far below 2^53.
const int8 = 20;
const types = new TypeOverrides();
types.setTypeParser(int8, Number);

/** An acknowledged commit must be on disk, whatever the server's default says; a stricter one stays. */
const durable =
  "SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off'";

export class Database {
  readonly #pool: Pool;
  /** One connection for what must be answered at once, whatever the others wait for. */
  readonly #quickPool: Pool;
  /** A question whether the server is alive; shared by all that doubt it at the moment. */
  #question: Promise<boolean> | undefined;

  constructor(address: DatabaseAddress, options: DatabaseOptions) {
    const statementMs = options.statementMs ?? 20_000;
    const shared = {
      ...connectionOf(address),
      application_name: 'virga',
      keepAlive: true,
      keepAliveInitialDelayMillis: 1000,
      types,
    };
    this.#pool = new Pool({
      ...shared,
      max: options.maxConnections ?? 6,
      connectionTimeoutMillis: options.connectMs ?? 1000,
      statement_timeout: statementMs,
      query_timeout: statementMs + answerSlackMs,
      lock_timeout: options.lockMs ?? 10_000,
      idle_in_transaction_session_timeout: statementMs + answerSlackMs,
    });
    this.#quickPool = new Pool({
      ...shared,
      max: 1,
      // It is kept: to connect anew takes longer than to ask.
      idleTimeoutMillis: 0,
      connectionTimeoutMillis: quickMs,
      statement_timeout: quickMs,
      query_timeout: quickMs,
    });
    for (const pool of [this.#pool, this.#quickPool])
      // An idle connection that dies is replaced at the next use; without a listener it would end the process.
      pool.on('error', (error) => options.log.warn('lost an idle database connection', { error: error.message }));
  }

  /** For small questions that must be answered at once: rejects within about a second. */
  readonly quick: Pick<Transaction, 'query'> = {
    query: async <Row extends object>(text: string, values: readonly unknown[] = []) =>
      this.#with(async (client) => (await client.query<Row>(text, [...values])).rows, this.#quickPool),
  };

  /** One statement on its own. */
  async query<Row extends object>(text: string, values: readonly unknown[] = []): Promise<readonly Row[]> {
    return this.#with(async (client) => (await client.query<Row>(text, [...values])).rows);
  }

  /**
   * Does `work` in one transaction and commits it; an exception rolls it back.
   * @param mode words after BEGIN, e.g. `ISOLATION LEVEL REPEATABLE READ READ ONLY`.
   */
  async transaction<T>(work: (transaction: Transaction) => Promise<T>, mode = ''): Promise<T> {
    return this.#with(async (client) => {
      await client.query(`BEGIN ${mode}; ${durable}`);
      try {
        const result = await work({
          client,
          query: async <Row extends object>(text: string, values: readonly unknown[] = []) =>
            (await client.query<Row>(text, [...values])).rows,
        });
        await client.query('COMMIT');
        return result;
      } catch (error) {
        // On a dead connection this fails too, and the server rolls back by itself.
        await client.query('ROLLBACK').catch(() => undefined);
        throw error;
      }
    });
  }

  async close(): Promise<void> {
    await Promise.all([this.#pool.end(), this.#quickPool.end()]);
  }

  /** Whether the server answers at once. */
  async #alive(): Promise<boolean> {
    this.#question ??= this.quick
      .query('SELECT 1')
      .then(
        () => true,
        () => false,
      )
      .finally(() => {
        this.#question = undefined;
      });
    return this.#question;
  }

  /** While a statement takes long, asks whether the server is alive; cuts the connection when it is not. */
  #doubt(client: PoolClient): () => void {
    let timer: NodeJS.Timeout;
    let over = false;
    const ask = async (): Promise<void> => {
      const alive = await this.#alive();
      if (over) return;
      if (alive) timer = setTimeout(() => void ask(), doubtEveryMs);
      else cut(client);
    };
    timer = setTimeout(() => void ask(), doubtMs);
    return () => {
      over = true;
      clearTimeout(timer);
    };
  }

  async #with<T>(work: (client: PoolClient) => Promise<T>, pool: Pool = this.#pool): Promise<T> {
    let client: PoolClient;
    try {
      client = await pool.connect();
    } catch (error) {
      throw unavailable(error);
    }
    let broken = false;
    const onError = (): void => {
      broken = true;
    };
    client.on('error', onError);
    const sure = pool === this.#pool ? this.#doubt(client) : undefined;
    try {
      return await work(client);
    } catch (error) {
      const known = storeError(error);
      // A connection that failed in such a way may still be busy with the lost statement: it is never used again.
      broken ||= known instanceof VirgaError && known.code === 'store_unavailable';
      throw known;
    } finally {
      sure?.();
      client.removeListener('error', onError);
      client.release(broken);
    }
  }
}

/** Ends a connection whose other end does not answer: a polite end would wait for it. */
function cut(client: PoolClient): void {
  const { connection } = client as unknown as { connection: { stream: { destroy(error: Error): void } } };
  connection.stream.destroy(new Error('Connection terminated: the server does not answer'));
}

function connectionOf(address: DatabaseAddress): ClientConfig {
  if (!('url' in address)) return { host: address.socketFolder, user: address.user, database: address.database };
  if (!/^postgres(ql)?:\/\//.test(address.url))
    throw new VirgaError('setup', { detail: 'DATABASE_URL is no URL of a PostgreSQL server', how: urlHint });
  const mode = /[?&]sslmode=([^&]*)/.exec(address.url)?.[1];
  if (mode === 'prefer' || mode === 'allow')
    throw new VirgaError('setup', {
      detail: `sslmode=${mode} in DATABASE_URL promises nothing: whoever is in between can switch TLS off`,
      how: 'Say verify-full (with sslrootcert), require, or disable.',
    });
  if (mode === undefined && !staysHere(address.url))
    throw new VirgaError('setup', {
      detail: 'DATABASE_URL names a server on another machine and does not say how the connection is protected',
      how: 'Say sslmode=verify-full&sslrootcert=FILE (or sslmode=disable, where nobody else is on that network).',
    });
  // The driver reads sslmode, sslrootcert, sslcert and sslkey; this asks it for the meaning that libpq gives them.
  const compatible = mode === undefined ? '' : '&uselibpqcompat=true';
  return { connectionString: `${address.url}${compatible}` };
}

/** Over the loopback or a unix socket nobody listens in. */
function staysHere(text: string): boolean {
  let url: URL;
  try {
    url = new URL(text);
  } catch (error) {
    throw new VirgaError('setup', { detail: 'DATABASE_URL cannot be read', how: urlHint }, { cause: error });
  }
  // As libpq has it, a parameter `host` wins over the one in the address; a path is the folder of a socket.
  const host = (url.searchParams.get('host') ?? decodeURIComponent(url.hostname)).replace(/^\[|\]$/g, '');
  return host === '' || host.startsWith('/') || host === 'localhost' || host === '::1' || /^127(\.\d+){3}$/.test(host);
}

const urlHint = 'It looks like postgresql://user:password@server:5432/database?sslmode=verify-full';

/**
 * SQLSTATE classes and codes that mean "not now": connection (08), resources (53), operator (57), I/O (58), a lock or
 * statement that took too long, a serialization failure, a read-only standby.
 */
const transient = /^(08|53|57|58|40|F0)|^(55P03|25006|25P03|3D000|28)/;

/** What a person can act on, from what the driver threw. Mistakes of ours (a wrong statement) stay as they are. */
export function storeError(error: unknown): unknown {
  if (error instanceof VirgaError || error instanceof TypeError || error instanceof RangeError) return error;
  if (!(error instanceof Error)) return error;
  if (error instanceof DatabaseError && !transient.test(error.code ?? '')) return error;
  const code = 'code' in error && typeof error.code === 'string' ? error.code : '';
  const lost = error instanceof DatabaseError || connectionCodes.has(code) || connectionWords.test(error.message);
  return lost ? unavailable(error) : error;
}

function unavailable(error: unknown): VirgaError {
  const detail = error instanceof Error && error.message !== '' ? error.message : String(error);
  return new VirgaError('store_unavailable', { detail }, { cause: error });
}

const connectionCodes = new Set(['ECONNRESET', 'ECONNREFUSED', 'ECONNABORTED', 'EPIPE', 'ETIMEDOUT', 'ENOTCONN']);

/** The driver's own errors about connections carry no code. */
const connectionWords =
  /^(Connection terminated|Query read timeout|timeout exceeded|Client (has|was)|Cannot use a pool)/;
