/** A controller of the simulation: the real state and loops on simulated ports. */
import { LeaseLoop } from '../controller/lease/loop.ts';
import { Loop } from '../controller/loop.ts';
import { SiteState } from '../controller/state.ts';
import type { Uuid } from '../core/model/resource.ts';
import type { SimDatabase } from './database.ts';
import type { SimMachine } from './machine.ts';
import type { Network } from './network.ts';
import { bootClockOf, clockOf, Life } from './process.ts';
import { streamOf, type Surroundings } from './surroundings.ts';

export class SimController {
  readonly name: string;
  readonly id: Uuid;
  readonly machine: SimMachine;
  readonly life: Life;
  readonly state: SiteState;
  readonly loop: Loop;
  readonly lease: LeaseLoop;
  readonly #stop = new AbortController();
  readonly #deafen: () => void;

  constructor(
    name: string,
    id: Uuid,
    machine: SimMachine,
    database: SimDatabase,
    databaseAt: string,
    world: Surroundings,
  ) {
    const { network, log } = world;
    const random = streamOf(machine, `controller ${name}`, world);
    this.name = name;
    this.id = id;
    this.machine = machine;
    this.life = new Life(machine.time, random, world.stalls);
    const clock = clockOf(this.life, machine.clock);
    const store = database.door(this.life, machine.name, network, databaseAt, world.slowMs);
    this.state = new SiteState({ store, clock, log });
    const wire = {
      send: (to: Uuid, message: Parameters<Network['send']>[3]) => {
        if (this.life.alive) network.send(id, machine.name, to, message);
      },
    };
    const ids = { uuid: () => random.uuid(), secret: () => random.hex(43) };
    this.lease = new LeaseLoop({
      state: this.state,
      store,
      clock,
      boot: bootClockOf(this.life, machine.clock),
      wire,
      ids,
      log,
      rules: world.rules,
      onNews: () => this.loop.hurry(),
    });
    this.loop = new Loop({ state: this.state, clock, log, lease: () => this.lease });
    this.#deafen = network.listen(id, {
      machine: machine.name,
      deliver: (from, message) => this.life.enter(() => this.lease.receive(from, message)),
    });
    void this.lease.run(this.#stop.signal);
    void this.loop.run(this.#stop.signal);
  }

  /** It says that it leads; an old leader may say so for a while after a new one began. */
  get leads(): boolean {
    return this.life.alive && this.state.leadership === 'leading';
  }

  kill(): void {
    this.life.kill();
    this.#deafen();
  }
}
