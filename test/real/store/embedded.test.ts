import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdir, readdir, readFile, readlink, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, it } from 'node:test';
import { VirgaError } from '../../../src/core/errors.ts';
import { createBackup } from '../../../src/controller/store/backup.ts';
import { findBinaries, type PostgresBinaries } from '../../../src/controller/store/binaries.ts';
import { EmbeddedPostgres } from '../../../src/controller/store/embedded.ts';
import { openDatabase, openStore } from '../../../src/controller/store/open.ts';
import { resolvePlace, startCluster } from '../../../src/controller/store/place.ts';
import { commit, guest, lead, uuid } from '../../unit/store/samples.ts';
import { batchesIn } from './batch.ts';
import { alive, type Sandbox, sandbox, socketFolderOf, until } from './kit.ts';

const newSite = { id: uuid(0), name: 'test' };
let box: Sandbox;
let binaries: PostgresBinaries;

before(async () => {
  box = await sandbox();
  const [newest] = await findBinaries();
  assert.ok(newest, 'PostgreSQL is installed');
  binaries = newest;
});
after(async () => {
  await box.remove();
});

const says =
  (code: string, words: RegExp) =>
  (error: unknown): boolean => {
    assert.ok(error instanceof VirgaError, String(error));
    assert.equal(error.code, code);
    assert.match(error.message, words);
    return true;
  };

/** Inodes of the TCP sockets that a process has open. Column 10 of /proc/PID/net/tcp: see proc(5). */
async function tcpSocketsOf(pid: number): Promise<readonly string[]> {
  const tables = await Promise.all(['tcp', 'tcp6'].map(async (name) => readFile(`/proc/${pid}/net/${name}`, 'utf8')));
  const inodes = new Set(
    tables
      .join('')
      .split('\n')
      .map((line) => line.trim().split(/\s+/)[9] ?? ''),
  );
  const files = await readdir(`/proc/${pid}/fd`);
  const targets = await Promise.all(files.map(async (fd) => readlink(`/proc/${pid}/fd/${fd}`)));
  assert.ok(
    targets.some((target) => target.startsWith('socket:')),
    'it has sockets at all',
  );
  return targets.filter((target) => inodes.has(/^socket:\[(\d+)\]$/.exec(target)?.[1] ?? 'none'));
}

it('makes a private server: no TCP, closed folders, durable settings; a second Virga is refused', async () => {
  const opened = await openDatabase(box.options);
  const { embedded, database } = opened;
  try {
    assert.ok(embedded);
    const rows = await database.query<{ name: string; setting: string }>(
      "SELECT name, setting FROM pg_settings WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit', 'listen_addresses', 'data_checksums')",
    );
    assert.deepEqual(Object.fromEntries(rows.map(({ name, setting }) => [name, setting])), {
      data_checksums: 'on',
      fsync: 'on',
      full_page_writes: 'on',
      listen_addresses: '',
      synchronous_commit: 'on',
    });
    const folder = socketFolderOf(embedded);
    assert.equal((await stat(folder)).mode & 0o777, 0o700);
    assert.ok((await stat(folder)).uid !== 0, 'it belongs to the system user');
    assert.equal((await stat(join(box.data, 'postgres'))).mode & 0o777, 0o700);
    assert.deepEqual(await tcpSocketsOf(embedded.pid), []);
    await assert.rejects(EmbeddedPostgres.start(box.options), says('setup', /Another Virga runs on/));
    assert.ok((await database.query('SELECT 1')).length === 1, 'the first one was not disturbed');
  } finally {
    await opened.close();
  }
  assert.equal(
    await readFile(join(box.data, 'postgres', String(binaries.major), 'postmaster.pid')).catch(() => 'gone'),
    'gone',
  );
});

it('kill -9 of the controller: its server ends, and the next start has every acknowledged commit', async () => {
  const { log: _log, ...options } = box.options;
  const script = join(import.meta.dirname, 'owner.ts');
  const child = spawn(process.execPath, [script, JSON.stringify(options)], { stdio: ['ignore', 'pipe', 'inherit'] });
  const ended = new Promise((resolve) => child.once('close', resolve));
  let serverPid = 0;
  const acknowledged = new Set<number>();
  createInterface({ input: child.stdout }).on('line', (line) => {
    const [word, number] = line.split(' ');
    if (word === 'server') serverPid = Number(number);
    else acknowledged.add(Number(number));
  });
  try {
    await until('twenty commits', () => acknowledged.size >= 20, 30_000);
  } finally {
    child.kill('SIGKILL');
    await ended;
  }
  await until('the server of the dead controller ends', async () => !(await alive(serverPid)), 30_000);
  const opened = await openDatabase(box.options);
  const { embedded, database } = opened;
  try {
    assert.notEqual(embedded?.pid, serverPid);
    const there = await batchesIn(database);
    for (const each of acknowledged) assert.ok(there.has(each), `batch ${each} was acknowledged and is lost`);
    assert.ok(there.size - acknowledged.size <= 1);
  } finally {
    await opened.close();
  }
});

it('takes over from a server that a dead controller left behind', async () => {
  const place = await resolvePlace(box.options);
  const cluster = join(place.folder, String(binaries.major));
  const orphan = await startCluster(place, binaries, cluster);
  const embedded = await EmbeddedPostgres.start(box.options);
  try {
    assert.ok(!(await alive(orphan.pid)));
    assert.ok(await alive(embedded.pid));
  } finally {
    await embedded.stop();
    await orphan.stop();
  }
});

it('is not stopped by a postmaster.pid whose number another process has by now', async () => {
  const place = await resolvePlace(box.options);
  const cluster = join(place.folder, String(binaries.major));
  const stranger = spawn('sleep', ['60'], { uid: place.account.uid, gid: place.account.gid, stdio: 'ignore' });
  try {
    await writeFile(join(cluster, 'postmaster.pid'), `${stranger.pid}\n${cluster}\n1\n5432\n/x\n\n 1 1\nready\n`);
    const embedded = await EmbeddedPostgres.start(box.options);
    await embedded.stop();
    assert.equal(stranger.exitCode, null);
    assert.ok(await alive(stranger.pid ?? -1), 'the stranger lives on');
  } finally {
    stranger.kill('SIGKILL');
  }
});

it('says why it does not start, with the last words of the server, and leaves nothing running', async () => {
  const other = await sandbox();
  try {
    const place = await resolvePlace(other.options);
    await mkdir(join(place.folder, `${binaries.major}.new-0123abcd`, 'base'), { recursive: true });
    const embedded = await EmbeddedPostgres.start(other.options);
    await embedded.stop();
    const folders = (await readdir(place.folder)).filter((name) => /^\d/.test(name));
    assert.deepEqual(folders, [String(binaries.major)], 'an unfinished initdb of a killed start is thrown away');
    const control = join(other.data, 'postgres', String(binaries.major), 'global', 'pg_control');
    await writeFile(control, 'not a control file');
    await assert.rejects(EmbeddedPostgres.start(other.options), says('setup', /pg_control/));
    await assert.rejects(
      EmbeddedPostgres.start({ ...other.options, user: 'no-such-user' }),
      says('setup', /system user/),
    );
    await assert.rejects(EmbeddedPostgres.start({ ...other.options, binaries: [] }), says('setup', /no PostgreSQL/));
    const closed = { ...other.options, data: join(other.work, 'data') };
    await assert.rejects(EmbeddedPostgres.start(closed), says('setup', /cannot reach/));
    const deep = { ...other.options, runFolder: `/run/${'long'.repeat(20)}` };
    await assert.rejects(EmbeddedPostgres.start(deep), says('setup', /too long/));
  } finally {
    await other.remove();
  }
});

it('fills a new major version from the old one; without its binaries from the newest scheduled backup', async () => {
  const other = await sandbox();
  // The same programs under other numbers: what differs between real majors is only what initdb writes.
  const as = (...majors: number[]): PostgresBinaries[] => majors.map((major) => ({ ...binaries, major }));
  const options = { ...other.options, newSite };
  try {
    const first = await openStore({ ...options, binaries: as(50) });
    await lead(first.store);
    assert.ok((await first.store.commit(commit(1, { put: [guest(1, { ipv4: '10.0.0.1' })] }))).ok);
    await first.close();

    const second = await openStore({ ...options, binaries: as(51, 50) });
    const state = await lead(second.store);
    assert.deepEqual([state.site.epoch, state.site.review, state.resources.length], [2, undefined, 1]);
    const backups = join(other.data, 'backups');
    await mkdir(backups);
    const path = join(backups, 'virga-20260101T000000000Z.backup');
    await createBackup(second.database, { path, now: Date.UTC(2026, 0, 1), secrets: [] });
    await second.close();

    await assert.rejects(openStore({ ...options, binaries: as(50) }), says('setup', /only 50 is installed/));
    const elsewhere = { ...options, backups: other.work };
    await assert.rejects(openStore({ ...elsewhere, binaries: as(52) }), says('setup', /holds no backup/));
    const third = await openStore({ ...options, binaries: as(52) });
    const restored = await lead(third.store);
    assert.equal(restored.site.review?.backupAt, Date.UTC(2026, 0, 1));
    assert.ok(restored.site.epoch > state.site.epoch);
    assert.equal(restored.resources.length, 1);
    await third.close();
    const folders = (await readdir(join(other.data, 'postgres'))).filter((name) => /^\d|upgrade/.test(name));
    assert.deepEqual(folders.sort(), ['50', '51', '52']);
  } finally {
    await other.remove();
  }
});
