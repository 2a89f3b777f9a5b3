/** Taking the lead in the database, also from a leader that was stopped in the middle of a commit. */
import { DatabaseError } from 'pg';
import { VirgaError } from '../../core/errors.ts';
import { noEpoch, type Epoch } from '../../core/ha/types.ts';
import type { SiteFacts } from '../../core/model/snapshot.ts';
import type { Database, Transaction } from './database.ts';
import { lockSite, type SiteRow } from './write.ts';

/** Milliseconds to wait for the site's lock before its holder is looked at. */
const patienceMs = 200;
/** With the patience of each, longer than any good commit or load takes. */
const maxTries = 40;
/** PostgreSQL: lock_not_available. */
const lockNotAvailable = '55P03';

/**
 * The present epoch, without a lock; `noEpoch` without a site.
 * @throws VirgaError store_unavailable, also where the database is a copy that cannot be written to
 */
export async function epochOf(run: Pick<Transaction, 'query'>): Promise<Epoch> {
  const [row] = await run.query<{ epoch: number; epoch_id: string; copy: boolean }>(
    `SELECT epoch, epoch_id, pg_is_in_recovery() AS copy FROM virga.site`,
  );
  if (row?.copy) throw new VirgaError('store_unavailable', { detail: 'it is a copy that cannot be written to' });
  return row ? { number: row.epoch, id: row.epoch_id } : noEpoch;
}

/** What the site's row says of the voters, without a lock. @throws VirgaError store_unavailable */
export async function votersOf(run: Pick<Transaction, 'query'>): Promise<SiteFacts['voters']> {
  const [row] = await run.query<{ voters: string | null }>(
    `SELECT (facts -> 'voters')::text AS voters FROM virga.site`,
  );
  return row?.voters ? (JSON.parse(row.voters) as SiteFacts['voters']) : undefined;
}

/**
 * Locks the site's row. Who holds it while doing nothing (its controller is stopped, or its machine has no power) loses its
 * connection: a transaction that does not end would keep every later leader out.
 */
export async function seize(database: Database, transaction: Transaction): Promise<SiteRow> {
  // In this order: going back to the savepoint would take the limit away with it.
  await transaction.client.query(`SET LOCAL lock_timeout = ${patienceMs}; SAVEPOINT seize`);
  for (let attempt = 0; attempt < maxTries; attempt += 1) {
    try {
      const site = await lockSite(transaction);
      if (!site) throw new VirgaError('store_unavailable', { detail: 'the site has no row' });
      return site;
    } catch (error) {
      if (!(error instanceof DatabaseError) || error.code !== lockNotAvailable) throw error;
      await transaction.client.query('ROLLBACK TO SAVEPOINT seize');
      await endIdlers(database);
    }
  }
  throw new VirgaError('store_unavailable', { detail: 'another controller holds the lock of the site' });
}

/**
 * Ends the connections that hold or want the site's row and whose client has not said anything for a while, or does not
 * read what it asked for. A connection of its own: within a transaction the activity that is seen stands still.
 */
async function endIdlers(database: Database): Promise<void> {
  await database.quick.query(
    `SELECT pg_terminate_backend(l.pid) FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
      WHERE l.relation = 'virga.site'::regclass AND l.granted AND l.mode IN ('RowShareLock', 'RowExclusiveLock')
        AND (a.state <> 'active' AND a.state_change < clock_timestamp() - $1 * interval '1 millisecond'
             OR a.wait_event = 'ClientWrite' AND a.state_change < clock_timestamp() - $2 * interval '1 millisecond')`,
    [patienceMs, 5 * patienceMs],
  );
}
