/**
 * What a testbed offers: several simulated physical hosts on one machine, joined by a switch.
 *
 * Everything lives in namespaces of its own (no link, address or mount appears in the machine's own), and all
 * processes die with the process that opened the testbed, even when that is ended by `kill -9`.
 */
import type { Readable, Writable } from 'node:stream';

/** What a command run inside a host or on the switch answered. Never thrown: look at `code`. */
export interface ExecResult {
  /** Exit code; 128 + signal number when ended by a signal; 124 when the time ran out. */
  readonly code: number;
  /** At most 16 MiB each; what exceeds it is cut. */
  readonly stdout: string;
  readonly stderr: string;
}

export interface ExecOptions {
  /** Milliseconds until the command and what it started are killed; 30,000 by default. */
  readonly timeoutMs?: number;
  /** Written to its standard input, which is then closed; nothing by default. */
  readonly input?: string | Uint8Array;
  /** Added to this process's environment. */
  readonly env?: Readonly<Record<string, string>>;
}

export interface SpawnOptions {
  /** Added to this process's environment. */
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /**
   * Where standard output and error go: `pipe` (read `stdout` and `stderr`, or the process blocks when the pipe is
   * full), `ignore`, or the path of a file that both are appended to. `pipe` by default.
   */
  readonly output?: 'pipe' | 'ignore' | { readonly file: string };
}

/** A process inside a host or on the switch. It dies with its host and with the testbed's opener. */
export interface TestbedProcess {
  /** As seen from outside (this machine's own process ids). */
  readonly pid: number;
  /** Only with `output: 'pipe'`. */
  readonly stdout: Readable | undefined;
  readonly stderr: Readable | undefined;
  readonly stdin: Writable;
  /** Settles when the process has ended, never rejects. */
  readonly exited: Promise<{ readonly code: number | null; readonly signal: string | null }>;
  /** Sends a signal to the process itself (SIGTERM by default). False when it had already ended. */
  kill(signal?: NodeJS.Signals): boolean;
}

export type Direction = 'both' | 'toHost' | 'fromHost';

/** How the link between a host and the switch behaves. What is left out is unlimited, lossless and undelayed. */
export interface Shape {
  /** Kilobit per second, each direction on its own (token bucket, 32 KiB burst, 400 ms queue). */
  readonly rateKbit?: number;
  /** Share of frames dropped at random, in per cent (0 to 100), each direction on its own. */
  readonly lossPercent?: number;
  /** Milliseconds added in each direction (so a round trip takes twice that). */
  readonly delayMs?: number;
}

/**
 * One simulated physical host: own mount, UTS, pid, network and cgroup namespace, own libvirtd. Its tree of control
 * groups (version 2) is its own; a power cut empties it.
 */
export interface TestbedHost {
  readonly name: string;
  /** Its address on the site's network, on its bridge `br0`. */
  readonly address: string;
  readonly address6: string;
  /** Its address on the second network, on a cable of its own; undefined where the testbed has one network. */
  readonly address2: string | undefined;
  /** Its UUID as libvirt reports it (host_uuid); the same after each power-on. */
  readonly hostUuid: string;
  /**
   * A directory of this host that keeps its content over power cuts, at the same path inside and outside. Put an
   * agent's data there.
   */
  readonly dir: string;
  /**
   * The host's /run as seen from outside (short, so that sockets in it stay below 108 characters); emptied at each
   * power-on, like a real one.
   */
  readonly runDir: string;
  /** libvirtd's socket as seen from outside: `${runDir}/libvirt/libvirt-sock`. Inside it is the usual one. */
  readonly libvirtSocket: string;
  /** True between power-on and power cut. */
  readonly powered: boolean;
  /** The name of the bridge that carries the host's address and uplink; guests join it. */
  readonly bridge: 'br0';

  /** The host's first process as seen from outside; throws when it is without power. */
  pid(): number;
  /** Argument vector that runs `argv` in all of the host's namespaces; the command's own process is a child of it. */
  nsenterArgv(argv: readonly string[]): string[];
  exec(argv: readonly string[], options?: ExecOptions): Promise<ExecResult>;
  /** `exec` that throws, with the command's own words, when it fails. Returns standard output. */
  run(argv: readonly string[], options?: ExecOptions): Promise<string>;
  /** Starts a long-running process, e.g. an agent. */
  spawn(argv: readonly string[], options?: SpawnOptions): Promise<TestbedProcess>;

  /** Process id from outside of the running libvirtd, undefined when it does not run. */
  libvirtdPid(): number | undefined;
  /** SIGKILL; guests run on. Resolves when it is gone. */
  killLibvirtd(): Promise<void>;
  /** Starts libvirtd and waits until its socket answers. Nothing happens when it runs. */
  startLibvirtd(): Promise<void>;
  /** Ends libvirtd (SIGTERM, after 10 s SIGKILL) and starts it again. */
  restartLibvirtd(): Promise<void>;

  /** Every process of the host dies at this instant (kill -9 of its first process), guests included. */
  powerCut(): Promise<void>;
  /**
   * Boots again: empty /run, same disks, same names, new boot id (`/proc/sys/kernel/random/boot_id` inside the host
   * shows it). libvirtd runs when this resolves. The link's shape and cut are as a cable's: they stay.
   */
  powerOn(): Promise<void>;
  /** Boot id of the present or last boot. */
  bootId(): string;

  /** Pulls the cable (`both`: the host sees no carrier), or drops what passes in one direction. First network by default. */
  cutNetwork(direction?: Direction, network?: 1 | 2): Promise<void>;
  restoreNetwork(network?: 1 | 2): Promise<void>;
  /** Replaces the link's shape; `{}` makes it perfect again. */
  shape(shape: Shape): Promise<void>;
}

export interface HttpAnswer {
  readonly status: number;
  readonly body: string;
}

export interface HttpOptions {
  /** Milliseconds for the whole request; 1,000 by default. */
  readonly timeoutMs?: number;
  /** 80 by default. */
  readonly port?: number;
}

/** The address plan: every testbed has the same one, since none can see another. */
export interface AddressPlan {
  /** The switch itself, reachable by all; a controller started on the switch listens here. */
  readonly gateway: string;
  readonly gateway6: string;
  /** The switch's address on the second network. */
  readonly second: string;
  readonly subnet: string;
  readonly subnet6: string;
  /** Free for guests, inclusive. */
  readonly guestsFirst: string;
  readonly guestsLast: string;
  readonly guests6First: string;
  readonly guests6Last: string;
  readonly mtu: number;
}

export interface TestbedOptions {
  /** Host names, 1 to 64: lower-case letters, digits and dashes, at most 15 characters. */
  readonly hosts: readonly string[];
  /** A name to close it by from another process; made up when left out. Refused while a living testbed has it. */
  readonly name?: string;
  /** A second switch with a cable to each host, for nothing but addresses of hosts; one network by default. */
  readonly secondNetwork?: boolean;
  /** Where the hosts' disks go (made when missing); a directory under /var/tmp by default. */
  readonly dir?: string;
}

export interface Testbed {
  /** Five characters, unique on this machine. */
  readonly id: string;
  readonly name: string;
  readonly dir: string;
  readonly hosts: readonly TestbedHost[];
  readonly plan: AddressPlan;
  /** The switch's network namespace: `nsenter --net=${netns} -- …` starts a process on the site's network. */
  readonly netns: string;

  /** The host of that name; throws when there is none. */
  host(name: string): TestbedHost;
  /** Runs a command in the switch's network namespace (the machine's own files and processes). */
  switchExec(argv: readonly string[], options?: ExecOptions): Promise<ExecResult>;
  /** Starts a long-running process there, e.g. a controller; it ends with the testbed. */
  switchSpawn(argv: readonly string[], options?: SpawnOptions): Promise<TestbedProcess>;
  /** The switch loses power: every cable of every host goes dead at once. The switch's own address stays. */
  pullSwitch(): Promise<void>;
  /** It is back: all cables work again at once, but those that are cut one by one. */
  restoreSwitch(): Promise<void>;
  /** GET from the switch. Throws when there is no answer in time. Costs a few milliseconds itself. */
  httpGet(address: string, path?: string, options?: HttpOptions): Promise<HttpAnswer>;
  /**
   * Asks again, every 50 ms, until an answer (of status 200, and with `body` if given) comes; throws after
   * `timeoutMs` (60,000 by default) with the last reason.
   */
  httpWait(
    address: string,
    options?: { readonly path?: string; readonly body?: string; readonly timeoutMs?: number },
  ): Promise<HttpAnswer>;
  /** Ends every process and removes every file of the testbed (all of `dir` if it made it). Any number of times. */
  close(): Promise<void>;
}
