/** Voters and leadership as they stand: who answers, over which networks, and what to do. */
import type { LeasesView, VoterView } from '../../api/schemas.ts';
import { plain } from '../failure.ts';
import { ago, counted } from '../units.ts';
import { epochText, pathsText, shortMs, tripText, versionText } from './lease.ts';
import type { Output } from './output.ts';
import type { Paint } from './style.ts';
import { table, type Column } from './table.ts';

const answersText = (voter: VoterView): string => {
  if (voter.answers) return 'yes';
  return voter.answeredAt === undefined ? 'never' : `no, last ${ago(voter.answeredAt)}`;
};

const columns: readonly Column<VoterView>[] = [
  { title: 'NAME', value: (voter) => voter.name, tone: 'bold' },
  { title: 'ROLE', value: (voter) => voter.role },
  { title: 'VOTES', value: (voter) => String(voter.votes), right: true },
  { title: 'ANSWERS', value: answersText },
  { title: 'ROUND TRIP', value: (voter) => tripText(voter.roundTripMs), right: true },
  { title: 'EPOCH', value: (voter) => (voter.accepted ? 'accepted' : voter.epoch ? epochText(voter.epoch) : '-') },
  { title: 'NETWORKS', value: pathsText },
  { title: 'LIST', value: (voter) => (voter.version ? versionText(voter.version) : '-'), wide: true },
  { title: 'ID', value: (voter) => voter.keeperId, tone: 'dim', wide: true },
];

/** Below the table: how things stand, and what to do. */
function standing(leases: LeasesView): string[] {
  const { leadership, answeringVotes, votes, profile } = leases;
  const says = {
    alone: 'There is no voter list yet: the database alone says which controller leads.',
    candidate: `${answeringVotes} of ${counted(votes, 'vote')} answer: this controller does not lead${leases.leader === undefined ? '' : ` (${leases.leader} does)`}.`,
    leading: `${answeringVotes} of ${counted(votes, 'vote')} answer; this controller leads under epoch ${epochText(leases.epoch)}.`,
  };
  return [
    `${says[leadership]} Seen ${ago(leases.observedAt)}.`,
    ...(leadership === 'leading' && !leases.committing
      ? ['The database does not take its commits: it gives no orders, and still declares hosts lost.']
      : []),
    ...(leases.version ? [`Voter list ${versionText(leases.version)}.`] : []),
    `Leases last ${shortMs(profile.lengthMs)}; guests are frozen ${shortMs(profile.boundMs)} after the end at the latest; margin ${shortMs(leases.marginMs)}.`,
  ];
}

/** A change of the voter list that is under way, and what it waits for. */
export const changeLines = ({ change }: LeasesView, paint: Paint): string[] =>
  change
    ? [
        `Under way: ${change.what}${change.waitsFor.length > 0 ? '; it waits for' : ''}`,
        ...change.waitsFor.map((each) => `  ${each}`),
      ].map((each) => paint('busy', plain(each)))
    : [];

/** The whole picture. */
export function leaseStandingLines(
  leases: LeasesView,
  { paint, wide, width }: Pick<Output, 'paint' | 'wide' | 'width'>,
): string[] {
  const shown = columns.filter((column) => wide || column.wide !== true);
  const voters =
    leases.voters.length > 0
      ? table(shown, leases.voters, { width: wide ? undefined : width, paint })
      : ['No voters yet: the first host that joins with a keeper begins the list.'];
  const { proposal } = leases;
  const names = leases.voters.map((each) => each.name);
  const other =
    proposal && (proposal.voters.length !== names.length || proposal.voters.some((each) => !names.includes(each)));
  return [
    ...voters,
    '',
    ...standing(leases).map(plain),
    ...changeLines(leases, paint),
    ...leases.advice.map((each) => paint('busy', plain(each))),
    ...(other && proposal.voters.length > 0
      ? [plain(`The site proposes these voters: ${proposal.voters.join(', ')}.`)]
      : []),
    ...(proposal?.sentences ?? []).map((each) => paint('busy', plain(each))),
  ];
}
