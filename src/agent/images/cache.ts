/**
 * The images of one host:
 *   SHA512.qcow2          read-only; there whole and verified, or not at all
 *   SHA512.json           its seal: size, inode and time of change when it was verified; its own time is the last use
 *   partial/SHA512.part   a fetch that goes on, or can
 *
 * The digest is computed before the first use, and again whenever file and seal differ (somebody wrote to it, or a crash came between the
 * two). A seal that fits is believed, also after a restart: reading tens of gigabytes at every start of the agent would hold up the guests
 * of a host that has just booted.
 */
import { chmod, mkdir, readdir, rm, stat, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { VirgaError } from '../../core/errors.ts';
import { missing, renameDurably } from '../../effects/disk.ts';
import { digestOf } from './disk.ts';
import { fetchImage } from './fetching.ts';
import { Flights } from './flights.ts';
import type { ImageCache, ImageCacheSettings, ImageCacheWorld, WantedImage } from './types.ts';

const defaults = { reserveBytes: 1024 ** 3, maxFetches: 2, maxTries: 8, idleMs: 30_000 } as const;
const digestPattern = /^[0-9a-f]{128}$/;
const imagePattern = /^([0-9a-f]{128})\.qcow2$/;

interface Seal {
  readonly sizeBytes: number;
  readonly mtimeMs: number;
  readonly inode: number;
}

/** Makes the folders where missing. */
export async function openImageCache(settings: ImageCacheSettings, world: ImageCacheWorld): Promise<ImageCache> {
  const { folder } = settings;
  await mkdir(folder, { recursive: true });
  await chmod(folder, 0o711);
  await mkdir(join(folder, 'partial'), { recursive: true, mode: 0o700 });
  return new DiskImageCache({ ...defaults, ...settings }, world);
}

class DiskImageCache implements ImageCache {
  readonly #settings: Required<ImageCacheSettings>;
  readonly #world: ImageCacheWorld;
  readonly #flights: Flights;
  /** Seals that fitted in this process; looked at with one `stat` per use. */
  readonly #seals = new Map<string, Seal>();

  constructor(settings: Required<ImageCacheSettings>, world: ImageCacheWorld) {
    this.#settings = settings;
    this.#world = world;
    this.#flights = new Flights(settings.maxFetches);
  }

  path(sha512: string): string {
    return join(this.#settings.folder, `${sha512}.qcow2`);
  }

  async ensure(image: WantedImage, onProgress?: (fraction: number) => void, signal?: AbortSignal): Promise<string> {
    const { sha512 } = image;
    if (!digestPattern.test(sha512)) throw new VirgaError('not_found', { kind: 'image', name: sha512.slice(0, 128) });
    await this.#flights.join(
      sha512,
      { ...(onProgress ? { onProgress } : {}), ...(signal ? { signal } : {}) },
      {
        // Without a place in the queue: an image that is there does not wait for others to come.
        ready: async (signal) => await this.#usable(image, signal),
        run: async (signal, tell) => await this.#fetch(image, signal, tell),
      },
    );
    const now = new Date(this.#world.clock.now());
    await utimes(this.#sealPath(sha512), now, now);
    return this.path(sha512);
  }

  async list(): Promise<readonly string[]> {
    const files = await readdir(this.#settings.folder);
    return files.flatMap((file) => imagePattern.exec(file)?.[1] ?? []).sort();
  }

  async evict(inUse: ReadonlySet<string>, roomBytes = 0): Promise<readonly string[]> {
    const { folder, maxBytes } = this.#settings;
    const evicted: string[] = [];
    const images = await Promise.all((await this.list()).map(async (sha512) => await this.#age(sha512)));
    let total = images.reduce((sum, image) => sum + image.sizeBytes, roomBytes);
    for (const { sha512, sizeBytes } of images.sort((a, b) => a.usedAtMs - b.usedAtMs)) {
      if (total <= maxBytes) break;
      if (inUse.has(sha512) || this.#flights.has(sha512)) continue;
      this.#seals.delete(sha512);
      await rm(this.path(sha512), { force: true });
      await this.#world.records.remove(`${sha512}.json`);
      total -= sizeBytes;
      evicted.push(sha512);
    }
    for (const file of await readdir(join(folder, 'partial'))) {
      const sha512 = file.replace(/\.part$/, '');
      if (!inUse.has(sha512) && !this.#flights.has(sha512)) await rm(join(folder, 'partial', file), { force: true });
    }
    return evicted;
  }

  async close(): Promise<void> {
    await this.#flights.close();
  }

  async #age(sha512: string): Promise<{ sha512: string; sizeBytes: number; usedAtMs: number }> {
    const { size, mtimeMs } = await stat(this.path(sha512));
    const usedAtMs = await stat(this.#sealPath(sha512)).then(
      (seal) => seal.mtimeMs,
      () => mtimeMs,
    );
    return { sha512, sizeBytes: size, usedAtMs };
  }

  /** Whether the image is there and sound. One that is not is removed. */
  async #usable(image: WantedImage, signal: AbortSignal): Promise<boolean> {
    const { sha512, sizeBytes } = image;
    const seen = await this.#look(sha512);
    if (!seen) return false;
    const seal = this.#seals.get(sha512) ?? (await this.#readSeal(sha512));
    if (seal && sameSeal(seal, seen) && seen.sizeBytes === sizeBytes) {
      this.#seals.set(sha512, seal);
      return true;
    }
    const actual = seen.sizeBytes === sizeBytes ? await digestOf(this.path(sha512), signal) : 'that of another size';
    if (actual === sha512) {
      await this.#seal(sha512);
      return true;
    }
    this.#world.log.warn('a cached image was damaged and is fetched anew', { sha512, actual });
    this.#seals.delete(sha512);
    await rm(this.path(sha512), { force: true });
    return false;
  }

  async #fetch(image: WantedImage, signal: AbortSignal, onProgress: (fraction: number) => void): Promise<void> {
    const { sha512 } = image;
    const { fetch, clock, log } = this.#world;
    const part = join(this.#settings.folder, 'partial', `${sha512}.part`);
    await fetchImage({ ...this.#settings, image, part, fetch, clock, log, signal, onProgress });
    await chmod(part, 0o444);
    await renameDurably(part, this.path(sha512));
    await this.#seal(sha512);
  }

  async #look(sha512: string): Promise<Seal | undefined> {
    try {
      const { size, mtimeMs, ino } = await stat(this.path(sha512));
      return { sizeBytes: size, mtimeMs, inode: ino };
    } catch (error) {
      if (missing(error)) return undefined;
      throw error;
    }
  }

  async #seal(sha512: string): Promise<void> {
    const seal = await this.#look(sha512);
    if (!seal) throw new VirgaError('not_found', { kind: 'image', name: sha512 });
    await this.#world.records.write(`${sha512}.json`, JSON.stringify(seal));
    this.#seals.set(sha512, seal);
  }

  async #readSeal(sha512: string): Promise<Seal | undefined> {
    const text = await this.#world.records.read(`${sha512}.json`);
    try {
      return text === undefined ? undefined : (JSON.parse(text) as Seal);
    } catch {
      // A seal that cannot be read seals nothing: the digest decides.
      return undefined;
    }
  }

  #sealPath(sha512: string): string {
    return join(this.#settings.folder, `${sha512}.json`);
  }
}

function sameSeal(a: Seal, b: Seal): boolean {
  return a.sizeBytes === b.sizeBytes && a.mtimeMs === b.mtimeMs && a.inode === b.inode;
}
