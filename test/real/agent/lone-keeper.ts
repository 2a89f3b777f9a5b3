/**
 * A keeper without voters: real groups, a register on disk, and a lease that the test holds, lets lapse or ends by writing
 * `control/keeper.json`. It lives in the agent's process, so that a test sees exactly what the agent asks of it; what it
 * must remember survives both.
 */
import { readFileSync, renameSync, watch, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { VirgaError } from '../../../src/core/errors.ts';
import { hostGroup, sessionGroup } from '../../../src/core/ha/groups.ts';
import type { LeaseReport } from '../../../src/core/model/assignment.ts';
import type { HostSession } from '../../../src/core/model/host.ts';
import { cgroupRoot, tell } from '../../../src/keeper/cgroup.ts';
import { hostGroups } from '../../../src/keeper/groups.ts';
import type { DoorTicket, DoorView, DoorRegistered } from '../../../src/core/ha/door.ts';
import type { KeeperDoor } from '../../../src/agent/ports.ts';

/** What a test writes. */
export interface KeeperWill {
  readonly session: HostSession;
  readonly lease: LeaseReport['state'];
  readonly epoch: number;
  /** Processes that are to be moved into a group wait for ever: the agent dies between making and resuming. */
  readonly stall?: boolean;
  /** It does not answer. */
  readonly away?: boolean;
}

type Entries = Record<string, { generation: number; epoch: number }>;
interface Kept {
  readonly sessionId: string;
  readonly entries: Entries;
  readonly gone: Record<string, number>;
}

export const willFile = 'keeper.json';
const keptFile = 'keeper-register.json';

function readJson(path: string): unknown {
  try {
    return JSON.parse(readFileSync(path, 'utf8'));
  } catch {
    return undefined;
  }
}

export async function loneKeeper(hostId: string, control: string): Promise<KeeperDoor> {
  const groups = hostGroups(hostId);
  const listeners = new Set<() => void>();
  const first = readJson(join(control, willFile)) as KeeperWill | undefined;
  if (!first) throw new Error(`there is no ${willFile}`);
  let will = first;
  const kept = readJson(join(control, keptFile)) as Kept | undefined;
  const entries: Entries = kept?.entries ?? {};
  const gone = kept?.gone ?? {};
  const bury = (id: string): void => {
    gone[id] = Math.max(entries[id]?.generation ?? -1, gone[id] ?? -1);
    delete entries[id];
  };
  let ofSession = kept?.sessionId ?? will.session.id;
  const keep = (): void => {
    writeFileSync(join(control, `${keptFile}.new`), JSON.stringify({ sessionId: will.session.id, entries, gone }));
    renameSync(join(control, `${keptFile}.new`), join(control, keptFile));
  };
  const obey = async (next: KeeperWill): Promise<void> => {
    if (next.session.id !== ofSession) for (const id of Object.keys(entries)) bury(id);
    ofSession = next.session.id;
    will = next;
    keep();
    await groups.clearOthers(will.session);
    await groups.ensure(will.session);
    const group = join(cgroupRoot() ?? '', hostGroup(hostId), sessionGroup(will.session));
    await tell(group, 'cgroup.freeze', will.lease === 'held' ? '0' : '1');
    for (const listener of listeners) listener();
  };
  await obey(will);
  watch(control, (_event, name) => {
    if (name !== willFile) return;
    const next = readJson(join(control, willFile)) as KeeperWill | undefined;
    if (next) void obey(next);
  });
  const answering = (): void => {
    if (will.away) throw new VirgaError('keeper', { host: hostId, detail: 'the test keeps it silent' });
  };
  const register = async ({ guestId, generation, epoch, session }: DoorTicket): Promise<DoorRegistered> => {
    if (session.id !== will.session.id) return { ok: false, why: 'session', detail: 'that session is over' };
    if ((gone[guestId] ?? -1) >= generation) return { ok: false, why: 'barred', detail: 'it is gone from here' };
    if (!entries[guestId]) {
      if (epoch < will.epoch) return { ok: false, why: 'epoch', detail: `${epoch} is below ${will.epoch}` };
      entries[guestId] = { generation, epoch };
      keep();
    }
    const group = await groups.make(will.session, guestId);
    return will.lease === 'held' ? { ok: true, group } : { ok: false, why: 'lapsed', detail: 'no majority' };
  };
  return {
    state: async (): Promise<DoorView> => {
      answering();
      const lease = { state: will.lease, leftMs: 1000, epoch: will.epoch, roundTripsMs: {} };
      return {
        session: will.session,
        lease: { diskId: hostId, addresses: [], version: 'lone', ...lease },
        entries: Object.entries(entries).map(([guestId, entry]) => ({ guestId, ...entry })),
        gone: Object.entries(gone).map(([guestId, generation]) => ({ guestId, generation })),
      };
    },
    register: async (ticket) => {
      answering();
      return register(ticket);
    },
    enter: async (guestId, pid) => {
      answering();
      if (will.stall) await new Promise<never>(() => undefined);
      await groups.enter(will.session, guestId, pid);
    },
    clear: async (guestId) => {
      answering();
      if (!(await groups.clear(will.session, guestId)))
        throw new VirgaError('keeper', { host: hostId, detail: `${guestId} does not die` });
      if (entries[guestId]) bury(guestId);
      keep();
    },
    onChange: (listener) => {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
  };
}
