/** The processes of a lab: started, stopped, killed and held up by name of part and of machine. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { SpawnOptions, Testbed, TestbedProcess } from '../testbed/index.ts';

export type Part = 'controller' | 'agent' | 'keeper' | 'guard';

/** The machine beside the switch: where the only controller is, the witness, the database. */
export const beside = 'switch';

/** Processes of one testbed. A machine is a host's name, or `switch`. */
export class LabParts {
  readonly #testbed: Testbed;
  readonly #env: Readonly<Record<string, string>>;
  readonly #running = new Map<string, TestbedProcess>();

  constructor(testbed: Testbed, env: Readonly<Record<string, string>> = {}) {
    this.#testbed = testbed;
    this.#env = env;
  }

  /** Starts the part where it does not run. Its log is a file of the testbed that goes on over restarts. */
  async start(part: Part, machine: string, argv: readonly string[], env: SpawnOptions['env'] = {}): Promise<void> {
    if (this.runs(part, machine)) return;
    const options = { output: { file: this.logFile(part, machine) }, env: { ...this.#env, ...env } };
    const started =
      machine === beside
        ? await this.#testbed.switchSpawn(argv, options)
        : await this.#testbed.host(machine).spawn(argv, options);
    const key = keyOf(part, machine);
    this.#running.set(key, started);
    void started.exited.then(() => {
      if (this.#running.get(key) === started) this.#running.delete(key);
    });
  }

  runs(part: Part, machine: string): boolean {
    return this.#running.has(keyOf(part, machine));
  }

  /** As this machine numbers processes. */
  pid(part: Part, machine: string): number {
    const found = this.#running.get(keyOf(part, machine));
    if (found === undefined) throw new Error(`the ${part} of ${machine} does not run`);
    return found.pid;
  }

  signal(part: Part, machine: string, signal: NodeJS.Signals): void {
    if (this.#running.get(keyOf(part, machine))?.kill(signal) !== true)
      throw new Error(`the ${part} of ${machine} does not run`);
  }

  /** SIGKILL; resolves when it is gone. */
  async kill(part: Part, machine: string): Promise<void> {
    const found = this.#running.get(keyOf(part, machine));
    found?.kill('SIGKILL');
    await found?.exited;
    this.#running.delete(keyOf(part, machine));
  }

  /** SIGTERM, after `graceMs` SIGKILL; resolves when it is gone. */
  async stop(part: Part, machine: string, graceMs = 15_000): Promise<void> {
    const found = this.#running.get(keyOf(part, machine));
    if (found === undefined) return;
    // A stopped one hears of it only when it goes on.
    found.kill('SIGTERM');
    found.kill('SIGCONT');
    const force = setTimeout(() => found.kill('SIGKILL'), graceMs);
    await found.exited;
    clearTimeout(force);
    this.#running.delete(keyOf(part, machine));
  }

  /** Every part of this kind, politely and at once. */
  async stopAll(part: Part, graceMs: number): Promise<void> {
    const machines = [...this.#running.keys()].filter((key) => key.startsWith(`${part}@`));
    await Promise.all(machines.map(async (key) => this.stop(part, key.slice(part.length + 1), graceMs)));
  }

  logFile(part: Part, machine: string): string {
    const name = part === 'agent' ? machine : machine === beside ? part : `${part}-${machine}`;
    return join(this.#testbed.dir, `${name}.log`);
  }

  async log(part: Part, machine: string): Promise<string> {
    return readFile(this.logFile(part, machine), 'utf8').catch(() => '');
  }
}

const keyOf = (part: Part, machine: string): string => `${part}@${machine}`;
