/** Consoles and logs of guests, carried to the controller over a WebSocket of their own. */
import { open, stat } from 'node:fs/promises';
import { once } from 'node:events';
import { WebSocket } from 'ws';
import { VirgaError } from '../core/errors.ts';
import type { Duplex, Log } from '../ports.ts';
import { webSocket, type Credentials } from './tls.ts';

/** Streams at a time; more are refused. */
const maxStreams = 128;
/** Largest message, either way; the controller's own bound. */
const maxMessage = 1024 * 1024;
const chunkBytes = 64 * 1024;
/** Milliseconds between two looks for more of a log. */
const followMs = 200;
/** Unsent bytes at which the source is held back. */
const highBytes = 512 * 1024;
const drainMs = 20;

export interface StreamSources {
  readonly console: (guestId: string) => Promise<Duplex>;
  readonly serialPath: (guestId: string) => string;
}

export class AgentStreams {
  readonly #sources: StreamSources;
  readonly #log: Log;
  readonly #open = new Set<WebSocket>();

  constructor(sources: StreamSources, log: Log) {
    this.#sources = sources;
    this.#log = log;
  }

  /**
   * Dials back to the controller and carries the stream until one side ends it.
   * @throws VirgaError overloaded · engine (no console) · site_unreachable
   */
  async open(credentials: Credentials, stream: string, what: 'console' | 'log', guestId: string): Promise<void> {
    if (this.#open.size >= maxStreams) throw new VirgaError('overloaded', { what: 'streams', limit: maxStreams });
    const source = what === 'console' ? await this.#sources.console(guestId) : undefined;
    let socket: WebSocket;
    try {
      socket = await dial(credentials, stream);
    } catch (error) {
      source?.close();
      throw error;
    }
    this.#open.add(socket);
    const carried = source ? carryConsole(source, socket) : followLog(this.#sources.serialPath(guestId), socket);
    carried
      .catch((error: unknown) => this.#log.debug('a stream ended', { what, detail: String(error) }))
      .finally(() => {
        this.#open.delete(socket);
        source?.close();
        if (socket.readyState === WebSocket.OPEN) socket.close(1000, 'the stream ended');
        setTimeout(() => socket.terminate(), 2000).unref();
      })
      .catch(() => undefined);
  }

  close(): void {
    for (const socket of this.#open) socket.terminate();
  }
}

async function dial(credentials: Credentials, stream: string): Promise<WebSocket> {
  const limits = { handshakeTimeout: 8000, maxPayload: maxMessage };
  const socket = webSocket(credentials, `/agent/v1/streams/${stream}`, limits);
  try {
    await once(socket, 'open', { signal: AbortSignal.timeout(9000) });
  } catch (cause) {
    socket.on('error', () => undefined);
    socket.terminate();
    const detail = cause instanceof Error ? cause.message : String(cause);
    throw new VirgaError('site_unreachable', { where: credentials.url, detail }, { cause });
  }
  socket.on('error', () => socket.terminate());
  return socket;
}

async function carryConsole(source: Duplex, socket: WebSocket): Promise<void> {
  let order = Promise.resolve();
  socket.on('message', (data) => {
    // One write after the other: the guest's slowness holds back the person's typing.
    socket.pause();
    order = order
      .then(() => source.write(data as Buffer))
      .then(
        () => socket.resume(),
        () => socket.terminate(),
      );
  });
  socket.once('close', () => source.close());
  for await (const bytes of source.incoming) if (!(await send(socket, bytes))) return;
}

/** What is written to the log from now on; the log may be cut meanwhile. */
async function followLog(path: string, socket: WebSocket): Promise<void> {
  let at = (await stat(path).catch(() => undefined))?.size ?? 0;
  const buffer = Buffer.alloc(chunkBytes);
  while (socket.readyState === WebSocket.OPEN) {
    const size = (await stat(path).catch(() => undefined))?.size ?? 0;
    if (size < at) at = 0;
    if (size > at) {
      const read = await readAt(path, buffer, at);
      at += read;
      if (read > 0 && !(await send(socket, Buffer.from(buffer.subarray(0, read))))) return;
      if (read > 0) continue;
    }
    await closedWithin(socket, followMs);
  }
}

async function readAt(path: string, buffer: Buffer, at: number): Promise<number> {
  const handle = await open(path, 'r').catch(() => undefined);
  if (!handle) return 0;
  try {
    return (await handle.read(buffer, 0, buffer.length, at)).bytesRead;
  } finally {
    await handle.close();
  }
}

/** False: the socket is closed. Waits while much is unsent, but not for ever: the socket's own end ends it. */
async function send(socket: WebSocket, bytes: Uint8Array): Promise<boolean> {
  while (socket.readyState === WebSocket.OPEN && socket.bufferedAmount > highBytes) await closedWithin(socket, drainMs);
  if (socket.readyState !== WebSocket.OPEN) return false;
  socket.send(bytes, { binary: true });
  return true;
}

async function closedWithin(socket: WebSocket, ms: number): Promise<void> {
  await new Promise<void>((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      socket.off('close', done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    socket.once('close', done);
  });
}
