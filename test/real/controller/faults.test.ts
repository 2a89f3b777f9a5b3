/** Nothing acknowledged is lost, and nothing is done twice, whatever is killed at whatever moment. */
import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { openClient, type Client } from '../../../src/api/client.ts';
import { VirgaError } from '../../../src/api/errors.ts';
import { server, socketFolderOf } from '../store/kit.ts';
import { relay } from '../store/relay.ts';
import { makeImage, site, until } from './kit.ts';

const body = (name: string) => ({ name, mode: 'bridge' as const, bridge: 'br0' });

/** What a client that has been cut off or put off does: the same request again. */
const again = (error: unknown): boolean =>
  error instanceof VirgaError &&
  ['store_unavailable', 'not_leading', 'site_unreachable', 'overloaded'].includes(error.code);

/** Creates a network under a key, however often that takes. */
async function insist(client: Client, name: string): Promise<string> {
  let id = '';
  await until(
    `${name} is acknowledged`,
    async () => {
      try {
        id = (await client.call('network.create', { body: body(name), idempotencyKey: `key-${name}` })).id;
        return true;
      } catch (error) {
        if (again(error)) return false;
        throw error;
      }
    },
    40_000,
  );
  return id;
}

async function names(client: Client): Promise<ReadonlyMap<string, string>> {
  const { items } = await client.call('network.list');
  return new Map(items.map(({ name, id }) => [name, id]));
}

test('the controller is killed at every message of a commit', { timeout: 80_000 }, async (t) => {
  const undo: (() => Promise<unknown>)[] = [];
  t.after(async () => {
    for (const each of undo.reverse()) await each();
  });
  const database = await server();
  undo.push(async () => database.stop());
  let child: ChildProcess | undefined;
  let client: Client | undefined;
  const end = async (): Promise<void> => {
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const gone = once(child, 'exit');
    child.kill('SIGKILL');
    await gone;
  };
  const folder = join(database.work, 'relay');
  await mkdir(folder);
  const between = await relay(socketFolderOf(database.embedded), folder);
  undo.push(
    async () => between.close(),
    end,
    async () => client?.close(),
  );
  const socket = join(database.work, 'virga.sock');
  const url = `postgresql:///virga?host=${encodeURIComponent(folder)}&user=virga`;
  const data = join(database.work, 'controller');
  const start = async (): Promise<Client> => {
    child = spawn(process.execPath, [join(import.meta.dirname, 'child.ts'), data, socket, url], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await Promise.race([
      once(child.stdout ?? child, 'data'),
      once(child, 'exit').then(() => Promise.reject(new Error('the controller ended before it led'))),
    ]);
    await client?.close();
    client = openClient({ socket });
    return client;
  };
  let now = await start();
  const acknowledged = new Map<string, string>();
  let struck = 0;
  for (const at of [0, 2, 5, 8, 10, 12, 13]) {
    const name = `n-${at}`;
    let died = false;
    between.arm({
      at,
      when: at % 2 === 0 ? 'before' : 'after',
      kill: async () => {
        died = true;
        child?.kill('SIGKILL');
      },
    });
    const first = await now
      .call('network.create', { body: body(name), idempotencyKey: `key-${name}` })
      .catch((error: unknown) => {
        if (!again(error)) throw error;
        return undefined;
      });
    between.arm(undefined);
    if (died) {
      struck += 1;
      await end();
      now = await start();
    }
    const id = await insist(now, name);
    if (first) assert.equal(id, first.id, `${name} was made twice`);
    acknowledged.set(name, id);
    assert.deepEqual(await names(now), acknowledged);
  }
  assert.ok(struck >= 5, `struck only ${struck} times`);

  // An image that was being checked is checked by the next controller.
  const file = join(database.work, 'image.qcow2');
  await makeImage(file, '64M');
  const bytes = await readFile(file);
  const params = { image: 'late' };
  await now.call('image.add', { body: { name: 'late', format: 'qcow2', sizeBytes: bytes.length } });
  await (await now.raw('image.upload', { params, bytes, headers: { 'upload-offset': '0' } })).body.dump();
  assert.equal((await now.call('image.finish', { params, body: {} })).status.state, 'checking');
  await end();
  now = await start();
  await until('the image is ready', async () => {
    return (await now.call('image.show', { params })).status.state === 'ready';
  });
});

test('PostgreSQL is killed under load', { timeout: 60_000 }, async (t) => {
  const here = await site();
  t.after(async () => here.stop());
  const { client, database } = here;
  const acknowledged = new Map<string, string>();
  const load = async (worker: number): Promise<void> => {
    for (let count = 0; count < 15; count += 1) {
      const name = `l-${worker}-${count}`;
      acknowledged.set(name, await insist(client, name));
    }
  };
  const workers = [0, 1, 2, 3].map(load);
  await until('some are acknowledged', () => acknowledged.size >= 10);
  const killed = database.embedded.pid;
  process.kill(killed, 'SIGKILL');
  // What is known is still shown while the database is away.
  assert.ok((await client.call('network.list')).items.length >= 10);
  await until('another server runs', () => database.embedded.pid !== killed, 40_000);
  await Promise.all(workers);
  assert.equal(acknowledged.size, 60);
  assert.deepEqual(Object.fromEntries(await names(client)), Object.fromEntries(acknowledged));
  await until('the controller is ready again', async () =>
    client.raw('health.ready').then(
      async (answer) => (await answer.body.text()) === 'ready\n',
      () => false,
    ),
  );
});
