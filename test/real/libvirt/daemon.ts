/**
 * A real libvirtd for tests, private to the test: its own mount, process, network and host-name namespaces, its own
 * configuration, state and sockets, no KVM. Nothing of it outlives the test, also when the test is killed.
 */
import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/**
 * Process 1 of the daemon's world. libvirtd must not be process 1 (it does not reap QEMU's probes, and then each first
 * call takes 40 s), so this shell is. It obeys lines on its standard input; when that ends, because the test said so or
 * died, it kills everything, removes the folder and goes, and the kernel ends what may be left of the namespace.
 */
const INIT = `
set -u
dir=$1
mount --bind "$dir/run" /run
for part in lib log cache; do mkdir -p "/var/$part/libvirt" && mount --bind "$dir/$part" "/var/$part/libvirt"; done
mount --bind "$dir/etc" /etc/libvirt
mount --bind "$dir/hosts" /etc/hosts
if [ -e /dev/kvm ]; then mount --bind "$dir/nokvm" /dev/kvm && mount -o remount,ro,bind /dev/kvm; fi
hostname virga-test
exec 2>"$dir/init.err"
ip link set lo up
while read -r command signal; do
  case $command in
    start) libvirtd --pid-file /run/libvirtd.pid >>"$dir/libvirtd.out" 2>&1 & pid=$! ;;
    signal)
      kill "-$signal" "$pid"
      # A stopped process must have stopped before the test goes on.
      [ "$signal" != STOP ] || until [ "$(cut -d ' ' -f 3 "/proc/$pid/stat")" = T ]; do :; done ;;
  esac
  echo done
done
kill -KILL -1
cd /
rm -rf "$dir"
`;

/** The daemon, and what a test may do to it. */
export interface TestDaemon {
  /** Folder of everything it owns; `run/libvirt` in it holds the sockets. */
  readonly dir: string;
  readonly runDir: string;
  /** Path of the classic socket. */
  readonly socket: string;
  /** Sends a signal to libvirtd itself; resolves when it was sent, and after STOP when it has stopped. */
  signal(name: 'KILL' | 'STOP' | 'CONT' | 'TERM'): Promise<void>;
  /** Starts libvirtd again, after it was killed; resolves when it listens. */
  start(): Promise<void>;
  /** Resolves when libvirtd does not run any more. */
  gone(): Promise<void>;
  /** Ends everything and removes the folder. */
  stop(): Promise<void>;
  /** What libvirtd has logged. */
  log(): Promise<string>;
}

/** Waits until `probe` gives something other than undefined or false. Fails after `limitMs`. */
export async function until<T>(
  what: string,
  probe: () => T | undefined | false | Promise<T | undefined | false>,
  limitMs = 20_000,
): Promise<T> {
  const deadline = performance.now() + limitMs;
  for (;;) {
    const found = await probe();
    if (found !== undefined && found !== false) return found;
    assert.ok(performance.now() < deadline, `${what}: not within ${limitMs} ms`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** Starts a libvirtd and waits until it listens. Needs root. */
export async function startDaemon(): Promise<TestDaemon> {
  const dir = await mkdtemp(join(tmpdir(), 'virga-libvirt-'));
  await prepare(dir);
  const flags = ['--mount', '--uts', '--net', '--pid', '--fork', '--mount-proc', '--kill-child'];
  const world = spawn('unshare', [...flags, 'bash', '-c', INIT, 'init', dir], {
    stdio: ['pipe', 'pipe', 'inherit'],
    cwd: '/',
  });
  const daemon = control(dir, world);
  try {
    await daemon.start();
    return daemon;
  } catch (error) {
    await daemon.stop();
    throw error;
  }
}

async function prepare(dir: string): Promise<void> {
  for (const part of ['run', 'lib', 'log', 'cache', 'etc', 'run/libvirt', 'run/lock']) await mkdir(join(dir, part));
  await writeFile(join(dir, 'nokvm'), '');
  await writeFile(join(dir, 'hosts'), '127.0.0.1 localhost virga-test\n');
  await writeFile(
    join(dir, 'etc/libvirtd.conf'),
    [
      'auth_unix_rw = "none"',
      'auth_unix_ro = "none"',
      'unix_sock_group = "root"',
      'unix_sock_rw_perms = "0770"',
      `host_uuid = "${randomUUID()}"`,
      'log_outputs = "3:file:/var/log/libvirt/libvirtd.log"',
    ].join('\n'),
  );
  await writeFile(
    join(dir, 'etc/qemu.conf'),
    [
      'user = "root"',
      'group = "root"',
      'cgroup_controllers = []',
      'security_driver = "none"',
      'namespaces = []',
      'stdio_handler = "file"',
    ].join('\n'),
  );
}

function control(dir: string, world: ChildProcess): TestDaemon {
  const runDir = join(dir, 'run/libvirt');
  const socket = join(runDir, 'libvirt-sock');
  const log = () => readFile(join(dir, 'log/libvirtd.log'), 'utf8').catch(() => '');
  const command = async (line: string): Promise<void> => {
    assert.ok(world.stdin?.writable && world.stdout, 'the daemon’s world has ended');
    const done = once(world.stdout, 'data', { signal: AbortSignal.timeout(10_000) });
    world.stdin.write(`${line}\n`);
    await done;
  };
  return {
    dir,
    runDir,
    socket,
    log,
    signal: (name) => command(`signal ${name}`),
    gone: async () => {
      await until('libvirtd ends', async () => !(await listens(socket)));
    },
    start: async () => {
      await rm(socket, { force: true });
      await command('start');
      await until('libvirtd listens', async () => {
        assert.equal(world.exitCode, null, `the daemon’s world has ended: ${await log()}`);
        return listens(socket);
      });
    },
    stop: async () => {
      if (world.exitCode === null && world.signalCode === null) {
        const ended = once(world, 'exit');
        world.stdin?.end();
        const timer = setTimeout(() => world.kill('SIGKILL'), 10_000);
        await ended;
        clearTimeout(timer);
      }
      if (existsSync(dir)) await rm(dir, { recursive: true, force: true });
    },
  };
}

function listens(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ path });
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}
