import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { assignment, FakeHost, idOf, order } from './fake-host.ts';

const one = idOf(1);

async function running(change: Parameters<typeof order>[1] = {}) {
  const host = new FakeHost();
  const loop = await host.agent();
  let generation = 1;
  const give = async (next: Parameters<typeof order>[1], rounds?: number): Promise<void> => {
    generation += 1;
    loop.receive(assignment(generation, [order(1, { ...change, ...next, generation })]));
    await host.settle(loop, rounds);
  };
  loop.receive(assignment(1, [order(1, change)]));
  await host.settle(loop);
  host.done.length = 0;
  return { host, loop, give };
}

const seconds = async (host: FakeHost, loop: Awaited<ReturnType<FakeHost['agent']>>, count: number): Promise<void> => {
  for (let index = 0; index < count * 2; index += 1) await host.settle(loop, 1, 500);
};

describe('starting and stopping', () => {
  test('what is listed with power on starts, with disk and seed before the domain', async () => {
    const host = new FakeHost();
    const loop = await host.agent();
    loop.receive(assignment(1, [order(1), order(2, { power: 'off' })]));
    await host.settle(loop);
    assert.deepEqual(host.done, ['overlay 01', 'seed 01', 'create 01', 'resume 01']);
    assert.equal(host.guest(1)?.generation, 1);
    assert.equal(host.guest(2)?.engine, 'absent');
    assert.equal(host.guest(2)?.generation, 1);
  });

  test('the image is fetched first, and a guest that waits for it says so', async () => {
    const host = new FakeHost();
    host.images.clear();
    host.refuse = (what) => (what === 'fetch' ? 'no way' : undefined);
    const loop = await host.agent();
    loop.receive(assignment(1, [order(1)]));
    await host.settle(loop, 2);
    assert.equal(host.domains.size, 0);
    assert.match(host.guest(1)?.error?.message ?? '', /no way/);
    assert.equal(host.guest(1)?.error?.gaveUp, false);
    host.refuse = undefined;
    await seconds(host, loop, 3);
    assert.equal(host.domains.size, 1);
  });

  test('a polite stop, asked again, then forced', async () => {
    const { host, loop, give } = await running();
    host.polite = 'ignore';
    await give({ power: 'off' });
    assert.deepEqual(host.done, ['shutdown 01']);
    await seconds(host, loop, 6);
    assert.deepEqual(host.done, ['shutdown 01', 'shutdown 01']);
    await seconds(host, loop, 5);
    assert.deepEqual(host.done.at(-1), 'destroy 01');
    assert.equal(host.guest(1)?.engine, 'absent');
  });

  test('a paused guest is woken to stop in order', async () => {
    const { host, give } = await running({ paused: true });
    assert.equal(host.guest(1)?.engine, 'paused');
    await give({ power: 'off' });
    assert.deepEqual(host.done, ['resume 01', 'shutdown 01']);
  });

  test('reboot is a stop and a start, on the same disk even when disks are fresh', async () => {
    const { host, give } = await running({ diskMode: 'fresh' });
    const before = [...host.disks.keys()];
    await give({ rebootSeq: 1 });
    assert.deepEqual(host.done, ['shutdown 01', 'seed 01', 'create 01', 'resume 01']);
    assert.deepEqual([...host.disks.keys()], before);
    assert.equal(host.guest(1)?.rebootSeq, 1);
    assert.equal(host.guest(1)?.restarts, 0);
  });

  test('a fresh disk begins anew at each start', async () => {
    const { host, loop } = await running({ diskMode: 'fresh' });
    const before = [...host.disks.keys()];
    host.end(one, 'crashed');
    await host.settle(loop);
    assert.equal(host.disks.size, 1);
    assert.notDeepEqual([...host.disks.keys()], before);
  });
});

describe('restart policies', () => {
  for (const [restart, reason, back] of [
    ['on-failure', 'crashed', true],
    ['on-failure', 'destroyed', true],
    ['on-failure', 'shutdown', false],
    ['always', 'shutdown', true],
    ['never', 'crashed', false],
    ['never', 'host-reboot', true],
    ['on-failure', 'host-reboot', true],
  ] as const)
    test(`${restart}: after ${reason} it ${back ? 'comes back' : 'stays off'}`, async () => {
      const { host, loop } = await running({ restart });
      if (reason === 'host-reboot') {
        host.reboot();
        const next = await host.agent();
        await host.settle(next);
      } else {
        host.end(one, reason);
        await host.settle(loop);
      }
      assert.equal(host.domains.has(one), back);
      assert.equal(host.guest(1)?.exit?.reason, reason);
      assert.equal(host.guest(1)?.restarts, back && reason !== 'host-reboot' ? 1 : 0);
    });

  test('powered off from inside it stays off over a reboot of the host, until a start is asked for', async () => {
    const { host, loop } = await running();
    host.end(one, 'shutdown');
    await host.settle(loop);
    host.reboot();
    const next = await host.agent();
    await host.settle(next);
    assert.equal(host.domains.size, 0);
    next.receive(assignment(2, [order(1, { generation: 2, startSeq: 1 })]));
    await host.settle(next);
    assert.equal(host.domains.size, 1);
  });

  test('at once, then 1, 2, 4 … seconds; after ten failures in a row it waits for a person', async () => {
    const { host, loop } = await running();
    const starts: number[] = [];
    for (let at = 0; at < 4000; at += 1) {
      if (host.domains.has(one)) {
        starts.push(host.now);
        host.end(one, 'crashed');
      }
      await host.settle(loop, 1, 100);
    }
    const gaps = starts.slice(1).map((start, index) => Math.round((start - (starts[index] ?? 0)) / 1000));
    assert.deepEqual(gaps, [0, 1, 2, 4, 8, 16, 32, 60, 60]);
    assert.equal(host.guest(1)?.error?.gaveUp, true);
    loop.receive(assignment(2, [order(1, { generation: 2, startSeq: 1 })]));
    await host.settle(loop);
    assert.equal(host.domains.size, 1);
  });

  test('a start that is refused again and again is given up too, and only a new start ends that', async () => {
    const host = new FakeHost();
    host.refuse = (what) => (what === 'create' ? 'no such machine type' : undefined);
    const loop = await host.agent();
    loop.receive(assignment(1, [order(1)]));
    for (let at = 0; at < 400; at += 1) await host.settle(loop, 1, 1000);
    assert.equal(host.guest(1)?.error?.gaveUp, true);
    assert.match(host.guest(1)?.error?.message ?? '', /no such machine type/);
    host.refuse = undefined;
    loop.receive(assignment(2, [order(1, { generation: 2, cpus: 2 })]));
    await host.settle(loop);
    assert.equal(host.domains.size, 0);
    loop.receive(assignment(3, [order(1, { generation: 3, startSeq: 1 })]));
    await host.settle(loop);
    assert.equal(host.domains.size, 1);
  });

  test('an engine that is away is nobody’s failure', async () => {
    const { host, loop } = await running();
    host.engineAway = true;
    await seconds(host, loop, 300);
    assert.ok(host.report?.problems.some((each) => each.includes('libvirt')));
    host.engineAway = false;
    await host.settle(loop);
    assert.equal(host.guest(1)?.error, undefined);
    assert.deepEqual(host.done, []);
  });
});

describe('changes', () => {
  test('sizes while it runs; what is refused is told, and applied at the next start', async () => {
    const { host, give } = await running();
    await give({ cpus: 2, memoryMiB: 256, diskMiB: 200 });
    assert.deepEqual(host.done, ['cpus 01', 'memory 01', 'grow 01']);
    host.refuse = (what) => (what === 'cpus' ? 'the guest does not let go' : undefined);
    await give({ cpus: 1, memoryMiB: 256, diskMiB: 200 });
    assert.match(host.guest(1)?.error?.message ?? '', /does not let go.*next start/);
    assert.equal(host.guest(1)?.generation, 3);
    host.refuse = undefined;
    await give({ cpus: 1, memoryMiB: 256, diskMiB: 200, rebootSeq: 1 });
    assert.equal(host.domains.get(one)?.cpus, 1);
    assert.equal(host.guest(1)?.error, undefined);
  });

  test('snapshot, revert, delete: layers come and go, and none that is needed goes', async () => {
    const { host, give } = await running();
    const snapshot = { id: idOf(50), name: 's', askedAt: 1, wanted: true };
    await give({ snapshots: [snapshot] });
    assert.equal(host.guest(1)?.snapshots[0]?.state, 'ready');
    await give({ snapshots: [snapshot], revert: { seq: 1, snapshotId: snapshot.id } });
    assert.equal(host.guest(1)?.revertSeq, 1);
    assert.equal(host.domains.get(one)?.active, `/data/${one}/disk-2.qcow2`);
    assert.equal(host.disks.get(`/data/${one}/disk-2.qcow2`), `/data/${one}/disk-0.qcow2`);
    assert.ok(!host.disks.has(`/data/${one}/disk-1.qcow2`));
    await give({ snapshots: [{ ...snapshot, wanted: false }], revert: { seq: 1, snapshotId: snapshot.id } });
    assert.deepEqual(host.guest(1)?.snapshots, []);
    await give({ rebuildSeq: 1, revert: { seq: 1, snapshotId: snapshot.id } });
    assert.deepEqual([...host.disks.keys()], [`/data/${one}/disk-3.qcow2`]);
  });

  test('revert to a snapshot that is not there is told, and the guest runs on', async () => {
    const { host, give } = await running();
    await give({ revert: { seq: 1, snapshotId: idOf(51) } });
    assert.equal(host.guest(1)?.revertSeq, 1);
    assert.equal(host.guest(1)?.engine, 'running');
  });

  test('held: nothing at all happens to it', async () => {
    const { host, loop, give } = await running();
    await give({ held: true, power: 'off', cpus: 3, rebuildSeq: 1, want: 'remove' });
    host.end(one, 'crashed');
    await seconds(host, loop, 5);
    assert.deepEqual(host.done, []);
    await give({});
    assert.equal(host.domains.size, 1);
  });

  test('while nothing may be destroyed, removal and rebuild wait', async () => {
    const { host, loop } = await running();
    const careful = { destroyNothing: true };
    loop.receive(assignment(2, [order(1, { generation: 2, want: 'remove' })], careful));
    await host.settle(loop);
    loop.receive(assignment(3, [order(1, { generation: 3, rebuildSeq: 1 })], careful));
    await host.settle(loop);
    assert.deepEqual(host.done, []);
    loop.receive(assignment(4, [order(1, { generation: 4, rebuildSeq: 1 })]));
    await host.settle(loop);
    assert.equal(host.guest(1)?.rebuildSeq, 1);
  });

  test('removed: destroyed, files deleted, reported until listed no more; then it may come again', async () => {
    const { host, loop, give } = await running();
    await give({ want: 'remove' });
    assert.deepEqual(host.done, ['destroy 01', 'delete-files 01']);
    assert.deepEqual(host.report?.gone, [{ id: one, generation: 2 }]);
    assert.equal(host.disks.size, 0);
    loop.receive(assignment(3, []));
    await host.settle(loop);
    assert.deepEqual(host.report?.gone, []);
    loop.receive(assignment(4, [order(1, { generation: 4 })]));
    await host.settle(loop);
    assert.equal(host.domains.size, 1);
  });

  test('adopted and given back', async () => {
    const host = new FakeHost();
    const adopted = { xml: '<domain/>', persistent: true, autostart: true };
    host.foreign.set(one, adopted);
    const loop = await host.agent();
    const { image: _image, ...bare } = order(1, { adopted });
    loop.receive(assignment(1, [bare]));
    await host.settle(loop);
    assert.deepEqual(host.done, ['adopt 01']);
    assert.equal(host.guest(1)?.generation, 1);
    loop.receive(assignment(2, [{ ...bare, generation: 2, want: 'release' }]));
    await host.settle(loop);
    assert.deepEqual(host.done, ['adopt 01', 'release 01']);
    assert.deepEqual(host.report?.gone, [{ id: one, generation: 2 }]);
    assert.deepEqual(host.foreign.get(one), adopted);
    loop.receive(assignment(3, [{ ...bare, generation: 3, want: 'remove' }]));
    await host.settle(loop);
    assert.deepEqual(host.foreign.get(one), adopted, 'what was given back is not ours to destroy');
    assert.ok(!host.done.includes('destroy 01'));
    await assert.rejects(loop.destroyStray(one), { code: 'not_allowed' });
  });
});

describe('old orders', () => {
  test('an assignment of an older state or leader is ignored, also by the next life', async () => {
    const { host, loop } = await running();
    assert.equal(loop.receive(assignment(5, [order(1, { generation: 5 })], { epoch: 2 })), true);
    await host.settle(loop);
    assert.equal(loop.receive(assignment(9, [], { epoch: 1 })), false);
    assert.equal(loop.receive(assignment(4, [], { epoch: 2 })), false);
    const next = await host.agent();
    assert.equal(next.receive(assignment(9, [], { epoch: 1 })), false);
    await host.settle(next);
    assert.equal(host.domains.size, 1);
  });

  test('within a newer assignment an order of a lower generation is not executed', async () => {
    const { host, loop, give } = await running();
    await give({});
    host.done.length = 0;
    loop.receive(assignment(9, [order(1, { generation: 1, power: 'off' })]));
    await host.settle(loop);
    assert.deepEqual(host.done, []);
    assert.equal(host.guest(1)?.engine, 'running');
  });

  test('one for another host or site is refused', async () => {
    const { loop } = await running();
    assert.equal(loop.receive(assignment(9, [], { hostId: idOf(3) })), false);
    assert.equal(loop.receive(assignment(9, [], { siteId: idOf(3) })), false);
  });

  test('a domain that no assignment lists is a stray: reported, not touched', async () => {
    const { host, loop } = await running();
    loop.receive(assignment(2, []));
    await host.settle(loop);
    assert.deepEqual(host.done, []);
    assert.equal(host.report?.strays[0]?.id, one);
    await loop.destroyStray(one);
    assert.equal(host.domains.size, 0);
  });

  test('a stray is told with the last order that kept it, also when it is off, and goes on when it is listed again', async () => {
    const { host, loop } = await running();
    const kept = order(1, { generation: 5, userData: '#cloud-config', sshKeys: ['ssh-ed25519 AAAA'] });
    loop.receive(assignment(2, [kept]));
    await host.settle(loop);
    const journal = JSON.parse(host.files.get(`guests/${one}/journal.json`) ?? '{}') as { order?: unknown };
    assert.deepEqual(journal.order, kept, 'on disk');
    loop.receive(assignment(3, [order(1, { generation: 6, want: 'remove' })], { destroyNothing: true }));
    await host.settle(loop);
    // The next life of the agent knows it from the disk.
    const next = await host.agent();
    next.receive(assignment(4, []));
    await host.settle(next);
    assert.deepEqual(host.report?.strays[0]?.order, { ...kept, generation: 6 });
    host.done.length = 0;
    next.receive(assignment(5, [{ ...kept, generation: 7 }]));
    await host.settle(next);
    assert.deepEqual([host.done, host.report?.strays, host.guest(1)?.generation], [[], [], 7]);
    next.receive(assignment(6, []));
    host.end(one, 'shutdown');
    await host.settle(next);
    assert.deepEqual([host.report?.strays[0]?.running, host.report?.strays[0]?.order?.generation], [false, 7]);
    await next.destroyStray(one);
    await host.settle(next);
    assert.deepEqual([host.report?.strays, host.disks.size], [[], 0]);
  });

  test('a journal without an order is read, and gets the one of its generation', async () => {
    const { host, loop } = await running();
    await host.settle(loop);
    const file = `guests/${one}/journal.json`;
    const { order: _order, ...older } = JSON.parse(host.files.get(file) ?? '{}') as Record<string, unknown>;
    host.files.set(file, JSON.stringify(older));
    host.done.length = 0;
    const next = await host.agent();
    await host.settle(next);
    const { order: again } = JSON.parse(host.files.get(file) ?? '{}') as { order?: { id: string } };
    assert.deepEqual([host.done, again?.id], [[], one]);
  });

  test('an order older than one that was seen is not carried out, and the report says so', async () => {
    const { host, loop } = await running();
    loop.receive(assignment(2, [order(1, { generation: 8 })]));
    await host.settle(loop);
    assert.equal(host.guest(1)?.accepted, undefined);
    loop.receive(assignment(3, [order(1, { generation: 3, power: 'off' })]));
    await host.settle(loop);
    assert.deepEqual([host.guest(1)?.engine, host.guest(1)?.accepted], ['running', 8]);
  });
});

describe('journals', () => {
  test('one that cannot be read stops everything for that guest, and only that one', async () => {
    const { host } = await running();
    host.files.set(`guests/${one}/journal.json`, '{"version":1,');
    host.end(one, 'crashed');
    host.done.length = 0;
    const next = await host.agent();
    next.receive(assignment(2, [order(1), order(2)]));
    await host.settle(next);
    assert.deepEqual(host.done, ['overlay 02', 'seed 02', 'create 02', 'resume 02']);
    assert.ok(host.report?.problems.some((each) => each.includes(one)));
  });

  test('disks without a journal are never overwritten', async () => {
    const { host } = await running();
    host.files.delete(`guests/${one}/journal.json`);
    host.end(one, 'crashed');
    const disks = new Map(host.disks);
    const next = await host.agent();
    await host.settle(next, 30, 1000);
    assert.deepEqual(host.disks, disks);
    assert.equal(host.domains.size, 0);
    assert.match(host.guest(1)?.error?.message ?? '', /no journal/);
  });
});
