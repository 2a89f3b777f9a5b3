import { VirgaError } from '../errors.ts';
import { reorder } from '../guest-orders.ts';
import type { Guest, GuestSpec } from '../model/guest.ts';
import type { RequestContext, Snapshot } from '../model/snapshot.ts';
import { guestState } from '../model/states.ts';
import { promisable, promised } from '../place/capacity.ts';
import { actOn, hostOf, write } from './actions.ts';
import { checkWhole, invalid, limits } from './check.ts';
import type { ResizeInput } from './inputs.ts';
import type { RequestResult } from './result.ts';
import { nothing } from './result.ts';

type Sizes = Pick<GuestSpec, 'cpus' | 'maxCpus' | 'memoryMiB' | 'maxMemoryMiB' | 'diskMiB'>;

/**
 * Other sizes. While the guest runs it changes within its upper bounds, and the bounds stay; while it is down a size
 * above its bound takes the bound along. Disks only grow. What grows must fit on the guest's host (`no_placement`).
 */
export function resizeGuest(
  snapshot: Snapshot,
  ref: string,
  input: ResizeInput,
  context: RequestContext,
): RequestResult {
  const guest = actOn(snapshot, ref, 'resize', context);
  const running = guestState(guest, hostOf(snapshot, guest)).state === 'running';
  const sizes = running ? sizesRunning(guest, input) : sizesDown(guest.spec, input);
  checkSizes(guest.spec, sizes);
  const names = Object.keys(sizes) as (keyof Sizes)[];
  const changed = names.filter((name) => sizes[name] !== guest.spec[name]);
  if (changed.length === 0) return nothing();
  if (guest.spec.adopted && changed.includes('diskMiB'))
    throw invalid(`${guest.name} was adopted: its disks are its own`);
  checkRoom(snapshot, guest, sizes);
  return write(snapshot, reorder(guest, { ...guest.spec, ...sizes }, snapshot.site.epoch), context, {
    type: 'guest.resize',
    message: `${guest.name}: ${changed.map((name) => `${name} ${guest.spec[name]} → ${sizes[name]}`).join(', ')}`,
  });
}

function sizesRunning(guest: Guest, input: ResizeInput): Sizes {
  const { spec } = guest;
  const other = (wish: number | undefined, now: number): boolean => wish !== undefined && wish !== now;
  if (other(input.maxCpus, spec.maxCpus) || other(input.maxMemoryMiB, spec.maxMemoryMiB))
    throw new VirgaError('not_allowed', {
      name: guest.name,
      state: 'running',
      action: 'given other upper bounds',
      why: 'they are fixed when it starts; stop it first',
    });
  return {
    cpus: input.cpus ?? spec.cpus,
    maxCpus: spec.maxCpus,
    memoryMiB: input.memoryMiB ?? spec.memoryMiB,
    maxMemoryMiB: spec.maxMemoryMiB,
    diskMiB: input.diskMiB ?? spec.diskMiB,
  };
}

function sizesDown(spec: GuestSpec, input: ResizeInput): Sizes {
  const cpus = input.cpus ?? spec.cpus;
  const memoryMiB = input.memoryMiB ?? spec.memoryMiB;
  return {
    cpus,
    maxCpus: input.maxCpus ?? Math.max(spec.maxCpus, cpus),
    memoryMiB,
    maxMemoryMiB: input.maxMemoryMiB ?? Math.max(spec.maxMemoryMiB, memoryMiB),
    diskMiB: input.diskMiB ?? spec.diskMiB,
  };
}

function checkSizes(old: Sizes, next: Sizes): void {
  checkWhole('the upper bound of CPUs', next.maxCpus, 1, limits.cpus);
  checkWhole('the upper bound of memory in MiB', next.maxMemoryMiB, limits.smallestMemoryMiB, limits.memoryMiB);
  checkWhole('the number of CPUs', next.cpus, 1, next.maxCpus);
  checkWhole('the memory in MiB', next.memoryMiB, limits.smallestMemoryMiB, next.maxMemoryMiB);
  // An adopted guest has disks of its own, of which Virga counts nothing.
  if (next.diskMiB !== old.diskMiB) checkWhole('the disk in MiB', next.diskMiB, old.diskMiB, limits.diskMiB);
}

/** Only what grows needs room: a host that is too full already must not stand in the way of a guest that shrinks. */
function checkRoom(snapshot: Snapshot, guest: Guest, next: Sizes): void {
  const host = hostOf(snapshot, guest);
  const total = host && promisable(host);
  if (!host || !total) return;
  const others = promised(snapshot, host, guest.id);
  const lacking = (['memoryMiB', 'cpus', 'diskMiB'] as const).find(
    (name) => next[name] > guest.spec[name] && others[name] + next[name] > total[name],
  );
  if (lacking === undefined) return;
  throw new VirgaError('no_placement', {
    what: `the guest "${guest.name}" with its new size`,
    reasons: `it stays on ${host.name}, which has ${Math.max(0, total[lacking] - others[lacking])} ${lacking} for it, ${next[lacking]} needed`,
  });
}
