/** Leases as people see them: what the leader's memory holds, with names, and with what to do. */
import type { HostLeaseView, LeasesView, SiteStatusView, VoterView } from '../../../api/schemas.ts';
import { VirgaError } from '../../../core/errors.ts';
import { margin } from '../../../core/ha/margin.ts';
import type { LeaseProfile } from '../../../core/ha/types.ts';
import type { Host } from '../../../core/model/host.ts';
import type { Instant, Uuid } from '../../../core/model/resource.ts';
import type { Snapshot } from '../../../core/model/snapshot.ts';
import type { HostLeaseSight, LeaseDoor, LeaseSight, VoterSight } from '../../lease/view.ts';
import type { Services } from '../services.ts';
import { adviceOf, proposalOf } from './lease-advice.ts';

/** The door to the leases. @throws VirgaError not_leading while nothing is wired to it */
export function leaseOf({ lease }: Pick<Services, 'lease'>): LeaseDoor {
  if (!lease) throw new VirgaError('not_leading');
  return lease;
}

/** What is known of the site; undefined on a controller that never led and has loaded nothing. */
export function knownSnapshot({ state }: Pick<Services, 'state'>): Snapshot | undefined {
  try {
    return state.snapshot;
  } catch (error) {
    if (error instanceof VirgaError && error.code === 'not_leading') return undefined;
    throw error;
  }
}

const iso = (at: Instant): string => new Date(at).toISOString();

/** Milliseconds after a grant ran out, until its guests are frozen for certain. */
export const marginOf = ({ lengthMs, boundMs, drift }: LeaseProfile): number =>
  Math.round(margin(lengthMs, boundMs, drift) * 10) / 10;

/** The whole picture. Never refused for want of a majority: then it says so. */
export function leasesOf(services: Pick<Services, 'lease' | 'state' | 'clock' | 'leader'>): LeasesView {
  const sight = leaseOf(services).sight();
  const snapshot = knownSnapshot(services);
  const leader = services.leader?.();
  const proposal = proposalOf(sight, snapshot);
  const { leadership, committing, version, profile, change } = sight;
  return {
    observedAt: iso(services.clock.now()),
    leadership,
    ...(leader === undefined ? {} : { leader }),
    epoch: { ...sight.epoch },
    committing,
    ...(version ? { version: { ...version, epoch: { ...version.epoch } } } : {}),
    profile: { ...profile },
    marginMs: marginOf(profile),
    voters: sight.voters.map((each) => voterView(each, snapshot)),
    ...votesOf(sight),
    hosts: hostLeases(sight, snapshot),
    barrier: sight.barrier.map((id) => nameOf(id, sight, snapshot)),
    ...(change ? { change: { what: change.what, waitsFor: [...change.waitsFor] } } : {}),
    advice: adviceOf(sight),
    ...(proposal ? { proposal } : {}),
  };
}

/** Votes there are, and votes of those that answer. */
export function votesOf({ voters }: Pick<LeaseSight, 'voters'>): { answeringVotes: number; votes: number } {
  const sum = (some: readonly VoterSight[]): number => some.reduce((total, each) => total + each.votes, 0);
  return { answeringVotes: sum(voters.filter((each) => each.answers)), votes: sum(voters) };
}

/** A host by its name, also where only the voter list knows it. */
function nameOf(id: Uuid, sight: LeaseSight, snapshot: Snapshot | undefined): string {
  const voter = sight.voters.find((each) => each.keeperId === id);
  return snapshot?.get('host', id)?.name ?? voter?.name ?? id.slice(0, 8);
}

function voterView(voter: VoterSight, snapshot: Snapshot | undefined): VoterView {
  const { keeperId, name, votes, answers, answeredAt, roundTripMs, accepted, epoch, version, addresses } = voter;
  const host = snapshot?.get('host', keeperId);
  return {
    keeperId,
    name: host?.name ?? name,
    role: host?.spec.role ?? 'host',
    votes,
    answers,
    ...(answeredAt === undefined ? {} : { answeredAt: iso(answeredAt) }),
    ...(roundTripMs === undefined ? {} : { roundTripMs }),
    accepted,
    ...(epoch ? { epoch: { ...epoch } } : {}),
    ...(version ? { version: { ...version, epoch: { ...version.epoch } } } : {}),
    addresses: addresses.map((each) => ({ ...each })),
  };
}

/** Every host that is known, those that only the voters know included. */
function hostLeases(sight: LeaseSight, snapshot: Snapshot | undefined): HostLeaseView[] {
  const seen = new Map(sight.hosts.map((each) => [each.hostId, each] as const));
  const hosts = new Map([...(snapshot?.all('host') ?? [])].map((each) => [each.id, each] as const));
  const voters = new Set(sight.voters.map((each) => each.keeperId));
  return [...new Set([...hosts.keys(), ...seen.keys()])]
    .map((id) => hostLease(id, seen.get(id), hosts.get(id), voters.has(id), nameOf(id, sight, snapshot)))
    .sort((a, b) => (a.host < b.host ? -1 : 1));
}

function hostLease(
  hostId: Uuid,
  sight: HostLeaseSight | undefined,
  host: Host | undefined,
  voter: boolean,
  name: string,
): HostLeaseView {
  const { session, leftMs, silentSinceAt, sealedVotes, votes, confirmed } = sight ?? {};
  return {
    hostId,
    host: name,
    role: host?.spec.role ?? 'host',
    state: stateOf(sight, host),
    ...(session ? { session: { ...session } } : {}),
    ...(leftMs === undefined ? {} : { leftMs }),
    ...(silentSinceAt === undefined ? {} : { silentSinceAt: iso(silentSinceAt) }),
    ...(sealedVotes === undefined ? {} : { sealedVotes }),
    ...(votes === undefined ? {} : { votes }),
    voter,
    ...(confirmed ? { confirmed: { ...confirmed, epoch: { ...confirmed.epoch } } } : {}),
  };
}

/** What no voter speaks of any more was declared over, or was never granted anything. */
function stateOf(sight: HostLeaseSight | undefined, host: Host | undefined): HostLeaseView['state'] {
  if (sight) return sight.state;
  // It holds nothing that could lapse.
  if (host?.spec.role === 'witness') return 'none';
  return host?.status.state === 'lost' || host?.status.state === 'fenced' ? 'lost' : 'unknown';
}

const listed = 20;

/** The leases' part of the site at a glance. */
export function leasesAtAGlance(
  services: Pick<Services, 'leader'>,
  view: LeasesView | undefined,
  snapshot: Snapshot,
): Pick<SiteStatusView, 'leases' | 'waiting' | 'leader' | 'hold'> {
  const { hold } = snapshot.site;
  const leader = services.leader?.();
  const said = {
    ...(leader === undefined ? {} : { leader }),
    ...(hold ? { hold: { reason: hold.reason, who: hold.who, heldAt: iso(hold.heldAt) } } : {}),
  };
  if (!view) return said;
  const states: Record<string, number> = {};
  for (const { state } of view.hosts) states[state] = (states[state] ?? 0) + 1;
  return {
    ...said,
    leases: {
      leadership: view.leadership,
      states,
      votes: view.votes,
      answeringVotes: view.answeringVotes,
      silentVoters: view.voters.filter((each) => !each.answers).map((each) => each.name),
      // What is urgent stands alone; and a host that is alone lacks nothing that a person could mend.
      advice: view.advice.length > 0 || view.hosts.length < 2 ? view.advice : (view.proposal?.sentences ?? []),
    },
    waiting: waitingOf(view, snapshot),
  };
}

/** What waits, and for what: after a cold start this is the order in which a site comes up. */
function waitingOf(view: LeasesView, snapshot: Snapshot): NonNullable<SiteStatusView['waiting']> {
  const silent = view.voters.filter((each) => !each.answers).map((each) => each.name);
  const waiting: NonNullable<SiteStatusView['waiting']> = [];
  if (view.leadership === 'candidate')
    waiting.push({
      what: 'leadership',
      waitsFor: [silent.length > 0 ? `the voters ${silent.join(', ')}` : 'the majority of the voters'],
    });
  else if (!view.committing) waiting.push({ what: 'new orders', waitsFor: ['the database'] });
  if (view.barrier.length > 0)
    waiting.push({
      what: 'guests that an earlier leader had placed',
      waitsFor: view.barrier.map((each) => `what the keeper of ${each} says of them, or that ${each} is lost`),
    });
  if (view.change) waiting.push(view.change);
  const { hold } = snapshot.site;
  if (hold) waiting.push({ what: 'recovery of guests', waitsFor: [`virga site release (held: ${hold.reason})`] });
  for (const guest of snapshot.all('guest')) {
    if (waiting.length >= listed) break;
    const { placement, unplaced, waits } = guest.status;
    if (waits !== undefined) waiting.push({ what: `guest ${guest.name}`, waitsFor: [waits] });
    else if (!placement && guest.spec.power === 'on' && unplaced && unplaced.length > 0)
      waiting.push({ what: `guest ${guest.name}`, waitsFor: [...unplaced] });
  }
  return waiting;
}
