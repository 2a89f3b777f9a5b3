/** Daemons that die, stop answering, and come back. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { LibvirtClient, LibvirtError, type LinkState } from '../../../src/libvirt/index.ts';
import { startDaemon, until, type TestDaemon } from './daemon.ts';

let daemon: TestDaemon;

before(async () => {
  daemon = await startDaemon();
});

after(async () => {
  await daemon?.stop();
});

test('libvirtd killed: calls fail, the link comes back, the events too', { timeout: 60_000 }, async (t) => {
  const client = new LibvirtClient({
    uri: 'test:///default',
    socket: daemon.socket,
    backOff: { firstMs: 20, maxMs: 200, random: () => 0.5 },
  });
  t.after(() => client.close());
  const states: LinkState[] = [];
  client.onState((state) => states.push(state));
  const events: number[] = [];
  // Subscribed before there is any connection.
  await client.on('lifecycle', ({ event }) => void events.push(event));
  await client.ready();
  assert.equal((await client.slow.call('connectGetType')).type, 'TEST');

  await daemon.signal('KILL');
  await until('the state is down', () => client.state.state === 'down');
  await assert.rejects(
    client.listDomains(),
    (error) => error instanceof LibvirtError && ['connect', 'closed'].includes(error.kind),
  );
  await daemon.gone();
  await until('an attempt has failed', () => client.state.state === 'down' && client.state.reason?.kind === 'connect');

  await daemon.start();
  await until('the state is up again', () => client.state.state === 'up');
  const dom = await client.lookupByName('test');
  await client.suspend(dom);
  await client.resume(dom);
  await until('the events of the new daemon', () => events.length === 2);
  assert.deepEqual(
    states.map(({ state }) => state),
    ['up', 'down', 'up'],
  );
});

test(
  'libvirtd stopped: each call times out by itself; when it goes on, all is well',
  { timeout: 60_000 },
  async (t) => {
    const client = await LibvirtClient.open({ uri: 'test:///default', socket: daemon.socket });
    t.after(() => client.close());
    const dom = await client.lookupByName('test');
    await daemon.signal('STOP');
    const started = performance.now();
    const calls = Array.from({ length: 6 }, () => client.domainState(dom, { timeoutMs: 300 }));
    for (const outcome of await Promise.allSettled(calls)) {
      assert.ok(outcome.status === 'rejected' && outcome.reason instanceof LibvirtError);
      assert.equal(outcome.reason.kind, 'timeout');
    }
    assert.ok(performance.now() - started < 3000);
    await daemon.signal('CONT');
    assert.equal((await client.domainState(dom)).state, 'running', 'on the same connection');
    assert.equal(client.state.state, 'up');
  },
);

test('libvirtd stopped for good: the silence is noticed and the state is down', { timeout: 60_000 }, async (t) => {
  const client = await LibvirtClient.open({
    uri: 'test:///default',
    socket: daemon.socket,
    keepaliveMs: 50,
    connectTimeoutMs: 200,
    backOff: { firstMs: 20, maxMs: 100 },
  });
  t.after(() => client.close());
  const slept = (error: unknown) => error instanceof LibvirtError && error.kind === 'timeout';
  await daemon.signal('STOP');
  await until('it has stopped', () => client.call('connectGetType', {}, { timeoutMs: 20 }).then(() => false, slept));
  // Nobody reads what is waiting now: neither the call nor the pings.
  await assert.rejects(client.call('connectGetType'), { kind: 'closed' });
  await until('the state is down', () => client.state.state === 'down');
  await daemon.signal('CONT');
  await until('the state is up again', () => client.state.state === 'up');
});

test('nobody there at the first attempt', { timeout: 60_000 }, async () => {
  const socket = `${daemon.runDir}/nobody`;
  await assert.rejects(LibvirtClient.open({ uri: 'test:///default', socket }), { kind: 'connect' });
  await assert.rejects(
    LibvirtClient.open({ uri: 'test:///default', runDir: '/nonexistent' }),
    /looked for \/nonexistent/,
  );
});

test('a daemon of a killed test process leaves nothing', { timeout: 60_000 }, async () => {
  const script = `
    import { startDaemon } from ${JSON.stringify(new URL('daemon.ts', import.meta.url).href)};
    const daemon = await startDaemon();
    process.stdout.write(daemon.dir);
    setInterval(() => undefined, 1000);
  `;
  const test = spawn(process.execPath, ['--input-type=module-typescript', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [dir] = await once(test.stdout, 'data');
  assert.ok(existsSync(String(dir)));
  test.kill('SIGKILL');
  await until('its folder is gone', () => !existsSync(String(dir)));
});
