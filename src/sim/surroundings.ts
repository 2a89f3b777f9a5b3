import type { Rules } from '../core/ha/rules.ts';
import type { Uuid } from '../core/model/resource.ts';
import type { Log } from '../ports.ts';
import type { SimMachine } from './machine.ts';
import type { Network } from './network.ts';
import type { Stalls } from './process.ts';
import type { Random } from './random.ts';

/** What processes of the simulation share. */
export interface Surroundings {
  readonly random: Random;
  readonly network: Network;
  readonly log: Log;
  readonly siteId: Uuid;
  readonly rules: Rules;
  /** Most milliseconds that one call to disk, engine or database takes, twice (before and after). */
  readonly slowMs: number;
  stalls: Stalls | undefined;
  /** k: what a guard may be late, milliseconds. */
  readonly boundMs: number;
}

/** The random numbers of one life of a process: what others draw does not change them. */
export function streamOf(machine: SimMachine, what: string, { random }: Surroundings): Random {
  machine.lives += 1;
  return random.named(`${machine.name} ${what} ${machine.lives}`);
}
