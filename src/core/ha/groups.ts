/** Names of the control groups of a host's guests, below the root of the v2 tree. */
import type { HostSession } from '../model/host.ts';
import type { Uuid } from '../model/resource.ts';

const short = (id: Uuid): string => id.slice(0, 8);

/** Of a host: several hosts may be simulated on one machine. */
export const hostGroup = (hostId: Uuid): string => `virga/${short(hostId)}`;

/** Of a session, below the host's. */
export const sessionGroup = ({ number, id }: HostSession): string => `s${number}-${short(id)}`;

/** True for a name that `sessionGroup` gives. */
export const isSessionGroup = (name: string): boolean => /^s\d+-[0-9a-f]{8}$/.test(name);
