/** The libvirt client against the virsh program, and bulk statistics, on a private libvirtd with its test driver. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { el, LibvirtClient, STATS, toXml } from '../src/libvirt/index.ts';
import { startDaemon } from '../test/real/libvirt/daemon.ts';
import { atLeast, below, medianMs, result, type BenchResult, type BenchRow } from './kit.ts';

const DOMAINS = 1000;
/** Calls of one round: one alone is too short for the clock. */
const CALLS = 1000;
/** Single calls before the measured ones, so that the compiler has done with this client. */
const WARM_UP_CALLS = 4000;
/** Bulk calls before the measured ones, so that both processes run their compiled code. */
const WARM_UP = 10;
const execute = promisify(execFile);

/** Runs the bench. Needs root, libvirtd and virsh. */
export async function run(): Promise<BenchResult> {
  const daemon = await startDaemon();
  try {
    const client = await LibvirtClient.open({ uri: 'test:///default', socket: daemon.socket });
    try {
      return result('libvirt', [
        ...(await domainState(client, daemon.socket)),
        ...(await bulkStats(client, daemon.socket)),
      ]);
    } finally {
      await client.close();
    }
  } finally {
    await daemon.stop();
  }
}

async function virsh(socket: string, ...args: string[]): Promise<string> {
  const uri = `test+unix:///default?socket=${socket}`;
  const { stdout } = await execute('virsh', ['--connect', uri, ...args], {
    timeout: 60_000,
    maxBuffer: 64 * 1024 * 1024,
  });
  return stdout;
}

async function domainState(client: LibvirtClient, socket: string): Promise<BenchRow[]> {
  const dom = await client.lookupByName('test');
  assert.equal((await client.domainState(dom)).state, (await virsh(socket, 'domstate', 'test')).trim());
  for (let warm = 0; warm < WARM_UP_CALLS; warm += 1) await client.domainState(dom);
  const oursMs = await medianMs(async () => {
    for (let call = 0; call < CALLS; call += 1) await client.domainState(dom);
  });
  const virshMs = await medianMs(() => virsh(socket, 'domstate', 'test'));
  return [
    { measure: 'domainGetState, this client', value: oursMs / CALLS, unit: 'ms' },
    { measure: 'virsh domstate, a process each', value: virshMs, unit: 'ms' },
    atLeast('ratio', virshMs / (oursMs / CALLS), '×', 100),
  ];
}

async function bulkStats(client: LibvirtClient, socket: string): Promise<BenchRow[]> {
  const known = (await client.listDomains()).length;
  for (let index = known; index < DOMAINS; index += 1) await client.createXML(domainXml(`bench-${index}`));
  const first = await client.allDomainStats(STATS.state);
  assert.equal(first.length, DOMAINS);
  assert.ok(first.every(({ stats }) => stats.number('state.state') === 1));
  for (let warm = 0; warm < WARM_UP; warm += 1) await client.allDomainStats(STATS.state);
  const oursMs = await medianMs(() => client.allDomainStats(STATS.state));
  const virshMs = await medianMs(() => virsh(socket, 'domstats', '--state'));
  return [
    below(`bulk statistics of ${DOMAINS} domains, this client`, oursMs, 'ms', 10),
    { measure: `virsh domstats of ${DOMAINS} domains`, value: virshMs, unit: 'ms' },
    { measure: 'ratio', value: virshMs / oursMs, unit: '×' },
  ];
}

function domainXml(name: string): string {
  const os = el('os', null, el('type', null, 'hvm'));
  return toXml(el('domain', { type: 'test' }, el('name', null, name), el('memory', null, 8192), os));
}
