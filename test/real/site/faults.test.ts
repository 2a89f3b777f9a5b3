/** Everything that can die does, on a site of two hosts and a witness; nothing that was acknowledged is lost. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { VirgaError } from '../../../src/api/errors.ts';
import type { GuestView } from '../../../src/api/schemas.ts';
import { Authority } from '../../../src/controller/ca.ts';
import { tinyImage, type TestbedHost } from '../../../src/testbed/index.ts';
import { addressOf, memoryMiB, qemuPid, refused, Site, until, virshList } from './kit.ts';
import { certificateRequest, killFamily, postmasterPid, run } from './faults.ts';

describe('faults of a site', { timeout: 400_000 }, () => {
  let site: Site;
  let alder: TestbedHost;
  let birch: TestbedHost;
  /** `a` runs on alder, `b` on birch. */
  let a: GuestView;
  let b: GuestView;
  let work: string;

  before(async () => {
    work = await mkdtemp(join(tmpdir(), 'virga-faults-'));
    site = await Site.open({ hosts: ['alder', 'birch'], witness: true });
    alder = site.lab.testbed.host('alder');
    birch = site.lab.testbed.host('birch');
    [a, b] = (
      await Promise.all([site.run({ name: 'a', host: 'alder' }), site.run({ name: 'b', host: 'birch' })])
    ).flat() as [GuestView, GuestView];
    await Promise.all([site.answers(a), site.answers(b)]);
    await site.inState('a', 'running');
  });
  after(async () => {
    await site?.lab.close();
    await rm(work, { recursive: true, force: true });
  });

  test('QEMU killed: the guest comes back by itself, on its own disk, and the restart is counted', async () => {
    const boot = await site.ask(a, '/boot-id');
    await alder.run(['kill', '-KILL', await qemuPid(alder, 'a')]);
    await site.rebooted(a, boot);
    const guest = await site.guestIs('a', 'restarted', ({ status }) => status.observed?.restarts === 1);
    assert.equal(guest.status.state, 'running');
    assert.equal(await site.ask(a, '/boots'), '2');
  });

  test('agent killed: the guest runs on and is taken up again', async () => {
    const pid = await qemuPid(alder, 'a');
    await site.lab.killAgent('alder');
    assert.equal(await site.ask(a, '/'), 'a');
    const killedAt = new Date().toISOString();
    await site.lab.startAgent('alder');
    await site.hostIs('alder', 'heard from again', ({ status }) => (status.observedAt ?? '') > killedAt);
    const guest = await site.inState('a', 'running');
    assert.equal(guest.status.observed?.restarts, 1);
    assert.equal(await qemuPid(alder, 'a'), pid);
  });

  test('libvirtd killed: the guest runs on, the host says so, and all is well when it is back', async () => {
    const pid = await qemuPid(alder, 'a');
    await alder.killLibvirtd();
    await site.hostIs('alder', 'without libvirtd', ({ status }) =>
      status.problems.some((each) => each.includes('libvirt')),
    );
    assert.equal(await site.ask(a, '/'), 'a');
    await alder.startLibvirtd();
    await site.hostIs('alder', 'well again', ({ status }) => status.state === 'online' && status.problems.length === 0);
    const guest = await site.inState('a', 'running');
    assert.equal(guest.status.observed?.restarts, 1);
    assert.equal(await qemuPid(alder, 'a'), pid);
  });

  test('PostgreSQL killed: requests are refused in words, then served; nothing acknowledged is lost', async () => {
    let acknowledged = 0;
    let refusals = 0;
    const label = async (): Promise<void> => {
      await site.client.call('guest.change', {
        params: { guest: 'a' },
        body: { labels: { round: String(acknowledged + 1) } },
      });
      acknowledged += 1;
    };
    await label();
    killFamily(await postmasterPid(site.lab.dataDir));
    await until('the database to be back', 30_000, async () => {
      try {
        await label();
        return true;
      } catch (error) {
        if (
          !(error instanceof VirgaError) ||
          !['store_unavailable', 'not_leading', 'no_majority', 'standby'].includes(error.code)
        )
          throw error;
        refusals += 1;
        return undefined;
      }
    });
    assert.ok(refusals > 0, 'a change was acknowledged by a database that was dead');
    assert.equal(acknowledged, 2);
    assert.equal((await site.guest('a')).labels['round'], '2');
    assert.equal(await site.ask(b, '/'), 'b');
  });

  test('controller killed in the middle of a creation: the repeat with the same key makes exactly one', async () => {
    for (const name of ['once', 'again']) {
      const body = { image: 'tiny', name, memoryMiB, host: 'birch', networks: ['lab'] };
      const idempotencyKey = randomUUID();
      const first = site.client.call('guest.run', { body, idempotencyKey }).catch((error: unknown) => error);
      // Once before it can have answered, once right after: the kill hits on either side of the commit.
      if (name === 'again') await first;
      await site.lab.killController();
      await first;
      await site.lab.startController();
      const made = await site.client.call('guest.run', { body, idempotencyKey });
      const repeated = await site.client.call('guest.run', { body, idempotencyKey });
      assert.deepEqual(
        repeated.items.map(({ id }) => id),
        made.items.map(({ id }) => id),
      );
      const { items } = await site.client.call('guest.list', { query: { name } });
      assert.deepEqual(
        items.map((each) => [each.name, each.id]),
        [[name, made.items[0]?.id]],
      );
      await refused(
        'idempotency_mismatch',
        site.client.call('guest.run', { body: { ...body, memoryMiB: memoryMiB + 1 }, idempotencyKey }),
      );
    }
    assert.equal(await site.ask(a, '/'), 'a');
    await site.hostIs('birch', 'back', ({ status }) => status.state === 'online');
    await site.delete('once', 'again');
  });

  test('a certificate of another site and an agent of another protocol are refused in words', async () => {
    const breaks = async (): Promise<number> =>
      (await site.lab.log('alder')).split('the controller is away').length - 1;
    const before = await breaks();
    const own = JSON.parse(await readFile(join(alder.dir, 'agent', 'credentials.json'), 'utf8')) as Record<
      string,
      string
    >;
    const other = await Authority.create(work, own['siteId'] ?? '', 'other', Date.now());
    const { csr, key } = await certificateRequest();
    const { certificate } = await other.signHost(csr, own['hostId'] ?? '', Date.now());
    const ask = async (file: string, credentials: object, lowest: number, highest: number): Promise<StrangeEnd> => {
      const path = join(alder.dir, file);
      await writeFile(path, JSON.stringify(credentials), { mode: 0o600 });
      const program = join(import.meta.dirname, 'strange-agent.ts');
      const argv = [process.execPath, '--no-warnings', program, path, String(lowest), String(highest)];
      return JSON.parse(await alder.run(argv)) as StrangeEnd;
    };
    const foreign = await ask('foreign.json', { ...own, key, certificate }, 1, 1);
    assert.equal(foreign.status, 403, JSON.stringify(foreign));
    assert.equal(foreign.answer?.error.code, 'certificate_refused');
    const newer = await ask('newer.json', own, 98, 99);
    assert.equal(newer.told[0]?.type, 'refused', JSON.stringify(newer));
    assert.equal(newer.told[0].code, 'protocol_mismatch');
    assert.equal(newer.code, 1008);
    // Neither took the place of the real agent.
    assert.equal((await site.hostView('alder')).status.state, 'online');
    assert.equal(await breaks(), before);
  });

  test('a full disk during an upload: refused in words, and it goes on where it stood', async (t) => {
    const folder = join(site.lab.dataDir, 'images', 'uploads');
    const owner = (await run('stat', ['-c', '%u', folder])).trim();
    // Where the controller sees it: it may have a mount namespace of its own.
    const there = (...argv: string[]) => run('nsenter', ['-t', String(site.lab.controllerPid()), '-m', '--', ...argv]);
    await there('mount', '-t', 'tmpfs', '-o', `size=4m,mode=700,uid=${owner}`, 'tmpfs', folder);
    t.after(() => there('umount', '-l', folder));
    const tiny = await tinyImage();
    const bytes = await readFile(tiny.path);
    await site.client.call('image.add', { body: { name: 'big', format: 'qcow2', sizeBytes: bytes.length } });
    const params = { image: 'big' };
    const send = async (from: number): Promise<void> => {
      const headers = { 'upload-offset': String(from) };
      const sent = await site.client.raw('image.upload', { params, headers, bytes: bytes.subarray(from) });
      await sent.body.dump();
    };
    await refused('disk_full', send(0));
    const offset = await site.client.raw('image.offset', { params });
    await offset.body.dump();
    const at = Number(offset.headers['upload-offset']);
    assert.ok(at > 0 && at <= 4 * 1024 * 1024, `it stands at ${at}`);
    await there('mount', '-o', 'remount,size=64m', folder);
    await send(at);
    const image = await site.client.call('image.show', { params });
    assert.equal(image.status.receivedBytes, bytes.length);
    await site.client.call('image.delete', { params });
  });

  test('power and network cut: guests are unknown and start nowhere else; each comes back by its own means', async () => {
    const pid = await qemuPid(alder, 'a');
    const boot = await site.ask(b, '/boot-id');
    const stays = async (guest: GuestView): Promise<void> => {
      const seen = await site.inState(guest.name, 'unknown');
      assert.equal(seen.status.placement?.hostId, guest.status.placement?.hostId);
    };
    await alder.cutNetwork();
    await site.hostIs('alder', 'lost', ({ status }) => status.state === 'lost');
    // Its disk is only there: it is not frozen, and it starts nowhere else.
    await stays(a);
    assert.deepEqual(await virshList(alder), ['a']);
    await alder.restoreNetwork();
    await site.inState('a', 'running');
    assert.equal(await qemuPid(alder, 'a'), pid);

    await birch.powerCut();
    await site.hostIs('birch', 'lost', ({ status }) => status.state === 'lost');
    await stays(b);
    const remove = (lost?: string) =>
      site.client.call('host.remove', { params: { host: 'birch' }, query: lost ? { lost } : {} });
    await refused('host_not_lost', remove());
    await refused('confirmation_required', remove('alder'));

    await site.lab.killController();
    await site.lab.powerOn('birch');
    await until('b started from the stored assignment', 30_000, async () =>
      (await virshList(birch)).includes('b') ? true : undefined,
    );
    await site.lab.startController();
    await site.rebooted(b, boot);
    assert.equal(await site.ask(b, '/boots'), '2');
    await site.inState('b', 'running');
    assert.deepEqual(await virshList(alder), ['a']);
    assert.deepEqual(await virshList(birch), ['b']);
  });

  test('a restored backup destroys nothing that it does not know until a person has decided', async () => {
    const answer = await site.client.raw('site.backup', { body: {} });
    const file = join(work, 'site.backup');
    await writeFile(file, Buffer.from(await answer.body.arrayBuffer()), { mode: 0o600 });
    // Not encrypted, so without the authority's key: hosts know the site again by the key in the data folder.
    assert.match(String(answer.headers['virga-secrets-left-out']), /ca\.key/);
    const late = await site.run({ name: 'late', count: 2 });
    await Promise.all(late.map((guest) => site.inState(guest.name, 'running')));
    const [keep, drop] = late;
    assert.ok(keep && drop);
    const keptOn = await site.hostOf(keep);
    const droppedOn = await site.hostOf(drop);
    const pid = await qemuPid(keptOn, keep.name);

    await site.lab.stopController();
    await site.lab.restore(file);
    await site.lab.startController();
    const review = await until('both in the review', 30_000, async () => {
      const now = await site.client.call('site.review');
      return now.items.length === 2 ? now : undefined;
    });
    assert.equal(review.pending, true);
    assert.deepEqual(
      review.items.map(({ name, what, running, guestId }) => `${name} ${what} ${running} ${guestId}`).toSorted(),
      late.map(({ name, id }) => `${name} stray true ${id}`).toSorted(),
    );
    await refused('review_pending', site.client.call('guest.rebuild', { params: { guest: 'a' }, body: {} }));

    await site.client.call('site.decide', { body: { guestId: keep.id, decision: 'adopt' } });
    await site.inState(keep.name, 'running');
    assert.equal(await qemuPid(keptOn, keep.name), pid);
    await site.client.call('site.decide', { body: { guestId: drop.id, decision: 'destroy' } });
    await until('the stray to be gone', 15_000, async () =>
      (await site.client.call('site.review')).items.length === 0 ? true : undefined,
    );
    assert.ok(!(await virshList(droppedOn, '--all')).includes(drop.name));
    await until('its disks to be gone', 10_000, async () =>
      (await readdir(join(droppedOn.dir, 'agent', 'guests'))).includes(drop.id) ? undefined : true,
    );
    assert.equal((await site.client.call('site.reviewed', { body: {} })).pending, false);
    await site.inState('a', 'running');
    await site.inState('b', 'running');
    await site.answers(keep);
  });

  test('a host lost for ever: kept disks are lost and said to be, fresh guests start elsewhere', async () => {
    const [fresh] = await site.run({ name: 'fresh', diskMode: 'fresh', host: 'birch' });
    assert.ok(fresh);
    await site.inState('fresh', 'running');
    await birch.powerCut();
    await site.hostIs('birch', 'lost', ({ status }) => status.state === 'lost');
    await site.client.call('host.remove', { params: { host: 'birch' }, query: { lost: 'birch' } });
    await refused('not_found', site.client.call('host.show', { params: { host: 'birch' } }));
    const lost = await site.inState('b', 'failed');
    assert.match(lost.status.stateReason ?? '', /lost with host birch/);
    const moved = await site.inState('fresh', 'running');
    assert.equal((await site.hostOf(moved)).name, 'alder');
    await site.answers(fresh);
    await site.client.call('guest.rebuild', { params: { guest: 'b' }, body: {} });
    const rebuilt = await site.inState('b', 'running');
    assert.equal((await site.hostOf(rebuilt)).name, 'alder');
    assert.equal(addressOf(rebuilt), addressOf(b));
  });
});

interface StrangeEnd {
  readonly told: readonly { readonly type: string; readonly code?: string }[];
  readonly status?: number;
  readonly answer?: { readonly error: { readonly code: string } };
  readonly code?: number;
}
