/** The real loop of a keeper in a directed history, with its real guard: files in a map, mail by hand, time of the world. */
import assert from 'node:assert/strict';
import { setImmediate } from 'node:timers/promises';
import { sessionGroup } from '../../../../src/core/ha/groups.ts';
import { Guard, type GuardAnswer } from '../../../../src/core/ha/guard.ts';
import type { Rules } from '../../../../src/core/ha/rules.ts';
import { noEpoch, type Epoch } from '../../../../src/core/ha/types.ts';
import type { HostSession } from '../../../../src/core/model/host.ts';
import { KeeperLoop } from '../../../../src/keeper/loop.ts';
import { paths } from '../../../../src/keeper/memory.ts';
import type { KeeperPorts } from '../../../../src/keeper/ports.ts';
import { boundMs, lengthMs, type World } from './kit.ts';

const noLog = { debug() {}, info() {}, warn() {}, error() {}, child: () => noLog };
const beatMs = lengthMs / 8;

/** A host `H` whose keeper may die and come back; its guard and its disk stay. */
export class Keeper {
  readonly #world: World;
  readonly #rules: Rules;
  readonly #guard: Guard;
  readonly #groups = new Set<string>();
  readonly #frozen = new Set<string>();
  readonly files = new Map<string, string>();
  #answered: GuardAnswer | undefined;
  #loop: KeeperLoop | undefined;

  constructor(world: World, rules: Rules) {
    this.#world = world;
    this.#rules = rules;
    this.files.set(paths.voter, JSON.stringify({ diskId: 'H-disk', epoch: noEpoch, list: world.list }));
    this.#guard = new Guard(
      {
        now: () => world.now,
        groups: () => [...this.#groups],
        freeze: (group) => void this.#frozen.add(group),
        thaw: (group) => void this.#frozen.delete(group),
        freezing: (group) => this.#frozen.has(group),
        frozen: (group) => this.#frozen.has(group),
        kill: () => {},
        keep: () => {},
      },
      { boundMs, graceMs: 5000 },
    );
    world.others.set('H', ({ from, message }) => this.loop.receive(from, message));
  }

  get loop(): KeeperLoop {
    assert.ok(this.#loop, 'the keeper was begun');
    return this.#loop;
  }

  get session(): HostSession {
    return this.loop.state().session;
  }

  get runs(): boolean {
    const group = sessionGroup(this.session);
    return this.#groups.has(group) && !this.#frozen.has(group);
  }

  /** A life of the keeper begins. */
  async begin(): Promise<void> {
    this.#answered = undefined;
    const settings = { hostId: 'H', siteId: 'site', name: 'H', role: 'host', bootId: 'boot' } as const;
    this.#loop = new KeeperLoop(this.#ports(), { ...settings, rules: this.#rules });
    await this.#loop.load();
  }

  #ports(): KeeperPorts {
    const { files } = this;
    return {
      clock: { now: () => this.#world.now, sleep: async () => undefined },
      ids: { uuid: () => this.#world.uuid(), secret: () => '' },
      files: {
        read: async (path) => files.get(path),
        write: async (path, text) => void files.set(path, text),
        remove: async (path) => void files.delete(path),
        list: async () => [],
      },
      wire: { send: (to, message) => this.#world.send('H', to, message) },
      guard: {
        deadline: (session, at, force, bound) => {
          const order = { session, deadline: at, force, ...(bound === undefined ? {} : { boundMs: bound }) };
          this.#answered = this.#guard.order(order) ?? this.#answered;
        },
        answered: () => this.#answered,
      },
      groups: {
        ensure: async (session) => this.#ensure(session),
        make: async (session, guestId) => `${sessionGroup(session)}/${guestId}`,
        enter: async () => undefined,
        clear: async () => true,
        freeze: async (session) => void this.#frozen.add(sessionGroup(session)),
        clearOthers: async (except) => {
          for (const group of this.#groups) if (!except || group !== sessionGroup(except)) this.#groups.delete(group);
          return true;
        },
      },
      log: noLog,
    };
  }

  #ensure(session: HostSession): void {
    const group = sessionGroup(session);
    if (this.#groups.has(group)) return;
    this.#groups.add(group);
    this.#frozen.add(group);
  }

  /** Time goes on, for the world as well; looks after each step whether `wrong` is so. */
  async run(ms: number, wrong: () => boolean = () => false): Promise<boolean> {
    let seen = false;
    for (let passed = 0; passed < ms; passed += beatMs) {
      await this.loop.tick();
      await setImmediate();
      for (let part = 0; part < beatMs; part += 50) {
        this.#world.run(50);
        this.#guard.check();
        seen ||= wrong();
      }
      await setImmediate();
    }
    return seen;
  }

  /** The agent asks for a start under this epoch. */
  async start(guestId: string, generation: number, { number: epoch }: Epoch): Promise<boolean> {
    return (await this.loop.register({ guestId, generation, epoch, session: this.session })).ok;
  }
}
