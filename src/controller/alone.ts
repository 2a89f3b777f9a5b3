/** Leading by the database alone: the way of a site that has no voters. */
import type { Lead, LeadParts } from './options.ts';

const retryMs = 500;

/**
 * Claims the epoch above the database's, until it has led once or the signal comes. Who is outbid afterwards stands by: two
 * that know of each other only through the database would take the lead from each other for ever.
 */
export const leadAlone: Lead = (parts) => ({ run: async (signal) => claimOnce(parts, signal) });

async function claimOnce(
  { state, store, clock, ids, log }: Pick<LeadParts, 'state' | 'store' | 'clock' | 'ids' | 'log'>,
  signal: AbortSignal,
): Promise<void> {
  let failing = false;
  while (!signal.aborted) {
    try {
      const { number } = await store.epoch();
      await state.claim({ number: number + 1, id: ids.uuid() });
      if (state.epoch) return;
    } catch (error) {
      if (!failing) log.info('waits for the database to lead', { error: String(error) });
      failing = true;
    }
    await clock.sleep(retryMs, signal).catch(() => undefined);
  }
}
