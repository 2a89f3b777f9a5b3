/** Ending what runs in groups: until it is gone, or for as long as an asker can wait. */
import { VirgaError } from '../core/errors.ts';
import type { HostSession } from '../core/model/host.ts';
import type { Uuid } from '../core/model/resource.ts';
import type { KeeperPorts } from './ports.ts';

/** Milliseconds that a kill or a removal is waited for before the asker is told. */
const clearMs = 4000;
const clearEveryMs = 50;

type World = Pick<KeeperPorts, 'groups' | 'clock' | 'log'>;

/** Until nothing of any other session is left; who is in D state is waited for, without a limit: nothing may follow before. */
export async function clearOthers({ groups, clock, log }: World, except: HostSession | undefined): Promise<void> {
  for (let said = false; ; said = true) {
    const clear = await groups.clearOthers(except).catch((error: unknown) => {
      if (!said) log.error('groups cannot be removed', { error: String(error) });
      return false;
    });
    if (clear) return;
    if (!said) log.warn('something in the groups of an ended session does not die yet');
    await clock.sleep(clearEveryMs * 2);
  }
}

/** @throws VirgaError keeper when it does not die in time */
export async function clearGuest(world: World, session: HostSession, guestId: Uuid, host: string): Promise<void> {
  const detail = 'the guest does not die (a disk that hangs?)';
  await within(world, host, detail, async () => world.groups.clear(session, guestId));
}

/** Ends every guest of a host that leaves. @throws VirgaError keeper when one does not die in time */
export async function endEverything(world: World, host: string): Promise<void> {
  const detail = 'a guest does not die, so the end of its session is not announced';
  await within(world, host, detail, async () => world.groups.clearOthers(undefined));
}

/** Tries until it is done. @throws VirgaError keeper when that takes too long */
export async function within(
  { clock }: World,
  host: string,
  detail: string,
  done: () => Promise<boolean>,
): Promise<void> {
  const end = clock.now() + clearMs;
  while (!(await done())) {
    if (clock.now() > end) throw new VirgaError('keeper', { host, detail });
    await clock.sleep(clearEveryMs);
  }
}
