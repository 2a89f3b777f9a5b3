/**
 * A whole site on one machine: a testbed of simulated physical hosts, a real controller on their switch, and a real agent
 * on each host. The demo, the whole-site tests and the benches stand on it.
 */
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Client } from '../api/client.ts';
import type { HostView } from '../api/schemas.ts';
import { ensureUser } from '../setup/packages.ts';
import { openTestbed, type Testbed, type TestbedHost, type TestbedProcess } from '../testbed/index.ts';
import { selfArgv } from './paths.ts';
import { hostsOnline, readyClient } from './ready.ts';

export interface LabOptions {
  readonly hosts: readonly string[];
  /** What each simulated host counts as its own; the machine is shared. */
  readonly capacity?: { readonly cpus: number; readonly memoryMiB: number; readonly diskMiB: number };
  readonly siteName?: string;
  /** Told what happens, one line each. */
  readonly say?: (line: string) => void;
  readonly env?: Readonly<Record<string, string>>;
}

export interface Lab {
  readonly testbed: Testbed;
  readonly client: Client;
  readonly socket: string;
  /** The controller's data folder. */
  readonly dataDir: string;
  readonly url: string;
  hosts(): Promise<readonly HostView[]>;
  /** The controller's process, in whose mount namespace its data folder is seen. */
  controllerPid(): number;
  /** SIGKILL, as a crash; resolves when it is gone. */
  killController(): Promise<void>;
  /** SIGTERM; resolves when it and its database are gone. */
  stopController(): Promise<void>;
  startController(): Promise<void>;
  /** Fills the stopped controller's database from a backup file, as `virga restore --replace` does. */
  restore(file: string): Promise<void>;
  killAgent(host: string): Promise<void>;
  startAgent(host: string): Promise<void>;
  /** Log lines of a part: `controller` or a host's name. */
  log(part: string): Promise<string>;
  close(): Promise<void>;
}

const port = 7443;
const defaultCapacity = { cpus: 4, memoryMiB: 2048, diskMiB: 20_480 } as const;

class OpenLab implements Lab {
  readonly testbed: Testbed;
  readonly socket: string;
  readonly dataDir: string;
  readonly url: string;
  readonly #options: LabOptions;
  readonly #agents = new Map<string, TestbedProcess>();
  #controller: TestbedProcess | undefined;
  #client: Client | undefined;

  constructor(testbed: Testbed, options: LabOptions) {
    this.testbed = testbed;
    this.#options = options;
    this.dataDir = join(testbed.dir, 'controller');
    this.socket = `/run/virga/t/${testbed.id}/virga.sock`;
    this.url = `https://${testbed.plan.gateway}:${port}`;
  }

  get client(): Client {
    if (!this.#client) throw new Error('the lab is not started');
    return this.#client;
  }

  async start(): Promise<void> {
    const say = this.#options.say ?? (() => undefined);
    await mkdir(this.dataDir, { recursive: true });
    await this.startController();
    say(`controller leads; joining ${this.testbed.hosts.length} hosts`);
    await Promise.all(this.testbed.hosts.map((host) => this.#join(host)));
    await hostsOnline(this.client, this.testbed.hosts.length);
    for (const host of this.testbed.hosts) {
      const capacity = this.#options.capacity ?? defaultCapacity;
      await this.client.call('host.change', {
        params: { host: host.name },
        body: { capacity, reserved: { cpus: 0, memoryMiB: 0, diskMiB: 0 } },
      });
    }
  }

  controllerPid(): number {
    if (!this.#controller) throw new Error('the controller does not run');
    return this.#controller.pid;
  }

  async hosts(): Promise<readonly HostView[]> {
    return (await this.client.call('host.list')).items;
  }

  async startController(): Promise<void> {
    const { gateway } = this.testbed.plan;
    const argv = selfArgv(
      'controller',
      'run',
      '--data',
      this.dataDir,
      '--socket',
      this.socket,
      '--listen',
      `${gateway}:${port}`,
      '--name',
      this.#options.siteName ?? 'lab',
    );
    this.#controller = await this.testbed.switchSpawn(argv, {
      output: { file: this.#logFile('controller') },
      ...(this.#options.env ? { env: this.#options.env } : {}),
    });
    await this.#client?.close();
    try {
      this.#client = await readyClient(this.socket);
    } catch (error) {
      throw new Error(`the controller did not start:\n${(await this.log('controller')).slice(-3000)}`, {
        cause: error,
      });
    }
  }

  async killController(): Promise<void> {
    this.#controller?.kill('SIGKILL');
    await this.#controller?.exited;
    this.#controller = undefined;
  }

  async stopController(): Promise<void> {
    if (this.#controller) await stop([this.#controller], 15_000);
    this.#controller = undefined;
  }

  async restore(file: string): Promise<void> {
    const argv = selfArgv('restore', file, '--replace', '--data', this.dataDir);
    const { code, stderr } = await this.testbed.switchExec(argv, { timeoutMs: 60_000 });
    if (code !== 0) throw new Error(`virga restore ended with code ${code}: ${stderr.trim()}`);
  }

  async #join(host: TestbedHost): Promise<void> {
    const { secret } = await this.client.call('host.invite', { body: { hostName: host.name } });
    await host.run(selfArgv('agent', 'join', this.url, secret, '--data', this.#agentDir(host)), { timeoutMs: 60_000 });
    await this.startAgent(host.name);
  }

  async startAgent(name: string): Promise<void> {
    const host = this.testbed.host(name);
    const agent = await host.spawn(selfArgv('agent', 'run', '--data', this.#agentDir(host)), {
      output: { file: this.#logFile(name) },
      ...(this.#options.env ? { env: this.#options.env } : {}),
    });
    this.#agents.set(name, agent);
  }

  async killAgent(name: string): Promise<void> {
    const agent = this.#agents.get(name);
    agent?.kill('SIGKILL');
    await agent?.exited;
    this.#agents.delete(name);
  }

  async log(part: string): Promise<string> {
    return readFile(this.#logFile(part), 'utf8').catch(() => '');
  }

  async close(): Promise<void> {
    await this.#client?.close();
    await stop([...this.#agents.values()], 5_000);
    // The controller stops its PostgreSQL; a kill would leave that to the next start.
    if (this.#controller) await stop([this.#controller], 15_000);
    await this.testbed.close();
  }

  #agentDir(host: TestbedHost): string {
    return join(host.dir, 'agent');
  }

  #logFile(part: string): string {
    return join(this.testbed.dir, `${part}.log`);
  }
}

async function stop(processes: readonly TestbedProcess[], graceMs: number): Promise<void> {
  await Promise.all(
    processes.map(async (process) => {
      process.kill('SIGTERM');
      const force = setTimeout(() => process.kill('SIGKILL'), graceMs);
      await process.exited;
      clearTimeout(force);
    }),
  );
}

/** Opens a lab; when something fails on the way, what was made is removed and the reason thrown. */
export async function openLab(options: LabOptions): Promise<Lab> {
  options.say?.(`starting ${options.hosts.length} simulated physical hosts`);
  await ensureUser();
  const testbed = await openTestbed({ hosts: options.hosts });
  const lab = new OpenLab(testbed, options);
  try {
    await lab.start();
    return lab;
  } catch (error) {
    await lab.close();
    throw error;
  }
}
