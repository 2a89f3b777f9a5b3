/** Two controllers over one PostgreSQL: hosts follow the leader, images are copied, and there is one authority. */
import assert from 'node:assert/strict';
import { mkdir, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, it } from 'node:test';
import { join as joinSite } from '../../../src/agent/join.ts';
import { AgentLink } from '../../../src/agent/link.ts';
import { readCredentials } from '../../../src/agent/tls.ts';
import { openClient, type Client } from '../../../src/api/client.ts';
import { VirgaError } from '../../../src/api/errors.ts';
import { exportAuthority } from '../../../src/controller/authority-file.ts';
import { runController, type RunningController } from '../../../src/controller/main.ts';
import type { ControllerOptions } from '../../../src/controller/options.ts';
import type { SiteState } from '../../../src/controller/state.ts';
import type { Assignment, HostReport } from '../../../src/core/model/assignment.ts';
import { systemClock } from '../../../src/effects/clock.ts';
import { durableFiles } from '../../../src/effects/files.ts';
import { server, type Server } from '../store/kit.ts';
import { code, makeImage, quiet, until } from './kit.ts';

interface One {
  readonly controller: RunningController;
  readonly client: Client;
  readonly url: string;
  /** Leads or stands by when the test says so. */
  state(): SiteState;
}

let database: Server;
let first: One;
let second: One;
const started: One[] = [];
const secret = { passphrase: 'three hosts and a witness' };
const file = (): string => join(database.work, 'site.authority');

async function start(name: string, more: Partial<ControllerOptions> = {}): Promise<One> {
  const dataDir = join(database.work, name);
  await mkdir(dataDir, { recursive: true });
  let state: SiteState | undefined;
  const ready = Promise.withResolvers<void>();
  const controller = await runController({
    dataDir,
    socketPath: join(database.work, `${name}.sock`),
    databaseUrl: database.url,
    listen: ['127.0.0.1:0'],
    siteName: 'test',
    version: '0.0.0-test',
    log: quiet,
    lead: (parts) => ({
      run: async (signal) => {
        state = parts.state;
        // Once the database is open.
        await until('its store is open', async () =>
          parts.store.epoch().then(
            () => true,
            () => signal.aborted,
          ),
        );
        ready.resolve();
        while (!signal.aborted) {
          await parts.state.confirm();
          await parts.clock.sleep(100, signal).catch(() => undefined);
        }
      },
    }),
    ...more,
  });
  const one: One = {
    controller,
    client: openClient({ socket: controller.socketPath }),
    url: `https://127.0.0.1:${controller.ports[0]}`,
    state: () => {
      if (!state) throw new Error('the database is not open yet');
      return state;
    },
  };
  started.push(one);
  await Promise.race([ready.promise, controller.failed]);
  return one;
}

const epoch = (number: number) => ({ number, id: `00000000-0000-4000-8000-${String(number).padStart(12, '0')}` });

before(async () => {
  database = await server();
  first = await start('first');
  await first.state().claim(epoch(1));
  await first.controller.leading;
  await exportAuthority(join(database.work, 'first'), file(), secret);
  second = await start('second', { authority: { path: file(), decryption: secret } });
});
after(async () => {
  for (const { client, controller } of started) {
    await client.close();
    await controller.stop();
  }
  await database.stop();
});

it('one authority and two identities; a controller without the authority does not lead', async () => {
  const read = async (name: string, path: string): Promise<string> => readFile(join(database.work, name, path), 'utf8');
  assert.equal(await read('first', 'ca/ca.pem'), await read('second', 'ca/ca.pem'));
  assert.notEqual(await read('first', 'controller.json'), await read('second', 'controller.json'));
  await assert.rejects(exportAuthority(join(database.work, 'first'), file(), secret), code('backup'));
  const wrong = { authority: { path: file(), decryption: { passphrase: 'no' } } };
  await assert.rejects(start('third', wrong), code('backup'));
  const bare = await start('fourth');
  void bare.state().claim(epoch(2));
  await assert.rejects(bare.controller.failed, /certificate authority/);
  await bare.state().claim(undefined);
  await first.state().claim(epoch(3));
});

it('who stands by refuses, and says who leads', async () => {
  await until('it knows who leads', () => second.controller.services.leader?.() === first.url);
  await assert.rejects(second.client.call('host.list'), (error) => {
    assert.ok(error instanceof VirgaError);
    assert.deepEqual([error.code, error.values['leader']], ['standby', first.url]);
    return true;
  });
});

it('a client finds the leader, by its list or by what a standby says', async () => {
  const { secret: token } = await first.client.call('token.create', { body: { name: 'chief', role: 'admin' } });
  const ca = await readFile(join(database.work, 'first', 'ca', 'ca.pem'), 'utf8');
  const nobody = 'https://127.0.0.1:9';
  for (const where of [{ url: second.url }, { url: nobody, others: [second.url] }]) {
    const client = openClient({ ...where, token, ca });
    try {
      assert.deepEqual((await client.call('host.list')).items, []);
      const body = { name: `of-${where.url.length}`, role: 'read' as const };
      assert.ok((await client.call('token.create', { body })).secret.length > 0);
    } finally {
      await client.close();
    }
  }
  const alone = openClient({ url: nobody, token, ca });
  await assert.rejects(alone.call('host.list'), code('site_unreachable'));
  await alone.close();
});

it('a host joins by whichever address it has, and is at the new leader in a third of a second', async () => {
  const { secret: token } = await first.client.call('host.invite', { body: { hostName: 'alpha' } });
  const files = durableFiles(join(database.work, 'host'));
  const { credentials } = await joinSite({ url: second.url, more: [first.url], token, files, agentVersion: 't' });
  assert.equal(credentials.url, first.url);
  const session = { number: 1, id: credentials.hostId };
  const got: Assignment[] = [];
  let learned: readonly string[] = [];
  const link = new AgentLink({
    credentials: { ...credentials, urls: [] },
    session: () => session,
    agentVersion: 't',
    clock: systemClock,
    log: quiet,
    learned: (urls) => {
      learned = urls;
    },
  });
  try {
    link.report(aReport(credentials.hostId));
    link.start({ assignment: (each) => void got.push(each), ask: async () => ({}) });
    await until('the leader gives orders', () => got.length > 0);
    await until('it knows both controllers', () => learned.includes(first.url) && learned.includes(second.url));
    assert.equal(learned.length, 2, 'and not the one that has no certificates');
    await until('the second one has its line', () => second.controller.services.links.waiting === 1);
    await second.state().claim(epoch(4));
    const led = performance.now();
    await until('the host follows', () => link.url === second.url, 2000);
    const took = performance.now() - led;
    assert.ok(took < 300, `${Math.round(took)} ms`);
    await until('the new leader gives orders', () => got.at(-1)?.epoch === 4);
    await until('the old one stands by', () => first.state().leadership === 'standby', 3000);
    await until('and knows who leads', () => first.controller.services.leader?.() === second.url);
    await assert.rejects(first.client.call('host.list'), code('standby'));
    const { items } = await second.client.call('host.list');
    assert.deepEqual(
      items.map(({ name }) => name),
      ['alpha'],
    );
    await second.state().claim(undefined);
    await first.state().claim(epoch(5));
    await until('and back', () => link.url === first.url && got.at(-1)?.epoch === 5, 2000);
  } finally {
    link.close();
  }
  assert.equal((await readCredentials(files))?.hostId, credentials.hostId);
});

it('an image of the leader is copied to who stands by, and the new leader serves it', async () => {
  const path = join(database.work, 'tiny.qcow2');
  await makeImage(path);
  const bytes = await readFile(path);
  const params = { image: 'tiny' };
  await first.client.call('image.add', { body: { name: 'tiny', format: 'qcow2', sizeBytes: bytes.length } });
  await (await first.client.raw('image.upload', { params, bytes, headers: { 'upload-offset': '0' } })).body.dump();
  await first.client.call('image.finish', { params, body: {} });
  await until('it is ready', async () => {
    const { status } = await first.client.call('image.show', { params });
    return status.state === 'ready';
  });
  const { status } = await first.client.call('image.show', { params });
  const stored = `${status.stored?.sha512}.qcow2`;
  const shelf = join(database.work, 'second', 'images', 'stored');
  await until('it is copied', async () => (await readdir(shelf)).includes(stored), 20_000);
  assert.deepEqual(
    await readFile(join(shelf, stored)),
    await readFile(join(database.work, 'first', 'images', 'stored', stored)),
  );
});

it('the database stands still for two seconds: nothing is ordered, no host is sent away, and it goes on by itself', async () => {
  const credentials = await readCredentials(durableFiles(join(database.work, 'host')));
  assert.ok(credentials);
  const { hostId } = credentials;
  const session = () => ({ number: 1, id: hostId });
  const link = new AgentLink({ credentials, session, agentVersion: 't', clock: systemClock, log: quiet });
  link.report(aReport(hostId));
  const orders: number[] = [];
  link.start({ assignment: ({ generation }) => void orders.push(generation), ask: async () => ({}) });
  try {
    await until('it has its orders', () => orders.length > 0);
    await standstill(() => assert.equal(first.controller.services.links.count, 1));
    assert.equal(link.connected(), true);
  } finally {
    link.close();
  }
});

/** `during` is looked at while the leader says that it cannot commit. */
async function standstill(during: () => void): Promise<void> {
  const state = first.state();
  const committing = (): boolean => performance.now() - (state.committedAt ?? Number.NEGATIVE_INFINITY) < 1000;
  await until('it commits', committing);
  const backends = await database.database.query<{ pid: number }>(
    "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend'",
  );
  const pids = [database.embedded.pid, ...backends.map(({ pid }) => pid)];
  for (const pid of pids) process.kill(pid, 'SIGSTOP');
  try {
    await until('it says that it cannot commit', () => !committing(), 3000);
    await assert.rejects(first.client.call('host.invite', { body: { hostName: 'beta' } }), code('store_unavailable'));
    during();
  } finally {
    for (const pid of pids) process.kill(pid, 'SIGCONT');
  }
  await until('it commits again', committing, 5000);
  await until('requests are taken again', async () =>
    first.client.call('host.invite', { body: { hostName: 'gamma' } }).then(
      () => true,
      () => false,
    ),
  );
  assert.equal(state.epoch?.number, 5, 'it led all the time');
}

function aReport(hostId: string): HostReport {
  return {
    hostId,
    session: { number: 1, id: hostId },
    agentVersion: 't',
    protocol: 1,
    observedAt: Date.now(),
    sequence: 1,
    assignmentGeneration: -1,
    assignmentEpoch: -1,
    network: { bridges: [] },
    measured: { cpus: 1, memoryMiB: 1024, diskMiB: 1024 },
    used: { cpuPercent: 0, memoryMiB: 0, diskMiB: 0 },
    guests: [],
    gone: [],
    foreign: [],
    strays: [],
    images: [],
    networkProblems: [],
    problems: [],
  };
}
