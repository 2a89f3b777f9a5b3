/** Disk files of the guests, under `<data>/guests/<id>/`. Formats are pinned; qemu-img runs in its sandbox only. */
import { chmod, copyFile, mkdir, open, readdir, rename, rm, stat, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { VirgaError } from '../core/errors.ts';
import type { Uuid } from '../core/model/resource.ts';
import { readVirtualBytes, writeOverlay } from '../effects/qcow2.ts';
import type { Disks } from './ports.ts';

/** What of qemu-img the disks need; given by `main.ts`, so that tests of bookkeeping need no sandbox. */
export interface DiskTool {
  info(
    file: { readonly path: string; readonly format: 'qcow2' },
    options?: { readonly ours?: boolean },
  ): Promise<{ readonly virtualBytes: number; readonly backingPath?: string }>;
  resize(
    file: { readonly path: string; readonly format: 'qcow2'; readonly backing: readonly string[] },
    virtualBytes: number,
  ): Promise<void>;
}

export interface DiskSettings {
  /** Absolute path of the agent's data folder. */
  readonly dataDir: string;
  readonly tool: DiskTool;
  /** Template of the UEFI variables, if there is one. */
  readonly uefiVars?: string;
  /** Bytes of the serial log beyond which its older part is moved away; at most twice that is kept. 1 MiB by default. */
  readonly logBytes?: number;
}

const layerPattern = /^disk-\d+\.qcow2$/;
const missing = (error: unknown): boolean => (error as NodeJS.ErrnoException).code === 'ENOENT';
const uuidPattern = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

export function guestDisks(settings: DiskSettings): Disks {
  const { tool, dataDir, uefiVars, logBytes = 1024 * 1024 } = settings;
  const root = join(dataDir, 'guests');
  const folder = (id: Uuid): string => {
    if (!uuidPattern.test(id)) throw new VirgaError('invalid_request', { detail: `"${id}" is not a guest's id` });
    return join(root, id);
  };
  /** The emulator's user goes through these folders to its files; nobody lists them. */
  const make = async (id: Uuid): Promise<void> => {
    await mkdir(folder(id), { recursive: true, mode: 0o711 });
    for (const path of [root, folder(id)]) await chmod(path, 0o711);
  };
  const list = async (id: Uuid): Promise<readonly string[]> => {
    try {
      return (await readdir(folder(id))).filter((name) => layerPattern.test(name)).sort();
    } catch (error) {
      if (missing(error)) return [];
      throw error;
    }
  };
  return {
    path: (id, file) => join(folder(id), file),
    list,
    async create(id, file, backingPath, virtualBytes, { passing = false } = {}) {
      await make(id);
      const path = join(folder(id), file);
      await rm(path, { force: true });
      await writeOverlay({ path, backingPath, virtualBytes, passing });
    },
    async isOverlay(id, file, backingPath) {
      const path = join(folder(id), file);
      try {
        await stat(path);
        return (await tool.info({ path, format: 'qcow2' }, { ours: true })).backingPath === backingPath;
      } catch (error) {
        if (missing(error) || (error instanceof VirgaError && error.code === 'image_refused')) return false;
        throw error;
      }
    },
    virtualBytes: readVirtualBytes,
    grow: (id, file, backing, bytes) => tool.resize({ path: join(folder(id), file), format: 'qcow2', backing }, bytes),
    async sweep(id, keep) {
      for (const name of await list(id)) if (!keep.includes(name)) await rm(join(folder(id), name), { force: true });
    },
    async nvram(id) {
      if (uefiVars === undefined)
        throw new VirgaError('setup', { detail: 'This host has no UEFI firmware', how: 'Install the package ovmf.' });
      await make(id);
      const path = join(folder(id), 'uefi-vars.fd');
      const present = await stat(path).catch(() => undefined);
      if (present) return path;
      await copyFile(uefiVars, `${path}.tmp`);
      await rename(`${path}.tmp`, path);
      return path;
    },
    async serialLog(id) {
      await make(id);
      return join(folder(id), 'serial.log');
    },
    async boundLogs(ids) {
      for (const id of ids) await boundLog(join(folder(id), 'serial.log'), logBytes);
    },
    async removeAll(id) {
      for (const name of await readdir(folder(id)).catch(() => []))
        if (name !== 'journal.json') await rm(join(folder(id), name), { recursive: true, force: true });
    },
  };
}

/**
 * Moves what is written so far into `serial.log.1` and cuts the file. QEMU holds it open for appending, so it goes on
 * at the new end; what it writes between copy and cut (microseconds) is lost, as with any copy-and-truncate.
 */
async function boundLog(path: string, bytes: number): Promise<void> {
  const found = await stat(path).catch(() => undefined);
  if (!found || found.size <= bytes) return;
  await keepTail(path, `${path}.1`, found.size, bytes);
  await truncate(path, 0);
}

/** Copies at most the last `bytes` bytes: a guest may have written gigabytes since the last look. */
async function keepTail(from: string, to: string, size: number, bytes: number): Promise<void> {
  const source = await open(from, 'r');
  try {
    const buffer = Buffer.alloc(Math.min(size, bytes));
    await source.read(buffer, 0, buffer.length, size - buffer.length);
    const target = await open(`${to}.tmp`, 'w', 0o600);
    try {
      await target.writeFile(buffer);
    } finally {
      await target.close();
    }
    await rename(`${to}.tmp`, to);
  } finally {
    await source.close();
  }
}

/** The last `bytes` of a guest's serial output, oldest first. */
export async function readSerial(
  path: string,
  bytes: number,
): Promise<{ readonly text: string; readonly truncated: boolean }> {
  const parts: Buffer[] = [];
  let left = bytes;
  let truncated = false;
  for (const name of [path, `${path}.1`]) {
    const handle = await open(name, 'r').catch(() => undefined);
    if (!handle) continue;
    try {
      const { size } = await handle.stat();
      const length = Math.min(size, left);
      truncated ||= length < size;
      const buffer = Buffer.alloc(length);
      await handle.read(buffer, 0, length, size - length);
      parts.unshift(buffer);
      left -= length;
    } finally {
      await handle.close();
    }
  }
  return { text: Buffer.concat(parts).toString('utf8'), truncated };
}
