/** The client against a real libvirtd with its test driver. */
import assert from 'node:assert/strict';
import { rename, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import {
  attr,
  child,
  el,
  LibvirtClient,
  LibvirtError,
  LIFECYCLE_EVENTS,
  need,
  parseXml,
  STATS,
  text,
  toXml,
  type Dom,
  type EventBody,
} from '../../../src/libvirt/index.ts';
import { startDaemon, until, type TestDaemon } from './daemon.ts';

let daemon: TestDaemon;
let client: LibvirtClient;
let dom: Dom;

before(async () => {
  daemon = await startDaemon();
  client = await LibvirtClient.open({ uri: 'test:///default', socket: daemon.socket });
  dom = await client.lookupByName('test');
});

after(async () => {
  await client?.close();
  await daemon?.stop();
});

function domainXml(name: string): string {
  return toXml(
    el(
      'domain',
      { type: 'test' },
      el('name', null, name),
      el('memory', null, 8192),
      el('os', null, el('type', null, 'hvm')),
    ),
  );
}

test('who is there', async () => {
  assert.match((await client.versions()).libvirt, /^\d+\.\d+\.\d+$/);
  assert.equal(await client.hostname(), 'virga-test');
  assert.equal((await client.call('connectGetType')).type, 'TEST');
  assert.equal((await client.call('connectGetUri')).uri, 'test:///default');
  const info = await client.call('nodeGetInfo');
  assert.equal(info.model, 'i686');
  assert.deepEqual([info.cpus, info.nodes, info.memory], [16, 2, 3_145_728n]);
  assert.equal(parseXml(await client.capabilities(), { root: 'capabilities' }).localName, 'capabilities');
});

test('a domain from start to end, seen by its events', async () => {
  const seen: EventBody<'lifecycle'>[] = [];
  const other = await LibvirtClient.open({ uri: 'test:///default', socket: daemon.socket });
  const subscription = await other.on('lifecycle', (body) => void (body.dom.name === 'one' && seen.push(body)));
  const one = await client.createXML(domainXml('one'));
  assert.ok(one.id > 0);
  assert.deepEqual(await client.domainState(one), { state: 'running', reason: 1 });
  await client.suspend(one);
  assert.equal((await client.domainState(one)).state, 'paused');
  await client.resume(one);
  assert.equal(text(parseXml(await client.xmlDesc(one), { root: 'domain' }), 'name'), 'one');
  assert.ok((await client.listDomains()).some(({ name }) => name === 'one'));
  assert.equal((await client.findByUuid(one.uuid))?.name, 'one');
  await client.destroy(one);
  assert.equal(await client.findByUuid(one.uuid), undefined);
  await until('the events arrive', () => seen.length >= 4);
  const names = seen.map(({ event }) => LIFECYCLE_EVENTS[event]);
  assert.deepEqual(names, ['started', 'suspended', 'resumed', 'stopped']);
  subscription[Symbol.dispose]();
  await other.close();
});

test('a subscription that ended sends nothing, and can be made again', async () => {
  let count = 0;
  const first = await client.on('lifecycle', () => void (count += 1));
  first[Symbol.dispose]();
  first[Symbol.dispose]();
  await client.suspend(dom);
  await client.resume(dom);
  await client.call('connectGetType');
  assert.equal(count, 0);
  const second = await client.on('lifecycle', () => void (count += 1));
  await client.suspend(dom);
  await client.resume(dom);
  await until('both events', () => count === 2);
  second[Symbol.dispose]();
});

test('events of pools and networks', async () => {
  const events: string[] = [];
  const pools = await client.on('poolLifecycle', ({ pool, event }) => void events.push(`${pool.name} ${event}`));
  const nets = await client.on('networkLifecycle', ({ net, event }) => void events.push(`${net.name} ${event}`));
  const pool = await client.storage.lookupPool('default-pool');
  await client.storage.stopPool(pool);
  await client.storage.startPool(pool);
  const { net } = await client.call('networkLookupByName', { name: 'default' });
  await client.call('networkDestroy', { net });
  await client.call('networkCreate', { net });
  await until('four events', () => events.length === 4);
  assert.deepEqual(events.sort(), ['default 2', 'default 3', 'default-pool 2', 'default-pool 3']);
  pools[Symbol.dispose]();
  nets[Symbol.dispose]();
});

test('errors carry libvirt’s own numbers and names', async () => {
  await assert.rejects(client.lookupByName('nobody'), (error) => {
    assert.ok(error instanceof LibvirtError);
    assert.deepEqual([error.kind, error.code, error.codeName], ['libvirt', 42, 'VIR_ERR_NO_DOMAIN']);
    assert.deepEqual([error.domainName, error.procedure], ['VIR_FROM_TEST', 'domainLookupByName']);
    assert.match(error.message, /not found/);
    return true;
  });
  await assert.rejects(client.createXML('<domain'), { codeName: 'VIR_ERR_XML_DETAIL' });
  await assert.rejects(client.call('domainMonitorCommand', { dom, cmd: '{}' }), { kind: 'libvirt' });
  await assert.rejects(client.lookupByUuid('nonsense'), { kind: 'argument' });
  const readonly = await LibvirtClient.open({ uri: 'test:///default', socket: daemon.socket, readonly: true });
  await assert.rejects(readonly.destroy(dom), { code: 29, codeName: 'VIR_ERR_OPERATION_DENIED' });
  await readonly.close();
});

test('metadata under a namespace of our own', async () => {
  const uri = 'urn:example:guest:1';
  assert.equal(await client.getMetadata(dom, uri), undefined);
  await client.setMetadata(dom, {
    uri,
    key: 'g',
    xml: toXml(el('guest', { id: 'a"<b' }, el('owner', null, 'ann & bob'))),
  });
  const guest = parseXml((await client.getMetadata(dom, uri)) ?? '', { root: 'guest' });
  assert.equal(attr(guest, 'id'), 'a"<b');
  const inDomain = child(need(parseXml(await client.xmlDesc(dom)), 'metadata'), 'guest', uri);
  assert.ok(inDomain);
  const owner = child(inDomain, 'owner', uri) ?? child(inDomain, 'owner');
  assert.equal(owner?.textContent, 'ann & bob');
  await client.setMetadata(dom, { uri, key: 'g', xml: null });
  assert.equal(await client.getMetadata(dom, uri), undefined);
});

test('bulk statistics of 100 domains, by name', async () => {
  const names = Array.from({ length: 100 }, (_, index) => `bulk-${index}`);
  const doms = await Promise.all(names.map((name) => client.createXML(domainXml(name))));
  const stats = await client.allDomainStats(STATS.state);
  const running = stats.filter(({ dom, stats }) => dom.name.startsWith('bulk-') && stats.number('state.state') === 1);
  assert.equal(running.length, 100);
  const some = await client.allDomainStats(STATS.state, { doms: doms.slice(0, 3) });
  assert.deepEqual(some.map(({ dom }) => dom.name).sort(), ['bulk-0', 'bulk-1', 'bulk-2']);
  await Promise.all(doms.map((dom) => client.destroy(dom)));
});

test('thousands of calls at once stay within the bounds and all come back', async () => {
  const calls = Array.from({ length: 1000 }, () => client.domainState(dom));
  const states = await Promise.all(calls);
  assert.ok(states.every(({ state }) => state === 'running'));
  const tooMany = await Promise.allSettled(Array.from({ length: 3000 }, () => client.domainState(dom)));
  const refused = tooMany.filter((outcome) => outcome.status === 'rejected');
  assert.ok(
    refused.length > 0 && refused.every(({ reason }) => reason instanceof LibvirtError && reason.kind === 'busy'),
  );
  assert.equal((await client.domainState(dom)).state, 'running');
});

test('pools and volumes of the test driver', async () => {
  const pool = await client.storage.lookupPool('default-pool');
  const before = await client.storage.poolInfo(pool);
  const xml = toXml(el('volume', null, el('name', null, 'disk'), el('capacity', { unit: 'MiB' }, 5)));
  const vol = await client.storage.createVolume(pool, xml);
  assert.equal(text(parseXml(await client.storage.volumeXml(vol), { root: 'volume' }), 'capacity'), '5242880');
  assert.match(await client.storage.volumePath(vol), /disk$/);
  assert.equal((await client.storage.lookupVolume(pool, 'disk')).key, vol.key);
  assert.ok((await client.storage.poolInfo(pool)).available < before.available);
  await client.storage.deleteVolume(vol);
  await assert.rejects(client.storage.lookupVolume(pool, 'disk'), { codeName: 'VIR_ERR_NO_STORAGE_VOL' });
});

test('the sockets of the modular daemons', async () => {
  const search = { runDir: daemon.runDir };
  await symlink('libvirt-sock', join(daemon.runDir, 'virtqemud-sock'));
  const both = await LibvirtClient.open({ uri: 'qemu:///system', ...search });
  assert.equal((await both.call('connectGetType')).type, 'QEMU');
  await both.close();
  // Only the modular daemon's path is left, as on a system without libvirtd.
  await rename(daemon.socket, join(daemon.runDir, 'virtqemud-sock'));
  const modular = await LibvirtClient.open({ uri: 'qemu:///system', ...search });
  assert.equal((await modular.call('connectGetUri')).uri, 'qemu:///system');
  await modular.close();
  await assert.rejects(LibvirtClient.open({ uri: 'qemu:///system?mode=legacy', ...search }), { kind: 'connect' });
  await rename(join(daemon.runDir, 'virtqemud-sock'), daemon.socket);
  const session = await LibvirtClient.open({
    uri: 'qemu:///system?socket=' + encodeURIComponent(daemon.socket),
  });
  await session.close();
});
