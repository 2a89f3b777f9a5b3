/**
 * The store in memory, with the same answers as the one in PostgreSQL: for the simulator and for tests. It outlives the
 * controllers that use it, as a database does. Documents pass through JSON, so nothing is shared with the caller.
 */
import { VirgaError } from '../../core/errors.ts';
import { compareEpochs } from '../../core/ha/epoch.ts';
import { noEpoch, type Epoch } from '../../core/ha/types.ts';
import type { Instant, Kind, Uuid } from '../../core/model/resource.ts';
import type { AnyResource, SiteEvent, SiteFacts } from '../../core/model/snapshot.ts';
import type {
  Commit,
  CommitResult,
  EventQuery,
  IdempotencyRecord,
  LeadResult,
  LoadedState,
  Store,
  Tombstone,
} from '../../ports.ts';
import { withFacts } from './mirror.ts';
import type { Pruned } from './prune.ts';
import {
  addressTakenWithin,
  checkShape,
  defaultRetention,
  documentOf,
  heldAddresses,
  idempotencyLifeMs,
  maxEvents,
  nameTakenWithin,
  type Now,
  plainEvent,
  type Retention,
} from './shape.ts';

/** Where a fault strikes: `before`: nothing was written · `after`: it was written, but nobody is told. */
export type StoreFault = 'before' | 'after';

export interface MemoryStoreOptions {
  readonly newSite: { readonly id: Uuid; readonly name: string };
  readonly now: Now;
  readonly retention?: Partial<Retention>;
  /** Asked at every call; a fault makes it reject with VirgaError store_unavailable. */
  readonly fault?: (call: 'lead' | 'commit' | 'read', commit?: Commit) => StoreFault | undefined;
}

interface Kept {
  readonly kind: Kind;
  readonly id: Uuid;
  readonly name: string;
  readonly revision: number;
  readonly text: string;
  /** `network/address` of every card. */
  readonly addresses: readonly string[];
}

interface KeptRecord {
  readonly record: IdempotencyRecord;
  readonly expiresAt: Instant;
}

export class MemoryStore implements Store {
  readonly #options: MemoryStoreOptions;
  readonly #retention: Retention;
  readonly #kept = new Map<string, Kept>();
  readonly #idByName = new Map<string, Uuid>();
  readonly #guestByAddress = new Map<string, Uuid>();
  readonly #tombstones = new Map<string, Tombstone & { readonly goneAt: Instant }>();
  readonly #records = new Map<string, KeptRecord>();
  #events: SiteEvent[] = [];
  #eventSeq = 0;
  #revision = 0;
  #oldestTombstone = 0;
  #site: SiteFacts;
  #epoch: Epoch = noEpoch;

  constructor(options: MemoryStoreOptions) {
    this.#options = options;
    this.#retention = { ...defaultRetention, ...options.retention };
    this.#site = { ...options.newSite, epoch: 0 };
  }

  async lead(claim: Epoch): Promise<LeadResult> {
    return this.#faulty('lead', undefined, () => {
      if (compareEpochs(claim, this.#epoch) < 0) return { ok: false, why: 'epoch', epoch: this.#epoch };
      this.#epoch = { number: claim.number, id: claim.id };
      this.#site = { ...this.#site, epoch: claim.number };
      return { ok: true, state: this.#state() };
    });
  }

  async epoch(): Promise<Epoch> {
    return this.#faulty('read', undefined, () => this.#epoch);
  }

  async voters(): Promise<SiteFacts['voters']> {
    return this.#faulty('read', undefined, () => this.#site.voters);
  }

  #state(): LoadedState {
    return {
      revision: this.#revision,
      site: this.#site,
      resources: [...this.#kept.values()].sort(byKindAndId).map(({ text }) => JSON.parse(text) as AnyResource),
      tombstones: [...this.#tombstones.values()]
        .sort((a, b) => a.revision - b.revision || byKindAndId(a, b))
        .map(({ kind, id, name, revision }) => ({ kind, id, name, revision })),
      oldestTombstone: this.#oldestTombstone,
    };
  }

  async commit(commit: Commit): Promise<CommitResult> {
    checkShape(commit);
    heldAddresses(commit.put);
    return this.#faulty('commit', commit, () => this.#refusal(commit) ?? this.#write(commit));
  }

  async idempotent(who: string, key: string): Promise<IdempotencyRecord | undefined> {
    return this.#faulty('read', undefined, () => this.#record(who, key));
  }

  async events(query: EventQuery): Promise<readonly SiteEvent[]> {
    return this.#faulty('read', undefined, () => {
      const limit = Math.max(0, Math.min(maxEvents, Math.floor(query.limit)));
      const found = this.#events.filter(
        (event) =>
          event.seq > (query.afterSeq ?? 0) &&
          (query.subjectId === undefined || event.subject.id === query.subjectId) &&
          (query.type === undefined || event.type === query.type),
      );
      if (query.afterSeq !== undefined) return found.slice(0, limit);
      return limit === 0 ? [] : found.slice(-limit);
    });
  }

  async ping(): Promise<void> {
    this.#faulty('read', undefined, () => undefined);
  }

  /** Forgets what is too old; see `PgStore.prune`. */
  async prune(): Promise<Pruned> {
    const now = this.#options.now();
    const { eventLifeMs, tombstoneLifeMs, maxTombstones } = this.#retention;
    const before = { events: this.#events.length, tombstones: this.#tombstones.size, keys: this.#records.size };
    const oldestSeq = this.#eventSeq - this.#retention.maxEvents;
    this.#events = this.#events.filter(({ seq, eventAt }) => seq > oldestSeq && eventAt >= now - eventLifeMs);
    for (const [key, { expiresAt }] of this.#records) if (expiresAt <= now) this.#records.delete(key);
    const newestFirst = [...this.#tombstones.values()].sort((a, b) => b.revision - a.revision || byKindAndId(a, b));
    const old = newestFirst.find(({ goneAt }, index) => goneAt < now - tombstoneLifeMs || index >= maxTombstones);
    if (old) {
      this.#oldestTombstone = Math.max(this.#oldestTombstone, old.revision);
      for (const [key, { revision }] of this.#tombstones) if (revision <= old.revision) this.#tombstones.delete(key);
    }
    return {
      events: before.events - this.#events.length,
      tombstones: before.tombstones - this.#tombstones.size,
      keys: before.keys - this.#records.size,
      more: false,
    };
  }

  #faulty<T>(call: 'lead' | 'commit' | 'read', commit: Commit | undefined, work: () => T): T {
    const fault = this.#options.fault?.(call, commit);
    if (fault === 'before') throw new VirgaError('store_unavailable', { detail: 'fault before the write' });
    const result = work();
    if (fault === 'after') throw new VirgaError('store_unavailable', { detail: 'fault after the write' });
    return result;
  }

  #record(who: string, key: string): IdempotencyRecord | undefined {
    const kept = this.#records.get(JSON.stringify([who, key]));
    return kept && kept.expiresAt > this.#options.now() ? kept.record : undefined;
  }

  /** In the order in which the database checks. */
  #refusal(commit: Commit): CommitResult | undefined {
    if (compareEpochs(commit.epoch, this.#epoch) !== 0) return { ok: false, why: 'epoch', epoch: this.#epoch };
    const { idempotency } = commit;
    const record = idempotency && this.#record(idempotency.who, idempotency.key);
    if (record) return { ok: false, why: 'idempotency', record };
    for (const { kind, id, revision } of commit.expect) {
      if (this.#kept.get(keyOf({ kind, id }))?.revision !== revision) return { ok: false, why: 'conflict', kind, id };
    }
    return this.#takenName(commit) ?? this.#takenAddress(commit);
  }

  #takenName(commit: Commit): CommitResult | undefined {
    const within = nameTakenWithin(commit.put);
    if (within) return within;
    const replaced = new Set([...commit.put, ...commit.remove].map(keyOf));
    for (const { kind, name } of commit.put) {
      const holder = this.#idByName.get(`${kind}/${name}`);
      if (holder !== undefined && !replaced.has(keyOf({ kind, id: holder })))
        return { ok: false, why: 'name-taken', kind, name };
    }
    return undefined;
  }

  #takenAddress(commit: Commit): CommitResult | undefined {
    const held = heldAddresses(commit.put);
    const within = addressTakenWithin(held);
    if (within) return within;
    const freed = new Set([...commit.put, ...commit.remove].filter(({ kind }) => kind === 'guest').map(({ id }) => id));
    for (const { networkId, canonical, given } of held) {
      const holder = this.#guestByAddress.get(`${networkId}/${canonical}`);
      if (holder !== undefined && !freed.has(holder))
        return { ok: false, why: 'address-taken', networkId, address: given };
    }
    return undefined;
  }

  #write(commit: Commit): CommitResult {
    const now = this.#options.now();
    this.#revision += 1;
    const revision = this.#revision;
    for (const { kind, id } of commit.remove) {
      const old = this.#kept.get(keyOf({ kind, id }));
      if (!old) continue;
      this.#forget(old);
      this.#tombstones.set(keyOf(old), { kind, id, name: old.name, revision, goneAt: now });
    }
    // All old entries first: objects may swap names and addresses within one commit.
    for (const resource of commit.put) {
      const old = this.#kept.get(keyOf(resource));
      if (old) this.#forget(old);
    }
    for (const resource of commit.put) this.#keep(resource, revision);
    const events = commit.events.map((event) => {
      this.#eventSeq += 1;
      return { seq: this.#eventSeq, ...plainEvent(event) };
    });
    for (const event of events) this.#events.push(event);
    if (commit.idempotency) {
      const { who, key } = commit.idempotency;
      const record = structuredClone(commit.idempotency);
      this.#records.set(JSON.stringify([who, key]), { record, expiresAt: now + idempotencyLifeMs });
    }
    if (commit.site) this.#site = withFacts(this.#site, JSON.parse(JSON.stringify(commit.site)) as SiteFacts);
    return { ok: true, revision, events };
  }

  #keep(resource: AnyResource, revision: number): void {
    const { kind, id, name } = resource;
    const addresses = heldAddresses([resource]).map(({ networkId, canonical }) => `${networkId}/${canonical}`);
    this.#kept.set(keyOf(resource), { kind, id, name, revision, text: documentOf(resource, revision), addresses });
    this.#idByName.set(`${kind}/${name}`, id);
    for (const address of addresses) this.#guestByAddress.set(address, id);
    this.#tombstones.delete(keyOf(resource));
  }

  #forget(old: Kept): void {
    this.#kept.delete(keyOf(old));
    this.#idByName.delete(`${old.kind}/${old.name}`);
    for (const address of old.addresses) this.#guestByAddress.delete(address);
  }
}

interface Named {
  readonly kind: Kind;
  readonly id: Uuid;
}

function keyOf({ kind, id }: Named): string {
  return `${kind}/${id}`;
}

function byKindAndId(a: Named, b: Named): number {
  const [left, right] = [keyOf(a), keyOf(b)];
  return left < right ? -1 : Number(left > right);
}
