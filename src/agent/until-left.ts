/** The agent's life: its loop, until it is stopped, or until somebody on this machine announces that the host leaves. */
import { join } from 'node:path';
import { VirgaError } from '../core/errors.ts';
import type { Uuid } from '../core/model/resource.ts';
import { openLocalDoor, type LocalHandler } from '../effects/local-door.ts';
import type { Clock, Engine, Files, Log } from '../ports.ts';
import { leaveHost } from './leave.ts';
import { noteLeave } from './left.ts';
import type { AgentLoop } from './loop.ts';
import type { KeeperDoor } from './ports.ts';

export interface AgentLife {
  readonly dataDir: string;
  readonly loop: Pick<AgentLoop, 'run' | 'assignment'>;
  readonly engine: Pick<Engine, 'view' | 'shutdown' | 'destroy'>;
  readonly keeper: Pick<KeeperDoor, 'leave'>;
  readonly files: Pick<Files, 'read' | 'write'>;
  readonly clock: Clock;
  readonly log: Log;
  /** Ends the agent; its guests run on. */
  readonly signal: AbortSignal;
}

const longestSeconds = 3600;

/** Runs the loop until the signal. After a leave it waits for the signal and carries out nothing. */
export async function runUntilLeft(life: AgentLife): Promise<void> {
  const { loop, signal, log } = life;
  const left = new AbortController();
  const looping = loop.run(AbortSignal.any([signal, left.signal]));
  const stopLoop = async (): Promise<void> => {
    left.abort();
    await looping;
  };
  const door = await openLocalDoor(join(life.dataDir, 'local.sock'), leaveHandler(life, stopLoop)).catch(
    (error: unknown) => log.warn('a leave of this host cannot be announced', { detail: String(error) }),
  );
  try {
    await looping;
    await aborted(signal);
  } finally {
    await door?.close();
  }
}

function leaveHandler(life: AgentLife, stopLoop: () => Promise<void>): LocalHandler {
  let leaving: Promise<unknown> | undefined;
  return async (request, say) => {
    const { reason, withinSeconds } = request;
    if (request['do'] !== 'leave' || typeof reason !== 'string' || typeof withinSeconds !== 'number')
      throw new VirgaError('usage', { detail: 'this agent does not know that request' });
    if (leaving)
      throw new VirgaError('setup', {
        detail: 'This host is leaving already, or has left',
        how: 'To take part again, start its agent anew (or the machine).',
      });
    const graceSeconds = (id: Uuid): number | undefined =>
      life.loop.assignment?.guests.find((order) => order.id === id)?.graceSeconds;
    const withinMs = Math.min(Math.max(withinSeconds, 0), longestSeconds) * 1000;
    const world = { ...life, stopLoop, graceSeconds, noteLeave: async () => noteLeave(life.files) };
    const work = leaveHost(world, { reason: reason.slice(0, 500), withinMs, say });
    leaving = work;
    return { ...(await work) };
  };
}

async function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
