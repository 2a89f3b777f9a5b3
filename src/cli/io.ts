/** The terminal, the environment and Ctrl-C, in one place, so that a test can stand in for a person. */
import type { Readable, Writable } from 'node:stream';

export type Input = Readable & { readonly isTTY?: boolean; setRawMode?(raw: boolean): unknown };
export type Screen = Writable & { readonly isTTY?: boolean; readonly columns?: number; readonly rows?: number };

export interface Io {
  readonly stdin: Input;
  readonly stdout: Screen;
  readonly stderr: Screen;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Aborted by Ctrl-C; everything that waits listens to it. */
  readonly interrupted: AbortSignal;
}

/** The process's own terminal. The second Ctrl-C ends the process at once. */
export function processIo(): Io {
  const controller = new AbortController();
  process.on('SIGINT', () => {
    if (controller.signal.aborted) process.exit(130);
    controller.abort();
  });
  // A reader that goes away (`virga events | head`) is no error of ours.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit(0);
    throw error;
  });
  return {
    stdin: process.stdin,
    stdout: process.stdout,
    stderr: process.stderr,
    env: process.env,
    interrupted: controller.signal,
  };
}

/** Writes and waits while the reader is slow, so that memory stays bounded. */
export async function writeAll(screen: Writable, bytes: Uint8Array | string): Promise<void> {
  if (screen.write(bytes)) return;
  await new Promise<void>((resolve, reject) => {
    const done = (): void => {
      screen.off('drain', done).off('error', failed).off('close', done);
      resolve();
    };
    const failed = (error: Error): void => {
      screen.off('drain', done).off('close', done);
      reject(error);
    };
    screen.once('drain', done).once('error', failed).once('close', done);
  });
}

/** Resolves after `ms`, or rejects at once when interrupted. */
export function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(new Interrupted());
    const timer = setTimeout(() => {
      signal.removeEventListener('abort', stop);
      resolve();
    }, ms);
    const stop = (): void => {
      clearTimeout(timer);
      reject(new Interrupted());
    };
    signal.addEventListener('abort', stop, { once: true });
  });
}

/** Ctrl-C. */
export class Interrupted extends Error {
  constructor() {
    super('interrupted');
    this.name = 'Interrupted';
  }
}
