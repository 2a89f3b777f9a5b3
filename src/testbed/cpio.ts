/** One entry of an initial RAM file system. Directories must come before what they hold. */
export type CpioEntry =
  | { readonly path: string; readonly kind: 'directory'; readonly mode?: number }
  | { readonly path: string; readonly kind: 'file'; readonly mode?: number; readonly content: Uint8Array }
  | { readonly path: string; readonly kind: 'symlink'; readonly target: string };

const typeBits = { directory: 0o040000, file: 0o100000, symlink: 0o120000 } as const;

/**
 * An archive in the "newc" format that Linux unpacks as its first file system (kernel documentation,
 * "initramfs buffer format"). Owner root, time 0: the same entries give the same bytes.
 */
export function cpioArchive(entries: readonly CpioEntry[]): Buffer {
  const parts: Buffer[] = [];
  entries.forEach((entry, index) => {
    const content = entry.kind === 'file' ? entry.content : Buffer.from(entry.kind === 'symlink' ? entry.target : '');
    const mode = entry.kind === 'symlink' ? 0o777 : (entry.mode ?? (entry.kind === 'directory' ? 0o755 : 0o644));
    const links = entry.kind === 'directory' ? 2 : 1;
    parts.push(header(entry.path, index + 1, typeBits[entry.kind] | mode, links, content.length), pad(content));
  });
  parts.push(header('TRAILER!!!', 0, 0, 1, 0));
  return Buffer.concat(parts);
}

function header(path: string, inode: number, mode: number, links: number, size: number): Buffer {
  const name = Buffer.from(`${path}\0`);
  // inode, mode, uid, gid, links, time, size, device major/minor, own device major/minor, name size, checksum
  const fields = [inode, mode, 0, 0, links, 0, size, 0, 0, 0, 0, name.length, 0];
  const text = `070701${fields.map((field) => field.toString(16).padStart(8, '0')).join('')}`;
  return pad(Buffer.concat([Buffer.from(text), name]));
}

function pad(bytes: Uint8Array): Buffer {
  return Buffer.concat([bytes, Buffer.alloc((4 - (bytes.length % 4)) % 4)]);
}
