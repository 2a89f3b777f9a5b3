/** What a person should know and do about voters and leases, most urgent first. */
import type { LeasesView } from '../../../api/schemas.ts';
import { proposeVoters, voterFacts } from '../../../core/ha/propose.ts';
import type { Uuid } from '../../../core/model/resource.ts';
import type { Snapshot } from '../../../core/model/snapshot.ts';
import type { LeaseSight } from '../../lease/view.ts';

/** Sentences; none when all is well. */
export function adviceOf(sight: LeaseSight): string[] {
  return [...aboutMajority(sight), ...aboutNetworks(sight)];
}

function aboutMajority({ voters, leadership }: LeaseSight): string[] {
  const silent = voters.filter((each) => !each.answers);
  if (silent.length === 0) return [];
  const votes = voters.reduce((sum, each) => sum + each.votes, 0);
  const answering = votes - silent.reduce((sum, each) => sum + each.votes, 0);
  const names = silent.map((each) => each.name).join(', ');
  if (leadership === 'candidate' || answering * 2 <= votes)
    return [
      `No majority of the voters answers (${answering} of ${votes} votes; ${names} do not). Bring them back, or, if they are dead for ever: virga voters force NAME…`,
    ];
  // One more silent voter of those that are left would end the majority.
  const largest = Math.max(0, ...voters.filter((each) => each.answers).map((each) => each.votes));
  const edge = (answering - largest) * 2 <= votes;
  return [
    `The voter${silent.length > 1 ? 's' : ''} ${names} ${silent.length > 1 ? 'do' : 'does'} not answer${edge ? ': if one more falls silent, no host can be declared lost and all guests freeze' : ''}. Bring back or replace: virga voters remove NAME, virga voters add NAME`,
  ];
}

/** A voter that is heard over one of its two networks only. */
function aboutNetworks({ voters }: LeaseSight): string[] {
  return voters
    .filter((each) => each.answers && each.addresses.length > 1)
    .flatMap((each) =>
      each.addresses
        .filter(({ answers }) => !answers)
        .map(({ address }) => `${each.name} answers on one network only: ${address} is silent.`),
    );
}

/** The voters that the site proposes by itself; undefined while its hosts are not known. */
export function proposalOf(sight: LeaseSight, snapshot: Snapshot | undefined): LeasesView['proposal'] {
  if (!snapshot) return undefined;
  const present = new Map(sight.voters.map((each) => [each.keeperId, each.answers] as const));
  const hosts = new Map([...snapshot.all('host')].map((each) => [each.id, each] as const));
  const well = (id: Uuid): boolean => {
    const status = hosts.get(id)?.status;
    return present.get(id) ?? (status?.state === 'online' && status.keeper !== undefined);
  };
  const { voters, sentences } = proposeVoters(voterFacts(snapshot, well, new Set(present.keys())));
  return { voters: voters.map((id) => hosts.get(id)?.name ?? id), sentences: [...sentences] };
}
