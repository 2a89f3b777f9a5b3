/** Takes the bytes of an upload to disk. */
import type { Hash } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';
import { VirgaError } from '../../core/errors.ts';

/** Ends a wait for the next piece of a source, from outside. */
export class Stopper {
  #reject: ((reason: VirgaError) => void) | undefined;
  #reason: VirgaError | undefined;

  stop(reason: VirgaError): void {
    this.#reason ??= reason;
    this.#reject?.(this.#reason);
  }

  /** The next piece, or a rejection when stopped or after `idleMs`. (A race with one long-lived promise would keep every piece in memory.) */
  async next(iterator: AsyncIterator<Uint8Array>, idleMs: number): Promise<IteratorResult<Uint8Array, unknown>> {
    if (this.#reason) throw this.#reason;
    // Only the sender's silence counts, not the time that our disk takes.
    const idle = setTimeout(
      () => this.stop(new VirgaError('timeout', { what: 'The sender of the image', seconds: idleMs / 1000 })),
      idleMs,
    );
    try {
      return await new Promise((resolve, reject) => {
        this.#reject = reject;
        iterator.next().then(resolve, reject);
      });
    } finally {
      clearTimeout(idle);
    }
  }
}

/** Where an upload is. `hash` has seen exactly the first `position` bytes; undefined when that was lost. */
export interface Progress {
  position: number;
  durable: number;
  hash: Hash | undefined;
}

export interface ReceiveOptions {
  readonly sizeBytes: number;
  readonly name: string;
  readonly idleMs: number;
  /** Bytes between two flushes. */
  readonly flushBytes: number;
  /** Called before the first write and after every flush; throws when the disk is too full. */
  readonly demandSpace: () => Promise<void>;
  readonly onDurable: (bytes: number) => void;
}

/**
 * Writes what the source gives behind `progress.position`. Whatever happens, at the end `durable` says what is safe on disk, and the file is as long
 * as that.
 */
export async function receive(
  handle: FileHandle,
  source: AsyncIterable<Uint8Array>,
  progress: Progress,
  stopper: Stopper,
  options: ReceiveOptions,
): Promise<void> {
  const iterator = source[Symbol.asyncIterator]();
  try {
    await options.demandSpace();
    for (;;) {
      const step = await pull(iterator, stopper, options.idleMs);
      if (step.done) break;
      const room = options.sizeBytes - progress.position;
      await writeAll(handle, step.value.subarray(0, room), progress);
      if (step.value.length > room) throw tooMuch(options, progress.position + step.value.length - room);
      if (progress.position - progress.durable >= options.flushBytes) {
        await flush(handle, progress, options);
        await options.demandSpace();
      }
    }
  } finally {
    await flush(handle, progress, options);
  }
}

async function pull(
  iterator: AsyncIterator<Uint8Array>,
  stopper: Stopper,
  idleMs: number,
): Promise<IteratorResult<Uint8Array, unknown>> {
  try {
    return await stopper.next(iterator, idleMs);
  } catch (error) {
    if (error instanceof VirgaError) throw error;
    const detail = `the upload broke off: ${error instanceof Error ? error.message : 'no reason given'}`;
    throw new VirgaError('cancelled', { detail }, { cause: error });
  }
}

function tooMuch(options: ReceiveOptions, given: number): VirgaError {
  return new VirgaError('upload_size', { name: options.name, expected: options.sizeBytes, given });
}

/** A disk that fills up takes a part of a piece: position and digest follow what was really written. */
async function writeAll(handle: FileHandle, bytes: Uint8Array, progress: Progress): Promise<void> {
  let done = 0;
  while (done < bytes.length) {
    const { bytesWritten } = await handle.write(bytes, done, bytes.length - done, progress.position);
    progress.hash?.update(bytes.subarray(done, done + bytesWritten));
    progress.position += bytesWritten;
    done += bytesWritten;
  }
}

/** After a failed fsync nobody knows what is on disk: go back to what was known to be there. */
async function flush(handle: FileHandle, progress: Progress, options: ReceiveOptions): Promise<void> {
  if (progress.position === progress.durable) return;
  try {
    await handle.datasync();
  } catch (error) {
    progress.position = progress.durable;
    progress.hash = undefined;
    await handle.truncate(progress.durable);
    throw error;
  }
  progress.durable = progress.position;
  options.onDurable(progress.durable);
}
