/**
 * `./virga bench beats`: 1,000 keepers beat at one voter over real sockets, each with its own certificate, key and socket.
 * Bounds: the voter needs under 20 % of one core at the default profile (a beat every 250 ms), hardly a beat stays without
 * an answer, and the voter stays small.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { beatEveryMs, profiles } from '../src/core/ha/margin.ts';
import { nodeFlags } from '../src/site/paths.ts';
import { aBeat, clock, end, testSite, type End, type TestSite } from '../test/unit/effects/wire-kit.ts';
import { atLeast, below, result, type BenchResult, type BenchRow } from './kit.ts';

const keepers = 1000;
const measuredMs = 5000;
const warmUpMs = 1500;
/** Longest wait until every keeper has its key. */
const joinMs = 60_000;
/** Clock ticks a second of /proc/PID/stat: 100 on every Linux that Node runs on. */
const ticksPerSecond = 100;

const ticksOf = (pid: number): number => {
  const fields = readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ').at(-1)?.split(' ') ?? [];
  return Number(fields[11]) + Number(fields[12]);
};
const residentMB = (pid: number): number =>
  (Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1]) * 1024) / 1e6;

interface Voter {
  readonly child: ChildProcess;
  readonly id: string;
  readonly pid: number;
  readonly address: string;
}

async function startVoter(folder: string, site: TestSite): Promise<Voter> {
  const id = randomUUID();
  const whole = { self: id, siteId: site.siteId, identity: await site.host(id) };
  await writeFile(join(folder, 'voter.json'), JSON.stringify(whole), { mode: 0o600 });
  const program = join(import.meta.dirname, 'beats-voter.ts');
  const child = spawn(process.execPath, [...(nodeFlags['keeper'] ?? []), program, folder], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [first] = (await once(child.stdout, 'data')) as [Buffer];
  return { child, id, pid: child.pid ?? 0, address: first.toString().trim() };
}

/** Beats of all keepers for some time, spread evenly; gives beats and answers of that time. */
async function beatFor(
  all: readonly End[],
  voter: Voter,
  everyMs: number,
  ms: number,
): Promise<readonly [number, number]> {
  const before = all.reduce((sum, { got }) => sum + got.length, 0);
  const started = performance.now();
  let sent = 0;
  while (performance.now() - started < ms) {
    const due = 1 + Math.floor(((performance.now() - started) * all.length) / everyMs);
    for (; sent < due; sent += 1) {
      const keeper = all[sent % all.length];
      keeper?.wire.send(voter.id, aBeat(keeper.id, clock.now()), [voter.address]);
    }
    await sleep(1);
  }
  // The last answers are under way.
  await sleep(200);
  return [sent, all.reduce((sum, { got }) => sum + got.length, 0) - before];
}

async function joinAll(all: readonly End[], voter: Voter): Promise<number> {
  const started = performance.now();
  for (;;) {
    const waiting = all.filter(({ got }) => got.length === 0);
    if (waiting.length === 0) return performance.now() - started;
    if (performance.now() - started > joinMs) throw new Error(`${waiting.length} keepers got no answer`);
    await beatFor(waiting, voter, 250, 250);
  }
}

async function measured(
  name: string,
  all: readonly End[],
  voter: Voter,
  everyMs: number,
  bound: number,
): Promise<BenchRow[]> {
  await beatFor(all, voter, everyMs, warmUpMs);
  const before = ticksOf(voter.pid);
  const started = performance.now();
  const [sent, answered] = await beatFor(all, voter, everyMs, measuredMs);
  const seconds = (performance.now() - started) / 1000;
  const percent = ((ticksOf(voter.pid) - before) / ticksPerSecond / seconds) * 100;
  return [
    { measure: `${name}: beats`, value: sent / (measuredMs / 1000), unit: '1/s' },
    below(`${name}: voter, of one core`, percent, '%', bound),
    atLeast(`${name}: answered`, (answered / sent) * 100, '%', 99),
  ];
}

export async function run(): Promise<BenchResult> {
  const folder = await mkdtemp(join(tmpdir(), 'virga-beats-'));
  const all: End[] = [];
  let voter: Voter | undefined;
  try {
    const site = await testSite();
    voter = await startVoter(folder, site);
    const restMB = residentMB(voter.pid);
    for (let index = 0; index < keepers; index += 1) all.push(await end(site, 'keeper'));
    const joined = await joinAll(all, voter);
    return result('beats', [
      { measure: 'voter at rest, resident', value: restMB, unit: 'MB' },
      below(`${keepers} keepers new to the voter, until all are answered`, joined, 'ms', 5000),
      ...(await measured('default profile', all, voter, beatEveryMs(profiles.default.lengthMs), 20)),
      ...(await measured('fast profile', all, voter, beatEveryMs(profiles.fast.lengthMs), 40)),
      below('voter after all this, resident', residentMB(voter.pid), 'MB', 80),
    ]);
  } finally {
    voter?.child.kill('SIGTERM');
    await Promise.all(all.map(async ({ wire }) => wire.close()));
    await rm(folder, { recursive: true, force: true });
  }
}
