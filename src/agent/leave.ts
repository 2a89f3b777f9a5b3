/**
 * The host leaves in order (`poweroff`, `reboot`, `virga host leave --here`): the loop stops, guests are stopped politely,
 * then the keeper ends the session and says so, and the voters seal it at once. From then on this agent carries out
 * nothing, until it is started again.
 */
import { VirgaError } from '../core/errors.ts';
import type { Uuid } from '../core/model/resource.ts';
import type { Clock, Engine, EngineGuest, Log } from '../ports.ts';
import type { KeeperDoor } from './ports.ts';

export interface LeaveWorld {
  readonly engine: Pick<Engine, 'view' | 'shutdown' | 'destroy'>;
  readonly keeper: Pick<KeeperDoor, 'leave'>;
  readonly clock: Clock;
  readonly log: Log;
  /** Ends the loop and waits for steps under way: nobody starts what is stopped here. */
  stopLoop(): Promise<void>;
  /** Told when the guests are stopped, so that the next life of the agent knows why. */
  noteLeave(): Promise<void>;
  /** Seconds between polite and forced stop of a guest; undefined: not known. */
  graceSeconds(id: Uuid): number | undefined;
}

export interface LeaveOrder {
  readonly reason: string;
  /** Milliseconds for all guests together; then they are ended. */
  readonly withinMs: number;
  /** Told on the way, in sentences. */
  readonly say: (text: string) => void;
}

export interface Left {
  readonly polite: number;
  /** Ended by force, after their grace. */
  readonly forced: number;
  /** The voters know it: the site need not wait for the lease to run out. */
  readonly announced: boolean;
}

const lookMs = 500;
/** A guest that slept through the first word gets another. */
const repeatMs = 10_000;
const defaultGraceSeconds = 60;

/** Never rejects: a host that goes down goes down. */
export async function leaveHost(world: LeaveWorld, order: LeaveOrder): Promise<Left> {
  world.log.info('leaving', { reason: order.reason });
  await world.stopLoop();
  const stopped = await stopGuests(world, order);
  await world
    .noteLeave()
    .catch((error: unknown) => world.log.warn('the leave could not be noted', { detail: String(error) }));
  try {
    if (!world.keeper.leave)
      throw new VirgaError('keeper', { host: 'this host', detail: 'it cannot announce a leave' });
    await world.keeper.leave(order.reason);
    order.say('The session has ended, and a majority of the voters knows it.');
    return { ...stopped, announced: true };
  } catch (error) {
    const detail = error instanceof VirgaError ? error.message : String(error);
    world.log.warn('leaving could not be announced', { detail });
    order.say(`It could not be announced (${detail}): the site notices when the lease has run out.`);
    return { ...stopped, announced: false };
  }
}

async function stopGuests(world: LeaveWorld, order: LeaveOrder): Promise<{ polite: number; forced: number }> {
  const { clock } = world;
  const began = clock.monotonic();
  const asked = new Map<Uuid, number>();
  const forced = new Set<Uuid>();
  const busy = new Set<Promise<void>>();
  for (;;) {
    const guests = await running(world);
    const passed = clock.monotonic() - began;
    // The engine hangs, or a guest is frozen: the keeper ends what is in its groups.
    if (guests?.length === 0 || passed > order.withinMs + repeatMs) break;
    for (const guest of guests ?? []) {
      const work = one(guest, passed);
      if (!work) continue;
      const kept: Promise<void> = work.finally(() => busy.delete(kept));
      busy.add(kept);
    }
    await clock.sleep(lookMs);
  }
  if (busy.size > 0) {
    const limit = new AbortController();
    await Promise.race([Promise.all(busy), clock.sleep(repeatMs, limit.signal).catch(() => undefined)]);
    limit.abort();
  }
  return { polite: [...asked.keys()].filter((id) => !forced.has(id)).length, forced: forced.size };

  /** What is due for one guest now, if anything. */
  function one(guest: EngineGuest, passed: number): Promise<void> | undefined {
    const graceMs = Math.min((world.graceSeconds(guest.id) ?? defaultGraceSeconds) * 1000, order.withinMs);
    const { id, name, state } = guest;
    if (forced.has(id)) return undefined;
    if (passed >= graceMs || state === 'paused') {
      forced.add(id);
      order.say(`${name} is ended${state === 'paused' ? ': it is paused and hears nothing' : ''}.`);
      return attempt(world.engine.destroy(id), name);
    }
    const last = asked.get(id);
    if (last !== undefined && passed - last < repeatMs) return undefined;
    if (last === undefined) order.say(`${name} is asked to stop; it has ${Math.round(graceMs / 1000)} s.`);
    asked.set(id, passed);
    return attempt(world.engine.shutdown(id), name);
  }

  async function attempt(work: Promise<void>, guest: string): Promise<void> {
    await work.catch((error: unknown) => world.log.warn('a guest resists', { guest, detail: String(error) }));
  }
}

/** Undefined: the engine does not answer. */
async function running({ engine, log }: LeaveWorld): Promise<readonly EngineGuest[] | undefined> {
  try {
    const { guests } = await engine.view();
    return guests.filter(({ state }) => state === 'running' || state === 'paused' || state === 'io-error');
  } catch (error) {
    log.warn('the engine does not answer', { detail: String(error) });
    return undefined;
  }
}
