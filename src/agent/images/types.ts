import type { Clock, Files, Log } from '../../ports.ts';

/**
 * Gives the bytes of a stored image from byte `fromByte` on. Rejects, or breaks off in the iteration, when the way fails; the cache then asks
 * again from where it is. A VirgaError `not_found` ends the tries.
 */
export type FetchImage = (sha512: string, fromByte: number, signal: AbortSignal) => Promise<AsyncIterable<Uint8Array>>;

export interface WantedImage {
  /** SHA-512 (hex) of the stored copy. */
  readonly sha512: string;
  readonly sizeBytes: number;
}

export interface ImageCacheSettings {
  /** Folder of the images; made with mode 0711, since the emulator's user goes through it. */
  readonly folder: string;
  /** Images that no guest uses are removed, the longest unused first, until the cache is below this. What guests use may exceed it. */
  readonly maxBytes: number;
  /** Never used of the file system; 1 GiB by default. */
  readonly reserveBytes?: number;
  /** Fetches at one moment, the others wait; 2 by default. */
  readonly maxFetches?: number;
  /** Tries without a new byte until a fetch gives up; 8 by default. */
  readonly maxTries?: number;
  /** Milliseconds without a byte until a try is given up; 30,000 by default. */
  readonly idleMs?: number;
}

/** What the cache needs of the world. */
export interface ImageCacheWorld {
  readonly fetch: FetchImage;
  /** Durable small files in the same folder: `durableFiles(settings.folder)`. */
  readonly records: Files;
  readonly clock: Clock;
  readonly log: Log;
}

/** The images of one host. */
export interface ImageCache {
  /**
   * The path of the image, read-only and verified. Fetches it when it is not there; however many ask, it is fetched once, and goes on where an
   * earlier try or an earlier agent stopped. `onProgress`: 0..1.
   * @throws VirgaError `image_digest` (the bytes are not the image) · `disk_full` · `not_found` (the controller has it no more) ·
   *   `site_unreachable` (with what the last try said) · `cancelled`
   */
  ensure(image: WantedImage, onProgress?: (fraction: number) => void, signal?: AbortSignal): Promise<string>;
  /** Where it is or will be; says nothing about whether it is there. */
  path(sha512: string): string;
  /** Digests that are there whole, sorted. */
  list(): Promise<readonly string[]>;
  /**
   * Removes images until the cache, with `roomBytes` for what comes next, is within its bound; the longest unused first. Removes also the beginnings of
   * fetches that nobody wants any more. `inUse`: digests of images that a guest's overlay stands on or that the assignment lists; never removed.
   * Gives the digests removed. Call it before `ensure`.
   */
  evict(inUse: ReadonlySet<string>, roomBytes?: number): Promise<readonly string[]>;
  /** Ends running fetches; what came is kept. */
  close(): Promise<void>;
}
