/**
 * One agent per data folder: two of them would carry out the same orders side by side. The mark is a socket in the
 * folder, which nobody answers any more once its agent is dead, however it died.
 */
import { rm } from 'node:fs/promises';
import { connect, createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { VirgaError } from '../core/errors.ts';
import type { Log } from '../ports.ts';

const probeMs = 2000;
/** Longest path of a unix socket (unix(7)): 107 bytes and a zero. */
const longestPath = 107;

/**
 * Claims the folder. Resolves to what gives it back.
 * @throws VirgaError setup when another agent lives on it
 */
export async function claim(dataDir: string, log: Log): Promise<() => Promise<void>> {
  const path = join(dataDir, 'agent.sock');
  if (Buffer.byteLength(path) > longestPath) {
    log.warn('the path of the data folder is too long: a second agent on it would not be noticed', { path });
    return async () => undefined;
  }
  const server = createServer((socket) => socket.destroy());
  let held = await listen(server, path);
  if (!held && !(await answers(path))) {
    await rm(path, { force: true });
    held = await listen(server, path);
  }
  if (!held)
    throw new VirgaError('setup', {
      detail: `An agent runs on ${dataDir} already`,
      how: 'Stop it first (virga down, or its service), or use another folder.',
    });
  return async () => {
    await new Promise((resolve) => {
      server.close(resolve);
    });
  };
}

/** False: the path is taken. */
async function listen(server: Server, path: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const failed = (error: NodeJS.ErrnoException): void => {
      if (error.code === 'EADDRINUSE') resolve(false);
      else reject(error);
    };
    server.once('error', failed);
    server.listen(path, () => {
      server.off('error', failed);
      // It keeps nothing alive by itself.
      server.unref();
      resolve(true);
    });
  });
}

async function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = connect(path);
    probe.setTimeout(probeMs, () => probe.destroy(new Error('no answer')));
    probe.once('connect', () => {
      probe.destroy();
      resolve(true);
    });
    probe.once('error', () => resolve(false));
  });
}
