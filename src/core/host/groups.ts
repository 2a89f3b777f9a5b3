/** Where a guest's process is, seen from the lease (host-lease, rule 1). */
import { hostGroup, sessionGroup } from '../ha/groups.ts';
import type { HostSession } from '../model/host.ts';
import type { Uuid } from '../model/resource.ts';

/** Group of a guest, below the root of the tree, without a leading slash. */
export const guestGroup = (hostId: Uuid, session: HostSession, guestId: Uuid): string =>
  `${hostGroup(hostId)}/${sessionGroup(session)}/${guestId}`;

/**
 * By the group as the kernel names it (which may begin above what we see of the tree): in the guest's group of this
 * `session`, in a group of `another`, or `outside` of all.
 */
export function whereabouts(
  group: string | undefined,
  hostId: Uuid,
  session: HostSession,
  guestId: Uuid,
): 'session' | 'another' | 'outside' {
  if (group === undefined) return 'outside';
  if (`/${group}`.endsWith(`/${guestGroup(hostId, session, guestId)}`)) return 'session';
  return `/${group}`.includes(`/${hostGroup(hostId)}/`) ? 'another' : 'outside';
}
