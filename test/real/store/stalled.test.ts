/** A leader that is stopped at any moment of a commit keeps nobody from leading, and commits nothing when it goes on. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, it } from 'node:test';
import { Database } from '../../../src/controller/store/database.ts';
import { PgStore } from '../../../src/controller/store/store.ts';
import { commit, epochOf, event, lead, uuid } from '../../unit/store/samples.ts';
import { batch, batchesIn } from './batch.ts';
import { quiet, type Server, server, socketFolderOf, until } from './kit.ts';
import { relay, type Relay } from './relay.ts';

let shared: Server;
let between: Relay;
let store: PgStore;

before(async () => {
  shared = await server();
  const folder = join(shared.work, 'relay');
  await mkdir(folder);
  between = await relay(socketFolderOf(shared.embedded), folder);
  store = await PgStore.open(shared.database, { newSite: { id: uuid(0), name: 'test' } });
});
after(async () => {
  await between.close();
  await shared.stop();
});

interface Leader {
  readonly child: ChildProcess;
  readonly lines: string[];
  readonly ended: Promise<unknown>;
}

function startLeader(epoch: number, first: number): Leader {
  const script = join(import.meta.dirname, 'leader.ts');
  const child = spawn(process.execPath, [script, between.socketFolder, String(epoch), String(first)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const lines: string[] = [];
  createInterface({ input: child.stdout }).on('line', (line) => lines.push(line));
  return { child, lines, ended: new Promise((resolve) => child.once('close', resolve)) };
}

const acked = ({ lines }: Leader): number => lines.filter((line) => line.startsWith('acked')).length;

/** Messages that one commit of the leader costs, its look for a repeated key included. */
async function messagesOfChange(): Promise<number> {
  await lead(store);
  const folder = { socketFolder: between.socketFolder, user: 'virga', database: 'virga' };
  const database = new Database(folder, { log: quiet, maxConnections: 1 });
  try {
    const through = await PgStore.open(database, { newSite: { id: uuid(0), name: 'test' } });
    const { number } = await through.epoch();
    between.arm(undefined);
    await through.idempotent('test', '1');
    assert.ok((await through.commit(batch(number, 1))).ok);
    return between.messages();
  } finally {
    await database.close();
  }
}

it('stopped at each message of a commit: another leads within a second, and the first stands by', async () => {
  const stages = await messagesOfChange();
  const took: number[] = [];
  // Every second one: each costs a process, and both ways of stopping meet every part of a commit.
  for (let stage = 0; stage < stages; stage += 2) {
    const { number } = await store.epoch();
    const leader = startLeader(number + 1, 10_000 * (stage + 1));
    try {
      await until('it commits', () => acked(leader) >= 2);
      let stopped = false;
      const kill = async (): Promise<void> => {
        stopped = leader.child.kill('SIGSTOP');
      };
      between.arm({ at: 2 * stages + stage, when: stage % 4 === 0 ? 'after' : 'before', kill });
      await until('it was stopped', () => stopped);
      const began = performance.now();
      const answer = await store.lead(epochOf(number + 2));
      took.push(performance.now() - began);
      assert.ok(answer.ok);
      const there = await batchesIn(shared.database);
      leader.child.kill('SIGCONT');
      await leader.ended;
      assert.deepEqual(leader.lines.slice(-2), [`outbid ${number + 2}`, 'refused not_leading']);
      assert.deepEqual(await batchesIn(shared.database), there, 'it wrote nothing after another led');
      const acknowledged = leader.lines.filter((line) => line.startsWith('acked')).map((line) => Number(line.slice(6)));
      for (const each of acknowledged) assert.ok(there.has(each), `batch ${each} was acknowledged and is lost`);
    } finally {
      leader.child.kill('SIGKILL');
      await leader.ended;
    }
  }
  assert.ok(Math.max(...took) < 1500, `to lead took ${took.map((ms) => Math.round(ms)).join(', ')} ms`);
});

it('a lock that is held by somebody who works is waited for, not taken', async () => {
  const { number } = await store.epoch();
  const events = Array.from({ length: 3 }, () => event('busy'));
  const busy = shared.database.transaction(async (transaction) => {
    await transaction.query('SELECT 1 FROM virga.site FOR UPDATE');
    await transaction.query('SELECT pg_sleep(0.7)');
  });
  const next = await PgStore.open(shared.database, { newSite: { id: uuid(0), name: 'test' } });
  const answer = await next.lead(epochOf(number + 1));
  assert.ok(answer.ok);
  await busy;
  assert.ok((await next.commit(commit(number + 1, { events }))).ok);
});

it('a server that stands still is noticed within a second and a half of a needed commit', async () => {
  const { number } = await store.epoch();
  await store.lead(epochOf(number + 1));
  // Warm, as in a running controller.
  await store.epoch();
  const backends = await shared.database.query<{ pid: number }>(
    "SELECT pid FROM pg_stat_activity WHERE datname = 'virga' AND backend_type = 'client backend'",
  );
  const pids = [shared.embedded.pid, ...backends.map(({ pid }) => pid)];
  for (const pid of pids) process.kill(pid, 'SIGSTOP');
  const began = performance.now();
  let took: number;
  try {
    await assert.rejects(store.commit(commit(number + 1, { events: [event('late')] })), { code: 'store_unavailable' });
    took = performance.now() - began;
    await assert.rejects(store.epoch(), { code: 'store_unavailable' });
  } finally {
    for (const pid of pids) process.kill(pid, 'SIGCONT');
  }
  assert.ok(took < 1500, `${Math.round(took)} ms`);
  await until('it commits again', async () => {
    const answer = await store.lead(epochOf(number + 1)).catch(() => undefined);
    if (answer?.ok !== true) return false;
    return (await store.commit(commit(number + 1, { events: [event('again')] }))).ok;
  });
});
