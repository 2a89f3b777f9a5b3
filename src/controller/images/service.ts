/**
 * The image files of a site:
 *   uploads/ID.part     the given bytes; as long as what is safe on disk, so the length is the offset
 *   uploads/ID.json     what was announced, and the result once there is one
 *   work/ID.qcow2       the copy while it is made; emptied at start
 *   stored/SHA512.qcow2 the copies, read-only
 */
import { constants } from 'node:fs';
import { mkdir, open, readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { VirgaError } from '../../core/errors.ts';
import type { Uuid } from '../../core/model/resource.ts';
import { demandSpace, diskError, missing, syncFolder } from '../../effects/disk.ts';
import { openPlain } from './disk.ts';
import { makeCopy, sizeOf, storeCopy, storedPath } from './finish.ts';
import { OneAtATime } from './queue.ts';
import { receive, Stopper } from './receive.ts';
import type {
  AppendOptions,
  AppendResult,
  FinishedImage,
  FinishOptions,
  FinishStep,
  ImageFiles,
  ImageFilesSettings,
  ImageFilesWorld,
  OpenedImage,
} from './types.ts';
import { overtake, Uploads, type Upload } from './uploads.ts';

const MiB = 1024 ** 2;
const GiB = 1024 ** 3;
const flushBytes = 32 * MiB;
const digestPattern = /^[0-9a-f]{128}$/;

const defaults = {
  maxVirtualBytes: 2048 * GiB,
  maxUploadBytes: 256 * GiB,
  maxUploads: 64,
  maxAppends: 16,
  maxStreams: 64,
  maxWaiting: 64,
  reserveBytes: GiB,
  idleMs: 60_000,
  sweepAgeMs: 3_600_000,
} as const;

/** Makes the folders where missing, and removes copies that a crash left half made. */
export async function openImageFiles(settings: ImageFilesSettings, world: ImageFilesWorld): Promise<ImageFiles> {
  const { folder } = settings;
  for (const name of ['uploads', 'work', 'stored']) await mkdir(join(folder, name), { recursive: true, mode: 0o700 });
  for (const name of await readdir(join(folder, 'work'))) await rm(join(folder, 'work', name), { force: true });
  await syncFolder(folder);
  return new DiskImageFiles({ ...defaults, ...settings }, world);
}

class DiskImageFiles implements ImageFiles {
  readonly #settings: Required<ImageFilesSettings>;
  readonly #world: ImageFilesWorld;
  readonly #uploads: Uploads;
  /** Two begins at once must not both find the last place. */
  readonly #begins = new OneAtATime('new uploads', 1000);
  readonly #conversions: OneAtATime;
  /** Changes of `stored`: a removal must not overtake the arrival of the same digest. */
  readonly #shelf = new OneAtATime('changes of stored images', 1000);
  #appends = 0;
  #streams = 0;
  #closed = false;

  constructor(settings: Required<ImageFilesSettings>, world: ImageFilesWorld) {
    this.#settings = settings;
    this.#world = world;
    this.#uploads = new Uploads(settings.folder, world.records);
    this.#conversions = new OneAtATime('image conversions waiting', settings.maxWaiting);
  }

  async begin(image: { readonly id: Uuid; readonly name: string; readonly sizeBytes: number }): Promise<void> {
    this.#demandOpen();
    await this.#begins.run(async () => await this.#begin(image.id, image.name, image.sizeBytes));
  }

  async #begin(id: Uuid, name: string, sizeBytes: number): Promise<void> {
    const { maxUploadBytes, maxUploads, reserveBytes, folder } = this.#settings;
    const known = await this.#uploads.find(id);
    if (known) {
      const expected = known.record.sizeBytes;
      if (expected !== sizeBytes) throw new VirgaError('upload_size', { name, expected, given: sizeBytes });
      return;
    }
    if (!Number.isSafeInteger(sizeBytes) || sizeBytes < 1 || sizeBytes > maxUploadBytes) {
      const how = 'Make the image smaller (qemu-img convert -c), or ask for a higher limit.';
      throw new VirgaError('limit', { what: 'The size of an image', value: sizeBytes, limit: maxUploadBytes, how });
    }
    if ((await this.#uploads.count()) >= maxUploads)
      throw new VirgaError('overloaded', { what: 'uploads', limit: maxUploads });
    await demandSpace(folder, sizeBytes, reserveBytes);
    await this.#uploads.create(id, { name, sizeBytes });
  }

  async offset(imageId: Uuid): Promise<number> {
    const upload = await this.#uploads.get(imageId);
    return upload.record.result ? upload.record.sizeBytes : upload.progress.durable;
  }

  async append(
    imageId: Uuid,
    offset: number,
    source: AsyncIterable<Uint8Array>,
    options: AppendOptions = {},
  ): Promise<AppendResult> {
    const upload = await this.#uploads.get(imageId);
    while (upload.active) await overtake(upload.active, 'another connection goes on with this upload');
    this.#demandOpen();
    const { name, sizeBytes, result } = upload.record;
    const expected = result ? sizeBytes : upload.progress.durable;
    if (offset !== expected) throw new VirgaError('upload_offset', { name, expected, given: offset });
    if (result || upload.finishing) return { receivedBytes: expected, complete: expected === sizeBytes };
    const limit = this.#settings.maxAppends;
    if (this.#appends >= limit) throw new VirgaError('overloaded', { what: 'uploads', limit });
    const stopper = new Stopper();
    const abort = (): void => stopper.stop(new VirgaError('cancelled', { detail: 'the upload was ended' }));
    if (options.signal?.aborted) abort();
    options.signal?.addEventListener('abort', abort, { once: true });
    this.#appends++;
    const done = this.#receive(upload, source, stopper, options);
    upload.active = { stopper, done };
    try {
      await done;
    } catch (error) {
      throw diskError(error, this.#settings.folder);
    } finally {
      delete upload.active;
      this.#appends--;
      options.signal?.removeEventListener('abort', abort);
    }
    const receivedBytes = upload.progress.durable;
    return { receivedBytes, complete: receivedBytes === sizeBytes };
  }

  async #receive(
    upload: Upload,
    source: AsyncIterable<Uint8Array>,
    stopper: Stopper,
    options: AppendOptions,
  ): Promise<void> {
    const { idleMs, reserveBytes, folder } = this.#settings;
    const { name, sizeBytes } = upload.record;
    const { O_WRONLY, O_NOFOLLOW, O_NONBLOCK } = constants;
    const handle = await open(this.#uploads.part(upload.id), O_WRONLY | O_NOFOLLOW | O_NONBLOCK);
    try {
      await receive(handle, source, upload.progress, stopper, {
        name,
        sizeBytes,
        idleMs,
        flushBytes,
        demandSpace: async () => await demandSpace(folder, Math.min(flushBytes, sizeBytes), reserveBytes),
        onDurable: (bytes) => options.onProgress?.(bytes),
      });
    } finally {
      await handle.close();
    }
  }

  async finish(imageId: Uuid, options: FinishOptions): Promise<FinishedImage> {
    const upload = await this.#uploads.get(imageId);
    const { result } = upload.record;
    if (result && (await sizeOf(this.#stored(result.stored.sha512))) === result.stored.sizeBytes) return result;
    this.#demandOpen();
    upload.finishing ??= this.#enqueue(upload, options);
    const { done, abort, listeners } = upload.finishing;
    const { onProgress, signal } = options;
    if (onProgress) listeners.add(onProgress);
    onProgress?.('waiting', 0);
    const end = (): void => abort.abort();
    if (signal?.aborted) end();
    signal?.addEventListener('abort', end, { once: true });
    try {
      return await done;
    } finally {
      signal?.removeEventListener('abort', end);
    }
  }

  #enqueue(upload: Upload, options: FinishOptions): NonNullable<Upload['finishing']> {
    const { name, sizeBytes } = upload.record;
    const given = upload.progress.durable;
    if (given !== sizeBytes) throw new VirgaError('upload_size', { name, expected: sizeBytes, given });
    const abort = new AbortController();
    const listeners = new Set<(step: FinishStep, fraction: number) => void>();
    const tell = calm((step, fraction) => {
      for (const listener of listeners) listener(step, fraction);
    });
    const done = this.#conversions
      .run(async () => await this.#finish(upload, options, abort.signal, tell))
      .finally(() => delete upload.finishing);
    return { done, abort, listeners };
  }

  async #finish(
    upload: Upload,
    options: FinishOptions,
    signal: AbortSignal,
    onProgress: (step: FinishStep, fraction: number) => void,
  ): Promise<FinishedImage> {
    if (signal.aborted) throw new VirgaError('cancelled', { detail: 'the image was deleted, or the controller stops' });
    const { folder, maxVirtualBytes, reserveBytes } = this.#settings;
    const { id, record, progress } = upload;
    const { name, sizeBytes } = record;
    const work = join(folder, 'work', `${id}.qcow2`);
    const given = this.#uploads.part(id);
    // `copy()`: a finish that fails for a full disk is repeated with the same running digest.
    const runningSha512 = progress.hash?.copy().digest('hex');
    const job = { ...options, name, sizeBytes, given, work, maxVirtualBytes, reserveBytes, signal, onProgress };
    try {
      const result = await makeCopy({ ...job, ...(runningSha512 ? { runningSha512 } : {}) }, this.#world.tool);
      await this.#shelf.run(async () => {
        await storeCopy(work, this.#stored(result.stored.sha512));
        await this.#uploads.write(id, { name, sizeBytes, result });
      });
      upload.record = { name, sizeBytes, result };
      onProgress('verify', 1);
      return result;
    } catch (error) {
      this.#world.log.warn('an image was not finished', { imageId: id, name, error: String(error) });
      throw diskError(error, folder);
    } finally {
      await rm(work, { force: true });
    }
  }

  async discard(imageId: Uuid): Promise<void> {
    await this.#uploads.remove(imageId, 'the image was deleted');
  }

  async size(sha512: string): Promise<number | undefined> {
    return digestPattern.test(sha512) ? await sizeOf(this.#stored(sha512)) : undefined;
  }

  async open(sha512: string, range?: { readonly start: number; readonly end?: number }): Promise<OpenedImage> {
    const { maxStreams } = this.#settings;
    this.#demandOpen();
    const unknown = (cause?: unknown): VirgaError =>
      new VirgaError('not_found', { kind: 'image', name: sha512.slice(0, 128) }, { cause });
    if (!digestPattern.test(sha512)) throw unknown();
    if (this.#streams >= maxStreams) throw new VirgaError('overloaded', { what: 'image downloads', limit: maxStreams });
    this.#streams++;
    try {
      const { handle, stats } = await openPlain(this.#stored(sha512));
      const start = range?.start ?? 0;
      const end = Math.min(range?.end ?? stats.size - 1, stats.size - 1);
      if (!Number.isSafeInteger(start) || start < 0 || start > end) {
        await handle.close();
        const detail = `The image has ${stats.size} bytes, it has no bytes ${start} to ${range?.end ?? ''}`;
        throw new VirgaError('invalid_request', { detail });
      }
      const stream = handle.createReadStream({ start, end, highWaterMark: 256 * 1024 });
      stream.once('close', () => this.#streams--);
      return { sizeBytes: stats.size, range: { start, end }, stream };
    } catch (error) {
      this.#streams--;
      throw missing(error) ? unknown(error) : error;
    }
  }

  async take(sha512: string, path: string): Promise<void> {
    this.#demandOpen();
    if (!digestPattern.test(sha512)) throw new TypeError('no SHA-512');
    await this.#shelf.run(async () => {
      await storeCopy(path, this.#stored(sha512));
    });
  }

  async removeStored(sha512: string): Promise<void> {
    if (!digestPattern.test(sha512)) return;
    await this.#shelf.run(async () => {
      if (!(await this.#uploads.results()).has(sha512)) await rm(this.#stored(sha512), { force: true });
    });
  }

  async sweep(uploads: ReadonlySet<Uuid>, digests: ReadonlySet<string>): Promise<readonly string[]> {
    const swept: string[] = [];
    const { folder } = this.#settings;
    for (const file of await readdir(join(folder, 'uploads'))) {
      const id = file.slice(0, 36);
      if (uploads.has(id) && !file.endsWith('.tmp')) continue;
      if (!(await this.#old(join(folder, 'uploads', file)))) continue;
      if (!uploads.has(id)) await this.#uploads.remove(id, 'nobody knows this upload');
      await rm(join(folder, 'uploads', file), { force: true });
      swept.push(`uploads/${file}`);
    }
    await this.#shelf.run(async () => {
      const results = await this.#uploads.results();
      for (const file of await readdir(join(folder, 'stored'))) {
        const digest = file.replace(/\.qcow2$/, '');
        if (digests.has(digest) || results.has(digest) || !(await this.#old(join(folder, 'stored', file)))) continue;
        await rm(join(folder, 'stored', file), { force: true });
        swept.push(`stored/${file}`);
      }
    });
    return swept;
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#uploads.stop('the controller stops');
  }

  async #old(path: string): Promise<boolean> {
    try {
      return this.#world.clock.now() - (await stat(path)).mtimeMs >= this.#settings.sweepAgeMs;
    } catch (error) {
      if (missing(error)) return false;
      throw error;
    }
  }

  #demandOpen(): void {
    if (this.#closed) throw new VirgaError('cancelled', { detail: 'the controller stops' });
  }

  #stored(sha512: string): string {
    return storedPath(this.#settings.folder, sha512);
  }
}

/** Passes on steps and hundredths, never backwards. */
function calm(tell: (step: FinishStep, fraction: number) => void): (step: FinishStep, fraction: number) => void {
  let last: { readonly step: FinishStep; readonly fraction: number } = { step: 'waiting', fraction: 0 };
  return (step, now) => {
    const fraction = Math.max(now, last.fraction);
    if (step === last.step && Math.floor(fraction * 100) === Math.floor(last.fraction * 100)) return;
    last = { step, fraction };
    tell(step, fraction);
  };
}
