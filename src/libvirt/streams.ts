import { Duplex, type DuplexOptions } from 'node:stream';
import { LibvirtError } from './errors.ts';
import { STATUS_CONTINUE, STATUS_ERROR, STATUS_OK, type Frame } from './frame.ts';
import { decodeAll, type StreamDirection } from './schema.ts';
import { wireError } from './types.ts';

/** Most data in one packet: what libvirt itself sends (VIR_NET_MESSAGE_LEGACY_PAYLOAD_MAX minus the header). */
export const MAX_PACKET_BYTES = 262_120;

/** Bounds of one stream. */
export interface StreamOptions {
  /** Longest time in ms that the daemon may take for one packet that is due, or for the end; 0 = no bound. */
  readonly stallMs?: number;
}

/** What a stream needs of its connection. */
export interface StreamPort {
  send(status: number, data: Uint8Array, done?: (error?: Error | null) => void): void;
  pause(): void;
  resume(): void;
  release(): void;
}

/** Bound of the confirmation of the end where a stream has no other. */
const FINISH_MS = 10_000;

const EMPTY = new Uint8Array(0);

/**
 * A libvirt stream as a Node stream.
 *
 * - download (`read`): ends after the daemon has confirmed that everything was sent;
 * - upload (`write`): `finish` comes after the daemon has confirmed that everything was taken;
 * - console (`both`): `end()` detaches; a guest that stops ends the readable side.
 *
 * `destroy()` aborts the transfer. Back-pressure is real in both directions: what is not read stops the socket, and a
 * write is done when the kernel has taken it.
 */
export class LibvirtStream extends Duplex {
  readonly #what: string;
  readonly #direction: StreamDirection;
  readonly #port: StreamPort;
  readonly #stallMs: number;
  #stall: NodeJS.Timeout | undefined;
  #finishSent = false;
  #finished = false;
  #failure: LibvirtError | undefined;
  #afterFinish: ((error?: Error | null) => void) | undefined;

  constructor(what: string, direction: StreamDirection, options: StreamOptions, port: StreamPort) {
    // `readable` and `writable` are Node's, but missing from the types of its options.
    const sides: DuplexOptions & { readable: boolean; writable: boolean } = {
      readable: direction !== 'write',
      writable: direction !== 'read',
      readableHighWaterMark: MAX_PACKET_BYTES,
      writableHighWaterMark: MAX_PACKET_BYTES,
    };
    super(sides);
    this.#what = what;
    this.#direction = direction;
    this.#port = port;
    this.#stallMs = options.stallMs ?? (direction === 'both' ? 0 : 60_000);
  }

  /** Takes a packet from the daemon. @throws LibvirtError (protocol), which ends the connection. */
  receive(frame: Frame): void {
    switch (frame.status) {
      case STATUS_CONTINUE:
        return frame.body.length === 0 ? this.#endOfData() : this.#data(frame.body);
      case STATUS_OK:
        return this.#finishConfirmed();
      case STATUS_ERROR:
        return this.lost(LibvirtError.wire(decodeAll(frame.body, wireError), this.#what));
      default:
        throw LibvirtError.protocol(`a stream packet of status ${frame.status}`);
    }
  }

  /** The stream, or its connection, was ended by the other side. */
  lost(error: LibvirtError): void {
    if (this.#finished) return;
    this.#finished = true;
    this.#failure = error;
    // The error may have come with the very reply that opened the stream. Whoever awaits that gets the stream first,
    // and so the chance to listen; otherwise the error would end the process.
    setImmediate(() => this.destroy(error));
  }

  /** The call that should have opened the stream failed: the caller hears of it there. */
  discard(): void {
    this.#finished = true;
    this.destroy();
  }

  #data(data: Buffer): void {
    if (this.#direction === 'write') throw LibvirtError.protocol('data on an upload stream');
    if (this.#finishSent || this.destroyed) return;
    this.#waitOver();
    if (this.push(data)) this.#wait();
    else this.#port.pause();
  }

  #endOfData(): void {
    if (this.#direction === 'write' || this.destroyed) return;
    this.#sendFinish();
  }

  #finishConfirmed(): void {
    this.#waitOver();
    this.#finished = true;
    this.#finishSent = true;
    const after = this.#afterFinish;
    this.#afterFinish = undefined;
    after?.();
    if (this.#direction === 'write') return;
    this.push(null);
    if (this.#direction === 'both') this.end();
  }

  #sendFinish(): void {
    if (this.#finishSent) return;
    this.#finishSent = true;
    this.#port.resume();
    this.#wait(this.#stallMs === 0 ? FINISH_MS : this.#stallMs);
    this.#port.send(STATUS_OK, EMPTY);
  }

  override _read(): void {
    if (this.#finished) return;
    this.#wait();
    this.#port.resume();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: (error?: Error | null) => void): void {
    if (this.#finishSent || this.#finished) {
      callback(this.#failure ?? new LibvirtError('closed', `${this.#what}: the stream has ended`));
      return;
    }
    this.#wait();
    for (let at = 0; at < chunk.length; at += MAX_PACKET_BYTES) {
      const last = at + MAX_PACKET_BYTES >= chunk.length;
      this.#port.send(
        STATUS_CONTINUE,
        chunk.subarray(at, at + MAX_PACKET_BYTES),
        last ? this.#written(callback) : undefined,
      );
    }
    // An empty packet would mean the end of the data.
    if (chunk.length === 0) this.#written(callback)();
  }

  #written(callback: (error?: Error | null) => void): (error?: Error | null) => void {
    return (error) => {
      if (this.#direction === 'write') this.#waitOver();
      callback(error);
    };
  }

  override _final(callback: (error?: Error | null) => void): void {
    if (this.#finished) {
      callback(this.#failure);
      return;
    }
    this.#afterFinish = callback;
    this.#sendFinish();
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    this.#waitOver();
    if (!this.#finished) {
      this.#finished = true;
      this.#port.send(STATUS_ERROR, EMPTY);
    }
    this.#port.release();
    this.#port.resume();
    const after = this.#afterFinish;
    this.#afterFinish = undefined;
    after?.(error ?? new LibvirtError('aborted', `${this.#what}: the stream was aborted`));
    callback(error);
  }

  /** Something is due from the daemon: it may take so long. */
  #wait(ms = this.#stallMs): void {
    if (ms === 0 || this.#stall !== undefined) return;
    this.#stall = setTimeout(() => {
      this.destroy(new LibvirtError('timeout', `${this.#what}: nothing moved for ${ms} ms`));
    }, ms);
  }

  #waitOver(): void {
    clearTimeout(this.#stall);
    this.#stall = undefined;
  }
}
