import assert from 'node:assert/strict';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, beforeEach, it } from 'node:test';
import { VirgaError } from '../../../src/core/errors.ts';
import { Database } from '../../../src/controller/store/database.ts';
import { migrate, type Migration, readMigrations } from '../../../src/controller/store/migrate.ts';
import { quiet, type Server, server } from './kit.ts';

let shared: Server;
let folders = 0;
before(async () => {
  shared = await server();
});
after(async () => {
  await shared.stop();
});
beforeEach(async () => {
  await shared.database.query('DROP SCHEMA IF EXISTS virga CASCADE');
});

async function written(files: Readonly<Record<string, string>>): Promise<readonly Migration[]> {
  folders += 1;
  const folder = join(shared.work, `migrations-${folders}`);
  await mkdir(folder);
  for (const [name, sql] of Object.entries(files)) await writeFile(join(folder, name), sql);
  return readMigrations(folder);
}

const two = { '001-a.sql': 'CREATE TABLE virga.a (x int);', '002-b.sql': 'CREATE TABLE virga.b (x int);' };

const refuses =
  (code: string) =>
  (error: unknown): boolean =>
    error instanceof VirgaError && error.code === code;

it('applies each migration once, in order', async () => {
  const migrations = await written(two);
  assert.deepEqual(await migrate(shared.database, migrations, 1), [1]);
  assert.deepEqual(await migrate(shared.database, migrations), [2]);
  assert.deepEqual(await migrate(shared.database, migrations), []);
});

it('several controllers at once: one applies, the others wait and find it done', async () => {
  const migrations = await readMigrations();
  const others = [1, 2, 3].map(() => new Database(shared.embedded.address, { log: quiet }));
  try {
    const applied = await Promise.all(others.map(async (database) => migrate(database, migrations)));
    assert.deepEqual(
      applied.flat().sort((a, b) => a - b),
      migrations.map(({ version }) => version),
    );
  } finally {
    await Promise.all(others.map(async (database) => database.close()));
  }
});

it('refuses a newer database and a changed migration, and changes nothing', async () => {
  await migrate(shared.database, await written(two));
  const { '001-a.sql': first } = two;
  await assert.rejects(migrate(shared.database, await written({ '001-a.sql': first })), refuses('store_newer'));
  const changed = await written({ ...two, '001-a.sql': `${first} ` });
  await assert.rejects(migrate(shared.database, changed), refuses('setup'));
});

it('a migration that fails leaves the schema as it was', async () => {
  const broken = await written({ ...two, '002-b.sql': 'CREATE TABLE virga.b (x int); SELECT 1/0;' });
  await assert.rejects(migrate(shared.database, broken), /division by zero/);
  const tables = await shared.database.query("SELECT 1 FROM pg_tables WHERE schemaname = 'virga' AND tablename = 'b'");
  assert.deepEqual(tables, []);
  assert.deepEqual(await migrate(shared.database, await written(two)), [2]);
});

it('refuses files that are not numbered without a gap', async () => {
  await assert.rejects(written({ '001-a.sql': '', '003-c.sql': '' }), TypeError);
  await assert.rejects(written({ 'a.sql': '' }), TypeError);
});
