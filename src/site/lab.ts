/**
 * A whole site on one machine: a testbed of simulated physical hosts, a real agent, keeper and guard on each, and real
 * controllers, on their switch or on hosts. The demo, the whole-site tests and the benches stand on it.
 */
import { cp, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { openClient, type Client } from '../api/client.ts';
import type { HostView } from '../api/schemas.ts';
import { run } from '../setup/command.ts';
import { ensureUser, systemUser } from '../setup/packages.ts';
import { openTestbed, type Testbed, type TestbedHost } from '../testbed/index.ts';
import { beside, LabParts } from './lab-parts.ts';
import { openLabDatabase, type LabDatabase } from './lab-database.ts';
import { leasesSettled } from './lab-leases.ts';
import { defaults, selfArgv } from './paths.ts';
import { hostsOnline, until } from './ready.ts';

export interface LabOptions {
  readonly hosts: readonly string[];
  /** What each simulated host counts as its own; the machine is shared. */
  readonly capacity?: { readonly cpus: number; readonly memoryMiB: number; readonly diskMiB: number };
  readonly siteName?: string;
  /** Told what happens, one line each. */
  readonly say?: (line: string) => void;
  readonly env?: Readonly<Record<string, string>>;
  /**
   * Machines with a controller, hosts or `switch`; only the switch by default. More than one, or one on a host: they
   * share a PostgreSQL beside the switch.
   */
  readonly controllers?: readonly string[];
  /** A keeper without guests beside the switch. */
  readonly witness?: boolean;
  readonly profile?: 'default' | 'fast';
  /** A second network between the hosts, for beats. */
  readonly secondNetwork?: boolean;
  /** Without: agents alone, whose guests no lease protects; `true` by default. */
  readonly keepers?: boolean;
}

export interface Lab {
  readonly testbed: Testbed;
  /** Of the controller that led when it was last looked; see `leader`. */
  readonly client: Client;
  readonly socket: string;
  /** The data folder of the first controller. */
  readonly dataDir: string;
  readonly url: string;
  readonly parts: LabParts;
  /** Only with several controllers. */
  readonly database: LabDatabase | undefined;
  hosts(): Promise<readonly HostView[]>;
  /** Waits until a controller leads; gives its machine, and makes its client the lab's. */
  leader(limitMs?: number): Promise<string>;
  /** Waits until every powered host holds a lease and every host votes (or the odd number of them that may). */
  settled(limitMs?: number): Promise<void>;
  /** The first controller's process, in whose mount namespace its data folder is seen. */
  controllerPid(): number;
  /** SIGKILL, as a crash; resolves when it is gone. */
  killController(): Promise<void>;
  /** SIGTERM; resolves when it and its database are gone. */
  stopController(): Promise<void>;
  /** The first one, and waits until a controller leads. */
  startController(): Promise<void>;
  /** Fills the stopped controller's database from a backup file, as `virga restore --replace` does. */
  restore(file: string): Promise<void>;
  killAgent(host: string): Promise<void>;
  /** With its keeper and guard where they do not run. */
  startAgent(host: string): Promise<void>;
  /** What the host's service manager starts at boot: guard, keeper, agent, its controller. */
  startHost(host: string): Promise<void>;
  /** Power on, and `startHost`. */
  powerOn(host: string): Promise<void>;
  /** The host's keeper or guard alone; nothing happens where it runs. */
  startKeeper(machine: string): Promise<void>;
  startGuard(host: string): Promise<void>;
  /** Folder of a machine's keeper. */
  keeperDir(machine: string): string;
  /** Log lines of a part: `controller`, a host's name (its agent), `keeper-HOST`, `guard-HOST`. */
  log(part: string): Promise<string>;
  close(): Promise<void>;
}

const port = defaults.port;
/** UDP. */
const beatPort = 7444;
const defaultCapacity = { cpus: 4, memoryMiB: 2048, diskMiB: 20_480 } as const;

class OpenLab implements Lab {
  readonly testbed: Testbed;
  readonly parts: LabParts;
  readonly dataDir: string;
  readonly url: string;
  readonly #options: LabOptions;
  readonly #controllers: readonly string[];
  readonly #clients = new Map<string, Client>();
  #leader: string;
  #database: LabDatabase | undefined;

  constructor(testbed: Testbed, options: LabOptions) {
    this.testbed = testbed;
    this.#options = options;
    this.parts = new LabParts(testbed, options.env);
    this.#controllers = options.controllers ?? [beside];
    this.#leader = this.#first;
    this.dataDir = this.#controllerDir(this.#first);
    this.url = this.#urlOf(this.#first);
  }

  get client(): Client {
    const client = this.#clients.get(this.#leader);
    if (!client) throw new Error('the lab is not started');
    return client;
  }

  get socket(): string {
    return this.#socketOf(this.#leader);
  }

  get database(): LabDatabase | undefined {
    return this.#database;
  }

  get #first(): string {
    return this.#controllers[0] ?? beside;
  }

  async start(): Promise<void> {
    const say = this.#options.say ?? (() => undefined);
    if (this.#controllers.some((machine) => machine !== beside)) {
      say('starting PostgreSQL beside the switch');
      this.#database = await openLabDatabase(this.testbed);
    }
    await this.startController();
    say(`controller leads; joining ${this.testbed.hosts.length} hosts`);
    await Promise.all(this.testbed.hosts.map((host) => this.#join(host)));
    if (this.#options.witness === true) await this.#joinWitness();
    await hostsOnline(this.client, this.testbed.hosts.length);
    for (const host of this.testbed.hosts) {
      const capacity = this.#options.capacity ?? defaultCapacity;
      await this.client.call('host.change', {
        params: { host: host.name },
        body: { capacity, reserved: { cpus: 0, memoryMiB: 0, diskMiB: 0 } },
      });
    }
    if (this.#options.profile === 'fast') await this.client.call('site.set', { body: { lease: 'fast' } });
    if (this.#options.keepers === false) return;
    say('waiting until every host holds a lease');
    await this.settled();
    // Only now: before there are voters the database alone says who leads.
    await this.#startOtherControllers();
  }

  controllerPid(): number {
    return this.parts.pid('controller', this.#first);
  }

  async hosts(): Promise<readonly HostView[]> {
    const { items } = await this.client.call('host.list');
    return items.filter((host) => host.spec.role !== 'witness');
  }

  async settled(limitMs = 60_000): Promise<void> {
    await this.leader(limitMs);
    const powered = this.testbed.hosts.filter((host) => host.powered).map(({ name }) => name);
    await leasesSettled(this.client, powered, limitMs);
  }

  async leader(limitMs = 60_000): Promise<string> {
    const found = await until('a controller that leads', limitMs, async () => {
      if (!this.#controllers.some((machine) => this.parts.runs('controller', machine))) return 'none';
      for (const machine of this.#controllers) {
        if (!this.parts.runs('controller', machine)) continue;
        if (!(await this.#leads(machine))) continue;
        this.#leader = machine;
        return machine;
      }
      return undefined;
    });
    if (found === 'none') throw new Error('no controller runs');
    return found;
  }

  async #leads(machine: string): Promise<boolean> {
    const client = this.#clients.get(machine) ?? openClient({ socket: this.#socketOf(machine) });
    this.#clients.set(machine, client);
    try {
      const answer = await client.raw('health.ready', { timeoutMs: 2_000 });
      await answer.body.dump();
      return true;
    } catch {
      return false;
    }
  }

  async startController(): Promise<void> {
    await this.#startControllerOn(this.#first);
    await this.#clients.get(this.#first)?.close();
    this.#clients.delete(this.#first);
    try {
      await this.leader();
    } catch (error) {
      const words = (await this.parts.log('controller', this.#first)).slice(-3000);
      throw new Error(`no controller leads:\n${words}`, { cause: error });
    }
  }

  async #startControllerOn(machine: string): Promise<void> {
    const dataDir = this.#controllerDir(machine);
    await mkdir(dataDir, { recursive: true });
    const advertised =
      this.#controllers.length > 1 ? this.#controllers.flatMap((each) => ['--advertise', this.#urlOf(each)]) : [];
    const argv = selfArgv(
      'controller',
      'run',
      '--data',
      dataDir,
      '--socket',
      machine === beside ? this.#socketOf(machine) : defaults.socket,
      '--listen',
      `${this.#addressOf(machine)}:${port}`,
      '--name',
      this.#options.siteName ?? 'lab',
      ...advertised,
    );
    await this.parts.start('controller', machine, argv, this.#database ? { DATABASE_URL: this.#database.url } : {});
  }

  /** The authority of the site is given to each by hand, as an administrator does. */
  async #startOtherControllers(): Promise<void> {
    for (const machine of this.#controllers.slice(1)) {
      const dataDir = this.#controllerDir(machine);
      await mkdir(dataDir, { recursive: true });
      await cp(join(this.dataDir, 'ca'), join(dataDir, 'ca'), { recursive: true });
      await run(['chown', '-R', `${systemUser}:`, dataDir]);
      await this.#startControllerOn(machine);
    }
  }

  async killController(): Promise<void> {
    await this.parts.kill('controller', this.#first);
  }

  async stopController(): Promise<void> {
    await this.parts.stop('controller', this.#first);
  }

  async restore(file: string): Promise<void> {
    const argv = selfArgv('restore', file, '--replace', '--data', this.dataDir);
    const { code, stderr } = await this.testbed.switchExec(argv, { timeoutMs: 60_000 });
    if (code !== 0) throw new Error(`virga restore ended with code ${code}: ${stderr.trim()}`);
  }

  async #join(host: TestbedHost): Promise<void> {
    const { secret } = await this.client.call('host.invite', { body: { hostName: host.name } });
    const argv = selfArgv('agent', 'join', this.url, secret, '--data', this.#agentDir(host.name));
    await host.run(argv, { timeoutMs: 60_000 });
    await this.startAgent(host.name);
  }

  async #joinWitness(): Promise<void> {
    const { secret } = await this.client.call('host.invite', { body: { hostName: 'witness', role: 'witness' } });
    const argv = selfArgv('witness', 'join', this.url, secret, '--data', this.#agentDir(beside));
    const { code, stderr } = await this.testbed.switchExec(argv, { timeoutMs: 60_000 });
    if (code !== 0) throw new Error(`the witness could not join: ${stderr.trim()}`);
    await this.startKeeper(beside);
  }

  async startHost(name: string): Promise<void> {
    await this.startAgent(name);
    if (this.#controllers.includes(name)) await this.#startControllerOn(name);
  }

  async powerOn(name: string): Promise<void> {
    await this.testbed.host(name).powerOn();
    await this.startHost(name);
  }

  async startGuard(name: string): Promise<void> {
    await this.parts.start('guard', name, selfArgv('guard', 'run', '--data', this.#agentDir(name)));
  }

  async startKeeper(machine: string): Promise<void> {
    const what = machine === beside ? 'witness' : 'keeper';
    const networks =
      this.#options.secondNetwork === true
        ? [
            this.#addressOf(machine),
            machine === beside ? this.testbed.plan.second : this.testbed.host(machine).address2,
          ]
        : [];
    const listen = networks.flatMap((address) => ['--listen', `${address}:${beatPort}`]);
    await this.parts.start('keeper', machine, selfArgv(what, 'run', '--data', this.#agentDir(machine), ...listen));
  }

  async startAgent(name: string): Promise<void> {
    if (this.#options.keepers !== false) {
      await this.startGuard(name);
      await this.startKeeper(name);
    }
    await this.parts.start('agent', name, selfArgv('agent', 'run', '--data', this.#agentDir(name)));
  }

  async killAgent(name: string): Promise<void> {
    await this.parts.kill('agent', name);
  }

  keeperDir(machine: string): string {
    return join(this.#agentDir(machine), 'keeper');
  }

  async log(part: string): Promise<string> {
    const [, kind, machine] = /^(keeper|guard|controller)(?:-(.+))?$/.exec(part) ?? [];
    if (kind === undefined) return this.parts.log('agent', part);
    return this.parts.log(kind as 'keeper' | 'guard' | 'controller', machine ?? beside);
  }

  async close(): Promise<void> {
    for (const client of this.#clients.values()) await client.close();
    await this.parts.stopAll('agent', 5_000);
    await this.parts.stopAll('keeper', 3_000);
    await this.parts.stopAll('guard', 3_000);
    // The controller stops its PostgreSQL; a kill would leave that to the next start.
    await this.parts.stopAll('controller', 15_000);
    await this.#database?.stop();
    await this.testbed.close();
  }

  #agentDir(machine: string): string {
    return join(
      machine === beside ? this.testbed.dir : this.testbed.host(machine).dir,
      machine === beside ? 'witness' : 'agent',
    );
  }

  #controllerDir(machine: string): string {
    return join(machine === beside ? this.testbed.dir : this.testbed.host(machine).dir, 'controller');
  }

  /** As seen from outside. */
  #socketOf(machine: string): string {
    if (machine === beside) return `/run/virga/t/${this.testbed.id}/virga.sock`;
    return join(this.testbed.host(machine).runDir, 'virga', 'virga.sock');
  }

  #addressOf(machine: string): string {
    return machine === beside ? this.testbed.plan.gateway : this.testbed.host(machine).address;
  }

  #urlOf(machine: string): string {
    return `https://${this.#addressOf(machine)}:${port}`;
  }
}

/** Opens a lab; when something fails on the way, what was made is removed and the reason thrown. */
export async function openLab(options: LabOptions): Promise<Lab> {
  options.say?.(`starting ${options.hosts.length} simulated physical hosts`);
  await ensureUser();
  const testbed = await openTestbed({
    hosts: options.hosts,
    ...(options.secondNetwork === undefined ? {} : { secondNetwork: options.secondNetwork }),
  });
  const lab = new OpenLab(testbed, options);
  try {
    await lab.start();
    return lab;
  } catch (error) {
    await lab.close();
    throw error;
  }
}
