/** The `fence_*` programs of the distribution (ClusterLabs fence agents) as a Fencer. */
import { chown, mkdir, realpath, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { deviceProblem } from '../../core/ha/fencing.ts';
import type { FenceDevice } from '../../core/model/host.ts';
import type { SandboxResult } from '../../effects/sandbox.ts';
import type { Fencer, Log, PowerSight } from '../../ports.ts';
import { metadataProblem, parseMetadata, type AgentMetadata } from './metadata.ts';
import { runFenceAgent, type FenceRoom } from './room.ts';
import { DeviceRefused, prepareDevice } from './secrets.ts';

export interface FencerOptions {
  /** The controller's data folder; secrets are in `fence/`, the agents' own files in `fence/work/`. */
  readonly dataDir: string;
  readonly log: Log;
  /** Milliseconds for cutting the power; 45,000 by default. */
  readonly offMs?: number;
  /** Milliseconds for one question; 15,000 by default. */
  readonly statusMs?: number;
  /** Where agents are looked for; the distribution's folders by default. */
  readonly programDirs?: readonly string[];
}

export const fenceFolder = (dataDir: string): string => join(dataDir, 'fence');
const programDirs = ['/usr/sbin', '/usr/bin'];
const metadataMs = 10_000;
/** A board may say "on" for a moment after it cut the power. */
const confirmTries = 5;
const confirmEveryMs = 1000;
const maxDetail = 200;
const nobody = 65_534;

export async function openFencer(options: FencerOptions): Promise<Fencer> {
  // Mount points must be the real ones.
  const dataDir = await realpath(options.dataDir);
  const secretsDir = fenceFolder(dataDir);
  const workDir = join(secretsDir, 'work');
  // Passable for the agents, whoever they run as; the secrets themselves are closed.
  await mkdir(secretsDir, { recursive: true, mode: 0o711 });
  await mkdir(workDir, { recursive: true, mode: 0o700 });
  const identity = await identityOf(workDir);
  return new FenceAgents(options, { dataDir, secretsDir, workDir, identity });
}

/** Of the folder's owner; where that is root, nobody's, who then gets the folder. */
async function identityOf(workDir: string): Promise<FenceRoom['identity']> {
  const { uid, gid } = await stat(workDir);
  if (uid !== 0) return { uid, gid };
  await chown(workDir, nobody, nobody);
  return { uid: nobody, gid: nobody };
}

class FenceAgents implements Fencer {
  readonly #options: FencerOptions;
  readonly #room: FenceRoom;
  /** By path and time of change. */
  readonly #metadata = new Map<string, AgentMetadata>();

  constructor(options: FencerOptions, room: FenceRoom) {
    this.#options = options;
    this.#room = room;
  }

  async off(device: FenceDevice, signal?: AbortSignal): Promise<PowerSight> {
    return this.#timed(device, async () => {
      const done = await this.#use(device, 'off', { timeoutMs: this.#options.offMs ?? 45_000, signal });
      let sight = await this.#ask(device, signal);
      for (let tries = 1; sight.power === 'on' && tries < confirmTries; tries += 1) {
        await sleep(confirmEveryMs, undefined, { signal }).catch(() => undefined);
        sight = await this.#ask(device, signal);
      }
      if (sight.power === 'off') return sight;
      // Why it could not is a better answer than that it is still on.
      return done.result.end === 'exit' && done.result.code === 0 ? sight : failure(done);
    });
  }

  async status(device: FenceDevice, signal?: AbortSignal): Promise<PowerSight> {
    return this.#timed(device, async () => this.#ask(device, signal));
  }

  async #ask(device: FenceDevice, signal: AbortSignal | undefined): Promise<Said> {
    const used = await this.#use(device, 'status', { timeoutMs: this.#options.statusMs ?? 15_000, signal });
    const power = powerOf(used.result);
    return power === 'unknown' ? failure(used) : { power, detail: `the device says ${power}` };
  }

  async #timed(device: FenceDevice, work: () => Promise<Said>): Promise<PowerSight> {
    const started = performance.now();
    const ms = (): number => performance.now() - started;
    try {
      return { ...(await work()), ms: ms() };
    } catch (error) {
      if (error instanceof DeviceRefused)
        return { power: 'unknown', failure: 'refused', detail: shorten(error.message), ms: ms() };
      this.#options.log.error('a fence agent could not be run', { agent: device.agent, detail: String(error) });
      return { power: 'unknown', failure: 'failed', detail: 'it could not be run; see the log', ms: ms() };
    }
  }

  async #use(device: FenceDevice, action: 'off' | 'status', { timeoutMs, signal }: Limits): Promise<Used> {
    const problem = deviceProblem(device);
    if (problem !== undefined) throw new DeviceRefused(problem);
    const { program, metadata } = await this.#program(device.agent);
    const { input, secrets } = await prepareDevice(device, action, metadata, this.#room);
    const job = { program, input, timeoutMs, ...(signal ? { signal } : {}) };
    return { result: await runFenceAgent(this.#room, job), secrets };
  }

  async #program(agent: string): Promise<{ readonly program: string; readonly metadata: AgentMetadata }> {
    const { program, changed } = await this.#find(agent);
    const key = `${program} ${changed}`;
    const known = this.#metadata.get(key);
    if (known) return { program, metadata: known };
    const result = await runFenceAgent(this.#room, { program, input: 'action=metadata\n', timeoutMs: metadataMs });
    const metadata = result.end === 'exit' && result.code === 0 ? parseMetadata(result.stdout) : undefined;
    if (!metadata) throw new DeviceRefused(`${agent} does not say what it is (action metadata): ${lastLine(result)}`);
    const problem = metadataProblem(agent, metadata);
    if (problem !== undefined) throw new DeviceRefused(problem);
    this.#metadata.set(key, metadata);
    return { program, metadata };
  }

  /** Only programs that root alone can change. */
  async #find(agent: string): Promise<{ readonly program: string; readonly changed: number }> {
    for (const folder of this.#options.programDirs ?? programDirs) {
      const program = join(folder, agent);
      const facts = await stat(program).catch(() => undefined);
      if (!facts?.isFile()) continue;
      if (facts.uid !== 0 || (facts.mode & 0o022) !== 0)
        throw new DeviceRefused(`${program} is refused: others than root can change it`);
      return { program, changed: facts.mtimeMs };
    }
    throw new DeviceRefused(`${agent} is not installed on the controller's machine (package fence-agents)`);
  }
}

type Said = Omit<PowerSight, 'ms'>;
interface Limits {
  readonly timeoutMs: number;
  readonly signal: AbortSignal | undefined;
}
interface Used {
  readonly result: SandboxResult;
  readonly secrets: readonly string[];
}

/**
 * Exit 0 is on and 2 is off for `status` (fence agent interface), but 2 is also "bad arguments": so it must say it in words
 * as well, once, and agree with itself.
 */
export function powerOf({
  end,
  code,
  stdout,
}: Pick<SandboxResult, 'end' | 'code' | 'stdout'>): 'on' | 'off' | 'unknown' {
  const said = [...stdout.matchAll(/^\s*status:\s*(on|off)\s*$/gim)].map((match) => (match[1] ?? '').toLowerCase());
  if (end !== 'exit' || said.length !== 1) return 'unknown';
  if (code === 0 && said[0] === 'on') return 'on';
  if (code === 2 && said[0] === 'off') return 'off';
  return 'unknown';
}

function failure({ result, secrets }: Used): Said {
  if (result.end === 'timeout') return { power: 'unknown', failure: 'timeout', detail: 'it hung and was killed' };
  const words = result.end === 'exit' ? `exit ${result.code}` : result.end;
  let detail = `${words}: ${lastLine(result)}`;
  for (const secret of secrets) detail = detail.replaceAll(secret, '***');
  return { power: 'unknown', failure: 'failed', detail: shorten(detail) };
}

function lastLine({ stdout, stderr }: SandboxResult): string {
  const lines = `${stdout}\n${stderr}`.split('\n').map((line) => line.trim());
  // The library behind most agents ends with a hint that helps nobody here.
  return lines.filter((line) => line !== '' && !/Please use '-h'/.test(line)).at(-1) ?? 'it said nothing';
}

function shorten(text: string): string {
  const clean = text.replaceAll(/\p{Cc}+/gu, ' ');
  return clean.length > maxDetail ? `${clean.slice(0, maxDetail - 1)}…` : clean;
}
