/** A controller as a process of its own, on a PostgreSQL of its own that holds a site of a given size. */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { openClient, type Client } from '../src/api/client.ts';
import { PgStore } from '../src/controller/store/store.ts';
import type { Host } from '../src/core/model/host.ts';
import type { AnyResource } from '../src/core/model/snapshot.ts';
import { formatAddress } from '../src/core/net/address.ts';
import { server, type Server } from '../test/real/store/kit.ts';
import { aGuest, aHost, aNetwork, anImage, sight } from '../test/unit/core/kit.ts';

const siteId = '00000000-0000-4000-8000-0000000000aa';
/** Objects of one commit while filling. */
const step = 2000;

export interface BenchSite {
  readonly database: Server;
  readonly client: Client;
  readonly socketPath: string;
  /** Resident memory of the controller, in MB (10^6 bytes). */
  residentMB(): Promise<number>;
  stop(): Promise<void>;
}

function* objects(hosts: number, guests: number): Generator<AnyResource> {
  const image = anImage('debian');
  const lan = aNetwork('default');
  yield image;
  yield lan;
  const all: Host[] = Array.from({ length: hosts }, (_, index) => aHost(`host-${index}`));
  yield* all;
  for (let index = 0; index < guests; index += 1) {
    const host = all[index % hosts];
    if (!host) return;
    const mac = `52:54:00:${[index >> 16, (index >> 8) & 255, index & 255].map((byte) => byte.toString(16).padStart(2, '0')).join(':')}`;
    const guest = aGuest(`guest-${index}`, {
      on: host,
      labels: { project: `p-${index % 40}`, role: index % 3 === 0 ? 'worker' : 'service' },
      spec: {
        image: { id: image.id, sha512: 'b'.repeat(128), format: 'qcow2' },
        nics: [{ networkId: lan.id, mac, ipv4: formatAddress(4, (10n << 24n) + 2n + BigInt(index)) }],
      },
    });
    const { id: _id, ...observed } = sight(guest);
    yield { ...guest, status: { ...guest.status, state: 'running', observed } };
  }
}

async function fill(database: Server, hosts: number, guests: number): Promise<void> {
  const store = await PgStore.open(database.database, { newSite: { id: siteId, name: 'bench' } });
  const epoch = { number: 1, id: siteId };
  if (!(await store.lead(epoch)).ok) throw new Error('the database is not empty');
  let batch: AnyResource[] = [];
  const write = async (): Promise<void> => {
    const answer = await store.commit({ put: batch, remove: [], events: [], expect: [], epoch });
    if (!answer.ok) throw new Error(`the site could not be filled: ${answer.why}`);
    batch = [];
  };
  for (const each of objects(hosts, guests)) {
    batch.push(each);
    if (batch.length >= step) await write();
  }
  await write();
}

/** Fills a database and starts a controller on it, bound to one core. `stop` ends and removes everything. */
export async function benchSite(hosts: number, guests: number): Promise<BenchSite> {
  const database = await server();
  let child: ChildProcess | undefined;
  try {
    await fill(database, hosts, guests);
    const socketPath = join(database.work, 'virga.sock');
    const program = join(import.meta.dirname, 'controller-process.ts');
    const args = ['-c', '0', process.execPath, program, join(database.work, 'controller'), socketPath, database.url];
    const started = spawn('taskset', args, { stdio: ['ignore', 'pipe', 'inherit'] });
    child = started;
    await Promise.race([
      once(started.stdout, 'data'),
      once(started, 'exit').then(() => Promise.reject(new Error('the controller ended before it led'))),
    ]);
    const client = openClient({ socket: socketPath });
    return {
      database,
      client,
      socketPath,
      residentMB: async () => residentMB(started.pid),
      async stop() {
        await client.close();
        await end(started);
        await database.stop();
      },
    };
  } catch (error) {
    if (child) await end(child);
    await database.stop();
    throw error;
  }
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = once(child, 'exit');
  child.kill('SIGTERM');
  const timer = setTimeout(() => child.kill('SIGKILL'), 10_000);
  await gone;
  clearTimeout(timer);
}

async function residentMB(pid: number | undefined): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  return (Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1]) * 1024) / 1e6;
}

/** Resident memory of a Node process that does nothing: what every program here begins with. */
export async function bareMB(): Promise<number> {
  const child = spawn(process.execPath, ['-e', 'console.log(1); setInterval(() => {}, 1000)'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  try {
    await once(child.stdout, 'data');
    return await residentMB(child.pid);
  } finally {
    child.kill('SIGKILL');
  }
}
