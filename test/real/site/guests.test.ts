/** The life of guests on a site of two hosts: every word of `virga guest`, seen from the API, libvirt and the guest. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { tinyImage } from '../../../src/testbed/index.ts';
import { addressOf, memoryMiB, refused, Site, until, virshList } from './kit.ts';

describe('guests of a site', { timeout: 400_000 }, () => {
  let site: Site;
  const act = async (
    operation: 'guest.start' | 'guest.reboot' | 'guest.pause' | 'guest.resume' | 'guest.rebuild' | 'guest.unhold',
    guest: string,
  ): Promise<void> => {
    await site.client.call(operation, { params: { guest }, body: {} });
  };

  before(async () => {
    site = await Site.open({ hosts: ['alder', 'birch'] });
  });
  after(() => site?.lab.close());

  test('with --count all or nothing, with --partial as many as fit', async () => {
    const body = { image: 'tiny', name: 'many', count: 3, memoryMiB: 1500, networks: ['lab'] };
    const error = await refused('no_placement', site.client.call('guest.run', { body }));
    assert.match(error.message, /memory/);
    assert.deepEqual((await site.client.call('guest.list')).items, []);
    const partial = await site.client.call('guest.run', { body: { ...body, partial: true } });
    assert.deepEqual(
      partial.items.map(({ name }) => name),
      ['many-1', 'many-2'],
    );
    assert.equal(partial.refused.length, 1);
    assert.match(partial.refused[0] ?? '', /many-3.*memory/);
    await site.delete('many-1', 'many-2');
  });

  test('three guests start, know their names and addresses, and ran their user data once', async () => {
    const created = await site.run({
      name: 'web',
      count: 3,
      maxCpus: 2,
      labels: { role: 'web' },
      userData: '#!/bin/sh\necho "first boot of $(hostname)"\n',
    });
    assert.deepEqual(
      created.map(({ name }) => name),
      ['web-1', 'web-2', 'web-3'],
    );
    await Promise.all(created.map((guest) => site.answers(guest)));
    for (const guest of created) {
      const { status, spec } = await site.inState(guest.name, 'running');
      assert.equal(status.observed?.restarts, 0);
      assert.ok(
        status.observed.addresses.some(({ source, address }) => source === 'assigned' && address === addressOf(guest)),
      );
      assert.equal(await site.ask(guest, '/instance-id'), `${guest.id}-1`, 'instance id');
      await until('user data', 15_000, async () =>
        (await site.ask(guest, '/user-data.log')) === `first boot of ${guest.name}` ? true : undefined,
      );
      assert.ok(spec.nics[0]?.ipv6, 'no IPv6 address was assigned');
    }
  });

  test('both hosts carry guests, libvirt lists the same ones, and each host fetched the image once', async () => {
    const { items } = await site.client.call('guest.list');
    for (const host of await site.lab.hosts()) {
      const placed = items.filter((guest) => guest.status.placement?.hostId === host.id).map(({ name }) => name);
      assert.ok(placed.length >= 1, `${host.name} carries none of three guests`);
      assert.deepEqual(await virshList(site.lab.testbed.host(host.name)), placed.toSorted());
      const fetches = (await site.lab.log(host.name)).split('\n').filter((line) => line.includes('"image fetch"'));
      assert.equal(fetches.length, 1, `${host.name} fetched the image ${fetches.length} times`);
    }
  });

  test('labels and filters choose; labels change one by one', async () => {
    const names = async (query: object): Promise<readonly string[]> =>
      (await site.client.call('guest.list', { query })).items.map(({ name }) => name);
    await site.client.call('guest.change', { params: { guest: 'web-2' }, body: { labels: { role: 'db', tier: '1' } } });
    assert.deepEqual(await names({ label: 'role=web' }), ['web-1', 'web-3']);
    assert.deepEqual(await names({ label: 'role!=web,tier' }), ['web-2']);
    assert.deepEqual(await names({ name: 'web', state: 'running' }), ['web-1', 'web-2', 'web-3']);
    assert.deepEqual(await names({ state: 'stopped' }), []);
    const host = await site.hostOf(await site.guest('web-1'));
    assert.ok((await names({ host: host.name })).includes('web-1'));
    const { labels } = await site.client.call('guest.change', {
      params: { guest: 'web-2' },
      body: { labels: { tier: null } },
    });
    assert.deepEqual(labels, { role: 'db' });
    await refused('invalid_request', site.client.call('guest.list', { query: { state: 'happy' } }));
  });

  test('explain names the host, its reasons, and judges the other', async () => {
    const host = await site.hostOf(await site.guest('web-1'));
    const said = await site.client.call('guest.explain', { params: { guest: 'web-1' } });
    assert.equal(said.host, host.name);
    assert.ok(said.reasons.length > 0);
    assert.deepEqual(
      said.hosts.map((each) => [each.chosen, each.fits]),
      [
        [true, true],
        [false, true],
      ],
    );
  });

  test('the console takes a command and gives its answer; the log holds the boot', async () => {
    assert.match(await site.typed('web-1', 'echo "sum $((40 + 2)) on $(hostname)"'), /^sum 42 on web-1\r?$/m);
    const log = await site.client.raw('guest.log', { params: { guest: 'web-1' } });
    assert.match(await log.body.text(), /tiny: web-1 answers HTTP on/);
    await refused('not_found', site.client.call('guest.show', { params: { guest: 'web-9' } }));
  });

  test('pause freezes it, resume goes on with the same boot', async () => {
    const guest = await site.guest('web-1');
    const boot = await site.ask(guest, '/boot-id');
    await act('guest.pause', 'web-1');
    await site.inState('web-1', 'paused');
    await assert.rejects(site.lab.testbed.httpGet(addressOf(guest), '/', { timeoutMs: 500 }));
    await refused('not_allowed', site.client.call('guest.reboot', { params: { guest: 'web-1' }, body: {} }));
    await act('guest.resume', 'web-1');
    await site.inState('web-1', 'running');
    assert.equal(await site.ask(guest, '/boot-id'), boot);
  });

  test('it gets a second CPU while it runs, and no more than its upper bound', async () => {
    const guest = await site.guest('web-1');
    assert.equal(JSON.parse(await site.ask(guest, '/cgi-bin/info')).cpus, 1);
    const boot = await site.ask(guest, '/boot-id');
    await site.client.call('guest.resize', { params: { guest: 'web-1' }, body: { cpus: 2 } });
    await until('two CPUs in the guest', 20_000, async () =>
      JSON.parse(await site.ask(guest, '/cgi-bin/info')).cpus === 2 ? true : undefined,
    );
    await site.guestIs('web-1', 'observed with two CPUs', ({ status }) => status.observed?.cpus === 2);
    assert.equal(await site.ask(guest, '/boot-id'), boot, 'it is the same run of the guest');
    await refused('limit', site.client.call('guest.resize', { params: { guest: 'web-1' }, body: { cpus: 3 } }));
  });

  test('hold keeps it exactly as it is until unhold', async () => {
    await site.client.call('guest.hold', { params: { guest: 'web-2' }, body: { reason: 'an incident' } });
    const stop = () => site.client.call('guest.stop', { params: { guest: 'web-2' }, body: {} });
    assert.match((await refused('held', stop())).message, /an incident/);
    await refused('held', site.client.call('guest.delete', { params: { guest: 'web-2' } }));
    assert.equal((await site.guest('web-2')).status.state, 'running');
    await act('guest.unhold', 'web-2');
    await stop();
    await site.inState('web-2', 'stopped');
    assert.ok(!(await virshList(await site.hostOf(await site.guest('web-2')))).includes('web-2'));
  });

  test('stop was polite, and a kept disk keeps its content over stop and start', async () => {
    const log = await site.client.raw('guest.log', { params: { guest: 'web-2' } });
    assert.match(await log.body.text(), /Requesting system poweroff/);
    await act('guest.start', 'web-2');
    const guest = await site.inState('web-2', 'running');
    await site.answers(guest);
    assert.equal(await site.ask(guest, '/boots'), '2');
    assert.equal((await site.guest('web-2')).status.observed?.exit?.reason ?? 'shutdown', 'shutdown');
  });

  test('reboot boots again in the same QEMU’s place, with the same disk', async () => {
    const guest = await site.guest('web-2');
    const boot = await site.ask(guest, '/boot-id');
    await act('guest.reboot', 'web-2');
    await site.rebooted(guest, boot);
    assert.equal(await site.ask(guest, '/boots'), '3');
  });

  test('a snapshot is taken, and reverting brings back what was then', async () => {
    const params = { guest: 'web-2' };
    const guest = await site.guest('web-2');
    assert.equal(await site.ask(guest, '/cgi-bin/put?word=before'), 'kept');
    await site.client.call('guest.snapshot', { params, body: { name: 'then' } });
    await refused('name_taken', site.client.call('guest.snapshot', { params, body: { name: 'then' } }));
    await site.guestIs('web-2', 'snapshotted', ({ status }) => status.observed?.snapshots[0]?.state === 'ready');
    assert.equal(await site.ask(guest, '/cgi-bin/put?word=after'), 'kept');
    const boot = await site.ask(guest, '/boot-id');
    await site.client.call('guest.revert', { params: { ...params, snapshot: 'then' }, body: {} });
    await site.rebooted(guest, boot);
    assert.equal(await site.ask(guest, '/cgi-bin/get?word'), 'before');
    await site.client.call('guest.unsnapshot', { params: { ...params, snapshot: 'then' } });
    await site.guestIs(
      'web-2',
      'without snapshots',
      ({ spec, status }) => spec.snapshots.length === 0 && status.observed?.snapshots.length === 0,
    );
    assert.equal(await site.ask(guest, '/cgi-bin/get?word'), 'before');
  });

  test('rebuild gives it its original image again', async () => {
    const guest = await site.guest('web-2');
    const boot = await site.ask(guest, '/boot-id');
    await act('guest.rebuild', 'web-2');
    await site.rebooted(guest, boot);
    assert.equal(await site.ask(guest, '/boots'), '1');
    assert.match(await site.ask(guest, '/cgi-bin/get?word'), /nothing kept/);
  });

  test('a fresh disk begins anew at each start', async () => {
    await site.delete('web-3');
    const [guest] = await site.run({ name: 'fresh', diskMode: 'fresh', graceSeconds: 0 });
    assert.ok(guest);
    await site.answers(guest);
    assert.equal(await site.ask(guest, '/cgi-bin/put?word=lost'), 'kept');
    const boot = await site.ask(guest, '/boot-id');
    await site.client.call('guest.stop', { params: { guest: 'fresh' }, body: { force: true } });
    await site.inState('fresh', 'stopped');
    await act('guest.start', 'fresh');
    await site.rebooted(guest, boot);
    assert.equal(await site.ask(guest, '/boots'), '1');
    assert.match(await site.ask(guest, '/cgi-bin/get?word'), /nothing kept/);
    await refused('invalid_request', site.client.call('guest.snapshot', { params: { guest: 'fresh' }, body: {} }));
  });

  test('powered off from inside it stays off', async () => {
    await site.typed('fresh', '(usleep 300000; poweroff) & true');
    const guest = await site.inState('fresh', 'stopped');
    assert.equal(guest.status.stateReason, 'powered off from inside');
    assert.equal(guest.spec.power, 'on');
  });

  test('a foreign domain is shown and counted, adopted on request, and given back as it was', async () => {
    const host = site.lab.testbed.host('alder');
    const uuid = '5b1b7c1e-6a4e-4a7c-9a53-0c4c0f3a7d11';
    const xml = `<domain type="qemu"><name>legacy</name><uuid>${uuid}</uuid><memory unit="MiB">${memoryMiB}</memory>
      <vcpu>1</vcpu><os><type arch="x86_64" machine="pc-q35-7.2">hvm</type></os></domain>`;
    await writeFile(join(host.dir, 'legacy.xml'), xml);
    await host.run(['virsh', 'define', join(host.dir, 'legacy.xml')]);
    await host.run(['virsh', 'start', 'legacy']);
    const pid = (await host.run(['cat', '/run/libvirt/qemu/legacy.pid'])).trim();
    const seen = await site.hostIs(
      'alder',
      'aware of the foreign domain',
      ({ status }) => status.foreign[0]?.running === true,
    );
    assert.deepEqual(seen.status.foreign[0], {
      uuid,
      name: 'legacy',
      running: true,
      cpus: 1,
      memoryMiB,
      persistent: true,
      autostart: false,
    });
    await refused('domain_not_found', site.client.call('guest.adopt', { body: { host: 'birch', domain: 'legacy' } }));
    const adopted = await site.client.call('guest.adopt', { body: { host: 'alder', domain: 'legacy', name: 'old' } });
    assert.equal(adopted.id, uuid);
    await site.inState('old', 'running');
    await site.hostIs('alder', 'without foreign domains', ({ status }) => status.foreign.length === 0);
    assert.equal((await host.run(['cat', '/run/libvirt/qemu/legacy.pid'])).trim(), pid, 'it was restarted');
    await site.client.call('guest.release', { params: { guest: 'old' }, body: {} });
    await site.gone('old');
    await site.hostIs('alder', 'aware of it again', ({ status }) => status.foreign[0]?.name === 'legacy');
    assert.equal((await host.run(['cat', '/run/libvirt/qemu/legacy.pid'])).trim(), pid, 'it was restarted');
    assert.deepEqual(await virshList(host, '--all', '--persistent'), ['legacy']);
    await host.run(['virsh', 'destroy', 'legacy']);
    await host.run(['virsh', 'undefine', 'legacy']);
  });

  test('a cordoned host takes no new guest, and explain says why one is nowhere', async () => {
    for (const host of ['alder', 'birch'])
      await site.client.call('host.change', { params: { host }, body: { cordoned: true, cordonReason: 'new disks' } });
    const error = await refused('no_placement', site.run({ name: 'homeless' }));
    assert.match(error.message, /cordoned/);
    assert.equal((await site.guest('web-1')).status.state, 'running');
    const said = await site.client.call('guest.explain', { params: { guest: 'web-1' } });
    assert.ok(
      said.hosts.every((host) => host.reasons.some((each) => each.includes('new disks'))),
      JSON.stringify(said),
    );
    for (const host of ['alder', 'birch'])
      await site.client.call('host.change', { params: { host }, body: { cordoned: false } });
  });

  test('an image in use is not deleted, and says by whom; a download has the very bytes that were given', async () => {
    const error = await refused('in_use', site.client.call('image.delete', { params: { image: 'tiny' } }));
    assert.match(error.message, /web-1/);
    const tiny = await tinyImage();
    const answer = await site.client.raw('image.download', { params: { image: 'tiny' } });
    const hash = createHash('sha512');
    for await (const chunk of answer.body) hash.update(chunk as Uint8Array);
    const image = await site.client.call('image.show', { params: { image: 'tiny' } });
    assert.equal(hash.digest('hex'), image.status.stored?.sha512);
    assert.equal(image.status.givenSha512, tiny.sha512);
    await refused('in_use', site.client.call('network.delete', { params: { network: 'lab' } }));
  });

  test('a deleted guest leaves no domain, no disk and no address behind; then the image may go', async () => {
    const guests = (await site.client.call('guest.list')).items;
    const address = addressOf(await site.guest('web-1'));
    await site.delete(...guests.map(({ name }) => name));
    for (const host of site.lab.testbed.hosts) {
      assert.deepEqual(await virshList(host, '--all'), []);
      const folder = join(host.dir, 'agent', 'guests');
      await until(`${host.name} to forget them`, 10_000, async () =>
        (await readdir(folder)).length === 0 ? true : undefined,
      );
    }
    const [next] = await site.run({ name: 'next', addresses: { lab: address } });
    assert.equal(next && addressOf(next), address);
    await site.delete('next');
    await site.client.call('network.delete', { params: { network: 'lab' } });
    await site.client.call('image.delete', { params: { image: 'tiny' } });
    await refused('not_found', site.client.call('image.show', { params: { image: 'tiny' } }));
  });
});
