/** Forgetting what is too old, in steps so small that no commit waits long for them. */
import type { Database } from './database.ts';
import type { Retention } from './shape.ts';
import { lockSite } from './write.ts';

export interface Pruned {
  readonly events: number;
  readonly tombstones: number;
  readonly keys: number;
  /** True when the step was full: there is more to forget. */
  readonly more: boolean;
}

/** Rows of each table that one step forgets at most. */
const step = 5000;

/** One step, in one transaction. @param now milliseconds since 1970 */
export async function prune(database: Database, retention: Retention, now: number): Promise<Pruned> {
  return database.transaction(async (transaction) => {
    // In the order in which commits lock, so that neither waits for the other for ever.
    await lockSite(transaction);
    const [events] = await transaction.query<{ count: number }>(
      `WITH old AS (
         (SELECT seq FROM virga.event WHERE event_at < $1 ORDER BY event_at LIMIT $3)
         UNION
         (SELECT seq FROM virga.event WHERE seq <= (SELECT event_seq FROM virga.site) - $2 ORDER BY seq LIMIT $3)
       ), gone AS (DELETE FROM virga.event e USING old WHERE e.seq = old.seq RETURNING 1)
       SELECT count(*) AS count FROM gone`,
      [now - retention.eventLifeMs, retention.maxEvents, step],
    );
    const [keys] = await transaction.query<{ count: number }>(
      `WITH gone AS (DELETE FROM virga.idempotency WHERE (who, key) IN
         (SELECT who, key FROM virga.idempotency WHERE expires_at <= $1 LIMIT $2) RETURNING 1)
       SELECT count(*) AS count FROM gone`,
      [now, step],
    );
    // Whole revisions only: a watch that resumes sees all of a commit or is told to list again.
    const [tombstones] = await transaction.query<{ count: number }>(
      `WITH horizon AS (
         SELECT max(revision) AS revision FROM (
           SELECT revision FROM (
             SELECT revision, gone_at, count(*) OVER (ORDER BY revision DESC, kind, id) AS newer
               FROM virga.tombstone) AS counted
            WHERE gone_at < $1 OR newer > $2
            ORDER BY revision LIMIT $3) AS old
       ), site AS (
         UPDATE virga.site SET oldest_tombstone = horizon.revision FROM horizon
          WHERE horizon.revision > oldest_tombstone RETURNING 1
       ), gone AS (
         DELETE FROM virga.tombstone t USING horizon WHERE t.revision <= horizon.revision RETURNING 1
       ) SELECT count(*) AS count FROM gone, (SELECT count(*) FROM site) AS updated`,
      [now - retention.tombstoneLifeMs, retention.maxTombstones, step],
    );
    const counts = { events: events?.count ?? 0, tombstones: tombstones?.count ?? 0, keys: keys?.count ?? 0 };
    return { ...counts, more: Math.max(counts.events, counts.tombstones, counts.keys) >= step };
  });
}
