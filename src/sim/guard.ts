/** A host's guard in the simulation: the real rules in a process of its own, with its own stalls. */
import { Guard, type GuardKept, type GuardOrder } from '../core/ha/guard.ts';
import type { Uuid } from '../core/model/resource.ts';
import type { GuardDoor } from '../keeper/ports.ts';
import type { Random } from './random.ts';
import { streamOf, type Surroundings } from './surroundings.ts';
import type { SimMachine } from './machine.ts';
import { Life } from './process.ts';

/** In /run: gone with the power, kept when the guard dies. */
const file = 'deadline.json';
/** Milliseconds that a word between keeper and guard takes. */
const wordMs = 0.1;
/** Most that a timer of the guard is late without a stall, milliseconds (measured: 0.7 at SCHED_FIFO). */
const lagMs = 2;

export class SimGuard {
  readonly life: Life;
  readonly machine: SimMachine;
  readonly #random: Random;
  readonly #guard: Guard;
  #cancel: (() => void) | undefined;

  constructor(machine: SimMachine, world: Surroundings) {
    this.machine = machine;
    this.#random = streamOf(machine, 'guard', world);
    const { boundMs } = world;
    // Beyond the bound k the guard is outside of what the rules assume; a watchdog is for that.
    const stalls = world.stalls && {
      chance: world.stalls.chance,
      ms: [1, Math.min(world.stalls.ms[1], 0.8 * boundMs)] as const,
    };
    this.life = new Life(machine.time, this.#random, stalls);
    const kept = machine.run.get(file);
    this.#guard = new Guard(
      {
        now: () => machine.clock.boottime(),
        groups: () => machine.groups.names(),
        freeze: (group) => machine.groups.freeze(group),
        thaw: (group) => machine.groups.thaw(group),
        freezing: (group) => machine.groups.isFrozen(group),
        frozen: (group) => machine.groups.isFrozen(group),
        kill: (group, guestIds) => machine.groups.kill(group, guestIds),
        keep: (kept_) => void machine.run.set(file, JSON.stringify(kept_)),
      },
      { boundMs, graceMs: 5000 },
      kept === undefined ? undefined : (JSON.parse(kept) as GuardKept),
      undefined,
      world.rules,
    );
    this.#look();
  }

  #look(): void {
    this.#cancel?.();
    const due = this.#guard.check();
    const { clock } = this.machine;
    const inMs = Math.max(0, due - clock.boottime()) / clock.rate + lagMs * this.#random.next();
    this.#cancel = this.life.after(inMs, () => this.#look());
  }

  kill(): void {
    this.life.kill();
  }

  /** The keeper's way to whatever guard runs on this machine. */
  static door(keeper: Life, machine: SimMachine, guard: () => SimGuard | undefined): GuardDoor {
    let answered: ReturnType<GuardDoor['answered']>;
    let asked: Uuid | undefined;
    return {
      deadline: (session, at, force) => {
        if (asked !== session.id) answered = undefined;
        asked = session.id;
        machine.time.after(wordMs, () => {
          const target = guard();
          target?.life.enter(() => {
            const order: GuardOrder = { session, deadline: at, force };
            const answer = target.#guard.order(order);
            target.#look();
            if (answer)
              machine.time.after(wordMs, () =>
                keeper.enter(() => {
                  if (asked === session.id) answered = answer;
                }),
              );
          });
        });
      },
      answered: () => answered,
    };
  }
}
