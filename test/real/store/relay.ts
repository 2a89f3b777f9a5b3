/** Stands between a client and PostgreSQL's socket, and strikes at a chosen message: so a test meets every stage. */
import { createConnection, createServer, type Socket } from 'node:net';
import { join } from 'node:path';

export interface Strike {
  /** Number of the client's message, from 0, counted over all connections. */
  readonly at: number;
  /** `before`: the server never gets the message · `after`: it does, but its answer may never arrive. */
  readonly when: 'before' | 'after';
  /** What dies; after it this connection passes nothing more on. */
  readonly kill: () => Promise<void>;
}

export interface Relay {
  /** For the client, in place of the server's. */
  readonly socketFolder: string;
  /** Messages of the client so far. */
  messages(): number;
  arm(strike: Strike | undefined): void;
  close(): Promise<void>;
}

const socketName = '.s.PGSQL.5432';

export async function relay(serverFolder: string, folder: string): Promise<Relay> {
  let messages = 0;
  let strike: Strike | undefined;
  const sockets = new Set<Socket>();
  const listener = createServer((client) => {
    const server = createConnection(join(serverFolder, socketName));
    for (const socket of [client, server]) {
      sockets.add(socket);
      socket.on('error', () => undefined);
      socket.on('close', () => {
        sockets.delete(socket);
        client.destroy();
        server.destroy();
      });
    }
    server.on('data', (bytes) => client.write(bytes));
    client.on('data', (bytes: Buffer) => {
      const now = strike?.at === messages ? strike : undefined;
      messages += 1;
      if (now?.when !== 'before') server.write(bytes);
      void now?.kill();
    });
  });
  const socketFolder = folder;
  await new Promise<void>((resolve, reject) => {
    listener.once('error', reject);
    listener.listen(join(socketFolder, socketName), resolve);
  });
  return {
    socketFolder,
    messages: () => messages,
    arm(next) {
      strike = next;
      messages = 0;
    },
    async close() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => listener.close(resolve));
    },
  };
}
