/** How the cache reads its files. */
import { createHash, type Hash } from 'node:crypto';
import { open, type FileHandle } from 'node:fs/promises';

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
