/** What controllers say of themselves in the database, for each other and for agents; nothing is decided by it. */
import type { Uuid } from '../../core/model/resource.ts';
import type { Database } from './database.ts';

export interface Announcement {
  readonly id: Uuid;
  /** Of its machine. */
  readonly name: string;
  /** Where agents and clients reach it. */
  readonly urls: readonly string[];
}

export interface KnownController extends Announcement {
  /** It has the present epoch. */
  readonly leads: boolean;
}

/** Those that were not heard from for so long are not named any more; the database's clock. */
const heardWithin = "interval '2 days'";
const most = 16;

/** Says where this controller is. @throws VirgaError store_unavailable */
export async function announce(database: Database, { id, name, urls }: Announcement): Promise<void> {
  await database.query(
    `INSERT INTO virga.controller (id, name, urls, seen_at) VALUES ($1, $2, $3, now())
     ON CONFLICT (id) DO UPDATE SET name = excluded.name, urls = excluded.urls, seen_at = excluded.seen_at`,
    [id, name, JSON.stringify(urls)],
  );
}

/** All controllers, the newest first. @throws VirgaError store_unavailable */
export async function knownControllers(database: Database): Promise<readonly KnownController[]> {
  const rows = await database.quick.query<{ id: Uuid; name: string; urls: string; leads: boolean | null }>(
    `SELECT c.id, c.name, c.urls::text AS urls, c.id = s.leader_id AS leads
       FROM virga.controller c LEFT JOIN virga.site s ON true
      WHERE c.seen_at > now() - ${heardWithin} ORDER BY leads DESC NULLS LAST, c.seen_at DESC LIMIT $1`,
    [most],
  );
  return rows.map(({ id, name, urls, leads }) => ({
    id,
    name,
    urls: JSON.parse(urls) as string[],
    leads: leads === true,
  }));
}

/** Pin of the site's certificate authority; undefined while nobody has said. */
export async function authorityPin(database: Database): Promise<string | undefined> {
  const [row] = await database.query<{ authority_pin: string | null }>('SELECT authority_pin FROM virga.site');
  return row?.authority_pin ?? undefined;
}

/** Writes the pin where there is none. @returns the one that counts. */
export async function pinAuthority(database: Database, pin: string): Promise<string> {
  const [row] = await database.query<{ authority_pin: string }>(
    'UPDATE virga.site SET authority_pin = COALESCE(authority_pin, $1) RETURNING authority_pin',
    [pin],
  );
  return row?.authority_pin ?? pin;
}
