/** The command line against a real controller: images, networks, access, site files; as a user types it. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { program, ran, type Ran } from '../../kit/virga.ts';
import { makeImage, site as openSite, until, type Site } from '../controller/kit.ts';
import { Terminal } from './terminal.ts';

let site: Site;
let folder: string;
const at = (name: string): string => join(folder, name);
const env = (): Record<string, string> => ({
  VIRGA_SOCKET: site.controller.socketPath,
  XDG_CONFIG_HOME: at('config'),
  NO_COLOR: '1',
});
const virga = (...args: string[]): Promise<Ran> => ran(program, args, 60_000, env());
/** Runs it, demands success, gives standard output. */
async function ok(...args: string[]): Promise<string> {
  const done = await virga(...args);
  assert.equal(done.code, 0, `virga ${args.join(' ')}\n${done.stdout}${done.stderr}`);
  return done.stdout;
}

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'virga-cli-'));
  site = await openSite();
});
after(async () => {
  await site?.stop();
  await rm(folder, { recursive: true, force: true });
});

test('status, and lists of nothing', async () => {
  assert.match(await ok('status'), /^test {2}Virga 0\.0\.0-test/);
  assert.equal(await ok('guest', 'list', '-q'), '');
  assert.deepEqual(JSON.parse(await ok('host', 'list', '--json')), []);
  const refused = await virga('guest', 'run', 'nothing');
  assert.equal(refused.code, 1);
  assert.match(refused.stderr, /There is no image "nothing"/);
});

test('an image from a file: digest checked, downloaded again and verified, refused while it is not what was said', async () => {
  await makeImage(at('Small Disk_1.qcow2'), '24M');
  const sum = createHash('sha512')
    .update(await readFile(at('Small Disk_1.qcow2')))
    .digest('hex');
  const added = await virga('image', 'add', at('Small Disk_1.qcow2'), '--sha512', sum, '--label', 'os=none');
  assert.equal(added.stdout, 'small-disk-1\n', added.stderr);
  assert.match(added.stderr, /small-disk-1: 100 % /, 'without a terminal a line per tenth');
  assert.match(await ok('image', 'list'), /small-disk-1 +ready +qcow2 .* 24 MiB/);
  assert.match(await ok('image', 'download', 'small-disk-1', at('copy.qcow2')), /verified/);
  const shown = JSON.parse(await ok('image', 'show', 'small-disk-1', '--json')) as {
    status: { stored: { sha512: string } };
  };
  assert.equal(
    createHash('sha512')
      .update(await readFile(at('copy.qcow2')))
      .digest('hex'),
    shown.status.stored.sha512,
  );
  assert.equal((await virga('image', 'download', 'small-disk-1', at('copy.qcow2'))).code, 2, 'nothing is overwritten');

  const wrong = await virga('image', 'add', at('Small Disk_1.qcow2'), '--name', 'wrong', '--sha512', '0'.repeat(128));
  assert.equal(wrong.code, 1);
  assert.match(wrong.stderr, /digest/);
  await writeFile(at('noise.img'), randomBytes(70_000));
  assert.equal((await virga('image', 'add', at('noise.img'))).code, 2, 'the format is never guessed');
  const refused = await virga('image', 'add', at('noise.img'), '--format', 'qcow2');
  assert.equal(refused.code, 1);
  assert.match(refused.stderr, /^virga: The image is refused: it is declared qcow2/m);
  await ok('image', 'rename', 'small-disk-1', 'small');
  assert.equal((await virga('image', 'delete', 'noise')).code, 5);
  await ok('image', 'delete', 'noise', '--yes');
});

test('an upload that was killed is gone on with by the same command', async () => {
  // Slow enough to be met in the middle: the client is fed through a pipe of the address, a part every moment.
  const whole = await qcow2Of(48 * 1024 ** 2);
  let answers = 0;
  const server = createServer((request, response) => {
    answers += 1;
    response.writeHead(200, { 'content-length': whole.length });
    // The first time all but the end comes, and then nothing more.
    if (answers > 1) response.end(whole);
    else response.write(whole.subarray(0, 40 * 1024 ** 2));
    request.once('close', () => response.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  const url = `http://127.0.0.1:${port}/big.qcow2`;
  try {
    const first = spawn(program, ['image', 'add', url], {
      env: { ...process.env, ...env() },
      stdio: 'ignore',
      detached: true,
    });
    const gone = new Promise((resolve) => first.once('close', resolve));
    await until(
      'the first parts arrive',
      async () => {
        const { items } = await site.client.call('image.list');
        return items.some((each) => each.name === 'big' && each.status.receivedBytes >= 32 * 1024 ** 2);
      },
      30_000,
    );
    process.kill(-(first.pid ?? 0), 'SIGKILL');
    await gone;
    const second = await virga('image', 'add', url);
    assert.equal(second.code, 0, second.stderr);
    assert.match(second.stderr, /Going on with big at \d\d %/);
    assert.match(await ok('image', 'list', 'big'), /big +ready/);
  } finally {
    server.closeAllConnections();
    server.close();
  }
});

/** A qcow2 image whose clusters hold noise, so that the file is about as large as its disk. */
async function qcow2Of(size: number): Promise<Buffer> {
  await writeFile(at('noise.raw'), randomBytes(size));
  await ran('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', at('noise.raw'), at('noise.qcow2')], 60_000);
  return readFile(at('noise.qcow2'));
}

test('networks and invitations', async () => {
  assert.equal(
    await ok(
      'network',
      'create',
      'lan',
      '--bridge',
      'br0',
      '--ipv4',
      '10.5.0.0/24',
      '--ipv4-gateway',
      '10.5.0.1',
      '--dns',
      '10.5.0.53',
    ),
    'lan\n',
  );
  assert.match(
    await ok('network', 'show', 'lan'),
    /10\.5\.0\.0\/24, 10\.5\.0\.2 to 10\.5\.0\.254, gateway 10\.5\.0\.1/,
  );
  assert.equal((await virga('network', 'create', 'lan', '--bridge', 'br1')).code, 1);
  assert.equal((await virga('network', 'create', 'x')).code, 2);
  assert.match(await ok('host', 'invite', '--name', 'h7'), /^virga agent join https:\/\/\S+ vgi1\.\S+\n$/);
  const invites = JSON.parse(await ok('host', 'invites', '--json')) as { name: string; spec: { hostName: string } }[];
  assert.equal(invites[0]?.spec.hostName, 'h7');
  await ok('host', 'uninvite', invites[0]?.name ?? '');
  assert.deepEqual(JSON.parse(await ok('host', 'invites', '--json')), []);
});

test('access from elsewhere: the token stays out of sight, the authority is pinned', async () => {
  await ok('token', 'create', 'ada', '--role', 'read', '--file', at('token'));
  assert.equal((await stat(at('token'))).mode & 0o777, 0o600);
  const token = (await readFile(at('token'), 'utf8')).trim();
  const pin =
    / ([0-9a-f]{64})\n/.exec(
      (await virga('context', 'add', 'lab', site.url, '--token-file', at('token'))).stderr,
    )?.[1] ?? '';
  assert.equal(pin.length, 64, 'it shows the fingerprint and does not trust it by itself');
  const wrong = await virga(
    'context',
    'add',
    'lab',
    site.url,
    '--token-file',
    at('token'),
    '--fingerprint',
    '0'.repeat(64),
  );
  assert.equal(wrong.code, 2);
  assert.match(
    await ok('context', 'add', 'lab', site.url, '--token-file', at('token'), '--fingerprint', pin),
    /lab is the site "test"/,
  );
  assert.equal((await stat(at('config/virga/config.json'))).mode & 0o777, 0o600);
  assert.doesNotMatch(await ok('context', 'list', '--json'), new RegExp(token.slice(-20)));
  assert.match(await ok('--context', 'lab', 'status'), /^test/);
  const denied = await virga('--context', 'lab', 'network', 'delete', 'lan', '--yes');
  assert.equal(denied.code, 1, 'the role read changes nothing');
  await ok('token', 'revoke', 'ada', '--yes');
  assert.equal((await virga('--context', 'lab', 'status')).code, 1);
  await ok('context', 'remove', 'lab', '--yes');
});

test('a site file: shown, done, the same again does nothing, pruned only what it created', async () => {
  await makeImage(at('second.qcow2'), '8M');
  const file = at('site.yaml');
  const full =
    'site: mine\nnetworks:\n  nat1: { mode: nat, ipv4: { cidr: 10.99.0.0/24 } }\nimages:\n  second: { file: second.qcow2, format: qcow2 }\n';
  await writeFile(file, full);
  const shown = await virga('diff', '-f', file);
  assert.equal(shown.code, 1);
  assert.match(shown.stdout, /\+ network nat1[^]*\+ image second/);
  assert.equal((await virga('apply', '-f', file)).code, 5);
  assert.equal(await ok('network', 'list', 'nat1', '-q'), '', 'nothing was done');
  assert.match(await ok('apply', '-f', file, '--yes'), /network nat1 created\nimage second created\n$/);
  assert.equal(await ok('diff', '-f', file), '');
  const again = JSON.parse(await ok('apply', '-f', file, '--yes', '--json')) as { done: unknown[] };
  assert.deepEqual(again.done, []);
  await writeFile(file, 'site: mine\n');
  assert.equal(await ok('apply', '-f', file, '--yes'), '');
  assert.match(await ok('apply', '-f', file, '--yes', '--prune'), /image second deleted\nnetwork nat1 deleted\n$/);
  assert.match(await ok('network', 'list', '-q'), /lan/, 'what people made by hand stays');

  await writeFile(file, 'site: mine\nguests:\n  web: { image: nowhere, cpu: 1 }\n');
  const mistaken = await virga('apply', '-f', file, '--yes');
  assert.equal(mistaken.code, 2);
  assert.match(mistaken.stderr, /site\.yaml:3: unknown key "cpu" in guests\.web; did you mean cpus\?/);
});

test('what is exported changes nothing', async () => {
  await ok('export', at('export.yaml'));
  assert.equal(await ok('diff', '-f', at('export.yaml'), '--prune'), '');
});

test('apply stops at the first error, says what was done, and goes on from there', async () => {
  const file = at('half.yaml');
  await writeFile(
    file,
    'site: half\nnetworks:\n  ha: { mode: nat, ipv4: { cidr: 10.98.0.0/24 } }\nimages:\n  missing: { file: not-there.qcow2, format: qcow2 }\n',
  );
  const stopped = await virga('apply', '-f', file, '--yes');
  assert.equal(stopped.code, 2);
  assert.match(stopped.stdout, /network ha created/);
  assert.match(stopped.stderr, /stopped at image missing; 1 step done, nothing else was left/);
  await makeImage(at('not-there.qcow2'), '8M');
  assert.match(await ok('apply', '-f', file, '--yes'), /^[^]*image missing created\n$/);
});

test('a backup is written whole or not at all, and never over another file', async () => {
  const plain = await virga('backup', at('site.backup'));
  assert.equal(plain.code, 0, plain.stderr);
  assert.match(plain.stderr, /keys of the site’s certificate authority are left out/);
  assert.equal((await stat(at('site.backup'))).mode & 0o777, 0o600);
  assert.equal((await virga('backup', at('site.backup'))).code, 2);
  await writeFile(at('pass'), 'correct horse battery\n');
  const sealed = JSON.parse(await ok('backup', at('sealed.backup'), '--passphrase-file', at('pass'), '--json')) as {
    encrypted: boolean;
  };
  assert.equal(sealed.encrypted, true);
  assert.match((await readFile(at('sealed.backup'))).subarray(0, 40).toString('latin1'), /age-encryption/);
});

test('completion offers commands, options and the names of the site', async () => {
  await writeFile(at('completion.bash'), await ok('completion', 'bash'));
  const script = `source ${at('completion.bash')}; COMP_WORDS=(${program} "$@"); COMP_CWORD=$#; _virga; printf '%s\\n' "\${COMPREPLY[@]}"`;
  const complete = async (...words: string[]): Promise<string[]> =>
    (await ran('bash', ['-c', script, 'bash', ...words], 30_000, env())).stdout.trim().split('\n');
  assert.deepEqual(await complete('guest', 'sn'), ['snapshot']);
  assert.deepEqual(await complete('image', 'show', 'sma'), ['small']);
  assert.ok((await complete('guest', 'run', '--disk-')).includes('--disk-mode'));
});

test('at a terminal: a question before something is lost, a bar while bytes travel', async () => {
  const terminal = await Terminal.open(at('t1'), `${program} network delete lan`, {
    VIRGA_SOCKET: site.controller.socketPath,
  });
  try {
    await terminal.shows(/Type yes to go on:/);
    await terminal.type('no');
    await terminal.shows(/Cancelled: you did not type yes[^]*\[code 5\]/);
  } finally {
    await terminal.close();
  }
  assert.match(await ok('network', 'list', '-q'), /lan/);
  const bar = await Terminal.open(at('t2'), `${program} image add ${at('noise.qcow2')} --name bar`, {
    VIRGA_SOCKET: site.controller.socketPath,
  });
  try {
    const screen = await bar.shows(/\[code \d+\]/, 60_000);
    assert.match(screen, /\nbar is ready|^bar/m);
    assert.match(screen, /\[code 0\]/);
    assert.doesNotMatch(screen, / %/, 'the bar is gone when it is done');
  } finally {
    await bar.close();
  }
});

test('Ctrl-C at a question, and in a command that follows: exit code 130, no stack', async () => {
  for (const [index, command] of ['network delete lan', 'events --follow', 'top'].entries()) {
    const terminal = await Terminal.open(at(`c${index}`), `${program} ${command}`, {
      VIRGA_SOCKET: site.controller.socketPath,
    });
    try {
      await terminal.shows(/Type yes|network lan|0 hosts/);
      await terminal.key('C-c');
      const screen = await terminal.shows(/\[code \d+\]/);
      assert.match(screen, /interrupted\n\[code 130\]/, command);
      assert.doesNotMatch(screen, /\n\s+at /);
    } finally {
      await terminal.close();
    }
  }
});
