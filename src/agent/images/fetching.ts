/** Brings one image to disk: resumes, retries with back-off, and believes nothing until the digest fits. */
import { createHash, type Hash } from 'node:crypto';
import { constants } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';
import { dirname } from 'node:path';
import { VirgaError } from '../../core/errors.ts';
import type { Clock, Log } from '../../ports.ts';
import { demandSpace, diskError } from '../../effects/disk.ts';
import { hashPrefix } from './disk.ts';
import type { FetchImage, WantedImage } from './types.ts';

/** The free space is looked at again after this many bytes. */
const spaceEvery = 32 * 1024 * 1024;
const firstPauseMs = 250;
const longestPauseMs = 30_000;

export interface FetchJob {
  readonly image: WantedImage;
  /** Where the bytes go; what an earlier try left there is continued. */
  readonly part: string;
  readonly fetch: FetchImage;
  readonly clock: Clock;
  readonly log: Log;
  readonly signal: AbortSignal;
  readonly reserveBytes: number;
  readonly maxTries: number;
  readonly idleMs: number;
  readonly onProgress: (fraction: number) => void;
}

interface State {
  readonly handle: FileHandle;
  hash: Hash;
  position: number;
}

/** At its end `job.part` has the right bytes, synced. */
export async function fetchImage(job: FetchJob): Promise<void> {
  const { O_RDWR, O_CREAT, O_NOFOLLOW } = constants;
  const handle = await open(job.part, O_RDWR | O_CREAT | O_NOFOLLOW, 0o600);
  try {
    const state: State = { handle, hash: createHash('sha512'), position: 0 };
    state.position = await hashPrefix(handle, state.hash, job.image.sizeBytes, job.signal);
    const resumed = state.position > 0;
    await demandSpace(dirname(job.part), job.image.sizeBytes - state.position, job.reserveBytes);
    await fill(job, state);
    let actual = state.hash.digest('hex');
    if (actual !== job.image.sha512 && resumed) {
      // What was on disk before may have been damaged there: once more, from the first byte.
      job.log.warn('a resumed image has the wrong digest and is fetched anew', { sha512: job.image.sha512, actual });
      await restart(state);
      await fill(job, state);
      actual = state.hash.digest('hex');
    }
    if (actual !== job.image.sha512) {
      await handle.truncate(0);
      throw new VirgaError('image_digest', { what: 'image from the controller', actual, expected: job.image.sha512 });
    }
    // A longer file than the image may have been left there.
    await handle.truncate(job.image.sizeBytes);
    await handle.sync();
  } catch (error) {
    throw diskError(error, dirname(job.part));
  } finally {
    await handle.close();
  }
}

async function restart(state: State): Promise<void> {
  await state.handle.truncate(0);
  state.hash = createHash('sha512');
  state.position = 0;
}

/** Until all bytes are there. A try that brought bytes starts the count of tries anew. */
async function fill(job: FetchJob, state: State): Promise<void> {
  for (let tries = 0; state.position < job.image.sizeBytes;) {
    const before = state.position;
    try {
      await oneTry(job, state);
    } catch (error) {
      tries = state.position > before ? 1 : tries + 1;
      if (final(error, job.signal)) throw error;
      if (tries >= job.maxTries) throw unreachable(error);
      const pauseMs = Math.min(longestPauseMs, firstPauseMs * 2 ** (tries - 1));
      job.log.info('fetching an image is tried again', { error: String(error), from: state.position, tries, pauseMs });
      await job.clock.sleep(pauseMs, job.signal);
    }
  }
}

/** Errors that another try does not mend. */
function final(error: unknown, signal: AbortSignal): boolean {
  if (signal.aborted) return true;
  if (error instanceof VirgaError) return ['not_found', 'disk_full', 'image_digest'].includes(error.code);
  // The file system's own errors (full, read-only, broken) end it; those of the network have other codes.
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  return typeof code === 'string' && ['ENOSPC', 'EDQUOT', 'EIO', 'EROFS', 'EBADF'].includes(code);
}

function unreachable(cause: unknown): VirgaError {
  const detail = `an image could not be fetched: ${cause instanceof Error ? cause.message : 'no reason given'}`;
  return new VirgaError('site_unreachable', { where: 'the controller', detail }, { cause });
}

/** Runs until the source ends, fails, or gives nothing for `idleMs`. */
async function oneTry(job: FetchJob, state: State): Promise<void> {
  const { sizeBytes, sha512 } = job.image;
  const over = new AbortController();
  const signal = AbortSignal.any([job.signal, over.signal]);
  let iterator: AsyncIterator<Uint8Array> | undefined;
  try {
    const source = await within(job.fetch(sha512, state.position, signal), job);
    iterator = source[Symbol.asyncIterator]();
    for (let spaceAt = state.position + spaceEvery; ;) {
      const step = await within(iterator.next(), job);
      if (step.done) break;
      await take(state, step.value, sizeBytes, sha512);
      job.onProgress(state.position / sizeBytes);
      if (state.position < spaceAt) continue;
      await demandSpace(dirname(job.part), sizeBytes - state.position, job.reserveBytes);
      spaceAt = state.position + spaceEvery;
    }
    if (state.position < sizeBytes)
      throw new Error(`the controller ended after ${state.position} of ${sizeBytes} bytes`);
  } finally {
    // Lets go of the connection; nobody waits for a source that hangs.
    over.abort(new Error('the try is over'));
    iterator?.return?.().catch(() => undefined);
  }
}

async function take(state: State, bytes: Uint8Array, sizeBytes: number, expected: string): Promise<void> {
  if (state.position + bytes.length > sizeBytes) {
    await restart(state);
    const actual = `of more than ${sizeBytes} bytes`;
    throw new VirgaError('image_digest', { what: 'image from the controller', actual, expected });
  }
  for (let done = 0; done < bytes.length;) {
    const { bytesWritten } = await state.handle.write(bytes, done, bytes.length - done, state.position);
    state.hash.update(bytes.subarray(done, done + bytesWritten));
    state.position += bytesWritten;
    done += bytesWritten;
  }
}

/** What the promise gives, unless the job is aborted or nothing comes for too long. Keeps nothing behind, even when the promise hangs for ever. */
async function within<T>(promise: Promise<T>, { signal, idleMs }: FetchJob): Promise<T> {
  let abort: (() => void) | undefined;
  let timer: NodeJS.Timeout | undefined;
  try {
    return await new Promise<T>((resolve, reject) => {
      abort = () => reject(signal.reason as Error);
      timer = setTimeout(() => reject(new Error(`nothing came for ${idleMs / 1000} s`)), idleMs);
      if (signal.aborted) abort();
      signal.addEventListener('abort', abort, { once: true });
      promise.then(resolve, reject);
    });
  } finally {
    clearTimeout(timer);
    if (abort) signal.removeEventListener('abort', abort);
  }
}
