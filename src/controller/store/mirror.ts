/**
 * The site in memory: what the store holds, as of the last commit that was applied.
 *
 * It is a live view, not a copy: a decision runs synchronously (it never awaits), so nothing can change under it. Whoever
 * awaits in between must look again. Objects themselves are never changed in place, so an object once read stays as it
 * was.
 */
import type { Guest } from '../../core/model/guest.ts';
import type { Kind, Uuid } from '../../core/model/resource.ts';
import { kinds } from '../../core/model/resource.ts';
import type { AnyResource, Change, KindMap, SiteFacts, Snapshot } from '../../core/model/snapshot.ts';
import type { LoadedState, Tombstone } from '../../ports.ts';

/** One step of a watch: the object as it is now, or the word that it is gone. */
export type MirrorChange =
  | { readonly type: 'put'; readonly revision: number; readonly resource: AnyResource }
  | { readonly type: 'gone'; readonly revision: number; readonly tombstone: Tombstone };

export interface MirrorOptions {
  /** Tombstones kept for watches that resume; the oldest go first. 100,000 by default. */
  readonly maxTombstones?: number;
}

/** A place in the log of changes; stale when its object has moved on since. */
interface LogEntry {
  readonly revision: number;
  readonly kind: Kind;
  readonly id: Uuid;
}

/** Stale entries that the log may hold beyond the living ones before it is compacted. */
const compactionSlack = 4096;

export class Mirror implements Snapshot {
  #revision: number;
  #site: SiteFacts;
  #oldestTombstone: number;
  readonly #maxTombstones: number;
  readonly #byId: Record<Kind, Map<Uuid, AnyResource>>;
  readonly #byName: Record<Kind, Map<string, AnyResource>>;
  readonly #guestsOn = new Map<Uuid, Map<Uuid, Guest>>();
  /** In order of revision (insertion order of the map). */
  readonly #tombstones = new Map<string, Tombstone>();
  /** In order of revision; every living object and tombstone has exactly one entry that is not stale. */
  #log: LogEntry[];

  constructor(state: LoadedState, options: MirrorOptions = {}) {
    this.#revision = state.revision;
    this.#site = state.site;
    this.#oldestTombstone = state.oldestTombstone;
    this.#maxTombstones = options.maxTombstones ?? 100_000;
    this.#byId = eachKind(() => new Map<Uuid, AnyResource>());
    this.#byName = eachKind(() => new Map<string, AnyResource>());
    this.#log = [];
    for (const resource of state.resources) this.#insert(resource);
    for (const tombstone of [...state.tombstones].sort((a, b) => a.revision - b.revision)) this.#bury(tombstone);
    this.#log.sort((a, b) => a.revision - b.revision);
  }

  get revision(): number {
    return this.#revision;
  }

  get site(): SiteFacts {
    return this.#site;
  }

  /** A watch from before this revision cannot resume; see `since`. */
  /** Ids of removed objects of a kind, as far as they are remembered. */
  removed(kind: Kind): ReadonlySet<Uuid> {
    const ids = [...this.#tombstones.values()].filter((each) => each.kind === kind).map(({ id }) => id);
    return new Set(ids);
  }

  get oldestTombstone(): number {
    return this.#oldestTombstone;
  }

  get<K extends Kind>(kind: K, id: Uuid): KindMap[K] | undefined {
    return this.#byId[kind].get(id) as KindMap[K] | undefined;
  }

  byName<K extends Kind>(kind: K, name: string): KindMap[K] | undefined {
    return this.#byName[kind].get(name) as KindMap[K] | undefined;
  }

  all<K extends Kind>(kind: K): Iterable<KindMap[K]> {
    return this.#byId[kind].values() as Iterable<KindMap[K]>;
  }

  count(kind: Kind): number {
    return this.#byId[kind].size;
  }

  guestsOn(hostId: Uuid): Iterable<Guest> {
    return this.#guestsOn.get(hostId)?.values() ?? [];
  }

  /**
   * Takes over what the store has just committed.
   * @param revision the commit's, from the store's answer; must be higher than the mirror's.
   */
  apply(change: Pick<Change, 'put' | 'remove' | 'site'>, revision: number): void {
    if (revision <= this.#revision)
      throw new RangeError(`commit ${revision} came after ${this.#revision}: commits must be applied in their order`);
    for (const { kind, id } of change.remove) {
      const old = this.#byId[kind].get(id);
      if (!old) continue;
      this.#erase(old);
      this.#bury({ kind, id, name: old.name, revision });
    }
    // All old entries go before the new ones come: objects may swap names within one commit.
    for (const { kind, id } of change.put) {
      const old = this.#byId[kind].get(id);
      if (old) this.#unindex(old);
    }
    for (const resource of change.put) {
      this.#tombstones.delete(keyOf(resource.kind, resource.id));
      this.#insert({ ...resource, revision });
    }
    // The epoch is the store's alone; see `Store.commit`.
    if (change.site) this.#site = withFacts(this.#site, change.site);
    this.#revision = revision;
    this.#boundTombstones();
    if (this.#log.length > 2 * this.#living() + compactionSlack) this.#compact();
  }

  /**
   * What changed after `revision`, in order of revision, each object once and as it is now; `undefined` when that is too
   * long ago (the tombstones from then are gone), or was never: then the watcher must list again.
   */
  since(revision: number): readonly MirrorChange[] | undefined {
    if (revision < this.#oldestTombstone || revision > this.#revision) return undefined;
    const changes: MirrorChange[] = [];
    for (let index = this.#firstAfter(revision); index < this.#log.length; index += 1) {
      const change = this.#current(this.#log[index] as LogEntry);
      if (change) changes.push(change);
    }
    return changes;
  }

  #current(entry: LogEntry): MirrorChange | undefined {
    const resource = this.#byId[entry.kind].get(entry.id);
    if (resource) {
      return resource.revision === entry.revision ? { type: 'put', revision: entry.revision, resource } : undefined;
    }
    const tombstone = this.#tombstones.get(keyOf(entry.kind, entry.id));
    return tombstone?.revision === entry.revision ? { type: 'gone', revision: entry.revision, tombstone } : undefined;
  }

  /** Index of the first log entry with a higher revision (binary search). */
  #firstAfter(revision: number): number {
    let low = 0;
    let high = this.#log.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#log[middle] as LogEntry).revision <= revision) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #insert(resource: AnyResource): void {
    this.#byId[resource.kind].set(resource.id, resource);
    this.#byName[resource.kind].set(resource.name, resource);
    this.#log.push({ revision: resource.revision, kind: resource.kind, id: resource.id });
    if (resource.kind !== 'guest' || !resource.status.placement) return;
    const { hostId } = resource.status.placement;
    const there = this.#guestsOn.get(hostId);
    if (there) there.set(resource.id, resource);
    else this.#guestsOn.set(hostId, new Map([[resource.id, resource]]));
  }

  /** Out of the secondary indexes; it stays under its id, where its successor replaces it. */
  #unindex(old: AnyResource): void {
    this.#byName[old.kind].delete(old.name);
    if (old.kind !== 'guest' || !old.status.placement) return;
    const { hostId } = old.status.placement;
    const there = this.#guestsOn.get(hostId);
    there?.delete(old.id);
    if (there?.size === 0) this.#guestsOn.delete(hostId);
  }

  #erase(old: AnyResource): void {
    this.#unindex(old);
    this.#byId[old.kind].delete(old.id);
  }

  #bury(tombstone: Tombstone): void {
    this.#tombstones.set(keyOf(tombstone.kind, tombstone.id), tombstone);
    this.#log.push({ revision: tombstone.revision, kind: tombstone.kind, id: tombstone.id });
  }

  #boundTombstones(): void {
    for (const [key, { revision }] of this.#tombstones) {
      if (this.#tombstones.size <= this.#maxTombstones) return;
      this.#tombstones.delete(key);
      this.#oldestTombstone = revision;
    }
  }

  #living(): number {
    return kinds.reduce((sum, kind) => sum + this.#byId[kind].size, this.#tombstones.size);
  }

  #compact(): void {
    this.#log = this.#log.filter((entry) => this.#current(entry) !== undefined);
  }
}

/** What a commit may change of the site: everything but its identity and epoch, which belong to the store. */
export function withFacts(site: SiteFacts, next: SiteFacts): SiteFacts {
  return { ...next, id: site.id, epoch: site.epoch };
}

function keyOf(kind: Kind, id: Uuid): string {
  return `${kind}/${id}`;
}

function eachKind<T>(make: () => T): Record<Kind, T> {
  return Object.fromEntries(kinds.map((kind) => [kind, make()])) as Record<Kind, T>;
}
