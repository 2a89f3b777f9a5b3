/** Where an embedded server lives on this machine, and how one is started there. */
import { createHash } from 'node:crypto';
import { chmod, chown, mkdir, realpath } from 'node:fs/promises';
import { join } from 'node:path';
import { Client } from 'pg';
import { VirgaError } from '../../core/errors.ts';
import { type Account, findAccount } from './account.ts';
import type { PostgresBinaries } from './binaries.ts';
import { BoundedLog } from './bounded-log.ts';
import { configure, prepareFolder } from './cluster.ts';
import type { DatabaseAddress } from './database.ts';
import { Postmaster } from './postmaster.ts';

export interface PlaceOptions {
  /** Virga's data folder; the database lives in `postgres/` below. */
  readonly data: string;
  /** System user; `virga` by default. */
  readonly user?: string;
  /** For sockets; `/run/virga` by default: short, because a socket's path may have 107 bytes at most. */
  readonly runFolder?: string;
  /** Milliseconds until the server must accept connections, recovery after a crash included; 120,000 by default. */
  readonly startMs?: number;
}

/** Everything that one server on this machine needs, resolved. */
export interface Place {
  readonly account: Account;
  /** Holds the clusters, one folder per major version. */
  readonly folder: string;
  readonly socketFolder: string;
  readonly log: BoundedLog;
  readonly startMs: number;
}

const databaseName = 'virga';

/** How to reach the place's server. */
export function addressOf(place: Pick<Place, 'socketFolder'>): DatabaseAddress {
  return { socketFolder: place.socketFolder, user: 'virga', database: databaseName };
}

/** Starts the server of one cluster and makes sure that it has our database. */
export async function startCluster(place: Place, binaries: PostgresBinaries, cluster: string): Promise<Postmaster> {
  await makeSocketFolder(place);
  await configure(cluster, place.account);
  const postmaster = await Postmaster.start({ ...place, binaries, folder: cluster });
  try {
    await ensureDatabase(place);
    return postmaster;
  } catch (error) {
    await postmaster.stop();
    throw error;
  }
}

/** Finds the account, prepares the folders' names, checks that the account can work there. */
export async function resolvePlace(options: PlaceOptions): Promise<Place> {
  const account = await findAccount(options.user ?? 'virga');
  const folder = join(options.data, 'postgres');
  await prepareFolder(folder, account);
  // Two paths to one folder must come to one socket.
  const id = createHash('sha256')
    .update(await realpath(folder))
    .digest('hex')
    .slice(0, 12);
  const socketFolder = join(options.runFolder ?? '/run/virga', id);
  if (Buffer.byteLength(socketFolder) > 80)
    throw new VirgaError('setup', { detail: `${socketFolder} is too long for a socket`, how: 'Use a shorter path.' });
  const log = new BoundedLog(join(folder, 'postgres.log'));
  return { account, folder, socketFolder, log, startMs: options.startMs ?? 120_000 };
}

async function makeSocketFolder({ socketFolder, account }: Place): Promise<void> {
  try {
    // The parent is for everybody's eyes (the API's socket lives there too), the folder only for the account.
    await mkdir(socketFolder, { recursive: true, mode: 0o755 });
    await chmod(socketFolder, 0o700);
    await chown(socketFolder, account.uid, account.gid);
  } catch (error) {
    throw new VirgaError(
      'setup',
      { detail: `Cannot make ${socketFolder} for user ${account.name}`, how: 'Start Virga as root once.' },
      { cause: error },
    );
  }
}

async function ensureDatabase(place: Place): Promise<void> {
  const client = new Client({
    host: place.socketFolder,
    user: 'virga',
    database: 'postgres',
    connectionTimeoutMillis: 10_000,
    query_timeout: 30_000,
  });
  client.on('error', () => undefined);
  await client.connect();
  try {
    const found = await client.query('SELECT 1 FROM pg_database WHERE datname = $1', [databaseName]);
    if (found.rowCount === 0) await client.query(`CREATE DATABASE ${databaseName}`);
  } finally {
    await client.end().catch(() => undefined);
  }
}
