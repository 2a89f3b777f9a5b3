/** The network between machines: each direction of each pair can be cut, slow, lossy, doubling and disordering. */
import type { HaMessage } from '../core/ha/types.ts';
import type { Uuid } from '../core/model/resource.ts';
import type { Random } from './random.ts';
import type { VirtualTime } from './time.ts';

export interface Weather {
  /** Milliseconds that a message takes: from, to. Messages may overtake each other. */
  readonly delayMs: readonly [number, number];
  /** Probability that a message comes twice. */
  readonly twice: number;
  /** Probability that a message is lost; one of a connection breaks it, and both sides connect again later. */
  readonly broken: number;
  /** Probability of a long delay, and how long at most, milliseconds. */
  readonly tail?: readonly [number, number];
}

export const fair: Weather = { delayMs: [1, 3], twice: 0, broken: 0 };

/** Who can be sent to: its machine, and what takes a message there. */
interface Station {
  readonly machine: string;
  readonly deliver: (from: Uuid, message: HaMessage) => void;
}

/** Datagrams of one type on one way that wait until they are let go: for attacks on the order of messages. */
interface Hold {
  readonly type: string;
  /** Machines; `*`: any. */
  readonly from: string;
  readonly to: string;
}

export class Network {
  /** Told every datagram as it is sent: tests hold it against what the real wire lets through. */
  static tap: ((message: HaMessage) => void) | undefined;
  readonly #time: VirtualTime;
  readonly #random: Random;
  /** `FROM>TO` of machines. */
  readonly #cuts = new Set<string>();
  readonly #stations = new Map<Uuid, Station>();
  /** Machines that nothing reaches: without power, or with their cable pulled. */
  readonly #off = new Set<string>();
  readonly #pulled = new Set<string>();
  #holds: readonly Hold[] = [];
  #held: (() => void)[] = [];
  weather: Weather = fair;
  /** Weather of single directions, `FROM>TO`. */
  readonly local = new Map<string, Weather>();
  /** Everything between machines is down: the switch. */
  down = false;

  readonly #streams = new Map<string, Random>();

  constructor(time: VirtualTime, random: Random) {
    this.#time = time;
    this.#random = random;
  }

  cut(from: string, to: string): void {
    this.#cuts.add(`${from}>${to}`);
  }

  mend(from: string, to: string): void {
    this.#cuts.delete(`${from}>${to}`);
  }

  mendAll(): void {
    this.#cuts.clear();
    this.#pulled.clear();
    this.local.clear();
    this.down = false;
    this.weather = fair;
    this.letGo();
  }

  pull(machine: string): void {
    this.#pulled.add(machine);
  }

  plug(machine: string): void {
    this.#pulled.delete(machine);
  }

  hold(type: string, from: string, to: string): void {
    this.#holds = [...this.#holds, { type, from, to }];
  }

  /** What was held arrives now, in the order in which it was sent, whatever became of who sent it. */
  letGo(): void {
    const held = this.#held;
    this.#holds = [];
    this.#held = [];
    for (const each of held) each();
  }

  #holdsBack(type: string, from: string, to: string): boolean {
    return this.#holds.some(
      (each) => each.type === type && (each.from === '*' || each.from === from) && (each.to === '*' || each.to === to),
    );
  }

  power(machine: string, on: boolean): void {
    if (on) this.#off.delete(machine);
    else this.#off.add(machine);
  }

  /** A message that left `from` now would reach `to`. A machine always reaches itself. */
  passes(from: string, to: string): boolean {
    if (this.#off.has(from) || this.#off.has(to)) return false;
    if (from === to) return true;
    return !this.down && !this.#pulled.has(from) && !this.#pulled.has(to) && !this.#cuts.has(`${from}>${to}`);
  }

  /** A process listens under `id`; a later one takes its place. Returns the way to stop it. */
  listen(id: Uuid, station: Station): () => void {
    this.#stations.set(id, station);
    return () => {
      if (this.#stations.get(id) === station) this.#stations.delete(id);
    };
  }

  /** A datagram: may be lost, late, doubled, overtaken. Messages are never changed by who has them, so none is copied. */
  send(from: Uuid, machine: string, to: Uuid, message: HaMessage): void {
    Network.tap?.(message);
    const target = this.#stations.get(to);
    if (!target || !this.passes(machine, target.machine)) return;
    if (this.#holds.length > 0 && this.#holdsBack(message.type, machine, target.machine)) {
      this.#held.push(() => this.#stations.get(to)?.deliver(from, message));
      return;
    }
    const weather = this.#weather(machine, target.machine);
    const random = this.#stream(machine, target.machine);
    if (weather.broken > 0 && random.chance(weather.broken)) return;
    const copies = weather.twice > 0 && random.chance(weather.twice) ? 2 : 1;
    for (let copy = 0; copy < copies; copy += 1)
      this.#time.after(this.#delay(weather, machine === target.machine, random), () => {
        const now = this.#stations.get(to);
        if (now && this.passes(machine, now.machine)) now.deliver(from, message);
      });
  }

  /** Random numbers of one way, so that more traffic elsewhere changes nothing here. */
  #stream(from: string, to: string): Random {
    const way = `${from}>${to}`;
    const known = this.#streams.get(way) ?? this.#random.named(way);
    this.#streams.set(way, known);
    return known;
  }

  #weather(from: string, to: string): Weather {
    if (from === to) return fair;
    return this.local.get(`${from}>${to}`) ?? this.weather;
  }

  #delay({ delayMs: [least, most], tail }: Weather, same: boolean, random: Random): number {
    if (same) return 0.1;
    if (tail && random.chance(tail[0])) return random.whole(most, tail[1]);
    return least + random.next() * (most - least);
  }

  /** Carries a message of a connection: it arrives later, perhaps twice; false: the connection broke. */
  carry<T>(from: string, to: string, message: T, deliver: (message: T) => void): boolean {
    if (!this.passes(from, to) || !this.passes(to, from)) return false;
    const weather = this.#weather(from, to);
    const random = this.#stream(from, to);
    if (weather.broken > 0 && random.chance(weather.broken)) return false;
    const copies = weather.twice > 0 && random.chance(weather.twice) ? 2 : 1;
    // Documents are never changed by who has them, so none is copied.
    for (let copy = 0; copy < copies; copy += 1)
      this.#time.after(this.#delay(weather, from === to, random), () => {
        if (this.passes(from, to)) deliver(message);
      });
    return true;
  }
}
