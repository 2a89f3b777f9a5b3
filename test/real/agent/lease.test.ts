/** Highly available guests under one agent, with real groups of the kernel and a lease that the test holds. */
import assert from 'node:assert/strict';
import { access, readFile } from 'node:fs/promises';
import { after, before, describe, test } from 'node:test';
import { guestAddress } from '../../../src/testbed/index.ts';
import { until } from '../../../src/testbed/proc.ts';
import { AgentBed } from './kit.ts';
import { guestId, orderOf } from './orders.ts';

const ha = { ha: true, diskMode: 'fresh' } as const;
const session = (number: number): { number: number; id: string } => ({
  number,
  id: `5555555${number}-0000-4000-8000-000000000001`,
});

describe('guests under a lease', { timeout: 400_000 }, () => {
  let bed: AgentBed;
  const { address } = guestAddress(0);
  const get = async (path: string): Promise<string> =>
    (await bed.testbed.httpGet(address, path, { timeoutMs: 15_000 })).body.trim();
  const answers = (): Promise<unknown> => bed.testbed.httpWait(address, { body: 'g0', timeoutMs: 30_000 });
  const groupOf = async (index: number): Promise<string> => {
    const pid = await bed.qemuPid(index);
    const text = await bed.host.run(['cat', `/proc/${pid}/cgroup`]);
    return /^0::(.*)$/m.exec(text)?.[1] ?? '';
  };

  before(async () => {
    bed = await AgentBed.open();
    await bed.startAgent();
  });
  after(() => bed.close());

  test('starts inside its session’s group; an ordinary guest beside it does not', async () => {
    await bed.order(orderOf(0, bed.image, ha), orderOf(1, bed.image));
    const guest = await bed.guestIs(0, 'inside', ({ engine, inside }) => engine === 'running' && inside === true);
    assert.equal(guest.frozen, undefined);
    assert.match(await groupOf(0), new RegExp(`/virga/11111111/s1-[0-9a-f]{8}/${guestId(0)}$`));
    await answers();
    await bed.guestIs(1, 'outside', ({ engine, inside }) => engine === 'running' && inside === undefined);
    assert.doesNotMatch(await groupOf(1), /virga/);
  });

  test('the lease lapses: frozen and reported so, others obey meanwhile, and it goes on afterwards', async () => {
    const bootId = await get('/boot-id');
    await bed.keeper({ lease: 'lapsed' });
    await bed.guestIs(0, 'frozen', ({ frozen, engine }) => frozen === true && engine === 'running');
    await assert.rejects(bed.testbed.httpGet(address, '/', { timeoutMs: 500 }));
    // Orders that would ask its machine wait; those of the guest beside it do not.
    const larger = await bed.change(0, { cpus: 2, paused: true });
    const stopped = await bed.change(1, { power: 'off', graceSeconds: 1 });
    await bed.guestIs(1, 'off', ({ engine, generation }) => engine === 'absent' && generation === stopped.generation);
    const since = Date.now();
    const { lease } = await bed.reportIs('told again and again', ({ observedAt }) => observedAt > since + 4000);
    assert.equal(lease?.state, 'lapsed');
    await bed.change(0, { paused: false });
    await bed.keeper({ lease: 'held' });
    await bed.guestIs(
      0,
      'larger',
      ({ cpus, frozen, generation }) => cpus === 2 && frozen === undefined && generation > larger.generation,
    );
    assert.equal(await get('/boot-id'), bootId);
  });

  test('the agent killed while its guest is frozen: the next one leaves it alone, and it goes on', async () => {
    const pid = await bed.qemuPid(0);
    await bed.keeper({ lease: 'lapsed' });
    await bed.guestIs(0, 'frozen', ({ frozen }) => frozen === true);
    await bed.stopAgent('SIGKILL');
    const since = Date.now();
    await bed.startAgent();
    await bed.guestIs(0, 'seen frozen', ({ frozen, observedAt }) => frozen === true && observedAt > since);
    await bed.keeper({ lease: 'held' });
    await bed.guestIs(0, 'on', ({ frozen }) => frozen === undefined);
    assert.equal(await bed.qemuPid(0), pid);
    await answers();
  });

  test('a frozen guest is stopped at once, by its group and not by libvirt’s patience', async (t) => {
    await bed.keeper({ lease: 'lapsed' });
    await bed.guestIs(0, 'frozen', ({ frozen }) => frozen === true);
    const begun = performance.now();
    await bed.change(0, { power: 'off' });
    await bed.guestIs(0, 'off', ({ engine }) => engine === 'absent');
    const took = performance.now() - begun;
    t.diagnostic(`stopped in ${Math.round(took)} ms`);
    assert.ok(took < 5000, `${took} ms`);
    await bed.keeper({ lease: 'held' });
  });

  test('killed between making and resuming: the next agent lets it in', async () => {
    await bed.keeper({ stall: true });
    await bed.change(0, { power: 'on', startSeq: 1 });
    await bed.guestIs(0, 'made', ({ engine }) => engine === 'paused' || engine === 'absent');
    const paused = async (): Promise<boolean> =>
      /g0 +paused/.test(await bed.host.run(['virsh', 'list', '--all']).catch(() => ''));
    assert.ok(await until(paused, 20_000, 50), 'made, and not resumed');
    const pid = await bed.qemuPid(0);
    await bed.stopAgent('SIGKILL');
    await bed.keeper({ stall: false });
    await bed.startAgent();
    await bed.guestIs(0, 'inside', ({ engine, inside }) => engine === 'running' && inside === true);
    assert.equal(await bed.qemuPid(0), pid, 'the same machine, not another one');
    await answers();
  });

  test('the session is over: its guests ended with it, and start only under orders for the next one', async () => {
    await bed.change(1, { power: 'on', startSeq: 1 });
    await bed.guestIs(1, 'on', ({ engine }) => engine === 'running');
    const other = await bed.qemuPid(1);
    bed.session = session(1);
    await bed.order();
    await bed.keeper({ session: session(2) });
    const ended = await bed.guestIs(
      0,
      'ended',
      ({ engine, exit }) => engine === 'absent' && exit?.reason === 'lease-lost',
    );
    assert.equal(ended.restarts, 0);
    const { session: told } = await bed.reportIs('of the next session', (report) => report.session.number === 2);
    assert.deepEqual(told, session(2));
    bed.session = session(2);
    await bed.change(0, {});
    await bed.guestIs(0, 'inside again', ({ engine, inside }) => engine === 'running' && inside === true);
    assert.match(await groupOf(0), /s2-55555552/);
    assert.equal(await bed.qemuPid(1), other, 'the other guest noticed nothing');
  });

  test('a running guest becomes highly available without a restart', async () => {
    const pid = await bed.qemuPid(1);
    await bed.change(1, ha);
    await bed.guestIs(1, 'inside', ({ inside }) => inside === true);
    assert.equal(await bed.qemuPid(1), pid);
    assert.match(await groupOf(1), /s2-55555552/);
  });

  test('no keeper: reported, nothing is touched, nothing is gone; then removed, and its group with it', async () => {
    await bed.keeper({ away: true });
    await bed.reportIs(
      'without a lease',
      ({ lease, problems }) => lease === undefined && /keeper/.test(problems.join()),
    );
    await bed.change(0, { want: 'remove' });
    const since = Date.now();
    const waiting = await bed.reportIs('still there', ({ observedAt }) => observedAt > since + 2500);
    assert.deepEqual(waiting.gone, []);
    await answers();
    await bed.keeper({ away: false });
    await bed.reportIs('without it', ({ gone }) => gone.some(({ id }) => id === guestId(0)));
    await assert.rejects(access(bed.guestFile(0, 'disk-0.qcow2')));
    const register = JSON.parse(await readFile(bed.controlFile('keeper-register.json'), 'utf8')) as {
      readonly entries: object;
    };
    assert.deepEqual(Object.keys(register.entries), [guestId(1)]);
  });
});
