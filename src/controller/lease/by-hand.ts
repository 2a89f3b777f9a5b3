/** What a person, or a fence agent, says of hosts and voters (host-lease, rule 15). */
import { VirgaError } from '../../core/errors.ts';
import type { Leader } from '../../core/ha/leader.ts';
import { voterOf } from '../../core/ha/list.ts';
import { noEpoch, type Epoch, type VoterList, type Word } from '../../core/ha/types.ts';
import type { HostLoss } from '../../core/model/host.ts';
import type { Instant, Uuid } from '../../core/model/resource.ts';
import type { Snapshot } from '../../core/model/snapshot.ts';
import type { BootClock } from '../../ports.ts';
import type { LeaseDoor } from './view.ts';

export interface ByHand {
  readonly leader: Leader;
  readonly boot: BootClock;
  readonly now: () => Instant;
  readonly uuid: () => Uuid;
  /** Sends what is waiting to be sent. */
  readonly flush: () => void;
  readonly snapshot: () => Snapshot | undefined;
}

const waitMs = 10_000;
const lookEveryMs = 25;

async function until(boot: BootClock, done: () => boolean, each: () => void, what: string): Promise<void> {
  const end = boot.now() + waitMs;
  while (!done()) {
    if (boot.now() > end) throw new VirgaError('timeout', { what, seconds: waitMs / 1000 });
    each();
    await boot.sleep(lookEveryMs);
  }
}

/** Seals the session by that word; resolves when a majority has it on disk. */
export async function declareDead(
  { leader, boot, now, flush, snapshot }: ByHand,
  hostId: Uuid,
  given: Parameters<LeaseDoor['declareDead']>[1],
  losses: ReadonlyMap<Uuid, HostLoss>,
): Promise<void> {
  if (!leader.leads) {
    const answering = leader.count(boot.now(), () => true);
    throw new VirgaError('no_majority', { answering, votes: leader.votes });
  }
  const session = given.session ?? leader.sessionOf(hostId) ?? snapshot()?.get('host', hostId)?.status.session;
  if (!session)
    throw new VirgaError('invalid_request', { detail: 'the host never had a session: nothing can run there' });
  const { who, reason, kind } = given;
  const word: Word = { who, reason, kind, saidAt: now() };
  leader.declare(hostId, session, word);
  const sealed = (): boolean => (losses.get(hostId)?.session.number ?? -1) >= session.number;
  await until(
    boot,
    sealed,
    () => {
      leader.seals.tick(boot.now());
      flush();
    },
    'sealing the host at a majority of the voters',
  );
}

/** Makes the survivors the voters; resolves when each of them has the list on disk. */
export async function forceVoters(
  { leader, boot, now, uuid, flush, snapshot }: ByHand,
  keeperIds: readonly Uuid[],
  given: { readonly who: string; readonly reason: string },
): Promise<void> {
  const { list } = leader;
  if (!list) throw new VirgaError('invalid_request', { detail: 'the site has no voters yet' });
  if (keeperIds.length % 2 === 0) throw new VirgaError('invalid_request', { detail: 'voters must be odd in number' });
  const voters = keeperIds.map((id) => {
    const host = snapshot()?.get('host', id);
    const seen = leader.registers.keepers.get(id)?.diskId ?? host?.status.keeper?.diskId;
    const present = voterOf(list, id);
    const diskId = seen ?? present?.diskId;
    const addresses = host?.status.keeper?.addresses ?? present?.addresses;
    if (diskId === undefined || !addresses)
      throw new VirgaError('invalid_request', { detail: `the keeper ${id} is not known: it cannot become a voter` });
    return { keeperId: id, diskId, name: host?.name ?? present?.name ?? id, votes: 1, addresses };
  });
  const epoch: Epoch = {
    number: Math.max(leader.epoch.number, list.version.epoch.number, noEpoch.number) + 1,
    id: uuid(),
  };
  const forced: VoterList = { ...list, voters, version: { forced: list.version.forced + 1, epoch, number: 1 } };
  const word: Word = { ...given, kind: 'person', saidAt: now() };
  leader.adopt(forced);
  await until(
    boot,
    () => voters.every((voter) => leader.lists.hasStored(voter, forced.version)),
    () => {
      leader.toVoters(
        { type: 'list', epoch, list: forced, word },
        (voter) => !leader.lists.hasStored(voter, forced.version),
      );
      flush();
    },
    'handing the list to the survivors',
  );
}
