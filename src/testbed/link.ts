import { once } from 'node:events';
import { hostAddress, prefix4, prefix6, addressPlan } from './plan.ts';
import { execIn, runIn, spawnIn, type Place } from './enter.ts';
import { clockGettime, relayProgram } from './relay.ts';
import type { Direction, Shape, TestbedProcess } from './types.ts';

/**
 * The cable between one host and the switch: a veth pair, `uplink` in the host and `p<index>` on the switch's bridge.
 * With a delay, the switch's end goes to a small bridge of its own and a relay carries the frames on.
 * What was set stays over a power cut of the host.
 */
export class Link {
  readonly #switch: Place;
  readonly #bridge: string;
  readonly #index: number;
  readonly #second: boolean;
  /** Name of the switch's end; those of the relay's devices are made like it. */
  readonly #port: string;
  #host: Place | undefined;
  #shape: Shape = {};
  #cut: Direction | undefined;
  #dark = false;
  #relay: TestbedProcess | undefined;

  /** `second`: the cable of the second network, which carries one address of the host and no guests. */
  constructor(place: Place, bridge: string, index: number, second = false) {
    this.#switch = place;
    this.#bridge = bridge;
    this.#index = index;
    this.#second = second;
    this.#port = `${second ? 's' : ''}p${index}`;
  }

  /** The switch's end, and whether it carries anything when the switch has power. */
  get port(): { readonly name: string; readonly open: boolean } {
    return { name: this.#port, open: this.#host !== undefined && this.#cut !== 'both' };
  }

  /** Only notes that the switch is without power (`pullSwitch` takes all ports down at once): a host that boots now has no carrier. */
  noteDark(dark: boolean): void {
    this.#dark = dark;
  }

  #device(letter: string): string {
    return `${this.#second ? 's' : ''}${letter}${this.#index}`;
  }

  /** Plugs a host in that has just got power: makes its bridge `br0` with the host's addresses. */
  async attach(host: Place): Promise<void> {
    const { mac } = hostAddress(this.#index);
    const [port, uplink] = [this.#port, this.#uplink];
    await this.#ip(this.#switch, [
      `link add ${port} type veth peer name ${uplink} ${this.#second ? '' : `address ${mac} `}netns ${host.pid}`,
      `link set ${port} mtu ${addressPlan.mtu} master ${this.#relay === undefined ? this.#bridge : this.#device('q')}`,
    ]);
    await this.#ip(host, this.#hostLines());
    this.#host = host;
    await this.#applyRate();
    await this.#applyCut();
  }

  get #uplink(): string {
    return this.#second ? 'uplink2' : 'uplink';
  }

  #hostLines(): readonly string[] {
    const { address, address2, address6, mac } = hostAddress(this.#index);
    if (this.#second) return [`link set uplink2 up`, `addr add ${address2}/24 dev uplink2`];
    return [
      `link add br0 address ${mac} type bridge stp_state 0 forward_delay 0 mcast_snooping 0`,
      'link set uplink master br0',
      'link set uplink up',
      'link set br0 up',
      `addr add ${address}/${prefix4} dev br0`,
      `addr add ${address6}/${prefix6} dev br0 nodad`,
      `route add default via ${addressPlan.gateway}`,
      `route add default via ${addressPlan.gateway6} dev br0`,
    ];
  }

  /** Takes the dead host's cable away at once (the kernel would do so later, and the next boot needs the name). */
  async detach(): Promise<void> {
    this.#host = undefined;
    await execIn(this.#switch, ['ip', 'link', 'del', this.#port]);
  }

  async cut(direction: Direction): Promise<void> {
    this.#cut = direction;
    await this.#applyCut();
    await this.#applyFilter();
  }

  async restore(): Promise<void> {
    this.#cut = undefined;
    await this.#applyCut();
    await this.#applyFilter();
  }

  async shape(shape: Shape): Promise<void> {
    checkShape(shape);
    const before = this.#shape.delayMs ?? 0;
    this.#shape = shape;
    await this.#applyRate();
    await this.#applyFilter();
    if ((shape.delayMs ?? 0) !== before) await this.#applyDelay(shape.delayMs ?? 0);
  }

  async #ip(place: Place, lines: readonly string[]): Promise<void> {
    await runIn(place, ['ip', '-batch', '-'], { input: `${lines.join('\n')}\n` });
  }

  async #applyCut(): Promise<void> {
    if (this.#host === undefined) return;
    const dead = this.#cut === 'both' || this.#dark;
    await runIn(this.#switch, ['ip', 'link', 'set', this.#port, dead ? 'down' : 'up']);
  }

  /** Token buckets at both ends of the cable. */
  async #applyRate(): Promise<void> {
    if (this.#host === undefined) return;
    const rate = this.#shape.rateKbit;
    for (const [place, device] of [
      [this.#switch, this.#port],
      [this.#host, this.#uplink],
    ] as const) {
      if (rate === undefined) await execIn(place, ['tc', 'qdisc', 'del', 'dev', device, 'root']);
      else {
        const bucket = ['tbf', 'rate', `${rate}kbit`, 'burst', '32kb', 'latency', '400ms'];
        await runIn(place, ['tc', 'qdisc', 'replace', 'dev', device, 'root', ...bucket]);
      }
    }
  }

  /** Random loss and one-way cuts: a table of the switch's bridge, replaced in one transaction. */
  async #applyFilter(): Promise<void> {
    const port = this.#port;
    const drop = (direction: Direction): string => {
      if (this.#cut === direction) return 'counter drop';
      const share = Math.round((this.#shape.lossPercent ?? 0) * 1000);
      return share === 0 ? 'accept' : `numgen random mod 100000 < ${share} counter drop`;
    };
    const rules = `add table bridge ${port}
delete table bridge ${port}
table bridge ${port} {
  chain from { type filter hook prerouting priority -300; policy accept; iifname "${port}" ${drop('fromHost')}; }
  chain to { type filter hook postrouting priority 300; policy accept; oifname "${port}" ${drop('toHost')}; }
}
`;
    await runIn(this.#switch, ['nft', '-f', '-'], { input: rules });
  }

  async #applyDelay(delayMs: number): Promise<void> {
    const port = this.#port;
    const [own, left, right] = [this.#device('q'), this.#device('l'), this.#device('r')];
    const relay = this.#relay;
    if (relay !== undefined) {
      this.#relay = undefined;
      relay.kill('SIGKILL');
      await relay.exited;
      if (this.#host !== undefined) await this.#ip(this.#switch, [`link set ${port} master ${this.#bridge}`]);
      await this.#ip(this.#switch, [`link del ${own}`]);
    }
    if (delayMs === 0) return;
    // It stands for a cable: a busy machine must not make it longer.
    const program = [
      'chrt',
      '-f',
      '5',
      'perl',
      '-e',
      relayProgram,
      left,
      right,
      `${delayMs}`,
      `${clockGettime(process.arch)}`,
    ];
    this.#relay = await spawnIn(this.#switch, program);
    await readyLine(this.#relay, 'the delay relay');
    await this.#ip(this.#switch, [
      `link add ${own} type bridge stp_state 0 forward_delay 0 mcast_snooping 0`,
      `link set ${left} master ${own}`,
      `link set ${right} master ${this.#bridge}`,
      ...(this.#host === undefined ? [] : [`link set ${port} master ${own}`]),
      ...[own, left, right].map((device) => `link set ${device} up`),
    ]);
  }
}

function checkShape(shape: Shape): void {
  const inRange = (value: number | undefined, low: number, high: number): boolean =>
    value === undefined || (value >= low && value <= high);
  if (!inRange(shape.rateKbit, 8, 100_000_000)) throw new RangeError('rateKbit must be 8 to 100,000,000');
  if (!inRange(shape.lossPercent, 0, 100)) throw new RangeError('lossPercent must be 0 to 100');
  if (!inRange(shape.delayMs, 0, 10_000)) throw new RangeError('delayMs must be 0 to 10,000');
}

/** Waits for the line "ready" on a helper's standard output; throws with its words when it ends first. */
export async function readyLine(helper: TestbedProcess, what: string): Promise<void> {
  const { stdout, stderr } = helper;
  if (stdout === undefined || stderr === undefined) throw new Error(`${what} has no output to read`);
  let words = '';
  stderr.on('data', (chunk: Buffer) => {
    words = (words + chunk.toString()).slice(-2_000);
  });
  const limit = AbortSignal.timeout(20_000);
  const said = once(stdout, 'data', { signal: limit }).then(([chunk]) => String(chunk).startsWith('ready'));
  const ok = await Promise.race([said, helper.exited.then(() => false)]).catch(() => false);
  if (!ok) {
    helper.kill('SIGKILL');
    await helper.exited;
    throw new Error(`${what} did not start: ${words.trim() || 'it said nothing in 20 s'}`);
  }
  stdout.resume();
}
