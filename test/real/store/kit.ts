/** A PostgreSQL server of its own for each test file, in a folder that goes with it. */
import { execFile } from 'node:child_process';
import { chmod, mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { Database } from '../../../src/controller/store/database.ts';
import { EmbeddedPostgres, type EmbeddedOptions } from '../../../src/controller/store/embedded.ts';
import type { Log } from '../../../src/ports.ts';

export const quiet: Log = { debug() {}, info() {}, warn() {}, error() {}, child: () => quiet };

/** The system user: Virga's where it exists, else the one that the distribution's package made. */
async function userName(): Promise<string> {
  const found = await promisify(execFile)('getent', ['passwd', 'virga']).catch(() => undefined);
  return found ? 'virga' : 'postgres';
}

/** Folders for one test; `remove` them in an `after`. */
export interface Sandbox {
  readonly options: EmbeddedOptions;
  readonly data: string;
  /** For the test's own files. */
  readonly work: string;
  remove(): Promise<void>;
}

export async function sandbox(): Promise<Sandbox> {
  const base = await mkdtemp(join(tmpdir(), 'virga-store-'));
  const runFolder = await mkdtemp('/run/virga-test-');
  for (const folder of [base, runFolder]) await chmod(folder, 0o711);
  const [data, work] = [join(base, 'data'), join(base, 'work')];
  await mkdir(data, { mode: 0o711 });
  await mkdir(work, { mode: 0o700 });
  return {
    data,
    work,
    options: { data, runFolder, log: quiet, user: await userName() },
    async remove() {
      await rm(base, { recursive: true, force: true });
      await rm(runFolder, { recursive: true, force: true });
    },
  };
}

export interface Server extends Sandbox {
  readonly embedded: EmbeddedPostgres;
  readonly database: Database;
  /** The same server as a URL. */
  readonly url: string;
  stop(): Promise<void>;
}

/** A running server; `stop` ends it and removes its folders. */
export async function server(): Promise<Server> {
  const box = await sandbox();
  try {
    const embedded = await EmbeddedPostgres.start(box.options);
    const database = new Database(embedded.address, { log: quiet });
    return {
      ...box,
      embedded,
      database,
      url: urlOf(embedded),
      async stop() {
        await database.close();
        await embedded.stop();
        await box.remove();
      },
    };
  } catch (error) {
    await box.remove();
    throw error;
  }
}

export function socketFolderOf(embedded: EmbeddedPostgres): string {
  if ('url' in embedded.address) throw new TypeError('the embedded server has no URL of its own');
  return embedded.address.socketFolder;
}

function urlOf(embedded: EmbeddedPostgres): string {
  return `postgresql:///virga?host=${encodeURIComponent(socketFolderOf(embedded))}&user=virga`;
}

/** Waits for a condition, looking often. Rejects after `limitMs`. */
export async function until(
  what: string,
  condition: () => Promise<boolean> | boolean,
  limitMs = 15_000,
): Promise<void> {
  const deadline = performance.now() + limitMs;
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(`not within ${limitMs} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** Whether a process is there (a zombie is not). */
export async function alive(pid: number): Promise<boolean> {
  const { readFile } = await import('node:fs/promises');
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  return stat !== '' && !/\) [ZX] /.test(stat);
}
