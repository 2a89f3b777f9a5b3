/** The store in PostgreSQL. */
import { VirgaError } from '../../core/errors.ts';
import { compareEpochs } from '../../core/ha/epoch.ts';
import { noEpoch, type Epoch } from '../../core/ha/types.ts';
import type { Uuid } from '../../core/model/resource.ts';
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
import type { Database, Transaction } from './database.ts';
import { type Migration, migrate, readMigrations } from './migrate.ts';
import { prune, type Pruned } from './prune.ts';
import { epochOf, votersOf, seize } from './lead.ts';
import {
  checkShape,
  defaultRetention,
  heldAddresses,
  idempotencyLifeMs,
  maxEvents,
  type Now,
  type Retention,
} from './shape.ts';
import * as sql from './write.ts';

export interface PgStoreOptions {
  /** Given to a database that has no site yet. */
  readonly newSite: { readonly id: Uuid; readonly name: string };
  /** Of this controller, so that the others can say who leads. */
  readonly controllerId?: Uuid;
  /** Wall clock; Date.now by default. */
  readonly now?: Now;
  readonly retention?: Partial<Retention>;
  /** Those of this version of Virga by default. */
  readonly migrations?: readonly Migration[];
}

/** Rows read at once while loading: bounds what is in memory twice. */
const loadStep = 4000;

/** Ends a transaction without writing: the result is the answer. */
class Refusal extends Error {
  readonly result: CommitResult;
  constructor(result: CommitResult) {
    super('refused');
    this.result = result;
  }
}

export class PgStore implements Store {
  readonly #database: Database;
  readonly #options: PgStoreOptions;
  readonly #now: Now;
  readonly #retention: Retention;

  private constructor(database: Database, options: PgStoreOptions) {
    this.#database = database;
    this.#options = options;
    this.#now = options.now ?? Date.now;
    this.#retention = { ...defaultRetention, ...options.retention };
  }

  /** Brings the schema up to date. Throws VirgaError store_newer, setup, store_unavailable. */
  static async open(database: Database, options: PgStoreOptions): Promise<PgStore> {
    await migrate(database, options.migrations ?? (await readMigrations()));
    return new PgStore(database, options);
  }

  async lead(claim: Epoch): Promise<LeadResult> {
    const { newSite, controllerId } = this.#options;
    return this.#database.transaction(async (transaction) => {
      // Only where there is none: the insertion would wait for whoever is in the middle of changing the row.
      const [there] = await transaction.query('SELECT 1 FROM virga.site');
      if (!there)
        await transaction.query(
          `INSERT INTO virga.site (id, name, epoch, revision, event_seq, oldest_tombstone)
           VALUES ($1, $2, 0, 0, 0, 0) ON CONFLICT (one) DO NOTHING`,
          [newSite.id, newSite.name],
        );
      const seen = await epochOf(transaction);
      if (compareEpochs(claim, seen) < 0) return { ok: false, why: 'epoch', epoch: seen };
      const site = await seize(this.#database, transaction);
      const present = { number: site.epoch, id: site.epoch_id };
      if (compareEpochs(claim, present) < 0) return { ok: false, why: 'epoch', epoch: present };
      await transaction.query('UPDATE virga.site SET epoch = $1, epoch_id = $2, leader_id = $3', [
        claim.number,
        claim.id,
        controllerId ?? null,
      ]);
      // The site's lock is held: what follows is one consistent state, and no earlier commit comes after it.
      return { ok: true, state: await load(transaction) };
    });
  }

  async epoch(): Promise<Epoch> {
    return epochOf(this.#database.quick);
  }

  async voters(): Promise<SiteFacts['voters']> {
    return votersOf(this.#database.quick);
  }

  async commit(commit: Commit): Promise<CommitResult> {
    checkShape(commit);
    const held = heldAddresses(commit.put);
    try {
      return await this.#database.transaction(async (transaction) => {
        const site = await sql.lockSite(transaction);
        if (!site) throw new Refusal({ ok: false, why: 'epoch', epoch: noEpoch });
        const epoch = { number: site.epoch, id: site.epoch_id };
        if (compareEpochs(commit.epoch, epoch) !== 0) throw new Refusal({ ok: false, why: 'epoch', epoch });
        await this.#checkRepeat(transaction, commit);
        refuse(await sql.unmetExpectation(transaction, commit.expect));
        const revision = site.revision + 1;
        const guests = [...commit.put, ...commit.remove].filter(({ kind }) => kind === 'guest').map(({ id }) => id);
        await sql.remove(transaction, commit.remove, revision, this.#now());
        await sql.freeAddresses(transaction, guests);
        refuse(await sql.takenName(transaction, commit.put));
        refuse(await sql.takenAddress(transaction, held));
        await sql.put(transaction, commit.put, revision);
        await sql.takeAddresses(transaction, held);
        const events = await sql.record(transaction, commit.events, site.event_seq);
        if (commit.idempotency) await sql.remember(transaction, commit.idempotency, this.#now() + idempotencyLifeMs);
        await sql.advance(transaction, revision, site.event_seq + events.length, commit.site);
        return { ok: true, revision, events };
      });
    } catch (error) {
      if (error instanceof Refusal) return error.result;
      throw error;
    }
  }

  async #checkRepeat(transaction: Transaction, { idempotency }: Commit): Promise<void> {
    if (!idempotency) return;
    const record = await sql.findRecord(transaction, idempotency.who, idempotency.key, this.#now());
    if (record) throw new Refusal({ ok: false, why: 'idempotency', record });
  }

  async idempotent(who: string, key: string): Promise<IdempotencyRecord | undefined> {
    return sql.findRecord(this.#database, who, key, this.#now());
  }

  async events(query: EventQuery): Promise<readonly SiteEvent[]> {
    const limit = Math.max(0, Math.min(maxEvents, Math.floor(query.limit)));
    const rows = await this.#database.query<EventRow>(
      `SELECT seq, event_at, type, severity, subject_kind, subject_id, subject_name, message, who, reason, cause,
              evidence::text AS evidence
         FROM virga.event
        WHERE seq > $1 AND ($2::text IS NULL OR subject_id = $2) AND ($3::text IS NULL OR type = $3)
        ORDER BY seq ${query.afterSeq === undefined ? 'DESC' : 'ASC'} LIMIT $4`,
      [query.afterSeq ?? 0, query.subjectId ?? null, query.type ?? null, limit],
    );
    const events = rows.map(toEvent);
    return query.afterSeq === undefined ? events.reverse() : events;
  }

  async ping(): Promise<void> {
    await this.#database.query('SELECT 1');
  }

  /** One small step of forgetting; call it again soon while `more` is true, else every few minutes. */
  async prune(): Promise<Pruned> {
    return prune(this.#database, this.#retention, this.#now());
  }
}

function refuse(result: CommitResult | undefined): void {
  if (result) throw new Refusal(result);
}

interface EventRow {
  readonly seq: number;
  readonly event_at: number;
  readonly type: string;
  readonly severity: SiteEvent['severity'];
  readonly subject_kind: SiteEvent['subject']['kind'];
  readonly subject_id: string;
  readonly subject_name: string;
  readonly message: string;
  readonly who: string;
  readonly reason: string | null;
  readonly cause: string | null;
  readonly evidence: string | null;
}

function toEvent(row: EventRow): SiteEvent {
  return {
    seq: row.seq,
    eventAt: row.event_at,
    type: row.type,
    severity: row.severity,
    subject: { kind: row.subject_kind, id: row.subject_id, name: row.subject_name },
    message: row.message,
    who: row.who,
    ...(row.reason === null ? {} : { reason: row.reason }),
    ...(row.cause === null ? {} : { cause: row.cause }),
    ...(row.evidence === null ? {} : { evidence: JSON.parse(row.evidence) as NonNullable<SiteEvent['evidence']> }),
  };
}

async function load(transaction: Transaction): Promise<LoadedState> {
  const site = await sql.lockSite(transaction);
  if (!site) throw new VirgaError('store_unavailable', { detail: 'the site has no row' });
  const resources: AnyResource[] = [];
  let after: { kind: string; id: string } = { kind: '', id: '00000000-0000-0000-0000-000000000000' };
  for (;;) {
    const rows = await transaction.query<{ kind: string; id: string; doc: string }>(
      `SELECT kind, id, doc::text AS doc FROM virga.resource WHERE (kind, id) > ($1, $2::uuid)
        ORDER BY kind, id LIMIT $3`,
      [after.kind, after.id, loadStep],
    );
    for (const { doc } of rows) resources.push(JSON.parse(doc) as AnyResource);
    const last = rows.at(-1);
    if (!last || rows.length < loadStep) break;
    after = last;
  }
  const tombstones = await transaction.query<Tombstone>(
    'SELECT kind, id, name, revision FROM virga.tombstone ORDER BY revision, kind, id',
  );
  return {
    revision: site.revision,
    site: sql.siteFacts(site),
    resources,
    tombstones,
    oldestTombstone: site.oldest_tombstone,
  };
}
