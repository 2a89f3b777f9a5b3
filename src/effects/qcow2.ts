/**
 * New qcow2 overlays, written by ourselves: an empty one is a header and three small tables (QEMU, docs/interop/qcow2.txt),
 * and starting qemu-img in its sandbox for them took longer than all the rest of preparing a guest's disk.
 */
import { randomBytes } from 'node:crypto';
import { open, rename, rm } from 'node:fs/promises';
import { dirname, isAbsolute } from 'node:path';
import { VirgaError } from '../core/errors.ts';
import { diskError, syncFolder } from './disk.ts';

const magic = 0x51_46_49_fb;
const clusterBits = 16;
const clusterBytes = 1 << clusterBits;
/** One entry of the L1 table stands for a cluster of L2 entries, 8 bytes each. */
const bytesPerL1Entry = (clusterBytes / 8) * clusterBytes;
const headerBytes = 104;
const backingFormatExtension = 0xe2_79_2a_ca;
/** Longest name of a backing file in the format. */
const maxBackingBytes = 1023;
/** Largest disk that is written; the tables still fit in the first block of reference counts. */
const maxVirtualBytes = 2 ** 50;

export interface OverlayOrder {
  /** New file; it must not exist. Mode 0600. */
  readonly path: string;
  /** Absolute path of a qcow2 file, written into the header with its format. It is not opened. */
  readonly backingPath: string;
  /** Virtual size; at least that of the backing file, rounded up to whole sectors. */
  readonly virtualBytes: number;
  /** It need not survive a power cut: nothing waits for the disk. */
  readonly passing?: boolean;
}

interface Layout {
  readonly virtualBytes: number;
  readonly l1Entries: number;
  /** Clusters of the whole file: header, table of reference counts, block of reference counts, L1 table. */
  readonly clusters: number;
}

function layoutOf(virtualBytes: number): Layout {
  if (!Number.isSafeInteger(virtualBytes) || virtualBytes < 0 || virtualBytes > maxVirtualBytes)
    throw new VirgaError('invalid_request', { detail: `A disk of ${virtualBytes} bytes cannot be made` });
  const whole = Math.ceil(virtualBytes / 512) * 512;
  const l1Entries = Math.ceil(whole / bytesPerL1Entry);
  return { virtualBytes: whole, l1Entries, clusters: 3 + Math.ceil((l1Entries * 8) / clusterBytes) };
}

/** Version 3 with the backing file's format pinned, so that nothing ever probes it (CVE-2024-32498). */
function header({ virtualBytes, l1Entries }: Layout, backing: Buffer): Buffer {
  const format = Buffer.from('qcow2\0\0\0');
  const extensions = headerBytes + 8 + format.length + 8;
  const bytes = Buffer.alloc(extensions + backing.length);
  bytes.writeUInt32BE(magic, 0);
  bytes.writeUInt32BE(3, 4);
  bytes.writeBigUInt64BE(BigInt(extensions), 8);
  bytes.writeUInt32BE(backing.length, 16);
  bytes.writeUInt32BE(clusterBits, 20);
  bytes.writeBigUInt64BE(BigInt(virtualBytes), 24);
  bytes.writeUInt32BE(l1Entries, 36);
  bytes.writeBigUInt64BE(BigInt(3 * clusterBytes), 40);
  bytes.writeBigUInt64BE(BigInt(clusterBytes), 48);
  bytes.writeUInt32BE(1, 56);
  // Reference counts of 2^4 bits.
  bytes.writeUInt32BE(4, 96);
  bytes.writeUInt32BE(headerBytes, 100);
  bytes.writeUInt32BE(backingFormatExtension, headerBytes);
  bytes.writeUInt32BE('qcow2'.length, headerBytes + 4);
  format.copy(bytes, headerBytes + 8);
  backing.copy(bytes, extensions);
  return bytes;
}

/** Writes an empty overlay under its name, whole or not at all. @throws VirgaError `disk_full`, `invalid_request` */
export async function writeOverlay(order: OverlayOrder): Promise<void> {
  const backing = Buffer.from(order.backingPath);
  if (!isAbsolute(order.backingPath) || backing.length > maxBackingBytes)
    throw new TypeError(`not the path of a backing file: ${order.backingPath}`);
  const layout = layoutOf(order.virtualBytes);
  const table = Buffer.alloc(8);
  table.writeBigUInt64BE(BigInt(2 * clusterBytes));
  const counts = Buffer.alloc(layout.clusters * 2);
  for (let cluster = 0; cluster < layout.clusters; cluster += 1) counts.writeUInt16BE(1, cluster * 2);
  const temporary = `${order.path}.${randomBytes(6).toString('hex')}.tmp`;
  try {
    const handle = await open(temporary, 'wx', 0o600);
    try {
      await handle.write(header(layout, backing), 0, undefined, 0);
      await handle.write(table, 0, undefined, clusterBytes);
      await handle.write(counts, 0, undefined, 2 * clusterBytes);
      await handle.truncate(layout.clusters * clusterBytes);
      if (!order.passing) await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(temporary, order.path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw diskError(error, dirname(order.path));
  }
  if (!order.passing) await syncFolder(dirname(order.path));
}

/** Virtual size of a qcow2 file of ours, from its header. @throws VirgaError `image_refused` when it has none */
export async function readVirtualBytes(path: string): Promise<number> {
  const head = Buffer.alloc(32);
  const handle = await open(path, 'r');
  try {
    await handle.read(head, 0, head.length, 0);
  } finally {
    await handle.close();
  }
  const bytes = head.readBigUInt64BE(24);
  if (head.readUInt32BE(0) === magic && bytes <= BigInt(maxVirtualBytes)) return Number(bytes);
  throw new VirgaError('image_refused', {
    detail: `${path} is no qcow2 file`,
    how: 'Look at it with qemu-img info and qemu-img check.',
  });
}
