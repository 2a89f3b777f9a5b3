/**
 * A PostgreSQL of its own on a lab's switch, for several controllers: over TCP with TLS, so that it is only reached by
 * the lab's network. It is the distribution's server with a fresh cluster in the testbed's folder.
 */
import { randomBytes } from 'node:crypto';
import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { VirgaError } from '../api/errors.ts';
import { run } from '../setup/command.ts';
import { systemUser } from '../setup/packages.ts';
import type { Testbed, TestbedProcess } from '../testbed/index.ts';
import { childrenOf } from '../testbed/proc.ts';
import { until } from './ready.ts';

const debianFolder = '/usr/lib/postgresql';
const port = 5432;

export interface LabDatabase {
  /** For DATABASE_URL: with a password, and the certificate that the server must show. */
  readonly url: string;
  start(): Promise<void>;
  /** SIGKILL to the server's first process and its children, as a power cut of its machine. */
  kill(): Promise<void>;
  /** The first process and its children: SIGSTOP is a machine that hangs. */
  signal(signal: 'SIGSTOP' | 'SIGCONT'): void;
  stop(): Promise<void>;
}

async function binaries(): Promise<string> {
  const majors = (await readdir(debianFolder).catch(() => [])).map(Number).filter(Number.isInteger);
  const newest = majors.toSorted((a, b) => b - a)[0];
  if (newest === undefined)
    throw new VirgaError('setup', { detail: 'PostgreSQL is not installed', how: 'apt-get install postgresql' });
  return join(debianFolder, String(newest), 'bin');
}

const asUser = ['setpriv', '--reuid', systemUser, '--regid', systemUser, '--init-groups', '--'];

async function makeCluster(folder: string, bin: string, address: string, password: string): Promise<string> {
  const [data, passwordFile] = [join(folder, 'data'), join(folder, 'password')];
  await mkdir(folder, { recursive: true });
  await writeFile(passwordFile, password, { mode: 0o600 });
  await run(['chown', '-R', `${systemUser}:`, folder]);
  const certificate = ['-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '30'];
  const names = ['-subj', '/CN=database', '-addext', `subjectAltName=IP:${address}`];
  const files = ['-keyout', join(folder, 'key.pem'), '-out', join(folder, 'cert.pem')];
  await run([...asUser, 'openssl', 'req', ...certificate, ...names, ...files]);
  const initdb = ['-D', data, '-U', 'virga', `--pwfile=${passwordFile}`, '--auth=scram-sha-256', '--locale=C.UTF-8'];
  await run([...asUser, join(bin, 'initdb'), ...initdb], { timeoutMs: 60_000 });
  await writeFile(join(data, 'pg_hba.conf'), 'hostssl all virga all scram-sha-256\nlocal all virga scram-sha-256\n');
  return data;
}

/** Makes the cluster and starts the server. */
export async function openLabDatabase(testbed: Testbed): Promise<LabDatabase> {
  const folder = join(testbed.dir, 'database');
  const password = randomBytes(12).toString('hex');
  const bin = await binaries();
  const address = testbed.plan.gateway;
  const data = await makeCluster(folder, bin, address, password);
  const settings = Object.entries({
    listen_addresses: address,
    port,
    unix_socket_directories: folder,
    ssl: 'on',
    ssl_cert_file: join(folder, 'cert.pem'),
    ssl_key_file: join(folder, 'key.pem'),
    // A client whose host lost power is let go of soon: its locks would be kept for minutes else.
    tcp_keepalives_idle: 2,
    tcp_keepalives_interval: 1,
    tcp_keepalives_count: 2,
  }).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
  let server: TestbedProcess | undefined;
  // Its children lead sessions of their own: no group of processes holds them all.
  const family = (signal: NodeJS.Signals): void => {
    if (server === undefined) return;
    for (const pid of [server.pid, ...childrenOf(server.pid)]) process.kill(pid, signal);
  };
  const database: LabDatabase = {
    url: `postgresql://virga:${password}@${address}:${port}/postgres?sslmode=verify-full&sslrootcert=${join(folder, 'cert.pem')}`,
    async start() {
      const output = { file: join(testbed.dir, 'database.log') };
      server = await testbed.switchSpawn([...asUser, join(bin, 'postgres'), '-D', data, ...settings], { output });
      const env = { PGPASSWORD: password };
      const probe = [join(bin, 'pg_isready'), '-h', address, '-p', `${port}`, '-q'];
      await until('the database', 30_000, async () =>
        (await testbed.switchExec(probe, { env })).code === 0 ? true : undefined,
      );
    },
    async kill() {
      family('SIGKILL');
      await server?.exited;
      server = undefined;
    },
    signal: family,
    async stop() {
      server?.kill('SIGINT');
      await server?.exited;
      server = undefined;
    },
  };
  await database.start();
  return database;
}
