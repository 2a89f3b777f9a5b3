/** Who should vote: what the site proposes, what people wish beside it, and what the database remembers. */
import { VirgaError } from '../../core/errors.ts';
import type { Leader } from '../../core/ha/leader.ts';
import { keyOf, noVersion, voterOf } from '../../core/ha/list.ts';
import { profiles } from '../../core/ha/margin.ts';
import { proposeVoters, voterFacts } from '../../core/ha/propose.ts';
import type { Voter, VoterList } from '../../core/ha/types.ts';
import type { Host } from '../../core/model/host.ts';
import type { Instant, Uuid } from '../../core/model/resource.ts';
import type { NewEvent, SiteFacts, Snapshot } from '../../core/model/snapshot.ts';

/** Milliseconds that a keeper must have answered without a break before it is taken as a voter. */
const steadyMs = 2500;
/** A longer silence begins anew. */
const breakMs = 3000;

/** The first list: one host that has a keeper. The site grows from there, one step at a time. */
export function beginVoters(
  snapshot: Snapshot,
  now: Instant,
): { readonly site?: SiteFacts; readonly events: readonly NewEvent[] } {
  const { site } = snapshot;
  if (site.voters) return { events: [] };
  const able = [...snapshot.all('host')].filter(
    ({ status, spec }) => status.keeper && status.state === 'online' && spec.role !== 'witness',
  );
  const [first] = able.toSorted((a, b) => (a.name < b.name ? -1 : 1));
  const voter = first && entryOf(first);
  if (!voter) return { events: [] };
  const version = { ...noVersion, number: 1 };
  const list: VoterList = { siteId: site.id, version, profile: site.lease ?? profiles.default, voters: [voter] };
  return {
    site: { ...site, voters: { begunAt: now, list } },
    events: [told(site, `the first voter is ${voter.name}`, now)],
  };
}

function entryOf({ id, name, status }: Host): Voter | undefined {
  const { keeper } = status;
  return keeper && { keeperId: id, diskId: keeper.diskId, name, votes: 1, addresses: keeper.addresses };
}

/** What the database should remember of the list: written when the voters change, not at each new leader. */
export function keepList(
  { site }: Snapshot,
  list: VoterList | undefined,
  now: Instant,
): { readonly site?: SiteFacts; readonly events: readonly NewEvent[] } {
  const kept = site.voters?.list;
  if (!list || (kept && textOf(kept) === textOf(list))) return { events: [] };
  const names = list.voters.map(({ name, votes }) => (votes > 1 ? `${name} (${votes} votes)` : name)).join(', ');
  const begunAt = site.voters?.begunAt ?? now;
  return {
    site: { ...site, voters: { ...site.voters, begunAt, list } },
    events: [told(site, `the voters are ${names}`, now)],
  };
}

const textOf = ({ voters, profile, version }: VoterList): string =>
  JSON.stringify([voters.map((each) => [keyOf(each), each.votes, each.addresses]), profile, version.forced]);

function told(site: SiteFacts, message: string, now: Instant): NewEvent {
  const subject = { kind: 'site', id: site.id, name: site.name } as const;
  return { eventAt: now, type: 'voters.changed', severity: 'info', subject, message, who: 'virga' };
}

/** @throws VirgaError invalid_request */
export function changeWishes({ site }: Snapshot, wish: { readonly add?: Uuid; readonly remove?: Uuid }): SiteFacts {
  const voters = site.voters;
  if (!voters)
    throw new VirgaError('invalid_request', { detail: 'the site has no voters yet: no host with a keeper has joined' });
  const { add, remove } = wish;
  const without = (ids: readonly Uuid[] | undefined, id: Uuid | undefined): readonly Uuid[] =>
    (ids ?? []).filter((each) => each !== id);
  const added = [...without(without(voters.added, add), remove), ...(add === undefined ? [] : [add])];
  const removed = [...without(without(voters.removed, remove), add), ...(remove === undefined ? [] : [remove])];
  return { ...site, voters: { ...voters, added, removed } };
}

export class Wishes {
  readonly #leader: Leader;
  readonly #steady = new Map<Uuid, { since: number; heardAt: number }>();
  #sentences: readonly string[] = [];

  constructor(leader: Leader) {
    this.#leader = leader;
  }

  /** What people should know of the voters. */
  get sentences(): readonly string[] {
    return this.#sentences;
  }

  update(snapshot: Snapshot, now: number): void {
    const { list, registers, lists } = this.#leader;
    if (!list) return;
    for (const [id, { heardAt }] of registers.keepers) this.#heard(id, heardAt);
    const present = new Set(list.voters.map((each) => each.keeperId));
    const { added = [], removed = [] } = snapshot.site.voters ?? {};
    const facts = voterFacts(snapshot, (id) => this.#well(id, now), present).filter(
      ({ keeperId }) => !removed.includes(keeperId),
    );
    const proposal = proposeVoters(facts);
    this.#sentences = proposal.sentences;
    const wished = [...new Set([...proposal.voters, ...added])];
    const voters = wished.flatMap((id) => this.#entry(snapshot, id, list) ?? []);
    if (voters.length === wished.length && voters.length % 2 === 1)
      lists.wish(voters, snapshot.site.lease ?? profiles.default);
  }

  #heard(id: Uuid, heardAt: number): void {
    const known = this.#steady.get(id);
    if (known && heardAt - known.heardAt <= breakMs) known.heardAt = heardAt;
    else this.#steady.set(id, { since: heardAt, heardAt });
  }

  #well(id: Uuid, now: number): boolean {
    const known = this.#steady.get(id);
    return known !== undefined && now - known.heardAt <= breakMs && known.heardAt - known.since >= steadyMs;
  }

  /** As its keeper says now: who was wiped has a new disk id, and is another voter. */
  #entry(snapshot: Snapshot, id: Uuid, list: VoterList): Voter | undefined {
    const present = voterOf(list, id);
    const host = snapshot.get('host', id);
    const diskId = this.#leader.registers.keepers.get(id)?.diskId ?? host?.status.keeper?.diskId;
    if (!host?.status.keeper || diskId === undefined) return present && { ...present, votes: 1 };
    return { keeperId: id, diskId, name: host.name, votes: 1, addresses: host.status.keeper.addresses };
  }
}
