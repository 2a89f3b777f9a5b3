/** The way to lead: by the majority of the voters, and by the database alone while a site has none (host-lease, rule 8). */
import type { Uuid } from '../core/model/resource.ts';
import { openFencing } from './fence/open.ts';
import { LeaseLoop } from './lease/loop.ts';
import type { Lead } from './options.ts';

export const leadByVoters: Lead = (parts) => {
  // A host that was lost does not wait for the next round.
  const ways = (keeperId: Uuid) => parts.wire.sight(keeperId)?.ways ?? [];
  const lease = new LeaseLoop({ ...parts, ways, onNews: () => parts.loop.hurry() });
  parts.wire.onMessage((from, message) => {
    if (from.role === 'keeper') lease.receive(from.id, message);
  });
  const { dataDir, state, clock, log } = parts;
  const fencer = openFencing({ dataDir, state, lease, clock, log: log.child({ part: 'fence' }) });
  const run = async (signal: AbortSignal): Promise<void> => {
    await Promise.all([lease.run(signal), fencer.run(signal)]);
  };
  return { lease, fencer, run };
};
