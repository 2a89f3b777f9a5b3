/** Backups on a schedule and on request. The authority's keys go along only when the file is encrypted. */
import { createReadStream } from 'node:fs';
import { mkdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Body } from '../api/routes.ts';
import { VirgaError } from '../core/errors.ts';
import type { Clock, Ids, Log } from '../ports.ts';
import { authorityFiles } from './ca.ts';
import type { BackupStream } from './http/services.ts';
import { createBackup, type SecretFile } from './store/backup.ts';
import type { Encryption } from './store/backup-file.ts';
import type { Database } from './store/database.ts';
import { BackupSchedule, type ScheduleOutcome } from './store/schedule.ts';

export interface BackupSettings {
  /** `backups/` below the data folder by default. */
  readonly folder?: string;
  /** Milliseconds; a day by default. */
  readonly intervalMs?: number;
  /** Files kept; 14 by default. */
  readonly keep?: number;
  readonly encryption?: Encryption;
}

export interface BackupWorld {
  readonly clock: Clock;
  readonly ids: Ids;
  readonly log: Log;
}

const dayMs = 24 * 3600 * 1000;
const keptBackups = 14;
/** Looks at the clock at least this often: it may have been set. */
const longestPauseMs = 3600 * 1000;
/** Backups on request at one moment. */
const maxStreams = 2;

export class Backups {
  readonly #database: Database;
  readonly #dataDir: string;
  readonly #world: BackupWorld;
  readonly #settings: BackupSettings;
  #streams = 0;

  constructor(database: Database, dataDir: string, world: BackupWorld, settings: BackupSettings = {}) {
    this.#database = database;
    this.#dataDir = dataDir;
    this.#world = world;
    this.#settings = settings;
  }

  /** Makes backups as they fall due, until aborted. Never rejects. */
  async run(signal: AbortSignal): Promise<void> {
    const { folder, intervalMs, keep, encryption } = this.#settings;
    const schedule = new BackupSchedule(this.#database, {
      folder: folder ?? join(this.#dataDir, 'backups'),
      intervalMs: intervalMs ?? dayMs,
      keep: keep ?? keptBackups,
      ...(encryption ? { encryption } : {}),
      secrets: async () => this.#secrets(),
      report: (outcome) => this.#report(outcome),
    });
    while (!signal.aborted) {
      const next = await schedule.iterate(this.#world.clock.now());
      const ms = Math.min(Math.max(next - this.#world.clock.now(), 1000), longestPauseMs);
      await this.#world.clock.sleep(ms, signal).catch(() => undefined);
    }
  }

  /**
   * One backup now; its file goes when the stream has ended.
   * @throws VirgaError invalid_request · backup · overloaded · store_unavailable
   */
  async stream({ recipients = [], passphrase }: Body<'site.backup'>): Promise<BackupStream> {
    if (recipients.length > 0 && passphrase !== undefined)
      throw new VirgaError('invalid_request', { detail: 'give recipients or a passphrase, not both' });
    if (this.#streams >= maxStreams) throw new VirgaError('overloaded', { what: 'backups', limit: maxStreams });
    const folder = join(this.#dataDir, 'download');
    await mkdir(folder, { recursive: true, mode: 0o700 });
    const path = join(folder, this.#world.ids.uuid());
    this.#streams += 1;
    const done = (): void => {
      this.#streams -= 1;
      rm(path, { force: true }).catch((error: unknown) =>
        this.#world.log.warn('a backup file is left behind', { path, error: String(error) }),
      );
    };
    try {
      const now = this.#world.clock.now();
      const chosen = passphrase === undefined ? { recipients } : { passphrase };
      const made = await createBackup(this.#database, {
        path,
        now,
        secrets: await this.#secrets(),
        ...(passphrase === undefined && recipients.length === 0 ? {} : { encryption: chosen }),
      });
      const stream = createReadStream(path).once('close', done);
      const stamp = new Date(now).toISOString().replaceAll(/[-:.]/g, '');
      const fileName = `${made.siteName}-${stamp}.backup${made.encrypted ? '.age' : ''}`;
      return { stream, sizeBytes: made.bytes, fileName, secretsLeftOut: made.secretsLeftOut };
    } catch (error) {
      done();
      throw error;
    }
  }

  /** Removes what a killed controller left of backups on request. */
  async sweep(): Promise<void> {
    await rm(join(this.#dataDir, 'download'), { recursive: true, force: true });
  }

  #report(outcome: ScheduleOutcome): void {
    if (outcome.ok)
      this.#world.log.info('made a backup', { path: outcome.backup.path, leftOut: outcome.backup.secretsLeftOut });
    else
      this.#world.log.error('the scheduled backup failed', { detail: outcome.error.message, hint: outcome.error.hint });
  }

  async #secrets(): Promise<readonly SecretFile[]> {
    return Promise.all(
      [authorityFiles.certificate, authorityFiles.key].map(async (path) => ({
        name: path.slice(authorityFiles.folder.length + 1),
        bytes: new Uint8Array(await readFile(join(this.#dataDir, path))),
      })),
    );
  }
}
