import type { Instant, Resource } from './resource.ts';

/** Pinned for ever at creation; never probed afterwards (CVE-2026-24708, CVE-2024-32498). */
export type ImageFormat = 'raw' | 'qcow2';
export const imageFormats: readonly ImageFormat[] = ['raw', 'qcow2'];

export type ImageState = 'uploading' | 'checking' | 'ready' | 'failed';

export interface ImageSpec {
  /** Format of the bytes that were given. */
  readonly format: ImageFormat;
  readonly description?: string;
  /** SHA-512 (hex) that the uploader says the given bytes have; checked. */
  readonly expectedSha512?: string;
}

export interface ImageStatus {
  readonly state: ImageState;
  readonly stateAt: Instant;
  /** Total size announced by the uploader. */
  readonly sizeBytes: number;
  readonly receivedBytes: number;
  /** SHA-512 (hex) of the bytes as given. */
  readonly givenSha512?: string;
  /** The converted copy, the only one that hosts use; always qcow2 without a backing file. */
  readonly stored?: { readonly sha512: string; readonly sizeBytes: number; readonly format: 'qcow2' };
  readonly virtualBytes?: number;
  readonly error?: { readonly code: string; readonly message: string };
}

export type Image = Resource<'image', ImageSpec, ImageStatus>;
