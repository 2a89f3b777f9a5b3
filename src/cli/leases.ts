/** What the site knows of leases, for commands that show it beside other things. */
import { VirgaError } from '../api/errors.ts';
import type { HostLeaseView, LeasesView } from '../api/schemas.ts';
import type { Call } from './call.ts';
import { isAway } from './failure.ts';

export interface Seen {
  readonly leases?: LeasesView;
  readonly of: (hostId: string) => HostLeaseView | undefined;
}

/** Leases by host; none when the site cannot tell, since nobody looks at a host for its lease alone. */
export async function readLeases(call: Pick<Call, 'client' | 'look'>): Promise<Seen> {
  let leases: LeasesView;
  try {
    leases = await call.client.call('lease.show', call.look);
  } catch (error) {
    // It has no leader, or is too old to know of leases.
    if (isAway(error) || (error instanceof VirgaError && error.code === 'route_not_found'))
      return { of: () => undefined };
    throw error;
  }
  const byHost = new Map(leases.hosts.map((each) => [each.hostId, each] as const));
  return { leases, of: (hostId) => byHost.get(hostId) };
}
