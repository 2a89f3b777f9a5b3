import { LibvirtError } from './errors.ts';

/** How long to wait for one call, and who may stop the waiting. */
export interface CallOptions {
  /** Milliseconds from the call to its answer, time in the queue included. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

/**
 * Calls `stop` once, when the time is over or the signal is aborted. Returns the function that calls it off.
 * @param what what is waited for, for the message.
 */
export function onDeadline(
  what: string,
  timeoutMs: number,
  signal: AbortSignal | undefined,
  stop: (error: LibvirtError) => void,
): () => void {
  const aborted = () => {
    off();
    stop(new LibvirtError('aborted', `${what}: aborted`, { cause: signal?.reason }));
  };
  const timer = setTimeout(() => {
    off();
    stop(new LibvirtError('timeout', `${what}: no answer within ${timeoutMs} ms`));
  }, timeoutMs);
  const off = () => {
    clearTimeout(timer);
    signal?.removeEventListener('abort', aborted);
  };
  signal?.addEventListener('abort', aborted, { once: true });
  if (signal?.aborted === true) aborted();
  return off;
}

/** The promise's outcome, or the deadline's error, whichever comes first. */
export async function withDeadline<T>(
  what: string,
  promise: Promise<T>,
  timeoutMs: number,
  signal?: AbortSignal,
): Promise<T> {
  let off = (): void => undefined;
  const deadline = new Promise<never>((_resolve, reject) => {
    off = onDeadline(what, timeoutMs, signal, reject);
  });
  try {
    return await Promise.race([promise, deadline]);
  } finally {
    off();
  }
}
