/** Signatures of formats that are not what their owner declared. Offsets and bytes: QEMU block drivers, file(1). */
interface Signature {
  readonly name: string;
  readonly at: number;
  /** One character per byte. */
  readonly bytes: string;
}

/** From the first byte on. */
const headSignatures: readonly Signature[] = [
  // The version follows the magic: qcow (1) and qcow2 (2, 3) are told apart below.
  { name: 'qcow2', at: 0, bytes: 'QFI\xfb' },
  { name: 'QED', at: 0, bytes: 'QED\0' },
  { name: 'VMDK', at: 0, bytes: 'KDMV' },
  { name: 'VMDK', at: 0, bytes: 'COWD' },
  { name: 'VMDK', at: 0, bytes: '# Disk DescriptorFile' },
  { name: 'VHD', at: 0, bytes: 'conectix' },
  { name: 'VHDX', at: 0, bytes: 'vhdxfile' },
  { name: 'VDI', at: 64, bytes: '\x7f\x10\xda\xbe' },
  { name: 'LUKS', at: 0, bytes: 'LUKS\xba\xbe' },
  { name: 'Parallels', at: 0, bytes: 'WithoutFreeSpace' },
  { name: 'Parallels', at: 0, bytes: 'WithouFreSpacExt' },
  { name: 'Bochs', at: 0, bytes: 'Bochs Virtual HD Image' },
  { name: 'Xen save', at: 0, bytes: 'LinuxGuestRecord' },
  { name: 'gzip', at: 0, bytes: '\x1f\x8b' },
  { name: 'xz', at: 0, bytes: '\xfd7zXZ\0' },
  { name: 'bzip2', at: 0, bytes: 'BZh' },
  { name: 'zstd', at: 0, bytes: '\x28\xb5\x2f\xfd' },
  { name: 'ZIP', at: 0, bytes: 'PK\x03\x04' },
  { name: 'tar', at: 257, bytes: 'ustar' },
];

/** Footers, in the last 512 bytes. */
const tailSignatures: readonly Signature[] = [
  { name: 'VHD', at: 0, bytes: 'conectix' },
  { name: 'DMG', at: 0, bytes: 'koly' },
];

function carries(bytes: Uint8Array, { at, bytes: wanted }: Signature): boolean {
  for (let index = 0; index < wanted.length; index++) if (bytes[at + index] !== wanted.charCodeAt(index)) return false;
  return true;
}

/** The name of the format that the bytes say they are; undefined when they are silent. */
export function disguise(head: Uint8Array, tail: Uint8Array): string | undefined {
  const found =
    headSignatures.find((each) => carries(head, each)) ?? tailSignatures.find((each) => carries(tail, each));
  return found?.name === 'qcow2' && head[7] === 1 ? 'qcow (version 1)' : found?.name;
}
