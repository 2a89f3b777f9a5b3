/** Highly available guests and the host's lease: who starts, who waits, who is gone, and who notices nothing. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { AgentLoop } from '../../../src/agent/loop.ts';
import type { GuestOrder } from '../../../src/core/model/assignment.ts';
import { assignment, FakeHost, idOf, order } from './fake-host.ts';
import { sessionOf } from './fake-keeper.ts';

const ha = { ha: true, diskMode: 'fresh' } as const;
const highly = (change: Partial<GuestOrder> = {}): GuestOrder => order(1, { ...ha, ...change });
const plain = (change: Partial<GuestOrder> = {}): GuestOrder => order(2, change);

interface Running {
  readonly host: FakeHost;
  readonly loop: AgentLoop;
}

/** A highly available guest 1 and an ordinary guest 2, both running. */
async function running(): Promise<Running> {
  const host = new FakeHost();
  const loop = await host.agent();
  loop.receive(assignment(1, [highly(), plain()], { session: sessionOf(1) }));
  await host.settle(loop);
  assert.equal(host.domains.get(idOf(1))?.state, 'running');
  assert.equal(host.domains.get(idOf(2))?.state, 'running');
  host.done.length = 0;
  return { host, loop };
}

const states = (host: FakeHost): (string | undefined)[] => [1, 2].map((index) => host.domains.get(idOf(index))?.state);

describe('a start under the lease', () => {
  test('is registered, made paused, moved into its group, checked again, and only then resumed', async () => {
    const host = new FakeHost();
    const loop = await host.agent();
    loop.receive(assignment(1, [highly()], { session: sessionOf(1) }));
    await host.settle(loop);
    const done = host.done.filter((what) => !/overlay|seed/.test(what));
    assert.deepEqual(done, ['register 01', 'create 01', 'enter 01', 'register 01', 'resume 01']);
    assert.deepEqual(host.wrong, []);
    assert.equal(host.guest(1)?.inside, true);
    assert.equal(host.guest(1)?.generation, 1);
    assert.deepEqual(host.keeper.entries.get(idOf(1)), { generation: 1, epoch: 1 });
    assert.equal(host.report?.lease?.state, 'held');
    assert.deepEqual(host.report.session, sessionOf(1));
  });

  test('waits while the keeper does not answer; ordinary guests do not', async () => {
    const host = new FakeHost();
    host.keeper.away = true;
    const loop = await host.agent();
    loop.receive(assignment(1, [highly(), plain()]));
    await host.settle(loop);
    assert.deepEqual(states(host), [undefined, 'running']);
    assert.equal(host.report?.lease, undefined);
    assert.match(host.report?.problems.join() ?? '', /keeper/);
    assert.match(host.guest(1)?.error?.message ?? '', /keeper of this host does not answer/);
    host.keeper.away = false;
    await host.settle(loop);
    assert.deepEqual(states(host), ['running', 'running']);
    assert.deepEqual(host.report?.problems, []);
  });

  test('waits for the lease, and goes on at once when it is back', async () => {
    const host = new FakeHost();
    host.keeper.lease = 'none';
    const loop = await host.agent();
    loop.receive(assignment(1, [highly()]));
    await host.settle(loop, 3, 1);
    assert.deepEqual(states(host), [undefined, undefined]);
    assert.equal(host.done.filter((what) => what.startsWith('register')).length, 1, 'not asked again and again');
    assert.deepEqual(host.report?.gone, []);
    host.keeper.setLease('held');
    await host.settle(loop, 2, 1);
    assert.deepEqual(states(host), ['running', undefined]);
    assert.deepEqual(host.wrong, []);
  });

  test('refused under an old epoch is gone: said with the reason, its disk cleaned, never tried again', async () => {
    const host = new FakeHost();
    host.keeper.epoch = 5;
    const loop = await host.agent();
    loop.receive(assignment(1, [highly()]));
    await host.settle(loop);
    assert.deepEqual(host.report?.gone, [{ id: idOf(1), generation: 1 }]);
    assert.match(host.guest(1)?.error?.message ?? '', /under this order: epoch 1 is below 5/);
    assert.deepEqual([...host.disks], []);
    assert.equal(host.done.filter((what) => what.startsWith('register')).length, 1);
    loop.receive(assignment(2, [highly({ generation: 2, epoch: 5 })]));
    await host.settle(loop);
    assert.equal(host.guest(1)?.inside, true);
    assert.deepEqual(host.report?.gone, []);
  });

  test('the lease ends between making and resuming: it stays paused, and is let in when the lease is back', async () => {
    const host = new FakeHost();
    const loop = await host.agent();
    host.refuse = (what) => {
      if (what === 'enter') host.keeper.lease = 'lapsed';
      return undefined;
    };
    loop.receive(assignment(1, [highly()]));
    await host.settle(loop);
    assert.deepEqual(states(host), ['paused', undefined]);
    assert.ok(!host.done.includes('resume 01'));
    host.refuse = undefined;
    host.keeper.setLease('held');
    await host.settle(loop);
    assert.deepEqual(states(host), ['running', undefined]);
    assert.equal(host.guest(1)?.generation, 1);
    assert.deepEqual(host.wrong, []);
  });

  test('barred: nothing starts anew, unless its entry stands', async () => {
    const host = new FakeHost();
    const loop = await host.agent();
    loop.receive(assignment(1, [highly({ barred: true })]));
    await host.settle(loop);
    assert.deepEqual(host.done, []);
    assert.match(host.guest(1)?.error?.message ?? '', /may still run on a host/);
    loop.receive(assignment(2, [highly()]));
    await host.settle(loop);
    loop.receive(assignment(3, [highly({ barred: true, generation: 2 })]));
    await host.settle(loop);
    assert.equal(host.guest(1)?.generation, 2, 'it may go on');
    host.end(idOf(1), 'crashed');
    await host.settle(loop);
    assert.deepEqual(states(host), ['running', undefined]);
    assert.equal(host.guest(1)?.restarts, 1);
  });

  test('a crash needs no newer word of a leader while its entry stands', async () => {
    const { host, loop } = await running();
    host.keeper.epoch = 9;
    host.end(idOf(1), 'crashed');
    await host.settle(loop);
    assert.deepEqual(states(host), ['running', 'running']);
    assert.equal(host.guest(1)?.inside, true);
  });
});

describe('the end of a lease', () => {
  test('lapsed: nothing is asked of frozen guests, and all goes on afterwards', async () => {
    const { host, loop } = await running();
    host.keeper.setLease('lapsed');
    loop.receive(assignment(2, [highly({ generation: 2, cpus: 2, paused: true }), plain({ generation: 2, cpus: 2 })]));
    await host.settle(loop);
    assert.deepEqual(host.done, ['cpus 02']);
    assert.equal(host.guest(1)?.frozen, true);
    assert.equal(host.guest(2)?.frozen, undefined);
    assert.equal(host.report?.lease?.state, 'lapsed');
    host.keeper.setLease('held');
    await host.settle(loop);
    assert.equal(host.domains.get(idOf(1))?.state, 'paused');
    assert.equal(host.guest(1)?.generation, 2);
    assert.deepEqual(host.wrong, []);
  });

  test('a frozen guest is stopped and removed through the keeper', async () => {
    const stopped = await running();
    stopped.host.keeper.setLease('lapsed');
    stopped.loop.receive(assignment(2, [highly({ generation: 2, power: 'off' }), plain()]));
    await stopped.host.settle(stopped.loop);
    assert.deepEqual(states(stopped.host), [undefined, 'running']);
    assert.equal(stopped.host.done[0], 'clear 01');
    const removed = await running();
    removed.host.keeper.setLease('lapsed');
    removed.loop.receive(assignment(2, [highly({ generation: 2, want: 'remove' }), plain()]));
    await removed.host.settle(removed.loop);
    assert.deepEqual(removed.host.report?.gone, [{ id: idOf(1), generation: 2 }]);
    assert.equal(removed.host.keeper.entries.size, 0);
    assert.deepEqual([...stopped.host.wrong, ...removed.host.wrong], []);
  });

  test('nothing is called gone before the keeper cleared it', async () => {
    const { host, loop } = await running();
    host.keeper.away = true;
    loop.receive(assignment(2, [highly({ generation: 2, want: 'remove' }), plain()]));
    await host.settle(loop);
    assert.deepEqual(host.report?.gone, []);
    assert.deepEqual(states(host), ['running', 'running']);
    // Also when its machine ended meanwhile: the entry still stands.
    host.end(idOf(1), 'crashed');
    await host.settle(loop);
    assert.deepEqual(host.report?.gone, []);
    host.keeper.away = false;
    await host.settle(loop);
    assert.deepEqual(host.report?.gone, [{ id: idOf(1), generation: 2 }]);
    assert.equal(host.keeper.entries.size, 0);
  });

  test('session over: ended with that reason, not started under the old orders; ordinary guests go on', async () => {
    const { host, loop } = await running();
    host.keeper.endSession();
    await host.settle(loop);
    assert.deepEqual(states(host), [undefined, 'running']);
    assert.ok(!host.done.some((what) => what.endsWith('02')), host.done.join());
    assert.equal(host.guest(1)?.exit?.reason, 'lease-lost');
    assert.equal(host.guest(1)?.restarts, 0);
    assert.deepEqual(host.report?.session, sessionOf(2));
    assert.match(host.guest(1)?.error?.message ?? '', /generation 1 of it is gone from this host/);
    assert.deepEqual(host.report?.gone, [{ id: idOf(1), generation: 1 }]);
    // Late orders of the old session change nothing.
    loop.receive(assignment(2, [highly({ generation: 2 }), plain()], { session: sessionOf(1) }));
    await host.settle(loop);
    assert.match(host.guest(1)?.error?.message ?? '', /for an earlier session|gone from this host/);
    assert.deepEqual(
      host.done.filter((what) => !/clear|destroy|delete/.test(what)),
      [],
    );
    loop.receive(assignment(3, [highly({ generation: 3 }), plain()], { session: sessionOf(2) }));
    await host.settle(loop);
    assert.deepEqual(states(host), ['running', 'running']);
    assert.equal(host.guest(1)?.restarts, 0, 'no failure of its own');
    assert.equal(host.guest(1)?.error, undefined);
  });

  test('session over while the agent was dead: the same, and also after a reboot', async () => {
    const { host } = await running();
    host.keeper.endSession();
    const next = await host.agent();
    await host.settle(next);
    assert.equal(host.guest(1)?.exit?.reason, 'lease-lost');
    assert.equal(host.guest(2)?.exit, undefined);
    host.reboot();
    const third = await host.agent();
    await host.settle(third);
    assert.equal(host.guest(2)?.exit?.reason, 'host-reboot');
    assert.deepEqual(states(host), [undefined, 'running'], 'the old orders start no highly available guest');
  });

  test('made for a session that ended before it ran: never resumed', async () => {
    const host = new FakeHost();
    const loop = await host.agent();
    host.refuse = (what) => (what === 'enter' ? 'away' : undefined);
    loop.receive(assignment(1, [highly()], { session: sessionOf(1) }));
    await host.settle(loop, 2, 1);
    assert.deepEqual(states(host), ['paused', undefined]);
    host.keeper.endSession();
    host.refuse = undefined;
    const next = await host.agent();
    await host.settle(next, 5, 2000);
    assert.deepEqual(states(host), [undefined, undefined]);
    assert.ok(!host.done.includes('resume 01'));
  });

  test('barred here by a leader: gone with that generation, not restarted', async () => {
    const { host, loop } = await running();
    host.keeper.bar(idOf(1), 1);
    await host.settle(loop);
    assert.deepEqual(states(host), [undefined, 'running']);
    assert.deepEqual(host.report?.gone, [{ id: idOf(1), generation: 1 }]);
    assert.ok(!host.done.includes('create 01'));
    assert.deepEqual(
      [...host.disks.keys()].filter((path) => path.includes(idOf(1))),
      [],
    );
  });
});

describe('in and out of high availability', () => {
  test('a running guest is brought in, and reported inside once it is there', async () => {
    const { host, loop } = await running();
    loop.receive(assignment(2, [highly(), plain({ ...ha, generation: 2 })]));
    await host.settle(loop);
    assert.deepEqual(host.done, ['register 02', 'enter 02']);
    assert.equal(host.guest(2)?.inside, true);
    host.keeper.endSession();
    await host.settle(loop);
    assert.equal(host.guest(2)?.exit?.reason, 'lease-lost');
  });

  test('refused for good, it runs on outside and says so; the next order is tried again', async () => {
    const { host, loop } = await running();
    host.keeper.epoch = 3;
    loop.receive(assignment(2, [highly(), plain({ ...ha, generation: 2 })]));
    await host.settle(loop);
    assert.deepEqual(host.done, ['register 02']);
    assert.deepEqual(states(host), ['running', 'running']);
    assert.equal(host.guest(2)?.inside, undefined);
    assert.match(host.guest(2)?.error?.message ?? '', /cannot become highly available/);
    assert.deepEqual(host.report?.gone, []);
    loop.receive(assignment(3, [highly(), plain({ ...ha, generation: 3, epoch: 3 })]));
    await host.settle(loop);
    assert.equal(host.guest(2)?.inside, true);
  });

  test('one that is highly available no more stays inside until its next start', async () => {
    const { host, loop } = await running();
    loop.receive(assignment(2, [order(1, { generation: 2, diskMode: 'fresh' }), plain()]));
    await host.settle(loop);
    assert.deepEqual(host.done, []);
    assert.equal(host.guest(1)?.inside, true);
    host.end(idOf(1), 'crashed');
    await host.settle(loop);
    assert.equal(host.domains.get(idOf(1))?.state, 'running');
    assert.equal(host.guest(1)?.inside, undefined);
    assert.equal(host.keeper.entries.size, 0);
  });
});
