/** Disk images written byte by byte, so that what is hostile in them is plain to see. */

export const clusterBytes = 65_536;

export interface Qcow2Order {
  readonly version?: 2 | 3;
  readonly virtualBytes?: number;
  /** Guest clusters that have data: each number is the file cluster (from `firstData` on) that it is mapped to. */
  readonly map?: readonly number[];
  /** Entries of L1 that all aim at the one L2 table; 1 by default. */
  readonly l1Entries?: number;
  /** Refcounts of the file's clusters, where they are not 1. */
  readonly refcounts?: Readonly<Record<number, number>>;
  /** Clusters of data at the end. */
  readonly dataClusters?: number;
  /** Whether L2 entries say "only once referenced". */
  readonly copied?: boolean;
}

/** header, refcount table, refcount block, L1, L2, then data */
export const l2Cluster = 4;
export const firstData = 5;
const copiedFlag = 1n << 63n;

/** A sound image unless the order says otherwise. */
export function buildQcow2(order: Qcow2Order = {}): Buffer {
  const { version = 3, virtualBytes = 64 * 1024 * 1024, map = [firstData], l1Entries = 1, dataClusters = 1 } = order;
  const clusters = firstData + dataClusters;
  const image = Buffer.alloc(clusters * clusterBytes);
  image.write('QFI\xfb', 0, 'latin1');
  image.writeUInt32BE(version, 4);
  image.writeUInt32BE(16, 20);
  image.writeBigUInt64BE(BigInt(virtualBytes), 24);
  image.writeUInt32BE(l1Entries, 36);
  image.writeBigUInt64BE(BigInt(3 * clusterBytes), 40);
  image.writeBigUInt64BE(BigInt(clusterBytes), 48);
  image.writeUInt32BE(1, 56);
  if (version === 3) {
    image.writeUInt32BE(4, 96);
    image.writeUInt32BE(104, 100);
  }
  image.writeBigUInt64BE(BigInt(2 * clusterBytes), clusterBytes);
  for (let cluster = 0; cluster < clusters; cluster++)
    image.writeUInt16BE(order.refcounts?.[cluster] ?? 1, 2 * clusterBytes + 2 * cluster);
  const flag = order.copied === false ? 0n : copiedFlag;
  for (let entry = 0; entry < l1Entries; entry++)
    image.writeBigUInt64BE(BigInt(l2Cluster * clusterBytes) | flag, 3 * clusterBytes + 8 * entry);
  for (const [guest, cluster] of map.entries())
    image.writeBigUInt64BE(BigInt(cluster * clusterBytes) | flag, l2Cluster * clusterBytes + 8 * guest);
  image.fill('virga!', firstData * clusterBytes);
  return image;
}

const guestClusters = clusterBytes / 8;

/** 384 KiB that unfold to `l1Entries` × 512 MiB: every entry of the one L2 table aims at one cluster. `consistent`: all counters agree with that. */
export function buildBomb(l1Entries: number, consistent: boolean): Buffer {
  return buildQcow2({
    virtualBytes: l1Entries * guestClusters * clusterBytes,
    l1Entries,
    map: Array.from({ length: guestClusters }, () => firstData),
    copied: false,
    ...(consistent ? { refcounts: { [l2Cluster]: l1Entries, [firstData]: l1Entries * guestClusters } } : {}),
  });
}

/** A raw disk with the signature of an MBR. */
export function buildRaw(sizeBytes = 1024 * 1024): Buffer {
  const image = Buffer.alloc(sizeBytes, 'raw disk ');
  image[510] = 0x55;
  image[511] = 0xaa;
  return image;
}

/** Appends a header extension behind a version 3 header. */
export function addExtension(image: Buffer, type: number, data: Buffer, at = 104): Buffer {
  image.writeUInt32BE(type, at);
  image.writeUInt32BE(data.length, at + 4);
  data.copy(image, at + 8);
  return image;
}
