/** The groups of a host's guests: one per session, made frozen, and one below it per guest (host-lease, rule 1). */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { hostGroup, isSessionGroup, sessionGroup } from '../core/ha/groups.ts';
import type { HostSession } from '../core/model/host.ts';
import type { Uuid } from '../core/model/resource.ts';
import { VirgaError } from '../core/errors.ts';
import { errno } from '../effects/disk.ts';
import { cgroupRoot, killAndRemove, subgroups, tell } from './cgroup.ts';
import type { Groups } from './ports.ts';

/** Longest wait for a killed group to be empty, milliseconds; measured: 6. */
const killLimitMs = 2000;

const uuid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** False: it was there already. */
async function made(group: string): Promise<boolean> {
  try {
    await mkdir(group);
    return true;
  } catch (error) {
    if (errno(error) === 'EEXIST') return false;
    throw error;
  }
}

/** @throws VirgaError setup where the machine has no cgroup v2 */
export function hostGroups(hostId: Uuid, root: string | undefined = cgroupRoot()): Groups {
  if (root === undefined)
    throw new VirgaError('setup', {
      detail: 'This machine has no cgroup v2 tree, so highly available guests cannot be frozen',
      how: 'Boot with systemd.unified_cgroup_hierarchy=1, or mount cgroup2 at /sys/fs/cgroup/unified.',
    });
  const base = join(root, hostGroup(hostId));
  const ofSession = (session: HostSession): string => join(base, sessionGroup(session));
  const ofGuest = (session: HostSession, guestId: Uuid): string => {
    if (!uuid.test(guestId)) throw new TypeError(`not a guest: ${guestId}`);
    return join(ofSession(session), guestId);
  };
  return {
    async ensure(session) {
      await mkdir(base, { recursive: true });
      // One that was there may run under a lease: only a new one is frozen here.
      if (await made(ofSession(session))) await tell(ofSession(session), 'cgroup.freeze', '1');
    },
    async make(session, guestId) {
      const group = ofGuest(session, guestId);
      await made(group);
      return group;
    },
    async enter(session, guestId, pid) {
      if (!Number.isInteger(pid) || pid < 1) throw new TypeError(`not a process: ${pid}`);
      const group = ofGuest(session, guestId);
      if (await tell(group, 'cgroup.procs', String(pid))) return;
      throw new VirgaError('keeper', { host: hostId, detail: `the group of guest ${guestId} is gone` });
    },
    async clear(session, guestId) {
      return killAndRemove(ofGuest(session, guestId), killLimitMs);
    },
    async freeze(session) {
      await tell(ofSession(session), 'cgroup.freeze', '1');
    },
    async clearOthers(except) {
      const keep = except && sessionGroup(except);
      const others = (await subgroups(base)).filter((name) => isSessionGroup(name) && name !== keep);
      const gone = await Promise.all(others.map(async (name) => killAndRemove(join(base, name), killLimitMs)));
      return gone.every(Boolean);
    },
  };
}

/** Groups of a keeper without guests: nothing is ever in them. */
export const noGroups: Groups = {
  ensure: () => Promise.resolve(),
  make: (_session, guestId) =>
    Promise.reject(new VirgaError('keeper', { host: '', detail: `a witness carries no guests (${guestId})` })),
  enter: () => Promise.reject(new VirgaError('keeper', { host: '', detail: 'a witness carries no guests' })),
  clear: () => Promise.resolve(true),
  freeze: () => Promise.resolve(),
  clearOthers: () => Promise.resolve(true),
};
