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
export async function clearGuest(
  { groups, clock }: World,
  session: HostSession,
  guestId: Uuid,
  host: string,
): Promise<void> {
  const until = clock.now() + clearMs;
  while (!(await groups.clear(session, guestId))) {
    if (clock.now() >= until)
      throw new VirgaError('keeper', { host, detail: 'the guest does not die (a disk that hangs?)' });
    await clock.sleep(clearEveryMs);
  }
}
