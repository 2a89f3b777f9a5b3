/**
 * Reading and writing XDR (RFC 4506) with hard bounds: a reader never looks past its buffer, and no length on the
 * wire makes it allocate more than the bytes that are really there.
 */
import { LibvirtError } from './errors.ts';

/** Longest string that libvirt sends or accepts, in bytes (REMOTE_STRING_MAX). */
export const MAX_STRING_BYTES = 4 * 1024 * 1024;

const ZERO_PAD = Buffer.alloc(4);

function padding(length: number): number {
  return (4 - (length & 3)) & 3;
}

/** Reads big-endian XDR values from one message body. Every fault is a `LibvirtError` of kind `protocol`. */
export class XdrReader {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  /** Bytes not yet read. */
  get remaining(): number {
    return this.#bytes.length - this.#at;
  }

  #take(length: number): number {
    const at = this.#at;
    if (length > this.#bytes.length - at) {
      throw LibvirtError.protocol(`message ends early: ${length} bytes wanted, ${this.#bytes.length - at} left`);
    }
    this.#at = at + length;
    return at;
  }

  int(): number {
    return this.#bytes.readInt32BE(this.#take(4));
  }

  uint(): number {
    return this.#bytes.readUInt32BE(this.#take(4));
  }

  hyper(): bigint {
    return this.#bytes.readBigInt64BE(this.#take(8));
  }

  uhyper(): bigint {
    return this.#bytes.readBigUInt64BE(this.#take(8));
  }

  double(): number {
    return this.#bytes.readDoubleBE(this.#take(8));
  }

  /** `length` bytes and their padding; a view, not a copy. */
  fixed(length: number): Buffer {
    const at = this.#take(length + padding(length));
    return this.#bytes.subarray(at, at + length);
  }

  /** A length and that many bytes; a view, not a copy. */
  opaque(maxBytes: number): Buffer {
    const length = this.uint();
    if (length > maxBytes) throw LibvirtError.protocol(`${length} bytes of data, at most ${maxBytes} allowed`);
    return this.fixed(length);
  }

  string(): string {
    return this.opaque(MAX_STRING_BYTES).toString('utf8');
  }

  /** The count of a list whose items take at least `minItemBytes` each. */
  count(maxItems: number, minItemBytes: number): number {
    const count = this.uint();
    if (count > maxItems || count * minItemBytes > this.remaining) {
      throw LibvirtError.protocol(`a list of ${count} items in ${this.remaining} bytes, at most ${maxItems} allowed`);
    }
    return count;
  }

  /** Fails where bytes are left over: the sender and we do not mean the same message. */
  end(): void {
    if (this.remaining !== 0) throw LibvirtError.protocol(`${this.remaining} bytes left over after the message`);
  }
}

/** Writes big-endian XDR values. Values that do not fit are a `LibvirtError` of kind `argument`. */
export class XdrWriter {
  readonly #maxBytes: number;
  #bytes: Buffer = Buffer.allocUnsafe(256);
  #length = 0;

  /** @param maxBytes largest message body to build. */
  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** Makes room and gives its place. It may replace the buffer: call it before touching `#bytes`. */
  #grow(by: number): number {
    const at = this.#length;
    const length = at + by;
    if (length > this.#maxBytes) throw LibvirtError.argument(`message larger than ${this.#maxBytes} bytes`);
    if (length > this.#bytes.length) {
      const larger = Buffer.allocUnsafe(Math.max(length, this.#bytes.length * 2));
      this.#bytes.copy(larger, 0, 0, at);
      this.#bytes = larger;
    }
    this.#length = length;
    return at;
  }

  /** Writes a 32-bit integer; `min` and `max` bound narrower types that travel as 32 bits. */
  int(value: number, min = -0x8000_0000, max = 0x7fff_ffff): void {
    if (!Number.isInteger(value) || value < min || value > max) {
      throw LibvirtError.argument(`${value} is no integer between ${min} and ${max}`);
    }
    const at = this.#grow(4);
    this.#bytes.writeInt32BE(value, at);
  }

  uint(value: number): void {
    if (!Number.isInteger(value) || value < 0 || value > 0xffff_ffff) {
      throw LibvirtError.argument(`${value} is no unsigned 32-bit integer`);
    }
    const at = this.#grow(4);
    this.#bytes.writeUInt32BE(value, at);
  }

  hyper(value: bigint): void {
    if (BigInt.asIntN(64, value) !== value) throw LibvirtError.argument(`${value} does not fit into 64 bits`);
    const at = this.#grow(8);
    this.#bytes.writeBigInt64BE(value, at);
  }

  uhyper(value: bigint): void {
    if (BigInt.asUintN(64, value) !== value) throw LibvirtError.argument(`${value} is no unsigned 64-bit integer`);
    const at = this.#grow(8);
    this.#bytes.writeBigUInt64BE(value, at);
  }

  double(value: number): void {
    const at = this.#grow(8);
    this.#bytes.writeDoubleBE(value, at);
  }

  fixed(bytes: Uint8Array): void {
    const at = this.#grow(bytes.length + padding(bytes.length));
    this.#bytes.set(bytes, at);
    ZERO_PAD.copy(this.#bytes, at + bytes.length, 0, padding(bytes.length));
  }

  opaque(bytes: Uint8Array, maxBytes: number): void {
    if (bytes.length > maxBytes)
      throw LibvirtError.argument(`${bytes.length} bytes of data, at most ${maxBytes} allowed`);
    this.uint(bytes.length);
    this.fixed(bytes);
  }

  /** A NUL is refused: the other side reads C strings and would silently see a shorter one. */
  string(value: string): void {
    if (value.includes('\0')) throw LibvirtError.argument('a string holds a NUL character');
    this.opaque(Buffer.from(value, 'utf8'), MAX_STRING_BYTES);
  }

  /** What was written; valid until the next write. */
  bytes(): Buffer {
    return this.#bytes.subarray(0, this.#length);
  }
}
