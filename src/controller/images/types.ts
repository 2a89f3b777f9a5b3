import type { Readable } from 'node:stream';
import type { ImageFormat } from '../../core/model/image.ts';
import type { Uuid } from '../../core/model/resource.ts';
import type { Clock, Files, Log } from '../../ports.ts';

/** What a finished image is; goes into the image's status. */
export interface FinishedImage {
  /** SHA-512 (hex) of the bytes as given. */
  readonly givenSha512: string;
  /** The converted copy, the only one that is kept and that hosts use. */
  readonly stored: { readonly sha512: string; readonly sizeBytes: number; readonly format: 'qcow2' };
  /** Size of the disk that a guest sees. */
  readonly virtualBytes: number;
}

/** `hash`: the given bytes are read once more (only when the running digest was lost in a restart or the upload came in two processes). */
export type FinishStep = 'waiting' | 'hash' | 'check' | 'convert' | 'verify';

export interface FinishOptions {
  readonly format: ImageFormat;
  /** SHA-512 (hex) that the given bytes must have. */
  readonly expectedSha512?: string;
  /** `fraction` 0..1 over all steps; never falls; at most some calls a second. */
  readonly onProgress?: (step: FinishStep, fraction: number) => void;
  /** Ends the run, for all that share it. */
  readonly signal?: AbortSignal;
}

export interface AppendOptions {
  /** Aborted when the client is gone; what came until then is kept. */
  readonly signal?: AbortSignal;
  /** Bytes that are safe on disk; called after every flush (each 32 MiB, and at the end). */
  readonly onProgress?: (receivedBytes: number) => void;
}

export interface AppendResult {
  /** Bytes on disk, synced: the next append starts here. */
  readonly receivedBytes: number;
  /** All announced bytes are here: `finish` may be called. */
  readonly complete: boolean;
}

/** Bytes `start` to `end`, both included, as in an HTTP range. */
export interface ByteRange {
  readonly start: number;
  readonly end: number;
}

export interface OpenedImage {
  /** Size of the whole stored copy. */
  readonly sizeBytes: number;
  /** What `stream` gives. */
  readonly range: ByteRange;
  /** Holds a file descriptor until it ends or is destroyed. */
  readonly stream: Readable;
}

/**
 * The image files of a site, below one data folder. It knows bytes and digests; names, owners and states of images are
 * in the store. Everything survives kill -9 and power cuts at any moment: what was acknowledged is on disk, and the rest
 * is what `sweep` removes.
 *
 * Order of calls: `begin`, then `append` until `complete`, then `finish`, then (after the store has its result) `discard`.
 * `begin` and `finish` may be repeated after a restart and give the same answer.
 */
export interface ImageFiles {
  /**
   * Makes room for an upload. Repeated with the same size: nothing happens.
   * @throws VirgaError `limit` (size) · `overloaded` (uploads at once) · `disk_full` · `upload_size` (repeated with another size)
   */
  begin(image: { readonly id: Uuid; readonly name: string; readonly sizeBytes: number }): Promise<void>;

  /**
   * Bytes of an upload that are safe on disk; after `finish` the announced size.
   * @throws VirgaError `not_found`
   */
  offset(imageId: Uuid): Promise<number>;

  /**
   * Takes bytes that start at `offset`, streamed to disk with back-pressure. A second append for the same image ends the first one
   * (its connection is usually dead). When it fails, everything that came is kept and `offset` says where to go on. The source is then left as it is, so that an HTTP answer can still be sent on its connection; the caller
   * ends it.
   * @throws VirgaError `not_found` · `upload_offset` · `upload_size` (more than announced) · `disk_full` ·
   *   `cancelled` (source broke off, was aborted, or was overtaken) · `timeout` (nothing came for a minute) · `overloaded`
   */
  append(
    imageId: Uuid,
    offset: number,
    source: AsyncIterable<Uint8Array>,
    options?: AppendOptions,
  ): Promise<AppendResult>;

  /**
   * Judges the given bytes and makes the stored copy: digest, header, sandboxed check, sandboxed conversion to a fresh qcow2 without
   * backing file, digest of that. One at a time; the others wait in a bounded queue. Several calls for one image share one run.
   * The given bytes stay until `discard`, so that a failure (a full disk, say) can be repeated.
   * @throws VirgaError `not_found` · `upload_size` (not all there) · `image_digest` · `image_refused` · `limit` · `disk_full` ·
   *   `overloaded` · `timeout` · `cancelled`
   */
  finish(imageId: Uuid, options: FinishOptions): Promise<FinishedImage>;

  /** Removes the given bytes and the record of an upload, ending what runs for it. No error when there is none. Call it when the store has the result, the image has failed for good, or was deleted. */
  discard(imageId: Uuid): Promise<void>;

  /** Size of a stored copy; undefined when there is none. */
  size(sha512: string): Promise<number | undefined>;

  /**
   * A stored copy or a part of it (without `range`: the whole). `end` beyond the last byte is cut; this is what `image download` and hosts get.
   * @throws VirgaError `not_found` · `invalid_request` (starts beyond the end) · `overloaded`
   */
  open(sha512: string, range?: { readonly start: number; readonly end?: number }): Promise<OpenedImage>;

  /**
   * Puts a copy that another controller made on the shelf. `path` lies on the same file system, its digest was checked, and it is gone
   * afterwards.
   */
  take(sha512: string, path: string): Promise<void>;

  /** Removes a stored copy, unless an upload that is not discarded yet has it as its result. The caller makes sure that no image refers to it. No error when it is not there. */
  removeStored(sha512: string): Promise<void>;

  /**
   * Removes every file that belongs neither to one of the uploads nor to one of the digests and that nothing has written to for an hour
   * (so that what was decided a moment ago is safe). Now and then. Gives the names of what it removed.
   */
  sweep(uploads: ReadonlySet<Uuid>, digests: ReadonlySet<string>): Promise<readonly string[]>;

  /** Ends running uploads and conversions (they reject with `cancelled`); what came is kept. */
  close(): Promise<void>;
}

export interface ImageFilesSettings {
  /** Folder of everything below; made with mode 0700. */
  readonly folder: string;
  /** Largest virtual size; 2 TiB by default. */
  readonly maxVirtualBytes?: number;
  /** Largest upload; 256 GiB by default. */
  readonly maxUploadBytes?: number;
  /** Uploads begun and not discarded; 64 by default. */
  readonly maxUploads?: number;
  /** Appends at one moment; 16 by default. */
  readonly maxAppends?: number;
  /** Streams open at one moment; 64 by default. */
  readonly maxStreams?: number;
  /** Conversions that wait behind the one that runs; 64 by default. */
  readonly maxWaiting?: number;
  /** Never used of the file system: the database may live there too. 1 GiB by default. */
  readonly reserveBytes?: number;
  /** Milliseconds without a byte until an append gives up; 60,000 by default. */
  readonly idleMs?: number;
  /** `sweep` leaves younger files alone; an hour by default. */
  readonly sweepAgeMs?: number;
}

/** What the image files need of the world. */
export interface ImageFilesWorld {
  readonly tool: ImageTool;
  /** Durable small files in the same folder: `durableFiles(settings.folder)`. */
  readonly records: Files;
  readonly clock: Clock;
  readonly log: Log;
}

/** What the service needs of qemu-img; `sandboxedQemuImg` of `src/effects/qemu-img.ts` is it. Formats are always pinned. */
export interface ImageTool {
  check(file: ImageFile, options?: ToolOptions): Promise<ImageCheck>;
  /** Bytes that `file` takes as qcow2. */
  measure(file: ImageFile, options?: ToolOptions): Promise<{ readonly requiredBytes: number }>;
  /** To a fresh qcow2 without backing file at `target`, which must not exist and is at most `maxBytes` long. Synced. */
  convert(
    file: ImageFile,
    target: string,
    options: ToolOptions & { readonly maxBytes: number; readonly onProgress?: (fraction: number) => void },
  ): Promise<void>;
}
export interface ImageFile {
  readonly path: string;
  readonly format: ImageFormat;
}
export interface ToolOptions {
  readonly signal?: AbortSignal;
  readonly timeoutMs?: number;
}
export interface ImageCheck {
  /** Errors and leaks of the image's own tables. */
  readonly corruptions: number;
  readonly leaks: number;
  /** Errors of the check itself. */
  readonly checkErrors: number;
  /** Guest clusters that have data, and those of them that are compressed. */
  readonly allocatedClusters: number;
  readonly compressedClusters: number;
}
