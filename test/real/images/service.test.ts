import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { readdir, readFile, rm, stat, writeFile, chmod } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { describe, it } from 'node:test';
import { openImageFiles } from '../../../src/controller/images/service.ts';
import type { FinishedImage, ImageFiles, ImageFilesSettings } from '../../../src/controller/images/types.ts';
import type { ErrorCode } from '../../../src/core/errors.ts';
import type { ImageFormat } from '../../../src/core/model/image.ts';
import { systemClock } from '../../../src/effects/clock.ts';
import { durableFiles } from '../../../src/effects/files.ts';
import { writeOverlay } from '../../../src/effects/qcow2.ts';
import { sandboxedQemuImg } from '../../../src/effects/qemu-img.ts';
import { addExtension, buildBomb, buildQcow2, buildRaw, clusterBytes, firstData } from '../../unit/images/build.ts';
import { noise, ownFolder, pieces, quiet, sha512, virgaError } from '../../unit/images/kit.ts';

const MiB = 1024 ** 2;
const tool = sandboxedQemuImg();

async function open(folder: string, settings: Partial<ImageFilesSettings> = {}): Promise<ImageFiles> {
  const world = { tool, records: durableFiles(folder), clock: systemClock, log: quiet };
  return await openImageFiles({ folder, reserveBytes: 0, ...settings }, world);
}

async function upload(files: ImageFiles, bytes: Uint8Array): Promise<string> {
  const id = randomUUID();
  await files.begin({ id, name: 'debian', sizeBytes: bytes.length });
  assert.equal((await files.append(id, 0, pieces(bytes, 65_536))).complete, true);
  return id;
}

async function run(program: string, args: readonly string[]): Promise<string> {
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'], timeout: 30_000 });
  let said = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (said += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (said += text));
  const [code] = (await once(child, 'close')) as [number | null];
  assert.equal(code, 0, `${program}: ${said}`);
  return said;
}

/** The disk that a guest would see. */
async function content(folder: string, path: string): Promise<Buffer> {
  const raw = join(folder, 'content.raw');
  await run('qemu-img', ['convert', '-f', 'qcow2', '-O', 'raw', path, raw]);
  try {
    return await readFile(raw);
  } finally {
    await rm(raw);
  }
}

const stored = (folder: string, done: FinishedImage): string => join(folder, 'stored', `${done.stored.sha512}.qcow2`);

/** A disk with something in its first, second and last megabyte. */
function disk(): Buffer {
  const bytes = buildRaw(8 * MiB);
  noise(2 * MiB - 4096).copy(bytes, 4096);
  noise(1000).copy(bytes, 8 * MiB - 1000);
  return bytes.fill(0, 3 * MiB, 7 * MiB);
}

describe('a sound image', () => {
  it('given raw becomes a fresh qcow2 of the same disk, under its own digest', async () => {
    const folder = await ownFolder();
    const files = await open(folder);
    const bytes = disk();
    const id = await upload(files, bytes);
    const steps: [string, number][] = [];
    const onProgress = (step: string, fraction: number): number => steps.push([step, fraction]);
    const done = await files.finish(id, { format: 'raw', expectedSha512: sha512(bytes), onProgress });
    assert.equal(done.givenSha512, sha512(bytes));
    assert.equal(done.virtualBytes, bytes.length);
    const copy = await readFile(stored(folder, done));
    assert.equal(sha512(copy), done.stored.sha512);
    assert.equal(copy.length, done.stored.sizeBytes);
    assert.ok(copy.length < 5 * MiB, 'holes stay holes');
    assert.equal((await stat(stored(folder, done))).mode & 0o777, 0o444);
    assert.equal((await stat(stored(folder, done))).uid, process.getuid?.());
    assert.ok(bytes.equals(await content(folder, stored(folder, done))));
    assert.deepEqual([...new Set(steps.map(([step]) => step))], ['waiting', 'check', 'convert', 'verify']);
    assert.deepEqual(
      steps.map(([, at]) => at),
      steps.map(([, at]) => at).sort((a, b) => a - b),
    );
    assert.equal(steps.at(-1)?.[1], 1);
    assert.deepEqual(await readdir(join(folder, 'work')), []);

    // Repeated, also by the next process: the same answer. Given once more by somebody else: the same file.
    assert.deepEqual(await files.finish(id, { format: 'raw' }), done);
    assert.deepEqual(await (await open(folder)).finish(id, { format: 'raw' }), done);
    const second = await files.finish(await upload(files, bytes), { format: 'raw' });
    assert.deepEqual(second, done);
    await files.removeStored(done.stored.sha512);
    assert.equal(await files.size(done.stored.sha512), done.stored.sizeBytes, 'an upload still has it as its result');
    await files.discard(id);
    await files.open(done.stored.sha512).then(({ stream }) => stream.destroy());
  });

  it('given as qcow2, compressed, of version 2 or 3, is judged and converted too', async () => {
    const folder = await ownFolder();
    const files = await open(folder);
    const bytes = disk();
    const raw = join(folder, 'raw');
    await writeFile(raw, bytes);
    for (const options of [['-o', 'compat=0.10'], ['-c', '-o', 'compression_type=zstd'], ['-c'], []]) {
      const path = join(folder, 'given.qcow2');
      await run('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', ...options, raw, path]);
      const id = await upload(files, await readFile(path));
      const runs = await Promise.all([files.finish(id, { format: 'qcow2' }), files.finish(id, { format: 'qcow2' })]);
      assert.deepEqual(runs[0], runs[1]);
      assert.ok(bytes.equals(await content(folder, stored(folder, runs[0]))));
      await rm(path);
    }
    const tiny = await files.finish(await upload(files, buildQcow2({ map: [firstData] })), { format: 'qcow2' });
    assert.equal((await content(folder, stored(folder, tiny))).toString('latin1', 0, 12), 'virga!virga!');
  });
});

describe('a hostile image is refused, and nothing is kept of it:', () => {
  const change = (edit: (image: Buffer) => unknown, image = buildQcow2()): Buffer => {
    edit(image);
    return image;
  };
  const cases: readonly [string, ImageFormat, () => Buffer, RegExp, ErrorCode?][] = [
    [
      'backing file',
      'qcow2',
      () =>
        change((image) => {
          image.writeBigUInt64BE(512n, 8);
          image.writeUInt32BE(image.write('/etc/shadow', 512), 16);
        }),
      /backing file/,
    ],
    [
      'external data file',
      'qcow2',
      () => change((i) => addExtension(i, 0x44415441, Buffer.from('/etc/shadow')).writeBigUInt64BE(4n, 72)),
      /another file/,
    ],
    ['LUKS', 'qcow2', () => change((image) => image.writeUInt32BE(2, 32)), /encrypted/],
    ['internal snapshot', 'qcow2', () => change((image) => image.writeUInt32BE(1, 60)), /snapshots/],
    ['unknown features', 'qcow2', () => change((image) => image.writeBigUInt64BE(1n << 40n, 72)), /unknown/],
    ['huge disk', 'qcow2', () => buildQcow2({ virtualBytes: 2 ** 52 }), /limit of this site/],
    ['raw with a qcow2 magic', 'raw', () => buildQcow2(), /declared raw, but it is qcow2/],
    ['cut off in its tables', 'qcow2', () => buildQcow2().subarray(0, 3 * clusterBytes), /cut off/],
    ['cut off in its data', 'qcow2', () => buildQcow2().subarray(0, firstData * clusterBytes), /check finds/],
    ['bomb of 4 GiB', 'qcow2', () => buildBomb(8, false), /check finds \d+ errors/],
    ['bomb whose counters agree', 'qcow2', () => buildBomb(7, true), /57344 clusters of its disk share 6 clusters/],
    ['tables that overlap', 'qcow2', () => buildQcow2({ map: [1, 2, 3, firstData] }), /check finds/],
  ];
  for (const [name, format, build, words, code = 'image_refused'] of cases)
    it(name, async () => {
      const folder = await ownFolder();
      const files = await open(folder);
      const id = await upload(files, build());
      await assert.rejects(files.finish(id, { format }), virgaError(code, words));
      assert.deepEqual(await readdir(join(folder, 'stored')), []);
      assert.deepEqual(await readdir(join(folder, 'work')), []);
      await files.discard(id);
      assert.deepEqual(await readdir(join(folder, 'uploads')), []);
    });

  it('FIFO', async () => {
    const folder = await ownFolder();
    const files = await open(folder);
    const id = await upload(files, buildRaw());
    const part = join(folder, 'uploads', `${id}.part`);
    await rm(part);
    await run('mkfifo', [part]);
    await assert.rejects(files.finish(id, { format: 'raw' }), virgaError('image_refused', /not a regular file/));
    await assert.rejects((await open(folder)).offset(id), virgaError('image_refused', /not a regular file/));
  });
});

describe('qemu-img in the sandbox', () => {
  it('cannot follow a backing file to what is outside', async () => {
    const folder = await ownFolder();
    await chmod(folder, 0o755);
    const [secret, path] = [join(folder, 'secret'), join(folder, 'hostile.qcow2')];
    await writeFile(secret, Buffer.alloc(MiB, 'the secret of this host '), { mode: 0o644 });
    await run('qemu-img', ['create', '-q', '-f', 'qcow2', '-F', 'raw', '-b', secret, path]);
    // The control: without the sandbox the secret is in the copy.
    assert.match((await content(folder, path)).toString('latin1', 0, 100), /the secret/);
    const target = join(folder, 'copy.qcow2');
    const leak = tool.convert({ path, format: 'qcow2' }, target, { maxBytes: 10 * MiB });
    await assert.rejects(leak, virgaError('image_refused', /No such file or directory/));
    assert.deepEqual((await readdir(folder)).sort(), ['hostile.qcow2', 'secret']);
  });

  it('makes overlays, grows them, and says what they are', async () => {
    const folder = await ownFolder();
    const [base, path] = [join(folder, 'base.qcow2'), join(folder, 'overlay.qcow2')];
    await writeFile(base, buildQcow2());
    await writeOverlay({ path, backingPath: base, virtualBytes: 64 * MiB });
    const file = { path, format: 'qcow2' } as const;
    await tool.resize({ ...file, backing: [base] }, 128 * MiB);
    const info = await tool.info(file, { ours: true });
    assert.equal(info.virtualBytes, 128 * MiB);
    assert.equal(info.backingPath, base);
    assert.match((await content(folder, path)).toString('latin1', 0, 12), /virga!/);
    assert.match(await run('qemu-img', ['info', '--output=json', path]), /"backing-filename-format": "qcow2"/);
    const smaller = tool.resize({ ...file, backing: [base] }, 64 * MiB);
    await assert.rejects(smaller, virgaError('image_refused', /shrink/i));
    await assert.rejects(writeOverlay({ path, backingPath: 'relative', virtualBytes: 1 }), TypeError);
  });

  it('stops at its limits, and leaves nothing half made', async () => {
    const folder = await ownFolder();
    await chmod(folder, 0o755);
    const [path, target] = [join(folder, 'raw'), join(folder, 'copy.qcow2')];
    await writeFile(path, noise(16 * MiB), { mode: 0o644 });
    const file = { path, format: 'raw' } as const;
    const large = tool.convert(file, target, { maxBytes: 4 * MiB });
    await assert.rejects(large, virgaError('image_refused', /more than 4194304 bytes/));
    const late = tool.convert(file, target, { maxBytes: 64 * MiB, timeoutMs: 1 });
    await assert.rejects(late, virgaError('timeout', /qemu-img convert/));
    const poor = sandboxedQemuImg({ memoryBytes: 8 * MiB }).measure(file);
    await assert.rejects(poor, virgaError('image_refused'));
    const abort = new AbortController();
    const onProgress = (): void => abort.abort();
    const ended = tool.convert(file, target, { maxBytes: 64 * MiB, signal: abort.signal, onProgress });
    await assert.rejects(ended, virgaError('cancelled'));
    assert.deepEqual(await readdir(folder), ['raw']);
  });
});

describe('after kill -9', () => {
  const script = new URL('child.ts', import.meta.url).pathname;
  const begin = (order: object): ChildProcess => spawn(process.execPath, [script, JSON.stringify(order)]);

  /** Reads the child's lines until one fits, then kills it at once. */
  async function killAt(child: ChildProcess, wanted: (line: string) => boolean): Promise<void> {
    const closed = once(child, 'close');
    const deadline = setTimeout(() => child.kill('SIGKILL'), 20_000);
    try {
      for await (const line of createInterface({ input: child.stdout ?? process.stdin })) {
        if (!wanted(line)) continue;
        child.kill('SIGKILL');
        await closed;
        return;
      }
      assert.fail(`the child ended by itself: ${String(await closed)}`);
    } finally {
      clearTimeout(deadline);
      child.kill('SIGKILL');
    }
  }

  it('an upload goes on from what was acknowledged, to the same digest', async () => {
    const folder = await ownFolder();
    const bytes = Buffer.concat([buildRaw(MiB), noise(47 * MiB)]);
    const id = randomUUID();
    await (await open(folder)).begin({ id, name: 'debian', sizeBytes: bytes.length });
    const child = begin({ verb: 'append', folder, id });
    child.stdin?.on('error', () => undefined);
    // Not all of it: the child then waits for more in the middle of its append.
    child.stdin?.write(bytes.subarray(0, 40 * MiB));
    let acknowledged = 0;
    await killAt(child, (line) => (acknowledged = Number(/^durable (\d+)$/.exec(line)?.[1] ?? 0)) > 0);
    const files = await open(folder);
    const offset = await files.offset(id);
    assert.ok(offset >= acknowledged && offset <= 40 * MiB, `${offset} after ${acknowledged}`);
    await files.append(id, offset, pieces(bytes.subarray(offset), MiB));
    const steps = new Set<string>();
    const done = await files.finish(id, { format: 'raw', onProgress: (step) => steps.add(step) });
    assert.equal(done.givenSha512, sha512(bytes));
    assert.ok(steps.has('hash'), 'what the killed process had read is read once more');
    assert.equal(sha512(await readFile(stored(folder, done))), done.stored.sha512);
  });

  for (const step of ['check', 'convert', 'verify'])
    it(`a conversion that was at "${step}" is done again`, async () => {
      const folder = await ownFolder();
      const bytes = Buffer.concat([buildRaw(MiB), noise(15 * MiB)]);
      const id = await upload(await open(folder), bytes);
      await killAt(begin({ verb: 'finish', folder, id, format: 'raw' }), (line) => line === `step ${step}`);
      const files = await open(folder);
      assert.deepEqual(await readdir(join(folder, 'work')), []);
      const done = await files.finish(id, { format: 'raw' });
      assert.equal(done.givenSha512, sha512(bytes));
      assert.ok(bytes.equals(await content(folder, stored(folder, done))));
      assert.deepEqual(await readdir(join(folder, 'stored')), [`${done.stored.sha512}.qcow2`]);
    });
});

describe('on a full disk', () => {
  /** In a mount name space of its own: the tmpfs is gone with the process. */
  async function onTmpfs(verb: string): Promise<Readonly<Record<string, unknown>>> {
    const folder = await ownFolder();
    const script = new URL('child.ts', import.meta.url).pathname;
    const order = JSON.stringify({ verb, folder, id: randomUUID() });
    const mounted = 'mount -t tmpfs -o size=28m,mode=755 tmpfs "$1" && exec "$2" "$3" "$4"';
    const shell = ['--mount', '--propagation', 'private', 'sh', '-c', mounted, 'sh', folder, process.execPath];
    return JSON.parse(await run('unshare', [...shell, script, order])) as Readonly<Record<string, unknown>>;
  }

  it('what came is kept, other uploads are refused, and it goes on when there is space', async () => {
    const { kept, keptAfterRestart, ...rest } = await onTmpfs('fill');
    assert.ok(typeof kept === 'number' && kept >= 4 * MiB && kept < 12 * MiB, `${String(kept)} bytes kept`);
    assert.equal(keptAfterRestart, kept);
    assert.deepEqual(rest, {
      append: 'disk_full',
      other: 'disk_full',
      complete: true,
      finish: 'disk_full',
      right: true,
    });
  });

  it('a host keeps what came of an image, and goes on when there is space', async () => {
    const found = await onTmpfs('cache');
    assert.deepEqual(found, { first: 'disk_full', second: 'disk_full', right: true, fetches: 2, resumed: true });
  });
});

describe('several at once', () => {
  it('wait for each other in a bounded queue, and end when their image is deleted', async () => {
    const folder = await ownFolder();
    const files = await open(folder, { maxWaiting: 1 });
    const image = (): Buffer => Buffer.concat([buildRaw(MiB), noise(7 * MiB)]);
    const [first, second, third] = [
      await upload(files, image()),
      await upload(files, image()),
      await upload(files, image()),
    ];
    const runs = [files.finish(first, { format: 'raw' }), files.finish(second, { format: 'raw' })];
    await assert.rejects(files.finish(third, { format: 'raw' }), virgaError('overloaded', /conversions/));
    const gone = assert.rejects(runs[1] ?? Promise.resolve(), virgaError('cancelled'));
    await files.discard(second);
    await gone;
    const done = await runs[0];
    const abort = new AbortController();
    const ended = files.finish(third, { format: 'raw', signal: abort.signal, onProgress: () => abort.abort() });
    await assert.rejects(ended, virgaError('cancelled'));
    assert.equal((await files.finish(third, { format: 'raw' })).virtualBytes, 8 * MiB);
    assert.equal((await readdir(join(folder, 'stored'))).length, 2);
    assert.ok(done !== undefined && (await files.size(done.stored.sha512)) === done.stored.sizeBytes);
  });
});
