/** The command line with real guests on a real host: run, look, wait, console, logs, change, delete. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { program, ran, type Ran } from '../../kit/virga.ts';
import { until } from '../controller/kit.ts';
import { Site } from '../site/kit.ts';
import { Terminal } from './terminal.ts';

let site: Site;
let folder: string;
const at = (name: string): string => join(folder, name);
const env = (): Record<string, string> => ({
  VIRGA_SOCKET: site.lab.socket,
  XDG_CONFIG_HOME: at('config'),
  NO_COLOR: '1',
});
const virga = (...args: string[]): Promise<Ran> => ran(program, args, 120_000, env());
async function ok(...args: string[]): Promise<string> {
  const t0 = performance.now(); const done = await virga(...args); console.log('TIMING', Math.round(performance.now() - t0), args.join(' '));
  assert.equal(done.code, 0, `virga ${args.join(' ')}\n${done.stdout}${done.stderr}`);
  return done.stdout;
}

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'virga-cli-'));
  site = await Site.open({ hosts: ['h1'] });
});
after(async () => {
  await site?.lab.close();
  await rm(folder, { recursive: true, force: true });
});

test('two guests run from an image, and the command waits until they do', async () => {
  const done = await virga(
    'guest',
    'run',
    'tiny',
    '--name',
    'web',
    '--count',
    '2',
    '--memory',
    '128M',
    '--label',
    'role=web',
    '--wait',
  );
  assert.equal(done.code, 0, done.stderr);
  assert.equal(done.stdout, 'web-1\nweb-2\n');
  assert.match(done.stderr, /of 2 running/);
  assert.match(await ok('guest', 'list'), /web-1 +running +h1 +\S+ +1 +128 MiB +tiny/);
  assert.match(await ok('guest', 'show', 'web-1'), /Seen +running/);
  assert.match(await ok('guest', 'explain', 'web-2'), /web-2 is running on h1\.[^]*● h1: here/);
  assert.match(await ok('host', 'list'), /h1 +online/);
  assert.match(await ok('top'), /1 host, 2 of 2 guests running[^]*● h1 +2 guests/);
});

test('what does not fit is refused with the reason, and nothing is made', async () => {
  const refused = await virga('guest', 'run', 'tiny', '--name', 'huge', '--memory', '1T');
  assert.equal(refused.code, 1);
  assert.match(refused.stderr, /No host can take the guest "huge": .*memory/);
  assert.equal(await ok('guest', 'list', 'huge', '-q'), '');
});

test('the log, and what comes while it is followed', async () => {
  await until(
    'the guest has booted',
    async () => (await ok('guest', 'logs', 'web-1')).includes('tiny: web-1 answers'),
    60_000,
  );
  const follower = spawn(program, ['guest', 'logs', '-f', 'web-1'], { env: { ...process.env, ...env() } });
  let text = '';
  follower.stdout.on('data', (chunk: Buffer) => (text += chunk.toString()));
  const gone = new Promise<number | null>((resolve) => follower.once('close', resolve));
  try {
    await until('the log so far', () => text.includes('tiny: web-1 answers'), 30_000);
    await site.typed('web-1', 'echo said-by-$((40 + 2))');
    await until('what came after', () => text.includes('said-by-42'), 30_000);
    assert.equal(text.split('tiny: web-1 answers').length, 2, 'nothing twice');
  } finally {
    follower.kill('SIGINT');
  }
  assert.equal(await gone, 130);
});

test('the console: through a pipe, and at a terminal until Ctrl-]', async () => {
  const piped = spawn(program, ['guest', 'console', 'web-2'], { env: { ...process.env, ...env() } });
  let text = '';
  piped.stdout.on('data', (chunk: Buffer) => (text += chunk.toString()));
  const gone = new Promise<number | null>((resolve) => piped.once('close', resolve));
  piped.stdin.end('\necho piped-$((20 + 3))\n');
  assert.equal(await gone, 0);
  assert.match(text, /piped-23/);

  const terminal = await Terminal.open(at('console'), `${program} guest console web-2`, env());
  try {
    await terminal.shows(/Leave with Ctrl-\]/);
    await terminal.type('echo typed-$((30 + 4))');
    await terminal.shows(/typed-34/);
    await terminal.key('C-]');
    await terminal.shows(/Left; the guest runs on\.\s+\[code 0\]/);
  } finally {
    await terminal.close();
  }
  const refused = await virga('guest', 'console', 'nobody');
  assert.equal(refused.code, 1);
});

test('changes: labels, hold, stop, start; a repeat says so', async () => {
  await ok('guest', 'set', 'web-2', '--set-label', 'role=db', '--restart', 'never');
  assert.equal(await ok('guest', 'list', '-l', 'role=db', '-q'), 'web-2\n');
  await ok('guest', 'hold', 'web-2', '--reason', 'forensics');
  const held = await virga('guest', 'stop', 'web-2');
  assert.equal(held.code, 1);
  assert.match(held.stderr, /held \(forensics\)/);
  await ok('guest', 'unhold', 'web-2');
  assert.equal(await ok('guest', 'start', 'web-2'), 'web-2 is started already\n');
  assert.equal(await ok('guest', 'pause', 'web-2', '--wait'), 'web-2 is paused\n');
  assert.equal(await ok('guest', 'resume', 'web-2', '--wait'), 'web-2 is running\n');
  const waiting = virga('guest', 'wait', 'web-2', '--for', 'stopped', '--timeout', '90s');
  assert.match(await ok('guest', 'stop', 'web-2', '--grace', '20s', '--wait'), /web-2 is stopped/);
  assert.equal((await waiting).stdout, 'web-2 is stopped\n');
  assert.equal(await ok('guest', 'stop', 'web-2'), 'web-2 is stopped already\n');
  assert.equal((await virga('guest', 'wait', 'web-2', '--timeout', '1s')).code, 4);
});

test('snapshots, and renaming what is stopped', async () => {
  assert.equal(await ok('guest', 'snapshot', 'create', 'web-2', 'before'), 'before\n');
  await until(
    'the snapshot is taken',
    async () => (await ok('guest', 'snapshot', 'list', 'web-2')).includes('ready'),
    60_000,
  );
  assert.equal((await virga('guest', 'snapshot', 'revert', 'web-2', 'before')).code, 5);
  await ok('guest', 'snapshot', 'revert', 'web-2', 'before', '--yes');
  await ok('guest', 'snapshot', 'delete', 'web-2', 'before', '--yes');
  assert.equal(await ok('guest', 'rename', 'web-2', 'mail'), 'web-2 is now mail\n');
});

test('guests by a site file, and what is exported changes nothing', async () => {
  const file = at('site.yaml');
  await writeFile(
    file,
    'site: farm\nguests:\n  job:\n    image: tiny\n    count: 2\n    memory: 128M\n    networks: [lab]\n',
  );
  assert.match(await ok('apply', '-f', file, '--yes'), /guest job-1 created\nguest job-2 created\n$/);
  await ok('guest', 'wait', 'job-1', 'job-2', '--timeout', '2m');
  assert.equal(await ok('diff', '-f', file), '');
  await ok('export', at('export.yaml'));
  assert.equal(await ok('diff', '-f', at('export.yaml'), '--prune'), '');
  await writeFile(file, (await readFile(file, 'utf8')).replace('count: 2', 'count: 1'));
  const fewer = await virga('apply', '-f', file, '--yes');
  assert.match(fewer.stderr, /no longer in it: guest job-2\. --prune deletes them/);
  assert.match(await ok('apply', '-f', file, '--yes', '--prune'), /guest job-2 deleted\n$/);
  assert.equal(await ok('guest', 'list', 'job-', '-q'), 'job-1\n');
});

test('an image in use is not deleted, and it says by whom; guests are, when a person says yes', async () => {
  const used = await virga('image', 'delete', 'tiny', '--yes');
  assert.equal(used.code, 1);
  assert.match(used.stderr, /The image "tiny" is in use by .*web-1/);
  const terminal = await Terminal.open(at('delete'), `${program} guest delete --all --wait`, env());
  try {
    await terminal.shows(/This deletes 3 guests with their disks: .*\nType yes to go on:/);
    await terminal.type('yes');
    await terminal.shows(/3 guests deleted\s+\[code 0\]/, 90_000);
  } finally {
    await terminal.close();
  }
  assert.equal(await ok('guest', 'list', '-q'), '');
  assert.match(await ok('events', '-n', '100'), /guest web-1: .*delet/);
});
