/** DATABASE_URL: a server of one's own over TCP with TLS, as libpq's parameters describe it. */
import assert from 'node:assert/strict';
import { type ChildProcess } from 'node:child_process';
import { appendFile, chown, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { after, before, it } from 'node:test';
import 'reflect-metadata';
import { PemConverter, SubjectAlternativeNameExtension, X509CertificateGenerator } from '@peculiar/x509';
import { VirgaError } from '../../../src/core/errors.ts';
import { spawnAs } from '../../../src/controller/store/account.ts';
import { findBinaries } from '../../../src/controller/store/binaries.ts';
import { configure, createCluster } from '../../../src/controller/store/cluster.ts';
import { Database } from '../../../src/controller/store/database.ts';
import { openStore } from '../../../src/controller/store/open.ts';
import { resolvePlace } from '../../../src/controller/store/place.ts';
import { lead, uuid } from '../../unit/store/samples.ts';
import { quiet, type Sandbox, sandbox, until } from './kit.ts';

let box: Sandbox;
let child: ChildProcess | undefined;
let base: string;
let ended: Promise<unknown>;

async function certificate(): Promise<{ readonly certificate: string; readonly key: string }> {
  const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };
  const keys = await crypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
  const made = await X509CertificateGenerator.createSelfSigned({
    serialNumber: '01',
    name: 'CN=localhost',
    notBefore: new Date(Date.now() - 60_000),
    notAfter: new Date(Date.now() + 3_600_000),
    signingAlgorithm: algorithm,
    keys,
    extensions: [new SubjectAlternativeNameExtension([{ type: 'dns', value: 'localhost' }])],
  });
  const key = PemConverter.encode(await crypto.subtle.exportKey('pkcs8', keys.privateKey), 'PRIVATE KEY');
  return { certificate: made.toString('pem'), key };
}

async function freePort(): Promise<number> {
  const probe = createServer();
  await new Promise<void>((resolve) => probe.listen(0, '127.0.0.1', resolve));
  const address = probe.address();
  await new Promise((resolve) => probe.close(resolve));
  assert.ok(typeof address === 'object' && address);
  return address.port;
}

before(async () => {
  box = await sandbox();
  const place = await resolvePlace(box.options);
  const [binaries] = await findBinaries();
  assert.ok(binaries);
  const cluster = await createCluster(place.folder, binaries, place.account);
  await configure(cluster, place.account);
  const made = await certificate();
  await writeFile(join(cluster, 'server.crt'), made.certificate);
  await writeFile(join(cluster, 'server.key'), made.key, { mode: 0o600 });
  await chown(join(cluster, 'server.key'), place.account.uid, place.account.gid);
  await writeFile(join(box.work, 'ca.crt'), made.certificate);
  await appendFile(join(cluster, 'pg_hba.conf'), 'hostssl all virga 127.0.0.1/32 trust\n');
  const port = await freePort();
  const settings = ['ssl=on', 'listen_addresses=127.0.0.1', `port=${port}`, 'unix_socket_directories='];
  const argv = [join(binaries.folder, 'postgres'), '-D', cluster, ...settings.flatMap((each) => ['-c', each])];
  child = await spawnAs(place.account, argv, cluster);
  child.stderr?.resume();
  child.stdout?.resume();
  ended = new Promise((resolve) => child?.once('exit', resolve));
  base = `postgresql://virga@localhost:${port}/postgres`;
  await until('the server answers', async () => {
    const database = new Database({ url: `${base}?sslmode=require` }, { log: quiet });
    try {
      await database.query('SELECT 1');
      return true;
    } catch {
      return false;
    } finally {
      await database.close();
    }
  });
});
after(async () => {
  child?.kill('SIGINT');
  await ended;
  await box.remove();
});

it('verify-full with the right authority: the whole store works over TLS', async () => {
  const databaseUrl = `${base}?sslmode=verify-full&sslrootcert=${encodeURIComponent(join(box.work, 'ca.crt'))}`;
  const newSite = { id: uuid(0), name: 'test' };
  const opened = await openStore({ ...box.options, databaseUrl, newSite });
  try {
    assert.equal((await lead(opened.store)).site.epoch, 1);
    const [row] = await opened.database.query<{ ssl: boolean }>(
      'SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()',
    );
    assert.equal(row?.ssl, true);
  } finally {
    await opened.close();
  }
});

it('an unknown authority, no TLS where the server wants it, and half-promises are refused', async () => {
  const attempt = async (url: string): Promise<unknown> => {
    const database = new Database({ url }, { log: quiet });
    try {
      return await database.query('SELECT 1');
    } finally {
      await database.close();
    }
  };
  const refused =
    (code: string, words: RegExp) =>
    (error: unknown): boolean =>
      error instanceof VirgaError && error.code === code && words.test(error.message);
  await assert.rejects(attempt(`${base}?sslmode=verify-full`), refused('store_unavailable', /certificate/));
  await assert.rejects(attempt(`${base}?sslmode=disable`), refused('store_unavailable', /pg_hba/));
  await assert.rejects(attempt(`${base}?sslmode=prefer`), refused('setup', /sslmode=prefer/));
  const elsewhere = 'postgresql://virga@database.example:5432/virga';
  await assert.rejects(attempt(elsewhere), refused('setup', /another machine/));
  await assert.rejects(attempt('postgresql:///virga?host=192.0.2.1&user=virga'), refused('setup', /another machine/));
  await assert.rejects(attempt('mysql://x/y'), refused('setup', /no URL of a PostgreSQL server/));
});
