/** Random histories: which site, which weather, and what happens when. One seed gives one history, always the same. */
import { profiles } from '../core/ha/margin.ts';
import { Random } from './random.ts';
import type { Stalls } from './process.ts';
import type { WorldOptions } from './world.ts';

export type Shape = Pick<WorldOptions, 'hosts' | 'witnesses' | 'controllers' | 'database' | 'lease'>;

/** The sites that are simulated: from one host to nine, with one to three controllers. */
export const shapes = {
  /** The reference site. */
  pair: {
    hosts: ['alder', 'birch'],
    witnesses: ['oak'],
    controllers: { one: 'oak', two: 'alder' },
    database: 'oak',
  },
  three: { hosts: ['alder', 'birch', 'cedar'] },
  standby: {
    hosts: ['alder', 'birch', 'cedar'],
    controllers: { one: 'alder', two: 'birch' },
    database: 'store',
  },
  /** Leases of one second. */
  fast: { hosts: ['alder', 'birch', 'cedar'], lease: 'fast' },
  /** Clocks that drift by up to five per cent, and leases that reckon with it. */
  drifting: {
    hosts: ['alder', 'birch', 'cedar'],
    controllers: { one: 'oak', two: 'birch' },
    lease: { drift: 0.05 },
  },
  alone: { hosts: ['alder'] },
  four: {
    hosts: ['alder', 'birch', 'cedar', 'elder'],
    witnesses: ['oak'],
    controllers: { one: 'oak', two: 'cedar' },
    database: 'oak',
  },
  five: { hosts: ['alder', 'birch', 'cedar', 'elder', 'fir'], controllers: { one: 'oak', two: 'fir' } },
  nine: {
    hosts: ['alder', 'birch', 'cedar', 'elder', 'fir', 'hazel', 'ivy', 'juniper', 'larch'],
    controllers: { one: 'oak', two: 'pine', three: 'alder' },
    database: 'store',
  },
} as const satisfies Readonly<Record<string, Shape>>;
export type ShapeName = keyof typeof shapes;

/**
 * `anything`: every fault in any order · `dark`: all links down for a while, then up · `away`: only the control plane fails ·
 * `slow`: high latency, loss and stalls, nothing else · `power`: machines lose power, controllers die with them ·
 * `attack`: what each rule of the lease is there for: late and one-way messages, keepers that restart at the wrong moment,
 * guards as late as they may be, wiped keepers, changes of the voters.
 */
export type Kind = 'anything' | 'dark' | 'away' | 'slow' | 'power' | 'attack';

export interface Step {
  readonly afterMs: number;
  readonly what: string;
}

export interface History {
  readonly seed: number;
  readonly kind: Kind;
  readonly shape: ShapeName;
  /** Most that each clock drifts. */
  readonly drift: number;
  readonly slowMs: number;
  readonly stalls?: Stalls;
  readonly weather: string;
  readonly steps: readonly Step[];
}

/** Guests of every simulated site: highly available ones, and one that lives on its host's disk. */
export const guests = ['web-1', 'web-2', 'web-3', 'disk'] as const;

type Make = (random: Random, shape: Shape) => string;

const pick = <T>(random: Random, from: readonly T[]): T => from[random.whole(0, from.length - 1)] as T;
const hostOf = (random: Random, shape: Shape): string => pick(random, shape.hosts);
const keeperOf = (random: Random, shape: Shape): string => pick(random, [...shape.hosts, ...(shape.witnesses ?? [])]);
export const controllersOf = (shape: Shape): readonly string[] => Object.keys(shape.controllers ?? { controller: '' });
export const machinesOf = (shape: Shape): readonly string[] => [
  ...new Set([
    ...shape.hosts,
    ...(shape.witnesses ?? []),
    ...Object.values(shape.controllers ?? { controller: 'controller' }),
    ...(shape.database === undefined ? [] : [shape.database]),
  ]),
];
const machineOf = (random: Random, shape: Shape): string => pick(random, machinesOf(shape));
const twoOf = (random: Random, shape: Shape): string => {
  const machines = machinesOf(shape);
  const first = random.whole(0, machines.length - 1);
  const second = (first + random.whole(1, Math.max(1, machines.length - 1))) % machines.length;
  return `${machines[first] ?? ''} ${machines[second] ?? ''}`;
};
const seconds = (random: Random, from: number, to: number): string => (random.whole(from, to) / 1000).toFixed(3);
/** k of the site's leases, milliseconds: later than that no guard may be. */
const boundOf = ({ lease }: Shape): number => profiles[lease === 'fast' ? 'fast' : 'default'].boundMs;

/** What may happen, and how often in comparison. */
const anything: readonly (readonly [number, Make])[] = [
  [6, (random, shape) => `power-cut ${keeperOf(random, shape)}`],
  [5, (random, shape) => `power-on ${keeperOf(random, shape)}`],
  [2, (random, shape) => `power-cut ${machineOf(random, shape)}`],
  [2, (random, shape) => `power-on ${machineOf(random, shape)}`],
  [4, (random, shape) => `kill keeper ${keeperOf(random, shape)}`],
  [4, (random, shape) => `begin keeper ${keeperOf(random, shape)}`],
  // Started again within the bound k: a guard that is away for longer while the keeper stalls too is what a watchdog is for.
  [2, (random, shape) => `bounce-guard ${hostOf(random, shape)} ${seconds(random, 10, 0.6 * boundOf(shape))}`],
  [3, (random, shape) => `kill agent ${hostOf(random, shape)}`],
  [3, (random, shape) => `begin agent ${hostOf(random, shape)}`],
  [3, (random, shape) => `kill-controller ${pick(random, controllersOf(shape))}`],
  [4, (random, shape) => `start-controller ${pick(random, controllersOf(shape))}`],
  [5, (random, shape) => `stall keeper ${keeperOf(random, shape)} ${seconds(random, 100, 6000)}`],
  [3, (random, shape) => `stall guard ${hostOf(random, shape)} ${seconds(random, 20, 0.8 * boundOf(shape))}`],
  [3, (random, shape) => `stall agent ${hostOf(random, shape)} ${seconds(random, 100, 8000)}`],
  [4, (random, shape) => `stall controller ${pick(random, controllersOf(shape))} ${seconds(random, 100, 8000)}`],
  [6, (random, shape) => `cut ${machineOf(random, shape)}`],
  [5, (random, shape) => `mend ${machineOf(random, shape)}`],
  [4, (random, shape) => `cut ${twoOf(random, shape)}`],
  [3, (random, shape) => `cut-one-way ${twoOf(random, shape)}`],
  [3, () => 'mend-all'],
  [2, () => 'switch-down'],
  [3, () => 'switch-up'],
  [1, (random, shape) => `disk-full ${keeperOf(random, shape)}`],
  [1, (random, shape) => `disk-hangs ${keeperOf(random, shape)}`],
  [2, (random, shape) => `disk-free ${keeperOf(random, shape)}`],
  [2, (random, shape) => `disk-answers ${keeperOf(random, shape)}`],
  [1, (random, shape) => `libvirtd-down ${hostOf(random, shape)}`],
  [2, (random, shape) => `libvirtd-up ${hostOf(random, shape)}`],
  [2, (random) => `kill-qemu ${pick(random, guests)}`],
  [1, () => 'database-down'],
  [1, () => 'database-flaky'],
  [3, () => 'database-up'],
  [2, (random) => `database-failover ${random.whole(0, 4)}`],
  [1, () => 'wild-weather'],
  [1, () => 'bad-weather'],
  [2, () => 'fair-weather'],
  [1, (random) => `stop ${pick(random, guests)}`],
  [1, (random) => `start ${pick(random, guests)}`],
  [1, (random) => `reboot ${pick(random, guests)}`],
  [1, (random) => `run more${random.whole(0, 99)} --fresh`],
  [1, (random) => `delete ${pick(random, guests)}`],
];

function drawn(random: Random, shape: Shape, from: typeof anything): string {
  let left = random.next() * from.reduce((sum, [weight]) => sum + weight, 0);
  for (const [weight, make] of from) {
    left -= weight;
    if (left < 0) return make(random, shape);
  }
  return 'fair-weather';
}

const types = ['beat', 'beat-answer', 'poll', 'seal', 'seal-answer', 'withdraw', 'list', 'bar', 'over'] as const;

/** Directed at the rules of the lease. */
const attack: typeof anything = [
  [5, (random, shape) => `cut ${twoOf(random, shape)}`],
  [5, (random, shape) => `cut-one-way ${twoOf(random, shape)}`],
  [3, (random, shape) => `cut ${hostOf(random, shape)}`],
  [4, (random, shape) => `mend ${hostOf(random, shape)}`],
  [4, () => 'mend-all'],
  [6, (random, shape) => `bounce-keeper ${keeperOf(random, shape)} ${seconds(random, 20, 900)}`],
  [2, (random, shape) => `restart-keeper ${keeperOf(random, shape)} ${seconds(random, 50, 6000)}`],
  [2, (random, shape) => `rebuild-keeper ${keeperOf(random, shape)} ${seconds(random, 50, 900)}`],
  [4, (random, shape) => `stall keeper ${keeperOf(random, shape)} ${seconds(random, 300, 5000)}`],
  [
    5,
    (random, shape) =>
      `stall guard ${hostOf(random, shape)} ${seconds(random, 0.4 * boundOf(shape), 0.9 * boundOf(shape))}`,
  ],
  [3, (random, shape) => `stall agent ${hostOf(random, shape)} ${seconds(random, 300, 6000)}`],
  [4, (random, shape) => `stall controller ${pick(random, controllersOf(shape))} ${seconds(random, 300, 6000)}`],
  [3, (random, shape) => `kill-controller ${pick(random, controllersOf(shape))}`],
  [4, (random, shape) => `start-controller ${pick(random, controllersOf(shape))}`],
  [3, (random, shape) => `kill agent ${hostOf(random, shape)}`],
  [3, (random, shape) => `begin agent ${hostOf(random, shape)}`],
  [3, (random, shape) => `power-cut ${keeperOf(random, shape)}`],
  [4, (random, shape) => `power-on ${keeperOf(random, shape)}`],
  [3, (random, shape) => `cut-off-late ${hostOf(random, shape)}`],
  [2, (random, shape) => `reboot-host ${hostOf(random, shape)} ${seconds(random, 100, 2500)}`],
  [4, (random, shape) => `hold ${pick(random, types)} ${machineOf(random, shape)} *`],
  [3, (random, shape) => `hold ${pick(random, types)} * ${machineOf(random, shape)}`],
  [6, () => 'let-go'],
  [2, (random) => `database-failover ${random.whole(0, 4)}`],
  [1, () => 'database-down'],
  [2, () => 'database-up'],
  [1, (random, shape) => `voters-remove ${keeperOf(random, shape)}`],
  [1, (random, shape) => `voters-add ${keeperOf(random, shape)}`],
  [1, (random) => `run more${random.whole(0, 99)} --fresh --restart always`],
];

/** Faults of the control plane alone: controllers, database, the network between them, and agents that crash. */
const controlPlane: typeof anything = [
  [3, (random, shape) => `kill-controller ${pick(random, controllersOf(shape))}`],
  [2, (random, shape) => `start-controller ${pick(random, controllersOf(shape))}`],
  [2, (random, shape) => `stall controller ${pick(random, controllersOf(shape))} ${seconds(random, 100, 8000)}`],
  [2, () => 'database-down'],
  [2, () => 'database-up'],
  [1, () => 'database-flaky'],
  [1, (random) => `database-failover ${random.whole(0, 3)}`],
  [1, (random, shape) => `kill agent ${hostOf(random, shape)}`],
  [2, (random, shape) => `begin agent ${hostOf(random, shape)}`],
];

function dark(random: Random, shape: Shape): Step[] {
  // Mostly short, since what matters is that it is longer than a lease; a few as long as a switch takes to boot.
  const down = random.chance(0.05) ? random.whole(9000, 60_000) : random.whole(2500, 9000);
  const late = random.chance(0.5) ? hostOf(random, shape) : undefined;
  return [
    { afterMs: random.whole(0, 1000), what: 'switch-down' },
    ...(late === undefined ? [] : [{ afterMs: 0, what: `cut ${late}` }]),
    { afterMs: down, what: 'switch-up' },
    ...(late === undefined ? [] : [{ afterMs: shape.lease === 'fast' ? 700 : 1500, what: `mend ${late}` }]),
    { afterMs: 2500, what: 'fair-weather' },
  ];
}

function power(random: Random, shape: Shape): Step[] {
  const victim = keeperOf(random, shape);
  const second = random.chance(0.3) ? machineOf(random, shape) : undefined;
  return [
    { afterMs: random.whole(0, 1500), what: `power-cut ${victim}` },
    ...(second === undefined ? [] : [{ afterMs: random.whole(0, 3000), what: `power-cut ${second}` }]),
    { afterMs: random.whole(3500, 6000), what: `power-on ${victim}` },
  ];
}

const many = (random: Random, shape: Shape, from: typeof anything, count: number, mostMs: number): Step[] =>
  Array.from({ length: count }, () => ({ afterMs: random.whole(0, mostMs), what: drawn(random, shape, from) }));

/** One wiped voter: when a majority of them is wiped before others took their places, only a person can help (rule 15). */
function oneRebuilt(steps: readonly Step[], shape: Shape): Step[] {
  const some = shape.hosts.length > 1 && !steps.some(({ what }) => what.startsWith('voters-remove'));
  const first = some ? steps.findIndex(({ what }) => what.startsWith('rebuild-keeper')) : -1;
  return steps.filter(({ what }, index) => !what.startsWith('rebuild-keeper') || index === first);
}

function stepsOf(kind: Kind, random: Random, shape: Shape): Step[] {
  if (kind === 'dark') return dark(random, shape);
  if (kind === 'power') return power(random, shape);
  if (kind === 'away') return many(random, shape, controlPlane, random.whole(2, 6), 2000);
  if (kind === 'slow') return [{ afterMs: 9000, what: 'slow-weather' }];
  if (kind === 'attack') return oneRebuilt(many(random, shape, attack, random.whole(4, 10), 1200), shape);
  return many(random, shape, anything, random.whole(3, 10), 1800);
}

/** Half of all histories are of every fault; small sites come more often than large ones. */
const kinds: readonly Kind[] = [
  'anything',
  'anything',
  'anything',
  'attack',
  'attack',
  'attack',
  'dark',
  'away',
  'slow',
  'power',
];
const shapeNames: readonly ShapeName[] = [
  'pair',
  'pair',
  'pair',
  'three',
  'three',
  'three',
  'standby',
  'standby',
  'fast',
  'drifting',
  'alone',
  'four',
];
const largeShapes: readonly ShapeName[] = ['five', 'nine'];

export function historyOf(seed: number, only: Partial<Pick<History, 'kind' | 'shape'>> = {}): History {
  const random = new Random(Math.imul(seed, 2_654_435_761) + 12_345);
  const drawnKind = only.kind ?? pick(random, kinds);
  const shape = only.shape ?? (random.chance(0.02) ? pick(random, largeShapes) : pick(random, shapeNames));
  // Leases of one second do pause in such weather.
  const kind = drawnKind === 'slow' && shape === 'fast' ? 'dark' : drawnKind;
  const slow = kind === 'slow';
  const stalls: Stalls | undefined = slow
    ? { chance: 0.0005, ms: [100, 700] }
    : random.chance(0.3)
      ? { chance: 0.002, ms: [5, 1500] }
      : undefined;
  const calm = kind === 'dark' || kind === 'away' || kind === 'power';
  return {
    seed,
    kind,
    shape,
    drift:
      shape === 'drifting'
        ? 0.05
        : (kind === 'anything' || kind === 'attack') && random.chance(0.3)
          ? 0.01
          : pick(random, [0, 0.002, 0.005]),
    slowMs: random.chance(0.3) ? 40 : 4,
    ...(stalls && (!calm || slow) ? { stalls } : {}),
    weather: slow ? 'slow-weather' : 'fair-weather',
    steps: stepsOf(kind, random, shapes[shape]),
  };
}
