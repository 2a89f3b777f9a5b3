/** The keeper's door for its own host: a unix socket for root, JSON lines (`src/core/ha/door.ts`). */
import {
  readQuestion,
  type DoorQuestion,
  type DoorRegistered,
  type DoorTicket,
  type DoorView,
  type FromDoor,
  type ToDoor,
} from '../core/ha/door.ts';
import type { Uuid } from '../core/model/resource.ts';
import type { Log } from '../ports.ts';
import { serveLines, type Line, type LineServer } from '../effects/lines.ts';

/** What the door needs of the keeper's loop. Every method may reject; the asker is told the error's message. */
export interface DoorLoop {
  state(): DoorView;
  register(ticket: DoorTicket): Promise<DoorRegistered>;
  enter(guestId: Uuid, pid: number): Promise<void>;
  clear(guestId: Uuid): Promise<void>;
  /** Kills the session's guests, then beats `ended`; resolves when a majority heard it, or it was waited for long enough. */
  leave(reason: string): Promise<void>;
  /** Told at once when session or lease state changed. Returns the way to stop it. */
  onChange(listener: () => void): () => void;
}

/** Questions of one client that may be under way at once. */
const maxUnderWay = 256;

async function answer(loop: DoorLoop, question: DoorQuestion): Promise<unknown> {
  switch (question.ask) {
    case 'state':
      return loop.state();
    case 'register':
      return loop.register(question.ticket);
    case 'enter':
      await loop.enter(question.guestId, question.pid);
      return null;
    case 'clear':
      await loop.clear(question.guestId);
      return null;
    case 'leave':
      await loop.leave(question.reason);
      return null;
    default:
      return question satisfies never;
  }
}

/** Opens the door. @throws VirgaError setup when another keeper of this host has it */
export async function openDoor(path: string, loop: DoorLoop, log: Log): Promise<LineServer> {
  const clients = new Set<Line>();
  const stop = loop.onChange(() => {
    const push: FromDoor = { changed: true };
    for (const client of clients) client.send(push);
  });
  const serve = async (client: Line, question: ToDoor): Promise<void> => {
    const { id } = question;
    try {
      client.send({ id, value: await answer(loop, question) } satisfies FromDoor);
    } catch (error) {
      log.warn('a question at the door failed', { ask: question.ask, error: String(error) });
      client.send({ id, error: error instanceof Error ? error.message : String(error) } satisfies FromDoor);
    }
  };
  const server = await serveLines(path, (client) => {
    clients.add(client);
    let underWay = 0;
    return {
      line(value) {
        const question = readQuestion(value);
        if (!question || underWay >= maxUnderWay) return client.end();
        underWay += 1;
        void serve(client, question).finally(() => {
          underWay -= 1;
        });
      },
      gone: () => void clients.delete(client),
    };
  });
  return {
    async close() {
      stop();
      await server.close();
    },
  };
}
