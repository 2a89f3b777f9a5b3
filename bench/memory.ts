/**
 * `./virga bench memory`: resident memory at 1,000 guests. The controller's after the lists were read and the loop has run
 * (bound 200 MB), the agent's on libvirt's test driver after several looks and reports (bound 120 MB). The ratios are to a
 * Node process that does nothing, measured in the same run.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { identityElement } from '../src/agent/domain-xml.ts';
import type { Assignment, GuestOrder } from '../src/core/model/assignment.ts';
import { el, LibvirtClient, toXml } from '../src/libvirt/index.ts';
import { nodeFlags } from '../src/site/paths.ts';
import { guestId, hostId, orderOf, siteId } from '../test/real/agent/orders.ts';
import { startDaemon } from '../test/real/libvirt/daemon.ts';
import { below, median, result, type BenchResult, type BenchRow } from './kit.ts';
import { bareMB, benchSite } from './controller.ts';

const hosts = 50;
const guests = 1000;
const looks = 5;

/** The controller's rows. */
export async function controllerRows(): Promise<BenchRow[]> {
  const site = await benchSite(hosts, guests);
  try {
    const seen: number[] = [];
    for (let look = 0; look < looks; look += 1) {
      const { items } = await site.client.call('guest.list', { query: { limit: guests } });
      assert.equal(items.length, guests);
      await site.client.call('site.status');
      seen.push(await site.residentMB());
    }
    const value = median(seen);
    return [
      below('controller at 1,000 guests', value, 'MB', 200),
      { measure: 'ratio to a Node process that does nothing', value: value / (await bareMB()), unit: '×' },
    ];
  } finally {
    await site.stop();
  }
}

/** Reports of the whole host that are waited for before its memory is read. */
const reportsSeen = 8;
const patienceMs = 120_000;

function orders(): GuestOrder[] {
  const image = { path: '', format: 'qcow2', sha512: 'b'.repeat(128), bytes: 1 } as const;
  const pattern = orderOf(0, image, { nics: [], cpus: 1, maxCpus: 1, memoryMiB: 8, maxMemoryMiB: 8 });
  return Array.from({ length: guests }, (_, index) => ({ ...pattern, id: guestId(index), name: `g${index}` }));
}

function testDomain({ id, name, generation, epoch, owner, community }: GuestOrder): string {
  const identity = { siteId, id, name, generation, epoch, owner, community, startedAt: 0 };
  return toXml(
    el(
      'domain',
      { type: 'test' },
      el('name', null, name),
      el('uuid', null, id),
      el('metadata', null, identityElement(identity, true)),
      el('memory', { unit: 'MiB' }, 8),
      el('os', null, el('type', null, 'hvm')),
    ),
  );
}

/** Runs the agent until it has reported all guests several times; its resident memory then, in MB. */
async function agentMB(dataDir: string, socket: string): Promise<number> {
  const script = join(dirname(fileURLToPath(import.meta.url)), 'agent-process.ts');
  const child = spawn(process.execPath, [...(nodeFlags['agent'] ?? []), script, dataDir, socket], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const timer = setTimeout(() => child.kill('SIGKILL'), patienceMs);
  try {
    let whole = 0;
    for await (const line of createInterface({ input: child.stdout })) {
      if (line.endsWith(` ${guests}`)) whole += 1;
      if (whole >= reportsSeen) break;
    }
    assert.ok(whole >= reportsSeen, 'the agent did not report all guests');
    const status = await readFile(`/proc/${child.pid}/status`, 'utf8');
    return (Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1]) * 1024) / 1e6;
  } finally {
    clearTimeout(timer);
    const ended = child.exitCode === null ? once(child, 'exit') : undefined;
    child.kill('SIGTERM');
    await ended;
  }
}

/** The agent's rows. Needs root and libvirtd. */
export async function agentRows(): Promise<BenchRow[]> {
  const daemon = await startDaemon();
  const dataDir = await mkdtemp(join(tmpdir(), 'virga-bench-agent-'));
  const client = await LibvirtClient.open({ uri: 'test:///default', socket: daemon.socket });
  try {
    const all = orders();
    for (const order of all) await client.createXML(testDomain(order));
    const assignment: Assignment = {
      siteId,
      hostId,
      generation: 1,
      epoch: 1,
      destroyNothing: false,
      guests: all,
      networks: [],
      images: [],
    };
    await writeFile(join(dataDir, 'assignment.json'), JSON.stringify(assignment));
    const value = await agentMB(dataDir, daemon.socket);
    return [
      below('agent at 1,000 guests (test driver)', value, 'MB', 120),
      { measure: 'ratio to a Node process that does nothing', value: value / (await bareMB()), unit: '×' },
    ];
  } finally {
    await client.close();
    await daemon.stop();
    await rm(dataDir, { recursive: true, force: true });
  }
}

export async function run(): Promise<BenchResult> {
  return result('memory', [...(await controllerRows()), ...(await agentRows())]);
}
