/** What the cache does to the file system. */
import { createHash, type Hash } from 'node:crypto';
import { open, rename, statfs, type FileHandle } from 'node:fs/promises';
import { dirname } from 'node:path';
import { VirgaError } from '../../core/errors.ts';

export function errno(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}

export const missing = (error: unknown): boolean => errno(error) === 'ENOENT';

/** A full disk or an exhausted quota becomes `disk_full`; everything else stays what it is. */
export function diskError(error: unknown, path: string): unknown {
  const code = errno(error);
  const full = code === 'ENOSPC' || code === 'EDQUOT';
  return full ? new VirgaError('disk_full', { path, detail: code }, { cause: error }) : error;
}

/** @throws VirgaError `disk_full` when `bytes` more would leave less than `reserve` free */
export async function demandSpace(folder: string, bytes: number, reserve: number): Promise<void> {
  const { bavail, bsize } = await statfs(folder);
  const free = bavail * bsize;
  if (free - bytes >= reserve) return;
  const detail = `${free} bytes are free, ${bytes} are needed and ${reserve} are kept for others`;
  throw new VirgaError('disk_full', { path: folder, detail });
}

/** The first `length` bytes of an open file, read into `hash`; gives how many there were. */
export async function hashPrefix(handle: FileHandle, hash: Hash, length: number, signal: AbortSignal): Promise<number> {
  const buffer = new Uint8Array(1024 * 1024);
  let position = 0;
  while (position < length) {
    signal.throwIfAborted();
    const { bytesRead } = await handle.read(buffer, 0, Math.min(buffer.length, length - position), position);
    if (bytesRead === 0) break;
    hash.update(buffer.subarray(0, bytesRead));
    position += bytesRead;
  }
  return position;
}

/** SHA-512 (hex) of a whole file. */
export async function digestOf(path: string, signal: AbortSignal): Promise<string> {
  const handle = await open(path, 'r');
  try {
    const hash = createHash('sha512');
    await hashPrefix(handle, hash, Infinity, signal);
    return hash.digest('hex');
  } finally {
    await handle.close();
  }
}

/** Renames, and makes that survive a power cut. */
export async function renameDurably(from: string, to: string): Promise<void> {
  await rename(from, to);
  const folder = await open(dirname(to), 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}
