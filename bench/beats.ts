/**
 * `./virga bench beats`: one keeper votes on the leases of 1,000 hosts, over real sockets. The voter is a real witness
 * process with a real certificate and disk; the hosts are a thousand wires in two other processes, each with a socket and
 * a certificate of its own, that beat every L/8. The reference is the same voter with one host.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { Authority } from '../src/controller/ca.ts';
import { beatEveryMs, profiles } from '../src/core/ha/margin.ts';
import type { VoterList } from '../src/core/ha/types.ts';
import { selfArgv } from '../src/site/paths.ts';
import { until } from '../src/site/ready.ts';
import { certificateRequest } from '../test/real/site/faults.ts';
import type { BeatingHosts } from './beats-process.ts';
import { below, median, result, type BenchResult } from './kit.ts';

const many = 1000;
const processes = 2;
const spans = 5;
const spanMs = 3_000;
/** Most of a second's beats must be answered, or the figure is of a voter that drops them. */
const answeredShare = 0.99;
const profile = profiles.default;

interface Identified {
  readonly id: string;
  readonly key: string;
  readonly certificate: string;
  readonly ca: string;
}

async function identify(authority: Authority): Promise<Identified> {
  const id = randomUUID();
  const { key, csr } = await certificateRequest();
  const { certificate } = await authority.signHost(csr, id, Date.now());
  return { id, key, certificate, ca: authority.pem };
}

/** Processor time so far, in ms (proc(5), ticks of 10 ms). */
async function cpuMs(pid: number): Promise<number> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) * 10;
}

async function residentMB(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  return (Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1]) * 1024) / 1e6;
}

const spare: ChildProcess[] = [];

function start(argv: readonly string[], input: string): ChildProcess {
  const [program = '', ...args] = argv;
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', program, ...args], { stdio: ['pipe', 'pipe', 'inherit'] });
  child.stdin?.end(input);
  spare.push(child);
  return child;
}

async function endAll(): Promise<void> {
  for (const child of spare.splice(0)) {
    if (child.exitCode !== null || child.signalCode !== null) continue;
    const gone = once(child, 'exit');
    child.kill('SIGKILL');
    await gone;
  }
}

/** A witness that votes alone, on a free port; gives its process id. */
async function startVoter(folder: string, siteId: string, self: Identified, address: string): Promise<number> {
  const epoch = { number: 1, id: randomUUID() };
  const diskId = randomUUID();
  const voters = [{ keeperId: self.id, diskId, name: 'voter', votes: 1, addresses: [address] }];
  const list: VoterList = { siteId, version: { forced: 0, epoch, number: 1 }, profile, voters };
  await mkdir(join(folder, 'keeper'), { recursive: true });
  await writeFile(join(folder, 'keeper', 'voter.json'), JSON.stringify({ diskId, epoch, list }));
  const { id: hostId, ...pem } = self;
  const credentials = { url: 'https://127.0.0.1:1', siteId, siteName: 'bench', hostId, hostName: 'voter', ...pem };
  await writeFile(join(folder, 'credentials.json'), JSON.stringify(credentials));
  const child = start(selfArgv('witness', 'run', '--data', folder, '--listen', address), '');
  return child.pid ?? 0;
}

interface Measured {
  readonly percent: number;
  readonly memoryMB: number;
  readonly yesPerSecond: number;
}

/** The voter's share of a core while these hosts beat. */
async function measure(voterPid: number, groups: readonly BeatingHosts[]): Promise<Measured> {
  const yes: number[] = groups.map(() => 0);
  const sent: number[] = groups.map(() => 0);
  const program = join(import.meta.dirname, 'beats-process.ts');
  for (const [index, group] of groups.entries()) {
    const child = start([process.execPath, program], JSON.stringify(group));
    if (!child.stdout) throw new Error('no output to read');
    createInterface({ input: child.stdout }).on('line', (line) => {
      const counts = JSON.parse(line) as { sent: number; yes: number };
      yes[index] = counts.yes;
      sent[index] = counts.sent;
    });
  }
  const total = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0);
  const hosts = total(groups.map((group) => group.hosts.length));
  const wanted = (hosts * 1000) / beatEveryMs(profile.lengthMs);
  await until(`${wanted} answers a second`, 60_000, () =>
    Promise.resolve(total(yes) >= wanted * answeredShare ? true : undefined),
  );
  const shares: number[] = [];
  const answers: number[] = [];
  for (let span = 0; span < spans; span += 1) {
    const [before, begun] = [await cpuMs(voterPid), performance.now()];
    await new Promise((next) => setTimeout(next, spanMs));
    shares.push((((await cpuMs(voterPid)) - before) / (performance.now() - begun)) * 100);
    answers.push(total(yes));
  }
  return { percent: median(shares), memoryMB: await residentMB(voterPid), yesPerSecond: median(answers) };
}

export async function run(): Promise<BenchResult> {
  const folder = await mkdtemp(join(tmpdir(), 'virga-beats-'));
  try {
    const siteId = randomUUID();
    const authority = await Authority.create(join(folder, 'controller'), siteId, 'bench', Date.now());
    const self = await identify(authority);
    const address = `127.0.0.1:${20_000 + (process.pid % 20_000)}`;
    const everyMs = beatEveryMs(profile.lengthMs);
    const common = {
      siteId,
      voter: { id: self.id, address },
      everyMs,
      askMs: profile.lengthMs,
      boundMs: profile.boundMs,
    };
    const hosts: Identified[] = [];
    while (hosts.length < many) hosts.push(await identify(authority));
    const share = Math.ceil(many / processes);
    const groups = Array.from({ length: processes }, (_, index) => ({
      ...common,
      hosts: hosts.slice(index * share, (index + 1) * share),
    }));
    const few = await measure(await startVoter(join(folder, 'one'), siteId, self, address), [
      { ...common, hosts: hosts.slice(0, 1) },
    ]);
    await endAll();
    const all = await measure(await startVoter(join(folder, 'many'), siteId, self, address), groups);
    return result('beats', [
      { measure: 'hosts', value: many, unit: '' },
      { measure: 'beats answered', value: all.yesPerSecond, unit: '1/s' },
      { measure: 'voter with one host', value: few.percent, unit: '% of one core' },
      below('voter with all hosts', all.percent, '% of one core', 20),
      { measure: 'resident with one host', value: few.memoryMB, unit: 'MB' },
      below('resident with all hosts', all.memoryMB, 'MB', 80),
      { measure: 'ratio of memory', value: all.memoryMB / few.memoryMB, unit: '×' },
    ]);
  } finally {
    await endAll();
    await rm(folder, { recursive: true, force: true });
  }
}
