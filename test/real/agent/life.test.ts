import assert from 'node:assert/strict';
import { access, readFile, stat } from 'node:fs/promises';
import { after, before, describe, test } from 'node:test';
import { guestAddress } from '../../../src/testbed/index.ts';
import { until } from '../../../src/testbed/proc.ts';
import { AgentBed } from './kit.ts';
import { guestId, orderOf } from './orders.ts';

describe('guests under one agent', { timeout: 400_000 }, () => {
  let bed: AgentBed;
  const { address } = guestAddress(0);
  /** A guest that is emulated on a busy machine takes its time, above all to write its disk. */
  const get = async (path: string): Promise<string> =>
    (await bed.testbed.httpGet(address, path, { timeoutMs: 15_000 })).body.trim();
  const bootId = (): Promise<string> => get('/boot-id');
  const answers = (): Promise<unknown> => bed.testbed.httpWait(address, { body: 'g0', timeoutMs: 30_000 });
  const inside = (command: string): Promise<string> => bed.inside(0, command);

  /** The guest answers HTTP before it hears of buttons and processors; its agent comes last. */
  const wholeUp = (): Promise<unknown> =>
    bed.guestIs(0, 'whole', ({ engine, agentConnected }) => engine === 'running' && agentConnected === true);
  const makeDeaf = async (): Promise<void> => {
    await wholeUp();
    // By their pid files: the guest agent runs under a loader of its own, and `pidof` does not find it.
    await inside('kill -9 $(cat /run/qemu-ga.pid /run/acpid.pid)');
  };

  before(async () => {
    bed = await AgentBed.open();
    await bed.startAgent();
  });
  after(() => bed.close());

  test('an ordered guest starts, answers, and is reported', async (t) => {
    const started = performance.now();
    await bed.order(orderOf(0, bed.image));
    await answers();
    t.diagnostic(`order to HTTP answer, image fetched: ${Math.round(performance.now() - started)} ms`);
    const guest = await bed.guestIs(0, 'settled', ({ generation }) => generation === 1);
    assert.equal(guest.engine, 'running');
    assert.equal(guest.restarts, 0);
    assert.equal(guest.startSeq, 0);
    assert.deepEqual(guest.addresses[0], { source: 'assigned', family: 4, address });
    assert.match(await bed.host.run(['virsh', 'list', '--transient', '--no-autostart']), /g0 +running/);
    const report = await bed.reportIs('with its facts', ({ engine }) => engine !== undefined);
    assert.equal(report.engine?.kvm, false);
    assert.ok(report.engine.machines.includes('pc-q35-7.2'), String(report.engine.machines));
    assert.ok(report.engine.cpuModels.includes('qemu64'), String(report.engine.cpuModels));
    assert.deepEqual(report.engine.firmwares, ['bios', 'uefi']);
    assert.equal(report.session.number, 1);
    assert.deepEqual(report.images, [bed.image.sha512]);
    assert.ok(report.network.bridges.includes('br0'));
  });

  test('killed behind its back, it comes back by itself', async () => {
    const before = await bootId();
    await bed.host.run(['kill', '-9', await bed.qemuPid(0)]);
    const guest = await bed.guestIs(0, 'back', ({ engine, restarts }) => engine === 'running' && restarts === 1);
    assert.ok(guest.exit && ['failed', 'crashed'].includes(guest.exit.reason), JSON.stringify(guest.exit));
    await answers();
    assert.notEqual(await bootId(), before);
  });

  test('the agent killed: the guest runs on and is taken up again, also when it was rebooted from nothing', async () => {
    const before = await bootId();
    const pid = await bed.qemuPid(0);
    await bed.stopAgent('SIGKILL');
    assert.equal(await bootId(), before);
    await bed.startAgent();
    const since = Date.now();
    await bed.guestIs(
      0,
      'seen by the new agent',
      ({ engine, observedAt }) => engine === 'running' && observedAt > since,
    );
    assert.equal(await bed.qemuPid(0), pid);
    assert.equal((await bed.reported(0))?.restarts, 1);
  });

  test('libvirtd killed: the guest runs on, the agent says so, and finds both again', async () => {
    const before = await bootId();
    await bed.host.killLibvirtd();
    await bed.reportIs('aware of the missing libvirtd', ({ problems }) =>
      problems.some((each) => each.includes('libvirt')),
    );
    assert.equal(await bootId(), before);
    await bed.host.startLibvirtd();
    await bed.reportIs(
      'well again',
      ({ problems, guests }) => problems.length === 0 && guests[0]?.engine === 'running',
    );
    assert.equal(await bootId(), before);
  });

  test('killed while nobody looked: its end is found in the log, and it comes back', async () => {
    await bed.stopAgent('SIGKILL');
    await bed.host.run(['kill', '-9', await bed.qemuPid(0)]);
    assert.ok(await until(async () => !(await bed.host.run(['virsh', 'list', '--name'])).includes('g0'), 10_000, 50));
    await bed.startAgent();
    const guest = await bed.guestIs(0, 'back', ({ engine, restarts }) => engine === 'running' && restarts === 2);
    assert.equal(guest.exit?.reason, 'crashed');
    await answers();
  });

  test('pause and resume', async () => {
    const paused = await bed.change(0, { paused: true });
    await bed.guestIs(0, 'paused', ({ engine, generation }) => engine === 'paused' && generation === paused.generation);
    await assert.rejects(bed.testbed.httpGet(address, '/', { timeoutMs: 500 }));
    const resumed = await bed.change(0, { paused: false });
    await bed.guestIs(
      0,
      'running',
      ({ engine, generation }) => engine === 'running' && generation === resumed.generation,
    );
    await answers();
  });

  test('a processor and memory are changed while it runs', async () => {
    const before = await bootId();
    await wholeUp();
    await bed.change(0, { cpus: 2, memoryMiB: 160 });
    await bed.guestIs(0, 'larger', ({ cpus, memoryMiB }) => cpus === 2 && memoryMiB === 160);
    const cpus = async (): Promise<unknown> => (JSON.parse(await get('/cgi-bin/info')) as { cpus: unknown }).cpus;
    assert.ok(await until(async () => (await cpus()) === 2, 15_000, 200));
    assert.equal(await bootId(), before);
  });

  test('its disk grows while it runs', async () => {
    const grown = await bed.change(0, { diskMiB: 300 });
    await bed.guestIs(0, 'settled', ({ generation }) => generation === grown.generation);
    const info = await bed.host.run(['virsh', 'domblkinfo', 'g0', 'vda']);
    assert.match(info, new RegExp(`Capacity: +${300 * 1024 * 1024}\\b`));
  });

  test('snapshot while it runs, revert, and delete', async () => {
    const snapshot = { id: guestId(900), name: 'before', askedAt: 1, wanted: true };
    const put = (value: string): Promise<unknown> => get(`/cgi-bin/put?mark=${value}`);
    const mark = (): Promise<string> => get('/cgi-bin/get?mark');
    await put('one');
    await bed.change(0, { snapshots: [snapshot] });
    await bed.guestIs(0, 'snapshotted', ({ snapshots }) => snapshots[0]?.state === 'ready');
    await put('two');
    assert.equal(await mark(), 'two');
    await bed.change(0, { revert: { seq: 1, snapshotId: snapshot.id } });
    await bed.guestIs(0, 'reverted', ({ revertSeq, engine }) => revertSeq === 1 && engine === 'running');
    await answers();
    assert.equal(await mark(), 'one');
    const dropped = await bed.change(0, { snapshots: [{ ...snapshot, wanted: false }] });
    await bed.guestIs(
      0,
      'without it',
      ({ snapshots, generation }) => snapshots.length === 0 && generation === dropped.generation,
    );
    await answers();
    await access(bed.guestFile(0, 'disk-0.qcow2'));
    await assert.rejects(access(bed.guestFile(0, 'disk-1.qcow2')), 'the layer that was reverted away is kept');
  });

  test('rebuild begins from the image', async () => {
    await bed.change(0, { rebuildSeq: 1, snapshots: [] });
    await bed.guestIs(0, 'rebuilt', ({ rebuildSeq, engine }) => rebuildSeq === 1 && engine === 'running');
    await answers();
    assert.equal(await get('/boots'), '1');
    assert.equal(await get('/instance-id'), `${guestId(0)}-2`);
  });

  test('powered off from inside, it stays off until a start is asked for', async () => {
    await inside('(sleep 1; poweroff) & true');
    const guest = await bed.guestIs(0, 'off', ({ engine }) => engine === 'absent', 20_000);
    assert.equal(guest.exit?.reason, 'shutdown');
    const smaller = await bed.change(0, { cpus: 1 });
    await bed.guestIs(
      0,
      'settled while off',
      ({ generation, engine }) => generation === smaller.generation && engine === 'absent',
    );
    await bed.change(0, { startSeq: 1 });
    await bed.guestIs(0, 'on', ({ engine, startSeq }) => engine === 'running' && startSeq === 1);
    await answers();
  });

  test('a polite stop, and a forced one for a guest that does not listen', async () => {
    await bed.change(0, { power: 'off' });
    const guest = await bed.guestIs(0, 'off', ({ engine }) => engine === 'absent');
    assert.equal(guest.exit?.reason, 'shutdown');
    await bed.change(0, { power: 'on', startSeq: 2 });
    await answers();
    await makeDeaf();
    await bed.change(0, { power: 'off', graceSeconds: 2 });
    const forced = await bed.guestIs(0, 'off', ({ engine }) => engine === 'absent');
    assert.equal(forced.exit?.reason, 'destroyed');
  });

  test('the power of the host is cut: it starts from the stored orders, without any controller', async () => {
    await bed.change(0, { power: 'on', startSeq: 3 });
    await answers();
    await bed.guestIs(0, 'settled', ({ startSeq, engine }) => startSeq === 3 && engine === 'running');
    await bed.forgetOrders();
    await bed.host.powerCut();
    await bed.host.powerOn();
    await bed.keeper({ session: { number: 2, id: '55555552-0000-4000-8000-000000000001' } });
    await bed.startAgent();
    await answers();
    const guest = await bed.guestIs(0, 'back', ({ exit }) => exit?.reason === 'host-reboot');
    assert.equal(guest.engine, 'running');
    assert.equal((await bed.report())?.session.number, 2);
  });

  test('its serial log is kept bounded', async () => {
    // About 3 MiB through an emulated UART would take minutes: the file is filled as the guest's output would fill it.
    await bed.host.run(['sh', '-c', `head -c 1500000 /dev/zero | tr '\\0' x >> ${bed.guestFile(0, 'serial.log')}`]);
    const cut = await until(async () => (await stat(bed.guestFile(0, 'serial.log'))).size < 100_000, 15_000, 100);
    assert.ok(cut);
    assert.equal((await stat(bed.guestFile(0, 'serial.log.1'))).size, 1024 * 1024);
    await inside('echo still$((40+2))written');
    const log = async (): Promise<string> => readFile(bed.guestFile(0, 'serial.log'), 'utf8');
    assert.ok(await until(async () => (await log()).includes('still42written'), 10_000, 100));
    assert.ok(!(await log()).startsWith('\0'), 'QEMU went on at the old offset');
  });

  test('a reboot is asked for, and forced on a guest that does not listen', async () => {
    const before = await bootId();
    await makeDeaf();
    await bed.change(0, { rebootSeq: 1, graceSeconds: 1 });
    await bed.guestIs(0, 'rebooted', ({ rebootSeq, engine }) => rebootSeq === 1 && engine === 'running');
    await answers();
    assert.notEqual(await bootId(), before);
  });

  test('a removed guest is gone with its disks, and reported until it is listed no more', async () => {
    await bed.change(0, { want: 'remove' });
    const report = await bed.reportIs('without it', ({ gone }) => gone.length === 1);
    assert.equal(report.gone[0]?.id, guestId(0));
    await assert.rejects(access(bed.guestFile(0, 'seed.iso')));
    assert.equal((await bed.host.run(['virsh', 'list', '--all', '--name'])).trim(), '');
    await bed.unlist(0);
    await bed.reportIs('silent about it', ({ gone, guests }) => gone.length === 0 && guests.length === 0);
  });

  test('a clean stop of the agent', async () => {
    assert.equal(await bed.stopAgent('SIGTERM'), 0);
  });
});
