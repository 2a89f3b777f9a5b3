/** How long recovery takes in virtual time: decisions and waiting alone, since starting a simulated guest costs nothing. */
import { shapes, type ShapeName } from './history.ts';
import { converged, templateOf } from './run.ts';
import { World } from './world.ts';

/** Longest wait for one guest, milliseconds. */
const limitMs = 60_000;

/**
 * Cuts the power of a host (of the one that carries the leading controller where none is named) at a moment that the seed chooses, and gives the milliseconds until all its highly available
 * guests execute elsewhere; Infinity: not within a minute.
 */
export async function cutToStart(seed: number, shape: ShapeName, named?: string): Promise<number> {
  const world = new World({ ...shapes[shape], seed, drift: 0.005, template: await templateOf(shape) });
  await world.resume();
  await world.passUntil(() => converged(world), limitMs);
  // Any moment between two beats, polls and looks.
  await world.time.runUntil(world.time.now + 2000 + world.random.next() * 2000);
  const leader = world.leader();
  if (!leader) throw new Error(`the site ${shape} has no leader (seed ${seed})`);
  const host = named ?? leader.machine.name;
  const lost = [...leader.state.snapshot.all('guest')]
    .filter(({ id, spec }) => spec.diskMode === 'fresh' && world.laws.executing(id).includes(host))
    .map(({ id }) => id);
  if (lost.length === 0) return 0;
  const cutAt = world.time.now;
  world.powerCut(host);
  const back = (): boolean => lost.every((id) => world.laws.executing(id).length === 1);
  while (!back() && world.time.now < cutAt + limitMs) await world.time.runUntil(world.time.now + 10);
  return back() ? world.time.now - cutAt : Number.POSITIVE_INFINITY;
}
