/** The site at a glance. */
import type { LeasesView, SiteStatusView } from '../../../api/schemas.ts';
import { present } from '../../../api/present.ts';
import type { HostState, Resources } from '../../../core/model/host.ts';
import type { Kind } from '../../../core/model/resource.ts';
import type { Snapshot } from '../../../core/model/snapshot.ts';
import { promisable, promised } from '../../../core/place/capacity.ts';
import type { Services } from '../services.ts';
import { leasesAtAGlance, leasesOf } from './lease-view.ts';

/** Problems that one answer lists; the lists have them all. */
const maxProblems = 100;
type Problem = SiteStatusView['problems'][number];

export function statusOf(services: Services): SiteStatusView {
  const { state, version, startedAt } = services;
  const { snapshot } = state;
  const { site } = snapshot;
  const leases = services.lease ? leasesOf(services) : undefined;
  return {
    id: site.id,
    name: site.name,
    version,
    epoch: site.epoch,
    revision: snapshot.revision,
    leading: state.leadership === 'leading',
    startedAt: new Date(startedAt).toISOString(),
    ...(site.review ? { review: present(site.review) } : {}),
    ...leasesAtAGlance(services, leases, snapshot),
    hosts: countStates(snapshot, 'host'),
    guests: countStates(snapshot, 'guest'),
    images: countStates(snapshot, 'image'),
    networks: snapshot.count('network'),
    capacity: capacityOf(snapshot),
    problems: [...problemsOf(snapshot, state.leadership === 'leading'), ...lapses(leases)].slice(0, maxProblems),
  };
}

function countStates(snapshot: Snapshot, kind: Extract<Kind, 'host' | 'guest' | 'image'>): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { status } of snapshot.all(kind)) counts[status.state] = (counts[status.state] ?? 0) + 1;
  return counts;
}

function capacityOf(snapshot: Snapshot): { readonly total: Resources; readonly promised: Resources } {
  let total: Resources = { cpus: 0, memoryMiB: 0, diskMiB: 0 };
  let taken = total;
  for (const host of snapshot.all('host')) {
    const has = promisable(host);
    if (!has) continue;
    total = add(total, has);
    taken = add(taken, promised(snapshot, host));
  }
  return { total, promised: taken };
}

function add(a: Resources, b: Resources): Resources {
  return { cpus: a.cpus + b.cpus, memoryMiB: a.memoryMiB + b.memoryMiB, diskMiB: a.diskMiB + b.diskMiB };
}

/** A host that is heard, and whose guests stand still all the same. */
function lapses(leases: LeasesView | undefined): Problem[] {
  return (leases?.hosts ?? [])
    .filter((each) => each.state === 'lapsed')
    .map(({ host }) => ({
      subject: `host ${host}`,
      message: 'hears no majority of the voters: its highly available guests are frozen, and go on when it does',
    }));
}

const hostTroubles: Partial<Readonly<Record<HostState, string>>> = {
  silent: 'is silent; its guests are unknown',
  lost: 'is lost: its session is over, nothing runs there any more',
  fenced: 'is powered off, or declared dead; nothing runs there any more',
};

function problemsOf(snapshot: Snapshot, leading: boolean): Problem[] {
  const problems: Problem[] = [];
  if (!leading)
    problems.push({ subject: 'database', message: 'it does not answer; what is shown is what was known last' });
  if (snapshot.site.review)
    problems.push({ subject: 'site', message: 'it was restored and waits for review: virga review' });
  for (const host of snapshot.all('host')) {
    const subject = `host ${host.name}`;
    const word = hostTroubles[host.status.state];
    if (word !== undefined) problems.push({ subject, message: word });
    for (const message of host.status.problems) problems.push({ subject, message });
  }
  for (const network of snapshot.all('network'))
    for (const { host, message } of network.status.problems)
      problems.push({ subject: `network ${network.name}`, message: `${host}: ${message}` });
  for (const image of snapshot.all('image'))
    if (image.status.state === 'failed')
      problems.push({ subject: `image ${image.name}`, message: image.status.error?.message ?? 'failed' });
  for (const guest of snapshot.all('guest'))
    if (guest.status.state === 'failed')
      problems.push({ subject: `guest ${guest.name}`, message: guest.status.stateReason ?? 'failed' });
  return problems;
}
