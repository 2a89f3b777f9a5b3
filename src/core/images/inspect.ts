/**
 * Looks at the first bytes of an untrusted disk image before any tool does, and says no to everything that could make a tool read or write
 * another file, or that Virga does not need. Layout: QEMU, docs/interop/qcow2.txt (big endian).
 */
import type { ImageFormat } from '../model/image.ts';
import { disguise } from './magic.ts';
import { inspectQcow2 } from './qcow2.ts';
import { tooLarge, type ImageBytes, type ImageVerdict, type InspectLimits } from './verdict.ts';

export type { ImageApproval, ImageBytes, ImageFault, ImageRefusal, ImageVerdict, InspectLimits } from './verdict.ts';

/** Bytes from the start that `inspectImage` wants (all, if the image is smaller). */
export const headBytes = 65_536;
/** Bytes from the end (all, if the image is smaller): some formats are told by a footer. */
export const tailBytes = 512;

/** Whether an image of the declared format may be given to the tools. Never throws, whatever the bytes are. */
export function inspectImage(format: ImageFormat, bytes: ImageBytes, limits: InspectLimits): ImageVerdict {
  if (bytes.sizeBytes === 0)
    return { ok: false, fault: 'empty', detail: 'it has no bytes', how: 'Give the file of a disk image.' };
  const needed = Math.min(headBytes, bytes.sizeBytes);
  if (bytes.head.length < needed) {
    const detail = `only ${bytes.head.length} of its first ${needed} bytes could be read`;
    return { ok: false, fault: 'truncated', detail, how: 'Upload it again.' };
  }
  return format === 'qcow2' ? inspectQcow2(bytes, limits) : inspectRaw(bytes, limits);
}

const sector = 512;
const convertFirst = 'Convert it on your machine: qemu-img convert -O qcow2 IMAGE NEW, and add NEW as qcow2.';

function inspectRaw({ sizeBytes, head, tail }: ImageBytes, limits: InspectLimits): ImageVerdict {
  const other = disguise(head, tail);
  if (other !== undefined) {
    const how = other === 'qcow2' ? 'Say what it is: --format qcow2.' : convertFirst;
    return { ok: false, fault: 'disguise', detail: `it is declared raw, but it is ${other}`, how };
  }
  if (sizeBytes % sector !== 0) {
    const detail = `its ${sizeBytes} bytes are no whole number of ${sector}-byte sectors`;
    return { ok: false, fault: 'sectors', detail, how: 'It was cut off, or is no disk image: upload it whole.' };
  }
  if (!hasPartitionTable(head)) {
    const detail = 'it is declared raw, but has neither an MBR nor a GPT signature';
    return { ok: false, fault: 'boot-record', detail, how: 'Give the image of a whole disk, or say its --format.' };
  }
  if (sizeBytes > limits.maxVirtualBytes) return tooLarge(sizeBytes, limits);
  return { ok: true, virtualBytes: sizeBytes };
}

function hasPartitionTable(head: Uint8Array): boolean {
  const mbr = head[510] === 0x55 && head[511] === 0xaa;
  // The second sector, of 512 or of 4,096 bytes.
  return mbr || [512, 4096].some((at) => 'EFI PART'.split('').every((c, i) => head[at + i] === c.charCodeAt(0)));
}
