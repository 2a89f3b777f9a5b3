/** The files that the agent writes itself instead of calling a tool, as the tools read them. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { promisify } from 'node:util';
import { isoImage } from '../../../src/agent/iso.ts';
import { readVirtualBytes, writeOverlay } from '../../../src/effects/qcow2.ts';

const GiB = 1024 ** 3;
const run = async (program: string, ...args: string[]): Promise<string> =>
  (await promisify(execFile)(program, args, { timeout: 20_000 })).stdout;

describe('files written without a tool', () => {
  let folder = '';
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'virga-media-'));
  });
  after(() => rm(folder, { recursive: true, force: true }));

  for (const [what, bytes] of [
    ['empty', 0],
    ['one sector', 512],
    ['odd, rounded up to a sector', 100 * 1024 ** 2 + 1],
    ['ten GiB', 10 * GiB],
    ['one table exactly', 4096 * GiB],
    ['more than one cluster of tables', 4097 * GiB],
    ['a hundred TiB', 100 * 1024 * GiB],
  ] as const)
    test(`an overlay is sound: ${what}`, async () => {
      const path = join(folder, `${bytes}.qcow2`);
      const base = join(folder, `base-${bytes}.qcow2`);
      await run('qemu-img', 'create', '-q', '-f', 'qcow2', base, String(Math.ceil(bytes / 512) * 512));
      await writeOverlay({ path, backingPath: base, virtualBytes: bytes, passing: bytes === 512 });
      const check = JSON.parse(await run('qemu-img', 'check', '-f', 'qcow2', '--output=json', path)) as object;
      assert.equal('corruptions' in check || 'leaks' in check, false, JSON.stringify(check));
      const info = JSON.parse(await run('qemu-img', 'info', '-f', 'qcow2', '--output=json', path)) as Record<
        string,
        unknown
      >;
      assert.equal(info['virtual-size'], Math.ceil(bytes / 512) * 512);
      assert.equal(info['backing-filename'], base);
      assert.equal(info['backing-filename-format'], 'qcow2');
      assert.equal(await readVirtualBytes(path), info['virtual-size']);
      assert.equal((await stat(path)).mode & 0o777, 0o600);
      if (bytes < GiB) return;
      // Written at both ends, and sound afterwards.
      await run('qemu-io', '-f', 'qcow2', '-c', 'write -P 7 0 64k', '-c', `write -P 9 ${bytes - 65_536} 64k`, path);
      const read = await run(
        'qemu-io',
        '-f',
        'qcow2',
        '-c',
        `read -P 9 ${bytes - 65_536} 64k`,
        '-c',
        'read -P 0 1M 64k',
        path,
      );
      assert.doesNotMatch(read, /failed/);
      await run('qemu-img', 'check', '-f', 'qcow2', path);
    });

  test('an overlay is the same to QEMU as its own tool’s', async () => {
    const [ours, theirs] = [join(folder, 'ours.qcow2'), join(folder, 'theirs.qcow2')];
    const base = join(folder, 'base.qcow2');
    await run('qemu-img', 'create', '-q', '-f', 'qcow2', base, '1G');
    await run('qemu-io', '-f', 'qcow2', '-c', 'write -P 5 1M 3M', base);
    await writeOverlay({ path: ours, backingPath: base, virtualBytes: 2 * GiB });
    await run('qemu-img', 'create', '-q', '-f', 'qcow2', '-F', 'qcow2', '-b', base, theirs, '2G');
    for (const path of [ours, theirs]) await run('qemu-io', '-f', 'qcow2', '-c', 'write -P 6 2M 1M', path);
    assert.match(await run('qemu-img', 'compare', '-f', 'qcow2', '-F', 'qcow2', ours, theirs), /identical/);
  });

  test('what is no qcow2 file, cannot be written, or has no place is refused', async () => {
    const path = join(folder, 'raw');
    await writeFile(path, Buffer.alloc(64));
    await assert.rejects(readVirtualBytes(path), { code: 'image_refused' });
    const backingPath = join(folder, 'b');
    await assert.rejects(writeOverlay({ path: join(folder, 'x'), backingPath, virtualBytes: 2 ** 60 }), {
      code: 'invalid_request',
    });
    await assert.rejects(writeOverlay({ path: join(folder, 'no', 'x'), backingPath, virtualBytes: 1 }), {
      code: 'ENOENT',
    });
    assert.equal(
      (await readdir(folder)).some((name) => name.endsWith('.tmp')),
      false,
    );
  });

  test('a medium is read to the last byte (by a kernel: each guest of the other tests)', async () => {
    const contents = {
      'meta-data': '{"instance-id":"i-1"}\n',
      'user-data': `#cloud-config\n${'ü'.repeat(30_000)}`,
      'network-config': 'n'.repeat(2048),
      empty: '',
    };
    const path = join(folder, 'seed.iso');
    await writeFile(path, isoImage('cidata', contents, new Date(Date.UTC(2026, 10, 21, 12, 30, 15))));
    assert.match(await run('blkid', '-o', 'export', path), /^LABEL=cidata$/m);
    const out = join(folder, 'out');
    await run('xorriso', '-read_fs', 'norock', '-osirrox', 'on', '-indev', path, '-extract', '/', out);
    assert.deepEqual((await readdir(out)).sort(), Object.keys(contents).sort());
    for (const [name, text] of Object.entries(contents)) assert.equal(await readFile(join(out, name), 'utf8'), text);
    assert.equal((await stat(join(out, 'meta-data'))).mtime.toISOString(), '2026-11-21T12:30:15.000Z');
    const listed = await run('xorriso', '-read_fs', 'norock', '-indev', path, '-find', '/', '-type', 'f');
    for (const name of Object.keys(contents)) assert.ok(listed.includes(`'/${name}'`), listed);
    const plain = await run('xorriso', '-read_fs', 'nojoliet', '-indev', path, '-find', '/', '-type', 'f');
    assert.equal(plain.trim().split('\n').length, 4, plain);
    assert.throws(() => isoImage('x', { ['n'.repeat(40)]: '' }, new Date()), RangeError);
  });
});
