/** Real QEMU guests under a real libvirtd. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, before, test } from 'node:test';
import {
  all,
  at,
  attr,
  child,
  el,
  LibvirtClient,
  LibvirtError,
  LIFECYCLE_EVENTS,
  Params,
  parseXml,
  STATS,
  toXml,
  UNDEFINE,
  type LibvirtStream,
} from '../../../src/libvirt/index.ts';
import { startDaemon, until, type TestDaemon } from './daemon.ts';
import { guestXml } from './guest.ts';

let daemon: TestDaemon;
let client: LibvirtClient;

before(async () => {
  daemon = await startDaemon();
  client = await LibvirtClient.open({ socket: daemon.socket });
});

after(async () => {
  await client?.close();
  await daemon?.stop();
});

/** Collects what a console says, until a test has seen what it waits for. */
function listen(stream: LibvirtStream): { heard: () => string } {
  let heard = '';
  stream.on('data', (chunk: Buffer) => {
    heard += chunk.toString('latin1');
  });
  return { heard: () => heard };
}

test('a guest lives: console in both directions, events, statistics, monitor', { timeout: 60_000 }, async () => {
  const events: string[] = [];
  await client.on('lifecycle', ({ dom, event }) => void events.push(`${dom.name} ${LIFECYCLE_EVENTS[event]}`));
  const dom = await client.createXML(guestXml({ name: 'talker' }), { paused: true });
  assert.deepEqual(await client.domainState(dom), { state: 'paused', reason: 1 });
  const console = await client.openConsole(dom);
  const { heard } = listen(console);
  await client.resume(dom);
  await until('the BIOS speaks', () => heard().includes('Press ESC for boot menu'));
  console.write('\x1b');
  await until('the BIOS has read the key', () => heard().includes('Select boot device'));

  const [stats] = await client.allDomainStats(STATS.state | STATS.cpu | STATS.balloon | STATS.vcpu);
  assert.equal(stats?.dom.uuid, dom.uuid);
  assert.equal(stats.stats.number('state.state'), 1);
  assert.ok((stats.stats.bigint('cpu.time') ?? 0n) > 0n);
  assert.equal(stats.stats.number('balloon.maximum'), 32_768);
  assert.deepEqual(await client.monitorCommand(dom, { execute: 'query-name' }), { name: 'talker' });
  await assert.rejects(client.agentCommand(dom, { execute: 'guest-ping' }, 1), {
    codeName: 'VIR_ERR_AGENT_UNRESPONSIVE',
  });

  const ended = once(console, 'end');
  await client.destroy(dom);
  await ended;
  await until('the last event', () => events.includes('talker stopped'));
  const steps = ['started', 'suspended', 'resumed', 'shutdown', 'stopped'];
  assert.deepEqual(
    events,
    steps.map((step) => `talker ${step}`),
  );
});

test('a console is handed over only by force, and detaching leaves the guest alone', { timeout: 60_000 }, async () => {
  const dom = await client.createXML(guestXml({ name: 'shared' }));
  const first = await client.openConsole(dom);
  await assert.rejects(client.openConsole(dom), { kind: 'libvirt' });
  first.on('error', () => undefined);
  first.resume();
  const second = await client.openConsole(dom, { force: true });
  await until('the first console is closed', () => first.closed);
  const { heard } = listen(second);
  second.write('\x1b');
  await until('the new console hears the guest', () => heard().length > 0);
  second.end();
  await once(second, 'close');
  assert.equal((await client.domainState(dom)).state, 'running');
  const third = await client.openConsole(dom);
  third.destroy();
  await client.destroy(dom);
});

test('devices, processors and memory of a running guest', { timeout: 60_000 }, async () => {
  const removed: string[] = [];
  const subscription = await client.on('deviceRemoved', ({ devAlias }) => void removed.push(devAlias));
  const dom = await client.createXML(guestXml({ name: 'grower', maxVcpus: 2 }));
  await client.setVcpus(dom, 2);
  const xml = parseXml(await client.xmlDesc(dom), { root: 'domain' });
  assert.equal(attr(at(xml, 'vcpu'), 'current') ?? '2', '2');
  await client.setMemory(dom, 24_576);
  assert.match(JSON.stringify(await client.monitorCommand(dom, { execute: 'query-balloon' })), /"actual":\d+/);

  const device = toXml(el('channel', { type: 'pty' }, el('target', { type: 'virtio', name: 'extra' })));
  const channels = async () => all(parseXml(await client.xmlDesc(dom)), 'devices/channel');
  await client.attachDevice(dom, device);
  const attached = (await channels()).find((channel) => attr(child(channel, 'target'), 'name') === 'extra');
  assert.ok(attached);
  await client.detachDevice(dom, toXml(attached));
  await until('the removal is told', () => removed.length === 1);
  assert.match(removed[0] ?? '', /^channel\d+$/);
  assert.equal((await channels()).length, 1);
  assert.deepEqual(await client.interfaceAddresses(dom), []);
  subscription[Symbol.dispose]();
  await client.destroy(dom);
});

test('saving a guest is told as a completed job', { timeout: 60_000 }, async () => {
  const finished = Promise.withResolvers<Params>();
  using _subscription = await client.on('jobCompleted', ({ params }) => finished.resolve(new Params(params)));
  const defined = await client.defineXML(guestXml({ name: 'saved' }));
  const dom = await client.start(defined);
  assert.ok(dom.id > 0);
  await client.slow.call('domainManagedSave', { dom });
  const job = await finished.promise;
  assert.equal(job.number('operation'), 2, 'virDomainJobOperation: save');
  assert.ok((job.bigint('data_total') ?? 0n) > 0n);
  assert.equal((await client.call('domainHasManagedSaveImage', { dom })).result, 1);
  await assert.rejects(client.undefine(dom), { codeName: 'VIR_ERR_OPERATION_INVALID' });
  await client.undefine(dom, UNDEFINE.managedSave);
  assert.equal(await client.findByUuid(dom.uuid), undefined);
});

test('a guest outlives its daemon, and its end is seen by the next one', { timeout: 60_000 }, async () => {
  const dom = await client.createXML(guestXml({ name: 'survivor' }));
  await daemon.signal('KILL');
  await until('the state is down', () => client.state.state === 'down');
  await daemon.gone();
  await daemon.start();
  await until('the state is up', () => client.state.state === 'up');
  assert.equal((await client.domainState(dom)).state, 'running');
  const stopped = Promise.withResolvers<number>();
  using _subscription = await client.on('lifecycle', ({ dom: { uuid }, event, detail }) => {
    if (uuid === dom.uuid && LIFECYCLE_EVENTS[event] === 'stopped') stopped.resolve(detail);
  });
  // QEMU may be gone before it has answered.
  await client.monitorCommand(dom, { execute: 'quit' }).catch((error: unknown) => {
    assert.ok(error instanceof LibvirtError && error.kind === 'libvirt', String(error));
  });
  await stopped.promise;
  assert.equal(await client.findByUuid(dom.uuid), undefined);
});
