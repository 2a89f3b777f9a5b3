/**
 * A small read-only medium: ISO 9660 (ECMA-119) with Joliet names, which Linux, the BSDs and Windows read. One folder, few
 * files. Starting xorriso for it took a third of a guest's start.
 *
 * Everything is counted in sectors of 2,048 bytes: sixteen empty ones, three descriptors, four path tables (each byte order
 * for both trees), the two root folders, and the files.
 */
const sector = 2048;
const first = { primary: 16, joliet: 17, end: 18, tables: 19, root: 23, jolietRoot: 24, files: 25 } as const;
/** Bytes of names and records that fit into one sector of a folder, with room to spare. */
const maxFiles = 8;
const maxNameLength = 32;

interface Entry {
  readonly name: Buffer;
  readonly at: number;
  readonly bytes: number;
  readonly folder: boolean;
}

const sectorsOf = (bytes: number): number => Math.ceil(bytes / sector);

/** Joliet: UCS-2, most significant byte first. */
const wide = (text: string): Buffer => Buffer.from(text, 'utf16le').swap16();

/** `name` → `NAME0000.;1`: eight letters or digits, unlike each other by their number. */
function shortName(name: string, index: number): string {
  const letters = name
    .toUpperCase()
    .replaceAll(/[^A-Z0-9]/g, '')
    .slice(0, 6);
  return `${letters}${String(index).padStart(2, '0')}.;1`;
}

/** Both byte orders one after the other, as the standard has most numbers. */
function both32(bytes: Buffer, value: number, at: number): void {
  bytes.writeUInt32LE(value, at);
  bytes.writeUInt32BE(value, at + 4);
}

function both16(bytes: Buffer, value: number, at: number): void {
  bytes.writeUInt16LE(value, at);
  bytes.writeUInt16BE(value, at + 2);
}

/** Directory record (ECMA-119, 9.1). */
function record({ name, at, bytes, folder }: Entry, madeAt: Date): Buffer {
  const length = 33 + name.length;
  const entry = Buffer.alloc(length + (length % 2));
  entry.writeUInt8(entry.length, 0);
  both32(entry, at, 2);
  both32(entry, bytes, 10);
  const day = [madeAt.getUTCFullYear() - 1900, madeAt.getUTCMonth() + 1, madeAt.getUTCDate()];
  Buffer.from([...day, madeAt.getUTCHours(), madeAt.getUTCMinutes(), madeAt.getUTCSeconds(), 0]).copy(entry, 18);
  entry.writeUInt8(folder ? 2 : 0, 25);
  both16(entry, 1, 28);
  entry.writeUInt8(name.length, 32);
  name.copy(entry, 33);
  return entry;
}

/** The root folder: itself, its parent (itself again), and the files in the order of their names. */
function root(at: number, files: readonly Entry[], madeAt: Date): Buffer {
  const own = { at, bytes: sector, folder: true };
  const sorted = files.toSorted((a, b) => a.name.compare(b.name));
  const records = [{ ...own, name: Buffer.from([0]) }, { ...own, name: Buffer.from([1]) }, ...sorted];
  return Buffer.concat(records.map((each) => record(each, madeAt)));
}

/** The one folder there is, in one byte order (ECMA-119, 9.4). */
function pathTable(at: number, little: boolean): Buffer {
  const table = Buffer.alloc(10);
  table.writeUInt8(1, 0);
  if (little) table.writeUInt32LE(at, 2);
  else table.writeUInt32BE(at, 2);
  if (little) table.writeUInt16LE(1, 6);
  else table.writeUInt16BE(1, 6);
  return table;
}

interface Volume {
  readonly label: string;
  readonly joliet: boolean;
  readonly sectors: number;
  readonly madeAt: Date;
}

/** Primary or supplementary volume descriptor (ECMA-119, 8.4 and 8.5). */
function descriptor({ label, joliet, sectors, madeAt }: Volume): Buffer {
  const bytes = Buffer.alloc(sector);
  const space = (length: number): Buffer => (joliet ? wide(' '.repeat(length / 2)) : Buffer.alloc(length, ' '));
  const put = (text: string, at: number, length: number): void => {
    space(joliet ? length - (length % 2) : length).copy(bytes, at);
    (joliet ? wide(text) : Buffer.from(text)).copy(bytes, at, 0, length);
  };
  bytes.writeUInt8(joliet ? 2 : 1, 0);
  bytes.write('CD001', 1);
  bytes.writeUInt8(1, 6);
  put('', 8, 32);
  put(label, 40, 32);
  both32(bytes, sectors, 80);
  // UCS-2, level 3 (Joliet).
  if (joliet) bytes.write('%/E', 88);
  both16(bytes, 1, 120);
  both16(bytes, 1, 124);
  both16(bytes, sector, 128);
  both32(bytes, 10, 132);
  const tables = first.tables + (joliet ? 2 : 0);
  bytes.writeUInt32LE(tables, 140);
  bytes.writeUInt32BE(tables + 1, 148);
  const at = joliet ? first.jolietRoot : first.root;
  record({ name: Buffer.from([0]), at, bytes: sector, folder: true }, madeAt).copy(bytes, 156);
  for (const [from, length] of [
    [190, 128],
    [318, 128],
    [446, 128],
    [574, 128],
    [702, 37],
    [739, 37],
    [776, 37],
  ] as const)
    put('', from, length);
  for (const from of [813, 830, 847, 864]) bytes.write('0'.repeat(16), from);
  bytes.writeUInt8(1, 881);
  return bytes;
}

/** The whole medium. Names are short ASCII ones; more than eight files are refused with a RangeError. */
export function isoImage(label: string, contents: Readonly<Record<string, string>>, madeAt: Date): Buffer {
  const names = Object.keys(contents);
  if (names.length > maxFiles || names.some((name) => name.length > maxNameLength))
    throw new RangeError(`a medium holds at most ${maxFiles} files with names of ${maxNameLength} letters`);
  const data = names.map((name) => Buffer.from(contents[name] ?? ''));
  let next: number = first.files;
  const places = data.map((content) => {
    const at = next;
    next += sectorsOf(content.length);
    return { at, bytes: content.length, folder: false };
  });
  const volume = { label, sectors: next, madeAt };
  const image = Buffer.alloc(next * sector);
  const put = (bytes: Buffer, at: number): void => void bytes.copy(image, at * sector);
  put(descriptor({ ...volume, joliet: false }), first.primary);
  put(descriptor({ ...volume, joliet: true }), first.joliet);
  image.write('\u{ff}CD001\u{1}', first.end * sector, 'latin1');
  [first.root, first.jolietRoot].forEach((at, tree) => {
    put(pathTable(at, true), first.tables + 2 * tree);
    put(pathTable(at, false), first.tables + 2 * tree + 1);
  });
  const short = places.map((place, index) => ({ ...place, name: Buffer.from(shortName(names[index] ?? '', index)) }));
  const long = places.map((place, index) => ({ ...place, name: wide(names[index] ?? '') }));
  put(root(first.root, short, madeAt), first.root);
  put(root(first.jolietRoot, long, madeAt), first.jolietRoot);
  data.forEach((content, index) => put(content, places[index]?.at ?? first.files));
  return image;
}
