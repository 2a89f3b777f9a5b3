import type { Host } from '../model/host.ts';
import type { Uuid } from '../model/resource.ts';
import type { Snapshot } from '../model/snapshot.ts';
import { byName, count } from '../util.ts';
import type { Slot } from './capacity.ts';
import { slotsOf } from './capacity.ts';
import type { Shape } from './fit.ts';
import { misfit } from './fit.ts';
import { Heap } from './heap.ts';
import type { Candidate } from './score.ts';
import { better, candidate, loadAfter } from './score.ts';

/** More shapes than these at once are ordered anew when they come again. */
const shapesKept = 64;
/** Up to this many hosts each has its own sentence; beyond, hosts with the same reason share one. */
const hostsNamed = 16;

export interface Place {
  readonly host: Host;
  readonly reasons: readonly string[];
}

/** Why no host fits. */
export interface Refusal {
  readonly hosts: number;
  /** `12 hosts: not enough memory (3), cordoned (2)` */
  readonly summary: string;
  /** One sentence per host, or per reason where there are many hosts. */
  readonly sentences: readonly string[];
}

interface Group {
  readonly heap: Heap<Candidate>;
  /** Reason → number of hosts, of those that do not fit. */
  readonly misfits: Map<string, number>;
  /** As it was after so many placements of the round. */
  refusal?: { readonly after: number; readonly is: Refusal };
}

/**
 * One round of placements on one snapshot: filter with reasons, then least loaded. Every placement is counted at once,
 * so the next one sees it. Promises only rise in a round, hence scores only get worse: a host whose score is old is
 * scored again when it comes to the top, and one that is full leaves for good. A guest costs O(log hosts), a new shape
 * O(hosts).
 */
export class Placer {
  readonly #slots: readonly Slot[];
  readonly #byId: ReadonlyMap<Uuid, Slot>;
  readonly #groups = new Map<string, Group>();
  /** Guests that some host still removes: only for these the shape is the guest's own. */
  readonly #leaving = new Set<Uuid>();
  #placements = 0;

  /**
   * `but`: a guest whose own promise is not counted, because it is placed anew. `starting`: host → guests on their way
   * there, for shapes with a bound on them.
   */
  constructor(
    snapshot: Snapshot,
    but?: Uuid,
    hosts: Iterable<Host> = snapshot.all('host'),
    starting?: ReadonlyMap<Uuid, number>,
  ) {
    this.#slots = slotsOf(snapshot, [...hosts].toSorted(byName), but, starting);
    this.#byId = new Map(this.#slots.map((slot) => [slot.host.id, slot] as const));
    for (const { host } of this.#slots) for (const each of host.status.leaving ?? []) this.#leaving.add(each.id);
  }

  get slots(): readonly Slot[] {
    return this.#slots;
  }

  /** Undefined: no host fits; `refusal` says why. */
  place(shape: Shape): Place | undefined {
    const wanted = this.#preferred(shape);
    if (wanted) return this.#take(wanted, shape, [`${wanted.host.name} is preferred: ${figures(wanted, shape)}`]);
    const group = this.#group(shape);
    const best = this.#best(group, shape);
    return best && this.#take(best.slot, shape, whyHere(best.slot, shape, group));
  }

  #preferred(shape: Shape): Slot | undefined {
    for (const id of shape.preferred ?? []) {
      const slot = this.#byId.get(id);
      if (slot && !misfit(slot, shape)) return slot;
    }
    return undefined;
  }

  #take(slot: Slot, shape: Shape, reasons: readonly string[]): Place {
    slot.cpus += shape.cpus;
    slot.memoryMiB += shape.memoryMiB;
    slot.diskMiB += shape.diskMiB;
    slot.starting += 1;
    slot.version += 1;
    this.#placements += 1;
    return { host: slot.host, reasons };
  }

  /** Why the shape does not fit, host by host, as things are now in this round. */
  refusal(shape: Shape): Refusal {
    const group = this.#group(shape);
    if (group.refusal?.after !== this.#placements)
      group.refusal = { after: this.#placements, is: this.#refusal(shape) };
    return group.refusal.is;
  }

  #refusal(shape: Shape): Refusal {
    const hosts = this.#slots.flatMap((slot) => {
      const reason = misfit(slot, shape);
      return reason ? [{ name: slot.host.name, ...reason }] : [];
    });
    const byReason = Map.groupBy(hosts, (each) => each.why);
    const summary = `${count(hosts.length, 'host')}: ${listed(new Map([...byReason].map(([why, all]) => [why, all.length])))}`;
    const sentences =
      hosts.length <= hostsNamed
        ? hosts.map((each) => `${each.name}: ${each.sentence}`)
        : [...byReason].map(([why, all]) => `${count(all.length, 'host')} (${all[0]?.name ?? ''} …): ${why}`);
    return { hosts: hosts.length, summary, sentences };
  }

  #best(group: Group, shape: Shape): Candidate | undefined {
    for (;;) {
      const top = group.heap.top();
      if (!top || top.version === top.slot.version) return top;
      const reason = misfit(top.slot, shape);
      if (!reason) {
        group.heap.replaceTop(candidate(top.slot, shape));
        continue;
      }
      group.heap.removeTop();
      group.misfits.set(reason.why, (group.misfits.get(reason.why) ?? 0) + 1);
    }
  }

  #group(shape: Shape): Group {
    const own = shape.guestId !== undefined && this.#leaving.has(shape.guestId) ? shape.guestId : undefined;
    const key = keyOf(shape, own);
    const known = this.#groups.get(key);
    if (known) return known;
    const misfits = new Map<string, number>();
    const fitting: Candidate[] = [];
    for (const slot of this.#slots) {
      const reason = misfit(slot, shape);
      if (reason) misfits.set(reason.why, (misfits.get(reason.why) ?? 0) + 1);
      else fitting.push(candidate(slot, shape));
    }
    const group: Group = { heap: new Heap(fitting, better), misfits };
    const oldest = this.#groups.keys().next();
    if (this.#groups.size >= shapesKept && oldest.done !== true) this.#groups.delete(oldest.value);
    this.#groups.set(key, group);
    return group;
  }
}

function whyHere(slot: Slot, shape: Shape, group: Group): readonly string[] {
  const first =
    shape.hostId === undefined
      ? `${slot.host.name} is the least loaded of ${count(group.heap.size, 'host')} that fit: ${figures(slot, shape)}`
      : `pinned to ${slot.host.name}: ${figures(slot, shape)}`;
  if (shape.hostId !== undefined || group.misfits.size === 0) return [first];
  return [first, `the others do not fit: ${listed(group.misfits)}`];
}

function figures(slot: Slot, shape: Shape): string {
  const { cpu, memory } = loadAfter(slot, shape);
  return `with it ${percent(memory)} of memory and ${percent(cpu)} of CPUs are promised`;
}

function percent(fraction: number): string {
  return `${Math.round(fraction * 100)} %`;
}

function listed(reasons: ReadonlyMap<string, number>): string {
  return [...reasons].map(([why, hosts]) => `${why} (${hosts})`).join(', ');
}

function keyOf(shape: Shape, guestId: Uuid | undefined): string {
  const { arch, type, firmware, cpuModel } = shape.machine;
  const networks = shape.networks.map((each) => each.network.id).toSorted();
  return JSON.stringify([
    shape.cpus,
    shape.memoryMiB,
    shape.diskMiB,
    arch,
    type,
    firmware,
    cpuModel,
    shape.hostId,
    shape.notOn,
    shape.ha === true,
    shape.startsAtOnce,
    guestId,
    networks,
  ]);
}
