/** The user's own libvirtd, found by a session URI. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chown, mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { LibvirtClient } from '../../../src/libvirt/index.ts';
import { until } from './daemon.ts';

/** nobody */
const USER = 65_534;

test('qemu:///session reaches the daemon of an ordinary user', { timeout: 60_000 }, async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'virga-session-'));
  await mkdir(join(dir, 'home'));
  for (const path of [dir, join(dir, 'home')]) await chown(path, USER, USER);
  const env = { PATH: process.env['PATH'], HOME: join(dir, 'home'), XDG_RUNTIME_DIR: dir };
  // A process namespace of its own: whatever libvirtd starts ends with it.
  const command = ['setpriv', `--reuid=${USER}`, `--regid=${USER}`, '--clear-groups', 'libvirtd'];
  const flags = ['--mount', '--net', '--pid', '--fork', '--mount-proc', '--kill-child'];
  const script = 'if [ -e /dev/kvm ]; then mount --bind /dev/null /dev/kvm; fi; "$@" & wait $!';
  const world = spawn('unshare', [...flags, 'bash', '-c', script, 'init', ...command], {
    env,
    stdio: 'ignore',
    cwd: '/',
  });
  t.after(async () => {
    const ended = once(world, 'exit');
    if (world.exitCode === null && world.kill('SIGKILL')) await ended;
    await rm(dir, { recursive: true, force: true });
  });
  const options = { uri: 'qemu:///session', env };
  const client = await until('the session daemon answers', () => LibvirtClient.open(options).catch(() => undefined));
  t.after(() => client.close());
  assert.equal((await client.call('connectGetUri')).uri, 'qemu:///session');
  assert.deepEqual(await client.listDomains(), []);
});
