import { connect, type Socket } from 'node:net';
import { LibvirtError } from './errors.ts';
import { encodeFrame, encodeHeader, FrameParser, type Frame } from './frame.ts';

/** Up to here copying a body behind its header is cheaper than a second buffer on the way to the kernel. */
const SMALL_BYTES = 16_384;

/** Receives what arrives; `onEnd` comes exactly once, and nothing after it. */
export interface TransportHandler {
  onFrame(frame: Frame): void;
  onEnd(error: LibvirtError): void;
}

/** A unix socket that carries frames. Whatever breaks it, `onEnd` says why. */
export class Transport {
  readonly #socket: Socket;
  readonly #parser: FrameParser;
  readonly #path: string;
  #handler: TransportHandler | undefined;
  /** Bytes received so far, as a sign of life. */
  received = 0;

  private constructor(socket: Socket, path: string, maxFrameBytes: number | undefined) {
    this.#socket = socket;
    this.#path = path;
    this.#parser = new FrameParser(maxFrameBytes);
  }

  /** Connects. @throws LibvirtError (connect, timeout, aborted) */
  static async connect(path: string, signal: AbortSignal, maxFrameBytes?: number): Promise<Transport> {
    const socket = connect({ path });
    try {
      await new Promise<void>((resolve, reject) => {
        socket.once('connect', resolve);
        socket.once('error', reject);
        signal.addEventListener('abort', () => reject(new Error('gave up waiting')), { once: true });
      });
    } catch (cause) {
      socket.destroy();
      const message = cause instanceof Error ? cause.message : String(cause);
      throw new LibvirtError('connect', `cannot connect to ${path}: ${message}`, { cause });
    }
    socket.removeAllListeners('error');
    return new Transport(socket, path, maxFrameBytes);
  }

  /** Begins to deliver frames. */
  start(handler: TransportHandler): void {
    this.#handler = handler;
    this.#socket.on('data', (chunk: Buffer) => this.#receive(chunk));
    this.#socket.on('error', (cause) => {
      this.destroy(new LibvirtError('closed', `connection to ${this.#path} failed: ${cause.message}`, { cause }));
    });
    this.#socket.on('close', () => {
      const where = this.#parser.midFrame ? ' in the middle of a message' : '';
      this.destroy(new LibvirtError('closed', `the daemon at ${this.#path} closed the connection${where}`));
    });
  }

  #receive(chunk: Buffer): void {
    this.received += chunk.length;
    try {
      for (const frame of this.#parser.push(chunk)) {
        if (this.#handler === undefined) return;
        this.#handler.onFrame(frame);
      }
    } catch (cause) {
      this.destroy(cause instanceof LibvirtError ? cause : LibvirtError.protocol('unusable message', cause));
    }
  }

  /** Whether bytes wait here because the daemon does not read. */
  get congested(): boolean {
    return this.#socket.writableNeedDrain;
  }

  /** Sends a frame; `done` is called when the kernel has taken it (with an error where it never will). */
  send(frame: Omit<Frame, 'body'>, body: Uint8Array, done?: (error?: Error | null) => void): void {
    if (body.length <= SMALL_BYTES) {
      this.#socket.write(encodeFrame(frame, body), done);
      return;
    }
    this.#socket.cork();
    this.#socket.write(encodeHeader(frame, body.length));
    this.#socket.write(body, done);
    this.#socket.uncork();
  }

  /** Stops reading the socket: the daemon is held back by the kernel's buffers. */
  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  /** Ends the connection, after what was sent before has left. */
  end(): void {
    this.#socket.end();
  }

  /** Ends the connection at once. The first error given is the one that `onEnd` reports. */
  destroy(error: LibvirtError): void {
    const handler = this.#handler;
    this.#handler = undefined;
    this.#socket.destroy();
    handler?.onEnd(error);
  }
}
