import assert from 'node:assert/strict';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { test, type TestContext } from 'node:test';
import { Connection } from '../../../src/libvirt/connection.ts';
import { LibvirtError, type ErrorKind } from '../../../src/libvirt/errors.ts';
import type { Frame } from '../../../src/libvirt/frame.ts';
import { MAX_PACKET_BYTES } from '../../../src/libvirt/streams.ts';
import { frame, hex, word } from './bytes.ts';
import { byteServer, type Peer } from './byte-server.ts';

const dom = { name: 'g', uuid: '6695eb01-f6a4-8304-79aa-97f2502e193f', id: 1 };
const vol = { pool: 'p', name: 'v', key: 'k' };
const range = { vol, offset: 0n, length: 0n };
const ABORTED = hex(
  '0000004e 00000026 00000000 00000002 00000000 00000000 00000000 00000000 00000000 00000000 00000000',
);

function isKind(kind: ErrorKind): (error: unknown) => boolean {
  return (error) => error instanceof LibvirtError && error.kind === kind;
}

/** Answers the call that opens the stream, then hands over a sender of stream packets. */
async function streamTo(
  t: TestContext,
  serve: (packet: (status: number, data?: Buffer) => void, peer: Peer) => Promise<void>,
): Promise<Connection> {
  const path = await byteServer(t, async (peer) => {
    await peer.handshake();
    const call = await peer.next();
    peer.reply(call);
    const packet = (status: number, data: Buffer = Buffer.alloc(0)) => {
      peer.send(frame(`20008086 00000001 ${word(call.procedure)} 00000003 ${word(call.serial)} ${word(status)}`, data));
    };
    await serve(packet, peer);
  });
  const connection = await Connection.open({ path, uri: 'test:///default', keepaliveMs: 0 });
  t.after(() => connection.destroy(new LibvirtError('closed', 'end of the test')));
  return connection;
}

test('a download: data, an empty packet, and the confirmation of the end', { timeout: 10_000 }, async (t) => {
  const ends: Frame[] = [];
  const connection = await streamTo(t, async (packet, peer) => {
    packet(2, Buffer.from('abc')); // no padding inside stream packets
    packet(2, Buffer.from('defg'));
    packet(2);
    ends.push(await peer.next());
    packet(0);
  });
  const { stream } = await connection.openStream('storageVolDownload', range);
  assert.equal(Buffer.concat(await stream.toArray()).toString(), 'abcdefg');
  assert.deepEqual(
    ends.map(({ type, status, body }) => [type, status, body.length]),
    [[3, 0, 0]],
  );
});

test('a download that fails at its very end is not taken for whole', { timeout: 10_000 }, async (t) => {
  const connection = await streamTo(t, async (packet, peer) => {
    packet(2, Buffer.from('abc'));
    packet(2);
    await peer.next();
    packet(1, ABORTED);
  });
  const { stream } = await connection.openStream('storageVolDownload', range);
  await assert.rejects(
    stream.toArray(),
    (error) => error instanceof LibvirtError && error.codeName === 'VIR_ERR_OPERATION_ABORTED',
  );
});

test('an upload is cut into packets and confirmed before it is finished', { timeout: 10_000 }, async (t) => {
  const sizes: number[] = [];
  let confirmed = false;
  const connection = await streamTo(t, async (packet, peer) => {
    for (;;) {
      const { status, body } = await peer.next();
      if (status === 0) break;
      sizes.push(body.length);
    }
    confirmed = true;
    packet(0);
  });
  const { stream } = await connection.openStream('storageVolUpload', range);
  const data = Buffer.alloc(MAX_PACKET_BYTES + 1000, 1);
  await pipeline(Readable.from([data, Buffer.alloc(0), Buffer.from('z')]), stream);
  assert.ok(confirmed);
  assert.deepEqual(sizes, [MAX_PACKET_BYTES, 1000, 1]);
});

test('an upload that the daemon refuses half-way', { timeout: 10_000 }, async (t) => {
  const connection = await streamTo(t, async (packet, peer) => {
    await peer.next();
    packet(1, ABORTED);
  });
  const { stream } = await connection.openStream('storageVolUpload', range);
  const endless = Readable.from(
    (function* () {
      for (;;) yield Buffer.alloc(65_536);
    })(),
  );
  await assert.rejects(pipeline(endless, stream), isKind('libvirt'));
});

test('destroying a stream tells the daemon, and late packets are dropped', { timeout: 10_000 }, async (t) => {
  const abort = Promise.withResolvers<Frame>();
  const connection = await streamTo(t, async (packet, peer) => {
    packet(2, Buffer.from('boot'));
    abort.resolve(await peer.next());
    packet(2, Buffer.from('late'));
    peer.reply(await peer.next(), '00000001 00000000');
  });
  const { stream } = await connection.openStream('domainOpenConsole', { dom });
  const [first] = await stream.take(1, {}).toArray();
  assert.equal(String(first), 'boot');
  stream.destroy();
  const { status, body } = await abort.promise;
  assert.deepEqual([status, body.length], [1, 0]);
  assert.equal((await connection.call('domainGetState', { dom })).state, 1, 'the connection is still of use');
});

test('packets that cannot be end the connection', { timeout: 10_000 }, async (t) => {
  const connection = await streamTo(t, async (packet) => packet(7));
  const { stream } = await connection.openStream('storageVolDownload', range);
  await assert.rejects(stream.toArray(), isKind('protocol'));
  const upload = await streamTo(t, async (packet) => packet(2, Buffer.from('data')));
  const { stream: sink } = await upload.openStream('storageVolUpload', range);
  await assert.rejects(pipeline(Readable.from([]), sink), isKind('protocol'));
});

test('a daemon that stalls is given up; one that is not asked for more is not', { timeout: 10_000 }, async (t) => {
  const connection = await streamTo(t, async (packet) => packet(2, Buffer.from('abc')));
  const { stream } = await connection.openStream('storageVolDownload', range, { stallMs: 50 });
  await assert.rejects(stream.toArray(), isKind('timeout'));
});

test('a lost connection reaches the stream', { timeout: 10_000 }, async (t) => {
  const connection = await streamTo(t, async (_packet, peer) => void peer.socket.destroy());
  const { stream } = await connection.openStream('domainOpenConsole', { dom });
  await assert.rejects(stream.toArray(), isKind('closed'));
});
