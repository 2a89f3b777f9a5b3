/** The header of a qcow2 image, field by field. Source: QEMU, docs/interop/qcow2.txt; limits: QEMU, block/qcow2.h. */
import { disguise } from './magic.ts';
import { tooLarge, type ImageBytes, type ImageFault, type ImageRefusal } from './verdict.ts';
import type { ImageVerdict, InspectLimits } from './verdict.ts';

const magic = 0x514649fb;
const v2HeaderBytes = 72;
const v3HeaderBytes = 104;
const maxHeaderBytes = 1024;
const maxL1Bytes = 32 * 1024 * 1024;
const maxRefcountTableBytes = 8 * 1024 * 1024;

/** The only incompatible feature that is allowed: compressed clusters by another method than zlib (bit 3). */
const compressionBit = 8n;
const featureNames: readonly (readonly [bit: bigint, fault: ImageFault, detail: string])[] = [
  [4n, 'data-file', 'it keeps its data in another file'],
  [1n, 'dirty', 'it was not closed properly'],
  [2n, 'dirty', 'it is marked as corrupt'],
  [16n, 'features', 'it uses extended L2 entries'],
];

const featureNameTable = 0x6803f857;
const extensionNames: Readonly<Record<number, readonly [fault: ImageFault, name: string]>> = {
  0xe2792aca: ['backing-file', 'the format of a backing file'],
  0x44415441: ['data-file', 'the name of an external data file'],
  0x0537be77: ['encrypted', 'an encryption header'],
  0x23852875: ['extension', 'bitmaps'],
};

const flatten = 'Flatten it on your machine: qemu-img convert -O qcow2 IMAGE NEW, and add NEW.';
const repair = 'Repair it on your machine: qemu-img check -r all IMAGE, or upload it again.';

function refuse(fault: ImageFault, detail: string, how = flatten): ImageRefusal {
  return { ok: false, fault, detail, how };
}

interface Header {
  readonly version: number;
  readonly clusterBits: number;
  readonly virtualBytes: bigint;
  readonly l1Entries: number;
  readonly l1Offset: bigint;
  readonly refcountOffset: bigint;
  readonly refcountClusters: number;
  readonly headerBytes: number;
}

/** Whether a file that was declared qcow2 may be given to the tools. */
export function inspectQcow2(bytes: ImageBytes, limits: InspectLimits): ImageVerdict {
  const { head, tail } = bytes;
  const view = new DataView(head.buffer, head.byteOffset, head.byteLength);
  if (head.length < 8 || view.getUint32(0) !== magic) {
    const other = disguise(head, tail);
    return refuse(
      'not-qcow2',
      `it is declared qcow2, but ${other ? `it is ${other}` : 'has no qcow2 header'}`,
      'Say what it is (--format), or convert it: qemu-img convert -O qcow2 IMAGE NEW.',
    );
  }
  const version = view.getUint32(4);
  if (version !== 2 && version !== 3) return refuse('version', `its qcow version is ${version}, not 2 or 3`);
  if (head.length < (version === 2 ? v2HeaderBytes : v3HeaderBytes))
    return refuse('truncated', `it ends within its header, after ${head.length} bytes`, 'Upload it whole.');
  return (
    references(view, version) ??
    shape(view, version, bytes.sizeBytes) ??
    disk(readHeader(view, version), bytes.sizeBytes, limits)
  );
}

function readHeader(view: DataView, version: number): Header {
  return {
    version,
    clusterBits: view.getUint32(20),
    virtualBytes: view.getBigUint64(24),
    l1Entries: view.getUint32(36),
    l1Offset: view.getBigUint64(40),
    refcountOffset: view.getBigUint64(48),
    refcountClusters: view.getUint32(56),
    headerBytes: version === 2 ? v2HeaderBytes : view.getUint32(100),
  };
}

/** Everything that points out of the file, or that needs a key. */
function references(view: DataView, version: number): ImageRefusal | undefined {
  if (view.getBigUint64(8) !== 0n || view.getUint32(16) !== 0)
    return refuse('backing-file', 'it stands on a backing file, which would be read from this machine');
  const method = view.getUint32(32);
  if (method !== 0) {
    const name = ['', ' (AES)', ' (LUKS)'][method] ?? '';
    return refuse('encrypted', `it is encrypted${name}`, 'Decrypt it on your machine, then add it.');
  }
  const snapshots = view.getUint32(60);
  if (snapshots !== 0) return refuse('snapshots', `it carries ${snapshots} internal snapshots`);
  if (version === 2) return undefined;
  const features = view.getBigUint64(72);
  const known = featureNames.find(([bit]) => (features & bit) !== 0n);
  if (known) return refuse(known[1], known[2], known[1] === 'dirty' ? repair : flatten);
  const unknown = features & ~compressionBit;
  if (unknown !== 0n) return refuse('features', `it needs features that are unknown here (0x${unknown.toString(16)})`);
  return undefined;
}

/** The header itself and what follows it in the first cluster. */
function shape(view: DataView, version: number, sizeBytes: number): ImageRefusal | undefined {
  const header = readHeader(view, version);
  if (header.clusterBits < 9 || header.clusterBits > 21)
    return refuse('header', `its cluster size is 2^${header.clusterBits}, not 2^9 to 2^21`);
  const { headerBytes } = header;
  if (version === 3) {
    if (headerBytes < v3HeaderBytes || headerBytes > maxHeaderBytes || headerBytes % 8 !== 0)
      return refuse('header', `its header length is ${headerBytes}, not a multiple of 8 from 104 to 1024`);
    const order = view.getUint32(96);
    if (order > 6) return refuse('header', `its refcounts have 2^${order} bits, the format ends at 2^6`);
  }
  const end = Math.min(2 ** header.clusterBits, sizeBytes, view.byteLength);
  if (headerBytes > end) return refuse('truncated', 'it ends within its header', 'Upload it whole.');
  return (version === 3 ? compression(view, headerBytes) : undefined) ?? extensions(view, headerBytes, end);
}

function compression(view: DataView, headerBytes: number): ImageRefusal | undefined {
  const marked = (view.getBigUint64(72) & compressionBit) !== 0n;
  const method = headerBytes > v3HeaderBytes ? view.getUint8(104) : 0;
  // The bit is set exactly when the method is not zlib (0); the one other method is zstd (1).
  if (method > 1 || marked !== (method === 1)) return refuse('header', `its compression method ${method} is not valid`);
  return undefined;
}

/** Header extensions: type and length (4 bytes each), data padded to 8. Only names of features are harmless. */
function extensions(view: DataView, start: number, end: number): ImageRefusal | undefined {
  let at = start;
  while (at + 8 <= end) {
    const type = view.getUint32(at);
    const length = view.getUint32(at + 4);
    if (type === 0) return undefined;
    if (type !== featureNameTable) {
      const [fault, name] = extensionNames[type] ?? [
        'extension',
        `an unknown header extension (0x${type.toString(16)})`,
      ];
      return refuse(fault, `its header carries ${name}`);
    }
    if (length > end - at - 8) return refuse('header', 'a header extension is longer than the first cluster');
    at += 8 + Math.ceil(length / 8) * 8;
  }
  return undefined;
}

/** The disk and the tables that describe it: within the file, within the limits, fitting each other. */
function disk(header: Header, sizeBytes: number, limits: InspectLimits): ImageVerdict {
  const { clusterBits, virtualBytes, l1Entries, refcountClusters } = header;
  const clusterBytes = 2 ** clusterBits;
  if (virtualBytes === 0n) return refuse('virtual-size', 'its disk has no bytes');
  if (virtualBytes > BigInt(limits.maxVirtualBytes)) return tooLarge(virtualBytes, limits);
  if (l1Entries * 8 > maxL1Bytes) return refuse('tables', `its L1 table has ${l1Entries} entries, more than 32 MiB`);
  // An L2 table is one cluster of 8-byte entries, each for one cluster.
  const perL1Entry = BigInt(clusterBytes) * BigInt(clusterBytes / 8);
  const neededEntries = (virtualBytes + perL1Entry - 1n) / perL1Entry;
  if (BigInt(l1Entries) < neededEntries)
    return refuse('tables', `its L1 table has ${l1Entries} entries, its disk needs ${neededEntries}`, repair);
  if (refcountClusters === 0) return refuse('tables', 'it has no refcount table', repair);
  if (refcountClusters * clusterBytes > maxRefcountTableBytes)
    return refuse('tables', 'its refcount table is larger than 8 MiB');
  const tables = [
    ['L1', header.l1Offset, BigInt(l1Entries) * 8n],
    ['refcount', header.refcountOffset, BigInt(refcountClusters * clusterBytes)],
  ] as const;
  for (const [name, offset, length] of tables) {
    if (offset < BigInt(clusterBytes) || offset % BigInt(clusterBytes) !== 0n)
      return refuse('tables', `its ${name} table is at ${offset}, not at the start of a cluster`, repair);
    if (offset + length > BigInt(sizeBytes))
      return refuse('truncated', `its ${name} table lies beyond its end: it was cut off`, 'Upload it whole.');
  }
  return { ok: true, virtualBytes: Number(virtualBytes), clusterBytes };
}
