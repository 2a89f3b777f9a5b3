/** What durable files need of the file system, and what is made of its errors. */
import { open, rename, statfs } from 'node:fs/promises';
import { dirname } from 'node:path';
import { VirgaError } from '../core/errors.ts';

export function errno(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}

export const missing = (error: unknown): boolean => errno(error) === 'ENOENT';

/** A full disk or an exhausted quota becomes `disk_full`; everything else stays what it is. */
export function diskError(error: unknown, path: string): unknown {
  const code = errno(error);
  return code === 'ENOSPC' || code === 'EDQUOT'
    ? new VirgaError('disk_full', { path, detail: code }, { cause: error })
    : error;
}

/** Refuses with `disk_full` when `bytes` more would leave less than `reserve` free for everybody else on that file system. */
export async function demandSpace(folder: string, bytes: number, reserve: number): Promise<void> {
  const { bavail, bsize } = await statfs(folder);
  const free = bavail * bsize;
  if (free - bytes >= reserve) return;
  const detail = `${free} bytes are free, ${bytes} are needed and ${reserve} are kept for others`;
  throw new VirgaError('disk_full', { path: folder, detail });
}

/** Makes a rename or a removal in a folder survive a power cut. */
export async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Renames, and makes that survive a power cut. */
export async function renameDurably(from: string, to: string): Promise<void> {
  await rename(from, to);
  await syncFolder(dirname(to));
}
