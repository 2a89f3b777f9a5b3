/**
 * `./virga bench api`: the API of a site with 20,000 guests in a real database; the controller has one core. Bounds: the
 * list to its last byte in under 250 ms, at least 300 single reads a second while the loop runs. The ratio is to reading
 * the same documents from PostgreSQL, measured in the same run.
 */
import assert from 'node:assert/strict';
import { request as httpRequest } from 'node:http';
import { Agent, request } from 'undici';
import { atLeast, below, median, medianMs, result, ROUNDS, type BenchResult } from './kit.ts';
import { benchSite, type BenchSite } from './controller.ts';

const hosts = 1000;
const guests = 20_000;
/** Lists before the measured ones, so that both processes run compiled code on grown heaps. */
const warmUps = 3;
/** Milliseconds of one round of single reads. */
const roundMs = 2000;
/** Connections that read at the same time. */
const readers = 4;

export async function run(): Promise<BenchResult> {
  const site = await benchSite(hosts, guests);
  const dispatcher = new Agent({ connect: { socketPath: site.socketPath }, connections: readers, bodyTimeout: 0 });
  try {
    let bytes = 0;
    const list = async (): Promise<void> => {
      bytes = await readList(site.socketPath);
    };
    const started = performance.now();
    await list();
    const first = performance.now() - started;
    for (let warm = 0; warm < warmUps; warm += 1) await list();
    const listMs = await medianMs(list);
    const storeMs = await medianMs(async () => {
      const rows = await site.database.database.query("SELECT doc::text FROM virga.resource WHERE kind = 'guest'");
      assert.equal(rows.length, guests);
    });
    const rates: number[] = [];
    const before = await iterations(site);
    for (let round = 0; round < ROUNDS; round += 1) rates.push(await readsPerSecond(dispatcher));
    const loops = (await iterations(site)) - before;
    assert.ok(loops >= ROUNDS, 'the loop did not run meanwhile');
    return result('api', [
      below('list of 20,000 guests to the last byte', listMs, 'ms', 250),
      { measure: 'the same, the first time', value: first, unit: 'ms' },
      { measure: 'its size', value: bytes / 1e6, unit: 'MB' },
      { measure: 'ratio to reading the documents from PostgreSQL', value: listMs / storeMs, unit: '×' },
      atLeast('single reads on one core, loop running', median(rates), '1/s', 300),
    ]);
  } finally {
    await dispatcher.destroy();
    await site.stop();
  }
}

/** Reads the whole list with the platform's own client, and gives its size. */
async function readList(socketPath: string): Promise<number> {
  const { bytes, tail } = await new Promise<{ bytes: number; tail: string }>((resolve, reject) => {
    const asked = httpRequest({ socketPath, path: `/v1/guests?limit=${guests}` }, (answer) => {
      let bytes = 0;
      let last: Buffer = Buffer.alloc(0);
      answer.on('data', (chunk: Buffer) => {
        bytes += chunk.length;
        last = chunk;
      });
      answer.on('end', () => resolve({ bytes, tail: last.toString('latin1') }));
      answer.on('error', reject);
    });
    asked.on('error', reject);
    asked.end();
  });
  assert.match(tail, /"revision":\d+\}$/);
  assert.ok(bytes > guests * 500, 'the list is too small to be whole');
  return bytes;
}

async function readsPerSecond(dispatcher: Agent): Promise<number> {
  const until = performance.now() + roundMs;
  const started = performance.now();
  let done = 0;
  const reader = async (): Promise<void> => {
    while (performance.now() < until) {
      const name = `guest-${(done * 7919) % guests}`;
      const answer = await request(`http://virga/v1/guests/${name}`, { dispatcher });
      const { name: shown } = (await answer.body.json()) as { name: string };
      assert.equal(shown, name);
      done += 1;
    }
  };
  // The name is taken before the count rises, so readers may meet: that is fine.
  await Promise.all(Array.from({ length: readers }, reader));
  return (done * 1000) / (performance.now() - started);
}

async function iterations({ client }: BenchSite): Promise<number> {
  const answer = await client.raw('health.metrics');
  return Number(/^virga_loop_seconds_count (\d+)$/m.exec(await answer.body.text())?.[1]);
}
