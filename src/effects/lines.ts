/** JSON lines over unix sockets of one machine: what keeper, guard and agent say to each other. Everything is bounded. */
import { chmod, mkdir, rm } from 'node:fs/promises';
import { createConnection, createServer, type Server, type Socket } from 'node:net';
import { dirname } from 'node:path';
import { VirgaError } from '../core/errors.ts';

/** Longest line, both ways: the register of a host with thousands of guests fits. */
const maxLineBytes = 4 * 1024 * 1024;
/** What a client that does not read may owe us before it is cut off. */
const maxUnsentBytes = 8 * 1024 * 1024;
const maxClients = 64;

/** Where the sockets of a host's keeper and guard are: several hosts may be simulated on one machine. */
export const runFolder = (hostId: string): string => `/run/virga/keeper/${hostId.slice(0, 8)}`;

/** Makes that folder, for root alone; the ones above it stay open to others. */
export async function makeRunFolder(folder: string): Promise<void> {
  await mkdir(dirname(folder), { recursive: true, mode: 0o755 });
  await mkdir(folder, { recursive: true, mode: 0o700 });
}

/** The keeper's door in that folder. */
export const doorSocket = 'keeper.sock';

export interface Line {
  send(value: unknown): void;
  end(): void;
}

/** Calls `each` for every line; one that is no JSON, or too long, ends the connection. */
export function readLines(socket: Socket, each: (value: unknown) => void): void {
  let rest = '';
  socket.setEncoding('utf8');
  socket.on('data', (chunk: string) => {
    rest += chunk;
    for (let at = rest.indexOf('\n'); at >= 0 && !socket.destroyed; at = rest.indexOf('\n')) {
      const line = rest.slice(0, at);
      rest = rest.slice(at + 1);
      let value: unknown;
      try {
        value = JSON.parse(line);
      } catch {
        socket.destroy();
        return;
      }
      each(value);
    }
    if (rest.length > maxLineBytes) socket.destroy();
  });
}

export function lineTo(socket: Socket): Line {
  return {
    send(value) {
      if (socket.destroyed || !socket.writable) return;
      socket.write(`${JSON.stringify(value)}\n`);
      if (socket.writableLength > maxUnsentBytes) socket.destroy();
    },
    end: () => void socket.destroy(),
  };
}

export interface LineServer {
  close(): Promise<void>;
}

/**
 * Takes the path for this process until it ends, however it ends: an abstract socket (unix(7)) is bound by one process at
 * a time, and leaves nothing behind. False: another process has it.
 */
async function take(path: string): Promise<Server | undefined> {
  const lock = createServer((socket) => socket.destroy());
  return new Promise((done, refuse) => {
    lock.once('error', (error: NodeJS.ErrnoException) =>
      error.code === 'EADDRINUSE' ? done(undefined) : refuse(error),
    );
    lock.listen(`\0virga ${path}`, () => done(lock));
  });
}

/**
 * Listens on a unix socket that only root may open. `client` is called for each connection and gives what hears its lines
 * and its end. @throws VirgaError setup when another process listens there
 */
export async function serveLines(
  path: string,
  client: (line: Line) => { readonly line: (value: unknown) => void; readonly gone: () => void },
): Promise<LineServer> {
  await makeRunFolder(dirname(path));
  const lock = await take(path);
  if (!lock)
    throw new VirgaError('setup', { detail: `Another process serves ${path}`, how: 'Only one runs per host.' });
  await rm(path, { force: true });
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => socket.destroy());
    const heard = client(lineTo(socket));
    socket.once('close', () => {
      sockets.delete(socket);
      heard.gone();
    });
    readLines(socket, heard.line);
  });
  server.maxConnections = maxClients;
  await listen(server, path);
  await chmod(path, 0o600);
  return {
    async close() {
      for (const socket of sockets) socket.destroy();
      await new Promise<void>((done) => server.close(() => done()));
      await new Promise<void>((done) => lock.close(() => done()));
    },
  };
}

async function listen(server: Server, path: string): Promise<void> {
  // The folder is ours alone; the rights are right from the start all the same.
  const umask = process.umask(0o177);
  try {
    await new Promise<void>((done, refuse) => {
      server.once('error', refuse);
      server.listen(path, () => {
        server.off('error', refuse);
        done();
      });
    });
  } finally {
    process.umask(umask);
  }
}

/** A connection that comes back by itself. */
export interface LineClient {
  /** False: not connected, nothing was sent. */
  send(value: unknown): boolean;
  connected(): boolean;
  close(): void;
}

export function connectLines(
  path: string,
  options: {
    readonly line: (value: unknown) => void;
    readonly open?: (send: (value: unknown) => void) => void;
    readonly gone?: () => void;
    /** Nobody listens; it is tried again. */
    readonly refused?: () => void;
    /** Milliseconds between two tries. */
    readonly retryMs: number;
    /** More than this unsent: the other side does not read, and old words must not reach it late. */
    readonly maxUnsentBytes?: number;
  },
): LineClient {
  let socket: Socket | undefined;
  let ready = false;
  let closed = false;
  let timer: NodeJS.Timeout | undefined;
  const connect = (): void => {
    const made = createConnection(path);
    const line = lineTo(made);
    socket = made;
    made.once('connect', () => {
      ready = true;
      readLines(made, options.line);
      options.open?.((value) => line.send(value));
    });
    made.on('error', () => made.destroy());
    made.once('close', () => {
      const was = ready;
      ready = false;
      if (was) options.gone?.();
      else options.refused?.();
      if (!closed) timer = setTimeout(connect, options.retryMs);
    });
  };
  connect();
  return {
    send(value) {
      if (!ready || !socket) return false;
      if (socket.writableLength > (options.maxUnsentBytes ?? maxUnsentBytes)) {
        socket.destroy();
        return false;
      }
      lineTo(socket).send(value);
      return true;
    },
    connected: () => ready,
    close() {
      closed = true;
      clearTimeout(timer);
      socket?.destroy();
    },
  };
}
