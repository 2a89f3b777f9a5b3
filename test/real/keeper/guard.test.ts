/** The guard on real processes and groups: whatever hangs or dies around it, guests stop at the deadline. */
import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import type { GuardAnswer } from '../../../src/core/ha/guard.ts';
import { runFolder } from '../../../src/effects/lines.ts';
import { BootTime } from '../../../src/effects/boottime.ts';
import { eventsOf } from '../../../src/keeper/cgroup.ts';
import { guardClient, guardStatus, type GuardClient } from '../../../src/keeper/guard/client.ts';
import { hostGroups } from '../../../src/keeper/groups.ts';
import { selfArgv } from '../../../src/site/paths.ts';
import { busy, cleanHost, ended, still, ticks, until } from './kit.ts';

const clock = new BootTime();
/** Length of the lease here, and how far from the deadline a stop may be seen: the bound k. */
const lengthMs = 800;
const boundMs = 500;

interface Stage {
  readonly hostId: string;
  readonly folder: string;
  readonly session: { readonly number: number; readonly id: string };
  readonly guest: string;
  /** The guest's group. */
  readonly group: string;
  readonly pid: number;
  readonly frozen: () => boolean;
  spawnGuard(): ChildProcess;
  /** Resolves when it answers. */
  startGuard(): Promise<ChildProcess>;
  startKeeper(): { readonly child: ChildProcess; readonly answers: GuardAnswer[] };
  client(): GuardClient;
}

/** A host with a busy guest in its session's group; the guard and the keeper are the test's to start. */
async function stage(t: TestContext): Promise<Stage> {
  const hostId = randomUUID();
  const folder = runFolder(hostId);
  cleanHost(t, hostId);
  const dataDir = await mkdtemp(join(tmpdir(), 'virga-guard-'));
  t.after(async () => rm(dataDir, { recursive: true, force: true }));
  await writeFile(join(dataDir, 'credentials.json'), JSON.stringify({ hostId }));
  const groups = hostGroups(hostId);
  const session = { number: 1, id: randomUUID() };
  const guest = randomUUID();
  const { pid } = busy(t);
  await groups.ensure(session);
  const group = await groups.make(session, guest);
  await groups.enter(session, guest, pid);
  const child = (args: readonly string[]): ChildProcess => {
    const started = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
    t.after(async () => ended(started));
    return started;
  };
  const spawnGuard = (): ChildProcess => {
    const [program = '', ...args] = selfArgv('guard', 'run', '--data', dataDir);
    const guard = spawn(program, args, { stdio: 'ignore' });
    t.after(async () => ended(guard));
    return guard;
  };
  return {
    hostId,
    folder,
    session,
    guest,
    group,
    pid,
    frozen: () => eventsOf(group)?.frozen === true,
    spawnGuard,
    async startGuard() {
      const guard = spawnGuard();
      await until('the guard answers', async () => (await guardStatus(folder, 200))?.pid === guard.pid, 10_000);
      return guard;
    },
    startKeeper() {
      const program = join(import.meta.dirname, 'ordering.ts');
      const keeper = child([program, folder, String(session.number), session.id, String(lengthMs)]);
      const answers: GuardAnswer[] = [];
      keeper.stdout?.on('data', (text: Buffer) => {
        for (const line of text.toString().trim().split('\n')) answers.push(JSON.parse(line) as GuardAnswer);
      });
      return { child: keeper, answers };
    },
    client() {
      const client = guardClient(folder);
      t.after(() => client.close());
      return client;
    },
  };
}

/** Waits until it is frozen and says how long after the deadline that was seen. */
async function frozenAfter(here: Stage, deadline: number): Promise<number> {
  await until('frozen', here.frozen);
  return clock.now() - deadline;
}

test('it runs under a deadline; when the keeper hangs or dies it stops in time, and goes on after', async (t) => {
  const here = await stage(t);
  await here.startGuard();
  assert.ok(await still(here.pid), 'without a deadline it stands still');
  const keeper = here.startKeeper();
  await until('it runs', () => !here.frozen());
  const before = ticks(here.pid) ?? 0;
  await until('it uses the processor', () => (ticks(here.pid) ?? 0) > before + 10);
  keeper.child.kill('SIGSTOP');
  const { deadline = 0 } = keeper.answers.at(-1) ?? {};
  const late = await frozenAfter(here, deadline);
  assert.ok(late < boundMs, `frozen ${late} ms after the deadline`);
  assert.ok(await still(here.pid));
  keeper.child.kill('SIGCONT');
  await until('it goes on', () => !here.frozen());
  await ended(keeper.child);
  await until('frozen after the death of the keeper', here.frozen);
  assert.equal((await guardStatus(here.folder))?.frozen, true);
});

test('a guard that was killed: the next one knows the deadline, and keeps it', async (t) => {
  const here = await stage(t);
  const first = await here.startGuard();
  const keeper = here.client();
  const deadline = clock.now() + 4000;
  await until('answered', () => {
    keeper.deadline(here.session, deadline, false);
    return keeper.answered()?.deadline === deadline;
  });
  assert.equal(here.frozen(), false);
  keeper.close();
  await ended(first);
  await here.startGuard();
  assert.equal((await guardStatus(here.folder))?.session?.id, here.session.id);
  assert.ok(clock.now() < deadline, 'the second guard came too late to show anything');
  assert.equal(here.frozen(), false, 'the deadline has not passed');
  const late = await frozenAfter(here, deadline);
  assert.ok(late > -20 && late < boundMs, `frozen ${late} ms after the deadline`);
});

test('a guard that was stopped beyond the deadline freezes first, and vouches for nothing at once', async (t) => {
  const here = await stage(t);
  const guard = await here.startGuard();
  const keeper = here.client();
  await until('answered', () => {
    keeper.deadline(here.session, clock.now() + lengthMs, false);
    return keeper.answered() !== undefined;
  });
  guard.kill('SIGSTOP');
  const deadlineOf = (): number => keeper.answered()?.deadline ?? 0;
  await until('the deadline', () => clock.now() > deadlineOf() + 300);
  const { deadline = 0, at: lastAt = 0 } = keeper.answered() ?? {};
  // Old words wait in its pipe; they are of the past when it reads them.
  keeper.deadline(here.session, deadline + 50, false);
  guard.kill('SIGCONT');
  await until('frozen', here.frozen, 1000);
  assert.equal(keeper.answered()?.at, lastAt, 'it answered although it was late');
  await until('it vouches again', () => {
    keeper.deadline(here.session, clock.now() + lengthMs, false);
    return (keeper.answered()?.at ?? 0) > lastAt;
  });
  assert.ok((keeper.answered()?.lagMs ?? 0) > 250);
  assert.equal(here.frozen(), false);
});

test('an earlier deadline by force, the next session, and a keeper that comes after another', async (t) => {
  const here = await stage(t);
  await here.startGuard();
  const old = here.client();
  await until('connected', () => old.connected());
  const next = here.client();
  await until('the earlier one is sent away', () => !old.connected());
  old.close();
  await until('connected', () => next.connected());
  next.deadline(here.session, clock.now() + 5000, false);
  await until('it runs', () => !here.frozen());
  next.deadline(here.session, clock.now(), true);
  const late = await frozenAfter(here, clock.now());
  assert.ok(late < boundMs);
  const second = { number: 2, id: randomUUID() };
  await until('the session changes', () => {
    next.deadline(second, clock.now() + lengthMs, false);
    return next.answered()?.session.id === second.id;
  });
  next.deadline(here.session, clock.now() + lengthMs, false);
  await assert.rejects(until('the old session runs', () => !here.frozen(), 300));
});

test('holders of shared locks are killed after the grace, and nobody else', async (t) => {
  const here = await stage(t);
  await here.startGuard();
  const groups = hostGroups(here.hostId);
  const spared = busy(t);
  const other = randomUUID();
  await groups.make(here.session, other);
  await groups.enter(here.session, other, spared.pid);
  const keeper = here.client();
  keeper.settings({ graceMs: 200, lockers: [here.guest] });
  const deadline = clock.now() + 1000;
  await until('answered', () => {
    keeper.deadline(here.session, deadline, false);
    return keeper.answered()?.deadline === deadline;
  });
  await until('killed', () => ticks(here.pid) === undefined || eventsOf(here.group)?.populated === false);
  assert.ok(clock.now() >= deadline + 190);
  assert.notEqual(ticks(spared.pid), undefined);
});

test('one guard per host, in front of the queue where that is permitted', async (t) => {
  const here = await stage(t);
  const guard = await here.startGuard();
  const second = here.spawnGuard();
  await until('the second ends', () => second.exitCode !== null, 10_000);
  assert.equal(second.exitCode, 1);
  const status = await guardStatus(here.folder);
  assert.equal(status?.pid, guard.pid);
  assert.ok(status?.policy === 'fifo' || status?.policy === 'nice', status?.policy);
});
