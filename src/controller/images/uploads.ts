/** The uploads of this site, as they are on disk and as this process knows them. */
import { createHash } from 'node:crypto';
import { open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { VirgaError } from '../../core/errors.ts';
import type { Uuid } from '../../core/model/resource.ts';
import type { Files } from '../../ports.ts';
import { diskError } from '../../effects/disk.ts';
import { openPlain } from './disk.ts';
import type { Progress, Stopper } from './receive.ts';
import type { FinishedImage, FinishStep } from './types.ts';

const uuidPattern = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
const suffix = '.json';

export interface UploadRecord {
  readonly name: string;
  /** As announced. */
  readonly sizeBytes: number;
  readonly result?: FinishedImage;
}

export interface Upload {
  readonly id: Uuid;
  record: UploadRecord;
  readonly progress: Progress;
  /** The append that runs. */
  active?: { readonly stopper: Stopper; readonly done: Promise<unknown> };
  /** The finish that runs or waits. */
  finishing?: {
    readonly done: Promise<FinishedImage>;
    readonly abort: AbortController;
    readonly listeners: Set<(step: FinishStep, fraction: number) => void>;
  };
}

/** Ends an append and waits until what came is on disk. */
export async function overtake(active: NonNullable<Upload['active']>, why: string): Promise<void> {
  active.stopper.stop(new VirgaError('cancelled', { detail: why }));
  await active.done.catch(() => undefined);
}

/** Ends everything that runs for an upload. */
export async function stopUpload(upload: Upload, why: string): Promise<void> {
  if (upload.active) await overtake(upload.active, why);
  upload.finishing?.abort.abort();
  await upload.finishing?.done.catch(() => undefined);
}

export class Uploads {
  readonly #folder: string;
  readonly #records: Files;
  readonly #known = new Map<Uuid, Promise<Upload>>();

  /** `records` are durable files in `folder`. */
  constructor(folder: string, records: Files) {
    this.#folder = folder;
    this.#records = records;
  }

  /** Where the given bytes are. */
  part(id: Uuid): string {
    return join(this.#folder, 'uploads', `${id}.part`);
  }

  /** An empty upload. The record comes last: without it there is no upload. */
  async create(id: Uuid, record: UploadRecord): Promise<void> {
    if (!uuidPattern.test(id)) throw new TypeError(`not a UUID: ${id}`);
    try {
      const handle = await open(this.part(id), 'w', 0o644);
      try {
        // Readable by all, in a folder that is closed to all: the sandbox of root reads it as nobody, whatever the umask is.
        await handle.chmod(0o644);
        await handle.sync();
      } finally {
        await handle.close();
      }
    } catch (error) {
      throw diskError(error, this.#folder);
    }
    await this.write(id, record);
  }

  /** @throws VirgaError `not_found` */
  async get(id: Uuid): Promise<Upload> {
    const upload = await this.find(id);
    if (!upload) throw new VirgaError('not_found', { kind: 'image', name: id });
    return upload;
  }

  /** What is on disk is read once; two that ask at the same time get the same object. */
  async find(id: Uuid): Promise<Upload | undefined> {
    const known = this.#known.get(id);
    if (known) return await known;
    const record = uuidPattern.test(id) ? await this.#read(id) : undefined;
    if (!record) return undefined;
    const loading = this.#known.get(id) ?? this.#load(id, record);
    this.#known.set(id, loading);
    loading.catch(() => this.#known.delete(id));
    return await loading;
  }

  async write(id: Uuid, record: UploadRecord): Promise<void> {
    try {
      await this.#records.write(`uploads/${id}${suffix}`, JSON.stringify(record));
    } catch (error) {
      throw diskError(error, this.#folder);
    }
  }

  /** Ends what runs for an upload and removes its files; no error when there are none. */
  async remove(id: Uuid, why: string): Promise<void> {
    if (!uuidPattern.test(id)) return;
    // One that cannot be read (somebody put a link in its place) is removed all the same.
    const upload = await this.find(id).catch(() => undefined);
    if (upload) await stopUpload(upload, why);
    this.#known.delete(id);
    // The record first: without it the rest is nobody's, and is swept.
    await this.#records.remove(`uploads/${id}${suffix}`);
    await rm(this.part(id), { force: true });
  }

  async count(): Promise<number> {
    return (await this.#ids()).length;
  }

  /** Digests that uploads have as their result, whose image the store may not show as ready yet. */
  async results(): Promise<ReadonlySet<string>> {
    const results = new Set<string>();
    for (const id of await this.#ids()) {
      const record = await this.#read(id);
      if (record?.result) results.add(record.result.stored.sha512);
    }
    return results;
  }

  /** Ends everything that runs. */
  async stop(why: string): Promise<void> {
    const known = await Promise.allSettled(this.#known.values());
    for (const each of known) if (each.status === 'fulfilled') await stopUpload(each.value, why);
  }

  async #ids(): Promise<readonly Uuid[]> {
    const files = await this.#records.list('uploads');
    return files.filter((file) => file.endsWith(suffix)).map((file) => file.slice(0, -suffix.length));
  }

  async #read(id: Uuid): Promise<UploadRecord | undefined> {
    const text = await this.#records.read(`uploads/${id}${suffix}`);
    return text === undefined ? undefined : (JSON.parse(text) as UploadRecord);
  }

  /** After a restart the length of the file is what had come; it is synced before anybody is told. */
  async #load(id: Uuid, record: UploadRecord): Promise<Upload> {
    const { handle, stats } = await openPlain(this.part(id));
    try {
      await handle.sync();
    } finally {
      await handle.close();
    }
    const hash = stats.size === 0 ? createHash('sha512') : undefined;
    return { id, record, progress: { position: stats.size, durable: stats.size, hash } };
  }
}
