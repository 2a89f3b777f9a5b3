/** The keeper's end of the line to its guard (`GuardDoor` of `src/keeper/ports.ts`). */
import { join } from 'node:path';
import type { GuardAnswer, GuardOrder } from '../../core/ha/guard.ts';
import type { HostSession } from '../../core/model/host.ts';
import { connectLines } from '../../effects/lines.ts';
import type { GuardDoor } from '../ports.ts';
import { guardSocket, type FromGuard, type GuardStatus, type ToGuard } from './run.ts';

const retryMs = 50;
/** A guard that does not read for this long of orders would act on old ones: it is left, and called again. */
const maxUnsentBytes = 64 * 1024;

export interface GuardClient extends GuardDoor {
  /** What goes with every order from now on. */
  settings(settings: Pick<GuardOrder, 'boundMs' | 'graceMs' | 'lockers'>): void;
  connected(): boolean;
  /** It is connected, and has said what it has: a deadline, or that it knows of none. */
  heard(): boolean;
  /** Asks whether it lives, whatever it vouches for; true when it has said something since the question before. */
  alive(): boolean;
  close(): void;
}

export function guardClient(folder: string): GuardClient {
  let n = 0;
  let settings: Pick<GuardOrder, 'boundMs' | 'graceMs' | 'lockers'> = {};
  let last: GuardAnswer | undefined;
  let heard = false;
  let spoke = false;
  const line = connectLines(join(folder, guardSocket), {
    retryMs,
    maxUnsentBytes,
    open: (send) => send({ keeper: true } satisfies ToGuard),
    line(value) {
      heard = true;
      spoke = true;
      const { answer } = value as Partial<{ readonly answer: GuardAnswer }>;
      if (answer) last = answer;
    },
    gone: () => {
      last = undefined;
      heard = false;
    },
  });
  return {
    settings(next) {
      settings = next;
    },
    deadline(session: HostSession, at: number, force: boolean, boundMs?: number) {
      n += 1;
      const deadline = Number.isFinite(at) ? at : 0;
      const bound = boundMs === undefined ? {} : { boundMs };
      line.send({ n, order: { session, deadline, force, ...bound, ...settings } } satisfies ToGuard);
    },
    answered: () => last && { ...last },
    connected: () => line.connected(),
    heard: () => heard,
    alive() {
      const did = spoke;
      spoke = false;
      line.send({ status: true } satisfies ToGuard);
      return did;
    },
    close: () => line.close(),
  };
}

/** Asks the guard how it is, on a line of its own; undefined: no answer within `limitMs`. */
export async function guardStatus(folder: string, limitMs = 1000): Promise<GuardStatus | undefined> {
  return new Promise((done) => {
    const finish = (status: GuardStatus | undefined): void => {
      clearTimeout(timer);
      line.close();
      done(status);
    };
    const timer = setTimeout(() => finish(undefined), limitMs);
    const line = connectLines(join(folder, guardSocket), {
      retryMs: limitMs,
      open: (send) => send({ status: true } satisfies ToGuard),
      line(value) {
        const heard = value as FromGuard;
        if ('status' in heard) finish(heard.status);
      },
    });
  });
}
