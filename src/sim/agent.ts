/** A host's agent in the simulation: the real loop on simulated ports, and its connection to whoever leads. */
import { AgentLoop } from '../agent/loop.ts';
import type { AgentPorts, KeeperDoor } from '../agent/ports.ts';
import type { HostLink } from '../ports.ts';
import type { SimController } from './controller.ts';
import { simDisks, simEngine, simImages } from './host.ts';
import type { SimMachine } from './machine.ts';
import { clockOf, Life, slowly } from './process.ts';
import { streamOf, type Surroundings } from './surroundings.ts';

/** How often an agent without a connection dials, milliseconds. */
const dialMs = 500;
const facts = { cpus: 8, memoryMiB: 4096, diskMiB: 102_400 };

export class SimAgent {
  readonly life: Life;
  readonly loop: AgentLoop;
  readonly machine: SimMachine;
  readonly #world: Surroundings;
  readonly #controllers: () => Iterable<SimController>;
  #attached: { readonly to: SimController; readonly link: HostLink } | undefined;
  /** A message was lost: the connection is broken and will be found so. */
  #broken = false;

  constructor(
    machine: SimMachine,
    keeper: (life: Life) => KeeperDoor,
    controllers: () => Iterable<SimController>,
    world: Surroundings,
  ) {
    this.machine = machine;
    this.#world = { ...world, random: streamOf(machine, 'agent', world) };
    this.#controllers = controllers;
    this.life = new Life(machine.time, this.#world.random, world.stalls);
    this.loop = new AgentLoop(
      this.#ports(keeper(this.life)),
      {
        hostId: machine.id,
        siteId: world.siteId,
        bootId: machine.bootId,
        agentVersion: 'sim',
      },
      { rules: world.rules },
    );
    const stop = new AbortController();
    void this.life.of(this.loop.load()).then(async () => this.loop.run(stop.signal));
    this.#dial();
  }

  kill(): void {
    this.life.kill();
    this.machine.listeners.clear();
    this.#hangUp();
  }

  #ports(keeper: KeeperDoor): AgentPorts {
    const { machine, life } = this;
    const { random, slowMs, log } = this.#world;
    const slow = slowly(machine.time, life, random, slowMs);
    return {
      clock: clockOf(life, machine.clock),
      ids: { uuid: () => random.uuid(), secret: () => random.hex(43) },
      files: machine.disk.ports(slow),
      engine: simEngine(machine, life, slow, this.#world),
      disks: simDisks(machine, slow),
      images: simImages(machine, slow),
      seeds: { write: async (order) => slow(() => `guests/${order.id}/seed.iso`) },
      networks: { converge: async (networks) => slow(() => new Map(networks.map(({ id }) => [id, undefined]))) },
      meter: {
        measure: async () =>
          slow(() => ({
            measured: facts,
            used: { cpuPercent: 0, memoryMiB: 0, diskMiB: 0 },
            network: { bridges: ['br0'] },
          })),
      },
      keeper,
      link: {
        connected: () => this.#attached !== undefined,
        report: (report) => {
          const to = this.#attached?.to;
          if (!life.alive || !to) return;
          const sent = this.#world.network.carry(machine.name, to.machine.name, report, (copy) =>
            to.life.enter(() => to.loop.report(machine.id, copy)),
          );
          if (!sent) this.#broken = true;
        },
      },
      log,
    };
  }

  /** The agent keeps a connection to a leader as well as it can. */
  #dial(): void {
    const tick = (): void => {
      const to = this.#attached?.to;
      if (to && (this.#broken || !to.leads || !this.#reaches(to))) this.#hangUp();
      if (!this.#attached) {
        const good = [...this.#controllers()].filter((each) => each.leads && !each.life.stalled && this.#reaches(each));
        const chosen = good[this.#world.random.whole(0, Math.max(0, good.length - 1))];
        if (chosen) this.#attach(chosen);
      }
      this.life.after(dialMs, tick);
    };
    tick();
  }

  #reaches(controller: SimController): boolean {
    const { network } = this.#world;
    const [here, there] = [this.machine.name, controller.machine.name];
    return network.passes(here, there) && network.passes(there, here);
  }

  #attach(to: SimController): void {
    this.#broken = false;
    const link: HostLink = {
      hostId: this.machine.id,
      send: (assignment) => {
        if (!to.life.alive) return;
        const sent = this.#world.network.carry(to.machine.name, this.machine.name, assignment, (copy) =>
          this.life.enter(() => void this.loop.receive(copy)),
        );
        if (!sent) this.#broken = true;
      },
    };
    this.#attached = { to, link };
    to.loop.attach(link);
    this.loop.wake();
  }

  #hangUp(): void {
    const attached = this.#attached;
    this.#attached = undefined;
    if (attached?.to.life.alive) attached.to.loop.detach(attached.link);
  }
}
