/** What the client does when the daemon behaves oddly: early events, broken events, failing registrations, coming and going. */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { LibvirtClient, LibvirtError, type ClientOptions, type LinkState } from '../../../src/libvirt/index.ts';
import { frame, hex } from './bytes.ts';
import { byteServer, type Peer } from './byte-server.ts';

const DOM = '00000001 67000000 6695eb01f6a4830479aa97f2502e193f 00000001'; // "g", a UUID, id 1
/** Message 318: callback 7, the domain, event 2 (started), detail 0. */
const STARTED = frame(
  '20008086 00000001 0000013e 00000002 00000000 00000000',
  hex(`00000007 ${DOM} 00000002 00000000`),
);
const NO_SUPPORT = hex(
  '00000003 0000000a 00000000 00000002 00000000 00000000 00000000 00000000 00000000 00000000 00000000',
);
const BACK_OFF = { firstMs: 5, maxMs: 20, random: () => 0.5 };

async function clientOf(
  t: TestContext,
  serve: (peer: Peer, connection: number) => Promise<void>,
  options: ClientOptions = {},
): Promise<LibvirtClient> {
  let connections = 0;
  const socket = await byteServer(t, async (peer) => {
    connections += 1;
    const number = connections;
    await peer.handshake();
    await serve(peer, number);
  });
  const client = new LibvirtClient({ socket, uri: 'qemu:///system', keepaliveMs: 0, backOff: BACK_OFF, ...options });
  t.after(() => client.close());
  return client;
}

test('an event that overtakes the reply to its own registration is not lost', { timeout: 10_000 }, async (t) => {
  const client = await clientOf(t, async (peer) => {
    const call = await peer.next();
    assert.equal(call.procedure, 316);
    peer.send(STARTED);
    peer.reply(call, '00000007');
    peer.send(STARTED);
    for (;;) peer.reply(await peer.next());
  });
  await client.ready();
  const seen: string[] = [];
  const both = Promise.withResolvers<void>();
  await client.on('lifecycle', ({ dom, event }) => {
    if (seen.push(`${dom.name} ${event}`) === 2) both.resolve();
  });
  await both.promise;
  assert.deepEqual(seen, ['g 2', 'g 2']);
});

test('a handler that throws harms no other handler and not the connection', { timeout: 10_000 }, async (t) => {
  const errors: unknown[] = [];
  const client = await clientOf(
    t,
    async (peer) => {
      peer.reply(await peer.next(), '00000007');
      peer.send(STARTED);
      for (;;) peer.reply(await peer.next());
    },
    { onHandlerError: (error, event) => void errors.push([String(error), event]) },
  );
  const second = Promise.withResolvers<void>();
  await client.ready();
  await Promise.all([
    client.on('lifecycle', () => {
      throw new Error('oops');
    }),
    client.on('lifecycle', () => second.resolve()),
  ]);
  await second.promise;
  assert.deepEqual(errors, [['Error: oops', 'lifecycle']]);
  assert.equal(client.state.state, 'up');
});

test('a broken event ends the connection; the next one is subscribed again', { timeout: 10_000 }, async (t) => {
  const registered: number[] = [];
  const client = await clientOf(t, async (peer, connection) => {
    peer.reply(await peer.next(), '00000007');
    registered.push(connection);
    peer.send(connection === 1 ? Buffer.from(STARTED).fill(0xff, 32, 36) : STARTED); // the name's length becomes 4 GiB
    for (;;) peer.reply(await peer.next());
  });
  const states: LinkState[] = [];
  client.onState((state) => states.push(state));
  const started = Promise.withResolvers<void>();
  await client.ready();
  await client.on('lifecycle', () => started.resolve());
  await started.promise;
  assert.deepEqual(registered, [1, 2]);
  const [up, down] = states;
  assert.equal(up?.state, 'up');
  assert.ok(down?.state === 'down' && down.reason?.kind === 'protocol', JSON.stringify(states));
});

test('an event that the driver does not have is refused to its subscriber alone', { timeout: 10_000 }, async (t) => {
  const client = await clientOf(t, async (peer) => {
    const { serial } = await peer.next();
    peer.send(
      frame(`20008086 00000001 0000013c 00000001 ${serial.toString(16).padStart(8, '0')} 00000001`, NO_SUPPORT),
    );
    for (;;) peer.reply(await peer.next(), '00000000');
  });
  await client.ready();
  await assert.rejects(
    client.on('memoryFailure', () => undefined),
    { codeName: 'VIR_ERR_NO_SUPPORT' },
  );
  await client.on('lifecycle', () => undefined);
  assert.equal(client.state.state, 'up');
});

test('attempts are spaced by a growing, bounded wait', { timeout: 10_000 }, async (t) => {
  const waits: number[] = [];
  let last = performance.now();
  const enough = Promise.withResolvers<void>();
  const socket = await byteServer(t, async (peer) => {
    waits.push(performance.now() - last);
    peer.socket.destroy();
    last = performance.now();
    if (waits.length === 8) enough.resolve();
  });
  const client = new LibvirtClient({ socket, backOff: { firstMs: 10, maxMs: 40, random: () => 0.5 } });
  t.after(() => client.close());
  await enough.promise;
  // With a chance of one half, three quarters of 10, 20, 40, 40 … ms are waited; timers may be a millisecond early.
  const least = [6, 14, 29, 29, 29, 29, 29];
  waits.slice(1).forEach((wait, index) => assert.ok(wait >= (least[index] ?? 0), `wait ${index}: ${wait} ms`));
  await assert.rejects(
    client.listDomains(),
    (error) => error instanceof LibvirtError && ['connect', 'closed'].includes(error.kind),
  );
});

test('closing does not wait for a daemon that does not answer', { timeout: 10_000 }, async (t) => {
  const arrived = Promise.withResolvers<void>();
  const deaf = await byteServer(t, async (peer) => {
    await peer.next();
    arrived.resolve();
  });
  const client = new LibvirtClient({ socket: deaf });
  await arrived.promise;
  const started = performance.now();
  await client.close();
  assert.ok(performance.now() - started < 1000);
  // The same while it is subscribing again.
  const subscribing = Promise.withResolvers<void>();
  const silent = await clientOf(t, async (peer) => {
    await peer.next();
    subscribing.resolve();
  });
  const subscribed = assert.rejects(
    silent.on('lifecycle', () => undefined).then(() => silent.ready()),
    { kind: 'closed' },
  );
  await subscribing.promise;
  await silent.close();
  await subscribed;
});

test('a closed client stays closed', { timeout: 10_000 }, async (t) => {
  let connections = 0;
  const client = await clientOf(t, async (peer) => {
    connections += 1;
    for (;;) peer.reply(await peer.next());
  });
  await client.ready();
  await client.close();
  await client.close();
  await assert.rejects(client.listDomains(), { kind: 'closed' });
  await assert.rejects(client.slow.call('connectGetType'), { kind: 'closed' });
  assert.equal(connections, 1);
});
