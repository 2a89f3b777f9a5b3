/** A controller on a PostgreSQL of its own, in folders that go with it. */
import { execFile } from 'node:child_process';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { openClient, type Client } from '../../../src/api/client.ts';
import { VirgaError } from '../../../src/api/errors.ts';
import { runController, type ControllerOptions, type RunningController } from '../../../src/controller/main.ts';
import { quiet, server, type Server } from '../store/kit.ts';

export { quiet, until } from '../store/kit.ts';

export interface Site {
  readonly database: Server;
  readonly controller: RunningController;
  readonly client: Client;
  /** `https://127.0.0.1:PORT` of the TLS listener. */
  readonly url: string;
  /** Stops the controller and starts another on the same data. */
  restart(): Promise<void>;
  stop(): Promise<void>;
}

/** Starts PostgreSQL and a leading controller that listens on a unix socket and on TLS. */
export async function site(more: Partial<ControllerOptions> = {}): Promise<Site> {
  const database = await server();
  try {
    const options: ControllerOptions = {
      dataDir: join(database.work, 'controller'),
      socketPath: join(database.work, 'virga.sock'),
      databaseUrl: database.url,
      listen: ['127.0.0.1:0'],
      siteName: 'test',
      version: '0.0.0-test',
      log: quiet,
      ...more,
    };
    await mkdir(options.dataDir, { recursive: true });
    const start = async (): Promise<{ controller: RunningController; client: Client; url: string }> => {
      const controller = await runController(options);
      await Promise.race([controller.leading, controller.failed]);
      const client = openClient({ socket: controller.socketPath });
      return { controller, client, url: `https://127.0.0.1:${controller.ports[0]}` };
    };
    let now = await start();
    const end = async (): Promise<void> => {
      await now.client.close();
      await now.controller.stop();
    };
    return {
      database,
      get controller() {
        return now.controller;
      },
      get client() {
        return now.client;
      },
      get url() {
        return now.url;
      },
      async restart() {
        await end();
        now = await start();
      },
      async stop() {
        await end();
        await database.stop();
      },
    };
  } catch (error) {
    await database.stop();
    throw error;
  }
}

/** For `assert.rejects`: a VirgaError with this code. */
export function code(wanted: string): (error: unknown) => boolean {
  return (error) => {
    if (error instanceof VirgaError && error.code === wanted) return true;
    throw new Error(`expected ${wanted}`, { cause: error });
  };
}

/** A small qcow2 image, made by qemu-img. */
export async function makeImage(path: string, size = '16M'): Promise<void> {
  await promisify(execFile)('qemu-img', ['create', '-q', '-f', 'qcow2', path, size], { timeout: 20_000 });
}
