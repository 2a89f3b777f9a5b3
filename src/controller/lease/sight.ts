/** What the leader knows of leases, as people see it. */
import { compareEpochs } from '../../core/ha/epoch.ts';
import { freshMs, type Leader } from '../../core/ha/leader.ts';
import type { Epoch, HostVote, LeaseProfile } from '../../core/ha/types.ts';
import type { Instant, Uuid } from '../../core/model/resource.ts';
import type { HostLeaseSight, LeaseSight, VoterSight } from './view.ts';

export interface Around {
  readonly alone: boolean;
  readonly committing: boolean;
  readonly profile: LeaseProfile;
  readonly epoch: Epoch;
  readonly instant: (at: number) => Instant;
  readonly ways: (keeperId: Uuid) => readonly Way[];
}

/** One network's way to a keeper. */
export interface Way {
  readonly address: string;
  readonly answeredMsAgo?: number;
  readonly roundTripMs?: number;
}

export function sightOf(leader: Leader, now: number, around: Around): LeaseSight {
  const { alone, committing, profile, epoch } = around;
  const { list, leads } = leader;
  const change = leads ? leader.lists.change(now) : undefined;
  return {
    leadership: leads ? 'leading' : alone ? 'alone' : 'candidate',
    epoch,
    committing,
    ...(list ? { version: list.version } : {}),
    profile,
    voters: voters(leader, now, around),
    hosts: leader.keepers.filter(({ role }) => role === 'host').map(({ id }) => host(leader, id, now, around)),
    barrier: leads ? leader.registers.waiting : [],
    ...(change ? { change } : {}),
  };
}

function voters(leader: Leader, now: number, { instant, ways }: Around): readonly VoterSight[] {
  return leader.voters.map((voter) => {
    const sight = leader.sight(voter);
    const answers = sight !== undefined && now - sight.answeredAt <= 1000;
    const trip = sight === undefined ? {} : { roundTripMs: Math.round(sight.roundTripMs * 10) / 10 };
    return {
      keeperId: voter.keeperId,
      name: voter.name,
      votes: voter.votes,
      answers,
      ...(sight ? { answeredAt: instant(sight.answeredAt) } : {}),
      ...trip,
      ...(sight ? { epoch: sight.epoch, version: sight.version } : {}),
      accepted: sight !== undefined && compareEpochs(sight.epoch, leader.epoch) === 0,
      addresses: voter.addresses.map((address) => {
        const way = ways(voter.keeperId).find((each) => each.address === address);
        if (!way) return { address, answers, ...trip };
        const { answeredMsAgo, roundTripMs } = way;
        return {
          address,
          answers: answeredMsAgo !== undefined && answeredMsAgo <= 1000,
          ...(roundTripMs === undefined ? {} : { roundTripMs }),
        };
      }),
    };
  });
}

function host(leader: Leader, hostId: Uuid, now: number, { instant }: Around): HostLeaseSight {
  const seen = leader.registers.keepers.get(hostId);
  const session = leader.sessionOf(hostId);
  const attempt = leader.seals.attempts.get(hostId);
  const votes = leader.voters.flatMap((voter) => {
    const sight = leader.sight(voter);
    return sight && now - sight.answeredAt <= freshMs ? (sight.hosts.get(hostId) ?? []) : [];
  });
  const silentMs = Math.min(...votes.map((vote) => vote.silentMs ?? Number.POSITIVE_INFINITY));
  const loss = leader.seals.losses.get(hostId);
  const lost = loss !== undefined && loss.session.number >= (session?.number ?? 0);
  const state = lost ? 'lost' : attempt && !attempt.withdrawing ? 'sealing' : stateOf(votes, seen, now, leader);
  const fresh = seen !== undefined && now - seen.heardAt <= 3 * freshMs;
  const silentAt = Number.isFinite(silentMs) ? now - silentMs : fresh ? undefined : seen?.heardAt;
  return {
    hostId,
    state,
    ...(session ? { session } : {}),
    ...(fresh ? { leftMs: Math.max(0, seen.state.leftMs - (now - seen.heardAt)) } : {}),
    ...(silentAt !== undefined && state !== 'held' ? { silentSinceAt: instant(silentAt) } : {}),
    ...(attempt
      ? { sealedVotes: [...attempt.answers.values()].filter(({ sealed }) => sealed).length, votes: leader.votes }
      : {}),
    ...(seen ? { confirmed: seen.confirmed } : {}),
  };
}

function stateOf(
  votes: readonly HostVote[],
  seen: { readonly heardAt: number; readonly state: { readonly state: string } } | undefined,
  now: number,
  leader: Leader,
): HostLeaseSight['state'] {
  if (votes.length >= leader.majority && votes.every((vote) => vote.lapsed)) return 'lapsed';
  if (!seen || now - seen.heardAt > 3 * freshMs) return 'unknown';
  if (seen.state.state === 'held') return 'held';
  if (seen.state.state === 'lapsed') return 'lapsed';
  return 'none';
}
