/** Voter lists: who is a majority, which version is higher, and which list may follow which (host-lease, rule 12). */
import { compareEpochs } from './epoch.ts';
import type { ListVersion, Voter, VoterList } from './types.ts';
import type { Uuid } from '../model/resource.ts';

export const noVersion: ListVersion = { forced: 0, epoch: { number: 0, id: '' }, number: 0 };

/** Negative when `a` is lower. */
export function compareVersions(a: ListVersion, b: ListVersion, byEpoch = true): number {
  if (a.forced !== b.forced) return a.forced - b.forced;
  const epochs = byEpoch ? compareEpochs(a.epoch, b.epoch) : 0;
  return epochs === 0 ? a.number - b.number : epochs;
}

export const totalVotes = (voters: readonly Pick<Voter, 'votes'>[]): number =>
  voters.reduce((sum, each) => sum + each.votes, 0);

/** Votes that are more than half. */
export const majorityOf = (voters: readonly Pick<Voter, 'votes'>[]): number => Math.floor(totalVotes(voters) / 2) + 1;

/** Votes of those voters that `yes` holds for. */
export function votesOf(voters: readonly Voter[], yes: (voter: Voter) => boolean): number {
  let sum = 0;
  for (const voter of voters) if (yes(voter)) sum += voter.votes;
  return sum;
}

/** True when every majority of one shares a voter with every majority of the other: only such a list may follow. */
export function overlap(a: readonly Voter[], b: readonly Voter[]): boolean {
  const ids = [...new Set([...a, ...b].map(keyOf))];
  const votes = (list: readonly Voter[], chosen: ReadonlySet<string>): number =>
    votesOf(list, (each) => chosen.has(keyOf(each)));
  const needed = [majorityOf(a), majorityOf(b)] as const;
  // A set and its complement cannot hold a majority of one list each.
  for (let mask = 0; mask < 2 ** ids.length; mask += 1) {
    const chosen = new Set(ids.filter((_, index) => (mask >> index) % 2 === 1));
    const others = new Set(ids.filter((id) => !chosen.has(id)));
    if (votes(a, chosen) >= needed[0] && votes(b, others) >= needed[1]) return false;
  }
  return true;
}

/** A wiped keeper is another voter. */
export const keyOf = ({ keeperId, diskId }: Pick<Voter, 'keeperId' | 'diskId'>): string => `${keeperId}/${diskId}`;

/**
 * The next list on the way from `present` to `wished` (both without votes of two, `wished` odd in number), one step at a
 * time; undefined: nothing to do. Who is to join comes first, so that the list never shrinks below what it has to be.
 */
export function nextVoters(present: readonly Voter[], wished: readonly Voter[]): readonly Voter[] | undefined {
  const has = (list: readonly Voter[], voter: Voter): boolean => list.some((each) => keyOf(each) === keyOf(voter));
  const joining = wished.filter((each) => !has(present, each));
  const leaving = present.filter((each) => !has(wished, each));
  const doubled = present.find((each) => each.votes > 1);
  if (doubled) {
    if (wished.length === 1 && has(wished, doubled)) return [{ ...doubled, votes: 1 }];
    return present.map((each) => ({ ...each, votes: 1 }));
  }
  // A list of one and a list of three are one step apart when the one has two votes of four.
  const [only] = present;
  if (present.length === 1 && only && joining.length >= 2 && has(wished, only))
    return [{ ...only, votes: 2 }, ...joining.slice(0, 2)];
  const [last] = wished;
  if (wished.length === 1 && last && present.length === 3 && has(present, last))
    return present.map((each) => (keyOf(each) === keyOf(last) ? { ...each, votes: 2 } : each));
  // A wiped voter has a new id: it joins before the old one leaves.
  const [joins] = joining;
  if (joins && present.length % 2 === 1) return [...present, joins];
  const [leaves] = leaving;
  if (leaves) return present.filter((each) => keyOf(each) !== keyOf(leaves));
  if (joins) return [...present, joins];
  return undefined;
}

/** The entry of a keeper, with this disk where one is given: one that was wiped has two while its new entry joins. */
export function voterOf(list: VoterList | undefined, keeperId: Uuid, diskId?: Uuid): Voter | undefined {
  return list?.voters.find((each) => each.keeperId === keeperId && (diskId === undefined || each.diskId === diskId));
}
