/** What a voter makes of one host's record: whether a session gets nothing any more, and what it tells the leader of it. */
import type { HostSession } from '../model/host.ts';
import type { Uuid } from '../model/resource.ts';
import type { Rules } from './rules.ts';
import { compareEpochs } from './epoch.ts';
import { compareVersions } from './list.ts';
import type { Epoch, HostVote, Seal, SealAnswer, VoterList } from './types.ts';
import { compareBallots, type HostRecord, type Watch } from './voter-record.ts';

/** Why the session gets nothing here any more, and what number it must be above. Only these two refuse (rule 6). */
export function refusal(
  { granted, seal, overThrough }: HostRecord,
  session: HostSession,
  rules: Rules,
): { readonly why: 'sealed' | 'low'; readonly number: number } | undefined {
  const number = Math.max(granted?.number ?? 0, seal?.session.number ?? 0, overThrough);
  if (overThrough >= session.number || (seal && seal.session.number >= session.number))
    return { why: 'sealed', number };
  if (granted && granted.number > session.number) return { why: 'low', number };
  const other = rules.sessionIds && granted?.number === session.number && granted.id !== session.id;
  return other ? { why: 'low', number } : undefined;
}

export function voteOf(
  hostId: Uuid,
  { granted, seal, overThrough }: HostRecord,
  { until, beat }: Watch,
  now: number,
  rules: Rules,
): HostVote {
  const current = beat && (beat.session.id === granted?.id || !rules.sessionStatus);
  return {
    hostId,
    session: granted ?? seal?.session ?? { number: 0, id: '' },
    leftMs: Math.max(0, until - now),
    ...(beat ? { silentMs: Math.max(0, now - beat.at) } : {}),
    lapsed: current === true && beat.lapsed,
    ended: current === true && beat.ended,
    ...(seal ? { seal: { session: seal.session, ballot: seal.ballot, first: seal.first } } : {}),
    overThrough,
    ...(beat ? { confirmed: beat.confirmed } : {}),
  };
}

/** Why a seal is not set (rules 4, 5, 7, 15), or nothing. `contactMs`: how long the voter itself has heard a majority. */
export function refuseSeal(
  { session, ballot, version, word }: Seal,
  record: HostRecord,
  { until, beat }: Watch,
  { epoch, list, rules }: { readonly epoch: Epoch; readonly list: VoterList | undefined; readonly rules: Rules },
  now: number,
  contactMs: number,
): SealAnswer['why'] {
  if (rules.votersRefuseLow && compareEpochs(ballot.epoch, epoch) < 0) return 'epoch';
  if (!list || compareVersions(version, list.version) !== 0) return 'list';
  const { granted, seal, withdrawn } = record;
  if (granted && granted.number > session.number) return 'higher';
  if (granted && granted.number === session.number && granted.id !== session.id) return 'higher';
  if (seal && seal.session.number > session.number) return 'higher';
  if (rules.lateWithdrawals && withdrawn && compareBallots(ballot, withdrawn) <= 0) return 'ballot';
  if (rules.oneBallot && seal && compareBallots(ballot, seal.ballot) < 0) return 'ballot';
  if (seal || word?.kind === 'person') return undefined;
  const lapsed = beat?.session.id === session.id && (beat.lapsed || beat.ended);
  // Also a fence device that says "off" lies while we still grant.
  if (rules.sealAfterGrant && now < until && !lapsed) return 'granted';
  if (word) return undefined;
  return rules.contact && contactMs < list.profile.lengthMs && !(lapsed && beat.ended) ? 'contact' : undefined;
}
