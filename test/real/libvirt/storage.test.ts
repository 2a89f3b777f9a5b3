/** Volumes, transfers with back-pressure, snapshots and resizing on real disks. */
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable, Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { after, before, test } from 'node:test';
import { el, LibvirtClient, toXml, type Pool } from '../../../src/libvirt/index.ts';
import { startDaemon, until, type TestDaemon } from './daemon.ts';
import { guestXml } from './guest.ts';

const MIB = 1024 * 1024;
let daemon: TestDaemon;
let client: LibvirtClient;
let pool: Pool;

before(async () => {
  daemon = await startDaemon();
  client = await LibvirtClient.open({ socket: daemon.socket });
  const xml = el(
    'pool',
    { type: 'dir' },
    el('name', null, 'disks'),
    el('target', null, el('path', null, join(daemon.dir, 'pool'))),
  );
  pool = await client.storage.definePool(toXml(xml));
  await client.storage.buildPool(pool);
  await client.storage.startPool(pool);
});

after(async () => {
  await client?.close();
  await daemon?.stop();
});

function volumeXml(name: string, bytes: number, format = 'raw'): string {
  const target = el('target', null, el('format', { type: format }));
  return toXml(el('volume', null, el('name', null, name), el('capacity', { unit: 'bytes' }, bytes), target));
}

function sha256(data: Uint8Array): string {
  return createHash('sha256').update(data).digest('hex');
}

test('what is uploaded is what is downloaded', { timeout: 60_000 }, async () => {
  const data = randomBytes(5 * MIB + 777);
  const vol = await client.storage.createVolume(pool, volumeXml('round-trip', data.length));
  const upload = await client.storage.upload(vol);
  await pipeline(Readable.from([data.subarray(0, 1), data.subarray(1, 3 * MIB), data.subarray(3 * MIB)]), upload);
  // libvirt has confirmed the end: everything is in the file by now.
  assert.equal(sha256(await readFile(await client.storage.volumePath(vol))), sha256(data));
  const download = await client.storage.download(vol);
  assert.equal(sha256(Buffer.concat(await download.toArray())), sha256(data));
  const part = await client.storage.download(vol, { offset: 1000n, length: 2000n });
  assert.deepEqual(Buffer.concat(await part.toArray()), data.subarray(1000, 3000));
  assert.deepEqual((await client.storage.volumeInfo(vol)).capacity, BigInt(data.length));
  await client.storage.deleteVolume(vol);
});

test('a download that is not read stops the daemon, not the client', { timeout: 60_000 }, async () => {
  const bytes = 64 * MIB;
  const vol = await client.storage.createVolume(pool, volumeXml('large', bytes));
  const download = await client.storage.download(vol);
  let taken = 0;
  const before = process.memoryUsage();
  for await (const chunk of download) {
    taken += (chunk as Buffer).length;
    if (taken > MIB) break;
  }
  assert.ok(download.destroyed, 'leaving the loop ends the stream');

  const slow = await client.storage.download(vol);
  await once(slow, 'readable');
  // Other calls go on while nobody reads the stream: it has its own connection.
  for (let calls = 0; calls < 200; calls += 1) await client.call('connectGetType');
  const { readableLength } = slow;
  assert.ok(readableLength < 2 * MIB, `${readableLength} bytes piled up in the stream`);
  const grown = process.memoryUsage().rss - before.rss;
  assert.ok(grown < 48 * MIB, `${grown} bytes more memory than before`);
  let rest = 0;
  for await (const chunk of slow) rest += (chunk as Buffer).length;
  assert.equal(rest, bytes);
  await client.storage.deleteVolume(vol);
});

test('an upload is held back by a daemon that does not read', { timeout: 60_000 }, async () => {
  const vol = await client.storage.createVolume(pool, volumeXml('held', 256 * MIB));
  const upload = await client.storage.upload(vol);
  await daemon.signal('STOP');
  let given = 0;
  let more = true;
  const chunk = Buffer.alloc(MIB);
  while (more && given < 64 * MIB) {
    more = upload.write(chunk);
    given += chunk.length;
  }
  assert.equal(more, false, 'the stream asks to wait');
  assert.ok(given <= 4 * MIB, `${given} bytes were taken before the stream asked to wait`);
  const drained = once(upload, 'drain');
  await daemon.signal('CONT');
  await drained;
  upload.end();
  await once(upload, 'finish');
  await client.storage.deleteVolume(vol);
});

test('an upload that is aborted, and one that is too long', { timeout: 60_000 }, async () => {
  const vol = await client.storage.createVolume(pool, volumeXml('short', MIB));
  const aborted = await client.storage.upload(vol);
  const stop = new AbortController();
  // Stalls well before the volume is full.
  let pieces = 0;
  const endless = new Readable({
    read() {
      pieces += 1;
      if (pieces <= 8) this.push(Buffer.alloc(65_536));
    },
  });
  const running = assert.rejects(pipeline(endless, aborted, { signal: stop.signal }), { name: 'AbortError' });
  await until('something was written', () => pieces > 1);
  stop.abort();
  await running;
  const limited = await client.storage.upload(vol, { length: 1000n });
  // libvirtd writes beside the stream, so its refusal comes with a later piece.
  const refusal = once(limited, 'error', { signal: AbortSignal.timeout(20_000) });
  const writing = setInterval(() => limited.write(Buffer.alloc(1000)), 20);
  const [refused] = (await refusal.finally(() => clearInterval(writing))) as [{ kind: string }];
  assert.equal(refused.kind, 'libvirt');
  await client.storage.deleteVolume(vol);
  await assert.rejects(client.storage.upload(vol), { codeName: 'VIR_ERR_NO_STORAGE_VOL' });
});

test('too many streams are refused, and places come free', { timeout: 60_000 }, async () => {
  const few = await LibvirtClient.open({ socket: daemon.socket, maxStreams: 1 });
  const vol = await few.storage.createVolume(pool, volumeXml('one', MIB));
  const first = await few.storage.download(vol);
  await assert.rejects(few.storage.download(vol), { kind: 'busy' });
  await pipeline(first, new Writable({ write: (_chunk, _encoding, done) => done() }));
  const second = await few.storage.download(vol);
  second.on('error', () => undefined);
  await few.close();
  await until('the stream is closed', () => second.closed);
});

test('snapshots and a growing disk of a running guest', { timeout: 60_000 }, async () => {
  const vol = await client.storage.createVolume(pool, volumeXml('disk.qcow2', 16 * MIB, 'qcow2'));
  const path = await client.storage.volumePath(vol);
  const dom = await client.createXML(guestXml({ name: 'disk', disk: { path, format: 'qcow2' } }));
  const snap = await client.createSnapshot(dom, toXml(el('domainsnapshot', null, el('name', null, 'first'))));
  assert.equal(snap.name, 'first');
  assert.deepEqual(
    (await client.listSnapshots(dom)).map(({ name }) => name),
    ['first'],
  );
  await client.revertToSnapshot(await client.lookupSnapshot(dom, 'first'));
  await client.deleteSnapshot(snap);
  assert.deepEqual(await client.listSnapshots(dom), []);
  await client.blockResize(dom, 'vda', 32 * MIB);
  const { capacity } = await client.call('domainGetBlockInfo', { dom, path: 'vda' });
  assert.equal(capacity, BigInt(32 * MIB));
  await client.destroy(dom);
  assert.ok((await stat(path)).size > 0);
});
