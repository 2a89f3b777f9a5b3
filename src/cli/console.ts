/** A terminal joined to a guest's serial console over a websocket. */
import type WebSocket from 'ws';
import { VirgaError, errorFromBody } from '../api/errors.ts';
import { usage } from './failure.ts';
import { Interrupted, type Io } from './io.ts';

/** `^]`, `^A`, `none` → the byte; null: no such key. */
export function escapeByte(text: string): number | null {
  if (text === 'none') return null;
  const match = /^(?:\^|ctrl-)([a-z\]\\^_[])$/i.exec(text);
  if (!match) throw usage(`"${text}" is not a key; write ^A to ^Z, ^] or none`);
  return (match[1] ?? '').toUpperCase().charCodeAt(0) & 0x1f;
}

export const escapeName = (byte: number): string => `Ctrl-${String.fromCharCode(byte | 0x40)}`;

/** What the site said when it refused the websocket. */
export function refusal(socket: WebSocket): Promise<never> {
  return new Promise((_, reject) => {
    socket.once('unexpected-response', (request, response) => {
      let text = '';
      response.on('data', (chunk: Buffer) => {
        if (text.length < 64 * 1024) text += chunk.toString('utf8');
      });
      response.once('end', () => {
        request.destroy();
        let body: unknown;
        try {
          body = JSON.parse(text);
        } catch {
          body = undefined;
        }
        reject(
          errorFromBody(body) ??
            new VirgaError('invalid_request', { detail: `the site answered ${response.statusCode ?? 0}` }),
        );
      });
    });
    socket.once('error', (error) =>
      reject(new VirgaError('site_unreachable', { where: 'the console', detail: error.message }, { cause: error })),
    );
  });
}

/** Resolves when the websocket is open. */
export async function opened(socket: WebSocket, signal: AbortSignal): Promise<void> {
  const stop = (): void => socket.terminate();
  signal.addEventListener('abort', stop, { once: true });
  try {
    await Promise.race([new Promise<void>((resolve) => socket.once('open', () => resolve())), refusal(socket)]);
  } catch (error) {
    if (signal.aborted) throw new Interrupted();
    throw error;
  } finally {
    signal.removeEventListener('abort', stop);
  }
  // A later error is followed by `close`, which ends the session; without a listener it would end the process.
  socket.on('error', () => {});
}

export const bytesOf = (data: WebSocket.RawData): Uint8Array =>
  Array.isArray(data) ? Buffer.concat(data) : data instanceof ArrayBuffer ? new Uint8Array(data) : data;

/** More than this unsent: the guest does not read; typing waits. */
const mostUnsent = 1024 * 1024;

export interface AttachOptions {
  readonly escape: number | null;
  /** Without a terminal: silence after the end of the input that ends the session. */
  readonly idleMs: number;
}

/** Joins the two until the person leaves or the guest goes; gives the reason as a sentence. */
export async function attach(socket: WebSocket, io: Io, options: AttachOptions): Promise<string> {
  // Registered before it opens: the first output may come with the answer.
  const early: Uint8Array[] = [];
  const keep = (data: WebSocket.RawData): void => void early.push(bytesOf(data));
  socket.on('message', keep);
  await opened(socket, io.interrupted);
  socket.off('message', keep);
  const raw = io.stdin.isTTY === true;
  if (raw) io.stdin.setRawMode?.(true);
  try {
    return await join(socket, io, options, early);
  } finally {
    if (raw) io.stdin.setRawMode?.(false);
    io.stdin.removeAllListeners('data');
    io.stdin.pause();
    socket.close();
    const timer = setTimeout(() => socket.terminate(), 2000);
    socket.once('close', () => clearTimeout(timer));
  }
}

function join(socket: WebSocket, io: Io, options: AttachOptions, early: readonly Uint8Array[]): Promise<string> {
  return new Promise((resolve, reject) => {
    let quiet: NodeJS.Timeout | undefined;
    let inputEnded = false;
    const rest = (): void => {
      clearTimeout(quiet);
      if (inputEnded) quiet = setTimeout(() => resolve('Nothing more came.'), options.idleMs);
    };
    const output = (bytes: Uint8Array): void => {
      rest();
      // A slow reader slows the guest's console, not our memory.
      if (!io.stdout.write(bytes)) {
        socket.pause();
        io.stdout.once('drain', () => socket.resume());
      }
    };
    for (const bytes of early) output(bytes);
    socket.on('message', (data) => output(bytesOf(data)));
    socket.once('close', (_code, reason) => {
      clearTimeout(quiet);
      resolve(reason.length > 0 ? `The console was closed: ${reason.toString('utf8')}` : 'The console was closed.');
    });
    io.interrupted.addEventListener('abort', () => reject(new Interrupted()), { once: true });
    io.stdin.on('data', (chunk: Uint8Array | string) => {
      const bytes = typeof chunk === 'string' ? Buffer.from(chunk) : chunk;
      const at = io.stdin.isTTY === true && options.escape !== null ? bytes.indexOf(options.escape) : -1;
      const sent = at < 0 ? bytes : bytes.subarray(0, at);
      if (sent.length > 0)
        socket.send(sent, () => {
          if (socket.bufferedAmount < mostUnsent) io.stdin.resume();
        });
      if (socket.bufferedAmount >= mostUnsent) io.stdin.pause();
      if (at >= 0) resolve('Left; the guest runs on.');
      rest();
    });
    io.stdin.once('end', () => {
      inputEnded = true;
      rest();
    });
    io.stdin.resume();
  });
}
