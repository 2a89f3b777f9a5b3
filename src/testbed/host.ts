import { randomUUID } from 'node:crypto';
import { chmod, mkdir, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { enterArgv, execIn, inGroup, runIn, spawnHeld, spawnIn, type Held, type Place } from './enter.ts';
import { groupRoot, killGroup, makeGroup, removeGroup } from './groups.ts';
import { hostInit, writeHostFiles, type HostIdentity } from './host-files.ts';
import type { Link } from './link.ts';
import { hostAddress } from './plan.ts';
import { identify, killAll, networkNamespace, until, type ProcessId } from './proc.ts';
import type { Direction, ExecOptions, ExecResult, Shape, SpawnOptions, TestbedHost, TestbedProcess } from './types.ts';

export interface HostSettings {
  readonly identity: HostIdentity;
  readonly index: number;
  readonly dir: string;
  readonly runDir: string;
  readonly link: Link;
  /** The second network, where the testbed has one. */
  readonly link2?: Link;
  /** Its control group; undefined where the kernel has no version 2 tree. */
  readonly group: string | undefined;
  /** Told at each power-on what must be killed to end this host. */
  readonly record: (processes: readonly ProcessId[], namespace: string) => Promise<void>;
}

/** See `TestbedHost`. */
export class Host implements TestbedHost {
  readonly name: string;
  readonly address: string;
  readonly address6: string;
  readonly address2: string | undefined;
  readonly hostUuid: string;
  readonly dir: string;
  readonly runDir: string;
  readonly bridge = 'br0';
  readonly #settings: HostSettings;
  #bootId = '';
  #first: { readonly place: Place; readonly held: Held } | undefined;
  #libvirtd: TestbedProcess | undefined;

  constructor(settings: HostSettings) {
    this.#settings = settings;
    this.name = settings.identity.name;
    this.hostUuid = settings.identity.hostUuid;
    this.dir = settings.dir;
    this.runDir = settings.runDir;
    const { address, address6, address2 } = hostAddress(settings.index);
    this.address = address;
    this.address6 = address6;
    this.address2 = settings.link2 === undefined ? undefined : address2;
  }

  get libvirtSocket(): string {
    return join(this.runDir, 'libvirt/libvirt-sock');
  }

  get powered(): boolean {
    return this.#first?.held.running() === true;
  }

  pid(): number {
    return this.#place().pid;
  }

  bootId(): string {
    return this.#bootId;
  }

  nsenterArgv(argv: readonly string[]): string[] {
    return enterArgv(this.#place(), argv);
  }

  exec(argv: readonly string[], options?: ExecOptions): Promise<ExecResult> {
    return execIn(this.#place(), argv, options);
  }

  run(argv: readonly string[], options?: ExecOptions): Promise<string> {
    return runIn(this.#place(), argv, options);
  }

  spawn(argv: readonly string[], options?: SpawnOptions): Promise<TestbedProcess> {
    return spawnIn(this.#place(), argv, options);
  }

  libvirtdPid(): number | undefined {
    return this.#libvirtd?.pid;
  }

  async killLibvirtd(): Promise<void> {
    const daemon = this.#libvirtd;
    daemon?.kill('SIGKILL');
    await daemon?.exited;
  }

  async startLibvirtd(): Promise<void> {
    if (this.#libvirtd !== undefined) return;
    const log = join(this.dir, 'log/libvirtd.log');
    const program = ['libvirtd', '--pid-file', '/run/libvirt/libvirtd.pid'];
    const daemon = await this.spawn(program, { output: { file: log } });
    this.#libvirtd = daemon;
    void daemon.exited.then(() => {
      if (this.#libvirtd === daemon) this.#libvirtd = undefined;
    });
    const answers = await until(() => this.#libvirtd === undefined || accepts(this.libvirtSocket), 30_000, 10);
    if (!answers || this.#libvirtd === undefined) {
      const words = (await readFile(log, 'utf8').catch(() => '')).trim().split('\n').slice(-3).join('\n');
      throw new Error(`libvirtd of host ${this.name} does not answer: ${words || 'its log is empty'}`);
    }
  }

  async restartLibvirtd(): Promise<void> {
    const daemon = this.#libvirtd;
    if (daemon !== undefined) {
      daemon.kill('SIGTERM');
      const ended = await until(() => this.#libvirtd !== daemon, 10_000);
      if (!ended) await this.killLibvirtd();
    }
    await this.startLibvirtd();
  }

  async powerCut(): Promise<void> {
    const first = this.#first;
    if (first === undefined) return;
    this.#first = undefined;
    const { group, link, link2 } = this.#settings;
    // With the nsenters outside, some of which may be stopped: the last process goes only when its parent has reaped it.
    if (group !== undefined) await killGroup(group);
    const left = await killAll([identifyOr(first.place.pid)].filter((id) => id !== undefined));
    await first.held.ended(10_000);
    if (left.length > 0) throw new Error(`host ${this.name}: process ${first.place.pid} survives SIGKILL`);
    // Its end is known here a moment later; the next boot must not take the dead one for its own.
    await this.#libvirtd?.exited;
    await Promise.all([link.detach(), link2?.detach(), group === undefined ? undefined : removeGroup(group)]);
  }

  async powerOn(): Promise<void> {
    if (this.powered) return;
    const { dir, runDir, identity, link, link2, group, record } = this.#settings;
    // A host whose first process died without powerCut (somebody's kill) still has its cable.
    if (this.#first !== undefined) await this.powerCut();
    await emptyDir(runDir);
    // What the host's service manager would have made.
    for (const name of ['libvirt', 'lock']) await mkdir(join(runDir, name));
    this.#bootId = randomUUID();
    await writeHostFiles(dir, identity);
    await writeFile(join(dir, 'boot_id'), `${this.#bootId}\n`);
    if (group !== undefined) await makeGroup(group);
    const spaces = ['--mount', '--uts', '--pid', '--net', ...(group === undefined ? [] : ['--cgroup'])];
    const unshare = ['unshare', ...spaces, '--fork', '--kill-child=KILL'];
    const init = ['bash', '-c', hostInit, `host-${this.name}`, this.name, dir, runDir, groupRoot() ?? ''];
    const held = await spawnHeld(inGroup(group, [...unshare, ...init]), `host ${this.name}`);
    const pid = held.childPid();
    await record([identify(held.pid), identify(pid)], networkNamespace(pid) ?? '');
    this.#first = { place: { kind: 'host', pid, ...(group === undefined ? {} : { group }) }, held };
    await link.attach(this.#first.place);
    await link2?.attach(this.#first.place);
    await this.startLibvirtd();
  }

  cutNetwork(direction: Direction = 'both', network: 1 | 2 = 1): Promise<void> {
    return this.#link(network).cut(direction);
  }

  restoreNetwork(network: 1 | 2 = 1): Promise<void> {
    return this.#link(network).restore();
  }

  shape(shape: Shape): Promise<void> {
    return this.#settings.link.shape(shape);
  }

  #link(network: 1 | 2): Link {
    const { link, link2 } = this.#settings;
    const found = network === 1 ? link : link2;
    if (found === undefined) throw new Error('this testbed has one network; open it with secondNetwork');
    return found;
  }

  #place(): Place {
    if (this.#first === undefined || !this.powered) throw new Error(`host ${this.name} is without power`);
    return this.#first.place;
  }
}

function identifyOr(pid: number): ProcessId | undefined {
  try {
    return identify(pid);
  } catch {
    return undefined;
  }
}

/** Empties it but keeps the directory itself, made when missing. */
async function emptyDir(path: string): Promise<void> {
  await mkdir(path, { recursive: true });
  await chmod(path, 0o755);
  for (const entry of await readdir(path)) await rm(join(path, entry), { recursive: true, force: true });
}

function accepts(socket: string): Promise<boolean> {
  return new Promise((resolve) => {
    const attempt = connect({ path: socket });
    attempt.once('connect', () => {
      attempt.destroy();
      resolve(true);
    });
    attempt.once('error', () => resolve(false));
  });
}
