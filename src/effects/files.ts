import { mkdir, open, readdir, readFile, rm, rmdir } from 'node:fs/promises';
import { dirname, join, resolve, sep } from 'node:path';
import { randomBytes } from 'node:crypto';
import type { Files } from '../ports.ts';
import { errno, missing, renameDurably, syncFolder } from './disk.ts';

/** For a folder that could not be removed: false where that is as it should be. */
function notEmpty(error: unknown): boolean {
  if (['ENOTEMPTY', 'EEXIST', 'ENOENT'].includes(errno(error) ?? '')) return false;
  throw error;
}

/** Writes whole or not at all: temporary file, fsync, rename, fsync of the folder. Mode 0600 by default. */
export async function writeDurably(path: string, content: string | Uint8Array, mode = 0o600): Promise<void> {
  const temporary = `${path}.${randomBytes(6).toString('hex')}.tmp`;
  try {
    const handle = await open(temporary, 'wx', mode);
    try {
      await handle.writeFile(content);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await renameDurably(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}

/** Durable files below one folder; a path that leaves it is refused. */
export function durableFiles(root: string): Files {
  const base = resolve(root);
  const inside = (path: string): string => {
    const full = resolve(join(base, path));
    if (full !== base && !full.startsWith(base + sep)) throw new Error(`path leaves ${base}: ${path}`);
    return full;
  };
  return {
    async read(path) {
      try {
        return await readFile(inside(path), 'utf8');
      } catch (error) {
        if (missing(error)) return undefined;
        throw error;
      }
    },
    async write(path, text) {
      const full = inside(path);
      await mkdir(dirname(full), { recursive: true, mode: 0o700 });
      await writeDurably(full, text);
    },
    async remove(path) {
      const full = inside(path);
      await rm(full, { force: true });
      const folder = dirname(full);
      // The last file takes its folder with it, or one would stay for each guest there ever was. The folders directly
      // below the base are the layout, and stay.
      const deep = folder !== base && dirname(folder) !== base;
      const left = deep && (await rmdir(folder).then(() => true, notEmpty)) ? dirname(folder) : folder;
      await syncFolder(left).catch((error: unknown) => {
        if (!missing(error)) throw error;
      });
    },
    async list(folder) {
      try {
        return (await readdir(inside(folder))).filter((name) => !name.endsWith('.tmp')).sort();
      } catch (error) {
        if (missing(error)) return [];
        throw error;
      }
    },
  };
}
