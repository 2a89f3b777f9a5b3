/** Commits whose traces in the database tell whether each was written whole, once, or not at all. */
import assert from 'node:assert/strict';
import type { Database } from '../../../src/controller/store/database.ts';
import type { Commit } from '../../../src/ports.ts';
import { commit, event, guest, uuid } from '../../unit/store/samples.ts';

/** Three guests with addresses, an event and a key: all of them carry the batch's number. */
export function batch(epoch: number, number: number): Commit {
  const numbers = [0, 1, 2].map((index) => number * 3 + index);
  const put = numbers.map((each) =>
    guest(each, { ipv4: `10.${each >> 16}.${(each >> 8) & 255}.${each & 255}`, labels: { batch: String(number) } }),
  );
  return commit(epoch, {
    put,
    events: [event('batch', String(number))],
    expect: put.map(({ kind, id }) => ({ kind, id, revision: undefined })),
    idempotency: { key: String(number), who: 'test', requestHash: 'h', created: [{ kind: 'guest', id: uuid(number) }] },
  });
}

/** Numbers of the batches in the database; fails when one is there in part or twice. */
export async function batchesIn(database: Database): Promise<ReadonlySet<number>> {
  const rows = await database.query<{ batch: string; guests: number; addresses: number; events: number; keys: number }>(
    `WITH found AS (
       SELECT r.doc->'labels'->>'batch' AS batch, count(*) AS guests, count(a.address) AS addresses
         FROM virga.resource r LEFT JOIN virga.address a ON a.guest_id = r.id GROUP BY 1
     )
     SELECT found.*, (SELECT count(*) FROM virga.event e WHERE e.message = found.batch) AS events,
            (SELECT count(*) FROM virga.idempotency i WHERE i.key = found.batch) AS keys
       FROM found`,
  );
  for (const { batch: number, ...counts } of rows)
    assert.deepEqual(counts, { guests: 3, addresses: 3, events: 1, keys: 1 }, `batch ${number} is not whole`);
  const [events] = await database.query<{ count: number }>('SELECT count(*) AS count FROM virga.event');
  assert.equal(events?.count, rows.length, 'an event without its objects');
  const [site] = await database.query<{ revision: number; highest: number | null }>(
    'SELECT revision, (SELECT max(revision) FROM virga.resource) AS highest FROM virga.site',
  );
  assert.equal(site?.revision, site?.highest ?? 0, 'the revision is that of the last commit');
  return new Set(rows.map(({ batch: number }) => Number(number)));
}
