/**
 * The backup file: gzip (inside age, when encrypted) of
 *
 * ```
 * VIRGA-BACKUP 1\n
 * {header as JSON}\n
 * records: type (1 byte), length (4 bytes, big endian), payload
 *   P {"name","columns"?}    a part begins: `table:NAME` or `key:NAME`
 *   D bytes                  its content: rows as COPY writes them, or the key's bytes
 *   E {"bytes","sha256"}     it ends
 *   Z {"parts","sha256"}     the file ends; digest of everything before this record
 * ```
 */
import { createHash } from 'node:crypto';
import { VirgaError } from '../../core/errors.ts';

const magic = 'VIRGA-BACKUP';
/** The newest format that this version reads and the one it writes. */
export const backupFormat = 1;

const maxHeaderBytes = 64 * 1024;
const maxRecordBytes = 16 * 1024 * 1024;

export interface BackupHeader {
  readonly schema: number;
  readonly site: { readonly id: string; readonly name: string };
  /** Milliseconds since 1970. */
  readonly createdAt: number;
  /** Names of the parts that follow. */
  readonly contents: readonly string[];
}

export interface PartStart {
  readonly name: string;
  /** Of a table, in the order of its rows. */
  readonly columns?: readonly string[];
}

export interface OutgoingPart extends PartStart {
  readonly content: AsyncIterable<Uint8Array> | Iterable<Uint8Array>;
}

const damaged = 'Take another backup file.';

export function backupDamaged(detail: string, cause?: unknown): VirgaError {
  return new VirgaError('backup', { detail: `The backup is damaged: ${detail}`, how: damaged }, { cause });
}

/** The bytes of a backup, before compression. */
export async function* writeFormat(
  header: BackupHeader,
  parts: AsyncIterable<OutgoingPart>,
): AsyncGenerator<Uint8Array> {
  const whole = createHash('sha256');
  const emit = (bytes: Uint8Array): Uint8Array => {
    whole.update(bytes);
    return bytes;
  };
  yield emit(Buffer.from(`${magic} ${backupFormat}\n${JSON.stringify(header)}\n`));
  let count = 0;
  for await (const { name, columns, content } of parts) {
    const digest = createHash('sha256');
    let bytes = 0;
    yield emit(frame('P', { name, ...(columns ? { columns } : {}) }));
    for await (const chunk of content) {
      for (let start = 0; start < chunk.length; start += maxRecordBytes) {
        const piece = chunk.subarray(start, start + maxRecordBytes);
        digest.update(piece);
        bytes += piece.length;
        yield emit(frameHead('D', piece.length));
        yield emit(piece);
      }
    }
    yield emit(frame('E', { bytes, sha256: digest.digest('hex') }));
    count += 1;
  }
  yield frame('Z', { parts: count, sha256: whole.digest('hex') });
}

function frameHead(type: string, length: number): Buffer {
  const head = Buffer.alloc(5);
  head.write(type, 'latin1');
  head.writeUInt32BE(length, 1);
  return head;
}

function frame(type: string, payload: object): Buffer {
  const text = Buffer.from(JSON.stringify(payload));
  return Buffer.concat([frameHead(type, text.length), text]);
}

/** Reads a backup from its uncompressed bytes; every digest is checked. Errors are VirgaError backup. */
export class BackupReader {
  readonly #source: AsyncIterator<Uint8Array>;
  readonly #whole = createHash('sha256');
  #buffer: Buffer = Buffer.alloc(0);
  #parts = 0;

  constructor(source: AsyncIterable<Uint8Array>) {
    this.#source = source[Symbol.asyncIterator]();
  }

  /** Must be called first. */
  async header(): Promise<BackupHeader> {
    const first = await this.#line();
    const match = /^VIRGA-BACKUP (\d+)$/.exec(first);
    if (!match)
      throw new VirgaError('backup', { detail: 'This is not a backup of Virga', how: 'Give the right file.' });
    if (Number(match[1]) > backupFormat) throw newerBackup(`format ${match[1]}`);
    const header = parse(await this.#line()) as Partial<BackupHeader>;
    if (typeof header.schema !== 'number' || typeof header.createdAt !== 'number' || !header.site)
      throw backupDamaged('its header is incomplete');
    return { contents: [], ...header } as BackupHeader;
  }

  /** The next part, or `undefined` at the proven end of the file. The part before must have been read to its end. */
  async next(): Promise<PartStart | undefined> {
    // The digest of the last record covers everything before it, so it is taken before that record is read.
    const sofar = this.#whole.copy().digest('hex');
    const { type, payload } = await this.#record();
    const value = parse(payload.toString()) as Partial<PartStart> & { parts?: number; sha256?: string };
    if (type === 'P' && typeof value.name === 'string') {
      this.#parts += 1;
      return value as PartStart;
    }
    if (type !== 'Z') throw backupDamaged(`a record of type "${type}" where a part should begin`);
    if (value.parts !== this.#parts || value.sha256 !== sofar) throw backupDamaged('its digest is wrong');
    // Reading on to the end lets the layers below (gzip, age) prove theirs.
    const { done } = await this.#source.next();
    if (!done || this.#buffer.length > 0) throw backupDamaged('something follows its end');
    return undefined;
  }

  /** The content of the part that `next` has just named. */
  async *content(): AsyncGenerator<Uint8Array> {
    const digest = createHash('sha256');
    let bytes = 0;
    for (;;) {
      const { type, payload } = await this.#record();
      if (type === 'D') {
        digest.update(payload);
        bytes += payload.length;
        yield payload;
        continue;
      }
      const end = parse(payload.toString()) as { bytes?: number; sha256?: string };
      if (type !== 'E' || end.bytes !== bytes || end.sha256 !== digest.digest('hex'))
        throw backupDamaged('the digest of a part is wrong');
      return;
    }
  }

  /** Lets go of the file. */
  async close(): Promise<void> {
    await this.#source.return?.();
  }

  async #record(): Promise<{ type: string; payload: Buffer }> {
    const head = await this.#take(5);
    const length = head.readUInt32BE(1);
    if (length > maxRecordBytes) throw backupDamaged('a record is too long');
    return { type: head.toString('latin1', 0, 1), payload: await this.#take(length) };
  }

  async #line(): Promise<string> {
    let end = this.#buffer.indexOf(10);
    while (end < 0) {
      if (this.#buffer.length > maxHeaderBytes) throw backupDamaged('its header has no end');
      await this.#more();
      end = this.#buffer.indexOf(10);
    }
    const line = await this.#take(end + 1);
    return line.toString('utf8', 0, end);
  }

  async #take(length: number): Promise<Buffer> {
    while (this.#buffer.length < length) await this.#more();
    const taken = this.#buffer.subarray(0, length);
    this.#buffer = this.#buffer.subarray(length);
    this.#whole.update(taken);
    return taken;
  }

  async #more(): Promise<void> {
    const { value, done } = await this.#source.next();
    if (done) throw backupDamaged('it ends too early');
    this.#buffer = this.#buffer.length === 0 ? Buffer.from(value) : Buffer.concat([this.#buffer, value]);
  }
}

export function newerBackup(what: string): VirgaError {
  return new VirgaError('backup', {
    detail: `The backup was made by a newer version of Virga (${what})`,
    how: 'Restore it with that version.',
  });
}

function parse(text: string): unknown {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === 'object' && value !== null) return value;
  } catch {
    // Said below.
  }
  throw backupDamaged('a record cannot be read');
}
