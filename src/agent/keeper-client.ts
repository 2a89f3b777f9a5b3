/** The agent's end of the line to its keeper (`src/core/ha/door.ts`). */
import { join } from 'node:path';
import type { DoorQuestion, DoorValue, FromDoor, ToDoor } from '../core/ha/door.ts';
import { VirgaError } from '../core/errors.ts';
import type { Uuid } from '../core/model/resource.ts';
import { connectLines, doorSocket, runFolder } from '../effects/lines.ts';
import type { KeeperDoor } from './ports.ts';

/** Milliseconds to wait for an answer. Killing a guest's group may take the keeper two seconds. */
const limitsMs: Readonly<Record<DoorQuestion['ask'], number>> = {
  state: 2000,
  register: 5000,
  enter: 5000,
  clear: 10_000,
  leave: 20_000,
};
const retryMs = 100;
/** Questions without an answer that may be under way. */
const maxUnderWay = 256;

interface Asked {
  readonly done: (value: unknown) => void;
  readonly refuse: (detail: string) => void;
}

export interface KeeperClient extends KeeperDoor {
  /** The machine goes down as planned (host-lease, rule 4: `ended`). @throws VirgaError keeper */
  leave(reason: string): Promise<void>;
  close(): void;
}

/** @param socket path of the keeper's door, where it is not the usual one */
export function keeperClient(
  hostId: Uuid,
  hostName: string,
  socket: string = join(runFolder(hostId), doorSocket),
): KeeperClient {
  const asked = new Map<number, Asked>();
  const listeners = new Set<() => void>();
  const tell = (): void => {
    for (const listener of listeners) listener();
  };
  let last = 0;
  const line = connectLines(socket, {
    retryMs,
    // What was missed while nobody was there is in the state.
    open: tell,
    line(value) {
      const heard = value as FromDoor;
      if ('changed' in heard) return tell();
      const question = asked.get(heard.id);
      asked.delete(heard.id);
      if ('error' in heard) question?.refuse(heard.error);
      else question?.done(heard.value);
    },
    gone() {
      for (const { refuse } of asked.values()) refuse('it ended before it answered');
      asked.clear();
      tell();
    },
  });

  const ask = async <Q extends DoorQuestion>(question: Q): Promise<DoorValue<Q>> =>
    new Promise<DoorValue<Q>>((done, fail) => {
      last += 1;
      const id = last;
      const settle = (work: () => void): void => {
        clearTimeout(timer);
        asked.delete(id);
        work();
      };
      const refuse = (detail: string): void => settle(() => fail(new VirgaError('keeper', { host: hostName, detail })));
      const timer = setTimeout(() => refuse('it did not answer in time'), limitsMs[question.ask]);
      if (asked.size >= maxUnderWay) return refuse('too many questions are under way');
      asked.set(id, { done: (value) => settle(() => done(value as DoorValue<Q>)), refuse });
      const words: ToDoor = { ...question, id };
      if (!line.send(words)) refuse('it does not run');
    });

  return {
    state: async () => ask({ ask: 'state' }),
    register: async (ticket) => ask({ ask: 'register', ticket }),
    enter: async (guestId, pid) => {
      await ask({ ask: 'enter', guestId, pid });
    },
    clear: async (guestId) => {
      await ask({ ask: 'clear', guestId });
    },
    leave: async (reason) => {
      await ask({ ask: 'leave', reason });
    },
    onChange(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    close: () => line.close(),
  };
}
