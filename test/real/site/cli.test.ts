/**
 * `virga` as a script uses it, on a whole site: what is printed, exit codes, and what libvirt then runs. Each command with
 * its options: `test/real/cli/`.
 */
import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { GuestView } from '../../../src/api/schemas.ts';
import { program, ran, type Ran } from '../../kit/virga.ts';
import { addressOf, Site, virshList } from './kit.ts';

describe('the command line on a site with guests', { timeout: 180_000 }, () => {
  let site: Site;
  let folder: string;
  const env = (): Record<string, string> => ({
    VIRGA_SOCKET: site.lab.socket,
    XDG_CONFIG_HOME: join(folder, 'config'),
    NO_COLOR: '1',
  });
  const virga = (...args: string[]): Promise<Ran> => ran(program, args, 60_000, env());
  /** Runs it, demands success, gives standard output. */
  const ok = async (...args: string[]): Promise<string> => {
    const done = await virga(...args);
    assert.equal(done.code, 0, `virga ${args.join(' ')}\n${done.stdout}${done.stderr}`);
    return done.stdout;
  };
  /** Runs it, demands that exit code, nothing on standard output, and gives standard error. */
  const no = async (code: number, ...args: string[]): Promise<string> => {
    const done = await virga(...args);
    assert.equal(done.code, code, `virga ${args.join(' ')}\n${done.stdout}${done.stderr}`);
    assert.equal(done.stdout, '');
    return done.stderr;
  };

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'virga-site-cli-'));
    site = await Site.open({ hosts: ['alder'] });
  });
  after(async () => {
    await site?.lab.close();
    await rm(folder, { recursive: true, force: true });
  });

  test('run waits until the guest runs; list and show agree with libvirt, for people and for programs', async () => {
    await writeFile(join(folder, 'hello.sh'), '#!/bin/sh\necho hello from user data\n');
    const run = ['guest', 'run', 'tiny', '--name', 'web-1', '--memory', '128M', '--network', 'lab'];
    assert.equal(await ok(...run, '--label', 'role=web', '--user-data', join(folder, 'hello.sh'), '--wait'), 'web-1\n');
    assert.match(await ok('guest', 'list'), /^web-1 +running +alder +/m);
    const listed = JSON.parse(await ok('guest', 'list', '--json')) as GuestView[];
    assert.deepEqual(
      listed.map(({ name, status, labels }) => [name, status.state, labels]),
      [['web-1', 'running', { role: 'web' }]],
    );
    assert.equal(await ok('guest', 'list', '-q', '--label', 'role=db'), '');
    const shown = JSON.parse(await ok('guest', 'show', 'web-1', '--json')) as GuestView;
    assert.equal(shown.id, listed[0]?.id);
    assert.deepEqual(await virshList(site.lab.testbed.host('alder')), ['web-1']);
    await site.answers(shown);
    assert.match(
      await ok('guest', 'show', 'web-1'),
      new RegExp(`Networks +lab +${addressOf(shown).replaceAll('.', '\\.')}`),
    );
    assert.match(await ok('guest', 'explain', 'web-1'), /alder/);
  });

  test('stop, wait and start; a wait that is in vain ends with its own code', async () => {
    await ok('guest', 'stop', 'web-1', '--force', '--reason', 'maintenance');
    await ok('guest', 'wait', 'web-1', '--for', 'stopped', '--timeout', '20s');
    assert.deepEqual(await virshList(site.lab.testbed.host('alder')), []);
    assert.match(await no(4, 'guest', 'wait', 'web-1', '--for', 'running', '--timeout', '1s'), /web-1 is stopped/);
    const record = await ok('events', '--subject', 'web-1', '--type', 'guest.stop', '--json');
    assert.match(record, /maintenance/);
    await ok('guest', 'start', 'web-1');
    await ok('guest', 'wait', 'web-1');
  });

  test('wrong input: what is wrong, what to do, and an exit code to rely on', async () => {
    assert.match(await no(2, 'guest', 'run', 'tiny', '--memory', 'much'), /"much" is not a size; write 512M/);
    assert.match(await no(2, 'guest', 'run', 'tiny', '--colour', 'red'), /--colour/);
    assert.match(await no(2, 'guest', 'fly', 'web-1'), /fly/);
    assert.match(await no(1, 'guest', 'run', 'none'), /There is no image "none"/);
    assert.match(await no(1, 'guest', 'run', 'tiny', '--name', 'Web_1'), /"Web_1" is not a valid guest name/);
    assert.match(await no(1, 'guest', 'run', 'tiny', '--memory', '1T'), /No host can take .*memory/);
    assert.match(await no(1, 'guest', 'resume', 'web-9'), /There is no guest "web-9"/);
    assert.match(await no(1, 'image', 'delete', 'tiny', '--yes'), /in use by .*web-1/);
    const asJson = await virga('guest', 'show', 'web-9', '--json');
    assert.equal(asJson.code, 1);
    const { error } = JSON.parse(asJson.stdout === '' ? asJson.stderr : asJson.stdout) as { error: { code: string } };
    assert.equal(error.code, 'not_found');
    const nobody = await ran(program, ['status'], 30_000, { ...env(), VIRGA_SOCKET: join(folder, 'none.sock') });
    assert.equal(nobody.code, 3);
    assert.match(nobody.stderr, /No site answers at/);
  });

  test('a site file is shown, done, and deletes only with --prune and only its own', async () => {
    const file = join(folder, 'site.yaml');
    const text = (count: number): string =>
      `site: farm\nguests:\n  job:\n    image: tiny\n    count: ${count}\n    memory: 128M\n    networks: [lab]\n    labels: { job: "7" }\n`;
    await writeFile(file, `${text(2)}    colour: red\n`);
    assert.match(await no(2, 'diff', '-f', file), /site\.yaml:9: .*colour/);
    await writeFile(file, text(2));
    const shown = await virga('diff', '-f', file);
    assert.equal(shown.code, 1);
    assert.match(shown.stdout, /job-1[^]*job-2/);
    assert.equal((await site.client.call('guest.list', { query: { name: 'job' } })).items.length, 0);
    await ok('apply', '-f', file, '--yes');
    await ok('guest', 'wait', 'job-1', 'job-2');
    assert.equal((await virga('diff', '-f', file)).code, 0);
    assert.deepEqual(await virshList(site.lab.testbed.host('alder')), ['job-1', 'job-2', 'web-1']);

    await writeFile(file, text(1));
    assert.equal((await virga('diff', '-f', file)).code, 0, 'without --prune there is nothing to do');
    await ok('apply', '-f', file, '--prune', '--yes');
    await ok('guest', 'wait', 'job-2', '--for', 'deleted');
    assert.equal(await ok('guest', 'list', '-q'), 'job-1\nweb-1\n');
  });

  test('delete asks first; without a terminal it needs --yes; then nothing is left', async () => {
    const refused = await virga('guest', 'delete', '--all');
    assert.notEqual(refused.code, 0);
    assert.match(refused.stderr, /--yes/);
    assert.equal(await ok('guest', 'list', '-q'), 'job-1\nweb-1\n');
    await ok('guest', 'delete', '--all', '--yes');
    await ok('guest', 'wait', 'job-1', 'web-1', '--for', 'deleted');
    assert.deepEqual(await virshList(site.lab.testbed.host('alder'), '--all'), []);
    const status = JSON.parse(await ok('status', '--json')) as { guests: Record<string, number> };
    assert.deepEqual(status.guests, {});
  });
});
