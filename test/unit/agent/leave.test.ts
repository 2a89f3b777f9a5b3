/** A host that leaves in order: guests first, politely, then the word to the voters. Time is the test's. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { leaveHost, type LeaveWorld } from '../../../src/agent/leave.ts';
import { runUntilLeft } from '../../../src/agent/until-left.ts';
import { currentBoot } from '../../../src/agent/left.ts';
import { durableFiles } from '../../../src/effects/files.ts';
import { askLocalDoor } from '../../../src/effects/local-door.ts';
import { VirgaError } from '../../../src/core/errors.ts';
import type { EngineGuest } from '../../../src/ports.ts';
import { quiet, TestClock } from '../controller/kit.ts';

type Manner = 'polite' | 'deaf' | 'stuck' | 'paused';

/** Guests that obey (after 3 s), hear nothing, do not even die, or are paused. */
function hostOf(manners: Readonly<Record<string, Manner>>, clock = new TestClock()) {
  const calls: string[] = [];
  const gone = new Map<string, number>();
  const left = (): readonly string[] =>
    Object.keys(manners).filter((id) => (gone.get(id) ?? Infinity) > clock.monotonic());
  const engine: LeaveWorld['engine'] = {
    view: async () => ({
      foreign: [],
      guests: left().map(
        (id) => ({ id, name: id, state: manners[id] === 'paused' ? 'paused' : 'running' }) as EngineGuest,
      ),
    }),
    shutdown: async (id) => {
      calls.push(`shutdown ${id}`);
      if (manners[id] === 'polite') gone.set(id, clock.monotonic() + 3000);
    },
    destroy: async (id) => {
      calls.push(`destroy ${id}`);
      if (manners[id] === 'stuck') throw new VirgaError('timeout', { what: 'libvirt', seconds: 15 });
      gone.set(id, clock.monotonic());
    },
  };
  const world: LeaveWorld = {
    engine,
    clock,
    log: quiet,
    stopLoop: async () => void calls.push('loop stopped'),
    keeper: { leave: async () => void calls.push('announced') },
    noteLeave: async () => void calls.push('noted'),
    graceSeconds: (id) => (id.startsWith('short') ? 5 : 600),
  };
  return { clock, calls, world };
}

const order = (withinMs: number, said: string[] = []) => ({
  reason: 'new RAM',
  withinMs,
  say: (text: string) => void said.push(text),
});

test('the loop stops first, guests are asked, the word goes out last', async () => {
  const { calls, world, clock } = hostOf({ a: 'polite', b: 'polite' });
  const began = clock.monotonic();
  assert.deepEqual(await leaveHost(world, order(120_000)), { polite: 2, forced: 0, announced: true });
  assert.deepEqual(calls, ['loop stopped', 'shutdown a', 'shutdown b', 'noted', 'announced']);
  assert.ok(clock.monotonic() - began < 5000);
});

test('a guest that hears nothing is ended at its grace, at most at the limit of all', async () => {
  const { calls, world, clock } = hostOf({ short: 'deaf', long: 'deaf' });
  const began = clock.monotonic();
  assert.deepEqual(await leaveHost(world, order(30_000)), { polite: 0, forced: 2, announced: true });
  assert.ok(calls.indexOf('destroy short') < calls.indexOf('destroy long'));
  // Asked again every 10 s.
  assert.equal(calls.filter((each) => each === 'shutdown long').length, 3);
  assert.ok(clock.monotonic() - began <= 31_000);
});

test('a paused guest hears nothing, so it is ended at once', async () => {
  const { calls, world } = hostOf({ p: 'paused' });
  await leaveHost(world, order(30_000));
  assert.deepEqual(calls, ['loop stopped', 'destroy p', 'noted', 'announced']);
});

test('a guest that does not die holds nobody up: the keeper ends what is in its groups', async () => {
  const { world, clock } = hostOf({ d: 'stuck' });
  const began = clock.monotonic();
  assert.deepEqual(await leaveHost(world, order(20_000)), { polite: 0, forced: 1, announced: true });
  assert.ok(clock.monotonic() - began < 45_000);
});

test('a dead keeper or engine: the host goes down unannounced, and it is said', async () => {
  const { world } = hostOf({});
  const said: string[] = [];
  const silent: LeaveWorld = {
    ...world,
    engine: {
      ...world.engine,
      view: async () => {
        throw new VirgaError('timeout', { what: 'libvirt', seconds: 10 });
      },
    },
    keeper: {
      leave: async () => {
        throw new VirgaError('keeper', { host: 'h1', detail: 'no socket' });
      },
    },
  };
  assert.deepEqual(await leaveHost(silent, order(10_000, said)), { polite: 0, forced: 0, announced: false });
  assert.match(said.at(-1) ?? '', /could not be announced.*lease has run out/);
});

test('asked through the socket of the agent, which only its owner may open', async () => {
  const dataDir = await mkdtemp(join(tmpdir(), 'virga-leave-'));
  try {
    const { world, calls } = hostOf({ a: 'polite' });
    const stop = new AbortController();
    const loop = {
      assignment: undefined,
      run: async (signal: AbortSignal) => {
        await new Promise<void>((resolve) => {
          signal.addEventListener('abort', () => resolve(), { once: true });
        });
        calls.push('loop ended');
      },
    };
    const files = durableFiles(dataDir);
    const boot = await currentBoot(files);
    const life = runUntilLeft({ ...world, dataDir, loop, files, signal: stop.signal });
    const path = join(dataDir, 'local.sock');
    const said: string[] = [];
    const ask = async (request: Record<string, string | number>) =>
      askLocalDoor(path, request, { what: 'the agent', timeoutMs: 5000, say: (text) => void said.push(text) });
    for (let tries = 0; tries < 1000 && !existsSync(path); tries += 1)
      await new Promise((resolve) => {
        setImmediate(resolve);
      });
    await assert.rejects(ask({ do: 'dance' }), { code: 'usage' });
    const done = await ask({ do: 'leave', reason: 'test', withinSeconds: 10 });
    assert.deepEqual(done, { polite: 1, forced: 0, announced: true });
    assert.deepEqual(calls, ['loop ended', 'shutdown a', 'announced']);
    // The next life of the agent takes it for a boot: what was stopped for the leave starts again.
    assert.equal(await currentBoot(files), `${boot}+1`);
    assert.match(said[0] ?? '', /a is asked to stop/);
    assert.equal((await stat(path)).mode & 0o777, 0o600);
    await assert.rejects(ask({ do: 'leave', reason: 'test', withinSeconds: 10 }), /already/);
    stop.abort();
    await life;
    await assert.rejects(ask({ do: 'leave', reason: 'test', withinSeconds: 10 }), { code: 'setup' });
  } finally {
    await rm(dataDir, { recursive: true, force: true });
  }
});
