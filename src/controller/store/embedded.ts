/**
 * A private PostgreSQL server for one site: from the distribution's binaries, under its own system user, reachable only
 * over a unix socket, supervised by this process.
 */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { VirgaError } from '../../core/errors.ts';
import type { Log } from '../../ports.ts';
import { findBinaries, oldestMajor, type PostgresBinaries } from './binaries.ts';
import { createCluster, existingClusters, removeUnfinished } from './cluster.ts';
import type { DatabaseAddress } from './database.ts';
import { type ExclusiveLock, lockExclusively } from './exclusive.ts';
import { addressOf, type Place, type PlaceOptions, resolvePlace, startCluster } from './place.ts';
import type { Postmaster } from './postmaster.ts';
import { fillFromBackup, fillFromOld, type UpgradeIdentity } from './upgrade.ts';

export interface EmbeddedOptions extends PlaceOptions {
  readonly log: Log;
  /** What may be used, newest first; by default what is installed. */
  readonly binaries?: readonly PostgresBinaries[];
  /** Where scheduled backups are: they fill a new major version when the old one's binaries are gone. `backups/` below the data folder by default. */
  readonly backups?: string;
  /** Opens an encrypted backup for that; without one only plain backups can be used. */
  readonly identity?: UpgradeIdentity;
}

const lockWaitMs = 3000;
const firstPauseMs = 100;
const longestPauseMs = 10_000;
/** A server that ran this long is healthy: its next end is a new story. */
const healthyMs = 60_000;

export class EmbeddedPostgres {
  readonly #place: Place;
  readonly #binaries: PostgresBinaries;
  readonly #cluster: string;
  readonly #lock: ExclusiveLock;
  readonly #log: Log;
  readonly #stopping = new AbortController();
  #postmaster: Postmaster;
  #supervision: Promise<void>;

  private constructor(
    place: Place,
    binaries: PostgresBinaries,
    cluster: string,
    lock: ExclusiveLock,
    log: Log,
    postmaster: Postmaster,
  ) {
    this.#place = place;
    this.#binaries = binaries;
    this.#cluster = cluster;
    this.#lock = lock;
    this.#log = log;
    this.#postmaster = postmaster;
    this.#supervision = this.#supervise();
  }

  /**
   * Makes the cluster where there is none, fills a new major version from the old one, starts the server.
   * @throws VirgaError setup: no binaries, no user, another Virga on the same data, or a server that does not start.
   */
  static async start(options: EmbeddedOptions): Promise<EmbeddedPostgres> {
    const place = await resolvePlace(options);
    const refusal = new VirgaError('setup', {
      detail: `Another Virga runs on ${options.data}`,
      how: 'Stop it first (virga down), or use another data folder.',
    });
    const lock = await lockExclusively(join(place.folder, 'lock'), refusal, lockWaitMs);
    try {
      await removeUnfinished(place.folder);
      const binaries = await chooseBinaries(options, place);
      const cluster = join(place.folder, String(binaries.major));
      const postmaster = await startCluster(place, binaries, cluster);
      return new EmbeddedPostgres(place, binaries, cluster, lock, options.log, postmaster);
    } catch (error) {
      place.log.close();
      await rm(place.socketFolder, { recursive: true, force: true });
      await lock.release();
      throw error;
    }
  }

  get address(): DatabaseAddress {
    return addressOf(this.#place);
  }

  /** The server process of this moment; another one after it died. */
  get pid(): number {
    return this.#postmaster.pid;
  }

  get major(): number {
    return this.#binaries.major;
  }

  /** Stops the server and frees the data folder. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#postmaster.stop();
    await this.#supervision;
    this.#place.log.close();
    await rm(this.#place.socketFolder, { recursive: true, force: true });
    await this.#lock.release();
  }

  /** Starts the server again whenever it ends by itself, with a growing pause. */
  async #supervise(): Promise<void> {
    const { signal } = this.#stopping;
    let pauseMs = firstPauseMs;
    while (!signal.aborted) {
      const since = performance.now();
      const end = await this.#postmaster.ended;
      if (signal.aborted) return;
      if (performance.now() - since > healthyMs) pauseMs = firstPauseMs;
      this.#log.error('the embedded PostgreSQL ended by itself and is started again', { end, pauseMs });
      await sleep(pauseMs, undefined, { signal }).catch(() => undefined);
      pauseMs = Math.min(longestPauseMs, pauseMs * 2);
      if (!signal.aborted) await this.#startAgain();
    }
  }

  async #startAgain(): Promise<void> {
    try {
      const next = await startCluster(this.#place, this.#binaries, this.#cluster);
      this.#postmaster = next;
      // `stop` may have come while it started, and have stopped only its predecessor.
      if (this.#stopping.signal.aborted) await next.stop();
    } catch (error) {
      // The old one has ended, so the supervision comes here again after the pause.
      this.#log.error('the embedded PostgreSQL could not be started', { error: String(error) });
    }
  }
}

/**
 * The binaries to run, after their cluster was made if it is missing. The cluster of the highest major holds the truth;
 * an older one beside it is what an upgrade left for safety.
 */
async function chooseBinaries(options: EmbeddedOptions, place: Place): Promise<PostgresBinaries> {
  const usable = options.binaries ?? (await findBinaries());
  const newest = usable[0];
  if (!newest)
    throw new VirgaError('setup', {
      detail: `There is no PostgreSQL ${oldestMajor} or newer on this machine`,
      how: 'Install the package "postgresql" (RHEL family: "postgresql-server"), or set DATABASE_URL.',
    });
  const [current] = await existingClusters(place.folder);
  if (current === newest.major) return newest;
  if (current === undefined) {
    await createCluster(place.folder, newest, place.account);
    return newest;
  }
  if (current > newest.major)
    throw new VirgaError('setup', {
      detail: `The database in ${place.folder} is of PostgreSQL ${current}, and only ${newest.major} is installed`,
      how: `Install PostgreSQL ${current} again.`,
    });
  const old = usable.find(({ major }) => major === current);
  options.log.info('filling a new major version of the embedded PostgreSQL', { from: current, to: newest.major });
  await createCluster(place.folder, newest, place.account, async (temporary) => {
    if (old) await fillFromOld(place, old, newest, temporary, options.log);
    else await fillFromBackup(place, current, newest, temporary, backupsOf(options), options.log);
  });
  return newest;
}

function backupsOf(options: EmbeddedOptions): { readonly folder: string; readonly identity?: UpgradeIdentity } {
  const folder = options.backups ?? join(options.data, 'backups');
  return { folder, ...(options.identity === undefined ? {} : { identity: options.identity }) };
}
