/** One certificate authority for one site, whichever controller leads. */
import { VirgaError } from '../core/errors.ts';
import type { Instant } from '../core/model/resource.ts';
import type { SiteFacts } from '../core/model/snapshot.ts';
import { Authority } from './ca.ts';
import { authorityPin, pinAuthority } from './store/controllers.ts';
import type { Database } from './store/database.ts';

export interface AuthorityQuestion {
  /** The one in the data folder. */
  readonly present: Authority | undefined;
  readonly database: Database;
  readonly dataDir: string;
  readonly site: SiteFacts;
  readonly now: Instant;
}

/**
 * The authority with which this controller may lead the site: the one that is there, or the first one of a new site.
 * @throws VirgaError setup: the site has another one · store_unavailable
 */
export async function authorityFor({ present, database, dataDir, site, now }: AuthorityQuestion): Promise<Authority> {
  if (!present && (await authorityPin(database)) !== undefined)
    throw new VirgaError('setup', {
      detail: 'This site has a certificate authority, and the data folder of this controller has none',
      how: 'Take it along: on the other controller "virga controller export-authority FILE", here --authority FILE.',
    });
  const authority = present ?? (await Authority.create(dataDir, site.id, site.name, now));
  if (authority.siteId !== site.id || (await pinAuthority(database, authority.pin)) !== authority.pin)
    throw new VirgaError('setup', {
      detail: 'The certificate authority in the data folder is of another site than the database',
      how: 'Restore both from one backup.',
    });
  return authority;
}
