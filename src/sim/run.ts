/** Runs one history and judges it: the laws at every instant, and convergence once the faults have ended. */
import { allRules, type Rules } from '../core/ha/rules.ts';
import { carryOut } from './commands.ts';
import { unsettled } from './converged.ts';
import { guests, machinesOf, shapes, type History, type ShapeName } from './history.ts';
import type { Violation } from './laws.ts';
import { takeTemplate, World, type Template } from './world.ts';

export interface Verdict {
  readonly violations: readonly Violation[];
  /** Simulated milliseconds. */
  readonly ms: number;
  /** Timers that ran: how much happened. */
  readonly events: number;
  readonly world: World;
}

/** How long a site may take to converge after the last fault, milliseconds. */
const peaceMs = 180_000;

const templates = new Map<ShapeName, Promise<Template>>();

/** A site of that shape with its guests running, as its disks are when it is switched off. Made once a process. */
export async function templateOf(shape: ShapeName): Promise<Template> {
  const made = templates.get(shape) ?? makeTemplate(shape);
  templates.set(shape, made);
  return made;
}

async function makeTemplate(shape: ShapeName): Promise<Template> {
  const world = new World({ ...shapes[shape], seed: 7 });
  await world.begin();
  carryOut(world, 'run web --count 3 --fresh --restart always');
  carryOut(world, 'run disk --restart always');
  const whole = (): boolean => world.snapshot().count('guest') === guests.length && converged(world);
  await world.passUntil(whole, 60_000);
  const missing = unsettled(world);
  if (!whole()) throw new Error(`the site ${shape} does not come up: ${missing.join('; ')}`);
  return takeTemplate(world);
}

export const converged = (world: World): boolean => unsettled(world).length === 0;

/** All faults end. */
function peace(world: World): void {
  world.note('the faults end');
  world.quiet = true;
  for (const line of ['mend-all', 'fair-weather', 'database-up']) carryOut(world, line);
  for (const place of world.places.values())
    for (const process of ['keeper', 'guard', 'agent'] as const) {
      const life = place[process]?.life;
      if (!life) continue;
      life.stalls = undefined;
      if (life.stalled) life.resume();
    }
  for (const { life } of world.controllers.values()) {
    life.stalls = undefined;
    if (life.stalled) life.resume();
  }
  for (const name of machinesOf(world.options)) {
    for (const word of ['disk-free', 'disk-answers', 'libvirtd-up', 'power-on']) carryOut(world, `${word} ${name}`);
    for (const process of ['guard', 'keeper', 'agent'] as const) world.start(process, name);
  }
  carryOut(world, 'start-controller');
  world.surroundings.stalls = undefined;
  world.quiet = false;
}

/** What a history of its kind must never show besides the laws. */
function kindOf(history: History, world: World, since: number): void {
  const { kind } = history;
  if (kind !== 'dark' && kind !== 'away' && kind !== 'slow') return;
  for (const { at, what, copy } of world.laws.happenings) {
    if (at < since) continue;
    if (what === 'ended') world.laws.violated(2, `${copy.guestId} ended on ${copy.machine} at ${Math.round(at)} ms`);
    if (what === 'froze' && kind !== 'dark')
      world.laws.violated(2, `${copy.guestId} was frozen on ${copy.machine} at ${Math.round(at)} ms`);
  }
}

export async function runHistory(history: History, rules: Rules = allRules): Promise<Verdict> {
  const template = await templateOf(history.shape);
  const world = new World({
    ...shapes[history.shape],
    seed: history.seed,
    drift: history.drift,
    slowMs: history.slowMs,
    rules,
    template,
    ...(history.stalls ? { stalls: history.stalls } : {}),
  });
  const broken = (): boolean => world.laws.violations.length > 0;
  await world.resume();
  await world.passUntil(() => converged(world) || broken(), 60_000);
  if (!broken() && !converged(world))
    world.laws.violated(0, `it does not come up after power-on: ${unsettled(world).join('; ')}`);
  const since = world.time.now;
  carryOut(world, history.weather);
  for (const { afterMs, what } of history.steps) {
    await world.time.runUntil(world.time.now + afterMs, broken);
    if (broken()) break;
    carryOut(world, what);
  }
  if (!broken()) {
    await world.time.runUntil(world.time.now + 500, broken);
    peace(world);
    await world.passUntil(() => converged(world) || broken(), peaceMs);
    // It stays so: nothing that was under way undoes it.
    await world.time.runUntil(world.time.now + 1500, broken);
    if (!broken() && !converged(world)) {
      await world.passUntil(() => converged(world) || broken(), peaceMs);
      if (!converged(world)) world.laws.violated(0, `it does not converge: ${unsettled(world).join('; ')}`);
    }
    await acknowledged(world);
    kindOf(history, world, since);
  }
  return { violations: world.laws.violations, ms: world.time.now, events: world.time.ran, world };
}

/** Law 3: what was acknowledged is there, unless the database lost its last rows. */
async function acknowledged(world: World): Promise<void> {
  const leader = world.leader();
  if (!leader || world.database.failedOver) return;
  const known = new Set([...leader.state.snapshot.all('guest')].map(({ id }) => id));
  for (const [id, name] of world.acknowledged)
    if (!known.has(id) && !world.deletable(id))
      world.laws.violated(3, `the guest ${name} (${id}) was acknowledged and is lost`);
  for (const id of world.deleted)
    if (world.copies(id).length > 0 || known.has(id)) world.laws.violated(3, `${id} was deleted and is still there`);
}
