/** Opening the store: tried until the database is there. */
import { VirgaError } from '../core/errors.ts';
import type { Clock, Log } from '../ports.ts';
import { type OpenDatabase, openStore, type OpenOptions } from './store/open.ts';
import type { PgStore } from './store/store.ts';

export type OpenedStore = OpenDatabase & { readonly store: PgStore };

const retryMs = 1000;

/**
 * Undefined when the signal came first.
 * @param waiting told why it is not open yet
 * @throws VirgaError that no waiting can mend: a newer database, no database programs, a damaged file
 */
export async function openPatiently(
  options: OpenOptions,
  world: { readonly clock: Clock; readonly log: Log },
  waiting: (why: string) => void,
  signal: AbortSignal,
): Promise<OpenedStore | undefined> {
  let told = '';
  while (!signal.aborted) {
    try {
      return await openStore(options);
    } catch (error) {
      if (!(error instanceof VirgaError) || error.code !== 'store_unavailable') throw error;
      if (told !== error.message) world.log.error('the database could not be opened', { detail: error.message });
      told = error.message;
      waiting(error.message);
      await world.clock.sleep(retryMs, signal).catch(() => undefined);
    }
  }
  return undefined;
}
