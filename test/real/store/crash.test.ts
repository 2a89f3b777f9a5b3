/** Nothing acknowledged is lost, and nothing is written in part, whatever dies at whatever moment. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, it } from 'node:test';
import { VirgaError } from '../../../src/core/errors.ts';
import { Database } from '../../../src/controller/store/database.ts';
import { PgStore } from '../../../src/controller/store/store.ts';
import { commit, guest, lead, uuid } from '../../unit/store/samples.ts';
import { batch, batchesIn } from './batch.ts';
import { quiet, type Server, server, socketFolderOf, until } from './kit.ts';
import { relay, type Relay } from './relay.ts';

const newSite = { id: uuid(0), name: 'test' };
let shared: Server;
let between: Relay;
/** Through the relay; the shared server's own connection looks from outside. */
let store: PgStore;
let throughRelay: Database;

before(async () => {
  shared = await server();
  const folder = join(shared.work, 'relay');
  await mkdir(folder);
  between = await relay(socketFolderOf(shared.embedded), folder);
  const address = { socketFolder: folder, user: 'virga', database: 'virga' };
  throughRelay = new Database(address, { log: quiet, connectMs: 2000, statementMs: 4000, maxConnections: 1 });
  store = await PgStore.open(throughRelay, { newSite });
});
after(async () => {
  await throughRelay.close();
  await between.close();
  await shared.stop();
});

const unavailable = (error: unknown): boolean => error instanceof VirgaError && error.code === 'store_unavailable';

async function answers(): Promise<void> {
  await until('the database answers again', async () =>
    shared.database.query('SELECT 1').then(
      () => true,
      () => false,
    ),
  );
}

/**
 * SIGKILL: one backend's sudden death makes the server throw away its memory and recover from its log, as a crash does.
 * SIGTERM: only the connection is lost.
 */
async function endBackends(signal: 'SIGKILL' | 'SIGTERM'): Promise<void> {
  const rows = await shared.database.query<{ pid: number }>(
    "SELECT pid FROM pg_stat_activity WHERE datname = 'virga' AND pid <> pg_backend_pid()",
  );
  for (const { pid } of rows) process.kill(pid, signal);
}

/** Messages that one commit costs. */
async function messagesOfCommit(number: number, epoch: number): Promise<number> {
  between.arm(undefined);
  assert.ok((await store.commit(batch(epoch, number))).ok);
  return between.messages();
}

it('the connection is lost at each message of a commit, and the server crashes around its end', async () => {
  let { site } = await lead(store);
  const stages = await messagesOfCommit(1, site.epoch);
  assert.ok(stages >= 8, `a commit has ${stages} messages`);
  const last = stages - 1;
  const lost = Array.from({ length: stages }, (_, at) => ({ at, when: 'after' as const, signal: 'SIGTERM' as const }));
  // Every crash costs a recovery, which is slow on a busy disk: only where the decision falls.
  const crashes = [
    { at: last - 1, when: 'after' as const, signal: 'SIGKILL' as const },
    { at: last, when: 'before' as const, signal: 'SIGKILL' as const },
    { at: last, when: 'after' as const, signal: 'SIGKILL' as const },
  ];
  const acknowledged = new Set([1]);
  let number = 1;
  for (const { at, when, signal } of [...lost, ...crashes]) {
    number += 1;
    let struck = false;
    const kill = async (): Promise<void> => {
      await endBackends(signal);
      struck = true;
    };
    between.arm({ at, when, kill });
    const outcome = await store.commit(batch(site.epoch, number)).then(
      (result) => result.ok,
      (error: unknown) => {
        assert.ok(unavailable(error), String(error));
        return false;
      },
    );
    await until('the strike fell', () => struck);
    between.arm(undefined);
    if (outcome) acknowledged.add(number);
    await answers();
    // As the controller does when it cannot know: load again, and see.
    await until('the store leads again', async () =>
      lead(store).then(
        (state) => {
          site = state.site;
          return true;
        },
        () => false,
      ),
    );
    const there = await batchesIn(shared.database);
    for (const each of acknowledged) assert.ok(there.has(each), `batch ${each} was acknowledged and is lost`);
  }
});

it('kill -9 of the whole server in the middle of commits: it comes back by itself with all that was acknowledged', async () => {
  const { site } = await lead(store);
  const already = await batchesIn(shared.database);
  const acknowledged = new Set(already);
  for (const round of [1, 2]) {
    const old = shared.embedded.pid;
    let number = 1000 * round;
    const died = until('a commit fails', async () => {
      number += 1;
      return store.commit(batch(site.epoch, number)).then(
        (result) => {
          assert.ok(result.ok);
          acknowledged.add(number);
          return false;
        },
        (error: unknown) => unavailable(error),
      );
    });
    await until('some commits are through', () => acknowledged.size > already.size + 5 * round);
    process.kill(old, 'SIGKILL');
    await died;
    await until('another server runs', () => shared.embedded.pid !== old);
    await answers();
    const there = await batchesIn(shared.database);
    for (const each of acknowledged) assert.ok(there.has(each), `batch ${each} was acknowledged and is lost`);
  }
});

interface Writer {
  readonly child: ChildProcess;
  readonly acknowledged: Set<number>;
  readonly ended: Promise<unknown>;
}

function startWriter(first: number): Writer {
  const script = join(import.meta.dirname, 'writer.ts');
  const child = spawn(process.execPath, [script, between.socketFolder, String(first)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const acknowledged = new Set<number>();
  const lines = createInterface({ input: child.stdout });
  lines.on('line', (line) => {
    if (line.startsWith('acked ')) acknowledged.add(Number(line.slice(6)));
  });
  return { child, acknowledged, ended: new Promise((resolve) => child.once('close', resolve)) };
}

it('kill -9 of the controller at each message of a commit', async () => {
  const { site } = await lead(store);
  const stages = await messagesOfCommit(9000, site.epoch);
  // Opening, migrating and leading come first; count them once.
  const first = startWriter(10_000);
  between.arm(undefined);
  await until('the first commit', () => first.acknowledged.size > 0);
  first.child.kill('SIGKILL');
  await first.ended;
  const lost: string[] = [];
  let strikes = 0;
  for (let stage = 0; stage < stages; stage += 1) {
    const start = 20_000 + stage * 1000;
    const writer = startWriter(start);
    between.arm({
      // Into the third commit or later: a commit's messages repeat, so every stage of one is met.
      at: 30 + 2 * stages + stage,
      when: stage % 2 === 0 ? 'before' : 'after',
      kill: async () => {
        strikes += 1;
        writer.child.kill('SIGKILL');
      },
    });
    await writer.ended;
    await until('its connections are gone', async () => {
      const [row] = await shared.database.query<{ count: number }>(
        "SELECT count(*) AS count FROM pg_stat_activity WHERE state <> 'idle' AND datname = 'virga' AND pid <> pg_backend_pid()",
      );
      return row?.count === 0;
    });
    const there = await batchesIn(shared.database);
    for (const each of writer.acknowledged) if (!there.has(each)) lost.push(`${each} (stage ${stage})`);
    const written = [...there].filter((each) => each >= start).length;
    assert.ok(written - writer.acknowledged.size <= 1, 'at most the commit under way was written without an answer');
  }
  assert.equal(strikes, stages);
  assert.deepEqual(lost, []);
});

it('a commit that waits for a lock too long ends, and the store goes on', async () => {
  const address = shared.embedded.address;
  const hasty = new Database(address, { log: quiet, lockMs: 200 });
  try {
    const impatient = await PgStore.open(hasty, { newSite });
    const { site } = await lead(impatient);
    await shared.database.transaction(async (transaction) => {
      await transaction.query('SELECT 1 FROM virga.site FOR UPDATE');
      await assert.rejects(impatient.commit(commit(site.epoch, { put: [guest(1)] })), unavailable);
    });
    assert.ok((await impatient.commit(commit(site.epoch, { put: [guest(900_000)] }))).ok);
  } finally {
    await hasty.close();
  }
});
