/**
 * `./virga bench quiet [--minutes 30]`: no false alarm. Beats between hosts take 200 ms and 5 % of them are lost, both
 * cores are busy, guests run: no host may be declared lost. Then what controller, agent, keeper and guard take at rest
 * with 50 guests on one host.
 */
import { availableParallelism, freemem } from 'node:os';
import { readFile } from 'node:fs/promises';
import { spawn, type ChildProcess } from 'node:child_process';
import type { Lab } from '../src/site/lab.ts';
import { beside, type Part } from '../src/site/lab-parts.ts';
import { atMost, below, result, type BenchOptions, type BenchResult, type BenchRow } from './kit.ts';
import { bareMB } from './controller.ts';
import { benchLab, runOn, threeHosts } from './lease-kit.ts';

const usualMinutes = 30;
/** A frame between two hosts passes two cables. */
const cable = { delayMs: 100, lossPercent: 100 * (1 - Math.sqrt(0.95)) };
const wantedGuests = 50;
/** Of one emulated guest of 128 MiB, with its QEMU; and what the machine keeps for itself. Bytes. */
const guestBytes = 260 * 1024 ** 2;
const reserveBytes = 3 * 1024 ** 3;
const restMs = 60_000;

const sleep = async (ms: number): Promise<void> => new Promise((next) => setTimeout(next, ms));

function busyLoops(): ChildProcess[] {
  const loop = 'while :; do :; done';
  const one = (): ChildProcess => spawn('setpriv', ['--pdeathsig', 'KILL', 'sh', '-c', loop], { stdio: 'ignore' });
  return Array.from({ length: availableParallelism() }, one);
}

interface Sights {
  readonly looks: number;
  readonly lapsed: number;
  readonly sealing: number;
  readonly lost: readonly string[];
}

/** Looks once a second for so long, through the same slow network. */
async function watch(lab: Lab, ms: number): Promise<Sights> {
  const before = new Map((await lab.hosts()).map((host) => [host.name, host.status.session?.id]));
  const end = performance.now() + ms;
  let [looks, lapsed, sealing] = [0, 0, 0];
  while (performance.now() < end) {
    const view = await lab.client.call('lease.show');
    looks += 1;
    if (view.hosts.some(({ state }) => state === 'lapsed')) lapsed += 1;
    if (view.hosts.some(({ state }) => state === 'sealing')) sealing += 1;
    if (looks % 60 === 0) console.error(`  ${looks} looks: ${lapsed} lapsed, ${sealing} sealing`);
    await sleep(1_000);
  }
  const after = await lab.hosts();
  const lost = after.filter(
    (host) => host.status.loss !== undefined || host.status.session?.id !== before.get(host.name),
  );
  return { looks, lapsed, sealing, lost: lost.map(({ name }) => name) };
}

async function falseAlarms(lab: Lab, minutes: number): Promise<BenchRow[]> {
  for (const host of threeHosts) await runOn(lab, host, 1);
  for (const host of lab.testbed.hosts) await host.shape(cable);
  const busy = busyLoops();
  try {
    // The voters measure round trips anew before the count begins.
    await lab.settled();
    const seen = await watch(lab, minutes * 60_000);
    return [
      { measure: 'minutes at 200 ms, 5 % loss, all cores busy', value: minutes, unit: 'min' },
      { measure: 'looks that saw a lapsed lease', value: seen.lapsed, unit: `of ${seen.looks}` },
      { measure: 'looks that saw a host being sealed', value: seen.sealing, unit: `of ${seen.looks}` },
      atMost('hosts declared lost', seen.lost.length, '', 0),
    ];
  } finally {
    for (const each of busy) each.kill('SIGKILL');
    for (const host of lab.testbed.hosts) await host.shape({});
  }
}

/** Processor time that a process has used so far, in ms (proc(5): utime and stime, in ticks of 10 ms). */
async function cpuMs(pid: number): Promise<number> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) * 10;
}

async function residentMB(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  return (Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1]) * 1024) / 1e6;
}

async function atRest(lab: Lab): Promise<BenchRow[]> {
  const [host] = threeHosts;
  const fit = Math.max(1, Math.min(wantedGuests, Math.floor((freemem() - reserveBytes) / guestBytes)));
  if (fit < wantedGuests) console.error(`  only ${fit} guests of ${wantedGuests} fit into the free memory`);
  for (let left = fit; left > 0; left -= 10) await runOn(lab, host, Math.min(10, left));
  await lab.settled();
  const parts: readonly (readonly [Part, string])[] = [
    ['controller', beside],
    ['agent', host],
    ['keeper', host],
    ['guard', host],
  ];
  const pids = parts.map(([part, machine]) => lab.parts.pid(part, machine));
  // Images, boots and reports of them are past.
  await sleep(restMs / 2);
  const before = await Promise.all(pids.map(cpuMs));
  const started = performance.now();
  await sleep(restMs);
  const after = await Promise.all(pids.map(cpuMs));
  const span = performance.now() - started;
  const shares = after.map((used, index) => ((used - (before[index] ?? 0)) / span) * 100);
  const memory = await Promise.all(pids.map(residentMB));
  const bare = await bareMB();
  return [
    { measure: 'guests on the host', value: fit, unit: fit < wantedGuests ? `(${wantedGuests} do not fit)` : '' },
    ...parts.map(([part], index) => ({
      measure: `${part} at rest`,
      value: shares[index] ?? Number.NaN,
      unit: '% of one core',
    })),
    below(
      'controller, agent, keeper, guard together',
      shares.reduce((sum, share) => sum + share, 0),
      '% of one core',
      2,
    ),
    below('keeper resident', memory[2] ?? Number.NaN, 'MB', 70),
    below('guard resident', memory[3] ?? Number.NaN, 'MB', 70),
    { measure: 'ratio of the keeper to a Node process that does nothing', value: (memory[2] ?? 0) / bare, unit: '×' },
  ];
}

export async function run({ minutes = usualMinutes }: BenchOptions = {}): Promise<BenchResult> {
  const lab = await benchLab();
  try {
    return result('quiet', [...(await falseAlarms(lab, minutes)), ...(await atRest(lab))]);
  } finally {
    await lab.close();
  }
}
