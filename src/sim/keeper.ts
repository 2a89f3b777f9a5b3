/** A keeper in the simulation: the real loop on simulated ports, and the agent's way to it. */
import { VirgaError } from '../core/errors.ts';
import type { Uuid } from '../core/model/resource.ts';
import type { KeeperDoor } from '../agent/ports.ts';
import { KeeperLoop } from '../keeper/loop.ts';
import type { DoorLoop } from '../keeper/door.ts';
import type { Groups } from '../keeper/ports.ts';
import { streamOf, type Surroundings } from './surroundings.ts';
import { SimGuard } from './guard.ts';
import type { SimMachine } from './machine.ts';
import { bootClockOf, Life, slowly, type Slow } from './process.ts';

/** Milliseconds that a word between agent and keeper takes. */
const wordMs = 0.2;
/** Milliseconds until the agent gives up waiting for an answer. */
const timeoutMs = 2000;

function simGroups(machine: SimMachine, slow: Slow): Groups {
  const { groups } = machine;
  return {
    ensure: async (session) => slow(() => groups.ensure(session)),
    make: async (session, guestId) => slow(() => groups.make(session, guestId)),
    enter: async (session, guestId, pid) =>
      slow(() => {
        const process = machine.byPid(pid);
        if (!process) throw new VirgaError('engine', { host: machine.name, detail: `there is no process ${pid}` });
        groups.enter(session, guestId, process);
      }),
    clear: async (session, guestId) => slow(() => groups.clear(session, guestId)),
    freeze: async (session) => slow(() => groups.freezeSession(session)),
    clearOthers: async (except) => slow(() => groups.clearOthers(except)),
  };
}

export class SimKeeper {
  readonly life: Life;
  readonly loop: KeeperLoop;
  readonly machine: SimMachine;
  readonly #deafen: () => void;
  readonly #stop = new AbortController();

  constructor(machine: SimMachine, role: 'host' | 'witness', guard: () => SimGuard | undefined, world: Surroundings) {
    const { network, log, rules } = world;
    const random = streamOf(machine, 'keeper', world);
    this.machine = machine;
    this.life = new Life(machine.time, random, world.stalls);
    const slow = slowly(machine.time, this.life, random, world.slowMs);
    this.loop = new KeeperLoop(
      {
        clock: bootClockOf(this.life, machine.clock),
        ids: { uuid: () => random.uuid(), secret: () => random.hex(43) },
        files: machine.keeperDisk.ports(slow),
        wire: {
          send: (to, message) => {
            if (this.life.alive) network.send(machine.id, machine.name, to, message);
          },
        },
        guard: SimGuard.door(this.life, machine, guard),
        groups: simGroups(machine, slow),
        log,
      },
      { hostId: machine.id, siteId: world.siteId, name: machine.name, role, bootId: machine.bootId, rules },
    );
    this.loop.onChange(() => {
      if (this.life.alive) for (const listener of machine.keeperListeners) listener();
    });
    this.#deafen = network.listen(machine.id, {
      machine: machine.name,
      deliver: (from, message) => this.life.enter(() => this.loop.receive(from, message)),
    });
    void this.life.of(this.loop.load()).then(async () => this.loop.run(this.#stop.signal));
  }

  /** As for an upgrade: it asks for a longer lease first (rule 14). */
  stop(): void {
    this.#stop.abort();
  }

  kill(): void {
    this.life.kill();
    this.#deafen();
  }

  /** The agent's way to whatever keeper runs on its machine. */
  static door(agent: Life, machine: SimMachine, keeper: () => SimKeeper | undefined): KeeperDoor {
    const call = async <T>(what: string, work: (loop: DoorLoop) => T | Promise<T>): Promise<T> =>
      new Promise((resolve, refuse) => {
        const fail = (detail: string): void => refuse(new VirgaError('keeper', { host: machine.name, detail }));
        const late = agent.after(timeoutMs, () => fail(`${what}: no answer within ${timeoutMs} ms`));
        const settle = (then: () => void): void =>
          void machine.time.after(wordMs, () =>
            agent.enter(() => {
              late();
              then();
            }),
          );
        machine.time.after(wordMs, () => {
          const target = keeper();
          if (!target) return settle(() => fail('nobody listens'));
          target.life.enter(() => {
            const answer = async (): Promise<T> => work(target.loop);
            answer().then(
              (value) => {
                if (target.life.alive) settle(() => resolve(value));
              },
              (error: unknown) => {
                if (target.life.alive) settle(() => refuse(error));
              },
            );
          });
        });
      });
    return {
      state: async () =>
        call('state', (loop) => {
          const view = loop.state();
          return { ...view, lease: { ...view.lease, addresses: [`${machine.name}:7444`], version: 'sim' } };
        }),
      register: async (guest) => call('register', (loop) => loop.register(guest)),
      enter: async (guestId: Uuid, pid) => call('enter', (loop) => loop.enter(guestId, pid)),
      clear: async (guestId: Uuid) => call('clear', (loop) => loop.clear(guestId)),
      onChange: (listener) => {
        const heard = (): void => void machine.time.after(wordMs, () => agent.enter(listener));
        machine.keeperListeners.add(heard);
        return () => machine.keeperListeners.delete(heard);
      },
    };
  }
}
