/** Waiting for leases: of a site of this machine, from what its API shows. */
import type { Client } from '../api/client.ts';
import { VirgaError } from '../api/errors.ts';
import type { Answer } from '../api/routes.ts';
import type { HostView } from '../api/schemas.ts';
import { until } from './ready.ts';

export type LeasesView = Answer<'lease.show'>;

/** Most voters of a list (rule 12). */
const mostVoters = 7;

/** Why the leases are not settled yet, or nothing. `sites`: all hosts; `hosts`: names of those with power. */
export function unsettled(view: LeasesView, sites: readonly HostView[], hosts: readonly string[]): string | undefined {
  if (view.leadership !== 'leading') return `the controller is ${view.leadership}`;
  if (!view.committing) return 'it cannot commit';
  const missing = hosts.filter((name) => {
    const lease = view.hosts.find((each) => each.host === name);
    return lease === undefined || (lease.state !== 'held' && lease.state !== 'none');
  });
  if (missing.length > 0) return `no lease yet: ${missing.join(', ')}`;
  const old = sites.filter((host) => {
    const lease = view.hosts.find((each) => each.host === host.name);
    const same = host.status.session?.id === lease?.session?.id;
    return hosts.includes(host.name) && (host.status.state !== 'online' || !same);
  });
  if (old.length > 0) return `not reported yet: ${old.map(({ name }) => name).join(', ')}`;
  if (view.change !== undefined)
    return `a change of the voters: ${view.change.what}, waits for ${view.change.waitsFor.join(', ')}`;
  const keepers = view.hosts.length;
  const wanted = Math.min(mostVoters, keepers % 2 === 0 ? keepers - 1 : keepers);
  if (view.votes < wanted) return `${view.votes} votes of ${wanted}`;
  if (view.barrier.length > 0) return `the register of ${view.barrier.join(', ')} was not seen`;
  return undefined;
}

/** Waits until every one of these hosts holds a lease, and the list of voters is what the site wants. */
export async function leasesSettled(client: Client, hosts: readonly string[], limitMs = 60_000): Promise<LeasesView> {
  let reason = 'never asked';
  try {
    return await until('the leases of all hosts', limitMs, async () => {
      const view = await client.call('lease.show');
      reason = unsettled(view, (await client.call('host.list')).items, hosts) ?? '';
      return reason === '' ? view : undefined;
    });
  } catch (error) {
    throw new VirgaError(
      'timeout',
      { what: `leases (${reason})`, seconds: Math.round(limitMs / 1000) },
      { cause: error },
    );
  }
}
