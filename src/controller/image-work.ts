/**
 * Images between the store and the files: the store says what an image is, the files hold its bytes. Order everywhere:
 * what is needed is made before the store says so, and removed after the store has forgotten it. A restart at any moment
 * finds either both or something that `sweep` removes.
 */
import type { Readable } from 'node:stream';
import { VirgaError } from '../core/errors.ts';
import type { Actor } from '../core/model/access.ts';
import type { Image } from '../core/model/image.ts';
import type { Uuid } from '../core/model/resource.ts';
import type { RequestContext } from '../core/model/snapshot.ts';
import { imageChecking, imageFailed, imageReady, imageReceived } from '../core/requests/images.ts';
import type { Clock, Ids, Log } from '../ports.ts';
import type { AppendResult, FinishedImage, ImageFiles } from './images/types.ts';
import type { News, SiteState } from './state.ts';

/** Milliseconds between sweeps. */
const sweepMs = 6 * 3600 * 1000;
/** While the database is away a finished image waits for it. */
const retryMs = 1000;
const maxRetries = 3600;
/** Failures that may pass by themselves or by somebody's help: tried again after a while, or at the next `finish`. */
const passing: readonly string[] = [
  'cancelled',
  'overloaded',
  'timeout',
  'disk_full',
  'store_unavailable',
  'not_leading',
];
const maxAttempts = 5;

export interface ImageWorkOptions {
  readonly state: SiteState;
  readonly files: ImageFiles;
  readonly clock: Clock;
  readonly ids: Ids;
  readonly log: Log;
  readonly actor: Actor;
}

export class ImageWork {
  readonly #options: ImageWorkOptions;
  readonly #running = new Map<Uuid, Promise<void>>();
  readonly #stopping = new AbortController();
  /** Begins and sweeps exclude each other: a sweep must not meet an upload that it has not heard of. */
  #turn: Promise<unknown> = Promise.resolve();
  #sweeper: NodeJS.Timeout | undefined;
  readonly #unlisten: () => void;

  constructor(options: ImageWorkOptions) {
    this.#options = options;
    this.#unlisten = options.state.listen((news) => this.#hear(news));
  }

  /** Makes room for an image that the store knows; may be repeated. */
  async begin(image: Image): Promise<void> {
    await this.#alone(async () =>
      this.#options.files.begin({ id: image.id, name: image.name, sizeBytes: image.status.sizeBytes }),
    );
  }

  /** Bytes that are safe. For an image that needs no more: all of them. */
  async offset(image: Image): Promise<number> {
    if (image.status.state !== 'uploading') return image.status.sizeBytes;
    await this.begin(image);
    return this.#options.files.offset(image.id);
  }

  /** Takes bytes from `offset` on, and notes in the store how far it came, also when the client broke off. */
  async append(image: Image, offset: number, source: Readable, signal: AbortSignal): Promise<AppendResult> {
    if (image.status.state !== 'uploading')
      throw new VirgaError('upload_offset', { name: image.name, expected: image.status.sizeBytes, given: offset });
    await this.begin(image);
    let noted: Promise<void> = Promise.resolve();
    let received = image.status.receivedBytes;
    const note = (): void => {
      noted = noted.then(async () => this.#note(image.id, received));
    };
    try {
      const result = await this.#options.files.append(image.id, offset, source, {
        signal,
        onProgress: (bytes) => {
          received = bytes;
          note();
        },
      });
      received = result.receivedBytes;
      return result;
    } finally {
      note();
      await noted;
    }
  }

  /** Checks and converts in the background; the image's state says how that goes. */
  async finish(image: Image, context: RequestContext): Promise<void> {
    const { state, files } = this.#options;
    if (image.status.state === 'ready') return;
    const received = image.status.state === 'uploading' ? await this.offset(image) : image.status.sizeBytes;
    await this.#note(image.id, received);
    if (received !== image.status.sizeBytes)
      throw new VirgaError('upload_size', { name: image.name, expected: image.status.sizeBytes, given: received });
    await files.offset(image.id);
    await state.change((snapshot) => imageChecking(snapshot, image.id, context));
    this.#start(image.id);
  }

  /** What the store has forgotten goes from the disk; what fails here the next sweep removes. */
  async forget(image: Image): Promise<void> {
    const { state, files, log } = this.#options;
    try {
      await files.discard(image.id);
      const sha512 = image.status.stored?.sha512;
      const others = [...state.snapshot.all('image')].some((each) => each.status.stored?.sha512 === sha512);
      if (sha512 !== undefined && !others) await files.removeStored(sha512);
    } catch (error) {
      log.warn('the files of a deleted image are removed later', { image: image.name, error: String(error) });
    }
  }

  async sweep(): Promise<void> {
    const { state, files, log } = this.#options;
    await this.#alone(async () => {
      const uploads = new Set<Uuid>();
      const digests = new Set<string>();
      for (const { id, status } of state.snapshot.all('image')) {
        if (status.state === 'uploading' || status.state === 'checking') uploads.add(id);
        if (status.stored) digests.add(status.stored.sha512);
      }
      const removed = await files.sweep(uploads, digests);
      if (removed.length > 0) log.info('removed image files that nothing refers to', { files: removed.slice(0, 20) });
    });
  }

  async close(): Promise<void> {
    this.#unlisten();
    clearInterval(this.#sweeper);
    this.#stopping.abort();
    await this.#options.files.close();
    await Promise.allSettled(this.#running.values());
  }

  #hear(news: News): void {
    if (news.type !== 'loaded') return;
    // Whatever was being checked when the last leader ended is checked now.
    for (const image of this.#options.state.snapshot.all('image'))
      if (image.status.state === 'checking') this.#start(image.id);
    const sweep = (): void => {
      this.sweep().catch((error: unknown) => this.#options.log.warn('the sweep failed', { error: String(error) }));
    };
    if (this.#sweeper !== undefined) return;
    this.#sweeper = setInterval(sweep, sweepMs).unref();
    sweep();
  }

  #start(id: Uuid): void {
    if (this.#running.has(id) || this.#stopping.signal.aborted) return;
    const work = this.#judge(id)
      .catch((error: unknown) => {
        if (!this.#stopping.signal.aborted)
          this.#options.log.error('an image could not be finished', { image: id, error: String(error) });
      })
      .finally(() => this.#running.delete(id));
    this.#running.set(id, work);
  }

  async #judge(id: Uuid): Promise<void> {
    const { state, files } = this.#options;
    const image = state.snapshot.get('image', id);
    if (!image || image.status.state !== 'checking') return;
    const verdict = await this.#finished(image);
    await this.#persist(() =>
      state.change((snapshot) => {
        if (snapshot.get('image', id)?.status.state !== 'checking')
          return { change: { put: [], remove: [], events: [] } };
        const context = this.#context();
        return 'error' in verdict
          ? imageFailed(snapshot, id, verdict.error, context)
          : imageReady(snapshot, id, verdict.finished, context);
      }),
    );
    await files.discard(id);
  }

  async #finished(
    image: Image,
  ): Promise<
    { readonly finished: FinishedImage } | { readonly error: { readonly code: string; readonly message: string } }
  > {
    const { files, clock, log } = this.#options;
    const { expectedSha512, format } = image.spec;
    for (let attempt = 1; ; attempt += 1) {
      try {
        const finished = await files.finish(image.id, {
          format,
          ...(expectedSha512 === undefined ? {} : { expectedSha512 }),
          signal: this.#stopping.signal,
        });
        return { finished };
      } catch (error) {
        if (this.#stopping.signal.aborted) throw error;
        const code = error instanceof VirgaError ? error.code : 'internal';
        log.warn('an image did not pass', { image: image.name, code, detail: (error as Error).message, attempt });
        const message =
          error instanceof VirgaError ? error.message : 'the check itself failed; see the controller’s log';
        if (!passing.includes(code) || attempt >= maxAttempts) return { error: { code, message } };
        await clock.sleep(retryMs * 2 ** attempt, this.#stopping.signal);
      }
    }
  }

  /** Repeats while the database is away: an hour of work on an image is not thrown away. */
  async #persist(write: () => Promise<unknown>): Promise<void> {
    for (let attempt = 0; ; attempt += 1) {
      try {
        await write();
        return;
      } catch (error) {
        const code = error instanceof VirgaError ? error.code : 'internal';
        if (!['store_unavailable', 'overloaded', 'not_leading', 'conflict'].includes(code) || attempt >= maxRetries)
          throw error;
        await this.#options.clock.sleep(retryMs, this.#stopping.signal);
      }
    }
  }

  /** How far an upload is. What the files have is the truth; the store follows as well as it can. */
  async #note(id: Uuid, receivedBytes: number): Promise<void> {
    const { state, log } = this.#options;
    try {
      await state.change((snapshot) => {
        const image = snapshot.get('image', id);
        if (image?.status.state !== 'uploading' || receivedBytes <= image.status.receivedBytes)
          return { change: { put: [], remove: [], events: [] } };
        return imageReceived(snapshot, id, receivedBytes, this.#context());
      });
    } catch (error) {
      log.warn('the progress of an upload was not noted', { image: id, error: String(error) });
    }
  }

  #context(): RequestContext {
    const { clock, ids, actor } = this.#options;
    return { now: clock.now(), uuid: () => ids.uuid(), actor };
  }

  async #alone<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#turn.then(work);
    this.#turn = turn.then(
      () => undefined,
      () => undefined,
    );
    return turn;
  }
}
