/** The statements of one commit. Each takes whole arrays, so a thousand objects cost as many round trips as one. */
import type { Kind, Uuid } from '../../core/model/resource.ts';
import type { AnyResource, NewEvent, SiteEvent, SiteFacts } from '../../core/model/snapshot.ts';
import type { Commit, CommitResult, Expectation, IdempotencyRecord } from '../../ports.ts';
import type { Transaction } from './database.ts';
import { addressTakenWithin, documentOf, type HeldAddress, nameTakenWithin, plainEvent, plainText } from './shape.ts';

/** The site's row, as the commit found it under its lock. */
export interface SiteRow {
  readonly id: Uuid;
  readonly name: string;
  readonly epoch: number;
  readonly epoch_id: string;
  readonly revision: number;
  readonly event_seq: number;
  readonly oldest_tombstone: number;
  readonly review_restored_at: number | null;
  readonly review_backup_at: number | null;
  /** The other facts about the site, as JSON. */
  readonly facts: string;
}

/** What is kept as JSON of the facts about a site. */
type OtherFacts = Omit<SiteFacts, 'id' | 'name' | 'epoch' | 'review'>;

/** Reads the site's row and locks it: from here to the end of the transaction nobody else writes. */
export async function lockSite(transaction: Transaction): Promise<SiteRow | undefined> {
  const [row] = await transaction.query<SiteRow>(
    `SELECT id, name, epoch, epoch_id, revision, event_seq, oldest_tombstone, review_restored_at, review_backup_at,
            facts::text AS facts
       FROM virga.site FOR UPDATE`,
  );
  return row;
}

export function siteFacts(row: SiteRow): SiteFacts {
  return {
    ...(JSON.parse(row.facts) as OtherFacts),
    id: row.id,
    name: row.name,
    epoch: row.epoch,
    ...(row.review_restored_at === null || row.review_backup_at === null
      ? {}
      : { review: { restoredAt: row.review_restored_at, backupAt: row.review_backup_at } }),
  };
}

interface RecordRow {
  readonly request_hash: string;
  readonly created: string;
}

/** What a client's key stands for, unless it has expired. `run` is a transaction or the whole database. */
export async function findRecord(
  run: Pick<Transaction, 'query'>,
  who: string,
  key: string,
  now: number,
): Promise<IdempotencyRecord | undefined> {
  const [row] = await run.query<RecordRow>(
    `SELECT request_hash, created::text AS created FROM virga.idempotency
      WHERE who = $1 AND key = $2 AND expires_at > $3`,
    [plainText(who), plainText(key), now],
  );
  if (!row) return undefined;
  return { who, key, requestHash: row.request_hash, created: JSON.parse(row.created) as IdempotencyRecord['created'] };
}

/** The first expectation, in the commit's order, that does not hold. */
export async function unmetExpectation(
  transaction: Transaction,
  expect: readonly Expectation[],
): Promise<CommitResult | undefined> {
  if (expect.length === 0) return undefined;
  const rows = await transaction.query<{ kind: Kind; id: Uuid; revision: number }>(
    `SELECT r.kind, r.id, r.revision FROM virga.resource r
       JOIN unnest($1::text[], $2::uuid[]) AS e(kind, id) ON r.kind = e.kind AND r.id = e.id`,
    [expect.map((each) => each.kind), expect.map((each) => each.id)],
  );
  const actual = new Map(rows.map((row) => [`${row.kind}/${row.id}`, row.revision]));
  for (const { kind, id, revision } of expect) {
    if (actual.get(`${kind}/${id}`) !== revision) return { ok: false, why: 'conflict', kind, id };
  }
  return undefined;
}

/** The first object whose name another object has or would have after this commit. Called after the removals. */
export async function takenName(
  transaction: Transaction,
  put: readonly AnyResource[],
): Promise<CommitResult | undefined> {
  const within = nameTakenWithin(put);
  if (within || put.length === 0) return within;
  const rows = await transaction.query<{ kind: Kind; name: string }>(
    `WITH put AS (SELECT * FROM unnest($1::text[], $2::uuid[], $3::text[]) AS p(kind, id, name))
     SELECT r.kind, r.name FROM virga.resource r JOIN put ON r.kind = put.kind AND r.name = put.name
      WHERE NOT EXISTS (SELECT FROM put q WHERE q.kind = r.kind AND q.id = r.id)`,
    [put.map((each) => each.kind), put.map((each) => each.id), put.map((each) => plainText(each.name))],
  );
  const taken = new Set(rows.map((row) => `${row.kind}/${row.name}`));
  const first = put.find(({ kind, name }) => taken.has(`${kind}/${plainText(name)}`));
  return first && { ok: false, why: 'name-taken', kind: first.kind, name: first.name };
}

/** The first address that another guest holds. Called after the old addresses of the guests in the commit are gone. */
export async function takenAddress(
  transaction: Transaction,
  held: readonly HeldAddress[],
): Promise<CommitResult | undefined> {
  const within = addressTakenWithin(held);
  if (within || held.length === 0) return within;
  const [row] = await transaction.query<{ ordinality: number }>(
    `SELECT h.ordinality FROM unnest($1::uuid[], $2::inet[]) WITH ORDINALITY AS h(network_id, address, ordinality)
       JOIN virga.address a ON a.network_id = h.network_id AND a.address = h.address
      ORDER BY h.ordinality LIMIT 1`,
    [held.map((each) => each.networkId), held.map((each) => each.canonical)],
  );
  const taken = row && held[row.ordinality - 1];
  return taken && { ok: false, why: 'address-taken', networkId: taken.networkId, address: taken.given };
}

/** Deletes objects and leaves a tombstone for each one that was there. */
export async function remove(
  transaction: Transaction,
  gone: Commit['remove'],
  revision: number,
  now: number,
): Promise<void> {
  if (gone.length === 0) return;
  await transaction.query(
    `WITH gone AS (
       DELETE FROM virga.resource r USING unnest($1::text[], $2::uuid[]) AS g(kind, id)
        WHERE r.kind = g.kind AND r.id = g.id RETURNING r.kind, r.id, r.name
     )
     INSERT INTO virga.tombstone (kind, id, name, revision, gone_at)
     SELECT kind, id, name, $3, $4 FROM gone
     ON CONFLICT (kind, id) DO UPDATE
       SET name = excluded.name, revision = excluded.revision, gone_at = excluded.gone_at`,
    [gone.map((each) => each.kind), gone.map((each) => each.id), revision, now],
  );
}

/** Frees the addresses of guests that are written anew or removed. */
export async function freeAddresses(transaction: Transaction, guestIds: readonly Uuid[]): Promise<void> {
  if (guestIds.length === 0) return;
  await transaction.query('DELETE FROM virga.address WHERE guest_id = ANY($1::uuid[])', [guestIds]);
}

export async function takeAddresses(transaction: Transaction, held: readonly HeldAddress[]): Promise<void> {
  if (held.length === 0) return;
  await transaction.query(
    `INSERT INTO virga.address (network_id, address, guest_id)
     SELECT * FROM unnest($1::uuid[], $2::inet[], $3::uuid[])`,
    [held.map((each) => each.networkId), held.map((each) => each.canonical), held.map((each) => each.guestId)],
  );
}

export async function put(
  transaction: Transaction,
  resources: readonly AnyResource[],
  revision: number,
): Promise<void> {
  if (resources.length === 0) return;
  const kinds = resources.map((each) => each.kind);
  const ids = resources.map((each) => each.id);
  await transaction.query(
    `DELETE FROM virga.tombstone t USING unnest($1::text[], $2::uuid[]) AS p(kind, id)
      WHERE t.kind = p.kind AND t.id = p.id`,
    [kinds, ids],
  );
  await transaction.query(
    `INSERT INTO virga.resource (kind, id, name, owner, community, revision, doc)
     SELECT p.kind, p.id, p.name, p.owner, p.community, $7, p.doc
       FROM unnest($1::text[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::json[])
         AS p(kind, id, name, owner, community, doc)
     ON CONFLICT (kind, id) DO UPDATE SET name = excluded.name, owner = excluded.owner,
       community = excluded.community, revision = excluded.revision, doc = excluded.doc`,
    [
      kinds,
      ids,
      resources.map((each) => plainText(each.name)),
      resources.map((each) => plainText(each.owner)),
      resources.map((each) => plainText(each.community)),
      resources.map((each) => documentOf(each, revision)),
      revision,
    ],
  );
}

/** Writes events under the numbers that follow `lastSeq`. */
export async function record(
  transaction: Transaction,
  news: readonly NewEvent[],
  lastSeq: number,
): Promise<readonly SiteEvent[]> {
  const events = news.map((event, index) => ({ seq: lastSeq + 1 + index, ...plainEvent(event) }));
  if (events.length === 0) return events;
  await transaction.query(
    `INSERT INTO virga.event (seq, event_at, type, severity, subject_kind, subject_id, subject_name, message, who,
                              reason, cause, evidence)
     SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
                          $8::text[], $9::text[], $10::text[], $11::text[], $12::json[])`,
    [
      events.map((each) => each.seq),
      events.map((each) => each.eventAt),
      events.map((each) => each.type),
      events.map((each) => each.severity),
      events.map((each) => each.subject.kind),
      events.map((each) => each.subject.id),
      events.map((each) => each.subject.name),
      events.map((each) => each.message),
      events.map((each) => each.who),
      events.map((each) => each.reason ?? null),
      events.map((each) => each.cause ?? null),
      events.map((each) => (each.evidence === undefined ? null : JSON.stringify(each.evidence))),
    ],
  );
  return events;
}

export async function remember(
  transaction: Transaction,
  idempotency: IdempotencyRecord,
  expiresAt: number,
): Promise<void> {
  await transaction.query(
    `INSERT INTO virga.idempotency (who, key, request_hash, created, expires_at) VALUES ($1, $2, $3, $4, $5)
     ON CONFLICT (who, key) DO UPDATE SET request_hash = excluded.request_hash, created = excluded.created,
       expires_at = excluded.expires_at`,
    [
      plainText(idempotency.who),
      plainText(idempotency.key),
      idempotency.requestHash,
      JSON.stringify(idempotency.created),
      expiresAt,
    ],
  );
}

/** Moves the site's row on to the new revision. */
export async function advance(
  transaction: Transaction,
  revision: number,
  eventSeq: number,
  facts: SiteFacts | undefined,
): Promise<void> {
  await transaction.query('UPDATE virga.site SET revision = $1, event_seq = $2', [revision, eventSeq]);
  if (!facts) return;
  const { id: _id, name, epoch: _epoch, review, ...others } = facts;
  await transaction.query(
    'UPDATE virga.site SET name = $1, review_restored_at = $2, review_backup_at = $3, facts = $4',
    [plainText(name), review?.restoredAt ?? null, review?.backupAt ?? null, JSON.stringify(others)],
  );
}
