/** The example of docs/libvirt.md is run as it stands there. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { startDaemon } from './daemon.ts';

const ROOT = new URL('../../../', import.meta.url);

test('the example works', { timeout: 60_000 }, async (t) => {
  const daemon = await startDaemon();
  t.after(() => daemon.stop());
  const page = await readFile(new URL('docs/libvirt.md', ROOT), 'utf8');
  const example = /```ts\n(.*?)```/s.exec(page)?.[1];
  assert.ok(example, 'the page has an example');
  const path = join(daemon.dir, 'example.ts');
  await writeFile(path, example.replace('../src/', new URL('src/', ROOT).href));
  const env = { ...process.env, LIBVIRT_DEFAULT_URI: `test:///default?socket=${daemon.socket}` };
  const { stdout, stderr } = await promisify(execFile)(process.execPath, [path], { env, timeout: 30_000 });
  assert.equal(stderr, '');
  assert.deepEqual(stdout.trimEnd().split('\n'), [
    'virga-test: 16 × i686',
    'example was started',
    'example: state 1',
    'example was stopped',
    'gone: VIR_ERR_NO_DOMAIN',
  ]);
});
