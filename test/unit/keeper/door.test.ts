/** The keeper's door and the agent's end of it, over a real unix socket. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { mkdtemp, rm, stat } from 'node:fs/promises';
import { createConnection } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { keeperClient, type KeeperClient } from '../../../src/agent/keeper-client.ts';
import type { DoorTicket, DoorView } from '../../../src/core/ha/door.ts';
import { VirgaError } from '../../../src/core/errors.ts';
import type { LineServer } from '../../../src/effects/lines.ts';
import { openDoor, type DoorLoop } from '../../../src/keeper/door.ts';
import { silent, until } from '../effects/wire-kit.ts';

const session = { number: 3, id: randomUUID() };
const view: DoorView = {
  session,
  lease: {
    diskId: randomUUID(),
    addresses: ['127.0.0.1:7444'],
    version: '1',
    state: 'held',
    leftMs: 1500,
    epoch: 4,
    roundTripsMs: { h1: 0.4 },
  },
  entries: [{ guestId: randomUUID(), generation: 2, epoch: 4 }],
  gone: [],
};

interface Here {
  readonly path: string;
  readonly done: string[];
  readonly loop: DoorLoop;
  change(): void;
  open(): Promise<LineServer>;
  client(): Promise<KeeperClient>;
}

async function here(t: TestContext, more: Partial<DoorLoop> = {}): Promise<Here> {
  const folder = await mkdtemp(join(tmpdir(), 'virga-door-'));
  const path = join(folder, 'keeper.sock');
  t.after(async () => rm(folder, { recursive: true, force: true }));
  const done: string[] = [];
  const listeners = new Set<() => void>();
  const loop: DoorLoop = {
    state: () => view,
    register: async ({ guestId, generation }: DoorTicket) =>
      Promise.resolve(
        generation < 2
          ? { ok: false, why: 'generation', detail: 'it is an old one' }
          : { ok: true, group: `/groups/${guestId}` },
      ),
    enter: async (guestId, pid) => void (await Promise.resolve(done.push(`enter ${guestId} ${pid}`))),
    clear: async (guestId) => void (await Promise.resolve(done.push(`clear ${guestId}`))),
    leave: async (reason) => void (await Promise.resolve(done.push(`leave ${reason}`))),
    onChange(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    ...more,
  };
  return {
    path,
    done,
    loop,
    change: () => listeners.forEach((each) => each()),
    async open() {
      const server = await openDoor(path, loop, silent);
      t.after(async () => server.close());
      return server;
    },
    async client() {
      const client = keeperClient(randomUUID(), 'h1', path);
      t.after(() => client.close());
      await until('connected', async () =>
        client.state().then(
          () => true,
          () => false,
        ),
      );
      return client;
    },
  };
}

const isKeeperError = (word: RegExp) => (error: unknown) =>
  error instanceof VirgaError && error.code === 'keeper' && word.test(error.message);

test('every question gets its answer, and only root may ask', async (t) => {
  const world = await here(t);
  await world.open();
  assert.equal((await stat(world.path)).mode & 0o777, 0o600);
  const client = await world.client();
  const guestId = randomUUID();
  assert.deepEqual(await client.state(), view);
  assert.deepEqual(await client.register({ guestId, generation: 2, epoch: 4, session }), {
    ok: true,
    group: `/groups/${guestId}`,
  });
  assert.deepEqual(await client.register({ guestId, generation: 1, epoch: 4, session }), {
    ok: false,
    why: 'generation',
    detail: 'it is an old one',
  });
  await client.enter(guestId, 4711);
  await client.clear(guestId);
  await client.leave('poweroff');
  assert.deepEqual(world.done, [`enter ${guestId} 4711`, `clear ${guestId}`, 'leave poweroff']);
});

test('many questions at once each get their own answer', async (t) => {
  const world = await here(t);
  await world.open();
  const client = await world.client();
  const guests = Array.from({ length: 200 }, () => randomUUID());
  const answers = await Promise.all(
    guests.map(async (guestId) => client.register({ guestId, generation: 2, epoch: 4, session })),
  );
  assert.deepEqual(
    answers.map((answer) => answer.ok && answer.group),
    guests.map((guestId) => `/groups/${guestId}`),
  );
});

test('what goes wrong in the keeper is told, and nothing else breaks', async (t) => {
  const world = await here(t, {
    clear: async () => Promise.reject(new Error('it is in uninterruptible sleep')),
  });
  await world.open();
  const client = await world.client();
  await assert.rejects(client.clear(randomUUID()), isKeeperError(/uninterruptible/));
  assert.deepEqual(await client.state(), view);
});

test('a change is told at once; a keeper that comes back is found, and told as a change', async (t) => {
  const world = await here(t);
  const first = await world.open();
  const client = await world.client();
  let changes = 0;
  client.onChange(() => {
    changes += 1;
  });
  world.change();
  await until('the change', () => changes === 1);
  await first.close();
  await until('the end', () => changes === 2);
  await assert.rejects(client.state(), isKeeperError(/does not run/));
  await world.open();
  await until('the return', () => changes === 3);
  assert.deepEqual(await client.state(), view);
});

test('a question under way when the keeper ends is refused, not left', async (t) => {
  const world = await here(t, { clear: async () => new Promise(() => {}) });
  const server = await world.open();
  const client = await world.client();
  const asked = assert.rejects(client.clear(randomUUID()), isKeeperError(/ended/));
  await server.close();
  await asked;
});

test('a second keeper finds the door taken; a door that a dead one left is taken over', async (t) => {
  const world = await here(t);
  const first = await world.open();
  await assert.rejects(openDoor(world.path, world.loop, silent), /serves/);
  await first.close();
  await world.open();
});

test('rubbish ends the line, and only that line', async (t) => {
  const world = await here(t);
  await world.open();
  const client = await world.client();
  for (const words of [
    'no json\n',
    '{"id":1,"ask":"enter","guestId":"../x","pid":1}\n',
    '{"id":-1,"ask":"state"}\n',
    '[]\n',
  ]) {
    const socket = createConnection(world.path);
    const ended = new Promise((done) => socket.once('close', done));
    socket.on('error', () => {});
    socket.write(words);
    await ended;
  }
  assert.deepEqual(await client.state(), view);
});
