/** Real fence agents (and hostile ones) as the controller runs them: as an ordinary user, in a room of their own. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { chmod, chown, mkdir, mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { dirname, join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { Authority } from '../../../src/controller/ca.ts';
import { findUser } from '../../../src/controller/privileges.ts';
import type { PowerSight } from '../../../src/ports.ts';

const run = promisify(execFile);
const root = join(dirname(fileURLToPath(import.meta.url)), '../../..');
const showing = '/mnt';
const child = join(dirname(fileURLToPath(import.meta.url)), 'fence-child.ts');
let base: string;
let user: { readonly uid: number; readonly gid: number };
const data = (): string => join(base, 'data');
const work = (name: string): string => join(data(), 'fence/work', name);

before(async () => {
  user = (await findUser('virga')) ?? { uid: 65_534, gid: 65_534 };
  // Not below /tmp or /var/tmp: the room has those empty.
  base = await mkdtemp('/var/lib/virga-fence-');
  await chmod(base, 0o711);
  await mkdir(join(base, 'programs'), { mode: 0o755 });
  await mkdir(work(''), { recursive: true });
  await chmod(join(data(), 'fence'), 0o711);
  await writeFile(join(data(), 'ca-key'), 'the crown jewels', { mode: 0o600 });
  for (const path of ['', 'ca-key', 'fence', 'fence/work']) await chown(join(data(), path), user.uid, user.gid);
});
after(async () => rm(base, { recursive: true, force: true }));

async function agent(name: string, script: string): Promise<string> {
  const path = join(base, 'programs', `fence_${name}`);
  await writeFile(path, `#!/usr/bin/python3\nimport os, sys, time, signal\n${script}`, { mode: 0o755 });
  await chmod(path, 0o755);
  return `fence_${name}`;
}

/** Understands `metadata`; everything else is `then`, with the parameters in `given`. */
const behaves = (then: string, parameters = ''): string =>
  [
    'given = dict(line.strip().split("=", 1) for line in sys.stdin if "=" in line)',
    'action = given["action"]',
    'if action == "metadata":',
    `    print('<resource-agent name="x" ><parameters>${parameters}</parameters><actions><action name="off" /><action name="status" /><action name="reboot" /></actions></resource-agent>')`,
    '    sys.exit(0)',
    then,
  ].join('\n');

async function use(what: 'off' | 'status', name: string, parameters: Record<string, string> = {}): Promise<PowerSight> {
  const device = JSON.stringify({ agent: name, parameters });
  // The checkout may be closed to other users: they are shown it, in a mount namespace of their own.
  const shown = (path: string): string => (path.startsWith(`${root}/`) ? join(showing, path.slice(root.length)) : path);
  const node = [shown(process.execPath), shown(child), data(), join(base, 'programs'), what, device];
  const script = 'mount --bind "$1" "$2"; shift 2; exec "$@"';
  const drop = ['setpriv', `--reuid=${user.uid}`, `--regid=${user.gid}`, '--clear-groups', '--', ...node];
  const argv = ['--mount', '--propagation', 'private', 'sh', '-ec', script, 'sh', root, showing, ...drop];
  const { stdout } = await run('unshare', argv, { timeout: 60_000, env: { PATH: process.env['PATH'] ?? '' } });
  return JSON.parse(stdout) as PowerSight;
}

/** Processes whose command line holds the text; a mark that only the test's own agents carry. */
async function alive(mark: string): Promise<readonly string[]> {
  const found: string[] = [];
  for (const pid of (await readdir('/proc')).filter((each) => /^\d+$/.test(each))) {
    const line = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '');
    if (line.includes(mark)) found.push(pid);
  }
  return found;
}

const dummy = { skip: existsSync('/usr/sbin/fence_dummy') ? false : 'package fence-agents is not installed' };
test('fence_dummy of the distribution: on, cut, off', dummy, async () => {
  await writeFile(work('status'), 'on');
  await chown(work('status'), user.uid, user.gid);
  const parameters = { status_file: work('status') };
  assert.equal((await use('status', 'fence_dummy', parameters)).power, 'on');
  assert.equal((await use('off', 'fence_dummy', parameters)).power, 'off');
  assert.equal((await readFile(work('status'), 'utf8')).trim(), 'off');
  assert.equal((await use('status', 'fence_dummy', { ...parameters, plugg: '1' })).failure, 'refused');
});

test('agents of the distribution that cut no power are refused by what they say of themselves', dummy, async () => {
  const scsi = (await readFile('/usr/sbin/fence_scsi', 'utf8')).replace(/^#!.*\n/, '');
  const name = await agent('renamed', scsi);
  const sight = await use('off', name);
  assert.equal(sight.failure, 'refused');
  assert.match(sight.detail, /no reboot/);
});

test('an agent that hangs is killed with what it started, sessions of their own included', async () => {
  const mark = `hang-${process.pid}-${Date.now()}`;
  const name = await agent(
    'hangs',
    behaves(
      `signal.signal(signal.SIGTERM, signal.SIG_IGN)\nif os.fork() == 0:\n    os.setsid()\n    signal.signal(signal.SIGHUP, signal.SIG_IGN)\n    os.execv("/usr/bin/python3", ["python3", "-c", "import time; time.sleep(600)", "${mark}"])\ntime.sleep(600)`,
    ),
  );
  const watched = use('status', name);
  while ((await alive(mark)).length === 0) {
    const ended = await Promise.race([watched.then(() => true), new Promise((done) => setImmediate(done, false))]);
    assert.equal(ended, false, 'it ended before its child was seen');
  }
  const sight = await watched;
  assert.equal(sight.failure, 'timeout');
  assert.ok(sight.ms < 4000, `${sight.ms} ms`);
  const limit = Date.now() + 5000;
  while ((await alive(mark)).length > 0) assert.ok(Date.now() < limit, 'its child lives on');
});

test('exit 2 without the words, both words, or a flood of them: not off', async () => {
  const mute = await agent('mute', behaves('sys.exit(2)'));
  assert.equal((await use('off', mute)).power, 'unknown');
  const both = await agent('both', behaves('print("Status: ON\\nStatus: OFF")\nsys.exit(2)'));
  assert.equal((await use('off', both)).power, 'unknown');
  const flood = await agent('flood', behaves('while True: print("Status: OFF " * 1000)'));
  const sight = await use('status', flood);
  assert.equal(sight.power, 'unknown');
  assert.ok(sight.detail.length <= 200);
});

test('says off, then on: the power is not off', async () => {
  const liar = await agent('liar', behaves('print("Status: ON" if action == "status" else "Success: Powered OFF")'));
  assert.equal((await use('off', liar)).power, 'on');
});

test('the secret goes in on standard input and nowhere else', async () => {
  const parameter = '<parameter name="password" />';
  const tells = behaves(
    [
      'seen = open("/proc/self/cmdline").read() if os.path.exists("/proc/self/cmdline") else " ".join(sys.argv)',
      'assert "geheim" not in seen + str(dict(os.environ))',
      'print("it is " + given["password"] + " here", file=sys.stderr)',
      'sys.exit(1)',
    ].join('\n'),
    parameter,
  );
  const name = await agent('tells', tells);
  await writeFile(join(data(), 'fence/pw'), 'geheim42\n', { mode: 0o600 });
  await chown(join(data(), 'fence/pw'), user.uid, user.gid);
  const sight = await use('status', name, { password_file: 'pw' });
  assert.equal(sight.detail, 'exit 1: it is *** here');
  await chmod(join(data(), 'fence/pw'), 0o640);
  assert.match((await use('status', name, { password_file: 'pw' })).detail, /0600/);
  assert.match((await use('status', name, { password_file: '../ca-key' })).detail, /must be a file of mode 0600 in/);
  assert.match((await use('status', name, { password_file: 'none' })).detail, /ENOENT/);
});

test('it sees neither our data nor our sockets, and runs without rights', async () => {
  const looks = behaves(
    [
      `paths = ["${join(data(), 'ca-key')}", "/run/virga", "/proc/1/environ", "/tmp/x"]`,
      'found = [path for path in paths if os.path.exists(path)]',
      'rights = [os.geteuid() == 0, os.getppid() > 2]',
      'try:\n    open("/usr/x", "w")\n    found.append("/usr")\nexcept OSError:\n    pass',
      'print("found", found, rights, sorted(os.environ), file=sys.stderr)',
      'sys.exit(1)',
    ].join('\n'),
  );
  const sight = await use('status', await agent('looks', looks));
  assert.match(sight.detail, /found \[\] \[False, False\] \['HOME', 'LANG', 'LC_ALL', 'PATH'/);
});

test('a program that others than root can change is refused', async () => {
  const name = await agent('open', behaves('sys.exit(2)'));
  await chmod(join(base, 'programs', name), 0o777);
  assert.match((await use('off', name)).detail, /others than root can change it/);
});

/** A management board that speaks Redfish over HTTPS. `obeys`: it cuts the power when it is told to. */
async function board(
  obeys: boolean,
): Promise<{ readonly port: number; readonly seen: string[]; close(): Promise<void> }> {
  const authority = await Authority.create(join(base, `board-${String(obeys)}`), 'board', 'board', Date.now());
  const { certificate: cert, key } = await authority.serverIdentity(['127.0.0.1'], Date.now());
  const seen: string[] = [];
  let power = 'On';
  const server = createServer({ cert, key }, (request, response) => {
    seen.push(`${request.method} ${request.url}`);
    const known = request.headers.authorization === `Basic ${Buffer.from('virga:geheim42').toString('base64')}`;
    request.resume().on('end', () => {
      if (known && request.method === 'POST' && obeys) power = 'Off';
      response.writeHead(known ? 200 : 401, { 'content-type': 'application/json' });
      const Actions = { '#ComputerSystem.Reset': { target: '/redfish/v1/Systems/1/Actions/ComputerSystem.Reset' } };
      response.end(known ? JSON.stringify({ PowerState: power, Actions }) : '{}');
    });
  });
  await new Promise<void>((done) => {
    server.listen(0, '127.0.0.1', done);
  });
  const { port } = server.address() as AddressInfo;
  return {
    port,
    seen,
    async close() {
      server.closeAllConnections();
      await new Promise((done) => server.close(done));
    },
  };
}

const redfish = { skip: existsSync('/usr/sbin/fence_redfish') ? false : 'package fence-agents is not installed' };
for (const obeys of [true, false])
  test(
    `fence_redfish and a board that ${obeys ? 'cuts the power' : 'says yes and does nothing'}`,
    redfish,
    async () => {
      const served = await board(obeys);
      try {
        await writeFile(join(data(), 'fence/board'), 'geheim42\n', { mode: 0o600 });
        await chown(join(data(), 'fence/board'), user.uid, user.gid);
        const parameters = {
          ip: '127.0.0.1',
          ipport: String(served.port),
          username: 'virga',
          ssl_insecure: '1',
          systems_uri: '/redfish/v1/Systems/1',
          power_timeout: '2',
          password_file: 'board',
        };
        assert.equal((await use('status', 'fence_redfish', parameters)).power, 'on');
        const sight = await use('off', 'fence_redfish', parameters);
        assert.equal(sight.power, obeys ? 'off' : 'unknown', sight.detail);
        assert.ok(served.seen.some((line) => line.startsWith('POST ')));
        const { password_file: _, ...open } = parameters;
        assert.notEqual((await use('status', 'fence_redfish', open)).power, 'off');
      } finally {
        await served.close();
      }
    },
  );
