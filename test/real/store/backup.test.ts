import assert from 'node:assert/strict';
import { chmod, mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, it } from 'node:test';
import { generateIdentity, identityToRecipient } from 'age-encryption';
import { VirgaError } from '../../../src/core/errors.ts';
import { createBackup, type SecretFile } from '../../../src/controller/store/backup.ts';
import { Database } from '../../../src/controller/store/database.ts';
import { migrate, readMigrations } from '../../../src/controller/store/migrate.ts';
import { restoreBackup } from '../../../src/controller/store/restore.ts';
import { BackupSchedule, listBackups, type ScheduleOutcome } from '../../../src/controller/store/schedule.ts';
import { PgStore } from '../../../src/controller/store/store.ts';
import type { LoadedState } from '../../../src/ports.ts';
import { commit, event, guest, lead, network, uuid } from '../../unit/store/samples.ts';
import { quiet, type Server, server } from './kit.ts';

const newSite = { id: uuid(0), name: 'test' };
const madeAt = Date.UTC(2026, 5, 1);
const restoredAt = madeAt + 1000;
const secrets: readonly SecretFile[] = [{ name: 'ca.key', bytes: Buffer.from('the private key \0\xff') }];

let home: Server;
/** Another server, reached as any server is: by a URL. */
let away: Server;
let byUrl: Database;
let state: LoadedState;
let plain: string;

before(async () => {
  home = await server();
  away = await server();
  byUrl = new Database({ url: away.url }, { log: quiet });
  const store = await PgStore.open(home.database, { newSite });
  await lead(store);
  const odd = guest(1, { ipv4: '10.0.0.1', labels: { odd: 'tab\t newline\n back\\slash \\. \u0000 ä' } });
  await store.commit(commit(1, { put: [odd, network(2, 'lan')], events: [event('a', 'tab\t\\N'), event('b')] }));
  const many = Array.from({ length: 3000 }, (_, index) => guest(100 + index));
  await store.commit(commit(1, { put: many }));
  await store.commit(commit(1, { remove: [{ kind: 'guest', id: uuid(100) }] }));
  state = await lead(store);
  plain = join(home.work, 'plain.backup');
  await createBackup(home.database, { path: plain, now: madeAt, secrets });
});
after(async () => {
  await byUrl.close();
  await away.stop();
  await home.stop();
});

const refuses =
  (words: RegExp, code = 'backup') =>
  (error: unknown): boolean => {
    assert.ok(error instanceof VirgaError, String(error));
    assert.equal(error.code, code);
    assert.match(`${error.message} ${error.hint}`, words);
    return true;
  };

async function emptyAway(): Promise<void> {
  await byUrl.query('DROP SCHEMA IF EXISTS virga CASCADE');
}

it('goes from the embedded server to one behind a URL and back, and nothing is different', async () => {
  await emptyAway();
  const result = await restoreBackup(byUrl, { path: plain, now: restoredAt, who: 'local:root', reason: 'moved' });
  assert.deepEqual([result.siteId, result.backupAt, result.resources], [state.site.id, madeAt, 3001]);
  assert.deepEqual(result.secrets, [], 'an open backup holds no keys');
  const store = await PgStore.open(byUrl, { newSite: { id: uuid(9), name: 'other' } });
  const restored = await lead(store);
  assert.deepEqual(restored.resources, state.resources);
  assert.deepEqual(restored.site.review, { restoredAt, backupAt: madeAt });
  assert.equal(restored.site.id, state.site.id);
  assert.ok(restored.site.epoch > state.site.epoch + (restoredAt - madeAt));
  assert.ok(restored.revision > state.revision);
  assert.equal(restored.oldestTombstone, restored.revision, 'every watch must list again');
  const [first] = await store.events({ limit: 1, afterSeq: 0 });
  assert.equal(first?.message, 'tab\t\\N');
  const [newest] = await store.events({ limit: 1 });
  assert.deepEqual([newest?.type, newest?.who, newest?.reason], ['site.restored', 'local:root', 'moved']);
  const clash = await store.commit(commit(restored.site.epoch, { put: [guest(5, { ipv4: '10.0.0.1' })] }));
  assert.equal(clash.ok ? 'ok' : clash.why, 'address-taken');

  const back = join(home.work, 'back.backup');
  await createBackup(byUrl, { path: back, now: restoredAt, secrets: [] });
  await restoreBackup(home.database, { path: back, now: restoredAt + 1, who: 'local:root', replace: true });
  const again = await lead(await PgStore.open(home.database, { newSite }));
  assert.deepEqual(again.resources, state.resources);
  assert.ok(again.site.epoch > restored.site.epoch);
});

it('replaces a site only when told to, and then no former leader commits any more', async () => {
  await emptyAway();
  const store = await PgStore.open(byUrl, { newSite });
  for (const _ of [1, 2, 3]) await lead(store);
  const options = { path: plain, now: restoredAt, who: 'local:root' };
  await assert.rejects(restoreBackup(byUrl, options), refuses(/holds the site "test".*--replace/));
  assert.equal((await lead(store)).site.epoch, 4, 'nothing was changed');
  assert.equal((await restoreBackup(byUrl, { ...options, replace: true })).replaced, true);
  const late = await store.commit(commit(4, { put: [guest(7)] }));
  assert.equal(late.ok ? 'ok' : late.why, 'epoch');
});

it('takes the keys only into an encrypted file, and says what it left out', async () => {
  const identity = await generateIdentity();
  const recipients = [await identityToRecipient(identity)];
  const path = join(home.work, 'keys.backup.age');
  const made = await createBackup(home.database, { path, now: madeAt, secrets, encryption: { recipients } });
  assert.deepEqual([made.encrypted, made.secrets, made.secretsLeftOut], [true, ['ca.key'], []]);
  const bytes = await readFile(path);
  assert.equal(bytes.length, made.bytes);
  assert.match(bytes.toString('latin1', 0, 30), /^age-encryption\.org\/v1\n/);
  assert.equal((await stat(path)).mode & 0o777, 0o600);
  await emptyAway();
  const options = { path, now: restoredAt, who: 'local:root' };
  await assert.rejects(restoreBackup(byUrl, options), refuses(/encrypted.*passphrase/));
  const stranger = { identities: [await generateIdentity()] };
  await assert.rejects(restoreBackup(byUrl, { ...options, decryption: stranger }), refuses(/cannot be opened/));
  const wrongKind = { identities: ['not a key'] };
  await assert.rejects(restoreBackup(byUrl, { ...options, decryption: wrongKind }), refuses(/cannot be opened/));
  const restored = await restoreBackup(byUrl, { ...options, decryption: { identities: [identity] } });
  assert.deepEqual(
    restored.secrets.map(({ name, bytes: content }) => ({ name, bytes: Buffer.from(content) })),
    secrets,
  );
  const open = await createBackup(home.database, { path: join(home.work, 'open'), now: madeAt, secrets });
  assert.deepEqual([open.encrypted, open.secrets, open.secretsLeftOut], [false, [], ['ca.key']]);
});

it('opens with the right passphrase only', async () => {
  const path = join(home.work, 'phrase.backup.age');
  await createBackup(home.database, { path, now: madeAt, secrets, encryption: { passphrase: 'correct horse' } });
  await emptyAway();
  const options = { path, now: restoredAt, who: 'local:root' };
  const wrong = { ...options, decryption: { passphrase: 'wrong' } };
  await assert.rejects(restoreBackup(byUrl, wrong), refuses(/cannot be opened with this passphrase/));
  const restored = await restoreBackup(byUrl, { ...options, decryption: { passphrase: 'correct horse' } });
  assert.equal(restored.secrets.length, 1);
});

it('refuses what is damaged, cut short, or no backup, and leaves the database as it was', async () => {
  await emptyAway();
  await lead(await PgStore.open(byUrl, { newSite }));
  const good = await readFile(plain);
  const path = join(home.work, 'bad.backup');
  const attempt = async (bytes: Uint8Array): Promise<unknown> => {
    await writeFile(path, bytes);
    return restoreBackup(byUrl, { path, now: restoredAt, who: 'local:root', replace: true });
  };
  for (const length of [0, 5, 100, good.length >> 1, good.length - 20, good.length - 1])
    await assert.rejects(attempt(good.subarray(0, length)), refuses(/damaged|not a backup/), `cut to ${length} bytes`);
  for (const at of [20, 200, good.length >> 1, good.length - 12]) {
    const bad = Buffer.from(good);
    bad[at] = (bad[at] ?? 0) ^ 0x40;
    await assert.rejects(attempt(bad), refuses(/damaged|not a backup/), `changed at ${at}`);
  }
  await assert.rejects(attempt(Buffer.from('something else')), refuses(/not a backup/));
  const missing = { path: '/nonexistent/file', now: 0, who: 'x' };
  await assert.rejects(restoreBackup(byUrl, missing), refuses(/Cannot read/));
  assert.equal((await lead(await PgStore.open(byUrl, { newSite }))).site.epoch, 2);
});

it('never replaces a file, and leaves no part of one behind', async () => {
  const before = await readFile(plain);
  await assert.rejects(createBackup(home.database, { path: plain, now: 0, secrets: [] }), refuses(/exists already/));
  assert.deepEqual(await readFile(plain), before);
  const full = { path: '/dev/full/x', now: 0, secrets: [] };
  await assert.rejects(createBackup(home.database, full), refuses(/Cannot write/));
  const nobody = { path: join(home.work, 'nobody'), now: 0, secrets: [], encryption: { recipients: ['age1wrong'] } };
  await assert.rejects(createBackup(home.database, nobody), refuses(/not an age public key/));
  assert.deepEqual(
    (await readdir(home.work)).filter((name) => name.endsWith('.tmp') || name === 'nobody'),
    [],
  );
  assert.ok((await home.database.query('SELECT 1')).length === 1);
});

it('restores a backup of an older schema by bringing it forward, and refuses one of a newer', async () => {
  const migrations = await readMigrations();
  const folder = join(home.work, 'migrations');
  await mkdir(folder);
  for (const { version, name, sql } of migrations)
    await writeFile(join(folder, `${String(version).padStart(3, '0')}-${name}.sql`), sql);
  const next = migrations.length + 1;
  const sql = "ALTER TABLE virga.resource ADD COLUMN later text NOT NULL DEFAULT 'brought forward';";
  await writeFile(join(folder, `${String(next).padStart(3, '0')}-later.sql`), sql);
  const newer = await readMigrations(folder);
  await emptyAway();
  const options = { path: plain, now: restoredAt, who: 'local:root' };
  await restoreBackup(byUrl, { ...options, migrations: newer });
  const [row] = await byUrl.query<{ later: string; count: number }>(
    'SELECT later, count(*) AS count FROM virga.resource GROUP BY 1',
  );
  assert.deepEqual(row, { later: 'brought forward', count: 3001 });
  assert.deepEqual(await migrate(byUrl, newer), [], 'it is recorded as brought forward');
  const path = join(home.work, 'newer.backup');
  await createBackup(byUrl, { path, now: madeAt, secrets: [] });
  await assert.rejects(
    restoreBackup(byUrl, { ...options, path, replace: true }),
    refuses(/newer version of Virga \(schema/),
  );
  await assert.rejects(PgStore.open(byUrl, { newSite }), refuses(/schema/, 'store_newer'));
});

it('makes scheduled backups when they are due, keeps so many, and tries again after a failure', async () => {
  const folder = join(home.work, 'scheduled');
  const outcomes: ScheduleOutcome[] = [];
  const hour = 3_600_000;
  const options = { folder, intervalMs: hour, keep: 2, secrets: async () => secrets };
  const schedule = new BackupSchedule(home.database, { ...options, report: (outcome) => outcomes.push(outcome) });
  const start = Date.UTC(2026, 0, 1);
  assert.equal(await schedule.iterate(start), start + hour);
  assert.equal(await schedule.iterate(start + hour - 1), start + hour);
  assert.equal(outcomes.length, 1);
  await writeFile(join(folder, 'mine.txt'), 'not a backup');
  await schedule.iterate(start + hour);
  await schedule.iterate(start + 2 * hour);
  assert.deepEqual(
    (await listBackups(folder)).map(({ madeAt: at }) => at),
    [start + hour, start + 2 * hour],
  );
  assert.deepEqual((await readdir(folder)).includes('mine.txt'), true);
  const last = outcomes.at(-1);
  assert.ok(last?.ok && last.removed.length === 1 && last.backup.secretsLeftOut.length === 1);
  assert.equal((await stat(last.backup.path)).mode & 0o777, 0o600);

  const again = new BackupSchedule(home.database, { ...options, report: () => assert.fail('not due after a restart') });
  assert.equal(await again.iterate(start + 2 * hour + 1), start + 3 * hour);

  const nowhere = join(home.work, 'a-file');
  await writeFile(nowhere, '');
  await chmod(nowhere, 0o600);
  const failing = new BackupSchedule(home.database, {
    ...options,
    folder: nowhere,
    report: (outcome) => outcomes.push(outcome),
  });
  assert.equal(await failing.iterate(start), start + 60_000);
  assert.equal(await failing.iterate(start + 1), start + 60_000, 'not before its time');
  assert.equal(await failing.iterate(start + 60_000), start + 180_000, 'the pause grows');
  assert.equal(outcomes.at(-1)?.ok, false);
});
