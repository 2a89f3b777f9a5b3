/**
 * Scenarios: a folder each, with a README that says why, a start state (`start.json`), commands (`commands`, one a line:
 * seconds, then words) and the expected log (`expected.log`). The same folder always gives the same log.
 */
import { allRules, type Rules } from '../core/ha/rules.ts';
import { carryOut } from './commands.ts';
import type { Violation } from './laws.ts';
import { setCapacity } from './site.ts';
import { World, type WorldOptions } from './world.ts';
import { epochAt } from './time.ts';

export interface Start extends Omit<WorldOptions, 'rules' | 'log' | 'template'> {
  /** What each host counts as its own; 8 CPUs and 4 GiB when left out. */
  readonly capacity?: Readonly<Record<string, { readonly cpus: number; readonly memoryMiB: number }>>;
  /** Rules of the lease that it watches over: without any one of them it must fail. */
  readonly guards?: readonly (keyof Rules)[];
}

export interface Outcome {
  readonly log: string;
  readonly violations: readonly Violation[];
}

interface Command {
  readonly atMs: number;
  readonly line: string;
}

export function parseCommands(text: string): readonly Command[] {
  return text
    .split('\n')
    .map((line) => line.replace(/#.*$/, '').trim())
    .filter((line) => line !== '')
    .map((line) => {
      const [seconds = '', ...words] = line.split(/\s+/);
      if (!/^\d+(\.\d+)?$/.test(seconds) || words.length === 0) throw new Error(`not "SECONDS COMMAND": ${line}`);
      return { atMs: Number(seconds) * 1000, line: words.join(' ') };
    });
}

/** Hundredths: thousandths would change with every step that a loop takes more or less. */
const seconds = (ms: number): string => (ms / 1000).toFixed(2).padStart(8);

/** Runs a scenario to its `end`. Times count from the moment when the hosts are online. */
export async function runScenario(start: Start, commands: string, rules: Rules = allRules): Promise<Outcome> {
  const { capacity: _capacity, guards: _guards, ...options } = start;
  const world = new World({ ...options, rules });
  await world.begin();
  for (const [host, { cpus, memoryMiB }] of Object.entries(start.capacity ?? {}))
    await setCapacity(world, host, cpus, memoryMiB);
  const zero = Math.ceil(world.time.now / 1000) * 1000;
  world.zero = zero;
  for (const { atMs, line } of parseCommands(commands)) {
    await world.time.runUntil(zero + atMs);
    if (line === 'end') break;
    carryOut(world, line);
  }
  await world.time.runUntil(world.time.now + 1);
  return { log: await logOf(world, zero), violations: world.laws.violations };
}

/** What happened since `zero` (virtual milliseconds), and how it is now. */
export async function logOf(world: World, zero: number): Promise<string> {
  return `${await timeline(world, zero)}\n${finalState(world)}`;
}

async function timeline(world: World, zero: number): Promise<string> {
  const seen = (await world.events())
    .map((event) => ({ at: event.eventAt - epochAt, text: `${event.type.padEnd(16)} ${event.message}` }))
    .filter(({ at }) => at >= zero);
  const broken = world.laws.violations.map(({ at, law, text }) => ({ at, text: `VIOLATED law ${law}: ${text}` }));
  return [...world.faults.filter(({ at }) => at >= zero), ...seen, ...broken]
    .sort((a, b) => a.at - b.at)
    .map(({ at, text }) => `${seconds(at - zero)}  ${text}`)
    .join('\n');
}

/** What a person sees at the end, and beside it what is really so. */
function finalState(world: World): string {
  const snapshot = world.leader()?.state.snapshot;
  if (!snapshot) return '\nAt the end nobody leads.\n';
  const hosts = [...snapshot.all('host')].map((host) => `host  ${host.name}: ${host.status.state}`);
  const guests = [...snapshot.all('guest')].map((guest) => {
    const { state, stateReason } = guest.status;
    const really = world.copies(guest.id);
    return `guest ${guest.name}: ${state}${stateReason === undefined ? '' : ` (${stateReason})`}; runs on ${really.length === 0 ? 'no host' : really.join(' and ')}`;
  });
  return ['', 'At the end:', ...[...hosts, ...guests].sort()].join('\n') + '\n';
}
