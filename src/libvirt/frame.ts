/** Frames of libvirt's RPC: a length, six numbers, a body. Every number is 32 bits, big-endian. */
import { LibvirtError } from './errors.ts';

export const MAIN_PROGRAM = 0x2000_8086;
export const QEMU_PROGRAM = 0x2000_8087;
export const KEEPALIVE_PROGRAM = 0x6b65_6570;

/** Frame types (virNetMessageType). */
export const FRAME_CALL = 0;
export const FRAME_REPLY = 1;
export const FRAME_MESSAGE = 2;
export const FRAME_STREAM = 3;

/** Frame statuses (virNetMessageStatus). */
export const STATUS_OK = 0;
export const STATUS_ERROR = 1;
export const STATUS_CONTINUE = 2;

/** Bytes before the body: the length and six numbers. */
export const HEADER_BYTES = 28;
/** Largest frame of current libvirt: 32 MiB and the length itself (VIR_NET_MESSAGE_MAX). */
export const MAX_FRAME_BYTES = 32 * 1024 * 1024 + 4;
const VERSION = 1;

/** A frame without its length. */
export interface Frame {
  readonly program: number;
  readonly procedure: number;
  readonly type: number;
  readonly serial: number;
  readonly status: number;
  /** May be a view on a larger buffer. */
  readonly body: Buffer;
}

/** The numbers of a frame, without its body. */
export type FrameHeader = Omit<Frame, 'body'>;

function writeHeader(to: Buffer, header: FrameHeader, bodyBytes: number): void {
  to.writeUInt32BE(HEADER_BYTES + bodyBytes, 0);
  to.writeUInt32BE(header.program, 4);
  to.writeUInt32BE(VERSION, 8);
  to.writeUInt32BE(header.procedure, 12);
  to.writeUInt32BE(header.type, 16);
  to.writeUInt32BE(header.serial, 20);
  to.writeUInt32BE(header.status, 24);
}

/** The header for a body of that many bytes. */
export function encodeHeader(header: FrameHeader, bodyBytes: number): Buffer {
  const bytes = Buffer.allocUnsafe(HEADER_BYTES);
  writeHeader(bytes, header, bodyBytes);
  return bytes;
}

/** The bytes of a frame, with a copy of the body. */
export function encodeFrame(header: FrameHeader, body: Uint8Array): Buffer {
  const bytes = Buffer.allocUnsafe(HEADER_BYTES + body.length);
  writeHeader(bytes, header, body.length);
  bytes.set(body, HEADER_BYTES);
  return bytes;
}

/**
 * Cuts a byte stream into frames, however it arrives in pieces. Keeps at most one frame, and holds no more memory
 * for it than bytes have arrived.
 */
export class FrameParser {
  readonly #maxFrameBytes: number;
  #chunks: Buffer[] = [];
  #buffered = 0;
  /** Length of the frame under way; 0 while its first four bytes are not there. */
  #wanted = 0;

  constructor(maxFrameBytes: number = MAX_FRAME_BYTES) {
    this.#maxFrameBytes = maxFrameBytes;
  }

  /** Whether part of a frame has arrived, so that an end here is a truncation. */
  get midFrame(): boolean {
    return this.#buffered > 0;
  }

  /**
   * Takes bytes and gives each frame that is complete by them.
   * @throws LibvirtError (protocol) for a length or version that cannot be; the parser is of no use afterwards.
   */
  *push(chunk: Buffer): Generator<Frame, void, undefined> {
    this.#chunks.push(chunk);
    this.#buffered += chunk.length;
    for (;;) {
      if (this.#wanted === 0) {
        if (this.#buffered < 4) return;
        this.#wanted = this.#checkLength(this.#joined().readUInt32BE(0));
      }
      if (this.#buffered < this.#wanted) return;
      const bytes = this.#joined();
      const rest = bytes.subarray(this.#wanted);
      this.#chunks = rest.length > 0 ? [rest] : [];
      this.#buffered = rest.length;
      const frame = parseFrame(bytes.subarray(0, this.#wanted));
      this.#wanted = 0;
      yield frame;
    }
  }

  #joined(): Buffer {
    const [first] = this.#chunks;
    const joined = this.#chunks.length === 1 && first !== undefined ? first : Buffer.concat(this.#chunks);
    this.#chunks = [joined];
    return joined;
  }

  #checkLength(length: number): number {
    if (length < HEADER_BYTES || length > this.#maxFrameBytes) {
      throw LibvirtError.protocol(
        `a frame of ${length} bytes, between ${HEADER_BYTES} and ${this.#maxFrameBytes} allowed`,
      );
    }
    return length;
  }
}

function parseFrame(bytes: Buffer): Frame {
  const version = bytes.readUInt32BE(8);
  if (version !== VERSION) throw LibvirtError.protocol(`version ${version} of program ${bytes.readUInt32BE(4)}`);
  return {
    program: bytes.readUInt32BE(4),
    procedure: bytes.readUInt32BE(12),
    type: bytes.readUInt32BE(16),
    serial: bytes.readUInt32BE(20),
    status: bytes.readUInt32BE(24),
    body: bytes.subarray(HEADER_BYTES),
  };
}
