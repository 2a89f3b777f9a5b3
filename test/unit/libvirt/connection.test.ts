import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test, type TestContext } from 'node:test';
import { Connection, type ConnectionOptions } from '../../../src/libvirt/connection.ts';
import { LibvirtError, type ErrorKind } from '../../../src/libvirt/errors.ts';
import { encodeFrame, type Frame } from '../../../src/libvirt/frame.ts';
import { frame, hex, word } from './bytes.ts';
import { byteServer, type Peer } from './byte-server.ts';

const dom = { name: 'test', uuid: '6695eb01-f6a4-8304-79aa-97f2502e193f', id: 1 };

function isKind(kind: ErrorKind, message = /./): (error: unknown) => boolean {
  return (error) => error instanceof LibvirtError && error.kind === kind && message.test(error.message);
}

async function connectTo(
  t: TestContext,
  serve: (peer: Peer) => Promise<void>,
  options: Partial<ConnectionOptions> = {},
): Promise<Connection> {
  const path = await byteServer(t, async (peer) => {
    await peer.handshake();
    await serve(peer);
  });
  const connection = await Connection.open({ path, uri: 'test:///default', keepaliveMs: 0, ...options });
  t.after(() => connection.destroy(new LibvirtError('closed', 'end of the test')));
  return connection;
}

test('the first bytes of a session', async (t) => {
  const seen: Frame[] = [];
  const path = await byteServer(t, async (peer) => {
    for (const answer of ['00000002 00000002 00000000', '00000001', '']) {
      const call = await peer.next();
      seen.push(call);
      peer.reply(call, answer);
    }
  });
  const connection = await Connection.open({ path, uri: 'qemu:///system', readonly: true });
  connection.destroy(new LibvirtError('closed', 'done'));
  const expected = [
    // length  program  version  procedure type     serial   status
    '0000001c 20008086 00000001 00000042 00000000 00000001 00000000', // authList (66)
    `00000020 20008086 00000001 0000003c 00000000 00000002 00000000
     0000000a`, // connectSupportsFeature (60): keepalive
    `00000038 20008086 00000001 00000001 00000000 00000003 00000000
     00000001 0000000e 71656d753a2f2f2f73797374656d 0000
     00000001`, // connectOpen (1): a name, 14 bytes, two bytes of padding; read-only
  ];
  assert.deepEqual(
    seen.map((frame) => encodeFrame(frame, frame.body)),
    expected.map(hex),
  );
});

test('replies are told apart by serial, not by order', async (t) => {
  const connection = await connectTo(t, async (peer) => {
    const [first, second] = [await peer.next(), await peer.next()];
    peer.reply(second, '00000002 00000000');
    peer.reply(first, '00000001 00000000');
  });
  const states = await Promise.all([
    connection.call('domainGetState', { dom }),
    connection.call('domainGetState', { dom }),
  ]);
  assert.deepEqual(states, [
    { state: 1, reason: 0 },
    { state: 2, reason: 0 },
  ]);
});

test('an error reply rejects its call and no other', async (t) => {
  const connection = await connectTo(t, async (peer) => {
    const call = await peer.next();
    const body = hex(
      '0000002a 0000000a 00000001 00000004 676f6e65 00000002 00000000 00000000 00000000 00000000 00000000 00000000 00000000',
    );
    peer.send(frame(`20008086 00000001 ${word(call.procedure)} 00000001 ${word(call.serial)} 00000001`, body));
    peer.reply(await peer.next(), '00000001 00000000');
  });
  await assert.rejects(connection.call('domainGetState', { dom }), (error) => {
    assert.ok(error instanceof LibvirtError);
    assert.deepEqual([error.kind, error.codeName, error.message], ['libvirt', 'VIR_ERR_NO_DOMAIN', 'gone']);
    assert.equal(error.procedure, 'domainGetState');
    return true;
  });
  assert.equal((await connection.call('domainGetState', { dom })).state, 1);
});

/** Each is sent while three calls wait: all are rejected, and the connection is closed by this side. */
const HOSTILE: Readonly<Record<string, Buffer>> = {
  'a frame of 4 GiB': hex('ffffffff'),
  'a frame shorter than its header': hex('0000001b'),
  'another version': frame('20008086 00000009 000000d4 00000001 00000004 00000000'),
  'an unknown frame type': frame('20008086 00000001 000000d4 00000009 00000004 00000000'),
  'an unknown status': frame('20008086 00000001 000000d4 00000001 00000004 00000009'),
  'a reply of another procedure': frame(
    '20008086 00000001 000000d5 00000001 00000004 00000000',
    hex('00000001 00000000'),
  ),
  'a reply cut short': frame('20008086 00000001 000000d4 00000001 00000004 00000000', hex('00000001')),
  'a reply with bytes left over': frame(
    '20008086 00000001 000000d4 00000001 00000004 00000000',
    hex('00000001 00000000 00000000'),
  ),
  'an error that is none': frame('20008086 00000001 000000d4 00000001 00000004 00000001', hex('0000002a')),
  'an event cut short': frame('20008086 00000001 0000013e 00000002 00000000 00000000', hex('00000000')),
};

for (const [what, bytes] of Object.entries(HOSTILE)) {
  test(`${what} ends the connection and rejects every call`, { timeout: 10_000 }, async (t) => {
    let hungUp: Promise<unknown> = Promise.resolve();
    const connection = await connectTo(
      t,
      async (peer) => {
        for (let calls = 0; calls < 3; calls += 1) await peer.next();
        hungUp = once(peer.socket, 'close');
        peer.send(bytes);
      },
      {
        onMessage: () => {
          throw LibvirtError.protocol('an unusable event');
        },
      },
    );
    const calls = [1, 2, 3].map(() => connection.call('domainGetState', { dom }));
    for (const outcome of await Promise.allSettled(calls)) {
      assert.ok(outcome.status === 'rejected' && isKind('protocol')(outcome.reason), JSON.stringify(outcome));
    }
    assert.ok(isKind('protocol')(await connection.ended));
    await hungUp;
    await assert.rejects(connection.call('domainGetState', { dom }), isKind('closed', /had ended/));
  });
}

test('the end in the middle of a frame is told as such', { timeout: 10_000 }, async (t) => {
  const connection = await connectTo(t, async (peer) => {
    await peer.next();
    peer.socket.end(hex('00000024 20008086 00000001'));
  });
  await assert.rejects(connection.call('domainGetState', { dom }), isKind('closed', /in the middle of a message/));
});

test('unknown serials and messages of newer daemons are passed over', async (t) => {
  const messages: number[] = [];
  const connection = await connectTo(
    t,
    async (peer) => {
      const call = await peer.next();
      peer.send(frame('20008086 00000001 000000d4 00000001 00000fff 00000000', hex('00000001 00000000')));
      peer.send(frame('20008086 00000001 000000d0 00000003 00000fff 00000002', hex('616263')));
      peer.send(frame('20008086 00000001 00000fff 00000002 00000000 00000000', hex('616263')));
      peer.reply(call, '00000001 00000000');
    },
    { onMessage: ({ procedure }) => void messages.push(procedure) },
  );
  assert.equal((await connection.call('domainGetState', { dom })).state, 1);
  assert.deepEqual(messages, [0xfff]);
});

test('a time-out rejects one call; its late reply is dropped and frees its place', { timeout: 10_000 }, async (t) => {
  const connection = await connectTo(
    t,
    async (peer) => {
      const late = await peer.next();
      // Only one call is let through at a time: the second arrives after the late reply to the first.
      await once(peer.socket, 'data', { signal: AbortSignal.timeout(100) }).catch(() => undefined);
      peer.reply(late, '00000001 00000000');
      peer.reply(await peer.next(), '00000003 00000000');
    },
    { maxInFlight: 1 },
  );
  await assert.rejects(
    connection.call('domainGetState', { dom }, { timeoutMs: 20 }),
    isKind('timeout', /domainGetState: no answer within 20 ms/),
  );
  assert.equal((await connection.call('domainGetState', { dom })).state, 3);
});

test('abort: before sending, while waiting in the queue, and in flight', { timeout: 10_000 }, async (t) => {
  const arrived: Frame[] = [];
  const both = Promise.withResolvers<void>();
  const connection = await connectTo(
    t,
    async (peer) => {
      arrived.push(await peer.next());
      both.resolve();
      arrived.push(await peer.next());
    },
    { maxInFlight: 1 },
  );
  await assert.rejects(connection.call('domainGetState', { dom }, { signal: AbortSignal.abort() }), isKind('aborted'));
  const inFlight = new AbortController();
  const queued = new AbortController();
  const calls = [inFlight, queued].map(({ signal }) =>
    assert.rejects(connection.call('domainGetState', { dom }, { signal }), isKind('aborted')),
  );
  await both.promise;
  queued.abort();
  inFlight.abort();
  await Promise.all(calls);
  assert.equal(arrived.length, 1, 'neither of the others was sent');
});

test('never more calls on the wire than allowed, never more waiting than allowed', { timeout: 10_000 }, async (t) => {
  let onWire = 0;
  let most = 0;
  const connection = await connectTo(
    t,
    async (peer) => {
      for (;;) {
        const call = await peer.next();
        onWire += 1;
        most = Math.max(most, onWire);
        setImmediate(() => {
          onWire -= 1;
          peer.reply(call, '00000001 00000000');
        });
      }
    },
    { maxInFlight: 4, maxQueued: 16 },
  );
  const calls = Array.from({ length: 25 }, () => connection.call('domainGetState', { dom }));
  const outcomes = await Promise.allSettled(calls);
  const rejected = outcomes.filter((outcome) => outcome.status === 'rejected');
  assert.equal(rejected.length, 5);
  assert.ok(rejected.every(({ reason }) => isKind('busy')(reason)));
  assert.equal(most, 4);
});

test('pings are answered; silence is pinged, and then taken for death', { timeout: 10_000 }, async (t) => {
  const pong = Promise.withResolvers<Frame>();
  const pings: Frame[] = [];
  const connection = await connectTo(
    t,
    async (peer) => {
      peer.send(hex('0000001c 6b656570 00000001 00000001 00000002 00000000 00000000')); // ping
      pong.resolve(await peer.next());
      for (;;) pings.push(await peer.next());
    },
    { keepaliveMs: 20 },
  );
  const expected = hex('0000001c 6b656570 00000001 00000002 00000002 00000000 00000000'); // pong: procedure 2, serial 0
  const answer = await pong.promise;
  assert.deepEqual(encodeFrame(answer, answer.body), expected);
  const call = assert.rejects(connection.call('domainGetState', { dom }), isKind('closed', /no sign of life/));
  assert.ok(isKind('closed', /no sign of life/)(await connection.ended));
  await call;
  assert.equal(pings.filter(({ program, procedure }) => program === 0x6b656570 && procedure === 1).length, 5);
});

test('polkit is asked; SASL alone is refused with advice', async (t) => {
  const polkit = await byteServer(t, async (peer) => {
    peer.reply(await peer.next(), '00000002 00000001 00000002'); // authList: SASL, polkit
    const call = await peer.next();
    assert.equal(call.procedure, 70);
    peer.reply(call, '00000001');
    peer.reply(await peer.next());
  });
  const connection = await Connection.open({ path: polkit, uri: 'qemu:///system', keepaliveMs: 0 });
  connection.destroy(new LibvirtError('closed', 'done'));
  const sasl = await byteServer(t, async (peer) => peer.reply(await peer.next(), '00000001 00000001'));
  await assert.rejects(
    Connection.open({ path: sasl, uri: 'qemu:///system' }),
    isKind('auth', /wants SASL.*auth_unix_rw/),
  );
});

test('connecting: nobody there, nobody answers, given up', { timeout: 10_000 }, async (t) => {
  const uri = 'qemu:///system';
  await assert.rejects(
    Connection.open({ path: '/nonexistent/socket', uri }),
    isKind('connect', /\/nonexistent\/socket/),
  );
  const path = await byteServer(t, async (peer) => void (await peer.next()));
  await assert.rejects(Connection.open({ path, uri, connectTimeoutMs: 50 }), isKind('timeout', /connecting to/));
  const signal = AbortSignal.timeout(50);
  await assert.rejects(Connection.open({ path, uri, signal }), isKind('aborted', /connecting to/));
});

test('closing waits for calls under way, tells the daemon, and takes no new ones', async (t) => {
  const order: number[] = [];
  const connection = await connectTo(t, async (peer) => {
    const call = await peer.next();
    setTimeout(() => peer.reply(call, '00000001 00000000'), 20);
    const close = await peer.next();
    order.push(close.procedure);
    peer.reply(close);
  });
  const call = connection.call('domainGetState', { dom });
  const closed = connection.close();
  await assert.rejects(connection.call('domainGetState', { dom }), isKind('closed'));
  assert.equal((await call).state, 1);
  await closed;
  assert.deepEqual(order, [2]);
});
