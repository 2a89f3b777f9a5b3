/**
 * Which voters a site should have (host-lease): odd, at most seven, spread over failure domains; all hosts of a small
 * site, and a witness where the hosts are even in number. Who is a voter and well stays one: every change costs a step.
 */
import type { Uuid } from '../model/resource.ts';
import type { Snapshot } from '../model/snapshot.ts';
import { compareText, count, some } from '../util.ts';

export const mostVoters = 7;

export interface VoterFact {
  readonly keeperId: Uuid;
  readonly name: string;
  readonly role: 'host' | 'witness';
  /** `building` and `rack` are failure domains. */
  readonly labels: Readonly<Record<string, string>>;
  /** Its keeper has answered for a good while; short silences shall change no list. */
  readonly well: boolean;
  /** In the present list. */
  readonly voter: boolean;
}

export interface VoterProposal {
  /** In the order of their names. */
  readonly voters: readonly Uuid[];
  /** What people should know or do, and why. */
  readonly sentences: readonly string[];
}

/** The hosts and witnesses of a site as candidates. Lost hosts are left out: they vote again when they are back. */
export function voterFacts(
  snapshot: Snapshot,
  well: (keeperId: Uuid) => boolean,
  present: ReadonlySet<Uuid>,
): readonly VoterFact[] {
  return [...snapshot.all('host')].map(({ id, name, labels, spec }) => ({
    keeperId: id,
    name,
    role: spec.role ?? 'host',
    labels,
    well: well(id),
    voter: present.has(id),
  }));
}

export function proposeVoters(facts: readonly VoterFact[]): VoterProposal {
  // Who is away votes no better for being replaced by nobody: a present voter stays until another can take its place.
  const able = facts.filter((each) => each.well || each.voter).toSorted(byMerit);
  const hosts = able.filter((each) => each.role === 'host');
  const witnesses = able.filter((each) => each.role === 'witness');
  const pool = poolOf(hosts, witnesses);
  const chosen = spread(pool.from, pool.seats);
  return {
    voters: chosen.toSorted((a, b) => compareText(a.name, b.name)).map((each) => each.keeperId),
    sentences: [...pool.sentences, ...warnings(chosen)],
  };
}

interface Pool {
  readonly from: readonly VoterFact[];
  /** Odd; 0 where there is nobody. */
  readonly seats: number;
  readonly sentences: readonly string[];
}

function poolOf(hosts: readonly VoterFact[], witnesses: readonly VoterFact[]): Pool {
  const [witness] = witnesses;
  const [first, second] = hosts;
  if (!first) return { from: witnesses, seats: witness ? 1 : 0, sentences: [] };
  if (!second) return { from: hosts, seats: 1, sentences: [`${first.name} alone is its own majority.`] };
  if (hosts.length > mostVoters) return { from: [...hosts, ...witnesses], seats: mostVoters, sentences: [] };
  if (hosts.length % 2 === 1) return { from: hosts, seats: hosts.length, sentences: [] };
  if (witness) return { from: [...hosts, witness], seats: hosts.length + 1, sentences: [] };
  // Of two hosts the one that votes stays: to change a list its own majority is needed.
  const from = hosts.length === 2 ? hosts.toSorted((a, b) => Number(b.voter) - Number(a.voter)).slice(0, 1) : hosts;
  return { from, seats: hosts.length - 1, sentences: [wanted(hosts, from)] };
}

function wanted(hosts: readonly VoterFact[], voting: readonly VoterFact[]): string {
  const how = 'virga host invite --witness, then virga witness on any small machine';
  const [first] = voting;
  const second = hosts.find((each) => each !== first);
  if (hosts.length === 2 && first && second)
    return `Two hosts want a witness: without one, only ${first.name} votes, and when it is lost the guests of ${second.name} freeze and nobody starts its own elsewhere (${how}).`;
  return `${count(hosts.length, 'host')} want a witness: with one, one more machine could be lost (${how}).`;
}

/** Voters that are well first, then others that are well, then voters that are away; hosts before witnesses. */
function byMerit(a: VoterFact, b: VoterFact): number {
  return merit(a) - merit(b) || compareText(a.role, b.role) || compareText(a.name, b.name);
}

function merit({ well, voter }: VoterFact): number {
  if (!well) return 2;
  return voter ? 0 : 1;
}

/** The best by merit, each next one where the fewest of its failure domain are chosen; then crowds are thinned. */
function spread(from: readonly VoterFact[], seats: number): readonly VoterFact[] {
  const chosen: VoterFact[] = [];
  const left = [...from];
  while (chosen.length < seats && left.length > 0) {
    const best = left.reduce((a, b) => (crowded(b, chosen, a, merit) < 0 ? b : a));
    left.splice(left.indexOf(best), 1);
    chosen.push(best);
  }
  thin(chosen, left);
  return chosen;
}

function crowded(a: VoterFact, chosen: readonly VoterFact[], b: VoterFact, rank: (fact: VoterFact) => number): number {
  return (
    rank(a) - rank(b) ||
    shared(a, chosen, 'building') - shared(b, chosen, 'building') ||
    shared(a, chosen, 'rack') - shared(b, chosen, 'rack')
  );
}

type Domain = 'building' | 'rack';

/** How many of the chosen go down with it. */
function shared(fact: VoterFact, chosen: readonly VoterFact[], domain: Domain): number {
  const mine = domainOf(fact, domain);
  return mine === undefined ? 0 : chosen.filter((each) => domainOf(each, domain) === mine).length;
}

/** Racks have their names within their building. */
function domainOf({ labels }: VoterFact, domain: Domain): string | undefined {
  const { building, rack } = labels;
  if (domain === 'building') return building;
  return rack === undefined ? undefined : `${building ?? ''}/${rack}`;
}

/** While one domain has a majority and somebody well elsewhere could take a seat of it, they change places. */
function thin(chosen: VoterFact[], left: VoterFact[]): void {
  for (const domain of ['building', 'rack'] as const)
    for (let turn = 0; turn < mostVoters; turn += 1) {
      const crowd = majorityIn(chosen, domain);
      const leaves = crowd?.members.toSorted(byMerit).at(-1);
      const comes = left.find((each) => each.well && domainOf(each, domain) !== crowd?.name);
      if (!crowd || !leaves || !comes) break;
      chosen.splice(chosen.indexOf(leaves), 1, comes);
      left.splice(left.indexOf(comes), 1, leaves);
    }
}

interface Crowd {
  readonly name: string;
  readonly members: readonly VoterFact[];
}

function majorityIn(chosen: readonly VoterFact[], domain: Domain): Crowd | undefined {
  const groups = Map.groupBy(chosen, (each) => domainOf(each, domain));
  for (const [name, members] of groups)
    if (name !== undefined && members.length * 2 > chosen.length) return { name, members };
  return undefined;
}

function warnings(chosen: readonly VoterFact[]): readonly string[] {
  if (chosen.length < 3) return [];
  const away = chosen.filter((each) => !each.well).map((each) => each.name);
  const labelled = chosen.some(
    (each) => domainOf(each, 'rack') !== undefined || domainOf(each, 'building') !== undefined,
  );
  const crowd = labelled ? (majorityIn(chosen, 'rack') ?? majorityIn(chosen, 'building')) : undefined;
  return [
    ...(away.length > 0 ? [`${some(away)} does not answer, and nobody else could vote instead.`] : []),
    ...(crowd
      ? [
          `${count(crowd.members.length, 'voter')} of ${chosen.length} share one failure domain (${crowd.name}): without it there is no majority.`,
        ]
      : []),
  ];
}
