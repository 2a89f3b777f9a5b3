/**
 * Consoles and logs, carried between a person's WebSocket and the agent's. The agent's side comes first, so that every
 * refusal is a proper HTTP answer; then the two are joined, each held back by the slowness of the other.
 */
import type { RawData } from 'ws';
import { WebSocket } from 'ws';
import { VirgaError } from '../core/errors.ts';
import type { Host } from '../core/model/host.ts';
import type { Uuid } from '../core/model/resource.ts';
import type { Ids, Log } from '../ports.ts';
import type { Links } from './links.ts';

const dialMs = 10_000;
const maxStreams = 512;
/** Unsent bytes at which the other side is held back, and at which it goes on. */
const highBytes = 1024 * 1024;
const lowBytes = 256 * 1024;
/** A stream without a byte in either direction for so long is closed. */
const idleMs = 8 * 3600 * 1000;
const pingEveryMs = 20_000;

/** Largest message on a stream, either way. */
export const maxStreamMessage = 1024 * 1024;

interface Expected {
  readonly hostId: Uuid;
  readonly resolve: (socket: WebSocket) => void;
}

export interface StreamsOptions {
  readonly links: Links;
  readonly ids: Ids;
  readonly log: Log;
}

export class Streams {
  readonly #options: StreamsOptions;
  readonly #expected = new Map<string, Expected>();
  readonly #joined = new Set<() => void>();

  constructor(options: StreamsOptions) {
    this.#options = options;
  }

  /**
   * Has the agent dial in for a guest's console or log. The socket is paused until it is joined.
   * @throws VirgaError host_unreachable · timeout · overloaded · what the agent answers
   */
  async open(host: Host, guestId: Uuid, what: 'console' | 'log', signal: AbortSignal): Promise<WebSocket> {
    if (this.#joined.size + this.#expected.size >= maxStreams)
      throw new VirgaError('overloaded', { what: 'consoles and logs', limit: maxStreams });
    const stream = this.#options.ids.uuid();
    let timer: NodeJS.Timeout | undefined;
    const dialled = new Promise<WebSocket>((resolve, reject) => {
      const fail = (): void => reject(new VirgaError('cancelled', { detail: 'the client is gone' }));
      signal.addEventListener('abort', fail, { once: true });
      timer = setTimeout(
        () => reject(new VirgaError('timeout', { what: `The host "${host.name}"`, seconds: dialMs / 1000 })),
        dialMs,
      );
      this.#expected.set(stream, { hostId: host.id, resolve });
    });
    try {
      const asked = this.#options.links.ask(host, { ask: 'open', stream, what, guestId });
      const [socket] = await Promise.all([dialled, asked]);
      return socket;
    } catch (error) {
      // If the agent dials all the same, nobody waits for it; if it has dialled already, it is sent away.
      dialled.then(
        (socket) => socket.close(1001, 'nobody waits any more'),
        () => undefined,
      );
      throw error;
    } finally {
      clearTimeout(timer);
      this.#expected.delete(stream);
    }
  }

  /** The agent has dialled. False: nobody waits for this stream, or it is another host's. */
  arrive(stream: string, hostId: Uuid, take: (ready: (socket: WebSocket) => void) => void): boolean {
    const expected = this.#expected.get(stream);
    if (!expected || expected.hostId !== hostId) return false;
    this.#expected.delete(stream);
    take((socket) => {
      socket.pause();
      socket.on('error', () => socket.terminate());
      expected.resolve(socket);
    });
    return true;
  }

  /** Carries bytes both ways until one side closes. */
  join(person: WebSocket, agent: WebSocket): void {
    let last = performance.now();
    const touched = (): void => {
      last = performance.now();
    };
    const timer = setInterval(() => {
      if (performance.now() - last > idleMs) end(1001, 'idle for 8 hours');
      for (const each of [person, agent]) if (each.readyState === WebSocket.OPEN) each.ping();
    }, pingEveryMs);
    const end = (code: number, reason: string): void => {
      clearInterval(timer);
      this.#joined.delete(stop);
      for (const each of [person, agent]) closeSocket(each, code, reason);
    };
    const stop = (): void => end(1001, 'the controller stops');
    this.#joined.add(stop);
    for (const [from, to] of [
      [person, agent],
      [agent, person],
    ] as const) {
      carry(from, to, touched);
      from.once('close', (code, reason) => end(code, reason.toString()));
      from.on('error', () => end(1011, 'the connection failed'));
    }
    agent.resume();
  }

  close(): void {
    for (const stop of this.#joined) stop();
  }
}

function carry(from: WebSocket, to: WebSocket, touched: () => void): void {
  from.on('message', (data: RawData, binary: boolean) => {
    touched();
    if (to.readyState !== WebSocket.OPEN) return;
    to.send(data, { binary }, () => {
      if (from.isPaused && to.bufferedAmount < lowBytes) from.resume();
    });
    if (to.bufferedAmount > highBytes) from.pause();
  });
}

/** Codes 1000 to 1014 without the reserved ones may be sent (RFC 6455, 7.4). */
function closeSocket(socket: WebSocket, code: number, reason: string): void {
  const sendable =
    (code >= 1000 && code <= 1014 && ![1004, 1005, 1006].includes(code)) || (code >= 3000 && code < 5000);
  if (socket.readyState !== WebSocket.OPEN) return socket.terminate();
  socket.resume();
  socket.close(sendable ? code : 1000, reason.slice(0, 120));
  setTimeout(() => socket.terminate(), 5000).unref();
}
