/** What the image files do to the file system. */
import { constants, type Stats } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';
import { createHash } from 'node:crypto';
import { VirgaError } from '../../core/errors.ts';
import { errno } from '../../effects/disk.ts';

/**
 * Opens a file that may have been tampered with: never through a symbolic link, never waiting (a FIFO), only a regular file with one name.
 * @throws VirgaError `image_refused`
 */
export async function openPlain(path: string): Promise<{ handle: FileHandle; stats: Stats }> {
  const how = 'Delete the image and upload it again; look who else writes to that folder.';
  const refused = (detail: string, cause?: unknown): VirgaError =>
    new VirgaError('image_refused', { detail, how }, { cause });
  let handle: FileHandle;
  try {
    handle = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (error) {
    if (errno(error) === 'ELOOP') throw refused('its file is a symbolic link', error);
    throw error;
  }
  try {
    const stats = await handle.stat();
    if (!stats.isFile()) throw refused('its file is not a regular file');
    if (stats.nlink !== 1) throw refused(`its file has ${stats.nlink} names (hard links)`);
    return { handle, stats };
  } catch (error) {
    await handle.close();
    throw error;
  }
}

/** Up to `length` bytes from `position`. */
export async function readAt(handle: FileHandle, position: number, length: number): Promise<Uint8Array> {
  const buffer = new Uint8Array(length);
  let filled = 0;
  while (filled < length) {
    const { bytesRead } = await handle.read(buffer, filled, length - filled, position + filled);
    if (bytesRead === 0) break;
    filled += bytesRead;
  }
  return buffer.subarray(0, filled);
}

/** SHA-512 (hex) of a whole open file, read in pieces. */
export async function digestOf(
  handle: FileHandle,
  signal: AbortSignal,
  onBytes: (done: number) => void,
): Promise<string> {
  const hash = createHash('sha512');
  const buffer = new Uint8Array(1024 * 1024);
  for (let position = 0; ;) {
    if (signal.aborted) throw new VirgaError('cancelled', { detail: 'reading the image was ended' });
    const { bytesRead } = await handle.read(buffer, 0, buffer.length, position);
    if (bytesRead === 0) return hash.digest('hex');
    hash.update(buffer.subarray(0, bytesRead));
    position += bytesRead;
    onBytes(position);
  }
}
