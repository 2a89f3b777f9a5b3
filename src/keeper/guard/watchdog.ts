/**
 * A hardware watchdog behind the guard: it resets the machine when the guard hangs, or when something that must stand
 * still goes on. Its own time-out then is the bound k of the lease (kernel documentation: watchdog/watchdog-api).
 */
import { closeSync, openSync, writeSync } from 'node:fs';
import { VirgaError } from '../../core/errors.ts';

export interface Watchdog {
  feed(): void;
  /** Disarms it: the guard ends as planned. */
  close(): void;
}

/** Opening it arms it. @throws VirgaError setup when it cannot be opened (busy, or not there) */
export function openWatchdog(path: string): Watchdog {
  let handle: number;
  try {
    handle = openSync(path, 'w');
  } catch (cause) {
    throw new VirgaError(
      'setup',
      { detail: `The watchdog ${path} cannot be opened: ${(cause as Error).message}`, how: 'See: wdctl, lsmod' },
      { cause },
    );
  }
  return {
    feed: () => void writeSync(handle, '\0'),
    close() {
      // The magic character: without it most drivers go on counting.
      writeSync(handle, 'V');
      closeSync(handle);
    },
  };
}
