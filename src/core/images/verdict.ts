/** What is known of an image before a tool touches it, and what is thought of it. */

export interface ImageBytes {
  /** Length of the whole file. */
  readonly sizeBytes: number;
  readonly head: Uint8Array;
  readonly tail: Uint8Array;
}

export interface InspectLimits {
  readonly maxVirtualBytes: number;
}

/** What was wrong, for tests and counters; people read `detail`. */
export type ImageFault =
  | 'empty'
  | 'truncated'
  | 'not-qcow2'
  | 'version'
  | 'backing-file'
  | 'data-file'
  | 'features'
  | 'dirty'
  | 'encrypted'
  | 'snapshots'
  | 'header'
  | 'extension'
  | 'tables'
  | 'virtual-size'
  | 'disguise'
  | 'boot-record'
  | 'sectors';

export interface ImageRefusal {
  readonly ok: false;
  readonly fault: ImageFault;
  /** Ends the sentence "The image is refused: …". */
  readonly detail: string;
  /** What a person can do about it. */
  readonly how: string;
}

export interface ImageApproval {
  readonly ok: true;
  /** Size of the disk that a guest would see. */
  readonly virtualBytes: number;
  /** Of qcow2: size of a cluster. */
  readonly clusterBytes?: number;
}

export type ImageVerdict = ImageApproval | ImageRefusal;

/** The refusal of a disk that is larger than the site allows. */
export function tooLarge(virtualBytes: number | bigint, limits: InspectLimits): ImageRefusal {
  const detail = `its disk has ${virtualBytes} bytes, the limit of this site is ${limits.maxVirtualBytes}`;
  return { ok: false, fault: 'virtual-size', detail, how: 'Make it smaller, or ask for a higher limit.' };
}
