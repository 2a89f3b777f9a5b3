/** Backups on a schedule. One iteration looks and acts; somebody else owns time. */
import { mkdir, readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { VirgaError } from '../../core/errors.ts';
import type { Instant } from '../../core/model/resource.ts';
import { type BackupOptions, type BackupResult, createBackup } from './backup.ts';
import type { Database } from './database.ts';

export interface ScheduleOptions {
  /** Made with mode 0700 when missing. */
  readonly folder: string;
  /** Milliseconds between two backups. */
  readonly intervalMs: number;
  /** Files kept; at least 1. The oldest go, after a new one succeeded. */
  readonly keep: number;
  readonly encryption?: BackupOptions['encryption'];
  /** Read at each backup. */
  readonly secrets: () => Promise<BackupOptions['secrets']>;
  /** Told what came of each attempt. */
  readonly report: (outcome: ScheduleOutcome) => void;
}

export type ScheduleOutcome =
  | { readonly ok: true; readonly backup: BackupResult; readonly removed: readonly string[] }
  | { readonly ok: false; readonly error: VirgaError; readonly tryAgainAt: Instant };

export interface ScheduledFile {
  readonly path: string;
  readonly madeAt: Instant;
}

const pattern = /^virga-(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)(\d{3})Z\.backup(\.age)?$/;
const unfinished = /^virga-\d{8}T\d{9}Z\.backup(\.age)?\.[0-9a-f]{12}\.tmp$/;

/** After a failure; doubled each time up to the interval. */
const firstRetryMs = 60_000;
/** A file of this age without its final name was left by a killed process. */
const unfinishedMs = 24 * 3600 * 1000;

/** Scheduled backups in a folder, oldest first. Other files are not ours and do not count. */
export async function listBackups(folder: string): Promise<ScheduledFile[]> {
  const names = await readdir(folder).catch((error: unknown) => {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  });
  return names
    .flatMap((name) => {
      const match = pattern.exec(name);
      if (!match) return [];
      const [, year, month, day, hour, minute, second, ms] = match.map(Number) as [number, ...number[]];
      const madeAt = Date.UTC(year ?? 0, (month ?? 1) - 1, day, hour, minute, second, ms);
      return [{ path: join(folder, name), madeAt }];
    })
    .sort((a, b) => a.madeAt - b.madeAt);
}

export class BackupSchedule {
  readonly #database: Database;
  readonly #options: ScheduleOptions;
  #failures = 0;
  #notBefore = -Infinity;

  constructor(database: Database, options: ScheduleOptions) {
    if (options.keep < 1 || !Number.isInteger(options.keep)) throw new RangeError('keep must be at least 1');
    this.#database = database;
    this.#options = options;
  }

  /**
   * Makes a backup if one is due, and removes the oldest ones beyond the number to keep. Never rejects.
   * @returns when to look again: milliseconds since 1970.
   */
  async iterate(now: Instant): Promise<Instant> {
    if (now < this.#notBefore) return this.#notBefore;
    try {
      const newest = (await listBackups(this.#options.folder)).at(-1);
      // A file from the future (the clock was set back) must not stop backups until that future comes.
      const due = newest && newest.madeAt <= now ? newest.madeAt + this.#options.intervalMs : now;
      if (due > now) return due;
      const backup = await this.#backup(now);
      const removed = await this.#removeOld(now, backup.path);
      this.#failures = 0;
      this.#options.report({ ok: true, backup, removed });
      return now + this.#options.intervalMs;
    } catch (error) {
      return this.#failed(now, error);
    }
  }

  #failed(now: Instant, error: unknown): Instant {
    const pause = Math.min(this.#options.intervalMs, firstRetryMs * 2 ** Math.min(20, this.#failures));
    this.#failures += 1;
    this.#notBefore = now + pause;
    const known =
      error instanceof VirgaError
        ? error
        : new VirgaError('backup', { detail: String(error), how: 'Look at the log.' }, { cause: error });
    this.#options.report({ ok: false, error: known, tryAgainAt: this.#notBefore });
    return this.#notBefore;
  }

  async #backup(now: Instant): Promise<BackupResult> {
    const { folder, encryption } = this.#options;
    await mkdir(folder, { recursive: true, mode: 0o700 });
    const stamp = new Date(now).toISOString().replaceAll(/[-:.]/g, '');
    return createBackup(this.#database, {
      path: join(folder, `virga-${stamp}.backup${encryption ? '.age' : ''}`),
      now,
      secrets: await this.#options.secrets(),
      ...(encryption === undefined ? {} : { encryption }),
    });
  }

  async #removeOld(now: Instant, fresh: string): Promise<readonly string[]> {
    const files = (await listBackups(this.#options.folder)).filter(({ path }) => path !== fresh);
    const removed = files.slice(0, Math.max(0, files.length + 1 - this.#options.keep)).map(({ path }) => path);
    for (const path of removed) await rm(path, { force: true });
    for (const name of await readdir(this.#options.folder)) {
      const path = join(this.#options.folder, name);
      if (!unfinished.test(name) || now - (await stat(path)).mtimeMs < unfinishedMs) continue;
      await rm(path, { force: true });
    }
    return removed;
  }
}
