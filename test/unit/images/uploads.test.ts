import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { link, readdir, readFile, rename, rm, symlink, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { openImageFiles } from '../../../src/controller/images/service.ts';
import type { ImageFiles, ImageFilesSettings, ImageTool } from '../../../src/controller/images/types.ts';
import { systemClock } from '../../../src/effects/clock.ts';
import { durableFiles } from '../../../src/effects/files.ts';
import { buildRaw } from './build.ts';
import { eventually, noise, ownFolder, pieces, quiet, virgaError } from './kit.ts';

/** No upload may reach the tool in these tests. */
const untouched = async (): Promise<never> => await Promise.reject(new Error('the tool was called'));
const tool: ImageTool = { check: untouched, measure: untouched, convert: untouched };

async function open(folder: string, settings: Partial<ImageFilesSettings> = {}): Promise<ImageFiles> {
  const world = { tool, records: durableFiles(folder), clock: systemClock, log: quiet };
  return await openImageFiles({ folder, reserveBytes: 0, ...settings }, world);
}

const part = (folder: string, id: string): string => join(folder, 'uploads', `${id}.part`);

describe('an upload', () => {
  it('comes in pieces, in order, and says where it is', async () => {
    const folder = await ownFolder();
    const files = await open(folder);
    const [id, bytes] = [randomUUID(), noise(300_000)];
    await files.begin({ id, name: 'debian', sizeBytes: bytes.length });
    await files.begin({ id, name: 'debian', sizeBytes: bytes.length });
    assert.equal(await files.offset(id), 0);
    const first = await files.append(id, 0, pieces(bytes.subarray(0, 100_000), 999));
    assert.deepEqual(first, { receivedBytes: 100_000, complete: false });
    for (const wrong of [0, 99_999, 100_001])
      await assert.rejects(files.append(id, wrong, pieces(bytes, 10)), virgaError('upload_offset', /100000, not at/));
    const second = await files.append(id, 100_000, pieces(bytes.subarray(100_000), 70_000));
    assert.deepEqual(second, { receivedBytes: 300_000, complete: true });
    assert.deepEqual(await readFile(part(folder, id)), bytes);
  });

  it('goes on after the process has ended, from what is on disk', async () => {
    const folder = await ownFolder();
    const [id, bytes] = [randomUUID(), noise(50_000)];
    const before = await open(folder);
    await before.begin({ id, name: 'debian', sizeBytes: bytes.length });
    await before.append(id, 0, pieces(bytes.subarray(0, 20_000), 5_000));
    const after = await open(folder);
    assert.equal(await after.offset(id), 20_000);
    assert.equal((await after.append(id, 20_000, pieces(bytes.subarray(20_000), 9_000))).complete, true);
    assert.deepEqual(await readFile(part(folder, id)), bytes);
  });

  it('keeps what came when the source breaks off, is aborted, or falls silent', async () => {
    const files = await open(await ownFolder(), { idleMs: 60 });
    const bytes = noise(40_000);
    const begin = async (): Promise<string> => {
      const id = randomUUID();
      await files.begin({ id, name: id, sizeBytes: bytes.length });
      return id;
    };
    const broken = await begin();
    const breaks = pieces(bytes, 10_000, (at) => {
      if (at === 30_000) throw new Error('connection reset');
    });
    await assert.rejects(files.append(broken, 0, breaks), virgaError('cancelled', /connection reset/));
    assert.equal(await files.offset(broken), 30_000);

    const aborted = await begin();
    const abort = new AbortController();
    const hangs = pieces(bytes, 10_000, async (at) => {
      if (at < 20_000) return;
      abort.abort();
      await new Promise(() => {});
    });
    await assert.rejects(files.append(aborted, 0, hangs, { signal: abort.signal }), virgaError('cancelled'));
    assert.equal(await files.offset(aborted), 20_000);

    const silent = await begin();
    const stops = pieces(bytes, 10_000, async (at) => {
      if (at === 10_000) await new Promise(() => {});
    });
    await assert.rejects(files.append(silent, 0, stops), virgaError('timeout', /0.06 s/));
    assert.equal(await files.offset(silent), 10_000);
  });

  it('is taken over by the newer of two connections', async () => {
    const folder = await ownFolder();
    const files = await open(folder);
    const [id, bytes] = [randomUUID(), noise(40_000)];
    await files.begin({ id, name: 'debian', sizeBytes: bytes.length });
    let waiting = false;
    const dead = pieces(bytes, 10_000, async (at) => {
      if (at < 20_000) return;
      waiting = true;
      await new Promise(() => {});
    });
    const first = assert.rejects(files.append(id, 0, dead), virgaError('cancelled', /another connection/));
    await eventually(() => waiting, 'the first connection hangs');
    // What the first one brought is on disk only when it is ended: the second learns where to go on.
    await assert.rejects(files.append(id, 0, pieces(bytes, 1000)), virgaError('upload_offset', /20000/));
    await first;
    assert.equal((await files.append(id, 20_000, pieces(bytes.subarray(20_000), 1000))).complete, true);
    assert.deepEqual(await readFile(part(folder, id)), bytes);
  });

  it('is refused beyond its size, and unfinished below it', async () => {
    const files = await open(await ownFolder());
    const [id, bytes] = [randomUUID(), noise(10_000)];
    await files.begin({ id, name: 'debian', sizeBytes: 8_000 });
    await assert.rejects(files.begin({ id, name: 'debian', sizeBytes: 8_001 }), virgaError('upload_size'));
    await assert.rejects(files.finish(id, { format: 'raw' }), virgaError('upload_size', /8000 bytes, 0 arrived/));
    await assert.rejects(files.append(id, 0, pieces(bytes, 3_000)), virgaError('upload_size', /8000 bytes, 9000/));
    assert.equal(await files.offset(id), 8_000);
  });

  it('is bounded in size, number and disk space', async () => {
    const folder = await ownFolder();
    const files = await open(folder, { maxUploadBytes: 1000, maxUploads: 2 });
    const begin = async (sizeBytes: number): Promise<void> =>
      await files.begin({ id: randomUUID(), name: 'x', sizeBytes });
    for (const size of [0, 1001, 1.5, NaN]) await assert.rejects(begin(size), virgaError('limit'));
    const results = await Promise.allSettled([begin(1000), begin(1000), begin(1000)]);
    assert.deepEqual(results.map((result) => result.status).sort(), ['fulfilled', 'fulfilled', 'rejected']);
    await assert.rejects(begin(10), virgaError('overloaded', /limit 2/));
    const reserved = await open(await ownFolder(), { reserveBytes: 2 ** 52 });
    await assert.rejects(
      reserved.begin({ id: randomUUID(), name: 'x', sizeBytes: 10 }),
      virgaError('disk_full', /are kept for others/),
    );
    await assert.rejects(files.offset(randomUUID()), virgaError('not_found'));
    await assert.rejects(files.offset('../../etc/passwd'), virgaError('not_found'));
  });

  it('is gone after discard, and ends when the service closes', async () => {
    const folder = await ownFolder();
    const files = await open(folder);
    const [id, bytes] = [randomUUID(), noise(40_000)];
    await files.begin({ id, name: 'debian', sizeBytes: bytes.length });
    await files.append(id, 0, pieces(bytes.subarray(0, 100), 10));
    await files.discard(id);
    await files.discard(id);
    assert.deepEqual(await readdir(join(folder, 'uploads')), []);
    await assert.rejects(files.offset(id), virgaError('not_found'));

    await files.begin({ id, name: 'debian', sizeBytes: bytes.length });
    const hangs = pieces(bytes, 10_000, async (at) => await (at < 20_000 ? undefined : new Promise(() => {})));
    const running = assert.rejects(files.append(id, 0, hangs), virgaError('cancelled', /stops/));
    await files.close();
    await running;
    assert.ok((await files.offset(id)) <= 20_000);
    await assert.rejects(files.append(id, 20_000, pieces(bytes, 1)), virgaError('cancelled'));
  });
});

describe('before any tool touches it, an upload is refused', () => {
  /** An upload that is complete, and whose file was then replaced. */
  async function tampered(tamper: (file: string, folder: string) => Promise<void>): Promise<() => Promise<unknown>> {
    const folder = await ownFolder();
    const files = await open(folder);
    const [id, bytes] = [randomUUID(), buildRaw()];
    await files.begin({ id, name: 'debian', sizeBytes: bytes.length });
    await files.append(id, 0, pieces(bytes, 100_000));
    await tamper(part(folder, id), folder);
    return async () => await files.finish(id, { format: 'raw' });
  }

  it('when it is a symbolic link', async () => {
    const finish = await tampered(async (file, folder) => {
      await rename(file, join(folder, 'elsewhere'));
      await symlink(join(folder, 'elsewhere'), file);
    });
    await assert.rejects(finish(), virgaError('image_refused', /symbolic link/));
  });

  it('when it has a second name', async () => {
    const finish = await tampered(async (file, folder) => await link(file, join(folder, 'second')));
    await assert.rejects(finish(), virgaError('image_refused', /2 names/));
  });

  it('when it has another length than what came', async () => {
    const finish = await tampered(async (file) => await writeFile(file, 'short'));
    await assert.rejects(finish(), virgaError('upload_size', /5 arrived/));
  });

  it('when its digest or its header is wrong', async () => {
    const files = await open(await ownFolder());
    const [id, bytes] = [randomUUID(), noise(4096)];
    await files.begin({ id, name: 'debian', sizeBytes: bytes.length });
    await files.append(id, 0, pieces(bytes, 1000));
    const expectedSha512 = '0'.repeat(128);
    await assert.rejects(files.finish(id, { format: 'qcow2', expectedSha512 }), virgaError('image_digest', /debian/));
    await assert.rejects(files.finish(id, { format: 'qcow2' }), virgaError('image_refused', /no qcow2 header/));
  });
});

describe('sweep', () => {
  it('removes old files that belong to nothing, and only those', async () => {
    const folder = await ownFolder();
    const files = await open(folder);
    const [known, unknown, fresh] = [randomUUID(), randomUUID(), randomUUID()];
    for (const id of [known, unknown, fresh]) await files.begin({ id, name: 'x', sizeBytes: 10 });
    const [kept, lost] = ['a'.repeat(128), 'b'.repeat(128)];
    for (const digest of [kept, lost]) await writeFile(join(folder, 'stored', `${digest}.qcow2`), digest);
    await writeFile(join(folder, 'uploads', `${known}.json.abc.tmp`), 'half');
    const old = new Date(Date.now() - 2 * 3_600_000);
    for (const name of ['uploads', 'stored'])
      for (const file of await readdir(join(folder, name)))
        if (!file.startsWith(fresh)) await utimes(join(folder, name, file), old, old);
    const swept = await files.sweep(new Set([known]), new Set([kept]));
    assert.ok(swept.includes(`stored/${lost}.qcow2`));
    assert.deepEqual(await readdir(join(folder, 'stored')), [`${kept}.qcow2`]);
    const left = (await readdir(join(folder, 'uploads'))).sort();
    assert.deepEqual(left, [`${known}.json`, `${known}.part`, `${fresh}.json`, `${fresh}.part`].sort());
    assert.equal(await files.size(lost), undefined);
    assert.equal(await files.size(kept), 128);
    await files.removeStored(kept);
    assert.equal(await files.size(kept), undefined);
  });

  it('copies that were half made are gone at the next start', async () => {
    const folder = await ownFolder();
    await open(folder);
    await writeFile(join(folder, 'work', 'half.qcow2.tmp'), 'half');
    await open(folder);
    assert.deepEqual(await readdir(join(folder, 'work')), []);
  });
});

describe('stored copies', () => {
  it('are read whole or in part', async () => {
    const folder = await ownFolder();
    const files = await open(folder, { maxStreams: 1 });
    const [digest, bytes] = ['c'.repeat(128), noise(1000)];
    await writeFile(join(folder, 'stored', `${digest}.qcow2`), bytes);
    const read = async (range?: { start: number; end?: number }): Promise<Buffer> => {
      const opened = await files.open(digest, range);
      assert.equal(opened.sizeBytes, 1000);
      const got = Buffer.concat(await opened.stream.toArray());
      assert.equal(got.length, opened.range.end - opened.range.start + 1);
      return got;
    };
    assert.deepEqual(await read(), bytes);
    assert.deepEqual(await read({ start: 990 }), bytes.subarray(990));
    assert.deepEqual(await read({ start: 10, end: 19 }), bytes.subarray(10, 20));
    assert.deepEqual(await read({ start: 999, end: 5000 }), bytes.subarray(999));
    await assert.rejects(files.open(digest, { start: 1000 }), virgaError('invalid_request', /1000 bytes/));
    await assert.rejects(files.open('d'.repeat(128)), virgaError('not_found'));
    await assert.rejects(files.open('../../uploads/x'), virgaError('not_found'));
    const { stream } = await files.open(digest);
    await assert.rejects(files.open(digest), virgaError('overloaded'));
    stream.destroy();
    await rm(join(folder, 'stored'), { recursive: true });
  });
});
