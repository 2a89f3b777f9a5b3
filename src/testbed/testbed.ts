import { randomUUID } from 'node:crypto';
import { mkdir } from 'node:fs/promises';
import { isIPv6 } from 'node:net';
import { join, resolve } from 'node:path';
import { execIn, runIn, spawnHeld, spawnIn, type Held, type Place } from './enter.ts';
import { Host } from './host.ts';
import { HttpFromSwitch } from './http.ts';
import { Link } from './link.ts';
import { addressPlan, hostAddress, prefix4, prefix6 } from './plan.ts';
import { alive, identify, networkNamespace, until, type ProcessId } from './proc.ts';
import { hostGroup } from './groups.ts';
import { bridgeOf, createHome, homeOf, listStates, secondBridgeOf, writeState, type TestbedState } from './state.ts';
import { cleanStale, tearDown } from './teardown.ts';
import type {
  ExecOptions,
  ExecResult,
  HttpAnswer,
  HttpOptions,
  SpawnOptions,
  Testbed,
  TestbedHost,
  TestbedOptions,
  TestbedProcess,
} from './types.ts';

/**
 * Opens a testbed: a switch and the hosts, each booted with its libvirtd running. Needs root and the packages for
 * `testbed` and `agent`. Removes first what testbeds of dead processes left. When something fails on the way, what
 * was made is removed and the reason thrown.
 */
export async function openTestbed(options: TestbedOptions): Promise<Testbed> {
  check(options);
  await cleanStale();
  if (options.name !== undefined && (await listStates()).some((state) => state.name === options.name)) {
    throw new Error(`a testbed named ${options.name} is open; close it first, or choose another name`);
  }
  const state = await createHome((id) => {
    const dir = resolve(options.dir ?? join('/var/tmp', `virga-testbed-${id}`));
    const hostDirs = options.hosts.map((name) => join(dir, name));
    const name = options.name ?? `testbed-${id}`;
    return { name, dir, ownsDir: options.dir === undefined, hostDirs, processes: [], namespaces: [] };
  });
  const testbed = new OpenTestbed(state, options.hosts, options.secondNetwork ?? false);
  try {
    await testbed.start();
    return testbed;
  } catch (error) {
    await testbed.close();
    throw error;
  }
}

function check(options: TestbedOptions): void {
  if (process.platform !== 'linux' || process.getuid?.() !== 0) throw new Error('a testbed needs root on Linux');
  if (options.hosts.length < 1 || options.hosts.length > 64) throw new RangeError('a testbed has 1 to 64 hosts');
  for (const name of options.hosts) {
    if (!/^[a-z][a-z0-9-]{0,14}$/.test(name)) throw new RangeError(`"${name}" cannot be a host's name`);
  }
  if (new Set(options.hosts).size < options.hosts.length) throw new RangeError('two hosts have the same name');
  if (options.dir !== undefined && /^\/run(\/|$)/.test(resolve(options.dir))) {
    throw new RangeError('the directory must not be below /run, which each host has for itself');
  }
}

class OpenTestbed implements Testbed {
  readonly id: string;
  readonly name: string;
  readonly dir: string;
  readonly plan = addressPlan;
  #state: TestbedState;
  readonly #names: readonly string[];
  readonly #second: boolean;
  #hosts: readonly Host[] = [];
  readonly #links: Link[] = [];
  #switch: { readonly place: Place; readonly held: Held } | undefined;
  #http: HttpFromSwitch | undefined;
  readonly #onSwitch = new Set<TestbedProcess>();
  #writing: Promise<void> = Promise.resolve();
  #closing: Promise<void> | undefined;

  constructor(state: TestbedState, names: readonly string[], second: boolean) {
    this.#second = second;
    this.#state = state;
    this.id = state.id;
    this.name = state.name;
    this.dir = state.dir;
    this.#names = names;
  }

  get hosts(): readonly TestbedHost[] {
    return this.#hosts;
  }

  get netns(): string {
    return `/proc/${this.#place().pid}/ns/net`;
  }

  host(name: string): TestbedHost {
    const found = this.#hosts.find((host) => host.name === name);
    if (found === undefined) throw new Error(`testbed ${this.name} has no host ${name}`);
    return found;
  }

  async start(): Promise<void> {
    await mkdir(this.dir, { recursive: true });
    await this.#startSwitch();
    const lines = this.#names.map((name, index) => `${hostAddress(index).address} ${name}`);
    const hosts = ['127.0.0.1 localhost', ...lines, `${addressPlan.gateway} switch`, ''].join('\n');
    this.#hosts = this.#names.map((name, index) => {
      const dir = join(this.dir, name);
      return new Host({
        identity: { name, hostUuid: randomUUID(), hosts },
        index,
        dir,
        runDir: join(homeOf(this.id), name),
        link: this.#newLink(bridgeOf(this.id), index, false),
        ...(this.#second ? { link2: this.#newLink(secondBridgeOf(this.id), index, true) } : {}),
        group: hostGroup(bridgeOf(this.id), name),
        record: (processes, namespace) => this.#record(processes, namespace),
      });
    });
    await settled(this.#hosts.map((host) => host.powerOn()));
  }

  switchExec(argv: readonly string[], options?: ExecOptions): Promise<ExecResult> {
    return execIn(this.#place(), argv, options);
  }

  async switchSpawn(argv: readonly string[], options?: SpawnOptions): Promise<TestbedProcess> {
    const started = await spawnIn(this.#place(), argv, options);
    this.#onSwitch.add(started);
    void started.exited.then(() => this.#onSwitch.delete(started));
    return started;
  }

  httpGet(address: string, path = '/', options: HttpOptions = {}): Promise<HttpAnswer> {
    this.#http ??= new HttpFromSwitch(this.#place());
    const host = isIPv6(address) ? address.toLowerCase() : address;
    return this.#http.get(host, options.port ?? 80, path, options.timeoutMs ?? 1_000);
  }

  async httpWait(
    address: string,
    options: { readonly path?: string; readonly body?: string; readonly timeoutMs?: number } = {},
  ): Promise<HttpAnswer> {
    const limit = options.timeoutMs ?? 60_000;
    let reason = 'never asked';
    let answer: HttpAnswer | undefined;
    const ok = await until(
      async () => {
        try {
          answer = await this.httpGet(address, options.path);
          reason = `status ${answer.status}, body ${JSON.stringify(answer.body.slice(0, 100))}`;
          return answer.status === 200 && (options.body === undefined || answer.body === options.body);
        } catch (error) {
          reason = error instanceof Error ? error.message : String(error);
          return false;
        }
      },
      limit,
      50,
    );
    if (!ok || answer === undefined) throw new Error(`${address} did not answer as wanted in ${limit} ms: ${reason}`);
    return answer;
  }

  async pullSwitch(): Promise<void> {
    await this.#allLinks(true);
  }

  async restoreSwitch(): Promise<void> {
    await this.#allLinks(false);
  }

  /** One batch of one program: all within a millisecond. */
  async #allLinks(dark: boolean): Promise<void> {
    for (const link of this.#links) link.noteDark(dark);
    const open = this.#links.map((link) => link.port).filter((port) => port.open);
    const lines = open.map(({ name }) => `link set ${name} ${dark ? 'down' : 'up'}`);
    await runIn(this.#place(), ['ip', '-batch', '-'], { input: `${lines.join('\n')}\n` });
  }

  #newLink(bridge: string, index: number, second: boolean): Link {
    const link = new Link(this.#place(), bridge, index, second);
    this.#links.push(link);
    return link;
  }

  close(): Promise<void> {
    return (this.#closing ??= this.#close());
  }

  async #close(): Promise<void> {
    await this.#writing;
    // What was started on the switch may have state to write (a controller, a database): it is asked first.
    for (const started of this.#onSwitch) started.kill('SIGTERM');
    await until(() => this.#onSwitch.size === 0, 5_000);
    for (const started of this.#onSwitch) started.kill('SIGKILL');
    await this.#http?.stop();
    await tearDown(this.#state);
    await cleanStale();
  }

  #place(): Place {
    if (this.#switch === undefined) throw new Error(`testbed ${this.name} is closed`);
    return this.#switch.place;
  }

  async #startSwitch(): Promise<void> {
    const bridge = bridgeOf(this.id);
    const held = await spawnHeld(['unshare', '--net', 'sh', '-c', 'echo ready; exec sleep infinity'], 'the switch');
    const place: Place = { kind: 'switch', pid: held.pid };
    await this.#record([identify(held.pid)], networkNamespace(held.pid) ?? '');
    this.#switch = { place, held };
    const lines = [
      'link set lo up',
      // A fixed address: else it would change, and all would have to ask for it again, as ports come and go.
      `link add ${bridge} address 02:76:67:00:00:01 type bridge stp_state 0 forward_delay 0 mcast_snooping 0`,
      `link set ${bridge} up`,
      `addr add ${addressPlan.gateway}/${prefix4} dev ${bridge}`,
      `addr add ${addressPlan.gateway6}/${prefix6} dev ${bridge} nodad`,
    ];
    const second = secondBridgeOf(this.id);
    if (this.#second)
      lines.push(
        `link add ${second} address 02:76:67:00:01:01 type bridge stp_state 0 forward_delay 0 mcast_snooping 0`,
        `link set ${second} up`,
        `addr add ${addressPlan.second}/24 dev ${second}`,
      );
    await runIn(place, ['ip', '-batch', '-'], { input: `${lines.join('\n')}\n` });
    // The small bridges of delayed links must not answer for the switch's address: frames would go round the delay.
    await runIn(place, ['sh', '-c', 'echo 1 > /proc/sys/net/ipv4/conf/all/arp_ignore']);
    // Clients on the switch look for a silent address every 100 ms, not every second: else an outage that is measured
    // from here ends up to a second late, whatever the hosts do.
    const soon = `for each in /proc/sys/net/ipv?/neigh/${bridge}/retrans_time_ms; do echo 100 > $each; done`;
    await runIn(place, ['sh', '-c', soon]);
  }

  /** Adds to the record on disk, one write after the other; what has ended is dropped from it. */
  #record(processes: readonly ProcessId[], namespace: string): Promise<void> {
    const old = this.#state;
    this.#state = {
      ...old,
      processes: [...old.processes.filter(alive), ...processes],
      namespaces: [...new Set([...old.namespaces, namespace])].filter(Boolean),
    };
    this.#writing = this.#writing.then(() => writeState(this.#state));
    return this.#writing;
  }
}

/** Waits for all of them before it throws the first reason: nothing may still be starting when close begins. */
async function settled(work: readonly Promise<void>[]): Promise<void> {
  const results = await Promise.allSettled(work);
  for (const result of results) if (result.status === 'rejected') throw result.reason;
}
